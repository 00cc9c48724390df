"""Peers that reset, stall or send garbage, and a full descriptor table: each costs itself, and nobody else anything."""

from __future__ import annotations

import os
import random
import socket
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Start, need_descriptors
from tests.cli.peers import REQUEST, Peer, begin_download
from tests.cli.processes import KTRIO, Program, assert_served_cleanly

pytestmark = [pytest.mark.slow, pytest.mark.exhaustive]

Serve = Callable[..., Program]

GARBAGE = {
    "nothing-but-zeros": bytes(5000),
    "noise": random.Random(3).randbytes(5000),
    "a-tls-hello": bytes.fromhex("16030100c8010000c40303") + random.Random(4).randbytes(193),
    "an-h2-preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a-head-without-end": b"GET / HTTP/1.1\r\nHost: test\r\n" + b"X: y\r\n" * 20000,
    "a-line-without-end": b"GET /" + b"a" * 200_000,
    "two-lengths": b"GET / HTTP/1.1\r\nHost: test\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "bare-line-feeds": b"GET / HTTP/1.1\nHost: test\n\n",
    "another-protocol": b"SSH-2.0-OpenSSH_9.6\r\n",
    "a-body-that-is-no-chunk": b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
}


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def send_and_reset(program: Program, data: bytes) -> None:
    sock = program.connect()
    sock.sendall(data)
    reset(sock)


def say(program: Program, data: bytes) -> bytes:
    """Say it, and read to the end of the connection, which must come."""
    peer = Peer(program.connect())
    try:
        peer.send(data)
        return peer.read_to_end()
    except ConnectionError:  # it was closed while we still spoke
        return b""


def test_garbage_resets_and_stalls_do_not_disturb_a_download(serve: Serve, folder: Path) -> None:
    data = random.Random(5).randbytes(24 << 20)
    (folder / "data.bin").write_bytes(data)
    program = serve()
    peer = Peer(program.connect(receive_buffer=1 << 16))
    peer.request("data.bin")
    assert peer.head()[1]["content-length"] == str(len(data))
    got = bytearray()
    stalled = []
    for garbage in GARBAGE.values():
        answer = say(program, garbage)
        assert answer == b"" or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5"))
        got += peer.read(1 << 20)
        send_and_reset(program, garbage)
        send_and_reset(program, REQUEST % b"data.bin")
        stalled.append(program.connect(receive_buffer=4096))
        stalled[-1].sendall(REQUEST % b"data.bin")
        got += peer.read(1 << 20)
    got += peer.read(len(data) - len(got))
    assert (bytes(got) == data) is True
    assert peer.get("small.txt").status == 200
    for sock in stalled:
        reset(sock)
    assert program.stop() == 0
    assert_served_cleanly(program)


def test_other_protocols_are_told_what_this_port_speaks(serve: Serve) -> None:
    program = serve()
    for what in ("a-tls-hello", "an-h2-preface"):
        head, _, text = say(program, GARBAGE[what]).partition(b"\r\n\r\n")
        assert head.startswith((b"HTTP/1.1 400", b"HTTP/1.1 505"))
        assert b"HTTP" in text


def test_peers_that_vanish_in_every_state_leave_no_descriptor_behind(serve: Serve) -> None:
    program = serve("--max-active", "2")
    peer = Peer(program.connect())
    assert peer.get("small.txt").status == 200
    before = descriptors(program.pid)
    for _ in range(30):
        for data in (b"", b"GET / HT", REQUEST % b"big.bin", REQUEST % b"small.txt" * 20):
            send_and_reset(program, data)
            with program.connect() as sock:
                sock.sendall(data)
    wait_until_descriptors(program, before, peer)
    assert program.stop() == 0
    assert_served_cleanly(program)


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def wait_until_descriptors(program: Program, count: int, peer: Peer) -> None:
    """Ask for the small file until the server has no more descriptors than that."""
    for _ in range(20_000):
        if descriptors(program.pid) <= count:
            return
        assert peer.get("small.txt").status == 200
    pytest.fail(f"{descriptors(program.pid)} descriptors are open, not {count}")


LIMITED = """
import os, resource, sys
soft, hard, *command = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_NOFILE, (int(soft), int(hard)))
os.execv(command[0], command)
"""


def limited_to(soft: int, hard: int) -> list[str]:
    """The command that runs ktrio with these limits of open files."""
    return [sys.executable, "-c", LIMITED, str(soft), str(hard), *KTRIO]


@pytest.fixture
def few_descriptors(start: Start, folder: Path) -> Program:
    """A server that may open 60 files, and believes that 1000 connections fit."""
    options = ("--idle-timeout", "600", "--head-timeout", "600", "--max-connections", "1000")
    return start("serve", folder, "--port", "0", *options, command=limited_to(60, 60))


def assert_lines_per_burst(program: Program) -> None:
    """It tells of pauses, not of every connection that did not fit: there were a hundred."""
    assert program.err is not None
    assert 1 <= len(program.err.lines) <= 10, f"{len(program.err.lines)} lines"
    assert_served_cleanly(program)


def test_full_descriptor_table_pauses_accepting_and_recovers(few_descriptors: Program) -> None:
    program = few_descriptors
    download = Peer(program.connect(receive_buffer=4096))
    owed = begin_download(download, "big.bin")
    crowd = [Peer(program.connect()) for _ in range(100)]
    for peer in crowd:  # half a head is in progress: nobody is idle, nobody makes room
        peer.send(b"GET /small.txt HTTP/1.1\r\nHo")
    assert program.err is not None
    assert "Traceback" not in program.err.wait_count(1)[0]
    owed -= len(download.read(1 << 20))  # those that are in do not notice

    for peer in crowd[:70]:
        peer.sock.close()
    for peer in crowd[70:]:
        peer.send(b"st: test\r\n\r\n")
    assert {peer.answer().status for peer in crowd[70:]} <= {200, 503}
    wait_answered(program)
    assert download.digest(owed)
    assert program.stop() == 0
    assert_lines_per_burst(program)


def wait_answered(program: Program) -> None:
    """Until a newcomer gets its file: a polite refusal may come first, as long as the table is full."""
    for _ in range(100):
        with program.connect() as sock:
            if Peer(sock).get("small.txt").status == 200:
                return
    pytest.fail("it never recovered")


def test_crowd_of_idle_connections_at_a_full_descriptor_table_is_answered(few_descriptors: Program) -> None:
    program = few_descriptors
    crowd = [Peer(program.connect()) for _ in range(65)]
    for peer in crowd:
        peer.request("small.txt")
    assert {peer.answer().status for peer in crowd} <= {200, 503}
    for peer in crowd:
        peer.sock.close()
    wait_answered(program)
    assert program.stop() == 0
    assert_lines_per_burst(program)


def test_max_connections_keeps_a_small_descriptor_table_from_filling(
    start: Start, folder: Path, many_descriptors: None
) -> None:
    need_descriptors(550)
    # By default three quarters of the limit: the crowd waits or makes room, and nothing is exhausted.
    program = start("serve", folder, "--port", "0", command=limited_to(100, 100))
    assert program.out.wait_for(r"\b75 connections")
    for _ in range(3):
        crowd = [Peer(program.connect()) for _ in range(150)]
        for peer in crowd:
            peer.request("small.txt")
        assert {peer.answer().status for peer in crowd} == {200}
    assert program.stop() == 0
    assert program.said == ""


def test_soft_file_limit_is_raised_to_the_hard_one_and_told(start: Start, folder: Path, many_descriptors: None) -> None:
    need_descriptors(1024)
    program = start("serve", folder, "--port", "0", command=limited_to(64, 1024))
    assert program.out.wait_for(r"\b768 connections")
    assert program.stop() == 0
    assert "1024" in program.out.text + program.said
