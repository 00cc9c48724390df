"""A deadline for each run of an item."""

import functools
import math

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from ktrio.workqueue import (
    WQ_CPU_INTENSIVE,
    DelayedWork,
    DestroyedError,
    PeriodicWork,
    Work,
    open_supervisor,
    parked,
)
from tests.workqueue.conftest import KIND_NAMES, KINDS, Errors, Kind, Trace, assert_at_zero, open_with, run_bounded


@pytest.fixture(params=KINDS, ids=KIND_NAMES)
def kind(request: pytest.FixtureRequest) -> Kind:
    assert isinstance(request.param, tuple)
    return request.param


async def test_a_run_that_takes_too_long_is_cancelled_and_told_as_too_slow(kind: Kind) -> None:
    """W118; invariant 59: books closed, worker alive, the error once, and it names the item."""
    errors = Errors()
    began = trio.current_time()
    cleaned_up: list[float] = []

    async def hang() -> None:
        try:
            await trio.sleep_forever()
        finally:
            cleaned_up.append(trio.current_time() - began)

    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("timeouts", kind[0], on_error=errors)
        work = Work(hang, timeout=5, name="hang")
        wq.queue_work(work)
        await wq.flush()
        assert cleaned_up == [5]
        [(told, error)] = errors.seen
        assert told is work
        assert type(error) is trio.TooSlowError
        assert str(error) == "<Work hang running> took longer than its timeout of 5 s"
        books = wq.statistics()
        assert (books.timed_out, books.failed, books.completed) == (1, 1, 1)
        ran: list[int] = []
        wq.queue_work(Work(ran.append, 1))
        await wq.flush()
        assert ran == [1]
        await assert_at_zero(supervisor, wq)


async def test_each_run_has_its_own_time(kind: Kind) -> None:
    """W118. The next item of that worker has none, the next run of the item the whole."""
    errors = Errors()
    took: list[float] = []

    async def nap(seconds: float) -> None:
        began = trio.current_time()
        try:
            await trio.sleep(seconds)
        finally:
            took.append(trio.current_time() - began)

    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("timeouts", kind[0], 1, on_error=errors)
        limited = Work(nap, 3, timeout=5)
        for _ in range(3):
            wq.queue_work(limited)
            wq.queue_work(Work(nap, 20))
            await wq.flush()
        assert took == [3, 20] * 3
    assert errors.seen == []


async def test_time_spent_pending_does_not_count(kind: Kind, trace: Trace) -> None:
    """W118."""
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("timeouts", kind[0], 1)
        trace.queue(wq, "holder")
        work = Work(trio.sleep, 4, timeout=5)
        wq.queue_work(work)
        await trio.sleep(100)
        trace.open("holder")
        await work.result()


async def test_time_spent_parked_counts(kind: Kind) -> None:
    """W118. And the return is forced (P4), with the books at zero afterwards."""

    async def wait_parked() -> None:
        async with parked():
            await trio.sleep(100)

    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("timeouts", kind[0], 1)
        work = Work(wait_parked, timeout=5)
        wq.queue_work(work, parked=True)
        with pytest.raises(trio.TooSlowError):
            await work.result()
        wq.queue_work(work)
        with pytest.raises(trio.TooSlowError):
            await work.result()
        await assert_at_zero(supervisor, wq)


async def test_time_spent_in_line_to_come_back_counts(kind: Kind, trace: Trace) -> None:
    """W118."""
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("timeouts", kind[0], 1)
        work = Work(trace.hold_parked, "a", timeout=5)
        wq.queue_work(work)
        await wait_all_tasks_blocked()
        trace.queue(wq, "holder")
        await wait_all_tasks_blocked()
        trace.open("a")
        with pytest.raises(trio.TooSlowError):
            await work.result()
        assert wq.statistics().overshoot == 1
        trace.open("holder")
        await wq.flush()
        await assert_at_zero(supervisor, wq)


def test_an_item_that_ends_in_the_turn_of_expiry_has_ended() -> None:
    """W119. It burns past its deadline, and comes to its end without another wait."""
    clock = MockClock(autojump_threshold=0)

    async def burn() -> str:
        await trio.sleep(1)
        clock.jump(10)
        return "done"

    async def main() -> None:
        async with open_supervisor(cpu_intensive_threshold=0) as supervisor:
            wq = supervisor.alloc_workqueue("timeouts")
            work = Work(burn, timeout=5)
            wq.queue_work(work)
            assert await work.result() == "done"
            assert wq.statistics().timed_out == 0

    run_bounded(main, clock=clock)


async def test_an_item_that_takes_no_notice_has_ended(kind: Kind) -> None:
    """W119."""

    async def stubborn() -> str:
        with trio.CancelScope(shield=True):
            await trio.sleep(10)
        return "done"

    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("timeouts", kind[0])
        work = Work(stubborn, timeout=5)
        wq.queue_work(work)
        assert await work.result() == "done"
        assert wq.statistics().timed_out == 0


async def test_an_error_raised_on_the_way_out_is_the_items_error_and_it_is_counted(kind: Kind) -> None:
    """W119."""

    async def fail() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise OSError("on the way out")

    async def group() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            await trio.sleep_forever()

    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("timeouts", kind[0])
        work = Work(group, timeout=5)
        wq.queue_work(work)
        with pytest.raises(ExceptionGroup) as caught:
            await work.result()
        assert [type(error) for error in caught.value.exceptions] == [OSError]
        assert wq.statistics().timed_out == 1


async def test_an_interrupt_goes_before_a_timeout(kind: Kind) -> None:
    """W119. Both in one turn: Cancelled is the interrupt's, so there is no error."""
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("timeouts", kind[0])
        work = Work(trio.sleep_forever, timeout=5)
        wq.queue_work(work)
        await wait_all_tasks_blocked()
        work.interrupt()
        await wq.flush()
        assert (wq.statistics().failed, wq.statistics().timed_out) == (0, 0)
        wq.queue_work(work)

        async def wait() -> None:
            with pytest.raises(DestroyedError):
                await work.result()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.sleep(4)
            assert not await work.cancel_sync(interrupt=True)
        assert wq.statistics().timed_out == 0
        await assert_at_zero(supervisor, wq)


async def test_a_timeout_in_the_way_of_a_cancelled_supervisor_is_none() -> None:
    with trio.move_on_after(1) as scope:
        async with open_supervisor() as supervisor:
            wq = supervisor.alloc_workqueue("timeouts")
            wq.queue_work(Work(trio.sleep_forever, timeout=5))
            await trio.sleep_forever()
    assert scope.cancelled_caught


async def test_a_plain_function_is_not_cut_short(kind: Kind) -> None:
    """W120."""
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("timeouts", kind[0])
        work = Work(int, "7", timeout=5)
        wq.queue_work(work)
        assert await work.result() == 7


class Sleeper:
    async def sleep(self) -> None:
        await trio.sleep(10)


async def test_a_function_that_gives_a_coroutine_is_bounded(kind: Kind) -> None:
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("timeouts", kind[0])
        for fn in (lambda: Sleeper().sleep(), functools.partial(trio.sleep, 10), Sleeper().sleep):
            work = Work(fn, timeout=5)
            wq.queue_work(work)
            with pytest.raises(trio.TooSlowError):
                await work.result()


async def test_an_async_function_on_a_cpu_intensive_queue_is_bounded_on_the_loop() -> None:
    async with open_supervisor() as supervisor:
        wq = supervisor.alloc_workqueue("timeouts", WQ_CPU_INTENSIVE)
        work = Work(trio.sleep, 10, timeout=5)
        wq.queue_work(work)
        await wait_all_tasks_blocked()
        assert supervisor.statistics().threads == 0
        with pytest.raises(trio.TooSlowError):
            await work.result()


def test_a_function_in_a_thread_can_ask_whether_its_time_is_over() -> None:
    """W120. The clock does not jump by itself: a thread runs in real time."""
    clock = MockClock()
    begun = trio.Event()

    def ask() -> None:
        trio.from_thread.run_sync(begun.set)
        while True:
            trio.from_thread.check_cancelled()

    async def main() -> None:
        async with open_supervisor(idle_timeout=math.inf) as supervisor:
            wq = supervisor.alloc_workqueue("timeouts", WQ_CPU_INTENSIVE)
            work = Work(ask, timeout=5)
            wq.queue_work(work)
            await begun.wait()
            clock.jump(6)
            with pytest.raises(trio.TooSlowError):
                await work.result()
            assert wq.statistics().timed_out == 1
            await assert_at_zero(supervisor, wq)

    run_bounded(main, clock=clock)


@pytest.mark.parametrize("make", [DelayedWork, PeriodicWork])
async def test_timed_items_have_timeouts_too(make: type[DelayedWork[None]]) -> None:
    async with open_supervisor() as supervisor:
        wq = supervisor.alloc_workqueue("timeouts")
        work = make(trio.sleep, 10, timeout=5)
        wq.queue_work(work)
        with pytest.raises(trio.TooSlowError, match=f"<{make.__name__} sleep running>"):
            await work.result()


def test_hogs_are_named_by_the_function_within() -> None:
    clock = MockClock(autojump_threshold=0)

    async def burn() -> None:
        clock.jump(1)
        await trio.lowlevel.checkpoint()

    async def main() -> None:
        async with open_supervisor() as supervisor:
            wq = supervisor.alloc_workqueue("timeouts")
            wq.queue_work(Work(burn, timeout=5))
            await wq.flush()
            [hog] = supervisor.statistics().hogs
            assert hog.function.endswith("test_hogs_are_named_by_the_function_within.<locals>.burn")

    run_bounded(main, clock=clock)


@pytest.mark.parametrize("timeout", [0, -1, math.nan])
def test_a_timeout_that_is_none_is_an_error(timeout: float) -> None:
    """W6."""
    with pytest.raises(ValueError, match="timeout must be positive seconds"):
        Work(print, timeout=timeout)
