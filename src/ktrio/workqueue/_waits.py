"""Who waits for what: the live wait-for graph, and the deadlocks in it that are certain (kernel: lockdep's report).

Each wait for an item, a queue, or what is made of them (`ktrio.workqueue._awaited`) that a task inside an item begins
stands in the books of that item's queue for as long as it lasts. The last wait that closes a certain cycle raises
DeadlockError at once and names everything on it (`ktrio.workqueue._wait_graph`).

*Certain* means that nothing arranged by anybody can end it; only a cancellation out of the blue could. In detail:

* A run is *stuck* if each of its tasks, its own and all below that one in the tree, either is in a wait that is stuck,
  or has come to the end of its innermost nursery and waits for the tasks in there. One task that does anything else may
  cancel the others, so then nothing is certain.
* A wait for an item is stuck if that run is; or if the queueing it waits for has not begun and cannot: because the run
  before it is stuck, or because every slot is held by a run that is stuck. A run that waits has parked, and holds no
  slot; but one whose child task waits does, and in an ordered queue every run does (P7).
* A wait for a queue, or a lane, is stuck if one of the runs that it waits for is.
* A wait for a group is stuck if every member is, and the run that has opened it: any of them may raise, which cancels
  all of them.
* A wait for room is stuck if all that is pending waits for slots, and these are held by runs that are stuck.
* A freeze is stuck if a run of a queue that is to be frozen is stuck and keeps its slot. A thaw would let go of it, but
  it would never be complete.
* A return from `parked` is stuck as a queueing is that cannot begin. This is the one deadlock that parking brings: a
  child task waits for a parked item, while its own item holds the slot that this one needs to come back.
* A wait that has a deadline, any but those around the whole supervisor, is not stuck: it will end, and then its item
  goes on. Nor is a run, or a queueing, that a caller of `run` or a group with a deadline will end then.

A wait for the item or queue that the caller is in is a cycle of one, and always an error: it cannot end well whatever
happens.

What closes a cycle without beginning a wait (the end of a sibling task, the end of a nursery's block) raises nothing;
the watchdog will name those.

The search is made only by a wait inside an item that somebody waits for, so long chains cost nothing.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar, final

import trio
from trio.lowlevel import enable_ki_protection

from ktrio.workqueue._current import enclosing_workers
from ktrio.workqueue._errors import DeadlockError
from ktrio.workqueue._wait_graph import refuse_certain_deadlock

if TYPE_CHECKING:
    from ktrio.workqueue._awaited import Awaited
    from ktrio.workqueue._queue import Workqueue
    from ktrio.workqueue._work import Work
    from ktrio.workqueue._worker import Worker

__all__ = ["Wait", "refuse_own_wait"]

T = TypeVar("T")


@final
class Wait:
    """One wait of a task inside an item.

    Made when it is about to begin, by the task that waits: raises DeadlockError if it could never end.
    All attributes: I.
    """

    __slots__ = ("_books", "awaited", "deadline", "task", "what", "worker")

    def __init__(self, what: str, awaited: Awaited) -> None:
        """`what` is for messages: the call, or "parked" for a return."""
        self.what = what
        self.awaited = awaited
        self.worker = next(enclosing_workers(), None)
        if self.worker is None:
            return
        self.task = trio.lowlevel.current_task()
        self.deadline = trio.current_effective_deadline()
        wq = self.worker.pwq.wq
        if wq.rescuer is not None and what not in ("cancel_sync", "parked"):
            wq.rescuer.check_flush_dependency(self)
        self._books = wq.returns if what == "parked" else wq.waits
        keeps_place = not self.worker.parked and self.task is not self.worker.task
        if is_waited_for(self.worker, keeps_slot=keeps_place or self.worker.pwq.keeps_slot):
            self._books[self.task] = self
            try:
                refuse_certain_deadlock(self)
            finally:
                del self._books[self.task]

    @enable_ki_protection
    async def sleep(self, sleep: Callable[[], Awaitable[T]]) -> T:
        """``await sleep()``, in the books.

        What sleeps sets `custom_sleep_data` of its task, as `trio.lowlevel.ParkingLot` does: Trio clears that when the
        task is scheduled, so it tells a task that waits from one that is about to go on.
        """
        if self.worker is None:
            return await sleep()
        self._books[self.task] = self
        try:
            return await sleep()
        finally:
            del self._books[self.task]

    @property
    def has_deadline(self) -> bool:
        """Will it end by itself? A deadline around the supervisor ends that, not this."""
        assert self.worker is not None
        return self.deadline not in (math.inf, self.worker.pool.deadline)

    def __repr__(self) -> str:
        if self.what == "parked":
            return "its return from parked()"
        if self.what == "leave":
            return f"the end of the block of {self.awaited.on!r}"
        return f"{self.awaited.on!r}.{self.what}()"


def is_waited_for(run: Worker, *, keeps_slot: bool) -> bool:
    """May anybody wait for this run, directly or not? Asked before the search, to spare it."""
    work, pwq = run.work, run.pwq
    assert work is not None
    if run._followers is not None or work._followers is not None or pwq.wq.colours.is_flushed:
        return True
    return keeps_slot and bool(pwq.inactive or pwq.pool.worklist)


def refuse_own_wait(on: Work | Workqueue, what: str) -> None:
    """A wait for what the caller is in never ends well. Ask before anything is changed."""
    for worker in enclosing_workers():
        if worker.work is on:
            raise DeadlockError(f"{on!r}.{what}() was called from inside that same item: it would wait for ever")
        if worker.pwq.wq is on:
            raise DeadlockError(f"{on!r}.{what}() was called from inside {worker.work!r}, an item of that queue")
