"""An awaitable that hands Trio's sends on to an item's coroutine, and shows that to whoever looks at the stack.

Whoever drives a coroutine sees each of its steps end: in what it says to the loop, or for good. That is how a worker
times the steps of its item, and how concurrency management learns who sleeps (`ktrio.workqueue._sensor`).
"""

from __future__ import annotations

from collections.abc import Generator
from types import FrameType
from typing import Self, cast

from ktrio.workqueue._unprotected import ItemCoroutine

__all__ = ["Driver"]


class Driver:
    """Drives the coroutine of one item; `ktrio.workqueue._unprotected.begin` has taken its first step.

    Legend: T only by the task that awaits.
    """

    __slots__ = ("coro", "message")

    def __init__(self) -> None:
        self.coro: object = None  # T: the item's coroutine, from the moment that there is one until it ends
        self.message: object = None  # T: what its first step said to the loop, until that is told

    def __await__(self) -> Generator[object, object, object]:
        return cast("Generator[object, object, object]", self)  # it has what `await` uses of one

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> object:
        """What the first step said to the loop; and every later step to which the loop has nothing to say."""
        if self.message is not None:
            message, self.message = self.message, None
            return message
        return self.send(None)

    def send(self, value: object) -> object:
        """Every later step."""
        raise NotImplementedError

    def throw(self, error: BaseException) -> object:
        """Part of the protocol of awaitables; Trio itself never throws."""
        if self.coro is None:
            raise error
        return cast("ItemCoroutine", self.coro).throw(error)

    def close(self) -> None:
        """Part of the protocol of awaitables: the loop was abandoned."""
        if self.coro is not None:
            cast("ItemCoroutine", self.coro).close()

    @property
    def cr_frame(self) -> FrameType | None:
        """The item's frame, so that `trio.lowlevel.Task.iter_await_frames` shows the whole stack."""
        return getattr(self.coro, "cr_frame", None)

    @property
    def cr_await(self) -> object:
        """What the item waits for; see `cr_frame`."""
        return getattr(self.coro, "cr_await", None)
