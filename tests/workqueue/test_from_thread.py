"""Queueing from other threads and from signal handlers."""

import contextvars
import logging
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import FrameType

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from ktrio.workqueue import (
    WQ_UNBOUND,
    DelayedWork,
    DrainingError,
    Supervisor,
    SupervisorClosedError,
    Work,
    Workqueue,
    open_supervisor,
)
from tests.workqueue.conftest import Errors, Trace, alloc, assert_at_zero, run_bounded

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


def in_a_thread(fn: Callable[[], object]) -> None:
    """Call it in another thread and wait, with the loop held: a clock that jumps would not know of the thread."""
    with ThreadPoolExecutor(1) as executor:
        executor.submit(fn).result(20)


def post(wq: Workqueue, *works: Work) -> None:
    for work in works:
        in_a_thread(partial(wq.queue_work_from_thread, work))


async def test_it_runs_soon_and_in_the_order_of_the_calls(trace: Trace) -> None:
    """W21; invariants 9, 13: the order of a thread is kept."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=1)
        names = [str(number) for number in range(200)]

        def produce() -> None:
            for name in names:
                wq.queue_work_from_thread(Work(trace.note, name))

        in_a_thread(produce)
        assert wq.pending == 0  # only the loop touches the books
        await wait_all_tasks_blocked()
        assert trace.events == names
        await assert_at_zero(supervisor, wq)


async def test_the_loop_may_use_it_too(trace: Trace) -> None:
    """W7, W21."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        wq.queue_work_from_thread(Work(trace.note, "a"))
        await wait_all_tasks_blocked()
        assert trace.events == ["a"]


async def test_a_signal_handler_may_queue(trace: Trace) -> None:
    """W21."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        work = Work(trace.note, "reload")

        def handle(_number: int, _frame: FrameType | None) -> None:
            wq.queue_work_from_thread(work)

        before = signal.signal(signal.SIGUSR1, handle)
        try:
            signal.raise_signal(signal.SIGUSR1)
            signal.raise_signal(signal.SIGUSR1)
        finally:
            signal.signal(signal.SIGUSR1, before)
        await wait_all_tasks_blocked()
        assert trace.events == ["reload"]


async def test_one_that_is_pending_already_stands_for_it(trace: Trace) -> None:
    """W17, W22; invariant 7: as a False of `queue_work`; nothing is discarded. Neither what waits for its timer."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=1)
        work = trace.holder("a")
        late = DelayedWork(trace.note, "late", on_discard=trace.discarder("late"))
        wq.queue_delayed_work(late, 5)
        post(wq, work, work, late)
        await wait_all_tasks_blocked()
        post(wq, work)
        await wait_all_tasks_blocked()
        assert work.is_pending
        assert work.is_running
        trace.open("a")
        await trio.sleep(10)
        assert trace.starts == ["a", "a"]
        assert trace.events[-1] == "late"
        assert trace.discarded == []


async def test_each_runs_in_the_context_of_its_call() -> None:
    """W122."""
    seen: list[str] = []
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)

        def produce() -> None:
            for value in ("one", "two"):
                variable.set(value)
                wq.queue_work_from_thread(Work(lambda: seen.append(variable.get())))

        in_a_thread(produce)
        await wait_all_tasks_blocked()
        assert seen == ["one", "two"]
        assert variable.get() == "unset"


class Refusals:
    """Ways in which a queueing is refused when its letter is read."""

    def __init__(self, supervisor: Supervisor, nursery: trio.Nursery) -> None:
        self.supervisor = supervisor
        self.nursery = nursery
        self.wq = alloc(supervisor, "refusing")

    async def disabled(self, work: Work) -> None:
        work.disable()

    async def destroyed(self, _work: Work) -> None:
        await self.wq.destroy()

    async def draining(self, _work: Work) -> None:
        self.wq.queue_work(Work(trio.sleep, 1))
        self.nursery.start_soon(self.wq.drain)
        await wait_all_tasks_blocked()

    async def busy(self, work: Work) -> None:
        alloc(self.supervisor, "other").queue_work(work)
        await wait_all_tasks_blocked()

    async def full(self, _work: Work) -> None:
        self.wq.set_max_active(1)
        self.wq.set_max_pending(1)
        self.wq.queue_work(Work(trio.sleep, 1))
        await wait_all_tasks_blocked()
        self.wq.queue_work(Work(trio.sleep, 1))


@pytest.mark.parametrize("silent", [False, True], ids=["on_discard", "log"])
@pytest.mark.parametrize("how", ["disabled", "destroyed", "draining", "busy", "full"])
async def test_one_that_is_refused_on_arrival_is_discarded(
    how: str, silent: bool, trace: Trace, caplog: pytest.LogCaptureFixture
) -> None:
    """W22, W11: once, and never in silence."""
    async with trio.open_nursery() as nursery, open_supervisor() as supervisor:
        refusals = Refusals(supervisor, nursery)
        work = trace.holder("a") if not silent else Work(trace.hold, "a", name="a")
        await getattr(refusals, how)(work)
        post(refusals.wq, work)
        await wait_all_tasks_blocked()
        trace.open("a")
        records = [record for record in caplog.records if record.levelno == logging.WARNING]
        if silent:
            assert "'refusing' from another thread" in records[-1].getMessage()
        else:
            assert trace.discarded == ["a"]
            assert records == []
    assert trace.starts == (["a"] if how == "busy" else [])


async def test_errors_of_on_discard_go_the_queues_way() -> None:
    """W108."""
    errors = Errors()

    def fail() -> None:
        raise ValueError("no")

    async with open_supervisor() as supervisor:
        wq = supervisor.alloc_workqueue("careful", WQ_UNBOUND, on_error=errors)
        work = Work(print, on_discard=fail)
        work.disable()
        post(wq, work)
        await wait_all_tasks_blocked()
        assert [str(error) for error in errors.errors] == ["no"]


async def test_letters_read_after_the_supervisor_was_left_are_discarded(
    trace: Trace, caplog: pytest.LogCaptureFixture
) -> None:
    """W22, W11, and what their on_discard raises is in the log: nobody else is there."""

    def fail() -> None:
        raise ValueError("too late")

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
    supervisor.closed = False  # what a thread may have seen just before
    post(wq, trace.holder("a"), Work(print, on_discard=fail))
    supervisor.closed = True
    await wait_all_tasks_blocked()
    assert trace.discarded == ["a"]
    assert "error of an item" in caplog.text
    assert "too late" in caplog.text


def test_after_the_end_it_is_an_error(trace: Trace) -> None:
    """W23. And then nothing is discarded: the caller knows."""
    queues: list[Workqueue] = []

    async def main() -> None:
        async with open_supervisor() as supervisor:
            queues.append(alloc(supervisor))
        with pytest.raises(SupervisorClosedError, match="'test'"):
            queues[0].queue_work_from_thread(trace.holder("a"))

    trio.run(main)
    with pytest.raises(SupervisorClosedError):
        queues[0].queue_work_from_thread(trace.holder("a"))
    assert trace.discarded == []


def test_a_loop_that_has_ended_around_the_supervisor_is_an_error(trace: Trace) -> None:
    """W23. trio.RunFinishedError, and the letter is taken back."""
    queues: list[Workqueue] = []

    async def main() -> None:
        async with open_supervisor() as supervisor:
            queues.append(alloc(supervisor))

    trio.run(main)
    queues[0].supervisor.closed = False  # what a thread may have seen just before the end
    for _ in range(2):
        with pytest.raises(trio.RunFinishedError):
            queues[0].queue_work_from_thread(trace.holder("a"))
    assert not queues[0].letters._unread


def test_nothing_is_lost_while_a_loop_ends() -> None:
    """W22, W23, W11: each call raises, or its item runs, or it is discarded; exactly one of these."""
    outcomes: dict[int, list[str]] = {}
    accepted: set[int] = set()
    numbers = iter(range(10**9))
    lock = threading.Lock()

    def produce(wq: Workqueue) -> None:
        while True:
            with lock:
                number = next(numbers)
            outcomes[number] = []
            note = outcomes[number].append
            try:
                wq.queue_work_from_thread(Work(note, "ran", on_discard=partial(note, "discarded")))
            except (SupervisorClosedError, trio.RunFinishedError):
                return
            accepted.add(number)

    for turns in range(10):
        threads: list[threading.Thread] = []

        async def main(threads: list[threading.Thread] = threads, turns: int = turns) -> None:
            async with open_supervisor() as supervisor:
                wq = alloc(supervisor)
                for _ in range(3):
                    threads.append(threading.Thread(target=produce, args=(wq,)))
                    threads[-1].start()
                for _ in range(turns * 5):
                    await trio.lowlevel.checkpoint()

        run_bounded(main, clock=MockClock())
        for thread in threads:
            thread.join(20)
    assert accepted
    for number, outcome in outcomes.items():
        assert len(outcome) == (number in accepted), (number, outcome)


def test_a_thread_of_an_item_queues_chained() -> None:
    """W24; invariant 51: by `trio.from_thread` it is inside the item, so a drain lets it in; a letter is not."""
    ran: list[str] = []

    async def main() -> None:
        async with open_supervisor() as supervisor:
            wq = alloc(supervisor)
            begun = trio.Event()
            may_queue = threading.Event()

            def work_in_thread() -> None:
                trio.from_thread.run_sync(begun.set)
                assert may_queue.wait(20)
                assert trio.from_thread.run_sync(wq.queue_work, Work(ran.append, "chained")) is True
                wq.queue_work_from_thread(Work(ran.append, "letter", on_discard=partial(ran.append, "discarded")))
                trio.from_thread.run(trio.lowlevel.checkpoint)

            wq.queue_work(Work(trio.to_thread.run_sync, work_in_thread))
            await begun.wait()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wq.drain)
                while not wq.statistics().draining:
                    await trio.lowlevel.checkpoint()
                with pytest.raises(DrainingError):
                    wq.queue_work(Work(print))
                may_queue.set()
            await assert_at_zero(supervisor, wq)

    run_bounded(main, clock=MockClock())
    assert sorted(ran) == ["chained", "discarded"]
