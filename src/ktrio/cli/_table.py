"""The table of connections that SIGQUIT asks for: plain text, because rich would hold the loop while it is imported."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ktrio.commands import ConnectionStatistics, ServerStatistics

MOST_ROWS: Final = 50
"""A screen or two: the oldest connections are those that somebody looks for."""

_HEADINGS: Final = ("peer", "local", "state", "age", "until", "received", "sent", "answered", "reason")
_RIGHT: Final = frozenset({"age", "until", "received", "sent", "answered"})
"""Columns of numbers."""


def table(now: ServerStatistics, connections: Sequence[ConnectionStatistics]) -> str:
    """The counts in a line, then a row for each connection: open ones first, longest-lived at the top.

    `connections` holds the first `MOST_ROWS` open ones, or all, and then those that closed last, oldest first.
    """
    still_open = [each for each in connections if not _is_closed(each)][:MOST_ROWS]
    closed = [each for each in connections if _is_closed(each)]
    room = MOST_ROWS - len(still_open)
    shown = [*still_open, *closed[max(0, len(closed) - room) :]]
    more = now.open + len(closed) - len(shown)
    lines = [_counts(now)]
    if shown:
        lines += _aligned([_HEADINGS, *map(_row, shown)])
    if more > 0:
        lines.append(f"... and {more} more")
    return "\n".join(lines)


def _is_closed(connection: ConnectionStatistics) -> bool:
    return connection.state == "closed"


def _counts(now: ServerStatistics) -> str:
    state = ", draining" if now.draining else ", suspended" if now.suspended else ""
    return (
        f"{now.open} connection{'' if now.open == 1 else 's'} open: {now.quiet} quiet, {now.busy} busy, "
        f"{now.owing} in progress{state}; {now.accepted} accepted, {now.answered} answered, {now.cut} cut, "
        f"{now.errors} errors"
    )


def _row(connection: ConnectionStatistics) -> tuple[str, ...]:
    until = "" if connection.deadline is None else f"{connection.phase} {connection.deadline:.1f} s"
    return (
        printable(connection.peer),
        printable(connection.local),
        connection.state,
        f"{connection.age:.1f} s",
        until,
        str(connection.bytes_received),
        str(connection.bytes_sent),
        str(connection.answered),
        connection.reason,
    )


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  " + _line(row, widths) for row in rows]


def _line(row: tuple[str, ...], widths: Sequence[int]) -> str:
    cells = [
        cell.rjust(width) if heading in _RIGHT else cell.ljust(width)
        for cell, width, heading in zip(row, widths, _HEADINGS, strict=True)
    ]
    return "  ".join(cells).rstrip()


def printable(text: str) -> str:
    """`text` with what would move a cursor or forge a line as escapes; a folder or a socket may be called anything."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
