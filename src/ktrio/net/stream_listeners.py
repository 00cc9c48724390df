"""Listeners of other people's: any `trio.abc.Listener`, whose connections are streams rather than sockets.

Such a listener cannot be asked whether somebody waits; it can only be waited for. What it accepts is carried by
`ktrio.net.stream_transport`. `SocketListener`s are not for here: `ktrio.net.listeners` takes their sockets over.
"""

from __future__ import annotations

import contextlib
import logging
from typing import Final, TypeAlias, final

import trio

from ktrio.net._foreign import barrier, foreign
from ktrio.net.addresses import Address, address_of, describe, peer_name

_log = logging.getLogger(__name__)

# TLS in TLS is two; one that names itself as what it wraps would be walked for ever.
MOST_WRAPPERS: Final = 8

AnyListener: TypeAlias = trio.abc.Listener[trio.abc.Stream]


@final
class StreamListener:
    """One listener that accepts streams; owns it from here to `aclose`."""

    __slots__ = ("_is_closed", "_listener", "address")

    # I  set once · T  only by the task that closes
    def __init__(self, listener: AnyListener) -> None:
        self._listener: Final = listener  # I
        self.address: Final = _address_behind(listener)  # I: of the socket at its bottom; None: there is none
        self._is_closed = False  # T

    def __repr__(self) -> str:
        return f"<StreamListener {self.name} {'closed' if self._is_closed else 'open'}>"

    @property
    def name(self) -> str:
        """Where it listens, as printed in logs."""
        return type(self._listener).__name__ if self.address is None else describe(self.address)

    async def accept(self) -> trio.abc.Stream:
        """Wait for a connection; raises what the listener raises. A checkpoint."""
        return await foreign(self._listener.accept)

    async def aclose(self) -> None:
        """Stop listening, at once and for good, also when cancelled. Idempotent. Barrier: what it raises is logged."""
        if self._is_closed:
            return
        self._is_closed = True
        with barrier(self._report):
            await foreign(trio.aclose_forcefully, self._listener)

    def _report(self, error: Exception) -> None:
        _log.error("closing the listener %s failed", self.name, exc_info=error)


def name_of_peer(stream: trio.abc.Stream) -> str:
    """The other end of an accepted stream as printed in logs.

    Where there is no socket at its bottom: what its own attribute `peer` says, as of `ConnectionStream`, or its type.
    Raises what another's property raises.
    """
    sock = _socket_behind(stream, "transport_stream")
    if sock is not None:
        with contextlib.suppress(OSError):  # gone already
            return peer_name(sock.getpeername(), sock.family)
    own: object = getattr(stream, "peer", None)
    return own if isinstance(own, str) else type(stream).__name__


def _address_behind(listener: object) -> Address | None:
    try:
        sock = _socket_behind(listener, "transport_listener")
        return None if sock is None else address_of(sock)
    except Exception:  # it has none, or another's property does not say it: it is served all the same
        return None


def _socket_behind(wrapper: object, attribute: str) -> trio.socket.SocketType | None:
    """The socket under wrappers as Trio's own are built. Raises what another's property raises."""
    for _ in range(MOST_WRAPPERS):
        if not hasattr(wrapper, attribute):
            break
        wrapper = getattr(wrapper, attribute)
    sock: object = getattr(wrapper, "socket", None)
    return sock if isinstance(sock, trio.socket.SocketType) else None
