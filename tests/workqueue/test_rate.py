"""A rate limit per queue: starts are spread, order is kept, who has started is not held up."""

import math
from functools import partial

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from ktrio.workqueue import (
    WQ_UNBOUND,
    DelayedWork,
    Rate,
    Supervisor,
    Work,
    Workqueue,
    WorkqueueInstrument,
    open_supervisor,
    parked,
)
from ktrio.workqueue._policy import full_after_change, full_after_start, next_start
from tests.workqueue.conftest import KIND_NAMES, KINDS, Kind, Trace, assert_at_zero, open_with, run_bounded


@pytest.fixture(params=KINDS, ids=KIND_NAMES)
def kind(request: pytest.FixtureRequest) -> Kind:
    assert isinstance(request.param, tuple)
    return request.param


class Log:
    """When items start, in seconds since the log began."""

    def __init__(self) -> None:
        self.began = trio.current_time()
        self.starts: list[tuple[float, str]] = []

    def now(self) -> float:
        return round(trio.current_time() - self.began, 6)

    def start(self, name: str) -> None:
        self.starts.append((self.now(), name))

    def work(self, name: str) -> Work[None]:
        return Work(self.start, name, name=name)

    def queue(self, wq: Workqueue, names: str) -> None:
        for name in names:
            wq.queue_work(self.work(name))

    @property
    def times(self) -> list[float]:
        return [at for at, _ in self.starts]

    @property
    def names(self) -> str:
        return "".join(name for _, name in self.starts)


async def test_items_beyond_the_rate_wait_in_line_and_keep_their_order(kind: Kind) -> None:
    """W141; invariants 13 and 14; with burst 1 they are evenly spread."""
    async with open_with(kind[1])() as supervisor:
        wq, log = supervisor.alloc_workqueue("rated", kind[0], rate=Rate(2)), Log()
        log.queue(wq, "abcdef")
        books = wq.statistics()
        assert (books.nr_active, books.inactive, books.pending) == (1, 5, 6)
        assert wq.rate == Rate(2)
        await wq.flush()
        assert log.starts == [(0, "a"), (0.5, "b"), (1, "c"), (1.5, "d"), (2, "e"), (2.5, "f")]
        await assert_at_zero(supervisor, wq)
        assert supervisor.statistics().timers == 0


async def test_a_burst_starts_at_once_and_is_saved_up_while_nothing_starts(kind: Kind) -> None:
    """W140."""
    async with open_with(kind[1])() as supervisor:
        wq, log = supervisor.alloc_workqueue("rated", kind[0], rate=Rate(10, per=10, burst=3)), Log()
        log.queue(wq, "abcdef")
        await wq.flush()
        assert log.times == [0, 0, 0, 1, 2, 3]
        await trio.sleep(2.5)  # two tokens and a half
        log.queue(wq, "ghi")
        await wq.flush()
        assert log.times[6:] == [5.5, 5.5, 6]
        await trio.sleep(1000)  # never more than three
        log.queue(wq, "jklmn")
        await wq.flush()
        assert [round(at - 1006, 6) for at in log.times[9:]] == [0, 0, 0, 1, 2]


async def test_a_queue_below_its_rate_is_not_held_up(kind: Kind) -> None:
    """W140."""
    async with open_with(kind[1])() as supervisor:
        wq, log = supervisor.alloc_workqueue("rated", kind[0], rate=Rate(2)), Log()
        for name in "abc":
            log.queue(wq, name)
            await trio.sleep(0.7)
        assert log.times == [0, 0.7, 1.4]
        assert wq.statistics().throttled == 0
        assert supervisor.timers.fired == 0


async def test_slots_and_rate_hold_up_together(kind: Kind) -> None:
    """W141. A token that finds no slot is kept; a slot given up finds no token."""
    async with open_with(kind[1])() as supervisor:
        wq, log = supervisor.alloc_workqueue("rated", kind[0], 1, rate=Rate(1)), Log()
        takes = iter([0.2, 2.5, 0.2, 0.2])

        async def nap(name: str) -> None:
            log.start(name)
            await trio.sleep(next(takes))

        for name in "abcd":
            wq.queue_work(Work(nap, name))
        await wq.flush()
        assert log.starts == [(0, "a"), (1, "b"), (3.5, "c"), (4.5, "d")]


async def test_one_rate_serves_all_cpus_by_turns() -> None:
    """W140. Per queue, not per pwq; and no CPU starves (as invariant 15 has it for nodes)."""
    async with open_supervisor(3) as supervisor:
        wq, log = supervisor.alloc_workqueue("rated", WQ_UNBOUND, rate=Rate(1)), Log()
        for cpu, names in enumerate(("abc", "def", "ghi")):
            for name in names:
                wq.queue_work_on(cpu, log.work(name))
        await wq.flush()
        assert log.times == list(range(9))
        assert log.names == "abdgcehfi"  # they came to wait in this order, and then they take turns


def test_cpus_take_turns_for_tokens_that_have_come_together() -> None:
    """While something keeps the loop tokens gather; the first in line does not take them all, nor does a newcomer.

    W141.
    """
    clock = MockClock(autojump_threshold=0)

    async def main() -> None:
        async with open_supervisor(3, cpu_intensive_threshold=0) as supervisor:
            wq, log = supervisor.alloc_workqueue("rated", WQ_UNBOUND, rate=Rate(1, burst=4)), Log()
            for name in "wxyz":
                wq.queue_work_on(0, log.work(name))
            for cpu, names in enumerate(("abc", "def")):
                for name in names:
                    wq.queue_work_on(cpu, log.work(name))
            await wait_all_tasks_blocked()
            assert log.names == "wxyz"
            clock.jump(3.5)  # three tokens
            wq.queue_work_on(2, log.work("n"))
            await wait_all_tasks_blocked()
            assert sorted(log.names[4:]) == ["a", "d", "n"]
            await wq.flush()
            assert log.times[7:] == [4, 5, 6, 7]

    run_bounded(main, clock=clock)


async def test_a_parked_item_comes_back_past_those_who_wait_for_the_rate(kind: Kind, trace: Trace) -> None:
    """W142. Returners are no starts; with a free slot they come back at once, whoever waits for a token."""
    async with open_with(kind[1])() as supervisor:
        wq, log = supervisor.alloc_workqueue("rated", kind[0], rate=Rate(1, per=100)), Log()
        wq.queue_work(trace.parker("p"))
        await wait_all_tasks_blocked()
        log.queue(wq, "ab")
        trace.open("p", "p back")
        await trio.sleep(1)
        assert trace.events == ["p starts", "p parks", "p returns", "p ends"]
        assert log.starts == []
        await wq.flush()
        assert log.times == [100, 200]


async def test_a_returner_in_line_for_a_slot_gets_it_before_those_who_wait_for_the_rate(
    kind: Kind, trace: Trace
) -> None:
    """W142. It stands behind them in the line, and the slot is given up while there is no token."""
    async with open_with(kind[1])() as supervisor:
        wq, log = supervisor.alloc_workqueue("rated", kind[0], 1, rate=Rate(1, per=100, burst=2)), Log()
        wq.queue_work(trace.parker("p"))
        await wait_all_tasks_blocked()
        trace.queue(wq, "holder")
        await wait_all_tasks_blocked()
        log.queue(wq, "ab")
        trace.open("p")
        await wait_all_tasks_blocked()
        assert wq.statistics().inactive == 3
        assert "p returns" not in trace.events
        trace.open("holder")
        await wait_all_tasks_blocked()
        assert "p returns" in trace.events
        trace.open("p back")
        await wq.flush()
        assert log.times == [100, 200]
        await assert_at_zero(supervisor, wq)


async def test_a_cancelled_return_leaves_the_line_of_a_queue_with_a_rate(kind: Kind, trace: Trace) -> None:
    async with open_with(kind[1])() as supervisor:
        wq, log = supervisor.alloc_workqueue("rated", kind[0], 1, rate=Rate(1, per=100, burst=2)), Log()
        parker = trace.parker("p")
        wq.queue_work(parker)
        await wait_all_tasks_blocked()
        trace.queue(wq, "holder")
        await wait_all_tasks_blocked()
        trace.open("p")
        await wait_all_tasks_blocked()
        assert not await parker.cancel_sync(interrupt=True)
        trace.open("holder")
        log.queue(wq, "ab")
        await wq.flush()
        assert log.times == [100, 200]
        await assert_at_zero(supervisor, wq)


async def test_an_item_that_starts_parked_takes_no_token(kind: Kind) -> None:
    """W142."""
    async with open_with(kind[1])() as supervisor:
        wq, log = supervisor.alloc_workqueue("rated", kind[0], rate=Rate(1, per=10)), Log()

        async def wait() -> None:
            async with parked():
                await trio.sleep(1)
            log.start("p")

        for _ in range(3):
            wq.queue_work(Work(wait), parked=True)
        log.queue(wq, "a")
        await wq.flush()
        assert log.starts == [(0, "a"), (1, "p"), (1, "p"), (1, "p")]


async def test_an_item_that_queues_itself_is_limited_too(kind: Kind) -> None:
    """W142; P6: it would inherit the slot of its own run, but there is no token."""
    async with open_with(kind[1])() as supervisor:
        wq, log = supervisor.alloc_workqueue("rated", kind[0], 1, rate=Rate(1)), Log()

        def again() -> None:
            log.start("x")
            if len(log.starts) < 4:
                assert wq.queue_work(work)

        work = Work(again)
        wq.queue_work(work)
        await wq.drain()
        assert log.times == [0, 1, 2, 3]
        await assert_at_zero(supervisor, wq)


async def test_an_item_queued_again_while_it_is_parked_takes_one_token(kind: Kind, trace: Trace) -> None:
    """W142. It leaves the line to wait for its own run (P6), and takes its token only when it starts."""
    async with open_with(kind[1])() as supervisor:
        wq, log = supervisor.alloc_workqueue("rated", kind[0], 1, rate=Rate(1, per=100, burst=4)), Log()
        parker = trace.parker("p")
        wq.queue_work(parker)
        await wait_all_tasks_blocked()
        trace.queue(wq, "holder")
        log.queue(wq, "x")
        wq.queue_work(parker)
        await wait_all_tasks_blocked()
        trace.open("holder")
        await wait_all_tasks_blocked()
        assert log.starts == [(0, "x")]
        trace.open("p", "p back")
        await wq.flush()
        assert (trace.starts, log.now()) == (["p", "holder", "p"], 0)
        log.queue(wq, "y")
        await wq.flush()
        assert log.starts[1:] == [(100, "y")]


async def test_cancelling_what_waits_for_the_rate_takes_no_token(kind: Kind) -> None:
    """W144; invariant 19; and with nobody waiting no timer is armed."""
    async with open_with(kind[1])() as supervisor:
        wq, log = supervisor.alloc_workqueue("rated", kind[0], rate=Rate(1)), Log()
        works = [log.work(name) for name in "abcd"]
        for work in works:
            wq.queue_work(work)
        assert supervisor.timers.armed == 1
        assert works[1].cancel()
        assert works[3].cancel()
        await wq.flush()
        assert log.starts == [(0, "a"), (1, "c")]
        log.queue(wq, "e")
        last = log.work("f")
        wq.queue_work(last)
        assert supervisor.timers.armed == 1
        assert last.cancel()
        await wait_all_tasks_blocked()
        assert log.now() == 1
        assert wq.statistics().pending == 1  # e: its token comes at 2
        await wq.flush()
        assert supervisor.timers.armed == 0


async def test_set_rate_takes_effect_at_once(kind: Kind) -> None:
    """W143."""
    async with open_with(kind[1])() as supervisor:
        wq, log = supervisor.alloc_workqueue("rated", kind[0]), Log()
        wq.set_rate(Rate(1, per=100))
        log.queue(wq, "abcdef")
        await trio.sleep(50)
        assert log.names == "a"
        wq.set_rate(Rate(1, per=10))  # half the time has passed: half of the new one is left
        await trio.sleep(16)
        assert log.times == [0, 55, 65]
        wq.set_rate(None)
        await wait_all_tasks_blocked()
        assert log.names == "abcdef"
        assert wq.rate is None
        assert supervisor.timers.armed == 0
        await assert_at_zero(supervisor, wq)


async def test_setting_the_same_rate_again_and_again_is_no_way_around_it(kind: Kind) -> None:
    """W143."""
    async with open_with(kind[1])() as supervisor:
        wq, log = supervisor.alloc_workqueue("rated", kind[0], rate=Rate(1, per=10, burst=2)), Log()
        log.queue(wq, "abcd")
        for _ in range(15):
            wq.set_rate(Rate(1, per=10, burst=2))
            await trio.sleep(1)
        await wq.flush()
        assert log.names == "abcd"
        assert log.times == [0, 0, 10, 20]


async def test_leaving_waits_for_what_the_rate_holds_up(kind: Kind) -> None:
    """W144."""
    log = Log()
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("rated", kind[0], rate=Rate(1))
        log.queue(wq, "abc")
    assert log.times == [0, 1, 2]


async def test_cancelling_the_supervisor_discards_what_the_rate_holds_up(kind: Kind, trace: Trace) -> None:
    """Invariant 60."""
    with trio.move_on_after(1.5):
        async with open_with(kind[1])() as supervisor:
            wq = supervisor.alloc_workqueue("rated", kind[0], rate=Rate(1))
            trace.queue(wq, "a b c d")
            await trio.sleep_forever()
    assert trace.starts == ["a", "b"]
    assert trace.discarded == ["c", "d"]
    assert supervisor.timers.armed == 0


async def test_delayed_items_are_limited_when_their_timer_fires(kind: Kind) -> None:
    async with open_with(kind[1])() as supervisor:
        wq, log = supervisor.alloc_workqueue("rated", kind[0], rate=Rate(1)), Log()
        for name in "abc":
            wq.queue_delayed_work(DelayedWork(log.start, name), 5)
        await trio.sleep(10)
        assert log.starts == [(5, "a"), (6, "b"), (7, "c")]


async def test_it_is_shown_and_counted(kind: Kind) -> None:
    async with open_with(kind[1])() as supervisor:
        wq, log = supervisor.alloc_workqueue("rated", kind[0], rate=Rate(600, per=60, burst=2)), Log()
        assert repr(wq) == "<Workqueue 'rated' active=0/256 inactive=0 parked=0 rate=600 per 60 s>"
        log.queue(wq, "abcd")
        await wq.flush()
        books = wq.statistics()
        assert (books.rate, books.throttled) == (Rate(600, per=60, burst=2), 2)


@pytest.mark.parametrize(
    "values", [(0,), (-1,), (math.inf,), (math.nan,), (1, 0), (1, math.inf), (1, math.nan), (1, 1, 0), (1, 1, -1)]
)
def test_a_rate_that_is_none_is_an_error(values: tuple[float, ...]) -> None:
    """W6."""
    with pytest.raises(ValueError, match="rate"):
        Rate(*values)  # type: ignore[arg-type]


async def test_what_is_no_rate_is_refused(trace: Trace) -> None:
    async with open_supervisor() as supervisor:
        wq = supervisor.alloc_workqueue("rated")
        with pytest.raises(TypeError, match="a rate is a Rate or None, not 10"):
            wq.set_rate(10)  # type: ignore[arg-type]
        assert wq.rate is None
        seen: list[str] = []

        class Meddler(WorkqueueInstrument):
            def queue_work(self, event: object, /) -> None:
                try:
                    wq.set_rate(None)
                except RuntimeError as error:
                    seen.append(str(error))

        supervisor.add_instrument(Meddler())
        await wq.run(lambda: None)
        assert "it may only look" in seen[0]


# -- the policy, and the bound itself


@given(
    interval=st.floats(1e-3, 1e3),
    burst=st.integers(1, 20),
    steps=st.lists(st.floats(0, 1e3), min_size=1, max_size=60),
    now=st.floats(0, 1e9),
)
def test_the_bucket_never_gives_more_than_the_rate(interval: float, burst: int, steps: list[float], now: float) -> None:
    """In every stretch of time: at most `burst` starts and one for each interval in it; and the next is never lost.

    W140.
    """
    full_at, starts = now, list[float]()
    for step in steps:
        now += step * interval / 100
        start = next_start(full_at, interval, burst)
        if now >= start:
            starts.append(now)
            full_at = full_after_start(full_at, interval, now)
        else:
            assert start - now <= interval * 1.001 + 1e-6
    for first in range(len(starts)):
        for last in range(first, len(starts)):
            allowed = burst + (starts[last] - starts[first]) / interval
            assert last - first + 1 <= allowed * (1 + 1e-9) + 1e-6 / interval


@given(lacking=st.floats(0, 50), before=st.floats(1e-3, 1e3), after=st.floats(1e-3, 1e3), burst=st.integers(1, 20))
def test_a_change_of_rate_keeps_the_tokens_that_are_lacking(
    lacking: float, before: float, after: float, burst: int
) -> None:
    """W143."""
    full_at = full_after_change(1000 + lacking * before, 1000, before, after, burst)
    assert (full_at - 1000) / after == pytest.approx(min(lacking, burst), abs=1e-6, rel=1e-6)


def test_a_rate_that_no_float_hits_exactly_neither_stalls_nor_spins() -> None:
    """A third of a second, on a clock far from zero: each token wakes the timer about once."""
    clock = MockClock(autojump_threshold=0)
    clock.jump(1e9 / 3)

    async def main() -> None:
        async with open_supervisor() as supervisor:
            wq = supervisor.alloc_workqueue("rated", rate=Rate(3))
            for _ in range(300):
                wq.queue_work(Work(lambda: None))
            began = trio.current_time()
            await wq.flush()
            assert trio.current_time() - began == pytest.approx(299 / 3)
            assert supervisor.timers.fired == 299

    run_bounded(main, clock=clock)


async def live(starts: int, burst: int, cpus: int, max_active: int, program: list[tuple[str, int]]) -> None:
    """Whatever is done: no more starts than the bound in any stretch, and nothing idle that may start."""
    async with open_supervisor(cpus) as supervisor:
        rate = Rate(starts, burst=burst)
        wq = supervisor.alloc_workqueue("rated", WQ_UNBOUND, max_active, rate=rate)
        began: list[float] = []
        order: dict[int, list[int]] = {}
        tickets: dict[int, int] = {}
        waiting: list[Work[None]] = []

        async def run(cpu: int, ticket: int, seconds: float) -> None:
            began.append(trio.current_time())
            order.setdefault(cpu, []).append(ticket)
            await trio.sleep(seconds)

        for name, number in program:
            if name == "queue":
                cpu = number % cpus
                tickets[cpu] = tickets.get(cpu, 0) + 1
                waiting.append(Work(run, cpu, tickets[cpu], number / 10))
                wq.queue_work_on(cpu, waiting[-1])
            elif name == "cancel" and waiting:
                waiting[number % len(waiting)].cancel()
            elif name == "set":
                wq.set_rate(rate)
            else:
                await trio.sleep(number / 10)
            check_rest(supervisor, wq)
        await wq.flush()
        for first in range(len(began)):
            for last in range(first, len(began)):
                assert last - first + 1 <= burst + (began[last] - began[first]) * starts + 1e-6
        for line in order.values():
            assert line == sorted(line)  # invariant 13
        await assert_at_zero(supervisor, wq)
        assert supervisor.timers.armed == 0


def check_rest(supervisor: Supervisor, wq: Workqueue) -> None:
    """Who waits although there is a slot waits for the timer (invariant 12, as far as the rate lets it hold)."""
    for pwq in wq.statistics().pwqs:
        if pwq.inactive and pwq.nr_active < wq.max_active:
            assert supervisor.timers.armed


operations = st.tuples(st.sampled_from(["queue", "queue", "queue", "cancel", "sleep", "set"]), st.integers(0, 9))


@settings(max_examples=60, deadline=None)
@given(
    starts=st.sampled_from([1, 2, 3, 10]),
    burst=st.integers(1, 4),
    cpus=st.integers(1, 3),
    max_active=st.integers(1, 3),
    program=st.lists(operations, min_size=10, max_size=60),
)
def test_the_rate_holds_whatever_is_done(
    starts: int, burst: int, cpus: int, max_active: int, program: list[tuple[str, int]]
) -> None:
    """W140, W141; invariants 12 (as amended), 13, 19, 21."""
    run_bounded(partial(live, starts, burst, cpus, max_active, program))
