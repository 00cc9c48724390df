"""pool_workqueue: one workqueue's share of one pool; slots, the inactive FIFO, promotion.

An item that finds no slot, or others already waiting, stands in `inactive`, in queue order, together with the tokens of
parked items that want to come back. Each slot given up promotes the first in line. A pwq never lets a slot idle while
somebody waits for it (invariant 12), and nobody overtakes (13, 14).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final, final

from ktrio.workqueue._attrs import WQ_CPU_INTENSIVE
from ktrio.workqueue._line import Line
from ktrio.workqueue._outcome import withdrawn
from ktrio.workqueue._parking import ReturnToken
from ktrio.workqueue._policy import has_slot
from ktrio.workqueue._statistics import PwqStatistics
from ktrio.workqueue._work import Pending, Work

if TYPE_CHECKING:
    from ktrio.workqueue._backlog import Backlog
    from ktrio.workqueue._pool import Pool
    from ktrio.workqueue._queue import Workqueue
    from ktrio.workqueue._rate import RateLimit

__all__ = ["PoolWorkqueue"]


# Looked up once: on the class of an enum that costs as much as two function calls.
_NOT: Final = Pending.NOT
_INACTIVE: Final = Pending.INACTIVE
_ACTIVE: Final = Pending.ACTIVE
_COLLIDED: Final = Pending.COLLIDED
_ASSIGNED: Final = Pending.ASSIGNED


@final
class PoolWorkqueue:
    """The pair of one workqueue and one pool (kernel: ``struct pool_workqueue``).

    Legend: I set once · S changed only in one synchronous stretch.
    """

    __slots__ = (
        "accepted",
        "assigned",
        "backlog",
        "cancelled",
        "cm_wakeups",
        "completed",
        "cpu_intensive",
        "cpu_time",
        "failed",
        "inactive",
        "instruments",
        "is_cpu_intensive",
        "keeps_slot",
        "mayday",
        "nr_active",
        "overshoot",
        "parked",
        "pool",
        "rate",
        "rescued",
        "returners",
        "started",
        "timed_out",
        "wq",
    )

    def __init__(self, wq: Workqueue, pool: Pool) -> None:
        self.wq = wq  # I
        self.pool = pool  # I
        self.backlog: Backlog | None = None  # S: the queue's, if it has a limit
        self.rate: RateLimit | None = None  # S: the queue's, if it has one
        self.instruments = pool.supervisor.instruments  # I
        self.is_cpu_intensive = pool.is_bound and WQ_CPU_INTENSIVE in wq.flags  # I: its items never count in nr_running
        self.keeps_slot: bool = wq.is_ordered  # I: who parks here gives back the place only (P7)
        self.nr_active = 0  # S: slots taken
        self.inactive = Line()  # I; its content S
        self.returners: OrderedDict[ReturnToken, None] = OrderedDict()  # S: the tokens in `inactive`
        self.accepted = 0  # S: queueings, but for those that were taken back
        self.parked = 0  # S
        self.assigned = 0  # S: items with a worker chosen for them, which start parked
        self.started = self.completed = self.failed = self.cancelled = self.overshoot = 0  # S
        self.cm_wakeups = self.cpu_intensive = self.timed_out = self.mayday = self.rescued = 0  # S
        self.cpu_time = 0.0  # S, seconds

    @property
    def in_flight(self) -> int:
        """Accepted, not finished."""
        return self.accepted - self.completed

    @property
    def pending(self) -> int:
        """Accepted, not started."""
        return self.accepted - self.started

    def insert(self, work: Work, *, parked: bool) -> None:
        """Take a queueing that the queue has accepted (kernel: ``insert_work``)."""
        self.accepted += 1
        work._pwq = self
        work._starts_parked = parked
        if work._worker is not None and (parked or not self.inactive):
            work._pending = _COLLIDED
        elif parked and not self.inactive.held:
            self._assign(work)
        elif (
            not self.inactive
            and self.nr_active < self.wq.max_active  # `has_slot`, and nobody in line
            and (self.rate is None or self.rate.take(self))
        ):
            self.nr_active += 1
            work._pending = _ACTIVE
            self.pool.add(work)
            if self.instruments.activate_work is not None:
                self.instruments.tell_activate_work(work, self)
        else:
            work._pending = _INACTIVE
            self.inactive.append(work)
            if self.pool.watchdog.wants:
                self.pool.watchdog.watch()

    def _assign(self, work: Work) -> None:
        """`work` starts parked: it needs no slot, only a worker."""
        work._pending = _ASSIGNED
        self.assigned += 1
        self.pool.assign(work)

    def begins_parked(self) -> None:
        """One of those begins."""
        self.assigned -= 1
        self.parked += 1
        if self.inactive.held:
            self.pool.supervisor.freezer.less_busy(self)

    def _activate(self, work: Work) -> None:
        """`work` holds a slot now: onto the worklist."""
        work._pending = _ACTIVE
        self.pool.add(work)
        if self.instruments.activate_work is not None:
            self.instruments.tell_activate_work(work, self)

    def promote(self) -> None:
        """Let the first in line have what slots there are (kernel: ``pwq_activate_first_inactive``)."""
        if self.inactive.held:
            self.pool.supervisor.freezer.less_busy(self)
            return
        while self.inactive and has_slot(self.nr_active, self.wq.max_active):
            first = self.inactive.take() if self.rate is None else self._take_within(self.rate)
            if first is None:
                return
            if type(first) is ReturnToken:
                del self.returners[first]
                self.nr_active += 1
                first.has_slot = True
                self.pool.add(first)
            elif first._worker is not None:
                first._pending = _COLLIDED  # P6: no slot of its own
            else:
                self.nr_active += 1
                self._activate(first)

    @property
    def is_busy(self) -> bool:
        """Is a slot taken by an item that is not parked, or will one begin without?"""
        return self.nr_active + self.assigned > (self.parked if self.keeps_slot else 0)

    def thawed(self) -> None:
        """The line is not held any more. Those in it that start parked wait for no slot."""
        for work in [entry for entry in self.inactive if type(entry) is not ReturnToken and entry._starts_parked]:
            self.inactive.remove(work)
            if work._worker is not None:
                work._pending = _COLLIDED
            else:
                self._assign(work)
        self.promote()

    def _take_within(self, rate: RateLimit) -> Work | ReturnToken | None:
        """The first in line, if the rate lets it go; else the first returner, which has started long ago; or nobody."""
        first = self.inactive.first()
        if type(first) is ReturnToken or first._worker is not None or rate.take(self):
            return self.inactive.take()
        token = next(iter(self.returners), None)
        if token is not None:
            self.inactive.remove(token)
        return token

    def release_slot(self) -> None:
        """Give up one slot and promote (kernel: ``pwq_dec_nr_active``)."""
        self.nr_active -= 1
        if self.inactive:
            self.promote()

    def succeed(self, work: Work, *, had_slot: bool) -> None:
        """A run has ended: hand its slot, if it had one, to the instance that was queued meanwhile (P6)."""
        held = self.inactive.held
        if work._starts_parked and not held:
            if had_slot:
                self.release_slot()
            self._assign(work)
        elif (
            had_slot
            and not held
            and self.nr_active <= self.wq.max_active
            and (self.rate is None or self.rate.take(self))
        ):
            self._activate(work)
        else:  # frozen, nothing to inherit, over the limit, or no token: first in line, it was queued before the others
            self.nr_active -= had_slot
            work._pending = _INACTIVE
            self.inactive.appendleft(work)
            self.promote()

    def ended_parked(self, work: Work) -> None:
        """A run has ended without leaving `parked`: without a slot, but in an ordered queue (P7)."""
        self.parked -= 1
        if work._pending is _COLLIDED:
            self.succeed(work, had_slot=self.keeps_slot)
        elif self.keeps_slot:
            self.release_slot()

    def withdraw(self, work: Work) -> None:
        """Take back a pending queueing: it will never run."""
        self.grab(work)
        self.cancelled += 1
        withdrawn(self.wq, work)

    def grab(self, work: Work) -> None:
        """Take a pending queueing out of wherever it waits; its colour is the caller's."""
        where = work._pending
        work._pending = _NOT
        if where is Pending.INACTIVE:
            self.inactive.remove(work)
            if self.rate is not None and not self.inactive:
                self.rate.leave(self)
        elif where is Pending.ACTIVE:
            self.pool.remove(work)
            self.release_slot()
        elif where is Pending.ASSIGNED:
            self.assigned -= 1
            self.pool.unassign(work)
            if self.inactive.held:
                self.pool.supervisor.freezer.less_busy(self)
        self.accepted -= 1

    def take_slot_nowait(self) -> bool:
        """A parked item comes back: take a slot if one is free and nobody is in line (P2).

        Who is in line although a slot is free waits for the rate, and that is no line for who has started. In an
        ordered queue it has its slot (P7).
        """
        if self.keeps_slot or self.inactive.held:
            return not self.inactive.held
        if (self.inactive and self.rate is None) or not has_slot(self.nr_active, self.wq.max_active):
            return False
        self.nr_active += 1
        return True

    def join_line(self, token: ReturnToken) -> ReturnToken:
        """Stand in line for a slot, or with the slot for a place (P2). The caller waits at once: nothing is woken."""
        if self.take_slot_nowait():
            token.has_slot = True
            self.pool.worklist.append(token)
            self.pool.returners += 1
            if self.pool.mayday is not None:
                self.pool.mayday.look()
        else:
            if self.keeps_slot:  # frozen: first in line, it will have its slot again before anybody
                self.nr_active -= 1
                self.inactive.appendleft(token)
            else:
                self.inactive.append(token)
            self.returners[token] = None
        return token

    def leave_line(self, token: ReturnToken) -> None:
        """A cancelled return: out of the line, wherever it stands; the slot, if it has one, stays with the worker."""
        if token.has_slot:
            self.pool.remove(token)
        else:
            self.inactive.remove(token)
            del self.returners[token]
            self.nr_active += self.keeps_slot

    def statistics(self) -> PwqStatistics:
        """The counts of this moment."""
        return PwqStatistics(
            cpu=self.pool.cpu,
            nr_active=self.nr_active,
            inactive=self.inactive.waiting,
            in_flight=self.in_flight,
            cm_wakeups=self.cm_wakeups,
            cpu_intensive=self.cpu_intensive,
            cpu_time=self.cpu_time,
        )

    def __repr__(self) -> str:
        return (
            f"<PoolWorkqueue {self.wq.name!r} cpu={self.pool.cpu} active={self.nr_active}/{self.wq.max_active} "
            f"inactive={self.inactive.waiting} in_flight={self.in_flight}>"
        )
