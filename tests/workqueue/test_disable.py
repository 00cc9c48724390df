"""Items that are disabled: depth, what it refuses, and how it is taken back."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

from ktrio.workqueue import (
    DeadlockError,
    DelayedWork,
    DestroyedError,
    DisableError,
    PeriodicWork,
    Supervisor,
    Work,
    WorkEvent,
    Workqueue,
    WorkqueueInstrument,
    open_supervisor,
)
from tests.workqueue.conftest import Trace, alloc, alloc_bound, assert_at_zero

MAX_DEPTH = 0xFFFF


@pytest.mark.parametrize("make_queue", [alloc, alloc_bound])
async def test_a_disabled_item_takes_no_queueing(make_queue: Callable[[Supervisor], Workqueue], trace: Trace) -> None:
    """W9, W96, W100; invariants 1, 49: queueing works iff the depth is 0; nothing is replayed."""
    async with open_supervisor() as supervisor:
        wq = make_queue(supervisor)
        work = trace.holder("a")
        trace.open("a")
        assert work.disable() is False
        assert wq.queue_work(work) is False
        assert wq.queue_work_on(0, work) is False
        assert await wq.queue_work_wait(work) is False
        assert work.enable() is True
        await wait_all_tasks_blocked()
        assert trace.events == []
        assert wq.queue_work(work) is True
        await wq.flush()
        assert trace.starts == ["a"]
        await assert_at_zero(supervisor, wq)


async def test_disabling_nests(trace: Trace) -> None:
    """W98; invariant 49: `enable` returns True iff the depth reaches 0."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        work = trace.holder("a")
        for depth in (1, 2, 3):
            work.disable()
            assert work.statistics().disabled == depth
        assert [work.enable(), work.enable()] == [False, False]
        assert wq.queue_work(work) is False
        assert work.enable() is True
        assert work.statistics().disabled == 0
        trace.open("a")
        assert wq.queue_work(work) is True


def test_enabling_what_is_not_disabled_is_an_error() -> None:
    """W98; invariant 49: underflow."""
    work = Work(print, name="fresh")
    with pytest.raises(DisableError, match="fresh idle> is not disabled"):
        work.enable()
    work.disable()
    work.enable()
    with pytest.raises(DisableError):
        work.enable()


async def test_the_depth_has_an_end_and_a_refused_disable_changes_nothing(trace: Trace) -> None:
    """W98; invariant 49: overflow."""
    work = trace.holder("deep")
    for _ in range(MAX_DEPTH):
        work.disable()
    for _ in range(2):
        with pytest.raises(DisableError, match=r"deep idle, disabled x 65535> is disabled 65535 deep"):
            work.disable()
        with pytest.raises(DisableError):
            await work.disable_sync()
    assert await work.cancel_sync() is False
    assert work.statistics().disabled == MAX_DEPTH
    assert [work.enable() for _ in range(MAX_DEPTH)].count(True) == 1


async def test_disable_withdraws_the_pending_queueing(trace: Trace) -> None:
    """W31, W96; invariants 19, 49: whether it was active, inactive, or queued while it runs."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=1)
        works = trace.queue(wq, "a b c")
        await wait_all_tasks_blocked()
        wq.queue_work(works["a"])
        assert [work.disable() for work in works.values()] == [True, True, True]
        assert trace.discarded == ["a", "b", "c"]
        assert works["a"].is_running
        trace.open("a")
        await wq.flush()
        assert trace.events == ["a starts", "a ends"]
        await assert_at_zero(supervisor, wq)


async def test_on_discard_cannot_bring_a_disabled_item_back(trace: Trace) -> None:
    """W12. It is disabled before it is discarded."""
    again: list[bool] = []
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        work = Work(trace.note, "never", on_discard=lambda: again.append(wq.queue_work(work)))
        wq.queue_work(work)
        assert work.disable() is True
        assert again == [False]
        assert not work.is_pending


async def test_disable_inside_the_item_stops_it_from_queueing_itself() -> None:
    """W96. An item may disable itself, and its run goes on."""
    outcomes: list[bool] = []

    def body() -> None:
        outcomes.append(wq.queue_work(work))
        outcomes.append(work.disable())
        outcomes.append(wq.queue_work(work))

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        work = Work(body)
        wq.queue_work(work)
        await wq.flush()
        assert outcomes == [True, True, False]
        await assert_at_zero(supervisor, wq)


async def test_disable_sync_waits_for_the_run_and_stays(trace: Trace) -> None:
    """W97. Kernel: ``disable_work_sync``; True iff it was pending."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        work = trace.queue(wq, "a")["a"]
        await wait_all_tasks_blocked()
        wq.queue_work(work)

        async def open_later() -> None:
            await trio.sleep(5)
            assert wq.queue_work(work) is False
            assert work.statistics().disabled == 0  # it is not yet; who waits keeps queueings out
            with pytest.raises(DisableError):
                work.enable()
            trace.open("a")

        begin = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(open_later)
            assert await work.disable_sync() is True
        assert trio.current_time() - begin == pytest.approx(5)
        assert trace.events == ["a starts", "a ends"]
        assert wq.queue_work(work) is False
        assert work.enable() is True
        assert wq.queue_work(work) is True


async def test_disable_sync_of_an_idle_item_is_a_checkpoint() -> None:
    """W95."""
    work = Work(print)
    with assert_checkpoints():
        assert await work.disable_sync() is False
    assert work.enable() is True


async def test_disable_sync_interrupts_if_told(trace: Trace) -> None:
    """W97."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        work = trace.queue(wq, "a")["a"]
        await wait_all_tasks_blocked()
        assert await work.disable_sync(interrupt=True) is False
        assert trace.events == ["a starts"]
        await assert_at_zero(supervisor, wq)


async def test_a_cancelled_disable_sync_has_not_disabled(trace: Trace) -> None:
    """W97; invariant 45: but what was pending is withdrawn."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        work = trace.queue(wq, "a")["a"]
        await wait_all_tasks_blocked()
        wq.queue_work(work)
        with trio.move_on_after(1):
            await work.disable_sync()
        assert trace.discarded == ["a"]
        assert work.statistics().disabled == 0
        assert wq.queue_work(work) is True
        trace.open("a")
        await wq.flush()
        await assert_at_zero(supervisor, wq)


async def test_disabling_oneself_and_waiting_is_a_deadlock() -> None:
    """W101; invariant 58; and then nothing has changed."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)

        async def body() -> None:
            wq.queue_work(work)
            with pytest.raises(DeadlockError, match="itself"):
                await work.disable_sync()
            assert work.statistics().disabled == 0
            assert work.cancel() is True

        work = Work(body, name="itself")
        wq.queue_work(work)
        await wq.flush()


async def test_enable_during_cancel_sync_counts_but_lets_nothing_in(trace: Trace) -> None:
    """W99. Both are one number to queueing, but nobody can undo the other's part."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        work = trace.queue(wq, "a")["a"]
        await wait_all_tasks_blocked()
        work.disable()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work.cancel_sync)
            await wait_all_tasks_blocked()
            assert work.statistics().disabled == 1
            assert work.enable() is False
            assert wq.queue_work(work) is False
            trace.open("a")
        assert wq.queue_work(work) is True


async def test_enable_and_queue_work_makes_up_for_what_was_refused(trace: Trace) -> None:
    """W100. Kernel: ``enable_and_queue_work``: always once at depth 0, whatever was refused."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        work = trace.holder("a")
        trace.open("a")
        work.disable()
        work.disable()
        assert wq.enable_and_queue_work(work) is False
        assert work.statistics().disabled == 1
        assert wq.enable_and_queue_work(work) is True
        assert work.is_pending
        await wq.flush()
        assert trace.starts == ["a"]
        with pytest.raises(DisableError):
            wq.enable_and_queue_work(work)


async def test_enable_and_queue_work_that_raises_leaves_it_disabled(trace: Trace) -> None:
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        work = trace.holder("a")
        work.disable()
        await wq.destroy()
        with pytest.raises(DestroyedError):
            wq.enable_and_queue_work(work)
        assert work.statistics().disabled == 1


async def test_an_armed_timer_is_a_pending_queueing(autojump_clock: MockClock, trace: Trace) -> None:
    """W96. Kernel: ``disable_delayed_work``; arming and moving are queueings as well."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        work = DelayedWork(trace.note, "late", on_discard=trace.discarder("late"))
        wq.queue_delayed_work(work, 5)
        assert work.disable() is True
        assert trace.discarded == ["late"]
        assert wq.queue_delayed_work(work, 5) is False
        assert wq.mod_delayed_work(work, 5) is False
        assert wq.queue_work(work) is False
        assert await work.disable_sync() is False
        await trio.sleep(10)
        assert trace.events == []
        work.enable()
        assert wq.enable_and_queue_work(work) is True
        await wq.flush()
        assert trace.events == ["late"]
        assert supervisor.statistics().timers == 0


async def test_a_periodic_item_stops_for_good(autojump_clock: MockClock, trace: Trace) -> None:
    """W81, W100. Nothing is replayed, ticks neither: who enables it makes it tick anew."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        work = PeriodicWork(trace.note, "tick")
        wq.queue_periodic_work(work, 1)
        await trio.sleep(2.5)
        assert work.disable() is True
        assert wq.queue_periodic_work(work, 1) is False
        await trio.sleep(5)
        assert work.enable() is True
        await trio.sleep(5)
        assert trace.events == ["tick", "tick"]
        assert wq.queue_periodic_work(work, 1) is True


async def test_one_that_waits_for_room_is_refused_at_its_turn(trace: Trace) -> None:
    """W136. `queue_work_wait` answers as `queue_work` does at that moment."""
    answers: list[bool] = []
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=1)
        wq.set_max_pending(1)
        trace.queue(wq, "a")
        await wait_all_tasks_blocked()
        trace.queue(wq, "b")
        work = trace.holder("c")

        async def wait_for_room() -> None:
            answers.append(await wq.queue_work_wait(work))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_for_room)
            await wait_all_tasks_blocked()
            work.disable()
            trace.open("a", "b")
        assert answers == [False]
        assert trace.discarded == []


class Disabler(WorkqueueInstrument):
    """What an instrument must not do."""

    def __init__(self) -> None:
        self.errors: list[str] = []

    def queue_work(self, event: WorkEvent, /) -> None:
        for method in (event.work.disable, event.work.enable):
            try:
                method()
            except RuntimeError as error:
                self.errors.append(str(error))


async def test_an_instrument_cannot_disable(trace: Trace) -> None:
    """W167. Not even an item that is queued for the first time."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        disabler = Disabler()
        supervisor.add_instrument(disabler)
        work = trace.queue(wq, "a")["a"]
        assert [error.split(" called ")[1].split("(")[0] for error in disabler.errors] == ["disable", "enable"]
        assert work.statistics().disabled == 0
        trace.open("a")


def in_a_thread(fn: Callable[[], object]) -> None:
    """Call it in another thread and wait, with the loop held: a clock that jumps would not know of the thread."""
    with ThreadPoolExecutor(1) as executor:
        executor.submit(fn).result(20)


async def test_another_thread_may_disable_what_is_idle_only(trace: Trace) -> None:
    """W8."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        work = trace.queue(wq, "a")["a"]
        await wait_all_tasks_blocked()
        with pytest.raises(RuntimeError, match="outside its loop"):
            in_a_thread(work.disable)
        trace.open("a")
        await wq.flush()
        in_a_thread(work.disable)
        assert wq.queue_work(work) is False


async def test_repr_shows_it(trace: Trace) -> None:
    work = trace.holder("a")
    work.disable()
    assert repr(work) == "<Work a idle, disabled>"
    work.disable()
    assert repr(work) == "<Work a idle, disabled x 2>"


async def test_another_thread_that_may_not_disable_a_ticking_item_has_changed_nothing() -> None:
    """W8. Between two ticks it is idle, and yet its ticker is the loop's."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        work = PeriodicWork(lambda: None)
        wq.queue_periodic_work(work, 1)
        for change in (work.disable, work.enable):
            with pytest.raises(RuntimeError, match="outside its loop"):
                in_a_thread(change)
        assert work.statistics().disabled == 0
        assert work.is_ticking
        assert work.disable() is True
        assert work.statistics().disabled == 1


async def test_an_instrument_that_may_not_disable_a_ticking_item_has_changed_nothing() -> None:
    """Also one that has never been queued yet."""

    class Disabler(WorkqueueInstrument):
        def queue_work(self, event: WorkEvent) -> None:
            work.disable()

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        work = PeriodicWork(lambda: None)
        wq.queue_periodic_work(work, 1)
        supervisor.add_instrument(Disabler())
        assert await wq.run(int) == 0  # the instrument is removed, because it raised
        assert work.statistics().disabled == 0
        assert work.is_ticking
        work.cancel()
