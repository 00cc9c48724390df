"""Every reason for which a connection ends, and every deadline, in one table; each is reached on two roads.

`test_reasons` reaches them on raw sockets, `test_reasons_in_memory` by playbooks. Both ask here whether one is missing.
"""

from __future__ import annotations

import re
from pathlib import Path

from ktrio import Timeouts

DOCUMENT = Path(__file__).parents[2] / "docs/reference/statistics.md"

REASONS = {
    "peer-closed",
    "peer-reset",
    "client-gone",
    "answered",
    "handler-returned",
    "max-requests",
    "bad-request",
    "head-timeout",
    "idle-timeout",
    "body-timeout",
    "write-timeout",
    "half-closed-timeout",
    "made-room",
    "draining",
    "grace",
    "second-signal",
    "server-cancelled",
    "error",
}

# Deadline -> its field of `Timeouts`, with a value of its own, so that no other can be meant. Seconds.
DEADLINES = {
    "head": ("head", 11.0),
    "idle": ("idle", 7.0),
    "body": ("body", 13.0),
    "write": ("write", 17.0),
    "half-closed": ("half_closed", 3.0),
    "linger": ("linger", 6.0),
    "linger-draining": ("linger_draining", 2.0),
    "farewell": ("farewell", 4.0),
}
TIMEOUTS = Timeouts(**dict(DEADLINES.values()))


def seconds(deadline: str) -> float:
    """How long this one is in `TIMEOUTS`."""
    return DEADLINES[deadline][1]


def documented_reasons() -> set[str]:
    """The words of the table in the documentation."""
    text = DOCUMENT.read_text(encoding="utf-8").split("### The reasons")[1].split("\n## ")[0]
    return set(re.findall(r"^\| `([a-z-]+)` \|", text, re.MULTILINE))


def assert_complete(reasons: set[str], deadlines: set[str]) -> None:
    """Does this road reach every reason and every deadline there is?"""
    assert documented_reasons() == REASONS
    assert {name for name, _, _ in Timeouts().rows()} == set(DEADLINES)
    assert reasons == REASONS
    assert deadlines == set(DEADLINES)
