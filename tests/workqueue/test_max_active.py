"""max_active: slots per pwq, promotion in queue order, raising and lowering."""

import random

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from ktrio.workqueue import WQ_UNBOUND, Work, open_supervisor
from tests.workqueue.conftest import Trace, alloc, assert_at_zero


@pytest.mark.parametrize("max_active", [1, 2, 3, 7])
async def test_nr_active_never_exceeds_max_active(max_active: int) -> None:
    """W28; invariant 10: per pwq; items that run at once are as many as the slots, and all slots are used."""
    running = [0, 0]
    most = [0, 0]

    async def body(cpu: int, naps: int) -> None:
        running[cpu] += 1
        most[cpu] = max(most[cpu], running[cpu])
        assert wq.statistics().pwqs[cpu].nr_active <= max_active
        for _ in range(naps):
            await trio.sleep(1)
        running[cpu] -= 1

    async with open_supervisor(2) as supervisor:
        wq = alloc(supervisor, max_active=max_active)
        for index in range(60):
            wq.queue_work_on(index % 2, Work(body, index % 2, index % 4))
        await wq.flush()
        await assert_at_zero(supervisor, wq)
    assert most == [max_active, max_active]


async def test_each_cpu_has_its_own_slots(trace: Trace) -> None:
    """W29; invariant 10: max_active 1 is one at a time and FIFO per CPU; two CPUs overlap."""
    async with open_supervisor(2) as supervisor:
        wq = alloc(supervisor, max_active=1)
        trace.queue(wq, "a b", cpu=0)
        trace.queue(wq, "c d", cpu=1)
        await wait_all_tasks_blocked()
        assert sorted(trace.starts) == ["a", "c"]
        trace.open("c")
        await wait_all_tasks_blocked()
        assert trace.starts[2:] == ["d"]
        trace.open("a", "b", "d")
    assert trace.starts == [*trace.starts[:2], "d", "b"]


async def test_lowering_cancels_nothing_and_starts_nothing_until_below(trace: Trace) -> None:
    """W34; invariant 10: after a lowering nr_active only falls until it is under the new limit."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=4)
        trace.queue(wq, "a b c d e f g")
        await wait_all_tasks_blocked()
        wq.set_max_active(2)
        assert wq.max_active == 2
        actives = []
        for name in "abc":
            await wait_all_tasks_blocked()
            actives.append((wq.statistics().nr_active, len(trace.starts)))
            trace.open(name)
        await wait_all_tasks_blocked()
        assert actives == [(4, 4), (3, 4), (2, 4)]
        assert (wq.statistics().nr_active, trace.starts) == (2, list("abcde"))
        trace.open(*"defg")
    assert trace.starts == list("abcdefg")


async def test_no_slot_is_free_while_an_item_is_inactive() -> None:
    """W30; invariant 12: at any moment somebody looks."""
    rng = random.Random(12)
    looks = 0

    def look() -> None:
        nonlocal looks
        for pwq in wq.statistics().pwqs:
            assert pwq.inactive == 0 or pwq.nr_active >= wq.max_active
            looks += pwq.inactive > 0

    async def body(naps: int) -> None:
        look()
        for _ in range(naps):
            await trio.sleep(naps)
            look()

    async with open_supervisor(2) as supervisor:
        wq = alloc(supervisor, max_active=2)
        works = [Work(body, rng.randrange(3)) for _ in range(30)]
        for _ in range(300):
            work = rng.choice(works)
            match rng.randrange(8):
                case 0:
                    work.cancel()
                case 1:
                    wq.set_max_active(rng.randint(1, 5))
                case 2:
                    await trio.sleep(rng.random())
                case _:
                    wq.queue_work(work)
            look()
    assert looks > 50


async def test_activation_follows_queue_order_minus_the_cancelled(trace: Trace) -> None:
    """W32; invariant 13."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=1)
        works = trace.queue(wq, "a b c d e f")
        await wait_all_tasks_blocked()
        assert works["b"].cancel()
        assert works["e"].cancel()
        trace.open(*works)
        await wq.flush()
        assert trace.starts == list("acdf")
        await assert_at_zero(supervisor, wq)


async def test_a_newcomer_never_overtakes_an_inactive_item(trace: Trace) -> None:
    """W33; invariant 14: not even right after max_active was raised, in the same stretch."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=1)
        trace.queue(wq, "a b c")
        await wait_all_tasks_blocked()
        wq.set_max_active(2)
        trace.queue(wq, "d")
        await wait_all_tasks_blocked()
        assert trace.starts == ["a", "b"]
        trace.open("a")
        trace.queue(wq, "e")
        await wait_all_tasks_blocked()
        assert trace.starts == ["a", "b", "c"]
        trace.open(*"bcde")
    assert trace.starts == list("abcde")


async def test_a_cancelled_and_requeued_item_goes_to_the_end(trace: Trace) -> None:
    """W33; invariant 14: a cancelled place is lost."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=1)
        works = trace.queue(wq, "a b c")
        assert works["b"].cancel()
        assert wq.queue_work(works["b"])
        trace.open(*works)
    assert trace.starts == ["a", "c", "b"]


@pytest.mark.parametrize(("raised", "promoted"), [(2, 1), (3, 2), (5, 4), (50, 5)])
async def test_raising_promotes_at_once(trace: Trace, raised: int, promoted: int) -> None:
    """W34; invariant 18: min(new slots, inactive), without any completion."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=1)
        trace.queue(wq, "a b c d e f")
        await wait_all_tasks_blocked()
        wq.set_max_active(raised)
        books = wq.statistics()
        assert (books.nr_active, books.inactive) == (1 + promoted, 5 - promoted)
        await wait_all_tasks_blocked()
        assert trace.starts == list("abcdef")[: 1 + promoted]
        trace.open(*"abcdef")


async def test_raising_promotes_on_every_cpu(trace: Trace) -> None:
    """W34; invariant 18."""
    async with open_supervisor(3) as supervisor:
        wq = alloc(supervisor, max_active=1)
        names = [str(number) for number in range(9)]
        trace.queue(wq, " ".join(names))
        wq.set_max_active(2)
        assert [(pwq.nr_active, pwq.inactive) for pwq in wq.statistics().pwqs] == [(2, 1)] * 3
        trace.open(*names)


async def test_cancelling_an_active_item_promotes_exactly_one(trace: Trace) -> None:
    """W31; invariant 19: it held a slot, although it had not started."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=2)
        works = trace.queue(wq, "a b c d")
        assert works["b"].cancel() is True
        books = wq.statistics()
        assert (books.nr_active, books.inactive, books.cancelled) == (2, 1, 1)
        await wait_all_tasks_blocked()
        assert trace.starts == ["a", "c"]
        trace.open(*works)
    assert trace.starts == ["a", "c", "d"]


async def test_cancelling_an_inactive_item_promotes_none(trace: Trace) -> None:
    """W31; invariant 19."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=2)
        works = trace.queue(wq, "a b c d")
        assert works["c"].cancel() is True
        books = wq.statistics()
        assert (books.nr_active, books.inactive) == (2, 1)
        await wait_all_tasks_blocked()
        assert trace.starts == ["a", "b"]
        trace.open(*works)
    assert trace.starts == ["a", "b", "d"]


async def test_slots_return_to_zero(trace: Trace) -> None:
    """W162; invariant 21: whichever way items leave: ended, cancelled, interrupted, failed."""
    failed: list[Exception] = []

    def fail() -> None:
        raise ValueError

    async with open_supervisor() as supervisor:
        wq = supervisor.alloc_workqueue(
            "test", WQ_UNBOUND, max_active=3, on_error=lambda work, error: failed.append(error)
        )
        works = trace.queue(wq, "a b c d e")
        wq.queue_work(Work(fail))
        await wait_all_tasks_blocked()
        assert wq.statistics().nr_active == 3
        works["d"].cancel()
        works["a"].interrupt()
        trace.open("b", "c", "e")
        await wq.flush()
        await assert_at_zero(supervisor, wq)
        assert len(failed) == 1


async def test_an_item_waiting_for_capacity_holds_its_slot(trace: Trace) -> None:
    """W28, W37. nr_active counts what waits on the worklist."""
    async with open_supervisor(capacity=1) as supervisor:
        wq = alloc(supervisor, max_active=2)
        trace.queue(wq, "a b c")
        await wait_all_tasks_blocked()
        books = wq.statistics()
        assert (books.running, books.nr_active, books.inactive, books.pending) == (1, 2, 1, 2)
        trace.open(*"abc")


async def test_zero_means_the_default_of_256() -> None:
    """W29."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        assert wq.max_active == 256
        wq.set_max_active(3)
        assert wq.max_active == 3
        wq.set_max_active(0)
        assert wq.max_active == 256
        assert alloc(supervisor, "widest", 65_536).max_active == 65_536


@pytest.mark.parametrize("number", [-1, 65_537])
async def test_a_max_active_out_of_range_is_an_error(number: int) -> None:
    """W35."""
    async with open_supervisor() as supervisor:
        with pytest.raises(ValueError, match=str(number)):
            alloc(supervisor, "bad", number)
        wq = alloc(supervisor)
        with pytest.raises(ValueError, match=str(number)):
            wq.set_max_active(number)
        assert wq.max_active == 256
