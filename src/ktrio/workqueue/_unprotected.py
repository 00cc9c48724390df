"""The frame between protected code and the user's: from here on Ctrl-C may strike. (Items: see `Driver`.)"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TypeAlias

from trio.lowlevel import disable_ki_protection

__all__ = ["ItemCoroutine", "call"]

ItemCoroutine: TypeAlias = Coroutine[object, object, object]


@disable_ki_protection
def call(fn: Callable[..., object], *args: object) -> object:  # type: ignore[explicit-any]
    """Call the user's function."""
    return fn(*args)
