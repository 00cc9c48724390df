"""`await wq.run(fn, *args)`: the result or the error, to the caller only; giving up takes the run along."""

import contextlib

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from ktrio.workqueue import WQ_UNBOUND, WorkqueueError, current_work, open_supervisor, parked
from tests.workqueue.conftest import Errors, Trace, alloc, assert_at_zero, assert_queue_at_zero


class MishapError(Exception):
    """Raised by items on purpose."""


async def test_run_gives_the_result_of_a_sync_or_async_function() -> None:
    """W110."""

    async def add(left: int, right: int) -> int:
        await trio.sleep(1)
        return left + right

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        assert await wq.run(add, 2, 3) == 5
        assert await wq.run(max, 2, 3) == 3
        assert await wq.run(trio.lowlevel.checkpoint) is None
        assert wq.statistics().completed == 3
        await assert_at_zero(supervisor, wq)


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_an_error_goes_to_the_caller_only(kind: str) -> None:
    """W106, W110; invariant 59: neither on_error nor the supervisor hears of it."""

    def fail() -> None:
        raise MishapError

    async def fail_later() -> None:
        await trio.sleep(1)
        raise MishapError

    errors = Errors()
    async with open_supervisor() as supervisor:
        loud = alloc(supervisor, "loud")
        told = supervisor.alloc_workqueue("told", WQ_UNBOUND, on_error=errors)
        for wq in (loud, told):
            with pytest.raises(MishapError) as info:
                await wq.run(fail if kind == "sync" else fail_later)
            assert type(info.value) is MishapError
            assert await wq.run(max, 1, 2) == 2
            assert wq.statistics().failed == 1
        await assert_at_zero(supervisor, loud, told)
    assert errors.seen == []


async def test_a_group_comes_to_the_caller_as_it_was_raised() -> None:
    """W110; invariant 59."""
    group = ExceptionGroup("mine", [MishapError(), ValueError()])

    async def fail() -> None:
        raise group

    async with open_supervisor() as supervisor:
        with pytest.raises(ExceptionGroup) as info:
            await alloc(supervisor).run(fail)
        assert info.value is group


async def test_run_waits_for_a_slot_like_any_item(trace: Trace) -> None:
    """W110; invariant 13: behind those queued before it."""
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        wq = alloc(supervisor, max_active=1)
        trace.queue(wq, "a b")
        nursery.start_soon(wq.run, trace.hold, "run")
        await wait_all_tasks_blocked()
        trace.queue(wq, "c")
        trace.open("a", "b", "run", "c")
    assert trace.starts == ["a", "b", "run", "c"]


async def test_cancelling_the_caller_withdraws_a_pending_item(trace: Trace) -> None:
    """W111."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=1)
        trace.queue(wq, "a")
        with trio.move_on_after(1) as scope:
            await wq.run(trace.hold, "run")
        assert scope.cancelled_caught
        books = wq.statistics()
        assert (books.inactive, books.pending, books.in_flight, books.cancelled) == (0, 0, 1, 1)
        trace.open("a", "run")
        await wq.flush()
        await assert_at_zero(supervisor, wq)
    assert trace.starts == ["a"]


async def test_cancelling_the_caller_interrupts_the_run_and_waits_for_its_end() -> None:
    """W111. Nothing of it is left when the caller goes on."""
    events: list[str] = []

    async def body() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.move_on_after(9, shield=True):
                await trio.sleep(3)
            events.append("cleaned up")

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        begin = trio.current_time()
        with trio.move_on_after(1) as scope:
            await wq.run(body)
        assert scope.cancelled_caught
        assert events == ["cleaned up"]
        assert trio.current_time() - begin == pytest.approx(4)
        assert wq.statistics().in_flight == 0
        await wait_all_tasks_blocked()
        await assert_at_zero(supervisor, wq)


async def test_cancelling_the_caller_interrupts_a_parked_run(trace: Trace) -> None:
    """W111; P4 for run."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=1)
        with trio.move_on_after(1) as scope:
            await wq.run(trace.hold_parked, "run")
        assert scope.cancelled_caught
        assert wq.statistics().in_flight == 0
        await wait_all_tasks_blocked()
        await assert_at_zero(supervisor, wq)


async def test_an_error_raised_while_the_caller_is_cancelled_is_not_lost() -> None:
    """W106; invariant 59: exactly once, whoever gets it."""
    errors = Errors()

    async def body() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise MishapError

    caught: list[MishapError] = []
    async with open_supervisor() as supervisor:
        wq = supervisor.alloc_workqueue("test", WQ_UNBOUND, on_error=errors)
        with trio.move_on_after(1):
            try:
                await wq.run(body)
            except MishapError as error:
                caught.append(error)
        await wait_all_tasks_blocked()
        await assert_at_zero(supervisor, wq)
    assert len(caught) + len(errors.seen) == 1


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
async def test_an_order_to_stop_raised_while_the_caller_is_cancelled_ends_both(error: type[BaseException]) -> None:
    """The caller waits for the end of the run; that it is no ordinary end must not keep it waiting."""

    async def body() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise error

    with pytest.RaisesGroup(error):
        async with open_supervisor() as supervisor:
            wq = alloc(supervisor)
            with trio.move_on_after(1), contextlib.suppress(WorkqueueError):
                await wq.run(body)
            await trio.sleep_forever()
    assert_queue_at_zero(wq)


async def test_a_run_inside_an_item_of_the_same_queue_does_not_deadlock(trace: Trace) -> None:
    """W102; invariant 58 has no false positive: the caller is parked while it waits (P1), max_active 1 suffices."""

    async def outer(depth: int) -> int:
        assert wq.statistics().nr_active == 1
        if depth == 0:
            return 1
        return 1 + await wq.run(outer, depth - 1)

    async with open_supervisor(capacity=1) as supervisor:
        wq = alloc(supervisor, max_active=1)
        assert await wq.run(outer, 5) == 6
        assert wq.statistics().overshoot == 0
        await assert_at_zero(supervisor, wq)


async def test_run_inside_parked_does_not_park_twice(trace: Trace) -> None:
    """P8 does not hit what the library does by itself."""

    async def outer() -> int:
        async with parked():
            return await wq.run(max, 1, 2)

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=1)
        assert await wq.run(outer) == 2
        await assert_at_zero(supervisor, wq)


async def test_a_child_task_of_an_item_can_run_others() -> None:
    """W102. Only the item's own task can park; a child simply waits."""
    results: list[int] = []

    async def child() -> None:
        results.append(await other.run(max, 1, 2))

    async def outer() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)
            nursery.start_soon(child)

    async with open_supervisor() as supervisor:
        wq, other = alloc(supervisor, max_active=1), alloc(supervisor, "other", 1)
        await wq.run(outer)
        assert results == [2, 2]
        await assert_at_zero(supervisor, wq, other)


async def test_many_runs_at_once_each_get_their_own_result() -> None:
    """W110."""
    results: dict[int, int] = {}

    async def square(number: int) -> int:
        await trio.sleep(number % 3)
        return number * number

    async def call(number: int) -> None:
        results[number] = await wq.run(square, number)

    async with open_supervisor(2, capacity=5) as supervisor, trio.open_nursery() as nursery:
        wq = alloc(supervisor, max_active=3)
        for number in range(60):
            nursery.start_soon(call, number)
    assert results == {number: number * number for number in range(60)}


async def test_the_item_of_a_run_is_the_current_work() -> None:
    """W123."""

    async def body() -> str:
        return repr(current_work())

    async with open_supervisor() as supervisor:
        assert "body" in await alloc(supervisor).run(body)
    assert current_work() is None
