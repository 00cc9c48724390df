"""Workers yield: after 64 items or one millisecond, so nobody is stopped by a queue that is never empty."""

from collections import Counter

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from ktrio.workqueue import Work, open_supervisor
from tests.workqueue.conftest import Trace, alloc, assert_at_zero

BATCH = 64


class Meter(trio.abc.Instrument):
    """Counts the items that each worker runs in each turn of the loop."""

    def __init__(self) -> None:
        self.turn = 0
        self.runs: Counter[tuple[int, trio.lowlevel.Task]] = Counter()

    def before_io_wait(self, timeout: float) -> None:
        self.turn += 1

    def run(self) -> None:
        """Count one item of the worker that is running now."""
        self.runs[self.turn, trio.lowlevel.current_task()] += 1


@pytest.fixture
def meter() -> Meter:
    """A meter that is an instrument of the test's loop from the first turn on."""
    return Meter()


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_worker_yields_after_64_items(meter: Meter, kind: str) -> None:
    """W47."""

    async def run() -> None:
        meter.run()

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=10_000)
        for _ in range(2000):
            wq.queue_work(Work(run if kind == "async" else meter.run))
        await wq.flush()
    assert meter.runs.total() == 2000
    assert max(meter.runs.values()) == BATCH


async def test_a_worker_yields_after_a_millisecond(meter: Meter, autojump_clock: MockClock) -> None:
    """W47."""

    def burn() -> None:
        autojump_clock.jump(0.0004)
        meter.run()

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=1000)
        for _ in range(300):
            wq.queue_work(Work(burn))
        await wq.flush()
    # Three items of 0.4 ms pass the millisecond.
    assert max(meter.runs.values()) == 3


async def test_an_item_of_a_millisecond_is_followed_by_a_yield(meter: Meter, autojump_clock: MockClock) -> None:
    """W47."""

    def burn() -> None:
        autojump_clock.jump(0.0015)
        meter.run()

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        for _ in range(30):
            wq.queue_work(Work(burn))
        await wq.flush()
    assert set(meter.runs.values()) == {1}


@pytest.mark.parametrize(("max_active", "capacity"), [(1, 512), (16, 512), (16, 1), (1, 1)])
@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_an_item_that_requeues_itself_for_ever_stops_nobody(
    trace: Trace, meter: Meter, kind: str, max_active: int, capacity: int
) -> None:
    """W47. Neither tasks outside, nor items behind it on its own queue, nor other queues of its pool."""
    stop = False

    def body() -> None:
        meter.run()
        assert work.statistics().runs < 100_000, "nobody else ran"
        if not stop:
            assert wq.queue_work(work)

    async def async_body() -> None:
        body()

    async with open_supervisor(capacity=capacity) as supervisor:
        wq, other = alloc(supervisor, max_active=max_active), alloc(supervisor, "other")
        work = Work(async_body if kind == "async" else body)
        wq.queue_work(work)
        trace.open("behind", "other")
        for _ in range(20):
            await trio.lowlevel.checkpoint()
        behind, elsewhere = trace.holder("behind"), trace.holder("other")
        wq.queue_work(behind)
        other.queue_work(elsewhere)
        await behind.flush()
        await elsewhere.flush()
        stop = True
        await wq.drain()
        await assert_at_zero(supervisor, wq, other)
    assert sorted(trace.ends) == ["behind", "other"]
    assert max(meter.runs.values()) <= BATCH


async def test_two_items_that_requeue_each_other_stop_nobody(trace: Trace) -> None:
    """W47."""
    stop = False

    def body(other: int) -> None:
        assert works[0].statistics().runs < 100_000, "nobody else ran"
        if not stop:
            wq.queue_work(works[other])

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=1)
        works = [Work(body, 1), Work(body, 0)]
        wq.queue_work(works[0])
        for _ in range(50):
            await trio.lowlevel.checkpoint()
        trace.queue(wq, "a")
        trace.open("a")
        while trace.ends != ["a"]:
            await trio.lowlevel.checkpoint()
        stop = True
        await wait_all_tasks_blocked()
        await assert_at_zero(supervisor, wq)
