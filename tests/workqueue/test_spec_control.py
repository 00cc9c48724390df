"""Control by the specification: chosen CPUs, attributes by name, capacity, queueing from threads; misuse above all."""

import math
import threading
from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from ktrio.workqueue import (
    WQ_HIGHPRI,
    WQ_UNBOUND,
    DeadlockError,
    DelayedWork,
    PeriodicWork,
    SupervisorClosedError,
    Work,
    Workqueue,
    open_supervisor,
)
from tests.workqueue.conftest import (
    KIND_NAMES,
    KINDS,
    Errors,
    Kind,
    Trace,
    alloc,
    assert_at_zero,
    open_with,
    run_bounded,
)

over_kinds = pytest.mark.parametrize("kind", KINDS, ids=KIND_NAMES)


def in_thread(call: Callable[[], None]) -> None:
    """Call it in another thread while this one, and the clock with it, stands still."""
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()


@pytest.mark.parametrize("cpu", [-1, 2, 10**30])
async def test_a_cpu_that_does_not_exist_is_refused_by_all_that_take_one(cpu: int, trace: Trace) -> None:
    """Negative ones are no places from the end; nothing has changed, an armed timer included."""
    async with open_supervisor(cpus=2) as supervisor:
        wq = alloc(supervisor)
        item = DelayedWork(trace.note, "ran")
        for call in (
            partial(wq.queue_work_on, cpu, item),
            partial(wq.queue_delayed_work_on, cpu, item, 1),
            partial(wq.queue_delayed_work_on, cpu, item, 0),
            partial(wq.mod_delayed_work_on, cpu, item, 1),
        ):
            with pytest.raises(ValueError, match=str(cpu)):
                call()
            assert not item.is_pending
        with pytest.raises(ValueError, match=str(cpu)):
            await wq.run_on(cpu, int)
        wq.queue_delayed_work(item, 3)
        with pytest.raises(ValueError, match=str(cpu)):
            wq.mod_delayed_work_on(cpu, item, 1)
        assert wq.in_flight == 0
        await trio.sleep(2)
        assert trace.events == []
        await trio.sleep(2)
        assert trace.events == ["ran"]


@over_kinds
async def test_from_inside_an_item_on_one_slot_each_cpu_runs_its_own(kind: Kind) -> None:
    """The caller parks: `max_active=1` and `capacity=1` are enough, on its own CPU too."""
    async with open_with(kind[1])(3, capacity=1) as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0], max_active=1)
        assert await wq.run_on(1, wq.schedule_on_each_cpu, abs, -3) == [3, 3, 3]
        assert await wq.run_on(2, wq.run_on, 2, abs, -4) == 4
        await assert_at_zero(supervisor, wq)


async def test_inside_an_ordered_queue_they_are_deadlocks_and_leave_nothing() -> None:
    """Nobody in it may wait for what stands behind (invariant 58)."""
    async with open_supervisor(cpus=2) as supervisor:
        wq = supervisor.alloc_ordered_workqueue("ordered")
        seen: list[str] = []

        async def inside() -> None:
            for call in (
                lambda: wq.run(int),
                lambda: wq.run_on(0, int),
                lambda: wq.schedule_on_each_cpu(int),
            ):
                try:
                    await call()
                except* DeadlockError:
                    seen.append("deadlock")

        wq.queue_work(Work(inside))
        await wq.flush()
        assert seen == ["deadlock"] * 3
        await assert_at_zero(supervisor, wq)


@over_kinds
async def test_one_cpu_that_raises_and_one_that_is_interrupted(kind: Kind) -> None:
    async with open_with(kind[1])(3) as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0])
        calls: list[int] = []

        async def work() -> None:
            calls.append(len(calls))
            mine = calls[-1]
            await trio.sleep(mine)
            if mine == 1:
                raise KeyError(mine)

        begin = trio.current_time()
        with pytest.RaisesGroup(KeyError):
            await wq.schedule_on_each_cpu(work)
        assert trio.current_time() == begin + 2  # all have been waited for
        await assert_at_zero(supervisor, wq)


ODD_VALUES: list[object] = ["", "x", "1.5", "0x10", None, 1.5, [], b"4", math.nan, math.inf]


@pytest.mark.parametrize("value", ODD_VALUES, ids=repr)
async def test_a_value_that_is_no_whole_number_is_refused_and_names_queue_and_attribute(value: object) -> None:
    async with open_supervisor() as supervisor:
        wq = supervisor.alloc_workqueue("the queue", WQ_UNBOUND, max_active=3)
        before = (wq.statistics(), dict(wq.attributes), dict(supervisor.attributes))
        for name in ("max_active", "max_pending"):
            with pytest.raises((TypeError, ValueError), match=rf"the queue.*{name}|{name}.*the queue"):
                wq.attributes[name] = value  # type: ignore[index]
        for name in ("capacity", "thread_limit"):
            with pytest.raises((TypeError, ValueError), match=name):
                supervisor.attributes[name] = value  # type: ignore[index]
        assert (wq.statistics(), dict(wq.attributes), dict(supervisor.attributes)) == before


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("idle_timeout", ["0", 0, -1, "nan", math.nan, ""]),
        ("cpu_intensive_threshold", [-1, "nan", math.nan, "x"]),
        ("capacity", [0, -1, "-5", "0"]),
        ("thread_limit", [0, -1, "0"]),
        ("cpus", [2]),
        ("nonsense", [2]),
    ],
)
async def test_what_open_supervisor_refuses_attributes_refuse(name: str, values: list[object]) -> None:
    async with open_supervisor() as supervisor:
        before = dict(supervisor.attributes)
        for value in values:
            with pytest.raises((ValueError, TypeError, KeyError)):
                supervisor.attributes[name] = value  # type: ignore[index]
        assert dict(supervisor.attributes) == before


@pytest.mark.parametrize("value", ["7", " 7 ", 7, "0007", "+7"])
async def test_the_text_of_a_number_is_the_number(value: str | int) -> None:
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        wq.attributes["max_active"] = value  # type: ignore[index]
        assert (wq.attributes["max_active"], wq.statistics().max_active) == (7, 7)


@over_kinds
async def test_capacity_raised_lets_first_those_who_waited_first_over_queues_and_returns(
    kind: Kind, trace: Trace
) -> None:
    """W37, W158: in the order in which they became active, a return among them (P2)."""
    async with open_with(kind[1])(capacity=1) as supervisor:
        one, two = (supervisor.alloc_workqueue(name, kind[0]) for name in ("one", "two"))
        one.queue_work(trace.parker("p"))
        await wait_all_tasks_blocked()
        trace.queue(one, "a")
        await wait_all_tasks_blocked()
        trace.queue(two, "b")
        trace.open("p")
        await wait_all_tasks_blocked()
        trace.queue(one, "c")
        assert trace.events[-1] == "a starts"
        supervisor.set_capacity(2)
        await wait_all_tasks_blocked()
        assert trace.events[-1] == "b starts"
        supervisor.set_capacity(4)
        await wait_all_tasks_blocked()
        assert trace.events[-2:] in (["p returns", "c starts"], ["c starts", "p returns"])
        trace.open("a", "b", "c", "p back")


@pytest.mark.parametrize("capacity", [0, -1])
async def test_a_capacity_below_one_is_refused_at_run_time_too(capacity: int) -> None:
    async with open_supervisor(capacity=3) as supervisor:
        with pytest.raises(ValueError, match=str(capacity)):
            supervisor.set_capacity(capacity)
        assert supervisor.statistics().capacity == 3


async def test_from_a_thread_an_armed_or_ticking_item(trace: Trace) -> None:
    """An armed one is pending, so that queueing stands for it; one between two ticks is idle and runs now."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        armed = DelayedWork(trace.note, "armed", on_discard=trace.discarder("armed"))
        ticking = PeriodicWork(trace.note, "tick")
        wq.queue_delayed_work(armed, 5)
        wq.queue_periodic_work(ticking, 50)
        for item in (armed, ticking):
            in_thread(partial(wq.queue_work_from_thread, item))
        await wait_all_tasks_blocked()
        assert (trace.events, trace.discarded) == (["tick"], [])
        await trio.sleep(6)
        assert trace.events == ["tick", "armed"]
        ticking.cancel()


@over_kinds
async def test_from_a_thread_a_thousand_of_one_item_are_one_run_or_few_and_of_many_all(kind: Kind) -> None:
    """Invariants 3 and 7: each call is seen by a run that begins after it."""
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0])
        said = 0
        seen: list[int] = []
        same = Work(lambda: seen.append(said))
        ran: list[int] = []
        many = [Work(ran.append, number) for number in range(100)]

        def call() -> None:
            nonlocal said
            for _ in range(1000):
                said += 1
                wq.queue_work_from_thread(same)
            for item in many:
                wq.queue_work_from_thread(item)

        in_thread(call)
        await wait_all_tasks_blocked()
        await wq.flush()
        assert seen[-1] == 1000
        assert ran == list(range(100))
        await assert_at_zero(supervisor, wq)


async def test_from_the_loop_in_the_stretch_before_the_supervisor_is_left_nothing_is_lost(trace: Trace) -> None:
    """Each call that returns leads to a run or to one `on_discard`."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        for name in "abc":
            wq.queue_work_from_thread(trace.holder(name))
        trace.open(*"abc")
    assert sorted(trace.starts + trace.discarded) == ["a", "b", "c"]
    with pytest.raises(SupervisorClosedError):
        wq.queue_work_from_thread(trace.holder("d"))
    assert sorted(trace.starts + trace.discarded) == ["a", "b", "c"]


async def test_an_error_of_on_discard_of_a_refused_call_reaches_on_error_and_the_others_go_on(trace: Trace) -> None:
    errors = Errors()
    async with open_supervisor() as supervisor:
        wq = supervisor.alloc_workqueue("wq", WQ_UNBOUND, 0, errors)
        bad: Work[int] = Work(int, on_discard=lambda: 1 // 0)
        bad.disable()
        wq.queue_work_from_thread(bad)
        trace.open("good")
        wq.queue_work_from_thread(trace.holder("good"))
        await wait_all_tasks_blocked()
        assert [type(error) for error in errors.errors] == [ZeroDivisionError]
        assert trace.starts == ["good"]


def queue(wq: Workqueue, item: Work) -> None:
    wq.queue_work(item)


def in_lane(wq: Workqueue, item: Work) -> None:
    wq.lane("key").queue_work(item)


def from_thread(wq: Workqueue, item: Work) -> None:
    wq.queue_work_from_thread(item)


async def in_group(wq: Workqueue, item: Work) -> None:
    async with wq.open_group() as group:
        group.queue_work(item)


async def wait_for_room(wq: Workqueue, item: Work) -> None:
    await wq.queue_work_wait(item)


@pytest.mark.parametrize(
    "offer",
    [
        queue,
        in_lane,
        in_group,
        wait_for_room,
        from_thread,
    ],
)
def test_a_function_in_place_of_an_item_is_an_error_of_the_caller_and_breaks_nothing(
    offer: Callable[[Workqueue, Work], Awaitable[None] | None],
) -> None:
    """The likeliest slip of all: whoever makes it is told, and nobody else notices."""

    async def slip() -> None:
        async with open_supervisor() as supervisor:
            wq = alloc(supervisor)
            told = False
            try:
                given = offer(wq, print)  # type: ignore[arg-type]
                if given is not None:
                    await given
            except* (TypeError, AttributeError):
                told = True
            assert told
            await assert_at_zero(supervisor, wq)
            assert await wq.run(pow, 2, 3) == 8

    run_bounded(slip)


async def test_a_plain_item_cannot_be_armed_or_made_to_tick() -> None:
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        with pytest.raises(TypeError, match="DelayedWork"):
            wq.queue_delayed_work(Work(int), 1)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="DelayedWork"):
            wq.mod_delayed_work(PeriodicWork(int), 1)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="PeriodicWork"):
            wq.queue_periodic_work(DelayedWork(int), 1)  # type: ignore[arg-type]
        await assert_at_zero(supervisor, wq)


async def test_high_and_low_have_the_kernels_nice_values_and_nobody_may_set_them() -> None:
    async with open_supervisor(cpus=2) as supervisor:
        high = supervisor.alloc_workqueue("high", WQ_HIGHPRI)
        ordered = supervisor.alloc_ordered_workqueue("ordered")
        assert (high.attributes["nice"], high.attributes["per_cpu"], high.attributes["ordered"]) == (-20, 1, 0)
        assert (ordered.attributes["nice"], ordered.attributes["per_cpu"], ordered.attributes["ordered"]) == (0, 0, 1)
        for name in ("nice", "per_cpu", "ordered"):
            with pytest.raises(TypeError, match=name):
                high.attributes[name] = 0  # type: ignore[index]
