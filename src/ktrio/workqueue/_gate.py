"""Who may queue while a queue drains, is destroyed, or its supervisor is being left (kernel: ``__WQ_DRAINING``).

*Chained* queueing comes from inside an item, from its task or from one that it started. While a queue drains, that of
its own items is accepted, to any depth. While a supervisor is being left, that of all its items is, for
`PATIENT_ROUNDS` rounds of flushing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

import trio

from ktrio.workqueue._current import enclosing_workers
from ktrio.workqueue._errors import DestroyedError, DrainingError, SupervisorClosedError

if TYPE_CHECKING:
    from ktrio.workqueue._queue import Workqueue
    from ktrio.workqueue._supervisor import Supervisor

__all__ = ["PATIENT_ROUNDS", "Gate"]

# kernel: drain_workqueue complains after this many rounds; here it is the round from which a supervisor that is being
# left refuses chained queueing, so that leaving it ends.
PATIENT_ROUNDS: Final = 10


@final
class Gate:
    """Whether one queue takes what comes.

    Legend: I set once · S changed only in one synchronous stretch.
    """

    __slots__ = ("_supervisor", "_wq", "chained_refused", "destroyed", "draining")

    def __init__(self, wq: Workqueue, supervisor: Supervisor) -> None:
        self._wq = wq  # I
        self._supervisor = supervisor  # I
        self.draining = 0  # S: how many drains are under way
        self.destroyed = False  # S
        self.chained_refused = 0  # S

    @property
    def is_shut(self) -> bool:
        """Is not everybody let in? Then ask `admits_chained`."""
        return self.draining > 0 or self.destroyed or self._supervisor.leaving

    def admits_chained(self, task: trio.lowlevel.Task | None = None) -> bool:
        """Shut: True if a queueing from here is chained and accepted, False if refused; raises if not chained.

        "Here" is the calling task, or `task`.
        """
        wq, supervisor = self._wq, self._supervisor
        if self.destroyed:
            raise DestroyedError(f"{wq!r} was destroyed: nothing can be queued on it")
        inside_supervisor = inside_queue = False
        for worker in enclosing_workers(task):
            inside_supervisor = inside_supervisor or worker.pool.supervisor is supervisor
            inside_queue = inside_queue or worker.pwq.wq is wq
        if supervisor.leaving:
            if not inside_supervisor or supervisor.closed:
                raise SupervisorClosedError(f"{wq!r} belongs to a supervisor that was left or cancelled")
            if supervisor.refuses_chained:
                self.chained_refused += 1
                supervisor.log_refused_chain(wq)
                return False
            return True
        if not inside_queue:
            raise DrainingError(f"{wq!r} is draining: only its own items may queue on it")
        return True

    def admits_timer(self) -> bool:
        """As `admits_chained`, for a queueing later: leaving a supervisor waits for no timer, so none is armed then."""
        if not self.admits_chained():
            return False
        if self._supervisor.leaving:
            self.chained_refused += 1
            return False
        return True
