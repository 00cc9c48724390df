"""One line per request for people to read, in the order in which requests end."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Final, final

from ktrio.http.details import RequestDetails

# What a peer may not put into a log or a terminal: controls, and the quote that ends the request line.
_UNSAFE: Final = re.compile(r'[\x00-\x1f\x7f-\xa0"\\]')


def printable(text: str) -> str:
    r"""`text` with control characters, quotes and backslashes as ``\xNN``: nothing a peer sends forges a line."""
    return _UNSAFE.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def format_line(details: RequestDetails) -> str:
    """``peer [time] "request" status bytes milliseconds``, and the reason if it ended early."""
    when = time.strftime("%d/%b/%Y:%H:%M:%S %z", time.localtime(details.started))
    request = printable(f"{details.method} {details.target} HTTP/{details.version}") if details.method else "-"
    status = details.status or "-"
    line = f'{details.peer} [{when}] "{request}" {status} {details.bytes_sent} {details.duration * 1000:.1f}ms'
    return f"{line} ({details.reason})" if details.reason else line


@final
class AccessLog:
    """Writes a line for each request. A `ktrio.http.details.Tell`."""

    __slots__ = ("_write",)

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write  # I

    def __call__(self, details: RequestDetails) -> None:
        """Write the line of one request."""
        self._write(format_line(details) + "\n")
