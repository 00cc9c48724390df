"""`WQ_HIGHPRI`: a normal pool starts nothing new while the high pool of its CPU has an item that could start now."""

import random
import re
from collections.abc import Callable
from functools import partial
from typing import Literal

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from ktrio.workqueue import (
    WQ_CPU_INTENSIVE,
    WQ_HIGHPRI,
    WQ_UNBOUND,
    OnError,
    PoolStatistics,
    Supervisor,
    Work,
    Workqueue,
    WorkqueueFlags,
    parked,
)
from tests.workqueue.conftest import Errors, Open, Trace, assert_at_zero, open_with, run_bounded

BOUND = WorkqueueFlags(0)
# The flags of the normal queue, of the high one, and the sensor of bound pools.
Pairing = tuple[WorkqueueFlags, WorkqueueFlags, Literal["trampoline", "instrument"]]
PAIRINGS: tuple[Pairing, ...] = (
    (WQ_UNBOUND, WQ_UNBOUND, "trampoline"),
    (WQ_UNBOUND, BOUND, "trampoline"),
    (BOUND, WQ_UNBOUND, "trampoline"),
    (BOUND, BOUND, "trampoline"),
    (BOUND, BOUND, "instrument"),
)
NAMES = ("u-u", "u-b", "b-u", "b-b", "b-b-instrument")
over_pairings = pytest.mark.parametrize("pairing", PAIRINGS, ids=NAMES)


class Queues:
    """A normal and a high queue of a supervisor."""

    def __init__(
        self, supervisor: Supervisor, pairing: Pairing, max_active: int = 0, on_error: OnError = "raise"
    ) -> None:
        self.supervisor = supervisor
        self.normal = supervisor.alloc_workqueue("normal", pairing[0], on_error=on_error)
        self.high = supervisor.alloc_workqueue("high", pairing[1] | WQ_HIGHPRI, max_active, on_error)

    def pool(self, wq: Workqueue, cpu: int = 0) -> PoolStatistics:
        is_bound, is_high = WQ_UNBOUND not in wq.flags, WQ_HIGHPRI in wq.flags
        pools = self.supervisor.statistics().pools
        return next(pool for pool in pools if (pool.bound, pool.highpri, pool.cpu) == (is_bound, is_high, cpu))

    async def assert_at_zero(self) -> None:
        await assert_at_zero(self.supervisor, self.normal, self.high)


async def turns(count: int = 20) -> None:
    """Let the loop turn, without a rest."""
    for _ in range(count):
        await trio.lowlevel.checkpoint()


class Spinner:
    """An item that yields until it is told to stop: on the loop's side of an await all the time."""

    def __init__(self) -> None:
        self.stop = False
        self.begun = 0

    async def spin(self) -> None:
        self.begun += 1
        while not self.stop:
            await trio.lowlevel.checkpoint()


def run_often(main: Callable[[], object], times: int = 20) -> None:
    """Trio shuffles who runs first in a turn."""
    for _ in range(times):
        run_bounded(main)  # type: ignore[arg-type]


@over_pairings
def test_high_items_start_before_normal_ones_that_were_queued_before(pairing: Pairing) -> None:
    """W57; invariant 37: normal never delays high, on fresh pools and on those that have idle workers."""

    async def main() -> None:
        async with open_with(pairing[2])() as supervisor:
            queues = Queues(supervisor, pairing)
            for _ in range(3):
                trace = Trace()
                trace.queue(queues.normal, "a b c")
                trace.queue(queues.high, "x y z")
                trace.queue(queues.normal, "d")
                await wait_all_tasks_blocked()
                assert trace.starts == ["x", "y", "z", "a", "b", "c", "d"]
                trace.open(*"abcdxyz")
                await queues.normal.flush()
            await queues.high.flush()
            await queues.assert_at_zero()

    run_often(main)


@over_pairings
def test_a_high_item_goes_before_the_rest_of_a_burst(pairing: Pairing) -> None:
    """W59; invariant 37: by the time of the one normal item under way; both kinds of burst, those that block or not."""

    async def main() -> None:
        async with open_with(pairing[2])() as supervisor:
            queues = Queues(supervisor, pairing)
            order: list[str] = []

            def note(name: str) -> None:
                order.append(name)
                if name == "10":
                    for high in ("x", "y"):
                        queues.high.queue_work(Work(note, high))

            for number in range(30):
                queues.normal.queue_work(Work(note, str(number)))
            await queues.normal.flush()
            await queues.high.flush()
            assert order == [*map(str, range(11)), "x", "y", *map(str, range(11, 30))]
            await queues.assert_at_zero()

    run_often(main)


@over_pairings
async def test_a_sleeping_high_pool_holds_up_nobody(pairing: Pairing, trace: Trace) -> None:
    """W58; invariant 37: also one that has every slot taken and items without."""
    async with open_with(pairing[2])() as supervisor:
        queues = Queues(supervisor, pairing, max_active=2)
        trace.queue(queues.high, "x y z")
        await wait_all_tasks_blocked()
        trace.queue(queues.normal, "a b")
        await wait_all_tasks_blocked()
        assert trace.starts == ["x", "y", "a", "b"]
        trace.open("x")
        await wait_all_tasks_blocked()
        assert trace.starts[4:] == ["z"]
        trace.open(*"abyz")


@over_pairings
async def test_a_high_pool_at_capacity_holds_up_nobody(pairing: Pairing, trace: Trace) -> None:
    """W58; invariant 37: it has items with a slot, but no place for them."""
    async with open_with(pairing[2])(capacity=2) as supervisor:
        queues = Queues(supervisor, pairing)
        trace.queue(queues.high, "x y z")
        await wait_all_tasks_blocked()
        assert queues.pool(queues.high).worklist == 1
        trace.queue(queues.normal, "a b")
        await wait_all_tasks_blocked()
        assert trace.starts == ["x", "y", "a", "b"]
        trace.open(*"abxyz")


@over_pairings
async def test_a_high_item_that_runs_holds_up_nobody(pairing: Pairing, trace: Trace) -> None:
    """W58; invariant 37: it has started; and if its pool is bound, concurrency management holds up those behind it."""
    async with open_with(pairing[2])() as supervisor:
        queues, spinner = Queues(supervisor, pairing), Spinner()
        queues.high.queue_work(Work(spinner.spin))
        if WQ_UNBOUND not in pairing[1]:
            trace.queue(queues.high, "x")
        trace.queue(queues.normal, "a")
        await turns()
        assert trace.starts == ["a"]
        spinner.stop = True
        trace.open("a", "x")
        await queues.high.flush()
        await queues.normal.flush()
        await queues.assert_at_zero()


@pytest.mark.parametrize("plight", ["asleep", "max_active", "running"])
@over_pairings
async def test_a_saturated_normal_pool_does_not_delay_a_high_item(pairing: Pairing, plight: str, trace: Trace) -> None:
    """W59; invariant 37."""
    async with open_with(pairing[2])(capacity=3) as supervisor:
        queues, spinner = Queues(supervisor, pairing), Spinner()
        if plight == "max_active":
            queues.normal.set_max_active(2)
        trace.queue(queues.normal, "a b")
        if plight == "running":
            queues.normal.queue_work(Work(spinner.spin))
        trace.queue(queues.normal, "c d")
        await turns()
        before = len(trace.starts)
        trace.queue(queues.high, "x y")
        await turns()
        assert trace.starts[before:] == ["x", "y"]
        spinner.stop = True
        trace.open(*"abcdxy")


@over_pairings
def test_a_high_item_that_is_cancelled_holds_up_nobody(pairing: Pairing) -> None:
    """W58; invariant 23: whoever waited for it goes on; before any turn, and after one to three."""

    async def main(between: int) -> None:
        async with open_with(pairing[2])() as supervisor:
            trace, queues = Trace(), Queues(supervisor, pairing)
            spinner = Spinner()
            if WQ_UNBOUND not in pairing[1]:
                queues.high.queue_work(Work(spinner.spin))  # so that those behind it can be cancelled after some turns
            high = trace.queue(queues.high, "x y")
            trace.queue(queues.normal, "a b")
            await turns(between)
            spinner.stop = True
            cancelled = [work.cancel() for work in high.values()]
            await wait_all_tasks_blocked()
            assert trace.starts[-2:] == ["a", "b"] or not all(cancelled)
            assert {"a", "b"} <= set(trace.starts)
            trace.open(*"abxy")
            await queues.normal.flush()
            await queues.high.flush()
            await queues.assert_at_zero()

    for between in range(4):
        run_often(partial(main, between), 5)


@over_pairings
async def test_a_normal_item_that_comes_back_or_starts_parked_is_not_held(pairing: Pairing) -> None:
    """W60; P3, P8: though there is always a high item that could start."""
    async with open_with(pairing[2])() as supervisor:
        queues = Queues(supervisor, pairing)
        events: list[str] = []
        door, over = trio.Event(), False

        async def park(name: str) -> None:
            events.append(f"{name} starts")
            async with parked():
                await door.wait()
            events.append(f"{name} returns")

        def again() -> None:
            if not over:
                queues.high.queue_work(forever)

        queues.normal.queue_work(Work(park, "a"))
        await wait_all_tasks_blocked()
        forever = Work(again)
        queues.high.queue_work(forever)
        queues.normal.queue_work(Work(park, "b"), parked=True)
        queues.normal.queue_work(Work(events.append, "c"))
        await turns()
        assert events == ["a starts", "b starts"]
        door.set()
        await turns()
        assert sorted(events[2:]) == ["a returns", "b returns"], "c is held for as long as high items run"
        over = True
        await queues.normal.flush()
        assert events[4:] == ["c"]
        await queues.assert_at_zero()


@over_pairings
async def test_only_the_pools_of_its_cpu_let_a_high_pool_go_first(pairing: Pairing) -> None:
    """W60."""
    async with open_with(pairing[2])(cpus=2) as supervisor:
        queues = Queues(supervisor, pairing)
        ran: list[int] = []
        over = False

        def again() -> None:
            if not over:
                queues.high.queue_work(forever)

        forever = Work(again)
        queues.high.queue_work_on(0, forever)
        for cpu in (0, 1):
            queues.normal.queue_work_on(cpu, Work(ran.append, cpu))
        await turns()
        assert ran == [1]
        over = True
        await queues.normal.flush()
        assert ran == [1, 0]


@over_pairings
async def test_a_normal_pool_made_after_the_high_one_is_held_too(pairing: Pairing, trace: Trace) -> None:
    """W57."""
    async with open_with(pairing[2])() as supervisor:
        high = supervisor.alloc_workqueue("high", pairing[1] | WQ_HIGHPRI)
        normal = supervisor.alloc_workqueue("normal", pairing[0])
        trace.queue(normal, "a")
        trace.queue(high, "x")
        await wait_all_tasks_blocked()
        assert trace.starts == ["x", "a"]
        trace.open("a", "x")


async def test_high_queues_of_both_kinds_go_before_normal_queues_of_both(open_bound: Open, trace: Trace) -> None:
    """W57. The pairing is by CPU and not by kind: there is one loop for all of them."""
    async with open_bound() as supervisor:
        kinds = (WQ_UNBOUND, BOUND)
        normal = [supervisor.alloc_workqueue("normal", kind) for kind in kinds]
        high = [supervisor.alloc_workqueue("high", kind | WQ_HIGHPRI) for kind in kinds]
        for wq, name in zip((*normal, *high), "abxy", strict=True):
            trace.queue(wq, name)
        await wait_all_tasks_blocked()
        assert (set(trace.starts[:2]), set(trace.starts[2:])) == ({"x", "y"}, {"a", "b"})
        trace.open(*"abxy")


async def test_an_intensive_high_queue_goes_first_and_holds_up_nobody_else(open_bound: Open, trace: Trace) -> None:
    """W58; invariants 35 and 37 together."""
    async with open_bound() as supervisor:
        spinner = Spinner()
        high = supervisor.alloc_workqueue("high", WQ_HIGHPRI | WQ_CPU_INTENSIVE)
        normal = supervisor.alloc_workqueue("normal")
        trace.queue(normal, "a")
        for _ in range(3):
            high.queue_work(Work(spinner.spin))
        for _ in range(20):
            if trace.starts:
                break
            await trio.lowlevel.checkpoint()
        assert (spinner.begun, trace.starts) == (3, ["a"])
        spinner.stop = True
        trace.open("a")


async def test_cancelling_a_supervisor_ends_those_that_are_held(autojump_clock: MockClock) -> None:
    """W5; invariant 60."""
    discarded: list[str] = []
    with trio.CancelScope() as scope:
        async with open_with("trampoline")() as supervisor:
            queues = Queues(supervisor, PAIRINGS[0])

            def again() -> None:
                queues.high.queue_work(forever)

            forever = Work(again)
            queues.high.queue_work(forever)
            queues.normal.queue_work(Work(print, on_discard=partial(discarded.append, "normal")))
            await turns()
            scope.cancel()
    assert scope.cancelled_caught
    assert discarded == ["normal"]
    assert (queues.normal.in_flight, queues.high.in_flight) == (0, 0)


async def test_pools_are_made_when_first_wanted_and_named_like_the_kernels(open_bound: Open) -> None:
    """W57."""
    names: set[str] = set()

    def note_name() -> None:
        names.add(re.sub(r":\d+", ":N", trio.lowlevel.current_task().name))

    async with open_bound(cpus=2) as supervisor:

        def kinds() -> list[tuple[bool, bool, int]]:
            return [(pool.highpri, pool.bound, pool.cpu) for pool in supervisor.statistics().pools]

        assert kinds() == [(False, False, 0), (False, False, 1)]
        high = supervisor.alloc_workqueue("high", WQ_HIGHPRI)
        for cpu in (0, 1):
            high.queue_work_on(cpu, Work(note_name))
        await high.flush()
        assert kinds() == [(False, False, 0), (False, False, 1), (True, True, 0), (True, True, 1)]
        unbound = supervisor.alloc_workqueue("unbound", WQ_UNBOUND | WQ_HIGHPRI)
        await unbound.run(note_name)
        await supervisor.alloc_workqueue("normal").run(note_name)
        assert names == {"kworker/0:NH", "kworker/1:NH", "kworker/u0:NH", "kworker/0:N"}
        assert len(kinds()) == 8
        assert kinds() == sorted(kinds())


@pytest.mark.parametrize("seed", range(8))
@over_pairings
async def test_no_normal_item_starts_while_a_high_one_could(pairing: Pairing, seed: int) -> None:
    """W57; invariants 23, 26 and 37 over random runs; everything ends, and the books are at zero."""
    rng = random.Random(seed)
    errors = Errors()
    started = 0

    def high_could_start(cpu: int) -> bool:
        pool = queues.pool(queues.high, cpu)
        return pool.worklist > 0 and pool.occupied < 3 and pool.nr_running == 0

    async def body(is_high: bool, cpu: int, steps: list[str]) -> None:
        nonlocal started
        started += 1
        assert is_high or not high_could_start(cpu)
        for step in steps:
            if step == "yield":
                await trio.lowlevel.checkpoint()
            elif step == "park":
                async with parked():
                    await trio.sleep(0.1)
            elif step == "raise":
                raise ValueError("of the item")
            elif step == "queue":
                queue(not is_high)
            else:
                await trio.sleep(float(step))

    works: list[Work] = []

    def queue(is_high: bool) -> None:
        cpu = rng.randrange(2)
        steps = rng.choices(
            ["yield", "0.1", "0.25", "park", "raise", "queue"], [4, 2, 2, 1, 0.3, 0.5], k=rng.randrange(6)
        )
        works.append(Work(body, is_high, cpu, steps))
        (queues.high if is_high else queues.normal).queue_work_on(cpu, works[-1])

    async with open_with(pairing[2])(2, capacity=3, idle_timeout=1.0) as supervisor:
        queues = Queues(supervisor, pairing, max_active=4, on_error=errors)
        for _ in range(80):
            queue(rng.random() < 0.4)
            await turns(rng.randrange(4))
            if rng.random() < 0.3:
                rng.choice((Work.cancel, Work.interrupt))(rng.choice(works))
            if rng.random() < 0.1:
                await wait_all_tasks_blocked()
        await queues.normal.flush()
        await queues.high.flush()
        await queues.normal.flush()
        assert all(type(error) is ValueError for error in errors.errors)
        await wait_all_tasks_blocked()
        assert started + sum(wq.cancelled for wq in supervisor.statistics().workqueues) == len(works)
