"""Connections in memory: two streams that face each other, with a buffer of bounded size each way.

Trio's own (`trio.testing.memory_stream_pair`) take whatever is sent and cannot be reset, so nobody ever waits for a
peer that does not read, and nobody's peer ever breaks down. Here both happen, as with sockets: a sender waits when the
buffer is full; a stream that is reset, or closed forcefully (`trio.aclose_forcefully`), breaks the other end.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from contextlib import contextmanager
from operator import index
from typing import Final, final

import trio
from trio.lowlevel import ParkingLot

from ktrio.testing._clock import settle

BUFFER_BYTES: Final = 64 * 1024  # each way; about what a socket buffer holds


@final
class _Pipe:
    """One direction of a connection."""

    __slots__ = ("buffer", "capacity", "changed", "is_broken", "is_deaf", "is_finished")

    # I  set once · S  changed only in one synchronous stretch
    def __init__(self, capacity: int) -> None:
        self.capacity: Final = capacity  # I
        self.buffer = bytearray()  # S
        self.is_finished = False  # S: nothing will be sent any more
        self.is_broken = False  # S: the sender has reset the connection
        self.is_deaf = False  # S: the receiver is closed
        self.changed = ParkingLot()  # I: both ends wait here

    @property
    def room(self) -> int:
        return self.capacity - len(self.buffer)


@final
class MemoryStream(trio.abc.HalfCloseableStream):
    """One end of a connection in memory; made by `MemoryListener.connect` and `MemoryServer.connect`.

    A Trio stream with more: `receive_nowait`, `receive_until_blocked`, `send_nowait`, `close` and `reset`. Whoever does
    not receive holds the other end up once a buffer is full. What was received before a reset can still be taken.

    Legend: I set once · T only by the task that receives, or sends · S changed only in one synchronous stretch.
    """

    def __init__(self, incoming: _Pipe, outgoing: _Pipe, *, name: str, peer: str) -> None:
        self.name: Final = name  # I
        """This end as the other one calls it."""
        self.peer: Final = peer  # I
        """The other end, as printed in logs."""
        self._incoming: Final = incoming  # I; its content S
        self._outgoing: Final = outgoing  # I; its content S
        self._is_closed = False  # S
        self._receiving = False  # T
        self._sending = False  # T

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else self.ended or "open"
        return f"<MemoryStream {self.name} {state} unread={len(self._incoming.buffer)}>"

    # -- receiving

    @property
    def ended(self) -> str:
        """How the other end has ended what it sends: ``"fin"`` or ``"reset"``; ``""``: it has not, or not all is read.

        A stream that was closed at this end has not been ended by the other.
        """
        if self._is_closed or self._incoming.buffer:
            return ""
        return "reset" if self._incoming.is_broken else "fin" if self._incoming.is_finished else ""

    def receive_nowait(self, max_bytes: int | None = None) -> bytes | None:
        """What is there: bytes, ``b""`` after the other end's FIN, `None` for nothing. Raises as `receive_some`."""
        if self._is_closed:
            raise trio.ClosedResourceError("this stream was closed")
        pipe = self._incoming
        if pipe.buffer:
            data = bytes(pipe.buffer[:max_bytes])
            del pipe.buffer[: len(data)]
            pipe.changed.unpark_all()
            return data
        if pipe.is_broken:
            raise trio.BrokenResourceError("the other end has reset the connection")
        return b"" if pipe.is_finished else None

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Bytes, as soon as there are any; ``b""`` after the other end's FIN. See `trio.abc.ReceiveStream`."""
        if max_bytes is not None and index(max_bytes) < 1:
            raise ValueError(f"max_bytes must be at least 1, not {max_bytes}")
        with self._exclusively("_receiving"):
            await trio.lowlevel.checkpoint()
            while (data := self.receive_nowait(max_bytes)) is None:
                await self._incoming.changed.park()
            return data

    async def receive_until_blocked(self) -> bytes:
        """All that comes while everything runs that can and time stands still; ``b""`` if nothing does. A checkpoint.

        `ended` says whether that was all. Raises as `receive_some`, but a reset only if nothing came before it.
        """
        received = bytearray()
        while True:
            await settle()
            try:
                data = self.receive_nowait()
            except trio.BrokenResourceError:
                if not received:
                    raise
                data = None
            if not data:
                return bytes(received)
            received += data

    # -- sending

    def send_nowait(self, data: bytes | bytearray | memoryview) -> int:
        """Send as much as there is room for; how many bytes that was. Raises as `send_all`."""
        pipe = self._outgoing
        if self._is_closed or pipe.is_finished:
            raise trio.ClosedResourceError("this stream, or its sending half, was closed")
        if pipe.is_deaf or self._incoming.is_broken:
            raise trio.BrokenResourceError("the other end is gone")
        piece = memoryview(data)[: max(0, pipe.room)]
        if piece.nbytes:
            pipe.buffer += piece
            pipe.changed.unpark_all()
        return piece.nbytes

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of it, as the other end makes room. See `trio.abc.SendStream`."""
        with self._exclusively("_sending"):
            await trio.lowlevel.checkpoint()
            rest = memoryview(data)
            while (sent := self.send_nowait(rest)) < rest.nbytes:
                rest = rest[sent:]
                await self._wait_room()

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until there is room to send. See `trio.abc.SendStream`."""
        with self._exclusively("_sending"):
            await trio.lowlevel.checkpoint()
            await self._wait_room()

    async def _wait_room(self) -> None:
        self.send_nowait(b"")  # raises what there is to raise
        while self._outgoing.room <= 0:
            await self._outgoing.changed.park()
            self.send_nowait(b"")

    async def send_eof(self) -> None:
        """Shut down the sending half (FIN); again is no error. See `trio.abc.HalfCloseableStream`."""
        with self._exclusively("_sending"):
            if self._is_closed:
                raise trio.ClosedResourceError("this stream was closed")
            await trio.lowlevel.checkpoint()
            self.finish()

    def finish(self) -> None:
        """Shut down the sending half (FIN), at once; the plain function behind `send_eof`."""
        self._outgoing.is_finished = True
        self._outgoing.changed.unpark_all()

    # -- ending

    def close(self) -> None:
        """Close at once: the other end sees a FIN, and an error if it sends. Idempotent."""
        if self._is_closed:
            return
        self._is_closed = True
        self._incoming.is_deaf = True
        self._incoming.buffer.clear()
        self.finish()
        self._incoming.changed.unpark_all()

    def reset(self) -> None:
        """Close at once so that the other end sees a reset. Nothing happens if it is closed."""
        if not self._is_closed:
            self._outgoing.is_broken = True
            self.close()

    async def aclose(self) -> None:
        """`close`; cancelled, as `trio.aclose_forcefully` does it, it is a `reset`. A checkpoint."""
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled:
            self.reset()
            raise
        self.close()

    @contextmanager
    def _exclusively(self, flag: str) -> Generator[None]:
        if getattr(self, flag):
            raise trio.BusyResourceError(f"another task is using the {flag[1:]} half of this stream")
        setattr(self, flag, True)
        try:
            yield
        finally:
            setattr(self, flag, False)


def memory_connection(name: str, peer: str, buffer_bytes: int = BUFFER_BYTES) -> tuple[MemoryStream, MemoryStream]:
    """The two ends of a new connection: that of `name`, whose peer is `peer`, and that of `peer`."""
    one, other = _Pipe(buffer_bytes), _Pipe(buffer_bytes)
    return MemoryStream(one, other, name=name, peer=peer), MemoryStream(other, one, name=peer, peer=name)


@final
class MemoryListener(trio.abc.Listener[MemoryStream]):
    """A listener without a socket: `connect` gives one end of a new connection, and `accept` the other.

    Its peers are called ``memory:1``, ``memory:2`` and so on.

    Legend: I set once · S changed only in one synchronous stretch.
    """

    def __init__(self) -> None:
        self._put, self._get = trio.open_memory_channel[MemoryStream](math.inf)  # I
        self._count = 0  # S: connections made
        self._is_closed = False  # S

    def __repr__(self) -> str:
        return f"<MemoryListener {'closed' if self._is_closed else 'open'} connections={self._count}>"

    def connect(self, *, buffer_bytes: int = BUFFER_BYTES) -> MemoryStream:
        """A new connection, at once; it waits to be accepted. `buffer_bytes`: how much fits into it, each way.

        Raises:
          ConnectionRefusedError: the listener was closed.
          ValueError: `buffer_bytes` is below 1.
        """
        if buffer_bytes < 1:
            raise ValueError(f"buffer_bytes must be at least 1, not {buffer_bytes}")
        if self._is_closed:
            raise ConnectionRefusedError("nobody listens here any more")
        self._count += 1
        ours, theirs = memory_connection(f"memory:{self._count}", "memory", buffer_bytes)
        self._put.send_nowait(theirs)
        return ours

    async def accept(self) -> MemoryStream:
        """Wait for a connection. See `trio.abc.Listener`."""
        return await self._get.receive()

    async def aclose(self) -> None:
        """Close; connections that nobody has accepted are reset. Idempotent; a checkpoint."""
        self._is_closed = True
        while True:
            try:
                self._get.receive_nowait().reset()
            except (trio.WouldBlock, trio.ClosedResourceError):
                break
        self._get.close()
        await trio.lowlevel.checkpoint()
