"""Keyed lanes, by the specification: what a key is, and how a lane meets the other features."""

import math

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from ktrio.workqueue import (
    WQ_FREEZABLE,
    WQ_UNBOUND,
    DeadlockError,
    DelayedWork,
    DrainingError,
    PeriodicWork,
    Rate,
    Work,
    WorkqueueFlags,
    open_supervisor,
)
from tests.workqueue.conftest import KIND_NAMES, KINDS, Errors, Kind, Trace, alloc, assert_at_zero, open_with

over_kinds = pytest.mark.parametrize("kind", KINDS, ids=KIND_NAMES)


async def test_keys_are_those_of_a_dict(trace: Trace) -> None:
    """Equal keys are one lane, whatever their types; None, NaN and an empty tuple are keys; a list is a TypeError."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        for name, key in (("a", 1), ("b", True), ("c", 1.0)):
            wq.lane(key).queue_work(trace.holder(name))
        for name, other in (("d", None), ("e", ()), ("f", ""), ("g", math.nan)):
            wq.lane(other).queue_work(trace.holder(name))
        await wait_all_tasks_blocked()
        assert trace.starts == ["a", "d", "e", "f", "g"]
        assert wq.statistics().laned == 2
        assert wq.lane(1).in_flight == 3
        with pytest.raises(TypeError):
            wq.lane([])  # type: ignore[arg-type]
        trace.open(*"abcdefg")
        await wq.flush()
        assert wq.statistics().lanes == 0


@over_kinds
async def test_the_same_key_of_two_queues_is_two_lanes(kind: Kind, trace: Trace) -> None:
    async with open_with(kind[1])() as supervisor:
        one, two = supervisor.alloc_workqueue("one", kind[0]), supervisor.alloc_workqueue("two", kind[0])
        one.lane("key").queue_work(trace.holder("a"))
        two.lane("key").queue_work(trace.holder("b"))
        await wait_all_tasks_blocked()
        assert sorted(trace.starts) == ["a", "b"]
        trace.open("b")
        await two.lane("key").flush()
        assert one.lane("key").in_flight == 1
        trace.open("a")


@over_kinds
async def test_a_pending_item_is_not_moved_into_a_lane_or_out_of_one(kind: Kind, trace: Trace) -> None:
    """Invariant 2: False and nothing has changed, lanes included."""
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0])
        lane, other = wq.lane("lane"), wq.lane("other")
        first, second = trace.holder("first"), trace.holder("second")
        lane.queue_work(first)
        lane.queue_work(second)
        before = wq.statistics()
        assert wq.queue_work(second) is False
        assert wq.queue_work(second, parked=True) is False
        assert other.queue_work(second) is False
        assert await other.queue_work_wait(first) is False
        await wait_all_tasks_blocked()
        assert (other.in_flight, lane.in_flight) == (0, 2)
        assert wq.statistics().laned == before.laned == 1
        trace.open("first", "second")
        await wq.flush()
        assert trace.starts == ["first", "second"]


@over_kinds
async def test_whoever_leaves_the_head_before_it_began_lets_the_next_go(kind: Kind, trace: Trace) -> None:
    """Cancelled, disabled, moved to a timer or to another queue, while it waits for a slot."""
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0], max_active=1)
        other = supervisor.alloc_workqueue("other", kind[0])
        trace.queue(wq, "holder")
        await wait_all_tasks_blocked()
        lane = wq.lane("key")
        items = [DelayedWork(trace.note, name, on_discard=trace.discarder(name)) for name in "abcdef"]
        for item in items:
            assert lane.queue_work(item)
        assert items[0].cancel() is True
        assert wq.statistics().inactive == 1
        assert items[1].disable() is True
        assert wq.mod_delayed_work(items[2], 1) is False
        assert other.mod_delayed_work(items[3], 0) is False
        assert (wq.statistics().inactive, wq.statistics().laned, lane.in_flight) == (1, 1, 2)
        trace.open("holder")
        await wq.flush()
        await trio.sleep(2)
        assert [event for event in trace.events if len(event) == 1] == ["d", "e", "f", "c"]
        assert trace.discarded == ["a", "b"]
        await assert_at_zero(supervisor, wq, other)


@over_kinds
async def test_a_frozen_lane_keeps_its_order_over_the_thaw(kind: Kind, trace: Trace) -> None:
    """Invariants 13 and 55, within and between lanes."""
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", WorkqueueFlags(kind[0]) | WQ_FREEZABLE)
        wq.lane("a").queue_work(trace.holder("a1"))
        await wait_all_tasks_blocked()
        for name in ("a2", "b1", "a3", "b2"):
            wq.lane(name[0]).queue_work(trace.holder(name))
        frozen: list[bool] = []

        async def freeze() -> None:
            frozen.append(await supervisor.freeze())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(freeze)
            await wait_all_tasks_blocked()
            trace.open("a1", "b1")
            await wait_all_tasks_blocked()
        assert frozen == [True]
        started = trace.starts
        await trio.sleep(1)
        assert trace.starts == started
        trace.open("a2", "a3", "b2")
        supervisor.thaw()
        await wq.flush()
        for key in "ab":
            assert [name for name in trace.starts if name[0] == key] == sorted(
                name for name in trace.starts if name[0] == key
            )
        assert len(trace.starts) == 5


@over_kinds
async def test_a_rate_holds_for_lanes_and_a_long_lane_takes_no_more_tokens_than_it_starts(
    kind: Kind, trace: Trace
) -> None:
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0], rate=Rate(1))
        start = trio.current_time()

        def note(name: str) -> None:
            trace.note(f"{name} {trio.current_time() - start:g}")

        for name in ("a1", "a2", "a3", "b1"):
            wq.lane(name[0]).queue_work(Work(note, name))
        await wq.flush()
        assert trace.events == ["a1 0", "b1 1", "a2 2", "a3 3"]


@over_kinds
async def test_an_error_a_timeout_or_an_interrupt_of_one_is_not_the_next_ones(kind: Kind, trace: Trace) -> None:
    errors = Errors()
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0], 0, errors)
        lane = wq.lane("key")
        stuck = Work(trio.sleep_forever)
        lane.queue_work(Work(int, "x"))
        lane.queue_work(Work(trio.sleep, 50, timeout=1))
        lane.queue_work(stuck)
        lane.queue_work(Work(trace.note, "last"))
        await trio.sleep(2)
        assert stuck.interrupt() is True
        await lane.flush()
        assert trace.events == ["last"]
        assert [type(error) for error in errors.errors] == [ValueError, trio.TooSlowError]
        await assert_at_zero(supervisor, wq)


@over_kinds
async def test_draining_shuts_lanes_to_outsiders_and_not_to_items(kind: Kind, trace: Trace) -> None:
    """Invariant 51."""
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0])
        lane = wq.lane("key")
        chained = trace.holder("chained")
        trace.open("chained")

        async def chain() -> None:
            await trace.gate("door").wait()
            assert lane.queue_work(chained)

        lane.queue_work(Work(chain))
        refused = trace.holder("refused")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wq.drain)
            await wait_all_tasks_blocked()
            with pytest.raises(DrainingError):
                lane.queue_work(refused)
            with pytest.raises(DrainingError):
                await lane.queue_work_wait(refused)
            assert lane.in_flight == 1
            trace.open("door")
        assert trace.starts == ["chained"]
        assert not refused.is_pending


@over_kinds
async def test_waiting_for_the_lane_from_a_child_task_of_its_item_is_a_deadlock_too(kind: Kind, trace: Trace) -> None:
    """Invariant 58; and of another lane it is none."""
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0])
        lane, other = wq.lane("key"), wq.lane("other")

        async def wait() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(other.flush)
                with pytest.raises(DeadlockError):
                    await lane.flush()
                nursery.start_soon(expect_deadlock)

        async def expect_deadlock() -> None:
            with pytest.raises(DeadlockError):
                await lane.flush()
            trace.note("both")

        other.queue_work(trace.holder("o"))
        trace.open("o")
        lane.queue_work(Work(wait))
        await wq.flush()
        assert trace.events[-1] == "both"


@over_kinds
async def test_cancel_sync_from_inside_a_lane_of_who_is_behind_is_fine(kind: Kind, trace: Trace) -> None:
    """Invariant 48: it withdraws, and does not wait for the lane."""
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0])
        lane = wq.lane("key")
        behind, last = trace.holder("behind"), trace.holder("last")
        trace.open("last")
        answers: list[bool] = []

        async def withdraw() -> None:
            answers.append(await behind.cancel_sync())
            answers.append(await last.disable_sync())
            answers.append(last.enable())
            answers.append(lane.queue_work(last))

        lane.queue_work(Work(withdraw))
        lane.queue_work(behind)
        lane.queue_work(last)
        await lane.flush()
        assert answers == [True] * 4
        assert trace.starts == ["last"]
        assert trace.discarded == ["behind", "last"]


@over_kinds
async def test_an_empty_lane_is_flushed_by_a_checkpoint_and_a_cancelled_flush_leaves_nothing(
    kind: Kind, trace: Trace
) -> None:
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0])
        lane = wq.lane("key")
        with trio.CancelScope() as scope:
            scope.cancel()
            await lane.flush()
        assert scope.cancelled_caught
        lane.queue_work(trace.holder("a"))
        with trio.move_on_after(1):
            await lane.flush()
        assert lane.in_flight == 1
        trace.open("a")
        await lane.flush()
        await assert_at_zero(supervisor, wq)
        assert (lane.in_flight, wq.statistics().lanes) == (0, 0)


async def test_lanes_of_an_ordered_queue_are_in_the_order_of_their_turns(trace: Trace) -> None:
    """One at a time as always; a lane's next goes to the end of the line when its turn comes."""
    async with open_supervisor(cpus=2) as supervisor:
        wq = supervisor.alloc_ordered_workqueue("ordered")
        trace.open("a1", "a2", "b1", "x")
        for name in ("a1", "a2", "b1"):
            wq.lane(name[0]).queue_work(trace.holder(name))
        trace.queue(wq, "x")
        await wq.flush()
        assert trace.starts == ["a1", "b1", "x", "a2"]
        assert trace.ends == trace.starts


async def test_a_ticking_item_in_a_lane_overruns_while_it_waits_there(trace: Trace) -> None:
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        item = PeriodicWork(trace.note, "tick")
        lane = wq.lane("key")
        lane.queue_work(trace.holder("a"))
        lane.queue_work(item)
        wq.queue_periodic_work(item, 1)
        await trio.sleep(2.5)
        assert item.statistics().overruns == 2
        trace.open("a")
        await trio.sleep(1)
        assert trace.events == ["a starts", "a ends", "tick", "tick"]
        item.cancel()


async def test_a_key_whose_hash_fails_harms_nobody() -> None:
    class Odd:
        def __hash__(self) -> int:
            raise RuntimeError("no hash")

    async with open_supervisor() as supervisor:
        wq = supervisor.alloc_workqueue("wq", WQ_UNBOUND)
        with pytest.raises(RuntimeError, match="no hash"):
            wq.lane(Odd()).queue_work(Work(int))
        await assert_at_zero(supervisor, wq)
