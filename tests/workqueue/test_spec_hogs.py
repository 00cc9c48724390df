"""Long steps and CPU-intensive items, by the specification: what they meet of everything else (W61-W69)."""

import logging
import threading
from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from ktrio.workqueue import (
    WQ_CPU_INTENSIVE,
    WQ_HIGHPRI,
    WQ_UNBOUND,
    DelayedWork,
    Supervisor,
    Work,
    open_supervisor,
    parked,
)
from tests.workqueue.conftest import (
    KIND_NAMES,
    KINDS,
    Errors,
    Kind,
    Open,
    Trace,
    alloc_bound,
    assert_at_zero,
    bound_pool,
    open_with,
    run_bounded,
)

over_kinds = pytest.mark.parametrize("kind", KINDS, ids=KIND_NAMES)


def burn(milliseconds: float) -> None:
    clock = trio.lowlevel.current_clock()
    assert isinstance(clock, MockClock)
    clock.jump(milliseconds / 1000)


async def burn_async(milliseconds: float) -> None:
    burn(milliseconds)
    await trio.lowlevel.checkpoint()


def count(supervisor: Supervisor) -> int:
    return sum(hog.count for hog in supervisor.statistics().hogs)


@pytest.mark.parametrize(("milliseconds", "hogs"), [(9.9, 0), (10.1, 1)])
@over_kinds
async def test_ten_milliseconds_is_the_line(kind: Kind, milliseconds: float, hogs: int) -> None:
    """W61; invariant 36."""
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("test", kind[0])
        await wq.run(burn_async, milliseconds)
        assert count(supervisor) == hogs
        assert wq.statistics().cpu_intensive == (hogs if kind[0] == 0 else 0)


@over_kinds
async def test_reports_come_at_the_kernels_numbers_and_say_what_to_do(
    kind: Kind, caplog: pytest.LogCaptureFixture
) -> None:
    """W61; invariant 36: 4, 5, 7, 11, 19; counted over queues and CPUs."""
    reported: list[int] = []
    async with open_with(kind[1])(cpus=2) as supervisor:
        queues = [supervisor.alloc_workqueue(name, kind[0]) for name in ("one", "two")]
        with caplog.at_level(logging.WARNING, "ktrio.workqueue"):
            for number in range(1, 31):
                caplog.clear()
                await queues[number % 2].run_on(number % 2, burn_async, 20)
                if caplog.records:
                    reported.append(number)
                    [said] = caplog.messages
                    assert "burn_async" in said
                    assert "WQ_UNBOUND" in said or "WQ_CPU_INTENSIVE" in said or "thread" in said
        assert count(supervisor) == 30
    assert reported == [4, 5, 7, 11, 19]


@over_kinds
async def test_child_tasks_and_waits_are_no_steps(kind: Kind, autojump_clock: MockClock) -> None:
    """W61, W62: what a task of the item burns is not between two awaits of the item, nor is what it sleeps."""

    async def body() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(burn_async, 50)
        await trio.sleep(5)
        async with parked():
            await trio.sleep(5)

    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("test", kind[0])
        await wq.run(body)
        assert count(supervisor) == 0
        assert wq.statistics().cpu_time < 0.01


@pytest.mark.parametrize("road", ["delayed", "parked", "lane", "group", "map", "requeued"])
@over_kinds
async def test_a_long_step_is_counted_on_every_road(kind: Kind, road: str, autojump_clock: MockClock) -> None:
    """W61: however the item was queued; and the books close."""
    left = [1]

    async def body(_: object = None) -> None:
        burn(20)
        if road == "requeued" and left.pop():
            left.append(0)
            wq.queue_work(work)

    work = Work(body)
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("test", kind[0])
        if road == "delayed":
            delayed = DelayedWork(body)
            wq.queue_delayed_work(delayed, 1)
            await delayed.flush()
        elif road == "lane":
            wq.lane("key").queue_work(work)
        elif road == "group":
            async with wq.open_group() as group:
                group.queue_work(work)
        elif road == "map":
            await wq.map(body, [1])
        else:
            wq.queue_work(work, parked=road == "parked")
        await wq.flush()
        await wq.flush()
        assert count(supervisor) == (2 if road == "requeued" else 1)
        await assert_at_zero(supervisor, wq)


async def test_the_threshold_can_be_set_while_it_runs(open_bound: Open) -> None:
    """W159: from the next step on; 0 switches it off."""
    async with open_bound() as supervisor:
        wq = alloc_bound(supervisor)
        counts: list[int] = []
        for threshold in (0.05, 0, "0.015"):
            supervisor.attributes["cpu_intensive_threshold"] = threshold
            await wq.run(burn_async, 20)
            await wq.run(burn_async, 60)
            counts.append(count(supervisor))
        assert counts == [1, 1, 3]


async def test_a_marked_run_lets_the_next_start_when_it_gives_up_the_loop(open_bound: Open, trace: Trace) -> None:
    """W64; invariant 36: from then on it does not count, to its end; its next run counts again."""
    stop = trio.Event()

    async def body() -> None:
        burn(20)
        while not stop.is_set():
            await trio.lowlevel.checkpoint()

    async with open_bound() as supervisor:
        wq = alloc_bound(supervisor)
        work = Work(body)
        wq.queue_work(work)
        trace.queue(wq, "beside")
        for _ in range(20):
            await trio.lowlevel.checkpoint()
        assert (trace.starts, bound_pool(supervisor).nr_running) == (["beside"], 0)
        stop.set()
        await work.flush()
        trace.open("beside")
        await wq.flush()
        assert wq.statistics().cpu_intensive == 1
        await assert_at_zero(supervisor, wq)


@over_kinds
async def test_an_item_that_burns_and_raises_is_both(kind: Kind) -> None:
    """W61, W106: its long step is counted, its error goes where errors go, once."""

    async def body() -> None:
        await trio.lowlevel.checkpoint()
        burn(20)
        raise ValueError("burnt")

    errors = Errors()
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("test", kind[0], on_error=errors)
        wq.queue_work(Work(body))
        await wq.flush()
        assert (count(supervisor), [str(error) for error in errors.errors]) == (1, ["burnt"])
        assert wq.statistics().cpu_time == pytest.approx(0.02)
        await assert_at_zero(supervisor, wq)


async def test_an_intensive_high_queue_has_both(open_bound: Open, trace: Trace) -> None:
    """W57, W65: it starts before normal items, and holds up none once it runs."""
    stop = trio.Event()

    async def spin() -> None:
        trace.note("high starts")
        while not stop.is_set():
            await trio.lowlevel.checkpoint()

    async with open_bound() as supervisor:
        wq = alloc_bound(supervisor)
        high = supervisor.alloc_workqueue("high", WQ_HIGHPRI | WQ_CPU_INTENSIVE)
        trace.queue(wq, "normal")
        high.queue_work(Work(spin))
        high.queue_work(Work(spin))
        for _ in range(20):
            await trio.lowlevel.checkpoint()
        assert trace.starts == ["high", "high", "normal"]
        stop.set()
        trace.open("normal")
        await wq.flush()
        await high.flush()
        await assert_at_zero(supervisor, wq, high)


# -- plain functions in threads: the clock stands still, since one that jumps would not know of them


def run(main: Callable[[], Awaitable[None]]) -> None:
    run_bounded(main, clock=MockClock())


class Threads:
    """A plain function for threads: counts how many are in it, and waits to be let out."""

    def __init__(self) -> None:
        self.may_end = threading.Event()
        self.inside = self.most = self.ran = 0
        self._lock = threading.Lock()
        self._token = trio.lowlevel.current_trio_token()
        self._changed = trio.Event()

    def body(self) -> None:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        self._token.run_sync_soon(self._tell)
        assert self.may_end.wait(20)
        with self._lock:
            self.inside -= 1
            self.ran += 1

    def _tell(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def wait_inside(self, number: int) -> None:
        while self.inside < number:
            await self._changed.wait()


def test_the_thread_limit_is_the_supervisors_and_can_be_raised() -> None:
    """W66, W159: over queues and CPUs together; who waits for a thread keeps slot and place."""

    async def main() -> None:
        async with open_supervisor(cpus=2, thread_limit=2) as supervisor:
            queues = [supervisor.alloc_workqueue(name, WQ_CPU_INTENSIVE, max_active=3) for name in "ab"]
            threads = Threads()
            for number in range(8):
                queues[number % 2].queue_work_on(number // 2 % 2, Work(threads.body))
            await threads.wait_inside(2)
            await wait_all_tasks_blocked()
            assert (threads.inside, sum(wq.statistics().nr_active for wq in queues)) == (2, 8)
            supervisor.attributes["thread_limit"] = 5
            await threads.wait_inside(5)
            assert threads.inside == 5
            threads.may_end.set()
            for wq in queues:
                await wq.flush()
            assert (threads.ran, threads.most) == (8, 5)
            await assert_at_zero(supervisor, *queues)

    run(main)


def test_an_item_in_a_thread_does_not_count_and_is_no_hog() -> None:
    """W61, W65, W66: nobody waits for it, and the loop is free."""

    async def main() -> None:
        async with open_supervisor(thread_limit=1) as supervisor:
            wq = supervisor.alloc_workqueue("threads", WQ_CPU_INTENSIVE)
            bound = alloc_bound(supervisor)
            threads, ran = Threads(), list[str]()
            wq.queue_work(Work(threads.body))
            await threads.wait_inside(1)
            bound.queue_work(Work(ran.append, "beside"))
            await bound.flush()
            assert (ran, bound_pool(supervisor).nr_running, threads.inside) == (["beside"], 0, 1)
            threads.may_end.set()
            await wq.flush()
            assert count(supervisor) == 0
            await assert_at_zero(supervisor, wq, bound)

    run(main)


@pytest.mark.parametrize("how", ["cancel_sync", "destroy", "drain", "disable_sync", "flush"])
def test_whoever_waits_for_an_item_waits_for_its_thread(how: str) -> None:
    """W68, W85, W87, W90, W97: and what waits for a thread behind it is withdrawn or runs, as its waiter means it."""

    async def main() -> None:
        async with open_supervisor(thread_limit=1) as supervisor, trio.open_nursery() as nursery:
            wq = supervisor.alloc_workqueue("threads", WQ_CPU_INTENSIVE)
            threads = Threads()
            work = Work(threads.body)
            wq.queue_work(work)
            await threads.wait_inside(1)
            waiter = getattr(work if how.endswith("sync") or how == "flush" else wq, how)
            done = trio.Event()

            async def wait() -> None:
                await waiter()
                done.set()

            nursery.start_soon(wait)
            await wait_all_tasks_blocked()
            assert not done.is_set()
            threads.may_end.set()
            await done.wait()
            assert (threads.inside, threads.ran) == (0, 1)
            await assert_at_zero(supervisor, wq)

    run(main)


def test_a_timeout_reaches_a_thread_that_asks() -> None:
    """W118, W120: and who is still waiting for a thread is not in one."""

    async def main() -> None:
        clock = trio.lowlevel.current_clock()
        assert isinstance(clock, MockClock)
        errors = Errors()
        async with open_supervisor(thread_limit=1) as supervisor:
            wq = supervisor.alloc_workqueue("threads", WQ_CPU_INTENSIVE, on_error=errors)
            token, begun, discarded = trio.lowlevel.current_trio_token(), trio.Event(), list[str]()

            def ask() -> None:
                token.run_sync_soon(begun.set)
                while True:
                    trio.from_thread.check_cancelled()

            def never() -> None:
                pytest.fail("it had no thread")

            wq.queue_work(Work(ask, timeout=5, name="asks"))
            await begun.wait()
            behind = Work(never, name="behind", on_discard=lambda *_: discarded.append("behind"))
            wq.queue_work(behind)
            await wait_all_tasks_blocked()
            behind.interrupt()
            await behind.flush()
            assert discarded == ["behind"]
            clock.jump(6)
            await wq.flush()
            assert [type(error) for error in errors.errors] == [trio.TooSlowError]
            assert wq.statistics().timed_out == 1
            await assert_at_zero(supervisor, wq)

    run(main)


def test_on_an_unbound_queue_plain_functions_stay_on_the_loop() -> None:
    """W65: the flag has no effect there."""

    async def main() -> None:
        async with open_supervisor() as supervisor:
            wq = supervisor.alloc_workqueue("test", WQ_UNBOUND | WQ_CPU_INTENSIVE)
            assert await wq.run(threading.current_thread) is threading.main_thread()
            assert await wq.run(partial(threading.current_thread)) is threading.main_thread()

    run(main)
