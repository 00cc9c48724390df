"""What is told about one request once it is over, and to whom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, final


@final
@dataclass(slots=True, kw_only=True)
class RequestDetails:
    """One finished request, as sinks see it (access log, counters). Not mutated by convention.

    A connection that ended before it had brought a whole request is told as one whose head could not be read.

    method, target, version: as sent, empty if the head could not be read.
    status: of the response; 0 if none was sent.
    peer: the other end as printed in logs.
    bytes_sent: of the response body, without framing; less than its length if it was cut short.
    duration: seconds from the request's first byte to the end of its response.
    started: wall clock, seconds since the epoch; only to be printed.
    user_agent, referer: the fields of these names (RFC 9110 sections 10.1.5, 10.1.3), `None` if there were none.
    reason: why it ended early, in the words of a connection's reasons; empty if it did not.
    close_reason: why its connection ends with it, early or not; empty if that stays open.
    request_id: what `Request.id` was; empty if the head could not be read.
    first_byte: seconds from the request's first byte to the first of its response; `None` if none was sent.
    """

    method: str
    target: str
    version: str
    status: int
    peer: str
    bytes_sent: int
    duration: float
    started: float
    user_agent: str | None = None
    referer: str | None = None
    reason: str = ""
    close_reason: str = ""
    request_id: str = ""
    first_byte: float | None = None


Tell: TypeAlias = Callable[[RequestDetails], None]
