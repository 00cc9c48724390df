"""Which item does a task belong to? (kernel: ``current_work``)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from ktrio.workqueue._work import Work
    from ktrio.workqueue._worker import Worker

__all__ = ["current_work", "enclosing_workers", "own_worker", "tasks_of", "workers_of_this_run"]

# The workers of this run of the loop by task: how `parked` and `current_work` find their item without a supervisor at
# hand. A RunVar, so nothing outlives the run; a worker enters itself when it begins and leaves when it ends.
_workers: trio.lowlevel.RunVar[dict[trio.lowlevel.Task, Worker]] = trio.lowlevel.RunVar("ktrio workers")


def workers_of_this_run() -> dict[trio.lowlevel.Task, Worker]:
    """The table of workers by task; only `Worker.run` changes it."""
    try:
        return _workers.get()
    except LookupError:
        table: dict[trio.lowlevel.Task, Worker] = {}
        _workers.set(table)
        return table


def enclosing_workers(task: trio.lowlevel.Task | None = None) -> Iterator[Worker]:
    """The workers whose items the calling task (or `task`) belongs to, innermost first; none outside items.

    Walks up the task tree, so child tasks of an item count as inside it, and no context variable is paid per item.
    """
    if task is None:
        try:
            task = trio.lowlevel.current_task()
        except RuntimeError:  # not in a task: a callback of the loop
            return
    table = workers_of_this_run()
    while task is not None and table:
        worker = table.get(task)
        if worker is not None and worker.work is not None:
            yield worker
        task = task.parent_nursery.parent_task if task.parent_nursery is not None else None


def current_work() -> Work | None:
    """The item that the calling task runs or was started by; None outside items (kernel: ``current_work``)."""
    for worker in enclosing_workers():
        return worker.work
    return None


def own_worker() -> Worker | None:
    """The worker that the calling task is, if it is running an item."""
    try:
        worker = workers_of_this_run().get(trio.lowlevel.current_task())
    except RuntimeError:
        return None
    return worker if worker is not None and worker.work is not None else None


def tasks_of(run: Worker) -> Iterator[trio.lowlevel.Task]:
    """The task of an item, and all tasks below it in the tree."""
    ahead = [run.task]
    while ahead:
        task = ahead.pop()
        yield task
        ahead.extend(child for nursery in task.child_nurseries for child in nursery.child_tasks)
