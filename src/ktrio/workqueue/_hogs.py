"""Who keeps the loop? Every step of an item is timed, and the long ones are counted, named and reported.

A *step* is what an item does from one await that gives up the loop to the next. One that takes longer than the
threshold is the work of a *hog*: nobody else had a turn meanwhile, whatever pool the item runs in. The kernel looks at
ticks and only at pools that manage concurrency; we see every step, but only once it is over.

* Each long step is counted in a table, by function. The report in the log comes at the 4th, 5th, 7th, 11th, 19th …:
  whoever is slow once is not worth a line, and whoever always is does not fill the log (kernel:
  ``wq_cpu_intensive_report``).
* In a bound pool the run is from then on *CPU-intensive*: it does not count in `nr_running`, so it holds up nobody
  (kernel: ``wq_worker_tick``, which sets ``WORKER_CPU_INTENSIVE``). Its queue counts it in `cpu_intensive`, once per
  run.

Steps are timed by the clock that runs: by `time.perf_counter` under Trio's own clock, which is that plus an offset and
three times as dear, and else by the clock of the run. Under a `trio.testing.MockClock` jumping it is burning CPU.

What counts in the end is the time for which the thread had the processor, or every busy machine would make hogs of us
all. Asking for that is dear, so a sample is taken by a step that begins more than `RESAMPLE_AFTER` after the last one,
and looked at when a step has been long. So what came before it may be counted in, at most that much.

The worker reads the clock once after each item, which it must do anyway to know when to give up the loop, and twice
more for each step that ends in an await. So an item that never awaits pays nothing for being timed.
"""

from __future__ import annotations

import functools
import logging
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, cast, final

import trio

from ktrio.workqueue._policy import must_report_hog
from ktrio.workqueue._statistics import HogStatistics
from ktrio.workqueue._timeout import TimeLimit

if TYPE_CHECKING:
    from ktrio.workqueue._work import Work
    from ktrio.workqueue._worker import Worker

__all__ = ["CPU_INTENSIVE_THRESHOLD", "Hogs", "is_real_time", "step_was_long", "valid_threshold"]

log = logging.getLogger("ktrio.workqueue")

# Seconds (kernel: wq_cpu_intensive_thresh_us, 10 000 µs).
CPU_INTENSIVE_THRESHOLD: Final = 0.010
# Seconds for which a sample of the thread's processor time is good enough: it costs ten readings of the clock.
RESAMPLE_AFTER: Final = 0.002
# Functions kept apart (kernel: WCI_MAX_ENTS). Those that come when the table is full are counted together.
MAX_FUNCTIONS: Final = 128
OTHERS: Final = "(others)"


def step_clocks() -> tuple[Callable[[], float], Callable[[], float]]:
    """What to time steps by in this run of the loop, in seconds; and how much of that this thread had the processor."""
    if is_real_time():
        return time.perf_counter, time.thread_time
    clock = trio.lowlevel.current_clock().current_time
    return clock, clock


def is_real_time() -> bool:
    """Does this run of the loop go by Trio's own clock?"""
    # The class has no public name. Should it be called something else one day, its `current_time` does as well.
    return type(trio.lowlevel.current_clock()).__name__ == "SystemClock"


def valid_threshold(seconds: float) -> float:
    """`seconds`, which are infinite for never; ValueError if negative or no number."""
    if not seconds >= 0:
        raise ValueError(f"cpu_intensive_threshold must be seconds, or 0 for never, not {seconds}")
    return seconds or float("inf")


@final
class Hogs:
    """The long steps of one supervisor's items, by function.

    Legend: I set once · S changed only in one synchronous stretch.
    """

    __slots__ = ("_ours", "_ours_then", "_table", "now", "resample_at", "threshold")

    def __init__(self, threshold: float) -> None:
        self.threshold = valid_threshold(threshold)  # S, seconds
        self.now, self._ours = step_clocks()  # I
        self._ours_then = 0.0  # S: `_ours` at the last sample
        self.resample_at = -math.inf  # S, by `now`: when the next step that begins takes a sample
        self._table: dict[str, tuple[int, float]] = {}  # S: how often, and the longest in seconds

    def sample(self, now: float) -> None:
        """A step begins at `now`: note how much the thread has had so far."""
        self._ours_then = self._ours()
        self.resample_at = now + RESAMPLE_AFTER

    def processor_time(self, seconds: float) -> float:
        """Of `seconds`, which a step took that ends now, what the thread had the processor for, or a little more."""
        return min(seconds, self._ours() - self._ours_then)

    def note(self, work: Work, seconds: float) -> None:
        """Count a long step, and report it if it is time to."""
        function = _name_of(work._fn)
        if function not in self._table and len(self._table) >= MAX_FUNCTIONS:
            function = OTHERS
        count, longest = self._table.get(function, (0, 0.0))
        count += 1
        self._table[function] = count, max(longest, seconds)
        if must_report_hog(count):
            log.warning(
                "%s kept the loop for more than %g ms %d times, now for %.0f ms (%r): let it run in a thread "
                "(trio.to_thread.run_sync, or a plain function on a WQ_CPU_INTENSIVE queue), or put checkpoints into "
                "it; on a bound queue consider WQ_CPU_INTENSIVE or WQ_UNBOUND",
                function,
                self.threshold * 1000,
                count,
                seconds * 1000,
                work,
            )

    def statistics(self) -> tuple[HogStatistics, ...]:
        """The counts of this moment, the most frequent first."""
        rows = sorted(self._table.items(), key=lambda row: row[1], reverse=True)
        return tuple(HogStatistics(function=name, count=count, longest=longest) for name, (count, longest) in rows)


def step_was_long(worker: Worker, work: Work, seconds: float, *, is_last: bool) -> None:
    """A step of `work` took longer than the threshold; if it was not the run's last, the run goes on."""
    pool = worker.pool
    seconds = pool.supervisor.hogs.processor_time(seconds)
    if seconds <= pool.supervisor.hogs.threshold:  # for the rest it waited for the machine
        return
    if worker.counted:
        worker.pwq.cpu_intensive += 1
        if not is_last:
            pool.set_cpu_intensive(worker)
            pool.kick()
    pool.supervisor.hogs.note(work, seconds)


def _name_of(fn: Callable[..., object]) -> str:  # type: ignore[explicit-any]
    """Of the function itself: all its partials, and its methods' objects, are one."""
    while isinstance(fn, functools.partial | TimeLimit):
        fn = fn.fn if isinstance(fn, TimeLimit) else cast("Callable[..., object]", fn.func)  # type: ignore[explicit-any]
    named = fn if hasattr(fn, "__qualname__") else type(fn)
    return f"{getattr(named, '__module__', None) or 'builtins'}.{named.__qualname__}"
