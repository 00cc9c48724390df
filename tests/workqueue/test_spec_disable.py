"""Disabled items, by the specification: how disabling meets lanes, groups, results, timers, waiters and itself."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from ktrio.workqueue import (
    WQ_UNBOUND,
    DelayedWork,
    DestroyedError,
    DisableError,
    DrainingError,
    Rate,
    Work,
    open_supervisor,
)
from tests.workqueue.conftest import KIND_NAMES, KINDS, Kind, Trace, alloc, assert_at_zero, open_with

over_kinds = pytest.mark.parametrize("kind", KINDS, ids=KIND_NAMES)


@over_kinds
async def test_whoever_waits_for_the_queueing_that_is_withdrawn_learns_of_it(kind: Kind, trace: Trace) -> None:
    """Invariant 50, for `disable`: flushers return, results are a `DestroyedError`, a group is left."""
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0], max_active=1)
        trace.queue(wq, "holder")
        await wait_all_tasks_blocked()
        item = trace.holder("item")
        told: list[object] = []

        async def flush() -> None:
            told.append(await item.flush())

        async def result() -> None:
            try:
                await item.result()
            except DestroyedError:
                told.append("destroyed")

        async with wq.open_group() as group, trio.open_nursery() as nursery:
            group.queue_work(item)
            nursery.start_soon(flush)
            nursery.start_soon(result)
            nursery.start_soon(group.flush)
            await wait_all_tasks_blocked()
            assert item.disable() is True
        assert set(map(str, told)) == {"True", "destroyed"}
        assert trace.discarded == ["item"]
        item.enable()
        trace.open("holder")


@over_kinds
async def test_every_way_of_queueing_a_disabled_item_is_false_and_discards_only_a_threads(
    kind: Kind, trace: Trace
) -> None:
    """Invariant 49."""
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0], rate=Rate(1000))
        item = DelayedWork(trace.note, "ran", on_discard=trace.discarder("item"))
        item.disable()
        before = wq.statistics()
        answers = [
            wq.queue_work(item),
            wq.queue_work(item, parked=True),
            wq.queue_work_on(0, item),
            wq.lane("key").queue_work(item),
            wq.queue_delayed_work(item, 0),
            wq.mod_delayed_work(item, 0),
            wq.mod_delayed_work(item, 1),
            await wq.queue_work_wait(item),
            await wq.lane("key").queue_work_wait(item),
        ]
        async with wq.open_group() as group:
            answers += [group.queue_work(item), await group.queue_work_wait(item)]
        assert answers == [False] * 11
        assert wq.statistics() == before
        assert trace.discarded == []
        wq.queue_work_from_thread(item)
        await wait_all_tasks_blocked()
        assert trace.discarded == ["item"]
        item.enable()
        await trio.sleep(2)
        assert trace.events == []


@over_kinds
async def test_disable_sync_of_two_tasks_needs_two_enables(kind: Kind, trace: Trace) -> None:
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0])
        item = trace.queue(wq, "item")["item"]
        await wait_all_tasks_blocked()
        wq.queue_work(item)
        answers: list[bool] = []

        async def disable() -> None:
            answers.append(await item.disable_sync())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(disable)
            nursery.start_soon(disable)
            await wait_all_tasks_blocked()
            assert wq.queue_work(item) is False
            trace.open("item")
        assert sorted(answers) == [False, True]  # one of them found it pending
        assert item.statistics().disabled == 2
        assert item.enable() is False
        assert wq.queue_work(item) is False
        assert item.enable() is True
        assert wq.queue_work(item) is True


@over_kinds
async def test_enabled_during_somebodys_cancel_sync_the_false_is_not_the_last_word(kind: Kind, trace: Trace) -> None:
    """`enable` says whether the item takes queueings *now*; when the wait is over it does, without another call."""
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0])
        item = trace.queue(wq, "item")["item"]
        await wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(item.cancel_sync)
            await wait_all_tasks_blocked()
            item.disable()
            assert item.enable() is False
            assert wq.queue_work(item) is False
            item.disable()
            assert item.enable() is False
            with pytest.raises(DisableError):
                item.enable()
            trace.open("item")
        assert item.statistics().disabled == 0
        assert wq.queue_work(item) is True


@over_kinds
@pytest.mark.parametrize("turns", range(4))
async def test_a_disable_sync_cancelled_at_any_turn_has_not_disabled(kind: Kind, turns: int, trace: Trace) -> None:
    """Also beside another that has: each takes back its own only."""
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0])
        item = trace.queue(wq, "item")["item"]
        await wait_all_tasks_blocked()
        item.disable()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(item.disable_sync)
            for _ in range(turns):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        assert item.statistics().disabled == 1
        assert item.enable() is True
        trace.open("item")
        await wq.flush()
        await assert_at_zero(supervisor, wq)


@over_kinds
async def test_disabled_between_its_requeue_and_its_end_it_ends_and_does_not_run_again(
    kind: Kind, trace: Trace
) -> None:
    """Invariants 3, 6 and 49: the requeue is withdrawn, its slot goes to the next in line."""
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0], max_active=1)
        item = trace.queue(wq, "item")["item"]
        await wait_all_tasks_blocked()
        assert wq.queue_work(item) is True
        trace.open("next")
        trace.queue(wq, "next")
        assert item.disable() is True
        trace.open("item")
        await wq.flush()
        assert trace.starts == ["item", "next"]
        assert trace.discarded == ["item"]
        await assert_at_zero(supervisor, wq)


@over_kinds
async def test_the_head_of_a_lane_disabled_while_it_runs_keeps_the_lane_to_its_end(kind: Kind, trace: Trace) -> None:
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0])
        lane = wq.lane("key")
        head, behind = trace.holder("head"), trace.holder("behind")
        lane.queue_work(head)
        lane.queue_work(behind)
        await wait_all_tasks_blocked()
        assert head.disable() is False
        await wait_all_tasks_blocked()
        assert trace.starts == ["head"]
        trace.open("head", "behind")
        await lane.flush()
        assert trace.starts == ["head", "behind"]


async def test_enable_and_queue_that_a_gate_refuses_leaves_it_as_it_was(trace: Trace) -> None:
    async with open_supervisor() as supervisor:
        wq, gone = alloc(supervisor, "wq"), alloc(supervisor, "gone")
        await gone.destroy()
        item = trace.holder("item")
        item.disable()
        item.disable()

        assert item.enable() is False
        with pytest.raises(DestroyedError):
            gone.enable_and_queue_work(item)
        assert item.statistics().disabled == 1
        trace.queue(wq, "holder")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wq.drain)
            await wait_all_tasks_blocked()
            with pytest.raises(DrainingError):
                wq.enable_and_queue_work(item)
            assert item.statistics().disabled == 1
            trace.open("holder")
        trace.open("item")
        assert wq.enable_and_queue_work(item) is True
        with pytest.raises(DisableError):
            wq.enable_and_queue_work(item)
        assert item.is_pending


async def test_disabled_by_its_own_on_discard_it_stays_so(trace: Trace) -> None:
    """The callback of a withdrawal disables once more: depth 2, one discard."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=1)
        trace.queue(wq, "holder")
        await wait_all_tasks_blocked()
        told: list[bool] = []
        item: Work[int] = Work(int, on_discard=lambda: told.append(item.disable()))
        wq.queue_work(item)
        assert item.disable() is True
        assert (told, item.statistics().disabled) == ([False], 2)
        trace.open("holder")


async def test_a_disabled_item_is_flushed_and_cancelled_like_an_idle_one(trace: Trace) -> None:
    async with open_supervisor() as supervisor:
        wq = supervisor.alloc_workqueue("wq", WQ_UNBOUND, on_error="store")
        item = Work(pow, 2, 5)
        wq.queue_work(item)
        await item.flush()
        item.disable()
        assert await item.result() == 32  # what is kept is kept
        assert await item.flush() is False
        assert item.cancel() is False
        assert await item.cancel_sync() is False
        assert await item.disable_sync() is False
        assert item.interrupt() is False
        assert item.statistics().disabled == 2
        assert trace.events == []
