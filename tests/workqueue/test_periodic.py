"""Periodic items: a fixed grid, never two at once, never a burst to make up for lost runs."""

import contextvars
import math

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from ktrio.workqueue import (
    BusyError,
    DestroyedError,
    DrainingError,
    PeriodicWork,
    Supervisor,
    SupervisorClosedError,
    Work,
    Workqueue,
    current_work,
)
from ktrio.workqueue._policy import next_tick
from tests.workqueue.conftest import KIND_NAMES, KINDS, Kind, Trace, assert_at_zero, open_with, run_bounded


class Log:
    """When a periodic item ran, in seconds since the log began."""

    def __init__(self) -> None:
        self.began = trio.current_time()
        self.ran: list[float] = []
        self.discards = 0
        self.work = PeriodicWork(self.run, name="tick", on_discard=self.discard)
        self.takes: list[float] = []

    def now(self) -> float:
        return round(trio.current_time() - self.began, 6)

    def discard(self) -> None:
        self.discards += 1

    async def run(self) -> None:
        self.ran.append(self.now())
        if self.takes:
            await trio.sleep(self.takes.pop(0))

    @property
    def overruns(self) -> int:
        return self.work.statistics().overruns


@pytest.fixture(params=KINDS, ids=KIND_NAMES)
def kind(request: pytest.FixtureRequest) -> Kind:
    assert isinstance(request.param, tuple)
    return request.param


async def test_it_runs_once_at_each_tick_and_not_before_one_interval(kind: Kind) -> None:
    """W78."""
    async with open_with(kind[1])() as supervisor:
        wq, log = supervisor.alloc_workqueue("periodic", kind[0]), Log()
        assert wq.queue_periodic_work(log.work, 2)
        assert log.work.is_ticking
        assert not log.work.is_pending
        assert (wq.statistics().periodic, wq.in_flight) == (1, 0)
        await trio.sleep(9)
        assert log.ran == [2, 4, 6, 8]
        assert (log.overruns, wq.statistics().overruns) == (0, 0)
        log.work.cancel()
        await assert_at_zero(supervisor, wq)


@pytest.mark.parametrize(("first_delay", "expected"), [(0, [0, 2, 4]), (0.5, [0.5, 2.5, 4.5]), (5, [5])])
async def test_first_delay_says_when_the_grid_begins(kind: Kind, first_delay: float, expected: list[float]) -> None:
    """W78."""
    async with open_with(kind[1])() as supervisor:
        wq, log = supervisor.alloc_workqueue("periodic", kind[0]), Log()
        wq.queue_periodic_work(log.work, 2, first_delay=first_delay)
        await trio.sleep(5.5)
        assert log.ran == expected


async def test_the_grid_does_not_drift_by_what_runs_take(kind: Kind) -> None:
    """W78."""
    async with open_with(kind[1])() as supervisor:
        wq, log = supervisor.alloc_workqueue("periodic", kind[0]), Log()
        log.takes = [0.75] * 1000
        wq.queue_periodic_work(log.work, 0.1, first_delay=1)
        await trio.sleep(100.05)
        grid = [round(1 + 0.1 * number, 6) for number in range(1000)]
        assert set(log.ran) <= set(grid)
        assert len(log.ran) + log.overruns == 991


async def test_a_tick_that_finds_it_running_is_skipped_and_counted(kind: Kind) -> None:
    """W80; invariant 4, without a run queued for later: it does not run again as soon as it ends."""
    async with open_with(kind[1])() as supervisor:
        wq, log = supervisor.alloc_workqueue("periodic", kind[0]), Log()
        log.takes = [2.5]
        wq.queue_periodic_work(log.work, 1)
        await trio.sleep(5.5)
        assert log.ran == [1, 4, 5]
        assert (log.overruns, wq.statistics().overruns) == (2, 2)


async def test_a_tick_that_finds_it_pending_is_skipped_and_counted(kind: Kind, trace: Trace) -> None:
    """W80."""
    async with open_with(kind[1])() as supervisor:
        wq, log = supervisor.alloc_workqueue("periodic", kind[0], 1), Log()
        trace.queue(wq, "holder")
        wq.queue_periodic_work(log.work, 1)
        await trio.sleep(4.5)
        assert (log.ran, log.overruns, log.work.is_pending) == ([], 3, True)
        trace.open("holder")
        await trio.sleep(2)
        assert log.ran == [4.5, 5, 6]


def test_a_stall_of_the_loop_is_not_made_up_for_in_a_burst() -> None:
    """W80. Seven ticks pass while the clock jumps; one run, and then the grid again."""
    clock = MockClock(autojump_threshold=0)

    async def main() -> None:
        async with open_with("trampoline")(cpu_intensive_threshold=0) as supervisor:
            wq, log = supervisor.alloc_workqueue("periodic"), Log()
            wq.queue_periodic_work(log.work, 1)
            await trio.sleep(1.5)
            clock.jump(7)  # somebody burns CPU until 8.5
            await trio.sleep(1.7)
            assert log.ran == [1, 8.5, 9, 10]
            assert log.overruns == 6
            log.work.cancel()

    run_bounded(main, clock=clock)


async def test_between_ticks_it_may_be_queued_out_of_turn(kind: Kind) -> None:
    """W79."""
    async with open_with(kind[1])() as supervisor:
        wq, log = supervisor.alloc_workqueue("periodic", kind[0]), Log()
        wq.queue_periodic_work(log.work, 2)
        await trio.sleep(0.5)
        assert wq.queue_work(log.work)
        await trio.sleep(4)
        assert (log.ran, log.overruns) == ([0.5, 2, 4], 0)


async def test_a_ticking_item_does_not_begin_to_tick_again(kind: Kind) -> None:
    """W10; invariants 1 and 2."""
    async with open_with(kind[1])() as supervisor:
        wq, log = supervisor.alloc_workqueue("periodic", kind[0]), Log()
        assert wq.queue_periodic_work(log.work, 2)
        assert not wq.queue_periodic_work(log.work, 0.1, first_delay=0)
        await trio.sleep(5)
        assert log.ran == [2, 4]


async def test_cancel_stops_it_and_withdraws_what_is_pending(kind: Kind, trace: Trace) -> None:
    """W81; invariant 46. A stopped ticker discards nothing; a tick that was queued already is discarded once."""
    async with open_with(kind[1])() as supervisor:
        wq, log = supervisor.alloc_workqueue("periodic", kind[0], 1), Log()
        assert not log.work.cancel()
        wq.queue_periodic_work(log.work, 1)
        await trio.sleep(1.5)
        assert log.work.cancel()
        assert not log.work.cancel()
        assert (log.work.is_ticking, log.discards) == (False, 0)
        trace.queue(wq, "holder")
        wq.queue_periodic_work(log.work, 1)
        await trio.sleep(3.5)
        assert log.work.is_pending
        assert log.work.cancel()
        assert (log.work.is_pending, log.discards, supervisor.timers.armed) == (False, 1, 0)
        trace.open("holder")
        await trio.sleep(10)
        assert log.ran == [1]
        await assert_at_zero(supervisor, wq)


async def test_cancel_sync_stops_it_and_waits_for_the_run(kind: Kind) -> None:
    """W81; invariant 47."""
    async with open_with(kind[1])() as supervisor:
        wq, log = supervisor.alloc_workqueue("periodic", kind[0]), Log()
        log.takes = [5]
        answers: list[bool] = []

        async def try_again() -> None:
            await trio.sleep(1)
            answers.append(wq.queue_periodic_work(log.work, 1))

        wq.queue_periodic_work(log.work, 1)
        await trio.sleep(1.5)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(try_again)
            assert await log.work.cancel_sync()
        assert (log.now(), log.work.is_running, answers) == (6, False, [False])
        await trio.sleep(10)
        assert log.ran == [1]
        assert wq.queue_periodic_work(log.work, 1)


async def test_it_may_stop_itself(kind: Kind) -> None:
    """W81."""
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("periodic", kind[0])
        ran: list[bool] = []

        def stop_at_three() -> None:
            work = current_work()
            assert work is not None
            ran.append(work.cancel() if len(ran) == 2 else False)

        wq.queue_periodic_work(PeriodicWork(stop_at_three), 1)
        await trio.sleep(10)
        assert ran == [False, False, True]


async def test_an_error_does_not_stop_it(kind: Kind) -> None:
    """W81."""
    errors: list[Exception] = []

    def fail() -> None:
        raise OSError("again")

    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("periodic", kind[0], on_error=lambda _work, error: errors.append(error))
        wq.queue_periodic_work(PeriodicWork(fail), 1)
        await trio.sleep(3.5)
    assert len(errors) == 3


async def test_ticks_during_a_drain_are_skipped_and_the_grid_goes_on(kind: Kind, trace: Trace) -> None:
    """W80; invariant 51: nothing is lost and nothing raised in the timer task."""
    async with open_with(kind[1])() as supervisor:
        wq, log = supervisor.alloc_workqueue("periodic", kind[0]), Log()
        wq.queue_periodic_work(log.work, 1)
        trace.queue(wq, "holder")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wq.drain)
            await trio.sleep(3.5)
            with pytest.raises(DrainingError):
                wq.queue_periodic_work(PeriodicWork(print), 1)
            trace.open("holder")
        assert (log.ran, log.overruns, log.discards) == ([], 3, 0)
        await trio.sleep(2)
        assert log.ran == [4, 5]


async def test_destroy_and_leaving_stop_it(kind: Kind) -> None:
    """W81; invariants 52 and 60."""
    async with open_with(kind[1])() as supervisor:
        wq, other = (supervisor.alloc_workqueue(name, kind[0]) for name in ("destroyed", "left"))
        log, second = Log(), Log()
        wq.queue_periodic_work(log.work, 1)
        other.queue_periodic_work(second.work, 1)
        await trio.sleep(1.5)
        await wq.destroy()
        assert not log.work.is_ticking
        with pytest.raises(DestroyedError):
            wq.queue_periodic_work(log.work, 1)
        await trio.sleep(2)
        assert (log.ran, second.ran) == ([1], [1, 2, 3])
    assert second.now() == 3.5
    assert (second.work.is_ticking, second.discards, supervisor.timers.armed) == (False, 0, 0)
    with pytest.raises(SupervisorClosedError):
        other.queue_periodic_work(second.work, 1)


async def test_a_cancelled_supervisor_stops_it(kind: Kind) -> None:
    """W81; invariant 60."""
    log = Log()
    with trio.move_on_after(2.5):
        async with open_with(kind[1])() as supervisor:
            supervisor.alloc_workqueue("periodic", kind[0]).queue_periodic_work(log.work, 1)
            await trio.sleep_forever()
    assert (log.ran, log.work.is_ticking) == ([1, 2], False)


async def test_each_run_has_a_copy_of_the_context_in_which_it_began_to_tick(kind: Kind) -> None:
    """W79."""
    count: contextvars.ContextVar[int] = contextvars.ContextVar("count")
    seen: list[int] = []

    def run() -> None:
        seen.append(count.get())
        count.set(count.get() + 1)

    async with open_with(kind[1])() as supervisor:
        count.set(7)
        supervisor.alloc_workqueue("periodic", kind[0]).queue_periodic_work(PeriodicWork(run), 1)
        count.set(99)
        await trio.sleep(3.5)
    assert seen == [7, 7, 7]


@pytest.mark.parametrize("interval", [0, -1, math.nan, math.inf])
async def test_an_interval_that_is_none_is_an_error(kind: Kind, interval: float) -> None:
    """W6."""
    async with open_with(kind[1])() as supervisor:
        wq, log = supervisor.alloc_workqueue("periodic", kind[0]), Log()
        with pytest.raises(ValueError, match="interval must be positive seconds"):
            wq.queue_periodic_work(log.work, interval)
        with pytest.raises(ValueError, match="first_delay must be seconds"):
            wq.queue_periodic_work(log.work, 1, first_delay=interval or -1)
        with pytest.raises(TypeError, match="needs a PeriodicWork, not <Work print idle>"):
            wq.queue_periodic_work(Work(print), 1)  # type: ignore[arg-type]
        assert not log.work.is_ticking


async def test_ticking_on_another_queue_while_it_runs_is_an_error(kind: Kind) -> None:
    """W14."""
    async with open_with(kind[1])() as supervisor:
        wq, other = (supervisor.alloc_workqueue(name, kind[0]) for name in ("one", "other"))
        log = Log()
        log.takes = [5]
        wq.queue_work(log.work)
        await wait_all_tasks_blocked()
        with pytest.raises(BusyError):
            other.queue_periodic_work(log.work, 1)
        assert wq.queue_periodic_work(log.work, 1)
        log.work.cancel()


async def test_it_is_shown(kind: Kind) -> None:
    async with open_with(kind[1])() as supervisor:
        wq, log = supervisor.alloc_workqueue("periodic", kind[0]), Log()
        assert repr(log.work) == "<PeriodicWork tick idle>"
        wq.queue_periodic_work(log.work, 1.5)
        assert repr(log.work) == "<PeriodicWork tick idle, every 1.5 s on 'periodic'>"


@pytest.mark.parametrize("interval", [0.1, 1 / 3, 1e-3, 7.3, 1e6])
@pytest.mark.parametrize("first", [0.0, 1e9 + 0.1, 123.456])
def test_next_tick_is_the_first_that_lies_ahead(first: float, interval: float) -> None:
    """W78. Asked exactly at a tick, which rounding makes hard, and between two."""
    for number in [*range(200), 10**6]:
        at = first + number * interval
        assert next_tick(first, interval, at) == number + 1
        assert next_tick(first, interval, at + interval / 2) == number + 1
    assert next_tick(first, interval, first - 1) == 0


def statistics_of(wq: Workqueue, supervisor: Supervisor) -> tuple[int, int]:
    return wq.statistics().periodic, supervisor.statistics().timers


async def test_one_timer_for_each_that_ticks(kind: Kind) -> None:
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("periodic", kind[0])
        works = [PeriodicWork(lambda: None) for _ in range(3)]
        for work in works:
            wq.queue_periodic_work(work, 1)
        await trio.sleep(5.5)
        assert statistics_of(wq, supervisor) == (3, 3)
        for work in works:
            work.cancel()
        assert statistics_of(wq, supervisor) == (0, 0)
