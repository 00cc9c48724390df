"""The table of connections: aligned plain text, the longest-lived at the top, of bounded length."""

from __future__ import annotations

import re

import pytest

from ktrio import ConnectionStatistics, ServerStatistics
from ktrio.cli._table import MOST_ROWS, printable, table


def counts(**changed: object) -> ServerStatistics:
    values: dict[str, object] = {
        "open": 0,
        "quiet": 0,
        "busy": 0,
        "owing": 0,
        "accepted": 0,
        "answered": 0,
        "cut": 0,
        "made_room": 0,
        "refused": 0,
        "errors": 0,
        "reasons": {},
        "suspended": False,
        "draining": False,
    }
    return ServerStatistics(**{**values, **changed})


def connection(number: int = 0, **changed: object) -> ConnectionStatistics:
    values: dict[str, object] = {
        "peer": f"10.0.0.1:{50000 + number}",
        "local": "10.0.0.2:80",
        "state": "idle",
        "age": 12.34,
        "phase": "idle",
        "deadline": 4.0,
        "bytes_received": 37,
        "bytes_sent": 1234567,
        "answered": 1,
        "reason": "",
    }
    return ConnectionStatistics(**{**values, **changed})


def closed(number: int = 0) -> ConnectionStatistics:
    return connection(number, state="closed", phase="", deadline=None, reason="peer-closed")


def test_table_reads_as_it_should() -> None:
    now = counts(open=2, quiet=1, busy=1, owing=1, accepted=300, answered=7000, cut=1, errors=2)
    rows = [connection(state="handling", phase="", deadline=None, age=1234.56), connection(1), closed(2)]
    assert table(now, rows).splitlines() == [
        "2 connections open: 1 quiet, 1 busy, 1 in progress; 300 accepted, 7000 answered, 1 cut, 2 errors",
        "  peer            local        state          age       until  received     sent  answered  reason",
        "  10.0.0.1:50000  10.0.0.2:80  handling  1234.6 s                    37  1234567         1",
        "  10.0.0.1:50001  10.0.0.2:80  idle        12.3 s  idle 4.0 s        37  1234567         1",
        "  10.0.0.1:50002  10.0.0.2:80  closed      12.3 s                    37  1234567         1  peer-closed",
    ]


def test_table_of_nobody_is_the_counts_alone() -> None:
    assert table(counts(), ()) == (
        "0 connections open: 0 quiet, 0 busy, 0 in progress; 0 accepted, 0 answered, 0 cut, 0 errors"
    )


@pytest.mark.parametrize(
    ("state", "shown"),
    [({"draining": True}, ", draining;"), ({"suspended": True}, ", suspended;"), ({}, "in progress;")],
)
def test_state_of_the_server_is_in_the_heading(state: dict[str, bool], shown: str) -> None:
    first = table(counts(open=1, **state), [connection()]).splitlines()[0]
    assert first.startswith("1 connection open: ")
    assert shown in first


def test_long_table_ends_with_how_many_more_there_are() -> None:
    rows = [*(connection(number) for number in range(MOST_ROWS)), *(closed(number) for number in range(3))]
    lines = table(counts(open=1000), rows).splitlines()
    assert len(lines) == MOST_ROWS + 3
    assert lines[2].split()[0] == "10.0.0.1:50000"
    assert lines[-1] == "... and 953 more"
    assert "closed" not in "\n".join(lines)


def test_closed_ones_fill_what_room_is_left_the_latest_of_them() -> None:
    rows = [*(connection(number) for number in range(45)), *(closed(100 + number) for number in range(32))]
    lines = table(counts(open=45), rows).splitlines()
    assert len(lines) == MOST_ROWS + 3
    assert [line.split()[0][-3:] for line in lines[-6:-1]] == ["127", "128", "129", "130", "131"]
    assert lines[-1] == "... and 27 more"


def test_rows_are_aligned_whatever_is_in_them() -> None:
    rows = [connection(), connection(peer="unix", local="unix:/run/a.sock", bytes_sent=0), closed(7)]
    lines = table(counts(open=2), rows).splitlines()[1:]
    for heading in ("peer", "local", "state"):
        starts = lines[0].index(heading)
        assert all(line[starts - 1] == " " and line[starts] != " " for line in lines)
    for heading in ("age", "received", "sent", "answered"):
        ends = re.search(rf"\b{heading}\b", lines[0]).end()
        assert all(line[ends - 1] != " " and line[ends : ends + 1] in ("", " ") for line in lines)


def test_name_of_a_socket_forges_no_line() -> None:
    text = table(counts(open=1), [connection(local="unix:/run/a\n\x1b[2Jb")])
    assert len(text.splitlines()) == 3
    assert "unix:/run/a\\n\\x1b[2Jb" in text
    assert printable("aä\n") == "aä\\n"
