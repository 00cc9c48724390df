"""The composition root: wires workqueue, network, protocol and handler into servers; may name everything.

`serve_http` and `serve_echo` are for any Trio program: they install no signal handlers and print nothing. The commands
(`run_http_command`, `run_echo_command`) are programs that are nothing but a server: signals and exit status are theirs.
"""

from __future__ import annotations

import gc
import logging
import os
import resource
import socket
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias, cast, final

import trio
from trio.lowlevel import enable_ki_protection

from ktrio.config import CommandSettings, QueueOptions
from ktrio.handlers.files import RootError, files
from ktrio.http.dates import format_http_date
from ktrio.http.details import Tell
from ktrio.http.errors import ServiceUnavailable
from ktrio.http.head import HeadMemo
from ktrio.http.messages import Handler
from ktrio.http.policy import Limits
from ktrio.http.responses import render_error
from ktrio.instrumentation.access_log import AccessLog
from ktrio.net.addresses import Address, describe, parse_address, url_of
from ktrio.net.connection import Connection, ProtocolFactory
from ktrio.net.deadlines import Timeouts
from ktrio.net.errors import AddressError, ListenError
from ktrio.net.listeners import Listener, open_listeners
from ktrio.net.stream_listeners import AnyListener, StreamListener
from ktrio.protocols.echo import Echo
from ktrio.protocols.http1 import Http1
from ktrio.protocols.stream import StreamHandler, StreamProtocol
from ktrio.server.lifecycle import Server, ServerOptions
from ktrio.server.signals import forwarding, status_of
from ktrio.workqueue import WQ_UNBOUND, Work, Workqueue, open_supervisor

__all__ = [
    "DEFAULT_ECHO",
    "DEFAULT_HTTP",
    "STARTUP_ERRORS",
    "Narrator",
    "Server",
    "describe",
    "exit_status",
    "raise_open_file_limit",
    "run_echo_command",
    "run_http_command",
    "serve_echo",
    "serve_http",
    "serve_stream",
    "url_of",
]

log = logging.getLogger("ktrio.server")

Where: TypeAlias = Address | socket.socket | AnyListener | str | int

DEFAULT_HTTP: Final = "127.0.0.1:8081"
"""Where `serve_http` listens if nothing is said; the port is khttpd's."""

DEFAULT_ECHO: Final = "127.0.0.1:12345"
"""Where `serve_echo` listens if nothing is said; the port is kecho's."""

SERVER_NAME: Final = "ktrio"
# Idle timeout of echo and of plain streams in seconds: a person at a terminal thinks longer than a browser.
STREAM_IDLE: Final = 300.0
STARTUP_ERRORS: Final = (AddressError, ListenError, RootError)
"""What can be wrong with what a server was asked for; each says it in one line."""

# Seconds from the cancellation of what did not finish to `os._exit`, for a handler that shields itself.
LAST_RESORT_AFTER: Final = 2.0


def _render_date() -> Callable[[], str]:
    """The present ``Date``, rendered once a second (RFC 9110 section 6.6.1)."""
    second, rendered = 0, ""

    def date() -> str:
        nonlocal second, rendered
        now = int(time.time())
        if now != second:
            second, rendered = now, format_http_date(now)
        return rendered

    return date


async def serve_http(
    handler: Handler,
    *addresses: Where,
    options: ServerOptions | None = None,
    timeouts: Timeouts | None = None,
    limits: Limits | None = None,
    queue: QueueOptions | None = None,
    workqueue: Workqueue | None = None,
    tell: Tell | None = None,
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve HTTP/1.1 until shut down or cancelled; ``await nursery.start(serve_http, handler)`` gives back a `Server`.

    Does not return before every connection has ended, by whichever road it leaves.

    Args:
      handler: an async function from `Request` to `Response`; its exceptions become a 500 and one log record.
      addresses: where to listen: ``"127.0.0.1:8081"`` (the default), ``"[::1]:0"``, ``"unix:/path"``, ``"fd:3"``, a
        port number on 127.0.0.1, an `Address`, or a listening socket, which is closed in the end.
      options: connections, backlog, grace.
      timeouts: how long each wait for a peer may last.
      limits: how much is taken from a peer.
      queue: simulated CPUs, capacity and max_active of the workqueue it makes for itself.
      workqueue: run connections on this queue instead, which others may use as well.
      tell: called once for each request when it is over; a plain function that does not block.

    Raises:
      AddressError, ListenError: an address cannot be used; the message says which and why.
      ValueError: both `queue` and `workqueue` were given.
    """
    limits = limits or Limits()
    date, heads = _render_date(), HeadMemo(limits)
    refusal = render_error(ServiceUnavailable("The server is out of resources.", retry_after=1), date=date())

    def make_protocol(connection: Connection) -> Http1:
        return Http1(
            connection,
            handler,
            limits=limits,
            read_head=heads.read,
            tell=tell,
            date=date,
            server=SERVER_NAME,
        )

    await _serve(
        "http",
        make_protocol,
        addresses or (DEFAULT_HTTP,),
        options=options or ServerOptions(),
        timeouts=timeouts or Timeouts(),
        queue=queue,
        workqueue=workqueue,
        refusal=refusal,
        task_status=task_status,
    )


async def serve_stream(
    handler: StreamHandler,
    *addresses: Where,
    options: ServerOptions | None = None,
    timeouts: Timeouts | None = None,
    queue: QueueOptions | None = None,
    workqueue: Workqueue | None = None,
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve a protocol of your own until shut down or cancelled: `handler` gets the stream of each connection.

    What `trio.serve_tcp` does not: there is a limit to connections and to handlers at work, every wait for a peer has a
    deadline, an error costs its own connection, and a shutdown lets handlers finish within its grace.

    Args:
      handler: an async function of a `ConnectionStream`, a `trio.abc.HalfCloseableStream`. It begins once it has one
        of max_active slots; while it waits for its peer in the stream, the slot is somebody else's. The connection is
        closed when it returns. Its exceptions are logged once and cost its connection; that its peer is gone
        (`trio.BrokenResourceError`) is none. It is cancelled if the peer is silent, takes nothing, or is gone.
      addresses: where to listen, at least one, as of `serve_http`.
      options, timeouts, queue, workqueue: as of `serve_http`; the default idle timeout is 300 s.

    Raises:
      AddressError, ListenError: an address cannot be used; the message says which and why.
      ValueError: no address, or both `queue` and `workqueue` were given.
    """
    if not addresses:
        raise ValueError('say where to listen, as in serve_stream(handler, "127.0.0.1:7777")')
    await _serve(
        "stream",
        lambda connection: StreamProtocol(connection, handler),
        addresses,
        options=options or ServerOptions(),
        timeouts=timeouts or Timeouts(idle=STREAM_IDLE),
        queue=queue,
        workqueue=workqueue,
        refusal=b"",
        task_status=task_status,
    )


async def serve_echo(
    *addresses: Where,
    options: ServerOptions | None = None,
    timeouts: Timeouts | None = None,
    queue: QueueOptions | None = None,
    workqueue: Workqueue | None = None,
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve TCP echo until shut down or cancelled; ``await nursery.start(serve_echo)`` gives back a `Server`.

    Arguments and errors as of `serve_http`; the default address is 127.0.0.1:12345, the default idle timeout 300 s.
    """
    await _serve(
        "echo",
        Echo,
        addresses or (DEFAULT_ECHO,),
        options=options or ServerOptions(),
        timeouts=timeouts or Timeouts(idle=STREAM_IDLE),
        queue=queue,
        workqueue=workqueue,
        refusal=b"",
        task_status=task_status,
    )


@enable_ki_protection
async def _serve(
    name: str,
    make_protocol: ProtocolFactory,
    addresses: tuple[Where, ...],
    *,
    options: ServerOptions,
    timeouts: Timeouts,
    queue: QueueOptions | None,
    workqueue: Workqueue | None,
    refusal: bytes,
    task_status: trio.TaskStatus[Server],
) -> None:
    if queue is not None and workqueue is not None:
        raise ValueError("pass either queue (options of a workqueue to make) or workqueue (one to use), not both")
    async with AsyncExitStack() as opened:
        listeners: list[Listener] = []
        stream_listeners: list[StreamListener] = []
        for where in addresses:
            if isinstance(where, trio.abc.Listener) and not isinstance(where, trio.SocketListener):
                stream_listeners.append(StreamListener(where))
                opened.push_async_callback(stream_listeners[-1].aclose)
                continue
            address = parse_address(where) if isinstance(where, str | int) else where
            for listener in await open_listeners(address, backlog=options.backlog):
                opened.callback(listener.close)
                listeners.append(listener)

        async def run_on(queue: Workqueue) -> None:
            server = Server(
                listeners,
                stream_listeners,
                make_protocol,
                queue,
                options=options,
                timeouts=timeouts,
                refusal=refusal,
            )
            await server.run(task_status=task_status)

        if workqueue is not None:
            await run_on(workqueue)
            return
        own = queue or QueueOptions()
        async with open_supervisor(own.cpus, capacity=own.capacity) as supervisor:
            own_queue = supervisor.alloc_workqueue(name, WQ_UNBOUND, own.max_active, on_error=_log_error)
            await run_on(own_queue)
            await own_queue.destroy()


def _log_error(work: Work, error: Exception) -> None:
    """The `on_error` of a server's own queue; connections report theirs themselves, so this is never to be seen."""
    log.error("%s failed", work.name, exc_info=error)


# -- for a program that is nothing but a server


class Narrator(Protocol):
    """What a command says while it serves; plain functions."""

    def started(self, server: Server) -> None:
        """It accepts connections."""
        ...

    def draining(self, server: Server) -> None:
        """Nobody new is accepted, and everybody was told."""
        ...

    def waiting(self, server: Server) -> None:
        """It still drains; called once a second."""
        ...

    def ended(self, server: Server, seconds: float) -> None:
        """It is over, `seconds` after the first signal."""
        ...


def exit_status(cut: int, forced_by: int | None) -> int:
    """The status of a command told to stop: 128 + n if a second signal forced it, 4 if an answer was cut, or 0."""
    if forced_by is not None:
        return status_of(forced_by)
    return 4 if cut else 0


def raise_open_file_limit() -> tuple[int, int]:
    """Raise the limit on open files to the hard one; the limit before and after."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError):  # macOS calls its hard limit infinite and refuses it
        return soft, soft
    return soft, hard


def run_http_command(settings: CommandSettings, narrator: Narrator, write_log: Callable[[str], object]) -> int:
    """Run ``ktrio serve``: the folder of `settings`, until signalled; the exit status.

    Raises:
      RootError, ListenError, AddressError: it cannot be served, in one line.
    """
    handler = files("." if settings.folder is None else settings.folder)
    tell = AccessLog(write_log) if settings.access_log else None

    async def serve(*, task_status: trio.TaskStatus[Server]) -> None:
        await serve_http(
            handler,
            *settings.addresses,
            options=settings.server,
            timeouts=settings.timeouts,
            limits=settings.limits,
            queue=settings.queue,
            tell=tell,
            task_status=task_status,
        )

    return trio.run(_run_until_signalled, serve, narrator)


def run_echo_command(settings: CommandSettings, narrator: Narrator) -> int:
    """Run ``ktrio echo`` until signalled; the exit status. Raises as `run_http_command`."""

    async def serve(*, task_status: trio.TaskStatus[Server]) -> None:
        await serve_echo(
            *settings.addresses,
            options=settings.server,
            timeouts=settings.timeouts,
            queue=settings.queue,
            task_status=task_status,
        )

    return trio.run(_run_until_signalled, serve, narrator)


class _Serve(Protocol):
    def __call__(self, *, task_status: trio.TaskStatus[Server]) -> Awaitable[None]: ...


@final
@dataclass(slots=True)
class _Signalled:
    """A server and what signals have asked of it; changed only in one synchronous stretch (S)."""

    server: Server | None = None  # None: it has not started
    first_at: float = 0.0
    early: int | None = None  # a signal that came before the server had started
    forced_by: int | None = None  # the second signal, if anything was left for it to force


async def _run_until_signalled(serve: _Serve, narrator: Narrator) -> int:
    """Serve until told to stop by signals, and tell the story; the exit status."""
    state = _Signalled()

    def on_signal(signum: int, count: int) -> None:
        server = state.server
        if server is None:
            state.early = signum
            nursery.cancel_scope.cancel(reason="signalled before the start")
        elif count == 1:
            state.first_at = trio.current_time()
            server.begin_shutdown()
        else:
            if server.statistics().busy:
                state.forced_by = signum
            server.force_shutdown("second-signal")

    with forwarding(on_signal), _single_error_unwrapped():
        async with trio.open_nursery() as nursery:
            await nursery.start(_serve_then_cancel, serve, nursery.cancel_scope, state)
            gc.freeze()  # what is there now stays: the collector need not look at it again under load
            if state.server is not None:
                narrator.started(state.server)
                nursery.start_soon(_narrate_drain, state.server, narrator)
                nursery.start_soon(_leave_as_last_resort, state.server, narrator, state)
    return _conclude(state, narrator)


def _conclude(state: _Signalled, narrator: Narrator) -> int:
    """The closing line and the exit status of a command whose server has ended."""
    server = state.server
    if server is None:
        return status_of(state.early or 0)
    if not state.first_at:  # nobody has told it to stop: it ended by itself
        return 1
    narrator.ended(server, trio.current_time() - state.first_at)
    return exit_status(server.statistics().cut, state.forced_by)


@contextmanager
def _single_error_unwrapped() -> Generator[None]:
    """What a nursery of ours raises in a group of one, the address that cannot be bound say, is raised by itself."""
    try:
        yield
    except BaseExceptionGroup as group:
        if len(group.exceptions) == 1:
            raise group.exceptions[0] from None
        raise


async def _serve_then_cancel(
    serve: _Serve, scope: trio.CancelScope, state: _Signalled, *, task_status: trio.TaskStatus[Server]
) -> None:
    class Started:
        """Notes the server in the very step in which it starts: a signal may come before anybody else learns of it."""

        def started(self, value: Server) -> None:
            state.server = value
            task_status.started(value)

    await serve(task_status=cast("trio.TaskStatus[Server]", Started()))
    scope.cancel(reason="the server has ended")


async def _narrate_drain(server: Server, narrator: Narrator) -> None:
    await server.draining.wait()
    narrator.draining(server)
    while True:
        await trio.sleep(1)
        narrator.waiting(server)


async def _leave_as_last_resort(server: Server, narrator: Narrator, state: _Signalled) -> None:
    """A handler that shields itself can hold everything up but this."""
    await server.cutting.wait()
    await trio.sleep(LAST_RESORT_AFTER)
    os._exit(_conclude(state, narrator))
