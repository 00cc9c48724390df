"""Run a handler's code: open to Ctrl-C, and with its peer watched from the moment it first waits for something.

The server's own code is protected from KeyboardInterrupt, so that no connection is torn between its owners; a handler's
code is called through one unprotected frame a step. A handler that answers without waiting, as most do for small
things, costs no watch: nothing could happen to its peer that it would learn in time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from types import FrameType
from typing import TypeVar, cast, final

from trio.lowlevel import disable_ki_protection

T = TypeVar("T")


@final
class _Steps:
    """The awaitable that drives another and calls `on_first_wait` when it yields for the first time.

    Legend: I set once.
    """

    __slots__ = ("_awaitable", "_on_first_wait", "_steps")

    def __init__(self, awaitable: Awaitable[object], on_first_wait: Callable[[], None]) -> None:
        self._awaitable = awaitable  # I: for whoever looks at the stack
        self._steps = cast("Generator[object, object, object]", awaitable.__await__())  # I
        self._on_first_wait = on_first_wait  # I

    def __await__(self) -> Generator[object, object, object]:
        return cast("Generator[object, object, object]", self)

    def __iter__(self) -> _Steps:
        return self

    @disable_ki_protection
    def __next__(self) -> object:
        """The first step."""
        message = next(self._steps)
        self._on_first_wait()
        return message

    @disable_ki_protection
    def send(self, value: object) -> object:
        """Every later step."""
        return self._steps.send(value)

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
        """What the handler waits for; see `cr_frame`."""
        return getattr(self._awaitable, "cr_await", None)


async def user_code(awaitable: Awaitable[T], on_first_wait: Callable[[], None]) -> T:
    """``await awaitable``; `on_first_wait` is called when it yields for the first time, if it does."""
    return cast("T", await _Steps(awaitable, on_first_wait))


@disable_ki_protection
def call_handler(handler: Callable[[T], Awaitable[object]], request: T) -> Awaitable[object]:
    """The awaitable that a handler gives for a request; an async function has not begun then."""
    return handler(request)
