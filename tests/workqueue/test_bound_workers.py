"""Workers of bound pools: woken most recent first, one for a burst, culled like any others."""

from collections import Counter

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from ktrio.workqueue import Work
from tests.workqueue.conftest import Open, Trace, alloc_bound, assert_at_zero, bound_pool

IDLE_TIMEOUT = 10.0


def names_of(count: int, prefix: str = "") -> list[str]:
    return [f"{prefix}{number}" for number in range(count)]


async def test_the_most_recently_idled_worker_is_woken_first(open_bound: Open, trace: Trace) -> None:
    """W44; invariant 31: last in, first out."""
    tasks: dict[str, trio.lowlevel.Task] = {}

    async def body(name: str) -> None:
        tasks[name] = trio.lowlevel.current_task()
        await trace.hold(name)

    async with open_bound() as supervisor:
        wq = alloc_bound(supervisor)
        for name in "abcd":
            wq.queue_work(Work(body, name))
        await wait_all_tasks_blocked()
        for name in "bdca":
            trace.open(name)
            await wait_all_tasks_blocked()
        for name in "efgh":
            wq.queue_work(Work(body, name))
        await wait_all_tasks_blocked()
        assert [tasks[name] for name in "efgh"] == [tasks[name] for name in "acdb"]
        assert len({tasks[name] for name in "abcd"}) == 4
        trace.open(*"efgh")


async def test_workers_say_in_their_names_where_they_belong(open_bound: Open) -> None:
    async def body() -> str:
        return trio.lowlevel.current_task().name

    async with open_bound(2) as supervisor:
        wq = alloc_bound(supervisor)
        names = [await wq.run(body) for _ in range(2)]
    assert sorted(name.partition(":")[0] for name in names) == ["kworker/0", "kworker/1"]


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

    @property
    def tasks(self) -> set[trio.lowlevel.Task]:
        return {task for _, task in self.runs}


@pytest.fixture
def meter() -> Meter:
    """A meter that is an instrument of the test's loop."""
    return Meter()


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_burst_of_items_that_never_block_needs_one_worker(open_bound: Open, meter: Meter, kind: str) -> None:
    """W43; invariants 22 and 30; it yields after 64 items, and no other starts meanwhile."""

    async def run() -> None:
        meter.run()

    async with open_bound() as supervisor:
        wq = alloc_bound(supervisor, max_active=10_000)
        for _ in range(1000):
            wq.queue_work(Work(run if kind == "async" else meter.run))
        await wq.flush()
        assert bound_pool(supervisor).created <= 2
        assert wq.statistics().cm_wakeups == 0
    assert meter.runs.total() == 1000
    assert len(meter.tasks) == 1
    assert max(meter.runs.values()) == 64


async def test_a_burst_of_items_that_yield_needs_one_worker(open_bound: Open, meter: Meter) -> None:
    """W43; invariants 22 and 25."""

    async def run() -> None:
        meter.run()
        await trio.lowlevel.checkpoint()

    async with open_bound() as supervisor:
        wq = alloc_bound(supervisor)
        for _ in range(100):
            wq.queue_work(Work(run))
        await wq.flush()
        assert bound_pool(supervisor).created <= 2
    assert meter.runs.total() == 100
    assert len(meter.tasks) == 1


async def test_a_worker_yields_after_a_millisecond(open_bound: Open, meter: Meter, autojump_clock: MockClock) -> None:
    """W47. Nobody else is stopped, and nobody else of the pool starts."""

    def burn() -> None:
        autojump_clock.jump(0.0004)
        meter.run()

    async with open_bound() as supervisor:
        wq = alloc_bound(supervisor, max_active=1000)
        for _ in range(200):
            wq.queue_work(Work(burn))
        await wq.flush()
    assert max(meter.runs.values()) == 3
    assert len(meter.tasks) == 1


@pytest.mark.parametrize("max_active", [1, 16])
async def test_an_item_that_requeues_itself_for_ever_stops_nobody(
    open_bound: Open, trace: Trace, max_active: int
) -> None:
    """W47. Neither tasks outside, nor items behind it, nor other queues of its pool."""
    stop = False

    def body() -> None:
        assert work.statistics().runs < 100_000, "nobody else ran"
        if not stop:
            assert wq.queue_work(work)

    async with open_bound() as supervisor:
        wq, other = alloc_bound(supervisor, max_active=max_active), alloc_bound(supervisor, "other")
        work = Work(body)
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


async def test_an_item_queued_again_while_it_runs_lands_on_the_same_worker(open_bound: Open, trace: Trace) -> None:
    """W13, W16; invariants 4 and 6: after its end, on its pool, by the worker that ran it."""
    tasks: list[trio.lowlevel.Task] = []
    cpus: list[int] = []

    async def body() -> None:
        tasks.append(trio.lowlevel.current_task())
        cpus.extend(pwq.cpu for pwq in wq.statistics().pwqs if pwq.nr_active)
        await trace.gate(str(len(tasks))).wait()

    async with open_bound(2) as supervisor:
        wq = alloc_bound(supervisor)
        work = Work(body)
        wq.queue_work_on(1, work)
        await wait_all_tasks_blocked()
        assert wq.queue_work_on(0, work) is True
        await wait_all_tasks_blocked()
        assert len(tasks) == 1
        trace.open("1")
        await wait_all_tasks_blocked()
        assert (len(tasks), len(set(tasks))) == (2, 1)
        trace.open("2")
        await wq.flush()
        assert cpus == [1, 1]
        assert bound_pool(supervisor, 0).occupied == 0
        await assert_at_zero(supervisor, wq)


async def test_idle_workers_are_culled_down_to_two_after_the_timeout(open_bound: Open, trace: Trace) -> None:
    """W45; invariant 32: not before, not below two."""
    async with open_bound(idle_timeout=IDLE_TIMEOUT) as supervisor:
        wq = alloc_bound(supervisor)
        trace.queue(wq, " ".join(names_of(20)))
        await wait_all_tasks_blocked()
        trace.open(*names_of(20))
        await wait_all_tasks_blocked()
        await trio.sleep(IDLE_TIMEOUT - 0.1)
        assert bound_pool(supervisor).nr_idle == 21
        await trio.sleep(IDLE_TIMEOUT + 1)
        pool = bound_pool(supervisor)
        assert (pool.nr_idle, pool.nr_workers, pool.culled) == (2, 2, 19)
        await trio.sleep(10 * IDLE_TIMEOUT)
        assert bound_pool(supervisor).nr_idle == 2


async def test_the_longest_idle_are_culled_first(open_bound: Open, trace: Trace) -> None:
    """W45; invariant 32: who idled last is still there."""
    tasks: dict[str, trio.lowlevel.Task] = {}

    async def body(name: str) -> None:
        tasks[name] = trio.lowlevel.current_task()
        await trace.hold(name)

    async with open_bound(idle_timeout=IDLE_TIMEOUT) as supervisor:
        wq = alloc_bound(supervisor)
        for name in names_of(6):
            wq.queue_work(Work(body, name))
        await wait_all_tasks_blocked()
        for name in ["3", "0", "5", "1", "4", "2"]:
            trace.open(name)
            await trio.sleep(1)
        await trio.sleep(4 * IDLE_TIMEOUT)
        for name in ["x", "y"]:
            wq.queue_work(Work(body, name))
            await wait_all_tasks_blocked()
        assert [tasks["x"], tasks["y"]] == [tasks["2"], tasks["4"]]
        trace.open("x", "y")


@pytest.mark.parametrize(("busy", "tolerated"), [(0, 2), (1, 2), (4, 2), (5, 3), (9, 4)])
async def test_busy_workers_excuse_idle_ones(open_bound: Open, trace: Trace, busy: int, tolerated: int) -> None:
    """Invariant 33: k idle are tolerated while k <= 2 or (k - 2) * 4 < busy; a busy one, asleep, is never culled.

    W45, W46.
    """
    async with open_bound(idle_timeout=IDLE_TIMEOUT) as supervisor:
        wq = alloc_bound(supervisor)
        stay, leave = names_of(busy, "stay"), names_of(15, "leave")
        trace.queue(wq, " ".join(stay + leave))
        await wait_all_tasks_blocked()
        trace.open(*leave)
        await trio.sleep(3 * IDLE_TIMEOUT)
        pool = bound_pool(supervisor)
        assert (pool.nr_idle, pool.nr_workers) == (tolerated, busy + tolerated)
        trace.open(*stay)
        await trio.sleep(3 * IDLE_TIMEOUT)
        assert bound_pool(supervisor).nr_idle == 2


@pytest.mark.parametrize("offset", [-0.001, 0.0, 0.001])
@pytest.mark.parametrize("rounds", range(5))
async def test_a_cull_loses_no_item_queued_at_that_instant(
    open_bound: Open, trace: Trace, offset: float, rounds: int
) -> None:
    """W46; invariant 34: whichever worker is on its way out, all items start."""
    async with open_bound(idle_timeout=IDLE_TIMEOUT) as supervisor:
        wq = alloc_bound(supervisor)
        trace.queue(wq, " ".join(names_of(10)))
        await wait_all_tasks_blocked()
        trace.open(*names_of(10))
        await wait_all_tasks_blocked()
        await trio.sleep(IDLE_TIMEOUT + offset)
        for _ in range(rounds):
            await trio.lowlevel.checkpoint()
        late = names_of(10, "late")
        trace.queue(wq, " ".join(late))
        await wait_all_tasks_blocked()
        assert trace.starts[10:] == late
        assert bound_pool(supervisor).nr_idle >= 1
        trace.open(*late)
        await trio.sleep(3 * IDLE_TIMEOUT)
        assert bound_pool(supervisor).nr_idle == 2
        await assert_at_zero(supervisor, wq)
