"""The table of clauses: read from the tests without running them, written into the page that says what is supported."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "spec" / "supported-http.md"
BEGIN = "<!-- clauses: written by `make clauses` -->"
END = "<!-- end of clauses -->"

CHAPTERS = {
    "9110": {
        5: "fields", 6: "message abstraction", 7: "routing", 8: "representation data and metadata", 9: "methods",
        10: "message context", 11: "authentication", 12: "content negotiation", 13: "conditional requests",
        14: "range requests", 15: "status codes",
    },
    "9112": {
        2: "message", 3: "request line", 4: "status line", 5: "field syntax", 6: "message body",
        7: "transfer codings", 8: "incomplete messages", 9: "connection management", 11: "security",
    },
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Clause:
    """One requirement and the test that shows that it holds."""

    rfc: str
    section: tuple[int, ...]
    sentence: str
    test: str
    file: str

    @property
    def number(self) -> str:
        return ".".join(map(str, self.section))


def clauses_of(path: Path) -> list[Clause]:
    """Those of one file, in its order."""
    found = []
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for each in node.decorator_list:
                if isinstance(each, ast.Call) and isinstance(each.func, ast.Name) and each.func.id == "clause":
                    rfc, section, sentence = (ast.literal_eval(argument) for argument in each.args)
                    numbers = tuple(int(number) for number in section.split("."))
                    found.append(Clause(rfc, numbers, sentence, node.name, path.name))
    return found


def all_clauses() -> list[Clause]:
    """All there are, by RFC and section; within a section as they stand in their file."""
    found = [each for path in sorted(HERE.glob("test_9*.py")) for each in clauses_of(path)]
    return sorted(found, key=lambda each: (each.rfc, each.section))


def render(clauses: list[Clause]) -> str:
    """The tables, one for each chapter, between their marks."""
    lines = [BEGIN, "", f"{len(clauses)} requirements, each with a test."]
    chapter = None
    for each in clauses:
        if (each.rfc, each.section[0]) != chapter:
            chapter = (each.rfc, each.section[0])
            title = CHAPTERS[each.rfc][each.section[0]]
            lines += ["", f"### RFC {each.rfc} section {each.section[0]}: {title}", ""]
            lines += [f"Tests: `tests/rfc/{each.file}`", "", "| section | requirement | test |", "|---|---|---|"]
        sentence = each.sentence.replace("|", "\\|")
        lines.append(f"| {each.number} | {sentence} | `{each.test.removeprefix('test_')}` |")
    return "\n".join([*lines, "", END])


def page_with(tables: str) -> str:
    """The page with these tables in the place of those it has."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    return before + tables + rest.partition(END)[2]
