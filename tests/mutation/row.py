"""One row: a mistake, where it comes from, and the edits that make it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


class StaleRowError(Exception):
    """The text that a row replaces is not in the source, or not just once: the row has to follow the source."""


@dataclass(frozen=True, slots=True)
class Edit:
    """Replace `old`, which stands in `file` exactly once, by `new`."""

    file: str
    old: str
    new: str

    def apply(self, package: Path) -> None:
        path = package / self.file
        text = path.read_text()
        if text.count(self.old) != 1:
            raise StaleRowError(f"{self.file} has this {text.count(self.old)} times instead of once:\n{self.old}")
        path.write_text(text.replace(self.old, self.new))


@dataclass(frozen=True, slots=True)
class Row:
    """A way to get it wrong.

    name: for the command line and the table.
    mistake: what is wrong then, in a line.
    edits: nothing: the mistake cannot be made here, `why_not` says why.
    tests: where it is expected to be noticed; all tests of its area if they do not.
    area: what it is in, a key of `tests.mutation.__main__.STAGES`.
    """

    name: str
    mistake: str
    edits: tuple[Edit, ...] = ()
    why_not: str = ""
    tests: tuple[str, ...] = ()
    area: str = "workqueue"
