"""What a test in this folder is about: one requirement of RFC 9110 or RFC 9112, in our words.

``python -m tests.rfc`` writes all of them into docs/spec/supported-http.md, and `test_table` sees to it that the page
is what the tests say.
"""

from __future__ import annotations

import pytest


def clause(rfc: str, section: str, sentence: str) -> pytest.MarkDecorator:
    """The requirement that a test shows: ``"9110"``, ``"13.2.2"``, and what is required there."""
    return pytest.mark.clause(rfc, section, sentence)
