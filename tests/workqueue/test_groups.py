"""`async with wq.open_group()`: members are waited for, cancelled and judged together, like a nursery's children."""
# ruff: noqa: PT012 - what raises is the end of a block

from collections.abc import Callable
from typing import Literal

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from ktrio.workqueue import (
    WQ_UNBOUND,
    BusyError,
    DeadlockError,
    DestroyedError,
    GroupClosedError,
    OnError,
    Supervisor,
    Work,
    WorkGroup,
    Workqueue,
    WorkqueueFlags,
    current_work,
    open_supervisor,
)
from tests.workqueue.conftest import Errors, Trace, assert_at_zero

Flags = WorkqueueFlags | Literal[0]


class MishapError(Exception):
    """Raised by items on purpose."""


@pytest.fixture(params=[WQ_UNBOUND, 0], ids=["unbound", "bound"])
def flags(request: pytest.FixtureRequest) -> Flags:
    return request.param


def alloc(supervisor: Supervisor, flags: Flags, max_active: int = 0, on_error: OnError = "raise") -> Workqueue:
    return supervisor.alloc_workqueue("test", flags, max_active, on_error)


async def fail(error: type[Exception] = MishapError) -> None:
    await trio.sleep(1)
    raise error


async def test_leaving_waits_for_the_members_and_for_nobody_else(flags: Flags, trace: Trace) -> None:
    """W125."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, flags)
        trace.queue(wq, "stranger")
        async with wq.open_group() as group:
            for name in ("a", "b"):
                assert group.queue_work(Work(trio.sleep, 1, name=name)) is True
            assert group.in_flight == 2
        assert group.in_flight == 0
        assert wq.in_flight == 1
        trace.open("stranger")
        await wq.flush()
        await assert_at_zero(supervisor, wq)


async def test_an_empty_group_is_left_at_once(flags: Flags) -> None:
    """W125."""
    async with open_supervisor() as supervisor:
        begin = trio.current_time()
        async with alloc(supervisor, flags).open_group():
            pass
        assert trio.current_time() == begin


async def test_who_comes_after_the_last_member_finds_the_group_closed(flags: Flags, trace: Trace) -> None:
    """Also in the same turn of the loop, before the task that leaves has had its own: nobody would wait for it."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, flags)

        def come_late() -> None:
            with pytest.raises(GroupClosedError):
                group.queue_work(trace.holder("late"))
            trace.note("refused")

        async with wq.open_group() as group:
            group.queue_work(Work(trace.note, "the last member"))
            wq.queue_work(Work(come_late))
        assert trace.events == ["the last member", "refused"]
        await assert_at_zero(supervisor, wq)


async def test_who_comes_while_an_empty_group_is_left_finds_it_closed(flags: Flags, trace: Trace) -> None:
    async def come_late() -> None:
        await leaving.wait()
        with pytest.raises(GroupClosedError):
            group.queue_work(trace.holder("late"))
        trace.note("refused")

    leaving = trio.Event()
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        wq = alloc(supervisor, flags)
        nursery.start_soon(come_late)
        await wait_all_tasks_blocked()
        async with wq.open_group() as group:
            leaving.set()
        await wait_all_tasks_blocked()
        assert trace.events == ["refused"]


async def test_members_keep_the_order_and_the_limit_of_the_queue(flags: Flags, trace: Trace) -> None:
    """W126; invariants 10, 13: a group is no queue of its own."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, flags, max_active=1)
        async with wq.open_group() as group:
            group.queue_work(trace.holder("a"))
            trace.queue(wq, "stranger")
            group.queue_work(trace.holder("b"))
            trace.open("a", "stranger", "b")
    assert trace.starts == ["a", "stranger", "b"]


async def test_a_members_error_cancels_the_others_and_the_block(flags: Flags, trace: Trace) -> None:
    """W127; invariant 59: a strict group on leaving, nothing for on_error; the rest of the queue does not notice."""
    errors = Errors()
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, flags, 3, errors)
        stranger = trace.queue(wq, "stranger")["stranger"]
        with pytest.raises(ExceptionGroup) as info:
            async with wq.open_group() as group:
                group.queue_work(Work(fail))
                group.queue_work(trace.holder("running"))
                group.queue_work(trace.holder("pending"))
                try:
                    await trio.sleep_forever()
                except trio.Cancelled:
                    trace.note("block cancelled")
                    raise
        assert [type(error) for error in info.value.exceptions] == [MishapError]
        assert trace.discarded == ["pending"]
        assert "block cancelled" in trace.events
        assert stranger.is_running
        trace.open("stranger")
        await wq.flush()
        await assert_at_zero(supervisor, wq)
    assert errors.seen == []
    assert trace.ends == ["stranger"]


async def test_an_error_in_the_block_cancels_the_members_and_waits_for_them(flags: Flags, trace: Trace) -> None:
    """W127."""

    async def slow_to_end() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.move_on_after(9, shield=True):
                await trio.sleep(3)
            trace.note("cleaned up")

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, flags, max_active=1)
        with pytest.raises(ExceptionGroup) as info:
            async with wq.open_group() as group:
                group.queue_work(Work(slow_to_end))
                group.queue_work(trace.holder("pending"))
                await wait_all_tasks_blocked()
                raise MishapError
        assert [type(error) for error in info.value.exceptions] == [MishapError]
        assert (trace.events, trace.discarded) == (["cleaned up"], ["pending"])
        await assert_at_zero(supervisor, wq)


async def test_all_errors_come_together(flags: Flags) -> None:
    """W127. The block's, a member's, and one that another member raises while it is interrupted."""

    async def fail_on_the_way() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise KeyError

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, flags)
        with pytest.raises(ExceptionGroup) as info:
            async with wq.open_group() as group:
                group.queue_work(Work(fail_on_the_way))
                group.queue_work(Work(fail))
                try:
                    await trio.sleep_forever()
                finally:
                    raise ValueError
        assert {type(error) for error in info.value.exceptions} == {ValueError, MishapError, KeyError}
        await assert_at_zero(supervisor, wq)


@pytest.mark.parametrize("how", ["cancel", "cancel_scope", "deadline"])
async def test_cancelling_a_group_is_cancelling_block_and_members(flags: Flags, trace: Trace, how: str) -> None:
    """W128. No error leaves; what is queued through it from now on is refused."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, flags, max_active=1)
        async with wq.open_group() as group:
            group.queue_work(trace.holder("running"))
            group.queue_work(trace.holder("pending"))
            await wait_all_tasks_blocked()
            if how == "cancel":
                group.cancel()
                group.cancel()
                assert group.queue_work(trace.holder("late")) is False
            elif how == "cancel_scope":
                group.cancel_scope.cancel()
            else:
                group.cancel_scope.deadline = trio.current_time() + 5
        assert group.cancel_scope.cancelled_caught
        assert (trace.discarded, trace.ends) == (["pending"], [])
        await assert_at_zero(supervisor, wq)


@pytest.mark.parametrize("where", ["in the block", "leaving"])
async def test_cancellation_from_outside_takes_the_members_along(flags: Flags, trace: Trace, where: str) -> None:
    """W128; invariant 45: nothing is left of it when the block has been left."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, flags, max_active=1)
        with trio.move_on_after(1) as scope:
            async with wq.open_group() as group:
                group.queue_work(trace.holder("running"))
                group.queue_work(trace.holder("pending"))
                if where == "in the block":
                    await trio.sleep_forever()
        assert scope.cancelled_caught
        assert trace.discarded == ["pending"]
        await assert_at_zero(supervisor, wq)


async def test_members_may_queue_members(flags: Flags, trace: Trace) -> None:
    """W125. Chained, also while the block is being left; each run is waited for."""
    left = [5]

    async def countdown() -> None:
        await trio.sleep(1)
        left[0] -= 1
        if left[0]:
            assert group.queue_work(work)

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, flags)
        work = Work(countdown)
        async with wq.open_group() as group:
            group.queue_work(work)
        assert left == [0]
        with pytest.raises(GroupClosedError, match="'test'"):
            group.queue_work(work)
        assert not work.is_pending


async def test_a_queueing_by_others_is_not_the_groups(flags: Flags, trace: Trace) -> None:
    """W126. Nor does cancelling the group withdraw it; a membership is one queueing, not the item."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, flags)
        work = trace.holder("a")
        wq.queue_work(work)
        async with wq.open_group() as group:
            assert group.queue_work(work) is False
            assert group.in_flight == 0
        async with wq.open_group() as group:
            await wait_all_tasks_blocked()
            assert group.queue_work(work) is True  # while a run that is not a member's is under way
            group.cancel()
        assert (work.is_running, work.is_pending) == (True, False)
        assert trace.discarded == ["a"]
        assert group.queue_work is not None
        trace.open("a")


async def test_what_others_withdraw_or_interrupt_is_no_error(flags: Flags, trace: Trace) -> None:
    """W128."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, flags, max_active=1)
        async with wq.open_group() as group:
            first, second = trace.holder("first"), trace.holder("second")
            group.queue_work(first)
            group.queue_work(second)
            await wait_all_tasks_blocked()
            second.cancel()
            first.interrupt()
        await assert_at_zero(supervisor, wq)


async def test_flush_waits_for_the_members_so_far(flags: Flags, trace: Trace) -> None:
    """W126. As invariant 42 for queues: those withdrawn are over, those that come later are not waited for."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, flags, max_active=2)
        trace.queue(wq, "stranger")
        async with wq.open_group() as group, trio.open_nursery() as nursery:
            works = {name: trace.holder(name) for name in "abc"}
            for work in works.values():
                group.queue_work(work)

            async def flush() -> None:
                await group.flush()
                trace.note("flushed")

            nursery.start_soon(flush)
            await wait_all_tasks_blocked()
            group.queue_work(trace.holder("late"))
            works["c"].cancel()  # the last of them: the others are still waited for
            await wait_all_tasks_blocked()
            assert "flushed" not in trace.events
            trace.open("b", "a")
            await wait_all_tasks_blocked()
            assert trace.starts[-1] == "late"
            assert "flushed" in trace.events
            trace.open("late")
        await group.flush()
        trace.open("stranger")


async def test_a_member_that_flushes_its_group_is_an_error(flags: Flags) -> None:
    """W101; invariant 58."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, flags)

        async def body() -> None:
            with pytest.raises(DeadlockError, match="one of its members"):
                await group.flush()

        async with wq.open_group() as group:
            group.queue_work(Work(body))


async def test_a_group_inside_an_item_parks_it_while_it_waits(flags: Flags, trace: Trace) -> None:
    """W102. The members need the slot that the item would hold; errors come past the line (P4)."""

    async def outer() -> None:
        async with wq.open_group() as group:
            for name in "ab":
                group.queue_work(Work(trace.note, name))
        async with wq.open_group() as group:
            group.queue_work(Work(trace.note, "c"))
            await group.flush()
            trace.note("flushed")

    async with open_supervisor(capacity=1) as supervisor:
        wq = alloc(supervisor, flags, max_active=1)
        wq.queue_work(Work(outer))
        await wq.flush()
        await wq.flush()
        await assert_at_zero(supervisor, wq)
    assert trace.events == ["a", "b", "c", "flushed"]


async def test_members_and_results(flags: Flags) -> None:
    """Who waits for a result gets the error too; the group still fails, as a nursery would."""
    caught: list[Exception] = []
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, flags, on_error="store")

        async def wait(work: Work) -> None:
            try:
                await work.result()
            except MishapError as error:
                caught.append(error)

        work = Work(fail)
        async with trio.open_nursery() as nursery:
            with pytest.raises(ExceptionGroup):
                async with wq.open_group() as group:
                    group.queue_work(work)
                    nursery.start_soon(wait, work)
        assert len(caught) == 1
        with pytest.raises(MishapError):
            await work.result()


async def test_waiting_for_room_as_a_member(flags: Flags, trace: Trace) -> None:
    """W125. Leaving waits for those who stand in line through the group; cancelling lets them go."""
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        wq = supervisor.alloc_workqueue("test", flags, 1, max_pending=1)
        answers: list[bool] = []

        async def wait(name: str) -> None:
            answers.append(await group.queue_work_wait(trace.holder(name)))

        async with wq.open_group() as group:
            await group.queue_work_wait(trace.holder("a"))
            await wait_all_tasks_blocked()
            await group.queue_work_wait(trace.holder("b"))
            nursery.start_soon(wait, "c")
            await wait_all_tasks_blocked()
            trace.open(*"abc")
        assert answers == [True]
        assert trace.ends == list("abc")
        for name in "ab":
            trace.shut(name)
        async with wq.open_group() as group:
            group.queue_work(trace.holder("a"))
            await wait_all_tasks_blocked()
            group.queue_work(trace.holder("b"))
            nursery.start_soon(wait, "d")
            await wait_all_tasks_blocked()
            group.cancel()
            assert await group.queue_work_wait(trace.holder("late")) is False
        await wait_all_tasks_blocked()
        assert answers == [True, False]
        await assert_at_zero(supervisor, wq)
    assert trace.discarded == ["b"]


async def test_a_refused_queueing_makes_no_member(flags: Flags, trace: Trace) -> None:
    async with open_supervisor() as supervisor:
        wq, other = alloc(supervisor, flags), alloc(supervisor, flags)
        work = trace.holder("a")
        other.queue_work(work)
        await wait_all_tasks_blocked()
        async with wq.open_group() as group:
            with pytest.raises(BusyError):
                group.queue_work(work)
            assert group.in_flight == 0
        trace.open("a")
        await work.flush()
        async with wq.open_group() as group:  # nothing of it is left on the item
            wq.queue_work(work)
        await work.flush()


async def test_a_group_outside_learns_that_its_supervisor_was_cancelled(flags: Flags, trace: Trace) -> None:
    """W128. Its members have not come to their end: leaving as if they had would lose them."""
    ready = trio.Event()
    box: list[Workqueue] = []

    async def own(scope: trio.CancelScope) -> None:
        with scope:
            async with open_supervisor() as supervisor:
                box.append(alloc(supervisor, flags))
                ready.set()
                await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        scope = trio.CancelScope()
        nursery.start_soon(own, scope)
        await ready.wait()
        with pytest.raises(ExceptionGroup) as info:
            async with box[0].open_group() as group:
                group.queue_work(trace.holder("a"))
                await wait_all_tasks_blocked()
                scope.cancel()
        assert [type(error) for error in info.value.exceptions] == [DestroyedError]


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
async def test_an_order_to_stop_goes_to_the_supervisor(flags: Flags, error: type[BaseException], trace: Trace) -> None:
    """W109; invariant 59: from a member too, and then it is not the group's."""

    def stop() -> None:
        raise error

    with pytest.raises(BaseExceptionGroup) as info:
        async with open_supervisor() as supervisor:
            wq = alloc(supervisor, flags)
            async with wq.open_group() as group:
                group.queue_work(Work(stop))
                group.queue_work(trace.holder("other"))
    assert [type(inner) for inner in info.value.exceptions] == [error]
    assert group.in_flight == 0


# -- map


@pytest.mark.parametrize("max_pending", [0, 1])
async def test_map_gives_the_results_in_the_order_of_the_arguments(flags: Flags, max_pending: int) -> None:
    """W129."""

    async def double(number: int) -> int:
        await trio.sleep(10 - number)
        return 2 * number

    async with open_supervisor() as supervisor:
        wq = supervisor.alloc_workqueue("test", flags, 3, max_pending=max_pending)
        assert await wq.map(double, range(8)) == [2 * number for number in range(8)]
        assert await wq.map(str, [1, 2]) == ["1", "2"]
        assert await wq.map(str, []) == []
        await assert_at_zero(supervisor, wq)


async def test_map_takes_arguments_no_faster_than_there_is_room(flags: Flags) -> None:
    """W129."""
    ahead: list[int] = []
    done = 0

    async def one(number: int) -> None:
        nonlocal done
        await trio.sleep(1)
        done += 1

    def numbers() -> "list[int] | object":
        for number in range(20):
            ahead.append(number - done)
            yield number

    async with open_supervisor() as supervisor:
        wq = supervisor.alloc_workqueue("test", flags, 2, max_pending=3)
        await wq.map(one, numbers())
    assert max(ahead) <= 2 + 3 + 1


async def test_map_fails_as_a_group(flags: Flags) -> None:
    """W129."""

    async def pick(fn: Callable[[], int]) -> int:
        await trio.lowlevel.checkpoint()
        return fn()

    def bad() -> int:
        raise MishapError

    def cancel_me() -> int:
        work = current_work()
        assert work is not None
        work.interrupt()
        return 0

    async def interruptible(fn: Callable[[], int]) -> int:
        fn()
        await trio.sleep(1)
        return 1

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, flags)
        with pytest.raises(ExceptionGroup) as info:
            await wq.map(pick, [int, bad, int])
        assert [type(error) for error in info.value.exceptions] == [MishapError]
        with pytest.raises(DestroyedError):
            await wq.map(interruptible, [cancel_me])
        await assert_at_zero(supervisor, wq)


def test_a_group_says_what_it_is_doing() -> None:
    async def main() -> None:
        async with open_supervisor() as supervisor:
            wq = supervisor.alloc_workqueue("jobs", WQ_UNBOUND)
            async with wq.open_group() as group:
                assert isinstance(group, WorkGroup)
                group.queue_work(Work(trio.lowlevel.checkpoint))
                assert repr(group) == "<WorkGroup on 'jobs' in_flight=1>"
            assert repr(group) == "<WorkGroup on 'jobs' in_flight=0 closed>"

    trio.run(main)
