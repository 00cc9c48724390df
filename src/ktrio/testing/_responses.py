"""One response from its bytes, by a strict parser of its own (RFC 9112): no I/O, and none of the server's code.

It forgives nothing: what a lenient client would read somehow is an `AssertionError` that says what is wrong.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, final

from ktrio.http.headers import Headers

_STATUS_LINE: Final = re.compile(rb"HTTP/(1\.[01]) ([1-5][0-9][0-9]) ([\t\x20-\x7e\x80-\xff]*)")
_FIELD: Final = re.compile(
    rb"([-!#$%&'*+.^_`|~0-9A-Za-z]+):[ \t]*"
    rb"([\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?|)[ \t]*"
)
_CHUNK_LINE: Final = re.compile(rb"[0-9A-Fa-f]{1,16}")
_NUMBER: Final = re.compile(r"[0-9]{1,18}")
_DATE: Final = re.compile(
    r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), [0-3][0-9] (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [0-9]{4}"
    r" [0-2][0-9]:[0-5][0-9]:[0-6][0-9] GMT"
)
HEAD_BYTES: Final = 1 << 20  # a head longer than this never ends


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryResponse:
    """One response as it came; what `MemoryServer.request` gives."""

    status: int
    """The status code."""
    reason: str
    """The phrase behind it."""
    version: str
    """``"1.0"`` or ``"1.1"``."""
    headers: Headers
    """The header fields, in order."""
    body: bytes
    """The content, without its framing."""
    trailers: Headers
    """The trailer fields of a chunked response; mostly none."""


def parse_response(data: bytes, *, method: str = "GET", ended: bool = False) -> tuple[MemoryResponse, int] | None:
    """The first response in `data`, to a request with `method`, and how many bytes it takes; None: more must come.

    `ended`: nothing more will come, because the server has shut down its side.

    Raises:
      AssertionError: it is not valid, or not whole although nothing more will come.
    """
    parsed = _parse(data, method, ended=ended)
    if parsed is None and ended:
        raise AssertionError(f"the response broke off after {len(data)} bytes: {_cut(data)!r}")
    return parsed


def _parse(data: bytes, method: str, *, ended: bool) -> tuple[MemoryResponse, int] | None:
    end = data.find(b"\r\n\r\n", 0, HEAD_BYTES)
    if end < 0:
        if len(data) >= HEAD_BYTES or b"\n" in data.replace(b"\r\n", b""):
            raise AssertionError(f"this is no head of a response: {_cut(data)!r}")
        return None
    first, *lines = data[:end].split(b"\r\n")
    status_line = _STATUS_LINE.fullmatch(first)
    if status_line is None:
        raise AssertionError(f"this is no status line: {_cut(first)!r}")
    version, status, reason = status_line[1].decode(), int(status_line[2]), status_line[3].decode("latin-1")
    headers = _fields(lines)
    _check_fields(status, headers)
    at = end + 4
    trailers = Headers()
    if method == "HEAD" or status < 200 or status in (204, 304):
        body = b""
    elif "transfer-encoding" in headers:
        dechunked = _dechunk(data, at)
        if dechunked is None:
            return None
        body, trailers, at = dechunked
    elif (length := headers.get("content-length")) is not None:
        if len(data) < at + int(length):
            return None
        body = data[at : at + int(length)]
        at += len(body)
    else:
        if "close" not in headers.tokens("connection") and version == "1.1":
            raise AssertionError("the response has no framing, and does not say that the connection ends behind it")
        if not ended:
            return None
        body, at = data[at:], len(data)
    response = MemoryResponse(
        status=status, reason=reason, version=version, headers=headers, body=bytes(body), trailers=trailers
    )
    return response, at


def _fields(lines: list[bytes]) -> Headers:
    fields: list[tuple[str, str]] = []
    for line in lines:
        field = _FIELD.fullmatch(line)
        if field is None:
            raise AssertionError(f"this is no header field: {_cut(line)!r}")
        fields.append((field[1].decode(), field[2].decode("latin-1")))
    return Headers(fields)


def _check_fields(status: int, headers: Headers) -> None:
    """The framing must be unambiguous (RFC 9112 section 6), and the date a date (RFC 9110 section 6.6.1)."""
    lengths, codings, dates = (headers.get_all(name) for name in ("content-length", "transfer-encoding", "date"))
    if len(lengths) + len(codings) > 1:
        raise AssertionError(f"the response is framed twice: content-length {lengths}, transfer-encoding {codings}")
    if (lengths or codings) and (status < 200 or status == 204):
        raise AssertionError(f"a response with status {status} must not be framed (RFC 9110 section 8.6)")
    if lengths and not _NUMBER.fullmatch(lengths[0]):
        raise AssertionError(f"this is no length: {lengths[0]!r}")
    if codings and codings[0].lower() != "chunked":
        raise AssertionError(f"nobody can undo this transfer coding: {codings[0]!r}")
    if len(dates) > 1 or (dates and not _DATE.fullmatch(dates[0])):
        raise AssertionError(f"this is no date: {', '.join(dates)!r}")


def _dechunk(data: bytes, at: int) -> tuple[bytes, Headers, int] | None:
    """Content, trailers and the end of a chunked body (RFC 9112 section 7.1); None: more must come."""
    pieces: list[bytes] = []
    while True:
        line_end = data.find(b"\r\n", at, at + 20)
        if line_end < 0:
            if len(data) >= at + 20:
                raise AssertionError(f"this is no size of a chunk: {_cut(data[at:])!r}")
            return None
        if not _CHUNK_LINE.fullmatch(data[at:line_end]):
            raise AssertionError(f"this is no size of a chunk: {_cut(data[at:line_end])!r}")
        size, at = int(data[at:line_end], 16), line_end + 2
        if size == 0:
            break
        if len(data) < at + size + 2:
            return None
        if data[at + size : at + size + 2] != b"\r\n":
            raise AssertionError(f"a chunk of {size} bytes does not end behind them: {_cut(data[at + size :])!r}")
        pieces.append(data[at : at + size])
        at += size + 2
    if data.startswith(b"\r\n", at):
        return b"".join(pieces), Headers(), at + 2
    end = data.find(b"\r\n\r\n", at)
    if end < 0:
        return None
    return b"".join(pieces), _fields(data[at:end].split(b"\r\n")), end + 4


def _cut(data: bytes) -> bytes:
    return data if len(data) <= 120 else data[:117] + b"..."
