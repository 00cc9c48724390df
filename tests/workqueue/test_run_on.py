"""`run_on` one simulated CPU, and `schedule_on_each_cpu`."""

import pytest
import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from ktrio.workqueue import (
    WQ_UNBOUND,
    BacklogFullError,
    DeadlockError,
    DestroyedError,
    DrainingError,
    Supervisor,
    Work,
    Workqueue,
    current_work,
    open_supervisor,
)
from tests.workqueue.conftest import KIND_NAMES, KINDS, Kind, Trace, alloc, assert_at_zero, open_with


def cpu_of(wq: Workqueue) -> int:
    """The simulated CPU of the calling item."""
    work = current_work()
    assert work is not None
    assert work._pwq is not None
    assert work._pwq.wq is wq
    return work._pwq.pool.cpu


def both(supervisor: Supervisor, kind: Kind, max_active: int = 0) -> Workqueue:
    return supervisor.alloc_workqueue("test", kind[0], max_active=max_active)


@pytest.mark.parametrize("kind", KINDS, ids=KIND_NAMES)
async def test_run_on_runs_there_and_gives_the_result(kind: Kind) -> None:
    """W25. Kernel: ``work_on_cpu``."""
    async with open_with(kind[1])(3) as supervisor:
        wq = both(supervisor, kind)
        for cpu in (2, 0, 1):
            with assert_checkpoints():
                assert await wq.run_on(cpu, cpu_of, wq) == cpu
        for cpu in (-1, 3):
            with pytest.raises(ValueError, match="'test' has CPUs 0 to 2"):
                await wq.run_on(cpu, print)
        with pytest.raises(ZeroDivisionError):
            await wq.run_on(1, divmod, 1, 0)
        await assert_at_zero(supervisor, wq)


async def test_run_on_from_an_item_of_another_cpu_goes_where_it_says() -> None:
    """W25."""
    async with open_supervisor(3) as supervisor:
        wq = alloc(supervisor)
        assert await wq.run_on(2, wq.run_on, 1, cpu_of, wq) == 1


async def test_run_on_waits_for_room_and_still_goes_there(trace: Trace) -> None:
    """W25."""
    async with open_supervisor(2) as supervisor:
        wq = supervisor.alloc_workqueue("narrow", WQ_UNBOUND, max_active=1, max_pending=1)
        trace.queue(wq, "a", cpu=1)
        await wait_all_tasks_blocked()
        trace.queue(wq, "b", cpu=1)
        seen: list[int] = []

        async def run_on() -> None:
            seen.append(await wq.run_on(1, cpu_of, wq))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_on)
            await wait_all_tasks_blocked()
            assert wq.statistics().waiting_for_room == 1
            with pytest.raises(BacklogFullError):
                wq.queue_work(Work(print))
            trace.open("a", "b")
        assert seen == [1]


@pytest.mark.parametrize("kind", KINDS, ids=KIND_NAMES)
async def test_each_cpu_runs_one_and_results_are_in_their_order(kind: Kind) -> None:
    """W26. Kernel: ``schedule_on_each_cpu``: at once, and it waits for all."""

    async def body() -> int:
        cpu = cpu_of(wq)
        await trio.sleep(10 - cpu)
        return cpu

    async with open_with(kind[1])(4) as supervisor:
        wq = both(supervisor, kind)
        begin = trio.current_time()
        assert await wq.schedule_on_each_cpu(body) == [0, 1, 2, 3]
        assert trio.current_time() - begin == pytest.approx(10)
        with assert_checkpoints():
            assert await wq.schedule_on_each_cpu(str, 5) == ["5"] * 4
        await assert_at_zero(supervisor, wq)


async def test_all_are_waited_for_and_all_that_failed_is_raised(trace: Trace) -> None:
    """W27. A strict group of the errors only, in the order of the CPUs; the queue's on_error sees none."""

    async def body() -> None:
        cpu = cpu_of(wq)
        await trio.sleep(cpu)
        trace.note(str(cpu))
        if cpu in (0, 2):
            raise ValueError(cpu)

    async with open_supervisor(4) as supervisor:
        wq = alloc(supervisor)
        with pytest.raises(ExceptionGroup, match="schedule_on_each_cpu") as caught:
            await wq.schedule_on_each_cpu(body)
        assert [error.args for error in caught.value.exceptions] == [(0,), (2,)]
        assert trace.events == ["0", "1", "2", "3"]
        await assert_at_zero(supervisor, wq)


async def test_cancelling_the_caller_ends_all_of_them(trace: Trace) -> None:
    """W27. Those pending are withdrawn, those running interrupted and waited for."""

    async def body() -> None:
        trace.note(f"{cpu_of(wq)} starts")
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(2)
            trace.note("cleaned up")

    async with open_supervisor(2) as supervisor:
        wq = alloc(supervisor, max_active=1)
        trace.queue(wq, "a", cpu=1)
        await wait_all_tasks_blocked()
        with trio.move_on_after(5) as scope:
            await wq.schedule_on_each_cpu(body)
        assert scope.cancelled_caught
        assert trace.events == ["a starts", "0 starts", "cleaned up"]
        trace.open("a")
        await wq.flush()
        assert wq.statistics().cancelled == 1
        await assert_at_zero(supervisor, wq)


async def test_inside_an_item_the_caller_is_parked() -> None:
    """W102. Or with one slot it would wait for itself."""
    async with open_supervisor(2, capacity=1) as supervisor:
        wq = alloc(supervisor, max_active=1)
        assert await wq.run(wq.schedule_on_each_cpu, cpu_of, wq) == [0, 1]
        await assert_at_zero(supervisor, wq)


async def test_an_ordered_queue_runs_them_one_after_another(trace: Trace) -> None:
    """W26."""

    async def body() -> int:
        trace.note("starts")
        await trio.sleep(1)
        trace.note("ends")
        return len(trace.events)

    async with open_supervisor(2) as supervisor:
        wq = supervisor.alloc_ordered_workqueue("ordered")
        assert sorted(await wq.schedule_on_each_cpu(body)) == [2, 4]
        assert trace.events == ["starts", "ends"] * 2
        with pytest.raises(ExceptionGroup) as caught:
            await wq.run(wq.schedule_on_each_cpu, print)
        assert [type(error) for error in caught.value.exceptions] == [DeadlockError]
        assert await wq.run_on(1, str, 5) == "5"
        await assert_at_zero(supervisor, wq)


async def test_what_cannot_be_queued_is_raised_likewise(trace: Trace) -> None:
    """W27."""
    async with open_supervisor(2) as supervisor:
        wq = alloc(supervisor)
        trace.queue(wq, "a")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wq.drain)
            await wait_all_tasks_blocked()
            with pytest.raises(ExceptionGroup) as caught:
                await wq.schedule_on_each_cpu(print)
            assert [type(error) for error in caught.value.exceptions] == [DrainingError] * 2
            trace.open("a")
        await wq.destroy()
        with pytest.raises(DestroyedError):
            await wq.run_on(0, print)
