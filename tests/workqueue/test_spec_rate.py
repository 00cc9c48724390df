"""Rates, by the specification: exact times of starts, and how tokens meet lanes of CPUs, parking, freezing and control.

Times are multiples of 1/4 s, exact in binary; a token and a test never meet in the same instant.
"""

import math
from collections.abc import Callable

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from ktrio.workqueue import (
    WQ_FREEZABLE,
    WQ_UNBOUND,
    DelayedWork,
    Rate,
    Work,
    WorkqueueFlags,
    open_supervisor,
    parked,
)
from tests.workqueue.conftest import KIND_NAMES, KINDS, Kind, Trace, alloc, assert_at_zero, open_with

over_kinds = pytest.mark.parametrize("kind", KINDS, ids=KIND_NAMES)


def starter() -> tuple[list[float], Callable[[], None]]:
    """A list of times of starts, from now on, and the function that adds to it."""
    begin, starts = trio.current_time(), list[float]()
    return starts, lambda: starts.append(trio.current_time() - begin)


@pytest.mark.parametrize(
    ("starts", "per", "burst"),
    [
        *((value, 1, 1) for value in (0, -1, math.inf, math.nan, -math.inf)),
        *((1, value, 1) for value in (0, -1, math.inf, math.nan)),
        *((1, 1, value) for value in (0, -1)),
    ],
)
def test_an_unusable_rate_cannot_be_made(starts: float, per: float, burst: int) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Rate(starts, per, burst)


@over_kinds
async def test_starts_are_at_the_times_that_the_rate_says_to_the_instant(kind: Kind) -> None:
    """Two at once, then one every quarter of a second; after a pause of three quarters two again."""
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0], rate=Rate(4, burst=2))
        starts, start = starter()
        for _ in range(6):
            wq.queue_work(Work(start))
        await wq.flush()
        assert starts == [0, 0, 0.25, 0.5, 0.75, 1]
        await trio.sleep(0.75)
        for _ in range(3):
            wq.queue_work(Work(start))
        await wq.flush()
        assert starts[6:] == [1.75, 1.75, 2]


@over_kinds
async def test_lifting_the_rate_starts_all_at_once_up_to_max_active_in_order(kind: Kind, trace: Trace) -> None:
    """Invariants 10 and 13."""
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0], max_active=3, rate=Rate(1, per=1000))
        trace.queue(wq, "a b c d e")
        await wait_all_tasks_blocked()
        assert trace.starts == ["a"]
        wq.set_rate(None)
        assert wq.statistics().nr_active == 3
        await wait_all_tasks_blocked()
        assert trace.starts == ["a", "b", "c"]
        with pytest.raises(TypeError):
            wq.set_rate(3)  # type: ignore[arg-type]
        trace.open(*"abcde")


@over_kinds
async def test_a_newcomer_does_not_take_a_token_before_those_who_wait(kind: Kind, trace: Trace) -> None:
    """Invariant 14: also in the very stretch in which the rate is changed."""
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0], rate=Rate(1, per=100))
        trace.open(*"abcd")
        trace.queue(wq, "a b c")
        await wait_all_tasks_blocked()
        wq.set_rate(Rate(1, per=0.25))
        trace.queue(wq, "d")
        await wq.flush()
        assert trace.starts == ["a", "b", "c", "d"]


@over_kinds
async def test_a_withdrawn_head_leaves_its_turn_to_the_next_at_the_same_time(kind: Kind) -> None:
    """Invariant 19: no token is lost, and none is made."""
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0], rate=Rate(1))
        starts, start = starter()
        items = [DelayedWork(start) for _ in range(5)]
        for item in items:
            wq.queue_work(item)
        await trio.sleep(0.5)
        assert items[1].cancel() is True
        assert items[2].disable() is True
        assert wq.mod_delayed_work(items[3], 10) is False
        await trio.sleep(1)
        assert starts == [0, 1]
        await trio.sleep(10)
        assert starts == [0, 1, 10.5]
        await assert_at_zero(supervisor, wq)


@over_kinds
async def test_an_active_item_withdrawn_before_it_began_has_used_its_token(kind: Kind, trace: Trace) -> None:
    """ "In every stretch of time at most `burst` items become active": becoming active is what is counted."""
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0], rate=Rate(1))
        starts, start = starter()
        first = Work(start)
        wq.queue_work(first)
        assert wq.statistics().nr_active == 1
        wq.queue_work(Work(start))
        assert first.cancel() is True
        assert wq.statistics().nr_active == 0
        await wq.flush()
        assert starts == [1]
        assert trace.events == []


@over_kinds
async def test_tokens_come_in_while_frozen_but_no_more_than_the_burst(kind: Kind) -> None:
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", WorkqueueFlags(kind[0]) | WQ_FREEZABLE, rate=Rate(1, burst=3))
        starts, start = starter()
        assert await supervisor.freeze()
        for _ in range(6):
            wq.queue_work(Work(start))
        await trio.sleep(9.5)
        supervisor.thaw()
        await wq.flush()
        assert starts == [9.5, 9.5, 9.5, 10.5, 11.5, 12.5]


@over_kinds
async def test_with_no_slot_free_no_token_is_taken(kind: Kind, trace: Trace) -> None:
    """A second that passes while all slots are taken is saved up, up to the burst."""
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0], max_active=1, rate=Rate(1, burst=2))
        starts, start = starter()
        trace.queue(wq, "holder")
        for _ in range(4):
            wq.queue_work(Work(start))
        await trio.sleep(10.5)
        trace.open("holder")
        await wq.flush()
        assert starts == [10.5, 10.5, 11.5, 12.5]


@over_kinds
async def test_a_flush_cancelled_and_a_group_cancelled_while_all_wait_for_tokens(kind: Kind, trace: Trace) -> None:
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0], rate=Rate(1, per=1e4))
        with trio.move_on_after(5) as scope:
            async with wq.open_group() as group:
                for name in "abc":
                    group.queue_work(trace.holder(name))
                trace.open("a")
                await group.flush()
        assert scope.cancelled_caught
        assert (trace.starts, trace.discarded) == (["a"], ["b", "c"])
        await assert_at_zero(supervisor, wq)


@over_kinds
async def test_a_parked_item_that_queues_itself_comes_back_at_once_and_runs_again_at_the_next_token(
    kind: Kind,
) -> None:
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0], max_active=1, rate=Rate(1))
        starts, start = starter()

        async def run() -> None:
            start()
            if len(starts) < 3:
                wq.queue_work(item)
            async with parked():
                await trio.sleep(0.25)

        item = Work(run)
        wq.queue_work(item)
        await wq.drain()
        assert starts == [0, 1, 2]
        await assert_at_zero(supervisor, wq)


async def test_ordered_with_a_rate_a_parked_item_and_two_cpus(trace: Trace) -> None:
    """Invariant 16: order first, then the rate."""
    async with open_supervisor(cpus=2) as supervisor:
        wq = supervisor.alloc_ordered_workqueue("ordered", rate=Rate(1))
        starts, start = starter()

        async def park() -> None:
            start()
            async with parked():
                await trio.sleep(1.75)

        for cpu in (0, 1, 0):
            wq.queue_work_on(cpu, Work(park))
        await wq.flush()
        assert starts == [0, 1.75, 3.5]
        assert trace.events == []


async def test_a_change_from_a_slow_to_a_fast_rate_and_back_never_exceeds_either(trace: Trace) -> None:
    async with open_supervisor() as supervisor:
        wq = supervisor.alloc_workqueue("wq", WQ_UNBOUND, rate=Rate(1, per=8))
        starts, start = starter()
        for _ in range(6):
            wq.queue_work(Work(start))
        await trio.sleep(1)
        wq.set_rate(Rate(4))
        await trio.sleep(0.625)
        fast = list(starts)
        assert 3 <= len(fast) <= 4
        wq.set_rate(Rate(1, per=8))
        await trio.sleep(7)
        assert len(starts) <= len(fast) + 1
        await wq.flush()
        assert len(starts) == 6
        assert trace.events == []


async def test_two_queues_with_rates_do_not_share_tokens() -> None:
    async with open_supervisor() as supervisor:
        rate = Rate(1)
        one = supervisor.alloc_workqueue("one", WQ_UNBOUND, rate=rate)
        two = supervisor.alloc_workqueue("two", WQ_UNBOUND, rate=rate)
        free = alloc(supervisor, "free")
        starts, start = starter()
        for wq in (one, two, free):
            wq.queue_work(Work(start))
            wq.queue_work(Work(start))
        for wq in (one, two, free):
            await wq.flush()
        assert sorted(starts) == [0, 0, 0, 0, 1, 1]
