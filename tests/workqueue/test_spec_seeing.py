"""Seeing, by the specification: what is no stall, how often one is told, and dumps at odd moments."""

import logging

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from ktrio.workqueue import (
    WQ_FREEZABLE,
    DelayedWork,
    PeriodicWork,
    Rate,
    Supervisor,
    Work,
    WorkEvent,
    WorkqueueFlags,
    WorkqueueInstrument,
    open_supervisor,
)
from tests.workqueue.conftest import KIND_NAMES, KINDS, Kind, Trace, alloc, open_with

over_kinds = pytest.mark.parametrize("kind", KINDS, ids=KIND_NAMES)


@over_kinds
async def test_what_waits_for_a_token_a_thaw_its_lane_or_its_time_is_no_stall(
    kind: Kind, trace: Trace, caplog: pytest.LogCaptureFixture
) -> None:
    """Invariant 57: stuck is who stands first at a full pool, or at a pwq *whose slots are all taken*."""
    caplog.set_level(logging.WARNING, "ktrio.workqueue")
    async with open_with(kind[1])(watchdog=30) as supervisor:
        rated = supervisor.alloc_workqueue("rated", kind[0], rate=Rate(1, per=1e4))
        cold = supervisor.alloc_workqueue("cold", WorkqueueFlags(kind[0]) | WQ_FREEZABLE)
        laned = supervisor.alloc_workqueue("laned", kind[0])
        assert await supervisor.freeze()
        trace.queue(cold, "c")
        trace.queue(rated, "r1 r2")
        for name in ("l1", "l2"):
            laned.lane(1).queue_work(trace.holder(name))
        laned.queue_delayed_work(DelayedWork(int), 5000)
        await trio.sleep(1000)
        assert caplog.messages == []
        supervisor.thaw()
        trace.open("c", "r1", "l1", "l2")
        rated.set_rate(None)
        trace.open("r2")


@over_kinds
async def test_each_stall_is_told_once_though_others_come_and_go(
    kind: Kind, trace: Trace, caplog: pytest.LogCaptureFixture
) -> None:
    """Until the head moves; a head that was withdrawn has moved, and the next is a stall of its own."""
    caplog.set_level(logging.WARNING, "ktrio.workqueue")
    async with open_with(kind[1])(watchdog=10) as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0], max_active=1)
        trace.queue(wq, "holder")
        await wait_all_tasks_blocked()
        works = trace.queue(wq, "first second")
        await trio.sleep(100)
        assert len(caplog.messages) == 1
        assert "first" in caplog.messages[0]
        assert "holder" in caplog.messages[0]
        trace.queue(wq, "third")
        works["first"].cancel()
        await trio.sleep(100)
        assert len(caplog.messages) == 2
        assert "second" in caplog.messages[1]
        trace.open("holder", "second", "third")
        await wq.flush()
        await trio.sleep(100)
        assert len(caplog.messages) == 2


async def test_a_dump_in_an_instrument_in_on_discard_and_when_all_is_over(trace: Trace) -> None:
    """It may be called whatever the state, and changes nothing."""
    dumps: list[str] = []

    class Dumper(WorkqueueInstrument):
        def __init__(self, supervisor: Supervisor) -> None:
            self.supervisor = supervisor

        def queue_work(self, event: WorkEvent, /) -> None:
            dumps.append(self.supervisor.dump())

        execute_end = execute_start = activate_work = queue_work

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=1)
        supervisor.add_instrument(Dumper(supervisor))
        ticking = PeriodicWork(int, name="ticking")
        wq.queue_periodic_work(ticking, 5)
        item = Work(int, on_discard=lambda: dumps.append(supervisor.dump()), name="dropped")
        trace.queue(wq, "holder")
        wq.queue_work(item)
        item.cancel()
        trace.open("holder")
        await wq.flush()
        assert len(dumps) >= 5
        before = supervisor.statistics()
        assert "timers" in supervisor.dump()
        assert supervisor.statistics() == before
    assert isinstance(supervisor.dump(), str)
