"""``--trace FILE``: the file is a trace of the workqueue, whole when the server has ended."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.processes import Program, assert_served_cleanly

pytestmark = [pytest.mark.slow, pytest.mark.exhaustive]


def test_trace_has_the_connections_of_the_server(echo: Callable[..., Program], tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    program = echo("--trace", str(path))
    with program.connect() as sock:
        sock.sendall(b"hello")
        assert sock.recv(100) == b"hello"
    assert program.stop() == 0
    assert_served_cleanly(program)
    lines = json.loads(path.read_text(encoding="utf-8"))
    assert {line["ph"] for line in lines} >= {"B", "E", "b", "e", "M", "C"}
    (begun,) = [line for line in lines if line["ph"] == "B"]
    assert begun["args"]["workqueue"] == "echo"
