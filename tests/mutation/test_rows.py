"""The mutation script follows the source: every row can still be applied."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import ktrio
from tests.mutation.row import Edit, Row, StaleRowError
from tests.mutation.rows import TABLES

ROWS = [row for rows in TABLES.values() for row in rows]


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("mutation") / "ktrio"
    shutil.copytree(Path(ktrio.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_row_can_be_applied_and_gives_python_that_differs(row: Row, package: Path) -> None:
    """And a row that cannot be made here says why."""
    assert bool(row.edits) is not bool(row.why_not)
    before = {edit.file: (package / edit.file).read_text() for edit in row.edits}
    try:
        for edit in row.edits:
            edit.apply(package)
        for file, text in before.items():
            changed = (package / file).read_text()
            assert changed != text
            compile(changed, file, "exec")
    finally:
        for file, text in before.items():
            (package / file).write_text(text)


def test_names_are_unique() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)


def test_stale_row_says_so(package: Path) -> None:
    with pytest.raises(StaleRowError, match="has this 0 times"):
        Edit("workqueue/_policy.py", "no such text", "").apply(package)
