"""What a supervisor is steered by: methods of `Supervisor`, with their contracts.

A part of that class and nothing by itself; its other methods leave no room for these in one file.
"""

from __future__ import annotations

from threading import get_ident
from typing import TYPE_CHECKING, Literal, cast

from trio.lowlevel import enable_ki_protection

from ktrio.workqueue._attributes import Attributes, attributes_of_supervisor, valid_capacity
from ktrio.workqueue._attrs import WQ_UNBOUND, OnError, Rate, WorkqueueAttrs, WorkqueueFlags

if TYPE_CHECKING:
    from ktrio.workqueue._freezer import Freezer
    from ktrio.workqueue._instruments import Instruments
    from ktrio.workqueue._pool import Pool
    from ktrio.workqueue._queue import Workqueue
    from ktrio.workqueue._supervisor import Supervisor

__all__ = ["Steering"]


class Steering:
    """The base of `Supervisor`, which sets the attributes."""

    cpus: int
    capacity: int
    freezer: Freezer
    instruments: Instruments
    thread: int
    _ordered: int  # S: ordered queues allocated, ever

    def alloc(self, attrs: WorkqueueAttrs, max_active: int, max_pending: int, rate: Rate | None) -> Workqueue:
        """A queue that belongs to this supervisor."""
        raise NotImplementedError

    def pools_for(self, flags: WorkqueueFlags) -> tuple[Pool, ...]:
        """The pools of a queue with these flags, one for each simulated CPU."""
        raise NotImplementedError

    def alloc_workqueue(
        self,
        name: str,
        flags: WorkqueueFlags | Literal[0] = 0,
        max_active: int = 0,
        on_error: OnError = "raise",
        *,
        max_pending: int = 0,
        rate: Rate | None = None,
    ) -> Workqueue:
        """Make a workqueue (kernel: ``alloc_workqueue``).

        Args:
          name: for messages, statistics and `repr`.
          flags: 0 asks for a bound queue, as in the kernel: on each simulated CPU a new item starts only while those
            that have begun are asleep. `WQ_UNBOUND`: every item starts at once, up to `max_active`. `WQ_CPU_INTENSIVE`,
            for bound queues: its items hold up nobody while they run, and its plain functions run in threads.
            `WQ_HIGHPRI`, for both: its items start before those of queues without it. `WQ_MEM_RECLAIM`, for both: a
            worker of its own, the rescuer, runs its items one at a time when a pool is full and does not get on.
          max_active: items that may be active at once on each simulated CPU; 0 means 256, at most 65 536.
          on_error: what happens to an item's exception. ``"raise"``: it cancels the supervisor and leaves its block. A
            plain function ``(work, error)``: it is called instead, after the books of that run were closed.
            ``"store"``: each item keeps its last outcome, value or error, for `Work.result`. Whoever waits for a result
            when the run ends takes its error, whatever the policy.
          max_pending: items that may be pending (accepted, not started) before queueing from outside the queue's own
            items is refused by `Workqueue.queue_work` and waits in `Workqueue.queue_work_wait`; 0 means no limit.
          rate: how many of its items may start in a time, on all simulated CPUs together; those beyond wait in line.

        Raises:
          ValueError: `max_active` or `max_pending` out of range, or an unusable `on_error`.
          SupervisorClosedError: the block was left.
        """
        attrs = WorkqueueAttrs(name=name, flags=WorkqueueFlags(flags), on_error=on_error)
        return self.alloc(attrs, max_active, max_pending, rate)

    def alloc_ordered_workqueue(
        self,
        name: str,
        flags: WorkqueueFlags | Literal[0] = 0,
        on_error: OnError = "raise",
        *,
        max_pending: int = 0,
        rate: Rate | None = None,
    ) -> Workqueue:
        """Make a queue that runs one item at a time, in the order of queueing (kernel: ``alloc_ordered_workqueue``).

        It is unbound, and has one pwq and one slot over all simulated CPUs, for good. An item that parks keeps the slot
        (P7): the next one begins when it has ended, not before.

        Args:
          name: for messages, statistics and `repr`.
          flags: as for `alloc_workqueue`; `WQ_UNBOUND` goes without saying, and `WQ_CPU_INTENSIVE` has no effect.
          on_error: what happens to an item's exception, as for `alloc_workqueue`.
          max_pending: items that may be pending before queueing is refused or waits, as for `alloc_workqueue`.
          rate: how many of its items may start in a time; those beyond wait in line.

        Raises:
          ValueError: `max_pending` out of range, or an unusable `on_error`.
          SupervisorClosedError: the block was left.
        """
        flags = WorkqueueFlags(flags) | WQ_UNBOUND
        attrs = WorkqueueAttrs(name=name, flags=flags, on_error=on_error, ordered=True)
        return self.alloc(attrs, 1, max_pending, rate)

    def pool_of_ordered(self, flags: WorkqueueFlags) -> tuple[Pool]:
        """Where the next ordered queue runs: by turns, or one pool would have them all."""
        pool = self.pools_for(flags)[self._ordered % self.cpus]
        self._ordered += 1
        return (pool,)

    @enable_ki_protection
    async def freeze(self) -> bool:
        """Let queues with `WQ_FREEZABLE` start nothing; wait until none is busy (kernel: ``freeze_workqueues_begin``).

        What has a slot at this moment is finished, parked items stay parked, and whatever is queued from now on, or
        wants to come back from `parked`, waits in its order until `thaw`. So do flush, drain and destroy of what waits.
        A queue allocated meanwhile is frozen too. Always a checkpoint; inside an item the caller is parked while it
        waits.

        Frozen is frozen, however often this is called; each call waits until nothing is busy, and one `thaw` ends it.
        True if the queues are frozen now, False if somebody has thawed them meanwhile. If it is cancelled, by a timeout
        say, they are thawed, unless another call has frozen them, or still waits.

        Raises:
          DeadlockError: called from inside an item of a queue with `WQ_FREEZABLE`, or one that it certainly waits for.
          SupervisorClosedError: the block was left; leaving it thaws.
        """
        return await self.freezer.freeze()

    @property
    def pools(self) -> tuple[Pool, ...]:
        """All pools there are."""
        raise NotImplementedError

    @enable_ki_protection
    def set_capacity(self, capacity: int) -> None:
        """Change the most items that each pool runs unparked at once. ValueError below 1.

        Raising it lets those that wait for a place start at once; lowering it cancels nothing, the count only falls.
        """
        self.refuse_misuse("set_capacity")
        more = valid_capacity(capacity) - self.capacity
        self.capacity = capacity
        for pool in self.pools:
            pool.capacity += more
            if more > 0:
                pool.kick()

    @property
    def attributes(self) -> Attributes:
        """What of it can be read and set by name (kernel: parameters of the module): see `Attributes`.

        `cpus`, read only; `capacity`, `idle_timeout`, `cpu_intensive_threshold` and `thread_limit`, in the units of
        `open_supervisor`. Changes take effect at once.
        """
        return attributes_of_supervisor(cast("Supervisor", self))

    @enable_ki_protection
    def thaw(self) -> None:
        """Undo `freeze` (kernel: ``thaw_workqueues``): what waits starts, in its order. Again: harmless."""
        self.refuse_misuse("thaw")
        self.freezer.thaw()

    def refuse_misuse(self, what: str) -> None:
        """Ask before any change. RuntimeError if this is called from another thread, or from within an instrument."""
        if get_ident() != self.thread:
            raise RuntimeError(f"{self!r}.{what}() was called from outside its loop: use trio.from_thread.run_sync")
        self.instruments.refuse_inside(what)
