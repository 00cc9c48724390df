"""What one client is asked to do, where, and what came of it."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

TIMEOUT = 60.0
"""Seconds that one program may take."""


class WrongError(Exception):
    """The client did not get what is in the folder."""


@dataclass(frozen=True, slots=True)
class Place:
    """The folder as it is served, and one for what the client fetches."""

    url: str  # ends with a slash
    site: Path
    scratch: Path


@dataclass(frozen=True, slots=True)
class Trial:
    """One row of the table, before it is tried."""

    client: str
    did: str
    version: Callable[[], str | None]  # None: not installed
    run: Callable[[Place], None]
    programs: tuple[str, ...] = ()  # others that the trial needs
    partial: bool = False  # it shows nothing unless a part of a file (206) was sent
    known: str = ""  # why it is known to fail


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table."""

    client: str
    version: str
    did: str
    outcome: str


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def tree_digests(folder: Path, without: Iterable[str] = ()) -> dict[str, str]:
    """The SHA-256 of every file below the folder, by its path in it."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in set(without))
    return {path.relative_to(folder).as_posix(): digest(path) for path in files}


def must_be_equal(what: str, got: object, wanted: object) -> None:
    if got != wanted:
        raise WrongError(f"{what}: {str(got)[:200]!r} is not {str(wanted)[:200]!r}")


def environment(home: Path) -> dict[str, str]:
    """This one, without proxies and without what the user has configured for git, pip, curl and wget."""
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    kept = {name: value for name, value in kept.items() if not name.startswith(("GIT_", "PIP_"))}
    nothing = os.devnull
    return kept | {
        "HOME": str(home),
        "LC_ALL": "C.UTF-8",
        "GIT_CONFIG_GLOBAL": nothing,
        "GIT_CONFIG_NOSYSTEM": "1",
        "PIP_CONFIG_FILE": nothing,
    }


def run_program(*command: str | Path, cwd: Path, expected: tuple[int, ...] = (0,)) -> str:
    """What it says on standard output. `WrongError` if its status is another, or if it takes longer than `TIMEOUT`."""
    name = Path(command[0]).name
    try:
        done = subprocess.run(
            command, cwd=cwd, env=environment(cwd), capture_output=True, timeout=TIMEOUT, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        raise WrongError(f"{name} has not ended after {TIMEOUT:.0f} s") from None
    if done.returncode not in expected:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["(silent)"]
        raise WrongError(f"{name} ended with {done.returncode}: {last[0]}")
    return done.stdout.decode(errors="replace")
