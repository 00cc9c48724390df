"""Freezing and thawing: what stands still, what goes on, and that nothing is lost over it."""

import random
from functools import partial

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

from ktrio.workqueue import (
    WQ_FREEZABLE,
    WQ_UNBOUND,
    DeadlockError,
    DelayedWork,
    PeriodicWork,
    Rate,
    Supervisor,
    SupervisorClosedError,
    Work,
    WorkEvent,
    Workqueue,
    WorkqueueFlags,
    WorkqueueInstrument,
    open_supervisor,
    parked,
)
from tests.workqueue.conftest import KIND_NAMES, KINDS, Kind, Trace, alloc, assert_at_zero, open_with

BOTH = pytest.mark.parametrize("flags", [WQ_UNBOUND | WQ_FREEZABLE, WQ_FREEZABLE], ids=["unbound", "bound"])


def alloc_freezable(supervisor: Supervisor, max_active: int = 0, name: str = "freezable") -> Workqueue:
    return supervisor.alloc_workqueue(name, WQ_UNBOUND | WQ_FREEZABLE, max_active=max_active)


@pytest.mark.parametrize("kind", KINDS, ids=KIND_NAMES)
async def test_a_frozen_queue_starts_nothing_until_thawed_and_then_all_in_order(kind: Kind, trace: Trace) -> None:
    """W145; invariant 55: queueing is accepted and waits; others are unaffected; nothing is lost."""
    flags, sensor = kind
    async with open_with(sensor)(2) as supervisor:
        wq = supervisor.alloc_workqueue("freezable", WQ_FREEZABLE | WorkqueueFlags(flags))
        other = supervisor.alloc_workqueue("other", flags)
        with assert_checkpoints():
            assert await supervisor.freeze() is True
        works = trace.queue(wq, "a b c d", cpu=1)
        trace.queue(other, "x")
        await wait_all_tasks_blocked()
        assert trace.starts == ["x"]
        assert all(work.is_pending for work in works.values())
        books = wq.statistics()
        assert (books.frozen, books.inactive, books.nr_active, books.pending) == (True, 4, 0, 4)
        assert not other.statistics().frozen
        assert supervisor.statistics().frozen
        works["b"].cancel()
        trace.open(*"abcdx")
        supervisor.thaw()
        await wq.flush()
        assert trace.starts == ["x", "a", "c", "d"]
        assert trace.discarded == ["b"]
        await assert_at_zero(supervisor, wq, other)


@BOTH
async def test_freeze_waits_for_what_has_a_slot(flags: WorkqueueFlags, trace: Trace) -> None:
    """W146; invariant 55: busy is any nr_active > 0. Kernel: active items finish, whether they have begun or not."""
    async with open_supervisor(capacity=1) as supervisor:
        wq = supervisor.alloc_workqueue("freezable", flags, max_active=2)
        trace.queue(wq, "a b c")
        await wait_all_tasks_blocked()
        assert (wq.statistics().nr_active, trace.starts) == (2, ["a"])

        async def open_later() -> None:
            for name in "ab":
                await trio.sleep(1)
                trace.open(name)

        begin = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(open_later)
            await supervisor.freeze()
        assert trio.current_time() - begin == pytest.approx(2)
        assert trace.ends == ["a", "b"]
        await wait_all_tasks_blocked()
        assert trace.starts == ["a", "b"]
        trace.open("c")
        supervisor.thaw()
        await wq.flush()
        assert trace.starts == ["a", "b", "c"]


async def test_freeze_is_complete_when_the_last_active_item_is_cancelled(trace: Trace) -> None:
    """W146; invariants 19, 55: a slot given up without a run counts as well."""
    async with open_supervisor(capacity=1) as supervisor:
        wq, other = alloc_freezable(supervisor), alloc(supervisor, "other")
        trace.queue(other, "x")
        await wait_all_tasks_blocked()
        work = trace.queue(wq, "a")["a"]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervisor.freeze)
            await wait_all_tasks_blocked()
            work.cancel()
        assert trace.starts == ["x"]
        trace.open("x")
        supervisor.thaw()


async def test_nothing_of_a_frozen_queue_overtakes_after_the_thaw(trace: Trace) -> None:
    """W145; invariants 13, 55: those who waited before the freeze, then those who came in it, then those after it."""
    async with open_supervisor() as supervisor:
        wq = alloc_freezable(supervisor, max_active=1)
        trace.queue(wq, "a b")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervisor.freeze)
            await wait_all_tasks_blocked()
            trace.queue(wq, "c")
            trace.open("a")
        supervisor.thaw()
        trace.queue(wq, "d")
        trace.open("b", "c", "d")
        await wq.flush()
        assert trace.starts == ["a", "b", "c", "d"]


async def test_max_active_set_while_frozen_takes_effect_at_thaw(trace: Trace) -> None:
    """W150; invariants 18, 55; and the number shown is the one that was set."""
    async with open_supervisor() as supervisor:
        wq = alloc_freezable(supervisor, max_active=1)
        await supervisor.freeze()
        trace.queue(wq, "a b c")
        wq.set_max_active(2)
        await wait_all_tasks_blocked()
        assert trace.starts == []
        assert wq.statistics().max_active == 2
        supervisor.thaw()
        await wait_all_tasks_blocked()
        assert trace.starts == ["a", "b"]
        trace.open("a", "b", "c")


async def test_a_queue_allocated_while_frozen_is_frozen(trace: Trace) -> None:
    """W145."""
    async with open_supervisor() as supervisor:
        await supervisor.freeze()
        wq, other = alloc_freezable(supervisor), alloc(supervisor, "other")
        trace.queue(wq, "a")
        trace.queue(other, "x")
        await wait_all_tasks_blocked()
        assert trace.starts == ["x"]
        assert repr(wq).endswith(" frozen>")
        trace.open("a", "x")
        supervisor.thaw()
        await wq.flush()
        assert trace.starts == ["x", "a"]


async def test_frozen_is_frozen_however_often() -> None:
    """W148. Idempotent, both: one thaw ends it, and another does nothing (kernel: one flag)."""
    ran: list[int] = []
    async with open_supervisor() as supervisor:
        wq = alloc_freezable(supervisor)
        supervisor.thaw()
        assert [await supervisor.freeze(), await supervisor.freeze()] == [True, True]
        wq.queue_work(Work(ran.append, 1))
        await wait_all_tasks_blocked()
        assert ran == []
        supervisor.thaw()
        supervisor.thaw()
        await wq.flush()
        assert ran == [1]


async def test_what_is_queued_again_while_it_runs_waits_for_the_thaw(trace: Trace) -> None:
    """W145; invariant 55, P6: it does not inherit the slot of its run."""
    async with open_supervisor() as supervisor:
        wq = alloc_freezable(supervisor)
        before, during = trace.queue(wq, "a b").values()
        await wait_all_tasks_blocked()
        wq.queue_work(before)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervisor.freeze)
            await wait_all_tasks_blocked()
            wq.queue_work(during)
            trace.open("a", "b")
        await wait_all_tasks_blocked()
        assert trace.starts == ["a", "b"]
        assert wq.statistics().inactive == 2
        supervisor.thaw()
        await wq.flush()
        assert sorted(trace.starts) == ["a", "a", "b", "b"]
        await assert_at_zero(supervisor, wq)


# -- parking


async def test_parked_items_are_not_busy_and_come_back_after_the_thaw(trace: Trace) -> None:
    """W147; invariant 55, P2: a parked item does not hold up the freeze; its return does not end it either."""
    async with open_supervisor() as supervisor:
        wq = alloc_freezable(supervisor)
        wq.queue_work(trace.parker("a"))
        await wait_all_tasks_blocked()
        await supervisor.freeze()
        trace.open("a", "a back")
        trace.queue(wq, "b")
        await wait_all_tasks_blocked()
        assert trace.events == ["a starts", "a parks"]
        books = wq.statistics()
        assert (books.parked, books.inactive, books.nr_active) == (1, 2, 0)
        supervisor.thaw()
        trace.open("b")
        await wq.flush()
        assert trace.events.index("a returns") > 1
        await assert_at_zero(supervisor, wq)


async def test_parking_completes_a_freeze(trace: Trace) -> None:
    """W146."""
    async with open_supervisor() as supervisor:
        wq = alloc_freezable(supervisor)

        async def body() -> None:
            await trace.gate("park").wait()
            await trace.hold_parked("a")

        wq.queue_work(Work(body))
        await wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervisor.freeze)
            await wait_all_tasks_blocked()
            trace.open("park")
        assert trace.events == ["a starts", "a parks"]
        trace.open("a", "a back")
        supervisor.thaw()
        await wq.flush()
        assert trace.events[-1] == "a ends"


async def test_a_parked_item_that_is_interrupted_comes_back_all_the_same(trace: Trace) -> None:
    """W147; P4: an exception never waits, not for a thaw either; the next freeze waits for that item."""
    async with open_supervisor() as supervisor:
        wq = alloc_freezable(supervisor)

        async def body() -> None:
            try:
                async with parked():
                    await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(5)
                trace.note("cleaned up")

        for _ in range(2):
            wq.queue_work(work := Work(body))
            await wait_all_tasks_blocked()
            await supervisor.freeze()
            work.interrupt()
            await wait_all_tasks_blocked()
            assert await supervisor.freeze()
            assert trace.events.pop() == "cleaned up"
            supervisor.thaw()
        await assert_at_zero(supervisor, wq)


async def test_a_return_in_line_that_is_interrupted_leaves_the_line(trace: Trace) -> None:
    """P4."""
    async with open_supervisor() as supervisor:
        wq = alloc_freezable(supervisor, max_active=1)
        work = trace.parker("a")
        wq.queue_work(work)
        await wait_all_tasks_blocked()
        await supervisor.freeze()
        trace.open("a")
        await wait_all_tasks_blocked()
        assert wq.statistics().inactive == 1
        assert await work.cancel_sync(interrupt=True) is False
        assert wq.statistics().inactive == 0
        supervisor.thaw()
        await assert_at_zero(supervisor, wq)


async def test_what_is_to_start_parked_waits_for_the_thaw_and_for_nothing_else(trace: Trace) -> None:
    """W147; invariant 55, P8: it takes no slot, then as ever."""
    async with open_supervisor() as supervisor:
        wq = alloc_freezable(supervisor, max_active=1)
        await supervisor.freeze()
        trace.queue(wq, "a b")
        waits, cancelled = trace.parker("c"), trace.parker("d")
        assert wq.queue_work(waits, parked=True)
        assert wq.queue_work(cancelled, parked=True)
        await wait_all_tasks_blocked()
        assert trace.events == []
        assert cancelled.cancel()
        assert trace.discarded == ["d"]
        supervisor.thaw()
        await wait_all_tasks_blocked()
        assert sorted(trace.starts) == ["a", "c"]
        assert wq.statistics().parked == 1
        trace.open(*"abc", "c back")
        await wq.flush()
        await assert_at_zero(supervisor, wq)


async def test_freeze_waits_for_those_about_to_start_parked(trace: Trace) -> None:
    """W146; invariant 55, P8: accepted before the freeze they have no slot, but a worker."""
    async with open_supervisor() as supervisor:
        wq = alloc_freezable(supervisor)
        begins, withdrawn = trace.parker("a"), trace.parker("b")
        wq.queue_work(begins, parked=True)
        wq.queue_work(withdrawn, parked=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervisor.freeze)
            withdrawn.cancel()
        assert trace.events == ["a starts", "a parks"]
        trace.open("a", "a back")
        supervisor.thaw()


async def test_what_is_to_start_parked_after_its_run_waits_too(trace: Trace) -> None:
    """W147; P6, P8: queued while it runs, which ends while frozen; or while it runs parked, still."""
    async with open_supervisor() as supervisor:
        wq = alloc_freezable(supervisor)
        held, waits = trace.holder("a"), trace.parker("b")
        wq.queue_work(held)
        wq.queue_work(waits)
        await wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervisor.freeze)
            await wait_all_tasks_blocked()
            wq.queue_work(held, parked=True)
            wq.queue_work(waits, parked=True)
            trace.open("a")
        await wait_all_tasks_blocked()
        assert trace.starts == ["a", "b"]
        supervisor.thaw()
        await wait_all_tasks_blocked()
        assert trace.starts == ["a", "b", "a"]
        trace.open("b", "b back")
        await wq.flush()
        assert trace.starts == ["a", "b", "a", "b"]
        await assert_at_zero(supervisor, wq)


# -- ordered queues


@pytest.mark.parametrize("interrupted", [False, True])
async def test_an_ordered_queue_keeps_its_order_over_a_freeze(trace: Trace, interrupted: bool) -> None:
    """W145; invariants 16, 55 and P7: the parked item is not busy, comes back at the thaw, and still has its turn."""
    async with open_supervisor(cpus=2) as supervisor:
        wq = supervisor.alloc_ordered_workqueue("ordered", WQ_FREEZABLE)
        work = trace.parker("a")
        wq.queue_work(work)
        trace.queue(wq, "b")
        await wait_all_tasks_blocked()
        await supervisor.freeze()
        trace.open("a", "a back", "b")
        await wait_all_tasks_blocked()
        assert trace.events == ["a starts", "a parks"]
        if interrupted:
            await work.cancel_sync(interrupt=True)
            await wait_all_tasks_blocked()
            assert trace.starts == ["a"]
        supervisor.thaw()
        await wq.flush()
        returned = [] if interrupted else ["a returns", "a ends"]
        assert trace.events == ["a starts", "a parks", *returned, "b starts", "b ends"]
        await assert_at_zero(supervisor, wq)


async def test_an_ordered_queue_is_busy_until_its_item_parks(trace: Trace) -> None:
    """W146."""
    async with open_supervisor() as supervisor:
        wq = supervisor.alloc_ordered_workqueue("ordered", WQ_FREEZABLE)

        async def body() -> None:
            await trace.gate("park").wait()
            await trace.hold_parked("a")

        wq.queue_work(Work(body))
        await wait_all_tasks_blocked()
        with trio.move_on_after(1):
            await supervisor.freeze()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervisor.freeze)
            await wait_all_tasks_blocked()
            trace.open("park")
        trace.open("a", "a back")
        supervisor.thaw()
        await wq.flush()
        await assert_at_zero(supervisor, wq)


# -- timeouts, overlaps, ends


async def test_a_freeze_that_is_cancelled_is_undone(trace: Trace) -> None:
    """W149. As the kernel thaws if it cannot freeze in time."""
    async with open_supervisor() as supervisor:
        wq = alloc_freezable(supervisor)
        trace.queue(wq, "a")
        await wait_all_tasks_blocked()
        with trio.move_on_after(5) as scope:
            await supervisor.freeze()
        assert scope.cancelled_caught
        trace.queue(wq, "b")
        await wait_all_tasks_blocked()
        assert trace.starts == ["a", "b"]
        assert not supervisor.statistics().frozen
        trace.open("a", "b")


async def test_a_freeze_cancelled_at_once_freezes_nothing(trace: Trace) -> None:
    """W149."""
    async with open_supervisor() as supervisor:
        with trio.CancelScope() as scope:
            scope.cancel()
            await supervisor.freeze()
        assert scope.cancelled_caught
        assert not supervisor.statistics().frozen


async def test_a_freeze_that_is_cancelled_leaves_another_its_freeze(trace: Trace) -> None:
    """W149. Whether that waits still, or was completed before."""
    async with open_supervisor() as supervisor:
        wq = alloc_freezable(supervisor)
        trace.queue(wq, "a")
        await wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervisor.freeze)
            with trio.move_on_after(5):
                await supervisor.freeze()
            assert supervisor.statistics().frozen
            trace.open("a")
        with trio.move_on_after(5):
            await supervisor.freeze()
        assert supervisor.statistics().frozen
        supervisor.thaw()


async def test_a_freeze_of_frozen_queues_that_is_cancelled_does_not_thaw() -> None:
    """W149. A forced return made them busy again (P4); that another call gave up waiting for it undoes no freeze."""

    async def body() -> None:
        try:
            async with parked():
                await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(100)

    async with open_supervisor() as supervisor:
        wq = alloc_freezable(supervisor)
        wq.queue_work(work := Work(body))
        await wait_all_tasks_blocked()
        await supervisor.freeze()
        work.interrupt()
        await wait_all_tasks_blocked()
        with trio.move_on_after(5) as scope:
            await supervisor.freeze()
        assert scope.cancelled_caught
        assert supervisor.statistics().frozen
        supervisor.thaw()


async def test_thaw_ends_a_freeze_that_waits(trace: Trace) -> None:
    """W148."""
    answers: list[bool] = []

    async def freeze() -> None:
        answers.append(await supervisor.freeze())

    async with open_supervisor() as supervisor:
        wq = alloc_freezable(supervisor)
        trace.queue(wq, "a")
        await wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(freeze)
            nursery.start_soon(freeze)
            await wait_all_tasks_blocked()
            supervisor.thaw()
        assert answers == [False, False]
        trace.open("a")


@pytest.mark.parametrize("how", ["flush", "drain", "destroy"])
async def test_waiting_for_a_frozen_queue_waits_for_the_thaw(how: str, trace: Trace) -> None:
    """W150. Kernel: flush, drain and destroy of a frozen queue with inactive items wait until it is thawed."""
    async with open_supervisor() as supervisor:
        wq = alloc_freezable(supervisor)
        await supervisor.freeze()
        trace.queue(wq, "a")
        trace.open("a")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(getattr(wq, how))
            await trio.sleep(10)
            assert trace.starts == []
            supervisor.thaw()
        assert trace.starts == ["a"]


async def test_an_empty_frozen_queue_can_be_destroyed() -> None:
    async with open_supervisor() as supervisor:
        wq = alloc_freezable(supervisor)
        await supervisor.freeze()
        await wq.flush()
        await wq.destroy()
        supervisor.thaw()
        assert supervisor.statistics().workqueues == ()


async def test_leaving_the_supervisor_thaws(trace: Trace) -> None:
    """W150, W3: what was accepted runs; leaving does not hang."""
    async with open_supervisor() as supervisor:
        wq = alloc_freezable(supervisor)
        await supervisor.freeze()
        trace.queue(wq, "a")
        trace.open("a")
    assert trace.ends == ["a"]


async def test_cancelling_the_supervisor_discards_what_is_frozen(trace: Trace) -> None:
    """Invariant 60 and W5: nothing begins, everything is discarded once, whoever waits is let go."""
    answers: list[bool] = []

    async def freeze() -> None:
        answers.append(await supervisor.freeze())

    async with trio.open_nursery() as nursery:
        with trio.move_on_after(5):
            async with open_supervisor() as supervisor:
                wq = alloc_freezable(supervisor)
                wq.queue_work(trace.parker("p"))
                trace.queue(wq, "a")
                await wait_all_tasks_blocked()
                nursery.start_soon(freeze)
                await wait_all_tasks_blocked()
                trace.queue(wq, "b")
                wq.queue_work(trace.parker("c"), parked=True)
                trace.open("p")
                await trio.sleep_forever()
    assert answers == [False]
    assert trace.starts == ["p", "a"]
    assert sorted(trace.discarded) == ["b", "c"]


async def test_a_left_supervisor_is_not_frozen(trace: Trace) -> None:
    """Not while it is being left, or leaving might never end; not afterwards."""
    errors: list[SupervisorClosedError] = []

    async def freeze() -> None:
        await trio.sleep(1)
        try:
            await supervisor.freeze()
        except SupervisorClosedError as error:
            errors.append(error)
        trace.open("a")

    async with trio.open_nursery() as nursery, open_supervisor() as supervisor:
        nursery.start_soon(freeze)
        trace.queue(alloc_freezable(supervisor), "a")
    assert len(errors) == 1
    with pytest.raises(SupervisorClosedError):
        await supervisor.freeze()
    supervisor.thaw()


# -- timers and others


async def test_timers_fire_while_frozen_and_what_they_queue_waits(autojump_clock: MockClock, trace: Trace) -> None:
    """W150. Periodic items are queued once, and then ticks overrun."""
    async with open_supervisor() as supervisor:
        wq = alloc_freezable(supervisor)
        wq.queue_delayed_work(DelayedWork(trace.note, "late"), 1)
        wq.queue_periodic_work(PeriodicWork(trace.note, "tick"), 1)
        await supervisor.freeze()
        await trio.sleep(3.5)
        assert trace.events == []
        assert (wq.statistics().inactive, wq.statistics().overruns) == (2, 2)
        supervisor.thaw()
        await wq.flush()
        assert sorted(trace.events) == ["late", "tick"]


async def test_a_rate_and_a_freeze_hold_together(autojump_clock: MockClock, trace: Trace) -> None:
    times: list[float] = []
    async with open_supervisor() as supervisor:
        wq = alloc_freezable(supervisor)
        begin = trio.current_time()
        wq.set_rate(Rate(1))
        wq.queue_work(trace.parker("p"))
        for _ in range(3):
            wq.queue_work(Work(lambda: times.append(trio.current_time() - begin)))
        await trio.sleep(1.5)
        await supervisor.freeze()
        trace.open("p", "p back")
        await trio.sleep(10)
        assert times == [1]
        assert "p returns" not in trace.events
        supervisor.thaw()
        await wq.flush()
        assert times == [1, 11.5, 12.5]
        await assert_at_zero(supervisor, wq)


async def test_freezing_from_inside_a_freezable_item_is_a_deadlock() -> None:
    """W151; invariant 58: it would wait for itself; its child tasks too. It names both, and nothing is frozen."""
    async with open_supervisor() as supervisor:
        wq = alloc_freezable(supervisor)

        async def body() -> None:
            with pytest.raises(DeadlockError, match=r"<Supervisor.*<Work sleeper running>.*'freezable'"):
                await supervisor.freeze()
            with pytest.raises(ExceptionGroup) as caught:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(supervisor.freeze)
            assert caught.group_contains(DeadlockError)
            assert not supervisor.statistics().frozen

        wq.queue_work(Work(body, name="sleeper"))
        await wq.flush()


async def test_an_item_of_another_queue_may_freeze_and_is_parked_meanwhile(trace: Trace) -> None:
    """W151."""
    async with open_supervisor(capacity=2) as supervisor:
        wq, other = alloc_freezable(supervisor), alloc(supervisor, "other", max_active=1)
        trace.queue(wq, "a")
        await wait_all_tasks_blocked()
        freezer = Work(supervisor.freeze)
        other.queue_work(freezer)
        await wait_all_tasks_blocked()
        assert other.statistics().parked == 1
        trace.open("a")
        await other.flush()
        assert supervisor.statistics().frozen
        supervisor.thaw()


class Freezes(WorkqueueInstrument):
    """What an instrument must not do."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self.refused = 0

    def execute_start(self, event: WorkEvent, /) -> None:
        try:
            self._supervisor.thaw()
        except RuntimeError:
            self.refused += 1


async def test_an_instrument_cannot_thaw() -> None:
    """W167."""
    async with open_supervisor() as supervisor:
        instrument = Freezes(supervisor)
        supervisor.add_instrument(instrument)
        await alloc(supervisor).run(print)
        assert instrument.refused == 1


# -- at random


async def one_random_run(seed: int) -> None:
    """Producers, freezers and cancellers at random: nothing is lost, and nothing starts while frozen."""
    choose = random.Random(seed)
    outcomes: dict[int, str] = {}
    frozen_for_sure = False

    async def body(number: int, steps: str) -> None:
        assert not frozen_for_sure
        assert number not in outcomes
        outcomes[number] = "started"
        for step in steps:
            if step == "s":
                await trio.sleep(choose.random())
            elif step == "y":
                await trio.lowlevel.checkpoint()
            elif step == "p":
                async with parked():
                    await trio.sleep(choose.random())
                assert not frozen_for_sure
        outcomes[number] = "ended"

    def discarded(number: int) -> None:
        assert number not in outcomes
        outcomes[number] = "discarded"

    async with open_supervisor(choose.randrange(1, 3), capacity=choose.randrange(1, 4)) as supervisor:
        flags = choose.choice([WQ_FREEZABLE, WQ_FREEZABLE | WQ_UNBOUND])
        queues = [
            supervisor.alloc_workqueue("f", flags, max_active=choose.randrange(1, 4)),
            supervisor.alloc_ordered_workqueue("o", WQ_FREEZABLE),
        ]
        count = 0
        for _ in range(30):
            action = choose.random()
            if action < 0.6:
                wq = choose.choice(queues)
                steps = "".join(choose.choices("syp", k=choose.randrange(4)))
                work = Work(body, count, steps, on_discard=partial(discarded, count))
                assert wq.queue_work(work, parked=not wq.is_ordered and choose.random() < 0.2)
                count += 1
                if choose.random() < 0.2:
                    work.cancel()
            elif action < 0.8:
                with trio.move_on_after(choose.choice([0.2, 5])):
                    frozen_for_sure = await supervisor.freeze()
            else:
                frozen_for_sure = False
                supervisor.thaw()
            if choose.random() < 0.5:
                await trio.sleep(choose.random())
        frozen_for_sure = False
        supervisor.thaw()
        for wq in queues:
            await wq.drain()
        await assert_at_zero(supervisor, *queues)
        assert len(outcomes) == count
        assert "started" not in outcomes.values()


@pytest.mark.parametrize("block", range(4))
async def test_at_random_nothing_starts_while_frozen_and_nothing_is_lost(block: int) -> None:
    """W145; invariants 3, 16, 21, 55."""
    for seed in range(block * 25, block * 25 + 25):
        await one_random_run(seed)
