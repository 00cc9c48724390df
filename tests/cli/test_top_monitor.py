"""``--monitor PATH``: a server lets its workqueues be watched, from its start to the end of its last connection."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.peers import Peer, begin_download
from tests.cli.processes import LIMIT, Program, assert_served_cleanly

pytestmark = pytest.mark.slow

Command = Callable[..., Program]


class Watcher:
    """Reads the snapshots of a monitor."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(LIMIT)
        self._socket.connect(os.fspath(path))
        self._lines = self._socket.makefile("rb")

    def next(self) -> dict | None:
        """The next snapshot; None at the end."""
        line = self._lines.readline()
        return json.loads(line)["supervisor"] if line else None

    def close(self) -> None:
        self._lines.close()
        self._socket.close()


@pytest.fixture
def watch(tmp_path: Path):
    """Connect to the monitor at ``tmp_path / "monitor"``."""
    watchers: list[Watcher] = []

    def watch() -> Watcher:
        watchers.append(Watcher(tmp_path / "monitor"))
        return watchers[-1]

    yield watch
    for each in watchers:
        each.close()


@pytest.mark.parametrize("command", ["serve", "echo"])
def test_start_line_says_how_to_watch_and_the_socket_goes_with_the_server(
    request: pytest.FixtureRequest, tmp_path: Path, watch: Callable[[], Watcher], command: str
) -> None:
    path = tmp_path / "monitor"
    program: Program = request.getfixturevalue(command)("--cpus", "2", "--monitor", path)
    program.out.wait_for(rf"^  monitor: ktrio top {path}$")
    now = watch().next()
    assert now is not None
    assert [each["name"] for each in now["workqueues"]] == ["http" if command == "serve" else "echo"]
    assert len(now["pools"]) == 2
    assert program.stop() == 0
    assert not path.exists()
    assert_served_cleanly(program)


def test_monitor_answers_while_the_server_drains_and_ends_after_the_last_connection(
    serve: Command, tmp_path: Path, watch: Callable[[], Watcher]
) -> None:
    program = serve("--grace", "3600", "--monitor", tmp_path / "monitor")
    begin_download(Peer(program.connect(receive_buffer=4096)), "big.bin")
    program.send_signal(signal.SIGINT)
    program.out.wait_for("^draining: ")
    watcher = watch()
    now = watcher.next()
    assert now is not None
    assert now["workqueues"][0]["running"] == 1
    program.send_signal(signal.SIGINT)
    while now is not None:
        now = watcher.next()
    assert program.wait() == 130
    assert not (tmp_path / "monitor").exists()
    assert_served_cleanly(program)


def test_monitor_of_a_living_server_is_refused_in_one_line_and_nothing_is_served(
    serve: Command, tmp_path: Path, watch: Callable[[], Watcher]
) -> None:
    path = tmp_path / "monitor"
    first = serve("--monitor", path)
    first.out.wait_for("monitor: ")
    second = serve("--monitor", path)
    assert second.wait() == 2
    [line] = second.said.splitlines()
    assert line.startswith(f"ktrio serve: cannot listen on unix:{path}: another server listens there")
    assert second.out.text == ""
    assert watch().next() is not None
    assert first.stop() == 0
