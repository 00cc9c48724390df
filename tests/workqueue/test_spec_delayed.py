"""Delayed items, by the specification: what refuses, what is refused, equal times, and how they meet other features."""

import math

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from ktrio.workqueue import (
    WQ_FREEZABLE,
    WQ_UNBOUND,
    BacklogFullError,
    BusyError,
    DelayedWork,
    DestroyedError,
    DrainingError,
    PeriodicWork,
    Work,
    WorkqueueError,
    WorkqueueFlags,
    open_supervisor,
)
from tests.workqueue.conftest import KIND_NAMES, KINDS, Errors, Kind, Trace, alloc, assert_at_zero, open_with

over_kinds = pytest.mark.parametrize("kind", KINDS, ids=KIND_NAMES)


def noter(trace: Trace, name: str) -> DelayedWork[None]:
    """A delayed item that writes down its name and the time."""

    def note() -> None:
        trace.note(f"{name} {trio.current_time():g}")

    return DelayedWork(note, on_discard=trace.discarder(name), name=name)


@over_kinds
async def test_whatever_would_queue_an_armed_item_is_false_and_leaves_its_timer(kind: Kind, trace: Trace) -> None:
    """Invariants 1 and 2: pending in a timer is pending, for each way of queueing."""
    async with open_with(kind[1])(2) as supervisor:
        wq = supervisor.alloc_workqueue("one", kind[0], max_pending=3)
        other = supervisor.alloc_workqueue("other", kind[0])
        item = noter(trace, "item")
        start = trio.current_time()
        assert wq.queue_delayed_work_on(1, item, 10) is True
        before = (wq.statistics(), other.statistics())
        assert wq.queue_work(item) is False
        assert wq.queue_work_on(0, item) is False
        assert wq.queue_work(item, parked=True) is False
        assert other.queue_work(item) is False
        assert wq.lane("key").queue_work(item) is False
        assert other.lane("key").queue_work(item) is False
        assert wq.queue_delayed_work(item, 0) is False
        assert other.queue_delayed_work_on(0, item, 20) is False
        assert await other.queue_work_wait(item) is False
        async with other.open_group() as group:
            assert group.queue_work(item) is False
        assert (wq.statistics(), other.statistics()) == before
        wq.queue_work_from_thread(item)
        await wait_all_tasks_blocked()
        assert trace.discarded == []  # the pending queueing stands for that of the thread
        await trio.sleep(10.5)
        assert trace.events == [f"item {start + 10:g}"]
        await assert_at_zero(supervisor, wq, other)


@pytest.mark.parametrize("delay", [-1, -5e-324, -math.inf, math.nan])
@over_kinds
async def test_a_delay_that_is_refused_moves_nothing(kind: Kind, delay: float, trace: Trace) -> None:
    """Invariant 2, for `mod_delayed_work`: not an armed item, and not one that stands in a line."""
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("one", kind[0], max_active=1)
        trace.queue(wq, "holder")
        await wait_all_tasks_blocked()
        armed, first, second = (noter(trace, name) for name in ("armed", "first", "second"))
        start = trio.current_time()
        wq.queue_delayed_work(armed, 5)
        wq.queue_work(first)
        wq.queue_work(second)
        for item in (armed, first, noter(trace, "idle")):
            before = (wq.statistics(), item.statistics())
            with pytest.raises(ValueError, match="delay"):
                wq.mod_delayed_work(item, delay)
            assert (wq.statistics(), item.statistics()) == before
        trace.open("holder")
        await trio.sleep(6)
        assert trace.events[2:] == [f"first {start:g}", f"second {start:g}", f"armed {start + 5:g}"]
        assert trace.discarded == []


async def test_minus_zero_is_zero_and_a_delay_below_the_clocks_precision_is_no_busy_loop(trace: Trace) -> None:
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        item, soon = noter(trace, "item"), noter(trace, "soon")
        start = trio.current_time()
        assert wq.queue_delayed_work(item, -0.0) is True
        assert wq.statistics().delayed == 0  # not by a timer
        assert wq.queue_delayed_work(soon, 5e-324) is True
        await trio.sleep(0.001)
        assert [event.split()[0] for event in trace.events] == ["item", "soon"]
        assert trio.current_time() == start + 0.001


async def test_the_longest_delays_there_are_can_be_armed_moved_and_cancelled(trace: Trace) -> None:
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        items = [noter(trace, name) for name in ("a", "b", "c")]
        for item, delay in zip(items, (math.inf, 1.7e308, math.inf), strict=True):
            assert wq.queue_delayed_work(item, delay) is True
        await trio.sleep(1000)
        assert trace.events == []
        assert wq.mod_delayed_work(items[0], 1) is False
        assert wq.mod_delayed_work(items[1], math.inf) is False
        assert items[2].cancel() is True
        start = trio.current_time()
        await trio.sleep(2)
        assert trace.events == [f"a {start + 1:g}"]
    assert trace.discarded == ["c", "b"]


async def test_timers_of_one_instant_keep_the_order_of_their_arming_over_queues_and_kinds(trace: Trace) -> None:
    """Also when a tick is among them, and when one was moved to the very time it had."""
    async with open_supervisor() as supervisor:
        queues = [supervisor.alloc_workqueue(name, WQ_UNBOUND) for name in ("one", "two")]
        a, b, c, d = (noter(trace, name) for name in "abcd")
        tick = PeriodicWork(lambda: trace.note("tick"))
        queues[0].queue_delayed_work(a, 1)
        queues[1].queue_delayed_work(b, 1)
        queues[0].queue_periodic_work(tick, 1)
        queues[1].queue_delayed_work(c, 2)
        queues[0].queue_delayed_work(d, 1)
        queues[1].mod_delayed_work(c, 1)
        queues[0].mod_delayed_work(a, 1)  # armed last, though its time is the same
        await trio.sleep(1.5)
        assert [event.split()[0] for event in trace.events] == ["b", "tick", "d", "c", "a"]
        tick.cancel()


@over_kinds
async def test_a_refused_mod_leaves_the_item_where_it_is(kind: Kind, trace: Trace) -> None:
    """Invariant 2 once more: a gate that is shut, another queue that runs it, a full one."""
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0], max_active=1)
        gone = supervisor.alloc_workqueue("gone", kind[0])
        full = supervisor.alloc_workqueue("full", WQ_UNBOUND, max_active=1, max_pending=1)
        await gone.destroy()
        trace.queue(wq, "holder")
        trace.queue(full, "another")
        await wait_all_tasks_blocked()
        trace.queue(full, "filler")
        armed, queued = noter(trace, "armed"), noter(trace, "queued")
        wq.queue_delayed_work(armed, 1)
        wq.queue_work(queued)
        before = wq.statistics()
        for item in (armed, queued):
            for delay in (0, 1):
                with pytest.raises(DestroyedError):
                    gone.mod_delayed_work(item, delay)
        assert wq.statistics() == before
        idle = noter(trace, "idle")
        with pytest.raises(BacklogFullError):
            full.mod_delayed_work(idle, 0)
        assert not idle.is_pending
        with pytest.raises(ValueError, match="7"):
            wq.mod_delayed_work_on(7, armed, 1)
        assert wq.statistics() == before
        trace.open("holder", "another", "filler")
        await trio.sleep(2)
        assert [event.split()[0] for event in trace.events if event.startswith(("armed", "queued"))] == [
            "queued",
            "armed",
        ]
        assert trace.discarded == []


@over_kinds
async def test_mod_to_another_queue_of_an_item_that_runs_is_refused_and_changes_nothing(
    kind: Kind, trace: Trace
) -> None:
    """W14; its timer on the queue that runs it stands."""
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0])
        other = supervisor.alloc_workqueue("other", kind[0])
        runs = 0

        async def run() -> None:
            nonlocal runs
            runs += 1
            if runs == 1:
                await trace.gate("door").wait()

        item = DelayedWork(run)
        wq.queue_work(item)
        await wait_all_tasks_blocked()
        assert wq.queue_delayed_work(item, 5) is True
        for delay in (0, 3):
            with pytest.raises(BusyError):
                other.mod_delayed_work(item, delay)
        assert (wq.statistics().delayed, other.statistics().delayed) == (1, 0)
        trace.open("door")
        await trio.sleep(4)
        assert runs == 1
        await trio.sleep(2)
        assert runs == 2


async def test_a_full_queue_accepts_what_is_armed_and_not_what_has_no_delay(trace: Trace) -> None:
    """`max_pending`: those whose timer runs are not counted and are taken beyond the limit, in their order."""
    async with open_supervisor() as supervisor:
        wq = supervisor.alloc_workqueue("full", WQ_UNBOUND, max_active=1, max_pending=1)
        trace.queue(wq, "holder")
        await wait_all_tasks_blocked()
        trace.queue(wq, "filler")
        a, b = noter(trace, "a"), noter(trace, "b")
        with pytest.raises(BacklogFullError):
            wq.queue_delayed_work(a, 0)
        assert not a.is_pending
        assert wq.queue_delayed_work(a, 1)
        assert wq.queue_delayed_work(b, 1)
        await trio.sleep(1.5)
        assert wq.pending == 3
        assert wq.mod_delayed_work(a, 1) is False  # out of the line again, behind its limit
        assert wq.pending == 2
        with pytest.raises(BacklogFullError):
            wq.queue_work(Work(int))
        trace.open("holder", "filler")
        await trio.sleep(2)
        assert [event.split()[0] for event in trace.events[3:]] == ["filler", "b", "a"]


async def test_a_member_moved_to_a_timer_is_a_member_still(trace: Trace) -> None:
    """Who waits for a queueing that is moved waits on: the group that it belongs to does."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=1)
        trace.queue(wq, "holder")
        await wait_all_tasks_blocked()
        member = noter(trace, "member")
        start = trio.current_time()
        async with wq.open_group() as group:
            group.queue_work(member)
            assert wq.mod_delayed_work(member, 5) is False
            assert group.in_flight == 1
            trace.open("holder")
        assert trio.current_time() == start + 5
        assert trace.events[-1] == f"member {start + 5:g}"


async def test_cancelling_a_group_stops_the_timer_of_a_member_that_was_moved(trace: Trace) -> None:
    """W11, W128: withdrawn, discarded once, and the group is left at once."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=1)
        trace.queue(wq, "holder")
        await wait_all_tasks_blocked()
        member = noter(trace, "member")
        start = trio.current_time()
        async with wq.open_group() as group:
            group.queue_work(member)
            wq.mod_delayed_work(member, 500)
            group.cancel()
        assert trio.current_time() == start
        assert trace.discarded == ["member"]
        assert not member.is_pending
        assert wq.statistics().delayed == 0
        trace.open("holder")


async def test_a_result_waited_for_follows_the_item_over_moves_and_ends_with_its_withdrawal(trace: Trace) -> None:
    async with open_supervisor() as supervisor:
        one, two = alloc(supervisor, "one"), alloc(supervisor, "two")
        item = DelayedWork(trio.current_time)
        doomed = DelayedWork(int)
        got: list[float | str] = []

        async def wait(work: Work[float]) -> None:
            try:
                got.append(await work.result())
            except DestroyedError:
                got.append("withdrawn")

        start = trio.current_time()
        one.queue_delayed_work(item, 1)
        one.queue_delayed_work(doomed, 1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait, item)
            nursery.start_soon(wait, doomed)
            await wait_all_tasks_blocked()
            assert two.mod_delayed_work(item, 3) is False
            assert two.mod_delayed_work(doomed, 3) is False
            await trio.sleep(2)
            assert got == []
            doomed.cancel()
        assert got == ["withdrawn", start + 3]


async def test_an_ordered_queue_takes_delayed_items_in_the_order_of_their_firing(trace: Trace) -> None:
    """Invariant 16: Q is when the timer fires."""
    async with open_supervisor(cpus=3) as supervisor:
        wq = supervisor.alloc_ordered_workqueue("ordered")
        late, soon, now = (noter(trace, name) for name in ("late", "soon", "now"))
        wq.queue_delayed_work(late, 2)
        wq.queue_delayed_work(soon, 1)
        trace.queue(wq, "holder")
        await trio.sleep(3)
        wq.queue_delayed_work(now, 0)
        trace.open("holder")
        await wq.flush()
        assert [event.split()[0] for event in trace.events[2:]] == ["soon", "late", "now"]


@over_kinds
async def test_one_that_fires_while_frozen_can_still_be_moved_and_cancelled(kind: Kind, trace: Trace) -> None:
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", WorkqueueFlags(kind[0]) | WQ_FREEZABLE)
        moved, cancelled, stays = (noter(trace, name) for name in ("moved", "cancelled", "stays"))
        for item in (moved, cancelled, stays):
            wq.queue_delayed_work(item, 1)
        assert await supervisor.freeze()
        await trio.sleep(2)
        assert wq.statistics().inactive == 3
        start = trio.current_time()
        assert wq.mod_delayed_work(moved, 1) is False
        assert cancelled.cancel() is True
        await trio.sleep(5)  # moved has fired again, and stands behind
        supervisor.thaw()
        await wq.flush()
        assert trace.events == [f"stays {start + 5:g}", f"moved {start + 5:g}"]
        assert trace.discarded == ["cancelled"]


@over_kinds
async def test_cancelling_in_the_turn_of_its_expiry_is_one_thing_or_the_other(kind: Kind, trace: Trace) -> None:
    """W11 and W88: a task that wakes at the very time cancels: True and never run, or False and run."""
    for _ in range(30):
        async with open_with(kind[1])() as supervisor:
            wq = supervisor.alloc_workqueue("wq", kind[0])
            ran: list[str] = []
            discarded: list[str] = []
            item = DelayedWork(ran.append, "ran", on_discard=lambda: discarded.append("discarded"))  # noqa: B023
            wq.queue_delayed_work(item, 1)
            await trio.sleep(1)
            was_pending = item.is_pending
            answer = item.cancel()
            assert answer is was_pending
            await trio.sleep(1)
            assert (len(ran), len(discarded)) == ((0, 1) if answer else (1, 0))
            await assert_at_zero(supervisor, wq)


@over_kinds
async def test_cancel_sync_stops_an_item_that_arms_itself_wherever_it_is_caught(kind: Kind) -> None:
    """Invariant 47: a self-rearming item, in its timer and in its run."""
    for pause in (0.5, 1, 1.25, 1.5, 2.5):
        async with open_with(kind[1])() as supervisor:
            wq = supervisor.alloc_workqueue("wq", kind[0])
            answers: list[bool] = []

            async def rearm() -> None:
                await trio.sleep(0.25)
                answers.append(wq.queue_delayed_work(item, 1))  # noqa: B023
                await trio.sleep(0.25)

            item = DelayedWork(rearm)
            wq.queue_delayed_work(item, 1)
            await trio.sleep(pause)
            is_pending = item.is_pending
            assert await item.cancel_sync() is is_pending
            assert not item.is_pending
            assert not item.is_running
            runs = len(answers)
            await trio.sleep(10)
            assert len(answers) == runs
            assert wq.queue_delayed_work(item, 1) is True
            assert item.cancel() is True


async def test_flush_of_a_delayed_item_on_a_draining_queue_is_as_its_timer_firing_there(trace: Trace) -> None:
    """Nobody is left hanging: it is queued, refused by an error, or discarded; and the item can be used again."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        item = noter(trace, "item")
        trace.queue(wq, "holder")
        wq.queue_delayed_work(item, 100)
        start = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wq.drain)
            await wait_all_tasks_blocked()
            try:
                await item.flush()
            except DrainingError:
                assert item.is_pending  # a refused queueing changes nothing
                item.cancel()
            trace.open("holder")
        assert trio.current_time() == start
        assert not item.is_pending
        assert wq.queue_work(item) is True
        await wq.flush()
        assert trace.events[-1] == f"item {start:g}"


@over_kinds
async def test_a_disabled_item_is_not_armed_and_mod_does_not_get_round_it(kind: Kind, trace: Trace) -> None:
    """Invariant 49: nothing is replayed, and nothing stays armed."""
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0])
        item = noter(trace, "item")
        wq.queue_delayed_work(item, 1)
        assert item.disable() is True
        assert trace.discarded == ["item"]
        assert wq.queue_delayed_work(item, 1) is False
        assert wq.mod_delayed_work(item, 1) is False
        assert wq.mod_delayed_work(item, 0) is False
        assert (wq.statistics().delayed, supervisor.statistics().timers) == (0, 0)
        assert item.enable() is True
        await trio.sleep(5)
        assert trace.events == []
        assert trace.discarded == ["item"]


async def test_on_discard_of_a_stopped_timer_may_arm_the_item_again(trace: Trace) -> None:
    """The item is idle when it is discarded; only `destroy` and leaving have the last word."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        answers: list[bool | str] = []

        def rearm() -> None:
            try:
                answers.append(wq.queue_delayed_work(item, 1) if len(answers) < 2 else "enough")
            except WorkqueueError as error:
                answers.append(type(error).__name__)

        item: DelayedWork[float] = DelayedWork(trio.current_time, on_discard=rearm)
        wq.queue_delayed_work(item, 1)
        assert item.cancel() is True
        assert item.is_pending
        await item.cancel_sync()
        assert answers[0] is True
        assert len(answers) == 2
        await trio.sleep(5)
        assert not item.is_pending
        wq.queue_delayed_work(item, 1)
        await wq.destroy()
        assert answers[2:] == ["enough"]
        assert not item.is_pending
        await trio.sleep(5)
        assert item.statistics().runs == (1 if answers[1] is True else 0)


@over_kinds
@pytest.mark.parametrize("turns", range(6))
async def test_a_flush_cancelled_at_any_turn_leaves_nothing(kind: Kind, turns: int, trace: Trace) -> None:
    """W94, for `DelayedWork.flush` and `result`."""
    errors = Errors()
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0], 1, errors)
        item = DelayedWork(trio.sleep, 1)
        wq.queue_delayed_work(item, 5)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(item.flush)
            nursery.start_soon(item.result)
            for _ in range(turns):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        await trio.sleep(20)
        assert item.statistics().runs == 1
        await assert_at_zero(supervisor, wq)
        assert await item.flush() is False
    assert errors.seen == []
