"""The latency promises: how long does one more request take beside a crowd that a limit seems to leave no room for?

A promise is kept if *each* newcomer has its whole answer within 200 ms of beginning to connect.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from measure import Cores, Server, free_port, on, stop

CROWD = Path(__file__).with_name("crowd.py")
PROMISED_MS = 200.0
PATIENCE = 5.0  # seconds for one probe; then it counts as unanswered
READY_SECONDS = 30.0  # for the crowd to be in place
PAUSE = 0.1  # seconds between two probes: whatever one of them sets off is over


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """A crowd, and the limit it is held against.

    connections, rate: the crowd; bytes per second for each reader, 0 if it is idle.
    options: of `ktrio serve`.
    keep: leave the newcomers connected, so that the server stays as full as it was.
    """

    key: str
    text: str
    connections: int
    path: str
    options: tuple[str, ...]
    rate: int = 0
    keep: bool = False


PROMISES = (
    Promise(
        key="beside-2000-idle",
        text="2000 idle connections, --max-active 16",
        connections=2000,
        path="/hello.txt",
        options=("--max-active", "16", "--idle-timeout", "60"),
    ),
    Promise(
        key="beside-300-readers",
        text="300 readers of a 1 GB file at 1 MB/s, --max-active 16",
        connections=300,
        path="/big.bin",
        rate=1_000_000,
        options=("--max-active", "16"),
    ),
    Promise(
        key="full-of-idle",
        text="100 idle ones, --max-connections 100",
        connections=100,
        path="/hello.txt",
        options=("--max-connections", "100", "--idle-timeout", "60"),
        keep=True,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What was seen of a promise; all times in ms, `None` for a probe that was not answered.

    alone_ms: the same request before the crowd came.
    crowd: what the crowd said when it left.
    """

    key: str
    text: str
    command: str
    alone_ms: list[float | None]
    crowded_ms: list[float | None]
    crowd: dict[str, int]


class CrowdError(Exception):
    """The crowd could not be brought together: nothing is said about the promise."""


def probe(port: int) -> tuple[float | None, socket.socket]:
    """Connect, ask, read the whole answer: how many ms that took, and the connection, still open."""
    sock = socket.socket()
    sock.settimeout(PATIENCE)
    began = time.perf_counter()
    try:
        sock.connect(("127.0.0.1", port))
        sock.sendall(b"GET /hello.txt HTTP/1.1\r\nHost: localhost\r\n\r\n")
        received = b""
        while not received.endswith(b"Hello, world!"):
            data = sock.recv(65536)
            if not data:
                return None, sock
            received += data
    except OSError:
        return None, sock
    return (time.perf_counter() - began) * 1000, sock


def probe_often(port: int, times: int, *, keep: bool) -> list[float | None]:
    """Several newcomers, one after the other."""
    found: list[float | None] = []
    with contextlib.ExitStack() as stack:
        for _ in range(times):
            took, sock = probe(port)
            found.append(took)
            if keep:
                stack.enter_context(sock)
            else:
                sock.close()
            time.sleep(PAUSE)
    return found


@contextlib.contextmanager
def crowd(promise: Promise, port: int, cores: Cores, seconds: float) -> Iterator[dict[str, int]]:
    """The crowd, in place; the dictionary is filled with its last words when it has left."""
    command = [sys.executable, str(CROWD), str(port), promise.path, "--connections", str(promise.connections)]
    command += ["--rate", str(promise.rate), "--seconds", str(READY_SECONDS + seconds)]
    with on(cores.load):
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    last_words: dict[str, int] = {}
    try:
        assert process.stdout is not None
        # It bounds itself in time, so this read ends.
        if not process.stdout.readline():
            raise CrowdError(f"the crowd of {promise.key} did not get into place")
        yield last_words
        said, _ = process.communicate("", timeout=10)
        last_words.update(json.loads(said))
    finally:
        stop(process)


def measure(promise: Promise, site: Path, cores: Cores, repetitions: int) -> Kept:
    """Try one promise."""
    port = free_port()
    words = ["-m", "ktrio", "serve", str(site), "--port", str(port), "--no-access-log", *promise.options]
    shown = " ".join(["python", *words]).replace(str(site), "{site}").replace(str(port), "{port}")
    with Server(promise.key, [sys.executable, *words], port, cores.server, site) as server, on(cores.load):
        probe_often(server.port, 1, keep=False)  # imports and caches
        alone = probe_often(server.port, repetitions, keep=False)
        with crowd(promise, server.port, cores, 2 * repetitions * PATIENCE) as last_words:
            crowded = probe_often(server.port, repetitions, keep=promise.keep)
    return Kept(key=promise.key, text=promise.text, command=shown, alone_ms=alone, crowded_ms=crowded, crowd=last_words)


def measure_all(
    site: Path, cores: Cores, repetitions: int, open_files: int
) -> tuple[list[dict[str, object]], dict[str, str]]:
    """All promises, as JSON takes them, and why some were skipped."""
    kept: list[dict[str, object]] = []
    skipped: dict[str, str] = {}
    for promise in PROMISES:
        needed = promise.connections + 100
        if open_files < needed:
            skipped[promise.key] = f"needs {needed} open files; the limit here is {open_files} (ulimit -Hn)"
            continue
        print(f"  one more request beside {promise.text}", flush=True)
        try:
            kept.append(asdict(measure(promise, site, cores, repetitions)))
        except CrowdError as error:
            skipped[promise.key] = str(error)
    return kept, skipped
