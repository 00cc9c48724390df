"""Parking on bound pools, P1-P8: coming back is a sleeper waking, which concurrency management never holds up."""

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import assert_no_checkpoints, wait_all_tasks_blocked

from ktrio.workqueue import ParkingError, Supervisor, Work, Workqueue, parked
from tests.workqueue.conftest import Open, Trace, alloc_bound, assert_at_zero, bound_pool


def slots(wq: Workqueue) -> tuple[int, int]:
    """(slots held, items parked)."""
    books = wq.statistics()
    return books.nr_active, books.parked


def places(supervisor: Supervisor) -> tuple[int, int]:
    """(places held, items parked) of the bound pool."""
    pool = bound_pool(supervisor)
    return pool.occupied, pool.parked


async def turns(count: int = 10) -> None:
    """Let the loop turn, without a rest."""
    for _ in range(count):
        await trio.lowlevel.checkpoint()


class Spinner:
    """An item that yields until it is told to stop."""

    def __init__(self) -> None:
        self.stop = False
        self.turns = 0
        self.work = Work(self.spin, name="spinner")

    async def spin(self) -> None:
        while not self.stop:
            self.turns += 1
            await trio.lowlevel.checkpoint()


async def test_parking_gives_back_slot_and_place_but_is_no_sleep(open_bound: Open, trace: Trace) -> None:
    """P1 and invariant 26: who is parked and burns on still counts as running; only sleeping lets another start."""
    async with open_bound() as supervisor:
        wq = alloc_bound(supervisor, max_active=1)

        async def body() -> None:
            async with parked():
                assert (slots(wq), places(supervisor)) == ((1, 1), (0, 1)), "the slot went to the next at once"
                await turns()
                assert trace.starts == []
                assert bound_pool(supervisor).nr_running == 1
                await trace.gate("parked").wait()

        wq.queue_work(Work(body))
        trace.queue(wq, "a")
        await wait_all_tasks_blocked()
        assert trace.starts == ["a"]
        assert (slots(wq), places(supervisor)) == ((1, 1), (1, 1))
        assert wq.statistics().cm_wakeups == 1
        trace.open("a", "parked")
        await wq.flush()
        await assert_at_zero(supervisor, wq)


@pytest.mark.parametrize(("max_active", "capacity"), [(1, 10), (10, 1), (1, 1)])
async def test_parking_lets_the_next_items_start(
    open_bound: Open, trace: Trace, max_active: int, capacity: int
) -> None:
    """P1: one after the other, however many park."""
    async with open_bound(capacity=capacity) as supervisor:
        wq = alloc_bound(supervisor, max_active=max_active)
        names = [str(number) for number in range(20)]
        for name in names:
            wq.queue_work(trace.parker(name))
        await wait_all_tasks_blocked()
        assert trace.starts == names
        assert (slots(wq), places(supervisor)) == ((0, 20), (0, 20))
        for name in reversed(names):
            trace.open(name, f"{name} back")
        await wq.flush()
        assert bound_pool(supervisor).nr_workers <= 22
        await assert_at_zero(supervisor, wq)


async def test_parking_and_returning_with_all_free_switches_no_task(open_bound: Open) -> None:
    """P2."""

    async def body() -> None:
        for _ in range(2):
            with assert_no_checkpoints():
                async with parked():
                    pass

    async with open_bound(capacity=1) as supervisor:
        await alloc_bound(supervisor, max_active=1).run(body)


async def test_running_items_do_not_gate_a_return(open_bound: Open, trace: Trace) -> None:
    """P3: it is back at once though another item runs all the time, and though a third waits for that to end."""
    spinner = Spinner()
    returned_after: list[int] = []

    async def body() -> None:
        async with parked():
            await trace.gate("return").wait()
            before = spinner.turns
        returned_after.append(spinner.turns - before)
        assert bound_pool(supervisor).nr_running == 2

    async with open_bound() as supervisor:
        wq = alloc_bound(supervisor)
        work = Work(body)
        wq.queue_work(work)
        wq.queue_work(spinner.work)
        trace.queue(wq, "behind")
        await turns()
        trace.open("return")
        await work.flush()
        assert returned_after == [0]
        assert trace.starts == []
        spinner.stop = True
        trace.open("behind")


async def test_a_return_that_waits_for_a_slot_is_not_gated_either(open_bound: Open, trace: Trace) -> None:
    """P3 for a token: as soon as it has its slot, although an item runs and others wait on the worklist."""
    spinner = Spinner()
    async with open_bound() as supervisor:
        wq, other = alloc_bound(supervisor, max_active=1), alloc_bound(supervisor, "other")
        wq.queue_work(trace.parker("a"))
        holder = trace.queue(wq, "holder")["holder"]
        await wait_all_tasks_blocked()
        trace.open("a")
        await wait_all_tasks_blocked()
        assert "a returns" not in trace.events
        other.queue_work(spinner.work)
        trace.queue(other, "behind")
        await turns()
        trace.open("holder")
        await holder.flush()
        await turns()
        assert trace.events[-1] == "a returns"
        assert "behind" not in trace.starts
        spinner.stop = True
        trace.open("a back", "behind")


@pytest.mark.parametrize("how", ["the limit is raised", "the holder ends"])
async def test_a_return_that_gets_its_slot_is_not_gated_by_what_starts(
    open_bound: Open, trace: Trace, how: str
) -> None:
    """P3: past an item that waits for a running one, and past one that starts in that moment and never sleeps."""
    holder, spinner = Spinner(), Spinner()
    async with open_bound() as supervisor:
        wq, other = alloc_bound(supervisor, max_active=1), alloc_bound(supervisor, "other")
        wq.queue_work(trace.parker("a"))
        await wait_all_tasks_blocked()
        wq.queue_work(holder.work)
        await turns()
        trace.open("a")
        await turns()
        assert "a returns" not in trace.events
        other.queue_work(spinner.work)
        await turns()
        assert spinner.turns == 0
        if how == "the holder ends":
            holder.stop = True
        else:
            wq.set_max_active(2)
        await turns()
        assert trace.events[-1] == "a returns"
        assert holder.work.is_running is not spinner.work.is_running
        holder.stop = spinner.stop = True
        trace.open("a back")


async def test_a_return_that_waits_for_a_place_is_not_gated_either(open_bound: Open, trace: Trace) -> None:
    """P3 in a full pool: it takes the place that a sleeper has left, past an item that may not start yet."""
    spinner = Spinner()
    async with open_bound(capacity=2) as supervisor:
        wq, other = alloc_bound(supervisor), alloc_bound(supervisor, "other")
        wq.queue_work(trace.parker("a"))
        trace.queue(other, "sleeper")
        await wait_all_tasks_blocked()
        other.queue_work(spinner.work)
        trace.queue(other, "behind")
        await turns()
        trace.open("a")
        await turns()
        assert "a returns" not in trace.events, "the pool is full"
        trace.open("sleeper")
        await turns()
        assert trace.events[-1] == "a returns"
        assert bound_pool(supervisor).worklist == 1
        spinner.stop = True
        await wait_all_tasks_blocked()
        assert trace.events[-1] == "behind starts"
        trace.open("a back", "behind")


async def test_a_return_does_not_overtake_an_item_that_could_start(open_bound: Open, trace: Trace) -> None:
    """P2 in a full pool: nobody runs, so nothing is gated, and the line is the worklist."""
    async with open_bound(capacity=1) as supervisor:
        wq, other = alloc_bound(supervisor, max_active=1), alloc_bound(supervisor, "other")
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
        trace.open("a back", "d")
    assert trace.ends == ["b", "c", "a", "d"]


async def test_nor_one_that_the_ending_item_makes_room_for(open_bound: Open, trace: Trace) -> None:
    """P2: also if that end promotes an item of its own queue."""
    async with open_bound(capacity=1) as supervisor:
        wq, other = alloc_bound(supervisor, max_active=1), alloc_bound(supervisor, "other", 2)
        wq.queue_work(trace.parker("a"))
        trace.queue(other, "b c inactive")
        await wait_all_tasks_blocked()
        trace.open("a")
        await wait_all_tasks_blocked()
        trace.open("b", "c")
        await wait_all_tasks_blocked()
        assert trace.events[-1] == "a returns"
        assert trace.ends == ["b", "c"]
        trace.open("a back", "inactive")
    assert trace.ends == ["b", "c", "a", "inactive"]


async def test_nor_while_the_worker_between_two_items_yields(open_bound: Open, trace: Trace) -> None:
    """P2: who has ended an item and lets the loop turn asks next; what comes meanwhile gives nobody else the place."""
    order: list[str] = []

    async def returner() -> None:
        async with parked():
            await trace.gate("a").wait()
        order.append("a returns")

    def burst(number: int) -> None:
        order.append(str(number))

    async with open_bound(capacity=1) as supervisor:
        wq, other = alloc_bound(supervisor), alloc_bound(supervisor, "other")
        wq.queue_work(Work(returner))
        await wait_all_tasks_blocked()
        trace.queue(other, "b")
        await wait_all_tasks_blocked()
        for number in range(200):
            other.queue_work(Work(burst, number))
        trace.open("a")
        await wait_all_tasks_blocked()
        for number in range(200, 230):
            other.queue_work(Work(burst, number))
        trace.open("b")
        number = 230
        while "a returns" not in order:
            other.queue_work(Work(burst, number))
            number += 1
            await trio.lowlevel.checkpoint()
        await other.flush()
    assert order.index("a returns") == 200


async def test_a_returning_item_joins_the_line_of_the_inactive(open_bound: Open, trace: Trace) -> None:
    """P2: behind those inactive before it, ahead of those queued after it."""
    async with open_bound() as supervisor:
        wq = alloc_bound(supervisor, max_active=1)
        wq.queue_work(trace.parker("a"))
        trace.queue(wq, "b c")
        await wait_all_tasks_blocked()
        trace.open("a")
        await wait_all_tasks_blocked()
        trace.queue(wq, "d")
        for name in ("b", "c"):
            assert "a returns" not in trace.events
            trace.open(name)
            await wait_all_tasks_blocked()
        assert trace.events[-1] == "a returns"
        trace.open("a back", "d")
    assert trace.ends == ["b", "c", "a", "d"]


async def leave_by_error() -> None:
    async with parked():
        await trio.sleep(1)
        raise ValueError


async def leave_by_timeout() -> None:
    with trio.move_on_after(1):
        async with parked():
            await trio.sleep(2)


@pytest.mark.parametrize("body", [leave_by_error, leave_by_timeout])
async def test_leaving_with_an_exception_never_waits(
    open_bound: Open, trace: Trace, body: Callable[[], Awaitable[None]]
) -> None:
    """P4: beyond slot and place, counted; nothing starts until the counts are below the limits again."""
    async with open_bound(capacity=1) as supervisor:
        wq = alloc_bound(supervisor, "test", 1, on_error=lambda work, error: None)
        after = trio.Event()

        async def run() -> None:
            try:
                await body()
            finally:
                assert (slots(wq), places(supervisor)) == ((2, 0), (2, 0))
                after.set()

        wq.queue_work(Work(run))
        trace.queue(wq, "holder behind")
        await after.wait()
        assert trio.current_time() == 1
        await wait_all_tasks_blocked()
        assert wq.statistics().overshoot == 1
        assert trace.starts == ["holder"]
        trace.open("holder", "behind")
        await wq.flush()
        await assert_at_zero(supervisor, wq)


async def test_flush_waits_for_parked_items(open_bound: Open, trace: Trace) -> None:
    """P5."""
    async with open_bound() as supervisor:
        wq = alloc_bound(supervisor)
        work = trace.parker("a")
        wq.queue_work(work)
        for wait in (work.flush, wq.flush, wq.drain):
            with trio.move_on_after(10) as scope:
                await wait()
            assert scope.cancelled_caught
        trace.open("a", "a back")
        assert await work.flush() is True


async def test_a_requeue_of_a_parked_run_inherits_its_slot(open_bound: Open, trace: Trace) -> None:
    """P6: with one slot it would deadlock otherwise."""
    async with open_bound() as supervisor:
        wq = alloc_bound(supervisor, max_active=1)
        work = trace.parker("a")
        wq.queue_work(work)
        await wait_all_tasks_blocked()
        assert wq.queue_work(work) is True
        assert slots(wq) == (0, 1)
        trace.open("a", "a back")
        await wq.flush()
        assert trace.starts == ["a", "a"]
        await assert_at_zero(supervisor, wq)


async def test_parking_twice_is_an_error(open_bound: Open) -> None:
    """P8."""

    async def body() -> None:
        async with parked():
            with pytest.raises(ParkingError):
                async with parked():
                    pytest.fail("parked")

    async with open_bound() as supervisor:
        wq = alloc_bound(supervisor, max_active=1)
        await wq.run(body)
        await assert_at_zero(supervisor, wq)


async def test_waiting_for_a_parked_item_does_not_hang(open_bound: Open, trace: Trace) -> None:
    """P8: the waiting caller steps aside, with one slot and one place."""
    async with open_bound(capacity=1) as supervisor:
        wq = alloc_bound(supervisor, max_active=1)
        target = trace.parker("a")

        async def body() -> None:
            trace.open("a", "a back")
            assert await target.flush() is True

        wq.queue_work(target)
        wq.queue_work(Work(body))
        await wq.flush()
        await assert_at_zero(supervisor, wq)
