"""Tests from the specification: a supervisor that is opened inside an item of another one (W2, W1, W3, W5)."""

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from ktrio.workqueue import (
    WQ_FREEZABLE,
    WQ_UNBOUND,
    DeadlockError,
    DestroyedError,
    Supervisor,
    Work,
    Workqueue,
    current_work,
    open_supervisor,
    parked,
)
from tests.workqueue.conftest import KIND_NAMES, KINDS, Errors, Kind, Trace, alloc, assert_at_zero, open_with

pytestmark = pytest.mark.parametrize("kind", KINDS, ids=KIND_NAMES)


class Nested:
    """An item whose function opens a supervisor with a queue, queues what it was given, and leaves it."""

    def __init__(self, kind: Kind, queue: Callable[[Workqueue], object]) -> None:
        self.flags, self.sensor = kind
        self.queue = queue
        self.inner: tuple[Supervisor, Workqueue] | None = None
        self.work = Work(self.body, name="outer item")

    async def body(self) -> None:
        async with open_with(self.sensor)() as supervisor:
            wq = supervisor.alloc_workqueue("inner", self.flags, max_active=1)
            self.inner = supervisor, wq
            self.queue(wq)

    async def assert_inner_at_zero(self) -> None:
        assert self.inner is not None
        await assert_at_zero(*self.inner)


async def test_the_outer_item_ends_when_the_inner_supervisor_has_been_left(kind: Kind, trace: Trace) -> None:
    """W3: leaving drains, so whoever waits for the item waits for the items inside."""
    nested = Nested(kind, lambda wq: trace.queue(wq, "a b"))
    async with open_with(kind[1])() as outer, trio.open_nursery() as nursery:
        wq = outer.alloc_workqueue("outer", kind[0], max_active=1)
        wq.queue_work(nested.work)
        nursery.start_soon(wq.flush)
        await wait_all_tasks_blocked()
        assert (trace.starts, wq.in_flight, nested.work.is_running) == (["a"], 1, True)
        trace.open("a")
        await wait_all_tasks_blocked()
        assert (trace.starts, nested.work.is_running) == (["a", "b"], True)
        trace.open("b")
        await nested.work.flush()
        assert trace.ends == ["a", "b"]
        await nested.assert_inner_at_zero()
        await assert_at_zero(outer, wq)


async def test_interrupting_the_outer_item_ends_everything_inside(kind: Kind, trace: Trace) -> None:
    """W5, W92, W93: what runs is cancelled, what is pending discarded; the outer worker goes on."""
    nested = Nested(kind, lambda wq: trace.queue(wq, "a b c"))
    async with open_with(kind[1])() as outer:
        wq = outer.alloc_workqueue("outer", kind[0], max_active=1)
        wq.queue_work(nested.work)
        await wait_all_tasks_blocked()
        assert nested.work.interrupt()
        assert await nested.work.flush()
        assert (trace.starts, trace.ends, sorted(trace.discarded)) == (["a"], [], ["b", "c"])
        await nested.assert_inner_at_zero()
        trace.open("next")
        trace.queue(wq, "next")
        await wq.flush()
        assert trace.ends == ["next"]
        await assert_at_zero(outer, wq)


async def test_an_error_inside_comes_out_of_the_outer_item(kind: Kind, trace: Trace) -> None:
    """W106, W107: to the inner supervisor, through its block, and to the outer queue's policy, once."""

    def fail() -> None:
        raise ValueError("inside")

    def queue(wq: Workqueue) -> None:
        trace.queue(wq, "beside")
        wq.queue_work(Work(fail))
        trace.open("beside")

    nested, errors = Nested(kind, queue), Errors()
    async with open_with(kind[1])() as outer:
        wq = outer.alloc_workqueue("outer", kind[0], on_error=errors)
        wq.queue_work(nested.work)
        await wq.flush()
        [(work, error)] = errors.seen
        assert work is nested.work
        assert isinstance(error, ExceptionGroup)
        assert [repr(each) for each in error.exceptions] == ["ValueError('inside')"]
        await nested.assert_inner_at_zero()
        trace.open("after")
        trace.queue(wq, "after")
        await wq.flush()
        assert trace.ends[-1] == "after"
        await assert_at_zero(outer, wq)


async def test_an_error_outside_cancels_what_is_inside(kind: Kind, trace: Trace) -> None:
    """W5: and the error that leaves is the outer one alone."""

    def fail() -> None:
        raise ValueError("outside")

    nested = Nested(kind, lambda wq: trace.queue(wq, "a b"))

    async def outside() -> None:
        async with open_with(kind[1])() as outer:
            wq = outer.alloc_workqueue("outer", kind[0])
            wq.queue_work(nested.work)
            await wait_all_tasks_blocked()
            wq.queue_work(Work(fail))
            await trio.sleep_forever()

    with pytest.raises(ExceptionGroup) as caught:
        await outside()
    assert [repr(error) for error in caught.value.exceptions] == ["ValueError('outside')"]
    assert (trace.starts, trace.ends, trace.discarded) == (["a"], [], ["b"])
    await nested.assert_inner_at_zero()


async def test_cancelling_the_outer_supervisor_leaves_no_task(kind: Kind, trace: Trace) -> None:
    """W1; invariant 60: with one supervisor in another, three deep."""
    before = trio.lowlevel.current_statistics().tasks_living
    third = Nested(kind, lambda wq: trace.queue(wq, "a b"))
    second = Nested(kind, lambda wq: wq.queue_work(third.work))
    with trio.move_on_after(1) as scope:
        async with open_with(kind[1])() as outer:
            outer.alloc_workqueue("outer", kind[0]).queue_work(second.work)
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert trio.lowlevel.current_statistics().tasks_living == before
    assert (trace.starts, trace.ends, trace.discarded) == (["a"], [], ["b"])
    await second.assert_inner_at_zero()
    await third.assert_inner_at_zero()


async def test_a_waiter_outside_for_what_is_inside_is_told(kind: Kind, trace: Trace) -> None:
    """W5, W115: who waits for an inner item when its supervisor is cancelled does not hang."""
    told: list[str] = []
    inside: list[Work] = []

    async def wait(work: Work) -> None:
        try:
            await work.result()
        except DestroyedError:
            told.append(work.name)

    nested = Nested(kind, lambda wq: inside.extend(trace.queue(wq, "a b").values()))
    async with open_with(kind[1])() as outer, trio.open_nursery() as nursery:
        wq = outer.alloc_workqueue("outer", kind[0])
        wq.queue_work(nested.work)
        await wait_all_tasks_blocked()
        for work in inside:
            nursery.start_soon(wait, work)
        await wait_all_tasks_blocked()
        nested.work.interrupt()
        await nested.work.flush()
    assert sorted(told) == ["a", "b"]


async def test_an_inner_item_is_the_current_one(kind: Kind) -> None:
    """W123: the innermost, and after the block the outer one again."""
    seen: list[str] = []

    def note() -> None:
        work = current_work()
        seen.append(work.name if work is not None else "none")

    def queue(wq: Workqueue) -> None:
        note()
        wq.queue_work(Work(note, name="inner item"))

    nested = Nested(kind, queue)
    async with open_with(kind[1])() as outer:
        wq = outer.alloc_workqueue("outer", kind[0])
        wq.queue_work(nested.work)
        await wq.flush()
    note()
    assert seen == ["outer item", "inner item", "none"]


async def test_leaving_the_inner_supervisor_parks_the_outer_item(kind: Kind, trace: Trace) -> None:
    """W102: it waits for others; and what parks inside parks in the inner books."""
    nested = Nested(kind, lambda wq: trace.queue(wq, "a"))
    async with open_with(kind[1])() as outer:
        wq = outer.alloc_workqueue("outer", kind[0], max_active=1)
        wq.queue_work(nested.work)
        trace.queue(wq, "next")
        await wait_all_tasks_blocked()
        assert nested.inner is not None
        assert (nested.inner[1].statistics().parked, wq.statistics().parked) == (0, 1)
        assert sorted(trace.starts) == ["a", "next"]
        trace.open("a", "next")
        await wq.flush()
        await nested.assert_inner_at_zero()
        await assert_at_zero(outer, wq)


async def test_an_outer_item_that_parks_around_it_gives_up_its_slot(kind: Kind, trace: Trace) -> None:
    """P1: a whole supervisor may be what a parked item waits for."""

    async def body() -> None:
        async with parked():
            await nested.body()

    nested = Nested(kind, lambda wq: trace.queue(wq, "a"))
    async with open_with(kind[1])() as outer:
        wq = outer.alloc_workqueue("outer", kind[0], max_active=1)
        wq.queue_work(Work(body))
        trace.queue(wq, "next")
        await wait_all_tasks_blocked()
        assert sorted(trace.starts) == ["a", "next"]
        trace.open("a", "next")
        await wq.flush()
        await assert_at_zero(outer, wq)


async def test_queueing_from_inside_is_chained(kind: Kind, trace: Trace) -> None:
    """W86: an inner item runs in a task that the outer item has started."""
    outer_wq: list[Workqueue] = []

    async def chain() -> None:
        await trace.gate("go").wait()
        trace.open("chained")
        trace.queue(outer_wq[0], "chained")

    nested = Nested(kind, lambda wq: wq.queue_work(Work(chain)))
    async with open_with(kind[1])() as outer, trio.open_nursery() as nursery:
        wq = outer.alloc_workqueue("outer", kind[0])
        outer_wq.append(wq)
        wq.queue_work(nested.work)
        nursery.start_soon(wq.drain)
        await wait_all_tasks_blocked()
        trace.open("go")
        await wait_all_tasks_blocked()
        assert trace.ends == ["chained"]
        await assert_at_zero(outer, wq)


async def wait_for_the_item(outer: Supervisor, wq: Workqueue, work: Work) -> None:
    await work.flush()


async def cancel_the_item(outer: Supervisor, wq: Workqueue, work: Work) -> None:
    await work.cancel_sync()


async def wait_for_the_queue(outer: Supervisor, wq: Workqueue, work: Work) -> None:
    await wq.flush()


async def drain_the_queue(outer: Supervisor, wq: Workqueue, work: Work) -> None:
    await wq.drain()


async def freeze_the_queue(outer: Supervisor, wq: Workqueue, work: Work) -> None:
    await outer.freeze()


@pytest.mark.parametrize(
    "wait", [wait_for_the_item, cancel_the_item, wait_for_the_queue, drain_the_queue, freeze_the_queue]
)
async def test_an_inner_item_cannot_wait_for_the_one_it_runs_in(
    kind: Kind, wait: Callable[[Supervisor, Workqueue, Work], Awaitable[None]]
) -> None:
    """W101, W151: the outer item waits for it at the end of the inner block, so neither would ever end."""
    caught: list[DeadlockError] = []
    around: list[Workqueue] = []

    async def body() -> None:
        try:
            await wait(outer, around[0], nested.work)
        except DeadlockError as error:
            caught.append(error)

    nested = Nested(kind, lambda wq: wq.queue_work(Work(body, name="inner item")))
    with trio.fail_after(60):
        async with open_with(kind[1])() as outer:
            wq = outer.alloc_workqueue("outer", WQ_FREEZABLE | WQ_UNBOUND if kind[0] else WQ_FREEZABLE)
            around.append(wq)
            wq.queue_work(nested.work)
            await wq.flush()
            await assert_at_zero(outer, wq)
    assert len(caught) == 1


async def test_an_inner_item_may_wait_for_others_of_the_outer_queue(kind: Kind, autojump_clock: MockClock) -> None:
    """W104: that ends by itself."""
    others: list[Work] = []

    async def body() -> None:
        assert await others[0].flush()

    nested = Nested(kind, lambda wq: wq.queue_work(Work(body)))
    async with open_with(kind[1])() as outer:
        wq = alloc(outer, max_active=2)
        others.append(Work(trio.sleep, 5))
        wq.queue_work(others[0])
        wq.queue_work(nested.work)
        await wq.flush()
        assert trio.current_time() == pytest.approx(5)
        await assert_at_zero(outer, wq)


async def test_settings_of_one_are_not_the_others(kind: Kind) -> None:
    """W2: capacity, thresholds, frozen or not."""
    ran: list[str] = []

    def queue(wq: Workqueue) -> None:
        wq.queue_work(Work(ran.append, "inside"))

    nested = Nested(kind, queue)
    async with open_supervisor(capacity=1) as outer:
        wq = outer.alloc_workqueue("outer", kind[0])
        wq.queue_work(nested.work)
        await wait_all_tasks_blocked()
        assert ran == ["inside"], "the outer pool has no place left, the inner has"
        assert nested.inner is not None
        assert (outer.statistics().capacity, nested.inner[0].statistics().capacity) == (1, 512)
