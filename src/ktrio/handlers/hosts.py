"""Answer for some hosts only: a handler before another."""

from __future__ import annotations

from collections.abc import Iterable
from typing import final

from ktrio.http.errors import MisdirectedRequest
from ktrio.http.hosts import AllowedHosts
from ktrio.http.messages import Handler, Request, Response


@final
class _ForHosts:
    """The handler that `for_hosts` makes. Legend: I set once."""

    __slots__ = ("_handler", "_hosts")

    def __init__(self, handler: Handler, hosts: AllowedHosts) -> None:
        self._handler = handler  # I
        self._hosts = hosts  # I

    # No checkpoint of its own: it hands the request on, or refuses it.
    async def __call__(self, request: Request) -> Response:
        if not self._hosts.allow(request.headers.get("host")):
            raise MisdirectedRequest("This server does not answer for that host.")
        return await self._handler(request)

    def __repr__(self) -> str:
        return f"<{self._handler!r} for {self._hosts!r}>"


def for_hosts(handler: Handler, names: Iterable[str]) -> Handler:
    """`handler`, for requests to these hosts; others get a 421 (RFC 9110 section 15.5.20) and may go on.

    A handler rather than a check of heads: who wants none of it pays nothing, and what is refused is in the access log.

    Raises:
      ValueError: one of them is no name of a host, see `ktrio.http.hosts.host_name`; or there is none.
    """
    hosts = list(names)
    if not hosts:
        raise ValueError("no host is allowed: nobody could be answered")
    return _ForHosts(handler, AllowedHosts(hosts))
