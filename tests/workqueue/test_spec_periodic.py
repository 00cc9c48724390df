"""Periodic items, by the specification: the grid, what stops it, and how ticks meet other features."""

import math

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from ktrio.workqueue import (
    WQ_FREEZABLE,
    WQ_UNBOUND,
    BacklogFullError,
    NoResultError,
    PeriodicWork,
    Rate,
    WorkqueueFlags,
    open_supervisor,
)
from tests.workqueue.conftest import KIND_NAMES, KINDS, Errors, Kind, Trace, alloc, assert_at_zero, open_with

over_kinds = pytest.mark.parametrize("kind", KINDS, ids=KIND_NAMES)


class Beats:
    """When an item ran, in seconds from the making of this."""

    def __init__(self, duration: float = 0) -> None:
        self.start, self.duration = trio.current_time(), duration
        self.times: list[float] = []

    async def __call__(self) -> None:
        self.times.append(trio.current_time() - self.start)
        if self.duration:
            await trio.sleep(self.duration)


@pytest.mark.parametrize("first_delay", [-1, math.inf, math.nan])
async def test_an_unusable_first_delay_changes_nothing(first_delay: float) -> None:
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        item = PeriodicWork(int)
        with pytest.raises(ValueError, match=r".+"):
            wq.queue_periodic_work(item, 1, first_delay=first_delay)
        assert not item.is_ticking
        assert (wq.statistics().periodic, supervisor.statistics().timers) == (0, 0)


@over_kinds
async def test_disabled_and_enabled_it_ticks_only_when_told_anew_and_on_a_new_grid(kind: Kind) -> None:
    """Invariant 49: nothing is replayed."""
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0])
        beats = Beats()
        item = PeriodicWork(beats)
        wq.queue_periodic_work(item, 2)
        await trio.sleep(3)
        item.disable()
        assert not item.is_ticking
        assert wq.queue_periodic_work(item, 2) is False
        assert not item.is_ticking
        await trio.sleep(4.5)
        assert item.enable() is True
        await trio.sleep(4.5)
        assert wq.queue_periodic_work(item, 1) is True  # at 12
        await trio.sleep(2.5)
        assert beats.times == [2, 13, 14]
        assert item.cancel() is True
        assert item.cancel() is False


@over_kinds
async def test_an_interrupt_or_a_timeout_ends_the_run_and_not_the_ticking(kind: Kind) -> None:
    errors = Errors()
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0], 0, errors)
        beats = Beats(duration=100)
        item = PeriodicWork(beats, timeout=1.5)
        wq.queue_periodic_work(item, 2)
        await trio.sleep(2.5)
        assert item.interrupt() is True
        await trio.sleep(4)  # from 4 on it takes until 5.5
        assert beats.times == [2, 4, 6]
        assert [type(error) for error in errors.errors] == [trio.TooSlowError]
        await item.cancel_sync(interrupt=True)
        assert trio.current_time() - beats.start == 6.5
        assert item.statistics().overruns == 0
        await trio.sleep(10)
        assert len(beats.times) == 3
        await assert_at_zero(supervisor, wq)


@over_kinds
async def test_while_frozen_the_first_tick_waits_and_the_others_are_skipped(kind: Kind) -> None:
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", WorkqueueFlags(kind[0]) | WQ_FREEZABLE)
        beats = Beats()
        item = PeriodicWork(beats)
        wq.queue_periodic_work(item, 1)
        assert await supervisor.freeze()
        await trio.sleep(3.5)
        assert (beats.times, item.statistics().overruns, wq.pending) == ([], 2, 1)
        supervisor.thaw()
        await trio.sleep(1)
        assert beats.times == [3.5, 4]
        item.cancel()


@over_kinds
async def test_a_rate_slower_than_the_ticks_skips_ticks(kind: Kind) -> None:
    """A tick that finds its item pending, in line for a token say, is skipped."""
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0], rate=Rate(1, per=2))
        beats = Beats()
        item = PeriodicWork(beats)
        wq.queue_periodic_work(item, 0.75)
        await trio.sleep(7.9)
        item.cancel()
        gaps = [later - earlier for earlier, later in zip(beats.times, beats.times[1:], strict=False)]
        assert beats.times[0] == 0.75
        assert min(gaps) >= 2
        assert item.statistics().overruns == 10 - len(beats.times) - wq.statistics().cancelled


async def test_a_tick_that_finds_a_full_queue_harms_nobody_and_the_next_with_room_runs(trace: Trace) -> None:
    """Whatever becomes of that tick: the supervisor lives, the ticks go on, the limit is not torn."""
    async with open_supervisor() as supervisor:
        wq = supervisor.alloc_workqueue("wq", WQ_UNBOUND, max_active=1, max_pending=1)
        beats = Beats()
        item = PeriodicWork(beats)
        wq.queue_periodic_work(item, 1)
        trace.queue(wq, "holder")
        await wait_all_tasks_blocked()
        trace.queue(wq, "filler")
        await trio.sleep(2.5)
        assert item.is_ticking
        with pytest.raises(BacklogFullError):
            trace.queue(wq, "refused")
        trace.open("holder", "filler")
        await trio.sleep(2)
        assert beats.times[-2:] == [3, 4]
        item.cancel()


@over_kinds
async def test_told_to_tick_by_its_own_last_run_it_has_a_new_grid(kind: Kind) -> None:
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0])
        times: list[float] = []
        start = trio.current_time()

        async def beat() -> None:
            times.append(trio.current_time() - start)
            if len(times) == 2:
                await trio.sleep(0.5)
                assert item.cancel() is True
                assert not item.is_ticking
                assert wq.queue_periodic_work(item, 3, first_delay=1) is True
                assert wq.queue_periodic_work(item, 5) is False

        item = PeriodicWork(beat)
        wq.queue_periodic_work(item, 2)
        await trio.sleep(12)
        assert times == [2, 4, 5.5, 8.5, 11.5]
        item.cancel()


@over_kinds
async def test_a_tick_at_the_very_end_of_the_run_before_is_one_run_or_one_overrun(kind: Kind) -> None:
    """A run as long as the interval: each tick leads to one run or is counted, never to both, never to a burst."""
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0])
        beats = Beats(duration=1)
        item = PeriodicWork(beats)
        wq.queue_periodic_work(item, 1)
        await trio.sleep(20.5)
        item.cancel()
        assert len(beats.times) + item.statistics().overruns == 20
        assert wq.statistics().overruns == item.statistics().overruns
        assert all(later - earlier >= 1 for earlier, later in zip(beats.times, beats.times[1:], strict=False))


async def test_a_stall_as_long_as_many_intervals_leaves_the_grid_where_it_was(mock_clock: MockClock) -> None:
    """Of the ticks that passed the last one runs, and the next is on the grid; exact for a stall that ends on it."""
    mock_clock.autojump_threshold = 0
    clock = trio.lowlevel.current_clock()
    assert isinstance(clock, MockClock)
    async with open_supervisor(cpu_intensive_threshold=0) as supervisor:
        wq = alloc(supervisor)
        beats = Beats()
        item = PeriodicWork(beats)
        wq.queue_periodic_work(item, 1)
        clock.jump(5)  # exactly at the fifth tick
        await wait_all_tasks_blocked()
        assert (beats.times, item.statistics().overruns) == ([5], 4)
        clock.jump(2.5)
        await wait_all_tasks_blocked()
        assert (beats.times, item.statistics().overruns) == ([5, 7.5], 5)
        await trio.sleep(1)
        assert beats.times == [5, 7.5, 8]
        item.cancel()


@over_kinds
async def test_between_ticks_it_may_run_elsewhere_and_that_tick_is_skipped(kind: Kind) -> None:
    """Running is running, whatever queue it is on (W13, W80): no `BusyError` out of a timer."""
    async with open_with(kind[1])() as supervisor:
        wq, other = (supervisor.alloc_workqueue(name, kind[0]) for name in ("wq", "other"))
        beats = Beats(duration=2)
        item = PeriodicWork(beats)
        wq.queue_periodic_work(item, 5)
        await trio.sleep(4)
        assert other.queue_work(item) is True
        await trio.sleep(7)
        assert beats.times == [4, 10]
        assert item.statistics().overruns == 1
        await item.cancel_sync()


async def test_its_results_are_those_of_runs_and_between_ticks_there_is_none() -> None:
    async with open_supervisor() as supervisor:
        wq, store = alloc(supervisor), supervisor.alloc_workqueue("store", WQ_UNBOUND, on_error="store")
        plain, kept = PeriodicWork(trio.current_time), PeriodicWork(trio.current_time)
        start = trio.current_time()
        wq.queue_periodic_work(plain, 1)
        store.queue_periodic_work(kept, 1)
        for item in (plain, kept):
            with pytest.raises(NoResultError):
                await item.result()
            assert await item.flush() is False  # idle, and no wait for a tick
        await trio.sleep(2.5)
        assert await kept.result() == start + 2
        with pytest.raises(NoResultError):
            await plain.result()
        plain.cancel()
        kept.cancel()
        assert await kept.result() == start + 2


async def test_leaving_does_not_wait_for_a_next_tick_but_for_the_run_under_way(trace: Trace) -> None:
    start = trio.current_time()
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        beats = Beats(duration=1)
        item = PeriodicWork(beats, on_discard=trace.discarder("item"))
        wq.queue_periodic_work(item, 2)
        await trio.sleep(2.5)
    assert trio.current_time() == start + 3
    assert not item.is_ticking
    assert trace.discarded == []
