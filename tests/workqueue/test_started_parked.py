"""`queue_work(work, parked=True)`: a worker at once, no slot until the first return, which is its activation."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from ktrio.workqueue import ParkingError, Work, open_supervisor, parked
from tests.workqueue.conftest import Trace, alloc, assert_at_zero, assert_queue_at_zero


async def test_it_starts_past_line_slots_and_capacity(trace: Trace) -> None:
    """P2: here alone a start may precede its activation."""
    async with open_supervisor(capacity=1) as supervisor:
        wq = alloc(supervisor, max_active=1)
        trace.queue(wq, "a b")
        await wait_all_tasks_blocked()
        names = [str(number) for number in range(20)]
        for name in names:
            work = trace.parker(name)
            assert wq.queue_work(work, parked=True) is True
            assert work.is_pending
            assert wq.queue_work(work, parked=True) is False
        await wait_all_tasks_blocked()
        assert sorted(trace.starts) == sorted(["a", *names])
        books, pool = wq.statistics(), supervisor.statistics().pools[0]
        assert (books.nr_active, books.inactive, books.parked, books.running) == (1, 1, 20, 21)
        assert (pool.occupied, pool.parked, pool.nr_idle) == (1, 20, pool.nr_workers - 21)
        trace.open(*names, *(f"{name} back" for name in names), "a", "b")
        await wq.flush()
        assert wq.statistics().overshoot == 0
        await assert_at_zero(supervisor, wq)
    assert len(trace.ends) == 22


async def test_it_counts_as_pending_until_it_starts(trace: Trace) -> None:
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        wq.queue_work(trace.parker("a"), parked=True)
        books = wq.statistics()
        assert (books.pending, books.in_flight, books.nr_active, books.inactive) == (1, 1, 0, 0)
        await wait_all_tasks_blocked()
        books = wq.statistics()
        assert (books.pending, books.in_flight, books.running, books.parked) == (0, 1, 1, 1)
        trace.open("a", "a back")


async def test_its_first_parked_block_adopts_the_state_it_was_started_in() -> None:
    """P8 does not hit the first `parked()`; it does hit one inside it, and later ones are as usual."""
    seen: list[tuple[str, int, int]] = []

    def look(moment: str) -> None:
        books = wq.statistics()
        seen.append((moment, books.nr_active, books.parked))

    async def body() -> None:
        look("begin")
        async with parked():
            look("adopted")
            with pytest.raises(ParkingError):
                async with parked():
                    pass
            look("still")
        look("active")
        async with parked():
            look("again")
        look("back")

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=1)
        wq.queue_work(Work(body), parked=True)
        await wq.flush()
        await assert_at_zero(supervisor, wq)
    assert seen == [
        ("begin", 0, 1),
        ("adopted", 0, 1),
        ("still", 0, 1),
        ("active", 1, 0),
        ("again", 0, 1),
        ("back", 1, 0),
    ]


async def test_its_first_return_waits_in_line(trace: Trace) -> None:
    """P2 and invariants 10, 13: behind the inactive, ahead of those queued after it wanted in."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=1)
        trace.queue(wq, "a b")
        wq.queue_work(trace.parker("x"), parked=True)
        await wait_all_tasks_blocked()
        trace.open("x")
        await wait_all_tasks_blocked()
        trace.queue(wq, "c")
        for name in ("a", "b"):
            assert "x returns" not in trace.events
            trace.open(name)
            await wait_all_tasks_blocked()
            assert wq.statistics().nr_active == 1
        assert trace.events[-1] == "x returns"
        trace.open("x back", "c")
    assert trace.ends == ["a", "b", "x", "c"]


async def test_many_wait_parked_while_few_work(trace: Trace) -> None:
    """W28; invariant 10 for a server's pattern: 200 connections, 4 slots, never more than 4 at work."""
    working = most = 0

    async def connection(number: int) -> None:
        nonlocal working, most
        for request in range(3):
            async with parked():
                await trio.sleep(1 + (number * 7 + request * 3) % 5)
            working += 1
            most = max(most, working)
            await trio.sleep(0.5)
            working -= 1

    async with open_supervisor(capacity=8) as supervisor:
        wq = alloc(supervisor, max_active=4)
        for number in range(200):
            wq.queue_work(Work(connection, number), parked=True)
        await wait_all_tasks_blocked()
        assert wq.statistics().parked == 200
        await wq.flush()
        books = wq.statistics()
        assert (most, books.overshoot, books.started) == (4, 0, 200)
        await assert_at_zero(supervisor, wq)


@pytest.mark.parametrize("body", [lambda: None, trio.lowlevel.checkpoint])
async def test_it_may_end_without_ever_being_active(body: object) -> None:
    """A sync function, or an async one that never parks: the books close all the same."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=1)
        wq.queue_work(Work(body), parked=True)
        await wq.flush()
        books = wq.statistics()
        assert (books.started, books.completed, books.overshoot) == (1, 1, 0)
        await assert_at_zero(supervisor, wq)


async def test_cancelled_before_its_first_step_it_is_discarded(trace: Trace) -> None:
    """P2: on_discard, once, and it never starts."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        work = trace.parker("a")
        wq.queue_work(work, parked=True)
        assert work.interrupt() is False
        assert work.cancel() is True
        assert not work.is_pending
        await wait_all_tasks_blocked()
        assert trace.discarded == ["a"]
        await assert_at_zero(supervisor, wq)
        trace.open("a", "a back")
        assert wq.queue_work(work, parked=True) is True
        await wq.flush()
    assert trace.starts == ["a"]
    assert trace.discarded == ["a"]


async def test_a_supervisor_cancelled_before_its_first_step_discards_it(trace: Trace) -> None:
    """W11; invariant 60: exactly one of the two, an orderly start or on_discard."""
    with trio.CancelScope() as scope:
        async with open_supervisor() as supervisor:
            wq = alloc(supervisor)
            for number in range(10):
                wq.queue_work(trace.parker(str(number)), parked=True)
            scope.cancel()
    assert sorted(trace.discarded + trace.starts) == [str(number) for number in range(10)]
    assert trace.ends == []
    assert_queue_at_zero(wq)


async def test_queued_again_parked_in_a_supervisor_that_is_cancelled_it_starts_or_is_discarded(trace: Trace) -> None:
    """Invariant 60: where the pool has ended before the run, there is no worker any more for what was to follow it."""
    names = [str(number) for number in range(20)]
    with trio.CancelScope() as scope:
        async with open_supervisor() as supervisor:
            wq = alloc(supervisor)
            works = trace.queue(wq, " ".join(names))
            await wait_all_tasks_blocked()
            for work in works.values():
                assert wq.queue_work(work, parked=True)
            scope.cancel()
    assert sorted(trace.starts[20:] + trace.discarded) == sorted(names)
    assert trace.ends == []
    assert_queue_at_zero(wq)


async def test_interrupted_before_its_activation_it_leaves_without_waiting(trace: Trace) -> None:
    """P4: its slot is taken beyond the limit if it wants to go on, and given back at its end."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=1)
        trace.queue(wq, "holder")
        work = trace.parker("a")
        wq.queue_work(work, parked=True)
        await wait_all_tasks_blocked()
        assert work.interrupt() is True
        assert await work.flush() is True
        assert wq.statistics().nr_active == 1
        trace.open("holder")
        await wq.flush()
        await assert_at_zero(supervisor, wq)


async def test_flush_waits_for_it(trace: Trace) -> None:
    """P5: before it starts, and while it is parked."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        work = trace.parker("a")
        wq.queue_work(work, parked=True)
        for wait in (work.flush, wq.flush):
            with trio.move_on_after(10) as scope:
                await wait()
            assert scope.cancelled_caught
        trace.open("a", "a back")
        assert await work.flush() is True
        assert trace.ends == ["a"]


async def test_requeued_while_it_runs_it_runs_again(trace: Trace) -> None:
    """P6 for a run that was never activated: no slot to inherit, none leaked."""
    runs = 0

    async def body() -> None:
        nonlocal runs
        runs += 1
        await trace.gate("body").wait()

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=1)
        trace.queue(wq, "holder")
        work = Work(body)
        wq.queue_work(work, parked=True)
        await wait_all_tasks_blocked()
        assert wq.queue_work(work) is True
        trace.open("body")
        await wait_all_tasks_blocked()
        assert wq.statistics().nr_active == 1
        trace.open("holder")
        await wq.flush()
        assert runs == 2
        await assert_at_zero(supervisor, wq)


async def test_it_is_dealt_to_the_cpus_like_any_other(trace: Trace) -> None:
    """W18."""
    async with open_supervisor(2) as supervisor:
        wq = alloc(supervisor)
        for number in range(6):
            wq.queue_work(trace.parker(str(number)), parked=True)
        assert [pwq.in_flight for pwq in wq.statistics().pwqs] == [3, 3]
        await wait_all_tasks_blocked()
        assert [pool.parked for pool in supervisor.statistics().pools] == [3, 3]
        trace.open(*(str(number) for number in range(6)), *(f"{number} back" for number in range(6)))


async def test_one_that_would_start_parked_when_the_supervisor_ends_is_discarded(trace: Trace) -> None:
    """W11: queued while it runs, and that run outlives its pool by its cleanup."""

    async def body() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(1)

    with trio.move_on_after(5):
        async with open_supervisor() as supervisor:
            wq = alloc(supervisor)
            work = Work(body, on_discard=trace.discarder("a"))
            wq.queue_work(work)
            await wait_all_tasks_blocked()
            assert wq.queue_work(work, parked=True)
            await trio.sleep_forever()
    assert trace.discarded == ["a"]
    assert work.statistics().runs == 1
