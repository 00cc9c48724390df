"""Delayed items: queued when their timer fires, moved, cancelled, fired at once by a flush."""

import contextvars
import math
from collections.abc import AsyncGenerator

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from ktrio.workqueue import (
    WQ_UNBOUND,
    BacklogFullError,
    BusyError,
    DelayedWork,
    DestroyedError,
    DrainingError,
    NoResultError,
    Supervisor,
    SupervisorClosedError,
    Work,
    Workqueue,
    WorkqueueInstrument,
    current_work,
    open_supervisor,
)
from ktrio.workqueue._timer import Timer
from tests.workqueue.conftest import KIND_NAMES, KINDS, Errors, Kind, Trace, assert_at_zero, open_with


class Log:
    """Delayed items that write down when they run, in seconds since the log began."""

    def __init__(self) -> None:
        self.began = trio.current_time()
        self.ran: list[tuple[float, str]] = []
        self.discarded: list[str] = []

    def now(self) -> float:
        return round(trio.current_time() - self.began, 6)

    def work(self, name: str) -> DelayedWork[None]:
        return DelayedWork(self.run, name, name=name, on_discard=lambda: self.discarded.append(name))

    def run(self, name: str) -> None:
        self.ran.append((self.now(), name))


@pytest.fixture(params=KINDS, ids=KIND_NAMES)
def kind(request: pytest.FixtureRequest) -> Kind:
    assert isinstance(request.param, tuple)
    return request.param


@pytest.fixture
async def supervisor(kind: Kind) -> AsyncGenerator[Supervisor]:
    async with open_with(kind[1])() as supervisor:
        yield supervisor


@pytest.fixture
async def wq(kind: Kind, supervisor: Supervisor) -> Workqueue:
    return supervisor.alloc_workqueue("delayed", kind[0])


@pytest.fixture
async def log() -> Log:
    return Log()


def armed(wq: Workqueue) -> int:
    return wq.statistics().delayed


# -- arming


async def test_a_delayed_item_runs_once_when_its_delay_is_over(supervisor: Supervisor, wq: Workqueue, log: Log) -> None:
    """W70, W71; invariants 3 and 8: not before its deadline, and exactly once."""
    work = log.work("a")
    assert wq.queue_delayed_work(work, 2.5)
    assert work.is_pending
    assert work.statistics().delayed
    assert (armed(wq), wq.statistics().pending, wq.in_flight) == (1, 0, 0)
    assert supervisor.statistics().timers == 1
    assert repr(work) == "<DelayedWork a delayed on 'delayed'>"
    await trio.sleep(2.4)
    assert log.ran == []
    await trio.sleep(10)
    assert log.ran == [(2.5, "a")]
    assert not work.is_pending
    assert log.discarded == []
    await assert_at_zero(supervisor, wq)


async def test_delay_0_queues_at_once_without_a_timer(supervisor: Supervisor, wq: Workqueue, log: Log) -> None:
    """W70; invariant 54."""
    work = log.work("a")
    assert wq.queue_delayed_work(work, 0)
    assert (armed(wq), wq.in_flight) == (0, 1)
    await wq.flush()
    assert log.ran == [(0, "a")]
    assert supervisor.timers.fired == 0


async def test_a_pending_item_is_not_queued_again_and_its_timer_stands(wq: Workqueue, log: Log) -> None:
    """W10, W70; invariants 1 and 2: False by every road, and nothing has changed, the deadline neither."""
    work = log.work("a")
    assert wq.queue_delayed_work(work, 5)
    await trio.sleep(1)
    assert not wq.queue_delayed_work(work, 1)
    assert not wq.queue_delayed_work(work, 0)
    assert not wq.queue_delayed_work(work, 100)
    assert not wq.queue_work(work)
    await trio.sleep(20)
    assert log.ran == [(5, "a")]


async def test_items_due_at_the_same_time_start_in_the_order_of_arming(wq: Workqueue, log: Log) -> None:
    """W71."""
    works = [log.work(str(number)) for number in range(100)]
    for work in works:
        assert wq.queue_delayed_work(work, 3)
    assert not wq.mod_delayed_work(works[0], 3)  # the same time, but armed last
    await trio.sleep(10)
    assert log.ran == [(3, str(number)) for number in [*range(1, 100), 0]]


@pytest.mark.parametrize("delay", [-1, -1e-9, math.nan, -math.inf])
async def test_a_delay_that_is_none_is_an_error(wq: Workqueue, log: Log, delay: float) -> None:
    """W6."""
    work = log.work("a")
    for queue in (wq.queue_delayed_work, wq.mod_delayed_work):
        with pytest.raises(ValueError, match="delay must be seconds"):
            queue(work, delay)
    with pytest.raises(ValueError, match="has CPUs 0 to 0, not 1"):
        wq.queue_delayed_work_on(1, work, 1)
    with pytest.raises(ValueError, match="has CPUs 0 to 0, not -1"):
        wq.mod_delayed_work_on(-1, work, 1)
    assert not work.is_pending


async def test_an_item_that_is_not_delayed_is_refused(wq: Workqueue) -> None:
    with pytest.raises(TypeError, match="queue_delayed_work needs a DelayedWork, not <Work print idle>"):
        wq.queue_delayed_work(Work(print), 1)  # type: ignore[arg-type]


async def test_an_infinite_delay_waits_to_be_moved(supervisor: Supervisor, wq: Workqueue, log: Log) -> None:
    work = log.work("a")
    assert wq.queue_delayed_work(work, math.inf)
    assert (work.is_pending, armed(wq), supervisor.timers.armed) == (True, 1, 0)
    await trio.sleep(1000)
    assert not wq.mod_delayed_work(work, 5)
    await trio.sleep(10)
    assert log.ran == [(1005, "a")]


async def test_it_runs_in_a_copy_of_the_context_in_which_it_was_armed(wq: Workqueue) -> None:
    """W71."""
    who: contextvars.ContextVar[str] = contextvars.ContextVar("who")
    seen: list[str] = []

    def look() -> None:
        seen.append(who.get())
        who.set("the item")

    work = DelayedWork(look)
    who.set("armed")
    wq.queue_delayed_work(work, 1)
    who.set("later")
    await trio.sleep(2)
    wq.queue_delayed_work(work, 1)
    who.set("moved")
    wq.mod_delayed_work(work, 2)
    who.set("even later")
    await trio.sleep(5)
    assert seen == ["armed", "moved"]
    assert who.get() == "even later"


async def test_it_goes_to_the_cpu_chosen_when_it_was_armed(kind: Kind) -> None:
    """W71."""
    cpus: dict[str, int] = {}
    async with open_with(kind[1])(3) as supervisor:
        wq = supervisor.alloc_workqueue("three", kind[0])

        class Note(WorkqueueInstrument):
            def execute_start(self, event: object, /) -> None:
                cpus[event.work.name] = event.cpu  # type: ignore[attr-defined]

        supervisor.add_instrument(Note())
        inner = DelayedWork(lambda: None, name="inner")
        outer = DelayedWork(lambda: wq.queue_delayed_work(inner, 1), name="outer")
        chosen, moved = DelayedWork(lambda: None, name="chosen"), DelayedWork(lambda: None, name="moved")
        assert wq.queue_delayed_work_on(2, outer, 1)
        assert wq.queue_delayed_work_on(1, chosen, 1)
        assert wq.mod_delayed_work_on(0, moved, 1)
        assert not wq.mod_delayed_work_on(2, moved, 1)
        assert not wq.mod_delayed_work(moved, 1)  # who does not say where leaves it there
        dealt = [DelayedWork(lambda: None, name=f"dealt {number}") for number in range(3)]
        for work in dealt:
            wq.queue_delayed_work(work, 1)
        await trio.sleep(5)
    assert (cpus["outer"], cpus["inner"], cpus["chosen"], cpus["moved"]) == (2, 2, 1, 2)
    assert sorted(cpus[work.name] for work in dealt) == [0, 1, 2]


async def test_trace_points_tell_of_it_when_its_timer_fires(supervisor: Supervisor, wq: Workqueue, log: Log) -> None:
    """W71; invariant 8: Q no earlier than the deadline, and none for a False return."""
    queued: list[float] = []

    class Note(WorkqueueInstrument):
        def queue_work(self, event: object, /) -> None:
            queued.append(log.now())

    supervisor.add_instrument(Note())
    work = log.work("a")
    wq.queue_delayed_work(work, 3)
    wq.queue_delayed_work(work, 1)
    wq.mod_delayed_work(work, 4)
    await trio.sleep(10)
    assert queued == [4]


async def test_an_instrument_cannot_arm(supervisor: Supervisor, wq: Workqueue, log: Log) -> None:
    """W167."""
    seen: list[BaseException] = []
    work = log.work("a")

    class Meddler(WorkqueueInstrument):
        def execute_start(self, event: object, /) -> None:
            for meddle in (wq.queue_delayed_work, wq.mod_delayed_work):
                with pytest.raises(RuntimeError, match="it may only look") as caught:
                    meddle(work, 1)
                seen.append(caught.value)

    supervisor.add_instrument(Meddler())
    await wq.run(lambda: None)
    assert len(seen) == 2
    assert not work.is_pending


# -- moving


@pytest.mark.parametrize(("delays", "at"), [((5, 9), 9), ((5, 2), 2), ((5, 9, 2), 2), ((9, 5, 7, 6), 6), ((5, 0), 0)])
async def test_mod_runs_it_once_at_the_last_time_set(
    supervisor: Supervisor, wq: Workqueue, log: Log, delays: tuple[int, ...], at: float
) -> None:
    """W72; invariant 53; True only for the first, which found it idle (the kernel's answers are the opposite)."""
    work = log.work("a")
    answers = [wq.mod_delayed_work(work, delay) for delay in delays]
    assert answers == [True] + [False] * (len(delays) - 1)
    await trio.sleep(20)
    assert log.ran == [(at, "a")]
    assert log.discarded == []
    await assert_at_zero(supervisor, wq)


async def test_mod_debounces(wq: Workqueue, log: Log) -> None:
    """W72. The run comes when there has been silence for the whole delay, however long the noise lasts."""
    work = log.work("a")
    for _ in range(50):
        wq.mod_delayed_work(work, 2)
        await trio.sleep(1)
    await trio.sleep(10)
    assert log.ran == [(51, "a")]


@pytest.mark.parametrize("max_active", [1, 2])
async def test_mod_takes_a_queued_item_out_of_the_queue(
    kind: Kind, supervisor: Supervisor, trace: Trace, log: Log, max_active: int
) -> None:
    """Inactive or on the worklist: it loses its place, gives up its slot, and is not discarded (invariant 19).

    W31, W73.
    """
    wq = supervisor.alloc_workqueue("short", kind[0], max_active)
    trace.queue(wq, "holder")
    if max_active == 2:  # one that stands in the worklist, if it must
        trace.queue(wq, "second")
    await wait_all_tasks_blocked()
    work, behind = log.work("moved"), log.work("behind")
    wq.queue_work(work)
    wq.queue_work(behind)
    assert not wq.mod_delayed_work(work, 5)
    assert (armed(wq), wq.statistics().cancelled) == (1, 0)
    trace.open("holder", "second")
    await trio.sleep(1)
    assert [name for _, name in log.ran] == ["behind"]
    await trio.sleep(10)
    assert log.ran[1:] == [(5, "moved")]
    assert log.discarded == []
    await assert_at_zero(supervisor, wq)


async def test_mod_takes_it_off_the_worklist_at_capacity(kind: Kind, trace: Trace, log: Log) -> None:
    """W73."""
    async with open_with(kind[1])(capacity=1) as supervisor:
        wq = supervisor.alloc_workqueue("full", kind[0])
        trace.queue(wq, "holder")
        await wait_all_tasks_blocked()
        work = log.work("moved")
        wq.queue_work(work)
        assert wq.statistics().nr_active == 2
        assert not wq.mod_delayed_work(work, 5)
        assert wq.statistics().nr_active == 1
        assert not wq.mod_delayed_work(work, 0)
        trace.open("holder")
        await wq.flush()
        assert log.ran == [(0, "moved")]
        await assert_at_zero(supervisor, wq)


async def test_mod_0_goes_behind_the_others(kind: Kind, supervisor: Supervisor, trace: Trace, log: Log) -> None:
    """W73."""
    wq = supervisor.alloc_workqueue("short", kind[0], 1)
    trace.queue(wq, "holder")
    await wait_all_tasks_blocked()
    first, second = log.work("first"), log.work("second")
    wq.queue_work(first)
    wq.queue_work(second)
    assert not wq.mod_delayed_work(first, 0)
    trace.open("holder")
    await wq.flush()
    assert [name for _, name in log.ran] == ["second", "first"]


async def test_mod_moves_it_to_another_queue(kind: Kind, supervisor: Supervisor, wq: Workqueue, log: Log) -> None:
    """W73."""
    other = supervisor.alloc_workqueue("other", kind[0])
    work = log.work("a")
    wq.queue_delayed_work(work, 5)
    assert not other.mod_delayed_work(work, 3)
    assert (armed(wq), armed(other)) == (0, 1)
    await wq.destroy()
    await trio.sleep(10)
    assert log.ran == [(3, "a")]
    assert (other.statistics().started, log.discarded) == (1, [])


async def test_mod_keeps_those_who_wait_for_the_queueing(
    kind: Kind, supervisor: Supervisor, trace: Trace, log: Log
) -> None:
    """W73. It is moved, not withdrawn: flushers and callers of `result` get what they waited for."""
    wq = supervisor.alloc_workqueue("short", kind[0], 1)
    trace.queue(wq, "holder")
    await wait_all_tasks_blocked()
    work = DelayedWork(log.now)
    wq.queue_work(work)
    results: list[float] = []

    async def wait_for_result() -> None:
        results.append(await work.result())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_for_result)
        nursery.start_soon(work.flush)
        await wait_all_tasks_blocked()
        wq.mod_delayed_work(work, 5)
        trace.open("holder")
        await trio.sleep(4)
        assert len(nursery.child_tasks) == 2
    assert results == [5]


async def test_flush_of_the_queue_does_not_wait_for_one_moved_to_a_timer(
    kind: Kind, supervisor: Supervisor, trace: Trace, log: Log
) -> None:
    """W74."""
    wq = supervisor.alloc_workqueue("short", kind[0], 1)
    trace.queue(wq, "holder")
    await wait_all_tasks_blocked()
    work = log.work("a")
    wq.queue_work(work)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wq.flush)
        await wait_all_tasks_blocked()
        wq.mod_delayed_work(work, 100)
        trace.open("holder")
    assert log.now() == 0


# -- running and armed at once


async def test_an_item_that_arms_itself_runs_again_and_again(supervisor: Supervisor, wq: Workqueue, log: Log) -> None:
    """W15; invariant 5, with a timer; and cancel_sync beats it (invariant 47)."""

    async def tick() -> None:
        log.run("tick")
        assert wq.queue_delayed_work(work, 2)
        assert repr(work) == "<DelayedWork tick delayed on 'delayed' and running>"
        await trio.sleep(0.5)

    work = DelayedWork(tick, name="tick")
    wq.queue_delayed_work(work, 1)
    await trio.sleep(7.2)
    assert [at for at, _ in log.ran] == [1, 3, 5, 7]
    assert await work.cancel_sync()
    assert (work.is_pending, work.is_running, log.now()) == (False, False, 7.5)
    await trio.sleep(20)
    assert len(log.ran) == 4
    await assert_at_zero(supervisor, wq)


async def test_a_timer_that_fires_during_the_run_makes_it_run_again_after_it(
    supervisor: Supervisor, wq: Workqueue, trace: Trace
) -> None:
    """W16; invariants 4 and 6."""
    work = DelayedWork(trace.hold, "a", name="a")
    wq.queue_work(work)
    await wait_all_tasks_blocked()
    assert wq.queue_delayed_work(work, 1)
    await trio.sleep(5)
    assert (work.is_pending, work.is_running, work.statistics().delayed) == (True, True, False)
    trace.open("a")
    await wq.flush()
    assert trace.events == ["a starts", "a ends", "a starts", "a ends"]
    await assert_at_zero(supervisor, wq)


async def test_arming_on_another_queue_while_it_runs_is_an_error(
    kind: Kind, supervisor: Supervisor, wq: Workqueue, trace: Trace
) -> None:
    """W14."""
    other = supervisor.alloc_workqueue("other", kind[0])
    work = DelayedWork(trace.hold, "a", name="a")
    wq.queue_work(work)
    await wait_all_tasks_blocked()
    for arm in (other.queue_delayed_work, other.mod_delayed_work):
        with pytest.raises(BusyError, match="runs on <Workqueue 'delayed'"):
            arm(work, 1)
    assert wq.queue_delayed_work(work, 1)
    with pytest.raises(BusyError):
        other.mod_delayed_work(work, 1)
    assert armed(wq) == 1
    work.cancel()
    trace.open("a")


# -- cancelling, flushing


async def test_a_cancelled_timer_never_fires_and_its_item_is_discarded_once(
    supervisor: Supervisor, wq: Workqueue, log: Log
) -> None:
    """W75; invariants 46 and 54."""
    work = log.work("a")
    wq.queue_delayed_work(work, 5)
    await trio.sleep(4.9)
    assert work.cancel()
    assert not work.cancel()
    assert (log.discarded, wq.statistics().cancelled, supervisor.timers.armed) == (["a"], 1, 0)
    await trio.sleep(10)
    assert log.ran == []
    assert wq.queue_delayed_work(work, 1)
    await trio.sleep(10)
    assert len(log.ran) == 1
    await assert_at_zero(supervisor, wq)


async def test_cancel_sync_refuses_arming_while_it_waits(wq: Workqueue, trace: Trace) -> None:
    """W75, W91; invariant 47."""
    work = DelayedWork(trace.hold, "a", on_discard=trace.discarder("a"))
    wq.queue_work(work)
    await wait_all_tasks_blocked()
    wq.queue_delayed_work(work, 100)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(work.cancel_sync)
        await wait_all_tasks_blocked()
        assert trace.discarded == ["a"]
        assert not wq.queue_delayed_work(work, 1)
        assert not wq.mod_delayed_work(work, 1)
        assert not wq.mod_delayed_work(work, 0)
        trace.open("a")
    assert trace.ends == ["a"]
    assert wq.queue_delayed_work(work, 0)


async def test_interrupt_leaves_the_timer_alone(wq: Workqueue, trace: Trace) -> None:
    """W93."""
    work = DelayedWork(trace.hold, "a")
    wq.queue_delayed_work(work, 1)
    assert not work.interrupt()
    await trio.sleep(2)
    wq.queue_delayed_work(work, 1)
    assert work.interrupt("enough")
    trace.open("a")
    await trio.sleep(2)
    assert trace.events == ["a starts", "a starts", "a ends"]


async def test_flush_queues_it_at_once_and_waits(supervisor: Supervisor, wq: Workqueue, trace: Trace) -> None:
    """W75; invariant 40."""
    work = DelayedWork(trace.hold, "a")
    assert not await work.flush()
    wq.queue_delayed_work(work, 1000)
    began = trio.current_time()
    flushed: list[bool] = []

    async def flush() -> None:
        flushed.append(await work.flush())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(flush)
        await wait_all_tasks_blocked()
        assert (trace.starts, armed(wq), flushed) == (["a"], 0, [])
        trace.open("a")
    assert (flushed, trio.current_time() - began) == ([True], 0)
    await assert_at_zero(supervisor, wq)


async def test_a_cancelled_flush_has_fired_it_and_leaves_nothing_else(
    supervisor: Supervisor, wq: Workqueue, trace: Trace
) -> None:
    """W94; invariant 45."""
    work = DelayedWork(trace.hold, "a")
    wq.queue_delayed_work(work, 1000)
    with trio.move_on_after(1) as scope:
        await work.flush()
    assert scope.cancelled_caught
    assert work.is_running
    trace.open("a")
    assert await work.flush()
    await assert_at_zero(supervisor, wq)


async def test_flush_of_oneself_while_armed_is_an_error_and_fires_nothing(wq: Workqueue, log: Log) -> None:
    """W101."""

    async def wrong() -> None:
        wq.queue_delayed_work(work, 5)
        with pytest.raises(Exception, match="from inside that same item"):
            await work.flush()
        assert work.statistics().delayed
        log.run("first")
        work.cancel()

    work = DelayedWork(wrong)
    wq.queue_work(work)
    await wq.flush()
    assert log.ran == [(0, "first")]


async def test_flush_and_drain_of_the_queue_do_not_wait_for_timers(wq: Workqueue, log: Log) -> None:
    """W74."""
    work = log.work("a")
    wq.queue_delayed_work(work, 100)
    await wq.flush()
    await wq.drain()
    assert (log.now(), armed(wq)) == (0, 1)
    await trio.sleep(200)
    assert log.ran == [(100, "a")]


async def test_set_max_active_leaves_timers_alone(wq: Workqueue, log: Log) -> None:
    """W74; invariant 54."""
    wq.queue_delayed_work(log.work("a"), 5)
    wq.set_max_active(1)
    await trio.sleep(10)
    assert log.ran == [(5, "a")]


# -- gates


async def test_a_timer_that_fires_while_the_queue_drains_discards_its_item(
    supervisor: Supervisor, wq: Workqueue, trace: Trace, log: Log
) -> None:
    """W76; invariant 51: nobody is there to be told of a DrainingError, so nothing is lost and nothing raised."""
    trace.queue(wq, "holder")
    work = log.work("a")
    wq.queue_delayed_work(work, 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wq.drain)
        await wait_all_tasks_blocked()
        for arm in (wq.queue_delayed_work, wq.mod_delayed_work):
            with pytest.raises(DrainingError):
                arm(log.work("outside"), 1)
        with pytest.raises(DrainingError):
            wq.mod_delayed_work(work, 10)
        assert armed(wq) == 1
        await trio.sleep(5)
        assert (log.discarded, log.ran, armed(wq)) == (["a"], [], 0)
        trace.open("holder")
    assert wq.queue_delayed_work(work, 1)
    await trio.sleep(5)
    assert log.ran == [(6, "a")]
    await assert_at_zero(supervisor, wq)


async def test_an_item_of_a_draining_queue_may_arm_and_flush_others(wq: Workqueue, log: Log) -> None:
    """W76. Chained (invariant 51): the flush is from inside, so the firing is."""
    work = log.work("chained")

    async def chain() -> None:
        await trio.sleep(1)
        assert wq.queue_delayed_work(work, 100)
        assert await work.flush()

    wq.queue_work(Work(chain))
    await wq.drain()
    assert (log.ran, log.discarded) == ([(1, "chained")], [])


async def test_destroy_discards_what_is_armed(supervisor: Supervisor, wq: Workqueue, trace: Trace, log: Log) -> None:
    """W74; invariant 52; the kernel's queue does not know its timers (a wart not copied)."""
    armed_inside = log.work("inside")

    async def chain() -> None:
        await trio.sleep(1)
        wq.queue_delayed_work(armed_inside, 100)

    works = [log.work(name) for name in "abc"]
    for number, work in enumerate(works):
        wq.queue_delayed_work(work, 100 + number)
    wq.queue_work(Work(chain))
    await wq.destroy()
    assert log.discarded == ["a", "b", "c", "inside"]
    assert (log.now(), supervisor.timers.armed) == (1, 0)
    for arm in (wq.queue_delayed_work, wq.mod_delayed_work):
        with pytest.raises(DestroyedError):
            arm(works[0], 1)
    await trio.sleep(1000)
    assert log.ran == []
    other = supervisor.alloc_workqueue("other", WQ_UNBOUND)
    assert other.queue_delayed_work(works[0], 1)
    await trio.sleep(5)
    assert len(log.ran) == 1


async def test_leaving_discards_what_is_armed_and_does_not_wait_for_it(kind: Kind, log: Log) -> None:
    """W74, W76; invariant 60; items that arm while the block is being left get False."""
    answers: list[bool] = []

    async def late() -> None:
        await trio.sleep(1)
        assert log.discarded == ["a"]  # when leaving began, not when it ends
        answers.extend((wq.queue_delayed_work(log.work("late"), 1), wq.queue_delayed_work(log.work("now"), 0)))

    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("left", kind[0])
        wq.queue_delayed_work(log.work("a"), 100)
        wq.queue_work(Work(late))
        statistics = wq.statistics
    assert log.discarded == ["a"]
    assert answers == [False, True]
    assert log.ran == [(1, "now")]
    assert log.now() == 1
    assert statistics().chained_refused == 1
    with pytest.raises(SupervisorClosedError):
        wq.queue_delayed_work(log.work("after"), 1)


@pytest.mark.parametrize("road", ["error", "cancelled"])
async def test_leaving_in_trouble_discards_what_is_armed(kind: Kind, log: Log, road: str) -> None:
    """W5; invariant 60."""
    with trio.CancelScope() as scope:
        try:
            async with open_with(kind[1])() as supervisor:
                wq = supervisor.alloc_workqueue("trouble", kind[0])
                wq.queue_delayed_work(log.work("a"), 100)
                await trio.sleep(1)
                if road == "error":
                    raise KeyError("trouble")
                scope.cancel()
        except* KeyError:
            pass
    assert (log.discarded, log.ran, log.now()) == (["a"], [], 1)
    assert supervisor.timers.armed == 0


async def test_errors_of_on_discard_go_to_the_queues_policy_even_from_the_timer_task(kind: Kind) -> None:
    """W108."""
    errors = Errors()

    def fail() -> None:
        raise OSError("no")

    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("errors", kind[0], on_error=errors)
        gate = trio.Event()
        wq.queue_work(Work(gate.wait))
        wq.queue_delayed_work(DelayedWork(print, on_discard=fail), 1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wq.drain)
            await trio.sleep(2)
            gate.set()
        assert [str(error) for error in errors.errors] == ["no"]
        fired: list[float] = []
        Timer(supervisor.timers, lambda: fired.append(trio.current_time())).arm(trio.current_time() + 1)
        await trio.sleep(2)
        assert len(fired) == 1  # the timer task lives


async def test_an_idle_supervisor_with_delayed_items_gone_has_no_deadline(
    supervisor: Supervisor, wq: Workqueue, log: Log
) -> None:
    """W77."""
    work = log.work("a")
    for _ in range(3):
        wq.queue_delayed_work(work, 10)
        work.cancel()
    before = trio.current_time()
    await wait_all_tasks_blocked()
    assert trio.current_time() == before
    assert trio.lowlevel.current_statistics().seconds_to_next_deadline > 1000


async def test_current_work_in_a_delayed_item_is_that_item(wq: Workqueue) -> None:
    """W123."""
    seen: list[object] = []
    work = DelayedWork(lambda: seen.append(current_work()))
    wq.queue_delayed_work(work, 1)
    await trio.sleep(2)
    assert seen == [work]


async def test_results_of_a_delayed_item(kind: Kind, supervisor: Supervisor) -> None:
    """W113."""
    wq = supervisor.alloc_workqueue("store", kind[0], on_error="store")
    work = DelayedWork(int, "7")
    wq.queue_delayed_work(work, 5)
    began = trio.current_time()
    assert await work.result() == 7  # it waits for the timer
    assert trio.current_time() - began == 5
    assert await work.result() == 7  # kept
    wq.queue_delayed_work(work, 5)
    work.cancel()
    with pytest.raises(DestroyedError, match="discarded before it began"):
        await work.result()


def test_nobody_else_may_subclass_work() -> None:
    with pytest.raises(TypeError, match="Work cannot be subclassed"):

        class Mine(Work[None]):
            pass


async def test_timers_of_two_supervisors_do_not_meet(kind: Kind, log: Log) -> None:
    """W2."""
    async with open_supervisor() as one, open_supervisor() as two:
        first, second = one.alloc_workqueue("one", kind[0]), two.alloc_workqueue("two", kind[0])
        work = log.work("a")
        first.queue_delayed_work(work, 1)
        assert not second.queue_delayed_work(work, 1)
        await trio.sleep(2)
        assert second.queue_delayed_work(work, 1)
        await trio.sleep(2)
    assert log.ran == [(1, "a"), (3, "a")]


@pytest.mark.parametrize("where", ["on its timer", "in the line"])
async def test_one_that_is_moved_off_a_queue_that_stores_is_none_of_its_business(kind: Kind, where: str) -> None:
    """W73, W116: it forgets its outcome like any item of the queue it was moved to, whose policy has its error."""
    async with open_with(kind[1])() as supervisor:
        errors = Errors()
        store = supervisor.alloc_workqueue("store", kind[0], 1, "store")
        other = supervisor.alloc_workqueue("other", kind[0], 0, errors)
        store.queue_work(Work(trio.sleep, 10))
        work = DelayedWork(int, "x")
        store.queue_delayed_work(work, 1 if where == "on its timer" else 0)
        assert other.mod_delayed_work(work, 1) is False
        await trio.sleep(2)
        assert [str(type(error).__name__) for error in errors.errors] == ["ValueError"]
        with pytest.raises(NoResultError):
            await work.result()
        store.queue_delayed_work(work, 1)
        assert store.mod_delayed_work(work, 2) is False  # moved on the same queue it stays its
        await trio.sleep(12)
        with pytest.raises(ValueError, match="invalid literal"):
            await work.result()
        assert len(errors.errors) == 1


async def test_delay_0_from_elsewhere_is_a_queueing_that_a_full_queue_refuses(kind: Kind, trace: Trace) -> None:
    """W72, W135: it raises what `queue_delayed_work` raises, and nothing has changed."""
    async with open_with(kind[1])() as supervisor:
        full = supervisor.alloc_workqueue("full", kind[0], 1, max_pending=1)
        other = supervisor.alloc_workqueue("other", kind[0], 1)
        trace.queue(other, "a")
        trace.queue(full, "b")
        await wait_all_tasks_blocked()
        trace.queue(full, "c")
        works = [DelayedWork(trace.hold, name) for name in ("timer", "line", "armed")]
        other.queue_delayed_work(works[0], 100)
        other.queue_work(works[1])
        full.queue_delayed_work(works[2], 100)
        for work in works[:2]:
            with pytest.raises(BacklogFullError):
                full.mod_delayed_work(work, 0)
        assert other.statistics().delayed == 1
        assert other.statistics().inactive == 1
        assert full.mod_delayed_work(works[2], 0) is False  # W139: it was accepted when it was armed
        assert full.mod_delayed_work(works[2], 0) is False  # and in the line it has its room
        assert full.pending == 2
        trace.open(*"abc", "armed", "line", "timer")
        await full.flush()
        await works[0].flush()
        assert sorted(trace.ends) == sorted([*"abc", "armed", "line", "timer"])
