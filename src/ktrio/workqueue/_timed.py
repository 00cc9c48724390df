"""What a workqueue does later: the methods of `Workqueue` that concern timers, with their contracts.

A part of that class and nothing by itself; its other methods leave no room for these in one file. The work is done by
`ktrio.workqueue._delayed`, `ktrio.workqueue._periodic` and `ktrio.workqueue._rate`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio.lowlevel import enable_ki_protection

from ktrio.workqueue._attrs import Rate
from ktrio.workqueue._delayed import Delayed, DelayedWork
from ktrio.workqueue._periodic import Periodic, PeriodicWork

if TYPE_CHECKING:
    from ktrio.workqueue._pwq import PoolWorkqueue
    from ktrio.workqueue._rate import RateLimit

__all__ = ["TimedQueueing"]


class TimedQueueing:
    """The base of `Workqueue`, which sets the attributes."""

    delayed: Delayed
    periodic: Periodic
    rate_limit: RateLimit

    def pwq_of(self, cpu: int) -> PoolWorkqueue:
        """Its share of that simulated CPU."""
        raise NotImplementedError

    @enable_ki_protection
    def queue_delayed_work(self, dwork: DelayedWork, delay: float) -> bool:
        """Queue an item `delay` seconds from now (kernel: ``queue_delayed_work``); plain function.

        Returns True if it was idle and this call made it pending; else False, and nothing changes: a timer that runs is
        not moved. 0 queues at once, infinite waits for `mod_delayed_work` or `DelayedWork.flush`. It will go where
        `queue_work` would send it now, and run in a copy of the context of now. No flush or drain waits for its timer;
        if the queue drains when that fires, or is destroyed or its supervisor left before, the item is discarded.

        Raises:
          ValueError: `delay` is negative or no number.
          TypeError: `dwork` is no `DelayedWork`.
          and whatever `queue_work` raises.
        """
        return self.delayed.queue(dwork, None, delay)

    @enable_ki_protection
    def queue_delayed_work_on(self, cpu: int, dwork: DelayedWork, delay: float) -> bool:
        """As `queue_delayed_work`, on a simulated CPU of the caller's choice (kernel: ``queue_delayed_work_on``)."""
        return self.delayed.queue(dwork, self.pwq_of(cpu), delay)

    @enable_ki_protection
    def mod_delayed_work(self, dwork: DelayedWork, delay: float) -> bool:
        """Queue an item `delay` seconds from now, whatever was to become of it (kernel: ``mod_delayed_work``).

        A timer that runs is moved; an item that waits on a queue, any queue, is taken out of it, and not discarded; who
        waits for that queueing waits on. 0 queues at once, behind the others. Cheap enough for every sign of life.

        Returns True if it was idle, as all queueing does (the kernel's gives the opposite). It raises what
        `queue_delayed_work` raises, and then nothing has changed: so delay 0 brings no item from elsewhere onto a queue
        that is full (BacklogFullError).
        """
        return self.delayed.mod(dwork, None, delay)

    @enable_ki_protection
    def mod_delayed_work_on(self, cpu: int, dwork: DelayedWork, delay: float) -> bool:
        """As `mod_delayed_work`, on a simulated CPU of the caller's choice (kernel: ``mod_delayed_work_on``)."""
        return self.delayed.mod(dwork, self.pwq_of(cpu), delay)

    @enable_ki_protection
    def queue_periodic_work(self, pwork: PeriodicWork, interval: float, *, first_delay: float | None = None) -> bool:
        """Queue an item every `interval` seconds, first in `first_delay` (default: one interval); plain function.

        True if this call made it tick; False if it ticks already, and then nothing changes. The ticks are a fixed grid,
        whatever the runs take. One that finds the item pending or running is skipped and counted (`overruns`), as are
        those missed while something kept the loop, or while the queue drains. Runs have copies of the context of now.

        Raises:
          ValueError: `interval` is not positive, `first_delay` negative, or either infinite.
          TypeError: `pwork` is no `PeriodicWork`.
          and whatever `queue_work` raises.
        """
        return self.periodic.queue(pwork, interval, first_delay)

    @property
    def rate(self) -> Rate | None:
        """How many of its items may start in a time, on all its simulated CPUs together; None: no limit."""
        return self.rate_limit.rate

    @enable_ki_protection
    def set_rate(self, rate: Rate | None) -> None:
        """Change how many items may start in a time; None: no limit. TypeError if it is no `Rate`.

        Items that the old rate has held up start as the new one lets them. What was used up of a burst stays used.
        """
        self.rate_limit.set(rate)

    def cancel_timers(self) -> None:
        """The queue is destroyed, or its supervisor left: nothing is queued later."""
        self.delayed.cancel_all()
        self.periodic.cancel_all()
