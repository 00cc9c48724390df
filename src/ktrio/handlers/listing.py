"""What a listing says of the things in a folder: how they are sorted, and what names, sizes and times look like; pure.

What a name looks like and where it leads are two things. The *link* carries the octets of the name,
percent-encoded, so any name the disk can hold comes back unchanged (RFC 3986 section 2.1). The *text* is for
people: control characters, octets that are no UTF-8, and characters that are invisible or turn the writing around
are made visible, so that ``\u202etxt.exe`` cannot pass for a text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol, final
from urllib.parse import quote

from ktrio.http.media_types import media_type_of

_NUMBER: Final = re.compile("0*([0-9]+)")
_UNITS: Final = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_ARCHIVES: Final = frozenset(
    {
        "zip",
        "gzip",
        "x-tar",
        "zstd",
        "x-xz",
        "x-bzip2",
        "x-7z-compressed",
        "vnd.rar",
        "java-archive",
    }
)
_TEXTUAL: Final = frozenset({"pdf", "rtf"})
_CODE: Final = frozenset({"json", "xml", "javascript", "toml", "yaml", "x-sh", "sql", "wasm", "html", "css"})

# Invisible, and needed in names: joiners, and the marks that right-to-left scripts are typed with.
_HARMLESS: Final = frozenset("\u200c\u200d\u200e\u200f\u061c")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the listing.

    `name` is the decoded name (octets that are no UTF-8 as surrogate escapes, PEP 383); `size` in bytes, of a file
    only; `changed` in seconds since the epoch. What may not be looked at has neither.
    """

    name: str
    is_folder: bool
    size: int | None
    changed: float | None


class ListingFormat(Protocol):
    """A listing being written: `begin`, then `rows` again and again, then `end`. One for each response."""

    media_type: str
    most_entries: int
    """That one listing shows; there may be more in the folder."""

    def begin(self) -> str:
        """What comes before the first row."""
        ...

    def rows(self, entries: Iterable[Entry]) -> str:
        """The next rows, in the order given; `entries` is gone through once."""
        ...

    def end(self, left_out: int) -> str:
        """What comes behind the last row; `left_out` is how many entries more there are that it does not show."""
        ...


def sort_key(name: str, *, is_folder: bool) -> str:
    """Folders first, then as a person sorts: case and accents aside, and ``page2`` before ``page10``.

    Has no NUL unless `name` has one.
    """
    # A number sorts by how many digits it has, then by these. One string, because comparing strings is quick.
    natural = _NUMBER.sub(lambda found: f"{len(found[1]):03}{found[1]}", _without_accents(name.casefold()))
    return f"{'0' if is_folder else '1'}{natural}"


def _without_accents(text: str) -> str:
    if text.isascii():
        return text
    return "".join(filter(lambda each: not unicodedata.combining(each), unicodedata.normalize("NFD", text)))


def show_name(name: str) -> str:
    """`name` as text for a page: nothing invisible, nothing that UTF-8 cannot carry. Not escaped for HTML."""
    return name if name.isprintable() else "".join(map(_visible, name))


def _visible(character: str) -> str:
    if character.isprintable() or character in _HARMLESS:
        return character
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)  # the control pictures of Unicode: a newline is shown as "␊"
    if code == 0x7F:
        return "\u2421"
    if 0x80 <= code < 0xA0 or 0xD800 <= code < 0xE000:
        return "\ufffd"
    # Format characters, separators of lines and paragraphs; not private or new ones, for which there may be a font.
    return f"\u27e8U+{code:04X}\u27e9" if unicodedata.category(character) in ("Cf", "Zl", "Zp") else character


def quote_name(name: str) -> str:
    """`name` as one segment of a URL path: its octets, percent-encoded but for the unreserved ones."""
    return quote(name.encode("utf-8", "surrogateescape"), safe="")


def show_size(size: int) -> str:
    """A number of bytes for people: exact below 1 KiB, then two digits or more (IEC 80000-13)."""
    if size < 1024:
        return f"{size} B"
    amount, power = size / 1024, 0
    # 1023.5 and more would be printed as 1024.
    while amount >= 1023.5 and power < len(_UNITS) - 1:
        amount, power = amount / 1024, power + 1
    return f"{amount:.{1 if amount < 9.95 else 0}f} {_UNITS[power]}"


def show_time(timestamp: float) -> str:
    """A moment in UTC to the minute; empty for one no calendar of ours reaches (a corrupt mtime)."""
    moment = _utc(timestamp)
    return "" if moment is None else moment.isoformat(" ", "minutes")[:16]


def show_exact_time(timestamp: float) -> str:
    """A moment as RFC 3339 writes it, in UTC and to the second, rounded down; empty for one no calendar reaches."""
    moment = _utc(timestamp)
    return "" if moment is None else f"{moment.isoformat(timespec='seconds')[:19]}Z"


def _utc(timestamp: float) -> datetime | None:
    try:
        return datetime.fromtimestamp(timestamp, UTC)
    except (OverflowError, ValueError, OSError):
        return None


def icon_of(entry: Entry) -> str:
    """Which of the page's icons stands for this entry."""
    if entry.is_folder:
        return "folder"
    family, _, rest = media_type_of(show_name(entry.name)).partition("/")
    kind = rest.partition(";")[0]
    if kind in _CODE or (kind.endswith(("+json", "+xml")) and family != "image"):
        return "code"
    if family in ("text", "image"):
        return family
    if family in ("audio", "video"):
        return "media"
    if kind in _ARCHIVES:
        return "archive"
    return "text" if kind in _TEXTUAL else "file"


def show_totals(folders: int, files: int, size: int) -> str:
    """How many folders and files there are, and the bytes in the files: the last line of the page."""
    parts = [
        f"{count:,} {word if count == 1 else f'{word}s'}"
        for count, word in ((folders, "folder"), (files, "file"))
        if count
    ]
    if files:
        parts.append(show_size(size))
    return " · ".join(parts)
