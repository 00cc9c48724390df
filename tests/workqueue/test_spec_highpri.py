"""`WQ_HIGHPRI`, by the specification: a high item that could *not* start now holds up nobody, whatever it waits for.

And the moment in which it could: what makes it possible (a thaw, a token, a slot, a lane) lets it go first.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from ktrio.workqueue import (
    WQ_FREEZABLE,
    WQ_HIGHPRI,
    WQ_MEM_RECLAIM,
    WQ_UNBOUND,
    DelayedWork,
    Rate,
    Supervisor,
    Work,
    Workqueue,
    WorkqueueFlags,
    parked,
)
from tests.workqueue.conftest import KIND_NAMES, KINDS, Kind, Trace, assert_at_zero, open_with

over_kinds = pytest.mark.parametrize("kind", KINDS, ids=KIND_NAMES)


@asynccontextmanager
async def opened(kind: Kind, *, cpus: int = 1, capacity: int = 512) -> AsyncGenerator[Supervisor]:
    """A supervisor whose books are at zero when nothing is left to do."""
    async with open_with(kind[1])(cpus, capacity=capacity) as supervisor:
        yield supervisor
        for wq in supervisor.all_workqueues:
            await wq.flush()
        await assert_at_zero(supervisor)


def high(kind: Kind) -> WorkqueueFlags:
    return WorkqueueFlags(kind[0]) | WQ_HIGHPRI


def note_all(trace: Trace, wq: Workqueue, names: str) -> None:
    """Queue an item for each word that writes it down in one step: none of them is awake when the next may start."""
    for name in names.split():
        assert wq.queue_work(Work(trace.note, name))


@over_kinds
async def test_one_that_waits_for_a_token_holds_up_nobody_and_goes_first_when_it_has_it(
    kind: Kind, trace: Trace
) -> None:
    """Invariant 37: "holds a slot" is what it lacks until then."""
    async with opened(kind) as supervisor:
        rated = supervisor.alloc_workqueue("rated", high(kind), rate=Rate(1))
        normal = supervisor.alloc_workqueue("normal", kind[0])
        trace.open("h1", "h2", "n1", "n2")
        trace.queue(rated, "h1 h2")
        trace.queue(normal, "n1")
        await trio.sleep(0.5)
        assert trace.starts == ["h1", "n1"]
        await rated.flush()
        assert trace.starts == ["h1", "n1", "h2"]


@over_kinds
async def test_frozen_ones_hold_up_nobody_and_go_first_after_the_thaw(kind: Kind, trace: Trace) -> None:
    """Invariants 37 and 55."""
    async with opened(kind) as supervisor:
        cold = supervisor.alloc_workqueue("cold", high(kind) | WQ_FREEZABLE)
        normal = supervisor.alloc_workqueue("normal", kind[0])
        assert await supervisor.freeze()
        note_all(trace, cold, "h1 h2")
        note_all(trace, normal, "n1")
        await wait_all_tasks_blocked()
        assert trace.events == ["n1"]
        note_all(trace, normal, "n2 n3")
        supervisor.thaw()
        await normal.flush()
        assert trace.events == ["n1", "h1", "h2", "n2", "n3"]


@over_kinds
async def test_one_behind_its_lane_holds_up_nobody(kind: Kind, trace: Trace) -> None:
    async with opened(kind) as supervisor:
        urgent = supervisor.alloc_workqueue("urgent", high(kind))
        normal = supervisor.alloc_workqueue("normal", kind[0])
        lane = urgent.lane("key")
        for name in ("h1", "h2"):
            lane.queue_work(trace.holder(name))
        trace.open("n1")
        trace.queue(normal, "n1")
        await wait_all_tasks_blocked()
        assert trace.starts == ["h1", "n1"]
        assert trace.ends == ["n1"]
        trace.open("h1", "h2")


@over_kinds
async def test_one_in_a_timer_holds_up_nobody_and_goes_first_when_it_fires(kind: Kind, trace: Trace) -> None:
    async with opened(kind) as supervisor:
        urgent = supervisor.alloc_workqueue("urgent", high(kind))
        normal = supervisor.alloc_workqueue("normal", kind[0])
        urgent.queue_delayed_work(DelayedWork(trace.note, "h starts"), 1)
        trace.open("n1")
        trace.queue(normal, "n1")
        await trio.sleep(0.5)
        assert trace.starts == ["n1"]
        normal.queue_delayed_work(DelayedWork(trace.note, "n2 starts"), 0.5)  # the same instant, armed later
        await trio.sleep(1)
        assert trace.starts == ["n1", "h", "n2"]


@over_kinds
async def test_more_slots_let_high_ones_go_before_normal_ones_queued_before(kind: Kind, trace: Trace) -> None:
    """In one stretch: normal items queued first, then what makes high ones possible."""
    async with opened(kind) as supervisor:
        urgent = supervisor.alloc_workqueue("urgent", high(kind), max_active=1)
        normal = supervisor.alloc_workqueue("normal", kind[0])
        trace.queue(urgent, "h1")
        await wait_all_tasks_blocked()
        note_all(trace, urgent, "h2 h3 h4")
        note_all(trace, normal, "n1 n2")
        urgent.set_max_active(2)
        await wait_all_tasks_blocked()
        assert trace.events[1:] == ["h2", "h3", "h4", "n1", "n2"]
        urgent.set_max_active(1)  # the only slot is h1's
        note_all(trace, normal, "n3")
        note_all(trace, urgent, "h5")
        note_all(trace, normal, "n4")
        await wait_all_tasks_blocked()
        assert trace.events[6:] == ["n3", "n4"]
        trace.open("h1")


@over_kinds
async def test_more_places_let_high_ones_go_before_normal_ones_queued_before(kind: Kind, trace: Trace) -> None:
    """`set_capacity` concerns all pools at once; the high one is the first to use it."""
    async with opened(kind, capacity=1) as supervisor:
        urgent = supervisor.alloc_workqueue("urgent", high(kind))
        normal = supervisor.alloc_workqueue("normal", kind[0])
        trace.queue(normal, "n")
        trace.queue(urgent, "h")
        await wait_all_tasks_blocked()
        note_all(trace, normal, "n1 n2")
        note_all(trace, urgent, "h1 h2")
        await wait_all_tasks_blocked()
        assert trace.starts == ["h", "n"]
        supervisor.set_capacity(2)
        await wait_all_tasks_blocked()
        assert trace.events[2:] == ["h1", "h2", "n1", "n2"]
        trace.open("h", "n")


@over_kinds
async def test_disabled_on_the_worklist_it_holds_up_nobody(kind: Kind, trace: Trace) -> None:
    """W58, W96: it is withdrawn in the same stretch."""
    async with opened(kind) as supervisor:
        urgent = supervisor.alloc_workqueue("urgent", high(kind))
        normal = supervisor.alloc_workqueue("normal", kind[0])
        trace.open("n", "h2")
        item = trace.queue(urgent, "h1")["h1"]
        trace.queue(normal, "n")
        assert item.disable() is True
        await wait_all_tasks_blocked()
        assert (trace.starts, trace.discarded) == (["n"], ["h1"])


@over_kinds
async def test_a_high_item_that_waits_for_a_normal_one_gets_it(kind: Kind) -> None:
    """It parks, so the high pool has nothing that could start: no priority inversion without end."""
    async with opened(kind) as supervisor:
        urgent = supervisor.alloc_workqueue("urgent", high(kind), max_active=1)
        normal = supervisor.alloc_workqueue("normal", kind[0], max_active=1)
        item = Work(pow, 2, 10)

        async def wait() -> int:
            normal.queue_work(item)
            await item.flush()
            return await normal.run(pow, 2, 11)

        assert await urgent.run(wait) == 2048


@over_kinds
async def test_a_normal_item_that_calls_a_high_one_gets_its_answer_before_anything_else_normal_starts(
    kind: Kind, trace: Trace
) -> None:
    async with opened(kind) as supervisor:
        urgent = supervisor.alloc_workqueue("urgent", high(kind))
        normal = supervisor.alloc_workqueue("normal", kind[0], max_active=1)

        async def call() -> None:
            await urgent.run(trace.note, "h starts")
            trace.note("call ends")

        trace.open("n")
        normal.queue_work(Work(call))
        trace.queue(normal, "n")
        await normal.flush()
        assert trace.events[0] == "h starts"
        assert sorted(trace.events[1:]) == ["call ends", "n ends", "n starts"]


@over_kinds
async def test_a_returning_high_item_at_a_full_pool_holds_up_nobody(kind: Kind, trace: Trace) -> None:
    """P2 and P3: it wants a place of its own pool, and the normal one has places of its own."""
    async with opened(kind, capacity=1) as supervisor:
        urgent = supervisor.alloc_workqueue("urgent", high(kind))
        normal = supervisor.alloc_workqueue("normal", kind[0])
        urgent.queue_work(trace.parker("p"))
        await wait_all_tasks_blocked()
        trace.queue(urgent, "h")
        await wait_all_tasks_blocked()
        trace.open("p", "p back", "n")
        await wait_all_tasks_blocked()
        assert urgent.statistics().parked == 1
        trace.queue(normal, "n")
        await wait_all_tasks_blocked()
        assert trace.ends == ["n"]
        trace.open("h")


@over_kinds
async def test_a_rescuer_of_a_high_queue_and_normal_items_get_on_beside_each_other(kind: Kind, trace: Trace) -> None:
    """Invariants 37 and 56: a full high pool holds up nobody, also not while somebody is rescued in it."""
    async with opened(kind, capacity=1) as supervisor:
        blocker = supervisor.alloc_workqueue("blocker", high(kind))
        safe = supervisor.alloc_workqueue("safe", high(kind) | WQ_MEM_RECLAIM)
        normal = supervisor.alloc_workqueue("normal", kind[0])
        trace.queue(blocker, "b")
        await wait_all_tasks_blocked()
        trace.queue(safe, "r")
        trace.open("n", "m")
        trace.queue(normal, "n")
        await trio.sleep(0.001)
        assert trace.starts == ["b", "n"]
        await trio.sleep(0.02)
        assert trace.starts == ["b", "n", "r"]
        trace.queue(normal, "m")
        await wait_all_tasks_blocked()
        assert trace.ends == ["n", "m"]
        trace.open("b", "r")


async def test_a_high_item_parked_inside_a_normal_queues_stretch_frees_nobody_elses_place(trace: Trace) -> None:
    """A normal item parks while a high item waits for its own slot: neither pool counts in the other's books."""
    async with opened((WQ_UNBOUND, "trampoline"), capacity=1) as supervisor:
        urgent = supervisor.alloc_workqueue("urgent", WQ_UNBOUND | WQ_HIGHPRI)
        normal = supervisor.alloc_workqueue("normal", WQ_UNBOUND)

        async def park() -> None:
            async with parked():
                await trace.gate("door").wait()

        trace.queue(urgent, "h1 h2")
        normal.queue_work(Work(park))
        await wait_all_tasks_blocked()
        assert trace.starts == ["h1"]
        assert [(pool.occupied, pool.parked) for pool in supervisor.statistics().pools if pool.highpri] == [(1, 0)]
        assert normal.statistics().parked == 1
        trace.open("door", "h1", "h2")
