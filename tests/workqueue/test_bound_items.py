"""Items of bound queues that fail, are interrupted or cancelled; drain and destroy: the counts stay right."""

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from ktrio.workqueue import DestroyedError, DrainingError, Work, parked
from tests.workqueue.conftest import Errors, Open, Trace, alloc_bound, assert_at_zero, bound_pool


async def turns(count: int = 10) -> None:
    """Let the loop turn, without a rest."""
    for _ in range(count):
        await trio.lowlevel.checkpoint()


class MishapError(Exception):
    """Raised by items on purpose."""


def fail() -> None:
    raise MishapError


async def fail_at_once() -> None:
    raise MishapError


async def fail_later() -> None:
    await trio.lowlevel.checkpoint()
    await trio.sleep(1)
    raise MishapError


async def park_and_fail() -> None:
    async with parked():
        await trio.sleep(1)
        raise MishapError


FAILURES = [fail, fail_at_once, fail_later, park_and_fail]


@pytest.mark.parametrize("body", FAILURES)
async def test_an_item_that_fails_leaves_the_counts_right(
    open_bound: Open, trace: Trace, body: Callable[[], Awaitable[None] | None]
) -> None:
    """W53, W106; invariants 26 and 59: nr_running too; its worker survives and goes on."""
    errors = Errors()
    async with open_bound() as supervisor:
        wq = alloc_bound(supervisor, max_active=1, on_error=errors)
        for _ in range(3):
            wq.queue_work(work := Work(body))
            trace.queue(wq, "next")
            trace.open("next")
            assert await work.flush() is True
            await wq.flush()
        assert trace.ends == ["next"] * 3
        assert [type(error) for error in errors.errors] == [MishapError] * 3
        assert bound_pool(supervisor).nr_workers <= 3
        await assert_at_zero(supervisor, wq)


@pytest.mark.parametrize("body", FAILURES)
async def test_by_default_an_error_ends_the_supervisor_with_one_flat_group(
    open_bound: Open, body: Callable[[], Awaitable[None] | None]
) -> None:
    """W107; invariant 59."""
    with pytest.RaisesGroup(MishapError):
        async with open_bound(2) as supervisor:
            alloc_bound(supervisor).queue_work_on(1, Work(body))
            await trio.sleep_forever()


@pytest.mark.parametrize("where", ["asleep", "awake", "parked", "by itself"])
async def test_an_interrupted_item_leaves_the_counts_right(open_bound: Open, trace: Trace, where: str) -> None:
    """W53; invariants 26 and 59: and the next one starts."""

    async def body() -> None:
        if where == "by itself":
            work.interrupt()
        if where == "parked":
            async with parked():
                await trio.sleep_forever()
        if where == "awake":
            while True:
                await trio.lowlevel.checkpoint()
        await trio.sleep_forever()

    async with open_bound() as supervisor:
        wq = alloc_bound(supervisor, max_active=1)
        for round_ in range(1, 4):
            work = Work(body)
            wq.queue_work(work)
            trace.queue(wq, "next")
            await turns()
            if where != "by itself":
                assert work.interrupt() is True
            await work.flush()
            await wait_all_tasks_blocked()
            assert len(trace.starts) == round_
            trace.open("next")
            await wq.flush()
            await assert_at_zero(supervisor, wq)


async def test_an_item_that_cancels_itself_runs_on(open_bound: Open, trace: Trace) -> None:
    """W88; invariants 46 and 50: it withdraws what it has queued, and whoever waits for that is released."""
    runs = 0

    async def body() -> None:
        nonlocal runs
        runs += 1
        assert wq.queue_work(work) is True
        await trio.sleep(1)
        assert work.cancel() is True
        assert work.cancel() is False
        await trio.sleep(1)

    async with open_bound() as supervisor:
        wq = alloc_bound(supervisor, max_active=1)
        work = Work(body, on_discard=trace.discarder("work"))
        wq.queue_work(work)
        await trio.sleep(0.5)
        assert await work.flush() is True
        assert trio.current_time() == 2
        assert (runs, trace.discarded) == (1, ["work"])
        await assert_at_zero(supervisor, wq)


async def test_flushers_of_an_item_that_is_cancelled_are_released(open_bound: Open, trace: Trace) -> None:
    """W89; invariant 50: while it waits behind a running item."""
    stop = False

    async def spin() -> None:
        while not stop:
            await trio.lowlevel.checkpoint()

    async with open_bound() as supervisor, trio.open_nursery() as nursery:
        wq = alloc_bound(supervisor)
        wq.queue_work(Work(spin))
        work = trace.queue(wq, "a")["a"]
        nursery.start_soon(work.flush)
        await turns()
        assert work.cancel() is True
        await turns()
        assert not nursery.child_tasks
        stop = True
    assert trace.discarded == ["a"]


async def test_drain_accepts_chains_and_refuses_the_rest(open_bound: Open, trace: Trace) -> None:
    """W86; invariant 51."""
    runs = 0

    async def body(left: int) -> None:
        nonlocal runs
        runs += 1
        await trio.sleep(1)
        if left:
            assert wq.queue_work(Work(body, left - 1)) is True

    async with open_bound() as supervisor, trio.open_nursery() as nursery:
        wq = alloc_bound(supervisor, max_active=1)
        wq.queue_work(Work(body, 19))
        nursery.start_soon(wq.drain)
        await trio.sleep(5)
        refused = trace.holder("late")
        with pytest.raises(DrainingError):
            wq.queue_work(refused)
        await trio.sleep(100)
        assert not nursery.child_tasks
        assert runs == 20
        assert wq.queue_work(refused) is True
        trace.open("late")
        await wq.flush()
        await assert_at_zero(supervisor, wq)


async def test_destroy_finishes_all_and_then_refuses(open_bound: Open, trace: Trace) -> None:
    """W87; invariant 52."""
    async with open_bound() as supervisor:
        wq, other = alloc_bound(supervisor, max_active=1), alloc_bound(supervisor, "other")
        trace.queue(wq, "a b c")
        trace.open(*"abc")
        await wq.destroy()
        await wq.destroy()
        assert trace.ends == ["a", "b", "c"]
        with pytest.raises(DestroyedError):
            wq.queue_work(trace.holder("late"))
        assert [books.name for books in supervisor.statistics().workqueues] == ["other"]
        await assert_at_zero(supervisor, wq, other)
