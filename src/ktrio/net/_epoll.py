"""One epoll of our own: each socket is registered once, edge triggered, for its whole life.

Trio's own `wait_readable` arms the socket anew for each wait: a system call, a dictionary and a task's trap. Here an
edge is told once, whoever waits or does not, and a wait is a look at a flag. It saves a third of what a request on an
open connection costs before any HTTP.

What an edge means, and when it is spent:

* **Readable** is set by an edge and cleared by whoever finds the buffer empty: a read that was refused, or that brought
  less than it had room for (`EpollRegistration.note_read`). Bytes that come after such a read are another edge.
* **An edge that carries a hang-up is the last one.** A request and its peer's FIN may be announced together, and a
  short read behind that does not mean that nothing follows: readable stays set, the next read finds the end.
* **Writable** is asked for when somebody first waits for room: a socket that is made is writable, so every connection
  would begin with an edge nobody wants. Arming for it tells anew how things stand, so nothing is missed.
* **A hang-up** (EPOLLRDHUP, EPOLLHUP, EPOLLERR) is kept. So watching a socket is remembering whom to tell.

The kernel speaks of descriptors, and descriptors are reused: an event counts only for a registration that is older than
the call that fetched it, and a registration is ended before its socket is closed.
"""

from __future__ import annotations

import contextlib
import select
import socket
from typing import Final, final

import trio
from trio.lowlevel import Abort, RaiseCancelT

from ktrio.net._plain_waits import wait_readable, wait_writable
from ktrio.net._telling import NoRoom, Told, call_told

BATCH: Final = 256  # events fetched in one turn of the loop; each costs a plain function call at most

_READ: Final = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET
_WRITE: Final = _READ | select.EPOLLOUT
_LAST: Final = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
_WAKES_READER: Final = select.EPOLLIN | _LAST
_WAKES_WRITER: Final = select.EPOLLOUT | select.EPOLLHUP | select.EPOLLERR


@final
class Epoll:
    """Fetches events and hands them to the registrations they are for."""

    __slots__ = ("_epoll", "_registrations", "generation", "no_room")

    # I  set once · S  changed only in one synchronous stretch
    def __init__(self, no_room: NoRoom) -> None:
        self._epoll: Final = select.epoll()  # I
        self.no_room: Final = no_room  # I
        self._registrations: dict[int, EpollRegistration] = {}  # S: by descriptor
        self.generation = 0  # S: grows with every registration

    @property
    def is_open(self) -> bool:
        """Does it run?"""
        return not self._epoll.closed

    def count_watched(self) -> int:
        """How many sockets are watched."""
        return sum(each.is_watched for each in self._registrations.values())

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        """Hand out events until cancelled. Who waits then is woken without a cause, and waits by Trio's means."""
        try:
            with self._epoll as epoll:
                task_status.started()
                while True:
                    await trio.lowlevel.wait_readable(epoll)
                    newest = self.generation
                    for descriptor, events in epoll.poll(0, BATCH):
                        registration = self._registrations.get(descriptor)
                        # What was told of an earlier event of this batch may have closed this descriptor and
                        # registered its successor: the kernel did not speak of that one.
                        if registration is not None and registration.generation <= newest:
                            registration.take(events)
        finally:
            for registration in self._registrations.values():
                registration.wake()
            self._registrations.clear()

    def add(self, registration: EpollRegistration, descriptor: int) -> None:
        """Begin to hand out events to it. Raises OSError if the system has no room."""
        self._epoll.register(descriptor, _READ)
        self.generation += 1
        registration.generation = self.generation
        self._registrations[descriptor] = registration

    def add_writing(self, descriptor: int) -> None:
        """Tell of room to write from now on, too."""
        self._epoll.modify(descriptor, _WRITE)

    def remove(self, descriptor: int) -> None:
        """Hand out nothing more; nothing happens if it is not registered."""
        if self._registrations.pop(descriptor, None) is not None:
            # Somebody closed the socket first, against the rule; the kernel has then forgotten it already.
            with contextlib.suppress(OSError):
                self._epoll.unregister(descriptor)


@final
class EpollRegistration:
    """One socket in an `Epoll`, from the first wait or watch on; see `ktrio.net.readiness.Registration`."""

    __slots__ = (
        "_descriptor",
        "_epoll",
        "_hang_up",
        "_is_closed",
        "_is_shut",
        "_on_gone",
        "_on_half_close",
        "_readable",
        "_reader",
        "_sock",
        "_uses_trio",
        "_waits_for_room",
        "_writable",
        "_writer",
        "generation",
    )

    # I  set once · S  changed only in one synchronous stretch
    def __init__(self, epoll: Epoll, sock: socket.socket) -> None:
        self._epoll: Final = epoll  # I
        self._sock: Final = sock  # I
        self._descriptor = -1  # S: as registered; -1: it is not
        self._readable = False  # S: an edge has come and is not spent
        self._writable = False  # S: the same for room to write
        self._waits_for_room = False  # S: is it registered for that, too?
        self._hang_up = 0  # S: those events that have come and that nothing follows
        self._reader: trio.lowlevel.Task | None = None  # S: who waits
        self._writer: trio.lowlevel.Task | None = None  # S: who waits
        self._on_half_close: Told | None = None  # S: whom to tell
        self._on_gone: Told | None = None  # S: whom to tell
        self._is_shut = False  # S: was our side shut down before the watch? Then the peer's FIN makes a hang-up
        self._is_closed = False  # S
        self._uses_trio = False  # S: has it been waited for by Trio's means?
        self.generation = 0  # S: by `Epoll`

    @property
    def is_watched(self) -> bool:
        """Is there somebody to tell?"""
        return self._on_half_close is not None or self._on_gone is not None

    # ---- events

    def take(self, events: int) -> None:
        """An edge; called by `Epoll` alone."""
        if events & _WAKES_READER:
            self._readable = True
            reader = self._reader
            if reader is not None:
                self._reader = None
                trio.lowlevel.reschedule(reader)
        if events & _WAKES_WRITER:
            self._writable = True
            writer = self._writer
            if writer is not None:
                self._writer = None
                trio.lowlevel.reschedule(writer)
        if events & _LAST:
            self._hang_up |= events & _LAST
            self._tell()

    def wake(self) -> None:
        """Wake who waits, without a cause."""
        for task in (self._reader, self._writer):
            if task is not None:
                trio.lowlevel.reschedule(task)
        self._reader = self._writer = None

    # ---- waiting

    async def wait_readable(self) -> None:
        """See `Registration.wait_readable`."""
        if self._readable:
            await trio.lowlevel.checkpoint()
            return
        if not self._is_registered():
            self._uses_trio = True
            await wait_readable(self._sock)
            return
        if self._reader is not None:
            raise trio.BusyResourceError("another task waits to read from this socket")
        self._reader = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._abort_reader)
        if self._is_closed:
            raise trio.ClosedResourceError("this socket was closed by another task")

    def _abort_reader(self, _raise_cancel: RaiseCancelT) -> Abort:
        self._reader = None
        return Abort.SUCCEEDED

    def note_read(self, room: int, read: int) -> None:
        """See `Registration.note_read`."""
        if read < room and not self._hang_up:
            self._readable = False

    async def wait_writable(self) -> None:
        """See `Registration.wait_writable`."""
        if self._writable:
            await trio.lowlevel.checkpoint()
            return
        if not self._is_registered():
            self._uses_trio = True
            await wait_writable(self._sock)
            return
        if self._writer is not None:
            raise trio.BusyResourceError("another task waits to write to this socket")
        if not self._waits_for_room:
            self._epoll.add_writing(self._descriptor)
            self._waits_for_room = True
        self._writer = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._abort_writer)
        if self._is_closed:
            raise trio.ClosedResourceError("this socket was closed by another task")

    def _abort_writer(self, _raise_cancel: RaiseCancelT) -> Abort:
        self._writer = None
        return Abort.SUCCEEDED

    def note_refused(self) -> None:
        """See `Registration.note_refused`."""
        self._writable = False

    def _is_registered(self) -> bool:
        """Is it registered, now at the latest? False: it is closed, or there is no room, or the epoll has ended."""
        if not self._epoll.is_open:
            return False
        if self._descriptor < 0:
            try:
                descriptor = self._sock.fileno()
                if descriptor < 0:
                    return False
                self._epoll.add(self, descriptor)
            except OSError as error:
                self._epoll.no_room(self._sock, error)
                return False
            self._descriptor = descriptor
        return True

    # ---- watching

    def watch(self, on_half_close: Told, on_gone: Told, *, is_shut: bool) -> None:
        """See `Registration.watch`."""
        if self._is_registered():
            self._on_half_close, self._on_gone, self._is_shut = on_half_close, on_gone, is_shut
            self._tell()

    def unwatch(self) -> None:
        """See `Registration.unwatch`."""
        self._on_half_close = self._on_gone = None

    def _tell(self) -> None:
        """Tell a hang-up to whom it concerns and who has not been told."""
        hang_up, on_half_close, on_gone = self._hang_up, self._on_half_close, self._on_gone
        if on_gone is not None and (hang_up & select.EPOLLERR or (hang_up & select.EPOLLHUP and not self._is_shut)):
            self.unwatch()
            call_told(on_gone)
        elif on_half_close is not None and hang_up:
            self._on_half_close = None
            call_told(on_half_close)

    # ---- the end

    def close(self) -> None:
        """See `Registration.close`."""
        self._is_closed = True
        self._readable = self._writable = False  # a wait that begins now is to find it closed
        self.unwatch()
        if self._descriptor >= 0:
            self._epoll.remove(self._descriptor)
            self._descriptor = -1
            self.wake()
        if self._uses_trio and self._sock.fileno() >= 0:
            trio.lowlevel.notify_closing(self._sock)
