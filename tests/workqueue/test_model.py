"""The queue against a sequential model: every return value, every start, every count (invariant 63).

Hypothesis writes a program of bursts: several operations in one synchronous stretch, then rest. Items follow
scripts of yields, blocks, parked waits and requeues of themselves. Both the driver and the items tell the model
what they do at the moment they do it, so Trio may shuffle as it likes: the model follows, and says what is wrong.
"""

from collections import Counter
from dataclasses import dataclass, field
from functools import partial

import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from ktrio.workqueue import Work, Workqueue, open_supervisor, parked
from tests.workqueue.conftest import alloc, assert_at_zero, run_bounded

ITEMS = 4


@dataclass
class Item:
    """What the model knows about one work item. A queueing is a number; `pending` and `running` hold one."""

    pending: int | None = None
    running: int | None = None
    cpu: int = 0
    # Of the pending queueing: inactive, worklist, private (behind its run), heir (of the run's slot), parked.
    place: str = ""
    # Of the run.
    slot: bool = False
    was_active: bool = False
    parked: bool = False
    wants: str = ""  # "slot" or "place", while it returns from a parked wait
    interrupted: bool = False
    disabled: bool = False


@dataclass
class Cpu:
    """One pwq and its pool."""

    line: list[tuple[str, int]] = field(default_factory=list)  # inactive items and returning runs, one FIFO
    worklist: list[int] = field(default_factory=list)
    nr_active: int = 0
    occupied: int = 0


class Model:
    """A queue as the specification describes it: no tasks, no time, one event after the other."""

    def __init__(self, cpus: int, capacity: int, max_active: int) -> None:
        self.items = [Item() for _ in range(ITEMS)]
        self.cpus = [Cpu() for _ in range(cpus)]
        self.capacity, self.max_active = capacity, max_active
        self.counts = Counter[str]()
        self.over: set[int] = set()

    def queue(self, index: int, cpu: int, *, start_parked: bool = False) -> bool:
        """Invariants 1, 6, 13, 14 and P6."""
        item = self.items[index]
        if item.pending is not None or item.disabled:
            return False
        self.counts["accepted"] += 1
        item.pending = self.counts["accepted"]
        if item.running is not None and not self.cpus[item.cpu].line:
            item.place = "private"
            return True
        item.cpu = item.cpu if item.running is not None else cpu
        if start_parked:
            item.place = "parked"
        else:
            item.place = "inactive"
            self.cpus[item.cpu].line.append(("item", index))
            self.promote(item.cpu)
        return True

    def promote(self, cpu: int) -> None:
        """Invariants 12, 13, 18: the line is served in order while there are slots."""
        here = self.cpus[cpu]
        while here.line and here.nr_active < self.max_active:
            kind, index = here.line.pop(0)
            item = self.items[index]
            if kind == "item" and item.running is not None:
                item.place = "private"  # P6: it takes no slot beside its run's
                continue
            here.nr_active += 1
            if kind == "return":
                item.wants = "place"
            else:
                item.place = "worklist"
                here.worklist.append(index)

    def cancel(self, index: int) -> bool:
        """Invariants 19 and 46."""
        item = self.items[index]
        if item.pending is None:
            return False
        here = self.cpus[item.cpu]
        self.counts["cancelled"] += 1
        self.over.add(item.pending)
        item.pending = None
        if item.place == "inactive":
            here.line.remove(("item", index))
        elif item.place in ("worklist", "heir"):
            if item.place == "worklist":
                here.worklist.remove(index)
            here.nr_active -= 1
            self.promote(item.cpu)
        return True

    def set_max_active(self, number: int) -> None:
        """Invariants 10 and 18."""
        self.max_active = number
        for cpu in range(len(self.cpus)):
            self.promote(cpu)

    def start(self, index: int) -> None:
        """Invariants 4, 5, 13: only what is active starts, in its order, below capacity."""
        item = self.items[index]
        here = self.cpus[item.cpu]
        assert item.running is None, "it runs already"
        assert item.pending is not None, "nobody queued it"
        assert item.place in ("worklist", "heir", "parked"), "it is not active"
        if item.place != "parked":
            assert here.occupied < self.capacity, "the pool is full"
            here.occupied += 1
        if item.place == "worklist":
            assert here.worklist.pop(0) == index, "it is not first on the worklist"
        item.parked = item.place == "parked"
        item.slot = item.was_active = not item.parked
        item.running, item.pending, item.interrupted = item.pending, None, False
        self.counts["started"] += 1

    def park(self, index: int) -> None:
        """P1; a run that was started parked is there already."""
        item = self.items[index]
        if not item.parked:
            here = self.cpus[item.cpu]
            here.nr_active -= 1
            here.occupied -= 1
            item.parked, item.slot = True, False
            self.promote(item.cpu)

    def want_back(self, index: int) -> None:
        """P2: a slot first, in line."""
        item = self.items[index]
        item.wants = "slot"
        self.cpus[item.cpu].line.append(("return", index))
        self.promote(item.cpu)

    def back(self, index: int) -> None:
        """P2: then a place."""
        item = self.items[index]
        assert item.wants == "place", "it has no slot yet"
        assert self.cpus[item.cpu].occupied < self.capacity, "the pool is full"
        self.be_back(item)

    def back_by_exception(self, index: int) -> None:
        """P4: whatever the limits are."""
        item = self.items[index]
        here = self.cpus[item.cpu]
        assert not item.wants, "not done by this driver"
        self.counts["overshoot"] += here.nr_active >= self.max_active or here.occupied >= self.capacity
        here.nr_active += 1
        self.be_back(item)

    def be_back(self, item: Item) -> None:
        self.cpus[item.cpu].occupied += 1
        item.slot = item.was_active = True
        item.parked, item.wants = False, ""

    def end(self, index: int) -> None:
        """Invariants 10, 12 and P6: the slot goes to the run's own requeue, or to the line."""
        item = self.items[index]
        here = self.cpus[item.cpu]
        assert item.running is not None
        self.over.add(item.running)
        self.counts["completed"] += 1
        item.running, item.disabled = None, False
        if item.parked:
            item.parked = False
            return
        here.occupied -= 1
        item.slot = False
        if item.pending is not None and item.place == "private":
            if here.nr_active <= self.max_active:
                item.place = "heir"
                return
            # Beyond the limit nothing is inherited (invariant 10); its place in the line is the first (13).
            item.place = "inactive"
            here.line.insert(0, ("item", index))
        here.nr_active -= 1
        self.promote(item.cpu)

    def check_rest(self) -> None:
        """Invariant 23: at rest nothing waits for what is there; nothing that was told to end is still there."""
        for cpu, here in enumerate(self.cpus):
            mine = [item for item in self.items if item.cpu == cpu]
            waiting = [item for item in mine if item.pending is not None and item.place in ("worklist", "heir")]
            waiting += [item for item in mine if item.wants == "place"]
            assert not waiting or here.occupied >= self.capacity, waiting
        assert not any(item.interrupted and item.running is not None for item in self.items)
        assert not any(item.pending is not None and item.place == "parked" for item in self.items)


class Driver:
    """Does the same to the queue and to the model, and compares."""

    def __init__(self, model: Model, wq: Workqueue, scripts: list[list[str]], nursery: trio.Nursery) -> None:
        self.model, self.wq, self.scripts, self.nursery = model, wq, scripts, nursery
        self.works = [Work(self.body, index, on_discard=self.discard, name=f"item{index}") for index in range(ITEMS)]
        self.gates: dict[int, trio.Event] = {}
        self.touched: set[int] = set()
        self.requeues_left = [3] * ITEMS
        self.discards = 0
        # For each waiter at work: what must be over before it may return, and what else before it must.
        self.waiters: dict[object, tuple[set[int], set[int]]] = {}

    def discard(self, *_: object) -> None:
        self.discards += 1

    async def gate(self, index: int) -> None:
        self.gates[index] = trio.Event()
        try:
            await self.gates[index].wait()
        finally:
            self.gates.pop(index, None)

    async def body(self, index: int) -> None:
        self.model.start(index)
        try:
            for step in self.scripts[index]:
                if step == "yield":
                    await trio.lowlevel.checkpoint()
                elif step == "block":
                    await self.gate(index)
                elif step == "park":
                    await self.wait_parked(index)
                elif self.requeues_left[index] and self.model.items[index].was_active:
                    self.requeues_left[index] -= 1
                    expected = self.model.queue(index, self.model.items[index].cpu)
                    assert self.wq.queue_work(self.works[index]) is expected
        finally:
            self.model.end(index)

    async def wait_parked(self, index: int) -> None:
        self.model.park(index)
        try:
            async with parked():
                await self.gate(index)
                self.model.want_back(index)
            self.model.back(index)
        except trio.Cancelled:
            self.model.back_by_exception(index)
            raise

    def do(self, operation: tuple[str, int, int]) -> None:
        """One operation, at once, on both."""
        name, index, number = operation
        item, work = self.model.items[index], self.works[index]
        if name == "queue":
            self.queue(index, number % len(self.model.cpus))
        elif name == "queue parked" and item.running is None and len(self.model.cpus) == 1:
            expected = self.model.queue(index, 0, start_parked=True)
            assert self.wq.queue_work(work, parked=True) is expected
        elif name == "cancel":
            assert work.cancel() is self.model.cancel(index)
        elif name == "release" and index in self.gates:
            self.touched.add(index)
            self.gates.pop(index).set()
        elif name == "interrupt" and not item.wants and index not in self.touched:
            # When a run that is in line for its return leaves that line is nobody's promise.
            item.interrupted = item.running is not None
            assert work.interrupt() is item.interrupted
        elif name == "max_active":
            self.model.set_max_active(1 + number)
            self.wq.set_max_active(1 + number)
        elif name in ("flush", "flush queue", "cancel_sync"):
            self.nursery.start_soon(getattr(self, name.replace(" ", "_")), index)

    def queue(self, index: int, cpu: int) -> None:
        item = self.model.items[index]
        if item.running is None or item.was_active:
            expected = self.model.queue(index, cpu)
            assert self.wq.queue_work_on(cpu, self.works[index]) is expected

    async def flush(self, index: int) -> None:
        """Invariants 39-41, 44, 50: the last queueing at entry; its run's predecessor too, unless cancelled."""
        item = self.model.items[index]
        last = {item.pending if item.pending is not None else item.running} - {None}
        self.waiters[key := object()] = (last, {item.running} - {None})
        assert await self.works[index].flush() is bool(last)
        del self.waiters[key]
        assert last <= self.model.over

    async def flush_queue(self, index: int) -> None:
        """Invariant 42."""
        accepted = {item.pending for item in self.model.items} | {item.running for item in self.model.items}
        self.waiters[key := object()] = (accepted - {None}, set())
        await self.wq.flush()
        del self.waiters[key]
        assert accepted - {None} <= self.model.over

    async def cancel_sync(self, index: int) -> None:
        """Invariant 47."""
        item = self.model.items[index]
        expected = self.model.cancel(index)
        item.disabled = item.running is not None
        running = {item.running} - {None}
        self.waiters[key := object()] = (running, set())
        assert await self.works[index].cancel_sync() is expected
        del self.waiters[key]
        assert running <= self.model.over

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

    async def rest(self) -> None:
        """Let everything run until it waits; then nothing may be left undone."""
        await wait_all_tasks_blocked()
        self.touched.clear()
        self.model.check_rest()
        self.compare()
        for needed, rest in self.waiters.values():
            assert not needed <= self.model.over or not rest <= self.model.over, "a waiter was not released"


operations = st.tuples(
    st.sampled_from(
        [
            *("queue", "queue", "queue", "queue parked", "cancel", "release", "release", "interrupt"),
            *("max_active", "flush", "flush queue", "cancel_sync"),
        ]
    ),
    st.integers(0, ITEMS - 1),
    st.integers(0, 3),
)
bursts = st.lists(st.lists(operations, min_size=2, max_size=8), min_size=5, max_size=20)
steps = st.sampled_from(["yield", "block", "park", "requeue"])
scripts = st.lists(st.lists(steps, max_size=4), min_size=ITEMS, max_size=ITEMS)


async def live(
    program: list[list[tuple[str, int, int]]], scripts: list[list[str]], cpus: int, capacity: int, max_active: int
) -> None:
    """Run the program burst by burst, then open all gates until the books are at zero."""
    async with open_supervisor(cpus, capacity=capacity) as supervisor, trio.open_nursery() as nursery:
        wq = alloc(supervisor, "model", max_active)
        driver = Driver(Model(cpus, capacity, max_active), wq, scripts, nursery)
        for burst in program:
            for operation in burst:
                driver.do(operation)
                driver.compare()
            await driver.rest()
        while driver.gates:
            for index in list(driver.gates):
                driver.do(("release", index, 0))
            await driver.rest()
        await assert_at_zero(supervisor, wq)
        assert not driver.waiters


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    program=bursts,
    scripts=scripts,
    cpus=st.sampled_from([1, 1, 2]),
    capacity=st.sampled_from([1, 2, 100]),
    max_active=st.integers(1, 3),
)
def test_the_queue_agrees_with_the_model(
    program: list[list[tuple[str, int, int]]], scripts: list[list[str]], cpus: int, capacity: int, max_active: int
) -> None:
    """Invariants 1-8, 10, 12-14, 18, 19, 21, 23, 39-42, 44, 46, 47, 50, 62, 63 and P1-P4, P6."""
    run_bounded(partial(live, program, scripts, cpus, capacity, max_active))
