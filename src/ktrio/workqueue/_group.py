"""Groups: what is queued through one is waited for, cancelled and judged together, like the children of a nursery.

A nursery starts each child at once, as a task of its own. A group queues: its members are items of one workqueue, which
start when that has a slot for them, in its order, may park, and may be queued again; the rest of the queue is not the
group's. What is the same: leaving the block waits for all members; an error, of the block or of a member, cancels the
block and all members, and what leaves is one strict ExceptionGroup; members may bring in more members.

A member's errors go to its group and not to the queue's `on_error`, because the block is nearer: somebody stands there
who waits for these very items, and can do something about it.

A membership is one queueing. The same item may be a member twice, running and queued again; and a queueing of a member
item by anybody else is none of the group's business.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from math import inf
from typing import TYPE_CHECKING, NoReturn, TypeVar, final, overload

import trio
from trio.lowlevel import Abort, enable_ki_protection

from ktrio.workqueue._awaited import Members
from ktrio.workqueue._current import enclosing_workers
from ktrio.workqueue._errors import DeadlockError, DestroyedError, GroupClosedError
from ktrio.workqueue._followers import Followers, wait_until_over
from ktrio.workqueue._parking import parked_while_waiting
from ktrio.workqueue._protected_block import protected_block
from ktrio.workqueue._waits import Wait
from ktrio.workqueue._work import Work

if TYPE_CHECKING:
    from ktrio.workqueue._awaited import Queueing
    from ktrio.workqueue._queue import Workqueue
    from ktrio.workqueue._supervisor import Supervisor

__all__ = ["WorkGroup", "map_items", "open_group"]

T = TypeVar("T")
A = TypeVar("A")


@final
class WorkGroup:
    """Items of one workqueue that are waited for together. Made by `Workqueue.open_group`.

    Legend: I set once · T only by the task that opened it · S changed only in one synchronous stretch.
    """

    is_owner = True

    def __init__(self, wq: Workqueue) -> None:
        self._wq = wq  # I
        self.cancel_scope = trio.CancelScope()  # I: around the block; when it is cancelled, so are the members
        self._outer_deadline = trio.current_effective_deadline()  # I: around the block
        self.opener = next(enclosing_workers(), None)  # I: whose item the block is in
        self._members: Counter[Work] = Counter()  # S: queueings in flight
        self._in_line: set[trio.CancelScope] = set()  # S: of those who wait for room for a member
        self._errors: list[BaseException] = []  # S: of members
        self._ending: list[Work] = []  # S: members that have ended the supervisor
        self._lost: str | None = None  # S: what became of a member that others have ended
        self._values: dict[Work, object] | None = None  # I, by `map_items`: of members that have come to their end
        self._leaver: trio.lowlevel.Task | None = None  # T: set only while it waits for the last member
        self._is_cancelled = False  # S
        self._is_closed = False  # S: left, and the last member has ended

    @property
    def in_flight(self) -> int:
        """Members accepted and not finished."""
        return self._members.total()

    @enable_ki_protection
    def queue_work(self, work: Work) -> bool:
        """As `Workqueue.queue_work`, as a member; plain function, for members, the block, and anybody else.

        False also if the group was cancelled. A queueing of the item that is pending already does not become a member.

        Raises:
          GroupClosedError: the block was left and its last member has ended.
          and whatever `Workqueue.queue_work` raises.
        """
        return self._admits(work) and self._wq._backlog.queue_watched(work, self)

    @enable_ki_protection
    async def queue_work_wait(self, work: Work) -> bool:
        """As `queue_work`, but waits for room as `Workqueue.queue_work_wait` does. Always a checkpoint."""
        if not self._admits(work):
            await trio.lowlevel.checkpoint()
            return False
        accepted = False
        with trio.CancelScope() as scope:
            self._in_line.add(scope)
            try:
                accepted = await self._wq._backlog.queue_when_room(work, self)
            finally:
                self._in_line.remove(scope)
                self._wake_leaver()
        return accepted

    def _admits(self, work: Work) -> bool:
        if self._is_closed:
            raise GroupClosedError(f"{self!r} was left: {work!r} cannot be queued through it")
        return not self._is_cancelled

    @enable_ki_protection
    async def flush(self) -> None:
        """Wait until every member accepted so far has ended or been withdrawn, and for no other item.

        Always a checkpoint; inside an item the caller is parked while it waits.

        Raises:
          DeadlockError: called from inside a member, or if all members certainly wait for the caller.
        """
        for worker in enclosing_workers():
            if worker._followers is not None and worker._followers.has(self):
                raise DeadlockError(f"{self!r}.flush() was called from inside {worker.work!r}, one of its members")
        await wait_until_over([followers for _, followers in self.memberships()], Members(self))

    @enable_ki_protection
    def cancel(self, reason: str | None = None) -> None:
        """Withdraw the members that are pending, interrupt those that run, and cancel the block; does not wait.

        As ``nursery.cancel_scope.cancel()`` does. From now on `queue_work` returns False.
        """
        self._wq.refuse_other_threads()
        if self._is_cancelled:
            return
        self._is_cancelled = True
        self.cancel_scope.cancel(reason=reason)
        for scope in self._in_line:
            scope.cancel(reason=reason)
        while self._ending:
            self._over(self._ending.pop())
        for work in list(self._members):
            memberships = self._memberships(work)
            if work._followers in memberships:
                work.cancel()
            if work._worker is not None and work._worker._followers in memberships:
                work.interrupt(reason)

    def memberships(self) -> list[Queueing]:
        """Its members, but for those that have ended the supervisor."""
        return [(work, followers) for work in self._members for followers in self._memberships(work)]

    @property
    def is_left_to_itself(self) -> bool:
        """Is there nothing arranged that will cancel it, but what its members and its block may do?"""
        is_bounded = self.cancel_scope.cancel_called or self.cancel_scope.deadline != inf
        return not (is_bounded or self._is_cancelled or self._in_line)

    def _memberships(self, work: Work) -> list[Followers]:
        run = work._worker._followers if work._worker is not None else None
        return [followers for followers in (run, work._followers) if followers is not None and followers.has(self)]

    # -- as a watcher of its members

    @property
    def owner_deadline(self) -> float:
        """See `Watcher`."""
        return min(self.cancel_scope.deadline, self._outer_deadline)

    def accepted(self, work: Work) -> None:
        """See `Watcher`."""
        self._members[work] += 1

    def returned(self, work: Work, value: object) -> None:
        """See `Watcher`."""
        if self._values is not None:
            self._values[work] = value
        self._over(work)

    def failed(self, work: Work, error: Exception) -> bool:
        """See `Watcher`: the error is the group's."""
        self._errors.append(error)
        self._over(work)
        self.cancel(f"{work!r} failed")
        return True

    def unfinished(self, work: Work, why: str, ending: Supervisor | None = None) -> None:
        """See `Watcher`. What others withdraw or interrupt they have their reasons for: that is no error."""
        if ending is not None:
            self._ending.append(work)
            ending.settle_in_the_end(self, why)
            return
        self._lost = f"{work!r} {why}"
        self._over(work)

    def settle_unfinished(self, why: str) -> None:
        """A member has ended the supervisor, and that has ended now."""
        if self._ending:  # else the block was cancelled along with it, and needs no error
            self.unfinished(self._ending.pop(0), why)

    def _over(self, work: Work) -> None:
        self._members[work] -= 1
        if not self._members[work]:
            del self._members[work]
        self._wake_leaver()

    # -- the end of the block

    async def leave(self, errors: list[BaseException]) -> None:
        """Wait for the last member, then raise what there is; `errors` is what the block has raised."""
        if errors:
            self.cancel("the block of the group has raised")
        wait = None
        try:
            wait = Wait("leave", Members(self)) if self._is_busy else None
        except DeadlockError as error:
            errors.append(error)
            self.cancel("waiting for its members would never end")
        try:
            if self._is_busy:
                await parked_while_waiting(self._wait_for_last, wait)
            else:
                self._is_closed = True
                await trio.lowlevel.cancel_shielded_checkpoint()
        except BaseException as error:  # Cancelled or KeyboardInterrupt, of this very task
            errors.append(error)
        errors += self._errors
        if not errors and self._lost is not None and self._wq.supervisor.is_cancelled and not self._is_cancelled:
            errors.append(DestroyedError(self._lost))
        if errors and all(isinstance(error, trio.Cancelled) for error in errors):
            raise errors[0]
        if errors:
            raise BaseExceptionGroup(f"errors of a group on workqueue {self._wq.name!r}", errors)

    @property
    def _is_busy(self) -> bool:
        return bool(self._members or self._in_line)

    @enable_ki_protection
    async def _wait_for_last(self) -> None:
        raise_cancel: Callable[[], NoReturn] | None = None

        def abort(raise_it: Callable[[], NoReturn]) -> Abort:
            nonlocal raise_cancel
            raise_cancel = raise_it
            self.cancel("the block of the group was cancelled")
            return Abort.FAILED  # as a nursery: the members have to end first

        self._leaver = trio.lowlevel.current_task()
        self._leaver.custom_sleep_data = self  # what `Wait.sleep` asks of everybody
        await trio.lowlevel.wait_task_rescheduled(abort)
        if raise_cancel is not None:
            raise_cancel()

    def _wake_leaver(self) -> None:
        if self._leaver is not None and not self._is_busy:
            self._is_closed = True  # here and now: whoever runs before the leaver would bring in what nobody waits for
            leaver, self._leaver = self._leaver, None
            trio.lowlevel.reschedule(leaver)

    def __repr__(self) -> str:
        state = " closed" if self._is_closed else " cancelled" if self._is_cancelled else ""
        return f"<WorkGroup on {self._wq.name!r} in_flight={self.in_flight}{state}>"


@protected_block
async def open_group(wq: Workqueue) -> AsyncGenerator[WorkGroup]:
    """See `Workqueue.open_group`."""
    group = WorkGroup(wq)
    with group.cancel_scope:
        errors: list[BaseException] = []
        try:
            yield group
        except BaseException as error:
            errors.append(error)
        await group.leave(errors)


@overload
async def map_items(wq: Workqueue, fn: Callable[[A], Awaitable[T]], args: Iterable[A]) -> list[T]: ...
@overload
async def map_items(wq: Workqueue, fn: Callable[[A], T], args: Iterable[A]) -> list[T]: ...
async def map_items(wq: Workqueue, fn: Callable[[A], object], args: Iterable[A]) -> object:
    """See `Workqueue.map`."""
    works: list[Work] = []
    async with open_group(wq) as group:
        group._values = values = dict[Work, object]()
        for arg in args:
            works.append(Work(fn, arg))
            await group.queue_work_wait(works[-1])
    if not works:
        await trio.lowlevel.checkpoint()
    for work in works:
        if work not in values:
            raise DestroyedError(f"{work!r} of {wq!r}.map() was withdrawn or interrupted by somebody else")
    return [values[work] for work in works]
