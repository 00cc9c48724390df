"""One pool: keep enough workers and no more (kernel: ``struct worker_pool``, ``create_worker``, ``idle_cull_fn``).

A pool has one worklist, a FIFO over all workqueues that share it, and workers, which are Trio tasks of its own nursery.
An idle worker waits in `idle`; the most recently idled is woken first, the longest idle is culled first. A worker woken
or created is `starting` until it runs: waking reserves nothing, it looks at the worklist again when it arrives.

A *bound* pool manages concurrency: a new item starts only while nobody of the pool runs, that is while every item that
has begun is asleep (`nr_running` is 0), and a worker goes on to the next item only while it runs alone. So at most one
item is on the loop's side of an await, but for sleepers that wake; who of them ends first finds that he is not alone
and goes idle. `ktrio.workqueue._sensor` says who is asleep. The others, *unbound* pools, start whatever has a slot.

A pool of *high priority* goes first: while it has an item that could start now, the normal pools of its CPU, bound and
unbound, start nothing new. The kernel leans on its CPU scheduler for this. Trio has no priorities; but as nobody who
runs is ever interrupted, who starts first is all there is to decide. A normal worker that finds nothing but this in its
way does not go idle: it gives the loop its turn and asks again. That ends soon, because what could start does, and it
needs nobody to wake it, whatever becomes of that item. Returners (P3) and items that start parked (P8) are not held.

`occupied` counts the items that run unparked, at most `capacity` of them but for overshoot (P4). Idle, starting and
spare workers hold no place. So there are never more workers than capacity + parked + the idle ones that culling keeps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import trio
from trio.lowlevel import ParkingLot, enable_ki_protection

from ktrio.workqueue._concurrency import ConcurrencyManagement
from ktrio.workqueue._idling import WOKEN
from ktrio.workqueue._line import Line
from ktrio.workqueue._parking import ReturnToken
from ktrio.workqueue._policy import (
    has_place,
    keep_working,
    may_start_working,
    need_more_worker,
    too_many_workers,
    wake_ups,
)
from ktrio.workqueue._statistics import PoolStatistics, pool_statistics
from ktrio.workqueue._worker import Worker

if TYPE_CHECKING:
    from ktrio.workqueue._rescue import Mayday
    from ktrio.workqueue._supervisor import Supervisor
    from ktrio.workqueue._work import Work

__all__ = ["Pool"]


@final
class Pool(ConcurrencyManagement):
    """The workers of one simulated CPU.

    Legend: I set once · T only by the pool's own task · S changed only in one synchronous stretch.
    """

    def __init__(
        self, supervisor: Supervisor, *, cpu: int, is_bound: bool, is_highpri: bool, capacity: int, idle_timeout: float
    ) -> None:
        self.supervisor = supervisor  # I
        self.watchdog = supervisor.watchdog  # I
        self.watched = False  # S: is the watchdog armed?
        self.cpu = cpu  # I
        self.is_bound = is_bound  # I
        self.is_highpri = is_highpri  # I
        self.name = f"ktrio pool {'' if is_bound else 'u'}{cpu}{'H' if is_highpri else ''}"  # I
        self.seniors: tuple[Pool, ...] = ()  # S, by the supervisor: the high-priority pools that go before this one
        self.capacity = capacity  # S: and one more for each rescuer at work here
        self.idle_timeout = idle_timeout  # S, seconds
        self.culling = trio.CancelScope()  # T: in it the pool's task sleeps until the next worker is due
        self.worklist = Line()  # I; its content S
        self.returners = 0  # S: tokens in the worklist
        self.idle: dict[Worker, None] = {}  # S: longest idle first
        self.nr_workers = 0  # S
        self.nr_running = 0  # S: always 0 if unbound
        self.finishing = 0  # S: of those counted, who have ended an item and will ask for the next
        self.doubts = 0  # S: how often a block under a cancelled scope, which may be none, found work waiting
        self.doubts_settled = 0  # S: those whose workers have had a turn since
        self.starting = 0  # S
        self.occupied = 0  # S
        self.parked = 0  # S
        self.created = self.culled = self.at_capacity = 0  # S
        self._crowded = ParkingLot()  # where the pool's task waits until there are too many idle workers
        self.deadline = float("inf")  # T: of the scopes around the supervisor
        self._nursery: trio.Nursery | None = None  # T: while `run` is inside it
        self._early: list[Work] = []  # S: items that start parked, assigned before `run` had begun
        self.mayday: Mayday | None = None  # S, by the first queue here that has a rescuer
        self.ending = False  # S: the supervisor is going: nothing begins any more, what waits is discarded at the end
        self.gated = False  # S: ending, or there are seniors to ask, before an item may be taken

    @enable_ki_protection
    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Own the workers until cancelled; in between, cull the idle ones. Starts with one worker."""
        self.deadline = trio.current_effective_deadline()
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                self._create_worker()
                early, self._early = self._early, []
                for work in early:
                    self.assign(work)
                task_status.started()
                while True:
                    await self._crowded.park()
                    await self._cull_until_few()
            finally:
                self._nursery = None
                self.ending = self.gated = True
                self.supervisor.pool_ended()

    # -- work comes in

    def add(self, entry: Work | ReturnToken) -> None:
        """Put an item or a token that holds a slot at the end of the worklist, and see that it is taken."""
        self.worklist.append(entry)
        if type(entry) is ReturnToken:
            self.returners += 1
        if self.occupied >= self.capacity:  # not `has_place`
            self._found_full()
        elif self.returners:
            self.kick()
        elif not self.starting:
            if self.is_bound or not self.idle or self._nursery is None:
                self.kick()
            else:  # what `kick` comes to then
                self._wake_or_create()

    def remove(self, entry: Work | ReturnToken) -> None:
        """Take an item or a token out of the worklist, wherever it stands."""
        self.worklist.remove(entry)
        if type(entry) is ReturnToken:
            self.returners -= 1
        elif self.returners:
            self._admit_returners(past_items=not self.items_may_start())  # one may stand behind what left

    def kick(self, *, more: int = 0) -> None:
        """Let what waits begin: tokens at the head at once, items by waking workers (kernel: ``kick_pool``).

        One worker on its way is enough when an item comes; an item that blocks asks for `more` beyond those.
        """
        if self.returners:
            self._admit_returners(past_items=not self.items_may_start())
        if self._nursery is None:  # over, or not begun: the first worker will look
            return
        if self.is_bound:
            if not need_more_worker(len(self.worklist), self.nr_running):
                if self.worklist and self.watchdog.wants:
                    self.watchdog.watch()
                return
            more = 0  # exactly one at a time: it wakes the next when it sleeps
        wanted = self.starting + more if more else 1
        room = self.capacity - self.occupied
        if self.worklist and room <= 0:
            self._found_full()
        for _ in range(wake_ups(wanted, self.worklist.waiting, room, self.starting)):
            self._wake_or_create()

    def _found_full(self) -> None:
        """Something waits, and every place is taken."""
        self.at_capacity += 1
        if self.watchdog.wants:
            self.watchdog.watch()
        if self.mayday is not None:
            self.mayday.look()

    def _admit_returners(self, *, past_items: bool) -> None:
        """Give the tokens whose turn it is what places there are; they need no worker.

        Those at the head of the worklist; `past_items` also those behind items that concurrency management or a senior
        pool holds up, as these hold up no returner (P3).
        """
        while self.returners and has_place(self.occupied, self.capacity):
            line = self.worklist if past_items else (self.worklist.first(),)
            token = next((entry for entry in line if type(entry) is ReturnToken), None)
            if token is None:
                return
            self.worklist.remove(token)
            self.returners -= 1
            token.worker.returned()
            trio.lowlevel.reschedule(token.worker.task)

    def items_may_start(self) -> bool:
        """Given a place, may one begin? Who is between two items does not hold it up: he asks next."""
        return self._is_calm() and not (self.gated and self._seniors_go_first())

    def _is_calm(self) -> bool:
        return not self.is_bound or need_more_worker(len(self.worklist), self.nr_running - self.finishing)

    def follow(self, *seniors: Pool) -> None:
        """From now on these pools go first."""
        self.seniors += seniors
        self.gated = self.gated or bool(self.seniors)

    def _could_start(self) -> bool:
        """Has it an item that could start now, as far as this pool is concerned?"""
        if self.worklist.waiting <= self.returners or self.ending:
            return False
        return has_place(self.occupied, self.capacity) and self._is_calm()

    def _seniors_go_first(self) -> bool:
        return any(pool._could_start() for pool in self.seniors)

    @property
    def is_held(self) -> bool:
        """Is there an item, and nothing but a senior pool in its way? Asked by a worker that was given none."""
        return bool(self.seniors) and self._could_start() and self._seniors_go_first()

    def take(self, worker: Worker) -> Work | None:
        """The next item for a worker that asks, with its place taken; None: nothing to do, or it may not start."""
        if not (self.is_bound or self.gated or self.returners):  # what the rest comes to then
            if not self.worklist or self.occupied >= self.capacity:
                return None
            self.occupied += 1
            item = self.worklist.popleft()
            if self.worklist.gone:
                self.worklist.trim()
            return item  # type: ignore[return-value]  # pyright: ignore[reportReturnType] - there are no returners
        may_run = not self.is_bound or self._may_run(worker)
        if self.gated and (self.ending or self._seniors_go_first()):
            may_run = False
        if self.returners:
            self._admit_returners(past_items=not may_run)
        if not (may_run and self.worklist) or not has_place(self.occupied, self.capacity):
            return None
        entry = self.worklist.take()
        assert type(entry) is not ReturnToken  # admitted above while there is a place
        if self.is_bound:
            self.count_in(worker, entry)
        self.occupied += 1
        if self.returners:
            self._admit_returners(past_items=self.is_bound)
        return entry

    def _may_run(self, worker: Worker) -> bool:
        question = keep_working if worker.counted else need_more_worker
        return question(len(self.worklist), self.nr_running)

    def assign(self, work: Work) -> None:
        """Give an item that starts parked a worker of its own, past worklist and capacity (P8)."""
        if self.ending and not self.idle:
            work.cancel()
            return
        if self._nursery is None and not self.ending:
            self._early.append(work)
            return
        worker = self._wake_or_create()
        worker.assigned = work
        work._worker_to_be = worker

    def unassign(self, work: Work) -> None:
        """The item was withdrawn before its worker ran."""
        worker, work._worker_to_be = work._worker_to_be, None
        if worker is not None:
            worker.assigned = None
        elif work in self._early:  # else the pool is ending, and it never got a worker
            self._early.remove(work)

    # -- workers

    def ensure_reserve(self) -> None:
        """A worker is about to start after waking: see that another one is in reserve (kernel: ``manage_workers``)."""
        if self.idle or self.ending:
            return
        if not may_start_working(len(self.idle), self.starting) and has_place(self.occupied, self.capacity):
            self._create_worker()

    def _wake_or_create(self) -> Worker:
        """Wake the most recently idled worker (invariant 31), or create one."""
        if not self.idle:
            return self._create_worker()
        worker, _ = self.idle.popitem()
        self.starting += 1
        trio.lowlevel.reschedule(worker.task, WOKEN)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        return worker

    def _create_worker(self) -> Worker:
        assert self._nursery is not None, "the pool is not running"
        worker = Worker(self, self.created)
        self.created += 1
        self.nr_workers += 1
        self.starting += 1
        self._nursery.start_soon(worker.run, name=worker.name)
        return worker

    def enter_idle(self, worker: Worker) -> None:
        """A worker found nothing to do (kernel: ``worker_enter_idle``)."""
        self.idle[worker] = None
        if self.watched and not self.occupied:
            self.watchdog.rest()
        if self.mayday is not None:
            self.mayday.look()
        if len(self.idle) > 2 and self._too_many():
            self._crowded.unpark_all()

    def _too_many(self) -> bool:
        return too_many_workers(len(self.idle), self.nr_workers - len(self.idle))

    async def _cull_until_few(self) -> None:
        """Cull whoever has been idle too long, oldest first, until few enough are left (kernel: ``idle_cull_fn``)."""
        while self._too_many():
            oldest = next(iter(self.idle))
            left = oldest.idle_since + self.idle_timeout - self.supervisor.hogs.now()
            if left <= 0:
                self._retire(oldest)
            else:
                with trio.move_on_after(left) as self.culling:
                    await trio.sleep_forever()

    def _retire(self, worker: Worker) -> None:
        """End an idle worker. It stops counting now, else it would pass for a busy one and end the culling early."""
        del self.idle[worker]
        self.nr_workers -= 1
        self.culled += 1
        worker.dying = True
        trio.lowlevel.reschedule(worker.task)

    def statistics(self) -> PoolStatistics:
        """The counts of this moment."""
        return pool_statistics(self)

    def __repr__(self) -> str:
        return (
            f"<Pool {'bound' if self.is_bound else 'unbound'}{' highpri' if self.is_highpri else ''} "
            f"cpu={self.cpu} workers={self.nr_workers} "
            f"idle={len(self.idle)} running={self.nr_running} occupied={self.occupied}/{self.capacity} "
            f"parked={self.parked} worklist={self.worklist.waiting}>"
        )
