"""The four trace points, by the specification: every road an item may take has its events, at its times (W164-W168)."""

import logging
from collections import Counter

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from ktrio.workqueue import (
    WQ_FREEZABLE,
    WQ_UNBOUND,
    DelayedWork,
    DestroyedError,
    PeriodicWork,
    Rate,
    Work,
    WorkEvent,
    WorkqueueFlags,
    WorkqueueInstrument,
    open_supervisor,
    parked,
)
from tests.workqueue.conftest import KIND_NAMES, KINDS, Errors, Kind, Trace, alloc, assert_at_zero, open_with

over_kinds = pytest.mark.parametrize("kind", KINDS, ids=KIND_NAMES)
POINTS = ("queue_work", "activate_work", "execute_start", "execute_end")


class Log(WorkqueueInstrument):
    """The events as text: seconds, point, item."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.counts = Counter[str]()

    def note(self, point: str, event: WorkEvent) -> None:
        self.lines.append(f"{event.time:g} {point} {event.work.name}")
        self.counts[point] += 1
        assert event.time == trio.current_time()

    def queue_work(self, event: WorkEvent, /) -> None:
        self.note("Q", event)

    def activate_work(self, event: WorkEvent, /) -> None:
        self.note("A", event)

    def execute_start(self, event: WorkEvent, /) -> None:
        self.note("S", event)

    def execute_end(self, event: WorkEvent, /) -> None:
        self.note("E", event)


def of(log: Log, name: str) -> str:
    """The events of one item in a line."""
    return ", ".join(line.removesuffix(f" {name}") for line in log.lines if line.endswith(f" {name}"))


@over_kinds
async def test_times_of_a_queue_of_one_slot(kind: Kind, autojump_clock: MockClock) -> None:
    """W164; invariant 8: queued at once, activated when the one before has ended."""
    async with open_with(kind[1])() as supervisor:
        supervisor.add_instrument(log := Log())
        wq = supervisor.alloc_workqueue("test", kind[0], max_active=1)
        for name, seconds in [("a", 1), ("b", 2), ("c", 4)]:
            wq.queue_work(Work(trio.sleep, seconds, name=name))
        await wq.flush()
    assert [of(log, name) for name in "abc"] == ["0 Q, 0 A, 0 S, 1 E", "0 Q, 1 A, 1 S, 3 E", "0 Q, 3 A, 3 S, 7 E"]


@over_kinds
async def test_a_delayed_item_is_queued_when_it_is_due(kind: Kind, autojump_clock: MockClock) -> None:
    """W70-W73; invariants 8, 53, 54: arming, moving and cancelling the timer is no event; delay 0 is one at once."""
    async with open_with(kind[1])() as supervisor:
        supervisor.add_instrument(log := Log())
        wq = supervisor.alloc_workqueue("test", kind[0])
        moved, stopped, now = (DelayedWork(trio.sleep, 1, name=name) for name in ("moved", "stopped", "now"))
        wq.queue_delayed_work(moved, 5)
        wq.queue_delayed_work(stopped, 5)
        wq.queue_delayed_work(now, 0)
        await trio.sleep(3)
        wq.mod_delayed_work(moved, 5)
        assert stopped.cancel()
        await trio.sleep(10)
    assert [of(log, name) for name in ("moved", "stopped", "now")] == ["8 Q, 8 A, 8 S, 9 E", "", "0 Q, 0 A, 0 S, 1 E"]


@over_kinds
async def test_each_tick_is_a_queueing(kind: Kind, autojump_clock: MockClock) -> None:
    """W78, W80: and a tick that is skipped is none."""
    async with open_with(kind[1])() as supervisor:
        supervisor.add_instrument(log := Log())
        wq = supervisor.alloc_workqueue("test", kind[0])
        pwork = PeriodicWork(trio.sleep, 3, name="tick")
        wq.queue_periodic_work(pwork, 2)
        await trio.sleep(9)
        pwork.cancel()
        await wq.flush()
    assert of(log, "tick") == "2 Q, 2 A, 2 S, 5 E, 6 Q, 6 A, 6 S, 9 E"


@over_kinds
async def test_refused_queueings_are_no_events(kind: Kind, trace: Trace) -> None:
    """W10; invariant 2: pending, disabled, or of a queue that takes none."""
    async with open_with(kind[1])() as supervisor:
        supervisor.add_instrument(log := Log())
        wq = supervisor.alloc_workqueue("test", kind[0], max_active=1)
        trace.queue(wq, "a")
        pending = trace.queue(wq, "b")["b"]
        idle = trace.holder("idle")
        idle.disable()
        before = list(log.lines)
        assert not wq.queue_work(pending)
        assert not wq.queue_work(idle)
        assert log.lines == before
        trace.open("a", "b")
        await wq.destroy()
        before = list(log.lines)
        idle.enable()
        with pytest.raises(DestroyedError):
            wq.queue_work(idle)
        assert log.lines == before


@pytest.mark.parametrize("how", ["cancel", "disable", "cancel_sync", "supervisor"])
@over_kinds
async def test_what_is_withdrawn_has_no_further_events(kind: Kind, trace: Trace, how: str) -> None:
    """W164: active or not."""
    with trio.CancelScope() as scope:
        async with open_with(kind[1])(capacity=1) as supervisor:
            supervisor.add_instrument(log := Log())
            wq = supervisor.alloc_workqueue("test", kind[0], max_active=2)
            works = trace.queue(wq, "holds active inactive")
            await wait_all_tasks_blocked()
            if how == "supervisor":
                scope.cancel()
            else:
                for name in ("active", "inactive"):
                    if how == "cancel_sync":
                        await works[name].cancel_sync()
                    else:
                        getattr(works[name], how)()
                trace.open("holds")
                await wq.flush()
    events = [of(log, name).replace("0 ", "") for name in ("holds", "active", "inactive")]
    assert events[:2] == ["Q, A, S, E", "Q, A"]
    # Withdrawing the active one has given its slot to the next.
    assert events[2] in (["Q", "Q, A"] if how == "supervisor" else ["Q, A"])


async def test_a_frozen_queue_activates_when_it_thaws(autojump_clock: MockClock) -> None:
    """W145: queueing is an event at once."""
    async with open_supervisor() as supervisor:
        supervisor.add_instrument(log := Log())
        wq = supervisor.alloc_workqueue("test", WQ_UNBOUND | WQ_FREEZABLE)
        assert await supervisor.freeze()
        wq.queue_work(Work(trio.sleep, 1, name="a"))
        await trio.sleep(5)
        supervisor.thaw()
        await wq.flush()
    assert of(log, "a") == "0 Q, 5 A, 5 S, 6 E"


async def test_a_rate_and_a_lane_hold_up_the_activation(autojump_clock: MockClock) -> None:
    """W131, W132, W140."""
    async with open_supervisor() as supervisor:
        supervisor.add_instrument(log := Log())
        wq = supervisor.alloc_workqueue("rated", WQ_UNBOUND, rate=Rate(1, 2))
        laned = supervisor.alloc_workqueue("laned", WQ_UNBOUND)
        for name in "ab":
            wq.queue_work(Work(trio.sleep, 1, name=name))
            laned.lane("key").queue_work(Work(trio.sleep, 3, name=name.upper()))
        await wq.flush()
        await laned.flush()
    assert [of(log, name) for name in "abAB"] == [
        "0 Q, 0 A, 0 S, 1 E",
        "0 Q, 2 A, 2 S, 3 E",
        "0 Q, 0 A, 0 S, 3 E",
        "0 Q, 3 A, 3 S, 6 E",
    ]


async def test_ordered_items_have_their_events_one_after_the_other(autojump_clock: MockClock) -> None:
    """W38; invariant 16: over all CPUs, and parking changes nothing (P7)."""

    async def rest() -> None:
        async with parked():
            await trio.sleep(2)

    async with open_supervisor(cpus=3) as supervisor:
        supervisor.add_instrument(log := Log())
        wq = supervisor.alloc_ordered_workqueue("test")
        for cpu, name in enumerate("abc"):
            wq.queue_work_on(cpu, Work(rest, name=name))
        await wq.flush()
    assert [of(log, name) for name in "abc"] == ["0 Q, 0 A, 0 S, 2 E", "0 Q, 2 A, 2 S, 4 E", "0 Q, 4 A, 4 S, 6 E"]


@over_kinds
async def test_events_and_counters_agree(kind: Kind, trace: Trace) -> None:
    """W161; invariant 62: with errors, interrupts, requeues and withdrawals."""
    errors = Errors()

    async def body(number: int) -> None:
        if number % 3 == 0:
            raise ValueError
        if number % 3 == 1 and again:
            wq.queue_work(works[again.pop()])
        await trio.lowlevel.checkpoint()

    async with open_with(kind[1])(cpus=2) as supervisor:
        supervisor.add_instrument(log := Log())
        wq = supervisor.alloc_workqueue("test", kind[0], max_active=2, on_error=errors)
        works = [Work(body, number) for number in range(12)]
        again = [1, 4, 7]
        for work in works:
            wq.queue_work(work)
        for work in works[::4]:
            work.cancel()
        await wq.flush()
        await wq.flush()
        books = wq.statistics()
        assert log.counts["S"] == log.counts["E"] == books.started == books.completed
        assert log.counts["Q"] == books.started + books.cancelled
        await assert_at_zero(supervisor, wq)


ERRORS = [ValueError, KeyboardInterrupt, SystemExit, trio.TooSlowError]


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("point", POINTS)
@over_kinds
async def test_one_that_raises_is_removed_and_the_others_see_all(
    kind: Kind, point: str, error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    """W168: whatever it raises, at whatever point."""
    calls: list[str] = []

    def fail(self: WorkqueueInstrument, event: WorkEvent, /) -> None:
        calls.append(event.work.name)
        raise error("of the instrument")

    bad = type("Bad", (WorkqueueInstrument,), {point: fail})()
    async with open_with(kind[1])() as supervisor:
        first, last = Log(), Log()
        for instrument in (first, bad, last):
            supervisor.add_instrument(instrument)
        wq = supervisor.alloc_workqueue("test", kind[0])
        with caplog.at_level(logging.ERROR):
            for name in "ab":
                wq.queue_work(Work(trio.lowlevel.checkpoint, name=name))
            await wq.flush()
        assert calls == ["a"], "it is asked once and then never again"
        assert first.counts == last.counts == {"Q": 2, "A": 2, "S": 2, "E": 2}
        assert len(caplog.records) == 1
        assert caplog.records[0].exc_info is not None
        await assert_at_zero(supervisor, wq)


@over_kinds
async def test_one_that_is_added_late_sees_what_comes_then(kind: Kind, trace: Trace) -> None:
    """W164: the end of a run whose beginning it did not see, too; removed, it sees nothing more."""
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("test", kind[0])
        trace.queue(wq, "a b")
        await wait_all_tasks_blocked()
        supervisor.add_instrument(log := Log())
        trace.open("a")
        await wait_all_tasks_blocked()
        supervisor.remove_instrument(log)
        trace.open("b")
        await wq.flush()
    assert log.lines == ["0 E a"]


async def test_two_supervisors_tell_their_own_instruments(autojump_clock: MockClock) -> None:
    """W2: also one in an item of the other."""
    inner_log, outer_log = Log(), Log()

    async def body() -> None:
        async with open_supervisor() as inner:
            inner.add_instrument(inner_log)
            alloc(inner).queue_work(Work(trio.sleep, 1, name="inner"))

    async with open_supervisor() as outer:
        outer.add_instrument(outer_log)
        wq = alloc(outer)
        wq.queue_work(Work(body, name="outer"))
        await wq.flush()
    assert inner_log.lines == ["0 Q inner", "0 A inner", "0 S inner", "1 E inner"]
    assert outer_log.lines == ["0 Q outer", "0 A outer", "0 S outer", "1 E outer"]


@over_kinds
async def test_an_item_that_starts_parked_and_ends_there_is_never_activated(kind: Kind) -> None:
    """W165, P8."""
    async with open_with(kind[1])() as supervisor:
        supervisor.add_instrument(log := Log())
        wq = supervisor.alloc_workqueue("test", WorkqueueFlags(kind[0]), max_active=1)
        wq.queue_work(Work(trio.lowlevel.checkpoint, name="a"), parked=True)
        await wq.flush()
        await assert_at_zero(supervisor, wq)
    assert of(log, "a") == "0 Q, 0 S, 0 E"
