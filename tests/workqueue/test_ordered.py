"""Ordered queues: one item at a time, in the order of queueing, whatever happens."""

import random
from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from ktrio.workqueue import (
    WQ_HIGHPRI,
    WQ_UNBOUND,
    DeadlockError,
    DelayedWork,
    Rate,
    Supervisor,
    SupervisorClosedError,
    Work,
    Workqueue,
    open_supervisor,
    parked,
)
from tests.workqueue.conftest import Errors, Trace, alloc, assert_at_zero


def alloc_ordered(supervisor: Supervisor, name: str = "ordered", max_pending: int = 0) -> Workqueue:
    return supervisor.alloc_ordered_workqueue(name, max_pending=max_pending)


async def test_items_run_one_at_a_time_in_the_order_of_queueing_over_all_cpus(trace: Trace) -> None:
    """W38; invariant 16: S order == Q order, no overlap, whatever CPU is named."""
    async with open_supervisor(cpus=3) as supervisor:
        wq = alloc_ordered(supervisor)

        async def body(name: str) -> None:
            trace.note(f"{name} starts")
            await trio.sleep(1)
            trace.note(f"{name} ends")

        names = [str(number) for number in range(9)]
        for number, name in enumerate(names):
            wq.queue_work_on((number * 2) % 3, Work(body, name))
        await wq.flush()
        assert trace.events == [f"{name} {what}" for name in names for what in ("starts", "ends")]
        await assert_at_zero(supervisor, wq)


async def test_it_has_one_pwq_and_every_cpu_is_that_one(trace: Trace) -> None:
    """W38. DESIGN part 4: an ordered queue has exactly one pwq."""
    async with open_supervisor(cpus=3) as supervisor:
        wq = alloc_ordered(supervisor)
        books = wq.statistics()
        assert (books.ordered, books.flags, books.max_active, len(books.pwqs)) == (True, WQ_UNBOUND, 1, 1)
        assert wq.cpus == 3
        assert repr(wq) == "<Workqueue 'ordered' active=0/1 inactive=0 parked=0>"
        for cpu in (-1, 3):
            with pytest.raises(ValueError, match="'ordered' has CPUs 0 to 2"):
                wq.queue_work_on(cpu, trace.holder("never"))
        plain = alloc(supervisor)
        assert not plain.statistics().ordered


async def test_ordered_queues_take_the_cpus_by_turns_and_share_pools() -> None:
    """W38; invariant 38: queues of equal attributes have the same pool; none is made for a queue."""
    async with open_supervisor(cpus=2) as supervisor:
        before = len(supervisor.pools)
        queues = [alloc_ordered(supervisor, f"o{number}") for number in range(4)]
        assert [wq.statistics().pwqs[0].cpu for wq in queues] == [0, 1, 0, 1]
        assert len(supervisor.pools) == before
        for wq in queues:
            await wq.destroy()
        assert len(supervisor.pools) == before


async def test_highpri_is_about_the_pool() -> None:
    """Kernel: ``WQ_HIGHPRI`` picks the high-priority unbound attributes."""
    async with open_supervisor() as supervisor:
        wq = supervisor.alloc_ordered_workqueue("urgent", WQ_HIGHPRI)
        assert wq.flags == WQ_HIGHPRI | WQ_UNBOUND
        assert wq.pwqs[0].pool.is_highpri
        assert not wq.pwqs[0].pool.is_bound


async def test_max_active_cannot_be_set(trace: Trace) -> None:
    """W40. Kernel: ``workqueue_set_max_active`` refuses ordered queues. Invariant 16."""
    async with open_supervisor() as supervisor:
        wq = alloc_ordered(supervisor)
        trace.queue(wq, "a b")
        for number in (0, 1, 2):
            with pytest.raises(ValueError, match="workqueue 'ordered' is ordered"):
                wq.set_max_active(number)
        await wait_all_tasks_blocked()
        assert trace.starts == ["a"]
        trace.open("a", "b")


async def test_nothing_starts_parked(trace: Trace) -> None:
    """W40; P8 and order exclude each other: it is an error, and nothing has changed."""
    async with open_supervisor() as supervisor:
        wq = alloc_ordered(supervisor)
        work = trace.holder("a")
        with pytest.raises(ValueError, match=r"'ordered' is ordered: <Work a idle> cannot start parked"):
            wq.queue_work(work, parked=True)
        with pytest.raises(ValueError, match="out of its turn"):
            wq.queue_work_on(0, work, parked=True)
        assert not work.is_pending
        await assert_at_zero(supervisor, wq)


async def test_what_is_queued_again_while_it_runs_keeps_its_place_in_the_order(trace: Trace) -> None:
    """W39; invariants 6, 16 and P6: before or behind the others, as it was queued."""
    async with open_supervisor() as supervisor:
        wq = alloc_ordered(supervisor)
        first = trace.queue(wq, "a")["a"]
        await wait_all_tasks_blocked()
        wq.queue_work(first)  # before b
        trace.queue(wq, "b")
        trace.open("a")
        await wait_all_tasks_blocked()
        assert trace.starts == ["a", "a", "b"]
        wq.queue_work(first)
        trace.open("b")
        await wq.flush()
        assert trace.starts == ["a", "a", "b", "a"]


async def test_what_queues_itself_with_others_behind_goes_behind_them(trace: Trace) -> None:
    """W39; invariant 16; the kernel runs a collided item at once only if nobody waits."""
    async with open_supervisor() as supervisor:
        wq = alloc_ordered(supervisor)
        works = trace.queue(wq, "a b")
        await wait_all_tasks_blocked()
        wq.queue_work(works["a"])
        trace.open("a", "b")
        await wq.flush()
        assert trace.starts == ["a", "b", "a"]


async def test_queueing_from_an_item_on_another_cpu_finds_the_one_pwq(trace: Trace, autojump_clock: MockClock) -> None:
    """W38. However it is queued: now, later, or once there is room."""
    async with open_supervisor(cpus=3) as supervisor:
        other, wq = alloc(supervisor), alloc_ordered(supervisor, max_pending=1)

        async def body() -> None:
            wq.queue_work(Work(trio.sleep, 1))
            await trio.sleep(0.5)
            wq.queue_delayed_work(DelayedWork(trace.note, "later"), 5)
            assert await wq.queue_work_wait(Work(trace.note, "now"))
            assert await wq.queue_work_wait(Work(trace.note, "then"))
            assert await wq.run(str, 5) == "5"

        other.queue_work_on(2, Work(body))
        await other.flush()
        await trio.sleep(10)
        assert trace.events == ["now", "then", "later"]


async def test_errors_do_not_hold_up_the_next() -> None:
    """W38; invariant 59."""
    errors = Errors()
    ran: list[int] = []
    async with open_supervisor() as supervisor:
        wq = supervisor.alloc_ordered_workqueue("ordered", on_error=errors)
        wq.queue_work(Work(int, "x"))
        wq.queue_work(Work(ran.append, 1))
        await wq.flush()
        assert len(errors.seen) == 1
        assert ran == [1]


async def test_a_rate_keeps_the_order(autojump_clock: MockClock) -> None:
    """W38."""
    times: list[tuple[int, float]] = []
    async with open_supervisor(cpus=2) as supervisor:
        wq = supervisor.alloc_ordered_workqueue("slow", rate=Rate(1))
        begin = trio.current_time()
        for number in range(3):
            wq.queue_work(Work(lambda number=number: times.append((number, trio.current_time() - begin))))
        await wq.flush()
        assert times == [(0, 0), (1, 1), (2, 2)]


async def test_a_left_supervisor_allocates_none() -> None:
    """W3."""
    async with open_supervisor() as supervisor:
        pass
    with pytest.raises(SupervisorClosedError, match="'late'"):
        supervisor.alloc_ordered_workqueue("late")


# -- parking (P7)


async def test_parking_keeps_the_slot_and_gives_back_the_place(trace: Trace) -> None:
    """P7: nobody begins before it has ended, but the pool may run something else."""
    async with open_supervisor(capacity=1) as supervisor:
        wq, other = alloc_ordered(supervisor), alloc(supervisor, "other")
        wq.queue_work(trace.parker("a"))
        trace.queue(wq, "b")
        trace.queue(other, "x")
        await wait_all_tasks_blocked()
        assert trace.events == ["a starts", "a parks", "x starts"]
        books = wq.statistics()
        assert (books.nr_active, books.parked, books.inactive) == (1, 1, 1)
        assert supervisor.statistics().pools[0].occupied == 1
        trace.open("x")
        await wait_all_tasks_blocked()
        trace.open("a", "a back", "b")
        await wq.flush()
        assert trace.events[-5:] == ["x ends", "a returns", "a ends", "b starts", "b ends"]
        await assert_at_zero(supervisor, wq, other)


async def test_coming_back_waits_for_a_place_only(trace: Trace) -> None:
    """P7 and P2: it holds its slot and stands in the pool's line."""
    async with open_supervisor(capacity=1) as supervisor:
        wq, other = alloc_ordered(supervisor), alloc(supervisor, "other")
        wq.queue_work(trace.parker("a"))
        trace.queue(wq, "b")
        trace.queue(other, "x y")
        await wait_all_tasks_blocked()
        trace.open("a", "a back", "b")
        await wait_all_tasks_blocked()
        assert trace.starts == ["a", "x"]
        trace.open("x")  # y has stood in line for longer
        await wait_all_tasks_blocked()
        assert trace.starts == ["a", "x", "y"]
        assert "a returns" not in trace.events
        trace.open("y")
        await wq.flush()
        assert trace.events[-4:] == ["a returns", "a ends", "b starts", "b ends"]
        await assert_at_zero(supervisor, wq, other)


@pytest.mark.parametrize("when", ["parked", "in line"])
async def test_an_interrupt_of_a_parked_item_keeps_the_count(trace: Trace, when: str) -> None:
    """P4, P7: one slot before and after, and the overshoot is that of the pool."""
    async with open_supervisor(capacity=1) as supervisor:
        wq, other = alloc_ordered(supervisor), alloc(supervisor, "other")
        work = trace.parker("a")
        wq.queue_work(work)
        await wait_all_tasks_blocked()
        trace.queue(other, "x")
        trace.queue(wq, "b")
        await wait_all_tasks_blocked()
        if when == "in line":
            trace.open("a")
            await wait_all_tasks_blocked()
        assert await work.cancel_sync(interrupt=True) is False
        assert (wq.statistics().overshoot, wq.statistics().nr_active) == (1, 1)
        await wait_all_tasks_blocked()
        assert trace.starts == ["a", "x"]
        trace.open("x", "b")
        await wq.flush()
        await assert_at_zero(supervisor, wq, other)


async def test_parking_that_insists_takes_no_second_slot(trace: Trace) -> None:
    """P9, P7."""

    async def body() -> None:
        async with parked(insist=True):
            await trace.gate("a").wait()
        trace.note("back")

    async with open_supervisor(capacity=1) as supervisor:
        wq, other = alloc_ordered(supervisor), alloc(supervisor, "other")
        wq.queue_work(Work(body))
        await wait_all_tasks_blocked()
        trace.queue(other, "x")
        await wait_all_tasks_blocked()
        trace.open("a")
        await wait_all_tasks_blocked()
        assert trace.events == ["x starts", "back"]
        trace.open("x")
        await other.flush()
        await assert_at_zero(supervisor, wq, other)


async def test_who_ends_parked_gives_back_the_slot(trace: Trace) -> None:
    """Somebody enters `parked` by hand and never leaves: the next one begins all the same."""

    async def body() -> None:
        await parked().__aenter__()
        if not again:
            again.append(wq.queue_work(work))

    again: list[bool] = []
    async with open_supervisor() as supervisor:
        wq = alloc_ordered(supervisor)
        work = Work(body)
        wq.queue_work(work)
        await wait_all_tasks_blocked()
        assert again == [True]
        trace.open("a")
        trace.queue(wq, "a")
        await wq.flush()
        assert work.statistics().runs == 2
        await assert_at_zero(supervisor, wq)


# -- deadlocks (invariant 58)

Wait = Callable[[Workqueue, Work], Awaitable[object]]


async def flush_it(_wq: Workqueue, behind: Work) -> None:
    await behind.flush()


async def ask_for_its_result(_wq: Workqueue, behind: Work) -> None:
    await behind.result()


async def run_another(wq: Workqueue, _behind: Work) -> None:
    await wq.run(print)


async def in_a_child(wait: Wait, wq: Workqueue, behind: Work) -> None:
    errors: list[DeadlockError] = []
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait, wq, behind)
    except* DeadlockError as group:
        errors += [error for error in group.exceptions if isinstance(error, DeadlockError)]
    raise errors[0]


@pytest.mark.parametrize("child", [False, True], ids=["own", "child"])
@pytest.mark.parametrize("wait", [flush_it, ask_for_its_result, run_another])
async def test_waiting_for_what_stands_behind_is_a_deadlock(wait: Wait, child: bool) -> None:
    """W41; P7, P8, invariant 58: it names both, and nothing is left behind."""
    caught: list[str] = []

    async def body() -> None:
        behind = Work(print, name="behind")
        wq.queue_work(behind)
        try:
            await (in_a_child(wait, wq, behind) if child else wait(wq, behind))
        except DeadlockError as error:
            caught.append(str(error))

    async with open_supervisor() as supervisor:
        wq = alloc_ordered(supervisor)
        wq.queue_work(Work(body, name="first"))
        await wq.flush()
        await assert_at_zero(supervisor, wq)
    assert len(caught) == 1
    assert "first" in caught[0]
    assert ("print" if wait is run_another else "behind") in caught[0]


async def test_a_deadlock_over_another_queue_is_found() -> None:
    """W41; invariant 58: the item waits for one that waits for what stands behind the first."""
    caught: list[str] = []

    async def wait(name: str, work: Work) -> None:
        try:
            await work.flush()
        except DeadlockError as error:
            caught.append(f"{name}: {error}")

    async with open_supervisor() as supervisor:
        wq, other = alloc_ordered(supervisor), alloc(supervisor, "other")
        behind = Work(print, name="behind")
        helper = Work(wait, "helper", behind, name="helper")
        first = Work(wait, "first", helper, name="first")
        wq.queue_work(first)
        wq.queue_work(behind)
        other.queue_work(helper)
        await wq.flush()
        await other.flush()
        await assert_at_zero(supervisor, wq, other)
    assert len(caught) == 1
    assert all(name in caught[0] for name in ("first", "helper", "behind"))


async def test_a_wait_with_a_deadline_is_not_certain(autojump_clock: MockClock) -> None:
    """W104; invariant 58: no false positive; it ends, and then the others go on."""
    too_slow: list[float] = []

    async def body() -> None:
        begin = trio.current_time()
        with trio.move_on_after(5):
            await behind.flush()
        too_slow.append(trio.current_time() - begin)

    async with open_supervisor() as supervisor:
        wq = alloc_ordered(supervisor)
        behind = Work(too_slow.append, 0.0)
        wq.queue_work(Work(body))
        wq.queue_work(behind)
        await wq.flush()
        assert too_slow == [5, 0]


async def test_cancelling_the_one_behind_is_fine(trace: Trace) -> None:
    """W41; invariant 48: `cancel_sync` and `disable_sync` never wait for a pending item."""
    outcomes: list[bool] = []

    async def body() -> None:
        outcomes.append(await behind.cancel_sync())
        wq.queue_work(behind)
        outcomes.append(await behind.disable_sync())

    async with open_supervisor() as supervisor:
        wq = alloc_ordered(supervisor)
        behind = trace.holder("behind")
        wq.queue_work(Work(body))
        wq.queue_work(behind)
        await wq.flush()
        assert outcomes == [True, True]
        await assert_at_zero(supervisor, wq)


async def test_waiting_for_another_queue_keeps_the_slot(trace: Trace) -> None:
    """P7: who waits inside an item parks, and here that is the place only."""
    async with open_supervisor(capacity=1) as supervisor:
        wq, other = alloc_ordered(supervisor), alloc(supervisor, "other")

        async def body() -> None:
            assert await other.run(str, 5) == "5"
            trace.note("a ends")

        wq.queue_work(Work(body))
        wq.queue_work(Work(trace.note, "b"))
        await wq.flush()
        assert trace.events == ["a ends", "b"]
        await assert_at_zero(supervisor, wq, other)


async def test_a_return_that_waits_for_a_place_holds_the_slot_in_the_graph() -> None:
    """W41; invariant 58, P7: the pool's one place is held by who waits for what stands behind the returner."""
    caught: list[str] = []
    gate = trio.Event()

    async def parks() -> None:
        async with parked():
            await gate.wait()

    async def holds_the_place() -> None:
        async def wait() -> None:
            await behind.flush()

        gate.set()
        await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
        except* DeadlockError as group:
            caught.extend(map(str, group.exceptions))

    async with open_supervisor(capacity=1) as supervisor:
        wq, other = alloc_ordered(supervisor), alloc(supervisor, "other")
        behind = Work(print, name="behind")
        wq.queue_work(Work(parks, name="returner"))
        wq.queue_work(behind)
        await wait_all_tasks_blocked()
        other.queue_work(Work(holds_the_place, name="holder"))
        await wq.flush()
        await other.flush()
        await assert_at_zero(supervisor, wq, other)
    assert len(caught) == 1
    assert all(name in caught[0] for name in ("returner", "holder"))


# -- at random


async def one_random_run(seed: int) -> None:
    choose = random.Random(seed)
    queued: list[str] = []
    started: list[str] = []
    discarded: list[str] = []
    running: list[str] = []

    async def body(name: str, steps: str) -> None:
        started.append(name)
        assert not running, (name, running)
        running.append(name)
        try:
            for step in steps:
                if step == "s":
                    await trio.sleep(choose.random())
                elif step == "y":
                    await trio.lowlevel.checkpoint()
                elif step == "p":
                    async with parked():
                        await trio.sleep(choose.random())
                elif step == "t":
                    with trio.move_on_after(0.1):
                        async with parked():
                            await trio.sleep(1)
                elif step == "q":
                    queue_one()
                else:
                    raise ValueError(name)
        finally:
            running.remove(name)

    def queue_one() -> Work:
        name = str(len(queued))
        queued.append(name)
        steps = "".join(choose.choices("syptqe", weights=[4, 4, 4, 2, 1, 1], k=choose.randrange(4)))
        work = Work(body, name, steps, name=name, on_discard=partial(discarded.append, name))
        assert wq.queue_work_on(choose.randrange(supervisor.cpus), work)
        return work

    errors = Errors()
    async with open_supervisor(choose.randrange(1, 4), capacity=choose.randrange(1, 3)) as supervisor:
        wq = supervisor.alloc_ordered_workqueue("ordered", on_error=errors)
        other = alloc(supervisor, "other")
        for _ in range(choose.randrange(5, 30)):
            work = queue_one()
            if choose.random() < 0.2:
                work.cancel()
            if choose.random() < 0.2:
                work.interrupt()
            if choose.random() < 0.3:
                other.queue_work(Work(trio.sleep, choose.random()))
            if choose.random() < 0.5:
                await trio.sleep(choose.random())
        await wq.drain()
        assert started == [name for name in queued if name not in discarded]
        assert wq.statistics().nr_active == 0
        await other.drain()
        await assert_at_zero(supervisor, wq, other)


@pytest.mark.parametrize("block", range(4))
async def test_at_random_starts_are_in_the_order_of_queueing(block: int) -> None:
    """W38; invariants 3, 16, 21 and P7: with parking, time limits, cancellation, errors and queueing from inside."""
    for seed in range(block * 25, block * 25 + 25):
        await one_random_run(seed)
