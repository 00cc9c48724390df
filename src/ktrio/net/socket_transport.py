"""The fast transport: a raw non-blocking stream socket, its waiting done by `ktrio.net.readiness`."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Sequence
from typing import Final, NoReturn, final

import trio

from ktrio.net._delivery import undelivered_bytes
from ktrio.net._files import SENDFILE_UNSUPPORTED
from ktrio.net._slices import Data
from ktrio.net.errors import ConnectionGone, is_connection_lost, translate
from ktrio.net.readiness import Readiness
from ktrio.net.transport import SendfileUnsupportedError, Told


@final
class SocketTransport:
    """A `ktrio.net.transport.Transport` over a connected, stream, non-blocking socket, which it owns from here on."""

    __slots__ = ("_is_shut", "_registration", "_reset", "_sock")

    # I  set once · S  changed only in one synchronous stretch
    def __init__(self, sock: socket.socket, readiness: Readiness) -> None:
        self._sock: Final = sock  # I
        self._registration: Final = readiness.register(sock)  # I; its content S
        self._is_shut = False  # S: was our side shut down?
        self._reset = False  # S: has a send been told that the peer is lost?

    def __repr__(self) -> str:
        return f"<SocketTransport {'closed' if self.is_closed else self._sock.fileno()}>"

    @property
    def is_closed(self) -> bool:
        """See `Transport.is_closed`."""
        return self._sock.fileno() < 0

    def receive_nowait(self, max_bytes: int) -> bytes | None:
        """See `Transport.receive_nowait`."""
        try:
            data = self._sock.recv(max_bytes)
        except BlockingIOError:
            self._registration.note_read(max_bytes, 0)
            return None
        except OSError as error:
            translate(error, self._sock)
        self._registration.note_read(max_bytes, len(data))
        if not data and self._reset:
            raise ConnectionGone("ECONNRESET")
        return data

    async def wait_readable(self) -> None:
        """See `Transport.wait_readable`."""
        try:
            await self._registration.wait_readable()
        except trio.ClosedResourceError as error:
            raise ConnectionGone("EBADF") from error

    def send_nowait(self, buffers: Sequence[Data]) -> int | None:
        """See `Transport.send_nowait`."""
        try:
            return self._sock.send(buffers[0]) if len(buffers) == 1 else self._sock.sendmsg(buffers)
        except BlockingIOError:
            self._registration.note_refused()
            return None
        except OSError as error:
            self._fail_send(error)

    def send_file_nowait(self, descriptor: int, offset: int, count: int) -> int | None:
        """See `Transport.send_file_nowait`."""
        if not hasattr(os, "sendfile"):
            raise SendfileUnsupportedError
        try:
            return os.sendfile(self._sock.fileno(), descriptor, offset, count)
        except BlockingIOError:
            self._registration.note_refused()
            return None
        except OSError as error:
            if error.errno in SENDFILE_UNSUPPORTED:
                raise SendfileUnsupportedError from error
            self._fail_send(error)

    def _fail_send(self, error: OSError) -> NoReturn:
        # The kernel tells an error once, and then shows an end where the peer has sent none. EPIPE is no such error:
        # there was a FIN, the peer's or ours.
        self._reset = self._reset or (is_connection_lost(error) and error.errno != errno.EPIPE)
        translate(error, self._sock)

    async def wait_writable(self) -> None:
        """See `Transport.wait_writable`."""
        try:
            await self._registration.wait_writable()
        except trio.ClosedResourceError as error:
            raise ConnectionGone("EBADF") from error

    def undelivered_bytes(self) -> int | None:
        """See `Transport.undelivered_bytes`."""
        return undelivered_bytes(self._sock)

    def unflushed_bytes(self) -> int:
        """See `Transport.unflushed_bytes`."""
        return 0

    async def wait_flushed(self) -> None:
        """See `Transport.wait_flushed`."""
        await trio.lowlevel.checkpoint()
        if self.is_closed:
            raise ConnectionGone("EBADF")

    def watch(self, on_half_close: Told, on_gone: Told) -> None:
        """See `Transport.watch`."""
        self._registration.watch(on_half_close, on_gone, is_shut=self._is_shut)

    def unwatch(self) -> None:
        """See `Transport.unwatch`."""
        self._registration.unwatch()

    def shutdown_write(self) -> bool:
        """See `Transport.shutdown_write`."""
        self._is_shut = True
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            # A lost connection needs no FIN, and its loss is told by whatever is read or written next.
            if not self.is_closed and not is_connection_lost(error):
                raise
        return True

    def close(self) -> None:
        """See `Transport.close`."""
        if self.is_closed:
            return
        self._registration.close()
        self._sock.close()

    def abort(self) -> None:
        """See `Transport.abort`: the peer sees a reset."""
        if self.is_closed:
            return
        # macOS refuses options on a connection that is already reset: then nothing is left to abort.
        with contextlib.suppress(OSError):
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()
