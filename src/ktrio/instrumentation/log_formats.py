r"""One line per request: for people, as Apache writes it, or as JSON. Functions of `RequestDetails`, nothing else.

``common`` and ``combined`` are the LogFormats of Apache's mod_log_config, so that whatever reads Apache's logs reads
these::

    "%h %l %u %t \"%r\" %>s %b"
    "%h %l %u %t \"%r\" %>s %b \"%{Referer}i\" \"%{User-agent}i\""

What a peer has chosen - target, fields, the name of its socket - is escaped: nothing in it ends a field or a line, or
reaches a terminal as a control. Apache writes ``\xhh`` for what cannot be printed, and a quote and a backslash with a
backslash before them; here these two are ``\x22`` and ``\x5c``, as nginx has them: who knows Apache's escapes reads
both, and who knows none still finds the ends of the fields.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Final, Literal, TypeAlias, get_args

from ktrio.http.details import RequestDetails

LogFormatName: TypeAlias = Literal["short", "common", "combined", "json"]
"""How a line of the access log is written. ``short`` is for people who watch."""

FORMAT_NAMES: Final[tuple[LogFormatName, ...]] = get_args(LogFormatName)
"""Every format."""

LogFormat: TypeAlias = Callable[[RequestDetails], str]
"""Writes one line, in ASCII, without its end."""

# Apache's are English whatever the locale.
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_UNSAFE: Final = re.compile(r"[^ !#-\[\]-~]")
# Fields longer than this are escaped anew each time; a few hundred of any length could be made to hold megabytes.
_LONGEST_REMEMBERED: Final = 256


def _escape_char(match: re.Match[str]) -> str:
    """Bytes of the peer's are decoded as Latin-1 (`ktrio.http.h1`), so a character is one of them."""
    char = match[0]
    data = char.encode("latin-1") if char <= "\xff" else char.encode("utf-8", "surrogatepass")
    return "".join(f"\\x{byte:02x}" for byte in data)


def _escape(text: str) -> str:
    return _UNSAFE.sub(_escape_char, text)


_escape_again = lru_cache(maxsize=512)(_escape)


def printable(text: str) -> str:
    r"""`text` in printable ASCII: anything else, quotes and backslashes are ``\xhh``, a byte each."""
    return _escape_again(text) if len(text) <= _LONGEST_REMEMBERED else _escape(text)


def split_peer(peer: str) -> tuple[str, int | None]:
    """The host and the port of a peer's printed name: ``host:port``, ``[v6]:port``. Any other: all of it, None."""
    host, _, port = peer.rpartition(":")
    if not host or host.startswith("unix:") or not (port.isascii() and port.isdigit()):
        return peer, None
    return host[1:-1] if host[0] == "[" else host, int(port)


def _host_of(peer: str) -> str:
    """Apache's ``%h``: the host, as one word."""
    return printable(split_peer(peer)[0]).replace(" ", "\\x20") or "-"


@lru_cache(maxsize=16)
def _apache_time(second: int) -> str:
    """A wall clock's second as Apache's ``%t`` has it, without the brackets."""
    local = time.localtime(second)
    minutes = (local.tm_gmtoff or 0) // 60
    sign, minutes = ("-", -minutes) if minutes < 0 else ("+", minutes)
    return (
        f"{local.tm_mday:02}/{_MONTHS[local.tm_mon - 1]}/{local.tm_year:04}:"
        f"{local.tm_hour:02}:{local.tm_min:02}:{local.tm_sec:02} {sign}{minutes // 60:02}{minutes % 60:02}"
    )


@lru_cache(maxsize=16)
def _iso_second(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


def _iso_time(moment: float) -> str:
    """A wall clock's time in UTC, with milliseconds (RFC 3339)."""
    second, millisecond = divmod(int(moment * 1000), 1000)
    return f"{_iso_second(second)}.{millisecond:03}Z"


def _request_line(details: RequestDetails) -> str:
    """Apache's ``%r``: the request line as sent; ``-`` if there was none that could be read."""
    if not details.method:
        return "-"
    return f"{printable(details.method)} {printable(details.target)} HTTP/{printable(details.version)}"


def short_line(details: RequestDetails) -> str:
    """``peer [time] "request" status bytes milliseconds``, and in parentheses why it ended early."""
    line = (
        f"{printable(details.peer)} [{_apache_time(int(details.started))}] "
        f'"{_request_line(details)}" {details.status or "-"} {details.bytes_sent} {details.duration * 1000:.1f}ms'
    )
    return f"{line} ({printable(details.reason)})" if details.reason else line


def common_line(details: RequestDetails) -> str:
    """The Common Log Format: ``%h %l %u %t "%r" %>s %b``. A status or a size that there was not is ``-``."""
    return (
        f"{_host_of(details.peer)} - - [{_apache_time(int(details.started))}] "
        f'"{_request_line(details)}" {details.status or "-"} {details.bytes_sent or "-"}'
    )


def combined_line(details: RequestDetails) -> str:
    """The Combined Log Format: `common_line`, ``"%{Referer}i" "%{User-agent}i"``; ``-``: it was not sent."""
    referer = "-" if details.referer is None else printable(details.referer)
    user_agent = "-" if details.user_agent is None else printable(details.user_agent)
    return f'{common_line(details)} "{referer}" "{user_agent}"'


def _quote(text: str) -> str:
    # DEL is the one control that JSON lets through.
    return json.dumps(text).replace("\x7f", "\\u007f")


_quote_again = lru_cache(maxsize=512)(_quote)


def _json_string(text: str | None) -> str:
    if text is None:
        return "null"
    return _quote_again(text) if len(text) <= _LONGEST_REMEMBERED else _quote(text)


def json_line(details: RequestDetails) -> str:
    """One JSON object, its members always the same, in one order; times in seconds, ``null``: there was none."""
    host, port = split_peer(details.peer)
    first = details.first_byte
    return (
        f'{{"time":"{_iso_time(details.started)}","remote_addr":{_json_string(host)},'
        f'"remote_port":{"null" if port is None else port},"request_id":{_json_string(details.request_id or None)},'
        f'"method":{_json_string(details.method or None)},"target":{_json_string(details.target or None)},'
        f'"protocol":{_json_string(f"HTTP/{details.version}" if details.version else None)},'
        f'"status":{details.status or "null"},"bytes_sent":{details.bytes_sent},'
        f'"first_byte":{"null" if first is None else f"{first:.6f}"},"duration":{details.duration:.6f},'
        f'"referer":{_json_string(details.referer)},"user_agent":{_json_string(details.user_agent)},'
        f'"close_reason":{_json_string(details.close_reason or None)}}}'
    )


_LINES: Final[dict[LogFormatName, LogFormat]] = {
    "short": short_line,
    "common": common_line,
    "combined": combined_line,
    "json": json_line,
}


def format_of(name: LogFormatName) -> LogFormat:
    """The function that writes lines in this format.

    Raises:
      ValueError: there is no such format.
    """
    if name not in _LINES:
        raise ValueError(f"there is no log format {name!r}: it is one of {', '.join(FORMAT_NAMES)}")
    return _LINES[name]
