"""May one more connection come in? Integers in, verdict out; asked before `accept`, never after.

A connection that was accepted and then turned away has cost its client a round trip and the server a descriptor; one
left in the kernel's backlog has cost nothing and may still be served.
"""

from __future__ import annotations

import enum
from typing import Final, final

# The share of the open-file limit that connections may take; the rest is for files being sent, listeners and logs.
CONNECTIONS_SHARE: Final = (3, 4)
# Beyond this a loop has more to do than one core can, whatever the file limit says.
MOST_CONNECTIONS: Final = 65_536


@final
class Verdict(enum.Enum):
    """What to do about a client that waits in the backlog."""

    ADMIT = enum.auto()
    """There is room."""
    MAKE_ROOM = enum.auto()
    """Full, but somebody may leave: ask the longest-idle one, then ask again."""
    WAIT = enum.auto()
    """Full of connections at work: leave the client in the backlog until one ends."""


def verdict(open_connections: int, max_connections: int, may_leave: int) -> Verdict:
    """Asked when a client waits: with nobody waiting, nobody is closed. Streams that still close count as open."""
    if open_connections < max_connections:
        return Verdict.ADMIT
    return Verdict.MAKE_ROOM if may_leave else Verdict.WAIT


def default_max_connections(open_file_limit: int) -> int:
    """The ceiling when none was given, from the limit on open files in force."""
    share, of = CONNECTIONS_SHARE
    return max(1, min(open_file_limit * share // of, MOST_CONNECTIONS))
