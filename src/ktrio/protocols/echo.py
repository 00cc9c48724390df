"""The echo protocol (RFC 862): every byte comes back, in order, whatever it is.

A peer that does not read is not read from either: at most one read's worth of bytes is in hand. A peer that shuts down
its side gets everything back before the connection is closed. When the server drains, the bytes in hand and those that
have arrived are echoed, and then the connection ends.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import final

import trio

from ktrio.net.connection import Connection, State
from ktrio.net.deadlines import Phase


@final
class Echo:
    """Echo on one connection; its idle timeout is `Timeouts.idle`, from accept on.

    Legend: I set once · T only by the connection's task.
    """

    __slots__ = ("_connection", "_rescued")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection  # I
        self._rescued: bytes | None = None  # T: what `rescue` found

    async def converse(self) -> None:
        """Echo until the peer's FIN or until the server drains."""
        connection = self._connection
        while True:
            is_last = connection.draining.is_set()
            data = await self._next_bytes(is_last=is_last)
            if data:
                await self._send_back(data)
            if not data or is_last:
                break
        connection.end("draining" if is_last and data != b"" else "peer-closed")
        connection.answered += 1
        if connection.on_outcome is not None:
            connection.on_outcome(None)
        if data:
            await connection.linger()  # the peer may be sending still, and a reset would destroy what it has not read

    async def _next_bytes(self, *, is_last: bool) -> bytes | None:
        """Bytes, ``b""`` after the peer's FIN; None if the server drains and there are none."""
        connection = self._connection
        rescued, self._rescued = self._rescued, None
        if rescued is not None:
            return rescued
        connection.deadlines.disarm(Phase.HEAD)  # armed at accept; echo knows no head
        if is_last:
            data = connection.receive_nowait()
            async with connection.waiting() if data else nullcontext():  # who has nothing to say needs no slot
                await trio.lowlevel.checkpoint()
            return data
        if connection.state is not State.NEW:
            connection.become(State.IDLE)
        until = trio.current_time() + connection.timeouts.idle
        data = await connection.receive(wait_first=True, phase=Phase.IDLE, until=until)
        if connection.deadlines.is_spent:  # the bytes came in the turn of expiry: go on in a fresh scope
            self._rescued = data
            await trio.lowlevel.checkpoint()
        return data

    async def _send_back(self, data: bytes) -> None:
        connection = self._connection
        connection.become(State.WRITING)
        connection.owes_answer = True
        await connection.send_all(data)
        await connection.flush()
        connection.owes_answer = False

    def rescue(self) -> bool:
        """Bytes (or a FIN) that came in the turn in which the wait for them ended are not lost."""
        connection = self._connection
        if self._rescued is None and (connection.is_quiet or connection.state is State.QUEUED):
            self._rescued = connection.receive_nowait()
        if self._rescued is None:
            return False
        connection.deadlines.disarm(Phase.IDLE)
        return True

    async def farewell(self) -> None:
        """Nothing is said to a peer that is silent. Whoever got all its bytes back has been served."""
        if self._connection.reason == "draining" and self._connection.bytes_received:
            self._connection.answered += 1
        await trio.lowlevel.checkpoint()
