"""What ``ktrio top`` makes of what comes through the socket: snapshots, or one line that says what is wrong."""

from __future__ import annotations

import json

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from ktrio.cli import _snapshots
from ktrio.cli._snapshots import FIRST_WITHIN, EndedError, Snapshots, Unavailable

GOOD = {"ktrio": "0.1.0", "protocol": 1, "supervisor": {}}


def line(**changed: object) -> bytes:
    return json.dumps({**GOOD, **changed}).encode() + b"\n"


async def test_snapshots_are_read_whole_however_they_come_in_pieces() -> None:
    here, there = memory_stream_pair()
    snapshots = Snapshots(here, "m")
    data = line(pid=1) + line(pid=2) + line(pid=3)
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def trickle() -> None:
            for index in range(0, len(data), 7):
                await there.send_all(data[index : index + 7])
                await trio.testing.wait_all_tasks_blocked()
            await there.aclose()

        assert [(await snapshots.next())["pid"] for _ in range(3)] == [1, 2, 3]
        with pytest.raises(EndedError):
            await snapshots.next()


async def test_interval_is_asked_for_in_a_line_that_the_monitor_understands() -> None:
    from ktrio.instrumentation.monitor import wanted_interval

    here, there = memory_stream_pair()
    await Snapshots(here, "m").ask(0.25)
    assert wanted_interval(await there.receive_some(1000)) == 0.25


async def test_asking_one_who_is_gone_is_left_to_the_next_read() -> None:
    here, there = memory_stream_pair()
    await there.aclose()
    await Snapshots(here, "m").ask(1)
    with pytest.raises(EndedError):
        await Snapshots(here, "m").next()


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n", "no monitor of ktrio's"),
        (b"\xff\n", "no monitor of ktrio's"),
        (b"[" * 100_000 + b"\n", "no monitor of ktrio's"),
        (b"[]\n", "no monitor of ktrio's"),
        (b"{}\n", "no monitor of ktrio's"),
        (line(supervisor=[]), "no monitor of ktrio's"),
        (line(protocol=2, ktrio="9.9\x1b"), r"of ktrio 9.9\\x1b and speaks another version"),
        (line(error="8 are watching already"), "8 are watching already"),
        (line(error="\x1b[2J"), r": \\x1b\[2J"),
    ],
)
async def test_what_is_no_snapshot_is_one_line_that_names_the_path(said: bytes, why: str) -> None:
    here, there = memory_stream_pair()
    await there.send_all(said)
    with pytest.raises(Unavailable, match=why) as caught:
        await Snapshots(here, "the-path").first()
    assert "the-path" in caught.value.format_message()
    assert "\n" not in caught.value.format_message()


async def test_line_without_an_end_is_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_snapshots, "MOST_OF_A_LINE", 1000)
    here, there = memory_stream_pair()
    await there.send_all(b"x" * 5000)
    with pytest.raises(Unavailable, match="no monitor"):
        await Snapshots(here, "m").next()


async def test_silence_is_not_waited_for_longer_than_a_loop_may_be_held_up(autojump_clock: MockClock) -> None:
    here, _there = memory_stream_pair()
    began = trio.current_time()
    with pytest.raises(Unavailable, match="says nothing within 5 s"):
        await Snapshots(here, "m").first()
    assert trio.current_time() - began == FIRST_WITHIN


async def test_one_who_hangs_up_before_the_first_word_is_no_monitor() -> None:
    here, there = memory_stream_pair()
    await there.aclose()
    with pytest.raises(Unavailable, match="closed at once"):
        await Snapshots(here, "m").first()
