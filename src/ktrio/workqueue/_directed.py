"""What a workqueue does for callers who say more than which item, or queue many: methods of `Workqueue`.

A part of that class and nothing by itself; its other methods leave no room for these in one file.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, TypeVar, TypeVarTuple, Unpack, cast, overload

from trio.lowlevel import enable_ki_protection

from ktrio.workqueue._attributes import Attributes, attributes_of_queue
from ktrio.workqueue._disable import deepen
from ktrio.workqueue._group import WorkGroup, map_items, open_group
from ktrio.workqueue._lane import Lane
from ktrio.workqueue._run import run_item, run_on_each_cpu
from ktrio.workqueue._timed import TimedQueueing
from ktrio.workqueue._work import Work

if TYPE_CHECKING:
    from ktrio.workqueue._letters import Letters
    from ktrio.workqueue._queue import Workqueue

__all__ = ["DirectedQueueing"]

A = TypeVar("A")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class DirectedQueueing(TimedQueueing):
    """The base of `Workqueue`, which sets the attributes."""

    letters: Letters

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

    @property
    def attributes(self) -> Attributes:
        """What of it can be read and set by name (kernel: the files of ``WQ_SYSFS``): see `Attributes`.

        `max_active` and `max_pending`, with the effect of the methods that set them; read only `per_cpu` (1 if it is
        bound), `nice` (-20 with `WQ_HIGHPRI`, else 0) and `ordered`.
        """
        return attributes_of_queue(cast("Workqueue", self))

    @enable_ki_protection
    def queue_work_from_thread(self, work: Work) -> None:
        """Queue an item from any thread, or from a signal handler; plain function, never blocks.

        The loop does what `queue_work` does, soon, in a copy of the context of now and in the order of these calls; one
        of them or a thousand, it is woken once. If the item is pending then, that queueing stands for this one. If it
        is refused then, because it is disabled, runs on another queue, or the queue is full, drains, was destroyed or
        its supervisor left, it is discarded: `on_discard` is called, in the loop, or there is a line in the log. Never
        *chained*: in a thread of an item's own, `trio.from_thread.run_sync(wq.queue_work, work)` is, and gives the
        answer.

        Raises:
          SupervisorClosedError: the queue's supervisor was left, or cancelled; the item is not discarded then.
          trio.RunFinishedError: the same, when the loop has ended as well.
          TypeError: no item. (The loop could not tell anybody.)
        """
        if not isinstance(work, Work):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"queue_work_from_thread needs a Work, not {work!r}")
        self.letters.post(work)

    @overload
    async def run(self, fn: Callable[[Unpack[Ts]], Awaitable[T]], *args: *Ts) -> T: ...
    @overload
    async def run(self, fn: Callable[[Unpack[Ts]], T], *args: *Ts) -> T: ...
    @enable_ki_protection
    async def run(self, fn: Callable[[Unpack[Ts]], object], *args: *Ts) -> object:
        """Queue ``fn(*args)`` as an item of its own and give back its result or raise its error, to this caller only.

        Put ``with trio.fail_after(seconds):`` around it for a timeout: cancelling the caller withdraws a pending item,
        interrupts a running one, and waits for its end. An item that calls it is parked while it waits, for room too
        (`queue_work_wait`). Always a checkpoint. `run_on` chooses the CPU.

        Raises:
          DestroyedError: somebody else ended the item first: its supervisor was cancelled.
          and whatever `queue_work` raises.
        """
        return await run_item(cast("Workqueue", self), Work(fn, *args))

    @overload
    async def run_on(self, cpu: int, fn: Callable[[Unpack[Ts]], Awaitable[T]], *args: *Ts) -> T: ...
    @overload
    async def run_on(self, cpu: int, fn: Callable[[Unpack[Ts]], T], *args: *Ts) -> T: ...
    @enable_ki_protection
    async def run_on(self, cpu: int, fn: Callable[[Unpack[Ts]], object], *args: *Ts) -> object:
        """As `Workqueue.run`, on a simulated CPU of the caller's choice (kernel: ``work_on_cpu``).

        ValueError if there is no such CPU.
        """
        return await run_item(cast("Workqueue", self), Work(fn, *args), self.pwq_of(cpu))

    @overload
    async def schedule_on_each_cpu(self, fn: Callable[[Unpack[Ts]], Awaitable[T]], *args: *Ts) -> list[T]: ...
    @overload
    async def schedule_on_each_cpu(self, fn: Callable[[Unpack[Ts]], T], *args: *Ts) -> list[T]: ...
    @enable_ki_protection
    async def schedule_on_each_cpu(self, fn: Callable[[Unpack[Ts]], object], *args: *Ts) -> object:
        """`run_on` each simulated CPU at once, and the results in the order of the CPUs (kernel: same name).

        It waits for all of them, also if one raises (but for a DeadlockError, which ends them all). Cancelling the
        caller withdraws those that are pending, and interrupts those that run and waits for their ends. In an ordered
        queue they run one after another. Always a checkpoint; inside an item the caller is parked while it waits.

        Raises:
          ExceptionGroup: of whatever some of them have raised, or what `run` would.
        """
        return await run_on_each_cpu(cast("Workqueue", self), lambda: Work(fn, *args))
