"""The decisions of the workqueue as questions: counts in, bool or count out; no worker, no pool, no clock.

The names are those of the kernel's policy functions where it has one.
"""

from __future__ import annotations

# kernel: MAX_IDLE_WORKERS_RATIO, one idle worker tolerated for every four busy ones beyond the first two.
MAX_IDLE_WORKERS_RATIO = 4
# Items a worker may run, and seconds it may take, before it lets the loop go on. 64 no-op items are about 0.1 ms;
# 1 ms is the longest turn that anything of ours may cause.
YIELD_AFTER_ITEMS = 64
YIELD_AFTER_SECONDS = 0.001
# An item that blocks with a backlog wakes two workers, so that N blocking items start in log2(N) turns of the loop and
# not in N (measured: 44 turns for 10 000 items instead of 10 001).
WAKE_UPS_ON_BLOCK = 2
# The count of long steps of one function from which on they are reported (kernel: wq_cpu_intensive_warning_thresh).
HOG_WARNING_THRESHOLD = 4
# Stale entries that are cheaper to leave in the heap of timers than to take out.
STALE_TIMERS = 64


def has_slot(nr_active: int, max_active: int) -> bool:
    """May one more item of this pwq become active? Asked at every queueing, promotion and return."""
    return nr_active < max_active


def has_room(pending: int, max_pending: int) -> bool:
    """May one more queueing from outside be pending? Asked at every one if there is a limit; 0 is none."""
    return max_pending == 0 or pending < max_pending


def has_place(occupied: int, capacity: int) -> bool:
    """May the pool run one more item? Asked by a worker before it takes an item, and for every return."""
    return occupied < capacity


def needs_rescue(backlog: int, occupied: int, capacity: int, nr_running: int) -> bool:
    """Does a pool's work wait for nothing but a place? Asked by its mayday timer, and by a rescuer before each item."""
    return backlog > 0 and occupied >= capacity and nr_running < 1


def need_more_worker(backlog: int, nr_running: int) -> bool:
    """Does a bound pool's work wait while nobody runs? Asked by whoever wakes a worker, and by the woken one itself.

    The threshold is 1 and no option (kernel: same name): new items start only while the ones that began are asleep.
    """
    return backlog > 0 and nr_running < 1


def keep_working(backlog: int, nr_running: int) -> bool:
    """May a worker of a bound pool, itself counted, go on with the next item? Asked after each (kernel: same name)."""
    return backlog > 0 and nr_running <= 1


def may_start_working(nr_idle: int, nr_starting: int) -> bool:
    """Is another worker in reserve? Asked by a worker before its first item after waking (kernel: same name)."""
    return nr_idle + nr_starting > 0


def too_many_workers(nr_idle: int, nr_busy: int) -> bool:
    """Are there more idle workers than worth keeping? Asked when one goes idle and when the cull timer fires."""
    return nr_idle > 2 and (nr_idle - 2) * MAX_IDLE_WORKERS_RATIO >= nr_busy


def wake_ups(wanted: int, backlog: int, room: int, nr_starting: int) -> int:
    """How many workers to wake so that `wanted` are on their way, if `backlog` items wait and `room` more may run.

    Asked with one wanted when an item comes (a burst of items that never block needs one worker and one task switch),
    with more when an item blocks.
    """
    return max(0, min(wanted, backlog, room) - nr_starting)


def must_yield(items: int, seconds: float) -> bool:
    """Has a worker had its turn of the loop? Asked after each item, written out there."""
    return items >= YIELD_AFTER_ITEMS or seconds > YIELD_AFTER_SECONDS


def must_report_hog(count: int) -> bool:
    """Is this long step of a function worth a line in the log? Asked after counting it: the 4th, 5th, 7th, 11th, …"""
    beyond = count + 1 - HOG_WARNING_THRESHOLD
    return beyond > 0 and beyond & (beyond - 1) == 0  # a power of two


def too_many_stale(nr_stale: int, nr_armed: int) -> bool:
    """Does the heap of timers hold too much that nobody waits for? Asked when an entry becomes stale.

    Half of it at most, but for a few: building it anew then costs each arming no more than a constant.
    """
    return nr_stale > nr_armed + STALE_TIMERS


def next_tick(first: float, interval: float, now: float) -> int:
    """Which tick is the next one after `now`, if tick n is at ``first + n * interval``? Asked at each tick."""
    if now < first:
        return 0
    tick = int((now - first) // interval) + 1
    return tick + (first + tick * interval <= now)  # a quotient may come out a little too small


def next_start(full_at: float, interval: float, burst: int) -> float:
    """From when on may an item of a queue with a rate start? Asked at each activation.

    Its bucket has a token more every `interval` seconds, and `burst` of them, as many as it holds, at `full_at`. A time
    and not a count of tokens: what the timer is set to is exactly what is compared when it fires, whatever is rounded.
    """
    return full_at - (burst - 1) * interval


def full_after_start(full_at: float, interval: float, now: float) -> float:
    """When is the bucket full again, if an item starts now? Asked when one does."""
    return max(full_at, now) + interval


def full_after_change(full_at: float, now: float, interval_before: float, interval: float, burst: int) -> float:
    """When is it full, if its rate changes now? The tokens that it lacks are the same, or it would be a way around."""
    lacking = max(0.0, full_at - now) / interval_before
    return now + min(lacking, burst) * interval
