"""Errors of the workqueue, named by whose fault they are; each names the objects concerned."""

from __future__ import annotations

__all__ = [
    "BacklogFullError",
    "BusyError",
    "DeadlockError",
    "DestroyedError",
    "DisableError",
    "DrainingError",
    "GroupClosedError",
    "NoResultError",
    "ParkingError",
    "SupervisorClosedError",
    "WorkqueueError",
]


class WorkqueueError(Exception):
    """Base of what `ktrio.workqueue` raises by itself. Never raised as such."""

    def __init__(self, message: str) -> None:
        if type(self) is WorkqueueError:
            raise TypeError("WorkqueueError is a base class: raise one of its subclasses")
        super().__init__(message)


class DrainingError(WorkqueueError):
    """The caller's fault: `queue_work` from outside on a queue that is draining.

    The kernel warns, drops the item and still returns true; here the item stays idle and the caller learns of it.
    Queueing from inside an item of that queue (chained queueing) is accepted.
    """


class DestroyedError(WorkqueueError):
    """The caller's fault: use of a queue after `Workqueue.destroy`; or nobody's: a result that will never be.

    The latter for callers of `Workqueue.run` and `Work.result` whose item was withdrawn or interrupted by others.
    """


class BacklogFullError(WorkqueueError):
    """Nobody's fault: `queue_work` on a queue that has `max_pending` items pending, from outside its own items.

    `Workqueue.queue_work_wait` waits for room instead.
    """


class SupervisorClosedError(WorkqueueError):
    """The caller's fault: use of a supervisor, or a queue of it, after its ``async with`` block was left."""


class DeadlockError(WorkqueueError):
    """The caller's fault: this wait could never end.

    An item waited for itself (`Work.flush`, `Work.cancel_sync`) or for its own queue (`Workqueue.flush`, `drain`,
    `destroy`), directly or from a task that it started; or for one that waits for it, over any number of items, queues,
    groups and lanes between. The message names everything on the way. Others that waited go on waiting.
    """


class DisableError(WorkqueueError):
    """The caller's fault: `Work.enable` of an item that is not disabled, or `Work.disable` of one 65 535 deep."""


class ParkingError(WorkqueueError):
    """The caller's fault: `parked` outside an item, inside `parked`, or in a task that an item started."""


class GroupClosedError(WorkqueueError):
    """The caller's fault: queueing through a group whose block was left, after its last member has ended."""


class NoResultError(WorkqueueError):
    """The caller's fault: `Work.result` of an item that has none.

    It was never queued; or it has run, but nobody was waiting for its result and its queue does not keep it
    (``on_error="store"``).
    """


class BusyError(WorkqueueError):
    """The caller's fault: an item was queued on one queue while it runs on another.

    The kernel's promise that an item never runs twice at once holds per queue only; here it holds everywhere.
    """
