"""Bound queues: slots, order, CPUs, other queues beside them."""

import random

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from ktrio.workqueue import Work, Workqueue
from tests.workqueue.conftest import Open, Trace, alloc, alloc_bound, assert_at_zero, bound_pool


async def turns(count: int = 10) -> None:
    """Let the loop turn, without a rest."""
    for _ in range(count):
        await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("max_active", [1, 2, 7])
async def test_nr_active_never_exceeds_max_active(open_bound: Open, max_active: int) -> None:
    """W28; invariant 10: per pwq; all slots are used."""
    running, most = [0, 0], [0, 0]

    async def body(cpu: int, naps: int) -> None:
        running[cpu] += 1
        most[cpu] = max(most[cpu], running[cpu])
        assert wq.statistics().pwqs[cpu].nr_active <= max_active
        for _ in range(naps):
            await trio.sleep(1)
        running[cpu] -= 1

    async with open_bound(2) as supervisor:
        wq = alloc_bound(supervisor, max_active=max_active)
        for index in range(60):
            wq.queue_work_on(index % 2, Work(body, index % 2, index % 4))
        await wq.flush()
        await assert_at_zero(supervisor, wq)
    assert most == [max_active, max_active]


async def test_no_slot_is_free_while_an_item_is_inactive(open_bound: Open) -> None:
    """W30; invariants 10 and 12: at any moment somebody looks, while limits change and items are cancelled."""
    rng = random.Random(12)
    looks = 0

    def look() -> None:
        nonlocal looks
        for pwq in wq.statistics().pwqs:
            assert pwq.inactive == 0 or pwq.nr_active >= wq.max_active
            looks += pwq.inactive > 0

    async def body(naps: int) -> None:
        look()
        for _ in range(naps):
            await trio.sleep(naps)
            look()

    async with open_bound(2) as supervisor:
        wq = alloc_bound(supervisor, max_active=2)
        works = [Work(body, rng.randrange(3)) for _ in range(30)]
        for _ in range(300):
            work = rng.choice(works)
            match rng.randrange(8):
                case 0:
                    work.cancel()
                case 1:
                    wq.set_max_active(rng.randint(1, 5))
                case 2:
                    await trio.sleep(rng.random())
                case _:
                    wq.queue_work(work)
            look()
    assert looks > 50


async def test_items_start_in_queue_order_minus_the_cancelled(open_bound: Open, trace: Trace) -> None:
    """W32; invariant 13: through the inactive line and the worklist."""
    async with open_bound() as supervisor:
        wq = alloc_bound(supervisor, max_active=3)
        works = trace.queue(wq, "a b c d e f g h")
        assert works["b"].cancel()
        assert works["g"].cancel()
        await wait_all_tasks_blocked()
        assert works["d"].cancel() is False, "b's slot went to it"
        trace.open(*works)
        await wq.flush()
        await assert_at_zero(supervisor, wq)
    assert trace.starts == list("acdefh")


async def test_a_newcomer_never_overtakes_an_inactive_item(open_bound: Open, trace: Trace) -> None:
    """W33; invariant 14: not even right after max_active was raised, in the same stretch."""
    async with open_bound() as supervisor:
        wq = alloc_bound(supervisor, max_active=1)
        trace.queue(wq, "a b c")
        await wait_all_tasks_blocked()
        wq.set_max_active(2)
        trace.queue(wq, "d")
        await wait_all_tasks_blocked()
        assert trace.starts == ["a", "b"]
        trace.open("a")
        trace.queue(wq, "e")
        await wait_all_tasks_blocked()
        assert trace.starts == ["a", "b", "c"]
        trace.open(*"bcde")
    assert trace.starts == list("abcde")


async def test_max_active_1_is_fifo_per_cpu_and_cpus_overlap(open_bound: Open) -> None:
    """W29; invariant 17."""
    running: list[set[int]] = [set(), set()]
    starts: list[list[int]] = [[], []]
    overlaps = 0

    async def body(cpu: int, number: int) -> None:
        nonlocal overlaps
        assert not running[cpu], "two on one CPU"
        overlaps += bool(running[1 - cpu])
        running[cpu].add(number)
        starts[cpu].append(number)
        await trio.sleep(number % 3)
        running[cpu].remove(number)

    async with open_bound(2) as supervisor:
        wq = alloc_bound(supervisor, max_active=1)
        for number in range(30):
            wq.queue_work_on(number % 2, Work(body, number % 2, number))
        await wq.flush()
    assert starts == [list(range(0, 30, 2)), list(range(1, 30, 2))]
    assert overlaps > 0


async def test_each_cpu_manages_its_own_concurrency(open_bound: Open, trace: Trace) -> None:
    """W54; invariant 22 is per pool: what runs on one CPU holds up nobody on another."""
    stop = False

    async def spin() -> None:
        while not stop:
            await trio.lowlevel.checkpoint()

    async with open_bound(3) as supervisor:
        wq = alloc_bound(supervisor)
        wq.queue_work_on(1, Work(spin))
        trace.queue(wq, "behind", cpu=1)
        trace.queue(wq, "a b", cpu=0)
        trace.queue(wq, "c d", cpu=2)
        await turns(20)
        assert sorted(trace.starts) == ["a", "b", "c", "d"]
        assert [bound_pool(supervisor, cpu).nr_running for cpu in range(3)] == [0, 1, 0]
        assert [bound_pool(supervisor, cpu).worklist for cpu in range(3)] == [0, 1, 0]
        stop = True
        trace.open("a", "b", "c", "d", "behind")


async def test_items_queue_to_their_own_cpu(open_bound: Open, trace: Trace) -> None:
    """W18. From inside an item, and from what it starts; from outside CPUs take turns; queue_work_on chooses."""
    async with open_bound(3) as supervisor:
        one, two, unbound = alloc_bound(supervisor, "one"), alloc_bound(supervisor, "two"), alloc(supervisor)

        def cpus(wq: Workqueue) -> list[int]:
            return [pwq.in_flight for pwq in wq.statistics().pwqs]

        async def body() -> None:
            for number in range(4):
                two.queue_work(trace.holder(str(number)))
                unbound.queue_work(trace.holder(str(number)))
            two.queue_work_on(0, trace.holder("0"))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(child)

        async def child() -> None:
            two.queue_work(trace.holder("4"))

        one.queue_work_on(2, work := Work(body))
        await work.flush()
        assert cpus(two) == [1, 0, 5]
        assert cpus(unbound) == [0, 0, 4]
        for number in range(6):
            one.queue_work(trace.holder(str(number)))
        assert cpus(one) == [2, 2, 2]
        with pytest.raises(ValueError, match="3"):
            one.queue_work_on(3, work)
        trace.open(*"012345")


async def test_bound_and_unbound_queues_do_not_gate_one_another(open_bound: Open, trace: Trace) -> None:
    """W54. Pools of their own: a running item of one kind holds up none of the other, nor does a full pool."""
    stop = False

    async def spin() -> None:
        while not stop:
            await trio.lowlevel.checkpoint()

    async with open_bound(capacity=2) as supervisor:
        unbound, bound = alloc(supervisor, "unbound"), alloc_bound(supervisor)
        assert [(pool.bound, pool.cpu) for pool in supervisor.statistics().pools] == [(False, 0), (True, 0)]
        bound.queue_work(Work(spin))
        unbound.queue_work(Work(spin))
        trace.queue(bound, "bound")
        trace.queue(unbound, "unbound unbound2")
        await turns(20)
        assert trace.starts == ["unbound"]
        pools = supervisor.statistics().pools
        assert [pool.nr_running for pool in pools] == [0, 1], "invariant 26: always 0 if unbound"
        assert [pool.worklist for pool in pools] == [1, 1]
        stop = True
        await wait_all_tasks_blocked()
        assert sorted(trace.starts) == ["bound", "unbound", "unbound2"]
        assert unbound.statistics().cm_wakeups == 0
        trace.open("bound", "unbound", "unbound2")
        await bound.flush()
        await unbound.flush()
        await assert_at_zero(supervisor, bound, unbound)


async def test_queues_share_the_bound_pool_in_one_line(open_bound: Open, trace: Trace) -> None:
    """W37; invariant 38 as far as it exists here: one worklist, FIFO over all bound queues."""
    async with open_bound() as supervisor:
        one, two = alloc_bound(supervisor, "one"), alloc_bound(supervisor, "two")
        for number in range(10):
            trace.queue(two if number % 3 else one, str(number))
        await wait_all_tasks_blocked()
        assert trace.starts == [str(number) for number in range(10)]
        assert bound_pool(supervisor).created == 11
        trace.open(*trace.starts)


async def test_sync_functions_run_one_after_the_other(open_bound: Open, trace: Trace) -> None:
    """W49."""
    async with open_bound() as supervisor:
        wq = alloc_bound(supervisor, max_active=2)
        for number in range(10):
            wq.queue_work(Work(trace.note, str(number)))
        assert await wq.run(sorted, [2, 1]) == [1, 2]
        assert trace.events == [str(number) for number in range(10)]
        await assert_at_zero(supervisor, wq)
