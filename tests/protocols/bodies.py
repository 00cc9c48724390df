"""Bodies for the tests that stream: both kinds of a response's, and a request's in chunks."""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import sys

import pytest
import trio

from ktrio import Headers, Response
from tests.server.harness import Client, Ended, get


def chunked(*chunks: bytes, target: str = "/", end: bytes = b"0\r\n\r\n", fields: tuple[str, ...] = ()) -> bytes:
    """A POST whose body comes in these chunks (RFC 9112 section 7.1)."""
    return get(target, "Transfer-Encoding: chunked", *fields, method="POST") + in_chunks(*chunks) + end


def in_chunks(*chunks: bytes) -> bytes:
    """An empty one would be the last: there is none for it."""
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks if chunk)


def sized(length: int, *fields: str, **options: str) -> bytes:
    """The head alone of a POST whose body has `length` bytes."""
    return get("/", f"Content-Length: {length}", *fields, method="POST", **options)


def as_iterable(generator):
    return generator


def as_writer(generator):
    """The same pieces from a writer function."""

    async def write(send):
        async with contextlib.aclosing(generator):
            async for piece in generator:
                await send(piece)

    return write


both_kinds = pytest.mark.parametrize("kind", [as_iterable, as_writer], ids=["iterable", "writer"])


async def pieces(*given: bytes):
    """An async generator of them."""
    for piece in given:
        yield piece


def echo(kind):
    """A handler that gives back what comes, as it comes."""

    async def handler(request):
        async def make():
            async for piece in request.body:
                yield piece

        return Response(body=kind(make()))

    return handler


def answering(make, **fields: str):
    """A handler whose answer has what `make()` makes for a body."""

    async def handler(request):
        return Response(headers=Headers(fields), body=make())

    return handler


class Stream:
    """An iterable body that counts how often it is iterated and closed, and in which tasks.

    After its pieces it waits for `gate`, if there is one, and raises `error`, if there is one.
    """

    def __init__(self, *given: bytes, gate: trio.Event | None = None, error: Exception | None = None) -> None:
        self.left = list(given)
        self.gate = gate
        self.error = error
        self.begun = 0
        self.closed = 0
        self.tasks: set[trio.lowlevel.Task] = set()

    def __aiter__(self):
        return self

    async def __anext__(self) -> bytes:
        assert not self.closed
        self.begun += 1
        self.tasks.add(trio.lowlevel.current_task())
        if self.left:
            return self.left.pop(0)
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self.closed += 1
        self.tasks.add(trio.lowlevel.current_task())


def packets_received(client: Client) -> int:
    """How many TCP segments with data have come; only Linux tells."""
    if not sys.platform.startswith("linux"):
        pytest.skip("only Linux tells how many segments have come")
    told = client.raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    return struct.unpack_from("I", told, 152)[0]  # tcpi_data_segs_in of struct tcp_info, since Linux 4.6


async def read_chunk(client: Client) -> bytes:
    """One chunk of a chunked body; empty: the last, without what follows it."""
    line = await client.read_through(b"\r\n")
    assert re.fullmatch(rb"[0-9A-Fa-f]+\r\n", line), line
    size = int(line, 16)
    data = await client.read(size)
    assert not size or await client.read(2) == b"\r\n"
    return data


async def read_statuses(client: Client) -> list[int]:
    """Those of the whole answers that come until the connection ends."""
    statuses = []
    with contextlib.suppress(Ended):
        while True:
            statuses.append((await client.read_reply()).status)
    return statuses
