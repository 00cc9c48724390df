"""Watching without epoll: a task for each watched socket peeks at it.

It peeks (MSG_PEEK) at a duplicate of the descriptor: Trio lets one task wait for one descriptor, and the connection's
own task may want to read meanwhile. It sees no further than the first unread byte, and nothing after a half-close; what
it misses, the next read or write finds out.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Final, final

import trio

from ktrio.net._plain_waits import wait_readable, wait_writable
from ktrio.net._telling import NoRoom, Told, call_told


@dataclass(slots=True, eq=False)
class _Watch:
    descriptor: int  # of the watched socket
    duplicate: socket.socket
    on_half_close: Told
    on_gone: Told

    def close(self) -> None:
        """Close the duplicate and wake its task; idempotent."""
        if self.duplicate.fileno() >= 0:
            trio.lowlevel.notify_closing(self.duplicate)
            self.duplicate.close()


@final
class PeekWatcher:
    """Watches by a task per socket that peeks at it."""

    __slots__ = ("_no_room", "_nursery", "_watches")

    # I  set once · S  changed only in one synchronous stretch
    _no_room: NoRoom  # I
    _nursery: trio.Nursery | None  # S: only inside `run`'s `async with`
    _watches: dict[int, _Watch]  # S: by the watched descriptor

    def __init__(self, no_room: NoRoom) -> None:
        self._no_room = no_room
        self._nursery = None
        self._watches = {}

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        """Watch until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                task_status.started()
                await trio.sleep_forever()
            finally:
                self._nursery = None

    async def _peek(self, watch: _Watch) -> None:
        try:
            told = await _wait_for_news(watch)
        finally:
            if self._watches.get(watch.descriptor) is watch:
                del self._watches[watch.descriptor]
            watch.close()
        if told is not None:
            call_told(told)

    def watch(self, sock: socket.socket, on_half_close: Told, on_gone: Told) -> int:
        """Begin, instead of an earlier watch; as which descriptor? -1: it is not watched."""
        try:
            descriptor = sock.fileno()
            self.unwatch(descriptor)
            if self._nursery is None or descriptor < 0:
                return -1
            watch = _Watch(descriptor, sock.dup(), on_half_close, on_gone)
        except OSError as error:
            self._no_room(sock, error)
            return -1
        self._watches[descriptor] = watch
        self._nursery.start_soon(self._peek, watch)
        return descriptor

    def unwatch(self, descriptor: int) -> None:
        """End; nothing happens if it is not watched."""
        watch = self._watches.pop(descriptor, None)
        if watch is not None:
            watch.close()

    def count_watched(self) -> int:
        """How many sockets are watched."""
        return len(self._watches)


@final
class PeekRegistration:
    """One socket that Trio waits for; see `ktrio.net.readiness.Registration`."""

    __slots__ = ("_has_waited", "_sock", "_watched_as", "_watcher")

    # I  set once · S  changed only in one synchronous stretch
    def __init__(self, watcher: PeekWatcher | None, sock: socket.socket) -> None:
        self._watcher: Final = watcher  # I: `None`: nobody watches
        self._sock: Final = sock  # I
        self._has_waited = False  # S: does Trio know this socket?
        self._watched_as = -1  # S: the descriptor under which it is watched

    async def wait_readable(self) -> None:
        """See `Registration.wait_readable`."""
        self._has_waited = True
        await wait_readable(self._sock)

    def note_read(self, room: int, read: int) -> None:
        """Trio asks the kernel each time."""

    async def wait_writable(self) -> None:
        """See `Registration.wait_writable`."""
        self._has_waited = True
        await wait_writable(self._sock)

    def note_refused(self) -> None:
        """Trio asks the kernel each time."""

    def watch(self, on_half_close: Told, on_gone: Told, *, is_shut: bool) -> None:
        """See `Registration.watch`."""
        if self._watcher is not None:
            self._watched_as = self._watcher.watch(self._sock, on_half_close, on_gone)

    def unwatch(self) -> None:
        """See `Registration.unwatch`."""
        if self._watcher is not None and self._watched_as >= 0:
            self._watcher.unwatch(self._watched_as)
            self._watched_as = -1

    def close(self) -> None:
        """See `Registration.close`."""
        self.unwatch()
        if self._has_waited and self._sock.fileno() >= 0:  # most connections of one request have not
            trio.lowlevel.notify_closing(self._sock)


async def _wait_for_news(watch: _Watch) -> Told | None:
    """Which function is to be called? `None`: it was unwatched, or unread bytes hide whatever comes after them."""
    # A closed duplicate means unwatched: before this task's first step, while it waited, or after it was woken.
    while watch.duplicate.fileno() >= 0:
        try:
            await trio.lowlevel.wait_readable(watch.duplicate)
            if watch.duplicate.fileno() >= 0:
                return None if watch.duplicate.recv(1, socket.MSG_PEEK) else watch.on_half_close
        except BlockingIOError:
            # A wake-up without a cause, or another task has read the bytes first.
            continue
        except trio.ClosedResourceError:
            return None
        except OSError:
            return watch.on_gone
    return None
