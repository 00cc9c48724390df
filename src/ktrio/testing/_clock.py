"""Virtual time, moved by hand: nothing here takes a second of anybody's life."""

from __future__ import annotations

import gc
import inspect
from collections.abc import Iterator
from typing import Final

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

# Real seconds between two looks at worker threads, which cannot be waited for otherwise.
THREADS_LOOK: Final = 0.001
# The smallest step of time: what rounding may leave before a deadline is passed over.
LEAST_STEP: Final = 1e-6
# What a task is in that waits for a thread, whatever limits the threads.
_RUN_SYNC: Final = inspect.unwrap(trio.to_thread.run_sync).__code__


def run_clock() -> MockClock:
    """The clock of this run.

    Raises:
      RuntimeError: it is no `trio.testing.MockClock`.
    """
    clock = trio.lowlevel.current_clock()
    if not isinstance(clock, MockClock):
        raise RuntimeError(
            "ktrio.testing needs virtual time: call trio.run(..., clock=trio.testing.MockClock()), "
            "or let the test ask for pytest-trio's fixture mock_clock or autojump_clock"
        )
    return clock


def burn(seconds: float) -> None:
    """Burn CPU in virtual time: `seconds` pass, and nobody else runs meanwhile, as in a long computation.

    Raises:
      ValueError: `seconds` is negative.
      RuntimeError: the clock of the run is no `trio.testing.MockClock`.
    """
    run_clock().jump(seconds)


async def settle() -> None:
    """Let everything run that can, until all wait for time, for a peer or for each other. Time stands still.

    Tasks that wait for a worker thread are waited for, in real time.
    """
    while True:
        await wait_all_tasks_blocked()
        if not any(map(_waits_for_thread, _tasks_below(trio.lowlevel.current_root_task()))):
            return
        await wait_all_tasks_blocked(THREADS_LOOK)


def _tasks_below(root: trio.lowlevel.Task | None) -> Iterator[trio.lowlevel.Task]:
    waiting = [root] if root is not None else []
    while waiting:
        task = waiting.pop()
        yield task
        for nursery in task.child_nurseries:
            waiting.extend(nursery.child_tasks)


def _waits_for_thread(task: trio.lowlevel.Task) -> bool:
    return any(code is _RUN_SYNC for code in _codes_below(task.coro))


def _codes_below(awaited: object) -> Iterator[object]:
    """The code of each function that waits, from the outside in.

    As `trio.lowlevel.Task.iter_await_frames`, which stops at ``await anext(iterator, default)``: that object says
    nothing of what it waits for, but the collector knows.
    """
    while awaited is not None:
        for kind in ("cr", "gi", "ag"):
            if hasattr(awaited, f"{kind}_frame"):
                yield getattr(getattr(awaited, f"{kind}_frame"), "f_code", None)
                awaited = getattr(awaited, "gi_yieldfrom" if kind == "gi" else f"{kind}_await", None)
                break
        else:
            awaited = next(filter(_is_awaited, gc.get_referents(awaited)), None)


def _is_awaited(each: object) -> bool:
    return type(each).__name__ in ("coroutine", "generator", "async_generator", "async_generator_asend")


async def advance(clock: MockClock, seconds: float) -> None:
    """Let `seconds` pass, from deadline to deadline, and everything run at each, in the end as well.

    Raises:
      ValueError: `seconds` is negative.
    """
    if seconds < 0:
        raise ValueError(f"time cannot go back {-seconds:g} s")
    await settle()
    until = clock.current_time() + seconds
    while (left := until - clock.current_time()) > 0:
        upcoming = trio.lowlevel.current_statistics().seconds_to_next_deadline
        clock.jump(min(left, max(upcoming, LEAST_STEP)))
        await settle()
