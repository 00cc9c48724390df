"""`WQ_MEM_RECLAIM`, by the specification: exact times of the call for help, and what makes it needless in between."""

from collections.abc import Callable

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from ktrio.workqueue import (
    WQ_HIGHPRI,
    WQ_MEM_RECLAIM,
    DelayedWork,
    Rate,
    Supervisor,
    Work,
    Workqueue,
    WorkqueueFlags,
    current_work,
)
from tests.workqueue.conftest import KIND_NAMES, KINDS, Errors, Kind, Trace, assert_at_zero, open_with

over_kinds = pytest.mark.parametrize("kind", KINDS, ids=KIND_NAMES)

Act = Callable[[Supervisor, Workqueue, DelayedWork[None]], object]


async def at_capacity(
    trace: Trace, supervisor: Supervisor, kind: Kind, max_active: int = 0, rate: Rate | None = None
) -> Workqueue:
    """A queue with a rescuer on a pool whose only place "blocker" has."""
    trace.queue(supervisor.alloc_workqueue("blocker", kind[0]), "blocker")
    await wait_all_tasks_blocked()
    flags = WorkqueueFlags(kind[0]) | WQ_MEM_RECLAIM
    return supervisor.alloc_workqueue("safe", flags, max_active, rate=rate)


def cancel(_: Supervisor, __: Workqueue, item: DelayedWork[None]) -> None:
    item.cancel()


def disable(_: Supervisor, __: Workqueue, item: DelayedWork[None]) -> None:
    item.disable()


def mod(_: Supervisor, wq: Workqueue, item: DelayedWork[None]) -> None:
    wq.mod_delayed_work(item, 100)


def raise_capacity(supervisor: Supervisor, _: Workqueue, __: DelayedWork[None]) -> None:
    supervisor.set_capacity(2)


@over_kinds
@pytest.mark.parametrize("act", [cancel, disable, mod, raise_capacity])
async def test_what_needs_no_help_any_more_before_ten_milliseconds_calls_nobody(
    kind: Kind, act: Act, trace: Trace
) -> None:
    async with open_with(kind[1])(capacity=1) as supervisor:
        wq = await at_capacity(trace, supervisor, kind)
        item = DelayedWork(trace.note, "ran")
        wq.queue_work(item)
        await trio.sleep(0.009)
        act(supervisor, wq, item)
        await trio.sleep(0.5)
        assert (wq.statistics().mayday, wq.statistics().rescued) == (0, 0)
        trace.open("blocker")
        await item.cancel_sync()
        await assert_at_zero(supervisor, wq)


@over_kinds
async def test_the_rescuer_starts_at_ten_milliseconds_and_not_before(kind: Kind, trace: Trace) -> None:
    """Invariant 56, to the millisecond; and `rescued` counts what it ran."""
    async with open_with(kind[1])(capacity=1) as supervisor:
        wq = await at_capacity(trace, supervisor, kind)
        trace.open("a", "b")
        trace.queue(wq, "a b")
        await trio.sleep(0.0095)
        assert trace.starts == ["blocker"]
        await trio.sleep(0.001)
        assert trace.ends == ["a", "b"]
        assert (wq.statistics().mayday, wq.statistics().rescued) == (1, 2)
        trace.open("blocker")


@over_kinds
async def test_items_without_a_slot_or_a_token_are_rescued_in_their_turn_only(kind: Kind, trace: Trace) -> None:
    """Inactive ones do not wait for a place: limits of the queue hold in the rescuer too (invariant 10)."""
    async with open_with(kind[1])(capacity=1) as supervisor:
        wq = await at_capacity(trace, supervisor, kind, max_active=1, rate=Rate(1))
        trace.queue(wq, "a b")
        await trio.sleep(0.5)
        assert trace.starts == ["blocker", "a"]
        assert wq.statistics().inactive == 1
        trace.open("a", "b")
        await trio.sleep(0.25)
        assert trace.starts == ["blocker", "a"]  # no token before 1 s
        await trio.sleep(0.5)
        assert trace.starts == ["blocker", "a", "b"]
        assert wq.statistics().rescued == 2
        trace.open("blocker")


@over_kinds
async def test_in_the_rescuer_an_item_is_interrupted_fails_and_calls_others_as_anywhere(
    kind: Kind, trace: Trace
) -> None:
    """W92, W106, W110, W122."""
    errors = Errors()
    async with open_with(kind[1])(capacity=1) as supervisor:
        trace.queue(supervisor.alloc_workqueue("blocker", kind[0]), "blocker")
        await wait_all_tasks_blocked()
        wq = supervisor.alloc_workqueue("safe", WorkqueueFlags(kind[0]) | WQ_MEM_RECLAIM, 0, errors)
        stuck = trace.queue(wq, "stuck")["stuck"]
        wq.queue_work(Work(int, "x"))
        seen: list[bool] = []

        async def call() -> None:
            seen.append(current_work() is caller)
            seen.append(await wq.run(pow, 2, 3) == 8)

        caller = Work(call)
        wq.queue_work(caller)
        await trio.sleep(0.1)
        assert stuck.interrupt() is True
        await caller.flush()
        assert seen == [True, True]
        assert [type(error) for error in errors.errors] == [ValueError]
        trace.open("blocker")
        await wq.flush()
        await assert_at_zero(supervisor, wq)


@over_kinds
async def test_ordered_items_keep_their_order_in_the_rescuer_and_out_of_it(kind: Kind, trace: Trace) -> None:
    """Invariant 16, over the moment in which the pool gets on again."""
    del kind  # ordered queues are unbound
    async with open_with("trampoline")(2, capacity=1) as supervisor:
        wq = supervisor.alloc_ordered_workqueue("ordered", WQ_MEM_RECLAIM)
        blocker = supervisor.alloc_workqueue("blocker", WorkqueueFlags.WQ_UNBOUND)
        for cpu, name in enumerate(("b0", "b1")):
            blocker.queue_work_on(cpu, trace.holder(name))
        await wait_all_tasks_blocked()
        trace.queue(wq, "a b c d")
        await trio.sleep(0.1)
        assert trace.starts[2:] == ["a"]
        trace.open("a")
        await trio.sleep(0.1)
        assert trace.starts[2:] == ["a", "b"]
        trace.open("b0", "b1", "c", "d")
        await trio.sleep(0.1)
        assert trace.starts[2:] == ["a", "b"]  # one at a time, wherever it runs
        trace.open("b")
        await wq.flush()
        assert trace.starts[2:] == ["a", "b", "c", "d"]
        await assert_at_zero(supervisor, wq, blocker)


@over_kinds
async def test_a_rescuer_helps_its_own_queue_only(kind: Kind, trace: Trace) -> None:
    """Two queues with rescuers and one without, at one full pool: each has its own, and the last waits."""
    async with open_with(kind[1])(capacity=1) as supervisor:
        one = await at_capacity(trace, supervisor, kind)
        two = supervisor.alloc_workqueue("two", WorkqueueFlags(kind[0]) | WQ_MEM_RECLAIM)
        without = supervisor.alloc_workqueue("without", kind[0])
        high = supervisor.alloc_workqueue("high", WorkqueueFlags(kind[0]) | WQ_MEM_RECLAIM | WQ_HIGHPRI)
        trace.queue(without, "w")
        trace.queue(one, "a")
        trace.queue(two, "b")
        trace.open("h")
        trace.queue(high, "h")
        await wait_all_tasks_blocked()
        assert trace.starts == ["blocker", "h"]  # its pool is another
        await trio.sleep(1)
        assert sorted(trace.starts[2:]) == ["a", "b"]
        assert [wq.statistics().rescued for wq in (one, two, high)] == [1, 1, 0]
        trace.open("blocker", "a", "b", "w")
        await without.flush()
        await assert_at_zero(supervisor)


@over_kinds
async def test_destroyed_while_its_rescuer_runs_an_item_it_waits_for_that(kind: Kind, trace: Trace) -> None:
    """W87, W156; and the name is free for a queue with a rescuer of its own."""
    async with open_with(kind[1])(capacity=1) as supervisor:
        wq = await at_capacity(trace, supervisor, kind)
        trace.queue(wq, "a")
        await trio.sleep(0.1)
        begin = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wq.destroy)
            await trio.sleep(1)
            trace.open("a")
        assert trio.current_time() == begin + 1
        again = supervisor.alloc_workqueue("safe", WorkqueueFlags(kind[0]) | WQ_MEM_RECLAIM)
        trace.open("b")
        trace.queue(again, "b")
        await again.flush()
        assert trace.ends == ["a", "b"]
        assert again.statistics().rescued == 1
        trace.open("blocker")
