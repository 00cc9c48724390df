"""`queue_work(work, parked=True)` on bound queues: a worker at once, whoever runs; also before there is a pool."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from ktrio.workqueue import Work, parked
from tests.workqueue.conftest import Open, Trace, alloc_bound, assert_at_zero, assert_queue_at_zero, bound_pool


async def test_it_starts_past_line_slots_capacity_and_running_items(open_bound: Open, trace: Trace) -> None:
    """P2 and P3: nothing gates it; one that is awake counts in nr_running like any other."""
    stop = False

    async def spin() -> None:
        while not stop:
            await trio.lowlevel.checkpoint()

    async with open_bound(capacity=1) as supervisor:
        wq = alloc_bound(supervisor, max_active=1)
        wq.queue_work(Work(spin))
        trace.queue(wq, "behind")
        await trio.lowlevel.checkpoint()
        names = [str(number) for number in range(20)]
        for name in names:
            assert wq.queue_work(trace.parker(name), parked=True) is True
        for _ in range(10):
            await trio.lowlevel.checkpoint()
        assert sorted(trace.starts) == sorted(names)
        books, pool = wq.statistics(), bound_pool(supervisor)
        assert (books.nr_active, books.inactive, books.parked, books.running) == (1, 1, 20, 21)
        assert (pool.occupied, pool.parked, pool.nr_running) == (1, 20, 1)
        stop = True
        trace.open(*names, *(f"{name} back" for name in names), "behind")
        await wq.flush()
        assert wq.statistics().overshoot == 0
        await assert_at_zero(supervisor, wq)
    assert len(trace.ends) == 21


async def test_one_that_does_not_sleep_holds_up_new_items(open_bound: Open, trace: Trace) -> None:
    """W49; invariant 22: it bypasses the gate, and it is one of those who run."""
    async with open_bound() as supervisor:
        wq = alloc_bound(supervisor)

        async def body() -> None:
            trace.queue(wq, "a")
            for _ in range(10):
                await trio.lowlevel.checkpoint()
                assert bound_pool(supervisor).nr_running == 1
            assert trace.starts == []
            async with parked():
                await trace.gate("parked").wait()

        wq.queue_work(Work(body), parked=True)
        await wait_all_tasks_blocked()
        assert trace.starts == ["a"]
        assert wq.statistics().cm_wakeups == 1
        trace.open("a", "parked")
        await wq.flush()
        await assert_at_zero(supervisor, wq)


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("capacity", [1, 100])
async def test_queued_before_the_pool_has_begun_it_starts_with_it(
    open_bound: Open, trace: Trace, count: int, capacity: int
) -> None:
    """Right after the first allocation the pool's task has not run yet."""
    names = [str(number) for number in range(count)]
    async with open_bound(2, capacity=capacity) as supervisor:
        wq = alloc_bound(supervisor, max_active=1)
        trace.queue(wq, "before", cpu=0)
        for name in names:
            assert wq.queue_work_on(0, trace.parker(name), parked=True) is True
        trace.queue(wq, "after", cpu=0)
        assert bound_pool(supervisor).created == 0
        assert wq.statistics().pending == count + 2
        await wait_all_tasks_blocked()
        assert sorted(trace.starts) == sorted([*names, "before"])
        assert bound_pool(supervisor).parked == count
        trace.open(*names, *(f"{name} back" for name in names), "before", "after")
        await wq.flush()
        await assert_at_zero(supervisor, wq)
    assert sorted(trace.ends) == sorted([*names, "before", "after"])


async def test_cancelled_before_the_pool_has_begun_it_is_discarded(open_bound: Open, trace: Trace) -> None:
    """P2: on_discard, once, and it never starts; queued again, it does."""
    async with open_bound() as supervisor:
        wq = alloc_bound(supervisor)
        works = [trace.parker(name) for name in "abc"]
        for work in works:
            wq.queue_work(work, parked=True)
        assert works[1].cancel() is True
        assert trace.discarded == ["b"]
        await wait_all_tasks_blocked()
        assert sorted(trace.starts) == ["a", "c"]
        assert wq.queue_work(works[1], parked=True) is True
        trace.open(*"abc", *(f"{name} back" for name in "abc"))
        await wq.flush()
        await assert_at_zero(supervisor, wq)
    assert trace.discarded == ["b"]
    assert sorted(trace.ends) == ["a", "b", "c"]


async def test_the_worker_of_a_withdrawn_one_takes_what_waits(open_bound: Open, trace: Trace) -> None:
    """W42; invariant 23: it was on its way, so nobody else was woken for the item behind it."""
    async with open_bound() as supervisor:
        wq = alloc_bound(supervisor)
        await wait_all_tasks_blocked()
        for number in range(5):
            work = trace.parker("never")
            wq.queue_work(work, parked=True)
            trace.queue(wq, str(number))
            assert work.cancel() is True
            await wait_all_tasks_blocked()
            assert trace.starts[-1] == str(number)
        trace.open(*"01234")
    assert trace.discarded == ["never"] * 5


@pytest.mark.parametrize("turns", range(4))
async def test_a_supervisor_cancelled_then_starts_or_discards_each(open_bound: Open, trace: Trace, turns: int) -> None:
    """Invariant 60: exactly one of the two."""
    with trio.CancelScope() as scope:
        async with open_bound() as supervisor:
            wq = alloc_bound(supervisor)
            for number in range(10):
                wq.queue_work(trace.parker(str(number)), parked=True)
            for _ in range(turns):
                await trio.lowlevel.checkpoint()
            scope.cancel()
    assert sorted(trace.discarded + trace.starts) == [str(number) for number in range(10)]
    assert trace.ends == []
    assert_queue_at_zero(wq)


async def test_its_first_return_is_not_gated(open_bound: Open, trace: Trace) -> None:
    """P3: its activation comes at once while another item runs."""
    stop = False

    async def spin() -> None:
        while not stop:
            await trio.lowlevel.checkpoint()

    async with open_bound() as supervisor:
        wq = alloc_bound(supervisor)
        wq.queue_work(trace.parker("a"), parked=True)
        wq.queue_work(Work(spin))
        trace.open("a")
        for _ in range(10):
            await trio.lowlevel.checkpoint()
        assert trace.events[-1] == "a returns"
        assert wq.statistics().nr_active == 2
        stop = True
        trace.open("a back")


async def test_its_first_return_waits_in_line_for_a_slot(open_bound: Open, trace: Trace) -> None:
    """P2 and invariants 10, 13."""
    async with open_bound() as supervisor:
        wq = alloc_bound(supervisor, max_active=1)
        trace.queue(wq, "a b")
        wq.queue_work(trace.parker("x"), parked=True)
        await wait_all_tasks_blocked()
        trace.open("x")
        await wait_all_tasks_blocked()
        trace.queue(wq, "c")
        trace.open("a")
        await wait_all_tasks_blocked()
        assert trace.events[-1] == "b starts"
        trace.open("b")
        await wait_all_tasks_blocked()
        assert trace.events[-1] == "x returns"
        trace.open("x back", "c")
    assert trace.ends == ["a", "b", "x", "c"]
