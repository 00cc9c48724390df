"""`Workqueue.run`: an item of one's own, and its result."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import trio
from trio.lowlevel import enable_ki_protection

from ktrio.workqueue._errors import BacklogFullError, DeadlockError, SupervisorClosedError
from ktrio.workqueue._parking import parked_while_waiting
from ktrio.workqueue._result import Caller
from ktrio.workqueue._waits import Wait

if TYPE_CHECKING:
    from ktrio.workqueue._queue import Workqueue
    from ktrio.workqueue._work import Work

__all__ = ["run_item"]


@enable_ki_protection
async def run_item(wq: Workqueue, work: Work) -> object:
    """Queue `work`, which nobody else knows, and give back its value or raise its error."""
    await trio.lowlevel.checkpoint_if_cancelled()
    caller = Caller(work, None)
    try:
        accepted = wq._backlog.queue_watched(work, caller)
    except BacklogFullError:
        return await parked_while_waiting(partial(wq._backlog.run_when_room, work, caller))
    if not accepted:
        raise SupervisorClosedError(f"{wq!r} belongs to a supervisor that is being left")
    try:
        wait = Wait("run", work, 1)
    except DeadlockError:
        work.cancel()
        raise
    return await parked_while_waiting(caller.wait, wait)
