"""Listeners that are no sockets, certificates for nobody else, and streams of connections without a server."""

from __future__ import annotations

import functools
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import trio
import trustme
from trio.testing import lockstep_stream_pair, memory_stream_pair

from ktrio import Connection, ConnectionStream, Timeouts
from ktrio.net.carriers import Carriers
from ktrio.net.readiness import Readiness
from ktrio.net.socket_transport import SocketTransport
from ktrio.net.stream_transport import READ_AHEAD
from tests.server.harness import let_time_fly, settle

HOST = "server.test"


class Watched(trio.abc.HalfCloseableStream):
    """The server's end of an in-memory connection; knows how often it was closed."""

    def __init__(self, stream: trio.StapledStream) -> None:
        self.stream = stream
        self.closed = 0

    async def send_all(self, data):
        await self.stream.send_all(data)

    async def wait_send_all_might_not_block(self):
        await self.stream.wait_send_all_might_not_block()

    async def send_eof(self):
        await self.stream.send_eof()

    async def receive_some(self, max_bytes=None):
        return await self.stream.receive_some(max_bytes)

    async def aclose(self):
        self.closed += 1
        await self.stream.aclose()


class MemoryListener(trio.abc.Listener):
    """Accepts what `connect` makes; `errors` are raised first, one each; `closed` counts."""

    def __init__(self, make_pair=memory_stream_pair, backlog: float = 1000) -> None:
        self.make_pair = make_pair
        self.errors: list[BaseException] = []
        self.accepted: list[Watched] = []
        self.closed = 0
        self._send, self._receive = trio.open_memory_channel(backlog)

    def connect(self):
        """The peer's end of a new connection, which waits to be accepted."""
        ours, theirs = self.make_pair()
        self._send.send_nowait(Watched(ours))
        return theirs

    @property
    def waiting(self) -> int:
        """How many wait to be accepted."""
        return self._send.statistics().current_buffer_used

    def wake(self) -> None:
        """Let an `accept` that waits come back, and meet the next of the `errors`."""
        self._send.send_nowait(None)

    async def accept(self):
        if self.errors:
            await trio.lowlevel.checkpoint()
            raise self.errors.pop(0)
        try:
            stream = await self._receive.receive()
        except trio.BrokenResourceError:
            raise trio.ClosedResourceError from None
        if stream is None:
            return await self.accept()
        self.accepted.append(stream)
        return stream

    async def aclose(self):
        self.closed += 1
        self._receive.close()
        await trio.lowlevel.checkpoint()


@functools.cache
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The server's, and one of a peer that trusts it."""
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF  # some Pythons take a torso for the whole by default
    authority.issue_cert(HOST).configure_cert(server)
    peer = ssl.create_default_context()
    peer.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF  # some Pythons take a torso for the whole by default
    authority.configure_trust(peer)
    return server, peer


def tls_listener(listener: trio.abc.Listener) -> trio.SSLListener:
    return trio.SSLListener(listener, contexts()[0], https_compatible=True)


def tls_peer(stream: trio.abc.Stream) -> trio.SSLStream:
    return trio.SSLStream(stream, contexts()[1], server_hostname=HOST, https_compatible=True)


async def socket_listener() -> trio.SocketListener:
    """Trio's own, on a free port of 127.0.0.1."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    return listener


@dataclass
class Place:
    """A listener, and how its peers connect."""

    listener: trio.abc.Listener
    connect: Callable[[], Awaitable[trio.abc.Stream]]
    bottom: object  # the listener under all others


async def make_place(kind: str) -> Place:
    """`kind` is "socket", "memory", "lockstep", or one of them behind "tls-"."""
    layer, _, below = kind.rpartition("-")
    if below == "socket":
        bottom = await socket_listener()
        where = bottom.socket.getsockname()
        connect = functools.partial(trio.open_tcp_stream, *where)
    else:
        bottom = MemoryListener(lockstep_stream_pair if below == "lockstep" else memory_stream_pair)
        connect = trio_async(bottom.connect)
    if layer == "tls":
        return Place(tls_listener(bottom), over_tls(connect), bottom)
    return Place(bottom, connect, bottom)


def trio_async(fn):
    async def call():
        await trio.lowlevel.checkpoint()
        return fn()

    return call


def over_tls(connect):
    async def call():
        return tls_peer(await connect())

    return call


async def receive_all(stream: trio.abc.ReceiveStream) -> bytes:
    """All that comes, whether it ends with a FIN or a reset."""
    found = bytearray()
    with suppress(trio.BrokenResourceError):
        async for piece in stream:
            found += piece
    return bytes(found)


async def receive_exactly(stream: trio.abc.ReceiveStream, count: int) -> bytes:
    found = b""
    while len(found) < count:
        piece = await stream.receive_some(count - len(found))
        assert piece, f"the end after {found!r}"
        found += piece
    return found


def reset(stream: trio.SocketStream) -> None:
    """Close with a reset (RST) instead of a FIN."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()


# -- Streams without a server -----------------------------------------------------------------------------------------

Pair = tuple[ConnectionStream, trio.abc.HalfCloseableStream]


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        theirs = socket.socket()
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        theirs.connect(listener.getsockname())
        ours, _ = listener.accept()
    return ours, theirs


class Maker:
    """Makes a connection's stream and its peer; `clogged` ones take nothing any more, in either direction."""

    def __init__(self, kind: str, readiness: Readiness, carriers: Carriers) -> None:
        self.kind = kind
        self.readiness = readiness
        self.carriers = carriers
        self.draining = trio.Event()
        self.connections: list[Connection] = []
        self.sockets: list[socket.socket] = []

    def connection(self, transport) -> Connection:
        connection = Connection(
            transport, peer="a peer", local="a server", timeouts=Timeouts(), now=0, draining=self.draining
        )
        self.connections.append(connection)
        return connection

    async def __call__(self) -> Pair:
        if self.kind in ("tcp", "unix"):
            ours, theirs = tcp_pair() if self.kind == "tcp" else socket.socketpair()
            self.sockets += [ours, theirs]
            for sock in (ours, theirs):
                sock.setblocking(False)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            peer = trio.SocketStream(trio.socket.from_stdlib_socket(theirs))
            return ConnectionStream(self.connection(SocketTransport(ours, self.readiness))), peer
        ours, theirs = lockstep_stream_pair() if self.kind == "lockstep" else memory_stream_pair()
        if self.kind == "tls":
            ours = trio.SSLStream(ours, contexts()[0], server_side=True)
            theirs = trio.SSLStream(theirs, contexts()[1], server_hostname=HOST)
        return ConnectionStream(self.connection(self.carriers.carry(ours))), theirs

    async def clogged(self) -> Pair:
        stream, peer = await self()
        if self.kind == "lockstep":
            await peer.send_all(b"x" * READ_AHEAD)
        while True:
            await settle()
            moved = self.connections[-1].send_nowait(b"x" * 4096)
            if isinstance(peer, trio.SocketStream):
                with suppress(BlockingIOError):
                    moved += self.sockets[-1].send(b"x" * 4096)
            if not moved:
                return stream, peer

    def close(self) -> None:
        for sock in self.sockets:
            sock.close()


@asynccontextmanager
async def making_streams(kind: str) -> AsyncIterator[Callable[[], Awaitable[Pair]]]:
    """A `Maker` of streams of that kind, for the length of the block."""
    async with trio.open_nursery() as nursery:
        readiness, carriers = Readiness(), Carriers()
        await nursery.start(_run, readiness)
        await nursery.start(_run, carriers)
        maker = Maker(kind, readiness, carriers)
        try:
            yield maker
        finally:
            for connection in maker.connections:
                connection.abort()
            maker.close()
            let_time_fly()
            nursery.cancel_scope.cancel()


async def _run(service, *, task_status: trio.TaskStatus[None]) -> None:
    await service.run(task_status=task_status)
