"""`await work.result()`: the outcome of the last queueing, to whoever waits; kept only by queues that store."""

import contextlib
import gc
import logging
import traceback
from typing import Literal

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from ktrio.workqueue import (
    WQ_UNBOUND,
    DeadlockError,
    DestroyedError,
    NoResultError,
    OnError,
    Supervisor,
    Work,
    Workqueue,
    WorkqueueFlags,
    open_supervisor,
)
from tests.workqueue.conftest import Errors, Trace, assert_at_zero

Flags = WorkqueueFlags | Literal[0]


class MishapError(Exception):
    """Raised by items on purpose."""


@pytest.fixture(params=[WQ_UNBOUND, 0], ids=["unbound", "bound"])
def flags(request: pytest.FixtureRequest) -> Flags:
    return request.param


def alloc(supervisor: Supervisor, flags: Flags, on_error: OnError = "raise", max_active: int = 0) -> Workqueue:
    return supervisor.alloc_workqueue("test", flags, max_active, on_error)


async def fail(message: str = "on purpose") -> None:
    await trio.sleep(1)
    raise MishapError(message)


async def add(left: int, right: int) -> int:
    await trio.sleep(1)
    return left + right


@pytest.mark.parametrize("on_error", ["raise", "store"])
async def test_a_result_comes_to_everybody_who_waits_for_it(flags: Flags, on_error: OnError) -> None:
    """W113."""
    got: list[int] = []

    async def wait(work: Work[int]) -> None:
        got.append(await work.result())

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, flags, on_error)
        work = Work(add, 2, 3)
        async with trio.open_nursery() as nursery:
            wq.queue_work(work)
            nursery.start_soon(wait, work)  # pending
            await trio.sleep(0.5)
            nursery.start_soon(wait, work)  # running
        assert got == [5, 5]
        await assert_at_zero(supervisor, wq)


@pytest.mark.parametrize("on_error", ["raise", "store", "callable"])
async def test_an_error_goes_to_those_who_wait_and_to_no_one_else(
    flags: Flags, on_error: OnError | Literal["callable"], caplog: pytest.LogCaptureFixture
) -> None:
    """W114; invariant 59: `on_error` sees what nobody has waited for."""
    errors = Errors()
    caught: list[MishapError] = []

    async def wait(work: Work) -> None:
        try:
            await work.result()
        except MishapError as error:
            caught.append(error)

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, flags, errors if on_error == "callable" else on_error)
        work = Work(fail)
        wq.queue_work(work)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait, work)
            nursery.start_soon(wait, work)
        assert wq.statistics().failed == 1
        await assert_at_zero(supervisor, wq)
    assert [type(error) for error in caught] == [MishapError] * 2
    assert errors.seen == []
    assert caplog.records == []


async def test_an_error_whose_caller_has_gone_goes_to_on_error(flags: Flags) -> None:
    """W113, W114; invariants 45, 59: a cancelled caller leaves nothing behind, the item is not touched."""
    errors = Errors()
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, flags, errors)
        work = Work(fail)
        wq.queue_work(work)
        for seconds in (0, 0.5):
            with trio.move_on_after(seconds) as scope:
                await work.result()
            assert scope.cancelled_caught
        await work.flush()
        await assert_at_zero(supervisor, wq)
    assert [type(error) for error in errors.errors] == [MishapError]


async def test_a_result_is_of_the_last_queueing_seen(flags: Flags, trace: Trace) -> None:
    """As invariants 39-41 for flush: of the pending queueing, not of the run before it nor of one that comes later.

    W113.
    """
    numbers = iter(range(1, 10))

    async def count() -> int:
        number = next(numbers)
        await trace.gate(str(number)).wait()
        return number

    got: list[int] = []

    async def wait(work: Work[int]) -> None:
        got.append(await work.result())

    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        wq = alloc(supervisor, flags)
        work = Work(count)
        wq.queue_work(work)
        await wait_all_tasks_blocked()
        nursery.start_soon(wait, work)
        await wait_all_tasks_blocked()
        wq.queue_work(work)
        nursery.start_soon(wait, work)
        await wait_all_tasks_blocked()
        trace.open("1")
        await wait_all_tasks_blocked()
        assert got == [1]
        wq.queue_work(work)
        trace.open("2")
        await wait_all_tasks_blocked()
        assert got == [1, 2]
        trace.open("3")


async def test_an_item_never_queued_has_no_result(flags: Flags) -> None:
    """W115. Misuse is an error that names the item, not a hang."""
    with pytest.raises(NoResultError, match="<Work lonely idle>"):
        await Work(add, 1, 2, name="lonely").result()


async def test_what_nobody_waited_for_is_kept_by_queues_that_store_only(flags: Flags) -> None:
    """W115, W116."""
    async with open_supervisor() as supervisor:
        forgetful, store = alloc(supervisor, flags), alloc(supervisor, flags, "store")
        work = Work(add, 1, 2)
        store.queue_work(work)
        await store.flush()
        assert [await work.result(), await work.result()] == [3, 3]
        forgetful.queue_work(work)
        await forgetful.flush()
        with pytest.raises(NoResultError, match="on_error='store'"):
            await work.result()


@pytest.mark.exhaustive
async def test_a_kept_value_is_released_when_the_item_is_queued_again(flags: Flags) -> None:
    """W116."""

    class Value:
        pass

    gate = trio.Event()
    values = [Value()]

    async def take() -> Value | None:
        if values:
            return values.pop()
        await gate.wait()
        return None

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, flags, "store")
        work = Work(take)
        wq.queue_work(work)
        await work.flush()
        assert type(await work.result()) is Value
        wq.queue_work(work)
        await wait_all_tasks_blocked()
        gc.collect()
        assert not [thing for thing in gc.get_objects() if isinstance(thing, Value)]
        gate.set()
        assert await work.result() is None


async def test_result_is_a_checkpoint(flags: Flags) -> None:
    """W95."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, flags, "store")
        work = Work(add, 1, 2)
        wq.queue_work(work)
        await work.flush()
        with trio.CancelScope() as scope:
            scope.cancel()
            await work.result()
        assert scope.cancelled_caught


@pytest.mark.parametrize("on_error", ["raise", "store"])
async def test_a_result_that_will_never_be_is_an_error(flags: Flags, trace: Trace, on_error: OnError) -> None:
    """W115. Withdrawn before it began, or interrupted: as `Workqueue.run` says it."""
    said: list[str] = []

    async def wait(work: Work) -> None:
        try:
            await work.result()
        except DestroyedError as error:
            said.append(str(error))

    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        wq = alloc(supervisor, flags, on_error, max_active=1)
        first, second = trace.queue(wq, "first second").values()
        nursery.start_soon(wait, first)
        nursery.start_soon(wait, second)
        await wait_all_tasks_blocked()
        assert second.cancel()
        await wait_all_tasks_blocked()
        assert len(said) == 1
        assert "second" in said[0]
        assert "discarded" in said[0]
        first.interrupt()
        await wait_all_tasks_blocked()
        assert "first" in said[1]
        assert "interrupted" in said[1]
        for work, why in (first, "interrupted"), (second, "discarded"):
            with pytest.raises(DestroyedError if on_error == "store" else NoResultError, match=f"{why}|kept|not run"):
                await work.result()
        await assert_at_zero(supervisor, wq)
    assert trace.discarded == ["second"]


async def test_a_caller_learns_that_the_supervisor_was_cancelled(flags: Flags, trace: Trace) -> None:
    """W5; invariant 60: for a pending and a running item."""
    said: list[str] = []

    async def wait(work: Work) -> None:
        try:
            await work.result()
        except DestroyedError as error:
            said.append(str(error))

    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            async with open_supervisor() as supervisor:
                wq = alloc(supervisor, flags, max_active=1)
                for work in trace.queue(wq, "first second").values():
                    nursery.start_soon(wait, work)
                await wait_all_tasks_blocked()
                scope.cancel()
    assert sorted("interrupted" in word for word in said) == [False, True]


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
async def test_an_order_to_stop_goes_to_the_supervisor_and_its_caller_learns_of_it(
    flags: Flags, error: type[BaseException]
) -> None:
    """W109; invariant 59; also where the queue stores."""

    def stop() -> None:
        raise error

    said: list[str] = []

    async def wait(work: Work) -> None:
        try:
            await work.result()
        except DestroyedError as destroyed:
            said.append(str(destroyed))

    async with trio.open_nursery() as nursery:
        with pytest.raises(BaseExceptionGroup) as info:  # noqa: PT012 - the block is what raises
            async with open_supervisor() as supervisor:
                wq = alloc(supervisor, flags, "store")
                work = Work(stop)
                wq.queue_work(work)
                nursery.start_soon(wait, work)
                await trio.sleep_forever()
        assert [type(inner) for inner in info.value.exceptions] == [error]
    assert len(said) == 1
    assert error.__name__ in said[0]


async def test_waiting_for_ones_own_result_is_an_error(flags: Flags) -> None:
    """W101; invariant 58."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, flags)

        async def body() -> str:
            with pytest.raises(DeadlockError):
                await work.result()
            return "went on"

        work = Work(body)
        wq.queue_work(work)
        assert await work.result() == "went on"


async def test_an_item_that_waits_for_a_result_is_parked(flags: Flags) -> None:
    """W102. It must not hold the slot that the other needs; an error comes past the line for slots (P4)."""
    async with open_supervisor(capacity=1) as supervisor:
        wq = alloc(supervisor, flags, max_active=1)
        inner = Work(add, 2, 2)
        bad = Work(fail)

        async def outer() -> int:
            wq.queue_work(inner)
            four = await inner.result()
            wq.queue_work(bad)
            with contextlib.suppress(MishapError):
                await bad.result()
            return four + 1

        work = Work(outer)
        wq.queue_work(work)
        assert await work.result() == 5
        await assert_at_zero(supervisor, wq)


# -- the policy "store"


async def test_a_stored_error_is_raised_by_every_result(flags: Flags, caplog: pytest.LogCaptureFixture) -> None:
    """W116. Always the same object, and neither its traceback nor its context grows."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, flags, "store")
        work = Work(fail)
        wq.queue_work(work)
        await wq.flush()
        lengths: set[int] = set()
        seen: set[int] = set()
        for _ in range(5):
            try:
                raise ValueError("something else is being handled")
            except ValueError:
                with pytest.raises(MishapError) as info:
                    await work.result()
            assert info.value.__context__ is None
            frames = traceback.extract_tb(info.value.__traceback__)
            assert "fail" in [frame.name for frame in frames]
            assert not [frame for frame in frames if frame.filename.endswith("_worker.py")]
            lengths.add(len(frames))
            seen.add(id(info.value))
        assert (len(lengths), len(seen)) == (1, 1)
        await wq.destroy()
        with pytest.raises(MishapError):  # it is the item's: the queue may be gone
            await work.result()
    assert caplog.records == []


@pytest.mark.exhaustive
@pytest.mark.parametrize("end", ["queued again", "requeued while it ran", "destroyed", "left", "forgotten"])
async def test_a_stored_error_that_nobody_asked_for_is_logged_once(
    flags: Flags, end: str, caplog: pytest.LogCaptureFixture
) -> None:
    """W117. It does not vanish: the log names item and queue."""
    requeues = iter([True] if end == "requeued while it ran" else [])

    async def body() -> None:
        if next(requeues, False):
            wq.queue_work(current[0])
        elif end == "requeued while it ran":
            return
        raise MishapError("of nobody")

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, flags, "store")
        current = [Work(body, name="culprit")]
        wq.queue_work(current[0])
        await wq.flush()
        await wq.flush()
        if end == "queued again":
            current[0]._fn = print
            wq.queue_work(current[0])
            assert len(caplog.records) == 1
        elif end == "destroyed":
            await wq.destroy()
            assert len(caplog.records) == 1
        elif end == "forgotten":
            current.clear()
            gc.collect()
            assert len(caplog.records) == 1
        await wq.destroy()
    gc.collect()
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("ktrio.workqueue", logging.ERROR)
    assert "culprit" in record.getMessage()
    assert "'test'" in record.getMessage()
    assert record.exc_info is not None
    assert type(record.exc_info[1]) is MishapError


async def test_an_error_asked_for_once_is_not_logged(flags: Flags, caplog: pytest.LogCaptureFixture) -> None:
    """W117."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, flags, "store")
        work = Work(fail)
        for _ in range(2):
            wq.queue_work(work)
            await wq.flush()
            with pytest.raises(MishapError):
                await work.result()
    assert caplog.records == []


async def test_an_error_of_on_discard_is_stored_too(flags: Flags, caplog: pytest.LogCaptureFixture) -> None:
    """W116."""

    def mishap() -> None:
        raise MishapError

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, flags, "store")
        asked, lost = Work(add, 1, 2, on_discard=mishap), Work(add, 1, 2, on_discard=mishap, name="lost")
        for work in (asked, lost):
            wq.queue_work(work)
            work.cancel()
        with pytest.raises(MishapError):
            await asked.result()
        await assert_at_zero(supervisor, wq)
    assert ["lost" in record.getMessage() for record in caplog.records] == [True]


@pytest.mark.exhaustive
async def test_run_on_a_queue_that_stores_raises_and_logs_nothing(
    flags: Flags, caplog: pytest.LogCaptureFixture
) -> None:
    """W117."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, flags, "store")
        with pytest.raises(MishapError):
            await wq.run(fail)
        assert await wq.run(add, 1, 1) == 2
    gc.collect()
    assert caplog.records == []


async def test_an_unusable_policy_is_refused() -> None:
    """W6."""
    async with open_supervisor() as supervisor:
        with pytest.raises(ValueError, match="'stored'"):
            supervisor.alloc_workqueue("test", on_error="stored")  # type: ignore[arg-type]
