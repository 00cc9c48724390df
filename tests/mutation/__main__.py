"""Apply each row to a copy of the source, run the tests on it, and print who noticed.

The tests run as always, but for the PYTHONPATH, which leads to the copy. A copy without any change comes first: its
tests must pass, or nothing is learned from the others. A mutant whose tests hang is caught as well, and called so.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.mutation.row import Row, StaleRowError
from tests.mutation.rows import TABLES

ROOT = Path(__file__).parents[2]
# The tests of each area, the quick ones first.
STAGES = {
    "workqueue": (("tests/workqueue", "-m", "not exhaustive"), ("tests/workqueue", "-m", "exhaustive")),
    "http": (("tests/rfc",), ("tests/http", "tests/handlers", "tests/protocols", "-m", "not exhaustive")),
}
SECONDS = 900  # for one stage; the first takes half a minute, the second three, on a quiet machine


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="ROW", help="the rows to apply (all)")
    parser.add_argument("--list", action="store_true", help="name the rows and do nothing")
    given = parser.parse_args()
    known = {row.name for rows in TABLES.values() for row in rows}
    if unknown := set(given.names) - known:
        parser.error(f"no such row: {', '.join(sorted(unknown))}; --list names them")
    return given


def run_tests(package_parent: Path, tests: Sequence[str]) -> tuple[str, str]:
    """How the tests end on the copy below `package_parent`: passed, caught or hung; and the first that fails."""
    command = [sys.executable, "-P", "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider", *tests]
    environment = os.environ | {"PYTHONPATH": str(package_parent), "PYTHONDONTWRITEBYTECODE": "1"}
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # its own session: nobody else is in that group
        process.communicate()
        return "hung", f"after {SECONDS} s"
    if process.returncode == 0:
        return "passed", ""
    if process.returncode != 1:  # not "tests have failed" but an error of pytest's own, or of a conftest
        return "caught", "the tests cannot even begin: " + said.strip().rpartition("\n")[2]
    failed = [line for line in said.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    return "caught", failed[0].split()[1] if failed else said.strip().rpartition("\n")[2]


def try_row(row: Row) -> tuple[str, str]:
    """Apply `row` to a fresh copy; what became of it."""
    with tempfile.TemporaryDirectory(prefix="ktrio-mutant-") as name:
        copy = Path(name) / "ktrio"
        shutil.copytree(ROOT / "src" / "ktrio", copy, ignore=shutil.ignore_patterns("__pycache__"))
        try:
            for edit in row.edits:
                edit.apply(copy)
        except StaleRowError as error:
            return "stale", str(error)
        stages = STAGES[row.area]
        for stage in (row.tests, *stages) if row.tests else stages:
            outcome, detail = run_tests(copy.parent, stage)
            if outcome != "passed":
                return outcome, detail
        return "passed", ""


def report(name: str, outcome: str, seconds: float, detail: str) -> None:
    print(f"{name:36} {outcome:9} {seconds:4.0f} s  {detail}", flush=True)


def main() -> int:
    given = parse_arguments()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it, and tests send it
    wanted = [
        (title, [row for row in rows if not given.names or row.name in given.names]) for title, rows in TABLES.items()
    ]
    if given.list:
        for title, rows in wanted:
            print(title, *(f"  {row.name:36} {row.mistake}" for row in rows), sep="\n")
        return 0
    for area in sorted({row.area for _title, rows in wanted for row in rows}):
        began = time.monotonic()
        outcome, detail = try_row(Row("none", "nothing is changed", area=area))
        report(f"(nothing changed) {area}", outcome, time.monotonic() - began, detail)
        if outcome != "passed":
            print("the tests fail without any mutation: nothing can be learned", file=sys.stderr)
            return 2
    missed = []
    for title, rows in wanted:
        if rows:
            print(f"\n{title}")
        for row in rows:
            if row.why_not:
                report(row.name, "not here", 0, row.why_not)
                continue
            began = time.monotonic()
            outcome, detail = try_row(row)
            report(row.name, "MISSED" if outcome == "passed" else outcome, time.monotonic() - began, detail)
            if outcome not in ("caught", "hung"):
                missed.append(row.name)
    print(f"\n{'all caught' if not missed else 'MISSED or stale: ' + ', '.join(missed)}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
