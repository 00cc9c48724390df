"""The contract of the workqueue is cited: each guarantee by a test that shows it, each invariant of the kernel too.

docs/spec/workqueue-semantics.md numbers its guarantees: W1 and on, and P1 to P9 for parking. A test cites what it shows
in its docstring or in a comment. The last table of the page has a row for each invariant of the kernel's workqueues;
tests cite those as "Invariant 13" or "Invariants 1, 49" or "Invariants 39-42".
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "spec" / "workqueue-semantics.md"
INVARIANTS = range(1, 64)
NOT_HERE = "—"  # begins the last cell of an invariant that does not exist here; the reason follows

DEFINITION = re.compile(r"^\*\*([WP]\d+)\.", re.MULTILINE)
REFERENCE = re.compile(r"\b[WP]\d+\b")
RANGE = r"\d+(?:-\d+)?"
CITED_INVARIANTS = re.compile(rf"\binvariants? ({RANGE}(?:(?:, and |, | and ){RANGE})*)", re.IGNORECASE)


@cache
def page() -> str:
    return PAGE.read_text(encoding="utf-8")


def guarantees() -> list[str]:
    return DEFINITION.findall(page())


@cache
def words_of_tests() -> dict[str, str]:
    """Test -> the text of its docstring and its comments."""
    found: dict[str, str] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        if path == Path(__file__):
            continue
        text = path.read_text(encoding="utf-8")
        lines = text.splitlines()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                comments = [line.partition("#")[2] for line in lines[node.lineno - 1 : node.end_lineno]]
                name = f"{path.relative_to(ROOT)}::{node.name}"
                found[name] = "\n".join([(ast.get_docstring(node) or "").replace("\n", " "), *comments])
    return found


def invariants_in(text: str) -> set[int]:
    found: set[int] = set()
    for numbers in CITED_INVARIANTS.findall(text):
        for part in re.findall(RANGE, numbers):
            first, _, last = part.partition("-")
            found.update(range(int(first), int(last or first) + 1))
    return found


def invariant_rows() -> dict[int, str]:
    """Number -> what the page says is here of it."""
    section = page().partition("\n## The invariants of the kernel\n")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if re.match(r"\| \d", line)]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert all(len(each) == 3 for each in cells)
    assert [int(each[0]) for each in cells] == list(INVARIANTS)
    return {int(each[0]): each[2] for each in cells}


def test_guarantees_are_numbered_without_a_gap_or_a_double() -> None:
    for letter in "WP":
        numbers = [int(each[1:]) for each in guarantees() if each[0] == letter]
        assert sorted(numbers) == list(range(1, len(numbers) + 1)), letter
    assert "P9" in guarantees()


def test_every_guarantee_is_cited_by_a_test() -> None:
    cited = set(REFERENCE.findall("\n".join(words_of_tests().values())))
    assert [each for each in guarantees() if each not in cited] == []


def test_no_guarantee_is_cited_that_does_not_exist() -> None:
    known = set(guarantees())
    wrong: list[str] = []
    for path in [*(ROOT / "tests").rglob("*.py"), *(ROOT / "src").rglob("*.py"), *(ROOT / "docs").rglob("*.md")]:
        if "_build" in path.parts:
            continue
        cited = set(re.findall(r"\b(?:W|P(?=[1-9]\b))\d+\b", path.read_text(encoding="utf-8")))
        wrong += [f"{path.relative_to(ROOT)}: {each}" for each in sorted(cited - known)]
    assert wrong == []


def test_every_invariant_of_the_kernel_is_in_the_table_with_its_guarantee_or_a_reason() -> None:
    for number, here in invariant_rows().items():
        if here.startswith(NOT_HERE):
            assert len(here.split()) > 5, f"{number} does not exist here, and why?"
        else:
            assert set(REFERENCE.findall(here)) & set(guarantees()), f"{number}: which guarantee is it?"


def test_every_invariant_that_exists_here_is_cited_by_a_test() -> None:
    cited = invariants_in("\n".join(words_of_tests().values()))
    missing = [number for number, here in invariant_rows().items() if not here.startswith(NOT_HERE)]
    assert [number for number in missing if number not in cited] == []
    assert cited <= set(INVARIANTS)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("Invariant 13: in order.", {13}),
        ("W2, P6; invariants 1, 49: both.", {1, 49}),
        ("Invariants 3 and 8, 14, and 18", {3, 8, 14, 18}),
        ("Invariants 1-3, 5 and P1", {1, 2, 3, 5}),
        ("Invariant 58 has no false positive; 3 of them", {58}),
        ("It does not vary.", set[int]()),
    ],
)
def test_citations_of_invariants_are_read_as_they_are_written(text: str, numbers: set[int]) -> None:
    assert invariants_in(text) == numbers
