"""How much memory does a server need while gigabytes stream through it? Run ``python benchmarks/soak.py``.

A server in a process of its own (`servers/streams.py`) takes an upload and makes a download at once, over peers that
are slow for a while and then as fast as they can. Three times: to the end; until the peers leave in the middle; until
the server is told to stop in the middle, with a peer that reads no more. Its resident memory is read from
/proc/PID/status ten times a second. It fails if that grows by more than --most-growth over what small streams have
taken before, if a byte is missing, or if anything does not end by itself. Linux only.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

SERVER = Path(__file__).parent / "servers" / "streams.py"
MIB = 1 << 20
ENDLESS = 1 << 50
LOOK = 0.1  # seconds between two looks at the memory
PATIENCE = 30.0  # seconds without a byte in either direction that end the soak: something hangs
STOP_WITHIN = 4.0  # seconds from SIGINT to the end; the server's grace is 2


class SoakError(Exception):
    """Something was not as promised."""


class Memory:
    """What a process has resident, looked at all the time by a thread."""

    def __init__(self, pid: int) -> None:
        self._path = Path(f"/proc/{pid}/status")
        self.base = self.most = self.now()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def now(self) -> float:
        """In MiB."""
        lines = dict(line.split(":", 1) for line in self._path.read_text().splitlines())
        return int(lines["VmRSS"].split()[0]) / 1024 if "VmRSS" in lines else 0.0  # none: it is a zombie

    def begin(self) -> None:
        """What it has now is what it needs for nothing in particular."""
        self.base = self.most = self.now()

    def _look(self) -> None:
        while not self._ended.wait(LOOK):
            with contextlib.suppress(OSError):  # it has ended
                self.most = max(self.most, self.now())

    def close(self) -> None:
        self._ended.set()
        self._thread.join()


@dataclass
class Pace:
    """How fast the peers are: slow until that time, and then not held up; stopped for good when that is set."""

    slow_until: float = 0.0
    slow_rate: float = MIB  # bytes per second
    stopped: threading.Event = field(default_factory=threading.Event)

    def wait_turn(self, moved: int) -> bool:
        """After so many bytes; go on?"""
        now = time.monotonic()
        return not self.stopped.wait(min(moved / self.slow_rate, self.slow_until - now) if now < self.slow_until else 0)


def upload(sock: socket.socket, size: int, pace: Pace, moved: Callable[[int], None]) -> None:
    """Send `size` bytes in chunks, and compare what the server has counted."""
    sock.sendall(b"PUT / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n")
    chunk = memoryview(bytes(128 * 1024))
    left = size
    while left:
        piece = chunk[:left]
        sock.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
        left -= len(piece)
        moved(len(piece))
        if not pace.wait_turn(len(piece)):
            return
    sock.sendall(b"0\r\n\r\n")
    answer = b"".join(iter(lambda: sock.recv(65536), b""))
    if not answer.endswith(b"\r\n\r\n%d" % size):
        raise SoakError(f"{size} bytes were sent, the server says {answer!r}")


def download(sock: socket.socket, size: int, pace: Pace, moved: Callable[[int], None]) -> None:
    """Ask for `size` bytes; the framing of the chunks is counted as well, so there are a few more."""
    sock.sendall(b"GET /%d HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % size)
    space, received, last = bytearray(256 * 1024), 0, b""
    while got := sock.recv_into(space):
        received += got
        last = (last + space[max(0, got - 5) : got])[-5:]
        moved(got)
        if not pace.wait_turn(got):
            return
    if received < size or last != b"0\r\n\r\n":
        raise SoakError(f"{size} bytes were asked for, {received} have come, and the end is {last!r}")


class Streams:
    """An upload and a download, each a thread and a socket."""

    def __init__(self, port: int, size: int, pace: Pace) -> None:
        self.pace = pace
        self.moved = {"up": 0, "down": 0}
        self.errors: list[Exception] = []
        self.socks = [socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) for _ in self.moved]
        self._threads = [
            threading.Thread(target=self._run, args=(work, sock, size, name), daemon=True)
            for work, sock, name in zip((upload, download), self.socks, self.moved, strict=True)
        ]
        for thread in self._threads:
            thread.start()

    def _run(self, work: Callable[..., None], sock: socket.socket, size: int, name: str) -> None:
        def moved(count: int) -> None:
            self.moved[name] += count

        try:
            work(sock, size, self.pace, moved)
        except (OSError, SoakError) as error:
            self.errors.append(error)

    def wait_moved(self, count: int) -> None:
        """Until so many bytes have gone in each direction."""
        seen, since = 0, time.monotonic()
        while min(self.moved.values()) < count:
            time.sleep(LOOK)
            now = sum(self.moved.values())
            if now != seen:
                seen, since = now, time.monotonic()
            if time.monotonic() - since > PATIENCE or self.errors:
                raise SoakError(f"it hangs: {self.moved}, {self.errors}")

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def close(self) -> None:
        self.pace.stopped.set()
        self.join()
        for sock in self.socks:
            sock.close()


@contextlib.contextmanager
def streams(port: int, size: int, slow: float) -> Iterator[Streams]:
    running = Streams(port, size, Pace(slow_until=time.monotonic() + slow))
    try:
        yield running
    finally:
        running.close()


def soak(port: int, server: subprocess.Popen[str], size: int, slow: float, memory: Memory) -> None:
    def report(what: str, begun: float, moved: dict[str, int]) -> None:
        seconds = time.monotonic() - begun
        rates = ", ".join(f"{name} {count / MIB:,.0f} MiB" for name, count in moved.items())
        print(f"{what:<26} {seconds:6.1f} s   {rates}   memory {memory.now():.1f} MiB, at most {memory.most:.1f}")

    begun = time.monotonic()
    with streams(port, min(size, 16 * MIB), 0) as both:
        both.join()
    memory.begin()
    report("warmed up", begun, both.moved)

    begun = time.monotonic()
    with streams(port, size, slow) as both:
        both.wait_moved(size)
        both.join()
    if both.errors:
        raise SoakError(f"{both.errors}")
    report("to the end", begun, both.moved)

    begun = time.monotonic()
    with streams(port, ENDLESS, slow) as both:
        both.wait_moved(size // 4)
    report("the peers leave", begun, both.moved)

    begun = time.monotonic()
    with streams(port, ENDLESS, slow) as both:
        both.wait_moved(size // 4)
        both.pace.slow_until, both.pace.slow_rate = time.monotonic() + PATIENCE, 1  # from now on they do nothing
        asked = time.monotonic()
        server.send_signal(signal.SIGINT)
        status = server.wait(PATIENCE)
        took = time.monotonic() - asked
    if status or took > STOP_WITHIN:
        raise SoakError(f"the server has ended with status {status}, after {took:.1f} s")
    print(f"{'the server stops':<26} {time.monotonic() - begun:6.1f} s   {took:.1f} s of them from SIGINT to its end")


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--mib", type=int, default=5 * 1024, help="in each direction (5 GiB)")
    parser.add_argument("--slow", type=float, default=5.0, help="seconds in which the peers are slow (5)")
    parser.add_argument("--most-growth", type=float, default=16.0, help="MiB that the memory may grow by (16)")
    given = parser.parse_args()
    server = subprocess.Popen([sys.executable, "-W", "error", SERVER], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    memory = Memory(server.pid)
    try:
        port = int(server.stdout.readline().rstrip("/\n").rpartition(":")[2])
        soak(port, server, given.mib * MIB, given.slow, memory)
        answered, cut, gone, errors = map(int, server.stdout.readline().split())
    except SoakError as error:
        print(f"FAILED: {error}")
        return 1
    finally:
        memory.close()
        if server.poll() is None:
            server.kill()
        server.wait()
        server.stdout.close()
    growth = memory.most - memory.base
    print(f"answered {answered}, cut {cut}, left by their peers {gone}, errors {errors}")
    print(f"memory grew by {growth:.1f} MiB, allowed are {given.most_growth:g}")
    # Answered are the four that went to the end, and the upload whose peer has left: with a 400.
    return 0 if growth <= given.most_growth and (answered, cut, gone, errors) == (5, 2, 1, 0) else 1


if __name__ == "__main__":
    sys.exit(main())
