"""What the tests of whole servers share: a server to start, peers to connect, an end to every hang, nothing left."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from tests.server.fixtures import (  # noqa: F401 - fixtures
    connect,
    nothing_is_left,
    servers,
    start_echo,
    start_http,
    start_stream,
)
from tests.server.harness import run_bounded


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run every async test of this directory by `run_bounded`."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and inspect.iscoroutinefunction(getattr(item, "obj", None)):
            item.add_marker(pytest.mark.trio(run=run_bounded), append=False)
