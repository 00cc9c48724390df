"""A command of ktrio as a subprocess: what it says are events to wait for, and no wait is without an end.

Threads read both pipes, so the program never waits for its test, and a waiting test wakes with the line it waits for.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

LIMIT = 25.0
"""Real seconds that any single wait may take before its test fails; below pytest's faulthandler_timeout."""

KTRIO = (sys.executable, "-m", "ktrio")

ENVIRONMENT = {**os.environ, "COLUMNS": "100", "PYTHONUNBUFFERED": ""}
"""Help is wrapped the same everywhere, and nothing flushes the output for ktrio."""

ADDRESS = re.compile(r" at (?:http://)?(\[[^]]+\]|[\d.]+):(\d+)/?$")
"""The end of the line that says where it listens."""
ECHO_ENVIRONMENT = {**os.environ, "COLUMNS": "100", "PYTHONUNBUFFERED": ""}
"""Help is wrapped the same everywhere, and nothing flushes the output for ktrio."""

ADDRESS = re.compile(r" at (?:\w+://)?(\[[^]]+\]|[^:/\s]+):(\d+)")


class Lines:
    """What a program has said so far on one of its streams."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._lines: list[str] = []
        self._ended = False
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        for line in self._stream:
            with self._news:
                self._lines.append(line.decode(errors="replace"))
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    @property
    def text(self) -> str:
        with self._news:
            return "".join(self._lines)

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    def find(self, pattern: str) -> re.Match[str] | None:
        """The first line that has it, if one has."""
        with self._news:
            return next((found for line in self._lines if (found := re.search(pattern, line))), None)

    def wait_for(self, pattern: str, *, limit: float = LIMIT) -> re.Match[str]:
        """The first line that has it; waits for it to come."""
        with self._news:
            self._news.wait_for(lambda: self.find(pattern) or self._ended, limit)
        found = self.find(pattern)
        assert found is not None, f"no line matches {pattern!r} in:\n{self.text}"
        return found

    def wait_count(self, count: int, *, limit: float = LIMIT) -> list[str]:
        """The lines once there are so many, or once there will be no more."""
        with self._news:
            self._news.wait_for(lambda: len(self._lines) >= count or self._ended, limit)
            return list(self._lines)

    def wait_for_matches(self, pattern: str, count: int, *, limit: float = LIMIT) -> None:
        """Wait until so many lines have it."""

        def found() -> int:
            return sum(re.search(pattern, line) is not None for line in self._lines)

        with self._news:
            self._news.wait_for(lambda: found() >= count or self._ended, limit)
            assert found() >= count, f"fewer than {count} lines match {pattern!r} in:\n{''.join(self._lines)}"

    def wait_end(self, *, limit: float = LIMIT) -> bool:
        """Whether the program has closed the stream, within the limit."""
        with self._news:
            return self._news.wait_for(lambda: self._ended, limit)

    def close(self) -> None:
        self._thread.join(LIMIT)
        self._stream.close()


class Program:
    """One run of a command, from its start to its end, with the sockets that were connected to it."""

    def __init__(
        self,
        *arguments: str | os.PathLike[str],
        command: Sequence[str] = KTRIO,
        cwd: Path | None = None,
        stderr: int = subprocess.PIPE,
        pass_fds: Sequence[int] = (),
        environment: Mapping[str, str] = {},
    ) -> None:
        self.arguments = [os.fspath(each) for each in (*command, *arguments)]
        self.process = subprocess.Popen(
            self.arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            cwd=cwd,
            pass_fds=pass_fds,
            env={**ENVIRONMENT, **environment},
        )
        assert self.process.stdout is not None
        self.out = Lines(self.process.stdout)
        self.err = Lines(self.process.stderr) if self.process.stderr is not None else None
        self._sockets: list[socket.socket] = []

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """The addresses it has printed; waits for the first line, and for the line after the last address."""
        self.out.wait_for(r"^ktrio .* at ")
        found = [ADDRESS.search(line) for line in self.out.lines]
        return [(each[1].strip("[]"), int(each[2])) for each in found if each]

    @property
    def port(self) -> int:
        return self.addresses[0][1]

    @property
    def said(self) -> str:
        """Its standard error so far."""
        return self.err.text if self.err is not None else ""

    def adopt(self, sock: socket.socket) -> socket.socket:
        """No wait on this socket is for ever, and `close` closes it."""
        sock.settimeout(LIMIT)
        self._sockets.append(sock)
        return sock

    def connect(self, *, receive_buffer: int | None = None, address: tuple[str, int] | None = None) -> socket.socket:
        """A connection that the end of the program closes, if the test did not."""
        host, port = address or self.addresses[0]
        sock = self.adopt(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET))
        if receive_buffer is not None:  # before connect: it limits the window that is offered
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.connect((host, port))
        return sock

    def send_signal(self, *signums: int) -> None:
        for signum in signums:
            os.kill(self.process.pid, signum)

    def poke(self) -> None:
        """A byte for its standard input."""
        assert self.process.stdin is not None
        os.write(self.process.stdin.fileno(), b"x")

    def wait(self, *, limit: float = LIMIT) -> int:
        """Its exit status, once it has ended. All it said has been read then."""
        ended = self.out.wait_end(limit=limit)
        assert ended, f"still running after {limit} s"
        status = self.process.wait(LIMIT)
        if self.err is not None:
            assert self.err.wait_end()
        return status

    def stop(self, signum: int = signal.SIGINT) -> int:
        """Signal, and its exit status."""
        self.send_signal(signum)
        return self.wait()

    def close(self) -> None:
        """End it, however it fares, and print what it said: pytest shows that if the test failed."""
        for sock in self._sockets:
            sock.close()
        if self.process.poll() is None:
            self.process.kill()
        status = self.process.wait(LIMIT)
        assert self.process.stdin is not None
        self.process.stdin.close()
        for stream in filter(None, (self.out, self.err)):
            stream.close()
        print(f"$ {' '.join(self.arguments)}\n{self.out.text}{self.said}[status {status}]")


def assert_served_cleanly(program: Program) -> None:
    """Nothing on standard error that looks like a fault of ours."""
    assert "Traceback" not in program.said
    assert "Error" not in program.said
