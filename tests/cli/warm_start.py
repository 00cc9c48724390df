"""Many short runs of ``python -m ktrio``, each in a process of its own that has the imports done already.

Starting Python and importing Trio takes 0.4 s of processor time, too much for every wrong option there is. So one
process imports everything once and forks a child for each run; the child does what ``python -m ktrio`` does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.cli.processes import ENVIRONMENT, LIMIT


@dataclass(frozen=True, slots=True)
class Ran:
    """How a run ended and what it said."""

    status: int
    out: str
    err: str


class WarmStart:
    """The process that forks. Its runs write into files in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("warm_runner.py"), str(LIMIT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        )

    def run(self, *arguments: str) -> Ran:
        """Run ``ktrio`` to its end; SIGALRM ends it if it takes too long."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        out, err = self._folder / "out", self._folder / "err"
        print(json.dumps([arguments, os.fspath(out), os.fspath(err)]), file=self._process.stdin, flush=True)
        status = int(self._process.stdout.readline())
        return Ran(status, out.read_text(), err.read_text())

    def close(self) -> None:
        self._process.communicate(timeout=LIMIT)
