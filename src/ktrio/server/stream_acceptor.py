"""Accept streams from listeners of other people's, which cannot be asked whether anybody waits.

So one stream is accepted before permission is asked, and kept in hand: its client is the one that waits. Only then may
somebody be asked to make room. A server of such listeners thus holds up to one stream a listener beyond its limit, and
while it is suspended. The one in hand is carried already and owned by the acceptor: its time for a head runs, what it
says is read ahead, and if it says nothing it is closed. It is on no list before there is room for it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias, final

import trio
from trio.lowlevel import enable_ki_protection

from ktrio.net._foreign import barrier, foreign
from ktrio.net.carriers import NotCarriedError
from ktrio.net.connection import Connection
from ktrio.net.errors import ACCEPT_EXHAUSTED, ACCEPT_IGNORED
from ktrio.net.stream_listeners import StreamListener
from ktrio.net.stream_transport import StreamTransport
from ktrio.server.acceptor import END_OF_BURST, PAUSE_WHEN_EXHAUSTED
from ktrio.server.dispatch import Dispatch
from ktrio.workqueue import WorkqueueError

log = logging.getLogger("ktrio.server")

# Turns of the loop that a listener gets to hand over a client that has connected already: a checkpoint, the accept, the
# wake-up of whoever waits for it, and one to spare.
TURNS_TO_ACCEPT: Final = 4

# Clients in a row that a listener may lose within its accept; then it pauses, and so does not spin.
LOST_IN_A_ROW: Final = 10

# A connection and what carries it, which knows whether its peer has said anything.
Carried: TypeAlias = tuple[Connection, StreamTransport]
MakeConnection: TypeAlias = Callable[[trio.abc.Stream, StreamListener], Carried]


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
        give_up: Callable[[WorkqueueError], None],
        silence: float,
    ) -> None:
        self._dispatch = dispatch  # I
        self._wait_resumed = wait_resumed  # I: until accepting is not suspended
        self._wait_for_room = wait_for_room  # I: asks for permission; False: accepting was suspended meanwhile
        self._make_connection = make_connection  # I
        self._give_up = give_up  # I: begins the shutdown
        self._silence = silence  # I: seconds that a client in hand may say nothing
        self._accepted = 0  # S
        self._trouble_at = -math.inf  # S: when accepting paused last

    @enable_ki_protection
    async def accept_forever(self, listener: StreamListener) -> None:
        """Accept on `listener` until cancelled, until it is closed by somebody else, or until the server gives up."""
        try:
            while True:
                await self._wait_resumed()
                carried = await self._next(listener)
                if carried is None:
                    log.warning("%r was closed by somebody else: nobody is accepted there any more", listener)
                    return
                connection, _ = carried
                try:
                    is_welcome = await self._hold(*carried)
                except BaseException:  # a shutdown takes in who was accepted, past the limits, like the backlog
                    self._enqueue(connection)
                    raise
                if is_welcome:
                    self._enqueue(connection)
        except NotCarriedError:
            return  # the server is going down at once
        except WorkqueueError as error:
            log.error("nobody can be served any more on %s: %s", listener, error)
            self._give_up(error)

    async def _hold(self, connection: Connection, transport: StreamTransport) -> bool:
        """Keep one in hand until there is room for it; False: it has said nothing for too long, and was closed."""
        with trio.move_on_at(connection.opened + self._silence):
            await self._wait_for_place()
            return True
        if transport.was_heard:
            await self._wait_for_place()
            return True
        connection.end("head-timeout")
        connection.close()
        return False

    async def _wait_for_place(self) -> None:
        while not await self._wait_for_room():
            await self._wait_resumed()

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

    @enable_ki_protection
    async def _accept_all(self, listener: StreamListener) -> None:
        try:
            while (carried := await self._next(listener)) is not None:
                self._enqueue(carried[0])
        except (NotCarriedError, WorkqueueError):
            return  # going down, and not even the queue is left

    async def _next(self, listener: StreamListener) -> Carried | None:
        """The next connection, carried from here on; None: the listener is closed. Raises what `_make_connection` does.

        Barrier: a stream that raises when it is asked for its name costs itself.
        """
        while (stream := await self._accept(listener)) is not None:
            try:
                return self._make_connection(stream, listener)
            except NotCarriedError:
                await self._drop(stream)
                raise
            except Exception as error:
                log.error("a %s accepted on %s cannot be served", type(stream).__name__, listener, exc_info=error)
                await self._drop(stream)
        return None

    async def _drop(self, stream: trio.abc.Stream) -> None:
        with barrier(lambda error: log.error("closing a %s failed", type(stream).__name__, exc_info=error)):
            await foreign(trio.aclose_forcefully, stream)

    async def _accept(self, listener: StreamListener) -> trio.abc.Stream | None:
        """The next stream; None: the listener is closed."""
        lost = 0
        while True:
            try:
                return await listener.accept()
            except trio.ClosedResourceError:
                return None
            except trio.BrokenResourceError as error:  # this client's handshake, say, failed within accept
                lost += 1
                await trio.lowlevel.checkpoint()
                if lost % LOST_IN_A_ROW == 0:
                    await self._pause(listener, "every client is lost", error)
            except OSError as error:
                if error.errno in ACCEPT_IGNORED:  # the client left before we came to it
                    continue
                if error.errno not in ACCEPT_EXHAUSTED:
                    raise
                await self._pause(listener, "out of resources", error)

    async def _pause(self, listener: StreamListener, why: str, error: Exception) -> None:
        """One line for a burst, as for sockets."""
        now = trio.current_time()
        is_new_burst, self._trouble_at = now - self._trouble_at > END_OF_BURST, now
        if is_new_burst:
            log.warning("%s (%s): accepting on %s pauses", why, error, listener)
        await trio.sleep(PAUSE_WHEN_EXHAUSTED)

    def _enqueue(self, connection: Connection) -> None:
        """Hand it over. Raises WorkqueueError: nobody can be served any more, and it was closed."""
        self._accepted += 1
        self._dispatch.enqueue(connection)
