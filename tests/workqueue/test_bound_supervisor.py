"""A supervisor with bound pools, which are made late: left, cancelled or failing at any moment, it leaves nothing."""

import contextlib
import math
import random

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from ktrio.workqueue import Supervisor, SupervisorClosedError, Work, Workqueue, WorkqueueError, parked
from tests.workqueue.conftest import Open, Trace, alloc, alloc_bound, assert_at_zero, assert_queue_at_zero, bound_pool


def living_tasks() -> int:
    return trio.lowlevel.current_statistics().tasks_living


async def turns(count: int) -> None:
    """Let the loop turn, without a rest."""
    for _ in range(count):
        await trio.lowlevel.checkpoint()


def assert_nothing_runs(supervisor: Supervisor, *queues: Workqueue) -> None:
    """No item, no worker, no place taken (invariants 21, 26, 60)."""
    for wq in queues:
        assert_queue_at_zero(wq)
    for pool in supervisor.statistics().pools:
        assert (pool.nr_workers, pool.nr_running, pool.occupied, pool.parked) == (0, 0, 0, 0), pool
        assert pool.worklist == 0, pool


def queue_some_of_each(trace: Trace, wq: Workqueue) -> list[str]:
    """Items of every kind, on both CPUs; their names."""
    names = [str(number) for number in range(12)]
    for number, name in enumerate(names):
        work = trace.holder(name) if number % 3 else trace.parker(name)
        wq.queue_work_on(number % 2, work, parked=number % 4 == 0)
    return names


def gates_of(names: list[str]) -> list[str]:
    return [*names, *(f"{name} back" for name in names)]


@pytest.mark.parametrize("when", range(5))
async def test_leaving_waits_for_everything_accepted(open_bound: Open, trace: Trace, when: int) -> None:
    """W3. Whether the pools that were made for it have begun or not."""
    tasks = living_tasks()
    async with open_bound(2) as supervisor:
        wq = alloc_bound(supervisor, max_active=2)
        names = queue_some_of_each(trace, wq)
        trace.open(*gates_of(names))
        await turns(when)
    assert sorted(trace.ends) == sorted(names)
    assert trace.discarded == []
    assert_nothing_runs(supervisor, wq)
    assert living_tasks() == tasks


@pytest.mark.parametrize("when", range(5))
async def test_leaving_with_nothing_queued(open_bound: Open, when: int) -> None:
    """W1; invariant 60 for an orderly end: the pools may not even have begun; no task, no deadline stays."""
    tasks, deadline = living_tasks(), trio.lowlevel.current_statistics().seconds_to_next_deadline
    async with open_bound(3) as supervisor:
        wq = alloc_bound(supervisor)
        await turns(when)
    assert_nothing_runs(supervisor, wq)
    assert living_tasks() == tasks
    left = trio.lowlevel.current_statistics().seconds_to_next_deadline
    assert left == pytest.approx(deadline)
    assert left < math.inf


@pytest.mark.parametrize("how", ["cancelled", "error"])
@pytest.mark.parametrize("when", range(12))
async def test_ended_by_force_at_any_moment(open_bound: Open, trace: Trace, when: int, how: str) -> None:
    """W1; invariant 60: each item has started or is discarded, once; the books are at zero, no task is left."""
    tasks = living_tasks()
    supervisor, wq, names = None, None, []
    with trio.CancelScope() as scope:
        try:
            async with open_bound(2, capacity=2) as supervisor:
                wq = alloc_bound(supervisor, max_active=2)
                names = queue_some_of_each(trace, wq)
                await turns(when)
                if how == "error":
                    raise ValueError
                scope.cancel()
        except* ValueError:
            pass
    assert supervisor is not None
    assert wq is not None
    assert sorted(trace.starts + trace.discarded) == sorted(names)
    assert trace.ends == []
    assert_nothing_runs(supervisor, wq)
    assert living_tasks() == tasks


@pytest.mark.parametrize("seed", range(30))
async def test_cancelled_at_a_random_moment(open_bound: Open, trace: Trace, seed: int) -> None:
    """W5; invariant 60, with items that yield, sleep, park and queue each other."""
    rng = random.Random(seed)
    accepted = starts = discards = 0

    def discard() -> None:
        nonlocal discards
        discards += 1

    def queue(supervisor: Supervisor) -> None:
        nonlocal accepted
        wq = rng.choice(queues)
        accepted += wq.queue_work(Work(body, supervisor, on_discard=discard), parked=rng.random() < 0.2)

    async def body(supervisor: Supervisor) -> None:
        nonlocal starts
        starts += 1
        for _ in range(rng.randrange(5)):
            match rng.randrange(4):
                case 0:
                    await trio.lowlevel.checkpoint()
                case 1:
                    await trio.sleep(rng.choice([0.5, 1]))
                case 2:
                    async with parked():
                        await trio.sleep(rng.choice([0, 0.5, 1]))
                case 3 if accepted < 200:
                    queue(supervisor)

    queues: list[Workqueue] = []
    tasks = living_tasks()
    with trio.move_on_after(rng.choice([0.5, 1, 1.5, 2])):
        async with open_bound(2, capacity=3) as supervisor:
            queues = [alloc_bound(supervisor, "one", 2), alloc(supervisor, "two", 2), alloc_bound(supervisor, "three")]
            for _ in range(20):
                queue(supervisor)
            await trio.sleep_forever()
    assert accepted == starts + discards
    assert_nothing_runs(supervisor, *queues)
    assert living_tasks() == tasks


async def test_waiters_are_woken_when_it_is_cancelled(open_bound: Open, trace: Trace) -> None:
    """W5; invariant 60: with a return or an error."""
    woken: list[str] = []

    async def wait(name: str) -> None:
        calls = {"item": works["a"].flush, "pending": works["b"].flush, "queue": wq.flush, "drain": wq.drain}
        with contextlib.suppress(WorkqueueError):
            await calls[name]()
        woken.append(name)

    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            async with open_bound() as supervisor:
                wq = alloc_bound(supervisor, max_active=1)
                works = trace.queue(wq, "a b")
                for name in ("item", "pending", "queue", "drain"):
                    nursery.start_soon(wait, name)
                await wait_all_tasks_blocked()
                scope.cancel()
        await wait_all_tasks_blocked()
        assert sorted(woken) == ["drain", "item", "pending", "queue"]
    assert trace.discarded == ["b"]


async def test_a_bound_queue_allocated_while_it_is_being_cancelled(open_bound: Open, trace: Trace) -> None:
    """The first one: its pools are made in a nursery that is ending; what is queued is refused or discarded."""
    outcomes: list[object] = []

    async def body() -> None:
        try:
            await trio.sleep_forever()
        finally:
            wq = alloc_bound(supervisor, "late")
            queues.append(wq)
            for start_parked in (False, True):
                try:
                    outcomes.append(wq.queue_work(trace.holder("late"), parked=start_parked))
                except WorkqueueError:
                    outcomes.append("refused")

    queues: list[Workqueue] = []
    tasks = living_tasks()
    with trio.move_on_after(1):
        async with open_bound() as supervisor:
            alloc(supervisor).queue_work(Work(body))
            await trio.sleep_forever()
    assert len(outcomes) == 2
    assert outcomes.count(True) == len(trace.starts) + len(trace.discarded)
    assert trace.ends == []
    assert_nothing_runs(supervisor, *queues)
    assert living_tasks() == tasks


async def test_a_left_supervisor_makes_no_bound_queue(open_bound: Open) -> None:
    """W3."""
    async with open_bound() as supervisor:
        wq = alloc_bound(supervisor)
    with pytest.raises(SupervisorClosedError):
        alloc_bound(supervisor, "late")
    with pytest.raises(SupervisorClosedError):
        wq.queue_work(Work(print))
    async with open_bound() as supervisor:
        pass
    with pytest.raises(SupervisorClosedError):
        alloc_bound(supervisor, "late")
    assert len(supervisor.statistics().pools) == 1


async def test_cancelling_waits_for_cleanup_of_items(open_bound: Open, trace: Trace) -> None:
    """W1; invariant 60: a shield with a deadline is respected, and nr_running is right to the end."""

    async def body(in_park: bool) -> None:
        try:
            if in_park:
                async with parked():
                    await trio.sleep_forever()
            await trio.sleep_forever()
        finally:
            with trio.move_on_after(9, shield=True):
                await trio.sleep(3)
                assert 1 <= bound_pool(supervisor).nr_running <= 2
            trace.note("cleaned")

    with trio.move_on_after(1):
        async with open_bound() as supervisor:
            wq = alloc_bound(supervisor)
            for in_park in (True, False):
                wq.queue_work(Work(body, in_park))
            await trio.sleep_forever()
    assert trace.events == ["cleaned", "cleaned"]
    assert trio.current_time() == pytest.approx(4)
    assert_nothing_runs(supervisor, wq)


@pytest.mark.parametrize("same_item_kind", [True, False])
async def test_two_supervisors_do_not_count_each_others_workers(
    open_bound: Open, trace: Trace, same_item_kind: bool
) -> None:
    """W2; invariant 26: side by side, with sensors of their own."""
    async with open_bound() as one, open_bound() as two:
        first, second = alloc_bound(one), alloc_bound(two)
        for _ in range(3):
            trace.queue(first, "a b")
            trace.queue(second, "c d") if same_item_kind else second.queue_work(trace.parker("c"))
            await wait_all_tasks_blocked()
            assert [bound_pool(one).nr_running, bound_pool(two).nr_running] == [0, 0]
            trace.open(*"abcd", "c back")
            await first.flush()
            await second.flush()
            await assert_at_zero(one, first)
            await assert_at_zero(two, second)
            for name in "abcd":
                trace.shut(name)
        trace.open(*"abcd")


async def test_a_supervisor_inside_an_item(open_bound: Open, trace: Trace) -> None:
    """W2. Its workers are awake or asleep by themselves, whatever the item that opened it does."""

    async def body() -> None:
        async with open_bound() as inner:
            wq = alloc_bound(inner, max_active=1)
            wq.queue_work(trace.parker("inner"))
            trace.open("inner", "inner back")
            await wq.flush()
            await assert_at_zero(inner, wq)

    async with open_bound() as outer:
        wq = alloc_bound(outer, max_active=1)
        await wq.run(body)
        await assert_at_zero(outer, wq)
    assert trace.ends == ["inner"]
