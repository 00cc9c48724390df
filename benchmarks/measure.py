"""Processes on cores of their own, the CPU time they use, and numbers with their spread. Linux only (/proc).

A server's CPU time is that of its whole process tree, read from /proc/PID/stat: its own user and system time, that of
the children it has reaped, and the same of each child that lives. The kernel counts in ticks of 10 ms, so a round of
two seconds on a busy server is known to about one percent.
"""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
START_SECONDS = 10.0  # until a server answers; an import of everything on a busy machine takes one or two
STOP_SECONDS = 5.0  # between SIGTERM and SIGKILL

Core = frozenset[int]


# -- cores


@dataclass(frozen=True, slots=True)
class Cores:
    """Where the server runs, and where the load generator and this harness do."""

    server: Core
    load: Core

    @property
    def apart(self) -> bool:
        return not self.server & self.load


def split_cores() -> Cores:
    """The last usable core for the server, the others for the load; with one core they share it."""
    usable = sorted(os.sched_getaffinity(0))
    server = frozenset(usable[-1:])
    return Cores(server, frozenset(usable) - server or server)


@contextlib.contextmanager
def on(core: Core) -> Iterator[None]:
    """What is started in here runs on `core` from its first instruction: affinity is inherited."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, core)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def busy_seconds(core: Core) -> float:
    """How long these cores have not been idle, whoever used them; time stolen by the hypervisor counts as busy."""
    names = {f"cpu{number}" for number in core}
    ticks = 0
    for line in Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name in names:
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[:8])
            ticks += user + nice + system + irq + softirq + steal
    return ticks / TICKS_PER_SECOND


# -- CPU time


def cpu_seconds(pid: int) -> float:
    """CPU time used so far by a process, its threads, and its children, living and reaped; 0 if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    # proc(5) numbers them from 1 with two before the ")": utime 14, stime 15, cutime 16, cstime 17.
    own = sum(map(int, fields[11:15])) / TICKS_PER_SECOND
    return own + sum(map(cpu_seconds, children_of(pid)))


def children_of(pid: int) -> list[int]:
    """The living children of all threads of a process."""
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread ended meanwhile
            found += map(int, path.read_text().split())
    return found


# -- processes


class StartError(Exception):
    """A server did not come up; the message is one line, `said` the end of what it wrote."""

    def __init__(self, name: str, said: str) -> None:
        super().__init__(f"{name} does not listen: {said.strip().rpartition(chr(10))[2] or 'it said nothing'}")
        self.said = said


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody has right now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def raise_open_file_limit() -> int:
    """As many descriptors as are allowed, for this process and those it starts; returns how many that is."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def stop(process: subprocess.Popen[str]) -> None:
    """End a process that we started: SIGTERM, and SIGKILL for it and its children if that does not help."""
    if process.poll() is not None:
        return
    children = children_of(process.pid)
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        for child in children:  # orphans of a killed parent
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, 9)


class Server:
    """A server process on one core, listening on 127.0.0.1:`port`; ended when its block is left."""

    def __init__(self, name: str, command: Sequence[str], port: int, core: Core, folder: Path) -> None:
        self.name = name
        self.port = port
        self.core = core
        self._command = command
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None
        self._said: IO[str] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def __enter__(self) -> Self:
        self._said = tempfile.TemporaryFile("w+", errors="replace")
        with on(self.core):
            # In a session of its own: a Ctrl-C at the terminal is for the harness, which then stops the servers.
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=self._said,
                stderr=self._said,
                text=True,
                start_new_session=True,
            )
        try:
            self._wait_until_it_listens()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._process is not None:
            stop(self._process)
        if self._said is not None:
            self._said.close()

    def _wait_until_it_listens(self) -> None:
        assert self._process is not None
        until = time.monotonic() + START_SECONDS
        while self._process.poll() is None and time.monotonic() < until:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.02)
        raise StartError(self.name, self.last_words())

    def last_words(self) -> str:
        """The end of what it wrote to its standard output and error."""
        assert self._said is not None
        self._said.seek(0)
        return self._said.read()[-2000:]

    def cpu_seconds(self) -> float:
        """CPU time of its whole tree so far."""
        return cpu_seconds(self.pid)


# -- numbers


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some measurements, with the lowest and the highest of them."""

    median: float
    low: float
    high: float


def spread_of(values: Iterable[float | None]) -> Spread | None:
    """`None` if nothing was measured."""
    known = [value for value in values if value is not None]
    return Spread(statistics.median(known), min(known), max(known)) if known else None
