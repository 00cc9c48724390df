"""What holds for the whole suite: which ktrio is under test, and how hypothesis behaves."""

from __future__ import annotations

import os
import re
from pathlib import Path

import hypothesis
import pytest

import ktrio

# No deadline per example: on a busy machine it fails tests that are merely slow today. The blob lets a
# failure seen elsewhere be repeated here.
hypothesis.settings.register_profile("ktrio", deadline=None, print_blob=True)
# `make test`: enough to find what was just broken. The built wheel is tested with the other.
hypothesis.settings.register_profile("everyday", deadline=None, print_blob=True, max_examples=20)
hypothesis.settings.load_profile("ktrio")


def pytest_configure() -> None:
    """Refuse to test the checkout where the built wheel is meant (`make check-wheel`)."""
    place = Path(ktrio.__file__)
    if os.environ.get("KTRIO_INSTALLED") and "site-packages" not in place.parts:
        raise pytest.UsageError(f"the installed ktrio is to be tested, but {place} is what gets imported")


# The same test once more over a carrier, or with a sensor, that has little of its own; the others are in every run.
ONCE_MORE = re.compile(r"\[.*(lockstep-stream|socket-stream|tls|instrument)")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as exhaustive what is a test once more."""
    for item in items:
        if ONCE_MORE.search(item.name):
            item.add_marker(pytest.mark.exhaustive)


def pytest_report_header() -> str:
    return f"ktrio: {Path(ktrio.__file__).parent}"
