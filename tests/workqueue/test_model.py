"""The queue against a sequential model: every return value, every start, every count (invariant 63).

Hypothesis writes a program of bursts: several operations in one synchronous stretch, then rest. Items follow
scripts of yields, blocks, parked waits and requeues of themselves. Both the driver and the items tell the model
what they do at the moment they do it, so Trio may shuffle as it likes: the model follows, and says what is wrong.
"""

from functools import partial

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from ktrio.workqueue import WQ_FREEZABLE, WQ_UNBOUND, Supervisor, Work, Workqueue, WorkqueueFlags, parked
from tests.workqueue.conftest import KIND_NAMES, KINDS, Kind, assert_at_zero, open_with, run_bounded
from tests.workqueue.model import ITEMS, Model

pytestmark = pytest.mark.exhaustive


class Driver:
    """Does the same to the queue and to the model, and compares."""

    def __init__(
        self, model: Model, supervisor: Supervisor, wq: Workqueue, scripts: list[list[str]], nursery: trio.Nursery
    ) -> None:
        self.model, self.supervisor, self.wq, self.scripts, self.nursery = model, supervisor, wq, scripts, nursery
        self.works = [Work(self.body, index, on_discard=self.discard, name=f"item{index}") for index in range(ITEMS)]
        self.gates: dict[int, trio.Event] = {}
        self.touched: set[int] = set()
        self.requeues_left = [3] * ITEMS
        self.discards = self.thaws = self.freezing = 0
        self.depths = [0] * ITEMS  # how deep each item is disabled
        # For each waiter at work: what must be over before it may return, and what else before it must.
        self.waiters: dict[object, tuple[set[int], set[int]]] = {}

    def discard(self, *_: object) -> None:
        self.discards += 1

    async def gate(self, index: int) -> None:
        self.gates[index] = trio.Event()
        self.model.items[index].awake = False
        try:
            await self.gates[index].wait()
        finally:
            self.model.items[index].awake = True
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
                    expected = not self.depths[index] and self.model.queue(index, self.model.items[index].cpu)
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
            self.model.back(index, by_exception=True)
            raise

    def do(self, operation: tuple[str, int, int]) -> None:
        """One operation, at once, on both."""
        name, index, number = operation
        item, work = self.model.items[index], self.works[index]
        if name == "queue":
            self.queue(index, number % len(self.model.cpus))
        elif name == "queue parked" and item.running is None and len(self.model.cpus) == 1:
            expected = not self.depths[index] and self.model.queue(index, 0, start_parked=True)
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
        elif name == "disable":
            self.depths[index] += 1
            assert work.disable() is self.model.cancel(index)
        elif name == "enable" and self.depths[index]:
            self.depths[index] -= 1
            assert work.enable() is (not self.depths[index] and not item.disabled)
        elif name == "capacity" and self.model.capacity <= ITEMS:
            self.model.capacity = 1 + number
            self.supervisor.set_capacity(1 + number)
        elif name == "max_active":
            self.model.max_active = 1 + number
            for cpu in range(len(self.model.cpus)):
                self.model.promote(cpu)
            self.wq.set_max_active(1 + number)
        elif name == "freeze":
            self.nursery.start_soon(self.freeze)
        elif name == "thaw":
            self.thaws += self.model.is_frozen
            self.model.thaw()
            self.supervisor.thaw()
        elif name in ("flush", "flush queue", "cancel_sync"):
            self.nursery.start_soon(getattr(self, name.replace(" ", "_")), index)

    def queue(self, index: int, cpu: int) -> None:
        item = self.model.items[index]
        if item.running is None or item.was_active:
            expected = not self.depths[index] and self.model.queue(index, cpu)
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

    async def freeze(self) -> None:
        """Invariant 55: True, and then nothing has a slot and nobody is about to start parked; or somebody thawed."""
        thaws = self.thaws
        self.freezing += 1
        self.model.is_frozen = True
        assert await self.supervisor.freeze() or self.thaws > thaws
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
        self.touched.clear()
        self.model.check_rest()
        self.compare()
        assert not self.freezing or self.model.is_busy, "a freeze has nothing to wait for"
        for needed, rest in self.waiters.values():
            assert not needed <= self.model.over or not rest <= self.model.over, "a waiter was not released"


Program = list[list[tuple[str, int, int]]]

operations = st.tuples(
    st.sampled_from(
        [
            *("queue", "queue", "queue", "queue parked", "cancel", "release", "release", "interrupt"),
            *("max_active", "flush", "flush queue", "cancel_sync", "freeze", "thaw", "thaw"),
            *("disable", "enable", "enable", "capacity"),
        ]
    ),
    st.integers(0, ITEMS - 1),
    st.integers(0, 3),
)
bursts = st.lists(st.lists(operations, min_size=2, max_size=8), min_size=5, max_size=20)
steps = st.sampled_from(["yield", "block", "park", "requeue"])
scripts = st.lists(st.lists(steps, max_size=4), min_size=ITEMS, max_size=ITEMS)


async def live(
    kind: Kind, program: Program, scripts: list[list[str]], cpus: int, capacity: int, max_active: int
) -> None:
    """Run the program burst by burst, then open all gates until the books are at zero."""
    flags, sensor = kind
    async with open_with(sensor)(cpus, capacity=capacity) as supervisor, trio.open_nursery() as nursery:
        wq = supervisor.alloc_workqueue("model", WorkqueueFlags(flags) | WQ_FREEZABLE, max_active)
        model = Model(cpus, capacity, max_active, is_bound=flags != WQ_UNBOUND)
        driver = Driver(model, supervisor, wq, scripts, nursery)
        for burst in program:
            for operation in burst:
                driver.do(operation)
                driver.compare()
            await driver.rest()
        driver.do(("thaw", 0, 0))
        await driver.rest()
        while driver.gates:
            for index in list(driver.gates):
                driver.do(("release", index, 0))
            await driver.rest()
        await assert_at_zero(supervisor, wq)
        assert not driver.waiters


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=KIND_NAMES)
@settings(max_examples=700, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    program=bursts,
    scripts=scripts,
    cpus=st.sampled_from([1, 1, 2]),
    capacity=st.sampled_from([1, 2, 100]),
    max_active=st.integers(1, 3),
)
def test_the_queue_agrees_with_the_model(
    kind: Kind, program: Program, scripts: list[list[str]], cpus: int, capacity: int, max_active: int
) -> None:
    """Invariants 1-8, 10, 12-14, 18, 19, 21-23, 26, 39-42, 44, 46, 47, 49, 50, 55, 62, 63 and P1-P4, P6.

    W9, W28, W30, W32, W42, W49.
    """
    run_bounded(partial(live, kind, program, scripts, cpus, capacity, max_active))
