"""Attributes by name, and the capacity, changed at run time."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from ktrio.workqueue import (
    WQ_CPU_INTENSIVE,
    WQ_HIGHPRI,
    WQ_UNBOUND,
    Attributes,
    Supervisor,
    Work,
    WorkEvent,
    WorkqueueInstrument,
    open_supervisor,
    parked,
)
from tests.workqueue.conftest import KIND_NAMES, KINDS, Kind, Trace, alloc, alloc_bound, assert_at_zero, open_with


async def test_a_queue_shows_its_attributes_as_they_are() -> None:
    """W159. Kernel: WQ_SYSFS."""
    async with open_supervisor() as supervisor:
        wq = supervisor.alloc_workqueue("test", WQ_UNBOUND | WQ_HIGHPRI, max_active=4)
        attributes = wq.attributes
        assert dict(attributes) == {"max_active": 4, "max_pending": 0, "per_cpu": 0, "nice": -20, "ordered": 0}
        wq.set_max_active(7)
        wq.set_max_pending(9)
        assert (attributes["max_active"], attributes["max_pending"]) == (7, 9)
        assert repr(attributes) == (
            "<attributes of workqueue 'test': max_active=7, max_pending=9, per_cpu=0, nice=-20, ordered=0>"
        )
        assert len(attributes) == 5
        assert "max_active" in attributes
        assert "min_active" not in attributes
        bound = alloc_bound(supervisor)
        assert (bound.attributes["per_cpu"], bound.attributes["nice"]) == (1, 0)
        assert supervisor.alloc_ordered_workqueue("o").attributes["ordered"] == 1


async def test_setting_one_does_what_its_method_does(trace: Trace) -> None:
    """W34, W159; invariant 18; from an int or the text of one."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=1)
        trace.queue(wq, "a b c")
        await wait_all_tasks_blocked()
        wq.attributes["max_active"] = 2
        await wait_all_tasks_blocked()
        assert trace.starts == ["a", "b"]
        wq.attributes["max_active"] = " 3\n"  # as from a file
        wq.attributes["max_pending"] = "5"
        await wait_all_tasks_blocked()
        assert trace.starts == ["a", "b", "c"]
        assert (wq.max_active, wq.max_pending) == (3, 5)
        trace.open("a", "b", "c")


@pytest.mark.parametrize(
    ("name", "value", "error", "text"),
    [
        ("max_active", -1, ValueError, "workqueue 'test': max_active must be 0"),
        ("max_active", "65537", ValueError, "workqueue 'test': max_active must be 0"),
        ("max_active", "many", ValueError, "workqueue 'test': max_active must be an int, not 'many'"),
        ("max_active", "", ValueError, "must be an int, not ''"),
        ("max_active", "2.5", ValueError, "must be an int, not '2.5'"),
        ("max_active", 2.5, TypeError, "workqueue 'test': max_active must be an int or the text of one, not 2.5"),
        ("max_active", True, TypeError, "not True"),
        ("max_active", None, TypeError, "not None"),
        ("max_active", b"2", TypeError, "not b'2'"),
        ("max_pending", -1, ValueError, "workqueue 'test': max_pending"),
        ("per_cpu", 1, TypeError, "workqueue 'test': per_cpu can only be read"),
        ("nice", "0", TypeError, "nice can only be read"),
        ("cpumask", "f", KeyError, "workqueue 'test' has no attribute 'cpumask', only max_active, max_pending"),
    ],
)
async def test_what_cannot_be_set_names_queue_and_attribute(
    name: str, value: str, error: type[Exception], text: str
) -> None:
    """W160."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=4)
        with pytest.raises(error) as caught:
            wq.attributes[name] = value
        assert text in str(caught.value)
        assert (wq.max_active, wq.max_pending) == (4, 0)


async def test_an_unknown_name_is_a_key_error_to_all_who_ask() -> None:
    """W160."""
    async with open_supervisor() as supervisor:
        attributes = alloc(supervisor).attributes
        with pytest.raises(KeyError, match="no attribute 'cpumask'"):
            attributes["cpumask"]
        with pytest.raises(KeyError):
            attributes.is_writable("cpumask")
        assert attributes.get("cpumask") is None
        assert [name for name in attributes if attributes.is_writable(name)] == ["max_active", "max_pending"]


async def test_max_active_of_an_ordered_queue_cannot_be_set() -> None:
    """W40; invariant 16; the kernel registers no files for ordered queues."""
    async with open_supervisor() as supervisor:
        wq = supervisor.alloc_ordered_workqueue("ordered")
        with pytest.raises(ValueError, match=r"workqueue 'ordered'.*is ordered"):
            wq.attributes["max_active"] = 2
        assert wq.attributes["max_active"] == 1


async def test_a_supervisor_has_attributes_too() -> None:
    """W159."""
    async with open_supervisor(2, capacity=8, idle_timeout=60, cpu_intensive_threshold=0, thread_limit=3) as supervisor:
        attributes = supervisor.attributes
        assert dict(attributes) == {
            "cpus": 2,
            "capacity": 8,
            "idle_timeout": 60,
            "cpu_intensive_threshold": 0,
            "thread_limit": 3,
        }
        attributes["capacity"] = "9"
        attributes["idle_timeout"] = "0.5"
        attributes["cpu_intensive_threshold"] = 0.25
        attributes["thread_limit"] = 4
        assert list(attributes.values()) == [2, 9, 0.5, 0.25, 4]
        attributes["idle_timeout"] = "inf"
        for name, value, error in [
            ("cpus", 3, TypeError),
            ("capacity", 0, ValueError),
            ("capacity", 1.5, TypeError),
            ("idle_timeout", 0, ValueError),
            ("idle_timeout", "nan", ValueError),
            ("cpu_intensive_threshold", -1, ValueError),
            ("cpu_intensive_threshold", "nan", ValueError),
            ("thread_limit", 0, ValueError),
            ("watchdog", 1, KeyError),
        ]:
            with pytest.raises(error, match="the supervisor"):
                attributes[name] = value
        assert list(attributes.values()) == [2, 9, float("inf"), 0.25, 4]


class Meddles(WorkqueueInstrument):
    """What an instrument must not do."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._attributes = supervisor.attributes
        self.refused: list[str] = []

    def execute_start(self, event: WorkEvent, /) -> None:
        for name in self._attributes:
            if self._attributes.is_writable(name):
                try:
                    self._attributes[name] = 5
                except RuntimeError:
                    self.refused.append(name)


async def test_instruments_and_other_threads_may_only_read() -> None:
    """W8, W167."""

    def set_in_a_thread(attributes: Attributes, name: str) -> None:
        with ThreadPoolExecutor(1) as executor:
            executor.submit(attributes.__setitem__, name, 5).result(20)

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        meddles = Meddles(supervisor)
        supervisor.add_instrument(meddles)
        await wq.run(print)
        assert meddles.refused == ["capacity", "idle_timeout", "cpu_intensive_threshold", "thread_limit"]
        for attributes in (wq.attributes, supervisor.attributes):
            for name in attributes:
                if attributes.is_writable(name):
                    with pytest.raises(RuntimeError, match="outside its loop"):
                        set_in_a_thread(attributes, name)


async def test_a_shorter_idle_timeout_is_noticed_by_who_sleeps(autojump_clock: MockClock, trace: Trace) -> None:
    """W45; invariant 32: and a longer one as well."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        trace.queue(wq, "a b c d e")
        await wait_all_tasks_blocked()
        trace.open(*"abcde")
        await wq.flush()
        await wait_all_tasks_blocked()
        assert supervisor.statistics().pools[0].nr_workers == 6
        await trio.sleep(10)
        supervisor.attributes["idle_timeout"] = 1000
        await trio.sleep(900)
        assert supervisor.statistics().pools[0].nr_workers == 6
        supervisor.attributes["idle_timeout"] = 20
        await wait_all_tasks_blocked()
        assert supervisor.statistics().pools[0].nr_workers == 2


async def test_a_threshold_set_at_run_time_holds_for_workers_there_are(autojump_clock: MockClock) -> None:
    """W61; invariant 36."""
    async with open_supervisor(cpu_intensive_threshold=0) as supervisor:
        wq = alloc_bound(supervisor)

        async def hog() -> None:
            autojump_clock.jump(0.05)
            await trio.lowlevel.checkpoint()

        await wq.run(hog)
        assert supervisor.statistics().hogs == ()
        supervisor.attributes["cpu_intensive_threshold"] = 0.01
        await wq.run(hog)
        [hogs] = supervisor.statistics().hogs
        assert hogs.count == 1


async def test_a_raised_thread_limit_lets_waiting_ones_begin() -> None:
    """W66."""
    async with open_supervisor(thread_limit=1) as supervisor:
        supervisor.alloc_workqueue("threads", WQ_CPU_INTENSIVE)
        await supervisor.thread_limiter.acquire_on_behalf_of("somebody")
        supervisor.attributes["thread_limit"] = 2
        supervisor.thread_limiter.acquire_on_behalf_of_nowait("another")
        for borrower in ("somebody", "another"):
            supervisor.thread_limiter.release_on_behalf_of(borrower)


# -- capacity


@pytest.mark.parametrize("kind", KINDS, ids=KIND_NAMES)
async def test_raising_the_capacity_starts_those_that_wait(kind: Kind, trace: Trace) -> None:
    """W158; invariant 23: as many as there are new places, in their order; pools made later have it as well."""
    flags, sensor = kind
    async with open_with(sensor)(2, capacity=1) as supervisor:
        wq = supervisor.alloc_workqueue("test", flags)
        trace.queue(wq, "a b c d e f", cpu=1)
        await wait_all_tasks_blocked()
        assert trace.starts == ["a"]
        supervisor.set_capacity(4)
        await wait_all_tasks_blocked()
        assert trace.starts == ["a", "b", "c", "d"]
        supervisor.alloc_workqueue("other", WQ_HIGHPRI)
        assert {pool.capacity for pool in supervisor.pools} == {4}
        assert supervisor.statistics().capacity == 4
        trace.open(*"abcdef")
        await wq.flush()
        await assert_at_zero(supervisor, wq)


async def test_raising_the_capacity_lets_parked_items_come_back(trace: Trace) -> None:
    """W158; P2."""
    async with open_supervisor(capacity=1) as supervisor:
        wq = alloc(supervisor)
        for name in "ab":
            wq.queue_work(trace.parker(name))
        await wait_all_tasks_blocked()
        trace.queue(wq, "x")
        await wait_all_tasks_blocked()
        trace.open("a", "b")
        await wait_all_tasks_blocked()
        assert "a returns" not in trace.events
        supervisor.set_capacity(3)
        await wait_all_tasks_blocked()
        assert {"a returns", "b returns"} <= set(trace.events)
        trace.open("a back", "b back", "x")


async def test_lowering_the_capacity_only_lets_the_count_fall(trace: Trace) -> None:
    """W158."""
    async with open_supervisor(capacity=3) as supervisor:
        wq = alloc(supervisor)
        trace.queue(wq, "a b c d e")
        await wait_all_tasks_blocked()
        supervisor.set_capacity(1)
        for name in "ab":
            trace.open(name)
            await wait_all_tasks_blocked()
            assert trace.starts == ["a", "b", "c"]
        trace.open("c")
        await wait_all_tasks_blocked()
        assert trace.starts == ["a", "b", "c", "d"]
        trace.open("d", "e")
        await wq.flush()
        await assert_at_zero(supervisor, wq)


async def test_an_impossible_capacity_changes_nothing() -> None:
    """W158."""
    async with open_supervisor(capacity=3) as supervisor:
        for capacity in (0, -1):
            with pytest.raises(ValueError, match="capacity must be at least 1"):
                supervisor.set_capacity(capacity)
        assert supervisor.statistics().capacity == 3


async def test_capacity_may_change_from_inside_an_item(trace: Trace) -> None:
    async with open_supervisor(capacity=1) as supervisor:
        wq = alloc(supervisor)

        async def body() -> None:
            supervisor.set_capacity(2)
            async with parked():
                supervisor.set_capacity(1)
                supervisor.set_capacity(2)
            await trace.gate("a").wait()

        wq.queue_work(Work(body))
        trace.queue(wq, "b")
        await wait_all_tasks_blocked()
        assert trace.starts == ["b"]
        trace.open("a", "b")
        await wq.flush()
        await assert_at_zero(supervisor, wq)
