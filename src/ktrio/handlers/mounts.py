"""One handler of many: each below a path of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import final

from ktrio.handlers._errors import error_page
from ktrio.handlers._locations import location_with_slash
from ktrio.http.errors import BadRequest
from ktrio.http.messages import Handler, Request, Response
from ktrio.http.target import decode_path, leading_names

__all__ = ["mount"]


@final
class _Mounts:
    """The handler that `mount` makes. Legend: I set once."""

    __slots__ = ("_by_names", "_longest")

    def __init__(self, handlers: Mapping[tuple[str, ...], Handler]) -> None:
        self._by_names = dict(handlers)  # I
        self._longest = max(map(len, handlers))  # I: names in the longest path

    # No checkpoint of its own: it hands the request on.
    async def __call__(self, request: Request) -> Response:
        if request.path == "*":  # about the server as a whole, which is none of theirs (RFC 9110 section 9.3.7)
            return Response(204)
        try:
            names = leading_names(request.path)
        except BadRequest as error:
            return error_page(error.status, error.message)
        for length in range(min(self._longest, len(names)), -1, -1):
            handler = self._by_names.get(names[:length])
            if handler is not None:
                return await self._hand_on(request, handler, names, length)
        return error_page(404)

    async def _hand_on(self, request: Request, handler: Handler, names: tuple[str, ...], length: int) -> Response:
        if length == 0:
            return await handler(request)
        if request.path.count("/") == length:
            # Relative references in what it answers would lead beside the mount.
            return Response.redirect(location_with_slash(names[-1], request.query), status=308)
        return await handler(replace(request, path=path_below(request.path, length)))

    def __repr__(self) -> str:
        return f"<mount {', '.join('/' + '/'.join(names) for names in sorted(self._by_names))}>"


def path_below(path: str, length: int) -> str:
    """What is left of `path`, still encoded, behind its first `length` segments, none of which is empty."""
    return "/" + path.split("/", length + 1)[-1] if path.count("/") > length else "/"


def mount(handlers: Mapping[str, Handler]) -> Handler:
    """A handler that hands each request on to the handler of the longest path that the request's path begins with.

    Args:
      handlers: by path, ``{"/": files("site"), "/api": api, "/api/v2": newer}``. Paths are compared segment by segment,
        decoded. A handler gets `Request.path` without its own path (``/api/users`` as ``/users``), and
        `Request.target` as it was sent. Its own path without a slash behind it is redirected to the one with (308).
        What begins with no path of them is 404; with a ``"/"`` there is nothing of that kind. ``//api`` begins with an
        empty segment and not with ``/api``. ``OPTIONS *`` is answered by 204.

    Raises:
      ValueError: no handlers; a path that does not begin with a slash, or cannot be one; the same path twice.
    """
    by_names: dict[tuple[str, ...], Handler] = {}
    for path, handler in handlers.items():
        try:
            names = decode_path(path)
        except BadRequest as error:
            raise ValueError(f"cannot mount a handler at {path!r}: {error.message}") from None
        if names in by_names:
            raise ValueError(f"two handlers are mounted at {path!r}")
        by_names[names] = handler
    if not by_names:
        raise ValueError("mount needs at least one handler")
    return _Mounts(by_names)
