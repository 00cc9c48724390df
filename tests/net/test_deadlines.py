from __future__ import annotations

import math

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from ktrio.net.deadlines import WINDOW, Allowance, Deadlines, Phase, Timeouts

ROUNDING = 1e-6  # sums of times in seconds up to a million
times = st.floats(0, 1e6)
phases = st.sampled_from(Phase)


# ---- Timeouts


def test_timeouts_defaults_are_those_of_the_documentation() -> None:
    rows = {name: seconds for name, seconds, _ in Timeouts().rows()}
    assert rows == {
        "head": 10.0,
        "idle": 5.0,
        "body": 30.0,
        "write": 30.0,
        "half-closed": 2.0,
        "linger": 1.0,
        "linger-draining": 0.3,
        "farewell": 1.0,
    }


def test_timeouts_rows_name_every_phase_and_say_what_it_bounds() -> None:
    rows = Timeouts(lowest_rate=500).rows()
    assert {phase.value for phase in Phase} <= {name for name, _, _ in rows}
    assert all(text for _, _, text in rows)
    assert sum("500 B/s" in text for _, _, text in rows) == 2


@pytest.mark.parametrize("value", [0, -1, math.inf, math.nan])
@pytest.mark.parametrize("name", ["head", "idle", "linger_draining", "lowest_rate"])
def test_timeouts_refuse_what_is_not_positive_and_finite(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"{name} .*{value}"):
        Timeouts(**{name: value})


# ---- Deadlines: which phase


def test_deadlines_next_is_the_earliest_phase() -> None:
    deadlines = Deadlines()
    assert deadlines.next() is None
    deadlines.arm(Phase.HEAD, 10)
    deadlines.arm(Phase.WRITE, 5)
    assert deadlines.next() == (Phase.WRITE, 5)
    deadlines.arm(Phase.WRITE, 15)
    assert deadlines.next() == (Phase.HEAD, 10)
    deadlines.disarm(Phase.HEAD)
    deadlines.disarm(Phase.IDLE)
    assert deadlines.next() == (Phase.WRITE, 15)


def test_deadlines_switch_leaves_one_phase_armed() -> None:
    deadlines = Deadlines()
    deadlines.arm(Phase.HEAD, 1)
    deadlines.arm(Phase.BODY, 2)
    deadlines.switch(Phase.IDLE, 3)
    assert deadlines.next() == (Phase.IDLE, 3)
    deadlines.disarm(Phase.IDLE)
    assert deadlines.next() is None


def test_deadlines_expired_names_the_phase_that_ended_first() -> None:
    deadlines = Deadlines()
    assert deadlines.expired(1e9) is None
    deadlines.arm(Phase.HEAD, 10)
    deadlines.arm(Phase.HALF_CLOSED, 9)
    assert deadlines.expired(8.999) is None
    assert deadlines.expired(9) is Phase.HALF_CLOSED
    assert deadlines.expired(100) is Phase.HALF_CLOSED


def test_deadlines_repr_shows_phases_and_attachment() -> None:
    deadlines = Deadlines()
    assert repr(deadlines) == "<Deadlines none>"
    deadlines.arm(Phase.HALF_CLOSED, 2)
    deadlines.attach(trio.CancelScope())
    assert repr(deadlines) == "<Deadlines half-closed=2.000 attached>"


# ---- Deadlines: the window


@given(st.lists(st.tuples(phases, st.none() | times)))
def test_scope_deadline_is_never_before_the_minimum_and_at_most_a_window_after(
    steps: list[tuple[Phase, float | None]],
) -> None:
    deadlines, scope = Deadlines(), trio.CancelScope()
    deadlines.attach(scope)
    armed: dict[Phase, float] = {}
    for phase, when in steps:
        if when is None:
            deadlines.disarm(phase)
            armed.pop(phase, None)
        else:
            deadlines.arm(phase, when)
            armed[phase] = when
        minimum = min(armed.values(), default=math.inf)
        assert minimum <= scope.deadline <= minimum + WINDOW + ROUNDING


@given(
    gaps=st.lists(st.floats(1e-4, 2), max_size=300),
    timeout=st.floats(0.5, 300),
    start=times,
)
def test_scope_deadline_moves_at_most_four_times_a_second_when_a_phase_is_re_armed_steadily(
    gaps: list[float], timeout: float, start: float
) -> None:
    deadlines, scope = Deadlines(), trio.CancelScope()
    deadlines.arm(Phase.IDLE, start + timeout)
    deadlines.attach(scope)
    now, moves, before = start, 0, scope.deadline
    for gap in gaps:
        now += gap
        deadlines.arm(Phase.IDLE, now + timeout)
        moves += scope.deadline != before
        before = scope.deadline
    assert moves <= (now - start + ROUNDING) / WINDOW


def test_scope_deadline_is_infinite_when_no_phase_is_armed() -> None:
    deadlines, scope = Deadlines(), trio.CancelScope(deadline=7)
    deadlines.attach(scope)
    assert scope.deadline == math.inf
    deadlines.arm(Phase.HEAD, 1)
    deadlines.disarm(Phase.HEAD)
    assert scope.deadline == math.inf


def test_attach_brings_a_fresh_scope_into_the_window_and_detach_leaves_it_alone() -> None:
    deadlines, first, second = Deadlines(), trio.CancelScope(), trio.CancelScope()
    deadlines.arm(Phase.HEAD, 1)
    deadlines.attach(first)
    deadlines.attach(second)
    deadlines.arm(Phase.HEAD, 100)
    assert (first.deadline, second.deadline) == (1 + WINDOW, 100 + WINDOW)
    deadlines.detach()
    deadlines.arm(Phase.HEAD, 200)
    assert second.deadline == 100 + WINDOW


async def test_is_spent_once_the_attached_scope_is_cancelled_by_whatever(mock_clock: trio.testing.MockClock) -> None:
    deadlines = Deadlines()
    assert not deadlines.is_spent
    with trio.CancelScope() as scope:
        deadlines.attach(scope)
        deadlines.arm(Phase.HEAD, trio.current_time() + 1)
        mock_clock.jump(1)
        await trio.lowlevel.checkpoint()
        assert not deadlines.is_spent
        mock_clock.jump(WINDOW)
        assert deadlines.is_spent
    deadlines.disarm(Phase.HEAD)
    deadlines.attach(trio.CancelScope())
    assert not deadlines.is_spent


async def test_the_scope_ends_within_the_window_after_the_phase(mock_clock: trio.testing.MockClock) -> None:
    deadlines = Deadlines()
    with trio.CancelScope() as scope:
        deadlines.attach(scope)
        deadlines.arm(Phase.HEAD, 10)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            await trio.testing.wait_all_tasks_blocked()
            mock_clock.jump(9.99)
            await trio.testing.wait_all_tasks_blocked()
            assert not scope.cancel_called
            mock_clock.jump(0.01 + WINDOW)
            await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    assert deadlines.expired(trio.current_time()) is Phase.HEAD


# ---- Allowance


@given(full=st.floats(0.5, 300), rate=st.floats(1, 1e6), waits=st.lists(st.floats(0, 20), max_size=50))
def test_a_stalled_peer_is_given_up_after_exactly_full_seconds_of_waiting(
    full: float, rate: float, waits: list[float]
) -> None:
    allowance = Allowance(full, rate)
    now, waited = 0.0, 0.0
    for wait in waits:
        deadline = allowance.start_wait(now)
        assert deadline == pytest.approx(now + max(0.0, full - waited))
        now += wait
        waited += wait
        allowance.end_wait(now, 0)
        now += 1000  # not waiting: costs nothing
    assert allowance.start_wait(now) == pytest.approx(now + max(0.0, full - waited))


@given(
    full=st.floats(5, 300),
    rate=st.floats(1, 1e6),
    gaps=st.lists(st.floats(0, 0.999), min_size=1, max_size=100),
    faster=st.floats(1.0001, 100),
)
def test_a_steady_reader_above_the_lowest_rate_is_never_given_up(
    full: float, rate: float, gaps: list[float], faster: float
) -> None:
    allowance = Allowance(full, rate)
    now = 0.0
    for gap in gaps:
        seconds = gap * full
        deadline = allowance.start_wait(now)
        now += seconds
        assert now <= deadline
        allowance.end_wait(now, math.ceil(seconds * rate * faster))


@given(every=st.floats(0.5, 29), full=st.floats(30, 60))
def test_a_trickle_of_single_bytes_is_given_up(every: float, full: float) -> None:
    allowance = Allowance(full, 240)
    now = 0.0
    while (deadline := allowance.start_wait(now)) > now + every:
        now += every
        allowance.end_wait(now, 1)
        assert now < full * 1.01 + every
    assert deadline <= full * 1.01 + every


def test_allowance_never_holds_more_than_full() -> None:
    allowance = Allowance(30, 240)
    allowance.start_wait(0)
    allowance.end_wait(1, 10**9)
    assert allowance.start_wait(1, 10**9) == 31


def test_allowance_counts_bytes_moved_between_waits() -> None:
    allowance = Allowance(30, 240)
    allowance.start_wait(0)
    allowance.end_wait(20, 0)
    assert allowance.start_wait(20, 1200) == 35


def test_allowance_time_that_ran_over_is_no_debt() -> None:
    allowance = Allowance(30, 240)
    allowance.start_wait(0)
    allowance.end_wait(1000, 240)
    assert allowance.start_wait(1000) == 1001


def test_allowance_end_without_start_is_nothing() -> None:
    allowance = Allowance(30, 240)
    allowance.end_wait(1000, 0)
    assert allowance.start_wait(1000) == 1030
    assert repr(allowance) == "<Allowance 30.000 of 30 s waiting since 1000.000>"
