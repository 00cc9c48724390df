"""The other transport: any `trio.abc.Stream`, made to behave like a non-blocking socket.

A stream only knows how to wait: it cannot be asked what is there now, nor whether its peer has gone while nobody reads.
So each stream has a *carrier*, a pair of tasks that do the waiting. One reads ahead, at most `READ_AHEAD` bytes; the
other sends what was put into a buffer of at most `SEND_BUFFER` bytes. Between those buffers and the connection nothing
waits, as with a kernel socket. The carrier owns the stream, and is the only one who touches it, from accept to close.

The nursery of a server's carriers is `ktrio.net.carriers`. When the server is cancelled, so are the connections, and
they may still have last words; therefore a carrier is shielded, and from the cancellation on the shield has a deadline
(`PATIENCE` there). After `close` it has `CLOSE_WITHIN` seconds for what is in the buffer and for the stream's own
goodbye; a peer that does not take them is dropped.

Whatever another's stream raises ends its own connection only: a `trio.BrokenResourceError` is a peer that is gone,
anything else is logged with the stream's name (a barrier). Only Ctrl-C and the like go on, out of the server.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final, cast, final

import trio
from trio.lowlevel import ParkingLot, enable_ki_protection

from ktrio.net._foreign import barrier, foreign
from ktrio.net._slices import Data
from ktrio.net.errors import ConnectionGone
from ktrio.net.transport import SendfileUnsupportedError, Told

READ_AHEAD: Final = 64 * 1024  # bytes; what a socket buffer of default size holds
SEND_BUFFER: Final = 64 * 1024  # bytes; the same
# Bytes given to the stream at once. What a stream has taken of them nobody knows before it has taken all, and at the
# lowest rate of progress (240 B/s) these take 17 s, less than a write timeout.
SEND_SLICE: Final = 4096
CLOSE_WITHIN: Final = 1.0  # seconds for a stream's own goodbye, as for a connection's last words

_log = logging.getLogger(__name__)


@final
class StreamTransport:
    """A `ktrio.net.transport.Transport` over a stream; made by `Carriers.carry` only.

    Legend: I set once · T only by the carrier · S changed only in one synchronous stretch.
    """

    __slots__ = (
        "_aborted",
        "_closed",
        "_eof",
        "_fin_wanted",
        "_flushed",
        "_in_flight",
        "_lost",
        "_on_close",
        "_on_gone",
        "_on_half_close",
        "_readable",
        "_received",
        "_room_to_read",
        "_scope",
        "_stream",
        "_to_send",
        "_work",
        "_writable",
    )

    def __init__(self, stream: trio.abc.Stream, on_close: Told) -> None:
        self._stream: Final = stream  # I
        self._on_close: Final = on_close  # I: told once, when it is closed and its carrier has yet to end
        self._received = bytearray()  # S: read ahead
        self._eof = False  # S: the peer has shut down its side
        self._to_send = bytearray()  # S: put in by the connection, taken out by the carrier
        self._in_flight = 0  # T: bytes that the stream is being given right now
        self._fin_wanted = False  # S
        self._closed = False  # S
        self._aborted = False  # S
        self._lost = False  # S: the stream is broken
        self._on_half_close: Told | None = None  # S: while watched
        self._on_gone: Told | None = None  # S: while watched
        self._readable = ParkingLot()  # I: the connection waits for bytes
        self._writable = ParkingLot()  # I: the connection waits for room
        self._flushed = ParkingLot()  # I: the connection waits until something has left
        self._room_to_read = ParkingLot()  # I: the carrier waits for room to read into
        self._work = ParkingLot()  # I: the carrier waits for something to send, or for the end
        self._scope = trio.CancelScope(shield=True)  # I: around the carrier; its deadline S

    def __repr__(self) -> str:
        state = "closed" if self._closed else "lost" if self._lost else "open"
        return f"<StreamTransport {state} over {self._stream!r}>"

    # -- for the connection

    @property
    def is_closed(self) -> bool:
        """See `Transport.is_closed`."""
        return self._closed

    @property
    def was_heard(self) -> bool:
        """Has its peer sent anything that was not received yet, or its end?"""
        return bool(self._received) or self._eof

    def receive_nowait(self, max_bytes: int) -> bytes | None:
        """See `Transport.receive_nowait`."""
        if self._closed:
            raise ConnectionGone("EBADF")
        if self._received:
            data = bytes(self._received[:max_bytes])
            del self._received[:max_bytes]
            self._room_to_read.unpark_all()
            return data
        if self._eof:
            return b""
        if self._lost:
            raise ConnectionGone("ECONNRESET")
        return None

    async def wait_readable(self) -> None:
        """See `Transport.wait_readable`."""
        await trio.lowlevel.checkpoint()
        while not (self._received or self._eof or self._lost or self._closed):
            if self._readable:
                raise trio.BusyResourceError("another task waits for this connection to be readable")
            await self._readable.park()
        if self._closed:
            raise ConnectionGone("EBADF")

    def send_nowait(self, buffers: Sequence[Data]) -> int | None:
        """See `Transport.send_nowait`."""
        self._check_sendable()
        room = SEND_BUFFER - len(self._to_send)
        if room <= 0:
            return None
        taken = 0
        for buffer in buffers:
            piece = memoryview(buffer).cast("B")[: room - taken]
            self._to_send += piece
            taken += piece.nbytes
        self._work.unpark_all()
        return taken

    def send_file_nowait(self, descriptor: int, offset: int, count: int) -> int | None:
        """See `Transport.send_file_nowait`: a stream takes bytes, not files."""
        raise SendfileUnsupportedError

    async def wait_writable(self) -> None:
        """See `Transport.wait_writable`."""
        await trio.lowlevel.checkpoint()
        while len(self._to_send) >= SEND_BUFFER and not (self._lost or self._closed):
            if self._writable:
                raise trio.BusyResourceError("another task waits for this connection to be writable")
            await self._writable.park()
        self._check_sendable()

    def undelivered_bytes(self) -> int | None:
        """See `Transport.undelivered_bytes`: what the stream has taken counts as delivered."""
        return None if self._closed else len(self._to_send) + self._in_flight

    def unflushed_bytes(self) -> int:
        """See `Transport.unflushed_bytes`."""
        return 0 if self._closed or self._lost else len(self._to_send) + self._in_flight

    async def wait_flushed(self) -> None:
        """See `Transport.wait_flushed`."""
        await trio.lowlevel.checkpoint()
        before = self.unflushed_bytes()
        while before and self.unflushed_bytes() >= before:
            await self._flushed.park()
        self._check_usable()

    def watch(self, on_half_close: Told, on_gone: Told) -> None:
        """See `Transport.watch`. What has happened before is told at once."""
        if self._closed:
            return
        self._on_half_close, self._on_gone = on_half_close, on_gone
        if self._lost:
            self._tell_gone()
        elif self._eof:
            self._tell_half_close()

    def unwatch(self) -> None:
        """See `Transport.unwatch`."""
        self._on_half_close = self._on_gone = None

    def shutdown_write(self) -> bool:
        """See `Transport.shutdown_write`."""
        if not isinstance(self._stream, trio.abc.HalfCloseableStream):
            return False
        if not self._closed:
            self._fin_wanted = True
            self._work.unpark_all()
        return True

    def close(self) -> None:
        """See `Transport.close`; the carrier has `CLOSE_WITHIN` seconds for the rest."""
        self._close(within=CLOSE_WITHIN)

    def abort(self) -> None:
        """See `Transport.abort`: the stream is closed forcefully."""
        self._aborted = self._aborted or not self._closed
        self._close(within=0)

    def limit(self, until: float) -> None:
        """Let the carrier end by the absolute time `until`, whatever it is about."""
        self._scope.deadline = min(self._scope.deadline, until)

    def _close(self, *, within: float) -> None:
        if self._closed:
            return
        self._closed = True
        self._on_close()
        self.unwatch()
        self.limit(trio.current_time() + (0 if self._lost else within))
        for waiting in (self._readable, self._writable, self._flushed, self._room_to_read, self._work):
            waiting.unpark_all()

    def _check_sendable(self) -> None:
        self._check_usable()
        if self._fin_wanted:
            raise ConnectionGone("EPIPE")

    def _check_usable(self) -> None:
        if self._closed:
            raise ConnectionGone("EBADF")
        if self._lost:
            raise ConnectionGone("EPIPE")

    # -- the carrier

    @enable_ki_protection
    async def carry(self) -> None:
        """Carry bytes until the connection is closed, then close the stream; run by `Carriers`."""
        try:
            with barrier(self._lose), self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._read_ahead)
                    await self._write_out()
                    nursery.cancel_scope.cancel(reason="the connection was closed")
        finally:
            self.close()  # in case the patience was up, or it raised: whoever still uses the connection learns of it
            await self._close_stream()

    @enable_ki_protection
    async def _read_ahead(self) -> None:
        while not (self._eof or self._lost or self._closed):
            room = READ_AHEAD - len(self._received)
            if room <= 0:
                await self._room_to_read.park()
                continue
            try:
                data = cast("object", await foreign(self._stream.receive_some, room))
                if not isinstance(data, bytes | bytearray | memoryview):
                    raise TypeError(f"receive_some must return bytes, not {type(data).__name__}")
            except Exception as error:
                self._lose(error)
                return
            if data:
                self._received += data
            else:
                self._eof = True
                self._tell_half_close()
            self._readable.unpark_all()

    async def _write_out(self) -> None:
        """Send what is put into the buffer, and the FIN behind it, until closed and empty or until lost and closed."""
        fin_sent = False
        while True:
            if self._to_send and not self._lost:
                await self._send_slice()
            elif self._fin_wanted and not fin_sent and not self._lost:
                fin_sent = True
                await self._send_eof()
            elif self._closed:
                return
            else:
                await self._work.park()

    async def _send_slice(self) -> None:
        piece = bytes(self._to_send[:SEND_SLICE])
        del self._to_send[:SEND_SLICE]
        self._in_flight = len(piece)
        self._writable.unpark_all()
        try:
            await foreign(self._stream.send_all, piece)
        except Exception as error:
            self._lose(error)
        self._in_flight = 0
        self._flushed.unpark_all()

    async def _send_eof(self) -> None:
        assert isinstance(self._stream, trio.abc.HalfCloseableStream)
        try:
            await foreign(self._stream.send_eof)
        except Exception as error:
            self._lose(error)

    def _lose(self, error: Exception) -> None:
        """The stream is of no more use. Barrier: what another's stream raises costs its own connection."""
        if self._lost:
            return
        if not isinstance(error, trio.BrokenResourceError):
            _log.error("the stream %r raised", self._stream, exc_info=error)
        self._lost = True
        if self._closed:  # nothing to wait for, least of all another task's attempt at the same TLS handshake
            self.limit(trio.current_time())
        self._to_send.clear()
        self._readable.unpark_all()
        self._writable.unpark_all()
        self._flushed.unpark_all()
        self._tell_gone()

    def _tell_half_close(self) -> None:
        told, self._on_half_close = self._on_half_close, None
        if told is not None:
            told()

    def _tell_gone(self) -> None:
        told = self._on_gone
        self.unwatch()
        if told is not None:
            told()

    async def _close_stream(self) -> None:
        """The stream's own goodbye, or none; `aclose` closes even when it is cancelled (trio.abc.AsyncResource)."""
        with barrier(self._report_close):
            if self._aborted or self._lost or self._scope.cancelled_caught:
                await foreign(trio.aclose_forcefully, self._stream)
            else:
                # What is left of the time for the rest of the bytes, so that both end within `CLOSE_WITHIN`.
                with trio.CancelScope(deadline=self._scope.deadline, shield=True):
                    await foreign(self._stream.aclose)

    def _report_close(self, error: Exception) -> None:
        if not isinstance(error, trio.BrokenResourceError):
            _log.error("closing the stream %r failed", self._stream, exc_info=error)
