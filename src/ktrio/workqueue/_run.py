"""`Workqueue.run` and its like: items of one's own, and their results."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import trio
from trio.lowlevel import enable_ki_protection

from ktrio.workqueue._backlog import wait_for_run
from ktrio.workqueue._errors import BacklogFullError, DeadlockError, SupervisorClosedError
from ktrio.workqueue._parking import parked_while_waiting
from ktrio.workqueue._result import Caller
from ktrio.workqueue._work import Work

if TYPE_CHECKING:
    from ktrio.workqueue._pwq import PoolWorkqueue
    from ktrio.workqueue._queue import Workqueue

__all__ = ["run_item", "run_on_each_cpu"]


@enable_ki_protection
async def run_item(wq: Workqueue, work: Work, pwq: PoolWorkqueue | None = None) -> object:
    """Queue `work`, which nobody else knows, to `pwq`, if given, and give back its value or raise its error."""
    await trio.lowlevel.checkpoint_if_cancelled()
    caller = Caller(work, None)
    try:
        accepted = wq._backlog.queue_watched(work, caller, pwq=pwq)
    except BacklogFullError:
        return await parked_while_waiting(partial(wq._backlog.run_when_room, work, caller, pwq))
    if not accepted:
        raise SupervisorClosedError(f"{wq!r} belongs to a supervisor that is being left")
    return await parked_while_waiting(caller.wait, wait_for_run(work))


async def run_on_each_cpu(wq: Workqueue, make: Callable[[], Work]) -> list[object]:
    """See `Workqueue.schedule_on_each_cpu`; `make` gives an item for each."""
    results: list[object] = [None] * wq.cpus
    errors: list[Exception | None] = [None] * wq.cpus

    async def run_on(cpu: int) -> None:
        try:
            results[cpu] = await run_item(wq, make(), wq.pwq_of(cpu))
        except DeadlockError:  # the others may be in it: cancel them
            raise
        except Exception as error:  # it is raised below, together with the others
            errors[cpu] = error

    async def run_on_all() -> None:
        async with trio.open_nursery() as nursery:
            for cpu in range(wq.cpus):
                nursery.start_soon(run_on, cpu)

    await parked_while_waiting(run_on_all)
    if failed := [error for error in errors if error is not None]:
        raise ExceptionGroup(f"errors of {wq!r}.schedule_on_each_cpu()", failed)
    return results
