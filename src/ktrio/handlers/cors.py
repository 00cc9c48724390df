"""Cross-origin requests: which pages of other origins may read what is served (the Fetch standard's CORS protocol).

Credentials are never allowed, so what an origin may read is what anybody may. That is why preflights allow every
field (``*``), and why ``*`` as an origin is no danger to a folder that everybody can reach.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, final

from ktrio.handlers._errors import GIVEN_OUT
from ktrio.http.headers import Headers
from ktrio.http.messages import Handler, Request, Response

# scheme "://" host [ ":" port ], as a browser serialises it: lower case, no slash behind it (RFC 6454 section 6.2).
_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://(?:\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]{1,5})?")

# Seconds a browser may remember a preflight; none keeps it longer than two hours.
_MAX_AGE: Final = 7200

# What scripts that fetch parts of files need to see and may not by themselves.
_EXPOSED: Final = "Accept-Ranges, Content-Encoding, Content-Length, Content-Range, ETag"

ANY: Final = "*"
"""Every origin."""


def check_origins(origins: Iterable[str]) -> None:
    """Are these origins as a browser sends them, or `ANY`?

    Raises:
      ValueError: one is not; one line that says what to write.
    """
    for origin in origins:
        if origin == ANY or _ORIGIN.fullmatch(origin):
            continue
        if origin == "null":
            raise ValueError("the origin 'null' is that of every sandboxed page and file: use '*' if anybody may read")
        raise ValueError(f"{origin!r} is not an origin: give one such as 'https://example.org', or '*' for all")


def is_preflight(request: Request) -> bool:
    """Does a browser ask, before the request it is about, whether that may be sent?"""
    return (
        request.method == "OPTIONS"
        and "origin" in request.headers
        and "access-control-request-method" in request.headers
    )


@final
class _CrossOrigin:
    """The handler that `cross_origin` makes. Legend: I set once."""

    __slots__ = ("_allowed", "_handler")

    def __init__(self, handler: Handler, origins: frozenset[str]) -> None:
        self._handler = handler  # I
        self._allowed = None if ANY in origins else origins  # I; None: all

    async def __call__(self, request: Request) -> Response:
        allowed = self._allowed_origin(request)
        if is_preflight(request):
            response = Response(204)
            if allowed is not None:
                response.headers.add("access-control-allow-methods", ", ".join(GIVEN_OUT))
                response.headers.add("access-control-allow-headers", "*")
                response.headers.add("access-control-max-age", str(_MAX_AGE))
        else:
            response = await self._handler(request)
            if allowed is not None:
                response.headers.set("access-control-expose-headers", _EXPOSED)
        if allowed is not None:
            response.headers.set("access-control-allow-origin", allowed)
        if self._allowed is not None:
            add_vary(response.headers, "origin")
        return response

    def _allowed_origin(self, request: Request) -> str | None:
        """What ``Access-Control-Allow-Origin`` says to this request; None: nothing."""
        if self._allowed is None:
            return ANY
        origins = request.headers.get_all("origin")
        return origins[0] if len(origins) == 1 and origins[0] in self._allowed else None

    def __repr__(self) -> str:
        return f"<cors {self._handler!r}>"


def add_vary(headers: Headers, name: str) -> None:
    """Say that another value of the request field `name` might get another answer (RFC 9110 section 12.5.5)."""
    values = headers.get_all("vary")
    headers.set("vary", ", ".join([*values, name]))


def cross_origin(handler: Handler, origins: Iterable[str]) -> Handler:
    """`handler`, readable by pages of these origins; `handler` itself if there are none.

    Raises:
      ValueError: one is no origin.
    """
    every = frozenset(origins)
    check_origins(every)
    return _CrossOrigin(handler, every) if every else handler
