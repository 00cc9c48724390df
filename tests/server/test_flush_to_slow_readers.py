"""The last bytes over a carried stream reach a slow but steady reader whole; a stalled one is given up in time.

What the kernel does for a socket after its close the server must do itself for a stream: wait, before it is done.
"""

from __future__ import annotations

import pytest
import trio

from ktrio import QueueOptions, Response, ServerOptions, Timeouts
from ktrio.protocols.echo import Echo
from ktrio.testing import serve_in_memory
from tests.server.harness import get, post

SIZE = 60_000  # fits into the server's buffer, so that nothing but the flush waits
BODY = bytes(range(250)) * (SIZE // 250)
TIMES = Timeouts(write=10, idle=5, lowest_rate=240)
LAST = get("/", "Connection: close")


async def respond(request):
    match request.target:
        case "/fails":
            raise LookupError("a bug")
        case "/pieces":
            return Response(body=pieces())
        case "/written":
            return Response(body=write)
    return Response(body=BODY)


async def pieces():
    for start in range(0, SIZE, 6000):
        yield BODY[start : start + 6000]


async def write(send):
    for start in range(0, SIZE, 6000):
        await send(BODY[start : start + 6000])


async def say_all(stream):
    await stream.receive_some()
    await stream.send_all(BODY)


async def say_all_and_eof(stream):
    await say_all(stream)
    await stream.send_eof()


async def say_all_in_a_nursery(stream):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(say_all, stream)


async def say_all_and_close(stream):
    async with stream:
        await say_all(stream)


async def say_all_close_and_wait(stream):
    await say_all_and_close(stream)
    await trio.sleep(1)


def connect(memory, first: bytes):
    """A peer with so little room that it must read for everything that is to come."""
    peer = memory.connect(buffer_bytes=1000)
    assert peer.send_nowait(first) == len(first)
    return peer


async def read_steadily(memory, peer, at_once: int = 1000) -> bytes:
    """So many bytes a second, to the end, or until nothing more comes."""
    received = bytearray()
    while True:
        await memory.settle()
        data = peer.receive_nowait(at_once)
        if not data:
            return bytes(received)
        received += data
        await memory.advance(1)


def reasons(memory) -> dict[str, int]:
    return memory.server.statistics().reasons


def clean(memory) -> bool:
    return (memory.server.statistics().errors, memory.server.statistics().cut) == (0, 0)


@pytest.mark.parametrize("target", ["/", "/pieces", "/written"])
async def test_last_response_arrives_whole_before_the_connection_is_closed(target):
    async with serve_in_memory(respond, timeouts=TIMES) as memory:
        peer = connect(memory, get(target, "Connection: close"))
        received = await read_steadily(memory, peer)
        assert received.startswith(b"HTTP/1.1 200 ")
        assert received.count(b"\xf9") == BODY.count(b"\xf9")
        assert peer.ended == "fin"
        assert reasons(memory) == {"answered": 1}
        assert clean(memory)


async def test_response_arrives_whole_before_the_connection_is_idle():
    """Its time between requests begins when the client has the answer, not when the server's buffer has it."""
    async with serve_in_memory(respond, timeouts=TIMES) as memory:
        peer = connect(memory, get("/"))
        received, left_for_idle = b"", []
        while not received.endswith(BODY):
            await memory.settle()
            [connection] = memory.server.connections()
            if connection.state == "idle":
                left_for_idle.append(len(received))
            received += peer.receive_nowait(1000)
            await memory.advance(1)
        assert len(received) - min(left_for_idle) <= 1000  # what has left the server
        assert peer.send_nowait(LAST) == len(LAST)
        assert (await read_steadily(memory, peer)).endswith(BODY)


async def test_error_response_arrives_whole(caplog):
    """The answer to a handler that failed, to a client that takes a few bytes every other second."""
    async with serve_in_memory(respond, timeouts=Timeouts(write=30)) as memory:
        peer = memory.connect(buffer_bytes=16)
        request = get("/fails", "Connection: close")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.send_all, request)
        received = bytearray()
        while True:
            await memory.settle()
            data = peer.receive_nowait(16)
            if not data:
                break
            received += data
            await memory.advance(1.5)
        assert received.startswith(b"HTTP/1.1 500 ")
        assert received.endswith(b"unexpected error.\n")
        assert peer.ended == "fin"


@pytest.mark.parametrize(
    "request_bytes",
    [b"no request at all\r\n\r\n", post(b"x" * 100, "Content-Length: 5"), get("/", version="3.0")],
    ids=["no request", "two lengths", "another version"],
)
async def test_refusal_arrives_whole(request_bytes):
    """What the server says before it closes by itself. Its client takes longer than the second a closed stream has."""
    async with serve_in_memory(respond, timeouts=Timeouts(write=30)) as memory:
        peer = memory.connect(buffer_bytes=16)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.send_all, request_bytes)
        received = bytearray()
        while True:
            await memory.settle()
            data = peer.receive_nowait(16)
            if not data:
                break
            received += data
            await memory.advance(0.5)
        head, _, body = received.partition(b"\r\n\r\n")
        assert head[9:12] in (b"400", b"505")
        assert f"content-length: {len(body)}\r\n".encode() in head.lower() + b"\r\n"


@pytest.mark.parametrize(
    "handler", [say_all, say_all_and_eof, say_all_in_a_nursery, say_all_and_close, say_all_close_and_wait]
)
async def test_last_bytes_of_a_stream_handler_arrive_whole(handler):
    async with serve_in_memory(stream=handler, timeouts=TIMES) as memory:
        peer = connect(memory, b"go")
        assert await read_steadily(memory, peer) == BODY
        assert peer.ended == "fin"
        assert reasons(memory) == {"handler-returned": 1}
        assert clean(memory)


async def test_stream_is_closed_at_once_for_a_handler_that_was_cancelled():
    """Within its own patience: then it is as good as aborted, as trio.abc.AsyncResource says."""

    async def handler(stream):
        await say_all(stream)
        with trio.move_on_after(3) as scope:
            await stream.aclose()
        closed.append(scope.cancelled_caught)

    closed = []
    async with serve_in_memory(stream=handler, timeouts=TIMES) as memory:
        connect(memory, b"go")
        await memory.advance(2.9)
        assert closed == []
        await memory.advance(0.2)
        assert closed == [True]
        assert reasons(memory) == {"handler-returned": 1}


async def test_peer_that_stalls_while_its_handler_closes_ends_in_a_write_timeout():
    async with serve_in_memory(stream=say_all_and_close, timeouts=TIMES) as memory:
        connect(memory, b"go")
        await memory.advance(9.9)
        assert reasons(memory) == {}
        await memory.advance(0.5)
        assert reasons(memory) == {"write-timeout": 1}
        assert clean(memory)


async def test_reason_of_a_handler_that_was_cancelled_stays_while_it_closes():
    """It has no time for the flush then, and what it waited for before is the reason."""

    async def handler(stream):
        async with stream:
            await stream.send_all(BODY)
            await stream.receive_some()

    async with serve_in_memory(stream=handler, timeouts=TIMES) as memory:
        connect(memory, b"")
        await memory.advance(5.5)
        assert reasons(memory) == {"idle-timeout": 1}
        assert clean(memory)


async def test_close_of_one_task_while_another_sends_is_at_once():
    """Whoever sends is told; nothing of it can be whole any more."""
    met = []

    async def send(stream):
        with pytest.raises(trio.ClosedResourceError):
            await stream.send_all(bytes(1_000_000))
        met.append("closed")

    async def handler(stream):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, stream)
            await trio.sleep(1)
            await stream.aclose()

    async with serve_in_memory(stream=handler, timeouts=TIMES) as memory:
        connect(memory, b"go")
        await memory.advance(1)
        assert met == ["closed"]


async def test_last_bytes_of_a_stream_handler_with_unread_input_arrive_whole():
    async with serve_in_memory(stream=say_all, timeouts=TIMES) as memory:
        peer = connect(memory, b"go")
        await memory.settle()
        assert peer.send_nowait(b"more") == 4
        assert await read_steadily(memory, peer) == BODY
        assert reasons(memory) == {"handler-returned": 1}


async def test_last_bytes_of_an_echo_arrive_whole():
    async with serve_in_memory(protocol=Echo, timeouts=TIMES) as memory:
        peer = connect(memory, b"")

        async def send() -> None:
            await peer.send_all(BODY)
            peer.finish()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await memory.settle()
            assert await read_steadily(memory, peer) == BODY
        assert peer.ended == "fin"
        assert reasons(memory) == {"peer-closed": 1}
        assert clean(memory)


@pytest.mark.parametrize(
    ("kind", "first", "reason"),
    [("http", get("/"), "draining"), ("stream", b"go", "handler-returned"), ("echo", BODY[:900], "draining")],
)
async def test_bytes_that_are_under_way_when_a_shutdown_begins_arrive_whole(kind, first, reason):
    what = {"http": {"handler": respond}, "stream": {"stream": say_all}, "echo": {"protocol": Echo}}[kind]
    async with serve_in_memory(**what, timeouts=TIMES, options=ServerOptions(grace=100)) as memory:
        peer = memory.connect(buffer_bytes=1000 if kind != "echo" else 100)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.send_all, first)
        await memory.settle()
        memory.server.begin_shutdown()
        received = await read_steadily(memory, peer, 1000 if kind != "echo" else 100)
        assert received.endswith(first if kind == "echo" else BODY)
        assert peer.ended == "fin"
        assert reasons(memory) == {reason: 1}
        assert clean(memory)


@pytest.mark.parametrize(("kind", "first"), [("http", LAST), ("stream", b"go"), ("echo", BODY[:1000])])
async def test_shutdown_is_bounded_by_the_grace_whatever_is_under_way(kind, first):
    """An answer that its peer had not taken by then is cut, and does not pass for whole."""
    what = {"http": {"handler": respond}, "stream": {"stream": say_all}, "echo": {"protocol": Echo}}[kind]
    async with serve_in_memory(**what, timeouts=TIMES, options=ServerOptions(grace=3)) as memory:
        peer = memory.connect(buffer_bytes=1000 if kind != "echo" else 100)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.send_all, first)
        await memory.settle()
        memory.server.begin_shutdown()
        await memory.advance(5)
        assert reasons(memory) == {"grace": 1}
        assert memory.server.statistics().cut == 1
        await memory.settle()
        assert len(peer.receive_nowait()) <= 1000
        with pytest.raises(trio.BrokenResourceError):
            peer.receive_nowait()


@pytest.mark.parametrize(("kind", "first"), [("http", LAST), ("stream", b"go"), ("echo", BODY[:1000])])
async def test_reader_that_stalls_ends_in_a_write_timeout(kind, first):
    """After exactly the time that a wait for it may take, and it sees that something is missing."""
    what = {"http": {"handler": respond}, "stream": {"stream": say_all}, "echo": {"protocol": Echo}}[kind]
    async with serve_in_memory(**what, timeouts=TIMES) as memory:
        peer = memory.connect(buffer_bytes=1000 if kind != "echo" else 100)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.send_all, first)
        await memory.settle()
        await memory.advance(9.9)
        [connection] = memory.server.connections()
        assert (connection.phase, connection.reason) == ("write", "")
        await memory.advance(0.5)
        assert reasons(memory) == {"write-timeout": 1}
        assert clean(memory)
        await memory.settle()
        peer.receive_nowait()
        with pytest.raises(trio.BrokenResourceError):
            peer.receive_nowait()


async def test_reader_that_stalls_half_way_through_the_flush_ends_in_a_write_timeout():
    async with serve_in_memory(respond, timeouts=TIMES) as memory:
        peer = connect(memory, LAST)
        for _ in range(20):
            await memory.settle()
            assert len(peer.receive_nowait(1000)) == 1000
            await memory.advance(1)
        await memory.advance(25)
        assert reasons(memory) == {"write-timeout": 1}


async def test_peer_that_leaves_during_the_flush_is_gone(caplog):
    async with serve_in_memory(stream=say_all, timeouts=TIMES) as memory:
        peer = connect(memory, b"go")
        await memory.settle()
        peer.reset()
        await memory.settle()
        assert reasons(memory) == {"client-gone": 1}
        assert clean(memory)
        assert caplog.records == []


async def test_flush_takes_no_slot():
    """One handler at work at a time, and several slow readers of finished answers."""
    async with serve_in_memory(respond, timeouts=TIMES, queue=QueueOptions(max_active=1)) as memory:
        slow = [connect(memory, LAST) for _ in range(5)]
        await memory.settle()
        assert [each.phase for each in memory.server.connections()] == ["write"] * len(slow)
        assert (await memory.request("GET", "/")).body == BODY
