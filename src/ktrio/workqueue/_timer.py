"""Timers: what is to happen later, all of one supervisor in one heap and one task (kernel: ``struct timer_list``).

A `Timer` is made once with a plain function and then armed, moved and cancelled as often as its owner likes; moving it
later, which an idle timeout does at every sign of life, is a few attribute stores. So the heap is lazy:

* An *entry* ``(deadline, order, timer)`` says when to look at the timer, not when to fire. It stands where the timer
  was when it was pushed, and is never later than the timer's own `deadline`. Whoever comes to it puts it right.
* `order` numbers the armings. Equal deadlines fire in the order of their *last* arming, so an entry of an older arming
  is pushed anew even where the deadline has not changed.
* A timer moved to an earlier deadline gets a second entry; the first one is *stale*, as is that of a cancelled timer.
  There are never many more of those than timers armed: then the heap is built anew.

The task that fires is a child of the supervisor's nursery, started by the first arming. It sleeps in a cancel scope
whose deadline is that of the earliest timer, so arming and cancelling move that and wake nobody; with nothing armed it
is infinite, and a supervisor at rest has no deadline at all (a `trio.testing.MockClock` does not jump).
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from math import inf
from typing import TYPE_CHECKING, final

import trio
from trio.lowlevel import enable_ki_protection

from ktrio.workqueue._policy import must_yield, too_many_stale

if TYPE_CHECKING:
    from ktrio.workqueue._supervisor import Supervisor

__all__ = ["Timer", "Timers"]


@final
class Timer:
    """A plain function to be called once at a deadline; a part of whoever owns it.

    It is called in the timer task of the supervisor, protected from Ctrl-C. It must not block, and whoever it calls on
    behalf of the user he calls by `ktrio.workqueue._unprotected.call`, with a barrier: an exception of the function is
    a bug and ends the supervisor.

    Legend: I set once · S changed only in one synchronous stretch, by `Timers`.
    """

    __slots__ = ("_entry", "_entry_order", "_fire", "_order", "_timers", "deadline")

    def __init__(self, timers: Timers, fire: Callable[[], object]) -> None:
        self._timers = timers  # I
        self._fire = fire  # I
        self.deadline = inf  # S, by Trio's clock; infinite: not armed. Read only for the owner
        self._order = 0  # S: of its last arming
        self._entry = inf  # S: the deadline of its entry in the heap; infinite: it has none
        self._entry_order = 0  # S: the order of that entry

    @property
    def is_armed(self) -> bool:
        """Will it fire? (kernel: ``timer_pending``)."""
        return self.deadline != inf

    def arm(self, deadline: float) -> None:
        """Fire at `deadline`, in seconds by `trio.current_time`, instead of any earlier order (kernel: ``mod_timer``).

        Never at once: a deadline that is past fires in the next turns of the loop. An infinite one is `cancel`.
        """
        if deadline == inf:
            self.cancel()
        else:
            self._timers.arm(self, deadline)

    def cancel(self) -> bool:
        """Do not fire; True if it was armed (kernel: ``timer_delete``)."""
        if self.deadline == inf:
            return False
        self._timers.cancel(self)
        return True

    def __repr__(self) -> str:
        return f"<Timer {self._fire!r} {f'at {self.deadline:g}' if self.is_armed else 'not armed'}>"


@final
class Timers:
    """The timers of one supervisor: heap and task.

    Legend: I set once · T only by the timer task · S changed only in one synchronous stretch.
    """

    __slots__ = ("_armings", "_has_task", "_heap", "_scope", "_supervisor", "_wakes_at", "armed", "fired")

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor  # I
        self._heap: list[tuple[float, int, Timer]] = []  # S
        self._armings = 0  # S: so far; numbers them
        self._has_task = False  # S
        self._scope: trio.CancelScope | None = None  # T: while it sleeps
        self._wakes_at = inf  # S: when the task looks again, never later than the earliest deadline
        self.armed = 0  # S: timers
        self.fired = 0  # S: ever

    @enable_ki_protection
    def arm(self, timer: Timer, deadline: float) -> None:
        """See `Timer.arm`."""
        self._armings += 1
        self.armed += timer.deadline == inf
        timer.deadline, timer._order = deadline, self._armings
        if timer._entry > deadline:
            self._push(timer)
            if too_many_stale(len(self._heap) - self.armed, self.armed):
                self._rebuild()
        if deadline < self._wakes_at:
            self._wake_at(deadline)

    @enable_ki_protection
    def cancel(self, timer: Timer) -> None:
        """See `Timer.cancel`."""
        timer.deadline = inf
        self.armed -= 1
        if not self.armed or too_many_stale(len(self._heap) - self.armed, self.armed):
            self._rebuild()
            if not self.armed:
                self._wake_at(inf)

    def _push(self, timer: Timer) -> None:
        timer._entry, timer._entry_order = timer.deadline, timer._order
        heappush(self._heap, (timer.deadline, timer._order, timer))

    def _rebuild(self) -> None:
        """Leave out what is stale, and put the others where they belong."""
        timers = [timer for _, order, timer in self._heap if order == timer._entry_order]
        for timer in timers:
            timer._entry, timer._entry_order = timer.deadline, timer._order
        self._heap = [(timer.deadline, timer._order, timer) for timer in timers if timer.deadline != inf]
        heapify(self._heap)

    # -- the task

    def _wake_at(self, deadline: float) -> None:
        self._wakes_at = deadline
        if self._scope is not None:
            self._scope.deadline = deadline
        elif not self._has_task and self._supervisor._nursery is not None:
            self._has_task = True
            self._supervisor._nursery.start_soon(self._run, name="ktrio timers")

    @enable_ki_protection
    async def _run(self) -> None:
        """Fire what is due, for as long as the supervisor lives."""
        while True:
            self._wakes_at = self._heap[0][0] if self._heap else inf
            with trio.CancelScope(deadline=self._wakes_at) as self._scope:
                await trio.sleep_forever()
            self._scope = None
            while not self._fire_due():
                await trio.lowlevel.checkpoint()

    def _fire_due(self) -> bool:
        """Fire those that are due, in order; False if the loop is to have its turn before the rest of them."""
        began = trio.current_time()
        fired_before = self.fired
        while self._heap and self._heap[0][0] <= began:
            _, order, timer = heappop(self._heap)
            if order != timer._entry_order:
                continue  # stale: it was moved to an earlier deadline
            timer._entry = inf
            if timer.deadline == inf:
                continue  # stale: it was cancelled
            if timer._order != order:
                self._push(timer)  # armed again meanwhile, for a later deadline or behind its equals
                continue
            timer.deadline = inf
            self.armed -= 1
            self.fired += 1
            try:
                timer._fire()
            except BaseException as error:
                self._supervisor.fail(error)
            if must_yield(self.fired - fired_before, trio.current_time() - began):
                return False
        return True

    def __repr__(self) -> str:
        return f"<Timers armed={self.armed} fired={self.fired} entries={len(self._heap)}>"
