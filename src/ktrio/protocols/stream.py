"""Any protocol over a plain Trio stream: a handler gets the stream of its connection, and may be as naive as it likes.

What `trio.serve_listeners` leaves to its users is done here and around here: the handler is a work item with a slot of
its own, every wait for the peer has a deadline and is parked, the loss of the connection is no error, any other error
costs this connection alone, and when the server goes down the handler is told, given the grace, and then cancelled.

The stream parks by itself: while `ConnectionStream.receive_some` or `send_all` waits for the peer in the connection's
own task, the handler's slot is somebody else's. A task that the handler has started keeps the slot.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager, suppress
from operator import index
from typing import Final, TypeAlias, final

import trio
from trio.lowlevel import enable_ki_protection

from ktrio.net.connection import RECEIVE_BYTES, Connection, Draining, State
from ktrio.net.deadlines import Phase
from ktrio.net.errors import ConnectionGone, is_gone, leaves_of, split_leaves
from ktrio.protocols._user_code import call_handler, user_code

__all__ = ["ConnectionStream", "StreamHandler", "StreamProtocol"]


@final
class ConnectionStream(trio.abc.HalfCloseableStream):
    """One connection of a server as a Trio stream, with its deadlines; made by the server only.

    All methods raise as `trio.abc.HalfCloseableStream` says. Silence of `Timeouts.idle` seconds in `receive_some`, or a
    peer that takes nothing for `Timeouts.write` seconds, cancels the handler; so does a peer that resets the connection
    (reason ``client-gone``). A peer that has only shut down its side is waited for.

    Legend: I set once · T only by the task that receives, or sends · S changed only in one synchronous stretch.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection: Final = connection  # I
        self._is_receiving = False  # T
        self._is_sending = False  # T
        self._eof_sent = False  # T
        self._is_torn = False  # T: has a send ended half way? What follows it would pass for its rest
        self.was_closed = False  # S
        """Has the handler closed it, before anybody else did?"""
        self.was_lost = False  # S
        """Has anybody been told that it cannot be used any more?"""

    def __repr__(self) -> str:
        return f"<ConnectionStream of {self._connection!r}>"

    @property
    def peer(self) -> str:
        """The other end, as printed in logs."""
        return self._connection.peer

    @property
    def local(self) -> str:
        """The address of the server that was called."""
        return self._connection.local

    @property
    def draining(self) -> Draining:
        """The server's soft cancellation: set once when shutdown begins; the handler has the grace from then on."""
        return self._connection.draining

    @enable_ki_protection
    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Bytes, as soon as there are any, at most 64 KiB; ``b""`` after the peer's FIN.

        Raises:
          trio.BrokenResourceError: the peer is gone; leave it unhandled.
          trio.ClosedResourceError: the stream was closed on this side.
          trio.BusyResourceError: another task receives.
        """
        with self._receiving(), self._translated():
            return await self._receive(_checked(max_bytes))

    @enable_ki_protection
    async def receive_unless_draining(self, max_bytes: int | None = None) -> bytes | None:
        """`receive_some` for a handler that is between two requests: `None` once the server drains and nothing came.

        What had arrived by then is still returned first, so a request that the peer has sent is not lost.
        """
        with self._receiving(), self._translated():
            most, draining = _checked(max_bytes), self._connection.draining
            if not draining.is_set():
                received = await self._receive_until(draining, most)
                if received is not None:
                    return received
            await trio.lowlevel.checkpoint()
            return self._connection.receive_nowait(most)

    async def _receive_until(self, draining: Draining, most: int) -> bytes | None:
        """None: it drains. What it raises is bare, as of `_receive`, and what was received is never lost."""
        received: list[bytes] = []
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_cancel_when_draining, draining, nursery.cancel_scope)
                received.append(await self._receive(most))
                nursery.cancel_scope.cancel(reason="something was received")
        except BaseExceptionGroup as group:
            if not received:  # else it is a cancellation that came too late, and the next checkpoint has it as well
                raise next((leaf for leaf in leaves_of(group) if is_gone(leaf)), next(leaves_of(group))) from None
        return received[0] if received else None

    async def _receive(self, most: int) -> bytes:
        connection = self._connection
        try:
            return await connection.receive(
                most, phase=Phase.IDLE, until=trio.current_time() + connection.timeouts.idle
            )
        finally:
            connection.deadlines.settle()  # the handler may wait for anything now

    @enable_ki_protection
    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of it, in turns of at most 1 MiB, so that others have theirs.

        Raises:
          trio.BrokenResourceError: the peer is gone, and part of it may have been sent; leave it unhandled.
          trio.ClosedResourceError: the stream, or its sending half, was closed on this side.
          trio.BusyResourceError: another task sends.
        """
        with self._sending(), self._translated():
            await self._check_sendable()
            connection = self._connection
            before = connection.bytes_sent
            try:
                await connection.send_all(data)
            except BaseException:
                self._is_torn = self._is_torn or connection.bytes_sent > before
                raise
            if (connection.reason or connection.deadlines.is_spent) and not self._is_torn:
                connection.may_be_torso = False  # last words of a cancelled handler: a reset would destroy them

    @enable_ki_protection
    async def wait_send_all_might_not_block(self) -> None:
        """Wait until there is room to send; raises as `send_all`."""
        with self._sending(), self._translated():
            await self._check_sendable()
            await self._connection.wait_writable()

    @enable_ki_protection
    async def send_eof(self) -> None:
        """Shut down the sending half behind what was sent; again is no error. Raises as `send_all`.

        Raises:
          NotImplementedError: what carries this connection has no such thing; TLS has not.
        """
        with self._sending(), self._translated():
            await self._check_open()
            await trio.lowlevel.checkpoint()
            if not self._eof_sent:
                self._connection.send_nowait(b"")  # a FIN that nobody will see is no error to the kernel; to us it is
                # Watched anew: with both halves shut the kernel reports a hang-up, though nobody has gone.
                self._connection.unwatch_peer()
                self._eof_sent = self._connection.shutdown_write()
                self._connection.watch_peer()
            if not self._eof_sent:
                raise NotImplementedError(f"{self!r} cannot be closed half: aclose it when you are done")

    @contextmanager
    def _translated(self) -> Generator[None]:
        """The loss of the connection in the words of `trio.abc.Stream`; `_is_loss` knows it by its cause."""
        try:
            yield
        except ConnectionGone as error:
            self.was_lost = True
            if error.errno_name == "EBADF":
                raise trio.ClosedResourceError("this stream was closed") from error
            raise trio.BrokenResourceError(f"the peer is gone: {error.errno_name}") from error

    async def aclose(self) -> None:
        """Close the connection; who waits for it gets `trio.ClosedResourceError`. Idempotent.

        What was sent goes out before that, unless another task is sending still. Cancelled, it closes at once.
        """
        try:
            if not self._is_sending:
                with self._sending(), suppress(ConnectionGone):
                    await self._connection.flush()
        finally:
            self.was_closed = self.was_closed or self._connection.state is not State.CLOSED
            self._connection.close()
        await trio.lowlevel.checkpoint()

    async def _check_sendable(self) -> None:
        await self._check_open()
        if self._eof_sent:
            await trio.lowlevel.checkpoint()
            raise trio.ClosedResourceError("nothing can be sent after send_eof")

    async def _check_open(self) -> None:
        if self._connection.state is State.CLOSED:
            await trio.lowlevel.checkpoint()
            raise ConnectionGone("EBADF")

    @contextmanager
    def _receiving(self) -> Generator[None]:
        if self._is_receiving:
            raise trio.BusyResourceError("another task is receiving from this stream")
        self._is_receiving = True
        try:
            yield
        finally:
            self._is_receiving = False

    @contextmanager
    def _sending(self) -> Generator[None]:
        if self._is_sending:
            raise trio.BusyResourceError("another task is using the sending half of this stream")
        self._is_sending = True
        try:
            yield
        finally:
            self._is_sending = False


def _is_loss(leaf: BaseException, stream: ConnectionStream) -> bool:
    """Is this what using `stream` means whose peer has gone, or whose server has closed it?

    Another stream on top of it, TLS say, may have wrapped it. The stream of another connection, which its handler has
    shared, raises the same: there the handler must look itself.
    """
    if not stream.was_lost or not isinstance(leaf, trio.BrokenResourceError | trio.ClosedResourceError):
        return False
    if stream.was_closed and isinstance(leaf, trio.ClosedResourceError):
        return False
    cause: BaseException | None = leaf
    while cause is not None and not isinstance(cause, ConnectionGone):
        cause = cause.__cause__
    return cause is not None


def _checked(max_bytes: int | None) -> int:
    """How much to receive at most."""
    if max_bytes is None:
        return RECEIVE_BYTES
    if index(max_bytes) < 1:
        raise ValueError(f"max_bytes must be at least 1, not {max_bytes}")
    return min(max_bytes, RECEIVE_BYTES)


async def _cancel_when_draining(draining: Draining, scope: trio.CancelScope) -> None:
    await draining.wait()
    scope.cancel(reason="draining")


StreamHandler: TypeAlias = Callable[[ConnectionStream], Awaitable[None]]
"""An async function of a connection's stream; the connection is closed when it returns. Errors cost its connection."""


@final
class StreamProtocol:
    """A handler of plain streams on one connection. From its first step to its last it is owed the grace of a shutdown.

    Legend: I set once.
    """

    __slots__ = ("_connection", "_handler")

    def __init__(self, connection: Connection, handler: StreamHandler) -> None:
        self._connection = connection  # I
        self._handler = handler  # I

    async def converse(self) -> None:
        """Run the handler, once it has a slot."""
        connection = self._connection
        connection.deadlines.disarm(Phase.HEAD)  # armed at accept; it is the handler's to know what comes first
        connection.become(State.QUEUED)  # nobody asks it to leave any more
        async with connection.waiting():
            await trio.lowlevel.checkpoint()
        connection.become(State.HANDLING)
        connection.owe_answer()
        stream = ConnectionStream(connection)
        try:
            await user_code(call_handler(self._handler, stream), self._watch)
            await connection.flush()
        except BaseException as error:
            lost, rest = split_leaves(error, lambda leaf: _is_loss(leaf, stream))
            if lost is None:
                if any(isinstance(leaf, Exception) for leaf in leaves_of(error)):
                    connection.may_be_torso = True  # whatever it said last, something was left unsaid
                raise
            connection.end("client-gone")
            raise (rest or ConnectionGone("ECONNRESET")) from error
        finally:
            connection.unwatch_peer()
        connection.owes_answer = False
        connection.answered += 1
        connection.end("handler-returned")
        if connection.on_outcome is not None:
            connection.on_outcome(None)
        await self._linger_if_needed()

    def _watch(self) -> None:
        self._connection.watch_peer()
        self._connection.begin_answer()  # a half-closed peer is the handler's to judge

    async def _linger_if_needed(self) -> None:
        """Input that nobody has read would turn the close into a reset, and that destroy what was sent last."""
        connection = self._connection
        try:
            if connection.state is not State.CLOSED and not connection.half_closed and connection.receive_nowait():
                await connection.linger()
        except ConnectionGone:
            return  # the peer has closed first

    def rescue(self) -> bool:
        """A handler that was cancelled cannot go on."""
        return False

    async def farewell(self) -> None:
        """What there is to say is the handler's."""
        await trio.lowlevel.checkpoint()
