"""The trace points: who is told what and when; and that telling harms nobody."""

import logging
from collections.abc import Callable

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from ktrio.workqueue import Supervisor, Work, WorkEvent, Workqueue, WorkqueueInstrument, open_supervisor, parked
from tests.workqueue.conftest import KIND_NAMES, KINDS, Kind, Trace, alloc, assert_at_zero, open_with


class Recorder(WorkqueueInstrument):
    """Writes everything down."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, WorkEvent]] = []

    def queue_work(self, event: WorkEvent, /) -> None:
        self.seen.append(("queue", event))

    def activate_work(self, event: WorkEvent, /) -> None:
        self.seen.append(("activate", event))

    def execute_start(self, event: WorkEvent, /) -> None:
        self.seen.append(("start", event))

    def execute_end(self, event: WorkEvent, /) -> None:
        self.seen.append(("end", event))

    def of(self, name: str) -> list[str]:
        """The points told of one item, in order."""
        return [point for point, event in self.seen if event.work.name == name]

    @property
    def order(self) -> list[str]:
        return [f"{event.work.name} {point}" for point, event in self.seen]


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.mark.parametrize("kind", KINDS, ids=KIND_NAMES)
async def test_each_run_has_its_four_events_in_order(kind: Kind, recorder: Recorder, trace: Trace) -> None:
    """W10, W164; invariant 8: Q <= A <= S <= E, each once for a run; a queueing that returns False has none."""
    flags, sensor = kind
    async with open_with(sensor)() as supervisor:
        supervisor.add_instrument(recorder)
        wq = supervisor.alloc_workqueue("traced", flags, max_active=1)
        works = trace.queue(wq, "a b")
        assert recorder.order == ["a queue", "a activate", "b queue"]
        assert not wq.queue_work(works["b"])
        await wait_all_tasks_blocked()
        trace.open("a", "b")
        await wq.flush()
        assert recorder.order == [
            "a queue",
            "a activate",
            "b queue",
            "a start",
            "a end",
            "b activate",
            "b start",
            "b end",
        ]
        await assert_at_zero(supervisor, wq)


async def test_an_event_names_item_queue_cpu_worker_and_time(recorder: Recorder) -> None:
    """W164."""
    async with open_supervisor(2) as supervisor:
        supervisor.add_instrument(recorder)
        wq = alloc(supervisor, "traced")
        work = Work(trio.sleep, 5, name="sleeper")
        began = trio.current_time()
        assert wq.queue_work_on(1, work)
        await wq.flush()
    assert [event.work for _, event in recorder.seen] == [work] * 4
    assert {event.workqueue for _, event in recorder.seen} == {"traced"}
    assert {event.cpu for _, event in recorder.seen} == {1}
    assert {event.pool for _, event in recorder.seen} == {"ktrio pool u1"}
    assert [event.worker for _, event in recorder.seen] == [None, None, "kworker/u1:0", "kworker/u1:0"]
    assert [event.time for _, event in recorder.seen] == [began, began, began, began + 5]
    assert [(event.nr_active, event.inactive, event.worklist) for _, event in recorder.seen] == [
        (0, 0, 0),
        (1, 0, 1),
        (1, 0, 0),
        (1, 0, 0),
    ]


async def test_an_item_that_raises_has_an_end_too(recorder: Recorder) -> None:
    """W164."""
    async with open_supervisor() as supervisor:
        supervisor.add_instrument(recorder)
        wq = supervisor.alloc_workqueue("traced", on_error=lambda _work, _error: None)
        wq.queue_work(Work(int, "x", name="bad"))
        await wq.flush()
    assert recorder.of("bad") == ["queue", "activate", "start", "end"]


async def test_an_item_cancelled_while_pending_has_no_start(recorder: Recorder, trace: Trace) -> None:
    """W164."""
    async with open_supervisor() as supervisor:
        supervisor.add_instrument(recorder)
        wq = alloc(supervisor, max_active=1)
        works = trace.queue(wq, "active inactive promoted")
        works["inactive"].cancel()
        works["active"].cancel()
        trace.open("promoted")
    assert recorder.of("active") == ["queue", "activate"]
    assert recorder.of("inactive") == ["queue"]
    assert recorder.of("promoted") == ["queue", "activate", "start", "end"]


async def test_an_item_queued_while_it_runs_is_activated_after_that_run(recorder: Recorder) -> None:
    """W164."""
    async with open_supervisor() as supervisor:
        supervisor.add_instrument(recorder)
        wq = alloc(supervisor, max_active=1)

        def again() -> None:
            if work.statistics().runs == 1:
                assert wq.queue_work(work)

        work = Work(again, name="again")
        wq.queue_work(work)
        await wq.flush()
        await work.flush()
    assert recorder.of("again") == ["queue", "activate", "start", "queue", "end", "activate", "start", "end"]


async def test_an_item_that_starts_parked_is_activated_by_its_first_return_only(recorder: Recorder) -> None:
    """W165; P8: only here the start may come first."""
    async with open_supervisor() as supervisor:
        supervisor.add_instrument(recorder)
        wq = alloc(supervisor, max_active=1)

        async def comes_back_twice() -> None:
            for _ in range(2):
                async with parked():
                    await trio.sleep(1)

        async def never_comes_back() -> None:
            await trio.sleep(1)

        wq.queue_work(Work(comes_back_twice, name="twice"), parked=True)
        wq.queue_work(Work(never_comes_back, name="never"), parked=True)
        await wq.flush()
        wq.queue_work(Work(comes_back_twice, name="twice"))
        await wq.flush()
        await assert_at_zero(supervisor, wq)
    assert recorder.of("twice") == ["queue", "start", "activate", "end", "queue", "activate", "start", "end"]
    assert recorder.of("never") == ["queue", "start", "end"]


async def test_only_methods_that_are_overridden_are_called() -> None:
    """W166."""

    class StartsOnly(WorkqueueInstrument):
        def __init__(self) -> None:
            self.starts = 0

        def execute_start(self, event: WorkEvent, /) -> None:
            self.starts += 1

    async with open_supervisor() as supervisor:
        instrument = StartsOnly()
        supervisor.add_instrument(instrument)
        points = supervisor.instruments
        assert points.execute_start == (instrument,)
        assert (points.queue_work, points.activate_work, points.execute_end) == ((), (), ())
        wq = alloc(supervisor)
        await wq.run(int)
        supervisor.remove_instrument(instrument)
        assert points.execute_start is None
        await wq.run(int)
    assert instrument.starts == 1


async def test_an_instrument_is_added_once_and_removed_once(recorder: Recorder) -> None:
    async with open_supervisor() as supervisor:
        supervisor.add_instrument(recorder)
        supervisor.add_instrument(recorder)
        wq = alloc(supervisor)
        await wq.run(int)
        assert len(recorder.seen) == 4
        supervisor.remove_instrument(recorder)
        with pytest.raises(KeyError):
            supervisor.remove_instrument(recorder)
        await wq.run(int)
    assert len(recorder.seen) == 4


async def test_what_is_no_instrument_is_refused() -> None:
    async with open_supervisor() as supervisor:
        with pytest.raises(TypeError, match="WorkqueueInstrument, not 7"):
            supervisor.add_instrument(7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


POINTS = ("queue_work", "activate_work", "execute_start", "execute_end")


def raising_in(point: str, error: BaseException) -> WorkqueueInstrument:
    def method(self: object, event: WorkEvent) -> None:
        raise error

    made: WorkqueueInstrument = type("Raises", (WorkqueueInstrument,), {point: method})()
    return made


@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt()], ids=["error", "interrupt"])
@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("kind", KINDS, ids=KIND_NAMES)
async def test_an_instrument_that_raises_is_removed_and_logged_and_harms_nobody(
    kind: Kind,
    point: str,
    error: BaseException,
    recorder: Recorder,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """W168."""
    flags, sensor = kind
    async with open_with(sensor)() as supervisor:
        broken = raising_in(point, error)
        supervisor.add_instrument(broken)
        supervisor.add_instrument(recorder)
        wq = supervisor.alloc_workqueue("traced", flags)
        with caplog.at_level(logging.ERROR, "ktrio.workqueue"):
            assert await wq.run(int, "42") == 42
            assert await wq.run(int, "43") == 43
        await assert_at_zero(supervisor, wq)
        assert len(recorder.seen) == 8
        with pytest.raises(KeyError):
            supervisor.remove_instrument(broken)
    (record,) = caplog.records
    assert f"raised in {point}, and was removed" in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[1] is error


async def test_an_instrument_may_remove_itself(recorder: Recorder) -> None:
    class Once(Recorder):
        def execute_start(self, event: WorkEvent, /) -> None:
            supervisor.remove_instrument(self)

    async with open_supervisor() as supervisor:
        once = Once()
        supervisor.add_instrument(once)
        supervisor.add_instrument(recorder)
        await alloc(supervisor).run(int)
    assert [point for point, _ in once.seen] == ["queue", "activate"]
    assert [point for point, _ in recorder.seen] == ["queue", "activate", "start", "end"]


Misuse = Callable[[Supervisor, Workqueue, Work], object]
MISUSES: dict[str, Misuse] = {
    "queue_work": lambda _supervisor, wq, _work: wq.queue_work(Work(int)),
    "the same item": lambda _supervisor, wq, work: wq.queue_work(work),
    "set_max_active": lambda _supervisor, wq, _work: wq.set_max_active(3),
}


@pytest.mark.parametrize("misuse", MISUSES)
@pytest.mark.parametrize("point", POINTS)
async def test_an_instrument_that_changes_a_queue_is_misuse(
    misuse: str, point: str, caplog: pytest.LogCaptureFixture
) -> None:
    """W167. It may only look: the call raises RuntimeError before it has changed anything."""

    def method(self: object, event: WorkEvent) -> None:
        MISUSES[misuse](supervisor, wq, event.work)

    async with open_supervisor() as supervisor:
        supervisor.add_instrument(type("Meddler", (WorkqueueInstrument,), {point: method})())
        wq = alloc(supervisor, max_active=2)
        work = Work(int)
        assert wq.queue_work(work)
        await wq.flush()
        assert wq.max_active == 2
        assert (work.statistics().runs, wq.statistics().started) == (1, 1)
        await assert_at_zero(supervisor, wq)
    if not (misuse == "the same item" and point == "activate_work"):  # then it is pending: False, as always
        assert "it may only look" in caplog.text


@pytest.mark.parametrize("point", ["queue_work", "activate_work", "execute_start", "execute_end"])
async def test_an_instrument_may_look_at_everything(point: str, caplog: pytest.LogCaptureFixture) -> None:
    """W163."""
    looks: list[str] = []

    def method(self: object, event: WorkEvent) -> None:
        looks.append(f"{event.work!r} {wq!r} {supervisor!r} {supervisor.statistics()} {event.work.statistics()}")

    async with open_supervisor() as supervisor:
        supervisor.add_instrument(type("Looker", (WorkqueueInstrument,), {point: method})())
        wq = alloc(supervisor)
        await wq.run(int)
    assert len(looks) == 1
    assert not caplog.records


async def test_cancel_and_interrupt_from_within_an_instrument_are_misuse(
    trace: Trace, caplog: pytest.LogCaptureFixture
) -> None:
    """W167."""

    class Meddler(WorkqueueInstrument):
        def queue_work(self, event: WorkEvent, /) -> None:
            works["a"].interrupt()

        def execute_start(self, event: WorkEvent, /) -> None:
            works["b"].cancel()

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=1)
        works = trace.queue(wq, "a b")
        await wait_all_tasks_blocked()
        supervisor.add_instrument(Meddler())
        trace.queue(wq, "c")
        supervisor.add_instrument(Meddler())
        trace.open("a", "c")
        trace.open("b")
        await wq.flush()
    assert trace.ends == ["a", "b", "c"]
    assert not trace.discarded
    assert "called interrupt()" in caplog.text
    assert "called cancel()" not in caplog.text  # b was taken from the line before its start was told


async def test_a_slow_instrument_makes_no_hog_of_an_item() -> None:
    """W62, W166."""

    class Slow(WorkqueueInstrument):
        def execute_start(self, event: WorkEvent, /) -> None:
            clock.jump(1)

        def execute_end(self, event: WorkEvent, /) -> None:
            clock.jump(1)

    async with open_supervisor() as supervisor:
        clock = trio.lowlevel.current_clock()
        assert isinstance(clock, trio.testing.MockClock)
        supervisor.add_instrument(Slow())
        wq = alloc(supervisor)
        for _ in range(3):
            wq.queue_work(Work(int))
        await wq.flush()
        assert supervisor.statistics().hogs == ()
        assert wq.statistics().cpu_time == 0
