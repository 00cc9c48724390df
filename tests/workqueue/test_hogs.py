"""Long steps: counted by function, reported with the kernel's back-off, and on bound pools they end concurrency's hold.

Jumping the clock is burning CPU: the loop is held meanwhile.
"""

import logging
from functools import partial

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from ktrio.workqueue import HogStatistics, Supervisor, Work, Workqueue, open_supervisor
from ktrio.workqueue._policy import must_report_hog
from tests.workqueue.conftest import (
    KIND_NAMES,
    KINDS,
    Errors,
    Kind,
    Open,
    Trace,
    alloc,
    alloc_bound,
    assert_at_zero,
    bound_pool,
    open_with,
)

HERE = __name__


def test_reports_follow_the_kernels_back_off() -> None:
    """W61; invariant 36: 4, 5, 7, 11, 19, 35, 67 and so on."""
    assert [count for count in range(200) if must_report_hog(count)] == [4, 5, 7, 11, 19, 35, 67, 131]


class Burner:
    """Items that hold the loop for as long as they are told."""

    def __init__(self) -> None:
        self.stop = False

    @property
    def clock(self) -> MockClock:
        clock = trio.lowlevel.current_clock()
        assert isinstance(clock, MockClock)
        return clock

    async def steps(self, *seconds: float) -> None:
        """One step each, and a checkpoint after each but the last."""
        for number, each in enumerate(seconds):
            if number:
                await trio.lowlevel.checkpoint()
            self.clock.jump(each)

    async def then_spin(self, *seconds: float) -> None:
        """One step each, then yield until told to stop."""
        await self.steps(*seconds)
        while not self.stop:
            await trio.lowlevel.checkpoint()

    def plain(self, seconds: float) -> None:
        """As a plain function."""
        self.clock.jump(seconds)


def hogs(supervisor: Supervisor) -> dict[str, int]:
    return {hog.function: hog.count for hog in supervisor.statistics().hogs}


def name_of(method: str) -> str:
    return f"{HERE}.Burner.{method}"


@pytest.fixture
def burner() -> Burner:
    return Burner()


def alloc_kind(supervisor: Supervisor, kind: Kind) -> Workqueue:
    return supervisor.alloc_workqueue("any", kind[0])


@pytest.mark.parametrize("kind", KINDS, ids=KIND_NAMES)
async def test_a_long_step_is_counted_wherever_it_stands_in_the_run(burner: Burner, kind: Kind) -> None:
    """W61. First, middle, last or only; every one of them; bound and unbound."""
    async with open_with(kind[1])() as supervisor:
        wq = alloc_kind(supervisor, kind)
        for steps in ((0.02, 0.0, 0.0), (0.0, 0.03, 0.0), (0.0, 0.0, 0.04), (0.05,), (0.02, 0.02)):
            await wq.run(burner.steps, *steps)
        await wq.run(burner.plain, 0.011)
        await assert_at_zero(supervisor, wq)
        rows = supervisor.statistics().hogs
        assert [(hog.function, hog.count) for hog in rows] == [(name_of("steps"), 6), (name_of("plain"), 1)]
        assert rows[0].longest == pytest.approx(0.05)
        assert isinstance(rows[0], HogStatistics)


@pytest.mark.parametrize("kind", KINDS, ids=KIND_NAMES)
async def test_a_step_below_the_threshold_is_none(burner: Burner, kind: Kind) -> None:
    """W62; invariant 36: nor are many that are long only together."""
    async with open_with(kind[1])() as supervisor:
        wq = alloc_kind(supervisor, kind)
        await wq.run(burner.steps, *[0.009] * 5)
        await wq.run(burner.plain, 0.009)
        assert hogs(supervisor) == {}
        assert wq.statistics().cpu_intensive == 0


@pytest.mark.parametrize("kind", KINDS, ids=KIND_NAMES)
async def test_the_threshold_is_an_option(burner: Burner, kind: Kind) -> None:
    """W61."""
    async with open_with(kind[1])(cpu_intensive_threshold=0.1) as supervisor:
        wq = alloc_kind(supervisor, kind)
        await wq.run(burner.steps, 0.09, 0.11, 0.09)
        assert hogs(supervisor) == {name_of("steps"): 1}


@pytest.mark.parametrize("kind", KINDS, ids=KIND_NAMES)
async def test_threshold_zero_switches_it_off(burner: Burner, kind: Kind) -> None:
    """W61; invariant 36; the CPU time is counted all the same."""
    async with open_with(kind[1])(cpu_intensive_threshold=0) as supervisor:
        wq = alloc_kind(supervisor, kind)
        await wq.run(burner.steps, 5.0, 5.0)
        books = wq.statistics()
        assert (hogs(supervisor), books.cpu_intensive) == ({}, 0)
        assert books.cpu_time == pytest.approx(10.0)


@pytest.mark.parametrize("threshold", [-1, float("nan")])
async def test_an_unusable_threshold_is_refused(threshold: float) -> None:
    """W6."""
    with pytest.raises(ValueError, match="cpu_intensive_threshold"):
        async with open_supervisor(cpu_intensive_threshold=threshold):
            pass  # pragma: no cover


@pytest.mark.parametrize("steps", [(0.02,), (0.0, 0.02)])
async def test_a_long_step_lets_the_next_item_start_beside_it(
    open_bound: Open, burner: Burner, trace: Trace, steps: tuple[float, ...]
) -> None:
    """W64; invariant 36: marked at the end of the step, for the rest of the run; and that is no CMW."""
    async with open_bound() as supervisor:
        wq = alloc_bound(supervisor)
        wq.queue_work(Work(burner.then_spin, *steps))
        trace.queue(wq, "a b")
        for _ in range(20):
            await trio.lowlevel.checkpoint()
        assert trace.starts == ["a", "b"], "b because a fell asleep"
        books = wq.statistics()
        assert (books.cpu_intensive, books.cm_wakeups, bound_pool(supervisor).nr_running) == (1, 1, 0)
        burner.stop = True
        trace.open("a", "b")
        await wq.flush()
        await assert_at_zero(supervisor, wq)


async def test_a_marked_run_is_marked_once_and_for_that_run_only(
    open_bound: Open, burner: Burner, trace: Trace
) -> None:
    """W64; invariant 36: the next run counts in nr_running again."""
    async with open_bound() as supervisor:
        wq = alloc_bound(supervisor)
        work = Work(burner.steps, 0.02, 0.02, 0.0, 0.02)
        for runs in (1, 2):
            wq.queue_work(work)
            await wq.flush()
            assert wq.statistics().cpu_intensive == runs
        wq.queue_work(Work(burner.then_spin, 0.001))
        trace.queue(wq, "a")
        for _ in range(20):
            await trio.lowlevel.checkpoint()
        assert (trace.starts, bound_pool(supervisor).nr_running) == ([], 1)
        burner.stop = True
        await wait_all_tasks_blocked()
        assert trace.starts == ["a"]
        trace.open("a")


async def test_an_unbound_run_is_never_marked(burner: Burner) -> None:
    """W64; invariant 36: there is no nr_running to leave; its hogs are counted all the same."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        await wq.run(burner.steps, 0.02, 0.02)
        assert wq.statistics().cpu_intensive == 0
        assert hogs(supervisor) == {name_of("steps"): 2}


@pytest.mark.parametrize("end", ["interrupt", "error"])
async def test_a_marked_run_that_is_cut_short_leaves_no_trace(open_bound: Open, burner: Burner, end: str) -> None:
    """W64; invariants 26 and 59."""
    errors = Errors()

    async def body() -> None:
        burner.clock.jump(0.02)
        await trio.lowlevel.checkpoint()
        if end == "error":
            raise ValueError("of the item")
        await trio.sleep_forever()

    async with open_bound() as supervisor:
        wq = alloc_bound(supervisor, on_error=errors)
        for _ in range(3):
            work = Work(body)
            wq.queue_work(work)
            await wait_all_tasks_blocked()
            await work.cancel_sync(interrupt=True)
        await assert_at_zero(supervisor, wq)
        assert wq.statistics().cpu_intensive == 3
        assert len(errors.seen) == (3 if end == "error" else 0)


async def test_the_report_names_the_function_and_gives_advice(burner: Burner, caplog: pytest.LogCaptureFixture) -> None:
    """W61; invariant 36: at the 4th, 5th, 7th, 11th and 19th long step."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        reported: list[int] = []
        with caplog.at_level(logging.WARNING, "ktrio.workqueue"):
            for number in range(1, 21):
                await wq.run(partial(burner.plain, 0.02))
                reported += [number] * len(caplog.records)
                for record in caplog.records:
                    assert record.name == "ktrio.workqueue"
                    text = record.getMessage()
                    assert text.startswith(f"{name_of('plain')} kept the loop for more than 10 ms {number} times")
                    for advice in ("to_thread", "checkpoints", "WQ_CPU_INTENSIVE", "WQ_UNBOUND"):
                        assert advice in text
                caplog.clear()
        assert reported == [4, 5, 7, 11, 19]


async def test_hogs_are_told_apart_by_function(burner: Burner, autojump_clock: MockClock) -> None:
    """W63. Not by item, object, partial or closure: a table by those would grow with every queueing."""

    class Callable:
        def __call__(self) -> None:
            autojump_clock.jump(0.02)

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        for _ in range(3):
            await wq.run(Callable())
            await wq.run(partial(partial(Burner().plain), 0.02))
            await wq.run(lambda: autojump_clock.jump(0.02))
        assert sorted(hogs(supervisor).values()) == [3, 3, 3]
        assert name_of("plain") in hogs(supervisor)


async def test_the_table_of_hogs_is_bounded(autojump_clock: MockClock) -> None:
    """W63."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)

        async def one_of(name: str) -> None:
            def burn() -> None:
                autojump_clock.jump(0.02)

            burn.__qualname__ = name
            await wq.run(burn)

        for number in range(200):
            await one_of(f"f{number}")
        await one_of("f0")
        rows = hogs(supervisor)
        assert len(rows) == 129
        assert (rows["(others)"], rows[f"{HERE}.f0"], rows[f"{HERE}.f127"]) == (72, 2, 1)
        assert supervisor.statistics().hogs[0].function == "(others)"


@pytest.mark.parametrize("kind", KINDS, ids=KIND_NAMES)
async def test_cpu_time_is_the_sum_of_the_steps(burner: Burner, kind: Kind) -> None:
    """W69; invariant 62: what the items hold the loop for, not what they sleep, nor what error policies take."""

    async def sleepy() -> None:
        burner.clock.jump(0.002)
        await trio.sleep(10)
        burner.clock.jump(0.003)

    def broken() -> None:
        burner.clock.jump(0.004)
        raise ValueError("of the item")

    async with open_with(kind[1])(cpus=2) as supervisor:
        wq = supervisor.alloc_workqueue("a", kind[0], on_error=lambda _work, _error: burner.clock.jump(1.0))
        other = supervisor.alloc_workqueue("b", kind[0])
        for cpu in (0, 1):
            wq.queue_work_on(cpu, Work(sleepy))
            wq.queue_work_on(cpu, Work(burner.plain, 0.001))
            wq.queue_work_on(cpu, Work(broken))
            wq.queue_work_on(cpu, Work(burner.plain, 0.001))
        await wq.flush()
        await other.run(burner.steps, 0.001, 0.002)
        books = wq.statistics()
        assert books.cpu_time == pytest.approx(2 * 0.011)
        assert [pwq.cpu_time for pwq in books.pwqs] == [pytest.approx(0.011)] * 2
        assert other.statistics().cpu_time == pytest.approx(0.003)
        assert hogs(supervisor) == {}


@pytest.mark.parametrize("kind", KINDS, ids=KIND_NAMES)
async def test_the_time_of_an_error_policy_is_no_items(burner: Burner, kind: Kind) -> None:
    """W62. The next item of that worker follows in the same turn."""

    def broken() -> None:
        raise ValueError("of the item")

    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("a", kind[0], on_error=lambda _work, _error: burner.clock.jump(1.0))
        for fn in (broken, broken):
            wq.queue_work(Work(fn))
        wq.queue_work(Work(burner.plain, 0.0001))
        await wq.flush()
        assert wq.statistics().cpu_time == pytest.approx(0.0001)
        assert hogs(supervisor) == {}


def test_under_the_system_clock_steps_are_timed_too() -> None:
    """W69. By `time.perf_counter`: a busy wait of a real millisecond is one."""

    async def main() -> float:
        async with open_supervisor() as supervisor:
            wq = alloc(supervisor)

            def burn() -> None:
                until = trio.current_time() + 0.001
                while trio.current_time() < until:
                    pass

            await wq.run(burn)
            return wq.statistics().cpu_time

    assert 0.001 <= trio.run(main) < 10


class Machine:
    """A machine on which the process is not alone: time passes, and some of it is ours."""

    def __init__(self) -> None:
        self.wall = self.ours = 0.0

    def work(self, seconds: float) -> None:
        self.wall += seconds
        self.ours += seconds

    def wait_for_others(self, seconds: float) -> None:
        self.wall += seconds


@pytest.mark.parametrize("kind", KINDS, ids=KIND_NAMES)
async def test_a_step_that_waited_for_the_machine_is_no_hogs(
    kind: Kind, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Others had the processor for most of it: advice to its author would be wrong (the kernel counts runtime too).

    W62.
    """
    machine = Machine()
    monkeypatch.setattr("ktrio.workqueue._hogs.step_clocks", lambda: (lambda: machine.wall, lambda: machine.ours))

    def preempted() -> None:
        machine.work(0.004)
        machine.wait_for_others(0.5)

    def hog() -> None:
        machine.wait_for_others(0.5)
        machine.work(0.011)

    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("a", kind[0])
        for fn in [preempted] * 8 + [hog] * 3:
            wq.queue_work(Work(fn))
            await wq.flush()
            machine.wait_for_others(0.1)
        (found,) = supervisor.statistics().hogs
        assert found.function.endswith("hog")
        assert (found.count, found.longest) == (3, pytest.approx(0.011, abs=0.002))
    assert caplog.text == ""
