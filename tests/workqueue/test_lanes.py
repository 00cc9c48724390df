"""`wq.lane(key)`: one after the other within a lane, side by side between lanes."""

from functools import partial
from typing import Literal

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from ktrio.workqueue import (
    WQ_UNBOUND,
    BacklogFullError,
    DeadlockError,
    DelayedWork,
    DestroyedError,
    DrainingError,
    SupervisorClosedError,
    Work,
    Workqueue,
    WorkqueueFlags,
    open_supervisor,
    parked,
)
from tests.workqueue.conftest import Errors, Trace, assert_at_zero, run_bounded

Flags = WorkqueueFlags | Literal[0]
BOTH: tuple[Flags, ...] = (WQ_UNBOUND, 0)


@pytest.fixture(params=BOTH, ids=["unbound", "bound"])
def flags(request: pytest.FixtureRequest) -> Flags:
    return request.param


def queue(wq: Workqueue, trace: Trace, key: object, names: str) -> dict[str, Work]:
    """Queue a holder for each word through the lane of `key`."""
    works = {name: trace.holder(name) for name in names.split()}
    for work in works.values():
        assert wq.lane(key).queue_work(work) is True
    return works


async def test_within_a_lane_one_after_the_other_between_lanes_side_by_side(flags: Flags, trace: Trace) -> None:
    """W130. As invariant 16, for each key; several CPUs do not change it."""
    async with open_supervisor(cpus=3) as supervisor:
        wq = supervisor.alloc_workqueue("test", flags, max_active=2)
        queue(wq, trace, "a", "a1 a2 a3")
        queue(wq, trace, "b", "b1 b2")
        await wait_all_tasks_blocked()
        assert sorted(trace.starts) == ["a1", "b1"]
        books = wq.statistics()
        assert (books.pending, books.running, books.laned, books.inactive, books.lanes) == (3, 2, 3, 0, 2)
        trace.open("a2", "a3", "b1")
        await wait_all_tasks_blocked()
        assert sorted(trace.starts) == ["a1", "b1", "b2"]
        trace.open("a1", "b2")
        await wq.flush()
        await assert_at_zero(supervisor, wq)
        assert wq.statistics().lanes == 0  # empty ones are forgotten
    assert [name for name in trace.ends if name[0] == "a"] == ["a1", "a2", "a3"]


async def test_an_item_behind_its_lane_holds_no_slot_and_a_long_lane_has_no_more_of_the_queue(
    flags: Flags, trace: Trace
) -> None:
    """W131, W132. Each next one of a lane goes to the end of the queue's line."""
    trace.open(*"abcdefg")
    async with open_supervisor() as supervisor:
        wq = supervisor.alloc_workqueue("test", flags, max_active=1)
        queue(wq, trace, 1, "a b c")
        queue(wq, trace, 2, "d e")
        trace.queue(wq, "f")
        queue(wq, trace, 3, "g")
    assert trace.starts == list("adfgbec")


async def test_all_handles_of_a_key_are_one_lane_also_after_it_was_empty(flags: Flags, trace: Trace) -> None:
    """W130."""
    async with open_supervisor() as supervisor:
        wq = supervisor.alloc_workqueue("test", flags)
        kept = wq.lane(("customer", 7))
        for _ in range(2):
            kept.queue_work(first := trace.holder("first"))
            wq.lane(("customer", 7)).queue_work(second := trace.holder("second"))
            await wait_all_tasks_blocked()
            assert (first.is_running, second.is_pending) == (True, True)
            assert kept.in_flight == 2
            assert repr(kept) == "<Lane ('customer', 7) of 'test' in_flight=2>"
            trace.open("first", "second")
            await kept.flush()
            assert kept.in_flight == 0
            trace.shut("first")
            trace.shut("second")
        with pytest.raises(TypeError):
            wq.lane([])


@pytest.mark.parametrize("end", ["error", "interrupt", "cancel"])
async def test_the_next_runs_however_the_one_before_it_ends(flags: Flags, trace: Trace, end: str) -> None:
    """W132; invariants 19, 59: an error goes to the policy as ever, the lane goes on."""
    errors = Errors()

    async def fail() -> None:
        await trace.gate("first").wait()
        raise ValueError

    async with open_supervisor() as supervisor:
        wq = supervisor.alloc_workqueue("test", flags, 1, errors)
        blocker = trace.queue(wq, "blocker")["blocker"] if end == "cancel" else None
        await wait_all_tasks_blocked()
        first = Work(fail) if end == "error" else trace.holder("first")
        wq.lane("key").queue_work(first)
        queue(wq, trace, "key", "second")
        await wait_all_tasks_blocked()
        if end == "error":
            trace.open("first")
        elif end == "interrupt":
            first.interrupt()
        else:
            assert blocker is not None
            assert first.cancel()
            trace.open("blocker")
        trace.open("second")
        await wq.flush()
        await assert_at_zero(supervisor, wq)
    assert trace.ends[-1] == "second"
    assert len(errors.seen) == (end == "error")


async def test_who_waits_behind_can_be_cancelled_flushed_and_is_discarded_once(flags: Flags, trace: Trace) -> None:
    """W131; invariants 39, 46, 50: a queueing like any other."""
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        wq = supervisor.alloc_workqueue("test", flags)
        works = queue(wq, trace, "key", "a b c")
        flushed: list[str] = []

        async def flush(name: str) -> None:
            assert await works[name].flush() is True
            flushed.append(name)

        for name in works:
            nursery.start_soon(flush, name)
        await wait_all_tasks_blocked()
        assert wq.lane("key").queue_work(works["b"]) is False
        assert wq.queue_work(works["b"]) is False
        assert "laned" in repr(works["b"])
        assert works["b"].cancel() is True
        assert works["b"].cancel() is False
        await wait_all_tasks_blocked()
        assert (flushed, trace.discarded) == (["b"], ["b"])
        assert wq.statistics().cancelled == 1
        trace.open("a", "c")
    assert trace.starts == ["a", "c"]


async def test_flush_and_drain_of_the_queue_wait_for_who_waits_in_lanes(flags: Flags, trace: Trace) -> None:
    """W131; invariants 42, 51: accepted is accepted."""
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        wq = supervisor.alloc_workqueue("test", flags)

        async def wait(what: str) -> None:
            await getattr(wq, what)()
            trace.note(what)

        for what in ("flush", "drain"):
            for name in "abc":
                trace.shut(name)
            works = queue(wq, trace, "key", "a b c")
            nursery.start_soon(wait, what)
            await wait_all_tasks_blocked()
            if what == "drain":
                with pytest.raises(DrainingError):
                    wq.lane("key").queue_work(trace.holder("late"))
                with pytest.raises(DrainingError):
                    wq.lane("other").queue_work(trace.holder("late"))
                assert wq.statistics().lanes == 1  # refused: no lane was made
            trace.open("a", "b")
            await wait_all_tasks_blocked()
            assert what not in trace.events
            assert works["c"].is_running
            trace.open("c")
            await wait_all_tasks_blocked()
            assert what in trace.events
        await wq.destroy()
        with pytest.raises(DestroyedError):
            wq.lane("key").queue_work(trace.holder("late"))


async def test_leaving_the_supervisor_runs_lanes_to_their_end_and_cancelling_it_discards_them(
    flags: Flags, trace: Trace
) -> None:
    """Invariant 60: exactly once, whoever stood where."""
    trace.open("a", "b")
    async with open_supervisor() as supervisor:
        wq = supervisor.alloc_workqueue("test", flags)
        queue(wq, trace, "key", "a b")
    assert trace.ends == ["a", "b"]
    with trio.CancelScope() as scope:
        async with open_supervisor() as supervisor:
            wq = supervisor.alloc_workqueue("test", flags, max_active=1)
            queue(wq, trace, "key", "c d e")
            queue(wq, trace, "other", "f g")
            await wait_all_tasks_blocked()
            scope.cancel()
    assert sorted(trace.discarded) == ["d", "e", "f", "g"]
    assert (wq.in_flight, wq.statistics().lanes, wq.statistics().laned) == (0, 0, 0)
    with pytest.raises(SupervisorClosedError):
        wq.lane("key").queue_work(trace.holder("late"))


async def test_a_parked_item_keeps_its_lane_but_not_its_slot(flags: Flags, trace: Trace) -> None:
    """W133; P1 for the slot, and as P7 for the lane."""
    async with open_supervisor() as supervisor:
        wq = supervisor.alloc_workqueue("test", flags, max_active=1)
        trace.open("a back")
        wq.lane("key").queue_work(trace.parker("a"))
        queue(wq, trace, "key", "b")
        queue(wq, trace, "other", "c")
        await wait_all_tasks_blocked()
        assert trace.starts == ["a", "c"]
        trace.open("b", "c")
        await wait_all_tasks_blocked()
        assert trace.starts == ["a", "c"]
        trace.open("a")
        await wq.flush()
        await assert_at_zero(supervisor, wq)
    assert trace.starts == ["a", "c", "b"]


async def test_an_item_that_queues_itself_takes_its_turn_in_the_lane(flags: Flags, trace: Trace) -> None:
    """W133; P6 holds for plain requeues; in a lane there are others first."""
    runs: list[str] = []

    def body() -> None:
        runs.append("self")
        if len(runs) < 3:
            assert wq.lane("key").queue_work(work)

    async with open_supervisor() as supervisor:
        wq = supervisor.alloc_workqueue("test", flags, max_active=1)
        work = Work(body)
        wq.lane("key").queue_work(work)
        wq.lane("key").queue_work(Work(runs.append, "other"))
    assert runs == ["self", "other", "self"]


async def test_a_run_interrupted_while_it_is_queued_again_in_its_lane_goes_on_there(flags: Flags, trace: Trace) -> None:
    async with open_supervisor() as supervisor:
        wq = supervisor.alloc_workqueue("test", flags)
        work = queue(wq, trace, "key", "a")["a"]
        await wait_all_tasks_blocked()
        queue(wq, trace, "key", "b")
        assert wq.lane("key").queue_work(work)
        work.interrupt()
        trace.open("a", "b")
        await wq.flush()
        assert trace.starts == ["a", "b", "a"]
        trace.shut("a")
        wq.lane("key").queue_work(work)
        await wait_all_tasks_blocked()
        wq.lane("key").queue_work(work)
        assert work.cancel()  # the waiting one; the run goes on
        assert (work.is_running, wq.lane("key").in_flight) == (True, 1)
        trace.open("a")
        await wq.flush()
        await assert_at_zero(supervisor, wq)


async def test_an_item_that_runs_otherwise_may_be_queued_in_a_lane(flags: Flags, trace: Trace) -> None:
    """W13; invariant 4: never twice at a time; it is then the head of its lane, and waits for its own run."""
    async with open_supervisor() as supervisor:
        wq = supervisor.alloc_workqueue("test", flags)
        work = trace.queue(wq, "a")["a"]
        await wait_all_tasks_blocked()
        assert wq.lane("key").queue_work(work)
        queue(wq, trace, "key", "b")
        trace.open("b")
        await wait_all_tasks_blocked()
        assert trace.starts == ["a"]
        trace.open("a")
        await wq.flush()
    assert trace.starts == ["a", "a", "b"]


async def test_flush_of_a_lane_waits_for_that_lane_only(flags: Flags, trace: Trace) -> None:
    """W134."""
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        wq = supervisor.alloc_workqueue("test", flags)
        await wq.lane("key").flush()
        works = queue(wq, trace, "key", "a b c")
        queue(wq, trace, "other", "stranger")

        async def flush() -> None:
            await wq.lane("key").flush()
            trace.note("flushed")

        nursery.start_soon(flush)
        await wait_all_tasks_blocked()
        queue(wq, trace, "key", "late")
        works["c"].cancel()
        trace.open("a")
        await wait_all_tasks_blocked()
        assert "flushed" not in trace.events
        trace.open("b")
        await wait_all_tasks_blocked()
        assert "flushed" in trace.events
        trace.open("late", "stranger")


async def test_waiting_inside_a_lane_for_who_is_behind_is_an_error(flags: Flags, trace: Trace) -> None:
    """W134; invariant 58: the lane is kept while the item is parked, so that wait could never end."""
    caught: list[str] = []

    async def body() -> None:
        with pytest.raises(DeadlockError, match="an item of that lane"):
            await wq.lane("key").flush()
        for wait in (behind.flush, behind.result, last.flush):
            try:
                await wait()
            except DeadlockError as error:
                caught.append(str(error))

    async with open_supervisor() as supervisor:
        wq = supervisor.alloc_workqueue("test", flags)
        behind, last = Work(print, name="behind"), Work(trio.lowlevel.checkpoint, name="last")
        wq.lane("key").queue_work(Work(body))
        for work in (behind, last):
            wq.lane("key").queue_work(work)
        await wq.flush()
    assert ["behind" in text or "last" in text for text in caught] == [True] * 3


async def test_a_full_queue_refuses_in_lanes_too_and_room_keeps_the_order(flags: Flags, trace: Trace) -> None:
    """W131."""
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        wq = supervisor.alloc_workqueue("test", flags, 2, max_pending=1)
        lane = wq.lane("key")
        lane.queue_work(trace.holder("a"))
        await wait_all_tasks_blocked()
        lane.queue_work(trace.holder("b"))
        with pytest.raises(BacklogFullError):
            lane.queue_work(trace.holder("pushy"))
        with pytest.raises(BacklogFullError):
            wq.lane("other").queue_work(trace.holder("pushy"))
        assert wq.statistics().lanes == 1
        for name in "cd":
            nursery.start_soon(lane.queue_work_wait, trace.holder(name))
            await wait_all_tasks_blocked()
        trace.open(*"abcd")
        await wait_all_tasks_blocked()
        assert await lane.queue_work_wait(trace.holder("a")) is True
    assert trace.starts == list("abcda")


async def test_moving_a_delayed_item_takes_it_out_of_its_lane(flags: Flags, trace: Trace) -> None:
    """W133. `mod_delayed_work` queues it anew: the lane does not wait for its timer, whether it was first or not."""
    async with open_supervisor() as supervisor:
        wq = supervisor.alloc_workqueue("test", flags, max_active=1)
        trace.queue(wq, "blocker")
        await wait_all_tasks_blocked()
        head, behind = (DelayedWork(trace.hold, name, name=name) for name in ("head", "behind"))
        wq.lane("key").queue_work(head)
        wq.lane("key").queue_work(behind)
        queue(wq, trace, "key", "last")
        for work in (behind, head):
            wq.mod_delayed_work(work, 10)
        assert wq.lane("key").in_flight == 1
        trace.open("blocker", "last", "head", "behind")
        await wq.flush()
        assert trace.ends == ["blocker", "last"]
        await trio.sleep(11)
        await wq.flush()
        await assert_at_zero(supervisor, wq)
    assert set(trace.ends) == {"blocker", "last", "head", "behind"}


async def test_results_and_groups_beside_lanes(flags: Flags) -> None:
    async with open_supervisor() as supervisor:
        wq = supervisor.alloc_workqueue("test", flags, on_error="store")
        works = [Work(int, text) for text in ("1", "x", "3")]
        for work in works:
            wq.lane("key").queue_work(work)
        assert await works[2].result() == 3
        assert await works[0].result() == 1
        with pytest.raises(ValueError):
            await works[1].result()


# -- against a model: a list for each key

steps = st.tuples(
    st.sampled_from(["queue", "queue", "queue", "queue", "release", "release", "withdraw", "interrupt", "max_active"]),
    st.integers(0, 5),
)
scripts = st.lists(st.sampled_from(["", "yield", "block", "park", "requeue"]), min_size=6, max_size=6)


async def live(flags: Flags, program: list[list[tuple[str, int]]], scripts: list[str], cpus: int) -> None:
    """What starts is always the first of its lane's list, and nothing else of that lane runs."""
    lines: dict[int, list[int]] = {}  # the model: for each key the numbers of its items, the running one included
    running: dict[int, int] = {}
    gates: dict[int, trio.Event] = {}
    keys = [0, 0, 0, 1, 1, 2]
    discards: list[int] = []
    requeues = [2] * 6

    async def body(number: int) -> None:
        key = keys[number]
        assert key not in running
        assert lines[key][0] == number
        running[key] = number
        try:
            if scripts[number] == "yield":
                await trio.lowlevel.checkpoint()
            elif scripts[number] == "park":
                async with parked():
                    await wait(number)
            elif scripts[number]:
                await wait(number)
            if scripts[number] == "requeue" and requeues[number]:
                requeues[number] -= 1
                queue(number)
        finally:
            del running[key]
            lines[key].remove(number)

    async def wait(number: int) -> None:
        gates[number] = trio.Event()
        try:
            await gates[number].wait()
        finally:
            gates.pop(number, None)

    def queue(number: int) -> None:
        was_pending = works[number].is_pending
        assert wq.lane(keys[number]).queue_work(works[number]) is not was_pending
        if not was_pending:
            lines.setdefault(keys[number], []).append(number)

    async with open_supervisor(cpus) as supervisor:
        wq = supervisor.alloc_workqueue("model", flags, 2)
        works = [Work(body, number, on_discard=partial(discards.append, number)) for number in range(6)]
        for burst in program:
            for step, number in burst:
                if step == "queue":
                    queue(number)
                elif step == "release" and number in gates:
                    gates.pop(number).set()
                elif step == "withdraw" and works[number].is_pending:
                    line = lines[keys[number]]
                    line.reverse()  # the pending one is the last of that number
                    line.remove(number)
                    line.reverse()
                    discards.clear()
                    assert works[number].cancel()
                    assert discards == [number]
                elif step == "interrupt":
                    works[number].interrupt()
                elif step == "max_active":
                    wq.set_max_active(1 + number % 3)
                assert wq.in_flight == sum(map(len, lines.values()))
                assert all(wq.lane(key).in_flight == len(line) for key, line in lines.items())
            await wait_all_tasks_blocked()
            books = wq.statistics()
            assert books.in_flight == sum(map(len, lines.values()))
            assert books.lanes == sum(bool(line) for line in lines.values())
            assert books.laned == sum(max(0, len(line) - 1) for line in lines.values())
            # nobody waits for nothing: a slot that is free has no first of a lane waiting for it
            if cpus == 1 and flags:
                heads = [key for key, line in lines.items() if line and key not in running]
                assert not heads or sum(books.nr_active for books in books.pwqs) >= wq.max_active
        while gates or wq.in_flight:
            for number in list(gates):
                gates.pop(number).set()
            await wait_all_tasks_blocked()
        assert not any(lines.values())
        await assert_at_zero(supervisor, wq)


@pytest.mark.exhaustive
@pytest.mark.parametrize("flags", BOTH, ids=["unbound", "bound"])
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    program=st.lists(st.lists(steps, min_size=2, max_size=8), min_size=3, max_size=12),
    scripts=scripts,
    cpus=st.sampled_from([1, 1, 2]),
)
def test_lanes_agree_with_the_model(
    flags: Flags, program: list[list[tuple[str, int]]], scripts: list[str], cpus: int
) -> None:
    """W130, W132; invariants 3, 4, 12, 16 (per lane), 21."""
    run_bounded(partial(live, flags, program, scripts, cpus))
