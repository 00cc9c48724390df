"""`ktrio serve`: where it listens, what it prints, what its options do."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Start
from tests.cli.peers import Peer, wait_each
from tests.cli.processes import ADDRESS, KTRIO, LIMIT, Program, assert_served_cleanly
from tests.cli.warm_start import WarmStart

pytestmark = pytest.mark.slow

Serve = Callable[..., Program]


def unix_peer(path: Path, program: Program) -> Peer:
    sock = socket.socket(socket.AF_UNIX)
    program.adopt(sock)
    sock.connect(os.fspath(path))
    return Peer(sock)


def test_serve_port_0_prints_the_real_address_and_answers_there(serve: Serve, folder: Path) -> None:
    program = serve()
    first = program.out.wait_count(1)[0]
    assert re.fullmatch(
        rf"ktrio \d+\.\d+\.\d+\S*: serving {re.escape(str(folder))} at http://127\.0\.0\.1:[1-9]\d*/\n", first
    )
    answer = Peer(program.connect()).get("small.txt")
    assert (answer.status, answer.body) == (200, b"hello, world\n")
    program.stop()
    assert "\x1b" not in program.out.text  # no colours or links into a pipe
    assert program.said == ""


def test_serve_start_lines_show_queue_and_limits(serve: Serve) -> None:
    program = serve("--cpus", "3", "--capacity", "77", "--max-active", "11", "--max-connections", "123", "--grace", "6")
    lines = program.out.wait_count(2)
    for shown in (r"\b3\b", r"\b77\b", r"\b11\b", r"\b123\b", r"\b6 s\b"):
        assert re.search(shown, lines[1]), f"{shown} is not in {lines[1]!r}"


@pytest.mark.parametrize(("option", "kind"), [("--bound", "bound"), ("--unbound", "unbound"), (None, "unbound")])
def test_serve_on_either_kind_of_queue_answers_and_says_which(serve: Serve, option: str | None, kind: str) -> None:
    program = serve(*([option] if option else []))
    assert program.out.wait_count(2)[1].startswith(f"  {kind} queue, ")
    assert Peer(program.connect()).get("small.txt").body == b"hello, world\n"
    program.stop()
    assert program.said == ""


@pytest.mark.exhaustive
def test_serve_without_folder_serves_the_current_one(start: Start, folder: Path) -> None:
    program = start("serve", "--port", "0", cwd=folder)
    assert Peer(program.connect()).get("small.txt").body == b"hello, world\n"


@pytest.mark.exhaustive
def test_serve_at_many_addresses_prints_and_answers_each(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "at.sock"
    program = serve("--host", "127.0.0.1", "--host", "::1", "--unix", path)
    assert program.out.wait_for(rf" at unix:{re.escape(str(path))}\n")
    assert program.out.find(r" at http://\[::1\]:\d+/$")
    assert {host for host, _ in program.addresses} == {"127.0.0.1", "::1"}
    peers = [Peer(program.connect(address=each)) for each in program.addresses] + [unix_peer(path, program)]
    assert [peer.get("small.txt").status for peer in peers] == [200, 200, 200]
    assert program.stop() == 0
    assert not path.exists()


@pytest.mark.exhaustive
def test_serve_unix_replaces_a_socket_file_that_nobody_listens_on(
    serve: Serve, warm_start: WarmStart, tmp_path: Path
) -> None:
    path = tmp_path / "stale.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(os.fspath(path))
    program = serve("--unix", path)  # beside the TCP port that `serve` asks for
    program.out.wait_for(" at unix:")
    assert Peer(program.connect()).get("small.txt").status == 200
    assert warm_start.run("serve", "--unix", str(path)).status == 2  # and a second server leaves it to the first
    assert unix_peer(path, program).get("small.txt").status == 200


def test_serve_fd_answers_on_the_inherited_socket(start: Start, folder: Path) -> None:
    # The kernel accepts before ktrio has started, and --quiet leaves no other sign of its start.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()[:2]
        program = start("serve", folder, "--fd", str(listener.fileno()), "--quiet", pass_fds=[listener.fileno()])
        assert Peer(program.connect(address=address)).get("small.txt").status == 200
        assert program.stop() == 0
    assert (program.out.text, program.said) == ("", "")


def test_serve_access_log_has_a_line_per_request(serve: Serve) -> None:
    program = serve("--access-log")
    peer = Peer(program.connect())
    forged = "a%0aGET%20/forged%1b[31m"
    assert [peer.get(target).status for target in ("small.txt", "missing", forged)] == [200, 404, 404]
    assert program.stop() == 0
    assert program.err is not None
    first, second, _ = program.err.lines
    assert "\x1b" not in program.said
    assert re.search(r"127\.0\.0\.1", first)
    assert re.search(r"GET /small\.txt", first)
    assert re.search(r"\b200\b", first)
    assert re.search(r"GET /missing\b.*\b404\b", second)


@pytest.mark.exhaustive
@pytest.mark.parametrize(("options", "logs"), [((), True), (("--no-access-log",), False)], ids=["default", "off"])
def test_serve_on_a_terminal_logs_unless_told_not_to(serve: Serve, options: tuple[str, ...], logs: bool) -> None:
    ours, theirs = pty.openpty()
    with open(ours, "rb", buffering=0) as terminal:
        try:
            program = serve(*options, stderr=theirs)
        finally:
            os.close(theirs)
        assert Peer(program.connect()).get("small.txt").status == 200
        program.stop()
        assert (b"GET /small.txt" in read_terminal(terminal.fileno())) == logs


def read_terminal(descriptor: int) -> bytes:
    """All that was written to the other side, which is closed by now."""
    data = b""
    try:
        while more := os.read(descriptor, 4096):
            data += more
    except OSError:  # Linux says EIO, not end of file
        pass
    return data


def test_serve_max_requests_per_connection_closes_after_the_last(serve: Serve) -> None:
    program = serve("--max-requests-per-connection", "2")
    peer = Peer(program.connect())
    first, second = peer.get("small.txt"), peer.get("small.txt")
    assert (first.closes, second.closes) == (False, True)
    assert peer.read_to_end() == b""


@pytest.fixture(scope="module")
def impatient(start_shared: Start, shared_folder: Path) -> Iterator[Program]:
    """A server whose deadlines expire soon, which is neither a cut nor a fault."""
    timeouts = ("--head-timeout", "0.4", "--idle-timeout", "0.4", "--write-timeout", "0.5", "--body-timeout", "0.4")
    program = start_shared("serve", shared_folder, "--port", "0", *timeouts)
    yield program
    assert program.stop() == 0
    assert program.out.find(r"^served \d+ · cut 0 ·")
    assert program.said == ""


def test_serve_idle_timeout_closes_what_is_idle_not_before_it_is_due(impatient: Program) -> None:
    peer = Peer(impatient.connect())
    sent = time.monotonic()
    assert peer.get("small.txt").status == 200
    assert peer.read_to_end() == b""
    assert time.monotonic() - sent >= 0.4


def test_serve_head_timeout_closes_silence_and_tells_half_a_head(impatient: Program) -> None:
    silent, half = Peer(impatient.connect()), Peer(impatient.connect())
    began = time.monotonic()
    half.send(b"GET / HTTP/1.1\r\nHo")
    assert silent.read_to_end() == b""
    answer = half.answer()
    assert (answer.status, answer.closes, half.read_to_end()) == (408, True, b"")
    assert time.monotonic() - began >= 0.35  # the silent one was accepted a little before


def test_serve_head_timeout_is_not_renewed_by_a_trickle(impatient: Program) -> None:
    peer = Peer(impatient.connect())
    for byte in b"GET / HTTP/1.1\r\nX: " + b"a" * 1000:
        peer.send(bytes([byte]))
        if wait_each([peer.sock], lambda _: True, limit=0.05) == []:  # readable: it has been answered
            break
    else:
        pytest.fail("a byte every 50 ms kept the connection open")
    assert peer.answer().status == 408


def test_serve_body_timeout_ends_the_wait_for_a_body_that_never_comes(impatient: Program) -> None:
    peer = Peer(impatient.connect())
    peer.request("small.txt", headers="Content-Length: 10\r\n")
    assert peer.answer().status in (200, 408)  # files need no body: the answer may come without it
    assert peer.read_to_end() == b""


def test_serve_write_timeout_resets_a_reader_that_stalls_while_others_are_served(impatient: Program) -> None:
    stalled = Peer(impatient.connect(receive_buffer=4096))
    stalled.request("big.bin")
    wait_for_reset(stalled.sock)
    assert Peer(impatient.connect()).get("small.txt").status == 200


def wait_for_reset(sock: socket.socket) -> None:
    """Until the other side has reset the connection, without reading from it."""
    poll = select.poll()
    poll.register(sock, 0)  # errors and hang-ups only
    assert poll.poll(LIMIT * 1000), "the connection is still there"


@pytest.mark.exhaustive
def test_serve_goes_on_when_nobody_reads_its_output_any_more(folder: Path) -> None:
    command = [*KTRIO, "serve", folder, "--port", "0", "--access-log"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            found = ADDRESS.search(process.stdout.readline())
            assert found
            process.stdout.close()
            process.stderr.close()
            for _ in range(2):
                with socket.create_connection((found[1], int(found[2])), LIMIT) as sock:
                    assert Peer(sock).get("small.txt").status == 200
            process.send_signal(signal.SIGINT)
            assert process.wait(LIMIT) == 0
        finally:
            process.kill()


@pytest.mark.exhaustive
def test_serve_works_without_standard_streams(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        descriptor = listener.fileno()
        command = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *KTRIO, "serve", folder, "--fd", str(descriptor)]
        with subprocess.Popen(command, pass_fds=[descriptor]) as process:
            try:
                with socket.create_connection(listener.getsockname()[:2], LIMIT) as sock:
                    assert Peer(sock).get("small.txt").status == 200
                process.send_signal(signal.SIGINT)
                assert process.wait(LIMIT) == 0
            finally:
                process.kill()


@pytest.mark.exhaustive
def test_serve_prints_a_folder_whose_name_is_not_text(start: Start, tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/caf\xe9\x1b[31m"
    os.mkdir(folder)
    program = start("serve", os.fsdecode(folder), "--port", "0")
    assert Peer(program.connect()).get().status == 200
    assert program.stop() == 0
    assert "\x1b" not in program.out.text


def test_serve_prints_its_lines_where_the_output_knows_only_ascii(serve: Serve) -> None:
    program = serve(environment={"PYTHONIOENCODING": "ascii"})
    assert Peer(program.connect()).get("small.txt").status == 200
    assert program.stop() == 0
    assert program.out.find("served 1 .* cut 0")
    assert_served_cleanly(program)
