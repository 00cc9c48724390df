"""Accept streams from listeners of other people's, which cannot be asked whether anybody waits.

So one stream is accepted before permission is asked, and kept in hand: its client is the one that waits. Only then may
somebody be asked to make room. A server of such listeners thus holds up to one stream a listener beyond its limit.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from typing import Final, final

import trio
from trio.lowlevel import enable_ki_protection

from ktrio.net.connection import Connection
from ktrio.net.errors import ACCEPT_EXHAUSTED, ACCEPT_IGNORED
from ktrio.net.stream_listeners import StreamListener
from ktrio.server.acceptor import END_OF_BURST, PAUSE_WHEN_EXHAUSTED
from ktrio.server.dispatch import Dispatch
from ktrio.workqueue import WorkqueueError

log = logging.getLogger("ktrio.server")

# Turns of the loop that a listener gets to hand over a client that has connected already: a checkpoint, the accept, the
# wake-up of whoever waits for it, and one to spare.
TURNS_TO_ACCEPT: Final = 4

MakeConnection = Callable[[trio.abc.Stream, StreamListener], Connection]


@final
class StreamAcceptor:
    """Accepts for all stream listeners of one server.

    Legend: I set once · S changed only in one synchronous stretch.
    """

    def __init__(
        self,
        *,
        dispatch: Dispatch,
        wait_resumed: Callable[[], Awaitable[None]],
        wait_for_room: Callable[[], Awaitable[bool]],
        make_connection: MakeConnection,
        give_up: Callable[[], None],
    ) -> None:
        self._dispatch = dispatch  # I
        self._wait_resumed = wait_resumed  # I: until accepting is not suspended
        self._wait_for_room = wait_for_room  # I: asks for permission; False: accepting was suspended meanwhile
        self._make_connection = make_connection  # I
        self._give_up = give_up  # I: begins the shutdown
        self._accepted = 0  # S
        self._exhausted_at = -math.inf  # S: when resources were short last

    @enable_ki_protection
    async def accept_forever(self, listener: StreamListener) -> None:
        """Accept on `listener` until cancelled, until it is closed by somebody else, or until the server gives up."""
        while True:
            await self._wait_resumed()
            stream = await self._next_stream(listener)
            if stream is None:
                log.warning("%r was closed by somebody else: nobody is accepted there any more", listener)
                return
            try:
                while not await self._wait_for_room():
                    await self._wait_resumed()
            except BaseException:  # cancelled: a shutdown takes in who was accepted, past the limits, like the backlog
                await self._enqueue(stream, listener)
                raise
            if not await self._enqueue(stream, listener):
                self._give_up()
                return

    async def accept_waiting(self, listener: StreamListener, most: int) -> None:
        """Accept whoever has connected already, about `most`, whatever the limits; for the beginning of a shutdown."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._accept_all, listener)
            before, last = self._accepted, -1
            while last != self._accepted < before + most:
                last = self._accepted
                for _ in range(TURNS_TO_ACCEPT):
                    await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel(reason="the listener is closed")

    async def _accept_all(self, listener: StreamListener) -> None:
        while (stream := await self._next_stream(listener)) is not None:
            await self._enqueue(stream, listener)

    async def _next_stream(self, listener: StreamListener) -> trio.abc.Stream | None:
        """The next connection; None: the listener is closed."""
        while True:
            try:
                return await listener.accept()
            except trio.ClosedResourceError:
                return None
            except OSError as error:
                if error.errno in ACCEPT_IGNORED:  # the client left before we came to it
                    continue
                if error.errno not in ACCEPT_EXHAUSTED:
                    raise
                self._note_exhaustion(listener, error)
                await trio.sleep(PAUSE_WHEN_EXHAUSTED)

    def _note_exhaustion(self, listener: StreamListener, error: OSError) -> None:
        """One line for a burst, as for sockets."""
        now = trio.current_time()
        is_new_burst, self._exhausted_at = now - self._exhausted_at > END_OF_BURST, now
        if is_new_burst:
            log.warning("out of resources (%s): accepting on %s pauses", error, listener)

    async def _enqueue(self, stream: trio.abc.Stream, listener: StreamListener) -> bool:
        """Hand it over; False: nobody can be served any more, and it was closed."""
        try:
            connection = self._make_connection(stream, listener)
        except RuntimeError:  # the server was cancelled, and carries no new streams
            await trio.aclose_forcefully(stream)
            return True
        self._accepted += 1
        try:
            self._dispatch.enqueue(connection)
        except WorkqueueError as error:
            log.error("nobody can be served any more on %s: %s", listener, error)
            return False
        return True
