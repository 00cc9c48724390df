"""Who is connected, in which state; owner of every connection from accept to close.

Each connection is an entry here before anybody else has heard of it, and until its socket is closed. The roster knows
who is quiet (new, or idle between requests), longest first, so that room can be made; who waits to write, so that slow
readers can be told from stalled ones; and why each one ended. It touches no bytes.
"""

from __future__ import annotations

import logging
import math
from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final, final

import trio
from trio.lowlevel import ParkingLot, enable_ki_protection

from ktrio.net.connection import Connection, State
from ktrio.server.connections import ConnectionStatistics, History, look_at
from ktrio.workqueue import Work

# Seconds after which a connection that has said nothing since accept may be asked to make room. A client's first bytes
# come right behind its handshake, whatever the round trip; one that connects in advance can connect again.
SILENT_TOO_LONG: Final = 0.1

BUSY: Final = frozenset({State.QUEUED, State.HEAD, State.BODY, State.HANDLING, State.WRITING})

log = logging.getLogger("ktrio.server")


# Connections told or cancelled in one turn of the loop; each costs some 10 microseconds.
CONNECTIONS_A_TURN: Final = 64


async def _turn(number: int) -> None:
    """Let the loop have its turn after every so many of a long row."""
    if number % CONNECTIONS_A_TURN == 0:
        await trio.lowlevel.checkpoint()


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RosterStatistics:
    """How many connections there are and were."""

    open: int
    """Connections accepted and not closed."""
    quiet: int
    """Of those: nothing received yet, or idle between requests."""
    busy: int
    """Of those: something is in progress, from the first byte of a head to the last of its answer."""
    owing: int
    """Of those: a complete request is in and its answer incomplete."""
    accepted: int
    """Connections accepted, ever."""
    answered: int
    """Answers completed, ever (echo: connections ended in peace)."""
    cut: int
    """Answers cut off by the grace or by a second signal, ever."""
    reasons: dict[str, int]
    """Why connections ended, and how many for each reason."""


@final
class Roster:
    """The connections of one server.

    Legend: I set once · S changed only in one synchronous stretch.
    """

    def __init__(self) -> None:
        self._work: dict[Connection, Work] = {}  # S
        self._idle: OrderedDict[Connection, None] = OrderedDict()  # S: longest idle first
        self._new: OrderedDict[Connection, None] = OrderedDict()  # S: longest silent first
        self._leaving: Connection | None = None  # S: asked to make room, and has not decided yet
        self._writing: set[Connection] = set()  # S: waiting for their peers to take what is sent
        self._accepted = self._answered = self._cut = 0  # S
        self._reasons: Counter[str] = Counter()  # S
        self._changes = ParkingLot()  # I: who waits for a connection to leave or to become idle
        self._departures = ParkingLot()  # I: who waits for one connection to leave
        self._emptied = ParkingLot()  # I: who waits for the last one to leave
        self._arrivals_of_writers = ParkingLot()  # I: who waits for somebody to write
        self._awaited: dict[int, trio.Event] = {}  # S: numbers of connections that somebody waits for
        self._is_over = False  # S: nobody will come any more
        self._history = History()  # I; its content S

    def __len__(self) -> int:
        return len(self._work)

    def __iter__(self) -> Iterator[Connection]:
        return iter(tuple(self._work))

    # -- coming and going

    def add(self, connection: Connection, work: Work) -> None:
        """Own `connection`, which `work` will serve, from here on."""
        self._work[connection] = work
        self._accepted += 1
        connection.on_state = self._on_state
        connection.tell_waits_to_write(partial(self._on_wait_to_write, connection))
        self._note_count()

    def taken(self, connection: Connection) -> None:
        """A worker has taken `connection`: from now on it can be asked to leave."""
        if connection.state is State.NEW:
            self._new[connection] = None
            if self._changes:
                self._changes.unpark_all()

    def remove(self, connection: Connection) -> None:
        """`connection` is closed: account for it and forget it. Idempotent."""
        if self._work.pop(connection, None) is None:
            return
        connection.on_state = None
        connection.tell_waits_to_write(None)
        self._leave(connection)
        if connection is self._leaving:
            self._leaving = None
        self._reasons[connection.reason or "unknown"] += 1
        self._answered += connection.answered
        self._cut += connection.cut
        self._history.note(connection, trio.current_time())
        self._note_count()
        if self._changes:  # asking costs less than waking nobody
            self._changes.unpark_all()
        if self._departures:
            self._departures.unpark_all()
        if not self._work:
            self._emptied.unpark_all()

    def _on_state(self, connection: Connection, previous: State) -> None:
        if connection is self._leaving:
            self._has_decided()
        if previous is State.IDLE:
            self._idle.pop(connection, None)
        elif previous is State.NEW:
            self._new.pop(connection, None)
        state = connection.state
        if state is State.IDLE:
            self._idle[connection] = None
            if self._changes:
                self._changes.unpark_all()

    def _on_wait_to_write(self, connection: Connection, is_waiting: bool) -> None:
        if not is_waiting:
            self._writing.discard(connection)
            return
        self._writing.add(connection)
        if self._arrivals_of_writers:
            self._arrivals_of_writers.unpark_all()

    def _leave(self, connection: Connection) -> None:
        self._idle.pop(connection, None)
        self._new.pop(connection, None)
        self._writing.discard(connection)

    def _has_decided(self) -> None:
        """Whoever was asked to make room leaves, or has turned out to have a request."""
        self._leaving = None
        self._changes.unpark_all()

    # -- room

    def may_leave(self) -> int:
        """How many connections may be asked to make room: the idle ones, and the new ones if silent too long.

        None while one that was asked has not left yet: nobody leaves for a place that is about to be free.
        """
        if self._leaving is not None:
            return 0
        silent = next(iter(self._new), None)
        has_silent = silent is not None and silent.opened + SILENT_TOO_LONG <= trio.current_time()
        return len(self._idle) + has_silent

    def make_room(self) -> None:
        """Ask the longest-idle connection to leave, or if none is idle the one that has said nothing for longest.

        One with bytes waiting for it stays, because its next request has come in time; so ask `verdict` again after
        `wait_change`.
        """
        for line in (self._idle, self._new):
            if line:
                self._leaving, _ = line.popitem(last=False)  # asked once; if it stays, it is at work
                self._leaving.ask_to_leave("made-room")
                return

    async def wait_change(self) -> None:
        """Wait until a connection has left, become idle or been silent too long: until there may be room."""
        silent = next(iter(self._new), None) if self._leaving is None else None
        with trio.move_on_at(math.inf if silent is None else silent.opened + SILENT_TOO_LONG):
            await self._changes.park()

    async def wait_departure(self) -> None:
        """Wait until a connection has left: until a descriptor is free."""
        await self._departures.park()

    async def wait_empty(self) -> None:
        """Wait until no connection is left; a checkpoint."""
        if self._work:
            await self._emptied.park()
        else:
            await trio.lowlevel.checkpoint()

    # -- numbers

    def _note_count(self) -> None:
        """One more or one less: whoever waits for this number has seen it, whatever comes before it runs."""
        if self._awaited:
            reached = self._awaited.pop(len(self._work), None)
            if reached is not None:
                reached.set()

    async def wait_for_count(self, count: int) -> bool:
        """Wait until `count` connections are open, now or at some moment from now on; a checkpoint.

        False: it is over, and that has not been.
        """
        is_reached = count == len(self._work)
        if is_reached or self._is_over:
            await trio.lowlevel.checkpoint()
            return is_reached
        reached = self._awaited.setdefault(count, trio.Event())
        try:
            await reached.wait()
        except trio.Cancelled:
            if self._awaited.get(count) is reached and not reached.statistics().tasks_waiting:
                del self._awaited[count]  # nobody else waits for it
            raise
        return self._awaited.get(count) is not reached

    def close(self) -> None:
        """Nobody will come any more: whoever still waits for a number of connections waits in vain."""
        self._is_over = True
        for awaited in self._awaited.values():
            awaited.set()

    def connections(self, at_most: int | None) -> tuple[ConnectionStatistics, ...]:
        """The open connections in order of acceptance, the first `at_most` of them; then the last that closed."""
        if not self._work:  # and perhaps no clock, because the run is over
            return tuple(self._history)
        return (*look_at(self._work, trio.current_time(), at_most), *self._history)

    # -- slow readers

    @enable_ki_protection
    async def note_progress(self, interval: float) -> None:
        """While anybody writes, see every `interval` seconds what the slow readers have taken; runs until cancelled."""
        while True:
            if not self._writing:
                await self._arrivals_of_writers.park()
            await trio.sleep(interval)
            for number, connection in enumerate(tuple(self._writing), 1):
                connection.note_progress(trio.current_time())
                await _turn(number)

    # -- the end

    async def tell_draining(self) -> None:
        """Ask every quiet connection to leave; those at work, and those that fall quiet now, see `draining` anyway."""
        for number, connection in enumerate([*self._idle, *self._new], 1):
            if connection.is_quiet:
                connection.ask_to_leave("draining")
            await _turn(number)

    async def cancel_all(self, reason: str, *, is_cut: bool) -> None:
        """End every connection: one that no worker has taken yet is discarded, the others are interrupted.

        With `is_cut` each one that owes an answer counts as cut.
        """
        for number, (connection, work) in enumerate(list(self._work.items()), 1):
            if connection not in self._work:  # it has ended meanwhile
                continue
            owes = connection.owes_answer or connection.state is State.QUEUED
            connection.cut = connection.cut or (is_cut and owes)
            connection.end(reason)
            if not work.cancel() and not work.interrupt(reason):  # nobody runs it, and nobody will
                connection.close()
                self.remove(connection)
            await _turn(number)

    def abort_all(self) -> None:
        """Close the sockets of whoever is still there, so that no peer outlives the server; log each by name."""
        for connection in self:
            log.warning("closing the socket of %r: its handler did not end in time", connection)
            connection.abort()

    def statistics(self) -> RosterStatistics:
        """The counts of this moment."""
        return RosterStatistics(
            open=len(self._work),
            quiet=len(self._idle) + len(self._new),
            busy=sum(connection.state in BUSY for connection in self._work),
            owing=sum(connection.owes_answer for connection in self._work),
            accepted=self._accepted,
            answered=self._answered + sum(connection.answered for connection in self._work),
            cut=self._cut + sum(connection.cut for connection in self._work),
            reasons=dict(self._reasons),
        )

    def __repr__(self) -> str:
        return f"<Roster open={len(self._work)} quiet={len(self._idle) + len(self._new)} writing={len(self._writing)}>"
