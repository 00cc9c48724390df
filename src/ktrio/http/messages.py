"""What a handler takes and what it gives back: `Request` and `Response`, values without a socket.

Two things in a request are more than values, because only the protocol can provide them: reading the body and
knowing that the server is draining. They are typing Protocols here and implemented in `ktrio.protocols`.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, final

from ktrio.http.headers import Headers


class Draining(Protocol):
    """The server's soft cancellation: set once when shutdown begins, never cleared. A `trio.Event` is one."""

    def is_set(self) -> bool:
        """Has shutdown begun?"""
        ...

    async def wait(self) -> None:
        """Wait until shutdown begins; a checkpoint."""
        ...


class BodyReader(Protocol):
    """How a request reads its body; raises `ktrio.http.errors.BodyTooLarge` and kin."""

    async def read(self) -> bytes:
        """The whole body; every call after the first returns the same bytes."""
        ...


@final
@dataclass(slots=True, kw_only=True)
class Request:
    """One request, complete but for its body (RFC 9110 section 3.4). Not mutated by convention.

    `target` is the request target as sent (RFC 9112 section 3.2), at most `Limits.target_bytes` long; `path` is its
    path still percent-encoded and `query` what follows the first ``?``, without it (`None`: there was no ``?``).
    `version` is ``"1.0"`` or ``"1.1"``. `peer` is the other end as printed in logs.
    """

    method: str
    target: str
    path: str
    query: str | None
    version: str
    headers: Headers
    peer: str
    draining: Draining
    body_reader: BodyReader

    async def read(self) -> bytes:
        """The whole body, within the limits; a second call returns the same bytes.

        Asks the client to go on (``100 Continue``, RFC 9110 section 10.1.1) if it waits for that.

        Raises:
          ktrio.http.errors.BodyTooLarge: it is longer than `Limits.body_bytes`; unhandled, it becomes a 413.
          ktrio.http.errors.BadRequest: its framing is broken; unhandled, it becomes a 400.
        """
        return await self.body_reader.read()


@final
@dataclass(slots=True, kw_only=True)
class FileRange:
    """`count` bytes of an open file from `offset` on; whoever holds the response closes it, sent or not."""

    descriptor: int
    offset: int
    count: int
    close: Callable[[], None]


Body: TypeAlias = bytes | FileRange | AsyncIterable[bytes]


@final
@dataclass(slots=True)
class Response:
    """What a handler answers. From its return on the protocol owns it and closes its body, sent or not.

    `body` is bytes, a `FileRange`, or an async iterable of bytes (closed in the task that iterates it). An iterable is
    framed by a ``Content-Length`` header if there is one and chunked otherwise (RFC 9112 section 6). The protocol adds
    ``Date``, ``Content-Length`` or ``Transfer-Encoding``, and ``Connection`` itself.
    """

    status: int = 200
    headers: Headers = field(default_factory=Headers)
    body: Body = b""


Handler: TypeAlias = Callable[[Request], Awaitable[Response]]
"""An async function from `Request` to `Response`. It never sees a socket, and its exceptions become a 500."""
