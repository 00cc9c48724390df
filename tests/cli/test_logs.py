"""The logs of `ktrio serve`: where they go, what SIGUSR1 does, and what happens when they cannot be written."""

from __future__ import annotations

import json
import re
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Start
from tests.cli.peers import Peer, begin_download
from tests.cli.processes import Program, assert_served_cleanly

pytestmark = pytest.mark.slow

Serve = Callable[..., Program]

COMBINED = re.compile(
    r"127\.0\.0\.1 - - \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\]"
    r' "GET /small\.txt HTTP/1\.1" 200 13 "-" "-"'
)


def test_sigusr1_after_a_rename_loses_no_line_and_tears_none(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    program = serve("--access-log", path)
    peers = [Peer(program.connect()) for _ in range(4)]
    stop = threading.Event()
    counts = [0] * len(peers)

    def ask(number: int) -> None:
        while not stop.is_set():
            assert peers[number].get("small.txt").status == 200
            counts[number] += 1

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(peers))]
    for thread in threads:
        thread.start()
    rotated = []
    try:
        for turn in range(3):
            wait_until(lambda: path.exists() and path.stat().st_size > 0)
            rotated.append(path.rename(tmp_path / f"access.log.{turn}"))
            program.send_signal(signal.SIGUSR1)
        wait_until(lambda: path.exists() and path.stat().st_size > 0)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert program.stop() == 0
    texts = [each.read_text() for each in (*rotated, path)]
    assert all(text.endswith("\n") for text in texts)
    lines = "".join(texts).splitlines()
    assert all(COMBINED.fullmatch(line) for line in lines)
    assert len(lines) == sum(counts)
    assert_served_cleanly(program)


def wait_until(condition: Callable[[], bool], *, limit: float = 25) -> None:
    """Poll: a file is no event."""
    pause = threading.Event()
    for _ in range(int(limit / 0.01)):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError("it has not come about")


@pytest.mark.parametrize("command", ["serve", "echo"])
def test_sigusr1_stops_nobody_who_has_no_log(start: Start, command: str) -> None:
    program = start(command, "--port", "0")
    program.connect()
    program.send_signal(signal.SIGUSR1)
    assert program.stop() == 0
    assert program.said == ""


def test_access_log_on_standard_output_is_for_pipes(serve: Serve) -> None:
    program = serve("--access-log", "-", "--log-format", "json", "--trust-request-id")
    peer = Peer(program.connect())
    peer.request("small.txt", headers="X-Request-Id: from-the-proxy\r\n")
    assert peer.answer().status == 200
    found = json.loads(program.out.wait_for(r"^\{.*\}$")[0])
    assert (found["target"], found["status"], found["bytes_sent"]) == ("/small.txt", 200, 13)
    assert found["request_id"] == "from-the-proxy"
    assert program.stop() == 0
    assert program.said == ""


def test_second_signal_leaves_the_line_of_what_it_has_cut(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    program = serve("--access-log", path, "--log-format", "json", "--grace", "3600")
    peer = Peer(program.connect(receive_buffer=4096))
    begin_download(peer, "big.bin")
    program.send_signal(signal.SIGINT)
    program.out.wait_for(r"^draining: .*\b1 in progress")
    assert program.stop(signal.SIGINT) == 130
    found = json.loads(path.read_text())
    assert (found["target"], found["status"], found["close_reason"]) == ("/big.bin", 200, "second-signal")


def test_full_disk_costs_the_log_and_one_line(serve: Serve) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    program = serve("--access-log", "/dev/full")
    peer = Peer(program.connect())
    assert peer.get("small.txt").status == 200
    assert program.err is not None
    program.err.wait_for(r"^ktrio: ERROR: cannot write the log /dev/full: No space left on device")
    assert peer.get("small.txt").status == 200
    assert program.stop() == 0
    assert program.said.count("No space") == 1
    assert "the last 2 lines of the log /dev/full are lost" in program.said


BROKEN = """
import sys
import ktrio.commands

async def fail(request):
    raise ZeroDivisionError("a bug")

ktrio.commands.folder = lambda root, options: fail
from ktrio.cli import run
sys.exit(run(["serve", "--port", "0", *sys.argv[1:]]))
"""


def test_error_of_a_handler_is_in_the_error_log_once_by_the_name_it_has_in_the_other(
    start: Start, tmp_path: Path
) -> None:
    access, errors = tmp_path / "access.log", tmp_path / "error.log"
    options = ["--access-log", access, "--log-format", "json", "--error-log", errors]
    program = start("-c", BROKEN, *options, command=[sys.executable])
    assert Peer(program.connect()).get("x").status == 500
    assert program.stop() == 0
    found = json.loads(access.read_text())
    text = errors.read_text()
    assert re.findall(r"the handler of GET /x \(request (\w+)\) raised", text) == [found["request_id"]]
    assert text.count("ZeroDivisionError: a bug") == 1
    assert program.said == ""


def test_error_log_takes_the_errors_and_nothing_is_left_on_standard_error(serve: Serve, tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    path = tmp_path / "error.log"
    program = serve("--access-log", "/dev/full", "--error-log", path)
    assert Peer(program.connect()).get("small.txt").status == 200
    wait_until(lambda: "No space" in path.read_text())
    path.rename(tmp_path / "error.log.1")
    program.send_signal(signal.SIGUSR1)
    wait_until(path.exists)
    assert program.stop() == 0
    assert program.said == ""
    assert "ERROR ktrio.logs: cannot write the log /dev/full" in (tmp_path / "error.log.1").read_text()
