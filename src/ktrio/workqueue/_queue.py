"""Workqueue: accept work, respect `max_active`, keep order, flush, drain (kernel: ``struct workqueue_struct``)."""

from __future__ import annotations

from collections.abc import Hashable
from contextvars import Context, copy_context
from itertools import cycle
from threading import get_ident
from typing import TYPE_CHECKING, Final, final

import trio
from trio.lowlevel import Task, enable_ki_protection

from ktrio.workqueue._attrs import WorkqueueAttrs, WorkqueueFlags, effective_max_active
from ktrio.workqueue._awaited import InFlight
from ktrio.workqueue._backlog import Backlog
from ktrio.workqueue._current import enclosing_workers
from ktrio.workqueue._delayed import Delayed
from ktrio.workqueue._directed import DirectedQueueing
from ktrio.workqueue._errors import BusyError
from ktrio.workqueue._flush import ColourLine
from ktrio.workqueue._gate import Gate
from ktrio.workqueue._lane import LaneLine
from ktrio.workqueue._letters import Letters
from ktrio.workqueue._parking import parked_while_waiting
from ktrio.workqueue._periodic import Periodic
from ktrio.workqueue._pwq import PoolWorkqueue
from ktrio.workqueue._rate import RateLimit
from ktrio.workqueue._result import Store
from ktrio.workqueue._statistics import WorkqueueStatistics, workqueue_statistics
from ktrio.workqueue._waits import Wait, refuse_own_wait
from ktrio.workqueue._work import Pending, Work

if TYPE_CHECKING:
    from ktrio.workqueue._rescue import Rescuer
    from ktrio.workqueue._supervisor import Supervisor

__all__ = ["Workqueue"]

_NOT: Final = Pending.NOT
_ACTIVE: Final = Pending.ACTIVE


@final
class Workqueue(DirectedQueueing):
    """A domain of work: its limits, its errors, what is flushed and drained together. It owns no workers.

    Made by `Supervisor.alloc_workqueue`.

    Legend: I set once · S changed only in one synchronous stretch.
    """

    def __init__(self, supervisor: Supervisor, attrs: WorkqueueAttrs, max_active: int, max_pending: int = 0) -> None:
        self._supervisor = supervisor  # I
        self._thread = supervisor.thread  # I
        self._attrs = attrs  # I
        self.max_active = effective_max_active(max_active)  # S, by set_max_active; read only for users
        self.colours = ColourLine()  # I
        self.waits: dict[trio.lowlevel.Task, Wait] = {}  # S: of tasks inside its items, for others
        self.returns: dict[trio.lowlevel.Task, Wait] = {}  # S: of its items, from `parked`
        self._instruments = supervisor.instruments  # I
        self.is_ordered: bool = attrs.ordered  # I: does it run one item at a time, in the order of queueing?
        pools = supervisor.pool_of_ordered(attrs.flags) if attrs.ordered else supervisor.pools_for(attrs.flags)
        self._pwqs = tuple(PoolWorkqueue(self, pool) for pool in pools)  # I
        self._deal = cycle(self._pwqs)  # S: round robin for queueings from outside
        self.letters = Letters(self)  # I; its content N
        self._gate = Gate(self, supervisor)  # I; its content S
        self.delayed = Delayed(self, supervisor)  # I; its content S
        self.periodic = Periodic(self, supervisor)  # I; its content S
        self._store = Store(attrs.name) if attrs.on_error == "store" else None  # I; its content S
        self._has_more = len(self._pwqs) > 1 or self._store is not None  # I: a pwq to choose, or a store to tell
        self.lanes: dict[Hashable, LaneLine] = {}  # S: those that are not empty
        self._backlog = Backlog(self, self._pwqs, max_pending)  # I; its content S
        self.rate_limit = RateLimit(self, supervisor, self._pwqs)  # I; its content S
        self.rescuer: Rescuer | None = None  # I, by the supervisor

    @property
    def name(self) -> str:
        """The name it was allocated with."""
        return self._attrs.name

    @property
    def flags(self) -> WorkqueueFlags:
        """What it was allocated with."""
        return self._attrs.flags

    @property
    def supervisor(self) -> Supervisor:
        """The supervisor that it was allocated from."""
        return self._supervisor

    @property
    def pwqs(self) -> tuple[PoolWorkqueue, ...]:
        """Its share of each pool, one for each simulated CPU; only one if it is ordered."""
        return self._pwqs

    @property
    def cpus(self) -> int:
        """How many simulated CPUs it spans; it has as many pwqs, or one for all of them if it is ordered."""
        return self._supervisor.cpus

    @property
    def max_pending(self) -> int:
        """Items that may be pending before queueing from outside is refused or waits; 0: no limit."""
        return self._backlog.limit

    # -- queueing

    @enable_ki_protection
    def queue_work(self, work: Work, *, parked: bool = False) -> bool:
        """Queue an item (kernel: ``queue_work``); plain function, never blocks, never yields.

        Returns True if this call made it pending, False if it was pending already (then nothing changes), while it is
        disabled (`Work.disable`) or a `Work.cancel_sync` of it waits, or when an item queues while the supervisor is
        being left for good. Called inside an item it goes to that item's CPU, else CPUs take turns; a running item is
        queued where it runs.

        With `parked` it starts parked: at once, without slot or place, until its first return from
        ``async with parked():``. Not in an ordered queue (ValueError), where nothing starts out of its turn.

        Raises:
          DrainingError: the queue is draining and this is not called from inside one of its items.
          DestroyedError: the queue was destroyed.
          SupervisorClosedError: its supervisor was left, or is being cancelled.
          BusyError: the item is running on another queue.
          BacklogFullError: the queue has `max_pending` items pending, and this is not called from inside one of its
            items, whose queueing is accepted beyond the limit. `queue_work_wait` waits instead.
        """
        # Most queueings come down to this: one pwq, a slot, and nobody to ask. Whatever is not plain asks below.
        pwq = self._pwqs[0]
        gate = self._gate
        if (
            parked
            or work._pending is not _NOT
            or work._worker is not None
            or work._disabled
            or pwq.inactive
            or pwq.nr_active >= self.max_active
            or pwq.backlog is not None
            or pwq.rate is not None
            or gate.draining
            or gate.destroyed
            or self._supervisor.leaving
            or self._has_more
            or self._instruments.are_there
            or get_ident() != self._thread
        ):
            return self._queue(work, None, parked)
        work._colour = colour = self.colours.current
        work._context = copy_context()
        work._pwq = pwq
        work._pending = _ACTIVE
        work._starts_parked = False
        colour.in_flight += 1
        pwq.accepted += 1
        pwq.nr_active += 1
        pool = pwq.pool
        if pool.starting and pool.occupied < pool.capacity and not pool.returners:
            pool.worklist.append(work)  # who is on his way will see it
        else:
            pool.add(work)
        return True

    @enable_ki_protection
    def queue_work_on(self, cpu: int, work: Work, *, parked: bool = False) -> bool:
        """As `queue_work`, on a simulated CPU of the caller's choice (kernel: ``queue_work_on``).

        ValueError if there is no such CPU. An item that is running is queued where it runs; and in an ordered queue all
        CPUs are one.
        """
        return self._queue(work, self.pwq_of(cpu), parked)

    def pwq_of(self, cpu: int) -> PoolWorkqueue:
        """Its share of that simulated CPU; ValueError if there is none."""
        if not 0 <= cpu < self.cpus:
            raise ValueError(f"workqueue {self.name!r} has CPUs 0 to {self.cpus - 1}, not {cpu}")
        return self._pwqs[0 if self.is_ordered else cpu]

    @enable_ki_protection
    async def queue_work_wait(self, work: Work) -> bool:
        """As `queue_work`, but if the queue has `max_pending` items pending wait for room.

        Those who wait are let in in the order of their coming, each with the context of his call. Always a checkpoint;
        inside an item of another queue the caller is parked while it waits. From inside the queue's own items it never
        waits. If the queue is drained or destroyed, or its supervisor left, whoever waits gets the error that
        `queue_work` would raise. Cancelling it leaves nothing behind.

        Raises:
          DeadlockError: there certainly will be no room before the caller goes on.
          and what `queue_work` raises, but for BacklogFullError.
        """
        return await self._backlog.queue_when_room(work)

    def _queue(
        self,
        work: Work,
        pwq: PoolWorkqueue | None,
        parked: bool,
        context: Context | None = None,
        task: Task | None = None,
        line: LaneLine | None = None,
    ) -> bool:
        """Queue now; or, with a `context`, what was asked for in it earlier, by `task`, and has its room."""
        if get_ident() != self._thread:  # `refuse_other_threads`
            self.refuse_other_threads()
        if work._pending is not _NOT or work._disabled:
            return False
        gate = self._gate
        if (gate.draining or gate.destroyed or self._supervisor.leaving) and not gate.admits_chained(task):
            return False
        if work._worker is not None:
            pwq = work._worker.pwq
            if pwq.wq is not self:
                raise BusyError(f"{work!r} runs on {pwq.wq!r}: it cannot be queued on {self!r} before that run ends")
        elif pwq is None:
            pwq = self._pwqs[0] if len(self._pwqs) == 1 else self._choose_pwq()
        if parked and self.is_ordered:
            raise ValueError(f"workqueue {self.name!r} is ordered: {work!r} cannot start parked, out of its turn")
        if pwq.backlog is not None and context is None:
            pwq.backlog.refuse_if_full()
        if self._instruments.queue_work is not None:
            self._instruments.tell_queue_work(work, pwq)
        if self._store is not None:
            self._store.queued(work)
        work._colour = colour = self.colours.current
        work._context = copy_context() if context is None else context
        colour.in_flight += 1
        if line is None:
            pwq.insert(work, parked=parked)
        else:
            line.insert(work, pwq)
        return True

    def refuse_other_threads(self) -> None:
        """Books touched from elsewhere would be torn, and nobody woken; ask before any change.

        RuntimeError: not inside the loop that runs this queue's supervisor.
        """
        # A thread runs one loop at a time, and after it the gate is shut. Asking for the loop costs five times as much.
        if get_ident() != self._thread:
            raise RuntimeError(f"{self!r} was used from outside its loop: use trio.from_thread.run_sync")

    def _choose_pwq(self) -> PoolWorkqueue:
        if self.is_ordered:
            return self._pwqs[0]
        for worker in enclosing_workers():
            if worker.pool.supervisor is self._supervisor:
                return self._pwqs[worker.pool.cpu]
        return next(self._deal)

    # -- waiting

    @enable_ki_protection
    async def flush(self) -> None:
        """Wait until everything accepted so far has ended or been cancelled (kernel: ``flush_workqueue``).

        Later queueings are not waited for. Always a checkpoint; inside an item of another queue the caller is parked
        while it waits. Flushes that began earlier end no later. Cancelling it leaves nothing behind.

        Raises:
          DeadlockError: called from inside an item of this queue, or of one that certainly waits for the caller.
        """
        refuse_own_wait(self, "flush")
        await self._flush("flush")

    async def _flush(self, what: str) -> None:
        colour = self.colours.close_current()
        if colour is None:
            await trio.lowlevel.checkpoint()
        else:
            await parked_while_waiting(colour.lot().park, Wait(what, InFlight(self, colour)))

    @enable_ki_protection
    async def drain(self) -> None:
        """Wait until the queue is empty; meanwhile only its own items may queue on it (kernel: ``drain_workqueue``).

        Chained queueing is accepted to any depth: an item that queues itself for ever is drained for ever. Drains may
        overlap. Always a checkpoint. Parked items are waited for like any other.

        Raises:
          DeadlockError: called from inside an item of this queue, or as for `flush`.
        """
        await self._drain("drain")

    async def _drain(self, what: str) -> None:
        refuse_own_wait(self, what)
        self._gate.draining += 1
        self._backlog.recheck_gate()
        try:
            await self._flush(what)
            while self.in_flight:
                await self._flush(what)
        finally:
            self._gate.draining -= 1

    @enable_ki_protection
    async def destroy(self) -> None:
        """Drain the queue, then close it (kernel: ``destroy_workqueue``). Again: harmless. Always a checkpoint.

        Items whose timer still runs are discarded (the kernel forgets them, and queues them later on what is gone).

        Raises:
          DeadlockError: called from inside an item of this queue, or as for `flush`.
        """
        refuse_own_wait(self, "destroy")
        if self._gate.destroyed:
            await trio.lowlevel.checkpoint()
            return
        await self._drain("destroy")
        self._gate.destroyed = True
        self.cancel_timers()
        self._supervisor.forget(self)
        if self._store is not None:
            self._store.close()
        if self.rescuer is not None:
            await self.rescuer.stop()

    # -- the rest

    @enable_ki_protection
    def set_max_pending(self, max_pending: int) -> None:
        """Change the limit of pending items; 0 means none. ValueError if negative.

        Raising it lets in those who wait for room, as far as it goes; lowering it withdraws nothing.
        """
        self.refuse_other_threads()
        self._instruments.refuse_inside("set_max_pending")
        self._backlog.set_limit(max_pending)

    @enable_ki_protection
    def set_max_active(self, max_active: int) -> None:
        """Change the number of slots per simulated CPU; 0 means 256 (kernel: ``workqueue_set_max_active``).

        Raising it lets waiting items start at once; lowering it cancels nothing, the count only falls. ValueError
        outside 0 to 65 536, and for an ordered queue, whose one slot is its order.
        """
        self.refuse_other_threads()
        self._instruments.refuse_inside("set_max_active")
        if self.is_ordered:
            raise ValueError(f"workqueue {self.name!r} is ordered: its max_active is 1 and stays so")
        self.max_active = effective_max_active(max_active)
        for pwq in self._pwqs:
            pwq.promote()

    @enable_ki_protection
    def discard_all(self) -> None:
        """The supervisor has ended: nothing that is pending will ever run."""
        self.cancel_timers()
        for line in list(self.lanes.values()):
            line.discard_waiting()
        for pwq in self._pwqs:
            for entry in [*pwq.inactive, *pwq.pool.worklist]:
                if isinstance(entry, Work) and entry._pwq is pwq:
                    entry.cancel()
        if self._store is not None:
            self._store.close()

    @property
    def pending(self) -> int:
        """Items accepted and not started."""
        return sum([pwq.accepted - pwq.started for pwq in self._pwqs])

    @property
    def in_flight(self) -> int:
        """Items accepted and not finished."""
        return sum(pwq.in_flight for pwq in self._pwqs)

    def statistics(self) -> WorkqueueStatistics:
        """The counts of this moment."""
        return workqueue_statistics(self)

    def __repr__(self) -> str:
        now = self.statistics()
        state = " destroyed" if now.destroyed else " draining" if now.draining else ""
        state += " frozen" if now.frozen else ""
        per_cpu = f" x {len(self._pwqs)}" if len(self._pwqs) > 1 else ""
        rate = f" rate={now.rate}" if now.rate is not None else ""
        return (
            f"<Workqueue {self.name!r} active={now.nr_active}/{self.max_active}{per_cpu} inactive={now.inactive} "
            f"parked={now.parked}{rate}{state}>"
        )
