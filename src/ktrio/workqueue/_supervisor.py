"""Supervisor: the owner of every pool, of every worker, and of every workqueue allocated from it.

Its nursery has one child per simulated CPU, the pool's task, whose own nursery has the workers. Leaving the ``async
with`` block drains all queues and then retires the pools; an error or a cancellation cancels them. Errors of items
enter the nursery as a child that raises them, so leaving the block raises one ExceptionGroup that holds them directly,
whatever pool they ran in.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from threading import get_ident
from typing import Final, NamedTuple, NoReturn, cast, final

import trio
from trio.lowlevel import enable_ki_protection

from ktrio.workqueue._attributes import valid_capacity, valid_idle_timeout
from ktrio.workqueue._attrs import WQ_HIGHPRI, WQ_MEM_RECLAIM, WQ_UNBOUND, Rate, WorkqueueAttrs, WorkqueueFlags
from ktrio.workqueue._current import current_work, workers_of_this_run
from ktrio.workqueue._dump import dump
from ktrio.workqueue._errors import SupervisorClosedError
from ktrio.workqueue._freezer import Freezer
from ktrio.workqueue._gate import PATIENT_ROUNDS
from ktrio.workqueue._group import WorkGroup
from ktrio.workqueue._hogs import CPU_INTENSIVE_THRESHOLD, Hogs
from ktrio.workqueue._instruments import Instruments, WorkqueueInstrument
from ktrio.workqueue._loop_watchdog import LoopWatchdog
from ktrio.workqueue._pool import Pool
from ktrio.workqueue._protected_block import protected_block
from ktrio.workqueue._queue import Workqueue
from ktrio.workqueue._rescue import Rescuer
from ktrio.workqueue._result import Caller
from ktrio.workqueue._sensor import InstrumentSensor, trampoline_works
from ktrio.workqueue._statistics import SupervisorStatistics
from ktrio.workqueue._steering import Steering
from ktrio.workqueue._threads import thread_limiter
from ktrio.workqueue._timer import Timers
from ktrio.workqueue._watchdog import Watchdog, watchdog_threshold

__all__ = ["DEFAULT_CAPACITY", "IDLE_TIMEOUT", "Supervisor", "open_supervisor"]

log = logging.getLogger("ktrio.workqueue")

# Items a pool runs unparked at once: twice the default max_active, so that one queue cannot fill a pool.
DEFAULT_CAPACITY = 512
# Seconds a surplus idle worker is kept (kernel: IDLE_WORKER_TIMEOUT).
IDLE_TIMEOUT = 300.0


class PoolKind(NamedTuple):
    """What the pools of one set have in common; they sort in the order in which statistics show them."""

    is_highpri: bool
    is_bound: bool


NORMAL_UNBOUND: Final = PoolKind(is_highpri=False, is_bound=False)


@final
class Supervisor(Steering):
    """Made by `open_supervisor`.

    Legend: I set once · T only by the task inside `open_supervisor` · S changed only in one synchronous stretch.
    """

    def __init__(
        self,
        *,
        cpus: int,
        capacity: int,
        idle_timeout: float,
        cpu_intensive_threshold: float,
        thread_limit: int | None,
        watchdog: float | None,
        loop_watchdog: float,
    ) -> None:
        if cpus < 1:
            raise ValueError(f"cpus must be at least 1, not {cpus}")
        self.hogs = Hogs(cpu_intensive_threshold)  # I
        self.thread_limiter = thread_limiter(thread_limit)  # I
        self.instruments = Instruments()  # I
        self.workers = workers_of_this_run()  # I: those of all supervisors of the run
        self.token = trio.lowlevel.current_trio_token()  # I: of the loop that runs it
        self.thread = get_ident()  # I: of that loop
        self.capacity = valid_capacity(capacity)  # S, by set_capacity
        self.cpus = cpus  # I
        self.idle_timeout = valid_idle_timeout(idle_timeout)  # S
        self.uses_instrument = not trampoline_works()  # I: on bound pools
        self._instrument = InstrumentSensor(self)  # I
        self._senses = False  # S: the instrument is in place
        self._pools: dict[PoolKind, tuple[Pool, ...]] = {}  # S: one for each CPU; made when first wanted
        self.leaving = False  # S: the block was left, or is being cancelled
        self.closed = False  # S: nothing is accepted any more, from nobody
        self.refuses_chained = False  # T
        self._workqueues: dict[Workqueue, None] = {}  # S: in the order of allocation
        self._ordered = 0  # S: ordered queues allocated, ever
        self._nursery: trio.Nursery | None = None  # T: while `own` is inside it
        self._late_errors: list[BaseException] = []  # S: raised by on_discard after the nursery was closed
        self._unsettled: list[tuple[Caller | WorkGroup, str]] = []  # S
        self.is_cancelled = False  # S: the pools are ending
        self._is_over = False  # S: the pools have ended, and what was pending is discarded
        self._refused = 0  # S
        self._warned = False  # S: was the first refusal logged?
        self.freezer = Freezer(self)  # I; its content S
        self.timers = Timers(self)  # I; their content S
        self.watchdog = Watchdog(self, watchdog_threshold(watchdog))  # I
        self.loop_watchdog = LoopWatchdog(self, loop_watchdog)  # I

    @asynccontextmanager
    async def own(self) -> AsyncGenerator[None]:
        """Run the pools; drain the queues on leaving in peace. Used once, by `open_supervisor`."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                for pool in self._make_pools(NORMAL_UNBOUND):
                    await nursery.start(pool.run, name=pool.name)
                yield
                await self._drain()
                self.closed = True
                nursery.cancel_scope.cancel(reason="the ktrio supervisor was left")
        except BaseException as error:
            self._close()
            if not self._late_errors:
                raise
            errors: list[BaseException] = [error]
            if isinstance(error, BaseExceptionGroup):
                errors = list(cast("BaseExceptionGroup[BaseException]", error).exceptions)
            raise BaseExceptionGroup("errors of items", [*errors, *self._late_errors]) from None
        self._close()
        if self._late_errors:
            raise BaseExceptionGroup("errors of discarded items", self._late_errors)

    async def _drain(self) -> None:
        """Cancel timers, then flush every queue until all are empty; chained queueing has `PATIENT_ROUNDS` to end."""
        self.leaving = True
        for wq in list(self._workqueues):
            wq.cancel_timers()
        self.freezer.thaw()
        self._gates_were_shut()
        rounds = 0
        while busy := [wq for wq in self._workqueues if wq.in_flight]:
            rounds += 1
            self.refuses_chained = rounds > PATIENT_ROUNDS
            self._gates_were_shut()
            for wq in busy:
                await wq.flush()

    @enable_ki_protection
    def _close(self) -> None:
        self.leaving = self.closed = True
        self._nursery = None
        self._gates_were_shut()
        if self._senses:
            trio.lowlevel.remove_instrument(self._instrument)
        for wq in self._workqueues:
            wq.discard_all()
        for caller, why in self._unsettled:
            caller.settle_unfinished(why)
        self._unsettled.clear()
        self._is_over = True

    @property
    def pools(self) -> tuple[Pool, ...]:
        """All pools there are: the normal ones, unbound and then bound, and the high-priority ones likewise."""
        return tuple(pool for kind in sorted(self._pools) for pool in self._pools[kind])

    @property
    def nr_timers(self) -> int:
        """Timers that are armed for somebody else than us."""
        return self.timers.armed - self.watchdog.is_armed

    @property
    def all_workqueues(self) -> tuple[Workqueue, ...]:
        """Its queues, in the order of their allocation; destroyed ones are gone."""
        return tuple(self._workqueues)

    def pools_for(self, flags: WorkqueueFlags) -> tuple[Pool, ...]:
        """The pools of a queue with these flags, one for each simulated CPU; made when first wanted."""
        kind = PoolKind(is_highpri=WQ_HIGHPRI in flags, is_bound=WQ_UNBOUND not in flags)
        if kind not in self._pools:
            assert self._nursery is not None
            if kind.is_bound and self.uses_instrument and not self._senses:
                trio.lowlevel.add_instrument(self._instrument)
                self._senses = True
            for pool in self._make_pools(kind):
                self._nursery.start_soon(pool.run, name=pool.name)
        return self._pools[kind]

    def _make_pools(self, kind: PoolKind) -> tuple[Pool, ...]:
        pools = tuple(
            Pool(
                self,
                cpu=cpu,
                is_bound=kind.is_bound,
                is_highpri=kind.is_highpri,
                capacity=self.capacity,
                idle_timeout=self.idle_timeout,
            )
            for cpu in range(self.cpus)
        )
        for other, theirs in self._pools.items():
            if other.is_highpri != kind.is_highpri:
                for ours, its in zip(pools, theirs, strict=True):
                    normal, high = (its, ours) if kind.is_highpri else (ours, its)
                    normal.follow(high)
        self._pools[kind] = pools
        return pools

    def _start_rescuer(self, wq: Workqueue) -> Rescuer:
        """The rescuer of a queue with `WQ_MEM_RECLAIM`, at work (kernel: ``init_rescuer``)."""
        assert self._nursery is not None
        rescuer = Rescuer(wq, wq.pwqs)
        self._nursery.start_soon(rescuer.run, name=rescuer.name)
        return rescuer

    def pool_ended(self) -> None:
        """A pool's task is on its way out: from now on nothing can be started."""
        self.leaving = self.refuses_chained = self.is_cancelled = True
        self.freezer.give_up()
        self._gates_were_shut()

    def _gates_were_shut(self) -> None:
        for wq in self._workqueues:
            wq._backlog.recheck_gate()

    @enable_ki_protection
    def alloc(self, attrs: WorkqueueAttrs, max_active: int, max_pending: int, rate: Rate | None) -> Workqueue:
        """A queue that belongs to this supervisor."""
        # Of one that is being cancelled the caller is to meet Cancelled, not this.
        if self.closed or (self.leaving and not self.is_cancelled):
            raise SupervisorClosedError(f"{self!r} was left: it cannot allocate workqueue {attrs.name!r}")
        wq = Workqueue(self, attrs, max_active, max_pending)
        if rate is not None:
            wq.set_rate(rate)
        if WQ_MEM_RECLAIM in attrs.flags:  # last of what may raise: a rescuer is a task
            wq.rescuer = self._start_rescuer(wq)
        self._workqueues[wq] = None
        self.freezer.allocated(wq)
        return wq

    @enable_ki_protection
    def add_instrument(self, instrument: WorkqueueInstrument) -> None:
        """Tell `instrument` of every item of every queue, from now on. Again: harmless.

        TypeError if it is not a `WorkqueueInstrument`.
        """
        self.instruments.add(instrument)

    @enable_ki_protection
    def remove_instrument(self, instrument: WorkqueueInstrument) -> None:
        """Tell it nothing any more. KeyError if it is not there: never added, or removed because it raised."""
        self.instruments.remove(instrument)

    def forget(self, wq: Workqueue) -> None:
        """`wq` was destroyed."""
        self._workqueues.pop(wq, None)

    def fail(self, error: BaseException) -> None:
        """Let an error of an item leave the block: a child of the nursery raises it."""
        if self._is_over:  # of an on_discard called by `Workqueue.queue_work_from_thread`
            log.error("%r was left before this error of an item", self, exc_info=error)
        elif self._nursery is None:
            self._late_errors.append(error)
        else:
            self._nursery.start_soon(_raise, error, name="error of a ktrio item")

    def settle_in_the_end(self, caller: Caller | WorkGroup, why: str) -> None:
        """Tell whoever waits for an item that it ended with what ends the supervisor, once it has."""
        self._unsettled.append((caller, why))

    def log_refused_chain(self, wq: Workqueue) -> None:
        """Count a queueing that returned False because the block is being left; name the first in the log."""
        self._refused += 1
        if not (self.is_cancelled or self._warned):
            self._warned = True
            log.warning(
                "%r keeps queueing on %r while its supervisor is being left: refused from round %d on",
                current_work(),
                wq.name,
                PATIENT_ROUNDS + 1,
            )

    def dump(self) -> str:
        """Everything there is, for people: queues, items with their stacks, pools (kernel: ``show_all_workqueues``).

        Plain function; may be called whatever the state, and from other threads, where it may be a little wrong. Lists
        are cut off: it has a bounded length for each queue and pool. The text is not an interface.
        """
        return dump(self)

    def statistics(self) -> SupervisorStatistics:
        """The counts of this moment."""
        return SupervisorStatistics(
            cpus=self.cpus,
            capacity=self.capacity,
            pools=tuple(pool.statistics() for pool in self.pools),
            workqueues=tuple(wq.statistics() for wq in self._workqueues),
            chained_refused=self._refused,
            hogs=self.hogs.statistics(),
            threads=self.thread_limiter.borrowed_tokens,
            frozen=self.freezer.is_frozen,
            timers=self.nr_timers,
        )

    def __repr__(self) -> str:
        state = " closed" if self.closed else " leaving" if self.leaving else ""
        workers = sum(pool.nr_workers for pool in self.pools)
        return f"<Supervisor cpus={self.cpus} workers={workers} workqueues={len(self._workqueues)}{state}>"


async def _raise(error: BaseException) -> NoReturn:
    raise error


@protected_block
async def open_supervisor(
    cpus: int = 1,
    *,
    capacity: int = DEFAULT_CAPACITY,
    idle_timeout: float = IDLE_TIMEOUT,
    cpu_intensive_threshold: float = CPU_INTENSIVE_THRESHOLD,
    thread_limit: int | None = None,
    watchdog: float | None = None,
    loop_watchdog: float = 0,
) -> AsyncGenerator[Supervisor]:
    """``async with open_supervisor() as supervisor:`` owns pools of workers for the length of the block.

    Leaving the block waits until every queue is empty. Items may go on queueing; from the eleventh flush round on their
    queueing returns False (counted, and logged once with the item's name), so leaving ends unless an item never does.
    An error in the block, an error of an item whose queue says ``on_error="raise"``, and a cancellation cancel what
    runs and discard what is pending.

    Args:
      cpus: simulated CPUs, a pool each.
      capacity: the most items each pool runs unparked at once.
      idle_timeout: seconds after which surplus idle workers end (kernel: 300 s).
      cpu_intensive_threshold: seconds of the loop that one step of an item may take (kernel: 10 ms). One that takes
        longer is counted and reported in the log, and in a bound pool the rest of that run holds up nobody. 0: none is.
      thread_limit: threads that run plain functions of `WQ_CPU_INTENSIVE` queues at once, of all these queues together;
        None means as many as the process may use CPUs.
      watchdog: seconds after which a warning in the log names items that wait while none of their queue or pool begins,
        and what runs there, with stacks (kernel: 30 s). 0: never. None means 30 s, but never under a clock of your own,
        as in tests.
      loop_watchdog: seconds (5, say) after which a thread names in the log the item that holds the loop, with its
        stack. In real time, whatever the clock. 0: there is no such thread.

    Raises:
      ValueError: `cpus`, `capacity` or `thread_limit` below 1, `idle_timeout` not positive, `cpu_intensive_threshold`
        or a watchdog negative.
      ExceptionGroup: it holds the errors of items directly, and the block's own, as a nursery would.
    """
    supervisor = Supervisor(
        cpus=cpus,
        capacity=capacity,
        idle_timeout=idle_timeout,
        cpu_intensive_threshold=cpu_intensive_threshold,
        thread_limit=thread_limit,
        watchdog=watchdog,
        loop_watchdog=loop_watchdog,
    )
    async with supervisor.loop_watchdog.watching(), supervisor.own():
        yield supervisor
