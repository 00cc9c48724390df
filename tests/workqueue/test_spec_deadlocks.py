"""Deadlocks by the specification: waits of the later features, in cycles and in ordered queues (invariant 58)."""

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from ktrio.workqueue import WQ_FREEZABLE, DeadlockError, Supervisor, Work, Workqueue, WorkqueueFlags, open_supervisor
from tests.workqueue.conftest import KIND_NAMES, KINDS, Kind, Trace, assert_at_zero, open_with

over_kinds = pytest.mark.parametrize("kind", KINDS, ids=KIND_NAMES)

# Waits until an item that calls this has ended.
Wait = Callable[[Workqueue, Callable[[], Awaitable[None]]], Awaitable[None]]


async def by_run(wq: Workqueue, fn: Callable[[], Awaitable[None]]) -> None:
    await wq.run(fn)


async def by_flush(wq: Workqueue, fn: Callable[[], Awaitable[None]]) -> None:
    item = Work(fn)
    wq.queue_work(item)
    await item.flush()


async def by_result(wq: Workqueue, fn: Callable[[], Awaitable[None]]) -> None:
    item = Work(fn)
    wq.queue_work(item)
    await item.result()


async def on_each_cpu(wq: Workqueue, fn: Callable[[], Awaitable[None]]) -> None:
    await wq.schedule_on_each_cpu(fn)


async def by_group(wq: Workqueue, fn: Callable[[], Awaitable[None]]) -> None:
    async with wq.open_group() as group:
        group.queue_work(Work(fn))


async def by_map(wq: Workqueue, fn: Callable[[], Awaitable[None]]) -> None:
    async def call(_: int) -> None:
        await fn()

    await wq.map(call, [1])


async def by_lane(wq: Workqueue, fn: Callable[[], Awaitable[None]]) -> None:
    wq.lane("key").queue_work(Work(fn))
    await wq.lane("key").flush()


WAITS = [by_run, by_flush, by_result, on_each_cpu, by_group, by_map, by_lane]


@over_kinds
@pytest.mark.parametrize("wait", WAITS)
async def test_who_flushes_the_item_that_waits_for_him_raises(kind: Kind, wait: Wait) -> None:
    """A cycle of two: A waits for what B is part of, and B flushes A. Who of them comes last raises (W103)."""
    async with open_with(kind[1])() as supervisor:
        one, two = (supervisor.alloc_workqueue(name, kind[0]) for name in ("one", "two"))
        caught: list[str] = []

        async def flush_the_first() -> None:
            try:
                await first.flush()
            except DeadlockError as error:
                caught.append(str(error))

        async def wait_for_the_second() -> None:
            try:
                await wait(two, flush_the_first)
            except* DeadlockError as group:  # a map lets B run before it waits
                caught.extend(map(str, group.exceptions))

        first = Work(wait_for_the_second, name="first")
        one.queue_work(first)
        await one.flush()
        assert len(caught) == 1
        assert "first" in caught[0]
        await assert_at_zero(supervisor, one, two)


@pytest.mark.parametrize("wait", WAITS)
async def test_in_an_ordered_queue_waiting_for_what_stands_behind_raises(wait: Wait) -> None:
    async with open_supervisor(cpus=2) as supervisor:
        wq = supervisor.alloc_ordered_workqueue("ordered")
        caught: list[str] = []

        async def behind() -> None: ...

        async def wait_for_it() -> None:
            try:
                await wait(wq, behind)
            except* DeadlockError:
                caught.append("deadlock")

        wq.queue_work(Work(wait_for_it))
        await wq.flush()
        assert caught == ["deadlock"]
        await assert_at_zero(supervisor, wq)


@over_kinds
@pytest.mark.parametrize("wait", WAITS)
async def test_each_of_them_from_inside_the_only_slot_and_place_is_none(kind: Kind, wait: Wait) -> None:
    """No false positive: the caller parks, three deep, on one slot of a pool with one place."""
    async with open_with(kind[1])(capacity=1) as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0], max_active=1)
        other = supervisor.alloc_workqueue("other", kind[0], max_active=1)
        reached: list[str] = []

        async def bottom() -> None:
            reached.append("bottom")

        async def middle() -> None:
            await wait(wq, bottom)

        async def top() -> None:
            await wait(other, middle)

        wq.queue_work(Work(top))
        await wq.flush()
        assert reached == ["bottom"]
        await assert_at_zero(supervisor, wq, other)


async def freezing(supervisor: Supervisor) -> None:
    await supervisor.freeze()


@over_kinds
async def test_a_freeze_from_an_item_that_a_freezable_one_waits_for_comes_to_an_end(kind: Kind, trace: Trace) -> None:
    """The freezable item has parked to wait, so it is not busy; it comes back after the thaw."""
    async with open_with(kind[1])() as supervisor:
        cold = supervisor.alloc_workqueue("cold", WorkqueueFlags(kind[0]) | WQ_FREEZABLE, max_active=1)
        warm = supervisor.alloc_workqueue("warm", kind[0])

        async def wait() -> None:
            trace.note("waits")
            await warm.run(freezing, supervisor)
            trace.note("is back")

        cold.queue_work(Work(wait))
        await trio.sleep(1)
        assert supervisor.statistics().frozen
        assert trace.events == ["waits"]
        supervisor.thaw()
        await cold.flush()
        assert trace.events == ["waits", "is back"]
        await assert_at_zero(supervisor, cold, warm)


async def test_a_task_outside_may_wait_for_everything_at_once(trace: Trace) -> None:
    """Only items can be on a cycle; tasks outside wait as they like, for the same item and its queue."""
    async with open_supervisor() as supervisor:
        wq = supervisor.alloc_workqueue("wq")
        item = trace.queue(wq, "item")["item"]
        await wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery:
            for call in (item.flush, item.result, item.cancel_sync, wq.flush, wq.drain, wq.destroy):
                nursery.start_soon(call)
            await trio.sleep(1)
            trace.open("item")
        assert trace.ends == ["item"]
        await assert_at_zero(supervisor)
