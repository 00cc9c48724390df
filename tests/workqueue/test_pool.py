"""The pool: workers made on demand, kept idle, woken most recent first, up to capacity."""

import random

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from ktrio.workqueue import Supervisor, Work, open_supervisor
from tests.workqueue.conftest import Trace, alloc, assert_at_zero


def names_of(count: int, prefix: str = "") -> list[str]:
    return [f"{prefix}{number}" for number in range(count)]


def idle(supervisor: Supervisor) -> int:
    return supervisor.statistics().pools[0].nr_idle


class TurnCounter(trio.abc.Instrument):
    """Counts the turns of the loop."""

    turns = 0

    def before_io_wait(self, timeout: float) -> None:
        self.turns += 1


@pytest.mark.parametrize("count", [1, 3, 10])
async def test_blocking_items_need_one_worker_more_than_there_are_items(trace: Trace, count: int) -> None:
    """W43; invariant 30: N items blocked at once on a fresh pool: N + 1 workers, one of them in reserve."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        trace.queue(wq, " ".join(names_of(count)))
        await wait_all_tasks_blocked()
        pool = supervisor.statistics().pools[0]
        assert (pool.created, pool.nr_workers, pool.nr_idle) == (count + 1, count + 1, 1)
        trace.open(*names_of(count))
        await wq.flush()
        await wait_all_tasks_blocked()
        assert idle(supervisor) == count + 1


async def test_items_that_block_one_by_one_need_as_many_workers(trace: Trace) -> None:
    """W43; invariant 30: the same total when each has blocked before the next comes."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        for name in names_of(6):
            trace.queue(wq, name)
            await wait_all_tasks_blocked()
        assert supervisor.statistics().pools[0].created == 7
        trace.open(*names_of(6))


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_items_that_never_block_need_no_more_workers(kind: str) -> None:
    """W43; invariant 30 with N = 0 blocked: one worker and its reserve, however many items."""
    runs = 0

    def body() -> None:
        nonlocal runs
        runs += 1

    async def async_body() -> None:
        body()

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        for _ in range(50):
            wq.queue_work(Work(async_body if kind == "async" else body))
        await wq.flush()
        assert runs == 50
        assert supervisor.statistics().pools[0].created <= 2


async def test_many_blocking_items_start_within_few_turns_of_the_loop(trace: Trace) -> None:
    """W42; invariant 23: wake-ups double instead of chaining one start to the next."""
    names = names_of(1000)
    counter = TurnCounter()
    async with open_supervisor(capacity=2000) as supervisor:
        trace.queue(alloc(supervisor, max_active=2000), " ".join(names))
        trio.lowlevel.add_instrument(counter)
        await wait_all_tasks_blocked()
        trio.lowlevel.remove_instrument(counter)
        assert trace.starts == names
        assert supervisor.statistics().pools[0].created == 1001
        trace.open(*names)
    assert counter.turns < 100


@pytest.mark.parametrize("seed", range(20))
async def test_no_wake_up_is_lost(seed: int) -> None:
    """W42; invariant 23: at rest nothing waits on the worklist, whenever the items came."""
    rng = random.Random(seed)
    started = 0

    async def body(steps: int, nap: float) -> None:
        nonlocal started
        started += 1
        for _ in range(steps):
            await trio.lowlevel.checkpoint()
        if nap > 0.5:
            await trio.sleep(nap)

    async with open_supervisor(2, capacity=100, idle_timeout=1.0) as supervisor:
        wq = alloc(supervisor)
        for index in range(100):
            wq.queue_work(Work(body, rng.randrange(4), rng.random()))
            for _ in range(rng.randrange(4)):
                await trio.lowlevel.checkpoint()
            if index % 10 == 0:
                await wait_all_tasks_blocked()
                assert started == index + 1
                assert [pool.worklist for pool in supervisor.statistics().pools] == [0, 0]
        await wait_all_tasks_blocked()
        assert started == 100


async def test_an_item_that_only_yields_does_not_hold_up_the_next(trace: Trace) -> None:
    """W42; invariant 23: on an unbound pool a yield is enough to wake the next worker."""
    stop = False

    async def spin() -> None:
        while not stop:
            await trio.lowlevel.checkpoint()

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        wq.queue_work(Work(spin))
        trace.queue(wq, "a")
        for _ in range(10):
            await trio.lowlevel.checkpoint()
        assert trace.starts == ["a"]
        trace.queue(wq, "b")
        for _ in range(10):
            await trio.lowlevel.checkpoint()
        assert trace.starts == ["a", "b"]
        stop = True
        trace.open("a", "b")


async def test_nr_running_is_always_zero(trace: Trace) -> None:
    """W53; invariant 26: unbound pools do not count; seen from inside running items too. P3 for these pools."""
    seen: set[int] = set()

    async def body() -> None:
        for _ in range(3):
            seen.add(supervisor.statistics().pools[0].nr_running)
            await trio.lowlevel.checkpoint()

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        for _ in range(10):
            wq.queue_work(Work(body))
        trace.queue(wq, "a")
        await wait_all_tasks_blocked()
        seen.add(supervisor.statistics().pools[0].nr_running)
        trace.open("a")
    assert seen == {0}


async def test_every_worker_is_idle_or_busy(trace: Trace) -> None:
    """W48; invariant 27: at rest idle + busy == workers, nobody is starting, and busy == occupied + parked."""
    rng = random.Random(27)
    async with open_supervisor(capacity=20, idle_timeout=10.0) as supervisor:
        wq = alloc(supervisor)
        names = names_of(60)
        for name in names:
            work = trace.parker(name) if rng.random() < 0.4 else trace.holder(name)
            wq.queue_work(work, parked=rng.random() < 0.1)
            trace.open(*rng.sample(names, rng.randrange(2)), *(f"{n} back" for n in rng.sample(names, 2)))
            await trio.sleep(rng.choice([0.1, 5]))
            await wait_all_tasks_blocked()
            pool = supervisor.statistics().pools[0]
            busy = wq.statistics().running
            assert pool.starting == 0
            assert pool.nr_idle + busy == pool.nr_workers
            assert pool.occupied + pool.parked == busy
            assert pool.created - pool.culled == pool.nr_workers
        trace.open(*names, *(f"{name} back" for name in names))
        await wq.flush()
        await wait_all_tasks_blocked()
        await assert_at_zero(supervisor, wq)


async def test_the_most_recently_idled_worker_is_woken_first(trace: Trace) -> None:
    """W44; invariant 31: last in, first out."""
    tasks: dict[str, trio.lowlevel.Task] = {}

    async def body(name: str) -> None:
        tasks[name] = trio.lowlevel.current_task()
        await trace.hold(name)

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        for name in "abcd":
            wq.queue_work(Work(body, name))
        await wait_all_tasks_blocked()
        for name in "bdca":
            trace.open(name)
            await wait_all_tasks_blocked()
        for name in "efgh":
            wq.queue_work(Work(body, name))
            await wait_all_tasks_blocked()
        assert [tasks[name] for name in "efgh"] == [tasks[name] for name in "acdb"]
        assert len({tasks[name] for name in "abcd"}) == 4
        trace.open(*"efgh")


async def test_a_quiet_trickle_is_served_by_one_worker(trace: Trace) -> None:
    """W44; invariant 31."""
    tasks = set()

    async def body() -> None:
        tasks.add(trio.lowlevel.current_task())

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        names = names_of(5)
        trace.queue(wq, " ".join(names))
        await wait_all_tasks_blocked()
        trace.open(*names)
        await wait_all_tasks_blocked()
        for _ in range(20):
            wq.queue_work(Work(body))
            await wait_all_tasks_blocked()
    assert len(tasks) == 1


async def test_at_capacity_nothing_starts_and_a_counter_says_so(trace: Trace) -> None:
    """W36."""
    async with open_supervisor(capacity=2) as supervisor:
        wq = alloc(supervisor)
        assert supervisor.statistics().capacity == 2
        trace.queue(wq, "a b c d e")
        await wait_all_tasks_blocked()
        pool = supervisor.statistics().pools[0]
        assert trace.starts == ["a", "b"]
        assert (pool.occupied, pool.worklist) == (2, 3)
        assert pool.at_capacity > 0
        trace.open("b")
        await wait_all_tasks_blocked()
        assert trace.starts == ["a", "b", "c"]
        trace.open(*"acde")
        await wq.flush()
        assert trace.starts == list("abcde")
        assert supervisor.statistics().pools[0].nr_workers <= 2 + 2


async def test_a_pool_below_capacity_counts_no_waiting_start(trace: Trace) -> None:
    """W36."""
    async with open_supervisor(capacity=3) as supervisor:
        trace.queue(alloc(supervisor), "a b c")
        await wait_all_tasks_blocked()
        pool = supervisor.statistics().pools[0]
        assert (pool.occupied, pool.at_capacity) == (3, 0)
        trace.open(*"abc")


@pytest.mark.parametrize("capacity", [1, 2, 5])
async def test_capacity_is_never_exceeded_and_always_used(capacity: int) -> None:
    """W36, W42; invariant 23 at capacity: a place that is free is taken at once."""
    running = most = 0

    async def body(naps: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        assert supervisor.statistics().pools[0].occupied <= capacity
        for _ in range(naps):
            await trio.sleep(1)
        running -= 1

    async with open_supervisor(capacity=capacity) as supervisor:
        one, two = alloc(supervisor, "one"), alloc(supervisor, "two", 3)
        for index in range(60):
            (one if index % 2 else two).queue_work(Work(body, 1 + index % 3))
        while one.statistics().pending + two.statistics().pending > 0:
            await wait_all_tasks_blocked()
            pool = supervisor.statistics().pools[0]
            assert pool.occupied == capacity or pool.worklist == 0
            await trio.sleep(0.5)
        await one.flush()
        await two.flush()
    assert most == capacity


async def test_the_pools_of_two_cpus_do_not_interact(trace: Trace) -> None:
    """W54."""
    async with open_supervisor(2, capacity=1) as supervisor:
        wq = alloc(supervisor)
        trace.queue(wq, "a b", cpu=0)
        trace.queue(wq, "c", cpu=1)
        await wait_all_tasks_blocked()
        assert sorted(trace.starts) == ["a", "c"]
        assert [(pool.cpu, pool.occupied, pool.worklist) for pool in supervisor.statistics().pools] == [
            (0, 1, 1),
            (1, 1, 0),
        ]
        trace.open(*"abc")
