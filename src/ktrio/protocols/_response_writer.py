"""Writing one response: head, framing, body, each kind by its own road; small things in one send.

Whatever the road, the response's body is closed exactly once by `close_body`, which the protocol calls in ``finally``.
"""

from __future__ import annotations

from collections.abc import AsyncIterable
from typing import final

import trio

from ktrio.http.errors import ResponseError
from ktrio.http.h1 import Exchange
from ktrio.http.headers import Headers
from ktrio.http.messages import FileRange, Response
from ktrio.net.connection import Connection, State


async def close_body(response: Response) -> None:
    """Close what a response's body holds: a file's descriptor, or an iterator's resources. No checkpoint for a file."""
    body = response.body
    if isinstance(body, FileRange):
        body.close()
    elif not isinstance(body, bytes):
        aclose = getattr(body, "aclose", None)
        if aclose is not None:
            await aclose()


@final
class ResponseWriter:
    """Writes the response of one exchange to its connection.

    Legend: I set once · T only by the connection's task.
    """

    __slots__ = ("_connection", "_exchange", "body_bytes", "status")

    def __init__(self, connection: Connection, exchange: Exchange) -> None:
        self._connection = connection  # I
        self._exchange = exchange  # I
        self.status = 0  # T: of the head that was sent; 0: none yet
        self.body_bytes = 0  # T: bytes of the body sent, without framing

    async def send(self, response: Response, *, common: Headers, close: bool) -> None:
        """Send `response`, with the fields of `common` it does not set itself. Always a checkpoint.

        Raises:
          ResponseError: it is no valid response; `status` is still 0 if nothing was sent of it.
          ConnectionGone: the peer is gone.
          OSError: the file cannot be read.
          and whatever an iterable body raises.
        """
        head = self._render_head(response, common, close=close)
        connection, body = self._connection, response.body
        connection.become(State.WRITING)
        connection.begin_answer()
        self.status = response.status
        if not self._exchange.sends_body:
            await connection.send_all([head, self._exchange.end_body()])
        elif isinstance(body, bytes):
            await connection.send_all([head, *self._exchange.send_body(body), self._exchange.end_body()])
            self.body_bytes = len(body)
        elif isinstance(body, FileRange):
            await self._send_file(head, body)
        else:
            await self._send_iterable(head, body)

    def _render_head(self, response: Response, common: Headers, *, close: bool) -> bytes:
        body = response.body
        if isinstance(body, bytes):
            length: int | None = len(body)
        else:
            length = body.count if isinstance(body, FileRange) else None
        headers = Headers(response.headers)
        for name, value in common:
            if name not in headers:
                headers.add(name, value)
        return self._exchange.send_head(response.status, headers, close=close, body_length=length)

    async def _send_file(self, head: bytes, body: FileRange) -> None:
        connection, exchange = self._connection, self._exchange
        await connection.send_all(head)
        sent = await connection.send_file(body.descriptor, body.offset, body.count)
        self.body_bytes = sent
        exchange.pass_through(sent)
        if sent < body.count:
            raise ResponseError(f"the file ended {body.count - sent} bytes before the length it had when it was opened")
        exchange.end_body()

    async def _send_iterable(self, head: bytes, body: AsyncIterable[bytes]) -> None:
        """Each piece goes out as it comes. The slot is kept: between two pieces the handler's code is at work."""
        connection, exchange = self._connection, self._exchange
        connection.watch_peer()
        connection.begin_answer()
        await connection.send_all(head, parked=False)
        async for data in body:
            if not data:
                await trio.lowlevel.checkpoint()
                continue
            await connection.send_all(exchange.send_body(data), parked=False)
            self.body_bytes += len(data)
        last = exchange.end_body()
        if last:
            await connection.send_all(last, parked=False)
