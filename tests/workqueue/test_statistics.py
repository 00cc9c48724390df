"""statistics() and repr: numbers that add up at any moment, and names."""

import dataclasses
import random

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from ktrio.workqueue import WQ_UNBOUND, Supervisor, Work, Workqueue, open_supervisor
from tests.workqueue.conftest import Errors, Trace, alloc, assert_at_zero


def check_books(wq: Workqueue, accepted: int) -> None:
    """What must hold between the counters of a queue at any moment (invariant 62)."""
    books = wq.statistics()
    assert books.started - books.completed == books.running
    assert books.in_flight == books.pending + books.running
    assert accepted == books.started + books.cancelled + books.pending
    assert books.failed <= books.completed
    assert books.parked <= books.running
    assert books.nr_active == sum(pwq.nr_active for pwq in books.pwqs)
    assert books.inactive == sum(pwq.inactive for pwq in books.pwqs)
    assert books.in_flight == sum(pwq.in_flight for pwq in books.pwqs)
    assert [pwq.cpu for pwq in books.pwqs] == list(range(wq.cpus))


def monotone(wq: Workqueue) -> tuple[int, ...]:
    books = wq.statistics()
    return (books.started, books.completed, books.cancelled, books.failed, books.overshoot)


@pytest.mark.parametrize("seed", range(10))
async def test_the_counters_of_a_queue_add_up_at_any_moment(seed: int) -> None:
    """W161; invariant 62: started - completed == running; sums over the pwqs; counts only grow; the trace agrees."""
    rng = random.Random(seed)
    accepted = starts = ends = 0
    before: tuple[int, ...] = (0,) * 5

    def look() -> None:
        nonlocal before
        check_books(wq, accepted)
        now = monotone(wq)
        assert all(old <= new for old, new in zip(before, now, strict=True))
        before = now
        assert now[:2] == (starts, ends)

    async def body(fate: int) -> None:
        nonlocal starts, ends
        starts += 1
        look()
        try:
            await trio.sleep(fate)
            look()
            if fate == 3:
                raise ValueError
        finally:
            ends += 1

    async with open_supervisor(2, capacity=3) as supervisor:
        wq = supervisor.alloc_workqueue("test", WQ_UNBOUND, max_active=3, on_error=Errors())
        works = [Work(body, fate) for fate in (0, 0, 1, 2, 3)]
        for _ in range(150):
            work = rng.choice(works)
            match rng.randrange(6):
                case 0:
                    work.cancel()
                case 1:
                    work.interrupt()
                case 2:
                    await trio.sleep(rng.random())
                case _:
                    accepted += wq.queue_work(work)
            look()
        await wq.flush()
        look()
        accepted += wq.queue_work(works[-1])
        await wq.flush()
        look()
        await assert_at_zero(supervisor, wq)
        books = wq.statistics()
        assert books.failed > 0
        assert (books.started, books.completed) == (starts, ends)
        assert books.cancelled > 0
        assert sum(work.statistics().runs for work in works) == starts


async def test_the_counters_say_where_each_item_is(trace: Trace) -> None:
    """W161."""
    async with open_supervisor(capacity=2) as supervisor:
        wq = alloc(supervisor, "where", 3)
        wq.queue_work(trace.parker("parked"))
        await wait_all_tasks_blocked()
        trace.queue(wq, "a b c d e")
        await wait_all_tasks_blocked()
        books = wq.statistics()
        assert (books.name, books.flags, books.max_active) == ("where", WQ_UNBOUND, 3)
        assert (books.nr_active, books.inactive) == (3, 2)
        assert (books.pending, books.running, books.parked, books.in_flight) == (3, 3, 1, 6)
        assert (books.started, books.completed, books.cancelled, books.failed) == (3, 0, 0, 0)
        assert (books.draining, books.destroyed, books.chained_refused) == (False, False, 0)
        pool = supervisor.statistics().pools[0]
        assert (pool.occupied, pool.parked, pool.worklist) == (2, 1, 1)
        trace.open("parked", "parked back", *"abcde")


async def test_the_statistics_of_an_item(trace: Trace) -> None:
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        work = trace.parker("a")

        def state() -> tuple[bool, bool, bool]:
            books = work.statistics()
            return bool(books.pending), bool(books.running), bool(books.parked)

        states = [state()]
        wq.queue_work(work)
        states.append(state())
        await wait_all_tasks_blocked()
        states.append(state())
        wq.queue_work(work)
        states.append(state())
        trace.open("a")
        await wait_all_tasks_blocked()
        states.append(state())
        trace.open("a back")
        await wq.flush()
        states.append(state())
        assert work.statistics().runs == 2
    assert states == [
        (False, False, False),
        (True, False, False),
        (False, True, True),
        (True, True, True),
        (True, True, False),
        (False, False, False),
    ]


async def test_the_statistics_of_a_supervisor(trace: Trace) -> None:
    async with open_supervisor(3, capacity=7) as supervisor:
        one, two = alloc(supervisor, "one"), alloc(supervisor, "two")
        trace.queue(two, "a", cpu=2)
        await wait_all_tasks_blocked()
        books = supervisor.statistics()
        assert (books.cpus, books.capacity, books.chained_refused) == (3, 7, 0)
        assert books.workqueues == (one.statistics(), two.statistics())
        assert [(pool.cpu, pool.occupied) for pool in books.pools] == [(0, 0), (1, 0), (2, 1)]
        trace.open("a")


async def test_records_are_frozen_snapshots(trace: Trace) -> None:
    """W163."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        work = trace.holder("a")
        snapshots = (wq.statistics(), supervisor.statistics(), work.statistics())
        wq.queue_work(work)
        assert snapshots[0].in_flight == 0
        for record, field in zip(snapshots, ("in_flight", "cpus", "runs"), strict=True):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(record, field, 99)
        trace.open("a")


async def test_reprs_show_state_and_counts(trace: Trace) -> None:
    def named() -> None:
        """A function with a name of its own."""

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, "http", 2)
        works = trace.queue(wq, "alpha beta gamma delta epsilon")
        await wait_all_tasks_blocked()
        assert "'http'" in repr(wq)
        assert "2/2" in repr(wq)
        assert "3" in repr(wq).replace("2/2", "")
        texts = {repr(works[name]) for name in ("alpha", "gamma")}
        assert len(texts) == 2
        assert "alpha" in repr(works["alpha"])
        assert "running" in repr(works["alpha"])
        assert any(state in repr(works["gamma"]) for state in ("pending", "inactive"))
        assert "named" in repr(Work(named))
        assert "Supervisor" in repr(supervisor)
        trace.open(*works)
        await wq.destroy()
        assert "destroyed" in repr(wq)


async def test_looking_at_everything_changes_nothing(trace: Trace) -> None:
    """W163. repr and statistics are safe at any moment: from inside items, while queueing, while draining."""

    def look() -> None:
        everything: tuple[Supervisor | Workqueue | Work, ...] = (supervisor, wq, work)
        first = [(repr(thing), thing.statistics()) for thing in everything]
        assert [(repr(thing), thing.statistics()) for thing in everything] == first

    async def body() -> None:
        look()
        await trio.sleep(1)
        look()

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=1)
        work = Work(body)
        look()
        wq.queue_work(work)
        look()
        trace.queue(wq, "a")
        trace.open("a")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wq.drain)
            await trio.sleep(0.5)
            look()
        look()
        await wq.destroy()
        look()
