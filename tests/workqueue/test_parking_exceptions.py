"""Parking, P4: leaving with any exception in flight never waits and never masks it."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from ktrio.workqueue import WQ_UNBOUND, Supervisor, Work, Workqueue, open_supervisor, parked
from tests.workqueue.conftest import Errors, Trace, alloc, assert_at_zero


def slots(wq: Workqueue) -> tuple[int, int]:
    """(slots held, items parked)."""
    books = wq.statistics()
    return books.nr_active, books.parked


def places(supervisor: Supervisor) -> tuple[int, int]:
    """(places held, items parked) of the first pool."""
    pool = supervisor.statistics().pools[0]
    return pool.occupied, pool.parked


async def test_leaving_with_an_exception_never_waits(trace: Trace) -> None:
    """P4: beyond the limit if need be, counted; nobody is promoted until below it."""

    async def body() -> None:
        with trio.move_on_after(1):
            async with parked():
                await trio.sleep_forever()
        trace.note("a returns")
        await trace.gate("a").wait()

    async with open_supervisor(capacity=1) as supervisor:
        wq = alloc(supervisor, max_active=1)
        wq.queue_work(Work(body))
        trace.queue(wq, "b c")
        await wait_all_tasks_blocked()
        assert trace.events == ["b starts"]
        begin = trio.current_time()
        await trio.sleep(1)
        await wait_all_tasks_blocked()
        assert trio.current_time() - begin == pytest.approx(1)
        assert trace.events == ["b starts", "a returns"]
        assert (slots(wq), places(supervisor)) == ((2, 0), (2, 0))
        assert wq.statistics().overshoot == 1
        trace.open("b")
        await wait_all_tasks_blocked()
        assert (slots(wq), places(supervisor)) == ((1, 0), (1, 0))
        assert "c starts" not in trace.events
        trace.open("a")
        await wait_all_tasks_blocked()
        assert trace.events[-1] == "c starts"
        trace.open("c")
        await wq.flush()
        assert wq.statistics().overshoot == 1
        await assert_at_zero(supervisor, wq)


async def test_leaving_with_an_exception_below_the_limit_is_no_overshoot(trace: Trace) -> None:
    """P4: only a coming back beyond the limit is counted."""

    async def body() -> None:
        with trio.move_on_after(1):
            async with parked():
                await trio.sleep_forever()

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=1)
        await wq.run(body)
        assert wq.statistics().overshoot == 0


async def test_the_exception_in_flight_is_never_masked(trace: Trace) -> None:
    """P4: the very same object comes out, also when the queue is full."""
    errors = Errors()
    error = ValueError("from the parked wait")
    caught: list[BaseException] = []

    async def body() -> None:
        try:
            async with parked():
                await trace.gate("a").wait()
                raise error
        except ValueError as same:
            caught.append(same)
            raise

    async with open_supervisor() as supervisor:
        wq = supervisor.alloc_workqueue("test", WQ_UNBOUND, max_active=1, on_error=errors)
        wq.queue_work(Work(body))
        trace.queue(wq, "b c")
        await wait_all_tasks_blocked()
        trace.open("a")
        await wait_all_tasks_blocked()
        assert caught == [error]
        assert errors.errors == [error]
        assert wq.statistics().overshoot == 1
        trace.open("b", "c")
        await wq.flush()
        await assert_at_zero(supervisor, wq)


async def test_being_cancelled_in_the_line_of_returners_does_not_wait(trace: Trace) -> None:
    """P4: cancelled while queued for its return, it is back at once, and its place in the line is gone."""

    async def body() -> None:
        with trio.move_on_after(10) as scope:
            async with parked():
                await trace.gate("a").wait()
            trace.note("not reached")
        trace.note(f"a returns, cancelled {scope.cancelled_caught}")
        await trace.gate("a back").wait()

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=1)
        wq.queue_work(Work(body))
        trace.queue(wq, "b c")
        await wait_all_tasks_blocked()
        trace.open("a")
        await trio.sleep(9)
        assert trace.events == ["b starts"]
        await trio.sleep(2)
        assert trace.events == ["b starts", "a returns, cancelled True"]
        assert (slots(wq), wq.statistics().overshoot) == ((2, 0), 1)
        trace.open("a back", "b")
        await wait_all_tasks_blocked()
        assert trace.events[-1] == "c starts"
        assert slots(wq) == (1, 0)
        trace.open("c")
        await wq.flush()
        await assert_at_zero(supervisor, wq)


async def test_being_cancelled_while_waiting_for_a_place_does_not_wait(trace: Trace) -> None:
    """P4: with its slot in hand, in the line for a place in the pool."""

    async def body() -> None:
        with trio.move_on_after(10):
            async with parked():
                await trace.gate("a").wait()
        trace.note("a returns")

    async with open_supervisor(capacity=1) as supervisor:
        wq, other = alloc(supervisor, max_active=1), alloc(supervisor, "other")
        wq.queue_work(Work(body))
        trace.queue(other, "b c")
        await wait_all_tasks_blocked()
        trace.open("a")
        await trio.sleep(11)
        assert trace.events == ["b starts", "a returns"]
        assert wq.statistics().overshoot == 1
        assert (slots(wq), places(supervisor)) == ((0, 0), (1, 0))
        trace.open("b", "c")
        await other.flush()
        await assert_at_zero(supervisor, wq, other)


async def test_an_interrupted_parked_item_ends_with_its_books_closed(trace: Trace) -> None:
    """P4 and P5: Cancelled is raised at the parked wait."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=1)
        works = [trace.parker(name) for name in "abc"]
        for work in works:
            wq.queue_work(work)
        trace.queue(wq, "d")
        await wait_all_tasks_blocked()
        for work in works:
            assert work.interrupt() is True
        await wait_all_tasks_blocked()
        assert slots(wq) == (1, 0)
        trace.open("d")
        await wq.flush()
        await assert_at_zero(supervisor, wq)
    assert trace.ends == ["d"]
