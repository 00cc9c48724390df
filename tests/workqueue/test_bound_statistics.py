"""The counts of bound queues and pools add up at any moment, and what they are called."""

import random

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from ktrio.workqueue import Work
from tests.workqueue.conftest import Errors, Open, Trace, alloc, alloc_bound, assert_at_zero, bound_pool


@pytest.mark.parametrize("seed", range(10))
async def test_the_counters_add_up_at_any_moment(open_bound: Open, seed: int) -> None:
    """W48, W161; invariants 24, 26, 27 and 62."""
    rng = random.Random(seed)
    accepted = starts = ends = most_wakeups = 0

    def look() -> None:
        nonlocal most_wakeups
        books = wq.statistics()
        assert (books.started, books.completed, books.running) == (starts, ends, starts - ends)
        assert books.in_flight == books.pending + books.running
        assert accepted == books.started + books.cancelled + books.pending
        for field in ("nr_active", "inactive", "in_flight", "cm_wakeups"):
            assert getattr(books, field) == sum(getattr(pwq, field) for pwq in books.pwqs)
        assert books.cm_wakeups >= most_wakeups
        most_wakeups = books.cm_wakeups
        for cpu in range(2):
            pool = bound_pool(supervisor, cpu)
            assert 0 <= pool.nr_running <= pool.nr_workers - pool.nr_idle
            assert pool.nr_idle + pool.occupied + pool.parked <= pool.nr_workers

    async def body(fate: int) -> None:
        nonlocal starts, ends
        starts += 1
        look()
        try:
            await trio.lowlevel.checkpoint()
            look()
            await trio.sleep(fate)
            look()
            if fate == 3:
                raise ValueError
        finally:
            ends += 1

    async with open_bound(2, capacity=3) as supervisor:
        wq = alloc_bound(supervisor, max_active=3, on_error=Errors())
        works = [Work(body, fate) for fate in (0, 0, 1, 2, 3)]
        for _ in range(150):
            work = rng.choice(works)
            match rng.randrange(6):
                case 0:
                    work.cancel()
                case 1:
                    work.interrupt()
                case 2:
                    await trio.sleep(rng.random())
                case _:
                    accepted += wq.queue_work(work)
            look()
        await wq.flush()
        look()
        await assert_at_zero(supervisor, wq)


async def test_at_capacity_nothing_starts_and_a_counter_says_so(open_bound: Open, trace: Trace) -> None:
    """W36. Whether the place was looked for when an item came or when one fell asleep."""
    async with open_bound(capacity=2) as supervisor:
        wq = alloc_bound(supervisor)
        trace.queue(wq, "a b c d e")
        await wait_all_tasks_blocked()
        pool = bound_pool(supervisor)
        assert trace.starts == ["a", "b"]
        assert (pool.occupied, pool.worklist, pool.nr_running) == (2, 3, 0)
        assert pool.at_capacity == 1
        assert wq.statistics().cm_wakeups == 1, "b's falling asleep let nobody start"
        trace.queue(wq, "f")
        assert bound_pool(supervisor).at_capacity == 2
        trace.open("b")
        await wait_all_tasks_blocked()
        assert trace.starts == ["a", "b", "c"]
        trace.open(*"acdef")
        await wq.flush()
        assert trace.starts == list("abcdef")
        assert bound_pool(supervisor).nr_workers <= 2 + 2


async def test_a_pool_below_capacity_counts_no_waiting_start(open_bound: Open, trace: Trace) -> None:
    """W36."""
    async with open_bound(capacity=3) as supervisor:
        trace.queue(alloc_bound(supervisor), "a b c")
        await wait_all_tasks_blocked()
        assert (bound_pool(supervisor).occupied, bound_pool(supervisor).at_capacity) == (3, 0)
        trace.open(*"abc")


@pytest.mark.parametrize("capacity", [1, 2, 5])
async def test_capacity_is_never_exceeded_and_always_used(open_bound: Open, capacity: int) -> None:
    """W36, W42; invariant 23 at capacity: with all asleep, a place that is free is taken at once."""
    running = most = 0

    async def body(naps: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(naps):
            await trio.sleep(1)
        running -= 1

    async with open_bound(capacity=capacity) as supervisor:
        one, two = alloc_bound(supervisor, "one"), alloc_bound(supervisor, "two", 3)
        for index in range(60):
            (one if index % 2 else two).queue_work(Work(body, 1 + index % 3))
        while one.statistics().pending + two.statistics().pending > 0:
            await wait_all_tasks_blocked()
            pool = bound_pool(supervisor)
            assert pool.occupied == capacity or pool.worklist == 0
            await trio.sleep(0.5)
    assert most == capacity


async def test_bound_pools_come_with_the_first_bound_queue(open_bound: Open, trace: Trace) -> None:
    """W54. And stand behind the unbound ones."""
    async with open_bound(2) as supervisor:
        alloc(supervisor)
        assert [pool.bound for pool in supervisor.statistics().pools] == [False, False]
        for max_active in (-1, 10**9):
            with pytest.raises(ValueError, match="max_active"):
                alloc_bound(supervisor, max_active=max_active)
        assert len(supervisor.statistics().pools) == 2
        wq = alloc_bound(supervisor)
        assert wq.cpus == 2
        alloc_bound(supervisor, "second")
        assert [(pool.bound, pool.cpu) for pool in supervisor.statistics().pools] == [
            (False, 0),
            (False, 1),
            (True, 0),
            (True, 1),
        ]
        assert not wq.statistics().flags


async def test_looking_at_everything_changes_nothing(open_bound: Open) -> None:
    """W163. repr and statistics are safe at any moment."""

    def look() -> None:
        first = [(repr(thing), thing.statistics()) for thing in (supervisor, wq, work)]
        assert [(repr(thing), thing.statistics()) for thing in (supervisor, wq, work)] == first

    async def body() -> None:
        look()
        await trio.sleep(1)
        look()

    async with open_bound() as supervisor:
        wq = alloc_bound(supervisor, max_active=1)
        work = Work(body)
        look()
        wq.queue_work(work)
        look()
        await wq.flush()
        look()
