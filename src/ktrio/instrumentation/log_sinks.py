"""Where the bytes of a log go: a file by its name, which can be opened anew, or a descriptor that somebody else owns.

A sink's methods block, and are called in a thread (`ktrio.instrumentation.log_writer`).
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Final, Protocol, final

# Addresses of people are in it: the owner writes, the group may read, nobody else.
MODE: Final = 0o640


class LogError(Exception):
    """The caller's fault: a log cannot be written where it was asked for; the message says where and why."""


class LogSink(Protocol):
    """Takes the bytes of a log; used by one thread at a time."""

    @property
    def name(self) -> str:
        """What it is called in messages."""
        ...

    def write(self, data: memoryview) -> int:
        """Write some of `data`, at least one byte; how many. Raises OSError: it cannot be written now."""
        ...

    def reopen(self) -> None:
        """Write to a new file by the old name from now on, if it has a name. OSError: none; the old one goes on."""
        ...

    def close(self) -> None:
        """Let go of what it owns. Idempotent."""
        ...


def open_for_appending(path: str) -> int:
    """A descriptor of the file, which is made if there is none. Each write to it goes to its end, whoever writes.

    Never waits: a FIFO that nobody reads is an error.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, MODE)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.set_blocking(descriptor, True)  # a reader of a FIFO may be slow: its thread waits
    return descriptor


_ADVICE: Final = {
    errno.EISDIR: "it is a folder; give the name of a file in it",
    errno.ENOENT: "there is no such folder; make it first",
    errno.ENXIO: "nobody reads from it; start the reader first",
}


def cannot_write(path: str, error: OSError) -> LogError:
    """The error that says why `path` takes no log."""
    return LogError(f"cannot write a log to {path!r}: {_ADVICE.get(error.errno or 0) or error.strerror or error}")


@final
class FileSink:
    """A file by its name.

    Raises:
      LogError: it cannot be opened for writing.

    Legend: I set once · W only by the thread that writes, and by the loop while none does.
    """

    __slots__ = ("_descriptor", "name")

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.name: Final = str(Path(path).absolute())  # I: a program that changes its folder goes on writing here
        try:
            self._descriptor = open_for_appending(self.name)  # W; -1: closed
        except OSError as error:
            raise cannot_write(os.fspath(path), error) from error

    def write(self, data: memoryview) -> int:
        """See `LogSink`."""
        return os.write(self._descriptor, data)

    def reopen(self) -> None:
        """See `LogSink`."""
        old, self._descriptor = self._descriptor, open_for_appending(self.name)
        if old >= 0:
            os.close(old)

    def close(self) -> None:
        """See `LogSink`."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


_STANDARD: Final = {1: "standard output", 2: "standard error"}


@final
class DescriptorSink:
    """A descriptor of somebody else's, such as standard output: it is neither opened anew nor closed."""

    __slots__ = ("_descriptor", "name")

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor  # I
        self.name: Final = _STANDARD.get(descriptor, f"descriptor {descriptor}")  # I

    def write(self, data: memoryview) -> int:
        """See `LogSink`."""
        return os.write(self._descriptor, data)

    def reopen(self) -> None:
        """Nothing: it has no name."""

    def close(self) -> None:
        """Nothing: somebody else owns it."""
