"""Let real clients fetch from ``ktrio serve``, and write docs/spec/real-clients.md: ``make clients``."""

from __future__ import annotations

import datetime
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ktrio
from tests.real_clients import libraries, programs
from tests.real_clients.page import PAGE, render, said_of, statuses_of
from tests.real_clients.site import make_site
from tests.real_clients.trial import Place, Row, Trial, WrongError

TRIALS = [*programs.TRIALS, *libraries.TRIALS]


@contextmanager
def served(site: Path, log: Path) -> Iterator[str]:
    """The URL of the folder, served by a process of its own on a free port. It is stopped with SIGTERM, or killed."""
    command = [sys.executable, "-m", "ktrio", "serve", str(site), "--port", "0"]
    command += ["--access-log", str(log), "--log-format", "json"]
    said = log.with_suffix(".said")
    with said.open("wb") as errors, subprocess.Popen(command, stderr=errors, stdout=errors) as server:
        try:
            yield started_at(server, said)
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                raise


def started_at(server: subprocess.Popen[bytes], said: Path) -> str:
    """Where the server says it listens, once it says so."""
    for _ in range(200):
        if found := re.search(r"http://\S+/", said.read_text(encoding="utf-8")):
            return found[0]
        if server.poll() is not None:
            break
        time.sleep(0.1)
    raise SystemExit(f"ktrio serve did not start: {said.read_text(encoding='utf-8')}")


def try_one(trial: Trial, place: Place, log: Path, *, settle: float = 0.5) -> Row:
    """Run it, unless something that it needs is not installed. The log is written `settle` seconds after the answer."""
    version = trial.version()
    missing = [trial.client] if version is None else [each for each in trial.programs if shutil.which(each) is None]
    if version is None or missing:
        return Row(trial.client, version or "", trial.did, f"skipped: {missing[0]} is not installed")
    place.scratch.mkdir()
    before = log.stat().st_size
    try:
        trial.run(place)
    except Exception as error:  # whatever the client did wrong is its row, not the end of the table
        outcome = f"failed: {error}" if isinstance(error, WrongError) else f"failed: {error!r}"
    else:
        outcome = "ok"
    time.sleep(settle)
    with log.open("rb") as file:
        file.seek(before)
        statuses = statuses_of(file.read().decode())
    if outcome == "ok" and trial.partial and not statuses[206]:
        outcome = "failed: no part of a file was asked for"
    known = f". Known: {trial.known}" if trial.known and outcome != "ok" else ""
    return Row(trial.client, version, trial.did, f"{outcome} ({said_of(statuses)}){known}")


def record(trials: list[Trial]) -> list[Row]:
    """All of them, one after another, with one server."""
    with tempfile.TemporaryDirectory(prefix="ktrio-clients-") as name:
        site, workshop, scratch, log = (Path(name, part) for part in ("site", "workshop", "scratch", "access.log"))
        for folder in (site, workshop, scratch):
            folder.mkdir()
        make_site(site, workshop)
        rows = []
        with served(site, log) as url:
            for number, trial in enumerate(trials):
                rows.append(try_one(trial, Place(url, site, scratch / str(number)), log))
                print(f"{rows[-1].client:12} {rows[-1].outcome}: {trial.did}", flush=True)
        return rows


def main() -> int:
    """Write the page. 1 if a client failed that is not known to."""
    rows = record(TRIALS)
    PAGE.write_text(
        render(
            rows,
            date=datetime.datetime.now(datetime.UTC).date().isoformat(),
            ktrio=ktrio.__version__,
            python=platform.python_version(),
            system=platform.system(),
        ),
        encoding="utf-8",
    )
    return int(any(row.outcome.startswith("failed") and ". Known: " not in row.outcome for row in rows))


if __name__ == "__main__":
    sys.exit(main())
