"""The nursery of a server's carriers: whoever does the waiting for connections that are streams rather than sockets."""

from __future__ import annotations

from typing import Final, final

import trio
from trio.lowlevel import enable_ki_protection

from ktrio.net.stream_transport import StreamTransport
from ktrio.net.transport import Told

# Seconds that a carrier outlives the cancellation of its server; a server closes all connections within 11.
PATIENCE: Final = 15.0


@final
class NotCarriedError(Exception):
    """A stream came to a server that carries none, or none any more; whose it was it is still."""


@final
class Carriers:
    """Carries the streams of one server; run `run` in the server's nursery.

    Legend: S changed only in one synchronous stretch.
    """

    __slots__ = ("_nursery", "_on_crash", "_transports", "ending", "on_end")

    def __init__(self) -> None:
        self.ending = 0  # S: streams that are closed on our side and not by themselves yet
        self.on_end: Told | None = None  # I, by who waits for room: told when one of those has ended
        self._on_crash: Told | None = None  # I, by `run`
        self._nursery: trio.Nursery | None = None  # S: only inside `run`'s `async with`
        self._transports: set[StreamTransport] = set()  # S: those whose carrier runs

    def __repr__(self) -> str:
        return f"<Carriers carrying={len(self._transports)} ending={self.ending}>"

    @enable_ki_protection
    async def run(
        self, on_crash: Told | None = None, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Run the carriers, until cancelled and the last of them has ended, which each does within `PATIENCE`.

        `on_crash` is told at once if Ctrl-C or the like has struck one: it is raised when the others have ended.
        """
        self._on_crash = on_crash
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                task_status.started()
                await trio.sleep_forever()
            finally:
                self._nursery = None
                until = trio.current_time() + PATIENCE
                for transport in self._transports:
                    transport.limit(until)

    def carry(self, stream: trio.abc.Stream) -> StreamTransport:
        """Own `stream` from here on, and carry its bytes until the transport is closed.

        Raises:
          NotCarriedError: `run` is not running, or has been cancelled.
        """
        if self._nursery is None:
            raise NotCarriedError("streams are carried only while the server runs")
        transport = StreamTransport(stream, self._note_close)
        self._transports.add(transport)
        self._nursery.start_soon(self._carry, transport, name=f"carry {type(stream).__name__}")
        return transport

    @enable_ki_protection
    async def _carry(self, transport: StreamTransport) -> None:
        try:
            await transport.carry()
        except BaseException:
            if self._on_crash is not None:
                self._on_crash()
            raise
        finally:
            self._transports.discard(transport)
            self.ending -= 1
            if self.on_end is not None:
                self.on_end()

    def _note_close(self) -> None:
        self.ending += 1
