"""Groups and `map`, by the specification: nesting, membership, where errors go, and what ends a group."""

from collections.abc import Iterator

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from ktrio.workqueue import (
    WQ_FREEZABLE,
    WQ_UNBOUND,
    DestroyedError,
    DrainingError,
    GroupClosedError,
    Rate,
    Work,
    WorkGroup,
    WorkqueueFlags,
    open_supervisor,
)
from tests.workqueue.conftest import KIND_NAMES, KINDS, Errors, Kind, Trace, alloc, assert_at_zero, open_with

over_kinds = pytest.mark.parametrize("kind", KINDS, ids=KIND_NAMES)


@over_kinds
async def test_groups_within_groups_on_one_slot(kind: Kind) -> None:
    """A member that opens a group on its own queue parks while that waits: any depth with `max_active=1`."""
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0], max_active=1)

        async def count(depth: int) -> int:
            if not depth:
                return 1
            return 1 + sum(await wq.map(count, [depth - 1] * 2))

        assert await wq.run(count, 4) == 31
        await assert_at_zero(supervisor, wq)


@over_kinds
async def test_an_item_queued_again_by_the_group_while_it_runs_is_two_memberships(kind: Kind, trace: Trace) -> None:
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0])
        item = trace.holder("item")
        async with wq.open_group() as group:
            assert group.queue_work(item) is True
            assert group.queue_work(item) is False
            assert group.in_flight == 1
            await wait_all_tasks_blocked()
            assert group.queue_work(item) is True
            assert group.in_flight == 2
            trace.open("item")
        assert trace.ends == ["item"] * 2


@over_kinds
async def test_a_run_of_mine_and_a_queueing_of_another_group_are_kept_apart(kind: Kind, trace: Trace) -> None:
    """Cancelling one group ends its own run only: the queueing behind it belongs to the other."""
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0])
        item = trace.holder("item")
        async with wq.open_group() as second:
            async with wq.open_group() as first:
                first.queue_work(item)
                await wait_all_tasks_blocked()
                second.queue_work(item)
                first.cancel()
            assert item.is_pending or item.is_running
            assert (first.in_flight, second.in_flight) == (0, 1)
            trace.open("item")
        assert trace.starts == ["item"] * 2
        assert trace.ends == ["item"]
        assert trace.discarded == []


@over_kinds
async def test_a_queueing_by_others_survives_the_cancellation_of_the_group_that_runs_it(
    kind: Kind, trace: Trace
) -> None:
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0], max_active=1)
        item = trace.holder("item")
        async with wq.open_group() as group:
            group.queue_work(item)
            await wait_all_tasks_blocked()
            assert wq.queue_work(item) is True
            group.cancel("enough")
        assert item.is_pending or item.is_running
        trace.open("item")
        await wq.flush()
        assert trace.ends == ["item"]


@over_kinds
async def test_a_timeout_of_a_member_is_an_error_of_the_group_and_a_disabled_one_is_none(
    kind: Kind, trace: Trace
) -> None:
    errors = Errors()
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0], 2, errors)
        with pytest.RaisesGroup(trio.TooSlowError):
            async with wq.open_group() as group:
                group.queue_work(Work(trio.sleep, 50, timeout=1))
                group.queue_work(trace.holder("interrupted"))
                group.queue_work(trace.holder("withdrawn"))
        assert (trace.starts, trace.discarded) == (["interrupted"], ["withdrawn"])
        disabled = trace.holder("disabled")
        async with wq.open_group() as group:
            group.queue_work(disabled)
            disabled.disable()
            assert group.in_flight == 0
            assert group.queue_work(disabled) is False
    assert errors.seen == []


@over_kinds
async def test_the_blocks_own_error_is_in_the_group_with_those_of_members_on_their_way_out(kind: Kind) -> None:
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0])

        async def fails_on_the_way_out() -> None:
            try:
                await trio.sleep_forever()
            finally:
                raise KeyError("member")

        with pytest.RaisesGroup(ZeroDivisionError, KeyError):
            async with wq.open_group() as group:
                group.queue_work(Work(fails_on_the_way_out))
                await wait_all_tasks_blocked()
                _ = 1 // 0
        await assert_at_zero(supervisor, wq)


@over_kinds
async def test_leaving_the_block_early_by_return_waits_all_the_same(kind: Kind, trace: Trace) -> None:
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0])

        async def leave() -> str:
            async with wq.open_group() as group:
                group.queue_work(Work(trio.sleep, 3))
                return "left"

        start = trio.current_time()
        assert await leave() == "left"
        assert trio.current_time() == start + 3
        assert trace.events == []


@over_kinds
async def test_a_deadline_on_its_scope_ends_the_group_without_an_error(kind: Kind, trace: Trace) -> None:
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0], max_active=1)
        start = trio.current_time()
        async with wq.open_group() as group:
            group.cancel_scope.deadline = start + 2
            group.queue_work(trace.holder("a"))
            group.queue_work(trace.holder("b"))
        assert trio.current_time() == start + 2
        assert group.cancel_scope.cancelled_caught
        assert (trace.starts, trace.discarded) == (["a"], ["b"])
        await assert_at_zero(supervisor, wq)


@over_kinds
async def test_a_closed_group_takes_no_member_and_its_flush_is_no_wait(kind: Kind, trace: Trace) -> None:
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0])
        async with wq.open_group() as group:
            pass
        item = trace.holder("item")
        with pytest.raises(GroupClosedError):
            group.queue_work(item)
        with pytest.raises(GroupClosedError):
            await group.queue_work_wait(item)
        assert not item.is_pending
        await group.flush()
        group.cancel()  # harmless
        assert wq.queue_work(item) is True
        trace.open("item")


@over_kinds
async def test_members_that_are_frozen_or_wait_for_a_token_can_be_waited_for_and_cancelled(
    kind: Kind, trace: Trace
) -> None:
    async with open_with(kind[1])() as supervisor:
        cold = supervisor.alloc_workqueue("cold", WorkqueueFlags(kind[0]) | WQ_FREEZABLE)
        rated = supervisor.alloc_workqueue("rated", kind[0], rate=Rate(1))
        assert await supervisor.freeze()
        async with cold.open_group() as group:
            group.queue_work(trace.holder("cold"))
            await trio.sleep(1)
            group.cancel()
        start = trio.current_time()
        trace.open("r1", "r2", "r3")
        async with rated.open_group() as group:
            for name in ("r1", "r2", "r3"):
                group.queue_work(trace.holder(name))
        assert trio.current_time() == start + 2
        assert trace.discarded == ["cold"]
        supervisor.thaw()
        await assert_at_zero(supervisor, cold, rated)


@over_kinds
async def test_a_group_on_a_queue_that_drains_or_is_gone(kind: Kind, trace: Trace) -> None:
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0])
        async with trio.open_nursery() as nursery:
            async with wq.open_group() as group:
                group.queue_work(trace.holder("member"))
                nursery.start_soon(wq.destroy)
                await wait_all_tasks_blocked()
                with pytest.raises(DrainingError):
                    group.queue_work(trace.holder("late"))
                trace.open("member")
            await wait_all_tasks_blocked()
        async with wq.open_group() as group:
            with pytest.raises(DestroyedError):
                group.queue_work(trace.holder("never"))
        with pytest.RaisesGroup(DestroyedError):
            await wq.map(abs, [1])
        assert await wq.map(abs, []) == []


@over_kinds
async def test_map_over_an_iterable_that_raises_cancels_what_was_begun(kind: Kind) -> None:
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0])
        ends: list[str] = []

        async def member(seconds: float) -> None:
            try:
                await trio.sleep(seconds)
                ends.append("slept")
            except trio.Cancelled:
                ends.append("cancelled")
                raise

        def arguments() -> Iterator[float]:
            yield 100
            raise LookupError("no more")

        start = trio.current_time()
        with pytest.RaisesGroup(LookupError):
            await wq.map(member, arguments())
        assert trio.current_time() == start
        assert "slept" not in ends
        await assert_at_zero(supervisor, wq)


@over_kinds
@pytest.mark.parametrize("turns", range(8))
async def test_cancelled_at_any_turn_map_leaves_nothing(kind: Kind, turns: int) -> None:
    """W11, W128, W129."""
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0], max_active=2, max_pending=2)
        begun = ended = 0

        async def member(number: int) -> None:
            nonlocal begun, ended
            begun += 1
            try:
                for _ in range(number % 4):
                    await trio.lowlevel.checkpoint()
            finally:
                ended += 1

        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wq.map, member, range(12))
                for _ in range(turns):
                    await trio.lowlevel.checkpoint()
                scope.cancel()
        assert begun == ended
        await assert_at_zero(supervisor, wq)
        assert await wq.run(pow, 2, 3) == 8


@over_kinds
async def test_a_member_that_cancels_its_own_group_is_interrupted_at_its_next_checkpoint(
    kind: Kind, trace: Trace
) -> None:
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0], max_active=1)
        groups: list[WorkGroup] = []

        async def end_it() -> None:
            groups[0].cancel()
            trace.note("goes on")
            await trio.lowlevel.checkpoint()
            trace.note("never")

        async with wq.open_group() as group:
            groups.append(group)
            group.queue_work(Work(end_it))
            group.queue_work(trace.holder("behind"))
        assert trace.events == ["goes on"]
        assert trace.discarded == ["behind"]


async def test_an_on_discard_that_raises_follows_the_queues_policy_and_the_group_is_left(trace: Trace) -> None:
    """ "Errors of `on_discard` go the same way" as the queue's errors; the group knows nothing of it, and ends."""
    errors = Errors()
    async with open_supervisor() as supervisor:
        wq = supervisor.alloc_workqueue("wq", WQ_UNBOUND, 1, errors)
        trace.queue(wq, "holder")
        await wait_all_tasks_blocked()
        outcome: list[str] = []
        try:
            async with wq.open_group() as group:
                group.queue_work(Work(int, on_discard=lambda: 1 // 0))
                group.queue_work(trace.holder("other"))
                group.cancel()
        except* ZeroDivisionError:
            outcome.append("raised by the group")
        assert (len(errors.seen) + len(outcome), trace.discarded) == (1, ["other"])
        trace.open("holder")
        await wq.flush()
        await assert_at_zero(supervisor, wq)


async def test_two_groups_in_two_tasks_each_end_with_their_own_members(trace: Trace) -> None:
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=3)
        times: list[float] = []
        start = trio.current_time()

        async def use(seconds: float) -> None:
            async with wq.open_group() as group:
                for part in (seconds, seconds / 2):
                    group.queue_work(Work(trio.sleep, part))
                await group.flush()
                times.append(trio.current_time() - start)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(use, 4)
            nursery.start_soon(use, 1)
        assert len(times) == 2
        assert times[0] < times[1] <= 4.5
        assert trace.events == []
