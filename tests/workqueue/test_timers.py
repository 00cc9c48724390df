"""The timers below delayed items: one heap, one task, silent with nothing armed."""

import math
from functools import partial

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from ktrio.workqueue import Supervisor, open_supervisor
from ktrio.workqueue._policy import STALE_TIMERS
from ktrio.workqueue._timer import Timer
from tests.workqueue.conftest import run_bounded


class Alarms:
    """Timers that write down when they fire."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.timers = supervisor.timers
        self.fired: list[tuple[float, str]] = []
        self.began = trio.current_time()

    def make(self, name: str) -> Timer:
        return Timer(self.timers, lambda: self.fired.append((self.now(), name)))

    def arm(self, timer: Timer, delay: float) -> None:
        timer.arm(self.began + delay)

    def now(self) -> float:
        return round(trio.current_time() - self.began, 6)


def seconds_to_next_deadline() -> float:
    return trio.lowlevel.current_statistics().seconds_to_next_deadline


def living_tasks() -> int:
    return trio.lowlevel.current_statistics().tasks_living


async def test_timers_fire_once_each_at_their_deadline_in_its_order() -> None:
    async with open_supervisor() as supervisor:
        alarms = Alarms(supervisor)
        for name, delay in (("late", 3), ("early", 1), ("middle", 2)):
            alarms.arm(alarms.make(name), delay)
        assert supervisor.timers.armed == 3
        await trio.sleep(10)
        assert alarms.fired == [(1, "early"), (2, "middle"), (3, "late")]
        assert (supervisor.timers.armed, supervisor.timers.fired) == (0, 3)


async def test_equal_deadlines_fire_in_the_order_of_their_last_arming() -> None:
    async with open_supervisor() as supervisor:
        alarms = Alarms(supervisor)
        first, second, third = (alarms.make(name) for name in ("first", "second", "third"))
        for timer in (first, second, third):
            alarms.arm(timer, 5)
        alarms.arm(first, 5)  # the same deadline, but armed last
        alarms.arm(third, 7)
        alarms.arm(third, 5)
        await trio.sleep(10)
        assert alarms.fired == [(5, "second"), (5, "first"), (5, "third")]


@pytest.mark.parametrize("deadlines", [(5, 9), (5, 2), (5, 9, 2), (9, 5, 7, 6)])
async def test_a_moved_timer_fires_once_at_the_last_deadline(deadlines: tuple[float, ...]) -> None:
    async with open_supervisor() as supervisor:
        alarms = Alarms(supervisor)
        timer = alarms.make("moved")
        for deadline in deadlines:
            alarms.arm(timer, deadline)
        await trio.sleep(20)
        assert alarms.fired == [(deadlines[-1], "moved")]


async def test_a_timer_moved_later_on_and_on_fires_only_when_that_ends() -> None:
    async with open_supervisor() as supervisor:
        alarms = Alarms(supervisor)
        timer = alarms.make("idle")
        for second in range(100):
            alarms.arm(timer, second + 5)
            await trio.sleep(1)
        assert alarms.fired == []
        await trio.sleep(5)
        assert alarms.fired == [(104, "idle")]


async def test_a_cancelled_timer_does_not_fire_and_can_be_armed_again() -> None:
    async with open_supervisor() as supervisor:
        alarms = Alarms(supervisor)
        timer = alarms.make("again")
        assert not timer.cancel()
        alarms.arm(timer, 1)
        assert timer.is_armed
        assert timer.cancel()
        assert not timer.is_armed
        await trio.sleep(2)
        alarms.arm(timer, 5)
        alarms.arm(timer, math.inf)  # another way to say it
        assert not timer.is_armed
        alarms.arm(timer, 6)
        await trio.sleep(10)
        assert alarms.fired == [(6, "again")]


async def test_a_deadline_that_is_past_fires_soon_but_not_at_once() -> None:
    async with open_supervisor() as supervisor:
        alarms = Alarms(supervisor)
        alarms.arm(alarms.make("past"), -100)
        assert alarms.fired == []
        await wait_all_tasks_blocked()
        assert alarms.fired == [(0, "past")]


async def test_an_earlier_timer_is_not_held_up_by_the_sleep_for_a_later_one() -> None:
    async with open_supervisor() as supervisor:
        alarms = Alarms(supervisor)
        alarms.arm(alarms.make("late"), 100)
        await trio.sleep(1)
        alarms.arm(alarms.make("early"), 2)
        await trio.sleep(5)
        assert alarms.fired == [(2, "early")]


async def test_with_nothing_armed_there_is_no_deadline() -> None:
    """W77; invariant 57's last words: no timers armed when idle."""
    tests_own = seconds_to_next_deadline()
    async with open_supervisor() as supervisor:
        alarms = Alarms(supervisor)
        tasks = living_tasks()
        assert seconds_to_next_deadline() == tests_own
        timers = [alarms.make(str(number)) for number in range(3)]
        for number, timer in enumerate(timers):
            alarms.arm(timer, 10 + number)
        await wait_all_tasks_blocked()
        assert seconds_to_next_deadline() == pytest.approx(10)
        assert living_tasks() == tasks + 1  # one task for all
        for timer in timers:
            timer.cancel()
        await wait_all_tasks_blocked()
        assert seconds_to_next_deadline() == pytest.approx(tests_own)
        alarms.arm(timers[0], 5)
        await trio.sleep(20)
        assert alarms.fired == [(5, "0")]
        assert seconds_to_next_deadline() == pytest.approx(tests_own - 20)


@pytest.mark.parametrize("move", ["cancel", "earlier"])
async def test_what_is_cancelled_or_moved_does_not_pile_up(move: str) -> None:
    """W77. A heap that only grew would be a leak: one entry for each request of a server that arms a timeout for it."""
    async with open_supervisor() as supervisor:
        alarms = Alarms(supervisor)
        alarms.arm(alarms.make("kept"), 50)
        moved = alarms.make("moved")
        for number in range(10_000):
            if move == "cancel":
                timer = alarms.make("dropped")
                alarms.arm(timer, 100)
                timer.cancel()
            else:
                alarms.arm(moved, 20_000 - number)
            assert len(supervisor.timers._heap) <= 2 * (supervisor.timers.armed + STALE_TIMERS)
        await trio.sleep(30_000)
        expected = [(50, "kept")]
        if move == "earlier":
            expected.append((20_000 - 9_999, "moved"))
        assert alarms.fired == expected


async def test_a_crowd_of_cancelled_timers_is_let_go_though_nothing_more_is_armed() -> None:
    """W77."""
    async with open_supervisor() as supervisor:
        alarms = Alarms(supervisor)
        timers = [alarms.make(str(number)) for number in range(10_000)]
        for timer in timers:
            alarms.arm(timer, 100)
        for timer in timers[1:]:
            timer.cancel()
        assert len(supervisor.timers._heap) <= 2 * STALE_TIMERS
        await trio.sleep(200)
        assert alarms.fired == [(100, "0")]


async def test_an_entry_left_behind_by_a_move_is_gone_when_its_time_has_come() -> None:
    """It must not be taken for the timer's own, and pushed on and on."""
    async with open_supervisor() as supervisor:
        alarms = Alarms(supervisor)
        timer = alarms.make("a")
        alarms.arm(timer, 10)
        alarms.arm(timer, 5)
        await trio.sleep(6)
        alarms.arm(timer, 20)
        await trio.sleep(6)
        assert len(supervisor.timers._heap) == 1
        await trio.sleep(20)
        assert alarms.fired == [(5, "a"), (20, "a")]


async def test_a_timer_may_arm_itself_and_cancel_others_while_it_fires() -> None:
    async with open_supervisor() as supervisor:
        alarms = Alarms(supervisor)
        victim = alarms.make("victim")

        def fire() -> None:
            alarms.fired.append((alarms.now(), "itself"))
            victim.cancel()
            if len(alarms.fired) < 3:
                itself.arm(itself_due() + 2)

        def itself_due() -> float:
            return alarms.began + alarms.now()

        itself = Timer(supervisor.timers, fire)
        alarms.arm(itself, 2)
        alarms.arm(victim, 2)  # due in the same turn, behind it
        await trio.sleep(20)
        assert alarms.fired == [(2, "itself"), (4, "itself"), (6, "itself")]


async def test_a_crowd_that_is_due_at_once_lets_the_loop_have_its_turn() -> None:
    async with open_supervisor() as supervisor:
        alarms = Alarms(supervisor)
        for number in range(1000):
            alarms.arm(alarms.make(str(number)), 1)
        turns = 0
        await trio.sleep(1)
        while len(alarms.fired) < 1000:
            turns += 1
            await trio.lowlevel.checkpoint()
        assert turns >= 10
        assert [name for _, name in alarms.fired] == [str(number) for number in range(1000)]


async def test_an_error_in_what_fires_ends_the_supervisor() -> None:
    """It is a bug, and loud; the timers behind it are cancelled with everything else."""

    def fire() -> None:
        raise RuntimeError("a bug")

    with pytest.RaisesGroup(pytest.RaisesExc(RuntimeError, match="a bug")):
        async with open_supervisor() as supervisor:
            Timer(supervisor.timers, fire).arm(trio.current_time() + 1)
            await trio.sleep_forever()


async def test_leaving_does_not_wait_for_armed_timers() -> None:
    """W74."""
    began = trio.current_time()
    async with open_supervisor() as supervisor:
        alarms = Alarms(supervisor)
        alarms.arm(alarms.make("never"), 1000)
        await trio.sleep(1)
    assert trio.current_time() - began == pytest.approx(1)
    assert alarms.fired == []


# -- against a model: a list of (deadline, number of the last arming, name)

NAMES = "abcd"
operations = st.one_of(
    st.tuples(st.just("arm"), st.sampled_from(NAMES), st.integers(0, 4)),
    st.tuples(st.just("cancel"), st.sampled_from(NAMES), st.just(0)),
    st.tuples(st.just("sleep"), st.just(""), st.integers(0, 3)),
)
Program = list[tuple[str, str, int]]


async def live(program: Program) -> None:
    async with open_supervisor() as supervisor:
        alarms = Alarms(supervisor)
        timers = {name: alarms.make(name) for name in NAMES}
        armed: dict[str, tuple[float, int]] = {}
        expected: list[tuple[float, str]] = []

        def due(now: float) -> None:
            for (deadline, _), name in sorted((at, name) for name, at in armed.items()):
                if deadline <= now:
                    expected.append((deadline, name))
                    del armed[name]

        for number, (operation, name, amount) in enumerate([*program, ("sleep", "", 10)]):
            now = alarms.now()
            if operation == "arm":
                # Half a second off, so that what is armed and what sleeps never end in the same turn.
                alarms.arm(timers[name], math.floor(now) + amount + 0.5)
                armed[name] = (math.floor(now) + amount + 0.5, number)
            elif operation == "cancel":
                assert timers[name].cancel() is (armed.pop(name, None) is not None)
            else:
                await trio.sleep(amount)
                due(alarms.now())
            assert supervisor.timers.armed == len(armed)
            assert {name for name, timer in timers.items() if timer.is_armed} == set(armed)
        assert alarms.fired == expected


@settings(max_examples=100, deadline=None)
@given(program=st.lists(operations, min_size=10, max_size=60))
def test_timers_agree_with_a_sorted_list(program: Program) -> None:
    run_bounded(partial(live, program))


@pytest.mark.exhaustive
@settings(max_examples=3000, deadline=None)
@given(program=st.lists(operations, min_size=10, max_size=60))
def test_timers_agree_with_a_sorted_list_at_length(program: Program) -> None:
    run_bounded(partial(live, program))
