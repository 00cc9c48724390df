"""The table of misuse in docs/spec/workqueue-semantics.md cites tests that exist; each misuse has one, or a reason."""

import re
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "spec" / "workqueue-semantics.md"


def rows() -> list[list[str]]:
    section = PAGE.read_text(encoding="utf-8").partition("\n## Misuse\n")[2].partition("\n## ")[0]
    table = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def test_every_test_that_the_table_cites_exists() -> None:
    cited = [cell for *_, cell in rows() if cell]
    assert len(cited) > 20
    for cell in cited:
        found = re.fullmatch(r"`(test_\w+\.py)::(test_\w+)`", cell)
        assert found is not None, cell
        source = (HERE / found[1]).read_text(encoding="utf-8")
        assert re.search(rf"^(?:async )?def {found[2]}\(", source, re.MULTILINE), cell


def test_a_misuse_without_a_test_says_that_nothing_is_done_about_it() -> None:
    for _misuse, _kernel, here, cell in rows():
        assert cell or here.startswith(("no ", "not ")), here
