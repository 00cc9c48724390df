"""Run a handler's code: open to Ctrl-C, and with its peer watched from the moment it first waits for something.

The server's own code is protected from KeyboardInterrupt, so that no connection is torn between its owners; a handler's
code is called through one unprotected frame a step. A handler that answers without waiting, as most do for small
things, costs no watch: nothing could happen to its peer that it would learn in time.

A step ends in a *yield*, a bare checkpoint that lets others have their turn, or in a *wait* for something that has not
happened. Whoever drives a coroutine can tell them apart: a yield always says the same to Trio (`_YIELD`).
"""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable, Generator
from types import FrameType
from typing import Final, TypeVar, cast, final

import trio
from trio.lowlevel import disable_ki_protection

T = TypeVar("T")


def _message_of_a_yield() -> object:
    """What a task that only lets others have their turn says to Trio."""
    checkpoint = trio.lowlevel.cancel_shielded_checkpoint()  # noqa: ASYNC105 - driven by hand, once
    try:
        return checkpoint.send(None)
    finally:
        checkpoint.close()


# Where a Trio to come says something new each time, every yield passes for a wait: correct, and less well coalesced.
_YIELD: Final = _message_of_a_yield()


_UNKNOWN: Final = object()


@final
class _Steps:
    """The awaitable that drives another, and says when it lets go of the loop for the first time, and when it waits.

    Legend: I set once · T only by the task that awaits.
    """

    __slots__ = ("_awaitable", "_on_first_wait", "_on_first_yield", "_steps")

    def __init__(
        self, awaitable: Awaitable[object], on_first_yield: Callable[[], None], on_first_wait: Callable[[], None] | None
    ) -> None:
        self._awaitable = awaitable  # I: for whoever looks at the stack
        self._steps = cast("Generator[object, object, object]", awaitable.__await__())  # I
        self._on_first_yield = on_first_yield  # I
        self._on_first_wait = on_first_wait  # T: None once called

    def __await__(self) -> Generator[object, object, object]:
        return cast("Generator[object, object, object]", self)

    def __iter__(self) -> _Steps:
        return self

    @disable_ki_protection
    def __next__(self) -> object:
        """The first step."""
        message = next(self._steps)
        self._on_first_yield()
        if self._on_first_wait is not None:
            self._look_at(message)
        return message

    @disable_ki_protection
    def send(self, value: object) -> object:
        """Every later step."""
        message = self._steps.send(value)
        if self._on_first_wait is not None:
            self._look_at(message)
        return message

    def _look_at(self, message: object) -> None:
        if message is not _YIELD:
            told, self._on_first_wait = self._on_first_wait, None
            if told is not None:
                told()

    def throw(self, error: BaseException) -> object:
        """Part of the protocol of awaitables; Trio itself never throws."""
        return self._steps.throw(error)

    def close(self) -> None:
        """Part of the protocol of awaitables: the loop was abandoned."""
        self._steps.close()

    @property
    def cr_frame(self) -> FrameType | None:
        """The handler's frame, so that `trio.lowlevel.Task.iter_await_frames` shows the whole stack."""
        return getattr(self._awaitable, "cr_frame", None)

    @property
    def cr_await(self) -> object:
        """What the handler waits for; see `cr_frame`. Costs nothing until somebody looks."""
        awaited: object = getattr(self._awaitable, "cr_await", _UNKNOWN)
        if awaited is _UNKNOWN:
            # `anext` with a default gives an object that says nothing of what it waits for; the collector knows.
            awaited = next(filter(_is_on_the_stack, gc.get_referents(self._awaitable)), None)
        return awaited


def _is_on_the_stack(each: object) -> bool:
    """Is this something that `trio.lowlevel.Task.iter_await_frames` can look into?"""
    return hasattr(each, "cr_frame") or type(each).__name__ == "async_generator_asend"


async def user_code(
    awaitable: Awaitable[T], on_first_yield: Callable[[], None], on_first_wait: Callable[[], None] | None = None
) -> T:
    """``await awaitable``; the functions are called when it first lets go of the loop, and when it first waits."""
    return cast("T", await _Steps(awaitable, on_first_yield, on_first_wait))


@disable_ki_protection
def call_handler(handler: Callable[[T], Awaitable[object]], request: T) -> Awaitable[object]:
    """The awaitable that a handler gives for a request; an async function has not begun then.

    Raises:
      TypeError: it gave something that cannot be awaited; the handler is no async function.
    """
    awaitable = handler(request)
    if not hasattr(awaitable, "__await__"):
        name = getattr(handler, "__qualname__", repr(handler))
        raise TypeError(f"{name} is to be an async function without yield, but it gave {awaitable!r:.100}")
    return awaitable
