"""Accept connections: permission first, then `accept`, then straight onto the roster.

A full descriptor table is no error of anybody who is connected. One descriptor is held in reserve: with it the acceptor
takes one client in, refuses it politely and closes it, says so in the log once per burst, and tries again a little
later, or as soon as a connection has left.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import os
import socket
from collections.abc import Callable
from typing import Final, final

import trio
from trio.lowlevel import ParkingLot, enable_ki_protection

from ktrio.net.carriers import Carriers
from ktrio.net.connection import Connection
from ktrio.net.errors import ACCEPT_EXHAUSTED, ACCEPT_IGNORED
from ktrio.net.listeners import Listener
from ktrio.net.readiness import Readiness
from ktrio.server.admission import Verdict, verdict
from ktrio.server.dispatch import Dispatch
from ktrio.server.roster import Roster
from ktrio.workqueue import WorkqueueError

log = logging.getLogger("ktrio.server")

# Seconds between two tries while descriptors are short; Trio's and libuv's figure.
PAUSE_WHEN_EXHAUSTED: Final = 0.1
# Seconds without want of descriptors after which the next one is news again: at the limit it comes and goes.
END_OF_BURST: Final = 10.0
# Accepts in one turn of the loop: about 1 ms of them, then others have theirs.
ACCEPTS_A_TURN: Final = 32

MakeConnection = Callable[[socket.socket, str, Listener], Connection]


@final
class Acceptor:
    """Accepts for all listeners of one server.

    Legend: I set once · S changed only in one synchronous stretch.
    """

    def __init__(
        self,
        *,
        roster: Roster,
        dispatch: Dispatch,
        readiness: Readiness,
        carriers: Carriers,
        make_connection: MakeConnection,
        give_up: Callable[[WorkqueueError], None],
        max_connections: int,
        refusal: bytes,
    ) -> None:
        self._roster = roster  # I
        self._dispatch = dispatch  # I
        self._readiness = readiness  # I
        self._carriers = carriers  # I
        carriers.on_end = self._wake
        self._make_connection = make_connection  # I
        self._give_up = give_up  # I: begins the shutdown; told why
        self._max_connections = max_connections  # I
        self._refusal = refusal  # I: what a client gets to read that cannot be served
        self._reserve: int | None = None  # S: the descriptor in reserve
        self._exhausted_at = -math.inf  # S: when a descriptor was missing last
        self._waits: set[trio.CancelScope] = set()  # S: around those who wait for room
        self._resumptions = ParkingLot()  # I: who waits for accepting to be resumed
        self.is_suspended = False  # S: by `suspend`, until `resume`
        self.made_room = 0  # S: connections asked to leave in favour of others
        self.refused = 0  # S: clients refused for want of descriptors

    def open(self) -> None:
        """Take the descriptor that is held in reserve."""
        if self._reserve is None:
            with contextlib.suppress(OSError):  # short already: the next refusal goes without it
                self._reserve = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        """Give the reserve back. Idempotent."""
        if self._reserve is not None:
            os.close(self._reserve)
            self._reserve = None

    def suspend(self) -> None:
        """Accept nobody until `resume`, and close nobody to make room. Idempotent."""
        self.is_suspended = True

    def resume(self) -> None:
        """Accept again, at once. Idempotent."""
        self.is_suspended = False
        self._resumptions.unpark_all()

    @enable_ki_protection
    async def accept_forever(self, listener: Listener) -> None:
        """Accept on `listener` until cancelled, or until the queue takes nothing any more: then the server gives up."""
        while True:
            await self.wait_resumed()
            await self._readiness.wait_readable(listener.socket)
            if not await self.wait_for_room():
                continue  # suspended: afterwards whoever waits now may have left, and nobody makes room for nobody
            try:
                for _ in range(ACCEPTS_A_TURN):
                    if not await self._accept_one(listener) or self._open() >= self._max_connections:
                        break
            except WorkqueueError as error:
                log.error("nobody can be served any more on %s: %s", listener, error)
                self._give_up(error)
                return

    async def wait_resumed(self) -> None:
        """Wait until accepting is not suspended."""
        while self.is_suspended:
            await self._resumptions.park()

    async def wait_for_room(self) -> bool:
        """Ask for permission, with a client waiting; False if accepting was suspended first."""
        while not self.is_suspended:
            # Nobody leaves for a place that is about to be free.
            may_leave = 0 if self._carriers.ending else self._roster.may_leave()
            answer = verdict(self._open(), self._max_connections, may_leave)
            if answer is Verdict.ADMIT:
                return True
            if answer is Verdict.MAKE_ROOM:
                self._roster.make_room()
                self.made_room += 1
            await self._wait_change()
        return False

    def _open(self) -> int:
        """Connections, and streams that take their time to close: each holds memory, tasks and perhaps a descriptor."""
        return len(self._roster) + self._carriers.ending

    async def _wait_change(self) -> None:
        with trio.CancelScope() as scope:
            self._waits.add(scope)
            try:
                await self._roster.wait_change()
            finally:
                self._waits.discard(scope)

    def _wake(self) -> None:
        """A stream has closed: there may be room."""
        for scope in self._waits:
            scope.cancel(reason="a stream has closed")

    async def _accept_one(self, listener: Listener) -> bool:
        """Accept one connection; False if nobody waits, or after a pause for want of descriptors."""
        try:
            self._take(listener)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno in ACCEPT_IGNORED:  # the client left before we came to it
                return True
            if error.errno not in ACCEPT_EXHAUSTED:
                raise
            await self._survive_exhaustion(listener, error)
            return False
        return True

    def _take(self, listener: Listener) -> None:
        sock, peer = listener.accept()
        self._dispatch.enqueue(self._make_connection(sock, peer, listener))

    async def accept_waiting(self, listener: Listener, most: int) -> int:
        """Accept whoever waits in the backlog right now, at most `most`, whatever the limits; how many that were.

        For the beginning of a shutdown: those clients have sent their requests already.
        """
        accepted = 0
        while accepted < most:
            try:
                self._take(listener)
            except (BlockingIOError, WorkqueueError):
                break
            except OSError as error:
                if error.errno not in ACCEPT_IGNORED:  # short of descriptors: the rest is refused by the close
                    break
            else:
                accepted += 1
                if accepted % ACCEPTS_A_TURN == 0:
                    await trio.lowlevel.checkpoint()
        return accepted

    async def _survive_exhaustion(self, listener: Listener, error: OSError) -> None:
        """No descriptor left: refuse one client politely, then wait a little, or until a connection has left."""
        now = trio.current_time()
        is_new_burst, self._exhausted_at = now - self._exhausted_at > END_OF_BURST, now
        if is_new_burst:
            log.warning(
                "out of resources (%s): accepting on %s pauses; raise the limit (ulimit -n) or lower max_connections",
                errno.errorcode.get(error.errno or 0, "?"),
                listener,
            )
        if self._reserve is not None:
            self.close()
            self._refuse_one(listener)
            self.open()
        with trio.move_on_after(PAUSE_WHEN_EXHAUSTED):
            await self._roster.wait_departure()

    def _refuse_one(self, listener: Listener) -> None:
        with contextlib.suppress(OSError):  # another thread was faster with the descriptor, or the client left
            sock, _peer = listener.accept()
            self.refused += 1
            with sock:
                sock.send(self._refusal)
                sock.shutdown(socket.SHUT_WR)
                sock.recv(1 << 16)  # unread input would turn the close into a reset, and that destroy the refusal
