"""What a workqueue does for callers who say more than which item, or queue many: methods of `Workqueue`.

A part of that class and nothing by itself; its other methods leave no room for these in one file.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, TypeVar, cast, overload

from trio.lowlevel import enable_ki_protection

from ktrio.workqueue._disable import deepen
from ktrio.workqueue._group import WorkGroup, map_items, open_group
from ktrio.workqueue._lane import Lane
from ktrio.workqueue._timed import TimedQueueing

if TYPE_CHECKING:
    from ktrio.workqueue._queue import Workqueue
    from ktrio.workqueue._work import Work

__all__ = ["DirectedQueueing"]

A = TypeVar("A")
T = TypeVar("T")


class DirectedQueueing(TimedQueueing):
    """The base of `Workqueue`, which sets the attributes."""

    def queue_work(self, work: Work, *, parked: bool = False) -> bool:
        """See `Workqueue`."""
        raise NotImplementedError

    @enable_ki_protection
    def enable_and_queue_work(self, work: Work) -> bool:
        """`Work.enable`, and if the item takes queueings again, queue it (kernel: ``enable_and_queue_work``).

        For whoever does not know what was refused meanwhile, and so must let it run once more. True if it was queued.
        Plain function.

        Raises:
          DisableError: it is not disabled.
          and whatever `queue_work` raises; then it is disabled as before.
        """
        if not work.enable():
            return False
        try:
            return self.queue_work(work)
        except BaseException:
            deepen(work)
            raise

    def lane(self, key: Hashable) -> Lane:
        """The lane of this key: items queued through it run one after the other, in the order of their queueing.

        Different lanes run side by side, up to `max_active`. A lane is there while an item is in it; keep the `Lane` or
        ask for it again, it is the same.
        """
        return Lane(cast("Workqueue", self), key)

    def open_group(self) -> AbstractAsyncContextManager[WorkGroup]:
        """``async with wq.open_group() as group:`` waits on leaving for what was queued through `group`, and only that.

        As a nursery: an error, of the block or of a member, cancels the block, withdraws the members that are pending,
        interrupts and waits for those that run, and leaves in a strict ExceptionGroup. Members' errors do not go to
        `on_error`. If the block is inside an item, the item is parked while it waits.
        """
        return open_group(cast("Workqueue", self))

    @overload
    async def map(self, fn: Callable[[A], Awaitable[T]], args: Iterable[A]) -> list[T]: ...
    @overload
    async def map(self, fn: Callable[[A], T], args: Iterable[A]) -> list[T]: ...
    async def map(self, fn: Callable[[A], object], args: Iterable[A]) -> object:
        """The results of `fn` for each of `args`, in their order: a group of items, one for each, as `open_group`.

        Queues as fast as `max_pending` lets it, and takes from `args` no faster.
        """
        return await map_items(cast("Workqueue", self), fn, args)
