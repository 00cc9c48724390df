"""When may a socket be read or written, and has its peer gone meanwhile: the one seam with Trio's I/O.

Waiting is Trio's own (`wait_readable`, `wait_writable`). *Watching* is ours: while a handler works nobody reads from
the connection, and still it is to learn that the peer has shut down its side or is gone. Reading ahead would tell, but
only by taking bytes nobody asked for; the kernel tells without.

* Where there is epoll: one of our own, in which a watched socket is registered for EPOLLRDHUP, one-shot. EPOLLHUP and
  EPOLLERR come unasked. `Readiness.run` waits for that epoll as for any descriptor, so a watch costs two system calls
  and no task. After a half-close the socket is armed again without EPOLLRDHUP, which would be told for ever.
* Elsewhere: a task per watch peeks (MSG_PEEK) at a duplicate of the descriptor: Trio lets one task wait for one
  descriptor, and the connection's own task may want to read meanwhile. It sees no further than the first unread byte,
  and nothing after a half-close; what it misses, the next read or write finds out.

The kernel speaks of descriptors, and descriptors are reused. So a socket is unwatched before it is closed, and an
event counts only for a watch that is older than the call that fetched it.

Rejected: Trio's `wait_readable` for watching (a FIN behind unread data keeps the socket readable: a busy loop).
"""

from __future__ import annotations

import contextlib
import logging
import select
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias, final

import trio
from trio.lowlevel import enable_ki_protection

BATCH: Final = 256  # events fetched in one turn of the loop; each costs a plain function call

Told: TypeAlias = Callable[[], None]

_log = logging.getLogger(__name__)


@final
class Readiness:
    """Waits for sockets, and watches those whose task is busy. One per server; run `run` in the server's nursery.

    Args:
      use_epoll: watch by epoll; by default where the platform has it. False forces the portable way.
    """

    __slots__ = ("_use_epoll", "_warned", "_watcher")

    # I  set once · S  changed only in one synchronous stretch
    _use_epoll: bool  # I
    _watcher: _Watcher | None  # S: set by `run`, and None again when it has ended
    _warned: bool  # S: has a watch that could not be had been logged?

    def __init__(self, *, use_epoll: bool = hasattr(select, "epoll")) -> None:
        self._use_epoll = use_epoll
        self._watcher = None
        self._warned = False

    def __repr__(self) -> str:
        way = "epoll" if self._use_epoll else "peek"
        watching = f"watching={self._watcher.count()}" if self._watcher is not None else "not running"
        return f"<Readiness {way} {watching}>"

    async def wait_readable(self, sock: socket.socket) -> None:
        """Wait until the socket has bytes, a FIN, an error, or (listening) a connection to accept. A checkpoint.

        Raises:
          trio.BusyResourceError: another task waits for the same.
          trio.ClosedResourceError: the socket is closed, or was meanwhile by somebody who said so to Trio.
        """
        _check_open(sock)
        await trio.lowlevel.wait_readable(sock)

    async def wait_writable(self, sock: socket.socket) -> None:
        """Wait until the socket takes bytes again, or has an error to tell. A checkpoint; raises as `wait_readable`."""
        _check_open(sock)
        await trio.lowlevel.wait_writable(sock)

    @enable_ki_protection
    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Tell watched sockets' news, for ever; cancel it to stop. `watch` works once it has started."""
        if self._watcher is not None:
            raise RuntimeError(f"{self!r} already runs")
        self._watcher = _EpollWatcher() if self._use_epoll else _PeekWatcher()
        try:
            await self._watcher.run(task_status)
        finally:
            self._watcher = None

    def watch(self, sock: socket.socket, on_half_close: Told, on_gone: Told, *, is_shut: bool = False) -> None:
        """Tell once when the peer shuts down its side, and once when it resets or hangs up; until `unwatch`.

        `is_shut`: our side was shut down before. Then the peer's FIN makes a hang-up, though nobody has gone.
        The functions are called from `run`'s task and must not block; one that raises is logged. After `on_gone`
        nothing more comes. Watching a socket again replaces the earlier watch. If `run` is not running, if the socket
        is closed, or if the system has no room for another watch, nothing is told: the next read or write finds out.
        """
        if self._watcher is None:
            return
        try:
            if sock.fileno() >= 0:
                self._watcher.watch(sock, on_half_close, on_gone, is_shut=is_shut)
        except OSError as error:
            # Out of descriptors or of epoll watches. Watching is a courtesy, so the request goes on; said once.
            if not self._warned:
                self._warned = True
                _log.warning("cannot watch %r (%s): departed peers are noticed later", sock, error)

    def unwatch(self, sock: socket.socket) -> None:
        """Tell nothing more about this socket; call it before closing. Nothing happens if it is not watched."""
        if self._watcher is not None:
            self._watcher.unwatch(sock)


class _Watcher(Protocol):
    """One way to watch; `Readiness` documents the methods."""

    async def run(self, task_status: trio.TaskStatus[None]) -> None: ...
    def watch(self, sock: socket.socket, on_half_close: Told, on_gone: Told, *, is_shut: bool) -> None: ...
    def unwatch(self, sock: socket.socket) -> None: ...
    def count(self) -> int: ...


def _check_open(sock: socket.socket) -> None:
    # Python marks a closed socket by -1, which Trio would pass on to the kernel.
    if sock.fileno() < 0:
        raise trio.ClosedResourceError("this socket is closed")


def _call(told: Told) -> None:
    try:
        told()
    except Exception:
        # A hook call, and one connection's hook must not end the watching of all others.
        _log.exception("a watch's function %r raised", told)


@dataclass(slots=True, eq=False)
class _EpollWatch:
    generation: int
    on_half_close: Told
    on_gone: Told
    is_shut: bool


@final
class _EpollWatcher:
    """Watches through an epoll of its own."""

    __slots__ = ("_epoll", "_generation", "_watches")

    # I  set once · S  changed only in one synchronous stretch
    _epoll: select.epoll  # I
    _watches: dict[int, _EpollWatch]  # S: by descriptor
    _generation: int  # S: grows with every watch

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._watches = {}
        self._generation = 0

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        with self._epoll:
            task_status.started()
            while True:
                await trio.lowlevel.wait_readable(self._epoll)
                newest = self._generation
                for descriptor, events in self._epoll.poll(0, BATCH):
                    self._tell(descriptor, events, newest)

    def _tell(self, descriptor: int, events: int, newest: int) -> None:
        watch = self._watches.get(descriptor)
        # A function called for an earlier event of this batch may have unwatched this descriptor, or closed it and
        # watched its successor: the kernel did not speak of that one.
        if watch is None or watch.generation > newest:
            return
        if events & (select.EPOLLHUP | select.EPOLLERR):
            self._forget(descriptor)
            is_gone = events & select.EPOLLERR or not watch.is_shut
            _call(watch.on_gone if is_gone else watch.on_half_close)
            return
        _call(watch.on_half_close)
        if self._watches.get(descriptor) is watch:
            self._epoll.modify(descriptor, select.EPOLLONESHOT)

    def watch(self, sock: socket.socket, on_half_close: Told, on_gone: Told, *, is_shut: bool) -> None:
        descriptor = sock.fileno()
        self._forget(descriptor)
        self._epoll.register(descriptor, select.EPOLLRDHUP | select.EPOLLONESHOT)
        self._generation += 1
        self._watches[descriptor] = _EpollWatch(self._generation, on_half_close, on_gone, is_shut)

    def unwatch(self, sock: socket.socket) -> None:
        self._forget(sock.fileno())

    def _forget(self, descriptor: int) -> None:
        if self._watches.pop(descriptor, None) is not None:
            # Somebody closed the socket first, against the rule; the kernel has then forgotten it already.
            with contextlib.suppress(OSError):
                self._epoll.unregister(descriptor)

    def count(self) -> int:
        return len(self._watches)


@dataclass(slots=True, eq=False)
class _PeekWatch:
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
class _PeekWatcher:
    """Watches by a task per socket that peeks at it."""

    __slots__ = ("_nursery", "_watches")

    # S  changed only in one synchronous stretch
    _nursery: trio.Nursery | None  # S: only inside `run`'s `async with`
    _watches: dict[int, _PeekWatch]  # S: by the watched descriptor

    def __init__(self) -> None:
        self._nursery = None
        self._watches = {}

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                task_status.started()
                await trio.sleep_forever()
            finally:
                self._nursery = None

    async def _peek(self, watch: _PeekWatch) -> None:
        try:
            told = await _wait_for_news(watch)
        finally:
            if self._watches.get(watch.descriptor) is watch:
                del self._watches[watch.descriptor]
            watch.close()
        if told is not None:
            _call(told)

    def watch(self, sock: socket.socket, on_half_close: Told, on_gone: Told, *, is_shut: bool) -> None:
        self.unwatch(sock)
        if self._nursery is None:
            return
        watch = _PeekWatch(sock.fileno(), sock.dup(), on_half_close, on_gone)
        self._watches[watch.descriptor] = watch
        self._nursery.start_soon(self._peek, watch)

    def unwatch(self, sock: socket.socket) -> None:
        watch = self._watches.pop(sock.fileno(), None)
        if watch is not None:
            watch.close()

    def count(self) -> int:
        return len(self._watches)


async def _wait_for_news(watch: _PeekWatch) -> Told | None:
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
