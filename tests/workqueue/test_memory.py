"""What items cost in memory, by `tracemalloc`: pending ones a stated amount, and those that have run nothing."""

import gc
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import trio

from ktrio.workqueue import WQ_UNBOUND, DelayedWork, Supervisor, Work, Workqueue, open_supervisor
from tests.workqueue.conftest import assert_at_zero

pytestmark = [pytest.mark.exhaustive, pytest.mark.slow]

ITEMS = 100_000  # as many bytes for each as at 10⁶, where `make bench` measures the process
MOST = 350  # bytes for each pending item, the item itself and the context of its queueing included


async def nothing() -> None:
    pass


def unbound(supervisor: Supervisor) -> Workqueue:
    return supervisor.alloc_workqueue("test", WQ_UNBOUND)


def bound(supervisor: Supervisor) -> Workqueue:
    return supervisor.alloc_workqueue("test")


def ordered(supervisor: Supervisor) -> Workqueue:
    return supervisor.alloc_ordered_workqueue("test")


@contextmanager
def traced() -> Iterator[None]:
    gc.collect()
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()


def taken() -> int:
    return tracemalloc.get_traced_memory()[0]


@pytest.mark.parametrize("alloc", [unbound, bound, ordered])
async def test_a_pending_item_takes_at_most_350_bytes_and_leaves_none(alloc: Callable[[Supervisor], Workqueue]) -> None:
    """W162. Nearly all of them are inactive: there are 256 slots, or one."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        wq.queue_work(Work(nothing))  # what is made once is there
        await wq.flush()
        with traced():
            before = taken()
            for _ in range(ITEMS):
                wq.queue_work(Work(nothing))
            assert wq.pending == ITEMS
            each = (taken() - before) / ITEMS
            await wq.flush()
            await assert_at_zero(supervisor, wq)
            gc.collect()
            left = taken() - before
    assert each <= MOST
    assert left <= 0.01 * MOST * ITEMS, "bytes of a hundredth of the items: deques and dicts that have grown"


async def test_an_item_that_is_queued_again_and_again_takes_no_more() -> None:
    """Nothing is kept of a run: not the context, not the result, not the waiters."""
    async with open_supervisor() as supervisor:
        wq = unbound(supervisor)
        work = Work(nothing)

        async def rounds(count: int) -> None:
            for number in range(count):
                wq.queue_work(work)
                if number % 3:
                    await work.result()
                else:
                    await work.flush()

        await rounds(300)
        with traced():
            before = taken()
            await rounds(3000)
            gc.collect()
            assert taken() - before < 10_000


async def test_timers_that_are_moved_or_cancelled_leave_nothing() -> None:
    """W77; invariant 54: a timeout that each request puts off is the common case."""
    async with open_supervisor() as supervisor:
        wq = unbound(supervisor)
        works = [DelayedWork(nothing) for _ in range(100)]

        def rounds(count: int) -> None:
            for number in range(count):
                for work in works:
                    wq.mod_delayed_work(work, 60 + number % 7)
                for work in works[::2]:
                    work.cancel()

        rounds(10)
        with traced():
            before = taken()
            rounds(300)
            gc.collect()
            assert taken() - before < 50_000
        assert wq.statistics().delayed == 50


async def test_a_queue_that_was_destroyed_is_forgotten() -> None:
    """W87: a program that makes a queue for each task it has does not grow."""
    async with open_supervisor() as supervisor:

        async def rounds(count: int) -> None:
            for _ in range(count):
                wq = supervisor.alloc_workqueue("brief", WQ_UNBOUND)
                wq.queue_work(Work(nothing))
                await wq.destroy()

        await rounds(50)
        with traced():
            before = taken()
            await rounds(500)
            gc.collect()
            assert taken() - before < 50_000


async def test_lanes_and_groups_that_are_empty_are_forgotten() -> None:
    """W130: any number of keys may come and go; W125."""
    async with open_supervisor() as supervisor:
        wq = unbound(supervisor)

        async def rounds(first: int, count: int) -> None:
            for key in range(first, first + count):
                wq.lane(key).queue_work(Work(nothing))
                async with wq.open_group() as group:
                    group.queue_work(Work(nothing))
            await wq.flush()

        await rounds(0, 200)
        with traced():
            before = taken()
            await rounds(200, 2000)
            gc.collect()
            assert taken() - before < 50_000


async def test_workers_that_are_culled_are_forgotten(autojump_clock: trio.testing.MockClock) -> None:
    """W45, W46: a burst of items that block leaves two idle workers, and not the memory of the others."""
    async with open_supervisor(idle_timeout=10) as supervisor:
        wq = unbound(supervisor)

        async def burst() -> None:
            for _ in range(200):
                wq.queue_work(Work(trio.sleep, 1))
            await wq.flush()
            await trio.sleep(100)
            assert supervisor.statistics().pools[0].nr_workers <= 2

        with traced():
            await burst()
            before = taken()
            for _ in range(5):
                await burst()
            gc.collect()
            assert taken() - before < 50_000
