"""Answer requests from a folder: its files, its index pages, a listing where there is none.

What is served: regular files and folders below the root, links that stay inside it. What is not, and looks as
if it were not there (404): dotfiles in any segment but ``/.well-known/`` at the root, links that lead out,
fifos, sockets, devices. What is there but may not be read is 403. `FolderOptions` can say otherwise of dotfiles and
links; all of it is decided when the handler is made.

The file system is asked on every request and nothing is remembered, so an answer is never older than the
request. HEAD is answered exactly as GET: the protocol leaves the body out and closes it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final, final

import trio

from ktrio.handlers._errors import ALLOWED, GIVEN_OUT, error_page
from ktrio.handlers._fallbacks import with_fallbacks
from ktrio.handlers._links import tree_of
from ktrio.handlers._listings import Listings
from ktrio.handlers._locations import location_with_slash, location_without_empty_segments
from ktrio.handlers._tree import Kind, PathError, RootError, Tree
from ktrio.handlers._variants import Variants
from ktrio.handlers.listing import quote_name
from ktrio.handlers.options import Dotfiles, FolderOptions, Links, SecurityHeaders, SiteOptions
from ktrio.handlers.rules import RulesError, rules_of
from ktrio.handlers.site import site
from ktrio.http.errors import BadRequest, HttpError
from ktrio.http.headers import Headers
from ktrio.http.messages import Handler, Request, Response
from ktrio.http.policy import KNOWN_METHODS
from ktrio.http.target import EmptySegmentError, decode_path, is_hidden

__all__ = ["RootError", "RulesError", "files"]

# Worker threads that read folders and compress files at once, for each handler: a burst of either must not take all of
# Trio's 40 threads from those who warm cold files. A guess; nobody has measured better.
_THREADS: Final = 4


def refusal_of_method(method: str) -> int | None:
    """The status that refuses `method`, None for one that is served (RFC 9110 sections 9.1, 15.5.6 and 15.6.2)."""
    if method in ALLOWED:
        return None
    return 405 if method in KNOWN_METHODS else 501


def is_never_hidden(_names: tuple[str, ...]) -> bool:
    """`is_hidden` where dotfiles are served."""
    return False


def answer_without_file(request: Request) -> Response:
    """What a method other than GET and HEAD gets: OPTIONS what there is (RFC 9110 section 9.3.7), others a refusal.

    All that is here can be done the same with, so OPTIONS does not look whether it is there, and tells nobody.
    """
    refusal = refusal_of_method(request.method)
    if refusal is not None:
        return error_page(refusal)
    try:
        if request.path != "*":
            decode_path(request.path)
    except EmptySegmentError:
        return redirect_without_empty_segments(request)
    except BadRequest as error:
        return error_page(error.status, error.message)
    return Response(204, Headers([("allow", ", ".join(ALLOWED))]))


def redirect_without_empty_segments(request: Request) -> Response:
    """``//a///b`` is ``/a/b``, and has that one URL (RFC 9110 section 15.4.2)."""
    return redirect(location_without_empty_segments(request.target))


def redirect(location: str) -> Response:
    """For good, to `location`."""
    return Response(301, Headers([("location", location), ("content-length", "0")]))


def disposition_of(name: str) -> str:
    """The ``Content-Disposition`` that has a file saved under its `name` (RFC 6266 section 4, RFC 8187).

    Percent-encoded, and once more in plain ASCII for programs that do not know that form: nothing in a name can end
    the value or the line.
    """
    plain = "".join(
        each if each.isalnum() or each in "-_. ()" else "_" for each in name.encode("ascii", "replace").decode()
    )
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote_name(name)}"


@final
class _Files:
    """The handler that `files` makes. All attributes I: set once."""

    __slots__ = ("_index", "_is_hidden", "_listings", "_tree", "_variants")

    def __init__(self, tree: Tree, options: FolderOptions, wall_clock: Callable[[], float]) -> None:
        self._tree = tree
        self._index = options.index
        self._is_hidden = is_hidden if options.dotfiles == "deny" else is_never_hidden
        threads = trio.CapacityLimiter(_THREADS)
        self._listings = (
            Listings(tree, dotfiles=options.dotfiles == "allow", compress=options.compress, threads=threads)
            if options.listing and not options.spa
            else None
        )
        self._variants = Variants(
            tree,
            precompressed=options.precompressed,
            compress=options.compress,
            media_types=options.media_types,
            wall_clock=wall_clock,
            threads=threads,
        )

    # No checkpoint on the way to a file, although the style of Trio asks for one: the protocol has one in
    # every response it writes, and a second would cost a tenth of the request.
    async def __call__(self, request: Request) -> Response:
        if request.method not in GIVEN_OUT:
            return answer_without_file(request)
        try:
            names = decode_path(request.path)
            if self._is_hidden(names):
                return error_page(404)
            if request.path.endswith("/"):
                return await self._answer_folder(request, names)
            return await self._answer_name(request, names)
        except EmptySegmentError:
            return redirect_without_empty_segments(request)
        except HttpError as error:
            return error_page(error.status, error.message)
        except PathError as error:
            return error_page(error.status)

    async def _answer_name(self, request: Request, names: tuple[str, ...]) -> Response:
        """Answer a path without a slash at its end: a file, or the way to the folder."""
        found = self._tree.open(names, Kind.FILE)
        if found.kind is Kind.FILE:
            response = await self._variants.respond(request, names, found)
            if request.query == "download" and response.status in (200, 206):
                response.headers.add("content-disposition", disposition_of(names[-1]))
            return response
        return redirect(location_with_slash(names[-1], request.query))

    async def _answer_folder(self, request: Request, names: tuple[str, ...]) -> Response:
        """Answer a path with a slash at its end: the first index file there is, else the listing."""
        for index in self._index:
            try:
                found = self._tree.open((*names, index), Kind.FILE)
            except PathError as error:
                if error.status != 404:
                    raise
                continue
            if found.kind is Kind.FILE:
                return await self._variants.respond(request, (*names, index), found)
        if self._listings is None:
            return error_page(404)
        return await self._listings.respond(request, names)

    def __repr__(self) -> str:
        return f"<files {os.fsdecode(self._tree.root)!r}>"


def files(
    root: str | os.PathLike[str],
    *,
    index: str | Iterable[str] = ("index.html",),
    listing: bool = True,
    spa: bool = False,
    error_pages: bool = False,
    precompressed: bool = True,
    compress: bool = True,
    dotfiles: Dotfiles = "deny",
    links: Links = "inside",
    media_types: Mapping[str, str] | None = None,
    rules: str | os.PathLike[str] | Mapping[str, object] | None = None,
    cors: str | Iterable[str] = (),
    security_headers: SecurityHeaders = "basic",
    immutable: bool = False,
    wall_clock: Callable[[], float] = time.time,
) -> Handler:
    """A handler that serves the folder `root` to GET and HEAD, and to OPTIONS says so.

    A query of just ``?download`` makes a browser save the file rather than show it.

    Args:
      root: the folder, relative or a link if you like; resolved now, once.
      index: names looked for in a folder, in this order, before it is listed.
      listing: show what is in a folder without index file, as a page, or as JSON to whoever asks for that by
        ``Accept: application/json`` or ``?format=json``; False makes it 404.
      spa: answer an unknown path with the index file of `root` if a browser navigates to it (it accepts ``text/html``
        by name) and its last segment has no suffix: for an app that routes for itself. No folder is listed then.
      error_pages: send ``404.html``, or else ``40x.html``, from `root` with a 404, and so on for other errors; those of
        5xx are read now, up to 64 KiB.
      precompressed: send ``page.html.br``, ``.zst`` or ``.gz`` instead of ``page.html`` to whoever accepts that, if it
        is there, smaller, and no older.
      compress: compress text of 256 bytes to 8 MiB, and listings, for whoever accepts it: gzip, and with the extra
        ``compression`` br and zstd. What was compressed of files is remembered, up to 32 MiB.
      dotfiles: names that begin with a dot: ``"deny"`` makes them 404, but for ``/.well-known/``; ``"unlisted"`` serves
        them to whoever knows the name; ``"allow"`` lists them too.
      links: the symbolic links that are followed: ``"inside"`` those that end in `root`; ``"owner"`` of these the ones
        whose target has their owner (Linux only); ``"never"`` none below `root`; ``"all"`` also those that lead out.
        What is not followed is 404.
      media_types: by last suffix, ``{".glsl": "text/plain"}``; they come before those of ktrio's table.
      rules: redirects, header fields and caching by path: a TOML file, read now, or a mapping shaped like one.
      cors: origins whose pages may read what is served, ``"https://example.org"``; ``"*"``: all.
      security_headers: ``"basic"`` says ``nosniff``; ``"strict"`` also forbids others to frame or embed what is served
        and says no referrer; ``"off"`` says nothing.
      immutable: have files whose names carry a hash of their content (``app.3f9c2b7d.js``) kept for a year, without
        being asked for again.
      wall_clock: seconds since the epoch; tells how old a file is.

    Raises:
      RootError: `root` cannot be served; one line that says why.
      RulesError: `rules` cannot be read, or one of them cannot be.
      ValueError: an option has a value it cannot have, a name in `index` that is no file name, say.
    """
    options = FolderOptions(
        index=(index,) if isinstance(index, str) else tuple(index),
        listing=listing,
        spa=spa,
        error_pages=error_pages,
        precompressed=precompressed,
        compress=compress,
        dotfiles=dotfiles,
        links=links,
        media_types=media_types or {},
    )
    site_options = SiteOptions(
        rules=rules_of(rules) if isinstance(rules, Mapping) else rules,
        cors=(cors,) if isinstance(cors, str) else tuple(cors),
        security_headers=security_headers,
        immutable=immutable,
    )
    return site(folder(root, options, wall_clock=wall_clock), site_options)


def folder(
    root: str | os.PathLike[str], options: FolderOptions, *, wall_clock: Callable[[], float] = time.time
) -> Handler:
    """`files` with its options as a record."""
    tree = tree_of(root, options.links)
    return with_fallbacks(_Files(tree, options, wall_clock), tree, spa=options.spa, error_pages=options.error_pages)
