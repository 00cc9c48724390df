"""The queue against a sequential model: every return value, every start and end with its time, every count.

Hypothesis writes a program of bursts: several operations in one synchronous stretch, then rest, then some time passes.
Items follow scripts of yields, blocks, sleeps, burns, parked waits and requeues of themselves. Both the driver and the
items tell the model what they do at the moment they do it, so Trio may shuffle as it likes: the model follows, knows
when each step was due, and says what is wrong (invariant 63).
"""

import ast
from collections import Counter
from contextlib import AbstractAsyncContextManager
from functools import partial
from math import inf
from pathlib import Path
from typing import TypedDict

import pytest
import trio
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from ktrio.workqueue import WQ_FREEZABLE, WQ_UNBOUND, Supervisor, Work, Workqueue, open_supervisor, parked
from tests.workqueue import model as model_module
from tests.workqueue.conftest import assert_at_zero, open_with, run_bounded
from tests.workqueue.model import ITEMS, Model

pytestmark = pytest.mark.exhaustive

KINDS = ("unbound", "bound", "bound-instrument", "ordered")


def milliseconds() -> int:
    return round(trio.current_time() * 1000)


class Driver:
    """Does the same to the queue and to the model, and compares."""

    def __init__(
        self, model: Model, supervisor: Supervisor, wq: Workqueue, scripts: list[list[str]], nursery: trio.Nursery
    ) -> None:
        self.model, self.supervisor, self.wq, self.scripts, self.nursery = model, supervisor, wq, scripts, nursery
        self.works = [Work(self.body, index, on_discard=self.discard, name=f"item{index}") for index in range(ITEMS)]
        self.gates: dict[int, trio.Event] = {}
        self.requeues_left = [3] * ITEMS
        self.discards = self.thaws = self.freezing = 0
        self.depths = [0] * ITEMS  # how many `enable` are owed to each item
        # For each waiter at work: what must be over before it may return, and what else before it must.
        self.waiters: dict[object, tuple[set[int], set[int]]] = {}
        self.did = Counter[str]()
        self.is_first = False  # is this the first operation of a burst?

    def discard(self, *_: object) -> None:
        self.discards += 1

    async def wait(self, index: int, seconds: float) -> None:
        """For so long, or at a gate until the driver opens it."""
        self.model.sleep(index, milliseconds() + 1000 * seconds)
        try:
            if seconds == inf:
                self.gates[index] = trio.Event()
                await self.gates[index].wait()
            else:
                await trio.sleep(seconds)
        finally:
            self.gates.pop(index, None)
            self.model.wake(index)

    async def body(self, index: int) -> None:
        self.model.start(index)
        try:
            for step in self.scripts[index]:
                name, _, number = step.partition(" ")
                await getattr(self, f"step_{name}")(index, float(number or "inf") / 1000)
                self.did[f"{name} (timed)" if number else name] += 1
        finally:
            self.model.end(index)

    async def step_yield(self, index: int, _: float) -> None:
        await trio.lowlevel.checkpoint()

    async def step_wait(self, index: int, seconds: float) -> None:
        await self.wait(index, seconds)

    async def step_burn(self, index: int, seconds: float) -> None:
        """Hold the loop."""
        clock = trio.lowlevel.current_clock()
        assert isinstance(clock, MockClock)
        began = milliseconds()
        clock.jump(seconds)
        self.model.burns.append((began, milliseconds()))

    async def step_park(self, index: int, seconds: float) -> None:
        self.model.park(index)
        try:
            async with parked():
                await self.wait(index, seconds)
                self.model.want_back(index)
                self.did["wait to come back"] += self.model.items[index].wants == "slot"
            self.model.back(index)
        except trio.Cancelled:
            self.model.back(index, by_exception=True)
            self.did["come back with an exception"] += 1
            raise

    async def step_requeue(self, index: int, _: float) -> None:
        if self.requeues_left[index]:
            self.requeues_left[index] -= 1
            self.queue(index, self.model.items[index].cpu)

    def do(self, operation: tuple[str, int, int]) -> None:
        """One operation, at once, on both."""
        name, index, number = operation
        item, work = self.model.items[index], self.works[index]
        if name == "queue":
            self.queue(index, number % self.supervisor.cpus)
        elif name == "queue parked":
            self.queue_parked(index)
        elif name == "cancel":
            self.saw(name, work.cancel(), self.model.cancel(index))
        elif name == "release" and index in self.gates:
            item.due = milliseconds()
            self.gates.pop(index).set()
            self.did[name] += 1
        elif name == "interrupt" and not item.wants and not (item.parked and item.due <= milliseconds()):
            # When a run that is in line for its return leaves that line is nobody's promise.
            item.interrupted, item.due = item.running is not None, min(item.due, milliseconds())
            self.saw(name, work.interrupt(), item.interrupted)
        elif name == "disable":
            self.depths[index] += 1
            item.disabled += 1
            self.saw(name, work.disable(), self.model.cancel(index))
        elif name == "enable" and self.depths[index]:
            self.depths[index] -= 1
            item.disabled -= 1
            self.saw(name, work.enable(), not item.disabled)
        elif name == "capacity":
            self.set_capacity(1 + number)
        elif name == "max_active":
            self.set_max_active(1 + number)
        elif name == "freeze":
            self.nursery.start_soon(self.freeze)
        elif name == "thaw":
            self.did[name] += self.model.is_frozen
            self.thaws += self.model.is_frozen
            self.model.is_frozen = False
            self.model.settle()
            self.supervisor.thaw()
        elif name in ("flush", "flush queue", "cancel_sync"):
            self.nursery.start_soon(getattr(self, name.replace(" ", "_")), index)

    def saw(self, name: str, answer: bool, expected: bool) -> None:
        """The queue's answer is the model's; count each of the two."""
        assert answer is expected, name
        self.did[f"{name}: {answer}"] += 1

    def queue(self, index: int, cpu: int) -> None:
        expected = self.model.queue(index, cpu)
        item = self.model.items[index]
        self.saw(
            "requeue" if item.running is not None else "queue", self.wq.queue_work_on(cpu, self.works[index]), expected
        )

    def queue_parked(self, index: int) -> None:
        """P8; the model knows where it goes if there is one CPU only."""
        item = self.model.items[index]
        if self.model.is_ordered and item.pending is None and not item.disabled:
            with pytest.raises(ValueError):
                self.wq.queue_work(self.works[index], parked=True)
        elif item.running is None and len(self.model.cpus) == 1:
            expected = self.model.queue(index, 0, start_parked=True)
            self.saw("queue parked", self.wq.queue_work(self.works[index], parked=True), expected)

    def set_capacity(self, number: int) -> None:
        # Who was let back by what came before in this burst has his place already: lowering it there is too late.
        if self.model.capacity > ITEMS or (number < self.model.capacity and not self.is_first):
            return
        self.did["raise capacity" if self.model.capacity < number else "lower capacity"] += 1
        self.model.capacity = number
        self.model.settle()
        self.supervisor.set_capacity(number)

    def set_max_active(self, number: int) -> None:
        if self.model.is_ordered:
            with pytest.raises(ValueError):
                self.wq.set_max_active(number)
            return
        self.did["raise max_active" if self.model.max_active < number else "lower max_active"] += 1
        self.model.max_active = number
        self.model.settle()
        self.wq.set_max_active(number)

    async def flush(self, index: int) -> None:
        """Invariants 39-41, 44, 50: the last queueing at entry; its run's predecessor too, unless cancelled."""
        item = self.model.items[index]
        last = {item.pending if item.pending is not None else item.running} - {None}
        self.waiters[key := object()] = (last, {item.running} - {None})
        self.saw("flush", await self.works[index].flush(), bool(last))
        del self.waiters[key]
        assert last <= self.model.over

    async def flush_queue(self, index: int) -> None:
        """Invariant 42."""
        accepted = {item.pending for item in self.model.items} | {item.running for item in self.model.items}
        self.waiters[key := object()] = (accepted - {None}, set())
        await self.wq.flush()
        self.did["flush queue"] += len(accepted) > 1
        del self.waiters[key]
        assert accepted - {None} <= self.model.over

    async def cancel_sync(self, index: int) -> None:
        """Invariant 47."""
        item = self.model.items[index]
        expected = self.model.cancel(index)
        item.disabled += 1
        running = {item.running} - {None}
        self.waiters[key := object()] = (running, set())
        self.saw("cancel_sync", await self.works[index].cancel_sync(), expected)
        self.did["cancel_sync waits"] += bool(running)
        item.disabled -= 1
        del self.waiters[key]
        assert running <= self.model.over

    async def freeze(self) -> None:
        """Invariant 55: True, and then nothing has a slot and nobody is about to start parked; or somebody thawed."""
        thaws = self.thaws
        self.freezing += 1
        self.model.is_frozen = True
        is_frozen = await self.supervisor.freeze()
        assert is_frozen or self.thaws > thaws
        self.did[f"freeze: {is_frozen}"] += 1
        self.freezing -= 1
        assert self.thaws > thaws or not self.model.is_busy

    def compare(self) -> None:
        """Every count there is (invariants 10, 12, 21, 62)."""
        books, model = self.wq.statistics(), self.model
        for name in ("started", "completed", "cancelled"):
            assert getattr(books, name) == model.counts[name], name
        assert self.discards == model.counts["cancelled"]
        assert books.running == sum(item.running is not None for item in model.items)
        assert books.pending == sum(item.pending is not None for item in model.items)
        assert [pwq.nr_active for pwq in books.pwqs] == [here.nr_active for here in model.cpus]
        assert books.in_flight == books.pending + books.running
        if not any(item.wants for item in model.items):
            assert books.parked == sum(item.parked for item in model.items)
            if not any(item.pending is not None and item.running is not None for item in model.items):
                assert [pwq.inactive for pwq in books.pwqs] == [len(here.line) for here in model.cpus]
        if model.capacity > ITEMS:
            assert books.overshoot == model.counts["overshoot"]
        for item, work in zip(model.items, self.works, strict=True):
            assert (work.is_pending, work.is_running) == (item.pending is not None, item.running is not None)
        for pool in self.supervisor.statistics().pools:
            assert pool.nr_running == (model.awake(pool.cpu) if pool.bound else 0)

    async def rest(self) -> None:
        """Let everything run until it waits; then nothing may be left undone."""
        await wait_all_tasks_blocked()
        self.model.check_rest()
        self.compare()
        assert not self.freezing or self.model.is_busy, "a freeze has nothing to wait for"
        for needed, rest in self.waiters.values():
            assert not needed <= self.model.over or not rest <= self.model.over, "a waiter was not released"


class Program(TypedDict):
    """What hypothesis writes."""

    bursts: list[tuple[int, list[tuple[str, int, int]]]]
    scripts: list[list[str]]
    cpus: int
    max_active: int


OPERATIONS = [
    *["queue"] * 8,
    *("queue parked", "cancel", "release", "release", "release", "interrupt", "interrupt"),
    *("max_active", "flush", "flush queue", "cancel_sync", "freeze", "thaw", "thaw"),
    *("disable", "disable", "enable", "enable", "enable", "capacity"),
]
STEPS = ["yield", "wait", "wait 2", "wait 5", "burn 3", "park", "park", "park 4", "requeue"]

operations = st.tuples(st.sampled_from(OPERATIONS), st.integers(0, ITEMS - 1), st.integers(0, 3))
# How many milliseconds pass after each burst.
bursts = st.lists(st.tuples(st.integers(0, 6), st.lists(operations, min_size=2, max_size=8)), min_size=5, max_size=20)
programs: st.SearchStrategy[Program] = st.builds(
    Program,
    bursts=bursts,
    scripts=st.lists(st.lists(st.sampled_from(STEPS), min_size=1, max_size=4), min_size=ITEMS, max_size=ITEMS),
    cpus=st.sampled_from([1, 1, 2]),
    max_active=st.integers(1, 3),
)


def open_for(kind: str, cpus: int, capacity: int) -> AbstractAsyncContextManager[Supervisor]:
    """Long steps are no hogs: concurrency management counts all items until their end."""
    opens = open_with("instrument") if kind == "bound-instrument" else open_supervisor
    return opens(cpus, capacity=capacity, cpu_intensive_threshold=0)


def alloc(supervisor: Supervisor, kind: str, max_active: int) -> Workqueue:
    if kind == "ordered":
        return supervisor.alloc_ordered_workqueue("model", WQ_FREEZABLE)
    flags = WQ_FREEZABLE | WQ_UNBOUND if kind == "unbound" else WQ_FREEZABLE
    return supervisor.alloc_workqueue("model", flags, max_active)


async def live(kind: str, capacity: int, program: Program) -> Counter[str]:
    """Run the program burst by burst, then open all gates until the books are at zero; what it did, how often."""
    cpus, max_active, scripts = program["cpus"], program["max_active"], program["scripts"]
    async with open_for(kind, cpus, capacity) as supervisor, trio.open_nursery() as nursery:
        wq = alloc(supervisor, kind, max_active)
        model = Model(kind.removesuffix("-instrument"), cpus, capacity, max_active, milliseconds)
        driver = Driver(model, supervisor, wq, scripts, nursery)
        for pause, burst in program["bursts"]:
            for number, operation in enumerate(burst):
                driver.is_first = number == 0
                driver.do(operation)
                driver.compare()
            await driver.rest()
            await trio.sleep(pause / 1000)
            await driver.rest()  # who was due just now as well
        driver.do(("thaw", 0, 0))
        while wq.in_flight:
            for index in list(driver.gates):
                driver.do(("release", index, 0))
            await driver.rest()
            await trio.sleep(0.005)
        await assert_at_zero(supervisor, wq)
        assert not driver.waiters
    return driver.did


# To shrink an example takes longer than pytest's `faulthandler_timeout`, which would end the run without a word of it:
# give this every phase, and pytest `-o faulthandler_timeout=0`, to do it.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)


@pytest.mark.slow
@pytest.mark.parametrize("capacity", [1, 2, 100])
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=185, deadline=None, suppress_health_check=list(HealthCheck), phases=PHASES)
@given(program=programs)
def test_the_queue_agrees_with_the_model(kind: str, capacity: int, program: Program) -> None:
    """Invariants 1-8, 10, 12-14, 16-19, 21-23, 26, 39-42, 44, 46, 47, 49, 50, 55, 62, 63 and P1-P4, P6-P8.

    W9, W28, W30, W32, W38-W40, W42, W49.
    """
    run_bounded(partial(live, kind, capacity, program))


ALWAYS = """
    yield, burn (timed), wait, wait (timed), park, park (timed), wait to come back, come back with an exception
    queue: True, queue: False, requeue: True, requeue: False, cancel: True, cancel: False, release
    interrupt: True, interrupt: False, disable: True, disable: False, enable: True, enable: False
    flush: True, flush: False, flush queue, cancel_sync: True, cancel_sync: False, cancel_sync waits
    freeze: True, freeze: False, thaw, raise capacity, lower capacity
"""
NOT_IF_ORDERED = "raise max_active, lower max_active, queue parked: True, queue parked: False"


def words(text: str) -> set[str]:
    return {word.strip() for line in text.strip().splitlines() for word in line.split(",")}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_programs_do_everything_there_is(kind: str) -> None:
    """All that operations can do and items can go through, with each answer, comes about in a hundred examples."""
    did = Counter[str]()

    @settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
    @given(program=programs)
    def run(program: Program) -> None:
        did.update(run_bounded(partial(live, kind, 1 + did["examples"] % 2, program)))
        did["examples"] += 1

    run()
    wanted = words(ALWAYS) | (set() if kind == "ordered" else words(NOT_IF_ORDERED))
    assert sorted(what for what in wanted if not did[what]) == []


def test_the_model_can_be_read() -> None:
    """150 lines, but for docstrings and blank ones."""
    text = Path(model_module.__file__).read_text()
    lines = {number for number, line in enumerate(text.splitlines(), 1) if line.strip()}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            docstring = node.body[0]
            lines -= set(range(docstring.lineno, (docstring.end_lineno or 0) + 1))
    assert len(lines) <= 150
