"""The watchdog of stuck items (invariant 57): it names who waits and who is in the way, once, and else keeps still."""

import logging

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from ktrio.workqueue import Supervisor, Work, Workqueue, open_supervisor, parked
from tests.workqueue.conftest import KIND_NAMES, KINDS, Kind, Trace, alloc, alloc_bound, open_with

kinds = pytest.mark.parametrize("kind", KINDS, ids=KIND_NAMES)


@pytest.fixture(autouse=True)
def warnings_only(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "ktrio.workqueue")


async def spin(stop: trio.Event) -> None:
    """Hold up a bound pool: yield and never sleep, while the time goes on."""
    clock = trio.lowlevel.current_clock()
    assert isinstance(clock, trio.testing.MockClock)
    while not stop.is_set():
        clock.jump(0.005)
        await trio.lowlevel.checkpoint()


@kinds
async def test_a_pwq_whose_slots_are_all_taken_is_reported_once(
    kind: Kind, trace: Trace, caplog: pytest.LogCaptureFixture
) -> None:
    """W171."""
    async with open_with(kind[1])(watchdog=30) as supervisor:
        wq = supervisor.alloc_workqueue("stuck", kind[0], max_active=1)
        trace.queue(wq, "holder first second")
        await trio.sleep(29)
        assert not caplog.records
        await trio.sleep(200)
        (record,) = caplog.records
        text = record.getMessage()
        assert "<PoolWorkqueue 'stuck' cpu=0 active=1/1 inactive=2 in_flight=3> has begun nothing for 30 s" in text
        assert "<Work first inactive on 'stuck'> is the first that waits" in text
        assert "  holder (kworker/" in text
        assert "conftest.py:" in text
        assert "in hold: await self.gate(name).wait()" in text
        trace.open("holder")
        await trio.sleep(100)  # now `first` holds the slot and `second` waits: another stall
        assert len(caplog.records) == 2
        assert "<Work second inactive" in caplog.records[1].getMessage()
        trace.open("first", "second")
        await wq.flush()
        assert supervisor.statistics().timers == 0


async def test_a_pool_at_capacity_is_reported(trace: Trace, caplog: pytest.LogCaptureFixture) -> None:
    """W171."""
    async with open_supervisor(capacity=1, watchdog=30) as supervisor:
        trace.queue(alloc(supervisor), "holder waiting")
        await trio.sleep(65)
        (record,) = caplog.records
        text = record.getMessage()
        assert "occupied=1/1" in text
        assert "<Work waiting active on 'test'> is the first that waits" in text
        trace.open("holder", "waiting")


async def test_a_bound_pool_held_up_by_one_that_never_sleeps_is_reported(
    trace: Trace, caplog: pytest.LogCaptureFixture
) -> None:
    """W171."""
    async with open_supervisor(watchdog=1, cpu_intensive_threshold=0) as supervisor:
        wq = alloc_bound(supervisor)
        stop = trio.Event()
        wq.queue_work(Work(spin, stop, name="spinner"))
        trace.queue(wq, "waiting")
        trace.open("waiting")
        await trio.sleep(3)
        stop.set()
        await wq.flush()
    (record,) = caplog.records
    assert "<Work waiting active on 'bound'> is the first that waits" in record.getMessage()
    assert "  spinner (kworker/0:" in record.getMessage()


async def test_who_wants_to_come_back_is_named(trace: Trace, caplog: pytest.LogCaptureFixture) -> None:
    """W171."""
    async with open_supervisor(watchdog=30) as supervisor:
        wq = alloc(supervisor, max_active=1)
        wq.queue_work(trace.parker("parker"))
        await wait_all_tasks_blocked()
        trace.queue(wq, "holder")
        trace.open("parker", "parker back")
        await wait_all_tasks_blocked()
        trace.queue(wq, "behind")
        await trio.sleep(100)
        (record,) = caplog.records
        assert "ReturnToken of <Worker kworker/u0:0 <Work parker parked>>" in record.getMessage()
        trace.open("holder", "behind")


@kinds
async def test_lines_that_move_are_no_stall(kind: Kind, caplog: pytest.LogCaptureFixture) -> None:
    """W172. However long they are, and however long each has waited."""
    async with open_with(kind[1])(watchdog=30) as supervisor:
        wq = supervisor.alloc_workqueue("slow", kind[0], max_active=1)
        for _ in range(20):
            wq.queue_work(Work(trio.sleep, 25))
        await wq.flush()
    assert not caplog.records


@kinds
async def test_it_is_armed_only_while_somebody_waits(kind: Kind, trace: Trace) -> None:
    """W172; invariant 57: no timer is armed at rest, so a clock that jumps by itself stands still."""
    async with open_with(kind[1])(watchdog=30) as supervisor:
        wq = supervisor.alloc_workqueue("short", kind[0], max_active=1)
        assert not supervisor.watchdog.is_armed
        trace.queue(wq, "a b")
        await wait_all_tasks_blocked()
        assert supervisor.watchdog.is_armed
        trace.open("a", "b")
        await wq.flush()
        await wait_all_tasks_blocked()
        assert not supervisor.watchdog.is_armed
        assert trio.current_time() == 0
        assert supervisor.timers.armed == 0


async def test_items_that_run_long_are_no_stall_if_nobody_waits(trace: Trace, caplog: pytest.LogCaptureFixture) -> None:
    """W172."""
    async with open_supervisor(watchdog=30) as supervisor:
        wq = alloc(supervisor)
        trace.queue(wq, "a b c")

        async def parks() -> None:
            async with parked():
                await trio.sleep(1000)

        wq.queue_work(Work(parks))
        await trio.sleep(1000)
        assert not supervisor.watchdog.is_armed
        trace.open("a", "b", "c")
    assert not caplog.records


async def stuck(supervisor: Supervisor, trace: Trace) -> Workqueue:
    wq = alloc(supervisor, max_active=1)
    trace.queue(wq, "holder waiting")
    await trio.sleep(1000)
    trace.open("holder", "waiting")
    return wq


@pytest.mark.parametrize("threshold", [None, 0])
async def test_it_is_off_at_0_and_by_default_under_another_clock_than_trios(
    threshold: float | None, trace: Trace, caplog: pytest.LogCaptureFixture
) -> None:
    """W172."""
    async with open_supervisor(watchdog=threshold) as supervisor:
        await stuck(supervisor, trace)
    assert not caplog.records


async def test_a_negative_threshold_is_refused() -> None:
    """W6."""
    with pytest.raises(ValueError, match="watchdog must be seconds"):
        async with open_supervisor(watchdog=-1):
            pass


def test_in_real_time_it_is_30_seconds_by_default() -> None:
    async def main() -> tuple[bool, float]:
        async with open_supervisor() as supervisor:
            wq = alloc(supervisor, max_active=1)
            wq.queue_work(Work(trio.sleep, 0))
            wq.queue_work(Work(trio.sleep, 0))
            armed = supervisor.watchdog.is_armed
            (_, _, timer), *_ = supervisor.timers._heap
            return armed, timer.deadline - trio.current_time()

    armed, left = trio.run(main)
    assert armed
    assert 29 < left <= 30


@kinds
async def test_a_queue_that_keeps_being_stuck_while_the_supervisor_is_left_is_named(
    kind: Kind, trace: Trace, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_with(kind[1])(watchdog=30) as supervisor:
        wq = supervisor.alloc_workqueue("last", kind[0], max_active=1)
        works = trace.queue(wq, "holder waiting")

        async def free() -> None:
            await trio.sleep(100)
            works["holder"].interrupt()
            trace.open("waiting")

        supervisor.alloc_workqueue("other").queue_work(Work(free))
    assert len(caplog.records) == 1
