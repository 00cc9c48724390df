"""A listing as a page for people. Whole without its script, which adds sorting, searching and keys."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final, final

from ktrio.handlers._listing_script import LISTING_SCRIPT
from ktrio.handlers._listing_style import LISTING_STYLE
from ktrio.handlers._page import begin_page, end_page, policy_for
from ktrio.handlers.listing import (
    Entry,
    icon_of,
    quote_name,
    show_exact_time,
    show_name,
    show_size,
    show_time,
    show_totals,
)

# Rows on one page: 20 MB of HTML (0.6 MB compressed), which Chromium shows as it comes and sorts in three seconds.
# Beyond that a page helps nobody.
MOST_ENTRIES: Final = 100_000

LISTING_POLICY: Final = policy_for(LISTING_STYLE, LISTING_SCRIPT)
"""The Content-Security-Policy of the page."""

_COLUMNS: Final = (
    '<thead><tr><th scope="col" aria-sort="ascending">Name</th><th scope="col">Size</th>'
    '<th scope="col">Changed <small>UTC</small></th></tr></thead>\n'
)
# Without a script there is nothing to search with, so the script shows it.
_SEARCH: Final = (
    '<div role="search" hidden><input type="search" id="search" placeholder="Search this folder" '
    'aria-label="Search this folder" aria-keyshortcuts="/" autocomplete="off" spellcheck="false" '
    'autocapitalize="off" enterkeyhint="search"><kbd aria-hidden="true">/</kbd></div><output id="shown"></output>'
)
_UP: Final = '<tbody class="up"><tr><td><a href="../">Up one folder</a></td><td></td><td></td></tr></tbody>\n'


@final
class HtmlListing:
    """A `ListingFormat`: the page for the folder at `names` (decoded segments; empty is the root).

    Legend: I set once · T only by the thread that writes the listing.
    """

    __slots__ = ("_files", "_folders", "_names", "_size")

    media_type: str = "text/html; charset=utf-8"
    most_entries: int = MOST_ENTRIES

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names  # I
        self._folders = self._files = self._size = 0  # T: written so far, and the bytes in the files

    def begin(self) -> str:
        """See `ListingFormat.begin`."""
        path = "/" + "".join(f"{show_name(name)}/" for name in self._names)
        return (
            begin_page(f"{path} · ktrio", LISTING_STYLE)
            + f'<header>\n<nav aria-label="Breadcrumb">{render_trail(self._names)}</nav>\n{_SEARCH}\n</header>\n'
            + f'<main>\n<table aria-label="What is in this folder">\n{_COLUMNS}{_UP if self._names else ""}'
            + '<tbody id="rows">\n'
        )

    def rows(self, entries: Iterable[Entry]) -> str:
        """See `ListingFormat.rows`."""
        rows: list[str] = []
        for entry in entries:
            rows.append(render_entry(entry))
            if entry.is_folder:
                self._folders += 1
            else:
                self._files += 1
                self._size += entry.size or 0
        return "".join(rows)

    def end(self, left_out: int) -> str:
        """See `ListingFormat.end`."""
        notes = ""
        if left_out:
            notes = _note(f"and {left_out:,} more, not shown")
        elif not self._folders + self._files:
            notes = _note("Nothing here")
        totals = show_totals(self._folders, self._files, self._size)
        return (
            f'</tbody>\n{notes}<tbody id="none" class="note" hidden><tr><td colspan="3">No name like that</td></tr>'
            f"</tbody>\n</table>\n</main>\n<footer><span>{totals}</span>"
            f"<span>ktrio</span></footer>\n{end_page(LISTING_SCRIPT)}"
        )


def _note(text: str) -> str:
    return f'<tbody class="note"><tr><td colspan="3">{text}</td></tr></tbody>\n'


def render_entry(entry: Entry) -> str:
    """The table row of one entry."""
    slash = "/" if entry.is_folder else ""
    size = ""
    if entry.size is not None:
        # Up to there it is exact anyway.
        exact = f' title="{entry.size:,} bytes"' if entry.size >= 1024 else ""
        size = f'<data value="{entry.size}"{exact}>{show_size(entry.size)}</data>'
    time = ""
    if entry.changed is not None and (moment := show_exact_time(entry.changed)):
        time = f'<time datetime="{moment}">{show_time(entry.changed)}</time>'
    return (
        f'<tr class="{icon_of(entry)}"><td><a href="{quote_name(entry.name)}{slash}">'
        f"<bdi>{escape(show_name(entry.name))}{slash}</bdi></a></td><td>{size}</td><td>{time}</td></tr>\n"
    )


def render_trail(names: Sequence[str]) -> str:
    """The way from the root to this folder, each step but the last a relative link; the last is the page's heading."""
    depth = len(names)
    labels = ["Home", *map(show_name, names)]
    steps = [
        f'<a href="{"../" * (depth - at)}"><bdi>{escape(label)}</bdi></a>'
        if at < depth
        else f'<h1 aria-current="page"><bdi>{escape(label)}</bdi></h1>'
        for at, label in enumerate(labels)
    ]
    return f"<ol>{''.join(f'<li>{step}</li>' for step in steps)}</ol>"
