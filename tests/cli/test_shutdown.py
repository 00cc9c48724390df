"""The drain: what is in progress finishes, what is idle goes at once, and nobody keeps the server alive."""

from __future__ import annotations

import re
import signal
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import MIB, Start, make_sparse, need_descriptors
from tests.cli.peers import REQUEST, Peer, begin_download, wait_closed
from tests.cli.processes import Program, assert_served_cleanly

pytestmark = [pytest.mark.slow, pytest.mark.exhaustive]

Serve = Callable[..., Program]

# What a machine that is busy with other things may add to a promised time before a test says that it was broken.
PATIENCE = 4.0


def drain(program: Program, signum: int = signal.SIGINT) -> re.Match[str]:
    """Signal, and wait until it says that it drains, and how many are in progress."""
    program.send_signal(signum)
    return program.out.wait_for(r"^draining: .*?\b(\d+) in progress\b")


def test_download_completes_while_500_idle_close_and_newcomers_are_refused(
    serve: Serve, many_descriptors: None
) -> None:
    need_descriptors(600)
    program = serve("--idle-timeout", "600", "--head-timeout", "600", "--grace", "600")
    peer = Peer(program.connect(receive_buffer=4096))
    owed = begin_download(peer, "big.bin")
    idle = [Peer(program.connect()) for _ in range(500)]
    for each in idle[:250]:  # the others are new: they have not said a word
        assert each.get("small.txt").status == 200

    assert drain(program)[1] == "1"
    wait_closed(each.sock for each in idle)  # and the download has not gone on yet
    with pytest.raises(ConnectionRefusedError):
        program.connect()
    assert program.process.poll() is None

    assert peer.digest(owed)
    last_byte = time.monotonic()
    assert program.wait() == 0
    after = time.monotonic() - last_byte
    print(f"ended {after * 1000:.0f} ms after the last byte")
    assert after < 1 + PATIENCE
    assert program.out.find(r"^served 251 · cut 0 · \d+\.\d s$")
    assert_served_cleanly(program)


@pytest.mark.parametrize("options", [(), ("--max-connections", "20")], ids=["roomy", "full"])
def test_requests_in_the_backlog_are_answered(serve: Serve, options: tuple[str, ...]) -> None:
    program = serve(*options)
    stay = Peer(program.connect())
    assert stay.get("small.txt").status == 200
    program.send_signal(signal.SIGSTOP)
    late = [Peer(program.connect()) for _ in range(200)]  # the kernel takes them; the server cannot
    for peer in late:
        peer.request("small.txt")
    program.send_signal(signal.SIGINT, signal.SIGCONT)
    answers = [peer.answer() for peer in late]
    assert {(answer.status, answer.body) for answer in answers} == {(200, b"hello, world\n")}
    assert any(answer.closes for answer in answers)  # those that were not answered before the signal was seen
    assert {peer.read_to_end() for peer in late} == {b""}
    assert program.wait() == 0
    assert program.out.find(r"^served 201 · cut 0 ·")


def test_request_that_reached_an_idle_connection_with_the_signal_is_answered(serve: Serve) -> None:
    program = serve()
    peers = [Peer(program.connect()) for _ in range(20)]
    for peer in peers:
        assert peer.get("small.txt").status == 200
    program.send_signal(signal.SIGSTOP)
    for peer in peers:
        peer.request("small.txt")
    program.send_signal(signal.SIGINT, signal.SIGCONT)
    for peer in peers:
        assert peer.answer().status == 200
        assert peer.read_to_end() == b""
    assert program.wait() == 0
    assert program.out.find(r"^served 40 · cut 0 ·")


def test_half_a_head_is_in_progress_and_may_be_finished(serve: Serve) -> None:
    program = serve("--grace", "600", "--head-timeout", "600")
    peer = Peer(program.connect())
    assert peer.get("small.txt").status == 200
    peer.send(b"GET /small.txt HTTP/1.1\r\nHo")
    assert Peer(program.connect()).get("small.txt").status == 200  # by now the half head has been read
    drain(program)
    peer.send(b"st: test\r\n\r\n")
    answer = peer.answer()
    assert (answer.status, answer.closes) == (200, True)
    assert program.wait() == 0


def test_half_a_head_keeps_its_own_deadline_and_is_no_cut(serve: Serve) -> None:
    program = serve("--grace", "600", "--head-timeout", "0.5")
    peer = Peer(program.connect())
    peer.send(b"GET / HTTP/1.1\r\nHo")
    drain(program)
    assert peer.answer().status == 408
    assert program.wait() == 0
    assert program.out.find(r"^served \d · cut 0 ·")


def test_requests_pipelined_behind_the_one_in_progress_are_not_answered(serve: Serve) -> None:
    program = serve("--grace", "600")
    peer = Peer(program.connect(receive_buffer=4096))
    peer.send(REQUEST % b"big.bin" + REQUEST % b"small.txt")
    _, headers = peer.head()
    drain(program)
    assert len(peer.read_to_end()) == int(headers["content-length"])
    assert program.wait() == 0


def test_grace_cuts_what_takes_longer_and_the_status_is_4(serve: Serve) -> None:
    program = serve("--grace", "0.2")
    peer = Peer(program.connect(receive_buffer=4096))
    owed = begin_download(peer, "big.bin")
    began = time.monotonic()
    drain(program)
    assert program.wait() == 4
    assert time.monotonic() - began >= 0.15
    assert peer.drop() < owed
    assert program.out.find(r"^served 0 · cut 1 · \d+\.\d s$")
    assert_served_cleanly(program)


def test_grace_of_0_cuts_at_once_but_lets_an_idle_server_end_with_0(serve: Serve) -> None:
    idle, busy = serve("--grace", "0"), serve("--grace", "0")
    begin_download(Peer(busy.connect(receive_buffer=4096)), "big.bin")
    assert idle.connect()
    assert (idle.stop(), busy.stop()) == (0, 4)


def test_client_that_leaves_during_the_drain_is_no_cut(serve: Serve) -> None:
    program = serve("--grace", "600")
    peer = Peer(program.connect(receive_buffer=4096))
    begin_download(peer, "big.bin")
    drain(program)
    peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.sock.close()  # a reset
    assert program.wait() == 0
    assert program.out.find(r"^served 0 · cut 0 ·")


def test_reader_that_stopped_keeps_nobody_alive_and_every_other_answer_is_complete(start: Start, folder: Path) -> None:
    make_sparse(folder / "huge.bin", 200 * MIB)
    make_sparse(folder / "medium.bin", 8 * MIB)
    program = start("serve", folder, "--port", "0", "--grace", "2")
    stopped = Peer(program.connect(receive_buffer=4096))
    owed = begin_download(stopped, "huge.bin")
    others = [Peer(program.connect(receive_buffer=4096)) for _ in range(5)]
    rests = [begin_download(peer, "medium.bin") for peer in others]
    began = time.monotonic()
    drain(program)
    for peer, rest in zip(others, rests, strict=True):
        assert len(peer.read_to_end()) == rest
    assert program.wait() == 4
    took = time.monotonic() - began
    print(f"ended {took:.2f} s after the signal, with a grace of 2 s")
    assert took < 2 + 2 + PATIENCE
    assert stopped.drop() < owed
    assert program.out.find(r"^draining: .*\bleft")  # progress is shown
    assert program.out.find(r"^served 5 · cut 1 ·")
    assert_served_cleanly(program)


def test_stalled_peers_of_every_kind_keep_nobody_alive(serve: Serve) -> None:
    program = serve("--grace", "0.5", "--head-timeout", "600", "--body-timeout", "600", "--idle-timeout", "600")
    peers = [Peer(program.connect(receive_buffer=4096)) for _ in range(6)]
    peers[0].send(b"GET / HTTP/1.1\r\nHo")
    peers[1].send(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000\r\n\r\n")
    peers[2].send(b"GET /small.txt HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab")
    peers[3].send((REQUEST % b"big.bin") * 50)
    peers[4].send(b"\r\n")
    assert Peer(program.connect()).get("small.txt").status == 200
    began = time.monotonic()
    assert program.stop() in (0, 4)
    took = time.monotonic() - began
    print(f"ended {took:.2f} s after the signal, with a grace of 0.5 s")
    assert took < 0.5 + 2 + PATIENCE
    wait_closed(peer.sock for peer in peers)
    assert_served_cleanly(program)


def test_unix_path_is_gone_during_the_drain(start: Start, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "draining.sock"
    program = start("serve", folder, "--unix", path, "--host", "127.0.0.1", "--port", "0", "--grace", "600")
    program.out.wait_for(" at unix:")
    peer = Peer(program.connect(receive_buffer=4096, address=program.addresses[0]))
    owed = begin_download(peer, "big.bin")
    drain(program)
    assert not path.exists()
    assert len(peer.read_to_end()) == owed
    assert program.wait() == 0


def test_inherited_listener_is_left_to_who_gave_it(start: Start, folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address, descriptor = listener.getsockname()[:2], listener.fileno()
        for _ in range(2):  # a successor takes over; no connect is refused in between
            program = start("serve", folder, "--fd", str(descriptor), pass_fds=[descriptor])
            assert Peer(program.connect(address=address)).get("small.txt").status == 200
            assert program.stop() == 0
        with socket.create_connection(address):
            pass


def test_closing_line_counts_answers_and_seconds_since_the_signal(serve: Serve) -> None:
    program = serve()
    peer = Peer(program.connect())
    for target, status in (("small.txt", 200), ("missing", 404), ("small.txt", 200)):
        assert peer.get(target).status == status
    assert program.stop() == 0
    assert program.out.find(r"^served 3 · cut 0 · 0\.\d s$")


@pytest.mark.parametrize("times", [3])
def test_restart_on_the_same_port_works_at_once(serve: Serve, start: Start, folder: Path, times: int) -> None:
    port = 0
    for _ in range(times):
        program = start("serve", folder, "--port", str(port), "--grace", "0")
        port = program.port
        peers = [Peer(program.connect()) for _ in range(3)]
        assert peers[0].get("small.txt", close=True).closes  # we close last: the port stays in TIME_WAIT there
        assert peers[1].get("small.txt").status == 200
        begin_download(peers[2], "big.bin")
        assert program.stop() == 4


def test_restart_on_the_same_port_works_while_the_predecessor_still_drains(start: Start, folder: Path) -> None:
    old = start("serve", folder, "--port", "0", "--grace", "600")
    peer = Peer(old.connect(receive_buffer=4096))
    owed = begin_download(peer, "big.bin")
    drain(old)
    new = start("serve", folder, "--port", str(old.port))
    assert Peer(new.connect()).get("small.txt").status == 200
    assert len(peer.read_to_end()) == owed
    assert old.wait() == 0
    assert new.stop() == 0
