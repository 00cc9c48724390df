"""From one connection, the heads of its requests, one after the other, each in time.

Before the first byte of a head the connection is quiet (`State.NEW` or `State.IDLE`), and `Phase.HEAD` runs from accept
or `Phase.IDLE` from the last response. From its first byte on the connection is in `State.HEAD`, and `Phase.HEAD`
bounds the whole head: no later byte renews it.

Bytes may come in the very turn of the loop in which the wait for them expires, or in which the connection is asked to
leave. Its scope has been cancelled then; so the reader keeps the bytes (`rescue`), and goes on when it is called again
in a fresh scope.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import final

import trio

from ktrio.http.errors import BadRequest, HttpError
from ktrio.http.policy import Limits, find_head_end, wants_head_only
from ktrio.net.connection import Connection, State
from ktrio.net.deadlines import Phase


@final
class HeadReader:
    """Reads whole heads; what came behind one is handed out by `take_rest` and comes back by `give_back`.

    Legend: I set once · T only by the connection's task.
    """

    __slots__ = ("_buffer", "_connection", "_late_at", "_limits", "_looked", "_rescued", "_scanned", "began")

    def __init__(self, connection: Connection, limits: Limits) -> None:
        self._connection = connection  # I
        self._limits = limits  # I
        self.began = connection.opened  # T: when the first byte of the last or present head came
        self._buffer = bytearray()  # T: received, not yet part of a request
        self._scanned = 0  # T: bytes of the buffer known to hold no whole head
        self._rescued: bytes | None = None  # T: what `rescue`, an expired wait or one for a slot has kept
        self._looked = False  # T: for the first bytes, before any wait?
        self._late_at = connection.opened + connection.timeouts.head  # T: when the head in progress is late

    async def next_head(self) -> bytes | None:
        """The bytes of the next whole head; None if the connection is done: a FIN, or nothing came before draining.

        Raises:
          HttpError: no head can come of these bytes, or the peer has gone within one.
          ConnectionGone: the peer has reset the connection.
        """
        while True:
            if self._buffer:
                end = find_head_end(self._buffer, self._limits, self._scanned)
                if end is not None:
                    head = bytes(self._buffer[:end])
                    del self._buffer[:end]
                    self._scanned = 0
                    return head
                self._scanned = len(self._buffer)
                self._begin()
            data = await self._receive()
            if not data:
                if data is not None and self._buffer:
                    raise BadRequest("The connection ended within the head of the request.")
                self._connection.end("draining" if data is None else "peer-closed")
                return None
            if not self._buffer:
                self.began = trio.current_time()
            self._buffer += data

    def _begin(self) -> None:
        """Part of a head is in: from now on the connection is not quiet."""
        connection = self._connection
        if connection.state is not State.HEAD:
            since = connection.opened if connection.state is State.NEW else self.began
            self._late_at = since + connection.timeouts.head
            connection.become(State.HEAD)

    async def _receive(self) -> bytes | None:
        """Bytes, ``b""`` after the peer's FIN; None if the server drains and nothing of a head has come."""
        connection = self._connection
        rescued, self._rescued = self._rescued, None
        if rescued is not None:
            return rescued
        phase, until = Phase.HEAD, self._late_at
        if connection.state is not State.HEAD:
            if connection.draining.is_set():
                data = connection.receive_nowait()
                async with connection.waiting() if data else nullcontext():  # who has nothing to say needs no slot
                    await trio.lowlevel.checkpoint()
                return data
            if not self._looked:
                # Most clients have sent their request by the time that somebody looks. Asking the kernel whether it is
                # there costs a tenth of waiting until it is: two system calls and a turn of the loop.
                self._looked = True
                data = connection.receive_nowait()
                if data:
                    await self._take_slot(data)
                if data is not None:
                    return await self._keep_if_spent(data)
            if connection.state is not State.NEW:
                phase, until = Phase.IDLE, trio.current_time() + connection.timeouts.idle
                connection.become(State.IDLE)
        data = await connection.receive(wait_first=True, phase=phase, until=until)
        return await self._keep_if_spent(data)

    async def _take_slot(self, data: bytes) -> None:
        """The first bytes are in hand before the item holds a slot; until it does, they are still to be rescued."""
        self._rescued = data
        self._connection.deadlines.release(Phase.HEAD)  # the wait for a slot is none of the peer's doing
        async with self._connection.waiting():
            pass
        self._rescued = None

    async def _keep_if_spent(self, data: bytes) -> bytes:
        """`data`, unless the scope was cancelled in the very turn in which it came: then `rescue` decides."""
        if self._connection.deadlines.is_spent:
            self._rescued = data
            await trio.lowlevel.checkpoint()  # out of the spent scope
        return data

    def rescue(self) -> bool:
        """The scope has ended: was this a wait for a head, and has what came made it worth going on?

        A head that is late is kept only if it is complete now; of one that has not begun, any byte counts.
        """
        connection = self._connection
        if self._rescued is None and (connection.is_quiet or connection.state in (State.QUEUED, State.HEAD)):
            self._rescued = connection.receive_nowait()
        if self._rescued is None:
            return False
        is_late = connection.deadlines.expired(trio.current_time()) is Phase.HEAD
        if is_late and not self._is_complete_with(self._rescued):
            self._buffer += self._rescued
            self._rescued = None
            return False
        connection.deadlines.disarm(Phase.HEAD)
        connection.deadlines.disarm(Phase.IDLE)
        return True

    def _is_complete_with(self, data: bytes) -> bool:
        try:
            return find_head_end(self._buffer + data, self._limits, self._scanned) is not None
        except HttpError:
            return True  # there is something to answer

    def take_unread(self) -> bool:
        """Was a request waiting for its slot? Then look at it, so that it can be refused by name."""
        if self._connection.state is not State.QUEUED:
            return False
        rescued, self._rescued = self._rescued, None
        self._buffer += rescued or self._connection.receive_nowait() or b""
        return bool(self._buffer)

    @property
    def has_begun(self) -> bool:
        """Are there bytes of a head, or of what was meant to be one?"""
        return bool(self._buffer)

    @property
    def wants_head_only(self) -> bool:
        """Do the bytes that are no whole head begin as a HEAD request?"""
        return wants_head_only(self._buffer)

    def take_rest(self) -> bytes:
        """What has come behind the last head: its body, or the next head."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest

    def give_back(self, data: bytes) -> None:
        """`data` is the beginning of the next head after all; what is there of that begins now, not when it came.

        A client may send ahead of its answers, and nobody can read it while a handler works.
        """
        if data:
            self._buffer[:0] = data
        if self._buffer:
            self.began = trio.current_time()
