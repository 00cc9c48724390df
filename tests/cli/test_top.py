"""``ktrio top`` as a program: once, one after another, as JSON; live on a terminal; and every way in which it ends."""

from __future__ import annotations

import fcntl
import json
import math
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.cli.conftest import Start
from tests.cli.processes import ENVIRONMENT, KTRIO, LIMIT, Program, assert_served_cleanly
from tests.cli.test_usage import unprivileged
from tests.cli.warm_start import WarmStart

pytestmark = pytest.mark.slow

Command = Callable[..., Program]


@pytest.fixture(scope="module")
def monitor(shared_folder: Path) -> Path:
    return shared_folder.with_name("monitor")


@pytest.fixture(scope="module")
def served(start_shared: Start, shared_folder: Path, monitor: Path) -> Program:
    """A server whose monitor is there; the tests leave it as they found it."""
    program = start_shared("serve", shared_folder, "--port", "0", "--cpus", "2", "--monitor", monitor)
    program.out.wait_for("monitor: ")
    return program


@pytest.fixture
def ending(serve: Command, tmp_path: Path) -> tuple[Program, Path]:
    """A server that the test may end, and its monitor."""
    program = serve("--monitor", tmp_path / "monitor")
    program.out.wait_for("monitor: ")
    return program, tmp_path / "monitor"


# Makes its standard input the terminal that Ctrl-C comes from. (pty.fork() is not for a process with threads.)
ON_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)


class Terminal:
    """``ktrio top`` on a terminal of its own."""

    def __init__(
        self,
        *arguments: str | os.PathLike[str],
        columns: int = 80,
        lines: int = 24,
        environment: Mapping[str, str] = {},
    ) -> None:
        self._screen = b""
        self._master, self._terminal = pty.openpty()
        self._modes = termios.tcgetattr(self._terminal)
        self._set_size(columns, lines)
        unset = {"COLUMNS", "NO_COLOR", "LINES"}
        inherited = {name: value for name, value in ENVIRONMENT.items() if name not in unset}
        self._process = subprocess.Popen(
            [sys.executable, "-c", ON_TERMINAL, *KTRIO, "top", *map(os.fspath, arguments)],
            stdin=self._terminal,
            stdout=self._terminal,
            stderr=self._terminal,
            start_new_session=True,
            env={**inherited, "TERM": "xterm-256color", **environment},
        )

    def _set_size(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def resize(self, columns: int, lines: int) -> None:
        self._set_size(columns, lines)
        self.send_signal(signal.SIGWINCH)

    def press(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def send_signal(self, signum: int) -> None:
        self._process.send_signal(signum)

    def read(self, until: float) -> None:
        """Take what has been written, waiting for it a little."""
        assert time.monotonic() < until, f"nothing more came of it:\n{self.output!r}"
        if select.select([self._master], [], [], 0.05)[0]:
            self._screen += os.read(self._master, 1 << 16)

    @property
    def output(self) -> str:
        return self._screen.decode(errors="replace")

    def frames(self) -> list[list[str]]:
        """The lines of each frame, without colours."""
        drawn = self.output.split("\x1b[H")[1:]
        return [[text.rstrip() for text in re.sub(r"\x1b\[[\d;?]*\w", "", frame).split("\r\n")] for frame in drawn]

    def wait_for(self, pattern: str) -> list[str]:
        """The last frame, once a line of it has this."""
        until = time.monotonic() + LIMIT
        while True:
            for frame in reversed(self.frames()[-2:]):
                if len(frame) > 2 and any(re.search(pattern, text) for text in frame):
                    return frame
            self.read(until)

    def wait_until(self, condition: Callable[[], bool]) -> None:
        until = time.monotonic() + LIMIT
        while not condition():
            self.read(until)

    def wait_stopped(self) -> None:
        """Wait until a signal has stopped it, and take what it has written before."""
        _, status = os.waitpid(self._process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        while select.select([self._master], [], [], 0)[0]:
            self.read(math.inf)

    def wait(self) -> int:
        """Its exit status, and all that it has written has been read."""
        until = time.monotonic() + LIMIT
        self.wait_until(lambda: self._process.poll() is not None)
        while select.select([self._master], [], [], 0)[0]:
            self.read(until)
        return self._process.wait()

    @property
    def is_as_it_was(self) -> bool:
        """The first screen, a cursor, and the modes of before."""
        on, off = self.output.rfind("\x1b[?1049h"), self.output.rfind("\x1b[?1049l")
        hidden, shown = self.output.rfind("\x1b[?25l"), self.output.rfind("\x1b[?25h")
        same_modes = termios.tcgetattr(self._terminal) == self._modes
        return -1 < on < off and -1 < hidden < shown and same_modes

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        os.close(self._master)
        os.close(self._terminal)


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    with ExitStack() as stack:

        def terminal(*arguments: str | os.PathLike[str], **keywords: object) -> Terminal:
            program = Terminal(*arguments, **keywords)
            stack.callback(program.close)
            return program

        yield terminal


# -- printed


@pytest.mark.exhaustive
def test_once_is_one_plain_table(warm_start: WarmStart, served: Program, monitor: Path) -> None:
    ran = warm_start.run("top", str(monitor), "--once")
    assert (ran.status, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert re.match(rf"ktrio \S+  pid {served.pid}  2 simulated CPUs  \d\d:\d\d:\d\d$", lines[0])
    assert lines[2].split()[:2] == ["workqueue", "total"]
    assert lines[3].startswith("http")
    assert sum(line.startswith(("0 ", "1 ")) for line in lines) == 2
    assert "\x1b" not in ran.out
    assert max(map(len, lines)) <= 100
    assert_served_cleanly(served)


@pytest.mark.exhaustive
def test_once_as_json_is_the_snapshot(warm_start: WarmStart, served: Program, monitor: Path) -> None:
    ran = warm_start.run("top", str(monitor), "--once", "--json")
    assert (ran.status, ran.err) == (0, "")
    said = json.loads(ran.out)
    assert said["protocol"] == 1
    assert said["pid"] == served.pid
    assert [each["name"] for each in said["supervisor"]["workqueues"]] == ["http"]


@pytest.mark.exhaustive
def test_json_is_one_object_a_line_until_ctrl_c(start: Start, served: Program, monitor: Path) -> None:
    program = start("top", monitor, "--json", "--interval", "0.1")
    lines = program.out.wait_count(3)
    times = [json.loads(line)["seconds"] for line in lines]
    assert times == sorted(set(times))
    assert program.stop() == 0
    assert program.said == ""


@pytest.mark.exhaustive
def test_elsewhere_than_on_a_terminal_tables_are_printed_one_after_another(
    start: Start, served: Program, monitor: Path
) -> None:
    program = start("top", monitor, "-i", "0.1")
    program.out.wait_for_matches(r"^ktrio ", 3)
    assert program.stop() == 0
    assert program.said == ""
    assert "\x1b" not in program.out.text
    assert program.out.find(r"^http +0 +0 ")  # no rate before the second look


def test_end_of_the_server_is_one_line_and_no_failure(start: Start, ending: tuple[Program, Path]) -> None:
    server, monitor = ending
    program = start("top", monitor, "--json")
    program.out.wait_count(1)
    assert server.stop() == 0
    assert program.wait() == 0
    assert program.said.splitlines() == [
        f"ktrio top: {monitor} was closed: its program has ended, or this one did not take what it had to say"
    ]


@pytest.mark.exhaustive
def test_pipe_that_nobody_reads_any_more_is_enough_seen(start: Start, served: Program, monitor: Path) -> None:
    program = start("-c", '"$@" top "$MONITOR" --json -i 0.1 | head -n 2', "sh", *KTRIO,
                    command=["bash", "-o", "pipefail"], environment={"MONITOR": str(monitor)})  # fmt: skip
    assert program.wait() == 0
    assert len(program.out.lines) == 2
    assert program.said == ""


def test_output_that_cannot_be_written_is_an_error(start: Start, served: Program, monitor: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this machine has no /dev/full")
    for options in ("--once", "--json"):
        program = start("-c", f'"$@" top "$MONITOR" {options} > /dev/full', "sh", *KTRIO,
                        command=["sh"], environment={"MONITOR": str(monitor)})  # fmt: skip
        assert program.wait() == 2
        assert program.said.splitlines() == ["ktrio top: cannot write: no space left on device"]


@pytest.mark.exhaustive
def test_output_that_is_closed_is_enough_seen(start: Start, served: Program, monitor: Path) -> None:
    program = start("-c", '"$@" top "$MONITOR" >&-', "sh", *KTRIO,
                    command=["sh"], environment={"MONITOR": str(monitor)})  # fmt: skip
    assert program.wait() == 0
    assert program.said == ""


# -- what is wrong


def refused(ran: object) -> str:
    status, out, err = (
        (ran.wait(), ran.out.text, ran.said) if isinstance(ran, Program) else (ran.status, ran.out, ran.err)
    )
    assert (status, out) == (2, "")
    [line] = err.splitlines()
    assert line.startswith("ktrio top: cannot watch ")
    return line


@pytest.mark.exhaustive
@pytest.mark.parametrize("options", [(), ("--once",), ("--json",)], ids=["live", "once", "json"])
def test_path_without_a_monitor_is_one_line_with_a_remedy(
    warm_start: WarmStart, tmp_path: Path, options: tuple[str, ...]
) -> None:
    line = refused(warm_start.run("top", str(tmp_path / "nothing"), *options))
    assert str(tmp_path / "nothing") in line
    assert "--monitor PATH" in line


@pytest.mark.exhaustive
def test_wrong_paths_are_told_apart(warm_start: WarmStart, tmp_path: Path) -> None:
    assert "no socket" in refused(warm_start.run("top", __file__, "--once"))
    assert "no socket" in refused(warm_start.run("top", str(tmp_path), "--once"))
    assert "not a folder" in refused(warm_start.run("top", f"{__file__}/x", "--once"))
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(os.fspath(tmp_path / "stale"))
    assert "nobody listens" in refused(warm_start.run("top", str(tmp_path / "stale"), "--once"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(os.fspath(tmp_path / "datagrams"))
        assert "another kind" in refused(warm_start.run("top", str(tmp_path / "datagrams"), "--once"))


@pytest.mark.exhaustive
def test_socket_of_something_else_is_no_monitor(warm_start: WarmStart, serve: Command, tmp_path: Path) -> None:
    program = serve("--unix", tmp_path / "http", "--head-timeout", "0.2")
    program.out.wait_for(" at unix:")
    assert "no monitor" in refused(warm_start.run("top", str(tmp_path / "http"), "--once"))


@pytest.mark.exhaustive
def test_monitor_of_another_user_is_refused_with_the_reason(start: Start, served: Program, monitor: Path) -> None:
    monitor.chmod(0o000)
    try:
        assert "permission" in refused(start("top", monitor, "--once", command=unprivileged()))
    finally:
        monitor.chmod(0o600)


@pytest.mark.exhaustive
def test_watcher_too_many_is_told_so(warm_start: WarmStart, served: Program, monitor: Path) -> None:
    with ExitStack() as stack:
        for _ in range(8):
            watcher = stack.enter_context(socket.socket(socket.AF_UNIX))
            watcher.connect(os.fspath(monitor))
            watcher.recv(1)
        assert "8 are watching already" in refused(warm_start.run("top", str(monitor), "--once"))


@pytest.mark.exhaustive
@pytest.mark.parametrize("seconds", ["0.05", "0", "-1", "3601", "nan", "x"])
def test_interval_out_of_range_says_what_is_in_it(warm_start: WarmStart, seconds: str) -> None:
    ran = warm_start.run("top", "m", "--interval", seconds)
    assert (ran.status, ran.out) == (2, "")
    assert "--interval" in ran.err
    assert "0.1 to 3600" in ran.err


@pytest.mark.exhaustive
def test_help_is_the_glossary(warm_start: WarmStart) -> None:
    ran = warm_start.run("top", "--help")
    assert (ran.status, ran.err) == (0, "")
    for heading in ("total", "infl", "park", "pend", "inact", "CPUtime", "CPUhog", "CMW/RPR", "mayday", "rescued"):
        assert re.search(rf"(^|\s\s){heading}\s\s", ran.out, re.MULTILINE), heading
    assert max(map(len, ran.out.splitlines())) <= 100


# -- live


@pytest.mark.exhaustive
@pytest.mark.parametrize(("columns", "has", "has_not"), [(80, "CPUtime", "CMW/RPR"), (120, "CMW/RPR", "nothing")])
def test_live_table_fits_the_terminal_and_q_leaves_it_as_it_was(
    terminal: Callable[..., Terminal], served: Program, monitor: Path, columns: int, has: str, has_not: str
) -> None:
    program = terminal(monitor, columns=columns)
    frame = program.wait_for(r"^http +0 +0 ")  # with a rate: the second snapshot
    assert frame[0].endswith("q leaves")
    assert has in frame[2]
    assert has_not not in frame[2]
    assert len(frame) <= 24
    assert max(map(len, frame)) <= columns
    program.press(b"xq")
    assert program.wait() == 0
    assert program.is_as_it_was
    assert "Traceback" not in program.output


@pytest.mark.exhaustive
@pytest.mark.parametrize(("how", "status"), [("ctrl-c", 0), (signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_signals_leave_the_terminal_as_it_was(
    terminal: Callable[..., Terminal], served: Program, monitor: Path, how: str | int, status: int
) -> None:
    program = terminal(monitor)
    program.wait_for("^http")
    if isinstance(how, str):
        program.press(b"\x03")
    else:
        program.send_signal(how)
    assert program.wait() == status
    assert program.is_as_it_was


@pytest.mark.exhaustive
def test_end_of_the_server_gives_the_terminal_back_and_says_so(
    terminal: Callable[..., Terminal], ending: tuple[Program, Path]
) -> None:
    server, monitor = ending
    program = terminal(monitor)
    program.wait_for("^http")
    assert server.stop() == 0
    assert program.wait() == 0
    assert program.is_as_it_was
    assert program.output.rstrip().endswith("or this one did not take what it had to say")


@pytest.mark.exhaustive
def test_server_whose_loop_is_held_up_is_told_from_one_that_has_nothing_to_do(
    terminal: Callable[..., Terminal], served: Program, monitor: Path
) -> None:
    program = terminal(monitor, "-i", "0.1")
    program.wait_for("^http")
    served.send_signal(signal.SIGSTOP)
    try:
        assert program.wait_for(r"HELD UP: no news for \d+ s$")
    finally:
        served.send_signal(signal.SIGCONT)
    program.wait_for("q leaves")
    program.press(b"q")
    assert program.wait() == 0


@pytest.mark.exhaustive
def test_terminal_of_another_size_is_drawn_anew(
    terminal: Callable[..., Terminal], served: Program, monitor: Path
) -> None:
    program = terminal(monitor, "-i", "3600")
    program.wait_for("^http")
    program.resize(120, 30)
    assert "flags" in program.wait_for("^workqueue .* flags")[2]
    program.press(b"q")
    assert program.wait() == 0


@pytest.mark.exhaustive
def test_ctrl_z_gives_the_terminal_back_until_it_is_continued(
    terminal: Callable[..., Terminal], served: Program, monitor: Path
) -> None:
    program = terminal(monitor, "-i", "0.1")
    program.wait_for("^http")
    program.press(b"\x1a")
    program.wait_stopped()
    assert program.is_as_it_was
    program.send_signal(signal.SIGCONT)
    program.wait_until(lambda: not program.is_as_it_was)
    program.wait_for("q leaves")
    program.press(b"q")
    assert program.wait() == 0
    assert program.is_as_it_was


@pytest.mark.exhaustive
def test_no_color_is_respected(terminal: Callable[..., Terminal], served: Program, monitor: Path) -> None:
    program = terminal(monitor, environment={"NO_COLOR": "1"})
    program.wait_for("^http")
    program.press(b"q")
    assert program.wait() == 0
    assert not re.search(r"\x1b\[[\d;]*(3[0-7]|9[0-7])m", program.output)


@pytest.mark.exhaustive
def test_dumb_terminal_gets_tables_one_after_another(
    terminal: Callable[..., Terminal], served: Program, monitor: Path
) -> None:
    program = terminal(monitor, "-i", "0.1", environment={"TERM": "dumb"})
    program.wait_until(lambda: program.output.count("workqueue") >= 2)
    program.press(b"\x03")
    assert program.wait() == 0
    assert "\x1b" not in program.output
