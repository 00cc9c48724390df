"""Streams take no memory to speak of: what `benchmarks/soak.py` does with gigabytes, with 256 MiB."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.exhaustive

SOAK = Path(__file__).parents[2] / "benchmarks" / "soak.py"
MOST_GROWTH = 16.0  # MiB


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="there is no /proc to read the memory from")
def test_streams_up_and_down_over_slow_and_fast_peers_take_no_memory() -> None:
    command = [sys.executable, SOAK, "--mib", "256", "--slow", "0.5", "--most-growth", str(MOST_GROWTH)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=55)
    print(done.stdout, done.stderr)
    assert (done.returncode, done.stderr) == (0, "")
    grown = re.search(r"^memory grew by (-?[\d.]+) MiB", done.stdout, re.MULTILINE)
    assert grown is not None
    assert float(grown[1]) < MOST_GROWTH
