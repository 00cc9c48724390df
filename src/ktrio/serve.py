"""The composition root: wires workqueue, network, protocol and handler into servers; may name everything.

`serve_http` and `serve_echo` are for any Trio program: they install no signal handlers and print nothing. Programs that
are nothing but a server are `ktrio.commands`.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final, TypeAlias

import trio
from trio.lowlevel import enable_ki_protection

from ktrio.config import QueueOptions
from ktrio.http.dates import format_http_date
from ktrio.http.details import Tell
from ktrio.http.errors import ServiceUnavailable
from ktrio.http.head import HeadMemo
from ktrio.http.messages import Handler
from ktrio.http.policy import Limits
from ktrio.http.responses import render_error
from ktrio.net.addresses import Address, parse_address
from ktrio.net.connection import Connection, ProtocolFactory
from ktrio.net.deadlines import Timeouts
from ktrio.net.listeners import Listener, open_listeners
from ktrio.protocols.echo import Echo
from ktrio.protocols.http1 import Http1
from ktrio.server.lifecycle import Server
from ktrio.server.options import ServerOptions
from ktrio.workqueue import WQ_UNBOUND, Work, Workqueue, open_supervisor

__all__ = ["DEFAULT_ECHO", "DEFAULT_HTTP", "serve_echo", "serve_http"]

log = logging.getLogger("ktrio.server")

Where: TypeAlias = Address | socket.socket | str | int

DEFAULT_HTTP: Final = "127.0.0.1:8081"
"""Where `serve_http` listens if nothing is said; the port is khttpd's."""

DEFAULT_ECHO: Final = "127.0.0.1:12345"
"""Where `serve_echo` listens if nothing is said; the port is kecho's."""

SERVER_NAME: Final = "ktrio"
# Echo's idle timeout in seconds: a person at a terminal thinks longer than a browser.
ECHO_IDLE: Final = 300.0


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
      options: connections, backlog, grace, errors.
      timeouts: how long each wait for a peer may last.
      limits: how much is taken from a peer.
      queue: simulated CPUs, capacity and max_active of the workqueue it makes for itself.
      workqueue: run connections on this queue instead, which others may use as well.
      tell: called once for each request when it is over; a plain function that does not block.

    Raises:
      AddressError, ListenError: an address cannot be used; the message says which and why.
      ValueError: both `queue` and `workqueue` were given.
      BrokenServerError: there was nothing but unexpected errors, more than the options allow; raised when the last
        connection has ended.
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
        timeouts=timeouts or Timeouts(idle=ECHO_IDLE),
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
    with ExitStack() as opened:
        listeners: list[Listener] = []
        for where in addresses:
            address = parse_address(where) if isinstance(where, str | int) else where
            for listener in await open_listeners(address, backlog=options.backlog):
                opened.callback(listener.close)
                listeners.append(listener)

        async def run_on(queue: Workqueue) -> Server:
            server = Server(listeners, make_protocol, queue, options=options, timeouts=timeouts, refusal=refusal)
            await server.run(task_status=task_status)
            return server

        if workqueue is not None:
            server = await run_on(workqueue)
        else:
            own = queue or QueueOptions()
            async with open_supervisor(own.cpus, capacity=own.capacity) as supervisor:
                own_queue = supervisor.alloc_workqueue(name, WQ_UNBOUND, own.max_active, on_error=_log_error)
                server = await run_on(own_queue)
                await own_queue.destroy()
    if server.broken is not None:  # here, where no nursery of ours makes a group of it
        raise server.broken


def _log_error(work: Work, error: Exception) -> None:
    """The `on_error` of a server's own queue; connections report theirs themselves, so this is never to be seen."""
    log.error("%s failed", work.name, exc_info=error)
