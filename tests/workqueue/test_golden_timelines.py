"""The kernel's own timelines: `Documentation/core-api/workqueue.rst`, "Example Execution Scenarios".

Work items w0, w1 and w2 are queued to a bound queue. w0 burns CPU for 5 ms, sleeps for 10 ms and burns CPU for 5 ms;
w1 and w2 burn for 5 ms and sleep for 10 ms. Burning is jumping the clock: the loop, our one CPU, is held meanwhile.
"""

from collections import Counter
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from ktrio.workqueue import WQ_CPU_INTENSIVE, Work, WorkqueueFlags
from tests.workqueue.conftest import SENSORS, alloc_bound, bound_pool, open_with, run_bounded

RUNS = 30

SCRIPTS = {
    "w0": ("burns 5", "sleeps 10", "burns 5"),
    "w1": ("burns 5", "sleeps 10"),
    "w2": ("burns 5", "sleeps 10"),
}

# "max_active >= 3".
THREE = """
 0 w0 starts and burns CPU
 5 w0 sleeps
 5 w1 starts and burns CPU
10 w1 sleeps
10 w2 starts and burns CPU
15 w2 sleeps
15 w0 wakes up and burns CPU
20 w0 finishes
20 w1 wakes up and finishes
25 w2 wakes up and finishes
"""

# "max_active == 2". The document has w1 wake up and finish at 20, before w2 starts; but w0's worker goes on with w2 and
# does not let go of the one CPU before 25.
TWO = """
 0 w0 starts and burns CPU
 5 w0 sleeps
 5 w1 starts and burns CPU
10 w1 sleeps
15 w0 wakes up and burns CPU
20 w0 finishes
20 w2 starts and burns CPU
25 w2 sleeps
25 w1 wakes up and finishes
35 w2 wakes up and finishes
"""

# "max_active == 1": not in the document; without overlap there is nothing to manage.
ONE = """
 0 w0 starts and burns CPU
 5 w0 sleeps
15 w0 wakes up and burns CPU
20 w0 finishes
20 w1 starts and burns CPU
25 w1 sleeps
35 w1 wakes up and finishes
35 w2 starts and burns CPU
40 w2 sleeps
50 w2 wakes up and finishes
"""

# "w1 and w2 are queued to a different wq q1 which has WQ_CPU_INTENSIVE set". In the document both start at 5, on what
# CPUs there are; here there is one, and w2 has it when w1 sleeps.
CPU_INTENSIVE = """
 0 w0 starts and burns CPU
 5 w0 sleeps
 5 w1 starts and burns CPU
10 w1 sleeps
10 w2 starts and burns CPU
15 w2 sleeps
15 w0 wakes up and burns CPU
20 w0 finishes
20 w1 wakes up and finishes
25 w2 wakes up and finishes
"""

Outcome = tuple[tuple[str, ...], int, int, int]


def lines(table: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in table.strip().splitlines())


async def play(clock: MockClock, sensor: str, max_active: int, q1_flags: WorkqueueFlags | None = None) -> Outcome:
    """Run the example: its events with their times in ms, workers created, items moved on by a sleeper, nr_running.

    With `q1_flags` w1 and w2 go to a second queue, which has these flags.
    """
    events: list[str] = []

    def note(event: str) -> None:
        events.append(f"{round(trio.current_time() * 1000 - begin)} {event}")

    async def body(name: str) -> None:
        steps = [(verb, int(number) / 1000) for verb, number in (step.split() for step in SCRIPTS[name])]
        does = "starts"
        for verb, seconds in steps:
            if verb == "burns":
                note(f"{name} {does} and burns CPU")
                clock.jump(seconds)
            else:
                note(f"{name} sleeps")
                await trio.sleep(seconds)
                does = "wakes up"
        note(f"{name} finishes" if steps[-1][0] == "burns" else f"{name} wakes up and finishes")

    async with open_with(sensor)() as supervisor:
        wq = alloc_bound(supervisor, max_active=max_active)
        q1 = wq if q1_flags is None else supervisor.alloc_workqueue("q1", q1_flags, max_active=max_active)
        begin = trio.current_time() * 1000
        for name, queue in zip(SCRIPTS, (wq, q1, q1), strict=True):
            queue.queue_work(Work(body, name, name=name))
        await wq.flush()
        await q1.flush()
        pool, books = bound_pool(supervisor), supervisor.statistics().workqueues
        return tuple(events), pool.created, sum(queue.cm_wakeups for queue in books), pool.nr_running


@pytest.mark.parametrize("sensor", SENSORS)
@pytest.mark.parametrize(
    ("max_active", "table", "workers", "cm_wakeups"),
    [(0, THREE, 4, 2), (3, THREE, 4, 2), (2, TWO, 3, 1), (1, ONE, 2, 0)],
)
def test_the_kernels_timeline(max_active: int, table: str, workers: int, cm_wakeups: int, sensor: str) -> None:
    """W56; invariant 61: events, times, worker totals and CMW, one and the same trace in all runs."""
    outcomes: Counter[Outcome] = Counter()
    for _ in range(RUNS):
        clock = MockClock(autojump_threshold=0)
        outcomes[run_bounded(partial(play, clock, sensor, max_active), clock=clock)] += 1
    assert outcomes == {(lines(table), workers, cm_wakeups, 0): RUNS}


@pytest.mark.parametrize("sensor", SENSORS)
@pytest.mark.parametrize("max_active", [0, 2])
def test_the_kernels_timeline_with_cpu_intensive_items(max_active: int, sensor: str) -> None:
    """Invariants 35 and 61: w1 does not count, so w2's start waits for no sleeper, and only w0's sleep is a CMW.

    W56.
    """
    outcomes: Counter[Outcome] = Counter()
    for _ in range(RUNS):
        clock = MockClock(autojump_threshold=0)
        outcomes[run_bounded(partial(play, clock, sensor, max_active, WQ_CPU_INTENSIVE), clock=clock)] += 1
    assert outcomes == {(lines(CPU_INTENSIVE), 4, 1, 0): RUNS}
