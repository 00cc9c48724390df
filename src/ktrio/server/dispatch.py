"""Connections as work items: the only module that knows both workqueues and connections.

Each connection is one `Work`, queued so that it starts parked: waiting for bytes costs neither slot nor place, and a
slot is taken when a request's first byte is there. The item runs the protocol inside the connection's scope, the
cancel scope whose deadline `Deadlines` moves. When that scope ends, the protocol is asked whether the bytes it
waited for have come after all (then it goes on in a fresh scope), and else says its last words under a short one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial
from typing import Final, final

import trio
from trio.lowlevel import enable_ki_protection

from ktrio.net.connection import Connection, ConnectionProtocol, ProtocolFactory, State
from ktrio.net.deadlines import Phase
from ktrio.net.errors import ConnectionGone, is_gone, leaves_of, split_leaves
from ktrio.server.roster import Roster
from ktrio.workqueue import Parking, Work, Workqueue, parked

log = logging.getLogger("ktrio.server")


def reason_of_spent_scope(expired: Phase | None, leaving: str) -> str:
    """Why a connection's scope ended: a phase that lasted too long, or that it was asked to leave."""
    return f"{expired.value}-timeout" if expired is not None else leaving or "server-cancelled"


_STAYING: Final = nullcontext()


@final
class _ParkingOfThisTask:
    """`parked` for the calling item's own task; in a task that a handler started, waiting parks nothing.

    Legend: I set once · T only by the item's own task.
    """

    __slots__ = ("_connection", "_insisting", "_owner", "_parking")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection  # I
        self._owner = trio.lowlevel.current_task()  # I
        self._parking = parked()  # I
        self._parking.before_wait = self._before_wait
        self._insisting: Parking | None = None  # T: made when it is first wanted, as few connections want it

    def _before_wait(self) -> None:
        connection = self._connection
        connection.deadlines.settle()  # the wait for a slot is none of the peer's doing
        if connection.is_quiet and not connection.deadlines.is_spent:
            connection.become(State.QUEUED)  # its request has come: nobody asks it to leave

    def waiting(self) -> AbstractAsyncContextManager[None]:
        """For a wait of the connection's own."""
        if trio.lowlevel.current_task() is not self._owner or self._parking.is_entered:
            return _STAYING
        return self._parking

    def waiting_within_answer(self) -> AbstractAsyncContextManager[None]:
        """For a wait of somebody who may hold what others need: it comes back without asking (P9)."""
        if trio.lowlevel.current_task() is not self._owner or self._parking.is_entered:
            return _STAYING
        if self._insisting is None:
            self._insisting = parked(insist=True)
        return self._insisting


@final
class Dispatch:
    """Turns accepted connections into work items of one queue.

    Legend: I set once · S changed only in one synchronous stretch.
    """

    def __init__(
        self,
        workqueue: Workqueue,
        roster: Roster,
        make_protocol: ProtocolFactory,
        on_outcome: Callable[[BaseException | None], object],
    ) -> None:
        self._workqueue = workqueue  # I
        self._roster = roster  # I
        self._make_protocol = make_protocol  # I
        self._on_outcome = on_outcome  # I: told of every unexpected error, and of what ended well
        self.errors = 0  # S: unexpected errors of protocols

    @enable_ki_protection
    def enqueue(self, connection: Connection) -> None:
        """Put a fresh connection on the roster and on the queue. If the queue takes nothing any more, it is closed."""
        work = Work(
            self._serve,
            connection,
            on_discard=partial(self._discard, connection),
            name=f"connection {connection.peer}",
        )
        self._roster.add(connection, work)
        connection.on_outcome = self._on_outcome
        try:
            self._workqueue.queue_work(work, parked=True)
        except BaseException:
            self._discard(connection)
            raise

    @enable_ki_protection
    def _discard(self, connection: Connection) -> None:
        """No worker will ever serve it (`on_discard`)."""
        connection.end("server-cancelled")
        connection.close()
        self._roster.remove(connection)

    @enable_ki_protection
    async def _serve(self, connection: Connection) -> None:
        """The work item of one connection, from its first step to its close. Barrier: an error costs its connection."""
        try:
            parking = _ParkingOfThisTask(connection)
            connection.waiting, connection.waiting_within_answer = parking.waiting, parking.waiting_within_answer
            self._roster.taken(connection)
            await self._converse_to_the_end(connection, self._make_protocol(connection))
        except BaseException as error:
            self._judge(connection, error)
        finally:
            connection.end("server-cancelled")
            self.errors += connection.had_error or connection.reason == "error"
            if connection.owes_answer and connection.may_be_torso:
                connection.abort()  # the peer must not take a torso for the whole
            else:
                connection.close()
            self._roster.remove(connection)

    def _judge(self, connection: Connection, error: BaseException) -> None:
        """What ended a conversation: the loss of its peer, something unexpected, the end of it all, or some of these.

        Raises what is not this connection's: Cancelled, KeyboardInterrupt and their like.
        """
        errors, going = split_leaves(error, lambda leaf: isinstance(leaf, Exception))
        if errors is not None:
            lost, unexpected = split_leaves(errors, is_gone)
            if unexpected is not None:
                self._report(connection, unexpected)
            elif lost is not None:
                connection.end("peer-reset")
        if going is not None:
            raise going from None

    def _report(self, connection: Connection, error: BaseException) -> None:
        connection.end("error")
        connection.had_error = True
        log.error("unexpected error on %r", connection, exc_info=error)
        # A stream that broke is somebody's network, or noise at the door of TLS: seen, and no sign of a broken server.
        if not all(isinstance(leaf, trio.BrokenResourceError) for leaf in leaves_of(error)):
            self._on_outcome(error)

    async def _converse_to_the_end(self, connection: Connection, protocol: ConnectionProtocol) -> None:
        try:
            while not await self._converse_in_scope(connection, protocol):
                if connection.reason or not protocol.rescue():
                    expired = connection.deadlines.expired(trio.current_time())
                    connection.end(reason_of_spent_scope(expired, connection.leaving))
                    await self._farewell(connection, protocol)
                    return
                connection.leaving = ""
        except ConnectionGone:
            raise
        except BaseException as error:
            if any(is_gone(leaf) for leaf in leaves_of(error)):
                connection.end("client-gone" if connection.owes_answer else "peer-reset")
            connection.end("error" if isinstance(error, Exception) else "server-cancelled")
            await self._farewell(connection, protocol)
            raise

    async def _converse_in_scope(self, connection: Connection, protocol: ConnectionProtocol) -> bool:
        """Let the protocol talk; False if the connection's scope ended it."""
        try:
            with trio.CancelScope() as scope:
                connection.scope = scope
                connection.deadlines.attach(scope)
                await protocol.converse()
        finally:
            connection.scope = None
            connection.deadlines.detach()
        return not scope.cancelled_caught

    async def _farewell(self, connection: Connection, protocol: ConnectionProtocol) -> None:
        """Last words, outside the spent scope; shielded, because who cancelled us wants them said, but not for long."""
        with trio.move_on_after(connection.timeouts.farewell, shield=True):
            await protocol.farewell()
