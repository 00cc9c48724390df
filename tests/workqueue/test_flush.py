"""Flush: of an item and of a queue; what is waited for, what is not, who is released when."""

import pytest
import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from ktrio.workqueue import Work, Workqueue, open_supervisor
from tests.workqueue.conftest import Trace, alloc, assert_at_zero


class Flushers:
    """Tasks that flush and write down when they are back, and with what."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self.done: dict[str, bool | None] = {}

    def start(self, name: str, target: Work | Workqueue) -> None:
        """Start a flusher; it has entered once all tasks are blocked."""
        self._nursery.start_soon(self._flush, name, target)

    async def _flush(self, name: str, target: Work | Workqueue) -> None:
        self.done[name] = await target.flush()


async def test_flushing_an_item_waits_for_its_end_and_says_so(trace: Trace) -> None:
    """W82; invariant 39: True iff it waited; at return the instance seen at entry has ended."""
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        wq, flushers = alloc(supervisor), Flushers(nursery)
        work = trace.holder("a")
        assert await work.flush() is False
        wq.queue_work(work)
        flushers.start("pending", work)
        await wait_all_tasks_blocked()
        flushers.start("running", work)
        await wait_all_tasks_blocked()
        assert flushers.done == {}
        trace.open("a")
        await wait_all_tasks_blocked()
        assert trace.ends == ["a"]
        assert flushers.done == {"pending": True, "running": True}
        assert await work.flush() is False


async def test_flushing_an_inactive_item_waits_for_its_run(trace: Trace) -> None:
    """W82; invariant 39."""
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        wq, flushers = alloc(supervisor, max_active=1), Flushers(nursery)
        works = trace.queue(wq, "a b")
        flushers.start("b", works["b"])
        trace.open("a")
        await wait_all_tasks_blocked()
        assert flushers.done == {}
        trace.open("b")
        await wait_all_tasks_blocked()
        assert flushers.done == {"b": True}


async def test_flushing_a_running_and_pending_item_waits_for_both_runs(trace: Trace) -> None:
    """W82; invariant 40."""
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        wq, flushers = alloc(supervisor), Flushers(nursery)
        work = trace.queue(wq, "a")["a"]
        await wait_all_tasks_blocked()
        wq.queue_work(work)
        flushers.start("both", work)
        await wait_all_tasks_blocked()
        trace.open("a")
        trace.shut("a")
        await wait_all_tasks_blocked()
        assert trace.events == ["a starts", "a ends", "a starts"]
        assert flushers.done == {}
        trace.open("a")
        await wait_all_tasks_blocked()
        assert flushers.done == {"both": True}


async def test_a_requeue_after_entry_is_not_waited_for(trace: Trace) -> None:
    """W82; invariant 41: the instance seen at entry is what counts."""
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        wq, flushers = alloc(supervisor), Flushers(nursery)
        work = trace.queue(wq, "a")["a"]
        await wait_all_tasks_blocked()
        flushers.start("first", work)
        await wait_all_tasks_blocked()
        wq.queue_work(work)
        trace.open("a")
        trace.shut("a")
        await wait_all_tasks_blocked()
        assert flushers.done == {"first": True}
        assert work.is_running
        trace.open("a")


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_an_item_that_requeues_itself_for_ever_can_be_flushed(kind: str) -> None:
    """W82; invariant 41: item and queue both."""
    stop = False

    def body() -> None:
        assert work.statistics().runs < 100_000, "nobody else ran"
        if not stop:
            wq.queue_work(work)

    async def async_body() -> None:
        await trio.lowlevel.checkpoint()
        body()

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        work = Work(async_body if kind == "async" else body)
        wq.queue_work(work)
        assert await work.flush() is True
        await wq.flush()
        assert work.is_pending or work.is_running
        stop = True


async def test_flushing_a_queue_waits_for_all_accepted_before(trace: Trace) -> None:
    """W83; invariant 42: running, active and inactive ones; not those queued after entry."""
    async with open_supervisor(2, capacity=1) as supervisor, trio.open_nursery() as nursery:
        wq, flushers = alloc(supervisor, max_active=2), Flushers(nursery)
        names = [str(number) for number in range(10)]
        trace.queue(wq, " ".join(names))
        await wait_all_tasks_blocked()
        books = wq.statistics()
        assert (books.running, books.pending, books.inactive) == (2, 8, 6)
        flushers.start("wq", wq)
        await wait_all_tasks_blocked()
        trace.queue(wq, "late later")
        for name in names:
            assert flushers.done == {}
            trace.open(name)
            await wait_all_tasks_blocked()
        assert flushers.done == {"wq": None}
        assert set(trace.ends) == set(names)
        trace.open("late", "later")


async def test_an_unbounded_producer_does_not_hold_up_a_flush() -> None:
    """W83; invariant 42: items queued after entry are not waited for."""
    flushed = False
    produced = 0

    async def body() -> None:
        nonlocal produced
        produced += 1
        assert produced < 10_000
        if not flushed:
            wq.queue_work(Work(body))
            wq.queue_work(Work(trio.lowlevel.checkpoint))
        await trio.lowlevel.checkpoint()

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=2)
        wq.queue_work(Work(body))
        await wq.flush()
        flushed = True
        await wq.drain()
        await assert_at_zero(supervisor, wq)


async def test_many_flushers_of_a_queue_return_in_the_order_of_their_entry(trace: Trace) -> None:
    """W84; invariant 43: far more than the kernel's 16 colours; who began earlier returns no later."""
    names = [str(number) for number in range(50)]
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        wq, flushers = alloc(supervisor), Flushers(nursery)
        for name in names:
            trace.queue(wq, name)
            flushers.start(name, wq)
            await wait_all_tasks_blocked()
        for count, name in enumerate(names):
            assert set(flushers.done) == set(names[:count])
            trace.open(name)
            await wait_all_tasks_blocked()
        assert set(flushers.done) == set(names)


async def test_many_flushers_wait_for_the_oldest_item(trace: Trace) -> None:
    """W84; invariant 43: later items that end first release nobody."""
    names = [str(number) for number in range(40)]
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        wq, flushers = alloc(supervisor), Flushers(nursery)
        for name in names:
            trace.queue(wq, name)
            flushers.start(name, wq)
            await wait_all_tasks_blocked()
        trace.open(*names[1:])
        await wait_all_tasks_blocked()
        assert flushers.done == {}
        trace.open(names[0])
        await wait_all_tasks_blocked()
        assert set(flushers.done) == set(names)


async def test_many_flushers_of_one_moment_all_return(trace: Trace) -> None:
    """W84; invariant 43."""
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        wq, flushers = alloc(supervisor), Flushers(nursery)
        works = trace.queue(wq, "a b")
        for number in range(20):
            flushers.start(f"wq {number}", wq)
            flushers.start(f"a {number}", works["a"])
        await wait_all_tasks_blocked()
        trace.open("a")
        await wait_all_tasks_blocked()
        assert set(flushers.done) == {f"a {number}" for number in range(20)}
        trace.open("b")
        await wait_all_tasks_blocked()
        assert len(flushers.done) == 40


async def test_flushing_what_is_idle_is_a_checkpoint_but_no_wait() -> None:
    """W95; invariant 44."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        work = Work(trio.lowlevel.checkpoint)
        with assert_checkpoints():
            assert await work.flush() is False
        with assert_checkpoints():
            await wq.flush()
        wq.queue_work(work)
        await wq.flush()
        with assert_checkpoints():
            assert await work.flush() is False
        with assert_checkpoints():
            await wq.flush()


async def test_flushing_with_an_item_that_is_over_while_another_runs_does_not_wait(trace: Trace) -> None:
    """Invariant 44: idle is the item's own matter."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        works = trace.queue(wq, "a b")
        trace.open("a")
        await wait_all_tasks_blocked()
        assert await works["a"].flush() is False
        trace.open("b")


@pytest.mark.parametrize("target", ["item", "queue"])
async def test_a_cancelled_flusher_returns_at_once_and_leaves_nothing(trace: Trace, target: str) -> None:
    """W94; invariant 45: counts as before; later flush and destroy work."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=1)
        works = trace.queue(wq, "a b")
        await wait_all_tasks_blocked()
        before = (wq.statistics(), trio.lowlevel.current_statistics().tasks_living)
        for _ in range(20):
            with trio.move_on_after(1) as scope:
                await (wq if target == "queue" else works["b"]).flush()
            assert scope.cancelled_caught
            assert trio.current_time() <= scope.deadline
        assert (wq.statistics(), trio.lowlevel.current_statistics().tasks_living) == before
        trace.open("a", "b")
        await (wq if target == "queue" else works["b"]).flush()
        assert trace.ends == ["a", "b"]
        await wq.destroy()


async def test_a_flusher_among_others_that_is_cancelled_does_not_take_them_along(trace: Trace) -> None:
    """W94; invariant 45."""
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        wq, flushers = alloc(supervisor), Flushers(nursery)
        trace.queue(wq, "a")
        flushers.start("before", wq)
        with trio.move_on_after(1):
            await wq.flush()
        flushers.start("after", wq)
        await wait_all_tasks_blocked()
        assert flushers.done == {}
        trace.open("a")
        await wait_all_tasks_blocked()
        assert set(flushers.done) == {"before", "after"}


async def test_cancelling_an_item_releases_its_flushers(trace: Trace) -> None:
    """W89; invariant 50: of the item and of the queue, active or inactive."""
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        wq, flushers = alloc(supervisor, max_active=1), Flushers(nursery)
        works = trace.queue(wq, "a b")
        await wait_all_tasks_blocked()
        flushers.start("b", works["b"])
        await wait_all_tasks_blocked()
        works["b"].cancel()
        await wait_all_tasks_blocked()
        assert flushers.done == {"b": True}
        wq.queue_work(works["b"])
        flushers.start("wq", wq)
        await wait_all_tasks_blocked()
        trace.open("a")
        works["b"].cancel()
        await wait_all_tasks_blocked()
        assert flushers.done == {"b": True, "wq": None}
        assert trace.starts == ["a"]


async def test_cancelling_an_active_item_releases_its_flushers(trace: Trace) -> None:
    """W89; invariant 50: an item that waits for a place in the pool."""
    async with open_supervisor(capacity=1) as supervisor, trio.open_nursery() as nursery:
        wq, flushers = alloc(supervisor), Flushers(nursery)
        works = trace.queue(wq, "a b")
        flushers.start("b", works["b"])
        await wait_all_tasks_blocked()
        works["b"].cancel()
        await wait_all_tasks_blocked()
        assert flushers.done == {"b": True}
        trace.open("a")


async def test_an_item_that_flushes_another_queue_gives_its_slot_back_meanwhile(trace: Trace) -> None:
    """W102; P1 by itself: flush of others parks the caller while it waits."""

    async def body(target: Work | Workqueue) -> None:
        trace.note("caller waits")
        await target.flush()
        trace.note("caller returns")

    async with open_supervisor() as supervisor:
        wq, other = alloc(supervisor, max_active=1), alloc(supervisor, "other")
        target = trace.queue(other, "target")["target"]
        for waited_for in (target, other):
            trace.shut("target")
            other.queue_work(target)
            wq.queue_work(Work(body, waited_for))
            works = trace.queue(wq, "next")
            await wait_all_tasks_blocked()
            assert trace.events[-3:].count("next starts") == 1
            books = wq.statistics()
            assert (books.nr_active, books.running, books.parked) == (1, 2, 1)
            trace.open("next", "target")
            await works["next"].flush()
            await wq.flush()
            assert trace.events[-1] == "caller returns"
            trace.shut("next")


async def test_an_item_flushes_one_behind_it_on_a_queue_of_one_slot(trace: Trace) -> None:
    """W102; invariant 58 has no false positive: the caller parks, so the item behind it can run."""

    async def body() -> None:
        trace.note("caller starts")
        assert await behind.flush() is True
        trace.note("caller returns")

    async with open_supervisor(capacity=1) as supervisor:
        wq = alloc(supervisor, max_active=1)
        behind = trace.holder("behind")
        wq.queue_work(Work(body))
        wq.queue_work(behind)
        trace.open("behind")
    assert trace.events == ["caller starts", "behind starts", "behind ends", "caller returns"]


async def test_a_flush_with_nothing_new_waits_for_all_there_is(trace: Trace) -> None:
    """W83, W84; invariant 42: for what an earlier flush waits for, and for what was queued after that."""
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        wq, flushers = alloc(supervisor), Flushers(nursery)
        for item, flusher in [("a", "first"), ("b", "second")]:
            trace.queue(wq, item)
            flushers.start(flusher, wq)
            await wait_all_tasks_blocked()
        flushers.start("third", wq)
        await wait_all_tasks_blocked()
        trace.open("a")
        await wait_all_tasks_blocked()
        assert list(flushers.done) == ["first"]
        trace.open("b")
        await wait_all_tasks_blocked()
        assert sorted(flushers.done) == ["first", "second", "third"]
        await assert_at_zero(supervisor, wq)
