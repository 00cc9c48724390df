"""Timeouts of runs, by the specification: unusable ones, and how a run that is cut short meets the other features."""

import math

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from ktrio.workqueue import (
    WQ_FREEZABLE,
    WQ_MEM_RECLAIM,
    DelayedWork,
    Work,
    WorkqueueFlags,
    parked,
)
from tests.workqueue.conftest import KIND_NAMES, KINDS, Errors, Kind, Trace, assert_at_zero, open_with

over_kinds = pytest.mark.parametrize("kind", KINDS, ids=KIND_NAMES)


@pytest.mark.parametrize("timeout", [0, -1, -math.inf, math.nan])
def test_a_timeout_that_is_not_positive_is_refused_when_the_item_is_made(timeout: float) -> None:
    for make in (Work, DelayedWork):
        with pytest.raises(ValueError, match="timeout"):
            make(int, timeout=timeout)


@over_kinds
async def test_an_item_cut_short_and_queued_again_runs_again_with_its_full_time(kind: Kind) -> None:
    """Invariants 3 and 59."""
    errors = Errors()
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0], 1, errors)
        starts: list[float] = []
        begin = trio.current_time()

        async def again() -> None:
            starts.append(trio.current_time() - begin)
            if len(starts) < 3:
                assert wq.queue_work(item) is True
            await trio.sleep_forever()

        item = Work(again, timeout=2)
        wq.queue_work(item)
        await wq.drain()
        assert starts == [0, 2, 4]
        assert trio.current_time() == begin + 6
        assert wq.statistics().timed_out == wq.statistics().failed == len(errors.seen) == 3
        await assert_at_zero(supervisor, wq)


@over_kinds
async def test_one_that_survives_its_cancellation_and_sleeps_on_is_cancelled_again_and_has_ended_late(
    kind: Kind, trace: Trace
) -> None:
    """Level-triggered, as in Trio: every checkpoint after expiry raises."""
    errors = Errors()
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0], 0, errors)
        begin = trio.current_time()

        async def stubborn() -> None:
            for attempt in range(3):
                try:
                    await trio.sleep(10)
                except trio.Cancelled:
                    trace.note(f"{attempt} {trio.current_time() - begin:g}")
                    if attempt == 2:
                        raise

        wq.queue_work(Work(stubborn, timeout=1))
        await wq.flush()
        assert trace.events == ["0 1", "1 1", "2 1"]
        assert [type(error) for error in errors.errors] == [trio.TooSlowError]


@over_kinds
async def test_a_cleanup_behind_a_shield_may_take_its_time_and_the_next_waits_for_it(kind: Kind, trace: Trace) -> None:
    errors = Errors()
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0], 1, errors)
        begin = trio.current_time()

        async def clean() -> None:
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
                    await trio.sleep(3)

        wq.queue_work(Work(clean, timeout=1))
        wq.queue_work(Work(lambda: trace.note(f"next {trio.current_time() - begin:g}")))
        await wq.flush()
        assert trace.events == ["next 4"]
        assert [type(error) for error in errors.errors] == [trio.TooSlowError]


@over_kinds
async def test_while_frozen_a_parked_run_is_cut_short_all_the_same(kind: Kind, trace: Trace) -> None:
    """ "The one exception is P4": time is over in the wait for the thaw, too."""
    errors = Errors()
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", WorkqueueFlags(kind[0]) | WQ_FREEZABLE, 0, errors)

        async def park() -> None:
            async with parked():
                await trace.gate("door").wait()
            trace.note("never")

        item = Work(park, timeout=5)
        wq.queue_work(item)
        await wait_all_tasks_blocked()
        assert await supervisor.freeze()
        trace.open("door")  # now it waits for the thaw
        begin = trio.current_time()
        with pytest.raises(trio.TooSlowError):
            await item.result()
        assert trio.current_time() == begin + 5
        assert trace.events == []
        assert await supervisor.freeze()  # nothing is busy
        supervisor.thaw()
        await assert_at_zero(supervisor, wq)


@over_kinds
async def test_one_that_started_parked_has_its_time_from_its_first_step(kind: Kind) -> None:
    errors = Errors()
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0], 1, errors)

        async def park() -> None:
            async with parked():
                await trio.sleep_forever()

        begin = trio.current_time()
        item = Work(park, timeout=3)
        assert wq.queue_work(item, parked=True)
        await wq.flush()
        assert trio.current_time() == begin + 3
        assert [type(error) for error in errors.errors] == [trio.TooSlowError]
        await assert_at_zero(supervisor, wq)


@over_kinds
async def test_rescued_or_ordered_or_in_a_lane_the_next_goes_on_after_a_timeout(kind: Kind, trace: Trace) -> None:
    errors = Errors()
    async with open_with(kind[1])(capacity=1) as supervisor:
        blocker = supervisor.alloc_workqueue("blocker", kind[0])
        safe = supervisor.alloc_workqueue("safe", WorkqueueFlags(kind[0]) | WQ_MEM_RECLAIM, 0, errors)
        trace.queue(blocker, "blocker")
        await wait_all_tasks_blocked()
        for _ in range(2):
            safe.queue_work(Work(trio.sleep, 60, timeout=1))
        trace.open("last")
        trace.queue(safe, "last")
        await safe.flush()
        assert trace.ends == ["last"]
        assert [type(error) for error in errors.errors] == [trio.TooSlowError] * 2
        assert safe.statistics().rescued == 3
        trace.open("blocker")
        ordered = supervisor.alloc_ordered_workqueue("ordered", 0, errors)
        ordered.queue_work(Work(trio.sleep, 60, timeout=1))
        trace.open("then")
        trace.queue(ordered, "then")
        await ordered.flush()
        assert trace.ends[-1] == "then"
        await assert_at_zero(supervisor, blocker, safe, ordered)


@over_kinds
async def test_cancel_sync_with_and_without_interrupt_of_a_run_that_times_out_meanwhile(kind: Kind) -> None:
    """The error goes to exactly one place, and only if nobody interrupted before."""
    errors = Errors()
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0], 0, errors)
        begin = trio.current_time()
        item = Work(trio.sleep, 60, timeout=2)
        wq.queue_work(item)
        await wait_all_tasks_blocked()
        assert await item.cancel_sync() is False
        assert trio.current_time() == begin + 2
        assert len(errors.seen) == 1
        wq.queue_work(item)
        await trio.sleep(1)
        assert await item.cancel_sync(interrupt=True) is False
        assert trio.current_time() == begin + 3
        assert len(errors.seen) == wq.statistics().timed_out == 1


@over_kinds
async def test_an_infinite_timeout_is_none(kind: Kind) -> None:
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0])
        wq.queue_work(Work(trio.sleep, 1e5, timeout=math.inf))
        await wq.flush()
        assert wq.statistics().timed_out == 0


@over_kinds
async def test_one_whose_cancellation_became_another_error_has_timed_out_and_is_counted(kind: Kind) -> None:
    """`timed_out`: "runs cancelled because they took longer"; the error is the item's, the reason was the time."""
    errors = Errors()
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0], 0, errors)

        async def fail() -> None:
            try:
                await trio.sleep_forever()
            finally:
                raise KeyError("on the way out")

        wq.queue_work(Work(fail, timeout=1))
        await wq.flush()
        assert [type(error) for error in errors.errors] == [KeyError]
        assert wq.statistics().timed_out == 1


@over_kinds
async def test_one_whose_child_tasks_made_errors_of_it_is_counted_once(kind: Kind) -> None:
    errors = Errors()
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0], 0, errors)

        async def fail() -> None:
            try:
                await trio.sleep_forever()
            except trio.Cancelled as cancelled:
                raise KeyError("on the way out") from cancelled

        async def fail_twice() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(fail)
                nursery.start_soon(fail)

        wq.queue_work(Work(fail_twice, timeout=1))
        await wq.flush()
        ((_, error),) = errors.seen
        assert isinstance(error, ExceptionGroup)
        assert wq.statistics().timed_out == wq.statistics().failed == 1


@over_kinds
@pytest.mark.parametrize("when", ["before", "in the turn of expiry", "interrupted"])
async def test_an_error_that_is_not_the_timeouts_doing_is_not_counted(kind: Kind, when: str) -> None:
    """W119: an item that ends in the turn of expiry has ended, by an error too; an interrupt goes before."""
    errors = Errors()
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0], 0, errors)

        async def fail() -> None:
            try:
                if when == "interrupted":
                    await trio.sleep_forever()
                with trio.CancelScope(shield=True):
                    await trio.sleep(0.5 if when == "before" else 1)
            finally:
                if when == "interrupted":
                    with trio.move_on_after(1, shield=True):
                        await trio.sleep_forever()
                raise KeyError("its own")

        work = Work(fail, timeout=1)
        wq.queue_work(work)
        if when == "interrupted":
            await trio.sleep(0.5)
            work.interrupt()
        await wq.flush()
        assert [type(error) for error in errors.errors] == [KeyError]
        assert wq.statistics().timed_out == 0
