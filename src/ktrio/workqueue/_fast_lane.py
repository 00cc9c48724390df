"""The fast lane: items that end in their first step, one after the other, on a pool where nobody has to ask.

Most items of most queues never give up the loop. For them a worker need not await anything, and on a pool that is
unbound, with no senior before it, nobody on his way back and no instrument looking on, nothing stands between the end
of one and the start of the next. So this one function runs them in a row, straight down and with local names: each
call costs some 3 % of an item, and members of `Pending` are looked up once, as on their class that costs as much as
two calls.

It is the plain road written out, and does to the books what that does, in the same order: `Pool.take`, `_books.begin`,
`_books.end` and `must_yield`. Whatever is not plain goes back there: an item that has given up the loop, one that has
raised, a pool that has to be asked. An instrument that looks on closes the lane: so the tests hold both roads together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ktrio.workqueue._driver import ENDED
from ktrio.workqueue._hogs import step_was_long
from ktrio.workqueue._policy import YIELD_AFTER_ITEMS, YIELD_AFTER_SECONDS
from ktrio.workqueue._work import Pending

if TYPE_CHECKING:
    from ktrio.workqueue._work import Work
    from ktrio.workqueue._worker import Worker

__all__ = ["is_open", "run_plain_items"]

_NOT: Final = Pending.NOT
_COLLIDED: Final = Pending.COLLIDED


def is_open(worker: Worker) -> bool:
    """May this worker run the next item here? Asked by it before it asks its pool for one."""
    pool = worker.pool
    return not (pool.is_bound or pool.gated or pool.returners or worker._instruments.are_there) and (
        worker.assigned is None and bool(pool.worklist) and pool.occupied < pool.capacity
    )


def run_plain_items(worker: Worker) -> Work | None:
    """Run items as long as they are plain. The item that has given up the loop, if one has; its books are open."""
    pool, instruments, now, hog_after = worker.pool, worker._instruments, worker._now, worker._hogs.threshold
    worklist, began, burst_began = pool.worklist, worker._step_began, worker._burst_began
    pool.occupied += 1  # one place, from item to item
    burst = YIELD_AFTER_ITEMS
    for burst in range(worker._burst + 1, YIELD_AFTER_ITEMS + 1):
        work: Work = worklist.popleft()  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType] - no token
        if worklist.gone:
            worklist.trim()
        pwq, colour, context = work._pwq, work._colour, work._context
        assert pwq is not None and colour is not None and context is not None  # noqa: PT018 - one test for three
        worker.work = worker.item = work
        worker.pwq, worker._colour, worker._context = pwq, colour, context
        work._colour = work._context = None
        if work._followers is not None:
            worker._followers, work._followers = work._followers, None
        work._pending = _NOT
        work._worker = worker
        work._runs += 1
        pwq.started += 1
        if pwq.backlog is not None:
            pwq.backlog.room()
        try:
            message = context.run(worker.resume, None)
        except BaseException as error:  # barrier, as on the plain road
            worker._burst = burst
            worker._failed(work, error)
            return None
        if message is not ENDED:
            worker.message = message
            return work
        if worker.parked:  # it has entered `parked` by hand, and never left: not plain
            worker._burst = burst
            worker._ended(work)
            return None
        ended = now()
        seconds = ended - began
        worker._step_began = began = ended
        pwq.cpu_time += seconds
        if seconds > hog_after:
            step_was_long(worker, work, seconds, is_last=True)
            worker._step_began = began = now()
        work._worker = None
        pwq.completed += 1
        colour.in_flight -= 1
        if not colour.in_flight:
            pwq.wq.colours.emptied()
        collided = work._pending is _COLLIDED  # pyright: ignore[reportUnnecessaryComparison] - it may have queued itself
        if collided or pwq.inactive or worker._followers is not None:
            _hand_on(worker, work)
        else:
            pwq.nr_active -= 1
        asks = pool.gated or pool.returners or instruments.are_there or worker._interrupted
        late = ended - burst_began > YIELD_AFTER_SECONDS  # `must_yield`
        if asks or late or not worklist or pool.occupied > pool.capacity:
            break
    worker.work = None
    worker._burst = burst
    pool.occupied -= 1
    return None


def _hand_on(worker: Worker, work: Work) -> None:
    """A run has ended, and somebody waits for its slot, or for its end: the place is free while they are told."""
    worker.pool.occupied -= 1
    worker.work = None
    if work._pending is _COLLIDED:
        worker.pwq.succeed(work, had_slot=True)
    else:
        worker.pwq.release_slot()
    if worker._followers is not None:
        worker.tell_followers(work)
    worker.pool.occupied += 1
