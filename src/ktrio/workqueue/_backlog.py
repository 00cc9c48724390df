"""A bounded backlog: how many items of one queue may be pending, and who waits in line for room.

`max_pending` bounds what is accepted and has not begun: the items that memory is full of if producers are faster than
workers. Room comes about when an item begins or is withdrawn, or when the limit is raised. It goes to the first in line
in the same synchronous stretch: his item is queued for him there and then, with his context, and he is woken to learn
of it. So room is never reserved, nobody overtakes, and whoever is cancelled in line has nothing to give back.

*Chained* queueing, from inside an item of this queue or from a task that it started, is accepted beyond the limit and
never waits. The room that it would wait for is made by the very items that would stand in that line: with an ordered
queue, or from a child task whose item holds the slot, that wait never ends; and elsewhere it would trade a pending item
for a parked run, which is larger.
"""

from __future__ import annotations

from collections import OrderedDict
from contextvars import Context, copy_context
from functools import partial
from typing import TYPE_CHECKING, final

import trio
from trio.lowlevel import Abort, enable_ki_protection

from ktrio.workqueue._awaited import Room, RunEnd
from ktrio.workqueue._current import enclosing_workers
from ktrio.workqueue._errors import BacklogFullError, DeadlockError, SupervisorClosedError, WorkqueueError
from ktrio.workqueue._followers import Followers, Watcher
from ktrio.workqueue._parking import parked_while_waiting
from ktrio.workqueue._policy import has_room
from ktrio.workqueue._result import Caller, Outcome
from ktrio.workqueue._waits import Wait

if TYPE_CHECKING:
    from ktrio.workqueue._lane import Lane, LaneLine
    from ktrio.workqueue._pwq import PoolWorkqueue
    from ktrio.workqueue._queue import Workqueue
    from ktrio.workqueue._work import Work

__all__ = ["Backlog", "RoomWaiter", "wait_for_run"]


@final
class RoomWaiter:
    """One who waits for room, with all that queueing needs of him.

    Legend: I set once · S changed only in one synchronous stretch.
    """

    __slots__ = ("context", "lane", "outcome", "pwq", "task", "watcher", "work")

    def __init__(self, work: Work, pwq: PoolWorkqueue | None, watcher: Watcher | None, lane: Lane | None) -> None:
        """`pwq` is where the item is to go, and in which `lane`; `watcher` is to follow the queueing."""
        self.work = work  # I
        self.pwq = pwq  # I
        self.watcher = watcher  # I
        self.lane = lane  # I
        self.context: Context = copy_context()  # I
        self.task = trio.lowlevel.current_task()  # I
        self.outcome: Outcome | None = None  # S: what `queue_work` gave or raised, once it was called

    def tell(self, outcome: Outcome) -> None:
        """Out of the line: wake him."""
        self.outcome = outcome
        trio.lowlevel.reschedule(self.task)


def wait_for_run(work: Work) -> Wait:
    """The wait of who has called `Workqueue.run`; if it could never end, nothing is left of the item."""
    try:
        return Wait("run", RunEnd(work, 1))
    except DeadlockError:
        work.cancel()
        raise


@final
class Backlog:
    """The limit of one queue, and the line before it.

    Legend: I set once · S changed only in one synchronous stretch.
    """

    __slots__ = ("_line", "_pwqs", "_wq", "limit")

    def __init__(self, wq: Workqueue, pwqs: tuple[PoolWorkqueue, ...], limit: int) -> None:
        self._wq = wq  # I
        self._pwqs = pwqs  # I
        self._line: OrderedDict[RoomWaiter, None] = OrderedDict()  # S: oldest first
        self.limit = 0  # S
        self.set_limit(limit)

    @property
    def waiting(self) -> int:
        """How many stand in line."""
        return len(self._line)

    def set_limit(self, limit: int) -> None:
        """Change it; 0 is none, and then the pwqs do not ask. ValueError if negative."""
        if limit < 0:
            raise ValueError(f"max_pending must be 0 (for no limit) or more, not {limit}")
        self.limit = limit
        for pwq in self._pwqs:
            pwq.backlog = self if limit else None
        self.room()

    def refuse_if_full(self) -> None:
        """BacklogFullError if there is no room, and the caller is not one of the queue's own items."""
        wq = self._wq
        if has_room(wq.pending, self.limit) and not self._line:
            return
        if not any(worker.pwq.wq is wq for worker in enclosing_workers()):
            raise BacklogFullError(f"{wq!r} has {wq.pending} items pending, and max_pending is {self.limit}")

    def queue_watched(
        self,
        work: Work,
        watcher: Watcher | None,
        waiter: RoomWaiter | None = None,
        lane: Lane | None = None,
        pwq: PoolWorkqueue | None = None,
    ) -> bool:
        """As `queue_work`, for who has waited for room, if given; `watcher` follows the queueing if it is accepted.

        Who has not waited may say to which `pwq`.
        """
        line = lane.line() if lane is not None and not work.is_pending else None
        follower = watcher or line
        if follower is None or work.is_pending:
            return self._queue(work, waiter, line, pwq)
        work._followers, accepted = Followers(follower), False
        try:
            accepted = self._queue(work, waiter, line, pwq)
        finally:
            if not accepted:
                work._followers = None
            if line is not None:
                line.forget_if_empty()
        if accepted:
            follower.accepted(work)
        return accepted

    def _queue(self, work: Work, waiter: RoomWaiter | None, line: LaneLine | None, pwq: PoolWorkqueue | None) -> bool:
        if waiter is None:
            return self._wq._queue(work, pwq, False, line=line)
        return self._wq._queue(work, waiter.pwq, False, waiter.context, waiter.task, line)

    async def queue_when_room(self, work: Work, watcher: Watcher | None = None, lane: Lane | None = None) -> bool:
        """`Workqueue.queue_work_wait`; `watcher` follows the queueing if it is accepted."""
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            accepted = self.queue_watched(work, watcher, lane=lane)
        except BacklogFullError:
            pass
        else:
            await trio.lowlevel.cancel_shielded_checkpoint()
            return accepted
        wait = Wait("queue_work_wait", Room(self._wq))
        return await parked_while_waiting(partial(self._wait, work, watcher, lane), wait)

    async def run_when_room(self, work: Work, caller: Caller, pwq: PoolWorkqueue | None) -> object:
        """`Workqueue.run` on a full queue."""
        if not await Wait("run", Room(self._wq)).sleep(partial(self._wait, work, caller, None, pwq)):
            raise SupervisorClosedError(f"{self._wq!r} belongs to a supervisor that is being left")
        return await wait_for_run(work).sleep(caller.wait)

    @enable_ki_protection
    async def _wait(
        self, work: Work, watcher: Watcher | None, lane: Lane | None, pwq: PoolWorkqueue | None = None
    ) -> bool:
        """Stand in line until the item is queued; what `queue_work` returns or raises then."""
        waiter = RoomWaiter(work, pwq or self._wq._choose_pwq(), watcher, lane)
        self._line[waiter] = None

        def abort(_raise_cancel: object) -> Abort:
            del self._line[waiter]
            return Abort.SUCCEEDED

        waiter.task.custom_sleep_data = waiter  # what `Wait.sleep` asks of everybody
        await trio.lowlevel.wait_task_rescheduled(abort)
        assert waiter.outcome is not None
        return bool(waiter.outcome.unwrap())

    def room(self) -> None:
        """There may be room now: let in who stands first in line."""
        while self._line and has_room(self._wq.pending, self.limit):
            waiter, _ = self._line.popitem(last=False)
            try:
                waiter.tell(Outcome(self.queue_watched(waiter.work, waiter.watcher, waiter, waiter.lane), None))
            except WorkqueueError as error:  # closed meanwhile, or the item runs elsewhere
                waiter.tell(Outcome(None, error))

    def recheck_gate(self) -> None:
        """The gate was shut: those in line that it does not let through learn of it now."""
        for waiter in list(self._line):
            try:
                if self._wq._gate.admits_chained(waiter.task):
                    continue
                outcome = Outcome(False, None)
            except WorkqueueError as error:
                outcome = Outcome(None, error)
            del self._line[waiter]
            waiter.tell(outcome)
