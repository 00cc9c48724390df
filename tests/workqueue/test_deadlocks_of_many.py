"""Cycles through what is made of items: groups, lanes, room in a backlog, a freeze (invariant 58).

A wait for many is stuck only if nothing can let go of it: each test that raises has a twin in which something can.
"""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from ktrio.workqueue import (
    WQ_FREEZABLE,
    WQ_UNBOUND,
    DeadlockError,
    Supervisor,
    Work,
    WorkGroup,
    Workqueue,
    current_work,
)
from tests.workqueue.conftest import KIND_NAMES, KINDS, Errors, Kind, Trace, assert_at_zero, open_with

pytestmark = pytest.mark.parametrize("kind", KINDS, ids=KIND_NAMES)


class Scene:
    """Queues `one` and `two`, and whoever has raised DeadlockError."""

    def __init__(self, supervisor: Supervisor, kind: Kind, max_active: int = 0, max_pending: int = 0) -> None:
        self.supervisor = supervisor
        self.one = supervisor.alloc_workqueue("one", kind[0])
        self.two = supervisor.alloc_workqueue("two", kind[0], max_active, max_pending=max_pending)
        self.caught: dict[str, str] = {}

    async def flush(self, name: str, work: Work) -> None:
        """Flush `work` as `name`."""
        try:
            await work.flush()
        except DeadlockError as error:
            self.caught[name] = str(error)

    async def in_child(self, name: str, work: Work) -> None:
        """The same in a child task, so that the caller keeps its slot."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.flush, name, work)

    async def at_zero(self) -> None:
        for wq in (self.one, self.two):
            await wq.flush()
            assert not wq.waits
        await assert_at_zero(self.supervisor, self.one, self.two)


async def test_a_group_is_stuck_if_every_member_is_and_names_the_cycle(kind: Kind) -> None:
    """W103. The last member raises, and so ends the group with the others."""
    async with open_with(kind[1])() as supervisor:
        scene = Scene(supervisor, kind)
        caught: list[str] = []

        async def wait_for_group() -> None:
            try:
                async with scene.two.open_group() as group:
                    for name in ("one member", "another"):
                        group.queue_work(Work(first.flush, name=name))
            except* DeadlockError as errors:
                caught.extend(map(str, errors.exceptions))

        first = Work(wait_for_group, name="leaver")
        scene.one.queue_work(first)
        await scene.at_zero()
        (text,) = caught
        who = "another" if "another" in text else "one member"
        assert text == (
            f"certain deadlock: <Work {who} running> waits in <Work leaver parked>.flush(), which waits in the end of "
            f"the block of <WorkGroup on 'two' in_flight=2> for <Work {who} running>"
        )


async def test_a_group_whose_other_member_may_raise_is_not_stuck(kind: Kind) -> None:
    """W104: as it does, which cancels the member that waits for the group's own item."""
    async with open_with(kind[1])() as supervisor:
        scene = Scene(supervisor, kind)

        async def fail_later() -> None:
            await trio.sleep(5)
            raise KeyError("later")

        async def wait_for_group() -> None:
            with pytest.RaisesGroup(KeyError):
                async with scene.two.open_group() as group:
                    group.queue_work(Work(scene.flush, "member", first))
                    group.queue_work(Work(fail_later))

        first = Work(wait_for_group)
        scene.one.queue_work(first)
        await scene.at_zero()
        assert scene.caught == {}


@pytest.mark.parametrize("way", ["timeout of a member", "deadline of the group", "canceller"])
async def test_a_group_that_something_arranged_will_end_is_not_stuck(kind: Kind, way: str) -> None:
    """W104."""
    errors = Errors()
    async with open_with(kind[1])() as supervisor:
        scene = Scene(supervisor, kind)

        async def wait_for_group() -> None:
            async with trio.open_nursery() as nursery:
                try:
                    async with scene.two.open_group() as group:
                        if way == "deadline of the group":
                            group.cancel_scope.deadline = trio.current_time() + 5
                        if way == "canceller":
                            nursery.start_soon(cancel_later, group)
                        group.queue_work(
                            Work(scene.flush, "member", first, timeout=5 if way == "timeout of a member" else None)
                        )
                except* trio.TooSlowError as group_of_errors:
                    errors(first, group_of_errors)

        async def cancel_later(group: WorkGroup) -> None:
            await trio.sleep(5)
            group.cancel()

        first = Work(wait_for_group)
        scene.one.queue_work(first)
        await scene.at_zero()
        assert scene.caught == {}
        assert len(errors.seen) == (way == "timeout of a member")


@pytest.mark.parametrize("is_bounded", [True, False])
@pytest.mark.parametrize("way", ["run", "group", "around a group"])
async def test_what_a_caller_will_end_in_time_is_not_stuck(kind: Kind, way: str, is_bounded: bool) -> None:
    """W104: a caller of `run`, or a group, interrupts its items when its time is over. The twin has no end."""
    async with open_with(kind[1])() as supervisor:
        scene = Scene(supervisor, kind)
        bounded: list[Work] = []

        async def wait_for_first() -> None:
            work = current_work()
            assert work is not None
            bounded.append(work)
            await scene.flush("bounded", first)

        async def wait_for_bounded() -> None:
            await trio.sleep(1)
            await scene.flush("first", bounded[0])

        first = Work(wait_for_bounded)
        scene.one.queue_work(first)
        with trio.CancelScope() as scope:
            if is_bounded and way != "group":
                scope.deadline = trio.current_time() + 5
            if way == "run":
                await scene.two.run(wait_for_first)
            else:
                async with scene.two.open_group() as group:
                    if is_bounded and way == "group":
                        group.cancel_scope.deadline = trio.current_time() + 5
                    group.queue_work(Work(wait_for_first))
        await scene.at_zero()
        assert list(scene.caught) == ([] if is_bounded else ["first"])


@pytest.mark.parametrize("is_bounded", [True, False])
async def test_what_is_pending_and_will_be_withdrawn_in_time_is_not_stuck(kind: Kind, is_bounded: bool) -> None:
    """W104. The slot that it waits for is held by who waits, over another, for it."""
    async with open_with(kind[1])() as supervisor:
        scene = Scene(supervisor, kind, max_active=1)
        pending = Work(int)

        async def wait_for_pending() -> None:
            await trio.sleep(1)
            await scene.flush("first", pending)

        first = Work(wait_for_pending)
        scene.one.queue_work(first)
        scene.two.queue_work(Work(scene.in_child, "holder", first))
        await wait_all_tasks_blocked()
        async with scene.two.open_group() as group:
            if is_bounded:
                group.cancel_scope.deadline = trio.current_time() + 5
            group.queue_work(pending)
        await scene.at_zero()
        assert list(scene.caught) == ([] if is_bounded else ["first"])


async def test_the_leaver_that_comes_last_raises_and_its_members_are_cancelled(kind: Kind) -> None:
    """W103, W127: what leaves the block is one group with the error; nothing of the books stays open."""
    async with open_with(kind[1])() as supervisor:
        scene = Scene(supervisor, kind, max_active=1)
        told: list[str] = []

        async def wait_for_group() -> None:
            pending = Work(print, on_discard=lambda: told.append("discarded"))
            with pytest.RaisesGroup(pytest.RaisesExc(DeadlockError, match="the end of the block")):
                async with scene.two.open_group() as group:
                    group.queue_work(Work(scene.in_child, "member", first))
                    group.queue_work(pending)
                    await trio.sleep(1)  # they wait already
            assert not pending.is_pending

        first = Work(wait_for_group)
        scene.one.queue_work(first)
        await scene.at_zero()
        assert scene.caught == {}
        assert told == ["discarded"]


async def test_a_flush_of_a_group_is_stuck_with_its_members_and_its_block(kind: Kind) -> None:
    """W103. The block waits in a flush of the group, a member for the item of the block."""
    async with open_with(kind[1])() as supervisor:
        scene = Scene(supervisor, kind)

        async def flush_group() -> None:
            async with scene.two.open_group() as group:
                group.queue_work(Work(scene.flush, "member", first))
                await group.flush()

        first = Work(flush_group)
        scene.one.queue_work(first)
        await scene.at_zero()
        assert list(scene.caught) == ["member"]
        assert "<WorkGroup on 'two' in_flight=1>.flush()" in scene.caught["member"]


@pytest.mark.parametrize("block", ["inside an item that goes on", "outside"])
async def test_a_flush_of_a_group_whose_block_goes_on_is_not_stuck(kind: Kind, block: str) -> None:
    """W104: the block cancels the group."""
    async with open_with(kind[1])() as supervisor:
        scene = Scene(supervisor, kind)
        flusher: list[Work] = []

        async def open_it() -> None:
            async with scene.two.open_group() as group:
                flusher.append(Work(group.flush))
                group.queue_work(Work(scene.flush, "member", flusher[0]))
                scene.one.queue_work(flusher[0])
                await trio.sleep(5)
                group.cancel()

        if block == "outside":
            await open_it()
        else:
            supervisor.alloc_workqueue("three", kind[0]).queue_work(Work(open_it))
            await trio.sleep(6)
        await scene.at_zero()
        assert scene.caught == {}


async def test_a_lane_is_stuck_if_one_of_its_items_is(kind: Kind, trace: Trace) -> None:
    """W103: another that gets on, or raises, does not let go of it."""
    async with open_with(kind[1])() as supervisor:
        scene = Scene(supervisor, kind)
        lane = scene.two.lane("key")

        async def flush_lane() -> None:
            lane.queue_work(trace.holder("head"))
            lane.queue_work(Work(scene.flush, "behind", first))
            await lane.flush()

        first = Work(flush_lane)
        scene.one.queue_work(first)
        await wait_all_tasks_blocked()
        assert scene.caught == {}
        trace.open("head")
        await scene.at_zero()
        assert list(scene.caught) == ["behind"]
        assert "<Lane 'key' of 'two' in_flight=1>.flush()" in scene.caught["behind"]


async def test_a_wait_for_a_lane_that_stands_behind_a_stuck_head_raises(kind: Kind) -> None:
    """W103."""
    async with open_with(kind[1])() as supervisor:
        scene = Scene(supervisor, kind)
        lane = scene.two.lane("key")

        async def flush_lane() -> None:
            await trio.sleep(1)  # the head waits already
            lane.queue_work(Work(print))
            with pytest.raises(DeadlockError, match=r"in <Lane 'key' of 'two' in_flight=2>.flush\(\) for <Work head"):
                await lane.flush()

        first = Work(flush_lane)
        lane.queue_work(Work(scene.flush, "head", first, name="head"))
        scene.one.queue_work(first)
        await scene.at_zero()
        assert scene.caught == {}


async def wait_for_room(scene: Scene, wait: str, ran: list[str]) -> None:
    if wait == "run":
        await scene.two.run(ran.append, "late")
    else:
        await scene.two.queue_work_wait(Work(ran.append, "late"))


@pytest.mark.parametrize("wait", ["run", "queue_work_wait"])
async def test_room_is_stuck_if_all_that_is_pending_stands_behind_stuck_holders(kind: Kind, wait: str) -> None:
    """W103. The holder's child task waits for who wants room, so the holder keeps its slot."""
    async with open_with(kind[1])() as supervisor:
        scene = Scene(supervisor, kind, max_active=1, max_pending=1)
        ran: list[str] = []

        async def want_room() -> None:
            await trio.sleep(1)
            with pytest.raises(DeadlockError, match=rf"active=1/1 inactive=1 parked=0>.{wait}\(\) for <Work holder"):
                await wait_for_room(scene, wait, ran)

        first = Work(want_room)
        scene.two.queue_work(Work(scene.in_child, "holder", first, name="holder"))
        scene.one.queue_work(first)
        await wait_all_tasks_blocked()
        scene.two.queue_work(Work(ran.append, "in line"))
        await scene.at_zero()
        assert scene.caught == {}
        assert ran == ["in line"], "who was refused by the error has queued nothing"


async def test_a_holder_that_closes_the_cycle_of_one_who_waits_for_room_raises(kind: Kind) -> None:
    """W103."""
    async with open_with(kind[1])() as supervisor:
        scene = Scene(supervisor, kind, max_active=1, max_pending=1)
        ran: list[str] = []

        async def hold() -> None:
            await trio.sleep(2)
            await scene.in_child("holder", first)

        first = Work(wait_for_room, scene, "queue_work_wait", ran)
        scene.two.queue_work(Work(hold))
        await wait_all_tasks_blocked()
        scene.two.queue_work(Work(ran.append, "in line"))
        scene.one.queue_work(first)
        await scene.at_zero()
        assert list(scene.caught) == ["holder"]
        assert ran == ["in line", "late"]


@pytest.mark.parametrize("way", ["own task", "second slot", "owned", "a member"])
async def test_room_that_will_come_about_is_not_stuck(kind: Kind, way: str) -> None:
    """W104: the holder parks, or another slot comes free, or who has queued the pending item withdraws it."""
    async with open_with(kind[1])() as supervisor, trio.open_nursery() as nursery:
        scene = Scene(supervisor, kind, max_active=2 if way == "second slot" else 1, max_pending=1)
        ran: list[str] = []

        async def own_for_a_while() -> None:
            with trio.move_on_after(5):
                await scene.two.run(ran.append, "owned")

        async def member_for_a_while() -> None:
            async with scene.two.open_group() as group:
                group.queue_work(Work(ran.append, "member"))
                await trio.sleep(5)
                group.cancel()

        async def want_room() -> None:
            await trio.sleep(1)
            await wait_for_room(scene, "queue_work_wait", ran)

        first = Work(want_room)
        scene.one.queue_work(first)
        if way == "second slot":
            scene.two.queue_work(Work(trio.sleep, 5))
            await wait_all_tasks_blocked()
        holder = scene.flush if way == "own task" else scene.in_child
        scene.two.queue_work(Work(holder, "holder", first))
        await wait_all_tasks_blocked()
        if way in ("owned", "a member"):
            nursery.start_soon(own_for_a_while if way == "owned" else member_for_a_while)
            await wait_all_tasks_blocked()
        else:
            scene.two.queue_work(Work(ran.append, "in line"))
        await trio.sleep(2)
        assert first.is_running or way == "own task", "it waits"
        await scene.at_zero()
        assert scene.caught == {}
        assert ran[-1] == "late"


async def freeze(supervisor: Supervisor, answers: list[object], *, in_child: bool) -> None:
    async def noted() -> None:
        try:
            answers.append(await supervisor.freeze())
        except DeadlockError as error:
            answers.append(str(error))

    if in_child:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(noted)
    else:
        await noted()


@pytest.mark.parametrize("in_child", [False, True])
async def test_a_freeze_that_waits_for_who_waits_for_it_raises_and_nothing_is_frozen(
    kind: Kind, in_child: bool
) -> None:
    """W103. Only who keeps its slot can be on such a cycle: who waits in its own task has parked."""
    async with open_with(kind[1])() as supervisor:
        scene = Scene(supervisor, kind)
        cold = supervisor.alloc_workqueue("cold", kind[0] | WQ_FREEZABLE)
        answers: list[object] = []

        async def freeze_later() -> None:
            await trio.sleep(1)
            await freeze(supervisor, answers, in_child=in_child)

        first = Work(freeze_later)
        cold.queue_work(Work(scene.in_child, "holder", first, name="holder"))
        scene.one.queue_work(first)
        await cold.flush()
        await scene.at_zero()
        (answer,) = answers
        assert isinstance(answer, str)
        assert ".freeze() for <Work holder running>, which waits in <Work" in answer
        assert not supervisor.statistics().frozen
        assert scene.caught == {}


async def test_a_wait_that_closes_the_cycle_of_a_freeze_raises(kind: Kind) -> None:
    """W103."""
    async with open_with(kind[1])() as supervisor:
        scene = Scene(supervisor, kind)
        cold = supervisor.alloc_workqueue("cold", kind[0] | WQ_FREEZABLE)
        answers: list[object] = []

        async def hold() -> None:
            await trio.sleep(1)
            await scene.in_child("holder", first)

        async def go_on() -> None:
            await freeze(supervisor, answers, in_child=True)
            supervisor.thaw()

        first = Work(go_on)
        cold.queue_work(Work(hold))
        await wait_all_tasks_blocked()
        scene.one.queue_work(first)
        await cold.flush()
        await scene.at_zero()
        assert answers == [True]
        assert list(scene.caught) == ["holder"]


async def test_a_wait_for_many_of_a_queue_without_rescuer_needs_nobody_to_wait(kind: Kind) -> None:
    """W105: no search, and no error, where nobody waits for the one who waits."""
    async with open_with(kind[1])() as supervisor:
        scene = Scene(supervisor, kind)

        async def square(number: int) -> int:
            await trio.sleep(1)
            return number * number

        async def wait_for_all(wq: Workqueue) -> None:
            assert await wq.map(square, range(5)) == [0, 1, 4, 9, 16]
            async with wq.open_group() as group:
                group.queue_work(Work(square, 2))
                await group.flush()
            await wq.lane("key").flush()

        scene.one.queue_work(Work(wait_for_all, scene.two))
        await scene.at_zero()
        assert kind[0] in (WQ_UNBOUND, 0)
