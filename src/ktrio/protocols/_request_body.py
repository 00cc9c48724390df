"""Reading one request's body, within its limit and its deadline: what `Request.body` is.

Nothing is read before it is asked for, so a peer that sends faster than the handler works is held up by its own socket.
A piece is taken from the buffer only after the last checkpoint: a read that is cancelled has lost nothing.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Final, final

import trio

from ktrio.http.h1 import BodyEvent, Exchange
from ktrio.http.policy import Limits, check_body_bytes
from ktrio.net.connection import RECEIVE_BYTES, Connection, State
from ktrio.net.deadlines import Allowance, Phase

# Pieces of a body worked through in one turn of the loop; each costs some 20 microseconds of parsing.
PIECES_A_TURN: Final = 32

# Bytes of chunk framing looked at in one go: 2 KiB of the smallest chunks take some 2 ms to follow. The data of a chunk
# that has begun costs nothing to follow, however much there is.
CHUNKED_SLICE: Final = 2048

# Bytes of one piece at most; what a receive takes.
LONGEST_PIECE: Final = RECEIVE_BYTES


@final
class IncomingBody:
    """A `ktrio.http.messages.RequestBody`: that of one exchange; `rest` is what has come behind its head.

    Legend: I set once · T only by the task that reads.
    """

    __slots__ = (
        "_allowance",
        "_connection",
        "_data",
        "_declared",
        "_exceeded",
        "_exchange",
        "_is_begun",
        "_is_chunked",
        "_is_over",
        "_is_reading",
        "_is_streamed",
        "_last_bytes",
        "_limits",
        "_pieces",
        "_read_so_far",
        "_received",
        "_rest",
        "_rest_at",
    )

    def __init__(
        self, connection: Connection, exchange: Exchange, limits: Limits, rest: bytes, *, is_chunked: bool
    ) -> None:
        self._connection = connection  # I
        self._exchange = exchange  # I
        self._limits = limits  # I
        self._is_chunked = is_chunked  # I
        self._rest = rest  # T: what has come; the exchange has got it up to `_rest_at`
        self._rest_at = 0  # T
        self._declared = exchange.body_unreceived or 0  # I: by the head; 0: it does not say
        if not is_chunked:
            self._feed()
        self._allowance: Allowance | None = None  # T: made when there is a wait
        self._data: bytes | None = None  # T: the whole body, once read
        # T: what has come of it; kept here, so that a read that was given up can be taken up again.
        self._read_so_far = bytearray()
        self._received = 0  # T: bytes of the body handed out or kept so far
        self._exceeded: int | None = None  # T: the limit that what has come was found to be over
        self._pieces = 0  # T: pieces it came in
        self._last_bytes = 0  # T: bytes of the last receive, which the next wait is credited with
        self._is_begun = False  # T: the client was asked to go on
        self._is_reading = False  # T
        self._is_over = False  # T: the request is
        self._is_streamed = False  # T: a piece was handed out by itself

    async def read(self, *, max_bytes: int | None = None) -> bytes:
        """See `RequestBody.read`."""
        if self._data is not None:
            await trio.lowlevel.checkpoint()
            return self._data
        if self._is_streamed:
            raise RuntimeError("part of this body was taken by `async for`: take the rest the same way")
        most = self._limits.body_bytes if max_bytes is None else min(max_bytes, self._limits.body_bytes)
        with self._reading():
            self._check_length(most)
            await trio.lowlevel.checkpoint()
            self._data = await self._read_all(most)
        return self._data

    def __aiter__(self) -> IncomingBody:
        """See `RequestBody.__aiter__`."""
        return self

    async def __anext__(self) -> bytes:
        """The next piece."""
        if self._data is not None:
            await trio.lowlevel.checkpoint()
            return self._take_as_one_piece(self._data)
        with self._reading():
            self._check_length(self._limits.body_bytes)
            await trio.lowlevel.checkpoint()
            if self._read_so_far:  # a `read` was given up half way
                piece: bytes | None = bytes(self._read_so_far[:LONGEST_PIECE])
                del self._read_so_far[:LONGEST_PIECE]
            else:
                piece = await self._next_counted(self._limits.body_bytes)
            if piece is None:
                raise StopAsyncIteration
            self._is_streamed = True
            return piece

    def _take_as_one_piece(self, data: bytes) -> bytes:
        if self._is_streamed or not data:
            raise StopAsyncIteration
        self._is_streamed = True
        return data

    @contextmanager
    def _reading(self) -> Generator[None]:
        """One task at a time."""
        self._check_over()
        if self._is_reading:
            raise trio.BusyResourceError("another task is reading the body of this request")
        self._is_reading = True
        try:
            yield
        finally:
            self._is_reading = False

    def _check_length(self, most: int) -> None:
        """Is it too long by its head or by what has come? Asked before the checkpoint: no answer has begun then."""
        if self._exceeded is not None:  # a piece went with that, so the body cannot be had whole any more
            most = min(most, self._exceeded)
        check_body_bytes(max(self._declared, self._received), most)

    async def _read_all(self, most: int) -> bytes:
        while (data := await self._next_counted(most)) is not None:
            self._read_so_far += data
        whole = bytes(self._read_so_far)
        self._read_so_far.clear()
        return whole

    async def _next_counted(self, most: int) -> bytes | None:
        """The next piece, within `most` bytes in all; None at the end."""
        if not self._is_begun:
            self._is_begun = True
            if self._is_chunked and self._rest_at < len(self._rest):
                self._feed()  # it has begun to come: nobody waits for an invitation
            await self._invite()
        data = await self._next_bytes()
        if data is not None:
            self._received += len(data)
            if self._received > most:
                self._exceeded = most
            check_body_bytes(self._received, most)
        return data

    def finish(self) -> bool:
        """The request is over, and nobody reads its body any more; True: somebody is still at it."""
        self._is_over = True
        return self._is_reading

    def _check_over(self) -> None:
        if self._is_over and self._data is None:
            raise RuntimeError("this request is over: its body can be read until its response has been sent")

    async def _invite(self) -> None:
        """Ask a client to go on that waits for that. Sent at once: what a cancelled wait had lost, it would miss."""
        invitation = self._exchange.send_continue()
        sent = self._connection.send_nowait(invitation) if invitation else 0
        if sent < len(invitation):
            await self._connection.send_all(invitation[sent:])

    async def drop(self) -> bool:
        """Read on and drop, at most `Limits.drain_bytes`, to keep the connection; was that the body's end?"""
        dropped = 0
        while dropped <= self._limits.drain_bytes:
            data = await self._next_bytes()
            if data is None:
                return True
            dropped += len(data)
        return False

    async def _next_bytes(self) -> bytes | None:
        """The next piece of the body, None at its end. Tiny chunks must not hold the loop: every so many, a turn."""
        while True:
            self._pieces += 1
            if self._pieces % PIECES_A_TURN == 0:
                self._connection.deadlines.settle()
                await trio.lowlevel.checkpoint()  # before a piece is taken: cancelled here, none is lost
            event = self._exchange.next_body()
            if event is BodyEvent.END:
                return None
            if event is not BodyEvent.NEED_DATA:
                return event
            if self._rest_at < len(self._rest):
                self._feed()
            else:
                await self._receive()

    def _feed(self) -> None:
        """Give the exchange what it can work through in one go."""
        at = self._rest_at
        end = at + max(CHUNKED_SLICE, self._exchange.chunk_unreceived) if self._is_chunked else len(self._rest)
        data = self._rest[at:end]
        self._rest_at += len(data)
        self._exchange.receive_data(data)

    def take_leftover(self) -> bytes:
        """What came behind the body: the beginning of the next head."""
        rest, self._rest = self._rest[self._rest_at :], b""
        self._rest_at = 0
        return self._exchange.take_leftover() + rest

    async def _receive(self) -> None:
        """Wait for more bytes, within the allowance; expired, it ends the connection's scope."""
        connection, timeouts = self._connection, self._connection.timeouts
        if self._allowance is None:
            self._allowance = Allowance(timeouts.body, timeouts.lowest_rate)
        allowance = self._allowance
        before = connection.state
        connection.become(State.BODY)
        moved, self._last_bytes = self._last_bytes, 0
        try:
            data = await connection.receive(
                phase=Phase.BODY,
                until=allowance.start_wait(trio.current_time(), moved),
                on_readable=lambda: allowance.end_wait(trio.current_time(), 0),
            )
        finally:  # a handler that gives a wait up has waited all the same
            allowance.end_wait(trio.current_time(), 0)
            connection.deadlines.settle()  # the handler may wait for anything now
            connection.become(before)
        self._last_bytes = len(data)
        if data:
            self._rest, self._rest_at = data, 0
        else:
            self._exchange.receive_eof()


@final
class NoBody:
    """The `RequestBody` of a request that has none; stateless, so there is one for all."""

    __slots__ = ()

    async def read(self, *, max_bytes: int | None = None) -> bytes:
        """Nothing; a checkpoint."""
        await trio.lowlevel.checkpoint()
        return b""

    def __aiter__(self) -> NoBody:
        """Nothing."""
        return self

    async def __anext__(self) -> bytes:
        """The end; a checkpoint."""
        await trio.lowlevel.checkpoint()
        raise StopAsyncIteration

    def finish(self) -> bool:
        """Nobody is at it."""
        return False

    async def drop(self) -> bool:
        """There is nothing to drop."""
        return True

    def take_leftover(self) -> bytes:
        """Nothing was taken."""
        return b""


NO_BODY: Final = NoBody()
