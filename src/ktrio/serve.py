"""The composition root: wires workqueue, network, protocol and handler into servers; may name everything.

`serve_http`, `serve_stream`, `serve_protocol`, `serve_echo` and `serve_monitor` are for any Trio program: they install
no signal handlers and print nothing. Programs that are nothing but a server are `ktrio.commands`.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack, closing
from typing import Final, TypeAlias, cast

import trio
from trio.lowlevel import enable_ki_protection

from ktrio.config import QueueOptions
from ktrio.handlers.hosts import for_hosts
from ktrio.http.dates import format_http_date
from ktrio.http.details import Tell
from ktrio.http.errors import ServiceUnavailable
from ktrio.http.head import HeadMemo
from ktrio.http.messages import Handler
from ktrio.http.policy import Limits
from ktrio.http.responses import render_error
from ktrio.instrumentation.monitor import Monitor
from ktrio.net.addresses import Address, UnixAddress, parse_address
from ktrio.net.connection import Connection, ProtocolFactory
from ktrio.net.deadlines import Timeouts
from ktrio.net.listeners import Listener, adopt_listener, open_listeners
from ktrio.net.stream_listeners import AnyListener, StreamListener
from ktrio.protocols._request_ids import RequestIds
from ktrio.protocols.echo import Echo
from ktrio.protocols.http1 import Http1
from ktrio.protocols.stream import StreamHandler, StreamProtocol
from ktrio.server.lifecycle import Server
from ktrio.server.options import ServerOptions
from ktrio.workqueue import (
    WQ_UNBOUND,
    DestroyedError,
    DrainingError,
    Supervisor,
    Work,
    Workqueue,
    open_supervisor,
)

__all__ = [
    "DEFAULT_ECHO",
    "DEFAULT_HTTP",
    "STREAM_TIMEOUTS",
    "serve_echo",
    "serve_http",
    "serve_monitor",
    "serve_protocol",
    "serve_stream",
]

log = logging.getLogger("ktrio.server")

Where: TypeAlias = Address | socket.socket | AnyListener | str | int

DEFAULT_HTTP: Final = "127.0.0.1:8081"
"""Where `serve_http` listens if nothing is said; the port is khttpd's."""

DEFAULT_ECHO: Final = "127.0.0.1:12345"
"""Where `serve_echo` listens if nothing is said; the port is kecho's."""

SERVER_NAME: Final = "ktrio"
# Permissions of the monitor's socket: what a program does is its owner's business.
MONITOR_MODE: Final = 0o600
STREAM_TIMEOUTS: Final = Timeouts(idle=300.0)
"""The timeouts of `serve_stream` and `serve_echo` if nothing is said: a person at a terminal thinks longer.

To change another one, start from these: ``dataclasses.replace(STREAM_TIMEOUTS, write=60)``.
"""


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
    trust_request_id: bool = False,
    allowed_hosts: Iterable[str] = (),
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve HTTP/1.1 until shut down or cancelled; ``await nursery.start(serve_http, handler)`` gives back a `Server`.

    Does not return before every connection has ended, by whichever road it leaves.

    Args:
      handler: an async function from `Request` to `Response`; its exceptions become a 500 and one log record.
      addresses: where to listen: ``"127.0.0.1:8081"`` (the default), ``"[::1]:0"``, ``"unix:/path"``, ``"fd:3"``, a
        port number on 127.0.0.1, an `Address`, a listening socket, or any `trio.abc.Listener` (for TLS a
        `trio.SSLListener`). What was handed over open is closed in the end.
      options: connections, backlog, grace, errors.
      timeouts: how long each wait for a peer may last.
      limits: how much is taken from a peer.
      queue: simulated CPUs, capacity and max_active of the workqueue it makes for itself.
      workqueue: run connections on this queue instead, which others may use as well.
      tell: called once for each request when it is over; a plain function that does not block. An access log is one:
        `open_access_log`.
      trust_request_id: `Request.id` is what the client has sent as ``X-Request-Id``, if it has. Only where nobody but
        a proxy of yours can connect.
      allowed_hosts: answer requests for these hosts only, others by 421: ``"example.org"``, whatever the port;
        ``"*.example.org"`` for whatever lies below it; IP addresses. None given: for any.

    Raises:
      AddressError, ListenError: an address cannot be used; the message says which and why.
      ValueError: both `queue` and `workqueue` were given, or an allowed host is no name of one.
      BrokenServerError: there was nothing but unexpected errors, more than the options allow; raised when the last
        connection has ended.
      WorkqueueError: `workqueue` is destroyed or draining; at the start, or in the end if that came later.
    """
    limits = limits or Limits()
    date, heads, make_id = _render_date(), HeadMemo(limits), RequestIds(trust=trust_request_id)
    hosts = tuple(allowed_hosts)
    if hosts:
        handler = for_hosts(handler, hosts)
    refusal = render_error(ServiceUnavailable("The server is out of resources.", retry_after=1), date=date())

    def make_protocol(connection: Connection) -> Http1:
        return Http1(
            connection,
            handler,
            limits=limits,
            read_head=heads.read,
            tell=tell,
            make_id=make_id,
            date=date,
            server=SERVER_NAME,
        )

    await serve_protocol(
        make_protocol,
        *(addresses or (DEFAULT_HTTP,)),
        name="http",
        options=options,
        timeouts=timeouts,
        queue=queue,
        workqueue=workqueue,
        refusal=refusal,
        task_status=task_status,
    )


@enable_ki_protection
async def serve_protocol(
    make_protocol: ProtocolFactory,
    *addresses: Where,
    name: str = "protocol",
    options: ServerOptions | None = None,
    timeouts: Timeouts | None = None,
    queue: QueueOptions | None = None,
    workqueue: Workqueue | None = None,
    refusal: bytes = b"",
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve a `ConnectionProtocol` until shut down or cancelled: what the other ``serve_...`` functions stand on.

    For protocols that want to be told from idle ones, to be made room for, and to speak last words, as HTTP is; for
    others `serve_stream` is the better choice. Provisional: `Connection` may change between minor versions.

    Args:
      make_protocol: called with each connection once a worker has taken it; what it gives converses there.
      addresses: where to listen, at least one, as of `serve_http`.
      name: of the workqueue that it makes for itself.
      options, timeouts, queue, workqueue: as of `serve_http`.
      refusal: sent to a client that cannot be served because no descriptor is left.

    Raises:
      AddressError, ListenError: an address cannot be used; the message says which and why.
      BrokenServerError, WorkqueueError: as of `serve_http`.
      ValueError: no address, or both `queue` and `workqueue` were given.
    """
    if not addresses:
        raise ValueError('say where to listen: give at least one address, such as "127.0.0.1:7777"')
    options = options or ServerOptions()
    if queue is not None and workqueue is not None:
        raise ValueError("pass either queue (options of a workqueue to make) or workqueue (one to use), not both")
    async with AsyncExitStack() as opened:
        listeners, stream_listeners = await _listen(addresses, options.backlog, opened)

        async def run_on(queue: Workqueue) -> Server:
            server = Server(
                listeners,
                stream_listeners,
                make_protocol,
                queue,
                options=options,
                timeouts=timeouts or Timeouts(),
                refusal=refusal,
            )
            await server.run(task_status=task_status)
            return server

        if workqueue is not None:
            _check_usable(workqueue)
            server = await run_on(workqueue)
        else:
            own = queue or QueueOptions()
            async with open_supervisor(own.cpus, capacity=own.capacity) as supervisor:
                own_queue = supervisor.alloc_workqueue(
                    name, 0 if own.bound else WQ_UNBOUND, own.max_active, on_error=_log_error
                )
                server = await run_on(own_queue)
                await own_queue.destroy()
    if server.broken is not None:  # here, where no nursery of ours makes a group of it
        raise server.broken


def _check_usable(workqueue: Workqueue) -> None:
    """Raise before the start what would be raised by the first connection."""
    now = workqueue.statistics()
    if now.destroyed:
        raise DestroyedError(f"{workqueue!r} was destroyed: nobody can be served on it")
    if now.draining:
        raise DrainingError(f"{workqueue!r} is draining, or its supervisor was left: nobody can be served on it")


async def _listen(
    addresses: Sequence[Where], backlog: int, opened: AsyncExitStack
) -> tuple[list[Listener], list[StreamListener]]:
    """Listen everywhere. What was handed over comes first, so that nothing of it is left open if an address fails."""
    found: dict[int, list[Listener]] = {}
    stream_listeners: list[StreamListener] = []
    for index, where in enumerate(addresses):
        if isinstance(where, socket.socket | trio.SocketListener):
            found[index] = [adopt_listener(where)]
            opened.callback(found[index][0].close)
        elif isinstance(where, trio.abc.Listener):
            found[index] = []
            stream_listeners.append(StreamListener(where))
            opened.push_async_callback(stream_listeners[-1].aclose)
    for index, where in enumerate(addresses):
        if index not in found:
            address = parse_address(where) if isinstance(where, str | int) else cast("Address", where)
            found[index] = await open_listeners(address, backlog=backlog)
            for listener in found[index]:
                opened.callback(listener.close)
    return [listener for index in range(len(addresses)) for listener in found[index]], stream_listeners


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
      options, queue, workqueue: as of `serve_http`.
      timeouts: `STREAM_TIMEOUTS` if nothing is said, with an idle timeout of 300 s; start from those to change one.

    Raises:
      AddressError, ListenError: an address cannot be used; the message says which and why.
      BrokenServerError, WorkqueueError: as of `serve_http`.
      ValueError: no address, or both `queue` and `workqueue` were given.
    """
    await serve_protocol(
        lambda connection: StreamProtocol(connection, handler),
        *addresses,
        name="stream",
        options=options,
        timeouts=timeouts or STREAM_TIMEOUTS,
        queue=queue,
        workqueue=workqueue,
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
    await serve_protocol(
        Echo,
        *(addresses or (DEFAULT_ECHO,)),
        name="echo",
        options=options,
        timeouts=timeouts or STREAM_TIMEOUTS,
        queue=queue,
        workqueue=workqueue,
        task_status=task_status,
    )


async def serve_monitor(
    supervisor: Supervisor,
    path: str | os.PathLike[str],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Let ``ktrio top PATH`` watch a supervisor, until cancelled.

    One line in any Trio program: ``await nursery.start(serve_monitor, supervisor, path)``. While nobody watches, a task
    waits for a connection and that is all. Up to 8 may watch at once, and none of them can hold up anybody. A server's
    supervisor is `Server.supervisor`.

    Args:
      supervisor: it may be left meanwhile; what is seen from then on is what was last.
      path: of the unix socket, which only its owner may connect to. A socket that nobody listens on any more is
        replaced; in the end it is removed.

    Raises:
      ListenError: `path` cannot be listened on; the message says why, and what to do.
    """
    [listener] = await open_listeners(UnixAddress(os.fspath(path)), mode=MONITOR_MODE)
    with closing(listener):
        sockets = trio.SocketListener(trio.socket.from_stdlib_socket(listener.socket))
        task_status.started()
        await Monitor(supervisor).run(sockets)


def _log_error(work: Work, error: Exception) -> None:
    """The `on_error` of a server's own queue; connections report theirs themselves, so this is never to be seen."""
    log.error("%s failed", work.name, exc_info=error)
