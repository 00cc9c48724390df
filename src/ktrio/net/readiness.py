"""When may a socket be read or written, and has its peer gone meanwhile: the one seam with Trio's I/O.

*Waiting* for a socket, and *watching* it: while a handler works nobody reads from the connection, and still it is to
learn that the peer has shut down its side or is gone. Reading ahead would tell, but only by taking bytes nobody asked
for; the kernel tells without.

* Where there is epoll: one of our own, each socket registered in it once (`ktrio.net._epoll`).
* Elsewhere, or where the system has no room for that: Trio's own `wait_readable` and `wait_writable`, and a task for
  each watch (`ktrio.net._peeking`).

`tests/net/test_readiness.py` holds both to what is said here. Rejected: Trio's `wait_readable` for watching (a FIN
behind unread data keeps the socket readable: a busy loop).
"""

from __future__ import annotations

import logging
import select
import socket
from typing import Protocol, final

import trio
from trio.lowlevel import enable_ki_protection

from ktrio.net._epoll import BATCH as BATCH
from ktrio.net._epoll import Epoll, EpollRegistration
from ktrio.net._peeking import PeekRegistration, PeekWatcher
from ktrio.net._plain_waits import wait_readable
from ktrio.net._telling import Told as Told

_log = logging.getLogger(__name__)


class Registration(Protocol):
    """One socket, from its accept to its close. Its owner says what its reads and writes have met."""

    async def wait_readable(self) -> None:
        """Wait until the socket has bytes, a FIN or an error; it may be woken without a cause. A checkpoint.

        Raises:
          trio.BusyResourceError: another task waits for the same.
          trio.ClosedResourceError: the socket is closed, or was meanwhile after `close`.
        """
        ...

    def note_read(self, room: int, read: int) -> None:
        """A read had `room` bytes of room, and brought `read` of them; 0: it was refused."""
        ...

    async def wait_writable(self) -> None:
        """Wait until the socket takes bytes again, or has an error to tell. A checkpoint; raises as `wait_readable`."""
        ...

    def note_refused(self) -> None:
        """A write was refused for want of room."""
        ...

    def watch(self, on_half_close: Told, on_gone: Told, *, is_shut: bool) -> None:
        """Tell once when the peer shuts down its side, and once when it resets or hangs up; until `unwatch`.

        `is_shut`: our side was shut down before. Then the peer's FIN makes a hang-up, though nobody has gone.
        The functions must not block; one that raises is logged. They are called from the task of `Readiness.run`, and
        from here if the news is known. After `on_gone` nothing more comes. Another watch replaces this one. If `run` is
        not running, if the socket is closed, or if the system has no room for another watch, nothing is told: the next
        read or write finds out.
        """
        ...

    def unwatch(self) -> None:
        """Tell nothing more. Nothing happens if it is not watched."""
        ...

    def close(self) -> None:
        """Forget the socket and wake who waits for it; call it before closing the socket. Idempotent."""
        ...


@final
class Readiness:
    """Waits for sockets, and watches those whose task is busy. One per server; run `run` in the server's nursery.

    Args:
      use_epoll: an epoll of our own; by default where the platform has it. False forces the portable way.
    """

    __slots__ = ("_epoll", "_peeking", "_use_epoll", "_warned")

    # I  set once · S  changed only in one synchronous stretch
    _use_epoll: bool  # I
    _epoll: Epoll | None  # S: set by `run`, and None again when it has ended
    _peeking: PeekWatcher | None  # S: the same
    _warned: bool  # S: has a watch that could not be had been logged?

    def __init__(self, *, use_epoll: bool = hasattr(select, "epoll")) -> None:
        self._use_epoll = use_epoll
        self._epoll = None
        self._peeking = None
        self._warned = False

    def __repr__(self) -> str:
        way = "epoll" if self._use_epoll else "peek"
        watcher = self._epoll or self._peeking
        watching = f"watching={watcher.count_watched()}" if watcher is not None else "not running"
        return f"<Readiness {way} {watching}>"

    async def wait_readable(self, sock: socket.socket) -> None:
        """Wait until a socket that is not registered has a connection to accept. A checkpoint.

        Raises:
          trio.BusyResourceError: another task waits for the same.
          trio.ClosedResourceError: the socket is closed, or was meanwhile by somebody who said so to Trio.
        """
        await wait_readable(sock)

    @enable_ki_protection
    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Tell sockets' news, for ever; cancel it to stop. Waits go on without it, by Trio's own means."""
        if self._epoll is not None or self._peeking is not None:
            raise RuntimeError(f"{self!r} already runs")
        try:
            if self._use_epoll:
                self._epoll = Epoll(self._say_no_room)
                await self._epoll.run(task_status)
            else:
                self._peeking = PeekWatcher(self._say_no_room)
                await self._peeking.run(task_status)
        finally:
            self._epoll = self._peeking = None

    def register(self, sock: socket.socket) -> Registration:
        """Take a connected, non-blocking socket; no system call until somebody waits for it or watches it."""
        if self._epoll is not None:
            return EpollRegistration(self._epoll, sock)
        return PeekRegistration(self._peeking, sock)

    def _say_no_room(self, sock: socket.socket, error: OSError) -> None:
        """Out of descriptors or of epoll watches. Watching is a courtesy, so the request goes on; said once."""
        if not self._warned:
            self._warned = True
            _log.warning("cannot watch %r (%s): departed peers are noticed later", sock, error)
