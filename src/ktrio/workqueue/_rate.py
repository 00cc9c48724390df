"""A rate limit: how many items of one queue may start in a time (a token bucket).

What is limited is activation: an item that finds no token stands in its pwq's inactive line, in its order, as it does
when it finds no slot, and the timer of the queue promotes the first in line when there is one again. One bucket serves
all pwqs of the queue, those that wait for it by turns.

Only starts are limited. A parked item that comes back has started: it passes items that wait for nothing but a token.
One that starts parked takes none. An item that runs right after its own run (`Pending.COLLIDED`) is a start like any
other.

A bucket is one number, the time at which it will be full; `ktrio.workqueue._policy` says what follows from it.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, final

import trio

from ktrio.workqueue._attrs import Rate
from ktrio.workqueue._policy import full_after_change, full_after_start, next_start
from ktrio.workqueue._timer import Timer

if TYPE_CHECKING:
    from ktrio.workqueue._pwq import PoolWorkqueue
    from ktrio.workqueue._queue import Workqueue
    from ktrio.workqueue._supervisor import Supervisor

__all__ = ["RateLimit"]


@final
class RateLimit:
    """The bucket of one queue, and the pwqs that wait for it. A pwq knows it only while there is a rate.

    Legend: I set once · S changed only in one synchronous stretch.
    """

    __slots__ = ("_full_at", "_pwqs", "_supervisor", "_timer", "_turn", "_waiting", "_wq", "rate", "throttled")

    def __init__(self, wq: Workqueue, supervisor: Supervisor, pwqs: tuple[PoolWorkqueue, ...]) -> None:
        self._wq = wq  # I
        self._supervisor = supervisor  # I
        self._pwqs = pwqs  # I
        self._timer = Timer(supervisor.timers, self._fire)  # I
        self.rate: Rate | None = None  # S
        self._full_at = 0.0  # S: when there are `burst` tokens again, by Trio's clock
        self._waiting: OrderedDict[PoolWorkqueue, None] = OrderedDict()  # S: oldest first
        self._turn: PoolWorkqueue | None = None  # S: whose turn it is just now
        self.throttled = 0  # S: how often a first in line had to wait

    def set(self, rate: Rate | None) -> None:
        """See `Workqueue.set_rate`."""
        self._wq.refuse_other_threads()
        self._supervisor.instruments.refuse_inside("set_rate")
        if rate is not None and not isinstance(rate, Rate):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"a rate is a Rate or None, not {rate!r}")
        now, before = trio.current_time(), self.rate
        if before is not None and rate is not None:
            self._full_at = full_after_change(self._full_at, now, before.interval, rate.interval, rate.burst)
        elif rate is not None:
            self._full_at = now
        self.rate = rate
        for pwq in self._pwqs:
            pwq.rate = self if rate is not None else None
        self._timer.cancel()
        self._waiting.clear()
        for pwq in self._pwqs:
            pwq.promote()

    def take(self, pwq: PoolWorkqueue) -> bool:
        """May an item of `pwq` start? If not, `pwq` will be promoted when one may."""
        assert self.rate is not None
        now = trio.current_time()
        start = next_start(self._full_at, self.rate.interval, self.rate.burst)
        if now >= start and (self._turn is pwq or not self._waiting):
            self._turn = None
            self._full_at = full_after_start(self._full_at, self.rate.interval, now)
            return True
        if pwq not in self._waiting:
            self._waiting[pwq] = None
            self.throttled += 1
        if not self._timer.is_armed:
            self._timer.arm(start)
        return False

    def leave(self, pwq: PoolWorkqueue) -> None:
        """Nothing of `pwq` waits any more."""
        self._waiting.pop(pwq, None)
        if not self._waiting:
            self._timer.cancel()

    def _fire(self) -> None:
        """There is a token: by turns, each pwq may promote one item at a time."""
        while self.rate is not None and self._waiting:
            start = next_start(self._full_at, self.rate.interval, self.rate.burst)
            if trio.current_time() < start:
                self._timer.arm(start)
                return
            pwq, _ = self._waiting.popitem(last=False)
            self._turn = pwq
            pwq.promote()
            self._turn = None
