"""The supervisor: who may open it how, leaving it, ending it by force, and what is left afterwards."""

import contextlib
import logging
import math

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from ktrio.workqueue import (
    DestroyedError,
    SupervisorClosedError,
    Work,
    WorkqueueError,
    open_supervisor,
    parked,
)
from tests.workqueue.conftest import Trace, alloc, assert_at_zero, assert_queue_at_zero

# The round of flushes from which on leaving refuses what items queue.
LAST_ROUND = 11


def living_tasks() -> int:
    return trio.lowlevel.current_statistics().tasks_living


async def test_leaving_waits_for_everything_accepted(trace: Trace) -> None:
    """W3. Running, active, inactive and parked; in every queue."""
    left = False

    async def open_and_leave() -> None:
        nonlocal left
        async with open_supervisor(2, capacity=1) as supervisor:
            one, two = alloc(supervisor, "one", 1), alloc(supervisor, "two")
            trace.queue(one, "a b c d")
            trace.queue(two, "e f")
            two.queue_work(trace.parker("g"))
        left = True

    async with trio.open_nursery() as nursery:
        nursery.start_soon(open_and_leave)
        await wait_all_tasks_blocked()
        for gate in [*"abcdefg", "g back"]:
            assert not left
            trace.open(gate)
            await wait_all_tasks_blocked()
        assert left
    assert sorted(trace.ends) == list("abcdefg")
    assert trace.discarded == []


async def test_leaving_leaves_nothing(trace: Trace) -> None:
    """W1; invariant 60 for an orderly end: no task, no deadline."""
    deadline = trio.current_time() + trio.lowlevel.current_statistics().seconds_to_next_deadline
    tasks = living_tasks()
    async with open_supervisor(3, idle_timeout=7) as supervisor:
        wq = alloc(supervisor)
        names = [str(number) for number in range(30)]
        trace.queue(wq, " ".join(names))
        await wait_all_tasks_blocked()
        trace.open(*names)
        assert living_tasks() > tasks + 30
    assert living_tasks() == tasks
    left = trio.current_time() + trio.lowlevel.current_statistics().seconds_to_next_deadline
    assert left == pytest.approx(deadline)


async def test_an_empty_supervisor_comes_and_goes() -> None:
    """W1."""
    for cpus in (1, 5):
        async with open_supervisor(cpus):
            pass
        async with open_supervisor(cpus) as supervisor:
            alloc(supervisor)


async def test_items_may_chain_while_the_supervisor_is_being_left(trace: Trace) -> None:
    """W3."""
    runs = 0

    async def body(left: int) -> None:
        nonlocal runs
        runs += 1
        await trio.sleep(1)
        if left:
            assert wq.queue_work(Work(body, left - 1)) is True

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        wq.queue_work(Work(body, LAST_ROUND - 2))
    assert runs == LAST_ROUND - 1


@pytest.mark.parametrize("kind", ["self", "chain", "ping-pong"])
async def test_leaving_ends_even_if_items_chain_for_ever(caplog: pytest.LogCaptureFixture, kind: str) -> None:
    """W4. From the eleventh round on every queueing from inside an item is False; counted, and logged once."""
    runs = 0
    refused = 0

    async def body(name: str) -> None:
        nonlocal runs, refused
        runs += 1
        assert runs < 1000, "leaving does not end"
        await trio.sleep(1)
        match kind:
            case "self":
                refused += not works[name].cancel() and not one.queue_work(works[name])
            case "chain":
                refused += not one.queue_work(Work(body, "a", name="chained-item"))
            case _:
                other = "b" if name == "a" else "a"
                refused += not (two if name == "a" else one).queue_work(works[other])

    caplog.set_level(logging.DEBUG)
    async with open_supervisor() as supervisor:
        one, two = alloc(supervisor, "one"), alloc(supervisor, "two")
        works = {name: Work(body, name, name="chained-item") for name in "ab"}
        one.queue_work(works["a"])
    assert refused == 1
    assert LAST_ROUND <= runs <= 2 * LAST_ROUND
    assert supervisor.statistics().chained_refused == 1
    assert one.statistics().chained_refused + two.statistics().chained_refused == 1
    naming = [record for record in caplog.records if "chained-item" in record.getMessage()]
    assert len(naming) == 1
    assert_queue_at_zero(one)
    assert_queue_at_zero(two)


async def test_refused_chains_are_all_counted_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """W4."""
    refused = 0

    async def body() -> None:
        nonlocal refused
        await trio.sleep(1)
        if not wq.queue_work(work):
            refused = 1 + [wq.queue_work(work) for _ in range(4)].count(False)

    caplog.set_level(logging.DEBUG)
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        work = Work(body, name="chained-item")
        wq.queue_work(work)
    assert refused == 5
    assert supervisor.statistics().chained_refused == 5
    assert len([record for record in caplog.records if "chained-item" in record.getMessage()]) == 1


async def test_a_left_supervisor_is_closed(trace: Trace) -> None:
    """W3; invariant 52 for all queues at once: nothing can be queued or made any more."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        gone = alloc(supervisor, "gone")
        await gone.destroy()
    work = trace.holder("a")
    with pytest.raises(SupervisorClosedError):
        alloc(supervisor, "late")
    with pytest.raises(SupervisorClosedError):
        wq.queue_work(work)
    with pytest.raises(SupervisorClosedError):
        wq.queue_work(work, parked=True)
    with pytest.raises(SupervisorClosedError):
        wq.queue_work_on(0, work)
    with pytest.raises(SupervisorClosedError):
        await wq.run(trace.note, "never")
    with pytest.raises((SupervisorClosedError, DestroyedError)):
        gone.queue_work(work)
    assert issubclass(SupervisorClosedError, WorkqueueError)
    assert not work.is_pending
    assert trace.discarded == []
    assert "Supervisor" in repr(supervisor)


async def test_tasks_outside_cannot_queue_while_it_is_being_left(trace: Trace) -> None:
    """W3."""
    async with trio.open_nursery() as nursery:

        async def intrude() -> None:
            await wait_all_tasks_blocked()
            with pytest.raises(WorkqueueError):
                wq.queue_work(trace.holder("late"))
            with pytest.raises(WorkqueueError):
                alloc(supervisor, "late")
            trace.open("a")

        async with open_supervisor() as supervisor:
            wq = alloc(supervisor)
            trace.queue(wq, "a")
            nursery.start_soon(intrude)
    assert trace.starts == ["a"]


@pytest.mark.parametrize("when", ["in the block", "while leaving"])
async def test_cancelling_a_supervisor_ends_everything(trace: Trace, when: str) -> None:
    """W1, W5; invariant 60: workers gone, pending ones discarded once, waiters woken, books at zero, no task left."""
    woken: list[str] = []

    async def wait(name: str) -> None:
        try:
            await {"item": works["a"].flush, "queue": wq.flush, "drain": other.drain}[name]()
        except (trio.Cancelled, WorkqueueError):
            woken.append(f"{name} ended")
            raise
        woken.append(f"{name} returned")

    tasks = living_tasks()
    with trio.move_on_after(5) as scope:
        async with open_supervisor(2, capacity=2) as supervisor, trio.open_nursery() as nursery:
            wq, other = alloc(supervisor, max_active=3), alloc(supervisor, "other")
            works = trace.queue(wq, "a b c d e f", cpu=1)
            other.queue_work(trace.parker("p"))
            other.queue_work(trace.parker("q"), parked=True)
            await wait_all_tasks_blocked()
            assert sorted(trace.starts) == ["a", "b", "p", "q"]
            for name in ("item", "queue", "drain"):
                nursery.start_soon(wait, name)
            if when == "in the block":
                await trio.sleep_forever()
    assert scope.cancelled_caught
    assert trace.ends == []
    assert len(trace.starts) == 4
    assert sorted(trace.discarded) == ["c", "d", "e", "f"]
    assert len(woken) == 3
    for queue in (wq, other):
        assert_queue_at_zero(queue)
    assert wq.statistics().cancelled == 4
    assert living_tasks() == tasks


async def test_waiters_outside_the_supervisor_are_woken_when_it_is_cancelled(trace: Trace) -> None:
    """W5, W112; invariant 60: with a return or an error; nobody is left waiting for what will never end."""
    woken: list[str] = []

    async def wait(name: str) -> None:
        calls = {
            "item": works["a"].flush,
            "pending item": works["b"].flush,
            "cancel_sync": works["a"].cancel_sync,
            "queue": wq.flush,
            "drain": wq.drain,
            "destroy": wq.destroy,
        }
        with contextlib.suppress(WorkqueueError):
            await calls[name]()
        woken.append(name)

    async def call() -> None:
        with contextlib.suppress(WorkqueueError):
            await wq.run(trio.sleep_forever)
        woken.append("run")

    names = ["item", "pending item", "cancel_sync", "queue", "drain", "destroy"]
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            async with open_supervisor() as supervisor:
                wq = alloc(supervisor, max_active=2)
                nursery.start_soon(call)
                await wait_all_tasks_blocked()
                works = trace.queue(wq, "a b")
                await wait_all_tasks_blocked()
                for name in names:
                    nursery.start_soon(wait, name)
                await wait_all_tasks_blocked()
                scope.cancel()
        await wait_all_tasks_blocked()
        assert sorted(woken) == sorted([*names, "run"])
    assert_queue_at_zero(wq)


async def test_cancelling_waits_for_cleanup_of_items(trace: Trace) -> None:
    """W1; invariant 60: a shield with a deadline is respected; nothing outlives the supervisor."""

    async def body(in_park: bool) -> None:
        try:
            if in_park:
                async with parked():
                    await trio.sleep_forever()
            await trio.sleep_forever()
        finally:
            with trio.move_on_after(9, shield=True):
                await trio.sleep(3)
            trace.note("cleaned")

    begin = trio.current_time()
    with trio.move_on_after(1):
        async with open_supervisor() as supervisor:
            wq = alloc(supervisor)
            for in_park in (True, False):
                wq.queue_work(Work(body, in_park))
            await trio.sleep_forever()
    assert trace.events == ["cleaned", "cleaned"]
    assert trio.current_time() - begin == pytest.approx(4)
    assert_queue_at_zero(wq)


async def test_an_item_queued_by_a_dying_item_is_refused_or_discarded(trace: Trace) -> None:
    """W5; invariant 60: never leaked, never started in silence."""
    outcomes: list[object] = []

    async def body() -> None:
        try:
            await trio.sleep_forever()
        finally:
            try:
                outcomes.append(wq.queue_work(trace.holder("late")))
            except WorkqueueError:
                outcomes.append("refused")

    with trio.move_on_after(1):
        async with open_supervisor() as supervisor:
            wq = alloc(supervisor)
            wq.queue_work(Work(body))
            await trio.sleep_forever()
    assert len(outcomes) == 1
    assert len(trace.discarded) == (outcomes[0] is True)
    assert trace.ends == []
    assert_queue_at_zero(wq)


async def test_an_error_in_the_block_cancels_the_items(trace: Trace) -> None:
    """W5."""
    with pytest.RaisesGroup(ValueError, allow_unwrapped=True, flatten_subgroups=True):
        async with open_supervisor() as supervisor:
            wq = alloc(supervisor, max_active=1)
            trace.queue(wq, "a b")
            await wait_all_tasks_blocked()
            raise ValueError
    assert trace.ends == []
    assert trace.discarded == ["b"]
    assert_queue_at_zero(wq)


async def test_two_supervisors_do_not_know_each_other(trace: Trace) -> None:
    """W2."""
    async with open_supervisor() as outer:
        outer_wq = alloc(outer)
        trace.queue(outer_wq, "a")
        with trio.move_on_after(1):
            async with open_supervisor() as inner:
                inner_wq = alloc(inner)
                trace.queue(inner_wq, "b")
                await trio.sleep_forever()
        assert outer_wq.statistics().running == 1
        trace.open("a")
        await outer_wq.flush()
        await assert_at_zero(outer, outer_wq)
    assert trace.ends == ["a"]


async def test_a_supervisor_inside_an_item(trace: Trace) -> None:
    """W2. A queue of another supervisor is no queue of one's own."""

    async def body() -> None:
        async with open_supervisor() as inner:
            wq = alloc(inner, max_active=1)
            wq.queue_work(trace.parker("inner"))
            trace.open("inner", "inner back")
            await wq.flush()

    async with open_supervisor() as outer:
        await alloc(outer, max_active=1).run(body)
    assert trace.ends == ["inner"]


async def test_queues_know_their_names_and_cpus() -> None:
    async with open_supervisor(3) as supervisor:
        wq = alloc(supervisor, "http")
        assert (wq.name, wq.cpus) == ("http", 3)
        assert supervisor.statistics().capacity == 512


@pytest.mark.parametrize("cpus", [0, -1])
async def test_fewer_than_one_cpu_is_an_error(cpus: int) -> None:
    """W6."""
    with pytest.raises(ValueError, match=str(cpus)):
        async with open_supervisor(cpus):
            pytest.fail("opened")


@pytest.mark.parametrize("capacity", [0, -1])
async def test_a_capacity_below_one_is_an_error(capacity: int) -> None:
    """W6."""
    with pytest.raises(ValueError, match=str(capacity)):
        async with open_supervisor(capacity=capacity):
            pytest.fail("opened")


@pytest.mark.parametrize("idle_timeout", [0, -1.5, math.nan])
async def test_an_idle_timeout_that_is_not_positive_is_an_error(idle_timeout: float) -> None:
    """W6."""
    with pytest.raises(ValueError, match=str(idle_timeout)):
        async with open_supervisor(idle_timeout=idle_timeout):
            pytest.fail("opened")
