"""Ordered queues, by the specification: what keeps the order, and what has no say in it (W38-W41, P7)."""

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from ktrio.workqueue import (
    WQ_FREEZABLE,
    WQ_HIGHPRI,
    WQ_MEM_RECLAIM,
    DelayedWork,
    PeriodicWork,
    Rate,
    Supervisor,
    Work,
    Workqueue,
    WorkqueueFlags,
    open_supervisor,
    parked,
)
from tests.workqueue.conftest import Errors, Trace, alloc, assert_at_zero

FLAGS = [WQ_FREEZABLE, WQ_MEM_RECLAIM, WQ_HIGHPRI, WQ_FREEZABLE | WQ_MEM_RECLAIM | WQ_HIGHPRI]


class Spans:
    """Items that sleep, and when each began and ended."""

    def __init__(self) -> None:
        self.spans: dict[str, tuple[float, float]] = {}

    async def sleep(self, name: str, seconds: float, *, park: bool = False) -> None:
        began = trio.current_time()
        if park:
            async with parked():
                await trio.sleep(seconds)
        else:
            await trio.sleep(seconds)
        self.spans[name] = began, trio.current_time()


@pytest.fixture
def spans() -> Spans:
    return Spans()


@pytest.mark.parametrize("flags", FLAGS)
async def test_times_are_those_of_one_after_the_other(
    flags: WorkqueueFlags, spans: Spans, autojump_clock: MockClock
) -> None:
    """W38; invariant 16: over four CPUs, parked or not, whatever other flags there are."""
    async with open_supervisor(cpus=4) as supervisor:
        wq = supervisor.alloc_ordered_workqueue("test", flags)
        for cpu, name in enumerate("abcd"):
            wq.queue_work_on(cpu, Work(lambda name=name: spans.sleep(name, 1, park=name in "bc")))
        await wq.flush()
        assert spans.spans == {name: (number, number + 1) for number, name in enumerate("abcd")}
        await assert_at_zero(supervisor, wq)


async def test_two_ordered_queues_do_not_wait_for_each_other(spans: Spans, autojump_clock: MockClock) -> None:
    """W38: even in one pool."""
    async with open_supervisor() as supervisor:
        queues = [supervisor.alloc_ordered_workqueue(name) for name in ("one", "two")]
        for wq in queues:
            for number in range(2):
                wq.queue_work(Work(spans.sleep, f"{wq.name} {number}", 1))
        for wq in queues:
            await wq.flush()
    assert spans.spans == {"one 0": (0, 1), "two 0": (0, 1), "one 1": (1, 2), "two 1": (1, 2)}


async def test_timers_queue_in_the_order_in_which_they_fire(spans: Spans, autojump_clock: MockClock) -> None:
    """W71-W73: a delayed item is in the order from its due time on; moved, it goes to the end."""
    async with open_supervisor(cpus=2) as supervisor:
        wq = supervisor.alloc_ordered_workqueue("test")
        delayed, moved = (DelayedWork(spans.sleep, name, 1) for name in ("delayed", "moved"))
        for name in "ab":
            wq.queue_work(Work(spans.sleep, name, 2))
        wq.queue_delayed_work(moved, 0)
        wq.queue_delayed_work(delayed, 1)
        wq.queue_delayed_work_on(1, late := DelayedWork(spans.sleep, "late", 1), 3)
        wq.mod_delayed_work(moved, 2)
        await trio.sleep(10)
        assert not late.is_pending
        await assert_at_zero(supervisor, wq)
    assert spans.spans == {"a": (0, 2), "b": (2, 4), "delayed": (4, 5), "moved": (5, 6), "late": (6, 7)}


async def test_a_periodic_item_stands_in_line(spans: Spans, autojump_clock: MockClock) -> None:
    """W80: and ticks that find it there are overruns."""
    async with open_supervisor() as supervisor:
        wq = supervisor.alloc_ordered_workqueue("test")
        pwork = PeriodicWork(spans.sleep, "tick", 1)
        wq.queue_work(Work(spans.sleep, "a", 5))
        wq.queue_periodic_work(pwork, 2)
        await trio.sleep(5.5)
        pwork.cancel()
        await wq.flush()
        assert spans.spans == {"a": (0, 5), "tick": (5, 6)}
        assert pwork.statistics().overruns == 1


async def test_withdrawing_leaves_no_gap(spans: Spans, autojump_clock: MockClock) -> None:
    """W31, W32; invariants 13, 19: one queued again goes to the end."""
    async with open_supervisor(cpus=2) as supervisor:
        wq = supervisor.alloc_ordered_workqueue("test")
        works = {name: Work(spans.sleep, name, 1) for name in "abcd"}
        for work in works.values():
            wq.queue_work(work)
        assert works["b"].cancel()
        assert wq.queue_work(works["b"])
        assert works["c"].disable()
        assert works["a"].cancel(), "active, and not begun"
        await wq.flush()
    assert spans.spans == {"d": (0, 1), "b": (1, 2)}


async def test_an_error_or_an_interrupt_is_an_end(spans: Spans, autojump_clock: MockClock) -> None:
    """W38, W106: the next begins then, and not earlier."""

    async def fail() -> None:
        await trio.sleep(1)
        raise ValueError

    errors = Errors()
    async with open_supervisor(cpus=3) as supervisor:
        wq = supervisor.alloc_ordered_workqueue("test", on_error=errors)
        long = Work(spans.sleep, "long", 100)
        slow = Work(spans.sleep, "slow", 100, timeout=2)
        for work in (Work(fail), long, slow, Work(spans.sleep, "last", 1)):
            wq.queue_work(work)
        await trio.sleep(3)
        assert long.interrupt()
        await wq.flush()
        assert spans.spans == {"last": (5, 6)}
        assert [type(error) for error in errors.errors] == [ValueError, trio.TooSlowError]
        await assert_at_zero(supervisor, wq)


async def test_freezing_keeps_the_order(spans: Spans, autojump_clock: MockClock) -> None:
    """W145, W147; invariants 16, 55: a parked one comes back first, after the thaw."""
    async with open_supervisor(cpus=2) as supervisor:
        wq = supervisor.alloc_ordered_workqueue("test", WQ_FREEZABLE)
        wq.queue_work(Work(lambda: spans.sleep("parks", 2, park=True)))
        wq.queue_work(Work(spans.sleep, "behind", 1))
        await trio.sleep(1)
        assert await supervisor.freeze()
        assert trio.current_time() == pytest.approx(1), "its slot is kept by a parked item: nobody is busy"
        wq.queue_work(Work(spans.sleep, "last", 1))
        await trio.sleep(9)
        assert spans.spans == {}
        supervisor.thaw()
        await wq.flush()
        await assert_at_zero(supervisor, wq)
    assert spans.spans == {"parks": (0, 10), "behind": (10, 11), "last": (11, 12)}


async def run_calls(wq: Workqueue, spans: Spans) -> None:
    async with trio.open_nursery() as nursery:
        for name in "abc":
            nursery.start_soon(wq.run, spans.sleep, name, 1)


async def map_calls(wq: Workqueue, spans: Spans) -> None:
    await wq.map(lambda name: spans.sleep(name, 1), "abc")


async def group_calls(wq: Workqueue, spans: Spans) -> None:
    async with wq.open_group() as group:
        for name in "abc":
            group.queue_work(Work(spans.sleep, name, 1))


async def lane_calls(wq: Workqueue, spans: Spans) -> None:
    for name in "abc":
        wq.lane(name).queue_work(Work(spans.sleep, name, 1))
    await wq.flush()


async def backlog_calls(wq: Workqueue, spans: Spans) -> None:
    for name in "abc":
        await wq.queue_work_wait(Work(spans.sleep, name, 1))
    await wq.flush()


@pytest.mark.parametrize("calls", [run_calls, map_calls, group_calls, lane_calls, backlog_calls])
async def test_every_way_to_queue_ends_one_after_the_other(
    calls: Callable[[Workqueue, Spans], Awaitable[None]], spans: Spans, autojump_clock: MockClock
) -> None:
    """W38; invariant 16: no overlap. (`run` from several tasks is in the order of the calls, which Trio shuffles.)"""
    async with open_supervisor(cpus=3) as supervisor:
        wq = supervisor.alloc_ordered_workqueue("test")
        await calls(wq, spans)
        assert sorted(spans.spans.values()) == [(0, 1), (1, 2), (2, 3)]
        assert calls is run_calls or list(spans.spans) == ["a", "b", "c"]
        await assert_at_zero(supervisor, wq)


async def test_a_full_pool_delays_it_and_keeps_the_order(spans: Spans, autojump_clock: MockClock) -> None:
    """W37: it stands in the pool's line as any other."""
    async with open_supervisor(capacity=1) as supervisor:
        wq, other = supervisor.alloc_ordered_workqueue("test"), alloc(supervisor)
        other.queue_work(Work(spans.sleep, "other 1", 3))
        for name in "ab":
            wq.queue_work(Work(spans.sleep, name, 1))
        other.queue_work(Work(spans.sleep, "other 2", 3))
        await wq.flush()
        await other.flush()
    assert spans.spans == {"other 1": (0, 3), "a": (3, 4), "other 2": (4, 7), "b": (7, 8)}


async def test_a_rate_slows_it_down_only(spans: Spans, autojump_clock: MockClock) -> None:
    """W140."""
    async with open_supervisor(cpus=2) as supervisor:
        wq = supervisor.alloc_ordered_workqueue("test")
        wq.set_rate(Rate(1, 4))
        for name in "abc":
            wq.queue_work(Work(spans.sleep, name, 1))
        await wq.flush()
    assert spans.spans == {"a": (0, 1), "b": (4, 5), "c": (8, 9)}


async def assert_refused(supervisor: Supervisor, wq: Workqueue, work: Work) -> None:
    with pytest.raises(ValueError):
        wq.set_max_active(2)
    with pytest.raises((ValueError, TypeError)):
        wq.attributes["max_active"] = 2
    with pytest.raises(ValueError):
        wq.queue_work(work, parked=True)
    with pytest.raises(ValueError):
        wq.queue_work_on(0, work, parked=True)
    with pytest.raises(ValueError):
        wq.queue_work_on(supervisor.cpus, work)


async def test_what_is_refused_changes_nothing(trace: Trace) -> None:
    """W35, W40: idle, busy, full, frozen or not."""
    async with open_supervisor(cpus=2) as supervisor:
        wq = supervisor.alloc_ordered_workqueue("test", WQ_FREEZABLE)
        idle = trace.holder("idle")
        await assert_refused(supervisor, wq, idle)
        trace.queue(wq, "a b")
        await wait_all_tasks_blocked()
        before = wq.statistics()
        await assert_refused(supervisor, wq, idle)
        assert (wq.statistics(), idle.is_pending, trace.starts) == (before, False, ["a"])
        trace.open("a", "b", "idle")
        await wq.flush()
        assert wq.queue_work(idle)
        await wq.flush()
        assert trace.ends == ["a", "b", "idle"]
        assert trace.discarded == []
