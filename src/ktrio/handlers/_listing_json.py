"""A listing as JSON (RFC 8259), for programs; one entry on each line, so that a long one can be read as it comes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Final, final

from ktrio.handlers.listing import Entry, quote_name, show_exact_time

MOST_ENTRIES: Final = 1_000_000  # as many as are read


@final
class JsonListing:
    """A `ListingFormat`: ``{"path": …, "entries": [{"name", "href", "type", "size", "mtime"}, …], "left_out": 0}``.

    Legend: I set once · T only by the thread that writes the listing.
    """

    __slots__ = ("_has_rows", "_path")

    media_type: str = "application/json"
    most_entries: int = MOST_ENTRIES

    def __init__(self, names: Sequence[str]) -> None:
        self._path = "/" + "".join(f"{name}/" for name in names)  # I
        self._has_rows = False  # T: is there one already, so that the next needs a comma?

    def begin(self) -> str:
        """See `ListingFormat.begin`."""
        return f'{{"path":{_string(self._path)},"entries":['

    def rows(self, entries: Iterable[Entry]) -> str:
        """See `ListingFormat.rows`."""
        written = [_entry(each) for each in entries]
        if not written:
            return ""
        before = ",\n" if self._has_rows else "\n"
        self._has_rows = True
        return before + ",\n".join(written)

    def end(self, left_out: int) -> str:
        """See `ListingFormat.end`."""
        return f'\n],"left_out":{left_out}}}\n'


def _entry(entry: Entry) -> str:
    slash = "/" if entry.is_folder else ""
    time = "" if entry.changed is None else show_exact_time(entry.changed)
    mtime = f'"{time}"' if time else "null"
    return (
        f'{{"name":{_string(entry.name)},"href":"{quote_name(entry.name)}{slash}",'
        f'"type":"{"folder" if entry.is_folder else "file"}",'
        f'"size":{"null" if entry.size is None else entry.size},"mtime":{mtime}}}'
    )


def _string(text: str) -> str:
    """A JSON string. JSON is UTF-8 (section 8.1): what is none on the disk is U+FFFD here, and exact in ``href``."""
    if text.isascii():
        return json.dumps(text)
    return json.dumps(text.encode("utf-8", "surrogateescape").decode("utf-8", "replace"), ensure_ascii=False)
