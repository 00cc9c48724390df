"""Keyed lanes: items queued through the same lane of a queue run one after the other, in the order of their queueing.

A queue has as many lanes as there are keys in use, and what runs in different lanes runs side by side, up to
`max_active`: so events of one customer keep their order while customers do not wait for each other. An ordered queue
for each key would do the same, but each would be a queue to name, to limit and to destroy.

The lane feeds the queue one item at a time. Its first, the *head*, is queued like any other; those behind wait in the
lane (`Pending.LANED`): accepted, so in flight, in their colour, withdrawn and discarded like any other, but in no line
for slots, so they hold up nobody. When the head has ended or was withdrawn, the next is queued, at the end of the
queue's line: a long lane has no more of the queue than a short one. It goes to the CPU chosen when it was accepted.

A parked head keeps the lane, because order is what the lane promises (as P7 of ordered queues), but no slot.

A lane exists from the first item to the last, and an empty one costs nothing. `Lane`, what users hold, is a name.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from math import inf
from typing import TYPE_CHECKING, final

from trio.lowlevel import enable_ki_protection

from ktrio.workqueue._awaited import InLane
from ktrio.workqueue._current import enclosing_workers
from ktrio.workqueue._errors import DeadlockError
from ktrio.workqueue._followers import wait_until_over
from ktrio.workqueue._work import Pending, Work

if TYPE_CHECKING:
    from ktrio.workqueue._awaited import Queueing
    from ktrio.workqueue._pwq import PoolWorkqueue
    from ktrio.workqueue._queue import Workqueue
    from ktrio.workqueue._supervisor import Supervisor

__all__ = ["Lane", "LaneLine"]


@final
class LaneLine:
    """The items of one lane that is not empty: a watcher of each.

    Legend: I set once · S changed only in one synchronous stretch.
    """

    __slots__ = ("_key", "_lanes", "head", "waiting")
    is_owner = False
    owner_deadline = inf

    def __init__(self, lanes: dict[Hashable, LaneLine], key: Hashable) -> None:
        self._lanes = lanes  # I: of the queue; this one is in there as long as it is not empty
        self._key = key  # I
        self.head: Work | None = None  # S: on the queue, or running
        self.waiting: OrderedDict[Work, None] = OrderedDict()  # S: oldest first
        lanes[key] = self

    def insert(self, work: Work, pwq: PoolWorkqueue) -> None:
        """Take a queueing that the queue has accepted: onto the queue if it is the first, else into the lane."""
        work.followers().lane = self
        if self.head is None:
            self.head = work
            pwq.insert(work, parked=False)
        else:
            pwq.accepted += 1
            work._pwq, work._pending = pwq, Pending.LANED
            self.waiting[work] = None

    def forget_if_empty(self) -> None:
        """A lane is there as long as somebody is in it."""
        if self.head is None and self._lanes.get(self._key) is self:
            del self._lanes[self._key]

    def discard_waiting(self) -> None:
        """The supervisor has ended."""
        for work in list(self.waiting):
            work.cancel()

    def left(self, work: Work) -> None:
        """A queueing of `work` in this lane is over, or was taken out: it waited, or it was the head."""
        if work in self.waiting and work._pending is not Pending.LANED:
            del self.waiting[work]
        else:
            self._advance()

    def _advance(self) -> None:
        self.head = None
        if self.waiting:
            self.head, _ = self.waiting.popitem(last=False)
            pwq = self.head._pwq
            assert pwq is not None
            pwq.accepted -= 1  # it is counted again
            pwq.insert(self.head, parked=False)
        else:
            self.forget_if_empty()

    # -- as a watcher

    def accepted(self, work: Work) -> None:
        """See `Watcher`."""

    def returned(self, work: Work, value: object) -> None:
        """See `Watcher`."""
        self._advance()

    def failed(self, work: Work, error: Exception) -> bool:
        """See `Watcher`: an error is no concern of the lane's, the next one runs."""
        self._advance()
        return False

    def unfinished(self, work: Work, why: str, ending: Supervisor | None = None) -> None:
        """See `Watcher`."""
        self.left(work)


@final
class Lane:
    """One ordered lane of a workqueue. Made by `Workqueue.lane`; all with the same key are the same lane.

    Both attributes: I.
    """

    __slots__ = ("_wq", "key")

    def __init__(self, wq: Workqueue, key: Hashable) -> None:
        hash(key)
        self._wq = wq
        self.key = key
        """What tells it from the queue's other lanes."""

    def line(self) -> LaneLine:
        """The items in it; made if there are none."""
        return self._wq.lanes.get(self.key) or LaneLine(self._wq.lanes, self.key)

    @property
    def in_flight(self) -> int:
        """Items accepted through this lane and not finished."""
        line = self._wq.lanes.get(self.key)
        return 0 if line is None else 1 + len(line.waiting)

    @enable_ki_protection
    def queue_work(self, work: Work) -> bool:
        """As `Workqueue.queue_work`: the item starts when all that were queued through this lane before it have ended.

        Plain function. An item that is pending already is not moved into the lane.
        """
        return self._wq._backlog.queue_watched(work, None, lane=self)

    @enable_ki_protection
    async def queue_work_wait(self, work: Work) -> bool:
        """As `queue_work`, but waits for room as `Workqueue.queue_work_wait`, and takes its turn when it is let in."""
        return await self._wq._backlog.queue_when_room(work, None, lane=self)

    @enable_ki_protection
    async def flush(self) -> None:
        """Wait until everything accepted through this lane so far has ended or been withdrawn.

        Always a checkpoint; inside an item of another lane, or none, the caller is parked while it waits.

        Raises:
          DeadlockError: called from inside an item of this lane, or of one that certainly waits for the caller.
        """
        line = self._wq.lanes.get(self.key)
        queueings: list[Queueing] = []
        if line is not None and line.head is not None:
            for worker in enclosing_workers():
                if worker._followers is not None and worker._followers.lane is line:
                    raise DeadlockError(
                        f"{self!r}.flush() was called from inside {worker.work!r}, an item of that lane"
                    )
            head, run = line.head, line.head._worker
            of_head = [head._followers, run._followers if run is not None else None]
            queueings = [(head, each) for each in of_head if each is not None and each.lane is line]
            queueings += [(work, work.followers()) for work in line.waiting if work is not head]
        await wait_until_over([followers for _, followers in queueings], InLane(self, queueings))

    def __repr__(self) -> str:
        return f"<Lane {self.key!r} of {self._wq.name!r} in_flight={self.in_flight}>"
