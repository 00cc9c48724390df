"""What the objects say of themselves: counts of one moment, in the words of the package.

Each is made by the `statistics` method of the object it describes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from ktrio.workqueue._attrs import Rate, WorkqueueFlags
    from ktrio.workqueue._pool import Pool
    from ktrio.workqueue._queue import Workqueue

__all__ = [
    "HogStatistics",
    "PoolStatistics",
    "PwqStatistics",
    "SupervisorStatistics",
    "WorkStatistics",
    "WorkqueueStatistics",
    "pool_statistics",
    "workqueue_statistics",
]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class WorkStatistics:
    """What `Work.statistics` returns."""

    pending: bool
    """A queueing was accepted that has neither begun nor been withdrawn."""
    delayed: bool
    """It is pending because its timer runs."""
    running: bool
    """Its function has begun and not ended, parked or not."""
    parked: bool
    """Its run is parked: it holds neither a slot nor a place."""
    disabled: int
    """How deep it is disabled: every queueing returns False unless this is 0."""
    runs: int
    """How often its function has begun."""
    overruns: int
    """Ticks at which it was not queued, ever; always 0 if it is no `PeriodicWork`."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class PwqStatistics:
    """One workqueue's counts on one simulated CPU."""

    cpu: int
    """The simulated CPU."""
    nr_active: int
    """Items that hold a slot: running unparked, or waiting for a worker; in an ordered queue, parked ones too."""
    inactive: int
    """Items (and parked items on their way back) that wait for a slot."""
    in_flight: int
    """Items accepted and not finished."""
    cm_wakeups: int
    """How often an item here fell asleep and that let the pool's next item start; always 0 if the queue is unbound."""
    cpu_intensive: int
    """Runs that became CPU-intensive because a step took too long, ever; always 0 if the queue is unbound."""
    cpu_time: float
    """Seconds that items have kept the loop, ever."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class WorkqueueStatistics:
    """What one workqueue is doing, and has done."""

    name: str
    """The queue's name."""
    flags: WorkqueueFlags
    """What it was allocated with."""
    ordered: bool
    """Does it run one item at a time, in the order of queueing, over all simulated CPUs?"""
    max_active: int
    """Slots per simulated CPU; of an ordered queue 1 in all."""
    max_pending: int
    """Items that may be pending before queueing from outside is refused or waits; 0: no limit."""
    nr_active: int
    """Items that hold a slot: running unparked, or waiting for a worker; in an ordered queue, parked ones too."""
    inactive: int
    """Items (and parked items on their way back) that wait for a slot."""
    pending: int
    """Items accepted and not started, inactive ones included; not those whose timer runs."""
    delayed: int
    """Items whose timer runs; no flush or drain waits for them."""
    laned: int
    """Items that wait behind others of their lane: pending, and not inactive."""
    lanes: int
    """Lanes with items in them."""
    waiting_for_room: int
    """Callers that wait in `Workqueue.queue_work_wait`."""
    periodic: int
    """Items that tick."""
    overruns: int
    """Ticks at which their item was not queued, ever: it was pending or running still, say."""
    running: int
    """Items whose function has begun and not ended, parked ones included; `started` - `completed`."""
    parked: int
    """Items that run parked."""
    in_flight: int
    """Items accepted and not finished; `pending` + `running`."""
    started: int
    """Runs begun, ever."""
    completed: int
    """Runs ended, ever, with or without an error."""
    cancelled: int
    """Queueings withdrawn before they began, ever."""
    failed: int
    """Runs that ended with an error, ever."""
    rate: Rate | None
    """How many items may start in a time; None: no limit."""
    throttled: int
    """How often a first in line had to wait for the rate, ever."""
    timed_out: int
    """Runs cancelled because they took longer than their item's `timeout`, ever."""
    cm_wakeups: int
    """How often an item fell asleep and that let its pool's next item start (kernel: CMW); 0 if unbound."""
    cpu_intensive: int
    """Runs that became CPU-intensive because a step took too long, ever (kernel: CPUI); 0 if unbound."""
    cpu_time: float
    """Seconds that its items have kept the loop, ever: the sum of their finished steps (kernel: CPUtime)."""
    mayday: int
    """Calls for its rescuer, ever; always 0 without `WQ_MEM_RECLAIM`."""
    rescued: int
    """Runs begun by its rescuer, or brought back from parking, ever; always 0 without `WQ_MEM_RECLAIM`."""
    overshoot: int
    """How often a parked item came back beyond a limit because an exception was in flight."""
    chained_refused: int
    """Queueings from inside an item that returned False because the supervisor is being left."""
    draining: bool
    """Only chained queueing is accepted."""
    destroyed: bool
    """Nothing is accepted any more."""
    frozen: bool
    """Nothing is started; what is queued waits until `Supervisor.thaw`."""
    pwqs: tuple[PwqStatistics, ...]
    """The counts of each simulated CPU."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class PoolStatistics:
    """What one pool is doing, and has done."""

    cpu: int
    """The simulated CPU."""
    bound: bool
    """Does it manage concurrency?"""
    highpri: bool
    """Do its items start before those of the other pools of its simulated CPU?"""
    nr_workers: int
    """Worker tasks alive: idle, starting or busy."""
    nr_idle: int
    """Workers that wait for work."""
    nr_running: int
    """Workers counted by concurrency management: inside an item and not asleep. Always 0 if the pool is unbound."""
    occupied: int
    """Items that run unparked: places taken, of `capacity` and one more for each rescuer at work here."""
    starting: int
    """Workers woken or created that have not run yet."""
    parked: int
    """Items that run parked: a worker each, but no place."""
    worklist: int
    """Items (and parked items on their way back) that wait for a worker or a place."""
    created: int
    """Workers ever created."""
    culled: int
    """Workers that ended because too many were idle for too long."""
    at_capacity: int
    """How often a place was looked for, for something that waits, and every place was taken."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class HogStatistics:
    """How often one function kept the loop for too long.

    128 functions are kept apart; those that come after them are one row, ``(others)``.
    """

    function: str
    """Its module and qualified name."""
    count: int
    """Steps that took longer than `cpu_intensive_threshold`, ever."""
    longest: float
    """The longest of them, in seconds."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorStatistics:
    """What a supervisor's pools and queues are doing, and have done."""

    cpus: int
    """Simulated CPUs."""
    capacity: int
    """Places per pool."""
    pools: tuple[PoolStatistics, ...]
    """Each pool's counts."""
    workqueues: tuple[WorkqueueStatistics, ...]
    """Each queue's counts, in the order of their allocation; destroyed ones are gone."""
    chained_refused: int
    """Queueings from inside items that returned False while the supervisor was being left."""
    hogs: tuple[HogStatistics, ...]
    """The functions whose items kept the loop for longer than `cpu_intensive_threshold`, the most frequent first."""
    threads: int
    """Threads that run plain functions of `WQ_CPU_INTENSIVE` queues, of at most `thread_limit`."""
    frozen: bool
    """Do the queues with `WQ_FREEZABLE` start nothing?"""
    timers: int
    """Timers armed, of items and of the supervisor itself."""


def workqueue_statistics(wq: Workqueue) -> WorkqueueStatistics:
    """What `Workqueue.statistics` returns."""
    pwqs = wq._pwqs
    started, completed = sum(pwq.started for pwq in pwqs), sum(pwq.completed for pwq in pwqs)
    return WorkqueueStatistics(
        name=wq.name,
        flags=wq.flags,
        ordered=wq.is_ordered,
        max_active=wq.max_active,
        max_pending=wq.max_pending,
        nr_active=sum(pwq.nr_active for pwq in pwqs),
        inactive=sum(pwq.inactive.waiting for pwq in pwqs),
        pending=wq.pending,
        delayed=len(wq.delayed),
        periodic=len(wq.periodic),
        overruns=wq.periodic.overruns,
        laned=sum(len(line.waiting) for line in wq.lanes.values()),
        lanes=len(wq.lanes),
        waiting_for_room=wq._backlog.waiting,
        running=started - completed,
        parked=sum(pwq.parked for pwq in pwqs),
        in_flight=wq.in_flight,
        started=started,
        completed=completed,
        cancelled=sum(pwq.cancelled for pwq in pwqs),
        failed=sum(pwq.failed for pwq in pwqs),
        rate=wq.rate,
        throttled=wq.rate_limit.throttled,
        timed_out=sum(pwq.timed_out for pwq in pwqs),
        cm_wakeups=sum(pwq.cm_wakeups for pwq in pwqs),
        cpu_intensive=sum(pwq.cpu_intensive for pwq in pwqs),
        cpu_time=sum(pwq.cpu_time for pwq in pwqs),
        mayday=sum(pwq.mayday for pwq in pwqs),
        rescued=sum(pwq.rescued for pwq in pwqs),
        overshoot=sum(pwq.overshoot for pwq in pwqs),
        chained_refused=wq._gate.chained_refused,
        draining=wq._gate.draining > 0 or wq._supervisor.leaving,
        destroyed=wq._gate.destroyed,
        frozen=pwqs[0].inactive.held,
        pwqs=tuple(pwq.statistics() for pwq in pwqs),
    )


def pool_statistics(pool: Pool) -> PoolStatistics:
    """What `Pool.statistics` returns."""
    return PoolStatistics(
        cpu=pool.cpu,
        bound=pool.is_bound,
        highpri=pool.is_highpri,
        nr_workers=pool.nr_workers,
        nr_idle=len(pool.idle),
        nr_running=pool.nr_running,
        occupied=pool.occupied,
        starting=pool.starting,
        parked=pool.parked,
        worklist=pool.worklist.waiting,
        created=pool.created,
        culled=pool.culled,
        at_capacity=pool.at_capacity,
    )
