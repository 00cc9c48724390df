"""W95 as a table: every public async function is a checkpoint, with nothing to wait for too: a turn, and cancellable.

What it would have accepted is then either done or not, and in the books; nothing is in between.
"""

import math
from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import assert_checkpoints

from ktrio.workqueue import WQ_FREEZABLE, WQ_UNBOUND, DelayedWork, PeriodicWork, Supervisor, Work, Workqueue
from tests.workqueue.conftest import KIND_NAMES, KINDS, Kind, assert_at_zero, open_with

over_kinds = pytest.mark.parametrize("kind", KINDS, ids=KIND_NAMES)

Call = Callable[[Supervisor, Workqueue], Awaitable[object]]


async def kept_result(_: Supervisor, wq: Workqueue) -> None:
    item = Work(int)
    wq.queue_work(item)
    with trio.CancelScope(shield=True):
        await wq.flush()
    await item.result()


async def wait_in_group(_: Supervisor, wq: Workqueue) -> None:
    with trio.CancelScope() as scope:
        async with wq.open_group() as group:
            await group.queue_work_wait(Work(int))
    assert not scope.cancelled_caught


async def flush_group(_: Supervisor, wq: Workqueue) -> None:
    async with wq.open_group() as group:
        await group.flush()


async def map_of_two(_: Supervisor, wq: Workqueue) -> None:
    await wq.map(math.sqrt, [1.0, 2.0])


async def map_of_nothing(_: Supervisor, wq: Workqueue) -> None:
    await wq.map(math.sqrt, list[float]())


CALLS: dict[str, Call] = {
    "work.flush": lambda _, wq: Work(int).flush(),
    "work.cancel_sync": lambda _, wq: Work(int).cancel_sync(),
    "work.cancel_sync interrupting": lambda _, wq: Work(int).cancel_sync(interrupt=True),
    "work.disable_sync": lambda _, wq: Work(int).disable_sync(),
    "work.result, kept": kept_result,
    "dwork.flush": lambda _, wq: DelayedWork(int).flush(),
    "pwork.cancel_sync": lambda _, wq: PeriodicWork(int).cancel_sync(),
    "wq.flush": lambda _, wq: wq.flush(),
    "wq.drain": lambda _, wq: wq.drain(),
    "wq.run": lambda _, wq: wq.run(int),
    "wq.run_on": lambda _, wq: wq.run_on(0, int),
    "wq.schedule_on_each_cpu": lambda _, wq: wq.schedule_on_each_cpu(int),
    "wq.map": map_of_two,
    "wq.map of nothing": map_of_nothing,
    "wq.queue_work_wait": lambda _, wq: wq.queue_work_wait(Work(int)),
    "lane.queue_work_wait": lambda _, wq: wq.lane(1).queue_work_wait(Work(int)),
    "lane.flush": lambda _, wq: wq.lane(1).flush(),
    "group.queue_work_wait": wait_in_group,
    "group.flush": flush_group,
    "supervisor.freeze": lambda supervisor, _: supervisor.freeze(),
    "wq.destroy": lambda _, wq: wq.destroy(),
}


@over_kinds
@pytest.mark.parametrize("name", CALLS)
async def test_with_nothing_to_wait_for_it_is_cancelled_by_a_cancelled_scope(kind: Kind, name: str) -> None:
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", WQ_UNBOUND | WQ_FREEZABLE if kind[0] else WQ_FREEZABLE, on_error="store")
        with trio.CancelScope() as scope:
            scope.cancel()
            await CALLS[name](supervisor, wq)
        supervisor.thaw()
        assert scope.cancelled_caught, name
        with trio.fail_after(5):
            await wq.flush()
        await assert_at_zero(supervisor, wq)


@over_kinds
@pytest.mark.parametrize("name", CALLS)
async def test_it_gives_the_loop_a_turn_and_looks_for_cancellation(kind: Kind, name: str) -> None:
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0], on_error="store")
        with assert_checkpoints():
            await CALLS[name](supervisor, wq)
        supervisor.thaw()
