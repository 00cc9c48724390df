"""The order of start and stop: one server from its first accept to its last goodbye.

Start: the services that connections need, then the acceptors, then ``task_status.started(server)``. Stop, by whichever
road: accepting ends, then the connections, then the services they used. The phases of a shutdown:

1. Whoever waits in the backlog is accepted, the listeners are closed, and only then is everybody told: quiet
   connections leave, those at work see ``draining`` and finish.
2. When the last is done, or after the grace, or when forced, what is left is cancelled with a reason.
3. One second later the sockets of what is still there are closed and their names logged; then only handlers that shield
   themselves are waited for. No connection outlives `Server.run`.
"""

from __future__ import annotations

import logging
import resource
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

import trio
from trio.lowlevel import enable_ki_protection

from ktrio.net.addresses import Address, describe
from ktrio.net.carriers import Carriers
from ktrio.net.connection import Connection, ProtocolFactory
from ktrio.net.deadlines import Timeouts
from ktrio.net.listeners import Listener
from ktrio.net.readiness import Readiness
from ktrio.net.socket_transport import SocketTransport
from ktrio.net.stream_listeners import StreamListener, name_of_peer
from ktrio.net.transport import Transport
from ktrio.server.acceptor import Acceptor
from ktrio.server.admission import default_max_connections
from ktrio.server.connections import ConnectionStatistics
from ktrio.server.dispatch import Dispatch
from ktrio.server.error_budget import ErrorBudget
from ktrio.server.errors import BrokenServerError, ServerEndedError, one_line
from ktrio.server.options import ServerOptions, check_grace
from ktrio.server.roster import Roster
from ktrio.server.stream_acceptor import Carried, StreamAcceptor
from ktrio.workqueue import Workqueue, WorkqueueError

log = logging.getLogger("ktrio.server")

# Seconds for listeners of other people's to close, which they are asked to do at once.
CLOSE_WITHIN: Final = 1.0
# Seconds to tell every connection that it is cancelled: 65 536 of them take about one.
CANCEL_WITHIN: Final = 10.0
# Seconds from the cancellation of a connection to the closing of its socket under it.
ABORT_AFTER: Final = 1.0
# Seconds between two looks at who still shields itself from the end; each look is a log line.
STILL_WAITING: Final = 10.0
# Seconds between two looks at what slow readers have taken.
PROGRESS_INTERVAL: Final = 2.0


def _open_file_limit() -> int:
    """The soft limit on open files in force."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 20 if soft == resource.RLIM_INFINITY else soft


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStatistics:
    """What a server is doing, and has done."""

    open: int
    """Connections accepted and not closed."""
    quiet: int
    """Of those: nothing received yet, or idle between requests."""
    busy: int
    """Of those: something is in progress, from the first byte of a head to the last of its answer."""
    owing: int
    """Of those: a complete request is in and its answer incomplete."""
    accepted: int
    """Connections accepted, ever."""
    answered: int
    """Answers completed, ever (echo: connections that ended in peace)."""
    cut: int
    """Answers cut off by the grace or by a second signal, ever."""
    made_room: int
    """Connections asked to leave in favour of others, ever."""
    refused: int
    """Clients refused because no descriptor was left, ever."""
    errors: int
    """Connections that ended with an unexpected error, ever."""
    reasons: dict[str, int]
    """Why connections ended, and how many for each reason."""
    suspended: bool
    """Is accepting suspended?"""
    draining: bool
    """Has shutdown begun?"""


@final
class Server:
    """A running server; what ``await nursery.start(serve_http, …)`` gives back.

    Legend: I set once · T only by the task in `run` · S changed only in one synchronous stretch.
    """

    def __init__(
        self,
        listeners: Sequence[Listener],
        stream_listeners: Sequence[StreamListener],
        make_protocol: ProtocolFactory,
        workqueue: Workqueue,
        *,
        options: ServerOptions,
        timeouts: Timeouts,
        refusal: bytes,
    ) -> None:
        self.options: Final = options  # I
        self.max_connections: Final = options.max_connections or default_max_connections(_open_file_limit())  # I
        """The ceiling in force."""
        self.timeouts: Final = timeouts  # I
        self.addresses: Final[tuple[Address, ...]] = (
            *(listener.address for listener in listeners),
            *(listener.address for listener in stream_listeners if listener.address is not None),
        )  # I
        """The addresses bound, with the real port where 0 was asked for. A listener without a socket has none."""
        self.supervisor: Final = workqueue.supervisor  # I: the owner of the queue that its connections run on
        self.draining: Final = trio.Event()  # I
        """Set once, when everybody is told that shutdown has begun."""
        self.cutting: Final = trio.Event()  # I
        """Set when what has not finished is being cancelled."""
        self.broken: BrokenServerError | WorkqueueError | None = None  # S
        """Set when the budget of errors was exceeded, or the queue takes nothing any more; raised in the end."""
        named = (*(describe(each.address) for each in listeners), *(each.name for each in stream_listeners))
        self.names: Final[tuple[str, ...]] = named  # I
        """Where it listens, as printed in logs: an address, or the type of a listener that has none."""
        self._listeners = list(listeners)  # T
        self._stream_listeners = list(stream_listeners)  # T
        self._readiness = Readiness()  # I
        self._carriers = Carriers()  # I
        self._roster = Roster()  # I
        self._budget = ErrorBudget(options.max_errors, options.errors_within)  # I; its content S
        self._dispatch = Dispatch(workqueue, self._roster, make_protocol, self._on_outcome)  # I
        self._acceptor = Acceptor(
            roster=self._roster,
            dispatch=self._dispatch,
            readiness=self._readiness,
            carriers=self._carriers,
            make_connection=self._make_connection,
            give_up=self._give_up,
            max_connections=self.max_connections,
            refusal=refusal,
        )  # I
        self._stream_acceptor = StreamAcceptor(
            dispatch=self._dispatch,
            wait_resumed=self._acceptor.wait_resumed,
            wait_for_room=self._acceptor.wait_for_room,
            make_connection=self._make_stream_connection,
            give_up=self._give_up,
            silence=max(timeouts.head, timeouts.idle),
        )  # I
        self._asked = trio.Event()  # I: shutdown was asked for
        self._ended = trio.Event()  # I: `run` is done with every connection
        self._patience = trio.CancelScope()  # I: around the wait for connections to finish; its deadline is the grace
        self._cut_reason = "grace"  # S: why those that do not finish are cancelled
        self._grace = options.grace  # S

    # -- for the user

    def begin_shutdown(self, *, grace: float | None = None) -> None:
        """Begin to shut down; plain function, returns at once. `grace` (seconds) replaces the one in the options.

        Again: a shorter grace takes effect, from now. ValueError: `grace` is not finite, or negative.
        """
        if grace is not None:
            check_grace(grace)
            self._grace = min(self._grace, grace) if self._asked.is_set() else grace
            self._patience.deadline = min(self._patience.deadline, trio.current_time() + grace)
        self._asked.set()

    async def shutdown(self, *, grace: float | None = None) -> None:
        """`begin_shutdown`, and wait until the last connection has ended.

        Not from inside a handler: its own connection is one of those waited for, so the grace would cut it. There,
        `begin_shutdown`.
        """
        self.begin_shutdown(grace=grace)
        await self.wait_ended()

    async def wait_ended(self) -> None:
        """Wait until the last connection has ended, whoever asked for it; a checkpoint."""
        await self._ended.wait()

    def force_shutdown(self, reason: str) -> None:
        """Begin to shut down, if that has not begun, and cancel at once what has not finished; `reason` is recorded.

        Again: the first reason is kept.
        """
        if not self._patience.cancel_called:
            self._cut_reason = reason
        self._asked.set()
        self._patience.cancel(reason=reason)

    def suspend(self) -> None:
        """Accept nobody until `resume`; plain function, idempotent.

        Connections that are open go on. Newcomers wait in the kernel's backlog, and nobody is closed to make room for
        them; those beyond `ServerOptions.backlog` time out or try again. A shutdown goes as always: it accepts the
        backlog, once.

        A listener that is no socket cannot be asked whether anybody waits: it may still hand over one client, who is
        served after `resume`, and closed if it says nothing meanwhile.
        """
        self._acceptor.suspend()

    def resume(self) -> None:
        """Accept again, at once; plain function, idempotent."""
        self._acceptor.resume()

    async def wait_for_connections(self, count: int) -> None:
        """Wait until exactly `count` connections are open, now or at some moment from now on; a checkpoint.

        Connections come and go one at a time, so no number is passed over. The count of this moment may be another one
        when you get to see it. With 0, from inside a handler: its own connection is one of them, so not there.

        Raises:
          ValueError: `count` is negative.
          ServerEndedError: the server has ended, and so many there never were.
        """
        if count < 0:
            raise ValueError(f"count must be 0 or more, not {count}")
        if not await self._roster.wait_for_count(count):
            raise ServerEndedError(f"{self!r} will never have the {count} connections that were waited for")

    def connections(self, *, at_most: int | None = None) -> tuple[ConnectionStatistics, ...]:
        """Every open connection in order of acceptance, then the last 32 that closed, oldest first.

        `at_most`: so many open ones, from the longest-lived on; None: all, which takes about 5 ms per 1000.
        ValueError: it is negative.
        """
        if at_most is not None and at_most < 0:
            raise ValueError(f"at_most must be 0 or more, or None for all, not {at_most}")
        return self._roster.connections(at_most)

    def statistics(self) -> ServerStatistics:
        """The counts of this moment."""
        roster = self._roster.statistics()
        return ServerStatistics(
            open=roster.open,
            quiet=roster.quiet,
            busy=roster.busy,
            owing=roster.owing,
            accepted=roster.accepted,
            answered=roster.answered,
            cut=roster.cut,
            made_room=self._acceptor.made_room,
            refused=self._acceptor.refused,
            errors=self._dispatch.errors,
            reasons=roster.reasons,
            suspended=self._acceptor.is_suspended,
            draining=self.draining.is_set(),
        )

    def __repr__(self) -> str:
        where = ", ".join(self.names)
        if self._ended.is_set():
            state = " ended"
        elif self.draining.is_set():
            state = " draining"
        else:
            state = " suspended" if self._acceptor.is_suspended else ""
        return f"<Server {where} connections={len(self._roster)}/{self.max_connections}{state}>"

    # -- errors

    def _on_outcome(self, error: BaseException | None) -> None:
        """Something ended well (None), or with an unexpected `error`; told by the dispatch and by protocols."""
        if error is None:
            self._budget.forgive()
            return
        seconds = self._budget.spend(trio.current_time())
        if seconds is None or self._asked.is_set():  # who is going down anyway needs no other reason
            return
        self.broken = BrokenServerError(
            f"{self.options.max_errors} unexpected errors in {seconds:.1f} s, and nothing was answered in between; "
            f"the last one was {one_line(error)}; mend what raises it (the log has the tracebacks), then start again"
        )
        self.broken.__cause__ = error
        log.critical("shutting down: %s", self.broken)
        self.begin_shutdown()

    def _give_up(self, error: WorkqueueError) -> None:
        """The queue takes nothing any more; told by the acceptors."""
        if not self._asked.is_set():
            self.broken = error
        self.begin_shutdown()

    # -- the road from start to stop

    @enable_ki_protection
    async def run(self, *, task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until shut down or cancelled; `broken` says if it was a failure. Closes the listeners in any case."""
        try:
            async with trio.open_nursery() as services:
                await services.start(self._readiness.run)
                if self._stream_listeners:
                    await services.start(self._carriers.run, services.cancel_scope.cancel)
                services.start_soon(self._roster.note_progress, PROGRESS_INTERVAL)
                try:
                    await self._accept_until_asked(task_status)
                    await self._drain()
                finally:
                    try:
                        await self._close_listeners()
                    finally:
                        await self._end_connections()
                services.cancel_scope.cancel(reason="the server has ended")
        finally:
            try:
                await self._close_listeners()
            finally:
                self._acceptor.close()
                self._roster.close()
                self._ended.set()

    async def _accept_until_asked(self, task_status: trio.TaskStatus[Server]) -> None:
        self._acceptor.open()
        async with trio.open_nursery() as acceptors:
            for listener in self._listeners:
                acceptors.start_soon(self._acceptor.accept_forever, listener, name=f"accept on {listener}")
            for each in self._stream_listeners:
                acceptors.start_soon(self._stream_acceptor.accept_forever, each, name=f"accept on {each}")
            task_status.started(self)
            await self._asked.wait()
            acceptors.cancel_scope.cancel(reason="shutdown")

    async def _drain(self) -> None:
        """Phase 1, and the wait of phase 2."""
        for listener in self._listeners:
            await self._acceptor.accept_waiting(listener, self.options.backlog)
        for each in self._stream_listeners:
            await self._stream_acceptor.accept_waiting(each, self.options.backlog)
        await self._close_listeners()
        self.draining.set()
        await self._roster.tell_draining()
        self._patience.deadline = min(self._patience.deadline, trio.current_time() + self._grace)
        with self._patience:
            await self._roster.wait_empty()

    async def _close_listeners(self) -> None:
        """Each is closed whatever another raises: that is logged (`StreamListener.aclose`)."""
        while self._listeners:
            self._listeners.pop().close()
        with trio.move_on_after(CLOSE_WITHIN, shield=True):
            while self._stream_listeners:
                await self._stream_listeners.pop().aclose()

    async def _end_connections(self) -> None:
        """Phases 2 and 3: nothing that we queued outlives this call. Each wait is shielded, and each has a deadline."""
        if not len(self._roster):
            return
        self.draining.set()
        self.cutting.set()
        await self._cancel_connections()
        with trio.move_on_after(ABORT_AFTER, shield=True):
            await self._roster.wait_empty()
        self._roster.abort_all()
        while len(self._roster):
            await self._cancel_connections()
            with trio.move_on_after(STILL_WAITING, shield=True):
                await self._roster.wait_empty()
            for connection in self._roster:
                log.warning("still waiting for the handler of %r, which shields itself", connection)

    async def _cancel_connections(self) -> None:
        is_cut = self._patience.cancelled_caught
        with trio.move_on_after(CANCEL_WITHIN, shield=True):
            await self._roster.cancel_all(self._cut_reason if is_cut else "server-cancelled", is_cut=is_cut)

    def _make_connection(self, sock: socket.socket, peer: str, listener: Listener) -> Connection:
        return self._wrap(SocketTransport(sock, self._readiness), peer, describe(listener.address))

    def _make_stream_connection(self, stream: trio.abc.Stream, listener: StreamListener) -> Carried:
        peer = name_of_peer(stream)  # which may raise: so before anything is owned
        transport = self._carriers.carry(stream)
        return self._wrap(transport, peer, listener.name), transport

    def _wrap(self, transport: Transport, peer: str, local: str) -> Connection:
        return Connection(
            transport,
            peer=peer,
            local=local,
            timeouts=self.timeouts,
            now=trio.current_time(),
            draining=self.draining,
        )
