"""Answer with what is in a folder: as a page or as JSON, whole or in pieces, compressed or not.

*Which form*: ``?format=json`` or ``?format=html`` in the query, else ``Accept`` (RFC 9110 section 12.5.1); a page, if
nobody says otherwise, and never a 406.

*Whole or in pieces*: a folder of one slice (`ktrio.handlers._folder.SLICE`) is one response with its length. A longer
one is read name by name before the head is sent, so that a folder that is missing is still a 404; then it goes out
slice by slice. What is in memory for each response is the packed names that are left, and one slice of rows. Neither
a descriptor nor a thread waits for a slow peer. Entries that vanish meanwhile are left out; if the folder itself does,
the listing ends as one that shows less than there is.

*No validators.* The time of a folder changes when names come and go, not when a file in it grows; a right ETag would
need everything that the listing needs. So listings have neither ETag nor Last-Modified, and say ``no-cache``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, final

import trio

from ktrio.handlers._encodings import LEAST, StreamCompressor, not_compressed, stream_compressors
from ktrio.handlers._errors import page_headers
from ktrio.handlers._folder import FolderNames, count_names, paced, read_slice, scan_folder
from ktrio.handlers._listing_html import LISTING_POLICY, HtmlListing
from ktrio.handlers._listing_json import JsonListing
from ktrio.handlers._tree import Tree
from ktrio.handlers.listing import ListingFormat
from ktrio.http.headers import Headers
from ktrio.http.messages import BodyWriter, Request, Response, SendBytes
from ktrio.http.negotiation import acceptable_codings, best_media_type

# Favourite first. JSON runs nothing, wherever it is shown.
_POLICIES: Final = {
    "text/html": LISTING_POLICY,
    "application/json": "default-src 'none'; frame-ancestors 'none'",
}
_BY_QUERY: Final = {"format=html": "text/html", "format=json": "application/json"}
# More parameters than anybody writes by hand.
_MOST_PARAMETERS: Final = 32


def form_by_query(query: str | None) -> str | None:
    """The media type that the query asks for; None: it does not say. The first ``format`` that is known counts."""
    if not query:
        return None
    parameters = query.split("&", _MOST_PARAMETERS)
    return next((_BY_QUERY[each] for each in parameters if each in _BY_QUERY), None)


@final
class Listings:
    """Answers with listings of folders of `tree`, `dotfiles` too or not; `threads` limits how many are read at once.

    Legend: I set once.
    """

    __slots__ = ("_compressors", "_dotfiles", "_threads", "_tree")

    def __init__(self, tree: Tree, *, dotfiles: bool, compress: bool, threads: trio.CapacityLimiter) -> None:
        self._tree = tree  # I
        self._dotfiles = dotfiles  # I
        self._compressors = stream_compressors() if compress else {}  # I
        self._threads = threads  # I

    async def respond(self, request: Request, names: tuple[str, ...]) -> Response:
        """A 200 with what is in the folder at `names`; a HEAD gets what a GET would.

        Raises:
          PathError: the folder is gone or may not be read.
        """
        fields = request.headers
        by_query = form_by_query(request.query)
        form = by_query or best_media_type(fields.get_all("accept"), tuple(_POLICIES))
        listing: ListingFormat = HtmlListing(names) if form == "text/html" else JsonListing(names)
        headers = page_headers(listing.media_type, _POLICIES[form])
        varies = [] if by_query else ["accept"]
        codings: list[str] = []
        if self._compressors:
            varies.append("accept-encoding")
            codings = acceptable_codings(fields.get_all("accept-encoding"), tuple(self._compressors))
        if varies:
            headers.add("vary", ", ".join(varies))
        coding = codings[0] if codings else None
        # Abandoned when the request is cancelled: a hanging network disk must not hold the connection's task.
        return await trio.to_thread.run_sync(
            self._begin, names, listing, headers, coding, limiter=self._threads, abandon_on_cancel=True
        )

    def _begin(self, names: tuple[str, ...], listing: ListingFormat, headers: Headers, coding: str | None) -> Response:
        """The response, with all of a short listing in it; for a worker thread."""
        found = scan_folder(self._tree, names, dotfiles=self._dotfiles, most_entries=listing.most_entries)
        texts = write_listing(self._tree, names, listing, found)
        make = not_compressed if coding is None else self._compressors[coding]
        if len(found.slices) > 1:
            if coding is not None:
                headers.add("content-encoding", coding)
            return Response(200, headers, body_of(encoded(texts, make()), self._threads))
        whole = "".join(texts).encode()
        if coding is not None and len(whole) >= LEAST:
            compressed = make().last(whole)
            if len(compressed) < len(whole):
                headers.add("content-encoding", coding)
                whole = compressed
        return Response(200, headers, whole)


def write_listing(tree: Tree, names: tuple[str, ...], listing: ListingFormat, found: FolderNames) -> Iterator[str]:
    """The text of a listing in pieces; uses up what was `found`. Reads the disk between two of them.

    Raises:
      PathError: the folder cannot be looked at now.
    """
    yield listing.begin()
    left_out = found.left_out
    while found.slices:
        packed = found.slices.popleft()
        entries = read_slice(tree, names, found.identity, packed)
        if entries is None:
            left_out += sum(map(count_names, (packed, *found.slices)))
            break
        yield listing.rows(paced(entries))
    yield listing.end(left_out)


def encoded(texts: Iterable[str], compressor: StreamCompressor) -> Iterator[bytes]:
    """`texts` in UTF-8 and compressed, as pieces none of which is empty."""
    for text in texts:
        if data := compressor.piece(text.encode()):
            yield data
    if data := compressor.last(b""):
        yield data


def body_of(pieces: Iterator[bytes], threads: trio.CapacityLimiter) -> BodyWriter:
    """The body of a long listing: each piece is made in a thread once the one before has been sent."""

    async def write(send: SendBytes) -> None:
        while (piece := await _next_of(pieces, threads)) is not None:
            await send(piece)

    return write


async def _next_of(pieces: Iterator[bytes], threads: trio.CapacityLimiter) -> bytes | None:
    return await trio.to_thread.run_sync(next, pieces, None, limiter=threads, abandon_on_cancel=True)
