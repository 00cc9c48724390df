"""Bound pools: a new item starts only while those that have begun are asleep, and then exactly one does."""

import random
import threading
from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from ktrio.workqueue import Work
from tests.workqueue.conftest import (
    SENSORS,
    Open,
    Trace,
    alloc_bound,
    assert_at_zero,
    bound_pool,
    open_with,
    run_bounded,
)


def names_of(count: int) -> list[str]:
    return [str(number) for number in range(count)]


async def turns(count: int = 10) -> None:
    """Let the loop turn, without a rest."""
    for _ in range(count):
        await trio.lowlevel.checkpoint()


class Spinner:
    """An item that yields until it is told to stop: on the loop's side of an await all the time."""

    def __init__(self) -> None:
        self.stop = False
        self.work = Work(self.spin, name="spinner")

    async def spin(self) -> None:
        while not self.stop:
            await trio.lowlevel.checkpoint()


async def test_nothing_starts_while_an_item_runs(open_bound: Open, trace: Trace) -> None:
    """W49; invariant 22: not while it yields; each start in its turn as the one before falls asleep."""
    spinner = Spinner()
    async with open_bound() as supervisor:
        wq = alloc_bound(supervisor)
        wq.queue_work(spinner.work)
        trace.queue(wq, "a b c")
        await turns(20)
        assert trace.starts == []
        assert bound_pool(supervisor).worklist == 3
        spinner.stop = True
        await wait_all_tasks_blocked()
        assert trace.starts == ["a", "b", "c"]
        trace.open("a", "b", "c")


async def test_an_item_queued_beside_a_running_one_wakes_nobody(open_bound: Open, trace: Trace) -> None:
    """W49; invariant 22: need_more_worker is asked before waking, not only after."""
    spinner = Spinner()
    async with open_bound() as supervisor:
        wq = alloc_bound(supervisor)
        wq.queue_work(spinner.work)
        await turns()
        before = bound_pool(supervisor)
        trace.queue(wq, "a b c")
        pool = bound_pool(supervisor)
        assert (pool.starting, pool.nr_idle, pool.created) == (0, before.nr_idle, before.created)
        spinner.stop = True
        trace.open("a", "b", "c")


@pytest.mark.parametrize("seed", range(20))
async def test_at_each_start_the_others_sleep(open_bound: Open, seed: int) -> None:
    """W49; invariants 22 and 23: with no sleeper awake at the time, a start finds its item the only one that runs."""
    rng = random.Random(seed)
    awake: set[int] = set()
    overshoots = started = 0

    async def body(index: int, steps: list[str]) -> None:
        nonlocal overshoots, started
        started += 1
        assert not awake, "it started beside a running item"
        awake.add(index)
        for step in steps:
            if step == "yield":
                await trio.lowlevel.checkpoint()
            else:
                awake.remove(index)
                await trio.sleep(float(step))
                overshoots += bool(awake)
                awake.add(index)
            assert bound_pool(supervisor).nr_running == len(awake)
        awake.remove(index)

    async with open_bound(capacity=100, idle_timeout=1.0) as supervisor:
        wq = alloc_bound(supervisor)
        for index in range(60):
            steps = rng.choices(["yield", "0.1", "0.1", "0.25"], k=rng.randrange(6))
            wq.queue_work(Work(body, index, steps))
            await turns(rng.randrange(4))
            if index % 10 == 0:
                await wait_all_tasks_blocked()
                assert started == index + 1
                assert bound_pool(supervisor).worklist == 0
        await wq.flush()
        await assert_at_zero(supervisor, wq)
        assert started == 60
    assert overshoots > 0, "sleepers that wake together do run together"


async def test_a_block_with_work_pending_wakes_exactly_one(open_bound: Open, trace: Trace) -> None:
    """W51; invariant 24: one wake-up and one CMW, on the queue of the item that fell asleep."""
    async with open_bound() as supervisor:
        wq, other = alloc_bound(supervisor), alloc_bound(supervisor, "other")
        spinner = Spinner()
        trace.queue(wq, "x y z")
        await wait_all_tasks_blocked()
        trace.open("x", "y", "z")
        await wait_all_tasks_blocked()
        before = wq.statistics().cm_wakeups
        assert bound_pool(supervisor).nr_idle == 4

        trace.queue(wq, "a")
        other.queue_work(spinner.work)
        trace.queue(other, "b c")
        await turns()
        assert trace.starts[3:] == ["a"]
        assert (wq.statistics().cm_wakeups - before, other.statistics().cm_wakeups) == (1, 0)
        assert bound_pool(supervisor).nr_idle == 2, "a's worker and the spinner's are busy, nobody else was woken"
        spinner.stop = True
        await wait_all_tasks_blocked()
        # b fell asleep with c behind it; c with nothing behind it.
        assert (wq.statistics().cm_wakeups - before, other.statistics().cm_wakeups) == (1, 1)
        assert [pwq.cm_wakeups for pwq in other.statistics().pwqs] == [1]
        trace.open("a", "b", "c")


async def test_a_block_with_nothing_pending_wakes_nobody(open_bound: Open, trace: Trace) -> None:
    """W51; invariant 24."""
    async with open_bound() as supervisor:
        wq = alloc_bound(supervisor)
        for name in "abc":
            trace.queue(wq, name)
            await wait_all_tasks_blocked()
        assert wq.statistics().cm_wakeups == 0
        trace.open("a", "b", "c")


async def yield_once() -> None:
    await trio.lowlevel.checkpoint()


async def sleep_zero() -> None:
    await trio.sleep(0)  # noqa: ASYNC115 - what a user may write


async def wait_for_a_set_event() -> None:
    event = trio.Event()
    event.set()
    await event.wait()


async def take_a_free_lock() -> None:
    async with trio.Lock():
        pass


async def leave_an_empty_nursery() -> None:
    async with trio.open_nursery():
        pass


async def receive_what_is_there() -> None:
    send, receive = trio.open_memory_channel[int](1)
    await send.send(1)
    assert await receive.receive() == 1


YIELDS = [yield_once, sleep_zero, wait_for_a_set_event, take_a_free_lock, leave_an_empty_nursery, receive_what_is_there]


@pytest.mark.parametrize("wait", YIELDS)
async def test_a_mere_yield_starts_nothing(open_bound: Open, trace: Trace, wait: Callable[[], Awaitable[None]]) -> None:
    """Invariant 25: a checkpoint is to the loop what preemption is to the kernel: it does not make anybody sleep.

    W50.
    """

    async def body() -> None:
        for _ in range(20):
            await wait()
            assert trace.starts == []
            assert bound_pool(supervisor).nr_running == 1

    async with open_bound() as supervisor:
        wq = alloc_bound(supervisor)
        wq.queue_work(Work(body))
        trace.queue(wq, "behind")
        trace.open("behind")
        await wq.flush()
        assert wq.statistics().cm_wakeups == 0
    assert trace.ends == ["behind"]


class Blocks:
    """Waits of every kind that end when the item behind them says so."""

    def __init__(self) -> None:
        self.event = trio.Event()
        self.thread_may_end = threading.Event()
        self.lock = trio.Lock()

    def end(self) -> None:
        self.event.set()
        self.thread_may_end.set()

    async def sleep(self) -> None:
        await trio.sleep(1)

    async def wait(self) -> None:
        await self.event.wait()

    async def thread(self) -> None:
        await trio.to_thread.run_sync(self.thread_may_end.wait)

    async def nursery(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.event.wait)

    async def taken_lock(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._hold_lock)
            await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()
            await self.lock.acquire()
            self.lock.release()

    async def _hold_lock(self) -> None:
        async with self.lock:
            await self.event.wait()

    async def channel(self) -> None:
        send, receive = trio.open_memory_channel[int](0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive.receive)
            await self.event.wait()
            await send.send(1)


@pytest.mark.parametrize("sensor", SENSORS)
@pytest.mark.parametrize("kind", ["sleep", "wait", "thread", "nursery", "taken_lock", "channel"])
def test_a_real_block_lets_the_next_item_start(kind: str, sensor: str) -> None:
    """W50; invariant 25: whatever it waits for."""
    clock = MockClock()  # no autojump: it would not know of the thread

    async def main() -> None:
        blocks = Blocks()
        async with open_with(sensor)() as supervisor:
            wq = alloc_bound(supervisor)
            first, behind = Work(getattr(blocks, kind)), trio.Event()
            wq.queue_work(first)
            wq.queue_work(Work(behind.set))
            with trio.fail_after(1e5):
                await behind.wait()
            assert first.is_running
            assert wq.statistics().cm_wakeups == 1
            assert bound_pool(supervisor).nr_running == 0
            blocks.end()
            clock.jump(1)
            await wq.flush()
            await assert_at_zero(supervisor, wq)

    run_bounded(main, clock=clock)


@pytest.mark.parametrize("count", [1, 3, 10])
async def test_blocking_items_need_one_worker_more_than_there_are_items(
    open_bound: Open, trace: Trace, count: int
) -> None:
    """W43; invariant 30: N items blocked at once on a fresh pool: N + 1 workers, one of them in reserve."""
    async with open_bound() as supervisor:
        wq = alloc_bound(supervisor)
        trace.queue(wq, " ".join(names_of(count)))
        await wait_all_tasks_blocked()
        pool = bound_pool(supervisor)
        assert trace.starts == names_of(count)
        assert (pool.created, pool.nr_workers, pool.nr_idle, pool.nr_running) == (count + 1, count + 1, 1, 0)
        assert wq.statistics().cm_wakeups == count - 1
        trace.open(*names_of(count))
        await wq.flush()
        await wait_all_tasks_blocked()
        assert bound_pool(supervisor).nr_idle == count + 1


async def test_a_worker_that_starts_has_another_in_reserve(open_bound: Open) -> None:
    """W43; invariant 29: idle, or on its way."""
    rng = random.Random(29)

    async def body() -> None:
        pool = bound_pool(supervisor)
        assert pool.nr_idle + pool.starting >= 1
        await trio.sleep(rng.choice([0, 0.5, 1]))

    async with open_bound() as supervisor:
        wq = alloc_bound(supervisor)
        for _ in range(50):
            wq.queue_work(Work(body))
            await trio.sleep(rng.choice([0, 0.1, 0.3]))


async def test_nr_running_counts_the_items_that_are_awake(open_bound: Open, trace: Trace) -> None:
    """W53; invariant 26 and 27: at every event, between items, and 0 when all are idle."""
    seen: list[int] = []

    def look() -> None:
        pool = bound_pool(supervisor)
        assert 0 <= pool.nr_running <= pool.nr_workers
        assert pool.nr_idle + pool.starting + pool.occupied <= pool.nr_workers
        seen.append(pool.nr_running)

    async def body() -> None:
        look()
        await trio.lowlevel.checkpoint()
        look()
        await trace.gate("one").wait()
        look()

    async with open_bound() as supervisor:
        wq = alloc_bound(supervisor)
        look()
        wq.queue_work(Work(body))
        wq.queue_work(Work(body))
        look()
        await wait_all_tasks_blocked()
        look()
        assert seen == [0, 0, 1, 1, 1, 1, 0]
        trace.open("one")
        await wait_all_tasks_blocked()
        look()
        # Both wake in one turn; the first has ended when the second runs.
        assert seen[7:] == [1, 1, 0]
        await assert_at_zero(supervisor, wq)


async def test_woken_sleepers_may_run_together_and_shrink_back(open_bound: Open) -> None:
    """Invariant 22's exception: the first of them to end goes idle, though work waits; the second goes on alone.

    W52.
    """
    events: list[str] = []
    gates = {name: trio.Event() for name in "abcd"}
    yielding = dict.fromkeys("abcd", True)

    async def body(name: str) -> None:
        events.append(f"{name} starts")
        await gates[name].wait()
        events.append(f"{name} wakes beside {bound_pool(supervisor).nr_running - 1}")
        while yielding[name]:
            await trio.lowlevel.checkpoint()
        events.append(f"{name} ends")

    async with open_bound() as supervisor:
        wq = alloc_bound(supervisor)
        for name in "ab":
            wq.queue_work(Work(body, name))
            await wait_all_tasks_blocked()
        gates["a"].set()
        await turns()
        wq.queue_work(Work(body, "c"))
        wq.queue_work(Work(body, "d"))
        gates["b"].set()
        await turns()
        assert events == ["a starts", "b starts", "a wakes beside 0", "b wakes beside 1"]
        assert bound_pool(supervisor).nr_running == 2
        idle = bound_pool(supervisor).nr_idle
        yielding["a"] = False
        await turns()
        assert events[4:] == ["a ends"], "c may not start beside b"
        assert (bound_pool(supervisor).nr_running, bound_pool(supervisor).nr_idle) == (1, idle + 1)
        yielding["b"] = False
        await turns()
        assert events[5:] == ["b ends", "c starts", "d starts"]
        yielding.update(c=False, d=False)
        for name in "cd":
            gates[name].set()
        await wq.flush()
        await assert_at_zero(supervisor, wq)
