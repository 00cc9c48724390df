"""The frames between protected code and the user's: from here on Ctrl-C may strike."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from types import CoroutineType
from typing import TYPE_CHECKING, Final, TypeAlias

from trio.lowlevel import disable_ki_protection

if TYPE_CHECKING:
    from ktrio.workqueue._driver import Driver

ItemCoroutine: TypeAlias = Coroutine[object, object, object]

SUSPENDED: Final = object()
"""What `begin` gives if the item has not ended: its driver has the coroutine and what that said to the loop."""


@disable_ki_protection
def call(fn: Callable[..., object], *args: object) -> object:  # type: ignore[explicit-any]
    """Call the user's function."""
    return fn(*args)


@disable_ki_protection
def begin(driver: Driver, fn: Callable[..., object], args: tuple[object, ...]) -> object:  # type: ignore[explicit-any]
    """Call the user's function, and if that gives a coroutine take its first step; what the item returns, if it has.

    One frame for both, and the end of the coroutine caught where it is raised: most items end here. Whatever the
    function gives is the driver's in the same line: if Ctrl-C strikes behind it, somebody closes it.
    """
    driver.coro = result = fn(*args)
    if type(result) is not CoroutineType and (result is None or not isinstance(result, Coroutine)):
        driver.coro = None
        return result
    try:
        # `cast` would be one more call for each item.
        driver.message = result.send(None)  # pyright: ignore
    except StopIteration as end:
        driver.coro = None
        return end.value
    return SUSPENDED


@disable_ki_protection
def resume(coro: ItemCoroutine, value: object) -> object:
    """Take the next step of an item."""
    return coro.send(value)
