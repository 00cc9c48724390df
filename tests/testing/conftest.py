"""What the tests of the testing kit share: virtual time that stands still, an end to every hang, nothing left."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from tests.server.fixtures import nothing_is_left  # noqa: F401 - a fixture
from tests.server.harness import run_bounded


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run every async test of this directory by `run_bounded`."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and inspect.iscoroutinefunction(getattr(item, "obj", None)):
            item.add_marker(pytest.mark.trio(run=run_bounded), append=False)
