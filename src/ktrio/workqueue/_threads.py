"""Plain functions of `WQ_CPU_INTENSIVE` queues: they run in threads, because on the loop they would hold up everybody.

The kernel's CPU-intensive items have a thread of their own anyhow; a plain function that burns CPU on a loop is the one
thing that leaving `nr_running` cannot help. So it runs in a thread of Trio's, one of `thread_limit` that a supervisor
has at once. To the books that is one step like any other that waits: the item keeps its slot and its place, also while
it waits for a thread.

An interrupt, or the end of the supervisor, waits for the thread: nothing ends a thread from outside. A long function
asks by `trio.from_thread.check_cancelled`. There is no option to abandon one: its item would have ended in the books
while it still ran, and could be run a second time beside itself. Who wants that has an async item that calls
`trio.to_thread.run_sync` with ``abandon_on_cancel=True``.

One whose turn for a thread has not come when it is cancelled has never run: it is discarded.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, cast

import trio

from ktrio.workqueue._outcome import discarded, refuse_other_awaitables
from ktrio.workqueue._timeout import TimeLimit
from ktrio.workqueue._unprotected import ItemCoroutine, call

if TYPE_CHECKING:
    from ktrio.workqueue._work import Work
    from ktrio.workqueue._worker import Worker

__all__ = ["begin_cpu_intensive", "thread_limiter", "valid_thread_limit"]


def thread_limiter(limit: int | None) -> trio.CapacityLimiter:
    """For `limit` threads at once; None: as many as the process may use CPUs."""
    if limit is None:
        limit = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return trio.CapacityLimiter(valid_thread_limit(limit))


def valid_thread_limit(limit: int) -> int:
    """`limit`; ValueError below 1."""
    if limit < 1:
        raise ValueError(f"thread_limit must be at least 1, not {limit}")
    return limit


def begin_cpu_intensive(worker: Worker, work: Work) -> object:
    """What the function of a CPU-intensive item gives: its own coroutine, or one that runs it in a thread."""
    limit = work._fn if isinstance(work._fn, TimeLimit) else None
    fn = work._fn if limit is None else limit.fn
    if inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(type(fn).__call__):
        return call(work._fn, *work._args)
    in_thread = _run_in_thread(worker, work, fn)
    return in_thread if limit is None else limit.bound(in_thread)


async def _run_in_thread(worker: Worker, work: Work, fn: Callable[..., object]) -> object:  # type: ignore[explicit-any]
    begun = False

    def run() -> tuple[object]:
        nonlocal begun
        begun = True
        return (fn(*work._args),)  # Trio would refuse a bare coroutine

    limiter = worker.pool.supervisor.thread_limiter
    try:
        (result,) = await trio.to_thread.run_sync(run, thread_name=worker.name, limiter=limiter)
    except BaseException:
        if not begun:
            discarded(worker.pwq.wq, work)
        raise
    if isinstance(result, Coroutine):
        return await cast("ItemCoroutine", result)
    refuse_other_awaitables(work, result)
    return result
