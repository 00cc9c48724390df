"""Periodic items: a ticker that queues one item on a fixed grid of times.

The kernel has none; its way is a delayed item that arms itself again, and that drifts by the time each run takes. Here
a `Ticker` is beside the item: at each tick it does what `Workqueue.queue_work` does. Between two ticks the item is idle
and may be queued out of turn.

The overrun rule (the word is that of ``hrtimer_forward`` and ``timer_getoverrun``): a tick that finds the item pending
or running is skipped and counted. So are ticks that have passed unnoticed because something kept the loop, but for one,
and those that find the queue draining. There are never two runs at once and never a burst of runs to make up for lost
ones; and whatever is skipped, the grid stays: tick n is at ``first + n * interval``.
"""

from __future__ import annotations

from contextvars import copy_context
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING, final

import trio
from trio.lowlevel import enable_ki_protection

from ktrio.workqueue._errors import WorkqueueError
from ktrio.workqueue._policy import next_tick
from ktrio.workqueue._timer import Timer
from ktrio.workqueue._work import Pending, T_co, Work

if TYPE_CHECKING:
    from typing import Self

    from ktrio.workqueue._pwq import PoolWorkqueue
    from ktrio.workqueue._queue import Workqueue
    from ktrio.workqueue._statistics import WorkStatistics
    from ktrio.workqueue._supervisor import Supervisor

__all__ = ["Periodic", "PeriodicWork"]


@final
class PeriodicWork(Work[T_co]):
    """A `Work` that can be queued again and again at fixed times; the arguments are those of `Work`.

    `Workqueue.queue_periodic_work` makes it tick. At each tick it is queued, unless it is pending or running still:
    then the tick is skipped, and counted in `overruns` of its statistics and its queue's. It ticks until `cancel` or
    `cancel_sync`, or until its queue is destroyed or its supervisor left. Between two ticks it is not pending.
    """

    __slots__ = ("_overruns", "_ticker")

    _ticker: Ticker | None  # S
    _overruns: int  # S

    if not TYPE_CHECKING:  # `Work.__init__` and its overloads are the ones

        def __new__(cls, *_args: object, **_options: object) -> Self:
            self = super().__new__(cls)
            self._ticker, self._overruns = None, 0
            return self

    @property
    def is_ticking(self) -> bool:
        """Will it be queued at a next tick?"""
        return self._ticker is not None

    @enable_ki_protection
    def cancel(self) -> bool:
        """Stop ticking, and withdraw the pending queueing; True if there was either."""
        ticker = self._ticker
        if ticker is None:
            return super().cancel()
        ticker.wq.refuse_other_threads()
        ticker.pwq.instruments.refuse_inside("cancel")
        ticker.stop()
        super().cancel()
        return True

    def _used_by(self) -> PoolWorkqueue | None:
        return self._ticker.pwq if self._ticker is not None else super()._used_by()

    def statistics(self) -> WorkStatistics:
        """What this item is doing right now."""
        return replace(super().statistics(), overruns=self._overruns)

    def __repr__(self) -> str:
        ticker = self._ticker
        return super().__repr__() if ticker is None else f"{super().__repr__()[:-1]}, {ticker}>"


@final
class Ticker:
    """What makes one item tick.

    Legend: I set once · S changed only in one synchronous stretch.
    """

    __slots__ = ("_context", "_first", "_interval", "_next", "_timer", "_work", "pwq", "wq")

    def __init__(self, wq: Workqueue, work: PeriodicWork[object], pwq: PoolWorkqueue, interval: float) -> None:
        self.wq = wq  # I
        self.pwq = pwq  # I: where it is queued
        self._work = work  # I
        self._interval = interval  # I, seconds
        self._context = copy_context()  # I
        self._first = inf  # I, by `start`: the time of tick 0
        self._next = 0  # S: the number of the next tick
        self._timer = Timer(pwq.pool.supervisor.timers, self._tick)  # I

    def __repr__(self) -> str:
        return f"every {self._interval:g} s on {self.wq.name!r}"

    def start(self, delay: float) -> None:
        """Tick for the first time in `delay` seconds; 0: now."""
        self._first = trio.current_time() + delay
        if delay:
            self._timer.arm(self._first)
        else:
            self._tick()

    def stop(self) -> None:
        """Do not tick any more."""
        self._timer.cancel()
        self._work._ticker = None
        self.wq.periodic.forget(self._work)

    def _tick(self) -> None:
        this, self._next = self._next, next_tick(self._first, self._interval, trio.current_time())
        self._timer.arm(self._first + self._next * self._interval)
        skipped = self._next - this - 1  # they have passed unnoticed
        if not self._queue():
            skipped += 1
        self._work._overruns += skipped
        self.wq.periodic.overruns += skipped

    def _queue(self) -> bool:
        work = self._work
        if work._pending is not Pending.NOT or work._worker is not None:
            return False
        try:
            return self.wq._queue(work, self.pwq, False, self._context.copy())  # `max_pending` does not hold it up
        except WorkqueueError:
            return False


@final
class Periodic:
    """The items of one queue that tick.

    Legend: I set once · S changed only in one synchronous stretch.
    """

    __slots__ = ("_supervisor", "_tickers", "_wq", "overruns")

    def __init__(self, wq: Workqueue, supervisor: Supervisor) -> None:
        self._wq = wq  # I
        self._supervisor = supervisor  # I
        self._tickers: dict[PeriodicWork[object], Ticker] = {}  # S
        self.overruns = 0  # S: ticks skipped, ever

    def __len__(self) -> int:
        return len(self._tickers)

    def queue(self, work: PeriodicWork[object], interval: float, first_delay: float | None) -> bool:
        """See `Workqueue.queue_periodic_work`."""
        self._wq.refuse_other_threads()
        self._supervisor.instruments.refuse_inside("queue_periodic_work")
        if not isinstance(work, PeriodicWork):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"queue_periodic_work needs a PeriodicWork, not {work!r}")
        delay = interval if first_delay is None else first_delay
        if not 0 < interval < inf:
            raise ValueError(f"interval must be positive seconds, not {interval!r}")
        if not 0 <= delay < inf:
            raise ValueError(f"first_delay must be seconds, 0 or more, not {first_delay!r}")
        if work._ticker is not None or work._disabled or not self._wq.delayed.admits(work, is_later=True):
            return False
        work._ticker = self._tickers[work] = ticker = Ticker(self._wq, work, self._wq._choose_pwq(), interval)
        ticker.start(delay)
        return True

    def forget(self, work: PeriodicWork[object]) -> None:
        """It does not tick any more."""
        del self._tickers[work]

    def cancel_all(self) -> None:
        """The queue is destroyed, or its supervisor left."""
        for ticker in list(self._tickers.values()):
            ticker.stop()
