"""Concurrency-managed workqueues on Trio; usable without the rest of ktrio.

The words, which are the kernel's:

* A **work item** (`Work`) is a function to be run soon; it may be queued again and again.
* A **workqueue** (`Workqueue`) is a domain of items: how many may be active at once, what becomes of their errors, what
  is flushed and drained together. It owns no workers.
* A **pool** is the workers of one simulated CPU, shared by all workqueues. A **worker** is a Trio task that runs one
  item after another. A **high-priority** pool goes before the normal ones of its CPU.
* A **rescuer** is a worker of one queue's own, which comes when a pool is full (a **mayday**). A **hog** is a function
  that keeps the loop for too long.
* A **pwq** (pool_workqueue) is one workqueue's share of one pool: it counts active items and keeps inactive ones in
  order.
* The **supervisor** (`open_supervisor`) owns the pools and ends them.
* An item is **pending** from its queueing to its start: **inactive** while it waits for one of max_active slots, then
  **active**. From its start to its end it is **running**, or **parked** while it waits for the outside world inside
  ``async with parked():`` and holds no slot.
"""

from ktrio.workqueue._attributes import Attributes
from ktrio.workqueue._attrs import (
    WQ_CPU_INTENSIVE,
    WQ_DFL_ACTIVE,
    WQ_FREEZABLE,
    WQ_HIGHPRI,
    WQ_MAX_ACTIVE,
    WQ_MEM_RECLAIM,
    WQ_UNBOUND,
    OnError,
    Rate,
    WorkqueueFlags,
)
from ktrio.workqueue._current import current_work
from ktrio.workqueue._delayed import DelayedWork
from ktrio.workqueue._errors import (
    BacklogFullError,
    BusyError,
    DeadlockError,
    DestroyedError,
    DisableError,
    DrainingError,
    GroupClosedError,
    NoResultError,
    ParkingError,
    SupervisorClosedError,
    WorkqueueError,
)
from ktrio.workqueue._group import WorkGroup
from ktrio.workqueue._instruments import WorkEvent, WorkqueueInstrument
from ktrio.workqueue._lane import Lane
from ktrio.workqueue._parking import Parking, parked
from ktrio.workqueue._periodic import PeriodicWork
from ktrio.workqueue._queue import Workqueue
from ktrio.workqueue._statistics import (
    HogStatistics,
    PoolStatistics,
    PwqStatistics,
    SupervisorStatistics,
    WorkqueueStatistics,
    WorkStatistics,
)
from ktrio.workqueue._supervisor import Supervisor, open_supervisor
from ktrio.workqueue._work import Work

__all__ = [
    "WQ_CPU_INTENSIVE",
    "WQ_DFL_ACTIVE",
    "WQ_FREEZABLE",
    "WQ_HIGHPRI",
    "WQ_MAX_ACTIVE",
    "WQ_MEM_RECLAIM",
    "WQ_UNBOUND",
    "Attributes",
    "BacklogFullError",
    "BusyError",
    "DeadlockError",
    "DelayedWork",
    "DestroyedError",
    "DisableError",
    "DrainingError",
    "GroupClosedError",
    "HogStatistics",
    "Lane",
    "NoResultError",
    "OnError",
    "Parking",
    "ParkingError",
    "PeriodicWork",
    "PoolStatistics",
    "PwqStatistics",
    "Rate",
    "Supervisor",
    "SupervisorClosedError",
    "SupervisorStatistics",
    "Work",
    "WorkEvent",
    "WorkGroup",
    "WorkStatistics",
    "Workqueue",
    "WorkqueueError",
    "WorkqueueFlags",
    "WorkqueueInstrument",
    "WorkqueueStatistics",
    "current_work",
    "open_supervisor",
    "parked",
]
