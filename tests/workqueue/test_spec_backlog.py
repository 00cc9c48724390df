"""A bounded backlog, by the specification: what a full queue answers to each way of queueing, and who gets the room."""

from functools import partial

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from ktrio.workqueue import (
    WQ_FREEZABLE,
    WQ_UNBOUND,
    BacklogFullError,
    DestroyedError,
    DisableError,
    Rate,
    Supervisor,
    Workqueue,
    WorkqueueFlags,
    open_supervisor,
)
from tests.workqueue.conftest import KIND_NAMES, KINDS, Kind, Trace, assert_at_zero, open_with

over_kinds = pytest.mark.parametrize("kind", KINDS, ids=KIND_NAMES)


async def fill(trace: Trace, supervisor: Supervisor, kind: Kind, max_pending: int = 1) -> Workqueue:
    """A queue with one slot, taken by "holder", and `max_pending` items behind it: "f0", "f1" and so on."""
    wq = supervisor.alloc_workqueue("full", kind[0], max_active=1, max_pending=max_pending)
    trace.queue(wq, "holder")
    await wait_all_tasks_blocked()
    trace.queue(wq, " ".join(f"f{number}" for number in range(max_pending)))
    trace.open(*(f"f{number}" for number in range(max_pending)))
    return wq


@over_kinds
async def test_an_item_that_is_pending_or_disabled_is_answered_false_by_a_full_queue_too(
    kind: Kind, trace: Trace
) -> None:
    """W9; invariants 1 and 2: False first; only what would have been accepted is an error."""
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("full", kind[0], max_active=1, max_pending=1)
        trace.queue(wq, "holder")
        await wait_all_tasks_blocked()
        pending, disabled = trace.holder("pending"), trace.holder("disabled")
        wq.queue_work(pending)
        disabled.disable()
        before = wq.statistics()
        for item in (pending, disabled):
            assert wq.queue_work(item) is False
            assert wq.lane("key").queue_work(item) is False
            async with wq.open_group() as group:
                assert group.queue_work(item) is False
        assert wq.statistics() == before
        trace.open("holder", "pending")


@over_kinds
async def test_every_plain_way_of_queueing_is_refused_and_leaves_the_item_idle(kind: Kind, trace: Trace) -> None:
    async with open_with(kind[1])() as supervisor:
        wq = await fill(trace, supervisor, kind)
        item = trace.holder("item")
        before = wq.statistics()
        for queue in (
            partial(wq.queue_work, item),
            partial(wq.queue_work_on, 0, item),
            partial(wq.queue_work, item, parked=True),
            partial(wq.lane("key").queue_work, item),
        ):
            with pytest.raises(BacklogFullError, match="full"):
                queue()
            assert not item.is_pending
        async with wq.open_group() as group:
            with pytest.raises(BacklogFullError):
                group.queue_work(item)
            assert group.in_flight == 0
        assert wq.statistics() == before
        assert trace.discarded == []
        wq.queue_work_from_thread(item)
        await wait_all_tasks_blocked()
        assert trace.discarded == ["item"]  # the only way without an answer
        trace.open("holder")


@over_kinds
async def test_enable_and_queue_that_a_full_queue_refuses_leaves_it_disabled(kind: Kind, trace: Trace) -> None:
    async with open_with(kind[1])() as supervisor:
        wq = await fill(trace, supervisor, kind)
        item = trace.holder("item")
        item.disable()
        with pytest.raises(BacklogFullError):
            wq.enable_and_queue_work(item)
        assert item.statistics().disabled == 1
        assert item.enable() is True
        with pytest.raises(DisableError):
            wq.enable_and_queue_work(item)
        trace.open("holder")


@over_kinds
async def test_room_goes_to_waiters_and_not_to_those_who_ask_in_the_same_stretch(kind: Kind, trace: Trace) -> None:
    """Nobody overtakes, also not a newcomer in the very stretch in which an item was withdrawn."""
    async with open_with(kind[1])() as supervisor, trio.open_nursery() as nursery:
        wq = await fill(trace, supervisor, kind)
        filler = trace.holder("filler")
        first, second, third = (trace.holder(name) for name in ("first", "second", "third"))
        wq.set_max_pending(2)
        wq.queue_work(filler)
        nursery.start_soon(wq.queue_work_wait, first)
        await wait_all_tasks_blocked()
        assert filler.cancel() is True
        assert first.is_pending
        with pytest.raises(BacklogFullError):
            wq.queue_work(second)
        nursery.start_soon(wq.queue_work_wait, second)
        await wait_all_tasks_blocked()
        wq.set_max_pending(3)
        assert second.is_pending
        with pytest.raises(BacklogFullError):
            wq.queue_work(third)
        trace.open("holder", "first", "second")
        await wq.flush()
        assert trace.starts == ["holder", "f0", "first", "second"]


@over_kinds
async def test_lifting_the_limit_lets_in_all_that_wait_in_order_and_lowering_it_withdraws_nothing(
    kind: Kind, trace: Trace
) -> None:
    async with open_with(kind[1])() as supervisor, trio.open_nursery() as nursery:
        wq = await fill(trace, supervisor, kind, max_pending=3)
        wq.set_max_pending(1)
        assert wq.pending == 3
        for name in ("a", "b", "c"):
            trace.open(name)
            nursery.start_soon(wq.queue_work_wait, trace.holder(name))
            await wait_all_tasks_blocked()
        assert wq.statistics().waiting_for_room == 3
        wq.set_max_pending(2)
        assert (wq.pending, wq.statistics().waiting_for_room) == (3, 3)
        wq.set_max_pending(0)
        assert (wq.pending, wq.statistics().waiting_for_room) == (6, 0)
        with pytest.raises(ValueError, match="-1"):
            wq.set_max_pending(-1)
        trace.open("holder")
        await wq.flush()
        assert trace.starts[-3:] == ["a", "b", "c"]


@over_kinds
@pytest.mark.parametrize("turns", range(5))
async def test_cancelled_when_room_has_just_come_it_was_queued_or_left_nothing(
    kind: Kind, turns: int, trace: Trace
) -> None:
    """W137: whichever it was, the room is nobody's twice and not lost."""
    async with open_with(kind[1])() as supervisor:
        wq = await fill(trace, supervisor, kind)
        item, next_one = trace.holder("item"), trace.holder("next")
        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()

            async def wait() -> None:
                with scope:
                    await wq.queue_work_wait(item)

            nursery.start_soon(wait)
            await wait_all_tasks_blocked()
            nursery.start_soon(wq.queue_work_wait, next_one)
            await wait_all_tasks_blocked()
            trace.open("holder", "item", "next")
            for _ in range(turns):
                await trio.lowlevel.checkpoint()
            scope.cancel()
        await wq.flush()
        assert trace.starts.count("item") == item.statistics().runs <= 1
        assert trace.starts[-1] == "next"
        assert wq.statistics().waiting_for_room == 0
        await assert_at_zero(supervisor, wq)


@over_kinds
async def test_frozen_or_held_by_a_rate_items_are_pending_and_fill_the_queue(kind: Kind, trace: Trace) -> None:
    async with open_with(kind[1])() as supervisor, trio.open_nursery() as nursery:
        flags = WorkqueueFlags(kind[0]) | WQ_FREEZABLE
        cold = supervisor.alloc_workqueue("cold", flags, max_pending=1)
        rated = supervisor.alloc_workqueue("rated", kind[0], max_pending=1, rate=Rate(1))
        assert await supervisor.freeze()
        trace.open("c1", "c2", "r1", "r2", "r3")
        trace.queue(cold, "c1")
        trace.queue(rated, "r1")
        await wait_all_tasks_blocked()
        trace.queue(rated, "r2")
        nursery.start_soon(cold.queue_work_wait, trace.holder("c2"))
        nursery.start_soon(rated.queue_work_wait, trace.holder("r3"))
        await wait_all_tasks_blocked()
        assert cold.statistics().waiting_for_room == rated.statistics().waiting_for_room == 1
        await trio.sleep(1.5)
        assert rated.statistics().waiting_for_room == 0
        assert cold.statistics().waiting_for_room == 1
        supervisor.thaw()
        await wait_all_tasks_blocked()
        assert cold.in_flight == 0
        assert trace.starts == ["r1", "r2", "c1", "c2"]


@over_kinds
async def test_on_each_cpu_at_once_takes_its_turns_with_room_for_one(kind: Kind) -> None:
    """`schedule_on_each_cpu` and `map` with less room than items neither hang nor exceed it."""
    async with open_with(kind[1])(3) as supervisor:
        wq = supervisor.alloc_workqueue("narrow", kind[0], max_pending=1)
        most: list[int] = []

        async def look(number: int = 7) -> int:
            most.append(wq.pending)
            await trio.sleep(1)
            return number

        assert await wq.schedule_on_each_cpu(look) == [7, 7, 7]
        assert await wq.map(look, range(10)) == list(range(10))
        assert max(most) <= 1
        await assert_at_zero(supervisor, wq)


@over_kinds
async def test_map_from_inside_the_queues_own_item_does_not_wait_for_room(kind: Kind) -> None:
    """An item that waited for room on its own queue would wait for what only it can make."""
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("narrow", kind[0], max_active=1, max_pending=1)

        async def fan_out() -> list[int]:
            return await wq.map(abs, range(-5, 0))

        assert await wq.run(fan_out) == [5, 4, 3, 2, 1]


async def test_who_waits_for_room_and_is_disabled_and_enabled_meanwhile_is_queued(trace: Trace) -> None:
    """The answer is that of `queue_work` at the moment when there is room."""
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        wq = await fill(trace, supervisor, (WQ_UNBOUND, "trampoline"))
        item = trace.holder("item")
        answers: list[bool] = []

        async def wait() -> None:
            answers.append(await wq.queue_work_wait(item))

        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        assert item.disable() is False
        item.enable()
        trace.open("holder", "item")
        await wait_all_tasks_blocked()
        assert (answers, trace.starts[-1]) == ([True], "item")


@over_kinds
async def test_two_wait_with_the_same_item_and_one_queues_it(kind: Kind, trace: Trace) -> None:
    async with open_with(kind[1])() as supervisor, trio.open_nursery() as nursery:
        wq = await fill(trace, supervisor, kind)
        item = trace.holder("item")
        answers: list[bool] = []

        async def wait() -> None:
            answers.append(await wq.queue_work_wait(item))

        for _ in range(3):
            nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        wq.set_max_pending(5)
        await wait_all_tasks_blocked()
        assert sorted(answers) == [False, False, True]
        assert wq.statistics().waiting_for_room == 0
        trace.open("holder", "item")
        await wq.flush()
        assert trace.starts.count("item") == 1


@over_kinds
async def test_a_destroy_refuses_all_who_wait_and_discards_nothing_of_theirs(kind: Kind, trace: Trace) -> None:
    """W137: they were never accepted (W11)."""
    async with open_with(kind[1])() as supervisor:
        wq = await fill(trace, supervisor, kind)
        refused: list[str] = []

        async def wait(name: str) -> None:
            try:
                await wq.queue_work_wait(trace.holder(name))
            except DestroyedError:
                refused.append("destroyed")
            except Exception as error:
                refused.append(type(error).__name__)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait, "a")
            nursery.start_soon(wait, "b")
            await wait_all_tasks_blocked()
            nursery.start_soon(wq.destroy)
            await wait_all_tasks_blocked()
            assert refused == ["DrainingError", "DrainingError"]
            trace.open("holder")
        await wait("c")
        assert refused[2:] == ["destroyed"]
        assert trace.discarded == []
