"""`max_pending`: a bounded backlog, `queue_work` that refuses and `queue_work_wait` that waits in line for room."""

import contextlib
import contextvars
from collections.abc import Awaitable, Callable
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
    BusyError,
    DelayedWork,
    DestroyedError,
    DrainingError,
    Supervisor,
    SupervisorClosedError,
    Work,
    Workqueue,
    WorkqueueFlags,
    open_supervisor,
)
from tests.workqueue.conftest import Trace, assert_at_zero, run_bounded

Flags = WorkqueueFlags | Literal[0]
BOTH: tuple[Flags, ...] = (WQ_UNBOUND, 0)


@pytest.fixture(params=BOTH, ids=["unbound", "bound"])
def flags(request: pytest.FixtureRequest) -> Flags:
    return request.param


def alloc(supervisor: Supervisor, flags: Flags, max_pending: int, max_active: int = 1) -> Workqueue:
    return supervisor.alloc_workqueue("test", flags, max_active, max_pending=max_pending)


class Line:
    """Callers that wait in `queue_work_wait`, and what came of it."""

    def __init__(self, wq: Workqueue, nursery: trio.Nursery) -> None:
        self.wq, self.nursery = wq, nursery
        self.answers: dict[str, bool | str] = {}
        self.scopes: dict[str, trio.CancelScope] = {}

    async def join(self, *works: Work) -> None:
        """One after the other, so that their order is certain."""
        for work in works:
            self.nursery.start_soon(self._wait, work)
            await wait_all_tasks_blocked()

    async def _wait(self, work: Work) -> None:
        with trio.CancelScope() as self.scopes[work.name]:
            try:
                self.answers[work.name] = await self.wq.queue_work_wait(work)
            except Exception as error:
                self.answers[work.name] = type(error).__name__
        if self.scopes[work.name].cancelled_caught:
            self.answers[work.name] = "cancelled"


async def test_a_full_queue_refuses_and_names_queue_and_limit(flags: Flags, trace: Trace) -> None:
    """W135. The item stays idle and can be queued elsewhere; False still means that it was pending."""
    async with open_supervisor() as supervisor:
        wq, other = alloc(supervisor, flags, max_pending=2), alloc(supervisor, flags, max_pending=0)
        works = trace.queue(wq, "a")
        await wait_all_tasks_blocked()
        works |= trace.queue(wq, "b c")
        with pytest.raises(BacklogFullError, match=r"'test'.*max_pending is 2"):
            wq.queue_work(trace.holder("d"))
        with pytest.raises(BacklogFullError):
            wq.queue_work_on(0, late := trace.holder("late"))
        assert wq.queue_work(works["b"]) is False
        assert other.queue_work(late) is True
        books = wq.statistics()
        assert (books.max_pending, books.pending, books.running, books.waiting_for_room) == (2, 2, 1, 0)
        trace.open("a", "b", "c", "late")
    assert sorted(trace.starts) == ["a", "b", "c", "late"]
    assert trace.discarded == []


async def test_active_items_that_have_not_begun_are_pending_too(flags: Flags, trace: Trace) -> None:
    """W135. The limit is on what was accepted and has not begun, whether it has a slot or not."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, flags, max_pending=2, max_active=100)
        trace.queue(wq, "a b")
        with pytest.raises(BacklogFullError):
            wq.queue_work(trace.holder("c"))
        await wait_all_tasks_blocked()
        trace.queue(wq, "d e")
        trace.open(*"abde")


async def test_waiting_is_first_come_first_served(flags: Flags, trace: Trace) -> None:
    """W136. Nobody overtakes; several let in by one call keep their order although Trio shuffles the tasks."""
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        wq = alloc(supervisor, flags, max_pending=1)
        trace.queue(wq, "a")
        await wait_all_tasks_blocked()
        trace.queue(wq, "b")
        line = Line(wq, nursery)
        await line.join(*map(trace.holder, "cdefgh"))
        assert wq.statistics().waiting_for_room == 6
        assert line.answers == {}
        trace.open("a")
        await wait_all_tasks_blocked()
        assert line.answers == {"c": True}
        with pytest.raises(BacklogFullError):
            wq.queue_work(trace.holder("pushy"))
        wq.set_max_pending(4)
        await wait_all_tasks_blocked()
        assert set(line.answers) == set("cdef")
        wq.set_max_pending(0)
        assert (wq.max_pending, wq.statistics().waiting_for_room) == (0, 0)
        trace.queue(wq, "i")
        trace.open(*"bcdefghi")
    assert trace.starts == list("abcdefghi")
    assert line.answers == dict.fromkeys("cdefgh", True)


async def test_room_comes_from_a_withdrawal_too(flags: Flags, trace: Trace) -> None:
    """W136. And an `on_discard` that queues does not overtake who waits."""
    refused: list[str] = []

    def requeue(*_: object) -> None:
        try:
            wq.queue_work(trace.holder("pushy"))
        except BacklogFullError:
            refused.append("pushy")

    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        wq = alloc(supervisor, flags, max_pending=1)
        trace.queue(wq, "a")
        await wait_all_tasks_blocked()
        victim = Work(print, on_discard=requeue)
        wq.queue_work(victim)
        line = Line(wq, nursery)
        await line.join(trace.holder("b"))
        assert victim.cancel()
        assert refused == ["pushy"]
        await wait_all_tasks_blocked()
        assert line.answers == {"b": True}
        trace.open("a", "b")
    assert trace.starts == ["a", "b"]


async def test_cancelled_in_line_leaves_nothing_behind(flags: Flags, trace: Trace) -> None:
    """W137; invariant 45 for this wait: the next in line gets the room."""
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        wq = alloc(supervisor, flags, max_pending=1)
        trace.queue(wq, "a")
        await wait_all_tasks_blocked()
        trace.queue(wq, "b")
        line = Line(wq, nursery)
        gone = trace.holder("gone")
        await line.join(gone, trace.holder("c"))
        line.scopes["gone"].cancel()
        trace.open("a")  # in the same turn
        await wait_all_tasks_blocked()
        assert line.answers == {"gone": "cancelled", "c": True}
        assert not gone.is_pending
        trace.open("b", "c")
        await wq.flush()
        await assert_at_zero(supervisor, wq)
    assert trace.discarded == []


async def test_who_waited_for_what_became_pending_otherwise_gets_false(flags: Flags, trace: Trace) -> None:
    """W136. The answer is that of the moment of queueing; the room goes to the next."""
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        wq = alloc(supervisor, flags, max_pending=1)
        other = alloc(supervisor, flags, max_pending=0)
        trace.queue(other, "blocker")
        trace.queue(wq, "a")
        await wait_all_tasks_blocked()
        trace.queue(wq, "b")
        line = Line(wq, nursery)
        twice, busy = trace.holder("twice"), trace.holder("busy")
        await line.join(twice, busy, trace.holder("c"))
        other.queue_work(busy)
        other.queue_work(twice)
        trace.open("blocker")
        await wait_all_tasks_blocked()
        assert (busy.is_running, twice.is_pending) == (True, True)
        trace.open("a")
        await wait_all_tasks_blocked()
        assert line.answers == {"twice": False, "busy": BusyError.__name__, "c": True}
        trace.open("b", "c", "twice", "busy")


async def test_queue_work_wait_is_always_a_checkpoint(flags: Flags, trace: Trace) -> None:
    """W95."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, flags, max_pending=1)
        with trio.CancelScope() as scope:
            scope.cancel()
            await wq.queue_work_wait(trace.holder("never"))
        assert scope.cancelled_caught
        assert wq.in_flight == 0
        with trio.CancelScope() as scope:
            assert await wq.queue_work_wait(trace.holder("a")) is True
        trace.open("a")


async def test_each_is_queued_in_the_context_of_the_call(flags: Flags, trace: Trace) -> None:
    """W137. Not in that of whoever made the room."""
    who = contextvars.ContextVar[str]("who")
    seen: list[str] = []
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        wq = alloc(supervisor, flags, max_pending=1)
        who.set("room maker")
        trace.queue(wq, "a")
        await wait_all_tasks_blocked()
        trace.queue(wq, "b")
        who.set("caller")
        line = Line(wq, nursery)
        await line.join(Work(lambda: seen.append(who.get())))
        who.set("main")
        trace.open("a", "b")
    assert seen == ["caller"]


@pytest.mark.parametrize("wait", [False, True])
async def test_the_queues_own_items_are_let_in_beyond_the_limit(flags: Flags, wait: bool) -> None:
    """W138. Else they would wait for the room that only they can make: from a child task, or in a slot, for ever."""
    ran: list[str] = []

    async def queue_from(number: int) -> None:
        work = Work(ran.append, f"of {number}")
        assert await wq.queue_work_wait(work) if wait else wq.queue_work(work)

    async def parent() -> None:
        await queue_from(0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(queue_from, 1)
            nursery.start_soon(queue_from, 2)

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, flags, max_pending=1)
        wq.queue_work(Work(parent))
        await wq.flush()
        await wq.flush()
        await assert_at_zero(supervisor, wq)
    assert sorted(ran) == ["of 0", "of 1", "of 2"]


async def test_an_item_of_another_queue_is_parked_while_it_waits(flags: Flags, trace: Trace) -> None:
    """W138. Who waits must not hold what they need: here the only place of the pool."""

    async def producer() -> None:
        for name in "abcd":
            await wq.queue_work_wait(trace.holder(name))

    trace.open(*"abcd")
    async with open_supervisor(capacity=1) as supervisor:
        wq = alloc(supervisor, flags, max_pending=1)
        producers = alloc(supervisor, flags, max_pending=0)
        work = Work(producer)
        producers.queue_work(work)
        await wait_all_tasks_blocked()
        await work.flush()
        await wq.flush()
        await assert_at_zero(supervisor, wq, producers)
    assert trace.starts == list("abcd")


@pytest.mark.parametrize("wait", ["queue_work_wait", "run"])
@pytest.mark.parametrize("behind", ["a slot", "a place"])
async def test_cancelled_on_the_way_back_it_was_queued_and_says_so(
    flags: Flags, trace: Trace, wait: str, behind: str
) -> None:
    """W137, W94: a call that raises Cancelled has done nothing (Trio's rule); the next checkpoint does."""
    answers: list[object] = []

    async def producer() -> None:
        if wait == "run":
            answers.append(await wq.run(len, "late"))
        else:
            answers.append(await wq.queue_work_wait(Work(trace.note, "late")))
        await trio.sleep_forever()

    async with open_supervisor(capacity=2) as supervisor:
        wq = alloc(supervisor, flags, max_pending=1)
        producers = supervisor.alloc_workqueue("producers", flags, 1 if behind == "a slot" else 0)
        trace.queue(wq, "a")
        await wait_all_tasks_blocked()
        trace.queue(wq, "b")
        producers.queue_work(work := Work(producer))
        await wait_all_tasks_blocked()
        trace.queue(producers, "taker")  # takes the slot and the place that the producer has parked on
        await wait_all_tasks_blocked()
        trace.open("b")
        if wait == "run" or behind == "a slot":
            trace.open("a")
        else:  # room without a place
            wq.set_max_pending(2)
            await wait_all_tasks_blocked()
            assert work.statistics().parked
        await wait_all_tasks_blocked()
        if not answers:
            work.interrupt()
        await wait_all_tasks_blocked()
        assert answers == [4 if wait == "run" else True]
        work.interrupt()
        assert not await work.cancel_sync()
        trace.open("a", "taker")
        await wq.flush()
        await producers.flush()
        await assert_at_zero(supervisor, wq, producers)
    assert ("late" in trace.events) == (wait == "queue_work_wait")
    assert behind == "a place" or producers.statistics().overshoot == 1


async def test_who_waits_learns_that_the_queue_is_drained(flags: Flags, trace: Trace) -> None:
    """W137. The error that `queue_work` raises from now on; invariants 51, 52."""
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        for end in ("drain", "destroy"):
            wq = alloc(supervisor, flags, max_pending=1)
            trace.shut("a")
            trace.queue(wq, "a")
            await wait_all_tasks_blocked()
            trace.queue(wq, "b")
            line = Line(wq, nursery)
            await line.join(*map(trace.holder, "cd"))
            nursery.start_soon(getattr(wq, end))
            await wait_all_tasks_blocked()
            assert line.answers == dict.fromkeys("cd", DrainingError.__name__)
            trace.open("a", "b")
            await wait_all_tasks_blocked()
        with pytest.raises(DestroyedError):
            await wq.queue_work_wait(trace.holder("late"))
    assert trace.starts == ["a", "b"] * 2


@pytest.mark.parametrize("end", ["in peace", "cancelled", "by an error"])
async def test_who_waits_learns_that_the_supervisor_is_left(flags: Flags, trace: Trace, end: str) -> None:
    """W137; invariant 60: nobody is left waiting."""

    class MishapError(Exception):
        pass

    async with trio.open_nursery() as nursery:
        with contextlib.suppress(ExceptionGroup), trio.CancelScope() as scope:
            async with open_supervisor() as supervisor:
                wq = alloc(supervisor, flags, max_pending=1)
                trace.queue(wq, "a")
                await wait_all_tasks_blocked()
                trace.queue(wq, "b")
                line = Line(wq, nursery)
                await line.join(*map(trace.holder, "cd"))
                if end == "cancelled":
                    scope.cancel()
                    await trio.sleep_forever()
                elif end == "by an error":
                    raise MishapError
                trace.open("a", "b")
        await wait_all_tasks_blocked()
        assert line.answers == dict.fromkeys("cd", SupervisorClosedError.__name__)


async def test_an_item_of_another_queue_still_gets_in_while_the_supervisor_is_left(flags: Flags, trace: Trace) -> None:
    """It is chained queueing then (W3), and its line still moves."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, flags, max_pending=1)
        producers = alloc(supervisor, flags, max_pending=0)
        trace.queue(wq, "a")
        await wait_all_tasks_blocked()
        trace.queue(wq, "b")
        producer = Work(wq.queue_work_wait, trace.holder("c"))
        producers.queue_work(producer)
        await wait_all_tasks_blocked()
        assert wq.statistics().waiting_for_room == 1
        trace.open(*"abc")
    assert trace.starts == list("abc")


async def test_run_waits_for_room_and_takes_its_item_along(flags: Flags, trace: Trace) -> None:
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        wq = alloc(supervisor, flags, max_pending=1)
        trace.queue(wq, "a")
        await wait_all_tasks_blocked()
        trace.queue(wq, "b")
        with trio.move_on_after(1) as scope:
            await wq.run(max, 1, 2)
        assert scope.cancelled_caught
        assert wq.statistics().waiting_for_room == 0

        async def run() -> None:
            assert await wq.run(max, 1, 2) == 2
            trace.note("ran")

        nursery.start_soon(run)
        await wait_all_tasks_blocked()
        trace.open("a", "b")
    assert trace.events[-1] == "ran"


async def test_a_retry_by_on_error_is_chained(flags: Flags, trace: Trace) -> None:
    """W138: it is inside the item that has raised."""
    retried: list[str] = []

    async def fail() -> None:
        if not retried:
            await trace.gate("fail").wait()
            raise ValueError

    def retry(work: Work, error: Exception) -> None:
        assert wq.pending == 1
        assert wq.queue_work(work) is True
        retried.append(work.name)

    async with open_supervisor() as supervisor:
        wq = supervisor.alloc_workqueue("test", flags, 1, on_error=retry, max_pending=1)
        wq.queue_work(Work(fail, name="fail"))
        await wait_all_tasks_blocked()
        trace.queue(wq, "a")
        trace.open("fail", "a")
        await wq.flush()
    assert retried == ["fail"]
    assert wq.statistics().completed == 3


async def test_a_delayed_item_is_accepted_when_armed_and_taken_when_it_fires(flags: Flags, trace: Trace) -> None:
    """W139. Its timer is not in the backlog; what was accepted is not lost for want of room."""
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        wq = alloc(supervisor, flags, max_pending=1)
        trace.queue(wq, "a")
        await wait_all_tasks_blocked()
        delayed = DelayedWork(trace.hold, "delayed", on_discard=trace.discarder("delayed"))
        assert wq.queue_delayed_work(delayed, 1)
        assert wq.pending == 0
        trace.queue(wq, "b")
        with pytest.raises(BacklogFullError):
            wq.queue_delayed_work(DelayedWork(print), 0)  # there is no timer: it is a queueing like any other
        await trio.sleep(2)
        assert wq.pending == 2
        line = Line(wq, nursery)
        await line.join(trace.holder("c"))
        wq.mod_delayed_work(delayed, 100)
        wq.set_max_pending(2)
        await wait_all_tasks_blocked()
        assert line.answers == {"c": True}
        await line.join(trace.holder("d"))
        assert line.answers == {"c": True}
        trace.open(*"abcd", "delayed")
        await wait_all_tasks_blocked()
        await delayed.flush()
    assert trace.starts == [*"abcd", "delayed"]
    assert trace.discarded == []


async def test_a_delayed_item_moved_off_the_queue_makes_room(flags: Flags, trace: Trace) -> None:
    """W139."""
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        wq = alloc(supervisor, flags, max_pending=1)
        trace.queue(wq, "a")
        await wait_all_tasks_blocked()
        delayed = DelayedWork(trace.hold, "delayed")
        wq.queue_work(delayed)
        line = Line(wq, nursery)
        await line.join(trace.holder("b"))
        assert wq.mod_delayed_work(delayed, 1) is False
        await wait_all_tasks_blocked()
        assert line.answers == {"b": True}
        trace.open("a", "b", "delayed")
        await delayed.flush()


async def test_a_limit_below_zero_is_refused() -> None:
    """W6."""
    async with open_supervisor() as supervisor:
        with pytest.raises(ValueError, match="-1"):
            supervisor.alloc_workqueue("test", max_pending=-1)
        wq = supervisor.alloc_workqueue("test", max_pending=3)
        with pytest.raises(ValueError, match="-2"):
            wq.set_max_pending(-2)
        assert wq.max_pending == 3


async def test_a_limit_set_later_holds_for_what_is_pending_already(flags: Flags, trace: Trace) -> None:
    """W135. And their starts make room."""
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        wq = alloc(supervisor, flags, max_pending=0)
        trace.queue(wq, "a b c")
        wq.set_max_pending(1)
        line = Line(wq, nursery)
        await line.join(trace.holder("d"))
        assert line.answers == {}
        trace.open("a")
        await wait_all_tasks_blocked()
        assert line.answers == {}  # c is pending still
        trace.open("b")
        await wait_all_tasks_blocked()
        assert line.answers == {"d": True}
        trace.open("c", "d")
    assert trace.starts == list("abcd")


# -- against a model: a list of what is pending, and a list of who waits

Step = tuple[str, int]
steps = st.tuples(
    st.sampled_from(["try", "wait", "wait", "wait", "release", "release", "give up", "withdraw", "limit"]),
    st.integers(0, 5),
)


async def live(flags: Flags, program: list[list[Step]], limit: int) -> None:
    """Each burst in one synchronous stretch, then rest: what was let in is what the model says, in its order."""
    trace, accepted, expected = Trace(), list[str](), list[str]()
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        wq = alloc(supervisor, flags, max_pending=limit)
        line = Line(wq, nursery)
        waiting: list[str] = []  # the model's line
        works: dict[str, Work] = {}
        held: list[str] = []

        async def run(name: str) -> None:
            accepted.append(name)
            held.append(name)
            await trace.gate(name).wait()

        def make() -> Work:
            name = str(len(works))
            works[name] = Work(run, name, name=name)
            return works[name]

        def pending() -> list[str]:
            return [name for name, work in works.items() if work.is_pending]

        def settle() -> None:
            let_in = [name for name in waiting if works[name].is_pending or name in accepted]
            assert let_in == waiting[: len(let_in)]  # from the front only
            expected.extend(let_in)
            del waiting[: len(let_in)]
            assert not waiting or 0 < wq.max_pending <= len(pending())  # nobody waits while there is room
            assert wq.statistics().waiting_for_room == len(waiting)
            assert wq.pending == len(pending())

        for burst in program:
            for step, number in burst:
                if step == "try":
                    work = make()
                    full = bool(waiting) or 0 < wq.max_pending <= len(pending())
                    try:
                        assert wq.queue_work(work) is True
                        assert not full
                    except BacklogFullError:
                        assert full
                elif step == "release" and held:
                    trace.open(held.pop(0))
                elif step == "give up" and waiting:
                    line.scopes[waiting.pop(number % len(waiting))].cancel()
                    await wait_all_tasks_blocked()
                elif step == "withdraw" and pending():
                    assert works[pending()[number % len(pending())]].cancel()
                elif step == "limit":
                    wq.set_max_pending(number)
                elif step == "wait":
                    work = make()
                    await line.join(work)
                    if work.name not in line.answers:
                        waiting.append(work.name)
                settle()
            await wait_all_tasks_blocked()
            settle()
            assert all(line.answers[name] is True for name in expected)
        nursery.cancel_scope.cancel()
        wq.set_max_pending(0)
        for name in works:
            trace.open(name)
    assert [name for name in accepted if name in expected] == [name for name in expected if name in accepted]


@pytest.mark.parametrize("flags", BOTH, ids=["unbound", "bound"])
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(program=st.lists(st.lists(steps, min_size=1, max_size=6), min_size=2, max_size=8), limit=st.integers(1, 3))
def test_the_line_agrees_with_the_model(flags: Flags, program: list[list[Step]], limit: int) -> None:
    """W136."""
    go: Callable[[], Awaitable[None]] = partial(live, flags, program, limit)
    run_bounded(go)
