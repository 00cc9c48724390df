"""Queueing: what a True and a False mean, exactly once, never twice at a time, and on which CPU."""

import random
from typing import Literal

import pytest
import trio
from trio.testing import assert_no_checkpoints, wait_all_tasks_blocked

from ktrio.workqueue import WQ_FREEZABLE, WQ_UNBOUND, BusyError, Work, WorkqueueFlags, open_supervisor
from tests.workqueue.conftest import Trace, alloc, assert_at_zero


@pytest.mark.parametrize("max_active", [1, 8])
async def test_queueing_returns_true_unless_the_item_is_pending(trace: Trace, max_active: int) -> None:
    """W9; invariant 1: False iff pending, be it on the worklist, inactive, or behind its own run."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=max_active)
        first, second = trace.holder("first"), trace.holder("second")
        assert [wq.queue_work(first) for _ in range(3)] == [True, False, False]
        assert [wq.queue_work(second) for _ in range(3)] == [True, False, False]
        await wait_all_tasks_blocked()
        assert first.is_running
        assert not first.is_pending
        assert [wq.queue_work(first) for _ in range(3)] == [True, False, False]
        assert first.is_running
        assert first.is_pending
        trace.open("first", "second")
        await wq.flush()
        assert not first.is_pending
        assert not first.is_running
        assert wq.queue_work(first) is True
    assert trace.starts.count("first") == 3


async def test_a_refused_queueing_changes_nothing(trace: Trace) -> None:
    """W10; invariant 2: position, queue, CPU and counters stay, whichever queue and CPU the refused call names."""
    async with open_supervisor(2) as supervisor:
        wq, other = alloc(supervisor, "mine", 1), alloc(supervisor, "other")
        works = trace.queue(wq, "running b c", cpu=0)
        await wait_all_tasks_blocked()
        before = (supervisor.statistics(), wq.statistics(), other.statistics())
        assert wq.queue_work(works["b"]) is False
        assert wq.queue_work_on(1, works["b"]) is False
        assert other.queue_work(works["b"]) is False
        assert wq.queue_work(works["c"], parked=True) is False
        assert (supervisor.statistics(), wq.statistics(), other.statistics()) == before
        trace.open("running", "b", "c")
        await wq.flush()
    assert trace.starts == ["running", "b", "c"]


async def test_each_accepted_queueing_runs_exactly_once_unless_cancelled() -> None:
    """W11; invariant 3: starts == true queueings - successful cancels; every start has its end."""
    rng = random.Random(3)
    accepted = [0] * 5
    cancelled = [0] * 5
    starts = [0] * 5
    ends = [0] * 5

    async def body(index: int) -> None:
        starts[index] += 1
        for _ in range(index):
            await trio.lowlevel.checkpoint()
        ends[index] += 1

    async with open_supervisor(2) as supervisor:
        wq = alloc(supervisor, max_active=2)
        works = [Work(body, index) for index in range(5)]
        for _ in range(600):
            index = rng.randrange(5)
            if rng.random() < 0.7:
                accepted[index] += wq.queue_work(works[index])
            else:
                cancelled[index] += works[index].cancel()
            if rng.random() < 0.3:
                await trio.lowlevel.checkpoint()
        await wq.flush()
        await assert_at_zero(supervisor, wq)
        books = wq.statistics()
    assert min(accepted) > 10
    assert min(cancelled) > 0
    assert starts == [a - c for a, c in zip(accepted, cancelled, strict=True)]
    assert ends == starts
    assert (books.started, books.cancelled) == (sum(starts), sum(cancelled))


async def test_an_item_never_runs_twice_at_a_time() -> None:
    """W13; invariant 4: whatever CPU it is queued on, from wherever."""
    running = most = runs = 0

    async def body() -> None:
        nonlocal running, most, runs
        running += 1
        runs += 1
        most = max(most, running)
        await trio.lowlevel.checkpoint()
        await trio.sleep(0.001)
        running -= 1

    async with open_supervisor(3) as supervisor:
        wq = alloc(supervisor)
        work = Work(body)

        async def produce(cpu: int) -> None:
            for _ in range(50):
                wq.queue_work_on(cpu, work)
                await trio.sleep(0.0003 * (cpu + 1))

        async with trio.open_nursery() as nursery:
            for cpu in range(3):
                nursery.start_soon(produce, cpu)
    assert most == 1
    assert runs > 20


@pytest.mark.parametrize("seed", range(20))
async def test_no_event_is_missed(seed: int) -> None:
    """W17; invariant 7: a flag set before a refused queueing is seen by a later start."""
    rng = random.Random(seed)
    produced = consumed = 0
    refused = 0

    async def consume() -> None:
        nonlocal consumed
        consumed = produced
        for _ in range(rng.randrange(3)):
            await trio.lowlevel.checkpoint()

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=1)
        work = Work(consume)
        for _ in range(60):
            produced += 1
            refused += not wq.queue_work(work)
            for _ in range(rng.randrange(3)):
                await trio.lowlevel.checkpoint()
        await wq.flush()
    assert consumed == produced
    assert refused > 0


async def test_the_states_of_a_run_come_in_order() -> None:
    """Invariant 8: queued, then active, then started, then ended; each once."""
    seen: list[tuple[str, bool, bool, int]] = []

    def look(moment: str) -> None:
        seen.append((moment, work.is_pending, work.is_running, wq.statistics().nr_active))

    async def body() -> None:
        look("start")
        await trio.lowlevel.checkpoint()
        look("end")

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        work = Work(body)
        look("idle")
        wq.queue_work(work)
        look("queued")
        await work.flush()
        look("over")
    assert seen == [
        ("idle", False, False, 0),
        ("queued", True, False, 1),
        ("start", False, True, 1),
        ("end", False, True, 1),
        ("over", False, False, 0),
    ]


async def test_queueing_never_yields(trace: Trace) -> None:
    """W7; invariant 9: a plain function, from a task and from inside an item."""
    outcomes: list[bool] = []

    async def body() -> None:
        with assert_no_checkpoints():
            outcomes.append(wq.queue_work(trace.holder("inner")))

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        with assert_no_checkpoints():
            outcomes.append(wq.queue_work(Work(body)))
            outcomes.append(wq.queue_work(trace.holder("outer"), parked=True))
            outcomes.append(wq.queue_work_on(0, trace.holder("chosen")))
        assert trace.events == []
        trace.open("inner", "outer", "chosen")
    assert outcomes == [True, True, True, True]
    assert sorted(trace.starts) == ["chosen", "inner", "outer"]


async def test_functions_get_their_arguments_sync_or_async() -> None:
    """W19."""
    calls: list[tuple[object, ...]] = []

    async def async_body(*args: object) -> None:
        calls.append(args)

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        for work in (Work(calls.append, ("sync", 1)), Work(async_body, "async", 2), Work(async_body)):
            wq.queue_work(work)
    assert calls == [("sync", 1), ("async", 2), ()]


async def test_items_of_one_pwq_start_in_queue_order(trace: Trace) -> None:
    """W32."""
    async with open_supervisor() as supervisor:
        names = " ".join(str(number) for number in range(40))
        trace.queue(alloc(supervisor), names)
        await wait_all_tasks_blocked()
        assert trace.starts == names.split()
        trace.open(*names.split())


async def test_items_of_two_queues_of_one_pool_start_in_queue_order(trace: Trace) -> None:
    """W37. The worklist of a pool is one FIFO over all its queues."""
    async with open_supervisor() as supervisor:
        one, two = alloc(supervisor, "one"), alloc(supervisor, "two")
        names = [str(number) for number in range(12)]
        for index, name in enumerate(names):
            trace.queue(two if index % 3 else one, name)
        await wait_all_tasks_blocked()
        assert trace.starts == names
        trace.open(*names)


async def test_items_from_outside_are_dealt_round_robin_over_the_cpus(trace: Trace) -> None:
    """W18."""
    async with open_supervisor(3) as supervisor:
        wq = alloc(supervisor)
        assert wq.cpus == 3
        names = [str(number) for number in range(9)]
        trace.queue(wq, " ".join(names))
        assert [(pwq.cpu, pwq.in_flight) for pwq in wq.statistics().pwqs] == [(0, 3), (1, 3), (2, 3)]
        trace.open(*names)


async def test_items_from_inside_an_item_stay_on_its_cpu(trace: Trace) -> None:
    """W18."""

    async def body() -> None:
        trace.queue(wq, "a b")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)
        trace.queue(other, "d")
        await trace.gate("body").wait()

    async def child() -> None:
        trace.queue(wq, "c")

    async with open_supervisor(4) as supervisor:
        wq, other = alloc(supervisor), alloc(supervisor, "other")
        wq.queue_work_on(2, Work(body))
        await wait_all_tasks_blocked()
        assert [pwq.in_flight for pwq in wq.statistics().pwqs] == [0, 0, 4, 0]
        assert [pwq.in_flight for pwq in other.statistics().pwqs] == [0, 0, 1, 0]
        trace.open("a", "b", "c", "d", "body")


@pytest.mark.parametrize("cpu", [-1, 2, 1000])
async def test_an_unknown_cpu_is_an_error(trace: Trace, cpu: int) -> None:
    """W6."""
    async with open_supervisor(2) as supervisor:
        wq = alloc(supervisor)
        work = trace.holder("a")
        with pytest.raises(ValueError, match=str(cpu)):
            wq.queue_work_on(cpu, work)
        assert not work.is_pending
        await assert_at_zero(supervisor, wq)


async def test_an_item_that_runs_on_one_queue_is_refused_by_another(trace: Trace) -> None:
    """W14; invariant 4: non-reentrancy holds across queues, by an error."""
    async with open_supervisor() as supervisor:
        one, two = alloc(supervisor, "one"), alloc(supervisor, "two")
        work = trace.queue(one, "a")["a"]
        await wait_all_tasks_blocked()
        before = (one.statistics(), two.statistics())
        with pytest.raises(BusyError, match="one"):
            two.queue_work(work)
        assert (one.statistics(), two.statistics()) == before
        assert not work.is_pending
        trace.open("a")
        await one.flush()
        assert two.queue_work(work) is True
        assert await work.flush() is True
    assert trace.ends == ["a", "a"]


async def test_flags_begin_with_0_as_in_the_kernel() -> None:
    """0 is a bound queue, and so a flag may be joined to it; to no other number, for these are not the kernel's."""
    flags: WorkqueueFlags | Literal[0] = 0
    assert flags | WQ_FREEZABLE == WQ_FREEZABLE | flags == WQ_FREEZABLE
    assert (0 | WQ_FREEZABLE | WQ_UNBOUND) == WQ_UNBOUND | WQ_FREEZABLE
    for wrong in (2, "0", None):
        with pytest.raises(TypeError, match="WorkqueueFlags"):
            wrong | WQ_FREEZABLE  # type: ignore[operator]  # pyright: ignore
        with pytest.raises(TypeError, match="WorkqueueFlags"):
            WQ_FREEZABLE | wrong  # type: ignore[operator]  # pyright: ignore
    async with open_supervisor() as supervisor:
        assert supervisor.alloc_workqueue("cold", 0 | WQ_FREEZABLE).flags == WQ_FREEZABLE
