"""Writing one response: head, framing, body, each kind by its own road; small things in one send.

Whatever the road, the response's body is closed exactly once by `close_body`, which the protocol calls in ``finally``.

A body that comes in pieces is run before its head is sent. The head goes out with the first piece, in one send, or as
soon as the body waits for something: a client of a stream of events hears at once that it is connected. So an error
before that is still told as one. A client that waits for ``100 Continue`` is the exception: a final response would end
its patience, so its head stays until the first piece, and the body may ask for the request's body first.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable
from typing import Final, TypeGuard, cast, final

import trio
from trio.lowlevel import enable_ki_protection

from ktrio.http.errors import ResponseError
from ktrio.http.h1 import Exchange
from ktrio.http.headers import Headers
from ktrio.http.messages import BodyWriter, FileRange, FileRanges, Response
from ktrio.http.responses import has_no_body
from ktrio.net._files import read_resident
from ktrio.net.connection import Connection, State
from ktrio.net.errors import ConnectionGone
from ktrio.protocols._user_code import call_handler, user_code

# Bytes: up to here a file is read into memory and goes out with its head in one send. That much fits into any socket
# buffer that has room at all, and `sendfile` costs two more system calls.
SMALL_FILE: Final = 64 * 1024

_END: Final = object()  # of an iterable; None would be a piece of the wrong type


_FILES: Final = (FileRange, FileRanges)
_WHOLE: Final = (bytes, *_FILES)


def is_there(body: object) -> bool:
    """Is this body there as a whole when the handler returns: with a length, and nothing of it runs any more?"""
    return isinstance(body, _WHOLE)


def is_sendable(body: object) -> bool:
    """Is this one of the kinds of body there are? Asked before anything of a response is sent."""
    return is_there(body) or hasattr(body, "__aiter__") or callable(body)


def _is_writer(body: object) -> TypeGuard[BodyWriter]:
    """Is this a writer function? What can be iterated is iterated, though it may be callable as well."""
    return not hasattr(body, "__aiter__")


async def close_body(response: Response) -> None:
    """Close what a response's body holds: a file's descriptor, or an iterable's resources. No checkpoint for a file."""
    body = response.body
    if isinstance(body, _FILES):
        body.close()
    elif not isinstance(body, bytes):
        await _aclose(body)


async def _aclose(resource: object) -> None:
    aclose = getattr(resource, "aclose", None)
    if aclose is not None:
        await user_code(aclose(), _nothing)


def _nothing() -> None:
    """Nobody watches the peer of a body that is over."""


@final
class BrokenPieceError(ResponseError):
    """A piece was cancelled when a part of it had gone out: what followed it would pass for its rest."""


@final
class ResponseWriter:
    """Writes the response of one exchange to its connection; `method` is the request's.

    Legend: I set once · T only by the connection's task.
    """

    __slots__ = (
        "_connection",
        "_exchange",
        "_head_bytes",
        "_is_broken",
        "_is_sending",
        "_is_streaming",
        "_is_watching",
        "_method",
        "_render",
        "_sent_before",
        "_status",
        "_streamed",
        "_unsent",
        "began",
    )

    def __init__(self, connection: Connection, exchange: Exchange, method: str) -> None:
        self._connection = connection  # I
        self._exchange = exchange  # I
        self._method = method  # I
        self._status = 0  # T: of the response that is being sent
        self._sent_before = connection.bytes_sent  # T: by the connection, when its head was rendered
        self._head_bytes = 0  # T: how long that is
        self.began: float | None = None  # T: when the first of it was sent; None: it was not, or all of it at once
        # T: of a body that comes in pieces; `_streamed` None: it does not.
        self._streamed: int | None = None  # bytes of it sent
        self._render: Callable[[], bytes] | None = None  # renders the head, if that is still to be done
        self._unsent = b""  # the head, or the rest of it, while it waits for the first piece
        self._is_watching = False
        self._is_streaming = False  # may the writer function send?
        self._is_sending = False
        self._is_broken = False  # was a piece given up while it was sent?

    @property
    def status(self) -> int:
        """The status of the response, if anything of it was sent; 0: nothing was."""
        return self._status if self._connection.bytes_sent > self._sent_before else 0

    @property
    def is_in_use(self) -> bool:
        """Is a task that was left behind still sending a piece? Then nobody else can send on this connection."""
        return self._is_sending

    @property
    def body_bytes(self) -> int:
        """Bytes of the body sent so far, without framing."""
        if self._streamed is not None:
            return self._streamed
        return max(0, self._connection.bytes_sent - self._sent_before - self._head_bytes) if self._status else 0

    async def send(
        self, response: Response, *, common: Iterable[tuple[str, str]], must_close: Callable[[], bool]
    ) -> None:
        """Send `response`, with the fields of `common` it does not set itself. No checkpoint if it fits at once.

        `must_close` is asked when the head is rendered: is this the connection's last response?

        Raises:
          ResponseError, TypeError: it is no valid response; `status` is 0 if nothing was sent of it.
          ConnectionGone: the peer is gone.
          OSError: the file cannot be read.
          and whatever a body that comes in pieces raises.
        """
        connection, exchange, body = self._connection, self._exchange, response.body
        if not is_sendable(body):
            raise TypeError(
                f"a response's body is bytes, a FileRange, an async iterable or an async function, not {body!r:.100}"
            )
        if isinstance(body, _WHOLE) or has_no_body(self._method, response.status):
            head = self._render_head(response, common, must_close)
            connection.begin_answer()
            if not exchange.sends_body:
                await self._send_at_once(head + exchange.end_body())
            elif isinstance(body, bytes):
                await self._send_at_once(b"".join((head, *exchange.send_body(body), exchange.end_body())))
            elif isinstance(body, FileRange):
                await self._send_file(head, body)
            elif isinstance(body, FileRanges):
                await self._send_parts(head, body)
            return
        self._render = lambda: self._render_head(response, common, must_close)
        await self._send_stream(body, response.trailers)

    def _render_head(
        self, response: Response, common: Iterable[tuple[str, str]], must_close: Callable[[], bool]
    ) -> bytes:
        body, headers = response.body, response.headers
        if isinstance(body, bytes):
            length: int | None = len(body)
        else:
            length = body.count if isinstance(body, _FILES) else None
        set_by_handler = {name for name, _value in headers}
        headers = Headers(headers)
        for name, value in common:
            if name not in set_by_handler:
                headers.add(name, value)
        head = self._exchange.send_head(
            response.status,
            headers,
            close=must_close(),
            body_length=length,
            has_trailers=response.trailers is not None,
        )
        self._status, self._sent_before, self._head_bytes = response.status, self._connection.bytes_sent, len(head)
        return head

    async def _send_at_once(self, data: bytes) -> None:
        """Send what fits in one go without a checkpoint: the loop will wait for the next head anyway."""
        sent = self._connection.send_nowait(data)
        if sent < len(data):
            if sent:
                self._note_beginning()
            self._connection.become(State.WRITING)
            await self._connection.send_all(memoryview(data)[sent:])

    def _note_beginning(self) -> None:
        """Some of it has been sent, and the rest may take a while."""
        if self.began is None:
            self.began = trio.current_time()

    async def _send_file(self, head: bytes, body: FileRange) -> None:
        connection, exchange = self._connection, self._exchange
        exchange.pass_through(body.count)
        if body.count <= SMALL_FILE:
            data = read_resident(body.descriptor, body.offset, body.count)
            if data is not None:
                await self._send_at_once(head + data)
                exchange.end_body()
                return
        connection.become(State.WRITING)
        await connection.send_all(head)
        self._note_beginning()
        await self._send_range(body.descriptor, body.offset, body.count)
        exchange.end_body()

    async def _send_parts(self, head: bytes, body: FileRanges) -> None:
        self._exchange.pass_through(body.count)
        self._connection.become(State.WRITING)
        for before, offset, count in body.parts:
            await self._connection.send_all(head + before)
            self._note_beginning()
            head = b""
            await self._send_range(body.descriptor, offset, count)
        await self._connection.send_all(head + body.end)
        self._exchange.end_body()

    async def _send_range(self, descriptor: int, offset: int, count: int) -> None:
        sent = await self._connection.send_file(descriptor, offset, count)
        if sent < count:
            raise ResponseError(f"the file ended {count - sent} bytes before the length it had when it was opened")

    # -- a body that comes in pieces: while its peer is slow the slot is somebody else's; but the handler may hold
    #    what others need, so it comes back without standing in line

    async def _send_stream(self, body: AsyncIterable[bytes] | BodyWriter, trailers: Headers | None) -> None:
        self._streamed = 0
        if not self._exchange.awaits_continue:
            self._render_now()
        self._is_streaming = True
        try:
            if _is_writer(body):
                await user_code(call_handler(body, self.send_bytes), self._watch, self._send_head)
            else:
                await self._iterate(cast("AsyncIterable[bytes]", body))
        finally:
            self._is_streaming = False
            self._is_broken = self._is_broken or self._is_sending  # by a task that was left behind
        self._check_unbroken()
        self._render_now()
        last = self._exchange.end_body(trailers)
        if self._unsent or last:
            await self._send_buffers(last)

    async def _iterate(self, body: AsyncIterable[bytes]) -> None:
        iterator = aiter(body)
        try:
            while (data := await user_code(anext(iterator, _END), self._watch, self._send_head)) is not _END:
                await self._send_piece(data)
        finally:
            if iterator is not body:  # made for this iteration: nobody else will close it
                await _aclose(iterator)

    @enable_ki_protection
    async def send_bytes(self, data: bytes) -> None:
        """What a writer function sends with. A checkpoint.

        Raises:
          trio.BusyResourceError: another task sends.
          RuntimeError: the writer function has ended.
          ResponseError: more than the ``Content-Length`` said; or an earlier piece was cancelled half way.
          TypeError: no bytes.
          ConnectionGone: the peer is gone; leave it unhandled.
        """
        if not self._is_streaming:
            raise RuntimeError("the body of this response has ended")
        if self._is_sending:
            raise trio.BusyResourceError("another task sends a piece of this response")
        self._is_sending = True
        try:
            await self._send_piece(data)
        finally:
            self._is_sending = False

    async def _send_piece(self, data: object) -> None:
        if not isinstance(data, bytes):
            raise TypeError(f"a piece of a response's body is bytes, not {type(data).__name__}")
        self._check_unbroken()
        self._render_now()
        framed = self._exchange.send_body(data)
        if not framed and not self._unsent:
            await trio.lowlevel.checkpoint()
            return
        try:
            await self._send_buffers(*framed)
        except trio.Cancelled:
            if not self._is_broken:
                self._exchange.unsend_body(len(data))
            raise
        self._streamed = (self._streamed or 0) + len(data)

    async def _send_buffers(self, *framed: bytes) -> None:
        """Send these, and before them what has not been sent of the head."""
        connection, unsent = self._connection, self._unsent
        buffers = [each for each in (unsent, *framed) if each]
        self._unsent = b""
        self._connection.become(State.WRITING)
        connection.note_piece()
        before = connection.bytes_sent
        try:
            await connection.send_all(buffers, within_answer=True)
            self._note_beginning()
        except trio.Cancelled:
            if connection.bytes_sent > before:
                self._is_broken = True
            else:  # nothing of it went out: it was never sent
                self._unsent = unsent
            raise

    def _check_unbroken(self) -> None:
        """Was a piece cancelled when a part of it had gone out? What follows it would pass for its rest."""
        if self._is_broken:
            raise BrokenPieceError("a piece of the body was cancelled when a part of it was sent: nothing can follow")

    def _render_now(self) -> None:
        render, self._render = self._render, None
        if render is not None:
            self._unsent = render()

    def _watch(self) -> None:
        """The body lets go of the loop: from now on something may happen to its peer."""
        if not self._is_watching:
            self._is_watching = True
            self._connection.watch_peer()

    def _send_head(self) -> None:
        """The body waits for something; the head, if it is still here, need not."""
        if not self._unsent:
            return
        try:
            sent = self._connection.send_nowait(self._unsent)
        except ConnectionGone:
            return  # the next send tells it, where it can be told
        if sent:
            self._note_beginning()
            self._unsent = self._unsent[sent:]
            self._connection.become(State.WRITING)
            self._connection.note_piece()
