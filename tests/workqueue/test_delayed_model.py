"""Delayed items against a model that knows nothing of heaps, entries and tasks: lists and numbers (invariant 63).

One queue with one slot. Bursts of operations in one synchronous stretch, then time passes. Compared are every return
value, who is pending, how many are armed, and each start with its time and place in the order, that of equal due times
included (the order of arming, which a lazily moved timer easily gets wrong).

Time is counted in ticks of 1/1024 s, exact in binary. Operations and timers fall on multiples of 256, ends of runs
never do: each run takes one tick more than such a multiple. So nothing that two tasks do at the same time can matter.
"""

from dataclasses import dataclass, field
from functools import partial

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from ktrio.workqueue import DelayedWork
from tests.workqueue.conftest import KIND_NAMES, KINDS, Kind, assert_at_zero, open_with, run_bounded

ITEMS = 4
TICK = 1 / 1024


@dataclass
class Model:
    """A queue with one slot, and a wall clock."""

    durations: list[int]
    now: int = 0
    armings: int = 0
    timers: dict[int, tuple[int, int]] = field(default_factory=dict)  # item -> due, number of the arming
    line: list[int] = field(default_factory=list)  # without the slot
    active: int | None = None  # with the slot, about to start
    running: int | None = None
    ends: int = 0
    again: int | None = None  # queued while it runs: it inherits the slot
    starts: list[tuple[int, int]] = field(default_factory=list)
    discarded: int = 0

    def is_pending(self, item: int) -> bool:
        return item in self.timers or item in self.line or item in (self.active, self.again)

    def queue(self, item: int, delay: int = 0) -> bool:
        if self.is_pending(item):
            return False
        if delay:
            self.armings += 1
            self.timers[item] = (self.now + delay, self.armings)
        elif self.line or (self.running not in (None, item)) or self.active is not None:
            self.line.append(item)
        elif self.running == item:
            self.again = item
        else:
            self.active = item
        return True

    def mod(self, item: int, delay: int) -> bool:
        was_idle = not self.is_pending(item)
        self.take_out(item)
        self.queue(item, delay)
        return was_idle

    def cancel(self, item: int) -> bool:
        was_pending = self.is_pending(item)
        self.discarded += was_pending
        self.take_out(item)
        return was_pending

    def take_out(self, item: int) -> None:
        self.timers.pop(item, None)
        if item in self.line:
            self.line.remove(item)
        if self.again == item:
            self.again = None
        if self.active == item:
            self.active = None
            self.promote()

    def flush(self, item: int) -> bool:
        if self.timers.pop(item, None):
            self.queue(item)
        return self.is_pending(item) or self.running == item

    def promote(self) -> None:
        if self.line:
            self.active = self.line.pop(0)

    def rest(self) -> None:
        """What is about to start starts."""
        if self.active is not None:
            self.running, self.active = self.active, None
            self.ends = self.now + self.durations[len(self.starts) % len(self.durations)]
            self.starts.append((self.now, self.running))

    def sleep(self, ticks: int) -> None:
        until = self.now + ticks
        while True:
            due = min((at for at, _ in self.timers.values()), default=until + 1)
            next_end = self.ends if self.running is not None else until + 1
            if min(due, next_end) > until:
                break
            self.now = min(due, next_end)
            if next_end < due:
                self.running, self.active, self.again = None, self.again, None
                if self.active is None:
                    self.promote()
            else:
                for _, item in sorted((at, item) for item, at in self.timers.items() if at[0] == due):
                    del self.timers[item]
                    self.queue(item)
            self.rest()
        self.now = until


Operation = tuple[str, int, int]
Program = list[tuple[list[Operation], int | None, int]]

operations = st.tuples(
    st.sampled_from(["delay", "delay", "delay", "mod", "mod", "mod", "queue", "cancel"]),
    st.integers(0, ITEMS - 1),
    st.integers(0, 4),
)
# A burst of operations, perhaps the item that somebody flushes then, and how long to wait afterwards.
bursts = st.tuples(
    st.lists(operations, min_size=1, max_size=6), st.none() | st.integers(0, ITEMS - 1), st.integers(0, 4)
)
programs = st.lists(bursts, min_size=4, max_size=20)
durations = st.lists(st.integers(1, 6).map(lambda number: 256 * number + 1), min_size=1, max_size=5)


async def live(kind: Kind, program: Program, durations: list[int]) -> None:
    flags, sensor = kind
    async with open_with(sensor)() as supervisor, trio.open_nursery() as nursery:
        wq = supervisor.alloc_workqueue("model", flags, 1)
        model = Model(durations)
        began = trio.current_time()
        starts: list[tuple[int, int]] = []
        discards: list[None] = []

        async def run(item: int) -> None:
            number = len(starts)
            starts.append((round((trio.current_time() - began) / TICK), item))
            await trio.sleep(durations[number % len(durations)] * TICK)

        works = [DelayedWork(run, item, on_discard=partial(discards.append, None)) for item in range(ITEMS)]

        def do(name: str, item: int, amount: int) -> None:
            delay = 512 * amount
            if name == "delay":
                assert wq.queue_delayed_work(works[item], delay * TICK) is model.queue(item, delay)
            elif name == "mod":
                assert wq.mod_delayed_work(works[item], delay * TICK) is model.mod(item, delay)
            elif name == "queue":
                assert wq.queue_work(works[item]) is model.queue(item)
            else:
                assert works[item].cancel() is model.cancel(item)

        def compare() -> None:
            assert [work.is_pending for work in works] == [model.is_pending(item) for item in range(ITEMS)]
            assert wq.statistics().delayed == supervisor.timers.armed == len(model.timers)
            assert len(discards) == model.discarded

        for burst, flushed, pause in program:
            for operation in burst:
                do(*operation)
                compare()
            if flushed is not None:
                nursery.start_soon(flush_with, model, works[flushed], flushed)
            await wait_all_tasks_blocked()
            model.rest()
            compare()
            await trio.sleep(256 * pause * TICK)
            await wait_all_tasks_blocked()
            model.sleep(256 * pause)
            compare()
            assert starts == model.starts
        await trio.sleep(1000)
        model.sleep(1000 * 1024)
        assert starts == model.starts
        assert not nursery.child_tasks  # every flush has returned
        compare()
        await assert_at_zero(supervisor, wq)


async def flush_with(model: Model, work: DelayedWork[None], item: int) -> None:
    expected = model.flush(item)
    assert await work.flush() is expected


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", KINDS, ids=KIND_NAMES)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(program=programs, durations=durations)
def test_delayed_items_agree_with_the_model(kind: Kind, program: Program, durations: list[int]) -> None:
    """W9, W70, W72; invariants 1-6, 8, 13, 19, 40, 46, 53, 54, 63."""
    run_bounded(partial(live, kind, program, durations))


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=KIND_NAMES)
@settings(max_examples=1500, deadline=None, suppress_health_check=list(HealthCheck))
@given(program=programs, durations=durations)
def test_delayed_items_agree_with_the_model_at_length(kind: Kind, program: Program, durations: list[int]) -> None:
    """The same again; the order of equal due times takes thousands of programs to get wrong."""
    run_bounded(partial(live, kind, program, durations))
