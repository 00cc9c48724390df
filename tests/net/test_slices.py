from __future__ import annotations

import array

from hypothesis import given
from hypothesis import strategies as st

from ktrio.net._slices import MAX_BUFFERS, SLICE_BYTES, TURN_BYTES, TURN_SECONDS, Buffers, Turn


@given(
    sizes=st.lists(st.integers(0, 5) | st.integers(0, SLICE_BYTES * 2), max_size=200),
    fractions=st.lists(st.floats(0.01, 1), min_size=1),
)
def test_buffers_are_sent_whole_and_in_order_whatever_the_kernel_takes(
    sizes: list[int], fractions: list[float]
) -> None:
    sizes = [size if sum(sizes[:index]) < 4 * SLICE_BYTES else size % 7 for index, size in enumerate(sizes)]
    data = [bytes([index % 256]) * size for index, size in enumerate(sizes)]
    buffers = Buffers(data)
    sent = bytearray()
    turn = 0
    while buffers:
        views = buffers.next_slice()
        held = b"".join(views)
        assert 0 < len(held) <= SLICE_BYTES
        assert len(views) <= MAX_BUFFERS
        assert all(view.nbytes for view in views)
        took = max(1, int(len(held) * fractions[turn % len(fractions)]))
        buffers.advance(took)
        sent += held[:took]
        turn += 1
    assert bytes(sent) == b"".join(data)


def test_buffers_of_nothing_are_empty() -> None:
    assert not Buffers(b"")
    assert not Buffers([])
    assert not Buffers([b"", bytearray(), memoryview(b"")])


def test_buffers_count_bytes_not_items() -> None:
    numbers = array.array("I", range(1000))
    buffers = Buffers(memoryview(numbers))
    assert b"".join(buffers.next_slice()) == numbers.tobytes()


def test_a_turn_is_over_after_its_bytes() -> None:
    turn = Turn(clock=lambda: 0.0)
    assert not turn.is_over(TURN_BYTES - 1)
    assert turn.is_over(1)
    turn.restart()
    assert not turn.is_over(TURN_BYTES - 1)


def test_a_turn_is_over_after_its_time() -> None:
    now = 100.0
    turn = Turn(clock=lambda: now)
    now += TURN_SECONDS * 0.9
    assert not turn.is_over(1)
    now += TURN_SECONDS * 0.2
    assert turn.is_over(1)
    turn.restart()
    assert not turn.is_over(1)
