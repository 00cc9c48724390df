"""Write the table of clauses into docs/spec/supported-http.md: ``make clauses``."""

from __future__ import annotations

from tests.rfc.table import PAGE, all_clauses, page_with, render

PAGE.write_text(page_with(render(all_clauses())), encoding="utf-8")
print(f"{PAGE.name}: {len(all_clauses())} clauses")
