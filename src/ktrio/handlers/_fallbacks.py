"""What is answered where a folder has nothing: the page of an app that routes for itself, or error pages of its own.

A handler around that of the folder, made only if one of both is asked for. It looks at answers from 400 on, so what is
there is served as without it.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Final, final

from ktrio.handlers._tree import Kind, Opened, PathError, Tree
from ktrio.handlers.cors import add_vary
from ktrio.http.errors import BadRequest
from ktrio.http.headers import Headers
from ktrio.http.messages import FileRange, Handler, Request, Response
from ktrio.http.negotiation import accepts_by_name
from ktrio.http.target import decode_path, is_hidden

# Bytes of an error page that is kept in memory; a longer one is no page.
_MOST_KEPT: Final = 64 * 1024

# Fields of the answer that the status asks for, whatever page comes with it.
_KEPT_FIELDS: Final = ("allow", "content-range", "retry-after", "vary")


def may_be_a_route(path: str) -> bool:
    """Can `path` be one that an app routes for itself? Not if its last segment has a suffix, or any is a dotfile's.

    A script or an image that is missing has to be missing: answered with a page it would break far from where it is
    wrong.
    """
    try:
        names = decode_path(path)
    except BadRequest:
        return False
    return not is_hidden(names) and not (names and "." in names[-1])


def is_navigation(request: Request) -> bool:
    """Is this what a browser asks for when somebody goes to an address, not what a page fetches?

    It names ``text/html`` in ``Accept``. Every browser does so, and only then; ``fetch`` and most programs say ``*/*``.
    """
    return accepts_by_name(request.headers.get_all("accept"), "text/html")


def names_of_error_page(status: int) -> tuple[str, str]:
    """The files that may stand for this status, the first there is: ``404.html``, ``40x.html``."""
    return f"{status}.html", f"{status // 10}x.html"


@final
class _Fallbacks:
    """The handler that `with_fallbacks` makes. Legend: I set once."""

    __slots__ = ("_error_pages", "_handler", "_kept", "_spa", "_tree")

    def __init__(self, handler: Handler, tree: Tree, *, spa: bool, error_pages: bool) -> None:
        self._handler = handler  # I
        self._tree = tree  # I
        self._spa = spa  # I
        self._error_pages = error_pages  # I
        # I: of the statuses that say there are no descriptors left, or worse: then none could be opened.
        self._kept = {name: page for name in _FIVES if (page := _read(tree, name)) is not None} if error_pages else {}

    # No checkpoint of its own: it hands the request on.
    async def __call__(self, request: Request) -> Response:
        response = await self._handler(request)
        if response.status < 400:
            return response
        if self._spa and response.status == 404 and may_be_a_route(request.path):
            if is_navigation(request):
                page = await self._handler(replace(request, path="/"))
                if page.status < 400:
                    return _as_fallback(page)
            add_vary(response.headers, "accept")
        return self._with_page(response) if self._error_pages else response

    def _with_page(self, response: Response) -> Response:
        """`response` with the page of the folder's own for its status, if there is one."""
        status = response.status
        for name in names_of_error_page(status):
            if status >= 500:
                if (page := self._kept.get(name)) is not None:
                    return Response(status, _headers_of_page(response, len(page)), page)
            elif (file := _open(self._tree, name)) is not None:
                size = file.status.st_size
                body = FileRange(descriptor=file.descriptor, offset=0, count=size, close=file.close)
                return Response(status, _headers_of_page(response, size), body)
        return response

    def __repr__(self) -> str:
        return f"<fallbacks {self._handler!r}>"


def _as_fallback(page: Response) -> Response:
    """It stands for an address that may be a file's tomorrow, and for whoever asks like that only."""
    page.headers.set("cache-control", "no-cache")
    add_vary(page.headers, "accept")
    return page


def _headers_of_page(response: Response, size: int) -> Headers:
    """No validators: preconditions are not for errors (RFC 9110 section 13.2.1)."""
    headers = Headers(
        [
            ("content-type", "text/html; charset=utf-8"),
            ("content-length", str(size)),
            ("cache-control", "no-cache"),
            ("x-content-type-options", "nosniff"),
        ]
    )
    for name in _KEPT_FIELDS:
        for value in response.headers.get_all(name):
            headers.add(name, value)
    return headers


_FIVES: Final = ("500.html", "501.html", "503.html", "50x.html")


def _open(tree: Tree, name: str) -> Opened | None:
    try:
        found = tree.open((name,), Kind.FILE)
    except PathError:
        return None
    return found if found.kind is Kind.FILE else None


def _read(tree: Tree, name: str) -> bytes | None:
    file = _open(tree, name)
    if file is None:
        return None
    try:
        page = os.pread(file.descriptor, _MOST_KEPT + 1, 0)
    finally:
        file.close()
    return page if len(page) <= _MOST_KEPT else None


def with_fallbacks(handler: Handler, tree: Tree, *, spa: bool, error_pages: bool) -> Handler:
    """`handler`, which serves `tree`, with fallbacks; `handler` itself if none is asked for.

    Error pages of 5xx are read now.
    """
    return _Fallbacks(handler, tree, spa=spa, error_pages=error_pages) if spa or error_pages else handler
