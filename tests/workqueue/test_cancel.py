"""Cancelling items: pending ones, running ones, waiting for the end, and on_discard."""

import pytest
import trio
import trio.lowlevel
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from ktrio.workqueue import Work, open_supervisor
from tests.workqueue.conftest import Trace, alloc, assert_at_zero


async def test_cancel_removes_a_pending_item_and_says_so(trace: Trace) -> None:
    """W88; invariant 46: True iff it was pending; it does not start from that queueing."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=1)
        works = trace.queue(wq, "a b")
        never = trace.holder("never")
        assert never.cancel() is False
        assert [works["a"].cancel(), works["a"].cancel()] == [True, False]
        assert [works["b"].cancel(), works["b"].cancel()] == [True, False]
        assert not works["a"].is_pending
        await wait_all_tasks_blocked()
        assert trace.events == []
        assert wq.statistics().cancelled == 2
        await assert_at_zero(supervisor, wq)


async def test_a_cancelled_item_can_be_queued_again(trace: Trace) -> None:
    """W88; invariant 46."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        work = trace.queue(wq, "a")["a"]
        for _ in range(3):
            assert work.cancel() is True
            assert wq.queue_work(work) is True
        trace.open("a")
    assert trace.starts == ["a"]


async def test_cancel_does_not_touch_a_running_instance(trace: Trace) -> None:
    """W88; invariant 46: not running alone, not running and pending."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        work = trace.queue(wq, "a")["a"]
        await wait_all_tasks_blocked()
        assert work.cancel() is False
        wq.queue_work(work)
        assert work.cancel() is True
        assert work.is_running
        assert not work.is_pending
        trace.open("a")
        await wq.flush()
        await assert_at_zero(supervisor, wq)
    assert trace.events == ["a starts", "a ends"]


async def test_cancel_works_from_inside_the_item() -> None:
    """W88; invariant 46: it takes back its own requeue."""
    outcomes: list[bool] = []

    async def body() -> None:
        outcomes.append(work.cancel())
        outcomes.append(wq.queue_work(work))
        outcomes.append(work.cancel())
        outcomes.append(work.cancel())

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        work = Work(body)
        wq.queue_work(work)
        await wq.flush()
        await assert_at_zero(supervisor, wq)
    assert outcomes == [False, True, True, False]


async def test_cancel_of_a_waiting_requeue_leaves_the_run_its_slot(trace: Trace) -> None:
    """P6: the requeue held no slot, so cancelling it promotes none."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=1)
        work = trace.queue(wq, "a")["a"]
        await wait_all_tasks_blocked()
        wq.queue_work(work)
        trace.queue(wq, "b")
        assert work.cancel() is True
        await wait_all_tasks_blocked()
        assert trace.starts == ["a"]
        assert wq.statistics().nr_active == 1
        trace.open("a", "b")
    assert trace.starts == ["a", "b"]


async def test_cancel_sync_waits_for_the_running_instance(trace: Trace) -> None:
    """W90; invariant 47: neither pending nor running at return; True iff it was pending."""

    async def open_later() -> None:
        await trio.sleep(5)
        trace.open("a")

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        work = trace.holder("a")
        with assert_checkpoints():
            assert await work.cancel_sync() is False
        wq.queue_work(work)
        assert await work.cancel_sync() is True
        assert trace.events == []
        wq.queue_work(work)
        await wait_all_tasks_blocked()
        begin = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(open_later)
            assert await work.cancel_sync() is False
            assert trio.current_time() - begin == pytest.approx(5)
        assert trace.events == ["a starts", "a ends"]
        assert not work.is_running


async def test_cancel_sync_takes_the_pending_requeue_and_waits_for_the_run(trace: Trace) -> None:
    """W90; invariant 47."""
    outcomes: list[bool] = []

    async def cancel() -> None:
        outcomes.append(await work.cancel_sync())

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        work = trace.queue(wq, "a")["a"]
        await wait_all_tasks_blocked()
        wq.queue_work(work)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel)
            await wait_all_tasks_blocked()
            assert outcomes == []
            assert not work.is_pending
            trace.open("a")
        assert outcomes == [True]
        await wq.flush()
        await assert_at_zero(supervisor, wq)
    assert trace.starts == ["a"]


async def test_queueing_during_cancel_sync_returns_false_and_works_afterwards(trace: Trace) -> None:
    """W9, W91; invariant 47: the item is disabled while somebody waits; overlapping waits nest."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        work = trace.queue(wq, "a")["a"]
        await wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work.cancel_sync)
            nursery.start_soon(work.cancel_sync)
            await wait_all_tasks_blocked()
            before = wq.statistics()
            assert wq.queue_work(work) is False
            assert wq.queue_work_on(0, work) is False
            assert wq.statistics() == before
            trace.open("a")
        assert wq.queue_work(work) is True
        await work.flush()
    assert trace.ends == ["a", "a"]


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_cancel_sync_stops_an_item_that_requeues_itself(kind: str) -> None:
    """W91; invariant 47."""
    runs = 0
    refused = 0

    def body() -> None:
        nonlocal runs, refused
        runs += 1
        assert runs < 100_000, "nobody else ran"
        refused += not wq.queue_work(work)

    async def async_body() -> None:
        await trio.sleep(1)
        body()

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        work = Work(async_body if kind == "async" else body)
        wq.queue_work(work)
        await trio.lowlevel.checkpoint()
        if kind == "async":
            await trio.sleep(10.5)
        await work.cancel_sync()
        stopped = runs
        assert refused == (1 if kind == "async" else 0)
        assert not work.is_pending
        assert not work.is_running
        await trio.sleep(100)
        assert runs == stopped
        await assert_at_zero(supervisor, wq)


async def test_a_cancelled_cancel_sync_enables_the_item_again(trace: Trace) -> None:
    """W94; invariant 47 with 45: who gives up waiting leaves nothing behind."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        work = trace.queue(wq, "a")["a"]
        await wait_all_tasks_blocked()
        with trio.move_on_after(1) as scope:
            await work.cancel_sync()
        assert scope.cancelled_caught
        assert work.is_running
        assert wq.queue_work(work) is True
        trace.open("a")
        await wq.flush()
    assert trace.ends == ["a", "a"]


async def test_cancel_sync_with_interrupt_cancels_the_run(trace: Trace) -> None:
    """W90; invariant 47: the run is told to end, and waited for."""
    cleaned = False

    async def body() -> None:
        nonlocal cleaned
        trace.note("starts")
        try:
            await trio.sleep_forever()
        finally:
            with trio.move_on_after(5, shield=True):
                await trio.sleep(2)
            cleaned = True

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        work = Work(body)
        wq.queue_work(work)
        await wait_all_tasks_blocked()
        begin = trio.current_time()
        assert await work.cancel_sync(interrupt=True) is False
        assert cleaned
        assert trio.current_time() - begin == pytest.approx(2)
        assert not work.is_running
        await assert_at_zero(supervisor, wq)


async def test_cancel_sync_without_interrupt_lets_the_run_finish(trace: Trace) -> None:
    """W90."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        work = trace.queue(wq, "a")["a"]
        await wait_all_tasks_blocked()
        with trio.move_on_after(1000):
            await work.cancel_sync()
        assert work.is_running
        trace.open("a")
    assert trace.ends == ["a"]


async def test_cancel_sync_waits_for_a_parked_run(trace: Trace) -> None:
    """P5."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        work = trace.parker("a")
        wq.queue_work(work)
        await wait_all_tasks_blocked()
        with trio.move_on_after(10) as scope:
            await work.cancel_sync()
        assert scope.cancelled_caught
        assert await work.cancel_sync(interrupt=True) is False
        assert not work.is_running
        await assert_at_zero(supervisor, wq)


async def test_an_item_may_sync_cancel_one_behind_it(trace: Trace) -> None:
    """W90; invariant 58 has no false positive: cancel_sync never waits for a pending item."""
    outcomes: list[bool] = []

    async def body() -> None:
        outcomes.append(await behind.cancel_sync())

    async with open_supervisor(capacity=1) as supervisor:
        wq = alloc(supervisor, max_active=1)
        behind = trace.holder("behind")
        wq.queue_work(Work(body))
        wq.queue_work(behind)
    assert outcomes == [True]
    assert trace.starts == []


@pytest.mark.parametrize("how", ["cancel", "cancel_sync"])
@pytest.mark.parametrize("place", ["active", "inactive", "requeue", "parked start"])
async def test_on_discard_is_called_once_for_a_queueing_that_never_runs(trace: Trace, how: str, place: str) -> None:
    """W11."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=2 if place == "active" else 1)
        works = trace.queue(wq, "a")
        if place == "requeue":
            await wait_all_tasks_blocked()
            work = works["a"]
        else:
            work = trace.holder("b")
        assert wq.queue_work(work, parked=place == "parked start")
        if how == "cancel":
            assert work.cancel() is True
        else:
            trace.open("a")
            assert await work.cancel_sync() is True
        assert trace.discarded == ["a" if place == "requeue" else "b"]
        trace.open("a", "b")
        await wq.flush()
        assert trace.starts == ["a"]
        assert trace.discarded == ["a" if place == "requeue" else "b"]
        assert wq.queue_work(work)
        assert work.cancel() is True
        assert len(trace.discarded) == 2


async def test_on_discard_is_not_called_for_what_runs_or_is_refused(trace: Trace) -> None:
    """W11."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        work = trace.queue(wq, "a")["a"]
        assert wq.queue_work(work) is False
        await wait_all_tasks_blocked()
        assert work.cancel() is False
        work.interrupt()
        await wq.flush()
    assert trace.discarded == []


async def test_the_item_is_idle_when_on_discard_is_called(trace: Trace) -> None:
    """W12."""
    seen: list[bool] = []

    def discard(*_: object) -> None:
        seen.append(work.is_pending)

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        work = Work(trace.note, "runs", on_discard=discard)
        wq.queue_work(work)
        work.cancel()
    assert seen == [False]
