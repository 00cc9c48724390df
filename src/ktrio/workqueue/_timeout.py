"""A deadline for each run of an item: ``Work(fn, timeout=seconds)``.

It bounds a run from its first step to its end, waiting of every kind included: parked, in line to come back, for a
thread. How long the item was pending before does not count. It is a cancel scope around the item's coroutine, so an
item without a timeout pays nothing, and the rest is Trio's rule: an item that ends in the turn of expiry, or that takes
no notice of the cancellation and comes to its end later, has ended; one that is cancelled has failed, and its error is
a `trio.TooSlowError`, or whatever it made of its Cancelled on the way out. If it is interrupted as well, that goes
before.

A plain function on the loop cannot be cut short, and is not.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from math import inf
from typing import cast, final

import trio

from ktrio.workqueue._current import enclosing_workers
from ktrio.workqueue._unprotected import ItemCoroutine

__all__ = ["TimeLimit"]


@final
class TimeLimit:
    """A function of whose coroutines each has so many seconds; it stands in for the function of an item."""

    __slots__ = ("fn", "seconds")

    def __init__(self, fn: Callable[..., object], seconds: float) -> None:  # type: ignore[explicit-any]
        if not seconds > 0:
            raise ValueError(f"timeout must be positive seconds, not {seconds!r}")
        self.fn = fn  # I
        self.seconds = seconds  # I

    def __call__(self, *args: object) -> object:
        result = self.fn(*args)
        return self.bound(cast("ItemCoroutine", result)) if isinstance(result, Coroutine) else result

    async def bound(self, coro: ItemCoroutine) -> object:
        """Await `coro`; TooSlowError if it was cancelled because its time was over."""
        worker = next(enclosing_workers())
        scope = trio.move_on_after(self.seconds)
        try:
            with scope:
                return await coro
        except BaseException as error:
            if scope.cancelled_caught or has_replaced_cancelled(scope, error):
                worker.pwq.timed_out += 1
            raise
        worker.pwq.timed_out += 1
        raise trio.TooSlowError(f"{worker.work!r} took longer than its timeout of {self.seconds:g} s")


def has_replaced_cancelled(scope: trio.CancelScope, error: BaseException) -> bool:
    """Is `error` what a run has made of the Cancelled of this scope, and of no other around it?

    An error that only comes in the turn of expiry has none behind it.
    """
    if not scope.cancel_called or trio.current_effective_deadline() == -inf:
        return False
    ahead: list[BaseException | None] = [error]
    seen: set[int] = set()
    while ahead:
        each = ahead.pop()
        if each is None or id(each) in seen:
            continue
        if isinstance(each, trio.Cancelled):
            return True
        seen.add(id(each))
        ahead += [each.__context__, each.__cause__]
        if isinstance(each, BaseExceptionGroup):
            ahead += cast("BaseExceptionGroup[BaseException]", each).exceptions
    return False
