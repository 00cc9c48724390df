"""What carries the bytes of one connection: a small interface, so that nothing above it needs to know a socket.

There are two: `SocketTransport` (`ktrio.net.socket_transport`), the fast one, and `StreamTransport`
(`ktrio.net.stream_transport`) over any `trio.abc.Stream`. Both behave like a kernel socket in non-blocking mode: what
has arrived and what still has to leave lie in buffers of bounded size, an operation does at once what it can, and
waiting is a separate step. So deadlines, parking, turns and progress are the same above both, and stand in
`ktrio.net.connection` and `ktrio.net._sender` once. `tests/net/test_transports.py` holds both to what is said here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol, final

import trio

from ktrio.net._slices import Data
from ktrio.net._telling import Told as Told
from ktrio.net.errors import ConnectionGone

DROP_BYTES: Final = 64 * 1024  # one read; what a socket buffer of default size holds


@final
class SendfileUnsupportedError(Exception):
    """The platform, the file or the transport does not do sendfile: read the file and send what was read instead."""


class Transport(Protocol):
    """The bytes of one connection, both ways. One task at a time receives, and one sends.

    Every method that reads, writes or waits raises `ktrio.net.errors.ConnectionGone` if the connection is lost or was
    closed on this side.
    """

    @property
    def is_closed(self) -> bool:
        """Was it closed on this side?"""
        ...

    def receive_nowait(self, max_bytes: int) -> bytes | None:
        """What is there now, at most `max_bytes`: bytes, ``b""`` after the peer's FIN, or `None` for nothing."""
        ...

    async def wait_readable(self) -> None:
        """Wait until `receive_nowait` has something to say. A checkpoint."""
        ...

    def send_nowait(self, buffers: Sequence[Data]) -> int | None:
        """Take what there is room for of these buffers, in order; how many bytes. `None`: there is no room at all."""
        ...

    def send_file_nowait(self, descriptor: int, offset: int, count: int) -> int | None:
        """The same with a piece of an open file; 0: the file ends before it.

        Raises:
          SendfileUnsupportedError: this way does not exist here; nothing was sent.
          OSError: the file cannot be read.
        """
        ...

    async def wait_writable(self) -> None:
        """Wait until `send_nowait` may have room, or an error to tell. A checkpoint."""
        ...

    def undelivered_bytes(self) -> int | None:
        """Bytes taken by a send and not delivered to the peer yet; `None`: nobody can tell."""
        ...

    def unflushed_bytes(self) -> int:
        """Bytes taken by a send that nobody delivers if this process ends: 0 where the kernel has them."""
        ...

    async def wait_flushed(self) -> None:
        """Wait until some of them have left, or all. A checkpoint."""
        ...

    def watch(self, on_half_close: Told, on_gone: Told) -> None:
        """From now until `unwatch`, tell once when the peer shuts down its side, and once when it is gone."""
        ...

    def unwatch(self) -> None:
        """Stop what `watch` began; nothing happens if it was not begun."""
        ...

    def shutdown_write(self) -> bool:
        """Send our FIN behind what was sent before; False: there is no such thing here. Never raises for a loss."""
        ...

    def close(self) -> None:
        """Close at once; what was sent before still goes out. Idempotent; whoever waits is woken."""
        ...

    def abort(self) -> None:
        """Close so that the peer knows that something is missing, and drop what was not delivered. Idempotent."""
        ...


async def drop_input(transport: Transport, most: int) -> int:
    """Read and drop what comes, until the peer's FIN or going, or until it is `most`; how many bytes. A checkpoint."""
    await trio.lowlevel.checkpoint()
    dropped = 0
    while dropped < most:
        try:
            await transport.wait_readable()
            data = transport.receive_nowait(DROP_BYTES)
        except ConnectionGone:
            break
        if data == b"":
            break
        dropped += len(data or b"")
    return dropped
