"""What h11 lets through and a server must not: pure checks on the raw bytes of a head, before h11 sees them.

One strict pattern accepts a well-formed head; only a head it refuses is looked at again, by a table of faults, to say
which one it is. Framing that could be read in two ways is refused, never guessed: a proxy in front may have guessed
the other way (RFC 9112 section 11.2).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Final, NoReturn, final

from ktrio.http.errors import (
    BadRequest,
    BodyTooLarge,
    ExpectationFailed,
    HeadTooLarge,
    NotImplementedMethod,
    TargetTooLong,
    VersionNotSupported,
)
from ktrio.http.headers import Headers
from ktrio.http.target import AUTHORITY


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much of anything is taken from a peer. All in bytes, but for the two that count; zero only where it says so.

    head_bytes: a whole head, from the request line to the blank line (nginx: 4 x 8 KiB).
    fields: header fields of a request, and trailer fields of a chunked body (Apache: 100).
    target_bytes: the request target (RFC 9112 section 3 asks for at least 8000).
    body_bytes: a request body that a handler reads; 0: none (nginx: 1 MiB).
    requests_per_connection: requests answered before the connection is closed (nginx: 1000, when memory was dearer).
    drain_bytes: of a body nobody read, dropped to keep the connection; a longer one closes it; 0: always close.
    """

    head_bytes: int = 32 * 1024
    fields: int = 100
    target_bytes: int = 8 * 1024
    body_bytes: int = 1024 * 1024
    requests_per_connection: int = 10_000
    drain_bytes: int = 64 * 1024

    def __post_init__(self) -> None:
        for each in fields(self):
            value: object = getattr(self, each.name)
            least = 0 if each.name in _MAY_BE_ZERO else 1
            if not isinstance(value, int) or value < least:
                raise ValueError(f"{each.name} must be a whole number of at least {least}, not {value!r}")


_MAY_BE_ZERO: Final = frozenset({"body_bytes", "drain_bytes"})

# The IANA method registry but for CONNECT, which is for proxies, and PRI, which is HTTP/2's preface. A method outside
# it gets 501 (RFC 9110 section 9.1); one inside it that a handler does not support is the handler's 405.
_REGISTRY: Final = (
    "ACL BASELINE-CONTROL BIND CHECKIN CHECKOUT COPY DELETE GET HEAD LABEL LINK LOCK MERGE MKACTIVITY MKCALENDAR MKCOL"
    " MKREDIRECTREF MKWORKSPACE MOVE OPTIONS ORDERPATCH PATCH POST PROPFIND PROPPATCH PUT QUERY REBIND REPORT SEARCH"
    " TRACE UNBIND UNCHECKOUT UNLINK UNLOCK UPDATE UPDATEREDIRECTREF VERSION-CONTROL"
)
KNOWN_METHODS: Final = frozenset(_REGISTRY.split())

# Bytes. A method longer than any it implements gets 501 from a server (RFC 9112 section 3), here as soon as its 33rd
# byte is in; the longest registered one has 17.
_LONGEST_METHOD: Final = 32

# Digits of a Content-Length that are read: 19 fit in 63 bits, which is more than any body limit.
_LENGTH_DIGITS: Final = 19

_TLS_HANDSHAKE: Final = 0x16  # the content type every TLS client begins with (RFC 8446 section 5.1)

_TCHAR: Final = rb"[-!#$%&'*+.^_`|~0-9A-Za-z]"  # RFC 9110 section 5.6.2
_VALUE: Final = rb"[\t\x20-\x7e\x80-\xff]"  # RFC 9110 section 5.5: no control but the tab
FIELD_LINE: Final = re.compile(rb"%s++:%s*+" % (_TCHAR, _VALUE))
_TOKEN_BYTES: Final = frozenset(byte for byte in range(256) if re.match(_TCHAR, bytes([byte])))

_REQUEST_LINE: Final = re.compile(rb"(%s++) ([\x21-\x7e]++) HTTP/([0-9])\.([0-9])" % _TCHAR)
# Possessive for single characters only: the possessive groups of CPython before 3.11.4 fail to match what they should.
_HEAD: Final = re.compile(
    rb"(%s++) ([\x21-\x7e]++) HTTP/1\.([0-9])((?:\r\n%s)*)\r\n\r\n" % (_TCHAR, FIELD_LINE.pattern)
)
_NOT_IN_LINE: Final = re.compile(rb"[^\x20-\x7e\r]")

_BARE_LF: Final = re.compile(rb"(?<!\r)\n")
_BARE_CR: Final = re.compile(rb"\r(?=[^\n])")
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")

_MALFORMED_LINE: Final = "The request line is malformed (RFC 9112 section 3)."

# What can be wrong with the lines of a head, in the order in which it is named.
_FAULTS: Final = (
    (_BARE_LF, "A line ends with a bare line feed (RFC 9112 section 2.2)."),
    (_BARE_CR, "There is a carriage return within a line (RFC 9112 section 2.2)."),
    (re.compile(rb"\r\n[ \t]"), "A header field is folded over two lines (RFC 9112 section 5.2)."),
    (_CONTROL, "There is a control character in the head (RFC 9110 section 5.5)."),
    (re.compile(rb"\r\n%s+[ \t]+:" % _TCHAR), "There is a space before a colon (RFC 9112 section 5.1)."),
)

_FRAMING_FIELD: Final = re.compile(rb"\r\n(host|content-length|transfer-encoding):[ \t]*+([^\r]*)")
_HOST: Final = re.compile(rb"(?:%s|:[0-9]*)?" % AUTHORITY.pattern.encode())


# -- Where a head ends: asked by a protocol after every receive ------------------------------------------------------


def skip_leading_crlf(buffer: bytes | bytearray) -> int:
    """Where the head begins: 2 behind one leading CRLF, else 0 (RFC 9112 section 2.2).

    A buffer of which nothing is left behind it holds no request yet.
    """
    return 2 if buffer.startswith(b"\r\n") else 0


def find_head_end(buffer: bytes | bytearray, limits: Limits, start: int = 0) -> int | None:
    """The length of the head at the beginning of `buffer`, blank line and one leading CRLF included.

    `None` if it is incomplete. `start` is how much of `buffer` earlier calls have looked at and found incomplete; with
    it, a head that comes byte by byte costs little more than one that comes at once.

    Raises, as soon as it is certain that no more bytes can help:
      TargetTooLong, HeadTooLarge: it is over the limits.
      NotImplementedMethod, VersionNotSupported: the request line says something we do not speak.
      BadRequest: the beginning is no HTTP request.
    """
    begin = skip_leading_crlf(buffer)
    blank_line = buffer.find(b"\r\n\r\n", max(begin, start - 3))
    size = (len(buffer) if blank_line < 0 else blank_line + 4) - begin
    if blank_line >= 0 and size <= limits.head_bytes:
        return blank_line + 4
    if begin < len(buffer) and buffer != b"\r":
        _check_beginning(buffer, begin, start, limits)
    if size > limits.head_bytes:
        raise HeadTooLarge(_too_long(limits))
    if _BARE_LF.search(buffer, max(begin, start - 1)):
        raise BadRequest(_FAULTS[0][1])
    return None


def _check_beginning(buffer: bytes | bytearray, begin: int, start: int, limits: Limits) -> None:
    """Is what has come of the request line (RFC 9112 section 3) good so far? A whole one is judged once."""
    _check_first_byte(buffer[begin])
    line_end = buffer.find(b"\r\n", begin)
    if line_end < 0:
        _check_begun_line(bytes(buffer[begin:]), limits)
        if _NOT_IN_LINE.search(buffer, max(begin, start)):
            raise BadRequest(_MALFORMED_LINE)
    elif line_end + 2 > start:
        _check_request_line(bytes(buffer[begin:line_end]), limits)


def _check_first_byte(byte: int) -> None:
    """Does a request line begin with this byte? TLS on a plain port is told so: its clients show it to somebody."""
    if byte == _TLS_HANDSHAKE:
        raise BadRequest("This port speaks HTTP, not HTTPS.")
    if byte not in _TOKEN_BYTES:
        raise BadRequest("The request does not begin with a method (RFC 9112 section 3).")


def _check_begun_line(line: bytes, limits: Limits) -> None:
    """May `line`, whose end has not come yet, still become a request line within the limits?"""
    method, _, rest = line.partition(b" ")
    target, _, version = rest.partition(b" ")
    _check_method_and_target(method, target, limits)
    if len(version) > len(b"HTTP/1.1\r") or not b"HTTP/".startswith(version[:5]):
        raise BadRequest(_MALFORMED_LINE)


# -- Is this head sound? Asked once for each request -----------------------------------------------------------------


def check_head(head: bytes, limits: Limits) -> None:
    """May h11 see this head? `head` is whole, its blank line included; one leading CRLF is passed over.

    Raises the `HttpError` that names the first fault: the limits, the request line (RFC 9112 section 3), the lines
    (sections 2.2 and 5), then the framing (`check_framing`).
    """
    begin = skip_leading_crlf(head)
    match = _HEAD.fullmatch(head, begin)
    if match is None or len(head) - begin > limits.head_bytes:
        _refuse(head[begin:], limits)
    method, target, minor, block = match.groups()
    _check_method_and_target(method, target, limits)
    if method.decode("ascii") not in KNOWN_METHODS:
        raise NotImplementedMethod("This server does not know that method (RFC 9110 section 9.1).")
    if block.count(b"\r\n") > limits.fields:
        raise HeadTooLarge(f"The request has more than {limits.fields} header fields.")
    check_framing(block, http_1_0=minor == b"0")


def _refuse(head: bytes, limits: Limits) -> NoReturn:
    """Raise what is wrong with a head that is too long, or that the pattern has refused."""
    _check_first_byte(head[0] if head else 0)
    line = head.partition(b"\r\n")[0]
    if b"\n" not in line:
        _check_request_line(line, limits)
    if len(head) > limits.head_bytes:
        raise HeadTooLarge(_too_long(limits))
    for pattern, message in _FAULTS:
        if pattern.search(head):
            raise BadRequest(message)
    raise BadRequest("A header line is malformed (RFC 9112 section 5).")


def _check_request_line(line: bytes, limits: Limits) -> None:
    """Is `line`, without its end, a request line of HTTP/1.x (RFC 9112 section 3)? Methods are judged elsewhere."""
    method, _, rest = line.partition(b" ")
    _check_method_and_target(method, rest.partition(b" ")[0], limits)
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        raise BadRequest(_MALFORMED_LINE)
    if match[3] != b"1":
        raise VersionNotSupported("This server speaks HTTP/1.1 and HTTP/1.0.")


def _too_long(limits: Limits) -> str:
    return f"The head of the request is longer than {limits.head_bytes} bytes."


def _check_method_and_target(method: bytes, target: bytes, limits: Limits) -> None:
    """Are these, complete or begun, not longer than they may be (RFC 9112 section 3)?"""
    if len(method) > _LONGEST_METHOD:
        raise NotImplementedMethod("The request's method is longer than any this server knows.")
    if len(target) > limits.target_bytes:
        raise TargetTooLong(f"The request target is longer than {limits.target_bytes} bytes.")


def check_framing(block: bytes, *, http_1_0: bool) -> None:
    """Is it certain where this request ends, and for which host it is?

    `block` is the field lines, each behind its CRLF, already known to be well-formed.

    Raises:
      BadRequest: no or several ``Host`` (RFC 9112 section 3.2), or framing that can be read in two ways (section 6.3).
      NotImplementedMethod: a transfer coding other than chunked (section 6.1).
    """
    hosts: list[bytes] = []
    lengths: list[bytes] = []
    codings: list[bytes] = []
    values = {b"host": hosts, b"content-length": lengths, b"transfer-encoding": codings}
    for name, value in _FRAMING_FIELD.findall(block.lower()):
        values[name].append(value.rstrip(b" \t"))
    _check_host(hosts, http_1_0=http_1_0)
    if codings:
        if lengths:
            raise BadRequest("Content-Length and Transfer-Encoding exclude each other (RFC 9112 section 6.1).")
        if http_1_0:
            raise BadRequest("HTTP/1.0 has no Transfer-Encoding (RFC 9112 section 6.1).")
        _check_codings(b",".join(codings))
    elif lengths:
        _check_lengths(lengths)


def _check_host(hosts: list[bytes], *, http_1_0: bool) -> None:
    """One valid ``Host``, or none on HTTP/1.0 (RFC 9112 section 3.2). h11 forgets HTTP/1.2 and does not look inside."""
    if len(hosts) > 1:
        raise BadRequest("The request has several Host fields (RFC 9112 section 3.2).")
    if not hosts and not http_1_0:
        raise BadRequest("The request has no Host field (RFC 9112 section 3.2).")
    if hosts and not _HOST.fullmatch(hosts[0]):
        raise BadRequest("The Host field is malformed (RFC 9112 section 3.2).")


def _check_codings(value: bytes) -> None:
    """Is the body chunked and nothing else?

    Chunked twice, or not last, leaves the end of the body unknown: 400 (RFC 9112 sections 6.1 and 6.3). Another coding
    we do not know: 501.
    """
    codings = [coding.strip(b" \t") for coding in value.split(b",")]
    if b"" in codings or b"chunked" in codings[:-1]:
        raise BadRequest("The Transfer-Encoding leaves the end of the body uncertain (RFC 9112 section 6.3).")
    if codings != [b"chunked"]:
        raise NotImplementedMethod("This server knows no transfer coding but chunked (RFC 9112 section 6.1).")


def _check_lengths(lengths: list[bytes]) -> None:
    """Exactly one ``Content-Length``, of digits only.

    RFC 9110 section 8.6 lets a recipient merge equal ones or refuse them; whoever sends two is broken or hostile.
    """
    if len(lengths) > 1:
        raise BadRequest("The request has several Content-Length fields (RFC 9110 section 8.6).")
    if not lengths[0].isdigit() or len(lengths[0]) > _LENGTH_DIGITS:
        raise BadRequest("The Content-Length is no number (RFC 9110 section 8.6).")


def wants_continue(version: str, headers: Headers) -> bool:
    """Does the client wait for ``100 Continue`` before it sends the body (RFC 9110 section 10.1.1)?

    Of an HTTP/1.0 client that expectation must be ignored.

    Raises:
      ExpectationFailed: it expects something else.
    """
    expectations = headers.tokens("expect")
    if any(expectation != "100-continue" for expectation in expectations):
        raise ExpectationFailed("This server meets no expectation but 100-continue (RFC 9110 section 10.1.1).")
    return bool(expectations) and version != "1.0"


# -- Bodies: asked by a protocol before it reads one, and as the bytes come -------------------------------------------


def check_body_bytes(count: int, most: int) -> None:
    """Is a body of `count` bytes, declared or received so far, one a handler may read that takes `most`?

    Raises:
      BodyTooLarge: it is not.
    """
    if count > most:
        raise BodyTooLarge(f"The body of the request is longer than {most} bytes.")


def is_worth_draining(unread: int | None, limits: Limits) -> bool:
    """Is it cheaper to read and drop the `unread` bytes of a body than to close the connection?

    `None`: chunked, so nobody knows; worth a try of at most `Limits.drain_bytes`.
    """
    return limits.drain_bytes > 0 if unread is None else unread <= limits.drain_bytes


def wants_head_only(buffer: bytes | bytearray) -> bool:
    """Does a request that could not be read begin as a HEAD, so that its error has no body (RFC 9110 section 9.3.2)?"""
    return buffer.startswith((b"HEAD ", b"\r\nHEAD "))
