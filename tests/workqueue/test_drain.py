"""Drain and destroy: who may still queue, when it ends, what is left."""

import pytest
import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from ktrio.workqueue import DestroyedError, DrainingError, Work, WorkqueueError, open_supervisor
from tests.workqueue.conftest import Trace, alloc, assert_at_zero, assert_queue_at_zero


async def test_draining_refuses_queueing_from_outside(trace: Trace) -> None:
    """W85; invariant 51: an error that names the queue; the item is idle and usable elsewhere."""
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        wq, other = alloc(supervisor, "leaving"), alloc(supervisor, "other")
        trace.queue(wq, "a")
        nursery.start_soon(wq.drain)
        await wait_all_tasks_blocked()
        assert wq.statistics().draining
        work = trace.holder("b")
        before = wq.statistics()
        for queue in (
            lambda: wq.queue_work(work),
            lambda: wq.queue_work_on(0, work),
            lambda: wq.queue_work(work, parked=True),
        ):
            with pytest.raises(DrainingError, match="leaving"):
                queue()
        with pytest.raises(DrainingError, match="leaving"):
            await wq.run(trace.note, "never")
        assert wq.statistics() == before
        assert not work.is_pending
        assert other.queue_work(work) is True
        trace.open("a", "b")
        await other.flush()
    assert trace.ends == ["a", "b"]


async def test_draining_refuses_items_of_other_queues(trace: Trace) -> None:
    """W85; invariant 51: only items of the queue itself are chained."""
    caught: list[Exception] = []

    async def body() -> None:
        try:
            wq.queue_work(trace.holder("b"))
        except DrainingError as error:
            caught.append(error)

    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        wq, other = alloc(supervisor, "leaving"), alloc(supervisor, "other")
        trace.queue(wq, "a")
        nursery.start_soon(wq.drain)
        await wait_all_tasks_blocked()
        await other.run(body)
        trace.open("a")
    assert len(caught) == 1


@pytest.mark.parametrize("depth", [1, 5, 200])
async def test_draining_accepts_chained_queueing_to_any_depth(depth: int) -> None:
    """W86; invariant 51: far beyond the round at which leaving a supervisor puts an end to it; empty on return."""
    runs = 0

    async def body(left: int) -> None:
        nonlocal runs
        runs += 1
        await trio.sleep(1)
        if left:
            assert wq.queue_work(Work(body, left - 1)) is True

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=1)
        wq.queue_work(Work(body, depth))
        await wq.drain()
        assert runs == depth + 1
        await assert_at_zero(supervisor, wq)
        assert wq.statistics().chained_refused == 0


async def test_draining_accepts_what_child_tasks_of_an_item_queue(trace: Trace) -> None:
    """W86; invariant 51: a child task of an item is inside the item."""

    async def child() -> None:
        await trace.gate("child").wait()
        trace.queue(wq, "chained")

    async def body() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)

    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        wq = alloc(supervisor)
        wq.queue_work(Work(body))
        nursery.start_soon(wq.drain)
        await wait_all_tasks_blocked()
        trace.open("child", "chained")
    assert trace.ends == ["chained"]


async def test_a_drained_queue_can_be_used_again(trace: Trace) -> None:
    """W85; invariant 51: the flag clears."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        trace.open("a", "b")
        trace.queue(wq, "a")
        await wq.drain()
        assert not wq.statistics().draining
        trace.queue(wq, "b")
    assert trace.ends == ["a", "b"]


async def test_draining_an_empty_queue_is_only_a_checkpoint() -> None:
    """W95; invariant 51 with 44."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        with assert_checkpoints():
            await wq.drain()


async def test_overlapping_drainers_all_finish_and_the_last_clears_the_flag(trace: Trace) -> None:
    """W85; invariant 51."""
    finished: list[int] = []

    async def drain(number: int) -> None:
        await wq.drain()
        finished.append(number)

    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        wq = alloc(supervisor)
        trace.queue(wq, "a")
        with trio.move_on_after(1) as scope:
            nursery.start_soon(drain, 1)
            await wait_all_tasks_blocked()
            nursery.start_soon(drain, 2)
            await wq.drain()
        assert scope.cancelled_caught
        assert wq.statistics().draining, "two drainers are still at it"
        with pytest.raises(DrainingError):
            wq.queue_work(trace.holder("b"))
        assert finished == []
        trace.open("a")
        await wait_all_tasks_blocked()
        assert sorted(finished) == [1, 2]
        assert not wq.statistics().draining
        trace.queue(wq, "c")
        trace.open("c")


async def test_a_cancelled_drain_lets_everybody_queue_again(trace: Trace) -> None:
    """W94; invariant 45 for drain."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        trace.queue(wq, "a")
        with trio.move_on_after(1) as scope:
            await wq.drain()
        assert scope.cancelled_caught
        assert not wq.statistics().draining
        trace.queue(wq, "b")
        trace.open("a", "b")
        await wq.drain()
        assert sorted(trace.ends) == ["a", "b"]


async def test_draining_waits_for_parked_items_until_they_are_interrupted(trace: Trace) -> None:
    """P5: who wants them gone tells or interrupts them."""
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        wq = alloc(supervisor)
        work, late = trace.parker("a"), trace.parker("late")
        wq.queue_work(work)
        wq.queue_work(late, parked=True)
        await wait_all_tasks_blocked()
        for wait in (wq.drain, wq.flush):
            with trio.move_on_after(100) as scope:
                await wait()
            assert scope.cancelled_caught
        nursery.start_soon(wq.drain)
        await wait_all_tasks_blocked()
        assert work.interrupt() is True
        await wait_all_tasks_blocked()
        assert wq.statistics().draining
        assert late.interrupt() is True
        await wait_all_tasks_blocked()
        assert not wq.statistics().draining
        await assert_at_zero(supervisor, wq)


async def test_destroy_finishes_all_and_then_refuses(trace: Trace) -> None:
    """W87; invariant 52: nothing starts or is pending after return; queueing raises, naming the queue."""
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        wq = alloc(supervisor, "gone", 1)
        works = trace.queue(wq, "a b c")
        nursery.start_soon(wq.destroy)
        await wait_all_tasks_blocked()
        with pytest.raises((DrainingError, DestroyedError), match="gone"):
            wq.queue_work(trace.holder("d"))
        trace.open("a", "b", "c")
        await wait_all_tasks_blocked()
        assert trace.ends == ["a", "b", "c"]
        books = wq.statistics()
        assert books.destroyed
        assert_queue_at_zero(wq)
        with pytest.raises(DestroyedError, match="gone"):
            wq.queue_work(works["a"])
        with pytest.raises(DestroyedError, match="gone"):
            wq.queue_work_on(0, works["a"])
        with pytest.raises(DestroyedError, match="gone"):
            await wq.run(trace.note, "never")
        assert not works["a"].is_pending
        await trio.sleep(1000)
        assert trace.starts == ["a", "b", "c"]


async def test_destroy_accepts_chained_queueing_while_it_drains(trace: Trace) -> None:
    """W87; invariant 52 with 51."""

    async def body() -> None:
        await trace.gate("body").wait()
        trace.queue(wq, "chained")

    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        wq = alloc(supervisor)
        wq.queue_work(Work(body))
        nursery.start_soon(wq.destroy)
        await wait_all_tasks_blocked()
        trace.open("body", "chained")
    assert trace.ends == ["chained"]


async def test_a_second_destroy_is_harmless(trace: Trace) -> None:
    """W87; invariant 52: also while the first is still at it."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        trace.queue(wq, "a")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wq.destroy)
            nursery.start_soon(wq.destroy)
            await wait_all_tasks_blocked()
            trace.open("a")
        await wq.destroy()
        assert wq.statistics().destroyed


async def test_destroy_leaves_no_task_but_the_idle_workers(trace: Trace) -> None:
    """W87; invariant 52."""
    async with open_supervisor(idle_timeout=5) as supervisor:
        await wait_all_tasks_blocked()
        trace.queue(alloc(supervisor, "one"), "warm")
        trace.open("warm")
        await wait_all_tasks_blocked()
        tasks = trio.lowlevel.current_statistics().tasks_living
        for number in range(10):
            wq = alloc(supervisor, str(number))
            trace.queue(wq, "a b c d")
            trace.open("a", "b", "c", "d")
            await wq.destroy()
        await trio.sleep(20)
        assert trio.lowlevel.current_statistics().tasks_living == tasks
        assert len(supervisor.statistics().workqueues) == 1, "a destroyed queue is forgotten"


async def test_the_name_of_a_destroyed_queue_is_free() -> None:
    """W87; invariant 52: its name is gone from the statistics."""
    async with open_supervisor() as supervisor:
        for _ in range(3):
            wq = alloc(supervisor, "again")
            await wq.run(trio.lowlevel.checkpoint)
            await wq.destroy()


async def test_other_queues_do_not_notice_a_destroy(trace: Trace) -> None:
    """W87; invariant 52."""
    async with open_supervisor() as supervisor:
        wq, other = alloc(supervisor, "gone"), alloc(supervisor, "other", 1)
        trace.queue(other, "a b")
        await wq.destroy()
        assert other.statistics().in_flight == 2
        trace.queue(other, "c")
        trace.open("a", "b", "c")
    assert trace.ends == ["a", "b", "c"]


async def test_refusals_are_workqueue_errors() -> None:
    assert issubclass(DrainingError, WorkqueueError)
    assert issubclass(DestroyedError, WorkqueueError)
