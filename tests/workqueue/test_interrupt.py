"""Interrupting a running item: its scope alone is cancelled, and only this once."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from ktrio.workqueue import WQ_UNBOUND, Work, open_supervisor
from tests.workqueue.conftest import Errors, Trace, alloc, assert_at_zero


async def test_interrupt_cancels_the_running_instance(trace: Trace) -> None:
    """W92."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=1)
        works = trace.queue(wq, "a b")
        await wait_all_tasks_blocked()
        assert works["a"].interrupt() is True
        assert await works["a"].flush() is True
        assert not works["a"].is_running
        trace.open("b")
        await wq.flush()
        books = wq.statistics()
        assert (books.started, books.completed, books.failed, books.cancelled) == (2, 2, 0, 0)
        await assert_at_zero(supervisor, wq)
    assert trace.ends == ["b"]


async def test_interrupt_of_what_does_not_run_returns_false(trace: Trace) -> None:
    """W92."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        work = trace.holder("a")
        assert work.interrupt() is False
        wq.queue_work(work)
        assert work.interrupt() is False
        assert work.is_pending
        trace.open("a")
        await wq.flush()
        assert work.interrupt() is False
    assert trace.ends == ["a"]


async def test_a_reason_can_be_given(trace: Trace) -> None:
    """W92."""
    reasons: list[object] = []

    async def body() -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled as cancelled:
            reasons.append(getattr(cancelled, "reason", None))
            raise

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        work = Work(body)
        wq.queue_work(work)
        await wait_all_tasks_blocked()
        assert work.interrupt(reason="no longer wanted") is True
        await wq.flush()
    assert reasons == ["no longer wanted"]


async def test_an_interrupted_item_that_was_requeued_runs_again(trace: Trace) -> None:
    """W93. The run is interrupted, not the queueing behind it."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=1)
        work = trace.queue(wq, "a")["a"]
        await wait_all_tasks_blocked()
        assert wq.queue_work(work) is True
        assert work.interrupt() is True
        await wait_all_tasks_blocked()
        assert trace.events == ["a starts", "a starts"]
        assert work.is_running
        trace.open("a")
        await wq.flush()
        await assert_at_zero(supervisor, wq)
    assert trace.ends == ["a"]


async def test_an_item_requeued_after_its_interrupt_runs_again(trace: Trace) -> None:
    """W93."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        work = trace.queue(wq, "a")["a"]
        await wait_all_tasks_blocked()
        work.interrupt()
        assert wq.queue_work(work) is True
        trace.open("a")
        await wq.flush()
    assert trace.ends == ["a"]


async def test_an_interrupt_after_the_last_wait_does_not_hit_the_next_item(trace: Trace) -> None:
    """W93. The worker's scope is fresh for the next item, and for the item's own next run."""

    async def body() -> None:
        await trace.gate("body").wait()
        # From here to the end there is no checkpoint at which the interrupt could strike.
        assert work.interrupt() is True

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=1)
        work = Work(body)
        wq.queue_work(work)
        trace.queue(wq, "next")
        await wait_all_tasks_blocked()
        trace.open("body")
        await wait_all_tasks_blocked()
        assert trace.starts == ["next"]
        trace.open("next")
        await wq.flush()
        assert trace.ends == ["next"]
        wq.queue_work(work)
        trace.queue(wq, "again")
        trace.open("again")
        await wq.flush()
        assert trace.ends == ["next", "again"]
        await assert_at_zero(supervisor, wq)


async def test_a_sync_item_cannot_be_torn_by_its_own_interrupt(trace: Trace) -> None:
    def body() -> None:
        assert work.interrupt() is True

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=1)
        work = Work(body)
        wq.queue_work(work)
        trace.queue(wq, "next")
        trace.open("next")
        await wq.flush()
        await assert_at_zero(supervisor, wq)
    assert trace.ends == ["next"]


async def test_an_interrupt_during_the_run_reaches_child_tasks() -> None:
    ended: list[str] = []

    async def child(name: str) -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append(name)

    async def body() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child, "one")
            nursery.start_soon(child, "two")

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        work = Work(body)
        wq.queue_work(work)
        await wait_all_tasks_blocked()
        work.interrupt()
        await wq.flush()
    assert sorted(ended) == ["one", "two"]


async def test_an_interrupt_is_waited_out_behind_a_shield(trace: Trace) -> None:
    """W92."""

    async def body() -> None:
        with trio.move_on_after(50, shield=True):
            await trace.gate("shielded").wait()
        trace.note("left the shield")
        await trio.lowlevel.checkpoint()
        trace.note("not reached")

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        work = Work(body)
        wq.queue_work(work)
        await wait_all_tasks_blocked()
        assert work.interrupt() is True
        assert work.interrupt() is True
        await wait_all_tasks_blocked()
        assert work.is_running
        trace.open("shielded")
        await wq.flush()
    assert trace.events == ["left the shield"]


async def test_errors_raised_on_the_way_out_follow_the_policy() -> None:
    """Invariant 59 for an interrupted item: the scope takes its Cancelled, the rest goes to on_error."""
    errors = Errors()

    async def raise_instead() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("instead")

    async def raise_beside() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(raise_instead)
            nursery.start_soon(trio.sleep_forever)

    async with open_supervisor() as supervisor:
        wq = supervisor.alloc_workqueue("test", WQ_UNBOUND, on_error=errors)
        for body in (raise_instead, raise_beside):
            work = Work(body)
            wq.queue_work(work)
            await wait_all_tasks_blocked()
            work.interrupt()
            await wq.flush()
        assert wq.statistics().failed == 2
        await assert_at_zero(supervisor, wq)
    assert [str(error) for error in errors.errors[:1]] == ["instead"]
    assert pytest.RaisesGroup(pytest.RaisesExc(ValueError, match="instead")).matches(errors.errors[1])


async def test_interrupted_items_are_not_errors(trace: Trace) -> None:
    """W92; invariant 59: the default policy, which is loud, says nothing."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        works = trace.queue(wq, "a b c")
        await wait_all_tasks_blocked()
        for work in works.values():
            work.interrupt()
        await wq.flush()
        assert wq.statistics().failed == 0
    assert trace.ends == []


async def test_a_worker_is_reused_after_an_interrupt(trace: Trace) -> None:
    """W93."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        for _ in range(20):
            work = trace.queue(wq, "a")["a"]
            await wait_all_tasks_blocked()
            work.interrupt()
            await wait_all_tasks_blocked()
        assert supervisor.statistics().pools[0].created == 2
        await assert_at_zero(supervisor, wq)
