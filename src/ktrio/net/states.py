"""What a connection is about, in the words that statistics and logs use."""

from __future__ import annotations

import enum
from typing import Final, final


@final
class State(enum.Enum):
    """What a connection is about, as the roster counts it; set by its protocol but for `NEW` and `CLOSED`."""

    NEW = "new"  # nothing received yet
    IDLE = "idle"  # between requests
    QUEUED = "queued"  # the first bytes of a request are there, and it waits for a slot to be read
    HEAD = "head"  # part of a request head is in
    BODY = "body"  # a request body is being read
    HANDLING = "handling"  # a handler works
    WRITING = "writing"  # a response is being sent
    LINGERING = "lingering"  # the last response is out
    CLOSED = "closed"  # the socket is closed


QUIET: Final = frozenset({State.NEW, State.IDLE})  # owed nothing: may be closed to make room, or at drain
