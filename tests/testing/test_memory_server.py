"""The real server in memory: requests, streams, virtual time, and an end at which everything is gone."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
import trio
from trio.testing import MockClock, check_half_closeable_stream

from ktrio import BrokenServerError, Headers, Response, ServerOptions
from ktrio.protocols.echo import Echo
from ktrio.testing import MemoryListener, burn, serve_in_memory
from ktrio.testing._responses import parse_response
from ktrio.testing._streams import memory_connection


async def handler(request):
    match request.path:
        case "/slow":
            await trio.sleep(3)
        case "/fail":
            raise LookupError
        case "/trailers":
            return Response(body=pieces(), trailers=Headers({"x-sum": "1"}))
        case "/refuse":
            return Response(403)
        case "/peer":
            return Response(body=request.peer.encode())
        case "/block":
            await trio.sleep_forever()
    return Response(headers=Headers({"x-method": request.method}), body=await request.read())


async def pieces():
    yield b"one "
    yield b"two"


# -- Requests


async def test_request_gives_the_whole_response():
    async with serve_in_memory(handler) as server:
        response = await server.request("POST", "/", body=b"words")
        assert (response.status, response.reason, response.version) == (200, "OK", "1.1")
        assert response.headers.get("x-method") == "POST"
        assert response.body == b"words"
        assert list(response.trailers) == []
        assert server.server.statistics().answered == 1


async def test_request_body_in_pieces_is_chunked_or_as_long_as_it_says():
    async with serve_in_memory(handler) as server:
        assert (await server.request("PUT", "/", body=pieces())).body == b"one two"
        response = await server.request("PUT", "/", headers={"Content-Length": "7"}, body=pieces())
        assert response.body == b"one two"


async def test_chunked_response_has_trailers():
    async with serve_in_memory(handler) as server:
        response = await server.request("GET", "/trailers")
        assert response.body == b"one two"
        assert list(response.trailers) == [("x-sum", "1")]


async def test_body_that_is_not_wanted_is_not_waited_for():
    async def endless():
        while True:
            yield b"x" * 10_000

    async with serve_in_memory(handler) as server:
        assert (await server.request("POST", "/refuse", body=endless())).status == 403


async def test_request_on_a_connection_keeps_it():
    async with serve_in_memory(handler) as server:
        stream = server.connect()
        for _ in range(2):
            assert (await server.request("GET", "/peer", on=stream)).body == b"memory:1"
        assert server.server.statistics().accepted == 1
        await stream.aclose()
        await server.settle()
        assert server.reason_of(stream) == "peer-closed"


async def test_response_that_breaks_off_is_an_assertion():
    async def breaks(request):
        async def body():
            yield b"one"
            raise LookupError

        return Response(body=body())

    async with serve_in_memory(breaks) as server:
        with pytest.raises(AssertionError, match=r"reset the connection|broke off"):
            await server.request("GET", "/")


async def test_time_stands_still_unless_it_is_moved():
    began = time.perf_counter()
    async with serve_in_memory(handler) as server:
        stream = server.connect()
        await stream.send_all(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await stream.receive_until_blocked() == b""
        await server.advance(2.9)
        assert await stream.receive_until_blocked() == b""
        await server.advance(0.1)
        assert (await stream.receive_until_blocked()).startswith(b"HTTP/1.1 200 OK")
        await server.advance(5.3)
        assert await stream.receive_until_blocked() == b""
        assert stream.ended == "fin"
        assert server.reason_of(stream) == "idle-timeout"
    assert time.perf_counter() - began < 3


async def test_advance_goes_from_deadline_to_deadline():
    ticks = []

    async def ticker(stream):
        while True:
            await trio.sleep(1)
            ticks.append(trio.current_time())

    async with serve_in_memory(stream=ticker) as server:
        server.connect()
        await server.settle()
        began = trio.current_time()
        await server.advance(3.5)
        assert ticks == pytest.approx([began + 1, began + 2, began + 3])
        with pytest.raises(ValueError, match="back 1 s"):
            await server.advance(-1)


def test_clock_that_jumps_by_itself_is_left_alone():
    async def main():
        async with serve_in_memory(handler) as server:
            assert (await server.request("GET", "/slow")).status == 200
            assert server.clock.current_time() >= 3

    trio.run(main, clock=MockClock(autojump_threshold=0))


async def test_settle_waits_for_threads_whatever_limits_them():
    limiter = trio.CapacityLimiter(1)

    async def threads(request):
        await trio.to_thread.run_sync(time.sleep, 0.05, limiter=limiter, abandon_on_cancel=True)
        return Response()

    async with serve_in_memory(threads) as server:
        stream = server.connect()
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await stream.receive_until_blocked()).startswith(b"HTTP/1.1 200 OK")


async def test_burn_takes_virtual_time_at_once(mock_clock):
    before = trio.current_time()
    burn(1.5)
    assert trio.current_time() == before + 1.5
    with pytest.raises(ValueError):
        burn(-1)


# -- Other kinds of servers, and the end


async def test_streams_and_protocols_are_served():
    async def shout(stream):
        async for data in stream:
            await stream.send_all(data.upper())

    for kind, expected in (({"stream": shout}, b"HELLO"), ({"protocol": Echo}, b"hello")):
        async with serve_in_memory(**kind) as server:
            stream = server.connect()
            await stream.send_all(b"hello")
            assert await stream.receive_until_blocked() == expected
            await stream.send_eof()
            assert await stream.receive_some() == b""


async def test_at_the_end_everything_is_gone(caplog):
    async with serve_in_memory(handler) as server:
        idle, busy = server.connect(), server.connect()
        await busy.send_all(b"GET /block HTTP/1.1\r\nHost: x\r\n\r\n")
        await server.settle()
    statistics = server.server.statistics()
    assert (statistics.open, statistics.reasons) == (0, {"server-cancelled": 2})
    for stream in (idle, busy):
        with pytest.raises(trio.ClosedResourceError):
            await stream.send_all(b"x")
    with pytest.raises(ConnectionRefusedError):
        server.connect()


async def test_handler_that_takes_its_time_to_end_gets_it():
    async def stubborn(stream):
        with trio.CancelScope(shield=True):
            await trio.sleep(100)

    async with serve_in_memory(stream=stubborn) as server:
        server.connect()
        await server.settle()
    assert server.server.statistics().open == 0


async def test_errors_come_out_as_they_are():
    with pytest.raises(LookupError):
        async with serve_in_memory(handler):
            raise LookupError
    with pytest.raises(BrokenServerError):  # noqa: PT012
        async with serve_in_memory(handler, options=ServerOptions(max_errors=1)) as server:
            await server.request("GET", "/fail")
            await trio.sleep_forever()
    with pytest.raises(ExceptionGroup) as group:
        async with serve_in_memory(handler):
            raise ExceptionGroup("of the test's own", [LookupError()])
    assert group.value.message == "of the test's own"


async def test_wrong_arguments_are_named():
    for wrong in ({}, {"stream": handler, "protocol": Echo}, {"protocol": Echo, "tell": print}):
        with pytest.raises(TypeError, match=r"exactly one|HTTP handlers only"):
            async with serve_in_memory(**wrong):
                raise AssertionError


def test_virtual_time_is_needed():
    async def main():
        async with serve_in_memory(handler):
            raise AssertionError

    with pytest.raises(RuntimeError, match="mock_clock or autojump_clock"):
        trio.run(main)


def test_ktrio_does_not_load_its_testing_kit():
    code = "import sys, ktrio, ktrio.serve; print('ktrio.testing' in sys.modules, 'pytest' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["False", "False"]


# -- Streams and listeners by themselves


async def test_memory_streams_are_streams():
    async def make():
        return memory_connection("one", "other")

    async def make_clogged():
        one, other = memory_connection("one", "other", 1)
        one.send_nowait(b"x")
        other.send_nowait(b"x")
        return one, other

    await check_half_closeable_stream(make, make_clogged)


async def test_reset_is_seen_behind_what_was_sent():
    one, other = memory_connection("one", "other")
    await one.send_all(b"last words")
    one.reset()
    assert await other.receive_some() == b"last words"
    assert other.ended == "reset"
    with pytest.raises(trio.BrokenResourceError):
        await other.receive_some()
    with pytest.raises(trio.BrokenResourceError):
        await other.send_all(b"x")


async def test_listener_refuses_once_closed_and_resets_who_waits():
    listener = MemoryListener()
    waiting = listener.connect()
    await listener.aclose()
    with pytest.raises(trio.BrokenResourceError):
        await waiting.receive_some()
    with pytest.raises(ConnectionRefusedError):
        listener.connect()
    with pytest.raises(trio.ClosedResourceError):
        await listener.accept()
    with pytest.raises(ValueError):
        MemoryListener().connect(buffer_bytes=0)


# -- The parser

OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"HTTP/2.0 200 OK\r\n\r\n", "no status line"),
        (b"HTTP/1.1 20 OK\r\n\r\n", "no status line"),
        (b"HTTP/1.1 200\r\n\r\n", "no status line"),
        (b"HTTP/1.1 200 OK\nContent-Length: 0\n\n", "no head"),
        (OK + b"Content-Length : 0\r\n\r\n", "no header field"),
        (OK + b"A: b\r\n c\r\n\r\n", "no header field"),
        (OK + b"Content-Length: 0\r\nContent-Length: 0\r\n\r\n", "framed twice"),
        (OK + b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n", "framed twice"),
        (OK + b"Content-Length: +1\r\n\r\n", "no length"),
        (OK + b"Transfer-Encoding: gzip\r\n\r\n", "transfer coding"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n0x1\r\nx\r\n0\r\n\r\n", "no size"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\nxx\r\n0\r\n\r\n", "does not end"),
        (OK + b"Date: yesterday\r\nContent-Length: 0\r\n\r\n", "no date"),
        (OK + b"\r\nbody", "no framing"),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", "must not be framed"),
        (OK + b"Content-Length: 5\r\n\r\nfour", "broke off"),
        (OK, "broke off"),
    ],
)
def test_invalid_response_is_refused(data, complaint):
    with pytest.raises(AssertionError, match=complaint):
        parse_response(data, ended=True)


@pytest.mark.parametrize(
    ("data", "body"),
    [
        (OK + b"Content-Length: 4\r\n\r\nbody", b"body"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nbo\r\n2\r\ndy\r\n0\r\nx: y\r\n\r\n", b"body"),
        (OK + b"Connection: close\r\n\r\nbody", b"body"),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n", b""),
    ],
)
def test_valid_response_is_read_however_it_comes(data, body):
    parsed = parse_response(data, ended=True)
    assert parsed is not None
    assert (parsed[0].body, parsed[1]) == (body, len(data))
    if b"close" not in data:
        for end in range(len(data)):
            assert parse_response(data[:end]) is None
