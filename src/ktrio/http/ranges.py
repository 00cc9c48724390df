"""Parts of a representation: what a ``Range`` asks for, and how parts are announced (RFC 9110 section 14).

A server may ignore ``Range`` at any time, and the whole answer is never wrong. So whatever is malformed, in another
unit or beyond `MAX_RANGES` is ignored; a client that asks for many tiny or overlapping parts gets no more for it than
one that asks for the file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

# More than any client asks for that means well: PDF readers ask for a dozen at most.
MAX_RANGES: Final = 64
# Two parts that lie closer than what announces a part of a multipart are sent as one (RFC 9110 section 15.3.7.2).
COALESCED_GAP: Final = 128

# bytes-unit, which is case-insensitive (section 14.1), and a list with the empty members that a recipient must bear
# (section 5.6.1.2). 19 digits are more than any file has bytes; a longer number is malformed by decree.
_POSITION: Final = r"[0-9]{1,19}"
_SPEC: Final = re.compile(rf"({_POSITION})-({_POSITION})?|-({_POSITION})")
_UNIT: Final = re.compile(r"bytes=", re.IGNORECASE)


class UnsatisfiableRangeError(Exception):
    """Well-formed, but no part of it lies within the representation: 416 (RFC 9110 section 15.5.17)."""


@final
@dataclass(frozen=True, slots=True)
class ByteRange:
    """The bytes from `first` to `last`, both included (RFC 9110 section 14.1.2)."""

    first: int
    last: int

    @property
    def count(self) -> int:
        """How many bytes that is."""
        return self.last - self.first + 1


def select_ranges(values: Sequence[str], size: int) -> list[ByteRange] | None:
    """The parts of a representation of `size` bytes that the ``Range`` fields `values` ask for; `None`: ignore them.

    In the order in which they were asked for; those that overlap, or nearly touch, are coalesced where the first of
    them stands. Parts beyond the end are left out, ends beyond it cut.

    Raises:
      UnsatisfiableRangeError: nothing is left.
    """
    specs = _parse(values)
    if specs is None:
        return None
    if size == 0 and any(first is None for first, _last in specs):
        return None  # the last bytes of nothing are all of it, and no Content-Range can say so
    ranges = [each for spec in specs if (each := _satisfy(spec, size)) is not None]
    if not ranges:
        raise UnsatisfiableRangeError
    return coalesce(ranges)


_Spec = tuple[int | None, int | None]  # first and last; the last n bytes are (None, n)


def _parse(values: Sequence[str]) -> list[_Spec] | None:
    """The members of one ``Range`` in bytes (RFC 9110 section 14.2); `None` if it is none."""
    if len(values) != 1 or not (unit := _UNIT.match(values[0])):
        return None
    specs: list[_Spec] = []
    members = values[0][unit.end() :].split(",", MAX_RANGES + 1)  # one more than allowed is all that has to be seen
    for member in members:
        text = member.strip(" \t")
        if not text:
            continue
        if not (match := _SPEC.fullmatch(text)):
            return None
        first, last, suffix = match.groups()
        specs.append((None, int(suffix)) if first is None else (int(first), None if last is None else int(last)))
        if first is not None and last is not None and int(first) > int(last):
            return None  # an int-range whose last-pos is less than its first-pos is invalid
    return specs if 0 < len(specs) <= MAX_RANGES and len(members) <= MAX_RANGES else None


def _satisfy(spec: _Spec, size: int) -> ByteRange | None:
    """What of a representation of `size` bytes one member means; `None`: nothing (RFC 9110 section 14.1.2)."""
    first, last = spec
    if first is None:
        assert last is not None
        return ByteRange(max(0, size - last), size - 1) if last and size else None
    return ByteRange(first, size - 1 if last is None else min(last, size - 1)) if first < size else None


def coalesce(ranges: Sequence[ByteRange]) -> list[ByteRange]:
    """`ranges` without overlaps and small gaps, each where the first of those that it unites stood."""
    by_position = sorted(range(len(ranges)), key=lambda index: (ranges[index].first, ranges[index].last))
    united: list[tuple[int, ByteRange]] = []  # where the first of them stood, and the whole
    for index in by_position:
        each = ranges[index]
        if united and each.first <= united[-1][1].last + 1 + COALESCED_GAP:
            place, before = united[-1]
            united[-1] = (min(place, index), ByteRange(before.first, max(before.last, each.last)))
        else:
            united.append((index, each))
    return [whole for _place, whole in sorted(united, key=lambda item: item[0])]


def content_range(part: ByteRange | None, size: int) -> str:
    """The value of ``Content-Range`` (RFC 9110 section 14.4); of a 416 without `part`."""
    return f"bytes */{size}" if part is None else f"bytes {part.first}-{part.last}/{size}"


def multipart_type(boundary: str) -> str:
    """The ``Content-Type`` of a 206 with several parts (RFC 9110 section 14.6)."""
    return f"multipart/byteranges; boundary={boundary}"


def part_head(part: ByteRange, size: int, media_type: str, boundary: str, *, is_first: bool) -> bytes:
    """What stands before one part of a multipart/byteranges body (RFC 9110 section 14.6, RFC 2046 section 5.1)."""
    before = "" if is_first else "\r\n"
    text = f"{before}--{boundary}\r\nContent-Type: {media_type}\r\nContent-Range: {content_range(part, size)}\r\n\r\n"
    return text.encode("latin-1")


def multipart_end(boundary: str) -> bytes:
    """What stands behind the last part."""
    return f"\r\n--{boundary}--\r\n".encode("latin-1")
