"""Whatever is done with timers, and however it ends: each queueing accepted runs once or is discarded once (3, W11)."""

from contextlib import suppress
from functools import partial

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from ktrio.workqueue import DelayedWork, PeriodicWork, Rate, WorkqueueError, parked
from tests.workqueue.conftest import KIND_NAMES, KINDS, Kind, assert_queue_at_zero, open_with, run_bounded

pytestmark = pytest.mark.exhaustive

ITEMS = 4

operations = st.tuples(
    st.sampled_from(
        [
            *("delay", "delay", "mod", "mod", "queue", "queue parked", "cancel", "interrupt", "flush", "cancel_sync"),
            *("drain", "drain", "set_rate", "max_active", "tick", "stop", "sleep", "sleep"),
        ]
    ),
    st.integers(0, ITEMS - 1),
    st.integers(0, 5),
)
Program = list[tuple[str, int, int]]


class Count:
    """One delayed item, and what has become of its queueings."""

    def __init__(self, script: list[str]) -> None:
        self.script = script
        self.accepted = self.runs = self.discards = 0
        self.work = DelayedWork(self.run, on_discard=self.discard)

    def discard(self) -> None:
        self.discards += 1

    async def run(self) -> None:
        self.runs += 1
        for step in self.script:
            if step == "sleep":
                await trio.sleep(0.7)
            elif step == "yield":
                await trio.lowlevel.checkpoint()
            else:
                async with parked():
                    await trio.sleep(1.3)


async def live(kind: Kind, program: Program, scripts: list[list[str]], cpus: int, end: str) -> None:
    flags, sensor = kind
    counts = [Count(script) for script in scripts]
    ticker = PeriodicWork(trio.sleep, 0.3, timeout=0.2)
    with trio.CancelScope() as scope:
        async with open_with(sensor)(cpus, capacity=2) as supervisor, trio.open_nursery() as nursery:
            wq = supervisor.alloc_workqueue("random", flags, 1, on_error=lambda _work, _error: None)

            def do(name: str, index: int, number: int) -> None:
                count = counts[index]
                work = count.work
                if name == "delay":
                    count.accepted += wq.queue_delayed_work(work, number / 2)
                elif name == "mod":
                    count.accepted += wq.mod_delayed_work(work, number / 2)
                elif name == "queue":
                    count.accepted += wq.queue_work(work)
                elif name == "queue parked":
                    count.accepted += wq.queue_work(work, parked=True)
                elif name in ("flush", "cancel_sync"):
                    nursery.start_soon(getattr(work, name))
                elif name == "drain":
                    nursery.start_soon(wq.drain)
                elif name == "set_rate":
                    wq.set_rate(Rate(number, burst=2) if number else None)
                elif name == "max_active":
                    wq.set_max_active(1 + number % 3)
                elif name == "tick":
                    wq.queue_periodic_work(ticker, 0.5, first_delay=number / 4)
                elif name == "stop":
                    ticker.cancel()
                else:
                    getattr(work, name)()

            for name, index, number in program:
                if name == "sleep":
                    await trio.sleep(number / 4)
                    continue
                with suppress(WorkqueueError):  # the queue drains
                    do(name, index, number)
            if end == "cancel":
                scope.cancel()
            elif end == "destroy":
                await wq.destroy()
                assert supervisor.timers.armed == 0
                await wait_all_tasks_blocked()
    assert_queue_at_zero(wq)
    assert not ticker.is_ticking
    assert (wq.statistics().delayed, wq.statistics().periodic, supervisor.timers.armed) == (0, 0, 0)
    for count in counts:
        assert count.accepted == count.runs + count.discards
        assert not count.work.is_pending
        assert not count.work.is_running


def check(kind: Kind, program: Program, scripts: list[list[str]], cpus: int, end: str) -> None:
    run_bounded(partial(live, kind, program, scripts, cpus, end))


@pytest.mark.parametrize("kind", KINDS, ids=KIND_NAMES)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    program=st.lists(operations, min_size=10, max_size=50),
    scripts=st.lists(st.lists(st.sampled_from(["sleep", "yield", "park"]), max_size=3), min_size=ITEMS, max_size=ITEMS),
    cpus=st.sampled_from([1, 2]),
    end=st.sampled_from(["leave", "cancel", "destroy"]),
)
def test_nothing_with_a_timer_is_lost(
    kind: Kind, program: Program, scripts: list[list[str]], cpus: int, end: str
) -> None:
    """W11; invariants 3, 21, 52, 60, 62."""
    check(kind, program, scripts, cpus, end)


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=KIND_NAMES)
@settings(max_examples=1500, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    program=st.lists(operations, min_size=10, max_size=50),
    scripts=st.lists(st.lists(st.sampled_from(["sleep", "yield", "park"]), max_size=3), min_size=ITEMS, max_size=ITEMS),
    cpus=st.sampled_from([1, 2]),
    end=st.sampled_from(["leave", "cancel", "destroy"]),
)
def test_nothing_with_a_timer_is_lost_at_length(
    kind: Kind, program: Program, scripts: list[list[str]], cpus: int, end: str
) -> None:
    check(kind, program, scripts, cpus, end)
