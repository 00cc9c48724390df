"""`check_protocol` lets Echo, HTTP/1.1 and streams pass and catches each kind of broken protocol."""

from __future__ import annotations

import contextlib
import math

import pytest
import trio

from ktrio import ConnectionGone, Limits, Phase, Response, Timeouts
from ktrio.http.head import HeadMemo
from ktrio.net.connection import State
from ktrio.protocols._request_ids import RequestIds
from ktrio.protocols.echo import Echo
from ktrio.protocols.http1 import Http1
from ktrio.protocols.stream import StreamProtocol
from ktrio.testing import check_protocol

pytestmark = pytest.mark.exhaustive

QUICK = Timeouts(idle=8)


async def answer(request):
    return Response(body=b"x" * 500_000 if request.path == "/big" else b"hi")


def make_http(connection):
    limits = Limits()
    return Http1(
        connection,
        answer,
        limits=limits,
        read_head=HeadMemo(limits).read,
        tell=None,
        make_id=RequestIds(),
        date=lambda: "Thu, 01 Jan 1970 00:00:00 GMT",
        server="",
    )


async def test_echo_passes():
    await check_protocol(Echo, b"hello", flood=b"x" * 500_000)


async def test_http_passes():
    get = b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n"
    await check_protocol(make_http, get % b"/", flood=get % b"/big")


async def test_handler_of_streams_passes():
    async def handler(stream):
        while data := await stream.receive_unless_draining():
            await stream.send_all(data)

    def make(connection):
        return StreamProtocol(connection, handler)

    await check_protocol(make, b"hello", flood=b"x" * 500_000, timeouts=QUICK, idles=False)


# -- Broken ones: a small protocol that is good, and what is wrong with each


class Good:
    """Echo, in few words; each of its methods is broken by somebody below."""

    is_shared = False

    def __init__(self, connection):
        self.connection = connection
        self.kept = None

    async def converse(self):
        while data := await self.next():
            await self.send(data)
        self.at_end()

    async def next(self):
        connection = self.connection
        kept, self.kept = self.kept, None
        if kept is not None:
            return kept
        connection.deadlines.disarm(Phase.HEAD)
        if connection.draining.is_set():
            await trio.lowlevel.checkpoint()
            return connection.receive_nowait()
        return await self.receive()

    async def receive(self):
        connection = self.connection
        connection.become(State.IDLE)
        until = trio.current_time() + connection.timeouts.idle
        data = await connection.receive(wait_first=True, phase=Phase.IDLE, until=until)
        if connection.deadlines.is_spent:
            self.kept = data
            await trio.lowlevel.checkpoint()
        return data

    async def send(self, data):
        self.connection.become(State.WRITING)
        await self.connection.send_all(data)

    def at_end(self):
        self.connection.end("draining" if self.connection.draining.is_set() else "peer-closed")

    def rescue(self):
        if self.kept is None and (self.connection.is_quiet or self.connection.state is State.QUEUED):
            self.kept = self.connection.receive_nowait()
        self.connection.deadlines.disarm(Phase.IDLE)
        return self.kept is not None

    async def farewell(self):
        await trio.lowlevel.checkpoint()


async def test_small_good_protocol_passes():
    await check_protocol(Good, b"hello", flood=b"x" * 500_000, timeouts=QUICK)


class Silent(Good):
    async def send(self, data):
        await trio.lowlevel.checkpoint()


class Raises(Good):
    async def send(self, data):
        raise LookupError("no answer")


class EndsWithoutReason(Good):
    def at_end(self):
        pass


class IgnoresFin(Good):
    async def converse(self):
        while True:
            await self.send(await self.next() or b"")


class IgnoresReset(Good):
    async def converse(self):
        while True:
            try:
                return await super().converse()
            except ConnectionGone:
                await trio.sleep(1)


class ArmsNothing(Good):
    async def receive(self):
        self.connection.become(State.IDLE)
        return await self.connection.receive(wait_first=True)


class WaitsForEver(Good):
    async def receive(self):
        self.connection.become(State.IDLE)
        return await self.connection.receive(wait_first=True, phase=Phase.IDLE, until=math.inf)


class SwallowsCancelled(Good):
    async def receive(self):
        try:
            return await super().receive()
        except trio.Cancelled:
            return b""


class SleepsBehindAShield(Good):
    async def send(self, data):
        await super().send(data)
        with trio.CancelScope(shield=True):
            await trio.sleep(5)


class IsNeverQuiet(Good):
    async def receive(self):
        connection = self.connection
        connection.become(State.HANDLING)
        return await connection.receive(phase=Phase.IDLE, until=trio.current_time() + connection.timeouts.idle)


class EndsAsSomethingElse(Good):
    def at_end(self):
        self.connection.end("peer-closed")

    async def farewell(self):
        self.connection._reason = "peer-closed"
        await trio.lowlevel.checkpoint()


class RescuesNothing(Good):
    def rescue(self):
        return False


class ForgetsWhatItRescued(Good):
    def rescue(self):
        is_rescued = super().rescue()
        self.kept = None
        return is_rescued


class LongFarewell(Good):
    async def farewell(self):
        with trio.CancelScope(shield=True):
            await trio.sleep(60)


class SendsWhenClosed(Good):
    def at_end(self):
        super().at_end()
        self.connection.close()
        with contextlib.suppress(ConnectionGone):
            self.connection.send_nowait(b"one more thing")


class TakesWhatIsNotItsOwn(Good):
    buffer = bytearray()

    async def send(self, data):
        self.buffer += data
        if self.buffer.endswith(b"o"):
            data = bytes(self.buffer)
            self.buffer.clear()
            await super().send(data)


class SendsBehindTheConnection(Good):
    async def send(self, data):
        while data:
            sent = self.connection.send_nowait(data)
            data = data[sent:]
            if data:
                await self.connection._transport.wait_writable()


BROKEN = [
    (Silent, "does not answer the sample"),
    (Raises, r"raised LookupError\('no answer'\)"),
    (EndsWithoutReason, "comes a FIN, it ends without a reason"),
    (IgnoresFin, "comes a FIN, it goes round in circles"),
    (IgnoresReset, "comes a reset, it does not end"),
    (ArmsNothing, "it waits for its peer's bytes and no phase is armed"),
    (WaitsForEver, "nothing more, it does not end"),
    (SwallowsCancelled, "it goes on although it was cancelled"),
    (SleepsBehindAShield, "does not end|no phase"),
    (IsNeverQuiet, "drains .* it does not end"),
    (EndsAsSomethingElse, "ends as 'peer-closed', and not as 'draining'"),
    (RescuesNothing, "it loses them"),
    (ForgetsWhatItRescued, "it loses them"),
    (LongFarewell, "its farewell"),
    (SendsWhenClosed, "sends although the connection is closed"),
    (TakesWhatIsNotItsOwn, "the sample is answered otherwise"),
    (SendsBehindTheConnection, "waits for room to send and no phase is armed"),
]


@pytest.mark.parametrize(("make", "sentence"), BROKEN, ids=lambda value: getattr(value, "__name__", None))
async def test_broken_protocol_is_caught(make, sentence):
    with pytest.raises(AssertionError, match=sentence):
        await check_protocol(make, b"hello", flood=b"x" * 500_000, timeouts=QUICK)
