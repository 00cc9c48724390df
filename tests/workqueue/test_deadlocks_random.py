"""Random waits among random items, against brute force: let the same program run without the detection, and see.

The brute force is the workqueue itself. Where DeadlockError was raised, the program without it must hang: no false
positive. Where items wait only in their own tasks, and without deadlines, it must be raised whenever that hangs.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from unittest.mock import patch

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ktrio.workqueue import (
    WQ_UNBOUND,
    DeadlockError,
    ParkingError,
    Work,
    Workqueue,
    WorkqueueFlags,
    open_supervisor,
    parked,
)
from tests.workqueue.conftest import run_bounded

pytestmark = pytest.mark.exhaustive

ITEMS = 4
QUEUES = 3


@dataclass(frozen=True)
class Step:
    """One wait of an item."""

    way: str
    target: int
    style: str


@dataclass(frozen=True)
class Program:
    """For each item its queue, and its waits."""

    flags: WorkqueueFlags
    max_active: int
    queues: tuple[int, ...]
    scripts: tuple[tuple[Step, ...], ...]


MAX_ACTIVES = (0, 1, 2)
OWN_STYLES = ("own",)
STYLES = ("own", "own", "child", "children", "deadline", "cancelled by its item")
WAYS = ("flush", "cancel_sync", "wq.flush", "wq.drain", "run", "again and flush", "park", "group", "lane")


def programs(styles: tuple[str, ...], max_actives: tuple[int, ...]) -> st.SearchStrategy[Program]:
    step = st.builds(Step, st.sampled_from(WAYS), st.integers(0, ITEMS - 1), st.sampled_from(styles))
    return st.builds(
        Program,
        st.sampled_from([WQ_UNBOUND, WorkqueueFlags(0)]),
        st.sampled_from(max_actives),
        st.tuples(*[st.integers(0, QUEUES - 1)] * ITEMS),
        st.tuples(*[st.lists(step, min_size=1, max_size=2).map(tuple)] * ITEMS),
    )


class Run:
    """One run of a program: does it hang, and has DeadlockError been raised?"""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.raised: list[DeadlockError] = []
        self.works: list[Work] = []
        self.wqs: list[Workqueue] = []
        self.hangs = False

    async def main(self) -> None:
        with trio.move_on_after(1000) as scope:
            async with open_supervisor() as supervisor:
                program = self.program
                self.wqs = [
                    supervisor.alloc_workqueue(f"q{number}", program.flags, program.max_active)
                    for number in range(QUEUES)
                ]
                self.works = [Work(self.item, number, name=f"item{number}") for number in range(ITEMS)]
                for number, work in enumerate(self.works):
                    assert self.wqs[program.queues[number]].queue_work(work)
        self.hangs = scope.cancelled_caught

    async def item(self, number: int) -> None:
        if self.works[number].statistics().runs > 1:
            return
        for step_number, step in enumerate(self.program.scripts[number]):
            await trio.sleep(1 + number / 10 + step_number / 100)  # no two at once: the order is the program's
            wait = self.wait_of(number, step)
            if wait is not None:
                await self.in_style(step.style, wait)

    def wait_of(self, number: int, step: Step) -> Callable[[], Awaitable[object]] | None:
        work, queue = self.works[step.target], self.program.queues[step.target]
        own = self.program.queues[number]
        if step.way in ("flush", "cancel_sync", "again and flush"):
            if step.target == number:
                return None  # waits for oneself are told from the others: always an error
            if step.way == "cancel_sync" and not self.program.max_active:
                return work.cancel_sync  # it may withdraw what others wait for: a cancellation, which does not count
            if step.way == "again and flush":
                self.wqs[queue].queue_work(work)
            return work.flush
        if step.way == "park":
            return self.park
        if step.way in ("group", "lane"):
            return partial(self.by_another, step.way, self.wqs[queue], number, step.target)
        if step.way == "run":
            return lambda: self.wqs[queue].run(self.works[number].flush)
        return None if own == queue else self.wqs[queue].flush if step.way == "wq.flush" else self.wqs[queue].drain

    async def by_another(self, way: str, wq: Workqueue, number: int, target: int) -> None:
        """Wait for an item that waits for `target`; for `number` itself, who calls this, if that is the same."""
        helper = Work(self.noted, self.works[target].flush)
        if way == "group":
            async with wq.open_group() as group:
                group.queue_work(helper)
        else:
            lane = wq.lane(number % 2)
            lane.queue_work(helper)
            await lane.flush()

    @staticmethod
    async def park() -> None:
        try:
            async with parked():
                await trio.sleep(2.5)
        except ParkingError:
            pass  # not the item's own task

    async def noted(self, wait: Callable[[], Awaitable[object]]) -> None:
        try:
            await wait()
        except* DeadlockError as group:
            self.raised.extend(error for error in group.exceptions if isinstance(error, DeadlockError))

    async def in_style(self, style: str, wait: Callable[[], Awaitable[object]]) -> None:
        if style == "own":
            await self.noted(wait)
        elif style == "deadline":
            with trio.move_on_after(50):
                await self.noted(wait)
        else:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.noted, wait)
                if style == "children":
                    nursery.start_soon(trio.sleep, 1.5)
                elif style == "cancelled by its item":
                    await trio.sleep(30)
                    nursery.cancel_scope.cancel()


def outcome(program: Program, *, detect: bool) -> Run:
    run = Run(program)
    if detect:
        run_bounded(run.main)
    else:
        with patch("ktrio.workqueue._waits.is_waited_for", lambda _run, keeps_slot: False):
            run_bounded(run.main)
    return run


HEALTH = list(HealthCheck)


@settings(max_examples=60, deadline=None, suppress_health_check=HEALTH)
@given(program=programs(OWN_STYLES, MAX_ACTIVES))
def test_waits_of_items_raise_if_and_only_if_they_would_hang(program: Program) -> None:
    """W103, W104."""
    check_own(program)


@settings(max_examples=60, deadline=None, suppress_health_check=HEALTH)
@given(program=programs(STYLES, MAX_ACTIVES))
def test_what_raises_would_hang(program: Program) -> None:
    """W104."""
    check_any(program)


@pytest.mark.exhaustive
@settings(max_examples=1000, deadline=None, suppress_health_check=HEALTH)
@given(program=programs(OWN_STYLES, MAX_ACTIVES))
def test_waits_of_items_raise_if_and_only_if_they_would_hang_at_length(program: Program) -> None:
    check_own(program)


@pytest.mark.exhaustive
@settings(max_examples=1000, deadline=None, suppress_health_check=HEALTH)
@given(program=programs(STYLES, MAX_ACTIVES))
def test_what_raises_would_hang_at_length(program: Program) -> None:
    check_any(program)


def check_own(program: Program) -> None:
    """With the detection nothing hangs; it speaks exactly where something would."""
    detected = outcome(program, detect=True)
    brute = outcome(program, detect=False)
    assert not brute.raised
    assert bool(detected.raised) == brute.hangs
    assert not detected.hangs


def check_any(program: Program) -> None:
    """It speaks only where something would hang.

    Two who are woken at the same time come back in an order that Trio shuffles, and only one of them may hang: so the
    program without detection has several tries.
    """
    detected = outcome(program, detect=True)
    if detected.raised:
        tries = [outcome(program, detect=False)]
        while not tries[-1].hangs and len(tries) < 30:
            tries.append(outcome(program, detect=False))
        assert not any(brute.raised for brute in tries)
        assert tries[-1].hangs


SHUFFLED = Program(
    WQ_UNBOUND,
    1,
    (1, 0, 1, 1),
    (
        (Step("flush", 1, "own"), Step("flush", 2, "child")),
        (Step("flush", 0, "deadline"),),
        (Step("flush", 1, "own"),),
        (Step("flush", 0, "own"),),
    ),
)


def test_who_comes_back_first_decides_whether_there_is_a_deadlock() -> None:
    """Both orders happen; the detection speaks in the one that would hang, and nothing ever hangs with it."""
    for _ in range(20):
        check_any(SHUFFLED)
