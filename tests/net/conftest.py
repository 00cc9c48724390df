"""What these tests share: real socket pairs, transports of every kind, and connections over them.

Where time matters it is `mock_clock` (no autojump: a socket with bytes under way looks like "everything is blocked"),
moved by hand after `wait_all_tasks_blocked`; pytest-trio uses it only for tests that name it themselves.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field

import pytest
import trio

from ktrio.net.connection import Connection
from ktrio.net.deadlines import Timeouts
from ktrio.net.readiness import Readiness
from tests.net.peers import EVERY, Ends, Pair, Peer, StreamPeer


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


@pytest.fixture(params=EVERY)
async def ends(
    request: pytest.FixtureRequest, tcp_pair: Callable[..., Pair], unix_pair: Callable[..., Pair], nursery: trio.Nursery
) -> AsyncIterator[Ends]:
    """A function that makes a transport and its peer: of every kind, or of those that a test names (`indirect`)."""
    ends = Ends(request.param, tcp_pair, unix_pair, nursery)
    await nursery.start(_run, ends.readiness)
    await nursery.start(ends.carriers.run)
    yield ends
    await ends.leave()


@dataclass
class Maker:
    """Makes connections under test."""

    ends: Ends
    draining: trio.Event = field(default_factory=trio.Event)

    @property
    def readiness(self) -> Readiness:
        return self.ends.readiness

    def __call__(self, *, timeouts: Timeouts | None = None, **options: int) -> tuple[Connection, Peer | StreamPeer]:
        transport, peer = self.ends(**options)
        connection = Connection(
            transport,
            peer="127.0.0.1:1000",
            local="127.0.0.1:2000",
            timeouts=timeouts or Timeouts(),
            now=trio.current_time(),
            draining=self.draining,
        )
        return connection, peer


@pytest.fixture
async def connect(
    tcp_pair: Callable[..., Pair], unix_pair: Callable[..., Pair], nursery: trio.Nursery
) -> AsyncIterator[Maker]:
    """A function that makes a connection over TCP and its peer."""
    ends = Ends("tcp", tcp_pair, unix_pair, nursery)
    await nursery.start(_run, ends.readiness)
    yield Maker(ends)
    await ends.leave()


@pytest.fixture
def connect_any(ends: Ends) -> Maker:
    """The same over every kind of transport, or over those that a test names by `ends` (`indirect`)."""
    return Maker(ends)
