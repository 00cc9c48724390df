"""`WQ_MEM_RECLAIM`: a rescuer runs the items of its queue, one at a time, while a pool is full and does not get on."""

import logging
import random
from functools import partial

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from ktrio.workqueue import (
    WQ_CPU_INTENSIVE,
    WQ_HIGHPRI,
    WQ_MEM_RECLAIM,
    WQ_UNBOUND,
    DelayedWork,
    DestroyedError,
    OnError,
    PeriodicWork,
    PoolStatistics,
    Rate,
    Supervisor,
    Work,
    Workqueue,
    current_work,
    parked,
)
from tests.workqueue.conftest import KIND_NAMES, KINDS, Errors, Kind, Trace, assert_at_zero, open_with

over_kinds = pytest.mark.parametrize("kind", KINDS, ids=KIND_NAMES)

# Seconds from when an item finds the pool full to its start by the rescuer, and a little more than that.
RESCUED_AFTER = 0.010
SOON = 0.011


class Queues:
    """A queue with a rescuer, and one without on the same pools."""

    def __init__(self, supervisor: Supervisor, kind: Kind, max_active: int = 0, on_error: OnError = "raise") -> None:
        self.supervisor, self.kind = supervisor, kind
        flags = WQ_UNBOUND if kind[0] else WQ_UNBOUND & WQ_HIGHPRI
        self.safe = supervisor.alloc_workqueue("safe", flags | WQ_MEM_RECLAIM, max_active, on_error)
        self.other = supervisor.alloc_workqueue("other", flags, on_error=on_error)

    def pool(self, cpu: int = 0) -> PoolStatistics:
        pools = self.supervisor.statistics().pools
        return next(pool for pool in pools if pool.cpu == cpu and pool.bound == (not self.kind[0]))

    @property
    def capacity(self) -> int:
        """Of the first pool, with what rescuers have brought."""
        return self.safe.pwqs[0].pool.capacity

    @property
    def counts(self) -> tuple[int, int]:
        """Calls and rescued items."""
        books = self.safe.statistics()
        return books.mayday, books.rescued

    async def assert_at_zero(self) -> None:
        await assert_at_zero(self.supervisor, self.safe, self.other)


def has_timer(supervisor: Supervisor) -> bool:
    return supervisor.timers.armed > 0


@over_kinds
async def test_an_item_at_a_full_pool_is_rescued(kind: Kind, trace: Trace) -> None:
    """W152; invariant 56: ten milliseconds after it found the pool full, and not before; others are not."""
    async with open_with(kind[1])(capacity=2) as supervisor:
        queues = Queues(supervisor, kind)
        trace.queue(queues.other, "a b c")
        await wait_all_tasks_blocked()
        began = trio.current_time()
        trace.queue(queues.safe, "x")
        trace.queue(queues.other, "d")
        await trio.sleep_until(began + 0.009)
        assert trace.starts == ["a", "b"]
        await trio.sleep_until(began + SOON)
        assert trace.starts == ["a", "b", "x"]
        assert queues.counts == (1, 1)
        await trio.sleep(1)
        assert trace.starts == ["a", "b", "x"], "c and d have no rescuer"
        assert queues.other.statistics().rescued == queues.other.statistics().mayday == 0
        trace.open("x", "a")
        await wait_all_tasks_blocked()
        assert trace.starts[3:] == ["c"], "a's place is one of the pool's, x's never was"
        trace.open(*"bcd")
        await queues.safe.flush()
        await queues.other.flush()
        await queues.assert_at_zero()


@over_kinds
async def test_the_rescuer_runs_one_at_a_time_in_their_order(kind: Kind, trace: Trace) -> None:
    """W152, W154; invariant 56: an item that blocks inside the rescuer blocks the rescuer only."""
    async with open_with(kind[1])(capacity=1) as supervisor:
        queues = Queues(supervisor, kind)
        trace.queue(queues.other, "a")
        await wait_all_tasks_blocked()
        trace.queue(queues.safe, "x y z")
        await trio.sleep(10)
        assert trace.starts == ["a", "x"]
        assert queues.pool().occupied == 2
        trace.open("a")
        await wait_all_tasks_blocked()
        assert trace.starts == ["a", "x", "y"], "a's place"
        trace.open("x")
        await trio.sleep(SOON)
        assert trace.starts == ["a", "x", "y", "z"]
        assert queues.safe.statistics().rescued == 2
        trace.open("y", "z")
        await queues.safe.flush()
        await queues.assert_at_zero()


@over_kinds
async def test_all_of_a_backlog_is_rescued_while_nothing_else_gets_on(kind: Kind, trace: Trace) -> None:
    """W152; invariant 56: more than one batch of 16, by one call, in order and without overlap."""
    order: list[int] = []
    running = 0

    async def body(number: int) -> None:
        nonlocal running
        running += 1
        assert running == 1
        await trio.sleep(0.001)
        running -= 1
        order.append(number)

    async with open_with(kind[1])(capacity=1) as supervisor:
        queues = Queues(supervisor, kind, max_active=25)
        trace.queue(queues.other, "a")
        await wait_all_tasks_blocked()
        for number in range(40):
            queues.safe.queue_work(Work(body, number))
        await queues.safe.flush()
        assert order == list(range(40))
        assert queues.counts == (1, 40)
        await wait_all_tasks_blocked()
        assert not has_timer(supervisor)
        trace.open("a")
        await queues.other.flush()
        await queues.assert_at_zero()


@over_kinds
async def test_after_relief_the_pool_goes_on(kind: Kind, trace: Trace) -> None:
    """W152; invariant 56: the rescuer takes no more than it must."""
    async with open_with(kind[1])(capacity=1) as supervisor:
        queues = Queues(supervisor, kind)
        trace.queue(queues.other, "a")
        await wait_all_tasks_blocked()
        trace.queue(queues.safe, "x y")
        trace.queue(queues.other, "b")
        await trio.sleep(SOON)
        trace.open("a", "y")
        await wait_all_tasks_blocked()
        trace.open("x")
        await trio.sleep(1)
        assert trace.starts == ["a", "x", "y", "b"]
        assert queues.counts == (1, 1)
        trace.open("b")
        await queues.other.flush()
        await queues.assert_at_zero()


@over_kinds
async def test_a_pool_that_gets_on_needs_no_rescuer(kind: Kind, trace: Trace) -> None:
    """W152. It is full all the time, but the queue's items begin every few milliseconds."""
    async with open_with(kind[1])(capacity=1) as supervisor:
        queues = Queues(supervisor, kind)
        for _ in range(20):
            queues.safe.queue_work(Work(trio.sleep, 0.008))
        await queues.safe.flush()
        assert queues.counts == (0, 0)
        await queues.assert_at_zero()


@over_kinds
async def test_the_call_is_repeated_only_while_it_can_help(kind: Kind, trace: Trace) -> None:
    """W153. A rescuer that is busy is called once more; then nothing is left to do but wait, and no timer runs."""
    async with open_with(kind[1])(capacity=1) as supervisor:
        queues = Queues(supervisor, kind)
        trace.queue(queues.other, "a")
        await wait_all_tasks_blocked()
        assert not has_timer(supervisor), "nothing waits"
        trace.queue(queues.safe, "x y")
        assert has_timer(supervisor)
        began = trio.current_time()
        await trio.sleep_until(began + 0.1 + RESCUED_AFTER - 0.001)
        assert queues.counts == (1, 1)
        await trio.sleep_until(began + 0.5)
        assert queues.counts == (2, 1)
        assert not has_timer(supervisor)
        trace.open("x")
        await wait_all_tasks_blocked()
        assert trace.starts == ["a", "x", "y"], "it has been called, and looks around when it is free"
        trace.open("a", "y")
        await queues.safe.flush()
        await queues.other.flush()
        assert not has_timer(supervisor)


@over_kinds
async def test_no_timer_runs_while_pools_have_places(kind: Kind, trace: Trace) -> None:
    """W156; invariant 57's twin: a clock that jumps sees nothing of a queue with a rescuer."""
    async with open_with(kind[1])() as supervisor:
        queues = Queues(supervisor, kind)
        trace.queue(queues.safe, "x y z")
        await wait_all_tasks_blocked()
        assert not has_timer(supervisor)
        trace.open(*"xyz")
        await queues.safe.flush()
        assert not has_timer(supervisor)
        assert queues.counts == (0, 0)


@over_kinds
async def test_a_burst_that_fills_the_pool_itself_is_noticed(kind: Kind, trace: Trace) -> None:
    """W152. They were queued while places were free: nobody found the pool full when they came."""
    async with open_with(kind[1])(capacity=2) as supervisor:
        queues = Queues(supervisor, kind)
        began = trio.current_time()
        trace.queue(queues.other, "a b")
        trace.queue(queues.safe, "x y")
        await trio.sleep_until(began + SOON)
        assert trace.starts == ["a", "b", "x"]
        trace.open(*"abxy")


@over_kinds
async def test_each_cpu_calls_and_the_one_rescuer_goes_round(kind: Kind, trace: Trace) -> None:
    """W153. A batch of 16 here, then there (kernel: RESCUER_BATCH)."""
    order: list[int] = []

    async def body() -> None:
        work = current_work()
        assert work is not None
        order.append(int(work.name))
        await trio.lowlevel.checkpoint()

    async with open_with(kind[1])(cpus=2, capacity=1) as supervisor:
        queues = Queues(supervisor, kind)
        for cpu in (0, 1):
            trace.queue(queues.other, f"a{cpu}", cpu=cpu)
        await wait_all_tasks_blocked()
        for cpu in (0, 1):
            for _ in range(20):
                queues.safe.queue_work_on(cpu, Work(body, name=str(cpu)))
        await queues.safe.flush()
        assert order in ([0] * 16 + [1] * 16 + [0] * 4 + [1] * 4, [1] * 16 + [0] * 16 + [1] * 4 + [0] * 4)
        assert [pwq.in_flight for pwq in queues.safe.statistics().pwqs] == [0, 0]
        assert queues.counts == (2, 40)
        trace.open("a0", "a1")
        await queues.other.flush()
        await queues.assert_at_zero()


@over_kinds
async def test_an_item_that_queues_inside_the_rescuer_stays_on_its_cpu(kind: Kind, trace: Trace) -> None:
    """W18, and the rescuer is a task with the kernel's name."""
    seen: list[str] = []

    async def body() -> None:
        seen.append(trio.lowlevel.current_task().name)
        if len(seen) < 3:
            work = current_work()
            assert work is not None
            queues.safe.queue_work(work)

    async with open_with(kind[1])(cpus=2, capacity=1) as supervisor:
        queues = Queues(supervisor, kind)
        trace.queue(queues.other, "a", cpu=1)
        await wait_all_tasks_blocked()
        queues.safe.queue_work_on(1, Work(body))
        await queues.safe.drain()
        assert seen == ["kworker/R-safe"] * 3
        trace.open("a")


@over_kinds
async def test_an_item_parked_in_the_rescuer_lends_its_place(kind: Kind, trace: Trace) -> None:
    """W154; P1, P2: and when it ends, the pool has no more places than before."""
    async with open_with(kind[1])(capacity=1) as supervisor:
        queues = Queues(supervisor, kind)
        trace.queue(queues.other, "a")
        await wait_all_tasks_blocked()
        queues.safe.queue_work(trace.parker("x"))
        await trio.sleep(SOON)
        assert trace.events == ["a starts", "x starts", "x parks"]
        trace.queue(queues.other, "b c")
        await wait_all_tasks_blocked()
        assert trace.starts == ["a", "x", "b"]
        trace.open("x")
        await wait_all_tasks_blocked()
        trace.open("a", "x back")
        await wait_all_tasks_blocked()
        assert trace.events[-2:] == ["a ends", "c starts"], "it stands behind c"
        trace.open("b")
        await wait_all_tasks_blocked()
        assert trace.events[-3:] == ["b ends", "x returns", "x ends"]
        trace.queue(queues.other, "d")
        await wait_all_tasks_blocked()
        assert (trace.starts[-1], queues.pool().occupied) == ("c", 1), "the rescuer has taken its place away"
        trace.open("c", "d")
        await queues.other.flush()
        await queues.assert_at_zero()


@over_kinds
async def test_who_wants_to_come_back_to_a_full_pool_is_rescued(kind: Kind, trace: Trace) -> None:
    """W152, W154: it is given the rescuer's place, for as long as its run lasts and no longer."""
    async with open_with(kind[1])(capacity=2) as supervisor:
        queues = Queues(supervisor, kind)
        queues.safe.queue_work(trace.parker("x"))
        await wait_all_tasks_blocked()
        trace.queue(queues.other, "a b c")
        await wait_all_tasks_blocked()
        trace.open("x")
        began = trio.current_time()
        await trio.sleep_until(began + 0.009)
        assert "x returns" not in trace.events
        await trio.sleep_until(began + SOON)
        assert trace.events[-1] == "x returns"
        assert queues.counts == (1, 1)
        assert (queues.pool().occupied, queues.capacity) == (3, 3)
        await trio.sleep(1)
        assert trace.starts == ["x", "a", "b"], "c has no rescuer"
        trace.queue(queues.safe, "y")
        await trio.sleep(1)
        assert "y" not in trace.starts, "there is one rescuer, and its place is taken"
        trace.open("x back")
        await trio.sleep(SOON)
        assert trace.events[-2:] == ["x ends", "y starts"]
        assert queues.counts[1] == 2
        trace.open(*"abcy")
        await queues.safe.flush()
        await queues.other.flush()
        await queues.assert_at_zero()
        assert queues.capacity == 2
        assert queues.safe.statistics().overshoot == 0


@over_kinds
async def test_an_item_that_waits_for_another_gets_its_result_through_a_full_pool(kind: Kind, trace: Trace) -> None:
    """W152: the wait has parked it, and what has its place waits for it in turn."""
    async with open_with(kind[1])(capacity=1) as supervisor:
        queues = Queues(supervisor, kind)
        second = supervisor.alloc_workqueue("second", queues.safe.flags)
        done = trio.Event()

        async def ask() -> None:
            trace.note(str(await second.run(len, "abc")))
            done.set()

        queues.safe.queue_work(Work(ask))
        queues.other.queue_work(Work(done.wait))
        await queues.safe.flush()
        assert trace.events == ["3"]
        await queues.other.flush()
        await queues.assert_at_zero()


@over_kinds
async def test_one_that_has_lent_the_rescuers_place_takes_it_back(kind: Kind, trace: Trace) -> None:
    """W154: else the rescuer would wait for an item that waits for a rescuer."""
    async with open_with(kind[1])(capacity=1) as supervisor:
        queues = Queues(supervisor, kind)
        for how in ("begun by the rescuer", "brought back by it"):
            first = trace.queue(queues.other, "a")["a"] if how == "begun by the rescuer" else None
            await wait_all_tasks_blocked()
            queues.safe.queue_work(trace.parker("x"))
            await trio.sleep(SOON)
            assert trace.events[-1] == "x parks"
            trace.queue(queues.other, "b")
            await wait_all_tasks_blocked()
            assert trace.starts[-1] == "b", "lent, or free"
            trace.open("x")
            await trio.sleep(0.1 + SOON)  # there may have been a mayday just now, for its start
            assert trace.events[-1] == "x returns"
            if first is not None:
                assert queues.safe.statistics().overshoot == 1
                assert queues.pool().occupied == 3
            trace.open("x back", "a", "b")
            await queues.safe.flush()
            await queues.other.flush()
            await queues.assert_at_zero()
            assert queues.capacity == 1
            for gate in ("x", "x back", "a", "b"):
                trace.shut(gate)
        trace.open(*"ab")


@over_kinds
@pytest.mark.parametrize("end", ["raise", "interrupt", "cancel"])
async def test_a_place_lent_to_one_that_comes_back_is_taken_away_however_it_ends(kind: Kind, end: str) -> None:
    """W154, and the rescuer goes on."""
    errors = Errors()
    async with open_with(kind[1])(capacity=1) as supervisor:
        queues = Queues(supervisor, kind, on_error=errors)
        gates = [trio.Event() for _ in range(3)]
        ran: list[str] = []

        async def park_and_fail() -> None:
            async with parked():
                await gates[0].wait()
            ran.append("back")
            await gates[1].wait()
            raise KeyError("on purpose")

        work = Work(park_and_fail)
        queues.safe.queue_work(work)
        await wait_all_tasks_blocked()
        queues.other.queue_work(Work(gates[2].wait))
        await wait_all_tasks_blocked()
        gates[0].set()
        await trio.sleep(SOON)
        assert (ran, queues.capacity) == (["back"], 2)
        if end == "raise":
            gates[1].set()
        elif end == "interrupt":
            work.interrupt()
        else:
            await work.cancel_sync(interrupt=True)
        await wait_all_tasks_blocked()
        assert queues.capacity == 1
        assert len(errors.seen) == (end == "raise")
        queues.safe.queue_work(Work(ran.append, "next"))
        await trio.sleep(SOON)
        assert ran == ["back", "next"]
        gates[2].set()
        await queues.other.flush()
        await queues.assert_at_zero()


@over_kinds
@pytest.mark.parametrize("end", ["raise", "interrupt", "cancel"])
async def test_a_rescuer_outlives_what_becomes_of_its_items(kind: Kind, end: str, trace: Trace) -> None:
    """W106; invariant 59."""
    errors = Errors()

    async def body() -> None:
        trace.note("body starts")
        if end == "raise":
            raise ValueError("of the item")
        await trio.sleep_forever()

    async with open_with(kind[1])(capacity=1) as supervisor:
        queues = Queues(supervisor, kind, on_error=errors)
        trace.queue(queues.other, "a")
        await wait_all_tasks_blocked()
        work = Work(body, on_discard=trace.discarder("body"))
        queues.safe.queue_work(work)
        if end == "cancel":
            await trio.sleep(0.005)
            assert work.cancel()
            assert trace.discarded == ["body"]
        await trio.sleep(SOON)
        await work.cancel_sync(interrupt=True)
        assert len(errors.seen) == (1 if end == "raise" else 0)
        assert queues.counts == ((0, 0) if end == "cancel" else (1, 1))
        trace.queue(queues.safe, "y")
        await trio.sleep(SOON)
        assert trace.starts[-1] == "y"
        trace.open("a", "y")
        await queues.other.flush()
        await queues.safe.flush()
        await queues.assert_at_zero()


async def test_a_rescued_item_does_not_count_in_nr_running(autojump_clock: MockClock, trace: Trace) -> None:
    """W154; invariant 26; nor is it marked if it burns CPU, and its worker does not count afterwards."""
    stop = False

    async def spin() -> None:
        autojump_clock.jump(0.02)
        while not stop:
            await trio.lowlevel.checkpoint()

    async with open_with("trampoline")(capacity=2) as supervisor:
        queues = Queues(supervisor, KINDS[1])
        trace.queue(queues.other, "a b c")
        await wait_all_tasks_blocked()
        queues.safe.queue_work(Work(spin))
        await trio.sleep(SOON)
        assert queues.counts == (1, 1)
        assert (queues.pool().nr_running, queues.safe.statistics().cpu_intensive) == (0, 0)
        trace.open("a")
        for _ in range(10):
            await trio.lowlevel.checkpoint()
        assert trace.starts == ["a", "b", "c"]
        stop = True
        trace.open("b", "c")
        await queues.other.flush()
        await queues.safe.flush()
        await queues.assert_at_zero()


async def test_a_bound_pool_whose_item_runs_needs_no_rescuer(trace: Trace, autojump_clock: MockClock) -> None:
    """W155; invariant 22: what waits there waits for concurrency management, not for a place."""
    stop = False

    async def spin() -> None:
        while not stop:
            autojump_clock.jump(0.001)
            await trio.lowlevel.checkpoint()
        await trace.gate("spin").wait()

    async with open_with("trampoline")(capacity=1) as supervisor:
        queues = Queues(supervisor, KINDS[1])
        queues.other.queue_work(Work(spin))
        for _ in range(10):
            await trio.lowlevel.checkpoint()
        assert queues.pool().nr_running == 1
        trace.queue(queues.safe, "x")
        for _ in range(50):
            await trio.lowlevel.checkpoint()
        assert queues.counts == (0, 0)
        stop = True
        await trio.sleep(SOON)
        assert (trace.starts, queues.counts) == (["x"], (1, 1))
        trace.open("spin", "x")


async def test_the_rescuer_stops_when_an_item_of_the_bound_pool_runs_again(trace: Trace) -> None:
    """W155; invariant 22, 56: between two items of a batch."""
    stop = False

    async def wake_and_spin() -> None:
        await trace.gate("wake").wait()
        while not stop:
            await trio.lowlevel.checkpoint()

    async with open_with("trampoline")(capacity=1) as supervisor:
        queues = Queues(supervisor, KINDS[1])
        queues.other.queue_work(Work(wake_and_spin))
        await wait_all_tasks_blocked()
        trace.queue(queues.safe, "x y")
        await trio.sleep(SOON)
        trace.open("wake", "y")
        for _ in range(10):
            await trio.lowlevel.checkpoint()
        trace.open("x")
        for _ in range(10):
            await trio.lowlevel.checkpoint()
        assert trace.events == ["x starts", "x ends"]
        stop = True
        await queues.safe.flush()
        assert queues.counts == (1, 1)
        await queues.assert_at_zero()


@over_kinds
async def test_the_timer_stops_when_nothing_waits_any_more(kind: Kind, trace: Trace) -> None:
    """W156. Or a clock that jumps would, for nothing."""
    async with open_with(kind[1])(capacity=1) as supervisor:
        queues = Queues(supervisor, kind)
        trace.queue(queues.other, "a")
        await wait_all_tasks_blocked()
        trace.queue(queues.safe, "x")
        assert has_timer(supervisor)
        trace.open("a", "x")
        await wait_all_tasks_blocked()
        assert trace.ends == ["a", "x"]
        assert not has_timer(supervisor)


@over_kinds
async def test_high_and_intensive_queues_may_have_rescuers_too(kind: Kind, trace: Trace) -> None:
    async with open_with(kind[1])(capacity=1) as supervisor:
        flags = (WQ_UNBOUND if kind[0] else WQ_CPU_INTENSIVE) | WQ_HIGHPRI | WQ_MEM_RECLAIM
        wq = supervisor.alloc_workqueue("all", flags)
        trace.queue(wq, "x y")
        await trio.sleep(SOON)
        assert trace.starts == ["x", "y"]
        assert wq.statistics().rescued == 1
        trace.open("x", "y")
        await wq.flush()
        await assert_at_zero(supervisor, wq)


def rescuers(supervisor: Supervisor) -> set[str]:
    nursery = supervisor._nursery
    assert nursery is not None
    return {task.name for task in nursery.child_tasks if task.name.startswith("kworker/R-")}


@over_kinds
async def test_destroy_ends_the_rescuer(kind: Kind, trace: Trace) -> None:
    """W87, W156; invariant 52: no task is left, and other queues of the pool have theirs."""
    async with open_with(kind[1])(capacity=1) as supervisor:
        queues = Queues(supervisor, kind)
        flags = queues.other.flags | WQ_MEM_RECLAIM
        second = supervisor.alloc_workqueue("second", flags)

        await wait_all_tasks_blocked()
        assert rescuers(supervisor) == {"kworker/R-safe", "kworker/R-second"}
        trace.queue(queues.other, "a")
        await wait_all_tasks_blocked()
        trace.queue(queues.safe, "x")
        trace.open("x")
        await queues.safe.destroy()
        await wait_all_tasks_blocked()
        assert rescuers(supervisor) == {"kworker/R-second"}
        with pytest.raises(DestroyedError):
            queues.safe.queue_work(trace.holder("late"))
        await queues.safe.destroy()
        trace.queue(second, "y")
        await trio.sleep(SOON)
        assert trace.starts == ["a", "x", "y"]
        trace.open("a", "y")


@over_kinds
async def test_an_allocation_that_fails_leaves_no_rescuer(kind: Kind) -> None:
    """W1."""
    async with open_with(kind[1])() as supervisor:
        flags = kind[0] | WQ_MEM_RECLAIM
        with pytest.raises(TypeError, match="a rate is a Rate"):
            supervisor.alloc_workqueue("fast", flags, rate=10)  # type: ignore[arg-type]  # pyright: ignore
        with pytest.raises(ValueError, match="max_pending"):
            supervisor.alloc_workqueue("negative", flags, max_pending=-1)
        with pytest.raises(TypeError, match="a rate is a Rate"):
            supervisor.alloc_ordered_workqueue("ordered", WQ_MEM_RECLAIM, rate=10)  # type: ignore[arg-type]  # pyright: ignore
        await wait_all_tasks_blocked()
        assert rescuers(supervisor) == set()
        assert supervisor.all_workqueues == ()
        safe = supervisor.alloc_workqueue("safe", flags, rate=Rate(1))
        await wait_all_tasks_blocked()
        assert rescuers(supervisor) == {"kworker/R-safe"}
        await safe.destroy()


@over_kinds
async def test_cancelling_the_supervisor_ends_rescuers_at_work(kind: Kind, trace: Trace) -> None:
    """W156; invariant 60: what they run is cancelled, what waits for them is discarded."""
    with trio.CancelScope() as scope:
        async with open_with(kind[1])(capacity=1) as supervisor:
            queues = Queues(supervisor, kind)
            trace.queue(queues.other, "a")
            await wait_all_tasks_blocked()
            trace.queue(queues.safe, "x y z")
            await trio.sleep(SOON)
            assert trace.starts == ["a", "x"]
            scope.cancel()
    assert scope.cancelled_caught
    assert sorted(trace.discarded) == ["y", "z"]
    assert (queues.safe.in_flight, queues.other.in_flight) == (0, 0)


@over_kinds
async def test_leaving_the_supervisor_rescues_first(kind: Kind, trace: Trace) -> None:
    """W3: a drain that would wait for ever without."""
    async with open_with(kind[1])(capacity=1) as supervisor:
        queues = Queues(supervisor, kind)
        queues.other.queue_work(Work(trace.hold, "a"))
        await wait_all_tasks_blocked()
        queues.safe.queue_work(Work(trace.open, "a"))
    assert trace.ends == ["a"]
    assert queues.counts == (1, 1)


@over_kinds
async def test_waiting_for_a_queue_without_rescuer_is_logged_once_for_each_pair(
    kind: Kind, caplog: pytest.LogCaptureFixture
) -> None:
    """W157. cmwq 2.11.3, kernel: check_flush_dependency; not for cancel, and not the other way round."""
    async with open_with(kind[1])() as supervisor:
        queues = Queues(supervisor, kind)
        third = supervisor.alloc_workqueue("third", WQ_UNBOUND)
        fourth = supervisor.alloc_workqueue("fourth", WQ_UNBOUND | WQ_MEM_RECLAIM)

        async def wait_for(wq: Workqueue) -> None:
            await wq.flush()
            await wq.run(int)
            work = Work(trio.sleep, 1)
            wq.queue_work(work)
            await work.flush()
            wq.queue_work(work)
            await work.cancel_sync()
            await wq.drain()

        with caplog.at_level(logging.WARNING, "ktrio.workqueue"):
            await queues.other.run(wait_for, queues.safe)
            await queues.safe.run(wait_for, fourth)
            await wait_for(queues.other)
            assert caplog.records == []
            for _ in range(2):
                await queues.safe.run(wait_for, queues.other)
                await queues.safe.run(wait_for, third)
        assert len(caplog.records) == 2
        for record, name in zip(caplog.records, ("'other'", "'third'"), strict=True):
            assert record.name == "ktrio.workqueue"
            for word in ("wait_for", "'safe'", name):
                assert word in record.getMessage()


@over_kinds
@pytest.mark.parametrize("seed", range(8))
async def test_books_return_to_zero_whatever_the_rescuer_is_given(kind: Kind, seed: int) -> None:
    """Invariants 3, 21, 26 and 56: random items on full pools, cut short and queued again; everything ends.

    W152, W162.
    """
    rng = random.Random(seed)
    errors = Errors()
    ran = discarded = queued = 0
    works: list[Work] = []

    async def body(steps: list[str]) -> None:
        nonlocal ran
        ran += 1
        for step in steps:
            if step == "yield":
                await trio.lowlevel.checkpoint()
            elif step == "park":
                async with parked():
                    await trio.sleep(0.02)
            elif step == "raise":
                raise ValueError("of the item")
            elif step == "again" and ran < 300:
                queue(current_work())
            elif step == "again":
                continue
            else:
                await trio.sleep(float(step))

    def discard() -> None:
        nonlocal discarded
        discarded += 1

    def queue(work: Work | None) -> None:
        nonlocal queued
        wq = rng.choice((queues.safe, queues.other))
        if work is None:
            choice = ["yield", "0.005", "0.3", "park", "raise", "again"]
            steps = rng.choices(choice, [3, 2, 1.5, 1, 0.3, 0.2], k=rng.randrange(6))
            work = Work(body, steps, on_discard=discard)
            works.append(work)
        elif work._worker is not None:
            wq = work._worker.pwq.wq
        queued += wq.queue_work(work, parked=rng.random() < 0.1)

    async with open_with(kind[1])(2, capacity=2, idle_timeout=1.0) as supervisor:
        queues = Queues(supervisor, kind, max_active=5, on_error=errors)
        for _ in range(100):
            queue(None)
            if rng.random() < 0.3:
                await trio.sleep(rng.choice((0, 0.004, 0.03)))
            if rng.random() < 0.2:
                rng.choice((Work.cancel, partial(Work.interrupt)))(rng.choice(works))
        while queues.safe.in_flight or queues.other.in_flight:
            await queues.safe.flush()
            await queues.other.flush()
        await queues.assert_at_zero()
        assert ran + discarded == queued
        assert queues.safe.statistics().rescued > 0
        assert {pool.capacity for pool in supervisor.pools} == {2}
        assert all(type(error) is ValueError for error in errors.errors)
        assert not has_timer(supervisor)


@over_kinds
async def test_items_of_every_class_are_rescued(kind: Kind, autojump_clock: MockClock) -> None:
    """W152. A delayed item and a periodic one wait in the worklist like any other."""
    async with open_with(kind[1])(capacity=1) as supervisor:
        queues = Queues(supervisor, kind)
        queues.other.queue_work(Work(trio.sleep, 100))
        await trio.sleep(0.5)
        delayed, periodic = DelayedWork(trio.sleep, 0), PeriodicWork(trio.sleep, 0)
        queues.safe.queue_delayed_work(delayed, 0.5)
        queues.safe.queue_periodic_work(periodic, 1.0)
        await trio.sleep(1.2)
        assert (delayed.statistics().runs, periodic.statistics().runs) == (1, 1)
        assert queues.safe.statistics().rescued == 2
        await periodic.cancel_sync()
