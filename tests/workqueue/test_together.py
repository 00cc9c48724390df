"""Results, backlog, groups and lanes on one queue at once: nothing hangs, nothing is lost, the books come to zero."""

import contextlib
from functools import partial
from typing import Literal

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from ktrio.workqueue import (
    WQ_UNBOUND,
    BacklogFullError,
    DelayedWork,
    DestroyedError,
    GroupClosedError,
    NoResultError,
    OnError,
    WorkGroup,
    WorkqueueFlags,
    open_supervisor,
    parked,
)
from tests.workqueue.conftest import Errors, assert_at_zero, run_bounded

pytestmark = [pytest.mark.exhaustive, pytest.mark.slow]

ITEMS = 6

steps = st.tuples(
    st.sampled_from(
        [
            *("queue", "lane", "lane", "group", "group", "wait", "lane wait", "group wait", "delay", "mod"),
            *("withdraw", "interrupt", "release", "release", "cancel group", "result", "flush lane", "flush group"),
            *("max_pending", "max_active", "give up", "cancel_sync"),
        ]
    ),
    st.integers(0, ITEMS - 1),
)
scripts = st.lists(
    st.sampled_from(["", "yield", "block", "park", "fail", "block and fail", "run"]), min_size=ITEMS, max_size=ITEMS
)


class MishapError(Exception):
    """Raised by items on purpose."""


async def live(
    flags: WorkqueueFlags | Literal[0],
    stores: bool,
    program: list[list[tuple[str, int]]],
    scripts: list[str],
) -> None:
    errors = Errors()
    policy: OnError = "store" if stores else errors
    accepted = runs = discards = 0
    gates: dict[int, trio.Event] = {}
    scopes: list[trio.CancelScope] = []

    async def body(number: int) -> int:
        nonlocal runs
        runs += 1
        script = scripts[number]
        if script == "yield":
            await trio.lowlevel.checkpoint()
        elif script == "run":
            with contextlib.suppress(DestroyedError):
                assert await other.run(max, 1, 2) == 2
        elif script == "park":
            async with parked():
                await wait(number)
        elif script.startswith("block"):
            await wait(number)
        if script.endswith("fail"):
            raise MishapError
        return number

    async def wait(number: int) -> None:
        gates[number] = trio.Event()
        try:
            await gates[number].wait()
        finally:
            gates.pop(number, None)

    def discard() -> None:
        nonlocal discards
        discards += 1

    async def in_task(step: str, number: int) -> None:
        """What waits is done by a task of its own, which may give up."""
        nonlocal accepted
        work, lane = works[number], wq.lane(number % 2)
        scopes.append(scope := trio.CancelScope())
        with scope:
            if step == "wait":
                let_in = await wq.queue_work_wait(work)
                accepted += let_in  # not in one line: others count meanwhile
            elif step == "lane wait":
                let_in = await lane.queue_work_wait(work)
                accepted += let_in  # not in one line: others count meanwhile
            elif step == "group wait":
                with contextlib.suppress(GroupClosedError):  # "cancel group" ends the block that is its body
                    let_in = await group.queue_work_wait(work)
                    accepted += let_in  # not in one line: others count meanwhile
            elif step == "result":
                with contextlib.suppress(NoResultError, DestroyedError, MishapError):
                    assert await work.result() == number
            elif step == "flush lane":
                await lane.flush()
            elif step == "flush group":
                await group.flush()
            elif step == "cancel_sync":
                await work.cancel_sync(interrupt=number % 2 == 0)

    def do(step: str, number: int) -> None:
        nonlocal accepted
        work = works[number]
        if step == "queue":
            accepted += wq.queue_work(work)
        elif step == "lane":
            accepted += wq.lane(number % 2).queue_work(work)
        elif step == "group":
            accepted += group.queue_work(work)
        elif step == "delay":
            accepted += wq.queue_delayed_work(work, number)
        elif step == "mod":
            accepted += wq.mod_delayed_work(work, number)
        elif step == "withdraw":
            work.cancel()
        elif step == "interrupt":
            work.interrupt()
        elif step == "release" and number in gates:
            gates.pop(number).set()
        elif step == "cancel group":
            group.cancel()
        elif step == "max_pending":
            wq.set_max_pending(number)
        elif step == "max_active":
            wq.set_max_active(1 + number % 3)
        elif step == "give up" and scopes:
            scopes[number % len(scopes)].cancel()
        else:
            tasks.start_soon(in_task, step, number)

    async def burst(ops: list[tuple[str, int]]) -> None:
        for step, number in ops:
            with contextlib.suppress(BacklogFullError):
                do(step, number)
        await wait_all_tasks_blocked()
        books = wq.statistics()
        assert books.pending + books.running == books.in_flight
        assert not books.waiting_for_room or 0 < books.max_pending <= books.pending

    async def until_at_rest() -> None:
        wq.set_max_pending(0)
        while gates or wq.in_flight or wq.statistics().delayed:
            for number in list(gates):
                gates.pop(number).set()
            await trio.sleep(1)

    async with open_supervisor(capacity=3) as supervisor:
        wq = supervisor.alloc_workqueue("test", flags, 2, policy, max_pending=2)
        other = supervisor.alloc_workqueue("other", flags, 1, max_pending=1)
        works = [DelayedWork(body, number, on_discard=discard, name=f"item{number}") for number in range(ITEMS)]
        for half in (program[::2], program[1::2]):
            async with trio.open_nursery() as tasks:
                group: WorkGroup
                with contextlib.suppress(ExceptionGroup):
                    async with wq.open_group() as group:
                        for ops in half:
                            await burst(ops)
                        tasks.start_soon(until_at_rest)
                await until_at_rest()
                assert group.in_flight == 0
        await assert_at_zero(supervisor, wq, other)
        books = wq.statistics()
        assert (books.lanes, books.laned, books.waiting_for_room) == (0, 0, 0)
        assert runs + discards == accepted
        assert runs == books.started


@pytest.mark.parametrize("stores", [False, True], ids=["calls", "stores"])
@pytest.mark.parametrize("flags", [WQ_UNBOUND, 0], ids=["unbound", "bound"])
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(program=st.lists(st.lists(steps, min_size=2, max_size=8), min_size=4, max_size=12), scripts=scripts)
def test_all_of_it_at_once_comes_to_rest(
    flags: WorkqueueFlags | Literal[0], stores: bool, program: list[list[tuple[str, int]]], scripts: list[str]
) -> None:
    """W11; invariants 3, 21, 45, 59."""
    run_bounded(partial(live, flags, stores, program, scripts))
