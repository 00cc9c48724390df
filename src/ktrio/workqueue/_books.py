"""The books of a run, opened before its first step and closed when it ends (kernel: in ``process_one_work``).

This is the plain road; the fast lane (`ktrio.workqueue._fast_lane`) has the same written out. All counters of a run
change here and together, so whoever looks between two steps of the loop finds them agreeing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ktrio.workqueue._hogs import step_was_long
from ktrio.workqueue._work import Pending

if TYPE_CHECKING:
    from ktrio.workqueue._pwq import PoolWorkqueue
    from ktrio.workqueue._work import Work
    from ktrio.workqueue._worker import Worker

__all__ = ["begin", "end"]

_NOT: Final = Pending.NOT
_COLLIDED: Final = Pending.COLLIDED


def begin(worker: Worker, work: Work) -> None:
    """Open the books of a run: from here on the item is not pending but running."""
    pwq, colour, context = work._pwq, work._colour, work._context
    assert pwq is not None and colour is not None and context is not None  # noqa: PT018 - one test for three
    worker.work = work
    worker.pwq, worker._colour, worker._context = pwq, colour, context
    work._colour = work._context = None
    if work._followers is not None:
        worker._followers, work._followers = work._followers, None
    work._pending = _NOT
    work._worker = worker
    work._runs += 1
    pwq.started += 1
    if worker.parked:
        pwq.begins_parked()
    if worker._instruments.execute_start is not None:
        worker._instruments.tell_execute_start(work, worker)
    if worker.pwq.backlog is not None:
        worker.pwq.backlog.room()


def end(worker: Worker, work: Work) -> None:
    """Close the books of a run: place, slot and colour; its followers are to be told in the same stretch."""
    pwq = worker.pwq
    now = worker._now()
    seconds, worker._step_began = now - worker._step_began, now  # the next item's first step begins here
    pwq.cpu_time += seconds
    if seconds > worker._hogs.threshold:
        step_was_long(worker, work, seconds, is_last=True)
        worker._step_began = worker._now()
    if worker._instruments.execute_end is not None:
        worker._instruments.tell_execute_end(work, worker)
    if worker.cpu_intensive:
        worker.pool.count_again(worker)
    if worker.counted:
        worker.pool.finishing += 1
    worker.work = work._worker = None
    pwq.completed += 1
    if worker.parked:
        _end_parked(worker, work, pwq)
    else:
        worker.pool.occupied -= 1
        if work._pending is _COLLIDED:
            pwq.succeed(work, had_slot=True)
        else:
            pwq.nr_active -= 1
            if pwq.inactive:
                pwq.promote()
    colour = worker._colour
    colour.in_flight -= 1
    if not colour.in_flight:
        pwq.wq.colours.emptied()


def _end_parked(worker: Worker, work: Work, pwq: PoolWorkqueue) -> None:
    """It ends without slot and place."""
    worker.parked = worker.adoptable = False
    worker.activated = True
    worker.pool.parked -= 1
    pwq.ended_parked(work)
