"""What type checkers must accept of the testing kit; checked by `make check-types`, never run."""
# pyright: reportUnusedExpression=false

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import assert_type

import trio
from trio.testing import MockClock

from ktrio import ConnectionStream, Headers, Request, Response, Server, Timeouts
from ktrio.protocols.echo import Echo
from ktrio.testing import (
    FIN,
    NOTHING,
    READ_ON,
    RESET,
    STALL,
    MemoryListener,
    MemoryResponse,
    MemoryServer,
    MemoryStream,
    Playbook,
    PlayClock,
    PlayPeer,
    PlayServer,
    SampleRequest,
    burn,
    check_handler,
    check_protocol,
    ended,
    response,
    serve_in_memory,
)


async def handler(request: Request) -> Response:
    return Response()


async def stream_handler(stream: ConnectionStream) -> None:
    await stream.send_all(b"hello")


async def pieces() -> AsyncIterator[bytes]:
    yield b"one"


async def in_memory() -> None:
    async with serve_in_memory(handler, timeouts=Timeouts(idle=3)) as server:
        assert_type(server, MemoryServer)
        assert_type(server.server, Server)
        assert_type(server.clock, MockClock)
        answer = await server.request("POST", "/", headers={"x": "y"}, body=pieces())
        assert_type(answer, MemoryResponse)
        assert_type(answer.headers, Headers)
        assert_type(answer.body, bytes)
        peer = server.connect(buffer_bytes=1)
        assert_type(peer, MemoryStream)
        stream: trio.abc.HalfCloseableStream = peer
        await stream.send_all(b"x")
        assert_type(await peer.receive_until_blocked(), bytes)
        assert_type(peer.receive_nowait(), bytes | None)
        assert_type(server.reason_of(peer), str)
        await server.settle()
        await server.advance(1)
        server.cancel()
    async with serve_in_memory(stream=stream_handler) as server, serve_in_memory(protocol=Echo) as _other:
        pass
    listener: trio.abc.Listener[trio.abc.Stream] = MemoryListener()
    await listener.aclose()


async def play() -> None:
    async with Playbook(handler) as (peer, server, clock):
        assert_type(peer, PlayPeer)
        assert_type(server, PlayServer)
        assert_type(clock, PlayClock)
        peer >> b"bytes"
        peer >> FIN
        peer >> RESET
        peer >> STALL
        peer >> READ_ON
        clock += 5
        clock += 0.5
        server << b"bytes"
        server << response(200, b"", content_type="text/plain", vary=None)
        server << FIN
        server << RESET
        server << NOTHING
        server << ended("idle-timeout")
        server[peer.another()] << b"bytes"
        peer >> NOTHING  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue]
        server << STALL  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue]


async def specifications() -> None:
    await check_handler(lambda: handler, "/", SampleRequest("POST", "/", body=b"x"), varying=["x-request-id"])
    await check_protocol(Echo, b"hello", flood=b"x" * 1_000_000)
    burn(0.005)
    await check_handler(handler)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
