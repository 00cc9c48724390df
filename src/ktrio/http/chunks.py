"""What h11 lets through in a chunked body and a server must not (RFC 9112 section 7.1).

h11 takes bare line feeds in the trailer section, carriage returns in chunk extensions and, of whatever arrives in one
piece, any length of both. A `ChunkGuard` reads the same bytes first: it holds at most one line, knows where the body
ends, and refuses what could end somewhere else for another reader.
"""

from __future__ import annotations

import enum
import re
from typing import Final, final

from ktrio.http.errors import BadRequest, HeadTooLarge, HttpError
from ktrio.http.policy import FIELD_LINE, Limits

# Bytes of one chunk-size line, extensions included. They are dropped unread, and nobody known sends any.
_SIZE_LINE_BYTES: Final = 256

# Bytes of extensions in one body, so that a one-byte chunk cannot carry 250 bytes of them for ever (CVE-2023-39326).
_EXTENSION_BYTES: Final = 4096

# Framing is paid for in CPU, tens of microseconds a chunk. A body may have this many bytes of it, and beyond them no
# more than twice its data: a peer that sends a byte a chunk for ever is up to no good.
_OVERHEAD_BYTES: Final = 64 * 1024
_OVERHEAD_FACTOR: Final = 2

# chunk-size [ chunk-ext ]: at most 15 digits, which fit in 63 bits. The "bad" whitespace that section 7.1.1 lets stand
# before an extension is refused: h11 does not read it, and nobody sends it.
_SIZE_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})(;[\t\x20-\x7e\x80-\xff]*)?")


class _Part(enum.Enum):
    """What comes next."""

    SIZE = "a chunk-size line"
    DATA = "the data of a chunk"
    DATA_END = "the CRLF behind it"
    TRAILER = "a trailer line, or the empty one that ends the body"
    DONE = "nothing: the body is complete"


@final
class ChunkGuard:
    """Follows one chunked body through any pieces and refuses it at its first fault. Values in, values out."""

    __slots__ = (
        "_data",
        "_data_left",
        "_extension_bytes",
        "_limits",
        "_line",
        "_overhead",
        "_part",
        "_trailer_bytes",
        "_trailers",
    )

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._part = _Part.SIZE
        self._line = bytearray()  # of a line whose end has not come yet
        self._data_left = 0  # of this chunk
        self._extension_bytes = 0  # of this body
        self._overhead = 0  # bytes of chunk framing in this body
        self._data = 0  # bytes announced by its chunks
        self._trailers = 0
        self._trailer_bytes = 0

    @property
    def complete(self) -> bool:
        """Has the last byte of the body passed?"""
        return self._part is _Part.DONE

    @property
    def data_left(self) -> int:
        """How many bytes of data are sure to come next: what is left of the chunk that has begun."""
        return self._data_left

    def advance(self, data: bytes) -> int:
        """Follow `data`; how many of its bytes belong to this body (fewer than all: the rest is the next request).

        Raises:
          BadRequest: the chunks are malformed.
          HeadTooLarge: the trailer section is longer, or has more fields, than a head may.
        """
        at = 0
        while at < len(data) and self._part is not _Part.DONE:
            if self._part is _Part.DATA:
                at = self._take_data(data, at)
            elif self._part is _Part.DATA_END:
                at = self._take_data_end(data, at)
            else:
                at = self._take_line(data, at)
        return at

    def _take_data(self, data: bytes, at: int) -> int:
        """Pass over what `data` has of this chunk from `at` on. Where the next part begins."""
        step = min(self._data_left, len(data) - at)
        self._data_left -= step
        if self._data_left == 0:
            self._part = _Part.DATA_END
        return at + step

    def _take_data_end(self, data: bytes, at: int) -> int:
        """Take the CRLF behind a chunk, or its half. Where the next part begins."""
        end = at + 2 - len(self._line)
        self._line += data[at:end]
        if not b"\r\n".startswith(self._line):
            raise BadRequest("A chunk is longer than it said (RFC 9112 section 7.1).")
        if len(self._line) == 2:
            self._line.clear()
            self._part = _Part.SIZE
        return min(end, len(data))

    def _take_line(self, data: bytes, at: int) -> int:
        """Take up to one line from `data`; act on it if it is whole. Where the next part begins."""
        longest, fault = self._line_limit()
        newline = data.find(b"\n", at, at + longest + 2)
        end = newline + 1 if newline >= 0 else min(len(data), at + longest + 2)
        self._line += data[at:end]
        if len(self._line) - (newline >= 0) > longest + 1:  # too long, or as long as may be and no end in sight
            raise fault
        if newline >= 0:
            line = bytes(self._line)
            self._line.clear()
            if not line.endswith(b"\r\n"):
                raise BadRequest("A line of a chunked body ends with a bare line feed (RFC 9112 section 2.2).")
            if self._part is _Part.SIZE:
                self._take_size(line[:-2])
            else:
                self._take_trailer(line[:-2])
        return end

    def _line_limit(self) -> tuple[int, HttpError]:
        """How long the line that comes next may be without its end, and what a longer one is called."""
        if self._part is _Part.TRAILER:
            left = self._limits.head_bytes - self._trailer_bytes
            return max(left, 0), HeadTooLarge(f"The trailer section is longer than {self._limits.head_bytes} bytes.")
        return _SIZE_LINE_BYTES, BadRequest("A chunk-size line is too long (RFC 9112 section 7.1.1).")

    def _take_size(self, line: bytes) -> None:
        match = _SIZE_LINE.fullmatch(line)
        if match is None:
            raise BadRequest("A chunk size is malformed (RFC 9112 section 7.1).")
        self._extension_bytes += len(match[2] or b"")
        if self._extension_bytes > _EXTENSION_BYTES:
            raise BadRequest(f"The chunk extensions are longer than {_EXTENSION_BYTES} bytes.")
        self._data_left = int(match[1], 16)
        self._overhead += len(line) + 4
        self._data += self._data_left
        if self._overhead > _OVERHEAD_BYTES and self._overhead > self._data * _OVERHEAD_FACTOR:
            raise BadRequest("The chunks of the body are too small for their number.")
        self._part = _Part.DATA if self._data_left else _Part.TRAILER

    def _take_trailer(self, line: bytes) -> None:
        if not line:
            self._part = _Part.DONE
            return
        if not FIELD_LINE.fullmatch(line):
            raise BadRequest("A trailer field is malformed (RFC 9112 section 7.1.2).")
        self._trailers += 1
        self._trailer_bytes += len(line) + 2
        if self._trailers > self._limits.fields:
            raise HeadTooLarge(f"The trailer section has more than {self._limits.fields} fields.")
