"""The real server on connections in memory: no socket, and no second of real time."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias, cast, final

import trio
from trio.testing import MockClock

from ktrio.config import QueueOptions
from ktrio.http.details import Tell
from ktrio.http.headers import Headers, HeaderSource
from ktrio.http.messages import Handler
from ktrio.http.policy import Limits
from ktrio.net.connection import ProtocolFactory
from ktrio.net.deadlines import Timeouts
from ktrio.protocols.stream import StreamHandler
from ktrio.serve import serve_http, serve_protocol, serve_stream
from ktrio.server.lifecycle import Server
from ktrio.server.options import ServerOptions
from ktrio.testing._clock import advance, run_clock, settle
from ktrio.testing._responses import MemoryResponse, parse_response
from ktrio.testing._streams import BUFFER_BYTES, MemoryListener, MemoryStream
from ktrio.workqueue import Workqueue

# Virtual seconds for a cancelled server to end; it closes its connections within 11. Only a handler that shields itself
# takes longer, and from then on time flies for it.
WIND_UP: Final = 60.0
WIND_UP_STEP: Final = 0.25
# Methods whose request says how long its content is, even if there is none (RFC 9110 section 8.6).
_WITH_CONTENT: Final = frozenset({"POST", "PUT", "PATCH"})

RequestContent: TypeAlias = bytes | AsyncIterable[bytes]
"""What `MemoryServer.request` can send: bytes, or pieces as they come."""


@contextmanager
def ungrouped() -> Generator[None]:
    """What a nursery around one task that can fail raises, as that task raised it."""
    try:
        yield
    except BaseExceptionGroup as group:
        if len(group.exceptions) != 1:
            raise
        only = cast("BaseException", group.exceptions[0])
    else:
        return
    raise only from only.__cause__


@final
class MemoryServer:
    """A running server and the way to it; what `serve_in_memory` gives. Not made by hand.

    Legend: I set once · S changed only in one synchronous stretch.
    """

    def __init__(self, server: Server, listener: MemoryListener, clock: MockClock, scope: trio.CancelScope) -> None:
        self.server: Final = server  # I
        """The `ktrio.Server`."""
        self.clock: Final = clock  # I
        """The clock of the run."""
        self._listener: Final = listener  # I
        self._scope: Final = scope  # I: around the server
        self._streams: list[MemoryStream] = []  # S: all that were connected

    def __repr__(self) -> str:
        return f"<MemoryServer of {self.server!r}>"

    def connect(self, *, buffer_bytes: int = BUFFER_BYTES) -> MemoryStream:
        """A new connection, seen from the client; it is accepted when the server comes to run.

        `buffer_bytes`: how much of what is sent, either way, fits in between; beyond it a sender waits.

        Raises:
          ConnectionRefusedError: the server accepts nobody any more.
          ValueError: `buffer_bytes` is below 1.
        """
        stream = self._listener.connect(buffer_bytes=buffer_bytes)
        self._streams.append(stream)
        return stream

    async def settle(self) -> None:
        """Let everything run that can, until all wait for time, for a peer or for each other. Time stands still.

        Tasks that wait for a worker thread are waited for, in real time.
        """
        await settle()

    async def advance(self, seconds: float) -> None:
        """Let `seconds` pass, from deadline to deadline, and everything run at each. ValueError: they are negative."""
        await advance(self.clock, seconds)

    def reason_of(self, stream: MemoryStream) -> str:
        """Why the connection of `stream` ended, in the words of `ServerStatistics.reasons`; ``""`` while it lives.

        Also ``""`` for one that was never accepted, and for all but the last 32 that closed.
        """
        for each in reversed(self.server.connections()):
            if each.peer == stream.name:
                return each.reason if each.state == "closed" else ""
        return ""

    def cancel(self) -> None:
        """Cancel the server, as its nursery would; plain function. At the end of the block that happens anyway."""
        self._scope.cancel(reason="server-cancelled")

    async def _wind_up(self, over: trio.Event) -> None:
        """End the server, and let it have the time it needs."""
        self.cancel()
        with trio.move_on_after(WIND_UP, shield=True):
            while True:
                await settle()
                if over.is_set():
                    break
                self.clock.jump(WIND_UP_STEP)
        for stream in self._streams:
            stream.close()
        if not over.is_set():
            self.clock.autojump_threshold = 0  # a handler shields itself; let its time come

    async def request(
        self,
        method: str,
        target: str,
        *,
        headers: HeaderSource = (),
        body: RequestContent = b"",
        on: MemoryStream | None = None,
    ) -> MemoryResponse:
        """Send a request and read its response, strictly. Time stands still meanwhile, unless the clock jumps itself.

        Args:
          method, target: as they are sent.
          headers: what is not among them is added: ``Host: memory``, and the framing of `body`.
          body: bytes; or an async iterable, whose pieces are sent as chunks, or as they are if `headers` has a
            ``Content-Length``. What the server does not want any more is not sent.
          on: a connection to use, which stays open; None: a new one for this request.

        Raises:
          AssertionError: the response is not valid, breaks off, or something follows it.
          ConnectionRefusedError: the server accepts nobody any more.
        """
        stream = self.connect() if on is None else on
        fields = Headers(headers)
        is_chunked = not isinstance(body, bytes) and "content-length" not in fields
        if "host" not in fields:
            fields = Headers([("host", "memory"), *fields])
        if is_chunked:
            fields.set("transfer-encoding", "chunked")
        elif isinstance(body, bytes) and (body or method in _WITH_CONTENT) and not _is_framed(fields):
            fields.add("content-length", str(len(body)))
        head = "".join([f"{method} {target} HTTP/1.1\r\n", *(f"{name}: {value}\r\n" for name, value in fields), "\r\n"])
        with ungrouped():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_send_request, stream, head.encode("latin-1"), body, is_chunked)
                response = await _read_response(stream, method)
                nursery.cancel_scope.cancel(reason="the response is complete")
        if on is None:
            stream.close()
        return response


def _is_framed(fields: Headers) -> bool:
    return "content-length" in fields or "transfer-encoding" in fields


async def _send_request(stream: MemoryStream, head: bytes, body: RequestContent, is_chunked: bool) -> None:
    try:
        if isinstance(body, bytes):
            await stream.send_all(head + body)
            return
        await stream.send_all(head)
        async for piece in body:
            if piece:
                await stream.send_all(b"%x\r\n%b\r\n" % (len(piece), piece) if is_chunked else piece)
        if is_chunked:
            await stream.send_all(b"0\r\n\r\n")
    except trio.BrokenResourceError:
        return  # the server has had enough; its response says why, or is missed
    finally:
        aclose = cast("Callable[[], Awaitable[object]] | None", getattr(body, "aclose", None))
        if aclose is not None:
            await aclose()


async def _read_response(stream: MemoryStream, method: str) -> MemoryResponse:
    """The final response; those before it (1xx) are checked and dropped."""
    received = b""
    ended = False
    while True:
        parsed = parse_response(received, method=method, ended=ended)
        if parsed is not None:
            response, taken = parsed
            received = received[taken:]
            if response.status >= 200:
                break
            continue
        try:
            data = await stream.receive_some()
        except trio.BrokenResourceError as error:
            raise AssertionError(f"the server reset the connection after {received[-120:]!r}") from error
        received += data
        ended = not data
    if received:
        raise AssertionError(f"{len(received)} bytes follow the response: {received[:120]!r}")
    return response


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Which server is to run, and how: the arguments of `serve_in_memory`."""

    handler: Handler | None
    stream: StreamHandler | None
    protocol: ProtocolFactory | None
    options: ServerOptions | None
    timeouts: Timeouts | None
    limits: Limits | None
    queue: QueueOptions | None
    workqueue: Workqueue | None
    tell: Tell | None

    def __post_init__(self) -> None:
        if sum(each is not None for each in (self.handler, self.stream, self.protocol)) != 1:
            raise TypeError(
                "give exactly one of: an HTTP handler, stream=a stream handler, protocol=a protocol factory"
            )
        if self.handler is None and (self.limits is not None or self.tell is not None):
            raise TypeError("limits and tell are for HTTP handlers only")

    async def serve(self, listener: MemoryListener, *, task_status: trio.TaskStatus[Server]) -> None:
        """Serve on `listener` until shut down or cancelled."""
        if self.handler is not None:
            serve = partial(serve_http, self.handler, listener, limits=self.limits, tell=self.tell)
        elif self.stream is not None:
            serve = partial(serve_stream, self.stream, listener)
        else:
            assert self.protocol is not None
            serve = partial(serve_protocol, self.protocol, listener)
        await serve(
            options=self.options,
            timeouts=self.timeouts,
            queue=self.queue,
            workqueue=self.workqueue,
            task_status=task_status,
        )

    @asynccontextmanager
    async def run(self) -> AsyncGenerator[MemoryServer]:
        """`serve_in_memory`."""
        clock = run_clock()
        listener, over = MemoryListener(), trio.Event()

        async def serve(
            scope: trio.CancelScope, *, task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED
        ) -> None:
            try:
                with scope:
                    await self.serve(listener, task_status=task_status)
            finally:
                over.set()

        with ungrouped():
            async with trio.open_nursery() as nursery:
                scope = trio.CancelScope()
                server: Server = await nursery.start(serve, scope)
                memory = MemoryServer(server, listener, clock, scope)
                try:
                    yield memory
                finally:
                    await memory._wind_up(over)


@asynccontextmanager
async def serve_in_memory(
    handler: Handler | None = None,
    *,
    stream: StreamHandler | None = None,
    protocol: ProtocolFactory | None = None,
    options: ServerOptions | None = None,
    timeouts: Timeouts | None = None,
    limits: Limits | None = None,
    queue: QueueOptions | None = None,
    workqueue: Workqueue | None = None,
    tell: Tell | None = None,
) -> AsyncGenerator[MemoryServer]:
    """Run the real server on connections in memory while the block runs; gives a `MemoryServer`.

    Time is that of the run's `trio.testing.MockClock`. It stands still unless the test moves it, or the clock jumps by
    itself (``autojump_threshold``). At the end of the block the server is cancelled, as much virtual time passes as it
    needs to end, and everything is gone: connections, tasks, files.

    Args:
      handler: an HTTP handler, for `ktrio.serve_http`; or give one of the next two.
      stream: a handler of plain streams, for `ktrio.serve_stream`.
      protocol: a factory of protocols, for `ktrio.serve_protocol`.
      options, timeouts, limits, queue, workqueue, tell: as of `ktrio.serve_http`; `limits` and `tell` with `handler`
        only.

    Raises:
      RuntimeError: the clock of the run is no `trio.testing.MockClock`.
      TypeError: not exactly one of `handler`, `stream` and `protocol` was given.
      BrokenServerError: the server gave itself up; the block is cancelled.
    """
    recipe = Recipe(
        handler=handler,
        stream=stream,
        protocol=protocol,
        options=options,
        timeouts=timeouts,
        limits=limits,
        queue=queue,
        workqueue=workqueue,
        tell=tell,
    )
    async with recipe.run() as memory:
        yield memory
