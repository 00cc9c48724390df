"""The watchdog of the loop: a real thread, and loops that are really held, until its report has been seen."""

import functools
import logging
import threading
from collections.abc import Callable, Coroutine, Generator

import pytest
import trio

from ktrio.workqueue import Work, open_supervisor
from tests.workqueue.conftest import ALARM_AFTER, KIND_NAMES, KINDS, Kind, alarm, alloc, assert_queue_at_zero, open_with

kinds = pytest.mark.parametrize("kind", KINDS, ids=KIND_NAMES)

# Seconds of real time until the watchdog speaks. Whoever holds the loop does so until it has spoken of him.
THRESHOLD = 0.01


def in_real_time(test: Callable[..., Coroutine[object, object, None]]) -> Callable[..., None]:
    """Run an async test by Trio's own clock: one that jumps while nobody can run would jump while a thread works."""

    @functools.wraps(test)
    def run(**fixtures: object) -> None:
        with alarm(ALARM_AFTER):
            trio.run(functools.partial(test, **fixtures))

    return run


class Reports(logging.Handler):
    """What the watchdog says; whoever is to be named waits for that here, holding the loop."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self._came = threading.Condition()

    def emit(self, record: logging.LogRecord) -> None:
        with self._came:
            self.texts.append(record.getMessage())
            self._came.notify_all()

    def hold_until_named(self, name: str) -> None:
        """Hold the loop until a report has this in it."""
        with self._came:
            assert self._came.wait_for(lambda: any(name in text for text in self.texts), timeout=15)

    def of(self, name: str) -> str:
        return next(text for text in self.texts if name in text)


@pytest.fixture
def reports() -> Generator[Reports, None, None]:
    handler = Reports()
    log = logging.getLogger("ktrio.workqueue")
    log.addHandler(handler)
    yield handler
    log.removeHandler(handler)


def watchdog_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "ktrio loop watchdog"]


@kinds
@in_real_time
async def test_it_names_the_item_that_holds_the_loop_with_its_stack(kind: Kind, reports: Reports) -> None:
    """W173."""

    async def holds() -> None:
        await trio.lowlevel.checkpoint()
        reports.hold_until_named("Work holder running")

    async with open_with(kind[1])(loop_watchdog=THRESHOLD) as supervisor:
        wq = supervisor.alloc_workqueue("held", kind[0])
        wq.queue_work(Work(trio.sleep, 0.001, name="bystander"))
        wq.queue_work(Work(holds, name="holder"))
        await wq.flush()
        assert_queue_at_zero(wq)
    text = reports.of("holder")
    assert "the loop has been held for more than 0.01 s by <Work holder running> (kworker/" in text
    assert "in holds: reports.hold_until_named(" in text
    assert "in hold_until_named: assert self._came.wait_for(" in text
    assert "bystander" not in text


@kinds
@in_real_time
async def test_it_names_a_plain_function_and_a_first_step(kind: Kind, reports: Reports) -> None:
    """W173."""

    async def at_once() -> None:
        reports.hold_until_named("Work at once running")
        await trio.lowlevel.checkpoint()

    async with open_with(kind[1])(loop_watchdog=THRESHOLD) as supervisor:
        wq = supervisor.alloc_workqueue("held", kind[0])
        wq.queue_work(Work(reports.hold_until_named, "Work plain running", name="plain"))
        wq.queue_work(Work(at_once, name="at once"))
        await wq.flush()
    assert "in hold_until_named" in reports.of("plain")
    assert "in at_once" in reports.of("at once")


@in_real_time
async def test_it_names_the_item_of_a_child_task(reports: Reports) -> None:
    """W173."""

    async def holds() -> None:
        await trio.lowlevel.checkpoint()
        reports.hold_until_named("Work parent running")

    async def parent() -> None:
        async with trio.open_nursery() as outer, trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 0.001)
            outer.start_soon(holds, name="the child")

    async with open_supervisor(loop_watchdog=THRESHOLD) as supervisor:
        wq = alloc(supervisor)
        wq.queue_work(Work(parent, name="parent"))
        await wq.flush()
    text = reports.of("parent")
    assert "by <Work parent running> (kworker/u0:0), in its task the child:" in text
    assert "in holds" in text


@in_real_time
async def test_what_is_no_item_is_said_to_be_none(reports: Reports) -> None:
    async with open_supervisor(loop_watchdog=THRESHOLD) as supervisor:
        alloc(supervisor).queue_work(Work(trio.sleep, 0.001, name="innocent"))
        await trio.lowlevel.checkpoint()
        reports.hold_until_named("no item of this supervisor")
    assert "test_loop_watchdog.py" in reports.of("no item")
    assert not [text for text in reports.texts if "innocent" in text]


@in_real_time
async def test_items_inside_items_of_another_supervisor_are_named_by_their_own(reports: Reports) -> None:
    def holds() -> None:
        reports.hold_until_named("Work inner running")

    async def outer() -> None:
        async with open_supervisor(loop_watchdog=THRESHOLD) as inside:
            alloc(inside).queue_work(Work(holds, name="inner"))

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        wq.queue_work(Work(outer, name="outer"))
        await wq.flush()
    assert "by <Work inner running>" in reports.of("inner")


@in_real_time
async def test_it_says_when_the_loop_goes_on_and_reports_each_hold_once(reports: Reports) -> None:
    """W173."""
    async with open_supervisor(loop_watchdog=THRESHOLD) as supervisor:
        wq = alloc(supervisor)
        for number in range(3):
            name = f"number {number}"
            wq.queue_work(Work(reports.hold_until_named, f"Work {name} running", name=name))
            await wq.flush()
        await trio.to_thread.run_sync(reports.hold_until_named, "the loop goes on")
    for number in range(3):
        assert sum(f"Work number {number} running" in text for text in reports.texts) == 1


@in_real_time
async def test_the_thread_ends_with_the_supervisor_and_there_is_none_unless_asked_for() -> None:
    """W174."""
    assert not watchdog_threads()
    async with open_supervisor():
        assert not watchdog_threads()
    async with open_supervisor(loop_watchdog=1000):
        assert len(watchdog_threads()) == 1
    assert not watchdog_threads()


@in_real_time
async def test_the_thread_ends_with_a_supervisor_that_is_cancelled_or_fails() -> None:
    """W174."""
    with trio.CancelScope() as scope:
        async with open_supervisor(loop_watchdog=1000):
            scope.cancel()
            await trio.sleep_forever()
    assert not watchdog_threads()
    with pytest.raises(ExceptionGroup):
        async with open_supervisor(loop_watchdog=1000):
            raise ValueError
    assert not watchdog_threads()


@in_real_time
async def test_a_negative_threshold_is_refused() -> None:
    """W6."""
    with pytest.raises(ValueError, match="loop_watchdog must be seconds"):
        async with open_supervisor(loop_watchdog=-1):
            pass
