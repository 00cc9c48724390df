"""The four trace points: what happens to items, told to whoever wants to watch (kernel: ``trace/events/workqueue.h``).

An *instrument* is an object with methods of the trace points' names; `Supervisor.add_instrument` takes it. As with
`trio.abc.Instrument`, a method that it does not override is not called, and one that raises is its last: the
instrument is taken out and the exception logged, and neither the item nor the other instruments notice.

The trace points stand on the path of every item, so each is one test of an attribute while nobody watches:
`Instruments` has one for each point, None if there is no instrument at all.

They stand where the books are in order, so an instrument may look at everything. It must change nothing: queueing
from within one raises RuntimeError.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias, final

import trio

if TYPE_CHECKING:
    from ktrio.workqueue._pwq import PoolWorkqueue
    from ktrio.workqueue._work import Work
    from ktrio.workqueue._worker import Worker

__all__ = ["Instruments", "WorkEvent", "WorkqueueInstrument"]

log = logging.getLogger("ktrio.workqueue")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class WorkEvent:
    """What a trace point tells of an item."""

    work: Work
    """The item."""
    workqueue: str
    """The name of the queue it was queued on."""
    cpu: int
    """The simulated CPU it was queued on."""
    worker: str | None
    """The name of the worker that runs it; None before it begins."""
    time: float
    """`trio.current_time()`, in seconds."""
    pool: str
    """The name of that CPU's pool: one for each kind of queue."""
    nr_active: int
    """Items of that queue on that CPU that hold a slot, at this moment; at `queue_work` this one is not in it."""
    inactive: int
    """Items of that queue on that CPU that wait for a slot, at this moment; at `queue_work` this one is not in it."""
    worklist: int
    """Items of that pool that wait for a worker or a place, at this moment."""


class WorkqueueInstrument:
    """What watches the items of a supervisor: override the methods you want, and give it to `add_instrument`.

    For each queueing, in this order: `queue_work`, `activate_work`, `execute_start`, `execute_end`. One that is
    cancelled before it begins has no more events after that. An item that starts parked begins before it is activated,
    by its first return, and perhaps it never is.

    All are plain functions, called with the loop held and protected from KeyboardInterrupt: they must be quick. They
    may look at anything (names, `repr`, statistics). They must not queue, cancel or interrupt items, or change a
    queue: that raises RuntimeError. An instrument that raises is removed, and the exception logged.
    """

    def queue_work(self, event: WorkEvent, /) -> None:
        """A queueing was accepted (kernel: ``workqueue_queue_work``); not called for one that returned False."""

    def activate_work(self, event: WorkEvent, /) -> None:
        """The item has a slot of max_active (kernel: ``workqueue_activate_work``)."""

    def execute_start(self, event: WorkEvent, /) -> None:
        """Its function is about to be called (kernel: ``workqueue_execute_start``)."""

    def execute_end(self, event: WorkEvent, /) -> None:
        """Its function has ended, by return or exception, and still holds slot and place.

        Kernel: ``workqueue_execute_end``.
        """


Method: TypeAlias = Callable[[WorkEvent], None]
POINTS: Final = ("queue_work", "activate_work", "execute_start", "execute_end")


@final
class Instruments:
    """The instruments of one supervisor.

    Legend: I set once · S changed only in one synchronous stretch. Of each trace point: who is to be told, in the order
    of adding; None while there is no instrument, and then nobody need ask.
    """

    __slots__ = ("_all", "_telling", "activate_work", "are_there", "execute_end", "execute_start", "queue_work")

    def __init__(self) -> None:
        self._all: dict[WorkqueueInstrument, None] = {}  # S
        self._telling: WorkqueueInstrument | None = None  # S: the one that is being called
        self.are_there = False  # S
        self.queue_work: tuple[WorkqueueInstrument, ...] | None = None  # S
        self.activate_work: tuple[WorkqueueInstrument, ...] | None = None  # S
        self.execute_start: tuple[WorkqueueInstrument, ...] | None = None  # S
        self.execute_end: tuple[WorkqueueInstrument, ...] | None = None  # S

    def add(self, instrument: WorkqueueInstrument) -> None:
        """Tell `instrument` from now on; again: nothing changes."""
        if not isinstance(instrument, WorkqueueInstrument):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"an instrument is a WorkqueueInstrument, not {instrument!r}")
        self._all[instrument] = None
        self._sort()

    def remove(self, instrument: WorkqueueInstrument) -> None:
        """Tell it nothing any more; KeyError if it is not there."""
        del self._all[instrument]
        self._sort()

    def _sort(self) -> None:
        self.are_there = bool(self._all)
        for point in POINTS:
            listeners = tuple(instrument for instrument in self._all if _overrides(instrument, point))
            setattr(self, point, listeners if self._all else None)

    def tell_queue_work(self, work: Work, pwq: PoolWorkqueue) -> None:
        """`work` is about to become pending on `pwq`. RuntimeError if an instrument is queueing it."""
        self.refuse_inside("queue_work")
        work._pwq = pwq  # now, so that the item knows who is not to disable it
        self._tell("queue_work", self.queue_work, work, pwq, None)

    def tell_activate_work(self, work: Work, pwq: PoolWorkqueue, worker: Worker | None = None) -> None:
        """`work` has got a slot, and stands in the worklist, or has begun already."""
        self._tell("activate_work", self.activate_work, work, pwq, worker)

    def tell_execute_start(self, work: Work, worker: Worker) -> None:
        """`worker` is about to call the function of `work`."""
        self._tell("execute_start", self.execute_start, work, worker.pwq, worker)
        worker.restart_step()

    def tell_execute_end(self, work: Work, worker: Worker) -> None:
        """That function has ended."""
        self._tell("execute_end", self.execute_end, work, worker.pwq, worker)
        worker.restart_step()

    def refuse_inside(self, what: str) -> None:
        """RuntimeError if this is called from within an instrument: it must only look."""
        if self._telling is not None:
            raise RuntimeError(f"{self._telling!r} called {what}() from within a trace point: it may only look")

    def _tell(
        self,
        point: str,
        listeners: tuple[WorkqueueInstrument, ...] | None,
        work: Work,
        pwq: PoolWorkqueue,
        worker: Worker | None,
    ) -> None:
        if not listeners:
            return
        event = WorkEvent(
            work=work,
            workqueue=pwq.wq.name,
            cpu=pwq.pool.cpu,
            worker=worker.name if worker is not None else None,
            time=trio.current_time(),
            pool=pwq.pool.name,
            nr_active=pwq.nr_active,
            inactive=pwq.inactive.waiting,
            worklist=pwq.pool.worklist.waiting,
        )
        for instrument in listeners:
            self._call(instrument, point, event)

    def _call(self, instrument: WorkqueueInstrument, point: str, event: WorkEvent) -> None:
        """Barrier: whatever an instrument raises ends here."""
        outer, self._telling = self._telling, instrument
        try:
            method: Method = getattr(instrument, point)
            method(event)
        except BaseException:
            if instrument in self._all:
                self.remove(instrument)
            log.exception("instrument %r raised in %s, and was removed", instrument, point)
        finally:
            self._telling = outer


def _overrides(instrument: WorkqueueInstrument, point: str) -> bool:
    method: object = getattr(instrument, point)
    return getattr(method, "__func__", method) is not getattr(WorkqueueInstrument, point)
