"""What the socket tests share: real socket pairs, connections over them, and a peer that reads and writes by itself.

Where time matters it is `mock_clock` (no autojump: a socket with bytes under way looks like "everything is blocked"),
moved by hand after `wait_all_tasks_blocked`; pytest-trio uses it only for tests that name it themselves.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
import trio

from ktrio.net.connection import Connection
from ktrio.net.deadlines import Timeouts
from ktrio.net.readiness import Readiness
from ktrio.net.socket_transport import SocketTransport

Pair = tuple[socket.socket, socket.socket]


@dataclass
class Peer:
    """The other end of a connection under test."""

    sock: socket.socket

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

    def finish(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.sock.close()

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


@pytest.fixture
def tcp_pair() -> Iterator[Callable[..., Pair]]:
    """A function that makes connected, non-blocking loopback sockets: (ours, the peer's)."""
    made: list[socket.socket] = []

    def make(*, send_buffer: int | None = None, receive_buffer: int | None = None) -> Pair:
        with socket.socket() as listener:
            if send_buffer is not None:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            theirs = socket.socket()
            made.append(theirs)
            if receive_buffer is not None:
                theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            theirs.connect(listener.getsockname())
            ours, _ = listener.accept()
            made.append(ours)
        ours.setblocking(False)
        theirs.setblocking(False)
        return ours, theirs

    yield make
    for sock in made:
        sock.close()


@pytest.fixture
def unix_pair() -> Iterator[Callable[..., Pair]]:
    """The same over unix sockets."""
    made: list[socket.socket] = []

    def make(**_options: object) -> Pair:
        pair = socket.socketpair()
        made.extend(pair)
        for sock in pair:
            sock.setblocking(False)
        return pair

    yield make
    for sock in made:
        sock.close()


@pytest.fixture(params=["tcp", "unix"])
def socket_pair(request: pytest.FixtureRequest) -> Callable[..., Pair]:
    return request.getfixturevalue(f"{request.param}_pair")


@pytest.fixture(params=["epoll", "peek"])
async def readiness(request: pytest.FixtureRequest, nursery: trio.Nursery) -> Readiness:
    """Running, in both of its ways."""
    use_epoll = request.param == "epoll"
    if use_epoll and not hasattr(__import__("select"), "epoll"):
        pytest.skip("this platform has no epoll")
    readiness = Readiness(use_epoll=use_epoll)
    await nursery.start(_run, readiness)
    return readiness


async def _run(readiness: Readiness, *, task_status: trio.TaskStatus[None]) -> None:
    await readiness.run(task_status=task_status)


@dataclass
class Maker:
    """Makes connections under test."""

    make_pair: Callable[..., Pair]
    readiness: Readiness = field(default_factory=Readiness)
    draining: trio.Event = field(default_factory=trio.Event)

    def __call__(self, *, timeouts: Timeouts | None = None, **options: int) -> tuple[Connection, Peer]:
        ours, theirs = self.make_pair(**options)
        connection = Connection(
            SocketTransport(ours, self.readiness),
            peer="127.0.0.1:1000",
            local="127.0.0.1:2000",
            timeouts=timeouts or Timeouts(),
            now=trio.current_time(),
            draining=self.draining,
        )
        return connection, Peer(theirs)


@pytest.fixture
async def connect(tcp_pair: Callable[..., Pair], nursery: trio.Nursery) -> Maker:
    """A function that makes a connection over TCP and its peer."""
    maker = Maker(tcp_pair)
    await nursery.start(_run, maker.readiness)
    return maker


@pytest.fixture
async def connect_any(socket_pair: Callable[..., Pair], nursery: trio.Nursery) -> Maker:
    """The same, once over TCP and once over unix sockets."""
    maker = Maker(socket_pair)
    await nursery.start(_run, maker.readiness)
    return maker
