"""The table as a page, and what the server's log says of a trial."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from tests.real_clients.trial import Row

PAGE = Path(__file__).parents[2] / "docs" / "spec" / "real-clients.md"

INTRODUCTION = """\
# Real clients

What programs that people use make of `ktrio serve`. `make clients` serves a temporary folder, lets each of them fetch
from it, compares what they got with what is in the folder by SHA-256, and writes this page. It is a record of one run,
not a promise: what is promised is in [What is supported of HTTP](supported-http.md). A client that is not installed is
skipped, and said to be.

"""


def statuses_of(log: str) -> Counter[int]:
    """How often each status was answered, by a log of ktrio's in JSON. A last line that is not complete is left out."""
    complete = log[: log.rfind("\n") + 1]
    return Counter(int(json.loads(line)["status"]) for line in complete.splitlines())


def said_of(statuses: Counter[int]) -> str:
    """Such as ``200, 8 x 206``."""
    return ", ".join(f"{n} x {status}" if n > 1 else str(status) for status, n in sorted(statuses.items())) or "nothing"


def cell(text: str) -> str:
    """The text so that it stays in its cell."""
    return " ".join(text.split()).replace("|", "\\|")


def render(rows: list[Row], *, date: str, ktrio: str, python: str, system: str) -> str:
    """The whole page."""
    passed = sum(row.outcome.startswith("ok") for row in rows)
    skipped = sum(row.outcome.startswith("skipped") for row in rows)
    lines = [
        (
            f"{date}, ktrio {ktrio}, Python {python}, {system}: {passed} ok, {len(rows) - passed - skipped} failed, "
            f"{skipped} skipped. Behind each outcome are the statuses that ktrio answered with."
        ),
        "",
        "| client | version | what it did | outcome |",
        "|---|---|---|---|",
    ]
    cells = ([row.client, row.version, row.did, row.outcome] for row in rows)
    lines += [f"| {' | '.join(map(cell, each))} |" for each in cells]
    return INTRODUCTION + "\n".join(lines) + "\n"
