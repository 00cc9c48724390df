"""What a client is told when its connection ends before it has heard anything."""

from __future__ import annotations

from typing import Final

from ktrio.http.errors import HttpError, InternalError, RequestTimeout, ServiceUnavailable

# Why a connection ends by what its client does, does not do, or was told already. Any other reason is the server's, who
# may give a name of their own to it (`Server.force_shutdown`): a client that has heard nothing yet is told.
_THE_CLIENTS: Final = frozenset(
    {
        "answered",
        "bad-request",
        "client-gone",
        "draining",
        "half-closed-timeout",
        "head-timeout",
        "idle-timeout",
        "made-room",
        "max-requests",
        "peer-closed",
        "peer-reset",
        "write-timeout",
    }
)


def is_the_clients(reason: str) -> bool:
    """Does the connection end by what its client does, does not do, or was told already?"""
    return reason in _THE_CLIENTS


def last_words(reason: str, *, has_begun: bool) -> HttpError | None:
    """What `reason` calls for, asked while no answer was begun; `has_begun`: has a request, at least a bit?"""
    if reason == "head-timeout" and has_begun:
        return RequestTimeout("The head of the request did not come in time.")
    if is_the_clients(reason):
        return None
    if reason == "body-timeout":
        return RequestTimeout("The body of the request did not come in time.")
    if reason == "error":
        return InternalError("The server met an unexpected error.")
    return ServiceUnavailable("The server is shutting down.")
