"""Clauses of the page of guarantees that no other test shows: each in its smallest form."""

import logging
import sys
from collections.abc import AsyncIterator, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from types import FrameType

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

from ktrio.workqueue import (
    WQ_HIGHPRI,
    WQ_MEM_RECLAIM,
    WQ_UNBOUND,
    DelayedWork,
    DestroyedError,
    PeriodicWork,
    Rate,
    Supervisor,
    Work,
    WorkEvent,
    Workqueue,
    WorkqueueInstrument,
    open_supervisor,
)
from tests.workqueue.conftest import (
    KIND_NAMES,
    KINDS,
    Errors,
    Kind,
    Trace,
    alloc,
    assert_at_zero,
    open_with,
    run_bounded,
)

over_kinds = pytest.mark.parametrize("kind", KINDS, ids=KIND_NAMES)


async def test_a_callback_of_the_loop_may_queue() -> None:
    """W7: "and in callbacks of the loop"."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        ran = trio.Event()
        trio.lowlevel.current_trio_token().run_sync_soon(wq.queue_work, Work(ran.set))
        await ran.wait()


def changes(supervisor: Supervisor, wq: Workqueue, running: Work, pending: Work) -> dict[str, Callable[[], object]]:
    """Everything that changes a queue, an item in use or a supervisor without waiting."""
    idle, delayed, periodic = Work(print), DelayedWork(print), PeriodicWork(print)
    return {
        "queue_work": lambda: wq.queue_work(idle),
        "queue_work, running": lambda: wq.queue_work(running),
        "queue_work_on": lambda: wq.queue_work_on(0, idle),
        "lane": lambda: wq.lane("key").queue_work(idle),
        "queue_delayed_work": lambda: wq.queue_delayed_work(delayed, 1),
        "mod_delayed_work": lambda: wq.mod_delayed_work(delayed, 1),
        "queue_periodic_work": lambda: wq.queue_periodic_work(periodic, 1),
        "cancel": pending.cancel,
        "interrupt": running.interrupt,
        "disable": pending.disable,
        "set_max_active": lambda: wq.set_max_active(7),
        "set_max_pending": lambda: wq.set_max_pending(7),
        "set_rate": lambda: wq.set_rate(Rate(7)),
        "set_capacity": lambda: supervisor.set_capacity(7),
        "thaw": supervisor.thaw,
    }


async def test_what_changes_something_is_refused_in_another_thread(trace: Trace) -> None:
    """W8. Nothing has changed then: not one count, not one item."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=1)
        works = trace.queue(wq, "running pending")
        await wait_all_tasks_blocked()
        calls = changes(supervisor, wq, works["running"], works["pending"])
        before = (supervisor.statistics(), *(work.statistics() for work in works.values()))
        with ThreadPoolExecutor(1) as executor:
            for name, call in calls.items():
                with pytest.raises(RuntimeError, match="outside its loop"):
                    executor.submit(call).result(20)
                after = (supervisor.statistics(), *(work.statistics() for work in works.values()))
                assert after == before, name
        trace.open("running", "pending")
        await wq.flush()
        assert trace.ends == ["running", "pending"]


class OfSomeKind:
    """An awaitable that is no coroutine."""

    @staticmethod
    async def make() -> "OfSomeKind":
        return OfSomeKind()

    def __await__(self) -> Generator[None, None, None]:
        raise AssertionError("it was awaited")
        yield


async def generates() -> AsyncIterator[int]:
    yield 1


@over_kinds
@pytest.mark.parametrize("fn", [generates, OfSomeKind], ids=["async generator", "other awaitable"])
async def test_what_is_no_coroutine_is_an_error_of_the_run(kind: Kind, fn: Callable[[], object]) -> None:
    """W20. It goes where errors go, and the worker goes on."""
    errors = Errors()
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("test", kind[0], on_error=errors)
        wq.queue_work(Work(fn))
        await wq.flush()
        assert [type(error) for error in errors.errors] == [TypeError]
        with pytest.raises(TypeError):
            await wq.run(fn)
        assert await wq.run(int, "42") == 42
        await assert_at_zero(supervisor, wq)


async def test_a_coroutine_in_place_of_a_function_is_refused() -> None:
    """W20. It says what to write."""
    coroutine = OfSomeKind.make()
    with pytest.raises(TypeError, match=r"Work\(fn, \*args\)"):
        Work(coroutine)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    coroutine.close()


async def test_with_a_rescuer_at_work_one_more_than_the_capacity_runs(trace: Trace) -> None:
    """W36: "and one more for each rescuer at work there"."""
    async with open_supervisor(capacity=1) as supervisor:
        trace.queue(alloc(supervisor, "other"), "holder")
        await wait_all_tasks_blocked()
        safe = supervisor.alloc_workqueue("safe", WQ_UNBOUND | WQ_MEM_RECLAIM)
        trace.queue(safe, "x y")
        await trio.sleep(1)
        assert trace.events == ["holder starts", "x starts"]
        assert supervisor.statistics().pools[0].occupied == 2
        trace.open("holder", "x", "y")
        await safe.flush()
        await wait_all_tasks_blocked()
        assert supervisor.statistics().pools[0].occupied == 0


async def test_a_high_item_that_queues_itself_holds_up_normal_ones_as_long_as_it_does() -> None:
    """W59's last words."""
    left = 1000
    ran: list[int] = []

    def again() -> None:
        nonlocal left
        left -= 1
        if left:
            high.queue_work(itself)

    itself = Work(again)
    async with open_supervisor() as supervisor:
        normal = alloc(supervisor)
        high = supervisor.alloc_workqueue("high", WQ_UNBOUND | WQ_HIGHPRI)
        high.queue_work(itself)
        normal.queue_work(Work(lambda: ran.append(left)))
        await normal.flush()
    assert ran == [0]


class Cpus(WorkqueueInstrument):
    """On which simulated CPU an item began."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.seen: list[int] = []

    def execute_start(self, event: WorkEvent, /) -> None:
        if event.work is self.work:
            self.seen.append(event.cpu)


async def test_ticks_go_to_the_cpu_of_whoever_began_them() -> None:
    """W79 with W18: inside an item that is its CPU, whichever of them has its turn later."""
    tick = PeriodicWork(int)
    async with open_supervisor(3) as supervisor:
        cpus = Cpus(tick)
        supervisor.add_instrument(cpus)
        wq = alloc(supervisor)
        await wq.run_on(2, wq.queue_periodic_work, tick, 1)
        for _ in range(4):
            wq.queue_work(Work(int))
            await trio.sleep(1.1)
    assert cpus.seen == [2, 2, 2, 2]


async def test_a_cancelled_destroy_leaves_the_queue_as_it_was(trace: Trace) -> None:
    """W94 for `destroy`."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        trace.queue(wq, "a")
        timer = DelayedWork(trace.note, "timer")
        wq.queue_delayed_work(timer, 60)
        with trio.move_on_after(1) as scope:
            await wq.destroy()
        assert scope.cancelled_caught
        books = wq.statistics()
        assert (books.draining, books.destroyed, books.delayed) == (False, False, 1)
        trace.queue(wq, "b")
        trace.open("a", "b")
        await trio.sleep(60)
        assert sorted(trace.events) == ["a ends", "a starts", "b ends", "b starts", "timer"]
        await wq.destroy()
        assert wq.statistics().destroyed


async def test_cancel_sync_and_destroy_are_checkpoints_with_nothing_to_wait_for() -> None:
    """W95."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        work = Work(print)
        for interrupt in (False, True):
            with assert_checkpoints():
                assert await work.cancel_sync(interrupt=interrupt) is False
        wq.queue_work(work)
        with assert_checkpoints():
            assert await work.cancel_sync() is True
        for _ in range(2):
            with assert_checkpoints():
                await wq.destroy()


async def test_a_wait_of_somebody_whom_nobody_waits_for_searches_nothing() -> None:
    """W105, counted: each flushes the one before, in order; a search would follow the whole chain each time."""
    length, calls = 300, 0

    def count(frame: FrameType, what: str, _: object) -> None:
        nonlocal calls
        calls += what == "call" and frame.f_code.co_filename.endswith("_waits.py")

    async def follow(number: int) -> None:
        await trio.sleep(number)
        if number:
            await works[number - 1].flush()
        await last_has_begun.wait()

    last_has_begun = trio.Event()
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=length)
        works = [Work(follow, number) for number in range(length)]
        for work in works:
            wq.queue_work(work)
        sys.setprofile(count)
        try:
            await trio.sleep(length)
        finally:
            sys.setprofile(None)
        last_has_begun.set()
        await wq.flush()
    assert length <= calls < 10 * length


@over_kinds
async def test_what_waits_for_a_slot_is_not_rescued(kind: Kind, trace: Trace) -> None:
    """W155. The pool is full, but it is not a place that the second one lacks."""
    async with open_with(kind[1])(capacity=1) as supervisor:
        flags = kind[0] | WQ_MEM_RECLAIM if kind[0] else WQ_MEM_RECLAIM
        wq = supervisor.alloc_workqueue("safe", flags, max_active=1)
        trace.queue(wq, "first second")
        await trio.sleep(10)
        assert trace.events == ["first starts"]
        assert (wq.statistics().mayday, wq.statistics().rescued) == (0, 0)
        trace.open("first", "second")
        await wq.flush()


async def test_waiting_for_a_result_of_a_queue_without_rescuer_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """W157 for `result`."""
    async with open_supervisor() as supervisor:
        safe = supervisor.alloc_workqueue("safe", WQ_UNBOUND | WQ_MEM_RECLAIM)
        other = alloc(supervisor, "other")
        work = Work(trio.sleep, 1)

        async def wait() -> None:
            other.queue_work(work)
            await work.result()

        with caplog.at_level(logging.WARNING, "ktrio.workqueue"):
            for _ in range(2):
                await safe.run(wait)
        (record,) = caplog.records
        assert "'safe'" in record.getMessage()
        assert "'other'" in record.getMessage()


@pytest.mark.parametrize("point", ["queue_work", "activate_work", "execute_start", "execute_end"])
async def test_an_instrument_may_dump(point: str, caplog: pytest.LogCaptureFixture) -> None:
    """W163 for `dump`; it shows the books of that moment, and every part of them."""
    texts: list[str] = []

    def method(self: object, event: WorkEvent) -> None:
        texts.append(supervisor.dump())

    async with open_supervisor() as supervisor:
        supervisor.add_instrument(type("Dumper", (WorkqueueInstrument,), {point: method})())
        wq = alloc(supervisor, "looked at")
        await wq.run(int)
    (text,) = texts
    assert "looked at" in text
    assert not caplog.records


async def test_a_stall_is_noticed_after_one_to_two_times_the_threshold(
    trace: Trace, caplog: pytest.LogCaptureFixture
) -> None:
    """W172, wherever between two looks the stall begins."""
    for begins in (0, 3, 7, 9.5):
        caplog.clear()
        async with open_supervisor(watchdog=10) as supervisor:
            early = supervisor.alloc_workqueue("early", WQ_UNBOUND, max_active=1)
            wq = supervisor.alloc_workqueue("stuck", WQ_UNBOUND, max_active=1)
            moving = [Work(trio.sleep, 1) for _ in range(40)]
            for work in moving:  # the timer is armed from here on, and this line is no stall
                early.queue_work(work)
            await trio.sleep(begins)
            trace.queue(wq, f"holder{begins} waits{begins}")
            await trio.sleep(9.9)
            assert not caplog.records
            await trio.sleep(10.2)
            (record,) = caplog.records
            assert "'stuck'" in record.getMessage()
            trace.open(f"holder{begins}", f"waits{begins}")


async def test_a_caller_of_run_is_told_that_the_supervisor_was_cancelled(trace: Trace) -> None:
    """W112: by a DestroyedError, whether its item was running or pending."""
    caught: list[str] = []

    async def call() -> None:
        try:
            await wq.run(trio.sleep_forever)
        except DestroyedError as error:
            caught.append(str(error))

    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            async with open_supervisor() as supervisor:
                wq = alloc(supervisor, max_active=1)
                nursery.start_soon(call)
                nursery.start_soon(call)
                await wait_all_tasks_blocked()
                assert (wq.statistics().running, wq.statistics().pending) == (1, 1)
                scope.cancel()
    assert len(caught) == 2
    assert all("sleep_forever" in text for text in caught)


async def test_all_who_wait_when_a_run_ends_are_told_the_same_error() -> None:
    """W114: the same object."""
    caught: list[ValueError] = []

    async def fail() -> None:
        await trio.sleep(1)
        raise ValueError

    work = Work(fail)

    async def wait() -> None:
        try:
            await work.result()
        except ValueError as error:
            caught.append(error)

    async with open_supervisor() as supervisor:
        alloc(supervisor).queue_work(work)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            nursery.start_soon(wait)
    assert caught[0] is caught[1]


@over_kinds
def test_a_plain_function_that_takes_longer_than_its_timeout_is_not_cut_short(kind: Kind) -> None:
    """W120: it comes to its end, and its value is its value."""
    clock = MockClock(autojump_threshold=0)

    def burn() -> str:
        clock.jump(10)
        return "done"

    async def main() -> None:
        async with open_with(kind[1])(cpu_intensive_threshold=0) as supervisor:
            wq = supervisor.alloc_workqueue("timeouts", kind[0])
            work = Work(burn, timeout=5)
            wq.queue_work(work)
            assert await work.result() == "done"
            assert wq.statistics().timed_out == 0

    run_bounded(main, clock=clock)
