"""Plain functions of `WQ_CPU_INTENSIVE` queues run in threads."""

import contextvars
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import TypeVar

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from ktrio.workqueue import (
    WQ_CPU_INTENSIVE,
    DrainingError,
    Supervisor,
    Work,
    Workqueue,
    current_work,
    open_supervisor,
)
from tests.workqueue.conftest import Errors, Open, alloc_bound, assert_at_zero, bound_pool, run_bounded

T = TypeVar("T")
variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


def run(main: Callable[[], Awaitable[T]]) -> T:
    """On a clock that stands still: one that jumps would not know of the threads."""
    return run_bounded(main, clock=MockClock())


def alloc(supervisor: Supervisor, on_error: Errors | None = None) -> Workqueue:
    return supervisor.alloc_workqueue("intensive", WQ_CPU_INTENSIVE, on_error=on_error or "raise")


class Held:
    """A plain function that blocks its thread until told to go on."""

    def __init__(self) -> None:
        self.may_end = threading.Event()
        self.begun = 0
        self.ended = 0
        self._token = trio.lowlevel.current_trio_token()
        self._changed = trio.Event()

    def hold(self) -> str:
        self.begun += 1
        self._token.run_sync_soon(self._tell)
        assert self.may_end.wait(20)
        self.ended += 1
        return "done"

    def _tell(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def wait_begun(self, count: int) -> None:
        while self.begun < count:
            await self._changed.wait()


def is_in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


async def async_is_in_main_thread() -> bool:
    return is_in_main_thread()


class AsyncCallable:
    async def __call__(self) -> bool:
        return is_in_main_thread()


def plain_that_gives_a_coroutine() -> Coroutine[object, object, bool]:
    assert not is_in_main_thread()
    return async_is_in_main_thread()


def test_plain_functions_run_in_threads_and_async_ones_on_the_loop(open_bound: Open) -> None:
    """W66."""

    async def main() -> None:
        async with open_bound() as supervisor:
            wq = alloc(supervisor)
            assert await wq.run(is_in_main_thread) is False
            assert await wq.run(partial(is_in_main_thread)) is False
            assert await wq.run(async_is_in_main_thread) is True
            assert await wq.run(partial(async_is_in_main_thread)) is True
            assert await wq.run(AsyncCallable()) is True
            assert await wq.run(plain_that_gives_a_coroutine) is True
            assert await alloc_bound(supervisor).run(is_in_main_thread) is True
            await assert_at_zero(supervisor, wq)

    run(main)


def stop_iteration() -> None:
    raise StopIteration("of the item")


def value_error() -> None:
    raise ValueError("of the item")


def give_a_generator() -> object:
    async def generator() -> object:
        yield 1

    return generator()


@pytest.mark.parametrize(
    ("fn", "kind"), [(value_error, ValueError), (stop_iteration, RuntimeError), (give_a_generator, TypeError)]
)
def test_errors_go_where_they_go_on_the_loop(fn: Callable[[], object], kind: type[Exception]) -> None:
    """W20; invariant 59."""

    async def main() -> None:
        errors = Errors()
        async with open_supervisor() as supervisor:
            wq = alloc(supervisor, errors)
            wq.queue_work(Work(fn))
            await wq.flush()
            assert [type(error) for error in errors.errors] == [kind]
            with pytest.raises(kind):
                await wq.run(fn)
            assert await wq.run(int, "42") == 42
            await assert_at_zero(supervisor, wq)

    run(main)


def test_the_loop_and_other_items_go_on_meanwhile(open_bound: Open) -> None:
    """W66; invariant 35: the item keeps slot and place and does not count."""

    async def main() -> None:
        held = Held()
        async with open_bound() as supervisor:
            wq, other = alloc(supervisor), alloc_bound(supervisor)
            work = Work(held.hold)
            wq.queue_work(work)
            await held.wait_begun(1)
            assert await other.run(async_is_in_main_thread)
            pool = bound_pool(supervisor)
            assert (pool.occupied, pool.nr_running, wq.statistics().nr_active) == (1, 0, 1)
            assert supervisor.statistics().threads == 1
            held.may_end.set()
            await work.flush()
            await assert_at_zero(supervisor, wq, other)
            assert supervisor.statistics().threads == 0

    run(main)


def test_the_context_of_the_item_reaches_the_thread() -> None:
    """W67, W122: and what is set there stays there."""

    def read_and_set() -> str:
        before = variable.get()
        variable.set("of the thread")
        return before

    async def main() -> None:
        async with open_supervisor() as supervisor:
            wq = alloc(supervisor)
            variable.set("of the caller")
            assert await wq.run(read_and_set) == "of the caller"
            assert await wq.run(read_and_set) == "of the caller"
            assert variable.get() == "of the caller"

    run(main)


def test_current_work_is_known_to_calls_from_the_thread() -> None:
    """W67, W86. Also for chained queueing: a thread of an item queues on a queue that drains (invariant 51)."""

    async def async_current_work() -> Work | None:
        await trio.lowlevel.checkpoint()
        return current_work()

    async def main() -> None:
        held = Held()
        seen: list[object] = []

        def body() -> None:
            held.hold()
            seen.append(trio.from_thread.run_sync(current_work))
            seen.append(trio.from_thread.run(async_current_work))
            seen.append(trio.from_thread.run_sync(wq.queue_work, chained))

        async with open_supervisor() as supervisor:
            wq = alloc(supervisor)
            chained = Work(seen.append, "chained")
            work = Work(body)
            wq.queue_work(work)
            await held.wait_begun(1)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wq.drain)
                await wait_all_tasks_blocked()
                with pytest.raises(DrainingError):
                    wq.queue_work(Work(print))
                held.may_end.set()
            assert seen == [work, work, True, "chained"]

    run(main)


def test_at_most_thread_limit_run_at_once() -> None:
    """W66. Others wait for a thread and hold their slots meanwhile."""

    async def main() -> None:
        held = Held()
        async with open_supervisor(thread_limit=2) as supervisor:
            wq = alloc(supervisor)
            for _ in range(5):
                wq.queue_work(Work(held.hold))
            await held.wait_begun(2)
            await wait_all_tasks_blocked()
            assert (held.begun, supervisor.statistics().threads, wq.statistics().running) == (2, 2, 5)
            held.may_end.set()
            await wq.flush()
            assert held.ended == 5
            await assert_at_zero(supervisor, wq)

    run(main)


async def test_the_default_thread_limit_is_the_usable_cpus() -> None:
    """W66."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    async with open_supervisor() as supervisor:
        assert supervisor.thread_limiter.total_tokens == usable
    for wrong in (0, -1):
        with pytest.raises(ValueError, match="thread_limit"):
            async with open_supervisor(thread_limit=wrong):
                pass  # pragma: no cover


def test_an_interrupt_waits_for_the_thread(open_bound: Open) -> None:
    """W68. Nothing ends a thread from outside; the worker goes on with the next item afterwards."""

    async def main() -> None:
        held = Held()
        async with open_bound() as supervisor:
            wq = alloc(supervisor)
            work = Work(held.hold)
            wq.queue_work(work)
            await held.wait_begun(1)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(work.cancel_sync, interrupt=True))
                await wait_all_tasks_blocked()
                assert work.is_running
                held.may_end.set()
            assert (work.is_running, held.ended) == (False, 1)
            assert await wq.run(is_in_main_thread) is False
            await assert_at_zero(supervisor, wq)

    run(main)


def test_a_function_that_asks_is_interrupted(open_bound: Open) -> None:
    """W68."""

    async def main() -> None:
        begun = trio.Event()

        def asks() -> None:
            trio.from_thread.run_sync(begun.set)
            while True:
                trio.from_thread.check_cancelled()

        async with open_bound() as supervisor:
            wq = alloc(supervisor)
            work = Work(asks)
            wq.queue_work(work)
            await begun.wait()
            await work.cancel_sync(interrupt=True)
            await assert_at_zero(supervisor, wq)
            assert wq.statistics().failed == 0

    run(main)


def test_cancelled_before_it_had_a_thread_it_is_discarded() -> None:
    """W68, W11: it has never run, and whoever handed it over is told, once."""

    async def main() -> None:
        held = Held()
        discarded: list[str] = []
        async with open_supervisor(thread_limit=1) as supervisor:
            wq = alloc(supervisor)
            wq.queue_work(Work(held.hold, on_discard=lambda: discarded.append("first")))
            await held.wait_begun(1)
            second = Work(held.hold, on_discard=lambda: discarded.append("second"))
            wq.queue_work(second)
            await wait_all_tasks_blocked()
            assert second.is_running
            await second.cancel_sync(interrupt=True)
            held.may_end.set()
            await wq.flush()
            assert (discarded, held.begun) == (["second"], 1)
            await assert_at_zero(supervisor, wq)

    run(main)


def test_cancelling_the_supervisor_waits_for_the_threads() -> None:
    """W1, W68; invariant 60: no thread outlives it; what had none is discarded."""

    async def main() -> None:
        held = Held()
        discarded: list[int] = []
        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as scope:
                async with open_supervisor(thread_limit=1) as supervisor:
                    wq = alloc(supervisor)
                    for number in range(3):
                        wq.queue_work(Work(held.hold, on_discard=partial(discarded.append, number)))
                    await held.wait_begun(1)

                    async def let_it_end() -> None:
                        await wait_all_tasks_blocked()
                        assert held.ended == 0
                        held.may_end.set()

                    nursery.start_soon(let_it_end)
                    scope.cancel()
            assert scope.cancelled_caught
            assert (held.begun, held.ended, sorted(discarded)) == (1, 1, [1, 2])
            books = wq.statistics()
            assert (books.in_flight, books.running, supervisor.statistics().threads) == (0, 0, 0)

    run(main)


def test_run_gives_the_result_and_its_cancelled_caller_waits_for_the_thread() -> None:
    """W68, W111."""

    async def main() -> None:
        held = Held()
        async with open_supervisor() as supervisor:
            wq = alloc(supervisor)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wq.run, held.hold)
                await held.wait_begun(1)
                nursery.cancel_scope.cancel()
                held.may_end.set()
            assert held.ended == 1
            assert await wq.run(held.hold) == "done"
            await assert_at_zero(supervisor, wq)

    run(main)
