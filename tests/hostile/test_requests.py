"""Every row of bytes, against the whole server on memory streams: at once, and byte by byte.

Whatever the attack: no smuggled request reaches a handler, each answer can be read by h11's client, nothing is logged,
and the next client is served.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import h11
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from ktrio import Response, files
from ktrio.testing import serve_in_memory
from tests.hostile import chunks, framing, lines
from tests.hostile.attack import Attack

CLASSES = [pytest.param(each.attacks, id=each.title) for table in (framing, chunks, lines) for each in table.CLASSES]

# Bytes that are sent one by one; beyond them that shows nothing new, and takes long.
TRICKLED = 600
# Bytes of each attack in one round, where all come at once.
PIECE = 20_000

LAST = b"GET /last HTTP/1.1\r\nHost: x\r\n\r\n"


class Recorder:
    """A handler around another, which remembers the paths it was asked for."""

    def __init__(self, handler):
        self.handler = handler
        self.paths = []

    async def __call__(self, request):
        self.paths.append(request.path)
        return await self.handler(request)


async def read_body(request):
    body = await request.read()
    return Response(body=b"%d bytes" % len(body))


def statuses_of(data: bytes, method: str = "GET") -> list[int]:
    """The final statuses of the answers in `data`, read by h11's client; each must be whole."""
    found = []
    while data:
        client = h11.Connection(h11.CLIENT)
        client.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
        client.send(h11.EndOfMessage())
        client.receive_data(data)
        while not isinstance(event := client.next_event(), h11.EndOfMessage):
            assert event is not h11.NEED_DATA, f"an answer is not whole: {data[:200]!r}"
            if isinstance(event, h11.Response):
                found.append(event.status_code)
        data = client.trailing_data[0]
        method = "GET"  # of all those that follow
    return found


def method_of(attack: Attack) -> str:
    return "HEAD" if attack.data.startswith(b"HEAD ") else "GET"


async def attack_with(memory, attack: Attack, *, trickled: bool) -> tuple[list[int], str]:
    """Send the bytes on a connection of their own; the statuses of the answers, and how it ended."""
    stream = memory.connect(buffer_bytes=256 * 1024)
    received = b""
    with contextlib.suppress(trio.BrokenResourceError):  # refused before all was sent
        if trickled:
            for byte in attack.data:
                await stream.send_all(bytes([byte]))
                await wait_all_tasks_blocked()
        else:
            await stream.send_all(attack.data)
    with contextlib.suppress(trio.BrokenResourceError):  # reset behind the answers, which are there
        received = await stream.receive_until_blocked()
    found = statuses_of(received, method_of(attack)), stream.ended
    if not stream.ended:  # where the next request begins must be beyond doubt
        await stream.send_all(LAST)
        assert statuses_of(await stream.receive_until_blocked()) in ([200], [404])
    stream.close()
    return found


async def play(attacks: Iterable[Attack], handler, judge, *, trickled: bool = False) -> None:
    """Send each attack to one server, and ask it for something good after each; all that was wrong is an error."""
    recorder, wrong = Recorder(handler), {}
    async with serve_in_memory(recorder) as memory:
        for attack in attacks:
            recorder.paths.clear()
            statuses, ended = await attack_with(memory, attack, trickled=trickled)
            fault = judge(attack, statuses, ended)
            if fault or "/smuggled" in recorder.paths:
                wrong[attack.name] = fault or "a smuggled request was answered"
            assert (await memory.request("GET", "/")).status == 200
    assert wrong == {}


def is_as_said(attack: Attack, statuses: list[int], ended: str) -> str:
    good = statuses == list(attack.answers) and bool(ended) is attack.closes
    return "" if good else f"answers {statuses}, ended {ended!r}, not {attack.answer}"


def is_no_more_than_said(attack: Attack, statuses: list[int], ended: str) -> str:
    good = 1 <= len(statuses) <= len(attack.answers) and (ended or not attack.closes)
    return "" if good else f"answers {statuses}, ended {ended!r}, which is more than {attack.answer}"


@pytest.mark.parametrize("attacks", CLASSES)
async def test_attacks_get_their_answers_and_smuggle_nothing(mock_clock, caplog, attacks):
    """Read by a handler that reads its requests' bodies: exactly the answers of the table (RFC 9112 section 11.2)."""
    await play(attacks, read_body, is_as_said)
    assert caplog.records == []


@pytest.mark.exhaustive
@pytest.mark.parametrize("attacks", CLASSES)
async def test_attacks_get_the_same_answers_byte_by_byte(mock_clock, caplog, attacks):
    """Where a receive ends changes nothing about where a request does."""
    await play((each for each in attacks if len(each.data) <= TRICKLED), read_body, is_as_said, trickled=True)
    assert caplog.records == []


@pytest.mark.parametrize("attacks", CLASSES)
async def test_attacks_smuggle_nothing_past_a_handler_that_does_not_read(mock_clock, caplog, tmp_path, attacks):
    """The files handler answers without the body: then its faults may only end the connection."""
    await play(attacks, files(tmp_path), is_no_more_than_said)
    assert caplog.records == []


async def test_a_hundred_attackers_at_once_are_answered_each_by_itself(mock_clock, caplog):
    """All attacks of all classes on connections that are open together: nobody gets another's answer."""
    async with serve_in_memory(read_body) as memory:
        attacks = [attack for param in CLASSES for attack in param.values[0]]
        streams = [memory.connect(buffer_bytes=256 * 1024) for _ in attacks]
        for at in range(max(len(attack.data) for attack in attacks) // PIECE + 1):
            for attack, stream in zip(attacks, streams, strict=True):
                with contextlib.suppress(trio.BrokenResourceError):
                    stream.send_nowait(attack.data[at * PIECE : (at + 1) * PIECE])
            await wait_all_tasks_blocked()
        await memory.settle()
        for attack, stream in zip(attacks, streams, strict=True):
            received = stream.receive_nowait() or b""
            assert statuses_of(received, method_of(attack)) == list(attack.answers), attack.name
        assert (await memory.request("GET", "/")).status == 200
    assert caplog.records == []
