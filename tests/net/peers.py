"""The other ends of connections under test, over every kind of transport: what they send, read, and how they leave."""

from __future__ import annotations

import contextlib
import functools
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import pytest
import trio
import trio.testing
import trustme

from ktrio.net.carriers import Carriers
from ktrio.net.readiness import Readiness
from ktrio.net.socket_transport import SocketTransport
from ktrio.net.transport import Transport

Pair: TypeAlias = tuple[socket.socket, socket.socket]
PIECE = 4096  # what `pour` sends at a time

# ---- the kinds of transports. The names after "over" are those of streams.

SOCKETS = ("tcp", "unix")
STREAMS = ("memory-stream", "lockstep-stream", "socket-stream", "tls-stream")
EVERY = (*SOCKETS, *STREAMS)
# The others buffer what is sent without a bound: their peers cannot stall.
BOUNDED = ("tcp", "unix", "lockstep-stream", "socket-stream", "tls-stream")
# TLS knows no end of one direction.
HALF_CLOSING = ("tcp", "unix", "memory-stream", "lockstep-stream", "socket-stream")
# The others cannot tell an abrupt end from an orderly one.
RESETTING = ("tcp", "socket-stream", "tls-stream")
# An abort is an error or a loss of bytes for the peer; the others deliver everything they have taken and end.
SHOWING_ABORT = ("tcp", "lockstep-stream", "socket-stream", "tls-stream")


def _over(*kinds: str) -> pytest.MarkDecorator:
    """Run a test that uses `ends`, or a fixture made of it, over these kinds only."""
    return pytest.mark.parametrize("ends", kinds, indirect=True)


over_sockets = _over(*SOCKETS)
over_bounded = _over(*BOUNDED)
over_half_closing = _over(*HALF_CLOSING)
over_resetting = _over(*RESETTING)
over_showing_abort = _over(*SHOWING_ABORT)
over_bounded_half_closing = _over(*(kind for kind in BOUNDED if kind in HALF_CLOSING))
over_bounded_resetting = _over(*(kind for kind in BOUNDED if kind in RESETTING))

# What an abrupt end of the side under test is to these peers.
ERRORS_OF_PEERS = (ConnectionResetError, trio.BrokenResourceError)


@dataclass
class Peer:
    """The other end of a socket."""

    sock: socket.socket
    poured: int = 0

    async def read(self, count: int) -> bytes:
        """Exactly so many bytes, or fewer at the end."""
        data = bytearray()
        while len(data) < count:
            try:
                chunk = self.sock.recv(min(count - len(data), 1 << 18))
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self.sock)
                continue
            if not chunk:
                break
            data += chunk
        return bytes(data)

    async def drop(self, count: int | None = None, *, at_once: int = 1 << 18) -> int:
        """Read and forget so many bytes, or all to the end; how many there were. Memory stays flat."""
        buffer = memoryview(bytearray(at_once))
        dropped = 0
        while count is None or dropped < count:
            try:
                got = self.sock.recv_into(buffer[: at_once if count is None else min(at_once, count - dropped)])
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self.sock)
                continue
            if not got:
                break
            dropped += got
        return dropped

    def send(self, data: bytes) -> None:
        assert self.sock.send(data) == len(data)

    async def send_all(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[self.sock.send(view) :]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self.sock)

    async def pour(self) -> None:
        """Send without an end; `poured` tells how much was taken off its hands."""
        while True:
            await self.send_all(bytes(PIECE))
            self.poured += PIECE

    def finish(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.sock.close()

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


class StreamPeer:
    """The other end of a stream. What it is told to do it does one after the other, in a task of its own."""

    def __init__(self, stream: trio.abc.Stream, nursery: trio.Nursery) -> None:
        self.stream = stream
        self.poured = 0
        self._is_ready = trio.Event()
        self._is_refused = False
        self._told, todo = trio.open_memory_channel[Callable[[], Awaitable[object]]](1000)
        nursery.start_soon(self._obey, todo)

    async def _obey(self, todo: trio.MemoryReceiveChannel[Callable[[], Awaitable[object]]]) -> None:
        # The end under test may go meanwhile, and its test looks there.
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self._shake_hands()
            async for act in todo:
                await act()

    async def _shake_hands(self) -> None:
        # By one task: if it fails, all others that want to shake hands wait for ever.
        try:
            if isinstance(self.stream, trio.SSLStream):
                await self.stream.do_handshake()
        except trio.BrokenResourceError:
            self._is_refused = True
            raise
        finally:
            self._is_ready.set()

    async def _be_ready(self) -> None:
        await self._is_ready.wait()
        if self._is_refused:
            raise trio.BrokenResourceError

    async def read(self, count: int) -> bytes:
        await self._be_ready()
        data = bytearray()
        while len(data) < count:
            chunk = await self.stream.receive_some(count - len(data))
            if not chunk:
                break
            data += chunk
        return bytes(data)

    async def drop(self, count: int | None = None, *, at_once: int = 1 << 18) -> int:
        await self._be_ready()
        dropped = 0
        while count is None or dropped < count:
            got = len(await self.stream.receive_some(at_once if count is None else min(at_once, count - dropped)))
            if not got:
                break
            dropped += got
        return dropped

    def send(self, data: bytes) -> None:
        self._told.send_nowait(functools.partial(self.stream.send_all, data))

    async def send_all(self, data: bytes) -> None:
        await self._be_ready()
        await self.stream.send_all(data)

    async def pour(self) -> None:
        while True:
            await self.send_all(bytes(PIECE))
            self.poured += PIECE

    def finish(self) -> None:
        assert isinstance(self.stream, trio.abc.HalfCloseableStream)
        self._told.send_nowait(self.stream.send_eof)

    def close(self) -> None:
        self._told.send_nowait(self.stream.aclose)

    def reset(self) -> None:
        """End without a goodbye, which TLS tells from an end."""
        assert isinstance(self.stream, trio.SSLStream)
        self._told.send_nowait(self.stream.transport_stream.aclose)


@functools.cache
def tls_contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The server's and a client's that trusts it."""
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF  # some Pythons take a torso for the whole by default
    authority.issue_cert("ktrio.test").configure_cert(server)
    client = ssl.create_default_context()
    client.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF  # some Pythons take a torso for the whole by default
    authority.configure_trust(client)
    return server, client


def tls_pair(ours: trio.abc.Stream, theirs: trio.abc.Stream) -> tuple[trio.SSLStream, trio.SSLStream]:
    """Both ends of TLS over both ends of another stream."""
    server, client = tls_contexts()
    return (
        trio.SSLStream(ours, server, server_side=True),
        trio.SSLStream(theirs, client, server_hostname="ktrio.test"),
    )


@dataclass
class Ends:
    """Makes transports of one kind, and their peers."""

    kind: str
    make_tcp_pair: Callable[..., Pair]
    make_unix_pair: Callable[..., Pair]
    nursery: trio.Nursery
    readiness: Readiness = field(default_factory=Readiness)
    carriers: Carriers = field(default_factory=Carriers)
    made: list[tuple[Transport, Peer | StreamPeer]] = field(default_factory=list)

    def __call__(self, **options: int) -> tuple[Transport, Peer | StreamPeer]:
        self.made.append(self._make(**options))
        return self.made[-1]

    async def leave(self) -> None:
        """End all that were made and are left, so that no carrier waits for a goodbye."""
        for transport, peer in self.made:
            transport.abort()
            if isinstance(peer, StreamPeer):
                await trio.aclose_forcefully(peer.stream)
            else:
                peer.close()

    def _make(self, **options: int) -> tuple[Transport, Peer | StreamPeer]:
        if self.kind in SOCKETS:
            sock, theirs = self.make_tcp_pair(**options) if self.kind == "tcp" else self.make_unix_pair(**options)
            return SocketTransport(sock, self.readiness), Peer(theirs)
        if self.kind == "socket-stream":
            sock, theirs = self.make_tcp_pair(**options)
            stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
            return self.carriers.carry(stream), Peer(theirs)
        ours: trio.abc.Stream
        others: trio.abc.Stream
        if self.kind == "memory-stream":
            ours, others = trio.testing.memory_stream_pair()
        else:
            ours, others = trio.testing.lockstep_stream_pair()
        if self.kind == "tls-stream":
            ours, others = tls_pair(ours, others)
        return self.carriers.carry(ours), StreamPeer(others, self.nursery)
