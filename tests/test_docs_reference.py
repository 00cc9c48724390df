"""The reference has every public name, and says of each how much it may be relied on."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import ktrio
import ktrio.workqueue

REFERENCE = Path(__file__).parents[1] / "docs" / "reference"
PAGES = {page: (REFERENCE / page).read_text(encoding="utf-8") for page in ("library.md", "errors.md", "statistics.md")}

PUBLIC = {
    "ktrio": sorted(name for name in ktrio.__all__ if not name.startswith("__")),
    "ktrio.workqueue": sorted(ktrio.workqueue.__all__),
}


def stability_of(module: str) -> dict[str, str]:
    """Name -> the first word of its note, from the table of that module; a name that is there twice fails."""
    table = PAGES["library.md"].partition(f"| names of `{module}` | |\n|---|---|\n")[2].partition("\n\n")[0]
    found: dict[str, str] = {}
    for names, note in re.findall(r"^\| (.+?) \| (\w+).* \|$", table, re.MULTILINE):
        for name in re.findall(r"`(\w+)`", names):
            assert name not in found, f"{name} is there twice"
            found[name] = note
    return found


def is_described(name: str) -> bool:
    """Has it a directive, a heading, or a row of its own?"""
    directive = rf"^\.\. (?:auto)?(?:function|class|data):: {name}\b"
    heading = rf"^### `(?:ktrio\.)?(?:net\.errors\.)?{name}`"
    row = rf"^\| `{name}` \|"
    return any(re.search(f"{directive}|{heading}|{row}", text, re.MULTILINE) for text in PAGES.values())


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_name_has_a_note_of_stability_and_no_other_has_one(module: str) -> None:
    found = stability_of(module)
    assert sorted(found) == PUBLIC[module]
    assert set(found.values()) <= {"stable", "provisional"}


def test_what_a_protocol_of_ones_own_needs_is_provisional() -> None:
    provisional = {name for name, note in stability_of("ktrio").items() if note == "provisional"}
    assert provisional == {"Connection", "ConnectionProtocol", "Phase", "ProtocolFactory", "State", "serve_protocol"}


@pytest.mark.parametrize("name", sorted({name for names in PUBLIC.values() for name in names}))
def test_a_public_name_is_described(name: str) -> None:
    if name.endswith("Statistics") and f"`{name}`" in PAGES["statistics.md"]:
        return
    assert is_described(name), f"{name} is on none of the pages of the reference"
