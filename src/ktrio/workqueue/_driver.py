"""An awaitable that hands Trio's sends on to an item's coroutine, and shows that to whoever looks at the stack.

Whoever drives a coroutine sees each of its steps end: in what it says to the loop, or for good. That is how a worker
times the steps of its item, and how concurrency management learns who sleeps (`ktrio.workqueue._sensor`).

Between a driver and its items stands a generator, `_run_items`, that runs one after the other. An item ends in a
message of its own, `ENDED`, and not in the StopIteration of its coroutine: to raise and to catch that costs more than
all else that a short item takes.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Coroutine, Generator
from types import CoroutineType, FrameType
from typing import TYPE_CHECKING, Final, Self, cast

from trio.lowlevel import disable_ki_protection

from ktrio.workqueue._outcome import refuse_other_awaitables

if TYPE_CHECKING:
    from ktrio.workqueue._unprotected import ItemCoroutine
    from ktrio.workqueue._work import Work

__all__ = ["ENDED", "Driver"]

ENDED: Final = object()
"""What the last step of an item ends with; what the item has returned is its driver's `value`."""


class Driver:
    """Drives the coroutine of one item after the other.

    `resume` takes the first step of `item`, in the caller's context, and then, with what the loop sends, each later
    one. It gives what the step says to the loop, or `ENDED`; if it raises, `renew` is due.

    Legend: T only by the task that awaits.
    """

    __slots__ = ("_items", "coro", "item", "message", "resume", "value")

    def __init__(self) -> None:
        self.item: Work | None = None  # T: the one to begin, or that has begun
        self.coro: object = None  # T: what the item's function gave, most often a coroutine, until the item ends
        self.message: object = None  # T: what its first step said to the loop, until that is told
        self.value: object = None  # T: what the last item has returned
        self.renew()

    def renew(self) -> None:
        """An item has raised, and that has ended the generator."""
        # The decorators' types say less about it than it says itself.
        self._items: Generator[object, object, None] = _run_items(self)  # pyright: ignore
        self.resume: Callable[[object], object] = self._items.send  # T

    def __await__(self) -> Generator[object, object, object]:
        return cast("Generator[object, object, object]", self)  # it has what `await` uses of one; None comes out

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
        """Part of the protocol of awaitables; Trio does it to who says what it does not understand."""
        message = self._items.throw(error)
        if message is ENDED:
            raise StopIteration
        return message

    def close(self) -> None:
        """Part of the protocol of awaitables: the loop was abandoned."""
        self._items.close()

    @property
    def cr_frame(self) -> FrameType | None:
        """The item's frame, so that `trio.lowlevel.Task.iter_await_frames` shows the whole stack."""
        return getattr(self.coro, "cr_frame", None)

    @property
    def cr_await(self) -> object:
        """What the item waits for; see `cr_frame`."""
        return getattr(self.coro, "cr_await", None)


@disable_ki_protection
@types.coroutine
def _run_items(driver: Driver) -> Generator[object, object, None]:
    """Run one item after the other. This is the frame from which on Ctrl-C may strike."""
    while (work := driver.item) is not None:
        # In one line: if Ctrl-C strikes behind it, the driver has what is to be closed.
        driver.coro = result = work._fn(*work._args)
        if type(result) is CoroutineType:
            result = yield from result  # type: ignore[misc]  # pyright: ignore - Python's typing knows no such generators
        elif result is not None:
            if isinstance(result, Coroutine):  # of another kind: compiled, or a class of somebody's
                result = yield from cast("ItemCoroutine", result).__await__()
            else:
                refuse_other_awaitables(work, result)
        driver.coro = None
        driver.value = result
        del work, result  # between two items nothing is kept alive
        yield ENDED
