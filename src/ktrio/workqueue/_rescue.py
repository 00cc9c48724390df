"""Rescuers: a queue with `WQ_MEM_RECLAIM` gets on even while its pools are full (kernel: ``rescuer_thread``).

In the kernel a pool can be stuck because no thread can be made; here it is stuck when every place is taken by items
that block, and perhaps wait for just what stands in the worklist. So:

* A pool that such a queue uses has a *mayday* timer. It runs while something waits there and every place is taken. When
  an item of the queue has waited for `MAYDAY_INITIAL_TIMEOUT`, to begin or to come back from `parked`, and no other of
  that pwq has done so meanwhile, the pwq calls for its queue's rescuer; if that does not help, again after each
  `MAYDAY_INTERVAL`.
* The *rescuer* is one worker for the whole queue, a task of the supervisor's nursery. It goes to the pool and runs the
  pwq's items, oldest first and one after the other, while the pool is full; after `RESCUER_BATCH` of them it gives way
  to other pwqs of its queue that have called. Then it leaves the rest to the pool. To one that comes back, which has a
  worker, it gives its place, and waits until that run has ended.

A rescuer brings a place with it and takes it away again: `Pool.capacity` is higher by one while it runs an item. So an
item that blocks, blocks the rescuer and takes nothing from the pool; one that parks lends that place to others and
comes back like any other (P2), but takes it back, beyond the capacity, when it would call for the rescuer that it has.
In a bound pool it does not count in `nr_running`. It can always run *one* item: two of the same queue that wait for
each other are still a deadlock, as in the kernel ("one such queue per dependency level").

An item of such a queue that waits for one of a queue without rescuer gives the promise away: that is logged, once for
each pair of queues (kernel: ``check_flush_dependency``).
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from math import inf
from typing import TYPE_CHECKING, Final, TypeAlias, final
from weakref import WeakSet

import trio
from trio.lowlevel import ParkingLot, enable_ki_protection

from ktrio.workqueue._parking import ReturnToken
from ktrio.workqueue._policy import needs_rescue
from ktrio.workqueue._timer import Timer
from ktrio.workqueue._work import Work
from ktrio.workqueue._worker import Worker

if TYPE_CHECKING:
    from ktrio.workqueue._pool import Pool
    from ktrio.workqueue._pwq import PoolWorkqueue
    from ktrio.workqueue._queue import Workqueue
    from ktrio.workqueue._supervisor import Supervisor
    from ktrio.workqueue._waits import Wait

__all__ = ["Mayday", "Rescuer"]

log = logging.getLogger("ktrio.workqueue")

# Seconds; all three are the kernel's, by the same names.
MAYDAY_INITIAL_TIMEOUT: Final = 0.010
MAYDAY_INTERVAL: Final = 0.100
RESCUER_BATCH: Final = 16


Progress: TypeAlias = "tuple[int, ReturnToken | None]"


@final
class Mayday:
    """Of one pool: which of its pwqs may call for a rescuer, and when (kernel: ``pool_mayday_timeout``).

    Legend: I set once · S changed only in one synchronous stretch.
    """

    __slots__ = ("_pool", "_seen", "_timer")

    def __init__(self, pool: Pool) -> None:
        self._pool = pool  # I
        self._seen: dict[PoolWorkqueue, Progress] = {}  # S: how far each had come at the last look
        self._timer = Timer(pool.supervisor.timers, self._fire)  # I

    def add(self, pwq: PoolWorkqueue) -> None:
        """This pwq has a rescuer."""
        self._seen[pwq] = (pwq.started, None)

    def forget(self, pwq: PoolWorkqueue) -> None:
        """Its queue was destroyed."""
        self._seen.pop(pwq, None)

    def look(self) -> None:
        """Something waits at a full pool, or a worker goes idle: is it time to begin to count, or to stop?"""
        pool = self._pool
        if not pool.worklist:
            self._timer.cancel()
        elif not self._timer.is_armed and self._is_distressed():
            self._seen = self._progress()
            self._timer.arm(trio.current_time() + MAYDAY_INITIAL_TIMEOUT)

    def _is_distressed(self) -> bool:
        pool = self._pool
        if pool.ending or not self._seen:
            return False
        return needs_rescue(pool.worklist.waiting, pool.occupied, pool.capacity, pool.nr_running)

    def _fire(self) -> None:
        if self._is_distressed():
            waiting = {_pwq_of(entry) for entry in self._pool.worklist}
            before, self._seen = self._seen, self._progress()
            delays = [self._call_for(pwq, before[pwq]) for pwq in self._seen if pwq in waiting]
            self._timer.arm(trio.current_time() + min(delays, default=inf))

    def _progress(self) -> dict[PoolWorkqueue, Progress]:
        """How far each pwq has come: how many have begun, and who is the first in line to come back."""
        first: dict[PoolWorkqueue, ReturnToken] = {}
        if self._pool.returners:
            for entry in self._pool.worklist:
                if isinstance(entry, ReturnToken):
                    first.setdefault(entry.worker.pwq, entry)
        return {pwq: (pwq.started, first.get(pwq)) for pwq in self._seen}

    def _call_for(self, pwq: PoolWorkqueue, before: Progress) -> float:
        """Call for a rescuer if it has come no further since the last look; gives the seconds until the next look."""
        (began_before, first_before), (began, first) = before, self._seen[pwq]
        if began != began_before or first_before not in (None, first):
            return MAYDAY_INITIAL_TIMEOUT
        assert pwq.wq.rescuer is not None
        # Called already and not come yet: it is busy, and will look around itself when it is free.
        return MAYDAY_INTERVAL if pwq.wq.rescuer.call(pwq) else inf


@final
class Rescuer:
    """The one worker that a queue can count on.

    Legend: I set once · T only by the rescuer's own task · S changed only in one synchronous stretch.
    """

    def __init__(self, wq: Workqueue, pwqs: tuple[PoolWorkqueue, ...]) -> None:
        self.name = f"kworker/R-{wq.name}"  # I
        self._wq = wq  # I
        self._pwqs = pwqs  # I
        self._distressed: OrderedDict[PoolWorkqueue, None] = OrderedDict()  # S: who has called, oldest first
        self._calls = ParkingLot()  # where it waits for a call
        self._charge: Worker | None = None  # T: whose run has its place, its own or that of one it has brought back
        self._warned: WeakSet[Workqueue] = WeakSet()  # S: whom its items have waited for
        self._stopping = False  # S
        self._stopped = trio.Event()
        for pwq in pwqs:
            if pwq.pool.mayday is None:
                pwq.pool.mayday = Mayday(pwq.pool)
            pwq.pool.mayday.add(pwq)

    def call(self, pwq: PoolWorkqueue) -> bool:
        """Mayday; False if it has been called there already and not come yet (kernel: ``send_mayday``)."""
        has_lent_its_place = self._charge is not None and self._charge.parked
        for entry in pwq.pool.worklist if has_lent_its_place else ():
            if isinstance(entry, ReturnToken) and entry.worker is self._charge:
                _admit(entry)  # it takes that back
                pwq.overshoot += pwq.pool.occupied > pwq.pool.capacity
                return True
        if pwq in self._distressed:
            return False
        self._distressed[pwq] = None
        pwq.mayday += 1
        self._calls.unpark_all()
        return True

    @enable_ki_protection
    async def run(self) -> None:
        """Rescue until stopped or cancelled."""
        worker = Worker(self._pwqs[0].pool, 0)
        worker.name, worker.is_rescuer = self.name, True
        table = worker.enrol()
        try:
            while not self._stopping:
                if self._distressed:
                    pwq, _ = self._distressed.popitem(last=False)
                    await self._rescue(worker, pwq)
                else:
                    await self._calls.park()
        finally:
            worker.close()
            del table[worker.task]
            self._stopped.set()

    async def stop(self) -> None:
        """Its queue is destroyed, and empty."""
        self._stopping = True
        self._calls.unpark_all()
        for pwq in self._pwqs:
            if pwq.pool.mayday is not None:
                pwq.pool.mayday.forget(pwq)
        await self._stopped.wait()

    async def _rescue(self, worker: Worker, pwq: PoolWorkqueue) -> None:
        pool = worker.pool = pwq.pool
        for _ in range(RESCUER_BATCH):
            entry = self._take(pwq)
            if entry is None:
                break
            pwq.rescued += 1
            if isinstance(entry, ReturnToken):
                self._charge = entry.worker
                await _bring_back(entry)
            else:
                self._charge = worker
                pool.capacity += 1  # until the run ends: see Pool.count_again
                pool.occupied += 1
                worker.cpu_intensive = True
                await _run_apart(worker, entry)
            self._charge = None
            await trio.lowlevel.checkpoint()
        else:
            self._distressed.setdefault(pwq)  # there may be more of them: after the others
        if pool.mayday is not None:  # those that are left may have to call again; and a free place has found its worker
            pool.mayday.look()

    def _take(self, pwq: PoolWorkqueue) -> Work | ReturnToken | None:
        """The oldest item of `pwq` that waits at its pool, or one that wants to come back, which stays in line.

        None: none, or the pool needs no rescue any more.
        """
        pool = pwq.pool
        if pool.ending or not needs_rescue(pool.worklist.waiting, pool.occupied, pool.capacity, pool.nr_running):
            return None
        for entry in pool.worklist:
            if _pwq_of(entry) is pwq:
                if isinstance(entry, Work):
                    pool.worklist.remove(entry)
                return entry
        return None

    def check_flush_dependency(self, wait: Wait) -> None:
        """An item of this rescuer's queue is about to wait: log it if that is for a queue without (kernel: same)."""
        wq = wait.awaited.wq
        if wq is None or wq.rescuer is not None or wq in self._warned:
            return
        self._warned.add(wq)
        log.warning(
            "%r of %r, which has a rescuer, waits for %r, which has none: a full pool can hold up both",
            wait.worker.work if wait.worker is not None else None,
            self._wq,
            wq,
        )

    def __repr__(self) -> str:
        return f"<Rescuer {self.name} calls={len(self._distressed)}>"


@final
class Loan:
    """The place of a rescuer's that a run has which came back: a watcher of that run. Both attributes: I."""

    __slots__ = ("_pool", "over")
    is_owner = False
    owner_deadline = inf

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.over = trio.Event()
        pool.capacity += 1

    def accepted(self, work: Work) -> None:
        """See `Watcher`."""

    def returned(self, work: Work, value: object) -> None:
        """See `Watcher`."""
        self._give_back()

    def failed(self, work: Work, error: Exception) -> bool:
        """See `Watcher`: the error is none of its business."""
        self._give_back()
        return False

    def unfinished(self, work: Work, why: str, ending: Supervisor | None = None) -> None:
        """See `Watcher`."""
        self._give_back()

    def _give_back(self) -> None:
        self._pool.capacity -= 1
        self.over.set()


def _pwq_of(entry: Work | ReturnToken) -> PoolWorkqueue | None:
    return entry.worker.pwq if isinstance(entry, ReturnToken) else entry._pwq


def _admit(token: ReturnToken) -> None:
    """Let it come back now, whether there is a place or not."""
    token.worker.pool.remove(token)
    token.worker.returned()
    trio.lowlevel.reschedule(token.worker.task)


async def _bring_back(token: ReturnToken) -> None:
    """Lend it the rescuer's place until its run has ended."""
    loan = Loan(token.worker.pool)
    token.worker.followers().add(loan)
    _admit(token)
    await loan.over.wait()


async def _run_apart(worker: Worker, work: Work) -> None:
    """Run one item and report it, outside the life of a worker. The item has a place."""
    worker._interrupted = False
    worker._step_began = worker._now()
    with trio.CancelScope() as worker._scope:
        suspended = worker._run(work)
        if suspended is not None:
            await worker._run_on(suspended)
