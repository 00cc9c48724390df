"""Virtual time, moved by hand: nothing here takes a second of anybody's life."""

from __future__ import annotations

from typing import Final

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

# Real seconds between two looks at worker threads, which cannot be waited for otherwise.
THREADS_LOOK: Final = 0.001
# The smallest step of time: what rounding may leave before a deadline is passed over.
LEAST_STEP: Final = 1e-6


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

    Worker threads are waited for, in real time, if they were started by `trio.to_thread.run_sync` with its default
    limiter.
    """
    threads = trio.to_thread.current_default_thread_limiter()
    while True:
        await wait_all_tasks_blocked()
        if not threads.borrowed_tokens:
            return
        await wait_all_tasks_blocked(THREADS_LOOK)


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
