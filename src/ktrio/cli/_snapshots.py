"""Snapshots from the monitor of a running program: connect, ask, read; all that can be wrong with it is one line."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Mapping
from typing import Any, Final, TypeAlias, cast, final

import click
import trio

from ktrio.cli._table import printable
from ktrio.commands import PROTOCOL

Record: TypeAlias = Mapping[str, Any]
"""A JSON object. It comes from another program, perhaps of another version: any field may be missing."""

FIRST_WITHIN: Final = 5.0
"""Seconds in which something has to come. The loop of a program that is well takes a millisecond."""
MOST_OF_A_LINE: Final = 1 << 24
"""Bytes of a snapshot; a queue has about a thousand."""
_PIECE: Final = 1 << 16

_START_IT: Final = "start its program with 'ktrio serve --monitor PATH', or with ktrio.serve_monitor"
_REMEDIES: Final = {
    errno.ENOENT: f"there is no such socket; {_START_IT}",
    errno.ENOTDIR: "a part of the path is not a folder",
    errno.ECONNREFUSED: f"nobody listens there any more; {_START_IT}",
    errno.EACCES: "no permission; only the user who started its program may watch it",
    errno.EPERM: "no permission; only the user who started its program may watch it",
    errno.EPROTOTYPE: "it is a socket of another kind; give the path that --monitor was given",
}


@final
class Unavailable(click.ClickException):
    """There is nothing to watch at this path; one line that says why, and what to do."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"cannot watch {printable(repr(path))}: {why}")


@final
class EndedError(Exception):
    """The program that was watched has closed the connection."""


async def connect(path: str) -> trio.SocketStream:
    """Connect to the monitor at `path`; raises `Unavailable`."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise Unavailable(path, "it is no socket; give the path that --monitor was given")
        return await trio.open_unix_socket(path)
    except (OSError, ValueError) as error:  # ValueError: a null byte
        number = error.errno if isinstance(error, OSError) else None
        why = _REMEDIES.get(number or 0) or getattr(error, "strerror", None) or str(error)
        raise Unavailable(path, why) from error


@final
class Snapshots:
    """What comes from a monitor, line by line.

    Legend: I set once · T only by the task that reads.
    """

    def __init__(self, stream: trio.abc.Stream, path: str) -> None:
        self._stream = stream  # I
        self._path = path  # I
        self._received = bytearray()  # T

    async def ask(self, interval: float) -> None:
        """Have a snapshot every `interval` seconds from the last one on."""
        try:
            await self._stream.send_all(f'{{"interval": {interval}}}\n'.encode())
        except trio.BrokenResourceError:
            return  # reading will tell

    async def first(self) -> Record:
        """The first snapshot; raises `Unavailable`, also if there is none in time."""
        with trio.move_on_after(FIRST_WITHIN):
            try:
                return await self.next()
            except EndedError:
                raise self._unavailable("the connection was closed at once; it is no monitor of ktrio's") from None
        raise self._unavailable(
            f"it says nothing within {FIRST_WITHIN:g} s; the loop of its program is held up, or it is no monitor"
        )

    async def next(self) -> Record:
        """The next snapshot; raises `EndedError`, or `Unavailable` if what comes is none."""
        while b"\n" not in self._received:
            if len(self._received) > MOST_OF_A_LINE:
                raise self._no_monitor()
            try:
                data = await self._stream.receive_some(_PIECE)
            except trio.BrokenResourceError:
                data = b""
            if not data:
                raise EndedError
            self._received += data
        line, _, rest = self._received.partition(b"\n")
        self._received = rest
        return self._understood(bytes(line))

    def _understood(self, line: bytes) -> Record:
        try:
            said: object = json.loads(line)
        except (ValueError, RecursionError):
            raise self._no_monitor() from None
        snapshot: Record = cast("Record", said) if isinstance(said, dict) else {}
        if "ktrio" not in snapshot:
            raise self._no_monitor()
        if snapshot.get("protocol") != PROTOCOL:
            raise self._unavailable(
                f"it is of ktrio {printable(str(snapshot['ktrio']))} and speaks another version of the protocol; "
                "use the 'ktrio top' of that version"
            )
        if "error" in snapshot:
            raise self._unavailable(printable(str(snapshot["error"])))
        if not isinstance(snapshot.get("supervisor"), dict):
            raise self._no_monitor()
        return snapshot

    def _no_monitor(self) -> Unavailable:
        return self._unavailable("what listens there is no monitor of ktrio's; give the path that --monitor was given")

    def _unavailable(self, why: str) -> Unavailable:
        return Unavailable(self._path, why)
