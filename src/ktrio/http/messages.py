"""What a handler takes and what it gives back: `Request` and `Response`, values without a socket.

Two things in a request are more than values, because only the protocol can provide them: the body and knowing that
the server is draining. They are typing Protocols here and implemented in `ktrio.protocols`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, final

from ktrio.http.events import MEDIA_TYPE as EVENT_STREAM
from ktrio.http.events import EncodedEvents, ServerSentEvent
from ktrio.http.headers import Headers


class Draining(Protocol):
    """The server's soft cancellation: set once when shutdown begins, never cleared. A `trio.Event` is one."""

    def is_set(self) -> bool:
        """Has shutdown begun?"""
        ...

    async def wait(self) -> None:
        """Wait until shutdown begins; a checkpoint."""
        ...


class RequestBody(Protocol):
    """The body of one request (RFC 9110 section 6.4), taken as a whole by `read` or piece by piece by ``async for``.

    Nothing is taken from the peer before it is asked for: what a handler does not read stays in the kernel, and the
    peer has to wait (back-pressure). The first use asks a client to go on that waits for that (``100 Continue``, RFC
    9110 section 10.1.1). Every wait for the peer counts against `Timeouts.body`. Trailer fields are dropped.

    Both ways raise:
      ktrio.http.errors.BodyTooLarge: it is longer than `Limits.body_bytes`, by what its head declares or by what has
        come; unhandled, it becomes a 413.
      ktrio.http.errors.BadRequest: its framing is broken, or the peer has gone within it; unhandled, it becomes a 400.
      ktrio.net.errors.ConnectionGone: the peer has reset the connection; leave it unhandled.
      trio.BusyResourceError: another task is reading it.
    """

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The pieces as they come, none empty, of at most 64 KiB, until the end; each is a checkpoint.

        A body is streamed once: a second loop goes on where the first was left, and finds nothing behind the end. After
        `read` the whole body comes as one piece. A wait that was cancelled has taken nothing.
        """
        ...

    async def read(self, *, max_bytes: int | None = None) -> bytes:
        """The whole body; every call after the first returns the same bytes. A checkpoint.

        `max_bytes` is a lower limit for this body than `Limits.body_bytes`: memory for that much may be needed.

        Raises:
          RuntimeError: part of it was taken by ``async for``.
        """
        ...


def _nameless(_request: Request) -> str:
    """Nobody gives this request a name."""
    return ""


@final
@dataclass(slots=True, kw_only=True)
class Request:
    """One request, complete but for its body (RFC 9110 section 3.4). Not mutated by convention.

    `target` is the request target as sent (RFC 9112 section 3.2), at most `Limits.target_bytes` long; `path` is its
    path still percent-encoded and `query` what follows the first ``?``, without it (`None`: there was no ``?``).
    `version` is ``"1.0"`` or ``"1.1"``. `peer` is the other end as printed in logs. `make_id` makes `id`.
    """

    method: str
    target: str
    path: str
    query: str | None
    version: str
    headers: Headers
    peer: str
    draining: Draining
    body: RequestBody
    make_id: Callable[[Request], str] = field(default=_nameless, repr=False, compare=False)
    _id: str = field(default="", init=False, repr=False, compare=False)

    @property
    def id(self) -> str:
        """What this request is called in the logs, the same each time: 32 hex digits, made when it is first asked for.

        Or what the client has sent as ``X-Request-Id``, if the server was told to trust that. Empty in a request that
        no server has made.
        """
        if not self._id:
            self._id = self.make_id(self)
        return self._id

    async def read(self, *, max_bytes: int | None = None) -> bytes:
        """The whole body: `body.read`, see there for its errors."""
        return await self.body.read(max_bytes=max_bytes)


@final
@dataclass(slots=True, kw_only=True)
class FileRange:
    """`count` bytes of an open file from `offset` on; whoever holds the response closes it, sent or not."""

    descriptor: int
    offset: int
    count: int
    close: Callable[[], None]


@final
@dataclass(slots=True, kw_only=True)
class FileRanges:
    """Several parts of an open file, each with bytes of its own before it, and bytes behind the last.

    What a ``multipart/byteranges`` is made of (RFC 9110 section 14.6). `parts` are (bytes before, offset, count);
    whoever holds the response closes it, sent or not.
    """

    descriptor: int
    parts: tuple[tuple[bytes, int, int], ...]
    end: bytes
    close: Callable[[], None]

    @property
    def count(self) -> int:
        """How many bytes all of it has."""
        return sum(len(before) + count for before, _offset, count in self.parts) + len(self.end)


SendBytes: TypeAlias = Callable[[bytes], Awaitable[None]]
"""What a writer function sends with: ``await send(data)``, a checkpoint. See `Response`."""

BodyWriter: TypeAlias = Callable[[SendBytes], Awaitable[None]]
"""A body that is written rather than iterated: ``async def write(send)``. See `Response`."""

Body: TypeAlias = bytes | FileRange | FileRanges | AsyncIterable[bytes] | BodyWriter
"""What a `Response` may carry."""


@final
@dataclass(slots=True)
class Response:
    """What a handler answers. From its return on the protocol owns it and closes its body, sent or not.

    `body` is one of:

    * bytes;
    * a `FileRange`, or `FileRanges`;
    * an async iterable of bytes: each piece goes out at once. Its ``aclose``, if it has one, is called exactly once, in
      the task that iterates it, whether it was begun or not;
    * an async writer function: it gets ``send`` and awaits it for each piece. ``send`` is for one task at a time
      (`trio.BusyResourceError`) and only until the function returns (`RuntimeError`). A ``send`` that is cancelled has
      sent nothing, or breaks the response off.

    The last two run in the connection's task, and hold its slot except while their client is slow, in either way. A
    response without a body (to a HEAD, 204, 304) never begins them. The head goes out with the first piece, or when the
    body first waits for something, whichever comes first, an empty piece sends it alone; while a client waits for ``100
    Continue``, with the first piece, so that the body may still ask for the request's. An error before that becomes an
    error response, the connection's last; after that it cuts the connection, so that the client sees an incomplete
    response. They are framed by a ``Content-Length`` header if there is one and chunked otherwise (RFC 9112 section 6).

    `trailers` are sent behind a chunked body, as they are when it has ended, and left out elsewhere (RFC 9110 section
    6.5); a ``Trailer`` header that announces them is the handler's.

    The protocol adds ``Date``, ``Content-Length`` or ``Transfer-Encoding``, and ``Connection`` itself.
    """

    status: int = 200
    headers: Headers = field(default_factory=Headers)
    body: Body = b""
    trailers: Headers | None = None

    @classmethod
    def text(cls, text: str, status: int = 200, *, media_type: str = "text/plain") -> Response:
        """Text in UTF-8, as ``text/plain`` or another type of text."""
        return cls(status, _headers(f"{media_type}; charset=utf-8"), text.encode())

    @classmethod
    def html(cls, page: str, status: int = 200) -> Response:
        """A page in UTF-8. What came from others must be escaped in it: `html.escape`."""
        return cls.text(page, status, media_type="text/html")

    @classmethod
    def json(cls, value: object, status: int = 200) -> Response:
        """What `json.dumps` makes of a value (RFC 8259).

        Raises:
          TypeError, ValueError: it cannot be written as JSON; NaN and the infinities cannot.
        """
        body = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        return cls(status, _headers("application/json"), body.encode())

    @classmethod
    def redirect(cls, location: str, status: int = 303) -> Response:
        """To another place (RFC 9110 section 15.4): 303 see other, 307 or 308 to ask there again in the same way.

        `location` is a URL, percent-encoded as it is sent. One that somebody else has written may lead anywhere, so
        check it first.

        Raises:
          ValueError: `status` is no redirection, or `location` has characters that must be encoded.
        """
        if status not in (301, 302, 303, 307, 308):
            raise ValueError(f"a redirect's status is 301, 302, 303, 307 or 308, not {status}")
        if not location or not all("\x21" <= char <= "\x7e" for char in location):
            raise ValueError(
                f"a Location is a URL in visible ASCII, not {location!r}: encode it with urllib.parse.quote"
            )
        return cls(status, Headers([("location", location)]))

    @classmethod
    def stream(
        cls, body: AsyncIterable[bytes] | BodyWriter, *, media_type: str = "application/octet-stream"
    ) -> Response:
        """A body that comes in pieces: an async iterable, or an async writer function."""
        return cls(200, _headers(media_type), body)

    @classmethod
    def events(cls, events: AsyncIterable[ServerSentEvent | str]) -> Response:
        """A stream of server-sent events, for a browser's ``EventSource``; a string is an event's data.

        No cache keeps it. A stream that may be silent for long says something now and then (an event with empty data
        will do): a client that has gone without a word shows only when something is sent to it.
        """
        headers = _headers(EVENT_STREAM)
        headers.add("cache-control", "no-store")
        return cls(200, headers, EncodedEvents(events))


def _headers(media_type: str) -> Headers:
    return Headers([("content-type", media_type), ("x-content-type-options", "nosniff")])


Handler: TypeAlias = Callable[[Request], Awaitable[Response]]
"""An async function from `Request` to `Response`. It never sees a socket, and its exceptions become a 500."""
