"""`WQ_CPU_INTENSIVE`: items that do not count in nr_running while they run, though their start is regulated."""

import random

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from ktrio.workqueue import WQ_CPU_INTENSIVE, WQ_UNBOUND, Supervisor, Work, Workqueue, open_supervisor, parked
from tests.workqueue.conftest import Errors, Open, Trace, alloc_bound, assert_at_zero, bound_pool


async def turns(count: int = 10) -> None:
    """Let the loop turn, without a rest."""
    for _ in range(count):
        await trio.lowlevel.checkpoint()


def alloc_intensive(supervisor: Supervisor, max_active: int = 0, on_error: Errors | None = None) -> Workqueue:
    return supervisor.alloc_workqueue("intensive", WQ_CPU_INTENSIVE, max_active, on_error or "raise")


class Spinners:
    """Items that yield until told to stop: on the loop's side of an await all the time."""

    def __init__(self) -> None:
        self.stop = False
        self.spinning = 0

    async def spin(self) -> None:
        self.spinning += 1
        while not self.stop:
            await trio.lowlevel.checkpoint()
        self.spinning -= 1


async def test_an_intensive_item_holds_up_nobody(open_bound: Open, trace: Trace) -> None:
    """W65; invariant 35: others start beside it, of its own queue and of any."""
    spinners = Spinners()
    async with open_bound() as supervisor:
        wq, other = alloc_intensive(supervisor), alloc_bound(supervisor)
        for _ in range(3):
            wq.queue_work(Work(spinners.spin))
        trace.queue(other, "a b")
        await turns(30)
        assert (spinners.spinning, trace.starts) == (3, ["a", "b"])
        pool = bound_pool(supervisor)
        assert (pool.nr_running, pool.occupied, pool.created) == (0, 5, 6)
        assert wq.statistics().cm_wakeups == 0, "no sleep has let anybody start"
        spinners.stop = True
        trace.open("a", "b")
        await wq.flush()
        await other.flush()
        await assert_at_zero(supervisor, wq, other)


async def test_its_own_start_waits_like_any_other(open_bound: Open, trace: Trace) -> None:
    """W65; invariant 35: for those that count."""
    spinners = Spinners()
    async with open_bound() as supervisor:
        wq, other = alloc_intensive(supervisor), alloc_bound(supervisor)
        other.queue_work(Work(spinners.spin))
        trace.queue(wq, "a b")
        await turns(20)
        assert trace.starts == []
        spinners.stop = True
        await wait_all_tasks_blocked()
        assert trace.starts == ["a", "b"]
        trace.open("a", "b")


async def test_after_its_end_its_worker_counts_again(open_bound: Open, trace: Trace) -> None:
    """W65; invariant 26: the same worker goes on with an ordinary item, which holds up others."""
    spinners = Spinners()
    async with open_bound() as supervisor:
        wq, other = alloc_intensive(supervisor), alloc_bound(supervisor)
        wq.queue_work(Work(turns, 3))
        other.queue_work(Work(spinners.spin))
        trace.queue(other, "a")
        await turns(20)
        assert (trace.starts, bound_pool(supervisor).nr_running) == ([], 1)
        spinners.stop = True
        trace.open("a")
        await other.flush()
        await assert_at_zero(supervisor, wq, other)


async def test_capacity_and_slots_hold_for_intensive_items(open_bound: Open) -> None:
    """W36, W65; invariants 10 and 22: leaving nr_running gives back nothing else."""
    spinners = Spinners()
    async with open_bound(capacity=3) as supervisor:
        wq, few = alloc_intensive(supervisor), alloc_intensive(supervisor, max_active=1)
        for queue in (few, few, wq, wq, wq):
            queue.queue_work(Work(spinners.spin))
        await turns(30)
        assert spinners.spinning == 3
        assert (bound_pool(supervisor).worklist, few.statistics().nr_active, few.statistics().inactive) == (1, 1, 1)
        spinners.stop = True
        await wq.flush()
        await few.flush()
        await assert_at_zero(supervisor, wq, few)


async def test_an_intensive_item_that_starts_parked_does_not_count_either(open_bound: Open, trace: Trace) -> None:
    """P8: before, in and after its first return."""
    spinners = Spinners()

    async def body() -> None:
        async with parked():
            await trio.lowlevel.checkpoint()
        await spinners.spin()

    async with open_bound() as supervisor:
        wq, other = alloc_intensive(supervisor), alloc_bound(supervisor)
        wq.queue_work(Work(body), parked=True)
        await turns()
        trace.queue(other, "a")
        await turns()
        assert (spinners.spinning, trace.starts, bound_pool(supervisor).nr_running) == (1, ["a"], 0)
        spinners.stop = True
        trace.open("a")
        await other.flush()
        await wq.flush()
        await assert_at_zero(supervisor, wq, other)


async def test_its_long_steps_are_hogs_but_mark_nothing(open_bound: Open, autojump_clock: MockClock) -> None:
    """W65; invariant 36: it was CPU-intensive before."""

    async def body() -> None:
        autojump_clock.jump(0.02)
        await trio.lowlevel.checkpoint()

    async with open_bound() as supervisor:
        wq = alloc_intensive(supervisor)
        await wq.run(body)
        assert wq.statistics().cpu_intensive == 0
        assert [hog.count for hog in supervisor.statistics().hogs] == [1]


async def test_the_flag_is_without_effect_on_an_unbound_queue() -> None:
    """W65. As in the kernel: plain functions stay on the loop, too."""
    async with open_supervisor() as supervisor:
        wq = supervisor.alloc_workqueue("both", WQ_UNBOUND | WQ_CPU_INTENSIVE)
        assert wq.statistics().flags == WQ_UNBOUND | WQ_CPU_INTENSIVE
        assert await wq.run(trio.lowlevel.in_trio_run)
        assert [pool.bound for pool in supervisor.statistics().pools] == [False]


@pytest.mark.parametrize("seed", range(10))
async def test_only_counted_items_hold_up_a_start(open_bound: Open, seed: int, autojump_clock: MockClock) -> None:
    """W65; invariants 22, 23, 26 and 35 over random runs, cut short ones and marked ones among them; books at zero."""
    rng = random.Random(seed)
    counted: set[object] = set()

    async def body(steps: list[str], is_intensive: bool) -> None:
        token = object()
        assert not counted, "it started beside one that counts"
        counts = not is_intensive
        try:
            for step in steps:
                if counts:
                    counted.add(token)
                if step == "yield":
                    await trio.lowlevel.checkpoint()
                elif step == "burn":
                    autojump_clock.jump(0.02)
                    counts = False  # marked when the step ends
                    await trio.lowlevel.checkpoint()
                    counted.discard(token)
                elif step == "raise":
                    raise ValueError("of the item")
                else:
                    counted.discard(token)
                    await trio.sleep(float(step))
                assert bound_pool(supervisor).nr_running == len(counted | ({token} if counts else set()))
        finally:
            counted.discard(token)

    works: list[Work] = []
    async with open_bound(capacity=100, idle_timeout=1.0) as supervisor:
        queues = (alloc_intensive(supervisor, 0, Errors()), alloc_bound(supervisor, on_error=Errors()))
        for _ in range(60):
            steps = rng.choices(["yield", "0.1", "0.25", "burn", "raise"], [4, 2, 2, 1, 0.5], k=rng.randrange(6))
            which = rng.randrange(2)
            works.append(Work(body, steps, which == 0))
            queues[which].queue_work(works[-1])
            await turns(rng.randrange(4))
            if rng.random() < 0.2:
                rng.choice(works).interrupt()
        for wq in queues:
            await wq.flush()
        await assert_at_zero(supervisor, *queues)
        assert sum(wq.statistics().started for wq in queues) == 60
