"""Ctrl-C: items are interruptible, the library's own code is not, and the books survive it anywhere."""

import contextlib
import signal
import sys
from collections.abc import Awaitable, Callable, Generator
from types import FrameType

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import ktrio.workqueue
from ktrio.workqueue import WQ_UNBOUND, Work, WorkGroup, Workqueue, open_supervisor, parked
from tests.workqueue.conftest import Trace, alloc, alloc_bound, assert_queue_at_zero, run_bounded

LIBRARY = ktrio.workqueue.__file__.removesuffix("__init__.py")


def is_protected() -> bool:
    return trio.lowlevel.currently_ki_protected()


async def test_items_are_not_protected() -> None:
    """W124. Neither at the first step nor later, neither parked nor in child tasks."""
    seen: dict[str, bool] = {}

    def sync_body() -> None:
        seen["sync"] = is_protected()

    async def child() -> None:
        seen["child"] = is_protected()

    async def body() -> None:
        seen["first step"] = is_protected()
        await trio.sleep(1)
        seen["later step"] = is_protected()
        async with parked():
            seen["parked"] = is_protected()
            await trio.sleep(1)
            seen["parked later"] = is_protected()
        seen["returned"] = is_protected()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)
        await other.run(sync_body)
        seen["after run"] = is_protected()
        wq.queue_work(Work(sync_body))
        seen["after queue_work"] = is_protected()

    async with open_supervisor() as supervisor:
        wq, other = alloc(supervisor), alloc(supervisor, "other")
        wq.queue_work(Work(body))
        wq.queue_work(Work(sync_body))
        await wq.flush()
    moments = ["sync", "child", "first step", "later step", "parked", "parked later", "returned"]
    assert seen == dict.fromkeys([*moments, "after run", "after queue_work"], False)


async def test_the_tasks_that_use_a_supervisor_stay_as_they_were() -> None:
    """W124."""
    assert not is_protected()
    async with open_supervisor() as supervisor:
        assert not is_protected()
        wq = alloc(supervisor)
        await wq.run(trio.lowlevel.checkpoint)
        await wq.flush()
        assert not is_protected()
    assert not is_protected()


async def test_user_callbacks_are_called_with_the_books_in_order() -> None:
    """W12, W108. on_error and on_discard may look at the queue and queue on it."""
    seen: list[tuple[str, int, int]] = []

    def look(what: str) -> None:
        books = wq.statistics()
        seen.append((what, books.nr_active, books.in_flight))

    def fail() -> None:
        raise ValueError

    def on_error(work: Work, error: Exception) -> None:
        look("error")
        wq.queue_work(Work(look, "after error"))

    async with open_supervisor() as supervisor:
        wq = supervisor.alloc_workqueue("test", WQ_UNBOUND, max_active=1, on_error=on_error)
        discarded = Work(fail, on_discard=lambda *_: look("discard"))
        wq.queue_work(discarded)
        discarded.cancel()
        wq.queue_work(Work(fail))
        await wq.flush()
        await wq.flush()
    assert seen[0] == ("discard", 0, 0)
    assert [what for what, _, _ in seen] == ["discard", "error", "after error"]


def run_until_interrupted(main: Callable[[], Awaitable[None]]) -> BaseException | None:
    """Run to the end on virtual time; the KeyboardInterrupt that came out, bare or grouped, or None."""
    try:
        run_bounded(main)
    except KeyboardInterrupt as error:
        return error
    except BaseExceptionGroup as group:
        matching, rest = group.split(KeyboardInterrupt)
        assert rest is None, rest
        return matching
    return None


@pytest.mark.parametrize("kind", ["sync", "async", "parked", "child", "started parked"])
def test_an_interrupt_in_an_item_reaches_the_supervisor(trace: Trace, kind: str) -> None:
    """W124. The item is cut at that very line, everything else is cancelled, and the books are at zero."""
    queues: list[Workqueue] = []

    def hit() -> None:
        trace.note("hit")
        signal.raise_signal(signal.SIGINT)
        trace.note("not reached")

    async def child() -> None:
        hit()

    async def body() -> None:
        await trio.sleep(1)
        if kind == "parked":
            async with parked():
                hit()
        elif kind == "child":
            async with trio.open_nursery() as nursery:
                nursery.start_soon(child)
        else:
            hit()

    async def main() -> None:
        async with open_supervisor() as supervisor:
            wq, other = alloc(supervisor, max_active=2), alloc(supervisor, "other")
            queues.extend([wq, other])
            trace.queue(other, "bystander")
            other.queue_work(trace.parker("parked bystander"))
            work = Work(hit if kind == "sync" else body)
            wq.queue_work(work, parked=kind == "started parked")
            trace.queue(wq, "holder inactive")
            await wq.flush()
            pytest.fail("went on")

    assert run_until_interrupted(main) is not None
    assert trace.events.count("hit") == 1
    assert "not reached" not in trace.events
    assert trace.ends == []
    for wq in queues:
        assert_queue_at_zero(wq)


class Striker:
    """A trace function that raises SIGINT at the `strike`-th line of library code that is executed.

    What enters and leaves its blocks is its code too.
    """

    def __init__(self, strike: int) -> None:
        self.lines = 0
        self.strike = strike
        self.where = ""

    def on_call(self, frame: FrameType, event: str, arg: object) -> object:
        return self.on_line if frame.f_code.co_filename.startswith((LIBRARY, contextlib.__file__)) else None

    def on_line(self, frame: FrameType, event: str, arg: object) -> object:
        if event == "line":
            self.lines += 1
            if self.lines == self.strike:
                self.where = f"{frame.f_code.co_filename.removeprefix(LIBRARY)}:{frame.f_lineno}"
                signal.raise_signal(signal.SIGINT)
        return self.on_line

    @contextlib.contextmanager
    def tracing(self) -> Generator[None, None, None]:
        before = sys.gettrace()
        sys.settrace(self.on_call)
        try:
            yield
        finally:
            sys.settrace(before)


def strike_once(strike: int) -> tuple[Striker, BaseException | None]:
    """One life of a supervisor with all that the library does, struck at one line; its books are checked."""
    striker = Striker(strike)
    trace = Trace()
    queues: list[Workqueue] = []
    accepted = 0

    async def requeue() -> None:
        nonlocal accepted
        if len(works) < 6:
            works.append(Work(requeue, on_discard=trace.discarder("chained")))
            accepted += queues[0].queue_work(works[-1])
        async with parked():
            await trio.sleep(1)
        with trio.move_on_after(1):
            async with parked():
                await trio.sleep_forever()

    async def main() -> None:
        nonlocal accepted
        async with open_supervisor(2, capacity=2, idle_timeout=3) as supervisor:
            wq, other = alloc(supervisor, "wq", 2), alloc(supervisor, "other", 1)
            queues.extend([wq, other])
            with striker.tracing():
                for index in range(3):
                    works.append(Work(requeue, on_discard=trace.discarder("outer")))
                    accepted += wq.queue_work(works[-1], parked=index == 1)
                accepted += len(trace.queue(other, "a b c d"))
                held = trace.holder("e")
                accepted += other.queue_work(held)
                held.cancel()
                other.set_max_active(3)
                await trio.sleep(0.5)
                works[0].interrupt()
                trace.open("a", "b", "c")
                with trio.move_on_after(1):
                    accepted += 1
                    await wq.run(trio.sleep_forever)
                await works[1].cancel_sync()
                trace.open("d")
                await wq.flush()
                await other.destroy()
                await wq.drain()
                await trio.sleep(10)

    works: list[Work] = []
    try:
        error = run_until_interrupted(main)
    except BaseException as failure:
        failure.add_note(f"strike {strike} at {striker.where}")
        raise
    where = f"strike {strike} at {striker.where}"
    for wq in queues:
        books = wq.statistics()
        open_counts = (books.nr_active, books.inactive, books.pending, books.running, books.parked)
        assert (open_counts, books.in_flight) == ((0,) * 5, 0), (where, books)
        assert books.started == books.completed, (where, books)
    for work in works:
        assert not work.is_pending, (where, work)
        assert not work.is_running, (where, work)
    # A strike at the very edge of a user's frame may fall between a True and its being counted.
    total = sum(wq.statistics().started + wq.statistics().cancelled for wq in queues)
    assert abs(total - accepted) <= 1, (where, total, accepted, [wq.statistics() for wq in queues])
    return striker, error


def test_an_interrupt_at_any_line_of_the_library_leaves_the_books_whole() -> None:
    """W124. Library code is protected: the interrupt waits for the next checkpoint of the main task, or for an item."""
    unharmed, error = strike_once(sys.maxsize)
    assert error is None
    assert unharmed.lines > 500
    # A sample of all lines, and a denser one of the last, in which idle workers are culled.
    last = unharmed.lines - 60
    struck = 0
    for strike in (*range(1, last, last // 150), *range(last, unharmed.lines, 4)):
        striker, error = strike_once(strike)
        struck += striker.where != ""
        assert (error is not None) == (striker.where != "")
    assert struck > 100


def strike_at_blocks(strike: int) -> Striker:
    """A supervisor and a group are entered and left, struck at one line."""
    striker = Striker(strike)
    kept: list[tuple[Workqueue, WorkGroup]] = []

    async def main() -> None:
        with striker.tracing():
            async with open_supervisor() as supervisor:
                wq = alloc_bound(supervisor)
                async with wq.open_group() as group:
                    kept.append((wq, group))
                    group.queue_work(Work(trio.sleep, 1))
                    group.queue_work(Work(trio.sleep, 2))

    try:
        error = run_until_interrupted(main)
        assert (error is not None) == (striker.where != "")
        for wq, group in kept:
            assert group.in_flight == 0
            assert_queue_at_zero(wq)
    except BaseException as failure:
        failure.add_note(f"strike {strike} at {striker.where}")
        raise
    return striker


def test_an_interrupt_while_a_block_is_entered_or_left_leaves_nothing_open() -> None:
    """Neither a nursery, which Trio would find corrupted, nor a group with members that nobody waits for."""
    unharmed = strike_at_blocks(sys.maxsize)
    assert unharmed.lines > 500
    # One life is some lines shorter than another: Trio shuffles what runs in one turn. A late strike may hit nothing.
    struck = sum(strike_at_blocks(strike).where != "" for strike in range(1, unharmed.lines, unharmed.lines // 200))
    assert struck > 150


@pytest.mark.parametrize(
    "wait", ["sleep", "run pending", "run running", "run shielded", "flush", "cancel_sync", "drain", "destroy"]
)
def test_an_interrupt_while_the_main_task_waits_ends_the_supervisor(trace: Trace, wait: str) -> None:
    """W124. As in any Trio program: it is raised in the main task, whatever that waits for; all else is cancelled."""
    queues: list[Workqueue] = []

    async def clean_up_slowly() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.move_on_after(9, shield=True):
                await trio.sleep(5)
            trace.note("cleaned up")

    async def main() -> None:
        async with open_supervisor() as supervisor:
            wq, roomy = alloc(supervisor, max_active=2), alloc(supervisor, "roomy")
            queues.extend([wq, roomy])
            works = trace.queue(wq, "a b c")
            wq.queue_work(trace.parker("d"), parked=True)
            await wait_all_tasks_blocked()
            trio.lowlevel.current_trio_token().run_sync_soon(signal.raise_signal, signal.SIGINT)
            calls: dict[str, Callable[[], Awaitable[object]]] = {
                "sleep": trio.sleep_forever,
                "run pending": lambda: wq.run(trace.note, "never"),
                "run running": lambda: roomy.run(trio.sleep_forever),
                "run shielded": lambda: roomy.run(clean_up_slowly),
                "flush": works["a"].flush,
                "cancel_sync": works["a"].cancel_sync,
                "drain": wq.drain,
                "destroy": wq.destroy,
            }
            await calls[wait]()
            trace.note("went on")

    assert run_until_interrupted(main) is not None
    assert trace.ends == []
    assert "went on" not in trace.events
    assert "never" not in trace.events
    assert ("cleaned up" in trace.events) == (wait == "run shielded")
    assert trace.discarded == ["c"]
    for wq in queues:
        assert_queue_at_zero(wq)
