"""Programs that still use trio-typing work with ktrio: `make check-trio-typing`.

Its stubs shadow Trio's own types, so it is never installed where the rest of the suite or ktrio's own type
checks run. New code needs none of it: `trio.TaskStatus` is the same thing.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import trio

trio_typing = pytest.importorskip("trio_typing", reason="has an environment of its own: make check-trio-typing")

PROGRAM = """
import trio
import trio_typing
from ktrio.http.messages import Request, Response

async def answer(request: Request) -> Response:
    return Response(body=await request.read())

async def serve(*, task_status: trio_typing.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
    task_status.started(8081)

async def main() -> None:
    async with trio.open_nursery() as nursery:
        assert await nursery.start(serve) == 8081

trio.run(main)
"""


def test_the_status_that_trio_passes_is_one_of_trio_typing() -> None:
    assert isinstance(trio.TASK_STATUS_IGNORED, trio_typing.TaskStatus)


def test_a_program_annotated_with_trio_typing_runs_and_type_checks(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    checker = [sys.executable, "-m", "mypy", "--strict", "--config-file=", str(program)]
    for command in ([sys.executable, "-W", "error", str(program)], checker):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
