"""The watchdog of stuck items: who has waited for too long without anybody moving (kernel: ``wq_watchdog``).

Items wait in lines: a pool's worklist for a worker or a place, a pwq's inactive items for a slot. A line is *stalled*
if the same one has been at its head for the whole threshold: nothing began there. Each stall is one warning in the log.
It names the line and who stands at its head, and those who hold what they wait for, with their await stacks; a stall
goes on until the head moves. Lines that move, however long, are no stall, nor is one that only waits for its rate.

The timer is armed by whoever finds that an item has to wait. So a supervisor whose items begin at once never arms it,
and one at rest has disarmed it. It looks at the lines once in each threshold, so it notices a stall after one to two.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeAlias, final

import trio

from ktrio.workqueue._dump import busy_workers, describe_runs
from ktrio.workqueue._hogs import is_real_time
from ktrio.workqueue._parking import ReturnToken
from ktrio.workqueue._timer import Timer

if TYPE_CHECKING:
    from ktrio.workqueue._line import Line
    from ktrio.workqueue._pool import Pool
    from ktrio.workqueue._pwq import PoolWorkqueue
    from ktrio.workqueue._supervisor import Supervisor
    from ktrio.workqueue._work import Work

__all__ = ["WATCHDOG", "Watchdog", "watchdog_threshold"]

log = logging.getLogger("ktrio.workqueue")

# Seconds (kernel: wq_watchdog_thresh, 30 s).
WATCHDOG = 30.0

Owner: TypeAlias = "Pool | PoolWorkqueue"
# Whose line it is, and who is at its head: the item and the number of its run, or a parked run that wants to come back.
Head: TypeAlias = "tuple[Work | ReturnToken, int]"


def watchdog_threshold(seconds: float | None) -> float:
    """The seconds asked for; None: `WATCHDOG` in real time, and never under a clock of somebody's own, as in tests."""
    if seconds is None:
        return WATCHDOG if is_real_time() else 0.0
    if not seconds >= 0:
        raise ValueError(f"watchdog must be seconds, or 0 for never, not {seconds}")
    return seconds


@final
class Watchdog:
    """The watchdog of one supervisor.

    Legend: I set once · S changed only in one synchronous stretch.
    """

    __slots__ = ("_heads", "_reported", "_supervisor", "_threshold", "_timer", "is_armed", "wants")

    def __init__(self, supervisor: Supervisor, threshold: float) -> None:
        self._supervisor = supervisor  # I
        self._threshold = threshold  # I, seconds; 0: never
        self._timer = Timer(supervisor.timers, self._look)  # I
        self._heads: dict[Owner, tuple[Head, float]] = {}  # S: of the last look, and since when
        self._reported: set[Owner] = set()  # S: stalls that were
        self.is_armed = False  # S
        self.wants = threshold > 0  # S: to be told by `watch` that somebody waits

    def watch(self) -> None:
        """Somebody has to wait. Ask only if it `wants` to know."""
        now = trio.current_time()
        self._heads = {line: (head, now) for line, head in self._lines()}
        self._arm()

    def _arm(self) -> None:
        self._set_armed(True)
        self._timer.arm(trio.current_time() + self._threshold)

    def rest(self) -> None:
        """A pool has come to rest: so perhaps nobody waits any more. Ask only if it `is_armed`."""
        if next(self._lines(), None) is None:
            self._disarm()

    def _disarm(self) -> None:
        self._timer.cancel()
        self._heads = {}
        self._reported = set()
        self._set_armed(False)

    def _set_armed(self, is_armed: bool) -> None:
        self.wants, self.is_armed = not is_armed, is_armed
        for pool in self._supervisor.pools:
            pool.watched = is_armed

    def _lines(self) -> Iterator[tuple[Owner, Head]]:
        """The lines in which somebody waits, and the heads of them."""
        for pool in self._supervisor.pools:
            if pool.worklist:
                yield pool, _head(pool.worklist)
        for wq in self._supervisor.all_workqueues:
            for pwq in wq.pwqs:
                if pwq.inactive and not pwq.inactive.held and pwq.nr_active >= wq.max_active:
                    yield pwq, _head(pwq.inactive)

    def _look(self) -> None:
        """Compare the lines with what they were one threshold ago, and report those that stand still."""
        now = trio.current_time()
        before, self._heads = self._heads, {}
        for line, head in self._lines():
            was, since = before.get(line, (None, now))
            self._heads[line] = (head, since if head == was else now)
            if head != was:
                self._reported.discard(line)
            elif line not in self._reported:
                self._reported.add(line)
                self._report(line, head, now - since)
        self._reported &= self._heads.keys()
        if self._heads:
            self._arm()
        else:
            self._disarm()

    def _report(self, line: Owner, head: Head, seconds: float) -> None:
        runs = [run for run in busy_workers(self._supervisor) if line in (run.pool, run.pwq) and not run.parked]
        log.warning(
            "%s has begun nothing for %g s, and %s is the first that waits. What runs there:\n%s",
            repr(line),  # as it is now, not when the record is written
            seconds,
            repr(head[0]),
            "\n".join(f"  {text}" for text in describe_runs(runs)),
        )


def _head(line: Line) -> Head:
    entry = line.first()
    return entry, 0 if isinstance(entry, ReturnToken) else entry._runs
