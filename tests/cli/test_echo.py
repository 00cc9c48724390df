"""`ktrio echo`: every byte comes back, at the pace of who takes it, and the bytes in hand go out before the end."""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable

import pytest

from tests.cli.conftest import Start
from tests.cli.peers import Peer, wait_closed
from tests.cli.processes import LIMIT, Program, assert_served_cleanly

pytestmark = [pytest.mark.slow, pytest.mark.exhaustive]

Echo = Callable[..., Program]
MIB = 1 << 20


def exchange(sock: socket.socket, data: bytes) -> bytes:
    """Send it all, from a thread, then half-close; all that comes back meanwhile."""

    def send() -> None:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        return Peer(sock).read_to_end()
    finally:
        sender.join(LIMIT)


def fill(sock: socket.socket) -> int:
    """Send until nothing more fits anywhere, here nor there; how many bytes went."""
    sent = 0
    sock.settimeout(0.5)  # that long no room: both kernels and the server are full
    try:
        while True:
            sent += sock.send(bytes(65536))
    except TimeoutError:
        return sent
    finally:
        sock.settimeout(LIMIT)


@pytest.fixture(scope="module")
def shared(start_shared: Start) -> Program:
    """A server for the tests that do not end it."""
    return start_shared("echo", "--port", "0", "--max-active", "2")


def test_echo_prints_its_address(shared: Program) -> None:
    program = shared
    assert re.fullmatch(r"ktrio \S+: .* at (tcp:)?127\.0\.0\.1:[1-9]\d*\n", program.out.wait_count(1)[0])


def test_echo_gives_back_every_byte_and_then_the_end(shared: Program) -> None:
    data = random.Random(1).randbytes(MIB // 2) + bytes(MIB // 4) + b"\x00\r\n\xff" * (MIB // 16)
    assert exchange(shared.connect(), data) == data
    assert exchange(shared.connect(), b"") == b""


def test_echo_answers_before_the_peer_is_done(shared: Program) -> None:
    peer = Peer(shared.connect())
    for data in (b"\0", b"a\0b", bytes(range(256))):
        peer.send(data)
        assert peer.read(len(data)) == data


def test_echo_keeps_many_conversations_apart(shared: Program) -> None:
    peers = [Peer(shared.connect()) for _ in range(100)]
    for number, peer in enumerate(peers):
        peer.send(b"%d|" % number * 1000)
    for number, peer in reversed(list(enumerate(peers))):
        expected = b"%d|" % number * 1000
        assert peer.read(len(expected)) == expected


def test_echo_serves_a_unix_socket(echo: Echo, tmp_path: os.PathLike[str]) -> None:
    path = os.path.join(tmp_path, "echo.sock")
    program = echo("--unix", path)
    program.out.wait_for(" at unix:")
    sock = program.adopt(socket.socket(socket.AF_UNIX))
    sock.connect(path)
    assert exchange(sock, b"by path") == b"by path"


def test_echo_does_not_read_ahead_of_a_peer_that_does_not_read(shared: Program) -> None:
    program = shared
    assert exchange(program.connect(), b"first") == b"first"
    before = resident_kib(program.pid)
    stalled = program.connect(receive_buffer=4096)
    sent = fill(stalled)
    assert resident_kib(program.pid) - before < 8 * 1024
    other = program.connect()
    assert exchange(other, b"meanwhile") == b"meanwhile"
    assert exchange_rest(stalled, sent)


def exchange_rest(sock: socket.socket, count: int) -> bool:
    """Whether all of so many zero bytes come back, and no more."""
    sock.shutdown(socket.SHUT_WR)
    return Peer(sock).read_to_end() == bytes(count)


def resident_kib(pid: int) -> int:
    with open(f"/proc/{pid}/status") as file:
        found = re.search(r"VmRSS:\s+(\d+) kB", file.read())
    assert found
    return int(found[1])


def test_echo_idle_timeout_counts_from_the_last_byte_also_before_the_first(echo: Echo) -> None:
    program = echo("--idle-timeout", "0.4")
    silent, busy = Peer(program.connect()), Peer(program.connect())
    busy.send(b"x")
    assert busy.read(1) == b"x"
    received = time.monotonic()
    assert silent.read_to_end() == b""
    assert busy.read_to_end() == b""
    assert time.monotonic() - received >= 0.35


def test_echo_write_timeout_drops_a_peer_that_does_not_read(echo: Echo) -> None:
    program = echo("--write-timeout", "0.5")
    stalled = program.connect(receive_buffer=4096)
    with pytest.raises(ConnectionError):
        send_for_ever(stalled)
    assert program.stop() == 0


def send_for_ever(sock: socket.socket) -> None:
    while True:
        sock.sendall(bytes(65536))


def test_echo_drain_sends_the_bytes_in_hand_and_closes_the_idle(echo: Echo) -> None:
    program = echo()
    idle = [Peer(program.connect()) for _ in range(10)]
    for peer in idle[:5]:
        peer.send(b"x")
        assert peer.read(1) == b"x"
    owed = program.connect(receive_buffer=4096)
    sent = fill(owed)
    program.send_signal(signal.SIGTERM)
    wait_closed(peer.sock for peer in idle)  # although the other one is still being served
    assert program.process.poll() is None
    assert 0 < Peer(owed).drop() <= sent
    assert program.wait() == 0
    assert program.out.find(r"cut 0 ·")


def test_echo_cut_by_the_grace_ends_with_4(echo: Echo) -> None:
    program = echo("--grace", "0.3")
    fill(program.connect(receive_buffer=4096))
    assert program.stop() == 4
    assert program.out.find(r"cut 1 ·")


def test_echo_bears_a_reset_amid_the_conversation(shared: Program) -> None:
    program = shared
    other = Peer(program.connect())
    for _ in range(20):
        sock = program.connect()
        sock.sendall(bytes(100_000))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
    other.send(b"still there")
    assert other.read(11) == b"still there"
    assert program.stop() == 0
    assert_served_cleanly(program)
