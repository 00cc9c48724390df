"""Cycles of waits that nothing can end raise at once (invariant 58); those that something can end do not.

The kernel's lockdep reports these; here the last wait raises, and names everything on the cycle.
"""

from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio
import trio.lowlevel
from trio.testing import wait_all_tasks_blocked

from ktrio.workqueue import DeadlockError, Supervisor, Work, Workqueue, open_supervisor, parked
from ktrio.workqueue._wait_graph import NURSERY_END
from tests.workqueue.conftest import KIND_NAMES, KINDS, Kind, assert_at_zero, open_with

pytestmark = pytest.mark.parametrize("kind", KINDS, ids=KIND_NAMES)

Wait = Callable[[], Awaitable[object]]


class Cast:
    """Items `a`, `b`, `c`, each of a queue of its own; they wait a second after the other, and tell what came of it."""

    def __init__(self, supervisor: Supervisor, kind: Kind, names: str = "a b c") -> None:
        flags, _ = kind
        self.supervisor = supervisor
        self.wqs: dict[str, Workqueue] = {name: supervisor.alloc_workqueue(f"q{name}", flags) for name in names.split()}
        self.works: dict[str, Work] = {}
        self.caught: list[tuple[str, str]] = []
        self.ended: list[str] = []

    def begin(self, name: str, *waits: Wait) -> Work:
        """Queue the item: it waits for all of these, one after another."""

        async def script() -> None:
            await trio.sleep(" abc".index(name))
            try:
                for wait in waits:
                    await wait()
            except* DeadlockError as group:
                for error in group.exceptions:
                    self.caught.append((name, str(error)))
            self.ended.append(name)

        work = self.works[name] = Work(script, name=name)
        assert self.wqs[name].queue_work(work)
        return work

    async def all_end(self) -> None:
        """Everything ends, and the books are at zero: whoever hangs runs into the deadline of the test."""
        while busy := [wq for wq in self.wqs.values() if wq.in_flight]:
            for wq in busy:
                await wq.flush()
        await assert_at_zero(self.supervisor, *self.wqs.values())
        for wq in self.wqs.values():
            assert not wq.waits


WAYS: dict[str, Callable[[Cast, str], Awaitable[object]]] = {
    "Work.flush": lambda cast, name: cast.works[name].flush(),
    "Work.result": lambda cast, name: cast.works[name].result(),
    "Work.cancel_sync": lambda cast, name: cast.works[name].cancel_sync(),
    "Workqueue.flush": lambda cast, name: cast.wqs[name].flush(),
    "Workqueue.drain": lambda cast, name: cast.wqs[name].drain(),
    "Workqueue.destroy": lambda cast, name: cast.wqs[name].destroy(),
}


@pytest.mark.parametrize("there", WAYS)
@pytest.mark.parametrize("back", WAYS)
async def test_two_that_wait_for_each_other_raise_in_the_second_and_name_both(
    kind: Kind, there: str, back: str
) -> None:
    """W103."""
    async with open_with(kind[1])() as supervisor:
        cast = Cast(supervisor, kind, "a b")
        cast.begin("a", lambda: WAYS[there](cast, "b"))
        cast.begin("b", lambda: WAYS[back](cast, "a"))
        await cast.all_end()
        ((who, text),) = cast.caught
        assert who == "b"
        assert cast.ended == ["b", "a"]
        for name in ("Work a", "Work b", there.partition(".")[2], back.partition(".")[2]):
            assert name in text, text


async def test_the_message_names_everything_in_order(kind: Kind) -> None:
    """W103."""
    async with open_with(kind[1])() as supervisor:
        cast = Cast(supervisor, kind)
        cast.begin("a", lambda: cast.works["b"].flush())
        cast.begin("b", lambda: cast.wqs["c"].drain())
        cast.begin("c", lambda: cast.works["a"].cancel_sync())
        await cast.all_end()
        ((who, text),) = cast.caught
    assert who == "c"
    assert text == (
        "certain deadlock: <Work c running> waits in <Work a parked>.cancel_sync(), which waits in "
        "<Work b parked>.flush(), which waits in <Workqueue 'qc' active=1/256 inactive=0 parked=0 draining>.drain() "
        "for <Work c running>"
    )


async def test_a_call_of_run_that_waits_for_its_caller_raises(kind: Kind) -> None:
    """W103."""
    async with open_with(kind[1])() as supervisor:
        cast = Cast(supervisor, kind, "a b")
        cast.begin("a", lambda: cast.wqs["b"].run(cast.works["a"].flush))
        await cast.all_end()
        ((who, text),) = cast.caught
        assert who == "a"
        assert "waits in <Work a parked>.flush(), which waits in <Work Work.flush running>.run()" in text


async def test_a_queueing_that_comes_after_a_stuck_run_is_stuck(kind: Kind) -> None:
    """The flush of an item queued again waits for the run before, too."""
    async with open_with(kind[1])() as supervisor:
        cast = Cast(supervisor, kind, "a b")

        async def again() -> None:
            if cast.works["a"].statistics().runs == 1:
                assert cast.wqs["a"].queue_work(cast.works["a"])
                await cast.works["a"].flush()

        cast.begin("a", lambda: cast.works["b"].flush())
        cast.begin("b", again)
        await cast.all_end()
        assert [name for name, _ in cast.caught] == ["b"]


async def test_one_withdrawn_behind_a_stuck_run_is_stuck_with_it(kind: Kind) -> None:
    """Its flush goes on to wait for the run before."""
    async with open_with(kind[1])() as supervisor:
        cast = Cast(supervisor, kind)
        a = cast.begin("a", trio.lowlevel.checkpoint, partial(trio.sleep, 3), lambda: cast.works["b"].flush())

        async def flush_again() -> None:
            assert cast.wqs["a"].queue_work(a)
            await a.flush()

        async def withdraw() -> None:
            assert a.cancel()

        cast.begin("b", flush_again)
        cast.begin("c", withdraw)
        await cast.all_end()
        assert [name for name, _ in cast.caught] == ["a"]


def in_child(wait: Wait) -> Wait:
    """The wait of a child task, at the end of whose nursery the item waits."""

    async def waits() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)

    return waits


async def test_a_child_task_waits_for_its_item_when_that_waits_for_it(kind: Kind) -> None:
    assert NURSERY_END is not None, "this Trio calls the end of a nursery something else: see NURSERY_END"
    async with open_with(kind[1])() as supervisor:
        cast = Cast(supervisor, kind, "a b")
        cast.begin("a", in_child(in_child(lambda: cast.works["b"].flush())))
        cast.begin("b", in_child(lambda: cast.wqs["a"].flush()))
        await cast.all_end()
        assert [name for name, _ in cast.caught] == ["b"]


async def test_several_child_tasks_that_are_all_stuck_are_certain(kind: Kind) -> None:
    """W104."""
    async with open_with(kind[1])() as supervisor:
        cast = Cast(supervisor, kind)

        async def both() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(cast.works["b"].flush)
                nursery.start_soon(cast.works["c"].flush)

        cast.begin("a", both)
        cast.begin("b", lambda: cast.works["a"].flush())
        cast.begin("c", lambda: cast.works["a"].flush())
        await trio.sleep(4)
        # The wait of b was not certain: c might have ended, and the task that waits for c have cancelled the other.
        assert [name for name, _ in cast.caught] == ["c"]
        assert cast.ended == ["c"]  # and that end closed a cycle without a wait
        cast.works["a"].interrupt()
        await cast.all_end()


async def test_behind_a_child_that_keeps_the_slot_is_certain(kind: Kind) -> None:
    """W104; invariant 58: flush of an item behind me on max_active 1, from where it does not park."""
    async with open_with(kind[1])() as supervisor:
        cast = Cast(supervisor, kind, "a b")
        cast.wqs["a"].set_max_active(1)
        behind = Work(int, name="behind")

        async def queue_and_flush() -> None:
            assert cast.wqs["a"].queue_work(behind)
            await behind.flush()

        cast.begin("a", in_child(queue_and_flush))
        await cast.all_end()
        ((_, text),) = cast.caught
        assert "<Work a running> waits in <Work behind inactive on 'qa'>.flush() for <Work a running>" in text
        assert behind.statistics().runs == 1


async def test_waiting_for_a_parked_item_while_holding_the_slot_it_needs_is_certain(kind: Kind) -> None:
    """The deadlock that parking brings: `a` parks, `b` takes the slot, and its child task waits for `a`."""
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("one slot", kind[0], max_active=1)
        caught: list[str] = []

        async def parks() -> None:
            try:
                async with parked():
                    await trio.sleep(5)
            except DeadlockError as error:
                caught.append(str(error))

        first = Work(parks, name="a")
        wq.queue_work(first)
        wq.queue_work(Work(in_child(first.flush), name="b"))
        await wq.flush()
        await assert_at_zero(supervisor, wq)
        assert wq.statistics().overshoot == 1  # P4: it came back with that error
        (text,) = caught
        assert text == (
            "certain deadlock: <Work a parked> waits in its return from parked() for <Work b running>, "
            "which waits in <Work a parked>.flush()"
        )


async def test_the_same_the_other_way_round_raises_in_who_waits(kind: Kind) -> None:
    """`a` stands in line for the slot of `b` already when the child task of `b` begins to wait for it."""
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("one slot", kind[0], max_active=1)
        caught: list[str] = []

        async def parks() -> None:
            async with parked():
                await trio.sleep(1)

        async def waits() -> None:
            try:
                await first.flush()
            except DeadlockError as error:
                caught.append(str(error))

        first = Work(parks, name="a")
        wq.queue_work(first)

        async def later() -> None:
            await trio.sleep(2)
            await in_child(waits)()

        wq.queue_work(Work(later, name="b"))
        await wq.flush()
        await assert_at_zero(supervisor, wq)
        assert len(caught) == 1


async def test_the_same_for_a_place_in_the_pool_is_certain(kind: Kind) -> None:
    async with open_with(kind[1])(capacity=1) as supervisor:
        wq = supervisor.alloc_workqueue("one place", kind[0])
        caught: list[str] = []

        async def parks() -> None:
            try:
                async with parked():
                    await trio.sleep(5)
            except DeadlockError as error:
                caught.append(str(error))

        first = Work(parks, name="a")
        wq.queue_work(first)
        wq.queue_work(Work(in_child(first.flush), name="b"))
        await wq.flush()
        await assert_at_zero(supervisor, wq)
        assert len(caught) == 1


# -- and what is not certain


@pytest.mark.parametrize("way", [way for way in WAYS if way != "Work.result"])  # an idle item has none
async def test_waiting_for_others_is_fine(kind: Kind, way: str) -> None:
    """W104. No false positive: chains that end, and queues that are flushed from below (invariant 58)."""
    async with open_with(kind[1])() as supervisor:
        cast = Cast(supervisor, kind)
        cast.begin("c", partial(trio.sleep, 1))
        cast.begin("b", lambda: WAYS[way](cast, "c"))
        cast.begin("a", lambda: WAYS[way](cast, "b"), lambda: WAYS[way](cast, "c"))
        await cast.all_end()
        assert not cast.caught


async def test_a_flush_does_not_wait_for_what_came_later(kind: Kind) -> None:
    """`b` was queued after that flush of its queue began."""
    async with open_with(kind[1])() as supervisor:
        cast = Cast(supervisor, kind, "a b")
        before = Work(trio.sleep, 5)
        cast.wqs["b"].queue_work(before)
        cast.begin("a", lambda: cast.wqs["b"].flush())
        await trio.sleep(1.5)
        cast.begin("b", lambda: cast.works["a"].flush())
        await cast.all_end()
        assert not cast.caught
        assert cast.ended == ["a", "b"]


async def test_a_deadline_ends_a_wait_so_nothing_is_certain(kind: Kind) -> None:
    """W104."""
    async with open_with(kind[1])() as supervisor:
        cast = Cast(supervisor, kind, "a b")

        async def for_a_while() -> None:
            with trio.move_on_after(10):
                await cast.works["b"].flush()

        cast.begin("a", for_a_while)
        cast.begin("b", lambda: cast.works["a"].flush())
        await cast.all_end()
        assert not cast.caught
        assert cast.ended == ["a", "b"]


async def test_the_wait_that_closes_the_cycle_may_have_the_deadline(kind: Kind) -> None:
    async with open_with(kind[1])() as supervisor:
        cast = Cast(supervisor, kind, "a b")

        async def for_a_while() -> None:
            with trio.move_on_after(10):
                await cast.works["a"].flush()

        cast.begin("a", lambda: cast.works["b"].flush())
        cast.begin("b", for_a_while)
        await cast.all_end()
        assert not cast.caught


async def test_deadlines_around_the_supervisor_end_everything_and_do_not_count(kind: Kind) -> None:
    with trio.move_on_after(1000) as scope:
        async with open_with(kind[1])() as supervisor:
            cast = Cast(supervisor, kind, "a b")
            cast.begin("a", lambda: cast.works["b"].flush())
            cast.begin("b", lambda: cast.works["a"].flush())
            await cast.all_end()
            assert [name for name, _ in cast.caught] == ["b"]
    assert not scope.cancelled_caught


@pytest.mark.parametrize("sibling", ["in the nursery", "the item's own task"])
async def test_somebody_of_the_item_goes_on_and_may_end_the_wait(kind: Kind, sibling: str) -> None:
    """W104."""
    async with open_with(kind[1])() as supervisor:
        cast = Cast(supervisor, kind, "a b")

        async def ends_it() -> None:
            async with trio.open_nursery() as nursery:

                async def later() -> None:
                    await trio.sleep(10)
                    nursery.cancel_scope.cancel()

                nursery.start_soon(cast.works["b"].flush)
                if sibling == "in the nursery":
                    nursery.start_soon(later)
                else:
                    await later()

        cast.begin("a", ends_it)
        cast.begin("b", lambda: cast.works["a"].flush())
        await cast.all_end()
        assert not cast.caught


async def test_a_task_at_the_end_of_an_inner_nursery_may_be_about_to_leave_it(kind: Kind) -> None:
    """The inner nursery is empty, so its task goes on; the outer one's child waits."""
    async with open_with(kind[1])() as supervisor:
        cast = Cast(supervisor, kind, "a b")

        async def steps_out() -> None:
            async with trio.open_nursery() as outer:
                outer.start_soon(cast.works["b"].flush)
                async with trio.open_nursery() as inner:
                    inner.start_soon(trio.sleep, 1)
                outer.cancel_scope.cancel()

        cast.begin("a", steps_out)  # from 1 to 2
        cast.begin("b", lambda: cast.works["a"].flush())  # at 2
        await cast.all_end()
        assert not cast.caught


async def test_a_wait_that_has_just_been_cancelled_or_released_does_not_count(kind: Kind) -> None:
    """Its task is in the books until it runs again; Trio says already that it will."""
    async with open_with(kind[1])() as supervisor:
        cast = Cast(supervisor, kind)
        scope = trio.CancelScope()

        async def until_cancelled() -> None:
            with scope:
                await cast.works["b"].flush()

        async def cancel_and_wait() -> None:
            scope.cancel()
            await cast.works["a"].flush()

        cast.begin("a", until_cancelled)
        cast.begin("b", cancel_and_wait)
        await cast.all_end()
        assert not cast.caught


async def test_interrupting_who_waits_for_me_is_fine(kind: Kind) -> None:
    """W104."""
    async with open_with(kind[1])() as supervisor:
        cast = Cast(supervisor, kind, "a b")
        cast.begin("a", lambda: cast.works["b"].flush())
        cast.begin("b", lambda: cast.works["a"].cancel_sync(interrupt=True))
        await cast.all_end()
        assert not cast.caught
        assert cast.ended == ["b"]


async def test_cancelling_the_pending_item_behind_me_is_fine(kind: Kind) -> None:
    """W104; invariants 48, 58: cancel_sync waits for no pending item."""
    async with open_with(kind[1])() as supervisor:
        cast = Cast(supervisor, kind, "a")
        cast.wqs["a"].set_max_active(1)
        behind = Work(int, name="behind")

        async def cancel() -> None:
            assert cast.wqs["a"].queue_work(behind)
            assert await behind.cancel_sync()

        cast.begin("a", in_child(cancel))
        await cast.all_end()
        assert not cast.caught


async def test_behind_me_is_fine_where_i_park_or_another_slot_is_free_to_end(kind: Kind) -> None:
    """W104."""
    async with open_with(kind[1])() as supervisor:
        cast = Cast(supervisor, kind, "a b")
        cast.wqs["a"].set_max_active(2)
        behind = Work(int, name="behind")
        cast.wqs["a"].queue_work(Work(trio.sleep, 10))

        async def queue_and_flush() -> None:
            assert cast.wqs["a"].queue_work(behind)
            await behind.flush()

        cast.begin("a", in_child(queue_and_flush))
        await cast.all_end()
        assert not cast.caught


async def test_who_has_drained_itself_may_be_waited_for(kind: Kind) -> None:
    """W104. Chained queueing while somebody drains is no wait (invariant 58)."""
    async with open_with(kind[1])() as supervisor:
        cast = Cast(supervisor, kind, "a b")

        async def chain() -> None:
            for _ in range(3):
                assert cast.wqs["a"].queue_work(Work(trio.sleep, 1))
                await trio.sleep(1)

        cast.begin("a", chain)
        cast.begin("b", lambda: cast.wqs["a"].drain())
        await cast.all_end()
        assert not cast.caught


async def test_waits_leave_the_books_when_cancelled(kind: Kind) -> None:
    async with open_with(kind[1])() as supervisor:
        cast = Cast(supervisor, kind, "a b")
        a = cast.begin("a", lambda: cast.works["b"].flush())
        cast.begin("b", partial(trio.sleep, 100))
        await trio.sleep(1.5)
        assert len(cast.wqs["a"].waits) == 1
        a.interrupt()
        await wait_all_tasks_blocked()
        assert not cast.wqs["a"].waits


async def test_a_deadlock_in_run_leaves_no_item_behind(kind: Kind) -> None:
    """The item that could never begin is withdrawn."""
    async with open_with(kind[1])() as supervisor:
        cast = Cast(supervisor, kind, "a")
        cast.wqs["a"].set_max_active(1)
        ran: list[int] = []
        cast.begin("a", in_child(lambda: cast.wqs["a"].run(ran.append, 1)))
        await cast.all_end()
        assert [name for name, _ in cast.caught] == ["a"]
        assert not ran
        assert cast.wqs["a"].statistics().cancelled == 1


async def test_long_chains_cost_no_search(kind: Kind) -> None:
    """W105. Each flushes the one before: nobody waits for the one who begins to, so nothing is searched."""
    async with open_supervisor() as supervisor:
        wq = supervisor.alloc_workqueue("chain", kind[0], max_active=2000)

        async def follow(before: Work | None) -> None:
            await trio.lowlevel.checkpoint()
            if before is not None:
                await before.flush()

        works: list[Work] = []
        for _ in range(1000):
            works.append(Work(follow, works[-1] if works else None))
            wq.queue_work(works[-1])
        await wq.flush()
        await assert_at_zero(supervisor, wq)
