"""A sleep under a scope that is cancelled already is no sleep: who "falls asleep" so is back in the next turn.

The trampoline takes it for a block; so workers hesitate before they start what they may start because of it. The runs
are many because Trio shuffles who comes first.
"""

from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from ktrio.workqueue import Work
from tests.workqueue.conftest import (
    SENSORS,
    Open,
    Trace,
    alloc_bound,
    assert_at_zero,
    bound_pool,
    open_with,
    run_bounded,
)

RUNS = 60


async def cancelled_sleeps(count: int) -> None:
    """Sleep that many times under a scope that was cancelled before."""
    with trio.CancelScope() as scope:
        scope.cancel()
        for number in range(count):
            try:
                await trio.sleep(1)
            except trio.Cancelled:
                if number == count - 1:
                    raise


def outcomes_of(scenario: Callable[..., Awaitable[None]], *args: object) -> Counter[tuple[str, ...]]:
    """What became of it in many runs."""
    outcomes: Counter[tuple[str, ...]] = Counter()
    for _ in range(RUNS):
        trace = Trace()
        run_bounded(partial(scenario, trace, *args))
        outcomes[tuple(trace.events)] += 1
    return outcomes


async def one_sleeper(trace: Trace, sensor: str, count: int, idle: int) -> None:
    async def body() -> None:
        trace.note("sleeper starts")
        await cancelled_sleeps(count)
        trace.note("sleeper is back")
        await trio.lowlevel.checkpoint()
        trace.note("sleeper ends")

    async with open_with(sensor)() as supervisor:
        wq = alloc_bound(supervisor)
        for _ in range(idle):  # so that more workers than one are at hand
            wq.queue_work(Work(trio.sleep, 1))
        await wq.flush()
        wq.queue_work(Work(body))
        wq.queue_work(Work(trace.note, "next"))
        await wq.flush()
        assert bound_pool(supervisor).created <= max(2, idle + 1), "nobody was made for what was no sleep"
        await assert_at_zero(supervisor, wq)


@pytest.mark.slow
@pytest.mark.parametrize("sensor", SENSORS)
@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("idle", [0, 3])
def test_a_sleep_under_a_cancelled_scope_starts_nothing_early(sensor: str, count: int, idle: int) -> None:
    """W50; invariant 25 and the prototype's 4.6, also for one such sleep after the other."""
    expected = ("sleeper starts", "sleeper is back", "sleeper ends", "next")
    assert outcomes_of(one_sleeper, sensor, count, idle) == {expected: RUNS}


async def two_woken_at_once(trace: Trace, sensor: str) -> None:
    """A worker that was to start a parked item, which was withdrawn, arrives together with the one that was woken."""

    async def body() -> None:
        trace.note("sleeper starts")
        wq.queue_work(Work(trace.note, "next"))
        for _ in range(2):
            withdrawn = Work(trace.note, "never")
            wq.queue_work(withdrawn, parked=True)
            withdrawn.cancel()
        await cancelled_sleeps(3)
        trace.note("sleeper is back")

    async with open_with(sensor)() as supervisor:
        wq = alloc_bound(supervisor)
        for _ in range(3):
            wq.queue_work(Work(trio.sleep, 1))
        await wq.flush()
        wq.queue_work(Work(body))
        await wq.drain()
        await assert_at_zero(supervisor, wq)


@pytest.mark.parametrize("sensor", SENSORS)
def test_nobody_else_who_arrives_meanwhile_starts_it_either(sensor: str) -> None:
    """W50. All who are woken hesitate, not only the first."""
    assert outcomes_of(two_woken_at_once, sensor) == {("sleeper starts", "sleeper is back", "next"): RUNS}


async def beside_one_that_ends(trace: Trace, sensor: str) -> None:
    """Two woken sleepers run; the one "falls asleep" under a cancelled scope, the other ends just then."""
    gate = trio.Event()
    awake: set[str] = set()
    may_end = False

    async def one() -> None:
        nonlocal may_end
        await gate.wait()
        awake.add("one")
        while len(awake) < 2:
            await trio.lowlevel.checkpoint()
        wq.queue_work(Work(trace.note, "next"))
        may_end = True
        await cancelled_sleeps(2)
        trace.note("sleeper is back")

    async def two() -> None:
        await gate.wait()
        awake.add("two")
        while not may_end:
            await trio.lowlevel.checkpoint()

    async with open_with(sensor)() as supervisor:
        wq = alloc_bound(supervisor)
        for body in (one, two):
            wq.queue_work(Work(body))
        await wait_all_tasks_blocked()
        gate.set()
        await wq.drain()
        await assert_at_zero(supervisor, wq)


@pytest.mark.parametrize("sensor", SENSORS)
def test_one_that_goes_on_working_does_not_start_it_either(sensor: str) -> None:
    """W49; invariant 22: it is not alone."""
    assert outcomes_of(beside_one_that_ends, sensor) == {("sleeper is back", "next"): RUNS}


async def test_what_cannot_be_cancelled_does_sleep_under_a_cancelled_scope(open_bound: Open) -> None:
    """W50; invariant 23: hesitating is not refusing: the next item starts."""
    waiting: list[trio.lowlevel.Task] = []

    async def body() -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            waiting.append(trio.lowlevel.current_task())
            await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)

    async with open_bound() as supervisor:
        wq = alloc_bound(supervisor)
        started = trio.Event()
        wq.queue_work(Work(body))
        wq.queue_work(Work(started.set))
        await started.wait()
        assert wq.statistics().cm_wakeups == 1
        trio.lowlevel.reschedule(waiting[0])
        await wq.flush()
        await assert_at_zero(supervisor, wq)
