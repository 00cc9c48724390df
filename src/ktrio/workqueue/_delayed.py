"""Delayed items: queued when their timer fires (kernel: ``struct delayed_work``).

While its timer runs an item is pending, so everything else that would queue it gives False; but it is not in flight:
no flush and no drain of its queue waits for a timer, and it holds no place in any line. When the timer fires the item
is queued as if by `Workqueue.queue_work`, on the CPU and in the context that were chosen when it was armed. If the
queue takes nothing just then, because it drains, say, nobody is there to be told: the queueing is discarded.

A queue knows its armed items, which the kernel's does not: destroying it, or leaving its supervisor, discards them.
"""

from __future__ import annotations

from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, final

import trio
from trio.lowlevel import enable_ki_protection

from ktrio.workqueue._errors import BusyError, WorkqueueError
from ktrio.workqueue._outcome import withdrawn
from ktrio.workqueue._timer import Timer
from ktrio.workqueue._waits import refuse_own_wait
from ktrio.workqueue._work import Pending, T_co, Work

if TYPE_CHECKING:
    from ktrio.workqueue._pwq import PoolWorkqueue
    from ktrio.workqueue._queue import Workqueue
    from ktrio.workqueue._supervisor import Supervisor

__all__ = ["Delayed", "DelayedWork", "check_seconds"]


@final
class DelayedWork(Work[T_co]):
    """A `Work` that can also be queued later (kernel: ``struct delayed_work``); the arguments are those of `Work`.

    Queue it by `Workqueue.queue_delayed_work` or `Workqueue.mod_delayed_work`. It may be armed while it runs: one that
    arms itself again is the classic periodic item (but see `PeriodicWork`). While its timer runs, `Work.result` waits
    for the timer as well, and `interrupt`, as always, concerns a run under way.
    """

    __slots__ = ()

    @enable_ki_protection
    def cancel(self) -> bool:
        """Stop the timer or withdraw the pending queueing (kernel: ``cancel_delayed_work``); True if there was one."""
        if self._pending is not Pending.DELAYED or self._pwq is None:
            return super().cancel()
        self._pwq.wq.refuse_other_threads()
        self._pwq.instruments.refuse_inside("cancel")
        self._pwq.wq.delayed.cancel(self)
        return True

    @enable_ki_protection
    async def flush(self) -> bool:
        """Queue it now if its timer runs, then wait as `Work.flush` does (kernel: ``flush_delayed_work``)."""
        if self._pending is Pending.DELAYED and self._pwq is not None:
            refuse_own_wait(self, "flush")
            self._pwq.wq.delayed.fire(self)
        return await super().flush()


@final
class Delayed:
    """The items of one queue whose timer runs.

    Legend: I set once · S changed only in one synchronous stretch.
    """

    __slots__ = ("_supervisor", "_timers", "_wq")

    def __init__(self, wq: Workqueue, supervisor: Supervisor) -> None:
        self._wq = wq  # I
        self._supervisor = supervisor  # I
        self._timers: dict[DelayedWork[object], Timer] = {}  # S

    def __len__(self) -> int:
        return len(self._timers)

    def queue(self, work: DelayedWork[object], pwq: PoolWorkqueue | None, delay: float) -> bool:
        """See `Workqueue.queue_delayed_work`; `pwq` is None if the caller does not care."""
        self._check("queue_delayed_work", work, delay)
        if delay == 0:
            return self._wq._queue(work, pwq, False)
        if work._pending is not Pending.NOT or work._disabled or not self.admits(work, is_later=delay > 0):
            return False
        self._arm(work, pwq or self._wq._choose_pwq(), delay)
        return True

    def mod(self, work: DelayedWork[object], pwq: PoolWorkqueue | None, delay: float) -> bool:
        """See `Workqueue.mod_delayed_work`; `pwq` is None if the caller does not care."""
        self._check("mod_delayed_work", work, delay)
        before = work._pwq
        if work._pending is Pending.NOT or before is None:
            return self.queue(work, pwq, delay)
        if not self.admits(work, is_later=delay > 0):
            return False
        if not delay and before.wq is not self._wq and self._wq.max_pending:
            self._wq._backlog.refuse_if_full()  # it comes from elsewhere; on this queue it has its room, or was armed
        if pwq is None:
            pwq = before if before.wq is self._wq else self._wq._choose_pwq()
        timer = self._timers.get(work)
        if timer is not None and delay:
            work._pwq, work._context = pwq, copy_context()
            timer.arm(trio.current_time() + delay)
            return False
        _grab(work, before)
        if before.wq is not self._wq and before.wq._store is not None and work._followers is not None:
            work._followers.remove(before.wq._store)
        self._arm(work, pwq, delay)
        if not delay:
            self.fire(work)
        before.wq._backlog.room()
        return False

    def _check(self, what: str, work: DelayedWork[object], delay: float) -> None:
        self._wq.refuse_other_threads()
        self._supervisor.instruments.refuse_inside(what)
        if not isinstance(work, DelayedWork):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"{what} needs a DelayedWork, not {work!r}")
        check_seconds("delay", delay)

    def admits(self, work: Work, *, is_later: bool) -> bool:
        """Would the queue take `work` now, or let it be armed? Asked before anything is changed; raises as it does."""
        gate = self._wq._gate
        if gate.is_shut and not (gate.admits_timer() if is_later else gate.admits_chained()):
            return False
        if work._worker is not None and work._worker.pwq.wq is not self._wq:
            other = work._worker.pwq.wq
            raise BusyError(f"{work!r} runs on {other!r}: it cannot be queued on {self._wq!r} before that run ends")
        return True

    def _arm(self, work: DelayedWork[object], pwq: PoolWorkqueue, delay: float) -> None:
        if self._wq._store is not None:
            self._wq._store.queued(work)
        work._pending, work._pwq, work._context = Pending.DELAYED, pwq, copy_context()
        self._timers[work] = timer = Timer(self._supervisor.timers, partial(self.fire, work))
        timer.arm(trio.current_time() + delay)

    def fire(self, work: DelayedWork[object]) -> None:
        """It is time: queue it, or discard it if the queue does not take it."""
        self._wq.refuse_other_threads()
        pwq, context = work._pwq, work._context
        assert pwq is not None
        self._disarm(work)
        try:
            accepted = self._wq._queue(work, pwq, False, context)  # beyond `max_pending`: it was accepted when armed
        except WorkqueueError:
            accepted = False
        if not accepted:
            self._discard(work, pwq)

    def cancel(self, work: DelayedWork[object]) -> None:
        """It will never be time."""
        pwq = work._pwq
        assert pwq is not None
        self._disarm(work)
        self._discard(work, pwq)

    def cancel_all(self) -> None:
        """The queue is destroyed, or its supervisor left."""
        while self._timers:
            self.cancel(next(iter(self._timers)))

    def _disarm(self, work: DelayedWork[object]) -> None:
        self._timers.pop(work).cancel()
        work._pending, work._context = Pending.NOT, None

    def _discard(self, work: DelayedWork[object], pwq: PoolWorkqueue) -> None:
        pwq.cancelled += 1
        withdrawn(self._wq, work)


def _grab(work: DelayedWork[object], pwq: PoolWorkqueue) -> None:
    """Take a pending queueing out of wherever it waits (kernel: ``try_to_grab_pending``); who follows it goes along."""
    if work._pending is Pending.DELAYED:
        pwq.wq.delayed._disarm(work)
        return
    pwq.grab(work)
    if work._followers is not None:
        work._followers.leave_lane(work)
    colour, work._colour = work._colour, None
    if colour is not None:
        pwq.wq.colours.finished(colour)


def check_seconds(what: str, seconds: float) -> None:
    """ValueError unless `seconds` is 0 or more; infinite means never."""
    if not seconds >= 0:
        raise ValueError(f"{what} must be seconds, 0 or more, not {seconds!r}")
