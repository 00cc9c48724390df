"""What an item raises: on_error, the supervisor's group, what no handler may see, wrong use from inside."""

import contextlib
from collections.abc import Awaitable, Callable
from contextvars import ContextVar

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from ktrio.workqueue import (
    WQ_HIGHPRI,
    WQ_UNBOUND,
    DeadlockError,
    Work,
    Workqueue,
    WorkqueueError,
    WorkqueueFlags,
    current_work,
    open_supervisor,
    parked,
)
from tests.workqueue.conftest import Errors, Trace, alloc, assert_at_zero, assert_queue_at_zero


class MishapError(Exception):
    """Raised by items on purpose."""


def fail() -> None:
    raise MishapError("on purpose")


async def fail_later() -> None:
    await trio.sleep(1)
    raise MishapError("on purpose")


async def park_and_fail() -> None:
    async with parked():
        await trio.sleep(1)
        raise MishapError("on purpose")


@pytest.mark.parametrize("cpu", [0, 2])
@pytest.mark.parametrize("body", [fail, fail_later, park_and_fail])
async def test_by_default_an_error_ends_the_supervisor_with_one_flat_group(
    cpu: int, body: Callable[[], Awaitable[None] | None]
) -> None:
    """W107; invariant 59: the group holds the item's exception directly, whatever pool it ran in."""
    with pytest.RaisesGroup(pytest.RaisesExc(MishapError, match="on purpose")):
        async with open_supervisor(3) as supervisor:
            alloc(supervisor).queue_work_on(cpu, Work(body))
            await trio.sleep_forever()


async def test_an_error_while_the_supervisor_is_being_left_comes_out_the_same() -> None:
    """W107; invariant 59."""
    with pytest.RaisesGroup(MishapError):
        async with open_supervisor() as supervisor:
            alloc(supervisor).queue_work(Work(fail_later))


async def test_a_group_raised_by_an_item_is_kept_whole() -> None:
    """W107; invariant 59."""
    with pytest.RaisesGroup(pytest.RaisesGroup(MishapError, ValueError, match="mine")):
        async with open_supervisor() as supervisor:

            async def body() -> None:
                raise ExceptionGroup("mine", [MishapError(), ValueError()])

            alloc(supervisor).queue_work(Work(body))
            await trio.sleep_forever()


async def test_an_error_cancels_the_others_discards_the_pending_and_closes_the_books(trace: Trace) -> None:
    """W5; invariants 59 and 60: nothing handed to a queue is leaked."""
    with pytest.RaisesGroup(MishapError):
        async with open_supervisor(2) as supervisor:
            wq, other = alloc(supervisor, max_active=2), alloc(supervisor, "other")
            trace.queue(wq, "running waiting", cpu=1)
            trace.queue(wq, "running2", cpu=0)
            other.queue_work(trace.parker("parked"))
            await wait_all_tasks_blocked()
            trace.queue(wq, "inactive", cpu=1)
            wq.queue_work_on(0, Work(fail))
            await trio.sleep_forever()
    assert trace.ends == []
    assert trace.discarded == ["inactive"]
    assert_queue_at_zero(wq)
    assert_queue_at_zero(other)
    assert (wq.statistics().failed, wq.statistics().cancelled) == (1, 1)


async def test_on_error_is_told_once_and_everything_goes_on(trace: Trace) -> None:
    """W106, W108; invariant 59: slot and waiters released, the worker survives, others run."""
    errors = Errors()
    async with open_supervisor() as supervisor:
        wq = supervisor.alloc_workqueue("test", WQ_UNBOUND, max_active=1, on_error=errors)
        for body in (fail, fail_later, park_and_fail):
            work = Work(body)
            wq.queue_work(work)
            trace.queue(wq, "next")
            trace.open("next")
            assert await work.flush() is True
            await wq.flush()
            assert trace.ends.pop() == "next"
            assert errors.seen[-1][0] is work
            assert not work.is_running
            assert wq.queue_work(work) is True
            assert await work.cancel_sync() is True
        assert [type(error) for error in errors.errors] == [MishapError] * 3
        assert wq.statistics().failed == 3
        assert supervisor.statistics().pools[0].nr_workers <= 3, "workers survive errors"
        await assert_at_zero(supervisor, wq)


async def test_on_error_gets_a_group_intact() -> None:
    """W108; invariant 59."""
    errors = Errors()
    group = ExceptionGroup("mine", [MishapError(), ExceptionGroup("inner", [ValueError()])])

    async def body() -> None:
        raise group

    async with open_supervisor() as supervisor:
        wq = supervisor.alloc_workqueue("test", WQ_UNBOUND, on_error=errors)
        await_this = Work(body)
        wq.queue_work(await_this)
        await wq.flush()
    assert [error is group for error in errors.errors] == [True]


async def test_an_item_that_raises_and_was_requeued_runs_again() -> None:
    """W11; invariant 59 with 3."""
    errors = Errors()
    runs = 0

    async def body() -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            wq.queue_work(work)
            raise MishapError

    async with open_supervisor() as supervisor:
        wq = supervisor.alloc_workqueue("test", WQ_UNBOUND, max_active=1, on_error=errors)
        work = Work(body)
        wq.queue_work(work)
        await wq.flush()
        await wq.drain()
        await assert_at_zero(supervisor, wq)
    assert (runs, len(errors.seen)) == (2, 1)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("grouped", [False, True])
async def test_orders_to_stop_go_to_the_supervisor_not_to_on_error(
    trace: Trace, error: type[BaseException], grouped: bool
) -> None:
    """W109. KeyboardInterrupt, SystemExit and groups that hold one are nobody's to swallow."""
    errors = Errors()

    async def body() -> None:
        await trio.sleep(1)
        if grouped:
            raise BaseExceptionGroup("mine", [MishapError(), error()])
        raise error

    inner = pytest.RaisesGroup(MishapError, error) if grouped else error
    with pytest.RaisesGroup(inner):
        async with open_supervisor() as supervisor:
            wq = supervisor.alloc_workqueue("test", WQ_UNBOUND, max_active=1, on_error=errors)
            wq.queue_work(Work(body))
            trace.queue(wq, "pending")
            await trio.sleep_forever()
    assert errors.seen == []
    assert trace.discarded + trace.starts == ["pending"], "discarded, or started and cancelled; never both"
    assert trace.ends == []
    assert_queue_at_zero(wq)


async def test_an_order_to_stop_raised_in_a_run_goes_to_the_supervisor() -> None:
    """W109."""

    async def body() -> None:
        raise SystemExit(3)

    async def call() -> None:
        # What the caller gets is a second matter: it is cancelled, or told that the run had no end of its own.
        with contextlib.suppress(Exception):
            await wq.run(body)
        await trio.sleep_forever()

    with pytest.RaisesGroup(SystemExit):
        async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
            wq = alloc(supervisor)
            nursery.start_soon(call)
    assert_queue_at_zero(wq)


async def test_a_stray_cancelled_is_an_error_of_the_item(trace: Trace) -> None:
    """W121. A stored Cancelled that is raised later, outside its scope, does not tear the pool down."""
    errors = Errors()

    async def body() -> None:
        stored: list[trio.Cancelled] = []
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.sleep_forever()
            except trio.Cancelled as cancelled:
                stored.append(cancelled)
                raise
        raise stored[0]

    async with open_supervisor() as supervisor:
        wq = supervisor.alloc_workqueue("test", WQ_UNBOUND, max_active=1, on_error=errors)
        wq.queue_work(Work(body))
        trace.queue(wq, "next")
        trace.open("next")
        await wq.flush()
        await assert_at_zero(supervisor, wq)
    assert [type(error) for error in errors.errors] == [RuntimeError]
    assert trace.ends == ["next"]


async def test_scopes_of_the_item_work_untouched() -> None:
    """W121."""

    async def body() -> str:
        with trio.move_on_after(1):
            await trio.sleep_forever()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.cancel_scope.cancel()
        with pytest.raises(trio.TooSlowError), trio.fail_after(1):
            await trio.sleep_forever()
        return "untouched"

    async with open_supervisor() as supervisor:
        assert await alloc(supervisor).run(body) == "untouched"


async def call_from_child(fn: Callable[[], Awaitable[object]]) -> None:
    """Call `fn` in a child task, and let its error through ungrouped."""
    caught: list[Exception] = []

    async def child() -> None:
        try:
            await fn()
        except Exception as error:
            caught.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(child)
    if caught:
        raise caught[0]


@pytest.mark.parametrize("inside", ["item", "child task"])
@pytest.mark.parametrize(
    "wrong", ["work.flush", "work.cancel_sync", "work.interrupting", "wq.flush", "wq.drain", "wq.destroy"]
)
async def test_waiting_for_oneself_is_an_error_that_names_the_object(wrong: str, inside: str) -> None:
    """W101; invariant 58: self-flush, self-cancel, one's own queue; the books stay as they were."""
    caught: list[DeadlockError] = []

    async def body() -> None:
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "work.flush": work.flush,
            "work.cancel_sync": work.cancel_sync,
            "work.interrupting": lambda: work.cancel_sync(interrupt=True),
            "wq.flush": wq.flush,
            "wq.drain": wq.drain,
            "wq.destroy": wq.destroy,
        }
        before = wq.statistics()
        try:
            await (calls[wrong]() if inside == "item" else call_from_child(calls[wrong]))
        except DeadlockError as error:
            caught.append(error)
        assert wq.statistics() == before
        await trio.lowlevel.checkpoint()

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, "queue-name")
        work = Work(body, name="work-name")
        wq.queue_work(work)
        await wq.flush()
        await assert_at_zero(supervisor, wq)
        wq.queue_work(Work(trio.lowlevel.checkpoint))
    (error,) = caught
    assert isinstance(error, WorkqueueError)
    assert ("work-name" if wrong.startswith("work.") else "queue-name") in str(error)


async def test_waiting_for_others_is_no_deadlock(trace: Trace) -> None:
    """W104; invariant 58 has no false positive: other items, other queues, a queue whose item waits for this one."""

    async def body() -> None:
        await works["b"].flush()
        await works["c"].cancel_sync()
        await other.flush()
        await other.drain()
        trace.note("done")

    async with open_supervisor() as supervisor:
        wq, other = alloc(supervisor), alloc(supervisor, "other")
        works = trace.queue(wq, "b c") | trace.queue(other, "d")
        wq.queue_work(Work(body))
        trace.open("b", "c", "d")
        await wq.flush()
        await assert_at_zero(supervisor, wq, other)
    assert trace.events[-1] == "done"


BODIES = [fail, fail_later, park_and_fail]
over_bodies = pytest.mark.parametrize("body", BODIES)
over_queues = pytest.mark.parametrize("make_queue", [WQ_UNBOUND, WQ_UNBOUND & WQ_HIGHPRI], ids=["unbound", "bound"])


class Retries:
    """An `on_error` that queues the item again, three times at most, and keeps where that was."""

    def __init__(self) -> None:
        self.answers: list[bool] = []
        self.inside: list[Work | None] = []
        self.contexts: list[str] = []

    def __call__(self, work: Work, error: Exception) -> None:
        self.inside.append(current_work())
        self.contexts.append(SOURCE.get())
        if len(self.answers) < 3:
            self.answers.append(self.wq.queue_work(work))

    wq: Workqueue


SOURCE = ContextVar("SOURCE", default="nobody")


@over_bodies
@over_queues
@pytest.mark.parametrize("end", ["leave", "drain", "destroy"])
async def test_a_retry_by_on_error_is_chained(
    make_queue: WorkqueueFlags, body: Callable[[], Awaitable[None] | None], end: str
) -> None:
    """W3, W86, W108: it is inside the item that has raised, so nobody who waits for the queue shuts it out."""
    retries = Retries()
    async with open_supervisor(cpus=2) as supervisor:
        wq = retries.wq = supervisor.alloc_workqueue("test", make_queue, on_error=retries)
        SOURCE.set("queueing")
        wq.queue_work_on(1, work := Work(body))
        SOURCE.set("later")
        if end == "drain":
            await wq.drain()
        elif end == "destroy":
            await wq.destroy()
    assert retries.answers == [True] * 3
    assert retries.inside == [work] * 4
    assert retries.contexts == ["queueing"] * 4, "W122"
    assert wq.statistics().started == 4
    assert [pwq.in_flight for pwq in wq.statistics().pwqs] == [0, 0]
    assert wq.pwqs[1].started == 4, "W18"
    assert_queue_at_zero(wq)


async def test_an_on_error_that_retries_for_ever_does_not_hold_up_leaving(caplog: pytest.LogCaptureFixture) -> None:
    """W4."""
    answers: list[bool] = []

    def retry(work: Work, error: Exception) -> None:
        answers.append(wq.queue_work(work))

    async with open_supervisor() as supervisor:
        wq = supervisor.alloc_workqueue("test", WQ_UNBOUND, on_error=retry)
        wq.queue_work(Work(fail_later))
    assert answers[-1] is False
    assert all(answers[:-1])
    assert "fail_later" in caplog.text


async def test_after_on_error_the_worker_is_inside_nothing() -> None:
    """Also if that has raised."""
    seen: list[Work | None] = []

    def complain(work: Work, error: Exception) -> None:
        raise MishapError("of on_error")

    with pytest.RaisesGroup(MishapError):
        async with open_supervisor() as supervisor:
            wq = supervisor.alloc_workqueue("test", WQ_UNBOUND, on_error=complain)
            wq.queue_work(Work(fail))
            await wait_all_tasks_blocked()
            seen += [worker.work for worker in supervisor.workers.values()]
    assert set(seen) <= {None}
