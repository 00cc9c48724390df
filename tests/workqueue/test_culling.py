"""Culling: idle workers die by the kernel's rule, oldest first, never below two, never a busy one."""

import math

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from ktrio.workqueue import Supervisor, Work, open_supervisor
from tests.workqueue.conftest import Trace, alloc, assert_at_zero

IDLE_TIMEOUT = 10.0


def names_of(count: int, prefix: str = "") -> list[str]:
    return [f"{prefix}{number}" for number in range(count)]


def idle(supervisor: Supervisor) -> int:
    return supervisor.statistics().pools[0].nr_idle


def living_tasks() -> int:
    return trio.lowlevel.current_statistics().tasks_living


async def test_idle_workers_are_culled_down_to_two_after_the_timeout(trace: Trace) -> None:
    """W45; invariant 32: not before, not below two, and their tasks are gone."""
    async with open_supervisor(idle_timeout=IDLE_TIMEOUT) as supervisor:
        wq = alloc(supervisor)
        trace.queue(wq, " ".join(names_of(20)))
        await wait_all_tasks_blocked()
        trace.open(*names_of(20))
        await wait_all_tasks_blocked()
        tasks = living_tasks()
        await trio.sleep(IDLE_TIMEOUT - 0.1)
        assert idle(supervisor) == 21
        await trio.sleep(IDLE_TIMEOUT + 1)
        await wait_all_tasks_blocked()
        pool = supervisor.statistics().pools[0]
        assert (pool.nr_idle, pool.nr_workers, pool.culled) == (2, 2, 19)
        assert tasks - living_tasks() >= 19
        await trio.sleep(10 * IDLE_TIMEOUT)
        assert idle(supervisor) == 2


async def test_two_idle_workers_are_never_culled(trace: Trace) -> None:
    """W45; invariant 32."""
    async with open_supervisor(idle_timeout=IDLE_TIMEOUT) as supervisor:
        wq = alloc(supervisor)
        trace.queue(wq, "a")
        await wait_all_tasks_blocked()
        trace.open("a")
        await trio.sleep(20 * IDLE_TIMEOUT)
        pool = supervisor.statistics().pools[0]
        assert (pool.nr_idle, pool.culled) == (2, 0)


async def test_the_longest_idle_are_culled_first(trace: Trace) -> None:
    """W45; invariant 32: who idled last is still there."""
    tasks: dict[str, trio.lowlevel.Task] = {}

    async def body(name: str) -> None:
        tasks[name] = trio.lowlevel.current_task()
        await trace.hold(name)

    async with open_supervisor(idle_timeout=IDLE_TIMEOUT) as supervisor:
        wq = alloc(supervisor)
        for name in names_of(6):
            wq.queue_work(Work(body, name))
        await wait_all_tasks_blocked()
        for name in ["3", "0", "5", "1", "4", "2"]:
            trace.open(name)
            await trio.sleep(1)
        await trio.sleep(4 * IDLE_TIMEOUT)
        assert idle(supervisor) == 2
        for name in ["x", "y"]:
            wq.queue_work(Work(body, name))
            await wait_all_tasks_blocked()
        assert [tasks["x"], tasks["y"]] == [tasks["2"], tasks["4"]]
        trace.open("x", "y")


async def test_no_worker_is_culled_before_its_own_time(trace: Trace) -> None:
    """W45; invariant 32: each dies only when it has been idle for the whole timeout, and then soon."""
    async with open_supervisor(idle_timeout=IDLE_TIMEOUT) as supervisor:
        trace.queue(alloc(supervisor), " ".join(names_of(6)))
        await wait_all_tasks_blocked()
        for name in names_of(6):
            trace.open(name)
            await trio.sleep(1)
        # The reserve idles from the start, worker N from second N on; it is now second 6; look just before each is due.
        await trio.sleep(IDLE_TIMEOUT - 6.1)
        for due in (2, 3, 4, 5):
            assert supervisor.statistics().pools[0].culled < due
            await trio.sleep(0.5)
            assert supervisor.statistics().pools[0].culled <= due
            await trio.sleep(0.5)
        await trio.sleep(IDLE_TIMEOUT)
        assert supervisor.statistics().pools[0].culled == 5


@pytest.mark.parametrize(("busy", "tolerated"), [(0, 2), (1, 2), (4, 2), (5, 3), (8, 3), (9, 4), (40, 11)])
async def test_busy_workers_excuse_idle_ones(trace: Trace, busy: int, tolerated: int) -> None:
    """W45, W46; invariant 33: k idle are tolerated while k <= 2 or (k - 2) * 4 < busy; a busy one is never culled."""
    async with open_supervisor(idle_timeout=IDLE_TIMEOUT) as supervisor:
        wq = alloc(supervisor)
        stay, leave = names_of(busy, "stay"), names_of(30, "leave")
        trace.queue(wq, " ".join(stay + leave))
        await wait_all_tasks_blocked()
        trace.open(*leave)
        await trio.sleep(3 * IDLE_TIMEOUT)
        pool = supervisor.statistics().pools[0]
        assert (pool.nr_idle, pool.nr_workers) == (tolerated, busy + tolerated)
        trace.open(*stay)
        await trio.sleep(3 * IDLE_TIMEOUT)
        assert idle(supervisor) == 2


@pytest.mark.parametrize("offset", [-0.001, 0.0, 0.001])
@pytest.mark.parametrize("rounds", range(5))
async def test_a_cull_loses_no_item_queued_at_that_instant(trace: Trace, offset: float, rounds: int) -> None:
    """W46; invariant 34: whichever worker is on its way out, all items start."""
    async with open_supervisor(idle_timeout=IDLE_TIMEOUT) as supervisor:
        wq = alloc(supervisor)
        trace.queue(wq, " ".join(names_of(20)))
        await wait_all_tasks_blocked()
        trace.open(*names_of(20))
        await wait_all_tasks_blocked()
        await trio.sleep(IDLE_TIMEOUT + offset)
        for _ in range(rounds):
            await trio.lowlevel.checkpoint()
        trace.queue(wq, " ".join(names_of(20, "late")))
        await wait_all_tasks_blocked()
        assert trace.starts[20:] == names_of(20, "late")
        assert idle(supervisor) >= 1
        trace.open(*names_of(20, "late"))
        await trio.sleep(3 * IDLE_TIMEOUT)
        assert idle(supervisor) == 2
        await assert_at_zero(supervisor, wq)


async def test_no_timer_is_armed_while_nobody_is_to_be_culled(trace: Trace) -> None:
    """W77; invariant 57's concern, for what exists here: a quiet pool does not keep an autojumping clock busy."""
    deadline = trio.lowlevel.current_statistics().seconds_to_next_deadline
    async with open_supervisor(idle_timeout=IDLE_TIMEOUT) as supervisor:
        wq = alloc(supervisor)
        trace.queue(wq, "a")
        await wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().seconds_to_next_deadline == deadline
        trace.open("a")
        await wait_all_tasks_blocked()
        assert idle(supervisor) == 2
        assert trio.lowlevel.current_statistics().seconds_to_next_deadline == deadline
        assert deadline < math.inf
