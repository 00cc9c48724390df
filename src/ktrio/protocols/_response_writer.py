"""Writing one response: head, framing, body, each kind by its own road; small things in one send.

Whatever the road, the response's body is closed exactly once by `close_body`, which the protocol calls in ``finally``.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable
from typing import Final, final

import trio

from ktrio.http.errors import ResponseError
from ktrio.http.h1 import Exchange
from ktrio.http.headers import Headers
from ktrio.http.messages import FileRange, Response
from ktrio.net.connection import Connection, State
from ktrio.protocols._user_code import user_code

# Bytes: up to here a file is read into memory and goes out with its head in one send. That much fits into any socket
# buffer that has room at all, and `sendfile` costs two more system calls.
SMALL_FILE: Final = 64 * 1024


def is_sendable(body: object) -> bool:
    """Is this one of the three kinds of body? Asked before anything of a response is sent."""
    return isinstance(body, bytes | FileRange) or hasattr(body, "__aiter__")


def _nothing() -> None:
    """The peer of a stream is watched from its head on."""


async def close_body(response: Response) -> None:
    """Close what a response's body holds: a file's descriptor, or an iterable's resources. No checkpoint for a file."""
    body = response.body
    if isinstance(body, FileRange):
        body.close()
    elif not isinstance(body, bytes):
        await _aclose(body)


async def _aclose(resource: object) -> None:
    aclose = getattr(resource, "aclose", None)
    if aclose is not None:
        await aclose()


@final
class ResponseWriter:
    """Writes the response of one exchange to its connection.

    Legend: I set once · T only by the connection's task.
    """

    __slots__ = ("_connection", "_exchange", "_head_bytes", "_sent_before", "_status", "_streamed")

    def __init__(self, connection: Connection, exchange: Exchange) -> None:
        self._connection = connection  # I
        self._exchange = exchange  # I
        self._status = 0  # T: of the response that is being sent
        self._sent_before = connection.bytes_sent  # T: by the connection, when its head was rendered
        self._head_bytes = 0  # T: how long that is
        self._streamed: int | None = None  # T: bytes of a body that comes in pieces

    @property
    def status(self) -> int:
        """The status of the response, if anything of it was sent; 0: nothing was."""
        return self._status if self._connection.bytes_sent > self._sent_before else 0

    @property
    def body_bytes(self) -> int:
        """Bytes of the body sent so far, without framing."""
        if self._streamed is not None:
            return self._streamed
        return max(0, self._connection.bytes_sent - self._sent_before - self._head_bytes) if self._status else 0

    async def send(self, response: Response, *, common: Iterable[tuple[str, str]], close: bool) -> None:
        """Send `response`, with the fields of `common` it does not set itself. No checkpoint if it fits at once.

        Raises:
          ResponseError, TypeError: it is no valid response; `status` is 0 if nothing was sent of it.
          ConnectionGone: the peer is gone.
          OSError: the file cannot be read.
          and whatever an iterable body raises.
        """
        connection, exchange, body = self._connection, self._exchange, response.body
        if not is_sendable(body):
            raise TypeError(f"the body of a response is bytes, a FileRange or an async iterable, not {body!r:.100}")
        head = self._render_head(response, common, close=close)
        self._status, self._sent_before, self._head_bytes = response.status, connection.bytes_sent, len(head)
        connection.begin_answer()
        if not exchange.sends_body:
            await self._send_at_once(head + exchange.end_body())
        elif isinstance(body, bytes):
            await self._send_at_once(b"".join((head, *exchange.send_body(body), exchange.end_body())))
        elif isinstance(body, FileRange):
            await self._send_file(head, body)
        else:
            await self._send_iterable(head, body)

    def _render_head(self, response: Response, common: Iterable[tuple[str, str]], *, close: bool) -> bytes:
        body, headers = response.body, response.headers
        if isinstance(body, bytes):
            length: int | None = len(body)
        else:
            length = body.count if isinstance(body, FileRange) else None
        missing = [field for field in common if field[0] not in headers]
        if missing:
            headers = Headers([*headers, *missing])
        return self._exchange.send_head(response.status, headers, close=close, body_length=length)

    async def _send_at_once(self, data: bytes) -> None:
        """Send what fits in one go without a checkpoint: the loop will wait for the next head anyway."""
        sent = self._connection.send_nowait(data)
        if sent < len(data):
            self._connection.become(State.WRITING)
            await self._connection.send_all(memoryview(data)[sent:])

    async def _send_file(self, head: bytes, body: FileRange) -> None:
        connection, exchange = self._connection, self._exchange
        exchange.pass_through(body.count)
        if body.count <= SMALL_FILE:
            data = connection.read_resident(body.descriptor, body.offset, body.count)
            if data is not None:
                await self._send_at_once(head + data)
                exchange.end_body()
                return
        connection.become(State.WRITING)
        await connection.send_all(head)
        sent = await connection.send_file(body.descriptor, body.offset, body.count)
        if sent < body.count:
            raise ResponseError(f"the file ended {body.count - sent} bytes before the length it had when it was opened")
        exchange.end_body()

    async def _send_iterable(self, head: bytes, body: AsyncIterable[bytes]) -> None:
        """Each piece goes out as it comes. The slot is kept: between two pieces the handler's code is at work."""
        connection, exchange = self._connection, self._exchange
        self._streamed = 0
        connection.become(State.WRITING)
        connection.watch_peer()
        connection.begin_answer()
        await connection.send_all(head, parked=False)
        iterator = aiter(body)
        try:
            while (data := await user_code(anext(iterator, None), _nothing)) is not None:
                if not data:
                    await trio.lowlevel.checkpoint()
                    continue
                await connection.send_all(exchange.send_body(data), parked=False)
                self._streamed += len(data)
        finally:
            if iterator is not body:  # made for this iteration: nobody else will close it
                await _aclose(iterator)
        last = exchange.end_body()
        if last:
            await connection.send_all(last, parked=False)
