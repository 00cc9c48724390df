"""What is told about a request once it is over, put together; and that telling costs nobody a connection."""

from __future__ import annotations

import logging
import time

import trio

from ktrio.http.details import RequestDetails, Tell
from ktrio.http.messages import Request
from ktrio.http.request_head import RequestHead
from ktrio.net.connection import Connection

log = logging.getLogger("ktrio.http")


def is_a_mere_look(connection: Connection) -> bool:
    """Has the peer connected and left in peace, without a byte? So do health checks and browsers: no line for them."""
    return connection.reason == "peer-closed" and not connection.bytes_received


def details_of(
    connection: Connection,
    head: RequestHead | None,
    request: Request | None,
    began: float,
    response_began: float | None,
    status: int,
    body_bytes: int,
) -> RequestDetails:
    """A request that has just ended, or one of which there never was more than a bit (`head` is None).

    `began` and `response_began`: when the first byte of each was there, `trio.current_time`; None: just now.
    """
    now = trio.current_time()
    duration = now - began
    return RequestDetails(
        method=head.method if head else "",
        target=head.target if head else "",
        version=head.version if head else "",
        status=status,
        peer=connection.peer,
        bytes_sent=body_bytes,
        duration=duration,
        started=time.time() - duration,
        user_agent=head.headers.get("user-agent") if head else None,
        referer=head.headers.get("referer") if head else None,
        reason=connection.reason,
        request_id=request.id if request is not None else "",
        first_byte=(now if response_began is None else response_began) - began if status else None,
    )


def tell_safely(tell: Tell, details: RequestDetails) -> None:
    """Barrier: a sink that fails costs nobody a connection."""
    try:
        tell(details)
    except Exception:
        log.exception("telling about %s %s failed", details.method, details.target)
