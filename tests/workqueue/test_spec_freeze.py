"""Freezing, by the specification: how it meets waiters, withdrawals, limits, rescuers and itself."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from ktrio.workqueue import (
    WQ_FREEZABLE,
    WQ_MEM_RECLAIM,
    WQ_UNBOUND,
    Supervisor,
    SupervisorClosedError,
    Work,
    Workqueue,
    WorkqueueFlags,
    open_supervisor,
    parked,
)
from tests.workqueue.conftest import KIND_NAMES, KINDS, Kind, Trace, assert_at_zero, open_with

over_kinds = pytest.mark.parametrize("kind", KINDS, ids=KIND_NAMES)


def freezable(supervisor: Supervisor, kind: Kind, max_active: int = 0, name: str = "cold") -> Workqueue:
    return supervisor.alloc_workqueue(name, WorkqueueFlags(kind[0]) | WQ_FREEZABLE, max_active)


@over_kinds
async def test_everything_that_withdraws_works_while_frozen_and_nobody_starts_by_it(kind: Kind, trace: Trace) -> None:
    """Invariants 19, 46, 47, 49 and 55: each slot-less item goes, none of those behind it begins."""
    async with open_with(kind[1])() as supervisor:
        wq = freezable(supervisor, kind, max_active=1)
        assert await supervisor.freeze()
        works = trace.queue(wq, "a b c d e")
        assert works["a"].cancel() is True
        assert await works["b"].cancel_sync() is True
        assert works["c"].disable() is True
        assert await works["d"].disable_sync() is True
        assert (wq.statistics().inactive, wq.statistics().nr_active) == (1, 0)
        await wait_all_tasks_blocked()
        assert trace.starts == []
        trace.open("e")
        supervisor.thaw()
        await wq.flush()
        assert (trace.starts, trace.discarded) == (["e"], ["a", "b", "c", "d"])


@over_kinds
async def test_a_run_cancelled_while_frozen_withdraws_its_item(kind: Kind) -> None:
    """W111."""
    async with open_with(kind[1])() as supervisor:
        wq = freezable(supervisor, kind)
        assert await supervisor.freeze()
        with trio.move_on_after(1) as scope:
            await wq.run(int)
        assert scope.cancelled_caught
        assert wq.in_flight == 0
        with trio.move_on_after(1) as scope:
            await wq.schedule_on_each_cpu(int)
        assert scope.cancelled_caught
        supervisor.thaw()
        assert await wq.run(int) == 0
        await assert_at_zero(supervisor, wq)


@over_kinds
async def test_limits_raised_and_lowered_while_frozen_hold_after_the_thaw(kind: Kind, trace: Trace) -> None:
    """Invariant 55, for `max_active` in both directions and for capacity."""
    async with open_with(kind[1])(capacity=1) as supervisor:
        wq = freezable(supervisor, kind, max_active=1)
        assert await supervisor.freeze()
        trace.queue(wq, "a b c d e")
        wq.set_max_active(4)
        supervisor.set_capacity(5)
        wq.set_max_active(3)
        await wait_all_tasks_blocked()
        assert trace.starts == []
        assert wq.statistics().nr_active == 0
        supervisor.thaw()
        assert wq.statistics().nr_active == 3
        await wait_all_tasks_blocked()
        assert trace.starts == ["a", "b", "c"]
        trace.open(*"abcde")


@over_kinds
async def test_frozen_items_call_no_rescuer(kind: Kind, trace: Trace) -> None:
    """Invariant 56: they do not wait for a place but for the thaw; afterwards they are rescued as ever."""
    async with open_with(kind[1])(capacity=1) as supervisor:
        blocker = supervisor.alloc_workqueue("blocker", kind[0])
        safe = supervisor.alloc_workqueue("safe", WorkqueueFlags(kind[0]) | WQ_FREEZABLE | WQ_MEM_RECLAIM)
        trace.queue(blocker, "blocker")
        await wait_all_tasks_blocked()
        assert await supervisor.freeze()
        trace.queue(safe, "a b")
        trace.open("a", "b")
        await trio.sleep(1)
        assert (safe.statistics().mayday, safe.statistics().rescued, trace.starts) == (0, 0, ["blocker"])
        begin = trio.current_time()
        supervisor.thaw()
        await safe.flush()
        assert safe.statistics().rescued == 2
        assert 0.009 < trio.current_time() - begin < 0.03
        trace.open("blocker")


@over_kinds
async def test_a_freeze_waits_for_what_the_rescuer_runs(kind: Kind, trace: Trace) -> None:
    async with open_with(kind[1])(capacity=1) as supervisor:
        blocker = supervisor.alloc_workqueue("blocker", kind[0])
        safe = supervisor.alloc_workqueue("safe", WorkqueueFlags(kind[0]) | WQ_FREEZABLE | WQ_MEM_RECLAIM)
        trace.queue(blocker, "blocker")
        await wait_all_tasks_blocked()
        trace.queue(safe, "a")
        await trio.sleep(0.1)
        assert trace.starts == ["blocker", "a"]
        with trio.move_on_after(1) as scope:
            await supervisor.freeze()
        assert scope.cancelled_caught
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervisor.freeze)
            await wait_all_tasks_blocked()
            trace.queue(safe, "b")
            trace.open("a", "b")
        await trio.sleep(1)
        assert trace.starts == ["blocker", "a"]
        supervisor.thaw()
        trace.open("blocker")


@over_kinds
async def test_thawed_and_frozen_again_in_one_stretch_what_had_no_slot_may_have_one_and_no_more(
    kind: Kind, trace: Trace
) -> None:
    """Frozen means: what had no slot at the last `freeze` does not begin. The thaw between gives out slots in order."""
    async with open_with(kind[1])() as supervisor:
        wq = freezable(supervisor, kind, max_active=1)
        assert await supervisor.freeze()
        trace.queue(wq, "a b c")
        async with trio.open_nursery() as nursery:
            supervisor.thaw()
            nursery.start_soon(supervisor.freeze)
            await wait_all_tasks_blocked()
            assert trace.starts == ["a"]
            trace.open("a", "b", "c")
        assert supervisor.statistics().frozen
        await trio.sleep(1)
        assert trace.starts == ["a"]
        supervisor.thaw()
        await wq.flush()
        assert trace.starts == ["a", "b", "c"]


@over_kinds
async def test_two_who_freeze_and_both_give_up_leave_nothing_frozen(kind: Kind, trace: Trace) -> None:
    """The first to give up leaves the other its freeze; the last one thaws."""
    async with open_with(kind[1])() as supervisor:
        wq = freezable(supervisor, kind)
        trace.queue(wq, "holder")
        await wait_all_tasks_blocked()

        async def try_it(seconds: float) -> None:
            with trio.move_on_after(seconds):
                await supervisor.freeze()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(try_it, 1)
            nursery.start_soon(try_it, 2)
            await trio.sleep(1.5)
            trace.queue(wq, "a")
            await wait_all_tasks_blocked()
            assert supervisor.statistics().frozen
            assert trace.starts == ["holder"]
        assert not supervisor.statistics().frozen
        await wait_all_tasks_blocked()
        assert trace.starts == ["holder", "a"]
        trace.open("holder", "a")


@over_kinds
async def test_every_freeze_that_waits_gets_its_answer_from_one_end(kind: Kind, trace: Trace) -> None:
    """True to all if nothing is busy any more, False to all if somebody thaws first."""
    for thawed in (False, True):
        async with open_with(kind[1])() as supervisor:
            wq = freezable(supervisor, kind)
            trace.shut("holder")
            trace.queue(wq, "holder")
            await wait_all_tasks_blocked()
            answers: list[bool] = []

            async def freeze() -> None:
                answers.append(await supervisor.freeze())  # noqa: B023

            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(freeze)
                await wait_all_tasks_blocked()
                if thawed:
                    supervisor.thaw()
                else:
                    trace.open("holder")
            assert answers == [not thawed] * 3
            assert supervisor.statistics().frozen is not thawed
            trace.open("holder")


@over_kinds
async def test_a_parked_item_queued_again_comes_back_and_runs_again_in_its_turn(kind: Kind, trace: Trace) -> None:
    """P2, P6 and invariant 55 together, with one slot and one behind it."""
    async with open_with(kind[1])() as supervisor:
        wq = freezable(supervisor, kind, max_active=1)
        parker = trace.parker("p")
        wq.queue_work(parker)
        await wait_all_tasks_blocked()
        assert await supervisor.freeze()
        trace.open("p", "p back", "x")
        trace.queue(wq, "x")
        assert wq.queue_work(parker) is True
        await trio.sleep(1)
        assert trace.events == ["p starts", "p parks"]
        supervisor.thaw()
        await wq.flush()
        assert trace.events.count("p ends") == 2
        assert trace.ends.index("p") < len(trace.ends) - 1
        await assert_at_zero(supervisor, wq)


@over_kinds
async def test_an_item_outside_that_waits_for_a_frozen_one_makes_no_freeze_wait(kind: Kind, trace: Trace) -> None:
    """Only freezable queues count; `run` on a frozen queue ends after the thaw."""
    async with open_with(kind[1])() as supervisor:
        cold, warm = freezable(supervisor, kind), supervisor.alloc_workqueue("warm", kind[0])

        async def call() -> None:
            trace.note(str(await cold.run(pow, 2, 3)))

        assert await supervisor.freeze()
        warm.queue_work(Work(call))
        await wait_all_tasks_blocked()
        assert await supervisor.freeze()
        assert trace.events == []
        supervisor.thaw()
        await warm.flush()
        assert trace.events == ["8"]


@over_kinds
async def test_an_insisting_return_is_not_p4_and_its_answer_is_in_the_books(kind: Kind, trace: Trace) -> None:
    """P9 "comes back without standing in line, as with an exception in flight": while frozen it ends, one way or
    the other, and the books come to zero."""
    async with open_with(kind[1])() as supervisor:
        wq = freezable(supervisor, kind)

        async def park() -> None:
            async with parked(insist=True):
                await trace.gate("door").wait()
            trace.note("back")

        wq.queue_work(Work(park))
        await wait_all_tasks_blocked()
        assert await supervisor.freeze()
        trace.open("door")
        await wait_all_tasks_blocked()
        supervisor.thaw()
        await wq.flush()
        assert trace.events == ["back"]
        await assert_at_zero(supervisor, wq)


async def test_freezing_what_was_left_is_an_error_and_thawing_it_harmless() -> None:
    async with open_supervisor() as supervisor:
        pass
    with pytest.raises(SupervisorClosedError):
        await supervisor.freeze()
    supervisor.thaw()
    assert not supervisor.statistics().frozen


async def test_a_supervisor_without_freezable_queues_freezes_at_once_and_the_first_one_is_frozen(trace: Trace) -> None:
    async with open_supervisor() as supervisor:
        supervisor.thaw()
        assert await supervisor.freeze() is True
        warm = supervisor.alloc_workqueue("warm", WQ_UNBOUND)
        cold = supervisor.alloc_ordered_workqueue("cold", WQ_FREEZABLE)
        trace.open("w", "c")
        trace.queue(warm, "w")
        trace.queue(cold, "c")
        await wait_all_tasks_blocked()
        assert trace.starts == ["w"]
        assert (warm.statistics().frozen, cold.statistics().frozen) == (False, True)
        supervisor.thaw()


async def test_an_item_discarded_while_frozen_may_queue_and_thaw_from_its_callback(trace: Trace) -> None:
    async with open_supervisor() as supervisor:
        wq = supervisor.alloc_workqueue("cold", WQ_UNBOUND | WQ_FREEZABLE)
        assert await supervisor.freeze()

        def discarded() -> None:
            supervisor.thaw()
            trace.queue(wq, "x")

        trace.open("x")
        item = Work(int, on_discard=discarded)
        wq.queue_work(item)
        assert item.cancel() is True
        await wq.flush()
        assert trace.starts == ["x"]
