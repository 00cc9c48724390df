"""Freezing: queues with `WQ_FREEZABLE` stand still until they are thawed (kernel: ``freeze_workqueues_begin``).

The inactive lines of their pwqs are *held* (`ktrio.workqueue._line`): who comes joins the line, whoever wants to come
back from `parked` as well, and nobody is served. What holds a slot at that moment goes on, as in the kernel, where
max_active becomes 0: it runs, or waits for a worker and then runs. A held line is never empty to those who look, so
each slot given up is noticed where it would be handed on, and it costs nothing anywhere else.

A queue is *busy* as long as a slot is taken by one that is not parked. A freeze is complete when none is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import trio
from trio.lowlevel import ParkingLot, enable_ki_protection

from ktrio.workqueue._attrs import WQ_FREEZABLE
from ktrio.workqueue._awaited import Busy
from ktrio.workqueue._current import enclosing_workers
from ktrio.workqueue._errors import DeadlockError, SupervisorClosedError
from ktrio.workqueue._parking import parked_while_waiting
from ktrio.workqueue._waits import Wait

if TYPE_CHECKING:
    from ktrio.workqueue._pwq import PoolWorkqueue
    from ktrio.workqueue._queue import Workqueue
    from ktrio.workqueue._supervisor import Supervisor

__all__ = ["Freezer"]


@final
class Freezer:
    """Freezes the queues of one supervisor.

    Legend: I set once · S changed only in one synchronous stretch.
    """

    __slots__ = ("_callers", "_lot", "_stays", "_supervisor", "is_frozen")

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor  # I
        self.is_frozen = False  # S
        self._stays = False  # S: a freeze was completed, and nobody has thawed since
        self._callers = 0  # S: how many `freeze` are under way
        self._lot = ParkingLot()  # I: where they wait until no queue is busy

    async def freeze(self) -> bool:
        """See `Supervisor.freeze`."""
        self._refuse_misuse("freeze")
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._supervisor.leaving:
            raise SupervisorClosedError(f"{self._supervisor!r} was left: its queues cannot be frozen any more")
        if not self.is_frozen:
            self.is_frozen = True
            for wq in self._freezable():
                hold(wq)
        self._callers += 1
        try:
            if self._is_busy():
                await parked_while_waiting(self._wait, Wait("freeze", Busy(self._supervisor, self._freezable())))
            else:
                await trio.lowlevel.cancel_shielded_checkpoint()
            self._stays = self._stays or self.is_frozen
            return self.is_frozen
        finally:
            self._callers -= 1
            if not (self._stays or self._callers):
                self.thaw()

    @enable_ki_protection
    async def _wait(self) -> None:
        while self.is_frozen and self._is_busy():
            await self._lot.park()

    def thaw(self) -> None:
        """See `Supervisor.thaw`."""
        if not self.is_frozen:
            return
        self.is_frozen = self._stays = False
        pwqs = [pwq for wq in self._freezable() for pwq in wq.pwqs]
        for pwq in pwqs:
            pwq.inactive.release()
        for pwq in pwqs:
            pwq.thawed()
        self._lot.unpark_all()

    def give_up(self) -> None:
        """The supervisor is going, and nothing starts any more: let go of those who wait."""
        self.is_frozen = self._stays = False
        self._lot.unpark_all()

    def allocated(self, wq: Workqueue) -> None:
        """A new queue is frozen from its beginning."""
        if self.is_frozen and WQ_FREEZABLE in wq.flags:
            hold(wq)

    def less_busy(self, pwq: PoolWorkqueue) -> None:
        """Somebody behind a line that is held has ended, parked, or was withdrawn."""
        if self._lot and not pwq.is_busy and not self._is_busy():
            self._lot.unpark_all()

    def _freezable(self) -> list[Workqueue]:
        return [wq for wq in self._supervisor.all_workqueues if WQ_FREEZABLE in wq.flags]

    def _is_busy(self) -> bool:
        """Has one of the frozen queues an item that runs unparked, or will? (kernel: ``freeze_workqueues_busy``)."""
        return any(pwq.is_busy for wq in self._freezable() for pwq in wq.pwqs)

    def _refuse_misuse(self, what: str) -> None:
        self._supervisor.instruments.refuse_inside(what)
        for worker in enclosing_workers():
            wq = worker.pwq.wq
            if wq.supervisor is self._supervisor and WQ_FREEZABLE in wq.flags:
                raise DeadlockError(
                    f"{self._supervisor!r}.{what}() was called from inside {worker.work!r}, an item of {wq!r}, which "
                    "is to be frozen: it would wait for itself"
                )


def hold(wq: Workqueue) -> None:
    """Serve nobody of this queue from now on."""
    for pwq in wq.pwqs:
        pwq.inactive.hold()
