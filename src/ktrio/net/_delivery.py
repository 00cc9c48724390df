"""How many bytes has the peer taken? What the kernel still holds of what we sent, and the progress that follows.

`send` succeeding means only that the kernel had room, and with megabytes of send buffer a slow reader may take minutes
before there is room again. What it has acknowledged meanwhile is progress all the same; Linux tells (TIOCOUTQ, tcp(7)).
Where the kernel does not tell, the bytes it accepted since the last wait stand for it: its buffer was full then.
"""

from __future__ import annotations

import fcntl
import socket
import sys
import termios
from collections.abc import Callable
from typing import Final, final

_TIOCOUTQ: Final[int | None] = getattr(termios, "TIOCOUTQ", None)


def undelivered_bytes(sock: socket.socket) -> int | None:
    """Bytes accepted by `send` and not yet acknowledged by the peer; `None` if closed, or if the kernel does not tell.

    On a unix socket: the memory that they occupy until the peer reads them, which is a little more.
    """
    if _TIOCOUTQ is None or sock.fileno() < 0:
        return None
    answer = bytearray(4)
    try:
        fcntl.ioctl(sock, _TIOCOUTQ, answer)
    except OSError:
        # macOS knows the request for terminals only.
        return None
    return int.from_bytes(answer, sys.byteorder)


@final
class DeliveryMeter:
    """Counts what one peer takes while we wait for it to take more; `ask` gives the bytes it has not taken yet."""

    __slots__ = ("_ask", "_counted", "_undelivered")

    # I  set once · S  changed only in one synchronous stretch
    _ask: Callable[[], int | None]  # I: `None`: nobody can tell
    _undelivered: int | None  # S: when last asked in this wait; `None`: nobody can tell
    _counted: int  # S: how many of the bytes ever sent have been counted as moved, where nobody can tell

    def __init__(self, ask: Callable[[], int | None]) -> None:
        self._ask = ask
        self._undelivered = None
        self._counted = 0

    def start(self, bytes_sent: int) -> int:
        """A wait begins; `bytes_sent` were ever sent. How many moved since the last wait, as far as not yet counted?"""
        self._undelivered = self._ask()
        if self._undelivered is not None:
            return 0
        moved = bytes_sent - self._counted
        self._counted = bytes_sent
        return moved

    def moved(self) -> int:
        """How many bytes moved since this was last asked in this wait, or since its start?"""
        if self._undelivered is None:
            return 0
        now = self._ask()
        if now is None:
            return 0
        moved = self._undelivered - now
        self._undelivered = now
        return max(0, moved)
