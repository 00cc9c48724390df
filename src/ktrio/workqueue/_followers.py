"""Who follows one queueing to its end: those who flush it, and those who want to know what became of it.

Most queueings have no followers, and then none of this exists. The first one makes the object; it hangs on the item
while the queueing is pending, and goes over to the worker when the run begins, so that a queueing accepted meanwhile
has followers of its own. There are two kinds:

* *flushers* wait in a lot, and are woken by the end, however it comes;
* *watchers* are told how it came: a caller that waits for the result, the queue that stores it, a group, a lane.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING, Protocol, final

import trio
from trio.lowlevel import ParkingLot

from ktrio.workqueue._parking import parked_while_waiting
from ktrio.workqueue._waits import Wait

if TYPE_CHECKING:
    from ktrio.workqueue._awaited import Awaited
    from ktrio.workqueue._lane import LaneLine
    from ktrio.workqueue._supervisor import Supervisor
    from ktrio.workqueue._work import Work

__all__ = ["Followers", "Watcher", "wait_until_over"]


class Watcher(Protocol):
    """One who is told what became of a queueing, by exactly one of the last three, after the books were closed."""

    @property
    def is_owner(self) -> bool:
        """Does it withdraw the queueing, or interrupt the run, if it is cancelled itself?"""
        ...

    @property
    def owner_deadline(self) -> float:
        """When it certainly is, if it is an owner; infinite: nobody knows."""
        ...

    def accepted(self, work: Work) -> None:
        """The queueing was accepted; it has not begun. (Of those who are there from the beginning.)"""

    def returned(self, work: Work, value: object) -> None:
        """The run came to its end."""

    def failed(self, work: Work, error: Exception) -> bool:
        """The run raised. True takes the error: then the queue's `on_error` does not see it."""
        ...

    def unfinished(self, work: Work, why: str, ending: Supervisor | None = None) -> None:
        """The queueing was withdrawn, or its run interrupted; or it raised what ends the supervisor (`ending`)."""


@final
class Followers:
    """Those who follow one queueing. All attributes are changed only in one synchronous stretch (S)."""

    __slots__ = ("_flushers", "_watchers", "is_over", "lane")

    def __init__(self, *watchers: Watcher) -> None:
        self._flushers: ParkingLot | None = None  # S: made by the first flusher
        self._watchers: list[Watcher] = [*watchers]  # S
        self.is_over = False  # S: ended or withdrawn
        self.lane: LaneLine | None = None  # S: one of the watchers, if it was queued through a lane

    def lot(self) -> ParkingLot:
        """Where flushers wait."""
        if self._flushers is None:
            self._flushers = ParkingLot()
        return self._flushers

    def add(self, watcher: Watcher) -> None:
        """Tell this one as well; those who came earlier are told first."""
        self._watchers.append(watcher)

    def remove(self, watcher: Watcher) -> None:
        """Do not tell this one any more, if it has not been told."""
        if watcher in self._watchers:
            self._watchers.remove(watcher)

    def has(self, watcher: Watcher) -> bool:
        """Will this one be told?"""
        return watcher in self._watchers

    @property
    def has_owner(self) -> bool:
        """Does somebody withdraw the queueing if he is cancelled himself?"""
        return any(watcher.is_owner for watcher in self._watchers)

    def has_deadline(self, outer: float) -> bool:
        """Will an owner end the queueing or its run at a time that is known, other than `outer`?"""
        return any(watcher.is_owner and watcher.owner_deadline not in (inf, outer) for watcher in self._watchers)

    def leave_lane(self, work: Work) -> None:
        """The queueing goes on by itself: it was moved to a timer."""
        lane, self.lane = self.lane, None
        if lane is not None:
            self.remove(lane)
            lane.left(work)

    def returned(self, work: Work, value: object) -> None:
        """The run came to its end."""
        self._release()
        for watcher in self._take_watchers():
            watcher.returned(work, value)

    def failed(self, work: Work, error: Exception) -> bool:
        """The run raised; True if somebody takes the error."""
        self._release()
        taken = False
        for watcher in self._take_watchers():
            taken |= watcher.failed(work, error)
        return taken

    def unfinished(self, work: Work, why: str, ending: Supervisor | None = None) -> None:
        """The run was interrupted, or raised what ends the supervisor."""
        self._release()
        for watcher in self._take_watchers():
            watcher.unfinished(work, why, ending)

    def withdrawn(self, work: Work) -> None:
        """The queueing will never run. Its flushers wait for the run before it as well, if that is under way."""
        if self._flushers is not None and work._worker is not None:
            self._flushers.repark_all(work._worker.followers().lot())
        self.unfinished(work, "was discarded before it began")

    def _release(self) -> None:
        self.is_over = True
        if self._flushers is not None:
            self._flushers.unpark_all()

    def _take_watchers(self) -> list[Watcher]:
        watchers, self._watchers = self._watchers, []
        return watchers


async def wait_until_over(queueings: Sequence[Followers], awaited: Awaited) -> None:
    """Wait until each of these has ended or been withdrawn. Always a checkpoint; an item is parked meanwhile."""
    if all(followers.is_over for followers in queueings):
        await trio.lowlevel.checkpoint()
        return

    async def wait() -> None:
        for followers in reversed(queueings):  # the last first: when that is over, most often all are
            if not followers.is_over:
                await followers.lot().park()

    await parked_while_waiting(wait, Wait("flush", awaited))
