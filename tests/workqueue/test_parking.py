"""Parking, P1-P3, P5 and P8: stepping off the books, coming back in line, what is an error."""

import pytest
import trio
import trio.lowlevel
from trio.testing import assert_no_checkpoints, wait_all_tasks_blocked

from ktrio.workqueue import (
    DeadlockError,
    ParkingError,
    Supervisor,
    Work,
    Workqueue,
    WorkqueueError,
    open_supervisor,
    parked,
)
from tests.workqueue.conftest import Trace, alloc, assert_at_zero


def slots(wq: Workqueue) -> tuple[int, int]:
    """(slots held, items parked)."""
    books = wq.statistics()
    return books.nr_active, books.parked


def places(supervisor: Supervisor) -> tuple[int, int]:
    """(places held, items parked) of the first pool."""
    pool = supervisor.statistics().pools[0]
    return pool.occupied, pool.parked


async def test_parking_gives_back_slot_and_place_at_once(trace: Trace) -> None:
    """P1: before anything else runs; the item stays in flight and running, its task its own."""
    tasks: list[trio.lowlevel.Task] = []

    async def body() -> None:
        tasks.append(trio.lowlevel.current_task())
        assert (slots(wq), places(supervisor)) == ((1, 0), (1, 0))
        async with parked():
            tasks.append(trio.lowlevel.current_task())
            assert (slots(wq), places(supervisor)) == ((0, 1), (0, 1))
            books = wq.statistics()
            assert (books.running, books.in_flight, work.is_running) == (1, 1, True)
            assert work.statistics().parked
        tasks.append(trio.lowlevel.current_task())
        assert (slots(wq), places(supervisor)) == ((1, 0), (1, 0))
        assert not work.statistics().parked

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=1)
        work = Work(body)
        wq.queue_work(work)
        await wq.flush()
        await assert_at_zero(supervisor, wq)
    assert len(set(tasks)) == 1
    assert len(tasks) == 3


@pytest.mark.parametrize(("max_active", "capacity"), [(1, 10), (10, 1), (1, 1)])
async def test_parking_lets_the_next_items_start(trace: Trace, max_active: int, capacity: int) -> None:
    """P1: slot and place are used by others, one after the other, however many park."""
    async with open_supervisor(capacity=capacity) as supervisor:
        wq = alloc(supervisor, max_active=max_active)
        names = [str(number) for number in range(20)]
        for name in names:
            wq.queue_work(trace.parker(name))
        await wait_all_tasks_blocked()
        assert trace.starts == names
        assert (slots(wq), places(supervisor)) == ((0, 20), (0, 20))
        for name in reversed(names):
            trace.open(name, f"{name} back")
        await wq.flush()
        assert supervisor.statistics().pools[0].nr_workers <= 22
        await assert_at_zero(supervisor, wq)


async def test_parking_and_returning_with_all_free_switches_no_task() -> None:
    """P2: free and nobody inactive: at once, no checkpoint in either direction."""

    async def body() -> None:
        with assert_no_checkpoints():
            async with parked():
                pass
            async with parked():
                pass

    async with open_supervisor(capacity=1) as supervisor:
        await alloc(supervisor, max_active=1).run(body)


async def test_a_returning_item_joins_the_line_of_the_inactive(trace: Trace) -> None:
    """P2: behind those inactive before it, ahead of those queued after it; nobody overtakes."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=1)
        wq.queue_work(trace.parker("a"))
        trace.queue(wq, "b c")
        await wait_all_tasks_blocked()
        assert trace.starts == ["a", "b"]
        trace.open("a")
        await wait_all_tasks_blocked()
        trace.queue(wq, "d")
        for name in ("b", "c"):
            assert "a returns" not in trace.events
            trace.open(name)
            await wait_all_tasks_blocked()
        assert trace.events[-1] == "a returns"
        assert slots(wq) == (1, 0)
        trace.open("a back", "d")
    assert trace.ends == ["b", "c", "a", "d"]


async def test_a_returning_item_does_not_overtake_after_a_raise(trace: Trace) -> None:
    """P2 with invariants 14 and 18: raising serves the line in its order."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=1)
        wq.queue_work(trace.parker("a"))
        trace.queue(wq, "b c")
        await wait_all_tasks_blocked()
        trace.open("a")
        await wait_all_tasks_blocked()
        trace.queue(wq, "d")
        wq.set_max_active(2)
        await wait_all_tasks_blocked()
        assert trace.events[-1] == "c starts"
        wq.set_max_active(3)
        await wait_all_tasks_blocked()
        assert trace.events[-1] == "a returns"
        assert slots(wq) == (3, 0)
        trace.open("a back", "b", "c", "d")
    assert trace.starts == ["a", "b", "c", "d"]


async def test_items_return_in_the_order_in_which_they_wanted_to(trace: Trace) -> None:
    """P2: the line is first come, first served."""
    names = [str(number) for number in range(6)]
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=1)
        for name in names:
            wq.queue_work(trace.parker(name))
        trace.queue(wq, "holder")
        await wait_all_tasks_blocked()
        wanting = ["3", "0", "5", "1", "2", "4"]
        for name in wanting:
            trace.open(name)
            await wait_all_tasks_blocked()
        assert slots(wq)[0] == 1
        trace.open("holder", *(f"{name} back" for name in names))
        await wq.flush()
        assert [event for event in trace.events if event.endswith(" returns")] == [
            f"{name} returns" for name in wanting
        ]


async def test_a_returning_item_waits_for_a_place_in_a_full_pool(trace: Trace) -> None:
    """P2: slot first, then place; in line with what waits on the worklist."""
    async with open_supervisor(capacity=1) as supervisor:
        wq, other = alloc(supervisor, max_active=1), alloc(supervisor, "other")
        wq.queue_work(trace.parker("a"))
        trace.queue(other, "b c")
        await wait_all_tasks_blocked()
        assert trace.starts == ["a", "b"]
        trace.open("a")
        await wait_all_tasks_blocked()
        assert "a returns" not in trace.events
        assert wq.statistics().nr_active == 1, "it has its slot"
        trace.queue(other, "d")
        trace.open("b")
        await wait_all_tasks_blocked()
        assert trace.events[-1] == "c starts"
        trace.open("c")
        await wait_all_tasks_blocked()
        assert trace.events[-1] == "a returns"
        assert places(supervisor) == (1, 0)
        trace.open("a back", "d")
    assert trace.ends == ["b", "c", "a", "d"]


async def test_running_items_do_not_gate_a_return(trace: Trace) -> None:
    """P3: with a slot and a place free it is back at once, however busy the others are."""
    stop = False
    returned_after: list[int] = []
    turns = 0

    async def spin() -> None:
        nonlocal turns
        while not stop:
            turns += 1
            await trio.lowlevel.checkpoint()

    async def body() -> None:
        async with parked():
            await trio.lowlevel.checkpoint()
            before = turns
        returned_after.append(turns - before)

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        for _ in range(5):
            wq.queue_work(Work(spin))
        work = Work(body)
        wq.queue_work(work)
        await work.flush()
        stop = True
    assert returned_after == [0]


async def test_flush_and_destroy_wait_for_parked_items(trace: Trace) -> None:
    """P5."""
    ended: list[str] = []

    async def wait(name: str, wait_for: Work | Workqueue) -> None:
        await (wait_for.destroy() if name == "destroy" else wait_for.flush())
        ended.append(name)

    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        wq = alloc(supervisor)
        work = trace.parker("a")
        wq.queue_work(work)
        await wait_all_tasks_blocked()
        nursery.start_soon(wait, "flush item", work)
        nursery.start_soon(wait, "flush queue", wq)
        nursery.start_soon(wait, "destroy", wq)
        await trio.sleep(1000)
        trace.open("a")
        await trio.sleep(1000)
        assert ended == []
        trace.open("a back")
        await wait_all_tasks_blocked()
        assert sorted(ended) == ["destroy", "flush item", "flush queue"]


@pytest.mark.parametrize("where", ["nested", "outside", "child task"])
async def test_parking_where_it_makes_no_sense_is_an_error(where: str) -> None:
    """P8: and the books stay as they were."""
    assert issubclass(ParkingError, WorkqueueError)

    async def park() -> None:
        with pytest.raises(ParkingError):
            async with parked():
                pytest.fail("parked")

    async def body() -> None:
        before = (slots(wq), places(supervisor))
        if where == "nested":
            async with parked():
                await park()
                assert slots(wq) == (0, 1)
        else:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(park)
        assert (slots(wq), places(supervisor)) == before

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=1)
        await (park() if where == "outside" else wq.run(body))
        await assert_at_zero(supervisor, wq)


@pytest.mark.parametrize("how", ["flush", "cancel_sync", "in parked"])
async def test_waiting_for_a_parked_item_while_holding_what_it_needs_does_not_hang(trace: Trace, how: str) -> None:
    """W102; P8: the waiting caller steps aside, or is told by an error that it never can."""

    async def body() -> None:
        trace.note("b starts")
        trace.open("a", "a back")
        if how == "flush":
            assert await target.flush() is True
        elif how == "in parked":
            async with parked():
                assert await target.flush() is True
        else:
            try:
                assert await target.cancel_sync() is False
            except DeadlockError:
                trace.note("told")

    async with open_supervisor(capacity=1) as supervisor:
        wq = alloc(supervisor, max_active=1)
        target = trace.parker("a")
        wq.queue_work(target)
        wq.queue_work(Work(body))
        await wq.flush()
        await assert_at_zero(supervisor, wq)
    assert trace.ends == ["a"]


async def test_p9_parking_that_insists_comes_back_at_once_beyond_the_limits(trace: Trace) -> None:
    async with open_supervisor(capacity=1) as supervisor:
        wq = alloc(supervisor, max_active=1)

        async def insists() -> None:
            async with parked(insist=True):
                await trace.gate("insists").wait()
            trace.note("insists returns")
            await trace.gate("insists back").wait()

        wq.queue_work(Work(insists))
        await wait_all_tasks_blocked()
        wq.queue_work(trace.holder("other"))
        wq.queue_work(trace.holder("late"))
        await wait_all_tasks_blocked()
        assert trace.starts == ["other"]
        trace.open("insists")
        await wait_all_tasks_blocked()
        assert trace.events[-1] == "insists returns"
        assert (wq.statistics().nr_active, wq.statistics().overshoot) == (2, 1)
        trace.open("insists back")
        await wait_all_tasks_blocked()
        assert trace.starts == ["other"], "nothing starts before the count is below the limit"
        trace.open("other", "late")
    assert trace.starts == ["other", "late"]


@pytest.mark.parametrize("waits", [False, True])
async def test_an_item_that_never_leaves_parked_gives_nothing_back_twice(waits: bool) -> None:
    """P1: by hand one can enter and forget to leave, before the item's first wait or after it."""

    async def body() -> None:
        if waits:
            await trio.lowlevel.checkpoint()
        await parked().__aenter__()

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=1)
        for _ in range(3):
            wq.queue_work(Work(body))
            wq.queue_work(Work(print))
        await wq.flush()
        await assert_at_zero(supervisor, wq)
