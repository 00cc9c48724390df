"""An iterable body is closed exactly once, in the task that iterates it, sent or not."""

from __future__ import annotations

import pytest
import trio

from ktrio import Headers, Response
from tests.server.harness import GET, LATE, Ended, advance, get, settle


class Stream:
    """An async iterator that writes down who touches it; its second piece waits for `gate`."""

    def __init__(self, *, pieces: int = 2, gate: trio.Event | None = None, fail: bool = False, size: int = 5) -> None:
        self.left = pieces
        self.piece = (b"piece" * size)[:size]
        self.gate = gate
        self.fail = fail
        self.tasks: set[str] = set()
        self.closed = 0

    def __aiter__(self):
        return self

    async def __anext__(self) -> bytes:
        assert not self.closed
        self.tasks.add(_task())
        if self.gate is not None and self.left == 1:
            await self.gate.wait()
        if self.fail and self.left == 1:
            raise ValueError("no more")
        if not self.left:
            raise StopAsyncIteration
        self.left -= 1
        return self.piece

    async def aclose(self) -> None:
        self.tasks.add(_task())
        self.closed += 1


def _task() -> str:
    return str(id(trio.lowlevel.current_task()))


def answering(stream, **fields):
    async def handler(request):
        stream.tasks.add(_task())
        return Response(204 if request.target == "/204" else 200, Headers(fields), stream)

    return handler


async def test_stream_that_ends_is_closed_once_in_its_task(start_http, connect):
    stream = Stream()
    client = await connect(await start_http(answering(stream)))
    assert (await client.ask()).body == b"piecepiece"
    await settle()
    assert (stream.closed, len(stream.tasks)) == (1, 1)


@pytest.mark.parametrize("method", ["HEAD", "GET"])
async def test_stream_that_is_not_sent_is_closed_once(start_http, connect, method):
    """HEAD (RFC 9110 section 9.3.2) and 204 (section 15.3.5) have no body, so nobody iterates it."""
    stream = Stream()
    client = await connect(await start_http(answering(stream)))
    await client.ask(get("/" if method == "HEAD" else "/204", method=method))
    await settle()
    assert (stream.closed, len(stream.tasks), stream.left) == (1, 1, 2)


async def test_stream_of_a_refused_response_is_closed_once(start_http, connect, caplog):
    stream = Stream()
    client = await connect(await start_http(answering(stream, bad="a\r\nb")))
    assert (await client.ask()).status == 500
    await settle()
    assert (stream.closed, len(stream.tasks)) == (1, 1)
    assert len(caplog.records) == 1


async def test_stream_that_fails_is_closed_once(start_http, connect, caplog):
    stream = Stream(fail=True)
    client = await connect(await start_http(answering(stream)))
    await client.send(GET)
    with pytest.raises(Ended):
        await client.read_reply()
    await settle()
    assert (stream.closed, len(stream.tasks)) == (1, 1)
    assert len(caplog.records) == 1


async def test_stream_longer_than_its_length_is_closed_once(start_http, connect, caplog):
    """The protocol is what stops iterating; it closes all the same."""
    stream = Stream(pieces=1000)
    client = await connect(await start_http(answering(stream, **{"content-length": "7"})))
    await client.send(GET)
    with pytest.raises(Ended):
        await client.read_replies(2)
    await settle()
    assert (stream.closed, len(stream.tasks)) == (1, 1)
    assert stream.left > 900


@pytest.mark.parametrize("leave", ["reset", "server"])
async def test_stream_that_waits_is_closed_once_when_it_is_cancelled(start_http, connect, leave):
    stream = Stream(gate=trio.Event())
    async with trio.open_nursery() as nursery:
        client = await connect(await start_http(answering(stream), within=nursery))
        await client.send(GET)
        await client.read_through(b"piece")
        if leave == "reset":
            client.reset()
            await settle()
            assert stream.closed == 1
        nursery.cancel_scope.cancel()
    assert (stream.closed, len(stream.tasks)) == (1, 1)


async def test_stream_to_a_stalled_reader_is_closed_once(start_http, connect, mock_clock):
    stream = Stream(pieces=1_000_000, size=10_000)
    server = await start_http(answering(stream))
    client = await connect(server, receive_buffer=4096)
    await client.send(GET)
    await advance(mock_clock, 30 + LATE)
    assert (stream.closed, len(stream.tasks)) == (1, 1)
    assert server.statistics().reasons == {"write-timeout": 1}


async def test_stream_is_not_read_ahead_of_its_peer(start_http, connect):
    """Back-pressure: a piece is asked for when the one before it is on its way."""
    stream = Stream(pieces=1_000_000, size=10_000)
    client = await connect(await start_http(answering(stream)), receive_buffer=4096)
    await client.send(GET)
    await settle()
    made = 1_000_000 - stream.left
    # What the kernel's buffers of loopback take; a server that reads on would never have come here.
    assert made * 10_000 < 32 << 20
    await settle()
    assert 1_000_000 - stream.left == made


async def test_iterable_that_makes_its_iterator_has_that_one_closed(start_http, connect):
    """An async iterable need not be an iterator; what iterating made is what must be closed."""
    closed = trio.Event()

    class Maker:
        async def __aiter__(self):
            try:
                yield b"one"
                await trio.sleep_forever()
            finally:
                closed.set()

    async def handler(request):
        return Response(body=Maker())

    client = await connect(await start_http(handler))
    await client.send(GET)
    await client.read_through(b"one")
    client.reset()
    await closed.wait()


async def test_iterator_without_aclose_is_fine(start_http, connect):
    class Bare:
        def __init__(self) -> None:
            self.left = [b"one", b"two"]

        def __aiter__(self):
            return self

        async def __anext__(self):
            if not self.left:
                raise StopAsyncIteration
            return self.left.pop(0)

    async def handler(request):
        return Response(body=Bare())

    client = await connect(await start_http(handler))
    for _ in range(2):
        assert (await client.ask()).body == b"onetwo"


async def test_generator_that_has_a_nursery_of_its_own_lives_and_dies_in_one_task(start_http, connect):
    """Trio's scopes break when a generator is closed elsewhere; in one task they do not."""
    ended = trio.Event()

    async def body():
        try:
            async with trio.open_nursery() as nursery:
                send, receive = trio.open_memory_channel[bytes](0)
                nursery.start_soon(send.send, b"from a child")
                yield await receive.receive()
                send.close()
                receive.close()
                nursery.start_soon(trio.sleep_forever)
        finally:
            ended.set()

    async def handler(request):
        return Response(body=body())

    server = await start_http(handler)
    client = await connect(server)
    await client.send(GET)
    await client.read_through(b"from a child")
    client.reset()
    await ended.wait()
    await settle()
    assert server.statistics().open == 0


async def test_stream_whose_closing_fails_is_logged_once_and_the_server_goes_on(start_http, connect, caplog):
    class Clumsy(Stream):
        async def aclose(self) -> None:
            await super().aclose()
            raise ValueError("clumsy")

    stream = Clumsy()
    server = await start_http(answering(stream))
    client = await connect(server)
    await client.send(GET)
    await client.read_through(b"piece")
    await settle()
    assert stream.closed == 1
    assert len(caplog.records) == 1
    stream = Stream()
    assert (await (await connect(await start_http(answering(stream)))).ask()).body == b"piecepiece"


@pytest.mark.parametrize("kind", ["class", "generator"])
async def test_stack_of_a_stream_that_waits_is_shown_to_its_end(start_http, connect, kind):
    """`iter_await_frames` stops at ``anext`` with a default; whoever looks for what hangs must see further."""
    gate, waiting = trio.Event(), trio.Event()
    tasks = []

    async def wait_at_the_gate():
        tasks.append(trio.lowlevel.current_task())
        waiting.set()
        await gate.wait()

    class Waiting:
        def __aiter__(self):
            return self

        async def __anext__(self):
            if gate.is_set():
                raise StopAsyncIteration
            await wait_at_the_gate()
            return b"piece"

    async def pieces():
        await wait_at_the_gate()
        yield b"piece"

    async def handler(request):
        return Response(body=Waiting() if kind == "class" else pieces())

    server = await start_http(handler)
    client = await connect(server)
    await client.send(GET)
    await waiting.wait()
    await settle()
    names = [frame.f_code.co_name for frame, _ in tasks[0].iter_await_frames()]
    assert "wait_at_the_gate" in names
    assert "wait_task_rescheduled" in names
    gate.set()
