"""What there is to know about each connection, for people to look at: those that are open, and the last that closed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final, TypeAlias, final

from ktrio.net.connection import Connection, State

# Closed connections that are remembered: what somebody who looks at once can take in.
REMEMBERED: Final = 32


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionStatistics:
    """One connection at this moment, or as it was when it closed."""

    peer: str
    """The other end, as printed in logs."""
    local: str
    """The address of the listener that it came by."""
    state: str
    """What it is about: ``"new"``, ``"idle"``, ``"queued"``, ``"head"``, ``"body"``, ``"handling"``, ``"writing"``,
    ``"lingering"`` or ``"closed"``."""
    age: float
    """Seconds since it was accepted; of a closed one, how long it lived."""
    phase: str
    """What it is given time for, ``"idle"`` say: of several, the phase that ends first. ``""``: no time runs."""
    deadline: float | None
    """Seconds until `phase` is over; None if no time runs."""
    bytes_received: int
    """Bytes read from it."""
    bytes_sent: int
    """Bytes that the kernel has taken; the peer may not have them yet."""
    answered: int
    """Answers completed (echo: 1 if it ended in peace)."""
    reason: str
    """Why it ended or is being ended; ``""`` while it lives."""


# Peer, local, age, bytes received and sent, answered, reason: nothing that holds a socket, a handler, a worker. A bare
# tuple, because every connection pays for it when it closes, and hardly anybody ever looks.
_Closed: TypeAlias = tuple[str, str, float, int, int, int, str]


@final
class History:
    """The connections that closed last.

    Legend: I set once · S changed only in one synchronous stretch.
    """

    def __init__(self) -> None:
        self._closed: deque[_Closed] = deque(maxlen=REMEMBERED)  # I; its content S: oldest first

    def __repr__(self) -> str:
        return f"<History closed={len(self._closed)}/{REMEMBERED}>"

    def note(self, connection: Connection, now: float) -> None:
        """`connection` has closed."""
        self._closed.append(
            (
                connection.peer,
                connection.local,
                now - connection.opened,
                connection.bytes_received,
                connection.bytes_sent,
                connection.answered,
                connection.reason,
            )
        )

    def __iter__(self) -> Iterator[ConnectionStatistics]:
        for peer, local, age, bytes_received, bytes_sent, answered, reason in self._closed:
            yield ConnectionStatistics(
                peer=peer,
                local=local,
                state=State.CLOSED.value,
                age=age,
                phase="",
                deadline=None,
                bytes_received=bytes_received,
                bytes_sent=bytes_sent,
                answered=answered,
                reason=reason,
            )


def look_at(connections: Iterable[Connection], now: float, at_most: int | None) -> Iterator[ConnectionStatistics]:
    """The present state of the first `at_most` of some open connections, or of all."""
    for connection in islice(connections, at_most):
        armed = connection.deadlines.next()
        yield ConnectionStatistics(
            peer=connection.peer,
            local=connection.local,
            state=connection.state.value,
            age=now - connection.opened,
            phase="" if armed is None else armed[0].value,
            deadline=None if armed is None else max(0.0, armed[1] - now),  # it may strike a little late
            bytes_received=connection.bytes_received,
            bytes_sent=connection.bytes_sent,
            answered=connection.answered,
            reason=connection.reason,
        )
