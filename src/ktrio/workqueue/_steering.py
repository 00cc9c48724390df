"""What a supervisor is steered by: the methods of `Supervisor` for ordered queues, with their contracts.

A part of that class and nothing by itself; its other methods leave no room for these in one file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from ktrio.workqueue._attrs import WQ_UNBOUND, OnError, Rate, WorkqueueAttrs, WorkqueueFlags

if TYPE_CHECKING:
    from ktrio.workqueue._pool import Pool
    from ktrio.workqueue._queue import Workqueue

__all__ = ["Steering"]


class Steering:
    """The base of `Supervisor`, which sets the attributes."""

    cpus: int
    _ordered: int  # S: ordered queues allocated, ever

    def alloc(self, attrs: WorkqueueAttrs, max_active: int, max_pending: int, rate: Rate | None) -> Workqueue:
        """A queue that belongs to this supervisor."""
        raise NotImplementedError

    def pools_for(self, flags: WorkqueueFlags) -> tuple[Pool, ...]:
        """The pools of a queue with these flags, one for each simulated CPU."""
        raise NotImplementedError

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
