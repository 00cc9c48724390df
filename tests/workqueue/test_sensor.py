"""Who is asleep? The trampoline and the instrument, each by itself and each against the other."""

import random
from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from ktrio.workqueue import Work, _sensor, open_supervisor, parked
from ktrio.workqueue._sensor import YIELD, InstrumentSensor, trampoline_works
from tests.workqueue.conftest import (
    SENSORS,
    Open,
    Trace,
    alloc,
    alloc_bound,
    assert_at_zero,
    bound_pool,
    open_with,
)


def message_of(wait: Callable[..., Awaitable[object]], *args: object) -> object:
    """What a task says to Trio first when it waits like that; driven by hand, as the trampoline does."""
    steps = wait(*args).__await__()
    try:
        return next(steps)
    finally:
        steps.close()


async def test_a_yield_is_told_from_a_block() -> None:
    """W50; invariant 25's two kinds, by their messages."""
    event = trio.Event()
    event.set()
    for yields in (trio.lowlevel.checkpoint, trio.lowlevel.cancel_shielded_checkpoint, event.wait, trio.Lock().acquire):
        assert message_of(yields) is YIELD
    assert message_of(trio.sleep, 0) is YIELD
    for blocks in (trio.sleep_forever, trio.Event().wait):
        assert message_of(blocks) is not YIELD
    assert message_of(trio.sleep, 1) is not YIELD


def test_the_trampoline_works_with_this_trio() -> None:
    """W55. If it fails: Trio says something new, and bound pools use the instrument until somebody has looked at it."""
    assert trampoline_works()


async def test_the_trampoline_can_be_tried_inside_a_run() -> None:
    """That is where supervisors are opened; nothing is left waiting, nothing warned about."""
    assert trampoline_works()
    await wait_all_tasks_blocked()
    assert trampoline_works()


BREAKAGES = ["not one constant", "a block says the same"]


@pytest.fixture(params=BREAKAGES)
def broken(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trio's messages tell nothing, in one of two ways."""
    if request.param == "not one constant":
        monkeypatch.setattr(_sensor, "_message_of_a_yield", object)
    else:
        monkeypatch.setattr(_sensor, "_message_of_a_block", lambda: YIELD)


class Instruments:
    """What was added to the run as an instrument, and not removed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.there: list[trio.abc.Instrument] = []
        add, remove = trio.lowlevel.add_instrument, trio.lowlevel.remove_instrument

        def add_too(instrument: trio.abc.Instrument) -> None:
            add(instrument)
            self.there.append(instrument)

        def remove_too(instrument: trio.abc.Instrument) -> None:
            remove(instrument)
            self.there.remove(instrument)

        monkeypatch.setattr(trio.lowlevel, "add_instrument", add_too)
        monkeypatch.setattr(trio.lowlevel, "remove_instrument", remove_too)


@pytest.fixture
def instruments(monkeypatch: pytest.MonkeyPatch) -> Instruments:
    """A record of this run's instruments."""
    return Instruments(monkeypatch)


@pytest.mark.usefixtures("broken")
async def test_with_a_broken_trampoline_a_supervisor_uses_the_instrument(
    instruments: Instruments, trace: Trace
) -> None:
    """W55. From its first bound queue to its end, once; concurrency is managed as ever."""
    assert not trampoline_works()
    async with open_supervisor(2) as supervisor:
        assert supervisor.uses_instrument
        unbound = alloc(supervisor)
        trace.queue(unbound, "x")
        await wait_all_tasks_blocked()
        assert instruments.there == [], "unbound pools need no sensor"
        wq = alloc_bound(supervisor)
        alloc_bound(supervisor, "second")
        assert [type(instrument) for instrument in instruments.there] == [InstrumentSensor]

        async def body() -> None:
            for _ in range(10):
                await trio.lowlevel.checkpoint()
                assert bound_pool(supervisor).nr_running == 1
            assert trace.starts == ["x"]

        wq.queue_work_on(0, Work(body))
        trace.queue(wq, "a b", cpu=0)
        await wait_all_tasks_blocked()
        assert trace.starts == ["x", "a", "b"]
        assert wq.statistics().cm_wakeups == 1
        assert bound_pool(supervisor).created == 3
        trace.open("a", "b", "x")
    assert instruments.there == []


@pytest.mark.usefixtures("broken")
@pytest.mark.parametrize("when", range(4))
async def test_the_instrument_goes_when_its_supervisor_is_cancelled(
    instruments: Instruments, trace: Trace, when: int
) -> None:
    """W55."""
    with trio.CancelScope() as scope:
        async with open_supervisor() as supervisor:
            trace.queue(alloc_bound(supervisor), "a b")
            assert len(instruments.there) == 1
            for _ in range(when):
                await trio.lowlevel.checkpoint()
            scope.cancel()
    assert instruments.there == []


@pytest.mark.usefixtures("broken")
async def test_a_supervisor_without_bound_queues_adds_no_instrument(instruments: Instruments, trace: Trace) -> None:
    """W55."""
    async with open_supervisor() as supervisor:
        trace.queue(alloc(supervisor), "a")
        trace.open("a")
    assert instruments.there == []


async def test_the_trampoline_adds_no_instrument(instruments: Instruments, trace: Trace) -> None:
    """W55. Tasks that are no workers pay nothing."""
    async with open_supervisor() as supervisor:
        assert not supervisor.uses_instrument
        trace.queue(alloc_bound(supervisor), "a b")
        trace.open("a", "b")
    assert instruments.there == []


@pytest.mark.usefixtures("broken")
async def test_instruments_of_two_supervisors_come_and_go_by_themselves(instruments: Instruments, trace: Trace) -> None:
    """W2."""
    async with open_supervisor() as one:
        first = alloc_bound(one)
        async with open_supervisor() as two:
            trace.queue(alloc_bound(two), "x")
            trace.open("x")
            assert len(instruments.there) == 2
        assert len(instruments.there) == 1
        trace.queue(first, "a b")
        await wait_all_tasks_blocked()
        assert trace.starts == ["x", "a", "b"]
        trace.open("a", "b")
        await first.flush()
        await assert_at_zero(one, first)
    assert instruments.there == []


class Observer(trio.abc.Instrument):
    """A third opinion: which tasks that are inside an item sleep; compared with `nr_running` at every turn."""

    def __init__(self, nr_running: Callable[[], int]) -> None:
        self.nr_running = nr_running
        self.inside: set[trio.lowlevel.Task] = set()
        self.asleep: set[trio.lowlevel.Task] = set()
        self.scheduled: set[trio.lowlevel.Task] = set()
        self.compared: list[tuple[int, int]] = []

    def task_scheduled(self, task: trio.lowlevel.Task) -> None:
        self.scheduled.add(task)

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.scheduled.discard(task)
        self.asleep.discard(task)

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if task in self.inside and task not in self.scheduled:
            self.asleep.add(task)

    def before_io_wait(self, timeout: float) -> None:
        self.compared.append((self.nr_running(), len(self.inside - self.asleep)))


@pytest.mark.parametrize("sensor", SENSORS)
@pytest.mark.parametrize("seed", range(10))
async def test_nr_running_is_what_an_observer_counts_at_every_turn(sensor: str, seed: int) -> None:
    """W53; invariant 26: over items that yield, sleep, wait for one another, for children, for locks, and park."""
    rng = random.Random(seed)
    lock = trio.Lock()

    async def step() -> None:
        match rng.randrange(7):
            case 0 | 1:
                await trio.lowlevel.checkpoint()
            case 2:
                await trio.sleep(rng.choice([0, 1, 1]))
            case 3:
                async with lock:
                    await trio.sleep(1)
            case 4:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(trio.sleep, rng.choice([0, 1]))
            case 5:
                async with parked():
                    await trio.sleep(rng.choice([0, 1]))
            case 6:
                with trio.move_on_after(1):
                    await trio.sleep_forever()

    async def body() -> None:
        task = trio.lowlevel.current_task()
        observer.inside.add(task)
        for _ in range(rng.randrange(8)):
            await step()
        observer.inside.remove(task)

    open_it: Open = open_with(sensor)
    async with open_it(capacity=10) as supervisor:
        wq = alloc_bound(supervisor, max_active=5)
        observer = Observer(lambda: bound_pool(supervisor).nr_running)
        trio.lowlevel.add_instrument(observer)
        for _ in range(50):
            wq.queue_work(Work(body))
            if rng.random() < 0.5:
                await trio.sleep(rng.choice([0, 0.5, 1]))
        await wq.flush()
        trio.lowlevel.remove_instrument(observer)
        await assert_at_zero(supervisor, wq)
    assert all(ours == theirs for ours, theirs in observer.compared), observer.compared
    assert {ours for ours, _ in observer.compared} >= {0, 1}


async def test_the_frames_of_an_item_are_seen_through_the_trampoline(open_bound: Open) -> None:
    """`iter_await_frames` shows the whole stack of a worker, whoever watches it."""
    names: list[str] = []

    async def inner() -> None:
        tasks.append(trio.lowlevel.current_task())
        await trio.sleep(1)

    async def outer() -> None:
        await inner()

    tasks: list[trio.lowlevel.Task] = []
    async with open_bound() as supervisor:
        alloc_bound(supervisor).queue_work(Work(outer))
        await trio.sleep(0.5)
        names = [frame.f_code.co_name for frame, _ in tasks[0].iter_await_frames()]
    assert names.index("run") < names.index("outer") < names.index("inner") < names.index("sleep")
