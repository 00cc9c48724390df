"""The two parts that others play for a connection: whoever talks on it, and whoever knows that the server drains."""

from __future__ import annotations

from typing import Protocol


class Draining(Protocol):
    """The server's soft cancellation: set once when shutdown begins, never cleared. A `trio.Event` is one."""

    def is_set(self) -> bool:
        """Has shutdown begun?"""
        ...

    async def wait(self) -> None:
        """Wait until shutdown begins; a checkpoint."""
        ...


class ConnectionProtocol(Protocol):
    """What is said on one connection; made by a `ProtocolFactory`, run by the server."""

    async def converse(self) -> None:
        """Talk until the connection is done. Runs inside the connection's scope; again after a successful `rescue`."""
        ...

    def rescue(self) -> bool:
        """The scope has ended. Was this a wait for a head whose bytes have arrived after all? Then keep them.

        True lets `converse` go on in a fresh scope: a request that came in time is not lost to its own deadline.
        """
        ...

    async def farewell(self) -> None:
        """Say the last words that the expired phase calls for, if any; outside the spent scope, under a short one."""
        ...
