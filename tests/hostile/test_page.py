"""The page of hostile input is what the tables say."""

from __future__ import annotations

from tests.hostile.page import PAGE, render


def test_the_page_is_fresh() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(), "run: python -m tests.hostile"
