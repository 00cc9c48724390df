"""Writing responses: which framing a response gets, its head as bytes, and the small responses that tell errors.

ktrio writes its heads itself rather than through h11: the one renderer serves every road a response can take, it costs
a tenth (4 against 45 microseconds for a head of six fields and a short body, measured on CPython 3.11), it fills in the
reason phrase, and it can keep an HTTP/1.0 connection open, which h11 never does. The tests read everything back with
h11 as the client.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, final

from ktrio.http.errors import HttpError, ResponseError
from ktrio.http.headers import Headers
from ktrio.http.messages import Response
from ktrio.http.status import reason_phrase

_NAME: Final = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")  # RFC 9110 section 5.6.2
_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")  # RFC 9110 section 5.5: no control but the tab
_DIGITS: Final = re.compile(r"[0-9]{1,19}")

# Names whose capitals are not those of str.title(). Case means nothing to HTTP (RFC 9110 section 5.1) but something to
# the people and scripts that read heads; `ab` once looked for "Content-Length" to the letter.
_SPELLINGS: Final = {
    "content-md5": "Content-MD5",
    "dnt": "DNT",
    "etag": "ETag",
    "te": "TE",
    "www-authenticate": "WWW-Authenticate",
    "x-ua-compatible": "X-UA-Compatible",
    "x-xss-protection": "X-XSS-Protection",
}

# Fields about this connection (RFC 9110 section 7.6.1) or this framing: the protocol's to say, not a handler's. They
# are dropped, so that a response fetched elsewhere can be passed on as it is.
_DROPPED: Final = frozenset(
    {"connection", "content-length", "keep-alive", "proxy-connection", "te", "trailer", "upgrade"}
)


class Framing(enum.Enum):
    """How the peer knows where a response ends (RFC 9112 section 6)."""

    NONE = "its head says that it has no body"
    SIZED = "Content-Length"
    CHUNKED = "Transfer-Encoding: chunked"
    UNTIL_CLOSE = "the connection's end; HTTP/1.0 only"


@final
@dataclass(frozen=True, slots=True)
class BodyPlan:
    """What follows a response head: `framing`, and the length the head declares (`None`: it declares none)."""

    framing: Framing
    length: int | None


def plan_body(method: str, version: str, status: int, headers: Headers, body_length: int | None) -> BodyPlan:
    """How to frame the response to a `method` request of HTTP `version` (RFC 9112 section 6.3).

    `body_length` is what the body has, `None` if nobody knows. A handler's ``Content-Length`` then stands for it; on a
    known body it must agree. A response without a body (`has_no_body`) declares the length a GET would have got: the
    handler's ``Content-Length``, or a body's that is there but will not be sent. An empty body without one says
    nothing, because the handler may have known that no body is sent.

    Raises:
      ResponseError: they disagree, or the status has no body and there is one.
    """
    if not 200 <= status <= 599:
        raise ResponseError(f"a handler answers with a status from 200 to 599, not {status}")
    if "transfer-encoding" in headers:
        raise ResponseError("a handler cannot set Transfer-Encoding: the protocol frames the body itself")
    declared = _declared_length(headers)
    if status in _BODILESS and body_length:
        raise ResponseError(f"a response with status {status} has no body, but {body_length} bytes were given")
    if has_no_body(method, status):
        return BodyPlan(Framing.NONE, _bodiless_length(status, declared, body_length))
    if declared is not None and body_length is not None and declared != body_length:
        raise ResponseError(f"Content-Length says {declared} and the body has {body_length} bytes")
    length = body_length if declared is None else declared
    if status == 205 and length:
        raise ResponseError(f"a response with status 205 has no body, but its Content-Length says {length}")
    if length is not None or status == 205:
        return BodyPlan(Framing.SIZED, length or 0)
    return BodyPlan(Framing.UNTIL_CLOSE if version == "1.0" else Framing.CHUNKED, None)


# RFC 9110 sections 15.3.5, 15.3.6 and 15.4.5. A 205 still says so with a Content-Length of 0.
_BODILESS: Final = frozenset({204, 205, 304})


def has_no_body(method: str, status: int) -> bool:
    """Does a response end with its head, whatever its fields say (RFC 9110 section 6.4.1)?"""
    return method == "HEAD" or status in (204, 304)


def _bodiless_length(status: int, declared: int | None, body_length: int | None) -> int | None:
    """The ``Content-Length`` of a response without a body (RFC 9110 section 8.6): a GET's, and never on a 204."""
    if status == 204:
        if declared:
            raise ResponseError(f"a response with status 204 has no body, but its Content-Length says {declared}")
        return None
    if declared is not None and body_length and declared != body_length:
        raise ResponseError(f"Content-Length says {declared} and the body has {body_length} bytes")
    return declared if declared is not None else body_length or None


def _declared_length(headers: Headers) -> int | None:
    """The handler's ``Content-Length``, if it gave one."""
    values = headers.get_all("content-length")
    if not values:
        return None
    if len(values) > 1 or not _DIGITS.fullmatch(values[0]):
        raise ResponseError(f"Content-Length must be one number, not {', '.join(values)!r}")
    return int(values[0])


def wants_close(headers: Headers) -> bool:
    """Has the handler asked, by ``Connection: close``, for its response to be the connection's last?"""
    return "connection" in headers and "close" in headers.tokens("connection")


def response_fields(
    headers: Headers, plan: BodyPlan, *, close: bool, keep_alive_1_0: bool = False, has_trailers: bool = False
) -> list[tuple[str, str]]:
    """The fields a response is sent with: the handler's, less those of the connection, then framing and connection.

    `close` says ``Connection: close``; without it an HTTP/1.0 client that asked to stay (`keep_alive_1_0`) is told
    that it may (RFC 9112 section 9.3). ``Trailer`` is kept only if trailers will be sent (`has_trailers`).
    """
    fields = [field for field in headers if field[0] not in _DROPPED]
    if has_trailers and plan.framing is Framing.CHUNKED:
        fields += [("trailer", value) for value in headers.get_all("trailer")]
    if plan.length is not None:
        fields.append(("content-length", str(plan.length)))
    elif plan.framing is Framing.CHUNKED:
        fields.append(("transfer-encoding", "chunked"))
    if close or plan.framing is Framing.UNTIL_CLOSE:
        fields.append(("connection", "close"))
    elif keep_alive_1_0:
        fields.append(("connection", "keep-alive"))
    return fields


def render_head(status: int, fields: Iterable[tuple[str, str]]) -> bytes:
    """Status line, `fields` and the blank line (RFC 9112 sections 4 and 5), always as HTTP/1.1 (section 2.3).

    Raises:
      ResponseError: a name is no token, or a value has a character that a field cannot carry: a line break or another
        control (response splitting), or one beyond Latin-1.
    """
    return _status_line(status).encode("latin-1") + _render_fields(fields)


@final
@dataclass(frozen=True, slots=True)
class WrittenHead:
    """A response's head as bytes, with what was settled on the way: the body's framing, and whether it is the last."""

    rendered: bytes
    plan: BodyPlan
    closes: bool


def write_head(
    method: str, version: str, status: int, headers: Headers, close: bool, body_length: int | None, has_trailers: bool
) -> WrittenHead:
    """Plan, frame and render the head of the response to a `method` request of HTTP `version`.

    `close`: is it the connection's last, as far as the protocol and the request are concerned? The rest as in
    `plan_body` and `response_fields`.

    Raises:
      ResponseError: it is no valid response.
    """
    fields = tuple(headers)
    is_short = sum([len(value) for _name, value in fields]) <= _LONGEST_REMEMBERED
    write = _write_again if is_short else _write
    return write(method, version, status, fields, close, body_length, has_trailers)


def _write(
    method: str,
    version: str,
    status: int,
    fields: tuple[tuple[str, str], ...],
    close: bool,
    body_length: int | None,
    has_trailers: bool,
) -> WrittenHead:
    headers = Headers(fields)
    plan = plan_body(method, version, status, headers, body_length)
    closes = close or wants_close(headers) or plan.framing is Framing.UNTIL_CLOSE
    sent = response_fields(headers, plan, close=closes, keep_alive_1_0=version == "1.0", has_trailers=has_trailers)
    return WrittenHead(render_head(status, sent), plan, closes)


def _render_fields(fields: Iterable[tuple[str, str]]) -> bytes:
    """Fields and the blank line behind them."""
    lines: list[str] = []
    for name, value in fields:
        if not _VALUE.fullmatch(value):
            raise ResponseError(f"the header {name!r} has a value that cannot be sent: {value!r}")
        lines.append(f"{_wire_name(name)}: {value}\r\n")
    lines.append("\r\n")
    return "".join(lines).encode("latin-1")


# The head of most responses was sent before, in the same second; remembering it costs a tenth of writing it. What is
# remembered is values only, and all that they depend on is in the key.
_LONGEST_REMEMBERED: Final = 512
_write_again = lru_cache(maxsize=512)(_write)


@lru_cache(maxsize=64)
def _status_line(status: int) -> str:
    return f"HTTP/1.1 {status} {reason_phrase(status)}\r\n"


@lru_cache(maxsize=512)
def _wire_name(name: str) -> str:
    """A field name as it is written; checked on the way, once for each name."""
    if not _NAME.fullmatch(name):
        raise ResponseError(f"{name!r} cannot be the name of a header")
    lower = name.lower()
    return _SPELLINGS.get(lower) or lower.title()


# Fields that frame, route, authenticate or say how to read what came before them: too late behind a body, and on the
# way to an upstream dangerous (RFC 9110 section 6.5.1).
_NO_TRAILERS: Final = _DROPPED | {
    "authorization",
    "cache-control",
    "content-encoding",
    "content-range",
    "content-type",
    "host",
    "max-forwards",
    "set-cookie",
    "transfer-encoding",
    "vary",
    "www-authenticate",
}


def render_last_chunk(trailers: Headers | None) -> bytes:
    """What ends a chunked body: the last chunk, `trailers` if there are any, and the blank line (RFC 9112 section 7.1).

    Raises:
      ResponseError: a field that may not be a trailer (RFC 9110 section 6.5.1), or that no field may be.
    """
    if not trailers:
        return b"0\r\n\r\n"
    for name, _value in trailers:
        if name in _NO_TRAILERS:
            raise ResponseError(f"the field {name!r} cannot be a trailer: it would come too late to be acted on")
    return b"0\r\n" + _render_fields(trailers)


CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"  # RFC 9110 section 15.2.1


def error_response(error: HttpError) -> Response:
    """The small response that tells `error`: its status by name and its message, in plain text."""
    headers = Headers([("content-type", "text/plain; charset=utf-8"), ("x-content-type-options", "nosniff")])
    for name, value in error.fields:
        headers.add(name, value)
    text = f"{error.status} {reason_phrase(error.status)}\n{error.message}\n"
    return Response(error.status, headers, text.encode())


def render_error(
    error: HttpError, *, date: str, head_only: bool = False, close: bool = True, server: str | None = None
) -> bytes:
    """`error` as a whole response, for when no request could be read; a request that could has its own `Exchange`.

    `date` is ``Date``, `server` is ``Server`` if given. `head_only` leaves out the body but not its length, as a HEAD
    wants it (RFC 9110 section 9.3.2). `close` says ``Connection: close``.
    """
    response = error_response(error)
    body = response.body if isinstance(response.body, bytes) else b""
    response.headers.add("date", date)
    if server is not None:
        response.headers.add("server", server)
    plan = BodyPlan(Framing.SIZED, len(body))
    head = render_head(error.status, response_fields(response.headers, plan, close=close))
    return head if head_only else head + body
