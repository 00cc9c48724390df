"""Who is asleep? What concurrency management has to see (kernel: ``wq_worker_sleeping``, ``wq_worker_running``).

"Asleep" is blocked: waiting for something that has not happened. A bare ``checkpoint()`` is not sleeping, it is what
preemption is to the kernel; the worker goes on counting.

* The *trampoline*: a worker drives its item's coroutine, so it sees what each step ends with. A yield ends with one
  constant message, which Trio does not document but hands to everybody who drives a coroutine; everything else is a
  block. `YIELD` is found by driving one checkpoint when this module is imported, and `trampoline_works` says whether
  what was found can be told from a block. It costs nothing to tasks that are not workers.
* The *instrument* (`InstrumentSensor`): after a step of a task that nobody has scheduled meanwhile, the task is asleep.
  Public interface only, but every task of the run pays for it. It stands in on bound pools where the trampoline does
  not work, and in the tests it checks the trampoline.

A sleep under a scope that is cancelled already looks like a block to the trampoline, though the task is scheduled again
at once: `Pool.settle_doubts` deals with that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

import trio
from trio.lowlevel import enable_ki_protection

from ktrio.workqueue._current import workers_of_this_run

if TYPE_CHECKING:
    from ktrio.workqueue._supervisor import Supervisor
    from ktrio.workqueue._worker import Worker

__all__ = ["YIELD", "InstrumentSensor", "trampoline_works"]


def _message_of_a_yield() -> object:
    """What a task that only lets others have their turn says to Trio."""
    checkpoint = trio.lowlevel.cancel_shielded_checkpoint()  # noqa: ASYNC105 - driven by hand, once
    try:
        return checkpoint.send(None)
    finally:
        checkpoint.close()


def _message_of_a_block() -> object:
    """What a task that waits says to Trio."""
    wait = trio.lowlevel.wait_task_rescheduled(_abort)  # noqa: ASYNC105 - driven by hand, once
    try:
        return wait.send(None)
    finally:
        wait.close()


def _abort(_raise_cancel: object) -> trio.lowlevel.Abort:
    return trio.lowlevel.Abort.SUCCEEDED


YIELD: Final = _message_of_a_yield()


def trampoline_works() -> bool:
    """Is the message of a yield one constant, and none that a block sends?"""
    return _message_of_a_yield() is YIELD and _message_of_a_block() is not YIELD


@final
class InstrumentSensor(trio.abc.Instrument):
    """Tells workers of one supervisor's bound pools whether they are asleep, from outside.

    Legend: I set once · S changed only in one synchronous stretch.
    """

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor  # I: other supervisors of this run have sensors of their own
        self._scheduled: set[trio.lowlevel.Task] = set()  # S: scheduled since their last step began

    @enable_ki_protection
    def task_scheduled(self, task: trio.lowlevel.Task) -> None:
        """It can run again."""
        self._scheduled.add(task)

    @enable_ki_protection
    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """It runs."""
        self._scheduled.discard(task)
        worker = self._busy_worker(task)
        if worker is not None and worker.asleep:
            worker.pool.woke_up(worker)

    @enable_ki_protection
    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """It has stopped: to sleep, unless it was scheduled meanwhile or has ended."""
        worker = self._busy_worker(task)
        if worker is not None and task not in self._scheduled:
            worker.pool.fell_asleep(worker)

    @enable_ki_protection
    def task_exited(self, task: trio.lowlevel.Task) -> None:
        """It has ended."""
        self._scheduled.discard(task)

    def _busy_worker(self, task: trio.lowlevel.Task) -> Worker | None:
        worker = workers_of_this_run().get(task)
        if worker is None or worker.work is None:
            return None
        pool = worker.pool
        return worker if pool.is_bound and pool.supervisor is self._supervisor else None
