"""The fast lane: items that end in their first step, one after the other, on a pool where nobody has to ask.

Most items of most queues never give up the loop. For them a worker need not await anything, and on a pool that is
unbound, with no senior before it, nobody on his way back and no instrument looking on, nothing stands between the end
of one and the start of the next. So this one function runs them in a row, straight down and with local names: each
call costs some 3 % of an item, and members of `Pending` are looked up once, as on their class that costs as much as
two calls.

It is the plain road written out, and does to the books what that does, in the same order: `Pool.take`, `Worker._begin`,
`Worker._end` and `must_yield`. Whatever is not plain goes back there: an item that has given up the loop, one that has
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
    pool, instruments, now = worker.pool, worker._instruments, worker._now
    worklist, hog_after = pool.worklist, worker._hogs.threshold
    while worklist and pool.occupied < pool.capacity and not (pool.gated or pool.returners or instruments.are_there):
        work: Work = worklist.popleft()  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType] - no token
        if worklist.gone:
            worklist.trim()
        pool.occupied += 1
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
            if message is not ENDED:
                worker.message = message
                return work
        except BaseException as error:  # barrier, as on the plain road
            worker._failed(work, error)
        else:
            if worker.parked:  # it has entered `parked` by hand, and never left: not plain
                worker._ended(work)
                return None
            ended = now()
            seconds = ended - worker._step_began
            worker._step_began = ended
            pwq.cpu_time += seconds
            if seconds > hog_after:
                step_was_long(worker, work, seconds, is_last=True)
                worker.restart_step()
            worker.work = work._worker = None
            pwq.completed += 1
            pwq.in_flight -= 1
            pool.occupied -= 1
            if work._pending is _COLLIDED:  # pyright: ignore[reportUnnecessaryComparison] - the item may have queued itself
                pwq.succeed(work, had_slot=True)
            else:
                pwq.nr_active -= 1
                if pwq.inactive:
                    pwq.promote()
            colour.in_flight -= 1
            if not colour.in_flight:
                pwq.wq.colours.emptied()
            if worker._followers is not None:
                worker.tell_followers(work)
        worker._burst = burst = worker._burst + 1
        late = worker._step_began - worker._burst_began > YIELD_AFTER_SECONDS
        if burst >= YIELD_AFTER_ITEMS or late or worker._interrupted:  # `must_yield`
            break
    return None
