"""Run a handler, and watch its peer from the moment the handler first waits for something.

A handler that answers without waiting, as most do for small things, costs no watch: nothing could happen to its peer
that it would learn in time. `watched` drives the handler's first step itself; if that ends in a yield, watching begins
and every later step goes straight to the handler's coroutine.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator
from types import CoroutineType, FrameType
from typing import TypeVar, cast, final

T = TypeVar("T")


@final
class _Watched:
    """The awaitable that drives a coroutine and calls `on_first_wait` when it yields for the first time."""

    __slots__ = ("_coro", "_on_first_wait", "close", "send", "throw")

    def __init__(self, coro: Coroutine[object, object, object], on_first_wait: Callable[[], None]) -> None:
        self._coro = coro
        self._on_first_wait = on_first_wait
        # What `await` calls after the first step, without a frame in between.
        self.send, self.throw, self.close = coro.send, coro.throw, coro.close

    def __await__(self) -> Generator[object, object, object]:
        return cast("Generator[object, object, object]", self)

    def __iter__(self) -> _Watched:
        return self

    def __next__(self) -> object:
        message = self._coro.send(None)
        self._on_first_wait()
        return message

    @property
    def cr_frame(self) -> FrameType | None:
        """The handler's frame, so that `trio.lowlevel.Task.iter_await_frames` shows the whole stack."""
        return getattr(self._coro, "cr_frame", None)

    @property
    def cr_await(self) -> object:
        """What the handler waits for; see `cr_frame`."""
        return getattr(self._coro, "cr_await", None)


async def watched(awaitable: Awaitable[T], on_first_wait: Callable[[], None]) -> T:
    """``await awaitable``; `on_first_wait` is called when it yields for the first time, if it does."""
    if type(awaitable) is not CoroutineType and not isinstance(awaitable, Coroutine):
        on_first_wait()
        return await awaitable
    coro = cast("Coroutine[object, object, object]", awaitable)
    return cast("T", await _Watched(coro, on_first_wait))
