"""The page that lists a folder: records in, HTML out, pure.

What a name looks like and where it leads are two things. The *link* carries the octets of the name,
percent-encoded, so any name the disk can hold comes back unchanged (RFC 3986 section 2.1). The *text* is for
people: control characters and octets that are no UTF-8 are made visible, and each name is isolated
(``<bdi>``), so that right-to-left characters in it cannot rearrange what stands beside it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from typing import Final, TypeAlias, final
from urllib.parse import quote

from ktrio.handlers._page import LISTING_STYLE, render_page
from ktrio.http.media_types import media_type_of

_NUMBER: Final = re.compile("0*([0-9]+)")
_UNITS: Final = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_ARCHIVES: Final = (
    "zip",
    "gzip",
    "x-tar",
    "zstd",
    "x-xz",
    "x-bzip2",
    "x-7z-compressed",
    "vnd.rar",
    "java-archive",
)
_TEXTUAL: Final = ("json", "xml", "javascript", "toml", "yaml", "pdf", "x-sh", "sql", "rtf")

SortKey: TypeAlias = tuple[bool, str, str]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the listing.

    `name` is the decoded name (octets that are no UTF-8 as surrogate escapes, PEP 383); `size` in bytes;
    `changed` in seconds since the epoch.
    """

    name: str
    is_folder: bool
    size: int
    changed: float


def sort_key(name: str, *, is_folder: bool) -> SortKey:
    """Folders first, then as a person sorts: case and accents aside, and ``page2`` before ``page10``."""
    # A number sorts by how many digits it has, then by these. One string, because comparing strings is quick.
    natural = _NUMBER.sub(lambda found: f"{len(found[1]):03}{found[1]}", _without_accents(name.casefold()))
    return (not is_folder, natural, name)


def _without_accents(text: str) -> str:
    if text.isascii():
        return text
    return "".join(filter(lambda each: not unicodedata.combining(each), unicodedata.normalize("NFD", text)))


def show_name(name: str) -> str:
    """`name` as text for a page: nothing invisible, nothing that UTF-8 cannot carry. Not escaped for HTML."""
    return "".join(map(_visible, name))


def _visible(character: str) -> str:
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)  # the control pictures of Unicode: a newline is shown as "␊"
    if code == 0x7F:
        return "\u2421"
    return "\ufffd" if 0x80 <= code < 0xA0 or 0xD800 <= code < 0xE000 else character


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
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M}"


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
    if family in ("text", "image"):
        return family
    if family in ("audio", "video"):
        return "media"
    if kind in _ARCHIVES:
        return "archive"
    return "text" if kind in _TEXTUAL or kind.endswith(("+json", "+xml")) else "file"


def render_entry(entry: Entry) -> str:
    """The table row of one entry."""
    slash = "/" if entry.is_folder else ""
    size = "" if entry.is_folder else show_size(entry.size)
    moment = _utc(entry.changed)
    time = "" if moment is None else f'<time datetime="{moment:%Y-%m-%dT%H:%M:%SZ}">{show_time(entry.changed)}</time>'
    exact = "" if entry.is_folder else f' title="{entry.size:,} bytes"'
    return (
        f'<tr class="{icon_of(entry)}"><td><a href="{quote_name(entry.name)}{slash}">'
        f"<bdi>{escape(show_name(entry.name))}{slash}</bdi></a></td><td{exact}>{size}</td><td>{time}</td></tr>\n"
    )


def render_trail(names: Sequence[str]) -> str:
    """The way from the root to this folder, each step but the last a relative link."""
    depth = len(names)
    labels = ["Home", *map(show_name, names)]
    steps = [
        f'<a href="{"../" * (depth - at)}"><bdi>{escape(label)}</bdi></a>'
        if at < depth
        else f"<bdi>{escape(label)}</bdi>"
        for at, label in enumerate(labels)
    ]
    return "<i>/</i>".join(steps)


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


def render_listing(names: Sequence[str], entries: Iterable[Entry], *, left_out: int = 0) -> str:
    """The page for the folder at `names` (decoded segments; empty is the root), entries in the order given.

    `left_out` is how many entries more there are that the page does not show. `entries` is gone through once.
    """
    rows: list[str] = []
    folders = files = size = 0
    for entry in entries:
        rows.append(render_entry(entry))
        if entry.is_folder:
            folders += 1
        else:
            files += 1
            size += entry.size
    if not rows:
        rows.append('<tr class="empty"><td colspan="3">Nothing here</td></tr>\n')
    if left_out:
        rows.append(f'<tr class="empty"><td colspan="3">and {left_out:,} more, not shown</td></tr>\n')
    if names:
        rows.insert(0, '<tr class="up"><td><a href="../">Up one folder</a></td><td colspan="2"></td></tr>\n')
    body = (
        f"<main>\n<h1>{render_trail(names)}</h1>\n<table>\n"
        '<thead><tr><th scope="col">Name</th><th scope="col">Size</th><th scope="col">Changed (UTC)</th></tr></thead>\n'
        f"<tbody>\n{''.join(rows)}</tbody>\n</table>\n</main>\n"
        f"<footer><span>{show_totals(folders, files, size)}</span><span>ktrio</span></footer>\n"
    )
    path = "/" + "".join(f"{show_name(name)}/" for name in names)
    return render_page(f"{path} · ktrio", LISTING_STYLE, body)
