"""Write the page of hostile input: `python -m tests.hostile`."""

from __future__ import annotations

from tests.hostile.page import PAGE, render

PAGE.write_text(render(), encoding="utf-8")
