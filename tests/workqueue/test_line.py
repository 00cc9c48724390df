"""The line in which items wait: a FIFO that anybody in it may leave."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktrio.workqueue import Work
from ktrio.workqueue._line import Line


def nothing() -> None:
    pass


WORKS = [Work(nothing, name=str(index)) for index in range(6)]
OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["append", "append", "append", "take", "remove", "remove", "front", "hold"]), st.integers(0, 5)
    ),
    max_size=80,
)


@given(OPERATIONS)
def test_line_is_a_list_whatever_is_done_to_it(operations):
    """Joining at either end, being served, being held, and leaving from anywhere, again and again."""
    line, model = Line(), []
    for what, index in operations:
        work = WORKS[index]
        if what == "append" and work not in model:
            line.append(work)
            model.append(work)
        elif what == "front" and work not in model:
            line.appendleft(work)
            model.insert(0, work)
        elif what == "remove" and work in model:
            line.remove(work)
            model.remove(work)
        elif what == "hold":
            (line.release if line.held else line.hold)()
        elif what == "take" and model and not line.held:
            assert line.take() is model.pop(0)
        assert list(line) == model
        assert (line.waiting, bool(line)) == (len(model), bool(model) or line.held)
        assert all((each in line) == (each in model) for each in WORKS)
        assert line.held or not model or line.first() is model[0]


def test_who_leaves_takes_no_room_for_long():
    """However many leave from within, no more are gone than wait."""
    works = [Work(nothing) for _ in range(10_000)]
    line = Line()
    line.extend(works)
    for work in reversed(works[1:-1]):
        line.remove(work)
        assert line.gone <= max(32, line.waiting)
    assert list(line) == [works[0], works[-1]]
    assert len(line) < 40


def test_joining_and_leaving_for_ever_takes_no_room():
    line = Line()
    line.append(WORKS[0])
    for _ in range(10_000):
        line.append(WORKS[1])
        line.append(WORKS[2])
        line.remove(WORKS[1])
        line.remove(WORKS[2])
    assert len(line) < 80
    assert list(line) == [WORKS[0]]


def test_empty_line_has_nobody_to_serve():
    with pytest.raises(IndexError):
        Line().take()
    with pytest.raises(IndexError):
        Line().first()
    assert repr(Line()) == "<Line of 0>"


def test_a_held_line_shows_who_waits_and_hides_its_mark():
    """It is true even if nobody waits, so that nobody passes."""
    line = Line()
    line.hold()
    assert line
    assert (list(line), line.waiting) == ([], 0)
    first, second, third = WORKS[:3]
    line.append(second)
    line.append(third)
    line.appendleft(first)
    assert (list(line), line.waiting) == ([first, second, third], 3)
    assert first in line
    line.remove(first)
    line.release()
    assert [line.first(), line.take(), line.take()] == [second, second, third]
    assert not line


def test_a_held_line_of_which_many_leave_stays_held():
    works = [Work(nothing) for _ in range(1000)]
    line = Line()
    line.extend(works)
    line.hold()
    for work in works[:999]:
        line.remove(work)
    assert (line.held, line.waiting, list(line)) == (True, 1, [works[999]])
    line.appendleft(works[0])
    line.release()
    assert [line.take(), line.take()] == [works[0], works[999]]
