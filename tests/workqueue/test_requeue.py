"""Requeueing an item while it runs: after the run, on its CPU, in its slot (P6)."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from ktrio.workqueue import Work, Workqueue, open_supervisor
from tests.workqueue.conftest import Trace, alloc, assert_at_zero


def slots(wq: Workqueue) -> tuple[int, int]:
    """(slots held, items parked)."""
    books = wq.statistics()
    return books.nr_active, books.parked


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_pending_is_clear_when_the_function_begins(kind: str) -> None:
    """W15; invariant 5: inside its own body it can be queued once, and it runs exactly once more."""
    seen: list[object] = []

    def body() -> None:
        first = not seen
        seen.append((work.is_pending, work.is_running))
        if first:
            seen.append([wq.queue_work(work), wq.queue_work(work)])

    async def async_body() -> None:
        body()

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=1)
        work = Work(async_body if kind == "async" else body)
        wq.queue_work(work)
    assert seen == [(False, True), [True, False], (False, True)]


async def test_a_requeue_during_the_run_starts_after_it_on_the_same_pool(trace: Trace) -> None:
    """W16; invariant 6: only after the run's end, on its CPU even if another one was named."""
    tasks: list[trio.lowlevel.Task] = []

    async def body() -> None:
        tasks.append(trio.lowlevel.current_task())
        await trace.hold("a")

    async with open_supervisor(2) as supervisor:
        wq = alloc(supervisor)
        work = Work(body)
        wq.queue_work_on(0, work)
        await wait_all_tasks_blocked()
        assert wq.queue_work_on(1, work) is True
        await wait_all_tasks_blocked()
        assert trace.events == ["a starts"]
        assert [(pwq.cpu, pwq.in_flight) for pwq in wq.statistics().pwqs] == [(0, 2), (1, 0)]
        trace.open("a")
        await wq.flush()
    assert trace.events == ["a starts", "a ends", "a starts", "a ends"]
    assert tasks[0] is tasks[1], "a requeue runs right after the run, on the same worker"


async def test_a_requeue_of_a_parked_run_holds_no_slot_of_its_own(trace: Trace) -> None:
    """P6: with the kernel's rule the run would wait for the slot that its own next instance holds."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=1)
        work = trace.parker("a")
        wq.queue_work(work)
        await wait_all_tasks_blocked()
        assert wq.queue_work(work) is True
        assert slots(wq) == (0, 1)
        trace.open("a", "a back")
        await wq.flush()
        assert wq.statistics().overshoot == 0
        await assert_at_zero(supervisor, wq)
    assert trace.ends == ["a", "a"]


async def test_a_requeue_inherits_the_slot_of_the_run(trace: Trace) -> None:
    """P6: with nobody inactive at its queueing it comes before those queued later."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=1)
        work = trace.queue(wq, "a")["a"]
        await wait_all_tasks_blocked()
        wq.queue_work(work)
        assert slots(wq) == (1, 0)
        trace.queue(wq, "b")
        trace.open("a", "b")
        await wq.flush()
    assert trace.starts == ["a", "a", "b"]


async def test_a_requeue_goes_behind_those_inactive_before_it(trace: Trace) -> None:
    """P6 with invariants 13 and 14."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=1)
        works = trace.queue(wq, "a b")
        await wait_all_tasks_blocked()
        wq.queue_work(works["a"])
        trace.queue(wq, "c")
        trace.open("a", "b", "c")
        await wq.flush()
    assert trace.starts == ["a", "b", "a", "c"]


async def test_a_requeue_of_a_parked_run_behind_inactive_items_does_not_deadlock(trace: Trace) -> None:
    """P6: promoted while its run is still out, it takes no slot from the run that wants back."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=1)
        work = trace.parker("a")
        wq.queue_work(work)
        trace.queue(wq, "b c")
        await wait_all_tasks_blocked()
        assert trace.starts == ["a", "b"]
        assert wq.queue_work(work) is True
        trace.queue(wq, "d")
        trace.open("b", "c", "d")
        await wait_all_tasks_blocked()
        assert trace.starts == ["a", "b", "c", "d"]
        trace.open("a", "a back")
        await wq.flush()
        await assert_at_zero(supervisor, wq)
    assert trace.ends == ["b", "c", "d", "a", "a"]


async def test_a_requeue_inherits_nothing_beyond_a_lowered_limit(trace: Trace) -> None:
    """P6 with invariants 10 and 13: nr_active falls, and the requeue is first in the line."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=2)
        works = trace.queue(wq, "a b")
        await wait_all_tasks_blocked()
        wq.queue_work(works["a"])
        trace.queue(wq, "c")
        wq.set_max_active(1)
        trace.open("a")
        await wait_all_tasks_blocked()
        assert trace.starts == ["a", "b"]
        assert slots(wq) == (1, 0)
        trace.open("b")
        await wait_all_tasks_blocked()
        assert trace.starts == ["a", "b", "a", "c"]
        trace.open("c")
