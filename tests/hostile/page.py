"""``docs/spec/hostile-input.md`` from the tables."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, Protocol

from tests.hostile import changing, chunks, framing, lines, paths, test_floods
from tests.hostile.attack import Told

PAGE: Final = Path(__file__).parents[2] / "docs" / "spec" / "hostile-input.md"

INTRODUCTION: Final = """\
<!-- Written by `python -m tests.hostile` from the tables of tests/hostile; do not edit. -->

# Hostile input

What ktrio answers to input that means no good: each row is sent to the whole server by the tests, those of bytes at
once, byte by byte, and all together on connections beside each other. Of each class the sources are named: who has
used it against which servers, or the section of an RFC that forbids it.

For every row: no part of it is taken for another request (`/smuggled` reaches no handler), each answer can be read by
a strict client, nobody else's request waits for it, nothing is written to the log, and memory stays bounded. *closed*
means that the connection ends behind the last answer; *stays open*, that the next request on it is answered. The
answer is that of a handler which reads its requests' bodies. One that does not, such as the files handler, finds no
faults in a body: its own answer comes first, and then the connection is closed.

A request body is never decompressed. `Content-Encoding` is the handler's to look at, and 501 answers every transfer
coding but `chunked`: there is no bomb to be sent.
"""

# Title, what it is about, and the module whose tests tell it.
TOLD: Final = (
    (
        "Slow peers",
        "A dozen at once, on a server that lets one handler work at a time; somebody else is served at once meanwhile.",
        "test_slow",
    ),
    (
        "Floods",
        "Eight at once. The peak of memory is measured. Behind an answer that closes, 4 MiB are read, or 1 s long.",
        "test_floods",
    ),
)


CHANGING: Final = (
    "Never another file's bytes. The same changes are made before every call of the system with which an answer is put"
    " together: between open, stat and the reads; of parts, siblings, what is compressed on the way, index and listing."
)


class Row(Protocol):
    """What a line of a table is made of."""

    @property
    def name(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def answer(self) -> str: ...


def rows_told_by(module: str) -> list[Told]:
    """The rows that the tests of a module bear, in order."""
    found = vars(importlib.import_module(f"tests.hostile.{module}")).values()
    return [told for each in found if isinstance(told := getattr(each, "told", None), Told)]


def table(title: str, about: str, rows: Iterable[Row]) -> Iterator[str]:
    """One section."""
    yield f"## {title}\n"
    if about:
        yield f"{about}\n"
    yield "| input | source | answer |\n|---|---|---|"
    for row in rows:
        cells = (row.name, row.source, row.answer)
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
    yield ""


def short(name: str) -> str:
    """A long target, cut."""
    return name if len(name) <= 60 else f"{name[:40]}…` ({len(name) - 2} bytes)"


def render() -> str:
    """The whole page."""
    parts = [INTRODUCTION]
    for each in (*framing.CLASSES, *chunks.CLASSES, *lines.CLASSES):
        parts += table(each.title, each.about, each.attacks)
    for group in paths.CLASSES:
        rows = [Told(short(attack.name), attack.source, attack.answer) for attack in group.attacks]
        parts += table(group.title, group.about, rows)
    ranges = [Told(name, source, str(status)) for name, (source, _value, status) in test_floods.RANGES.items()]
    parts += table("Ranges", "Of a file of 100 000 bytes; the answer is never longer than it and its framing.", ranges)
    for title, about, module in TOLD:
        parts += table(title, about, rows_told_by(module))
    changes = [
        Told(f"to {change.__name__.replace('_', ' ')}", "RFC 9112 section 8", outcome)
        for change, outcome in changing.OUTCOMES.items()
    ]
    parts += table("What a file may do while it is downloaded", CHANGING, changes)
    return "\n".join(parts)
