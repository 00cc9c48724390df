"""What tasks inside items wait for, and what would make such a wait hopeless: the edges of the wait-for graph.

A wait is stuck (`ktrio.workqueue._waits` says what that means) if it has *needs* and each of them is met. A need is met
by any one of its *reasons*: runs that are all stuck. So most waits have one need, with a reason for each run that they
wait for; who waits for a group, whose members may all be cancelled by any of them, has one for each member.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias, cast, final

from trio.lowlevel import Task

if TYPE_CHECKING:
    from ktrio.workqueue._flush import Colour
    from ktrio.workqueue._followers import Followers
    from ktrio.workqueue._group import WorkGroup
    from ktrio.workqueue._lane import Lane
    from ktrio.workqueue._parking import ReturnToken
    from ktrio.workqueue._pwq import PoolWorkqueue
    from ktrio.workqueue._queue import Workqueue
    from ktrio.workqueue._supervisor import Supervisor
    from ktrio.workqueue._waits import Wait
    from ktrio.workqueue._work import Work
    from ktrio.workqueue._worker import Worker

__all__ = ["Awaited", "Busy", "InFlight", "InLane", "Members", "Need", "Queueing", "Reason", "Return", "Room", "RunEnd"]

Reason: TypeAlias = "frozenset[Worker]"
"""Runs that must all be stuck."""
Need: TypeAlias = "tuple[Reason, ...]"
"""Met by any one of these."""
Queueing: TypeAlias = "tuple[Work, Followers]"
"""One queueing of an item, known by those who follow it."""


class Awaited(Protocol):
    """What one wait is for."""

    @property
    def on(self) -> object:
        """Whose call it is; for messages."""

    @property
    def wq(self) -> Workqueue | None:
        """The queue that has to get on, if it is one."""

    def needs(self, waiter: Worker) -> list[Need]:
        """What would make the wait of a task of `waiter` stuck, all of it; nothing: it is not."""
        ...


@final
class RunEnd:
    """The end of an item's run with this number. Both attributes: I."""

    __slots__ = ("number", "on")

    def __init__(self, on: Work, number: int) -> None:
        self.on = on
        self.number = number

    @property
    def wq(self) -> Workqueue | None:
        """See `Awaited`. None: it has never been queued."""
        return self.on._pwq.wq if self.on._pwq is not None else None

    def needs(self, waiter: Worker) -> list[Need]:
        """See `Awaited`."""
        return [tuple(_reasons_of_item(self.on, self.number))]


@final
class InFlight:
    """Whatever a flush of this colour waits for. Both attributes: I."""

    __slots__ = ("_colour", "on")

    def __init__(self, on: Workqueue, colour: Colour) -> None:
        self.on = on
        self._colour = colour

    @property
    def wq(self) -> Workqueue:
        """See `Awaited`."""
        return self.on

    def needs(self, waiter: Worker) -> list[Need]:
        """See `Awaited`: a run of it is enough."""
        covers = self.on.colours.covers
        return [tuple(frozenset({run}) for run in _waiting_runs(self.on) if covers(self._colour, run._colour))]


@final
class Return:
    """A slot and a place for an item that was parked. Both attributes: I."""

    __slots__ = ("_token", "on")

    def __init__(self, on: Workqueue, token: ReturnToken) -> None:
        self.on = on
        self._token = token  # it stands in line already

    @property
    def wq(self) -> Workqueue:
        """See `Awaited`."""
        return self.on

    def needs(self, waiter: Worker) -> list[Need]:
        """See `Awaited`."""
        return [tuple(_reasons_of_line(self._token, waiter.pwq))]


@final
class InLane:
    """Some queueings of a lane. Both attributes: I."""

    __slots__ = ("_queueings", "on")

    def __init__(self, on: Lane, queueings: Sequence[Queueing]) -> None:
        self.on = on
        self._queueings = queueings

    @property
    def wq(self) -> Workqueue:
        """See `Awaited`."""
        return self.on._wq

    def needs(self, waiter: Worker) -> list[Need]:
        """See `Awaited`: one of them is enough, as an error concerns no other."""
        return [tuple(reason for each in self._queueings for reason in _reasons_of_queueing(*each))]


@final
class Members:
    """All members of a group, or some. The attribute: I."""

    __slots__ = ("on",)

    def __init__(self, on: WorkGroup) -> None:
        self.on = on

    @property
    def wq(self) -> Workqueue:
        """See `Awaited`."""
        return self.on._wq

    def needs(self, waiter: Worker) -> list[Need]:
        """See `Awaited`: all of them, and whoever is inside its block, or one that gets on may cancel the others."""
        opener = self.on.opener
        if opener is None or not self.on.is_left_to_itself:
            return []
        members = [tuple(_reasons_of_queueing(*each)) for each in self.on.memberships()]
        if len(members) != self.on.in_flight:
            return []
        return members if opener is waiter else [*members, (frozenset({opener}),)]


@final
class Room:
    """Room in the backlog of a queue. The attribute: I."""

    __slots__ = ("on",)

    def __init__(self, on: Workqueue) -> None:
        self.on = on

    @property
    def wq(self) -> Workqueue:
        """See `Awaited`."""
        return self.on

    def needs(self, waiter: Worker) -> list[Need]:
        """See `Awaited`: on each CPU all that is pending waits for slots, and nobody is about to withdraw it."""
        found: list[Need] = []
        for pwq in self.on.pwqs:
            in_line = [cast("Work", entry) for entry in pwq.inactive if entry not in pwq.returners]
            if len(in_line) != pwq.pending or any(map(_may_be_withdrawn, in_line)):
                return []
            if in_line:
                found.append(tuple(_reasons_of_line(in_line[0], pwq)))
        return found


@final
class Busy:
    """The items of queues that are to be frozen, as long as they hold slots. Both attributes: I."""

    __slots__ = ("_freezable", "on")

    def __init__(self, on: Supervisor, freezable: Sequence[Workqueue]) -> None:
        self.on = on
        self._freezable = freezable

    @property
    def wq(self) -> None:
        """See `Awaited`."""
        return

    def needs(self, waiter: Worker) -> list[Need]:
        """See `Awaited`: one that keeps its slot is enough."""
        return [tuple(frozenset({run}) for wq in self._freezable for run in _runs(wq.waits) if _keeps_place(run))]


def _may_be_withdrawn(work: Work) -> bool:
    """Has its queueing somebody who withdraws it when he is cancelled himself?"""
    return work._followers is not None and work._followers.has_owner


def _reasons_of_queueing(work: Work, followers: Followers) -> Iterator[Reason]:
    if work._worker is not None and work._worker._followers is followers:
        yield frozenset({work._worker})
    elif work._followers is followers:
        yield from _reasons_of_item(work, work._runs + 1)


def _reasons_of_item(work: Work, number: int) -> Iterator[Reason]:
    worker, pwq = work._worker, work._pwq
    if worker is not None:
        # It is that run; or the one before it, and the queueing waited for begins after that.
        if number - work._runs in (0, 1):
            yield frozenset({worker})
    elif pwq is not None and number == work._runs + 1:
        if work._followers is not None and work._followers.has_deadline(pwq.pool.deadline):
            return  # it will be withdrawn
        line = work._followers.lane if work._followers is not None else None
        if line is None or line.head is None or line.head is work:
            yield from _reasons_of_line(work, pwq)
        else:  # it waits for the head of its lane
            yield from _reasons_of_item(line.head, line.head._runs + (line.head._worker is None))


def _reasons_of_line(entry: Work | ReturnToken, pwq: PoolWorkqueue) -> Iterator[Reason]:
    """Who stands in line for a slot, or with one for a place: stuck if those who have them all are."""
    if entry.waits_for_slot:
        waiting = _waiting_runs(pwq.wq)
        holders = frozenset(run for run in waiting if run.pwq is pwq and (pwq.keeps_slot or _keeps_place(run)))
        if holders and len(holders) == pwq.nr_active >= pwq.wq.max_active:
            yield holders
    elif entry.waits_for_place and pwq.wq.rescuer is None:  # a rescuer brings a place
        pool = pwq.pool
        waits = [wq.waits for wq in pool.supervisor.all_workqueues]
        holders = frozenset(run for each in waits for run in _runs(each) if run.pool is pool and _keeps_place(run))
        if len(holders) == pool.occupied >= pool.capacity:
            yield holders


def _waiting_runs(wq: Workqueue) -> set[Worker]:
    """Those of its runs that wait, or of which a task does."""
    return _runs(wq.waits) | _runs(wq.returns)


def _runs(waits: dict[Task, Wait]) -> set[Worker]:
    return {wait.worker for wait in waits.values() if wait.worker is not None}


def _keeps_place(run: Worker) -> bool:
    """Does it hold a place, and will it while it waits? It parks if its own task waits. So for its slot, but for P7."""
    return not run.parked and run.task not in run.pwq.wq.waits
