"""Load generators behind one face: wrk, ab, and our own. Each runs in a process of its own, for a bounded time.

wrk keeps its connections open; ab, without -k, opens one for each request. Both are Debian packages (wrk,
apache2-utils). `own_load.py` does either and is always there; it is Python, so a fast server waits for it. That costs
throughput and hardly touches the server's CPU time per request.
"""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from measure import Core, on
from peers import find_program

OWN = Path(__file__).with_name("own_load.py")
BROWSER = Path(__file__).with_name("browser.lua")
MOST_REQUESTS = 1_000_000  # in one go, whatever the time


@dataclass(frozen=True, slots=True)
class Load:
    """What a generator saw. Errors are answers other than 200, and connections that failed or broke off."""

    requests: int
    errors: int
    seconds: float
    p50_ms: float | None
    p99_ms: float | None


class LoadError(Exception):
    """A load generator failed or said something that is not understood."""


Generate = Callable[[str, int, int, Path], Load]


@dataclass(frozen=True, slots=True)
class Generator:
    """`command`: a template, for results; `run` takes URL, connections, seconds, and a folder to write to."""

    command: str
    run: Generate

    def shown(self, connections: int, seconds: int) -> str:
        """The command, but for the URL."""
        return self.command.format(connections=connections, seconds=seconds, url="URL")


def _run(command: list[str], seconds: float) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired as error:
        raise LoadError(f"{' '.join(command)} did not end") from error
    if done.returncode:
        raise LoadError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"[-2000:])
    return done.stdout


def _number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    if not found:
        raise LoadError(f"no {pattern!r} in:\n{text}")
    return float(found[1])


def run_wrk(url: str, connections: int, seconds: int, *, browser: bool) -> Load:
    """wrk, one thread."""
    script = ["-s", str(BROWSER)] if browser else []
    said = _run(["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", *script, url], seconds)
    failures = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", said)
    refusals = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    return Load(
        requests=int(_number(r"(\d+) requests in ", said)),
        errors=sum(map(int, failures.groups() if failures else ())) + int(refusals[1] if refusals else 0),
        seconds=_seconds(said, r"requests in ([\d.]+)(us|ms|s|m)"),
        p50_ms=_seconds(said, r"\n +50% +([\d.]+)(us|ms|s|m)") * 1000,
        p99_ms=_seconds(said, r"\n +99% +([\d.]+)(us|ms|s|m)") * 1000,
    )


def _seconds(text: str, pattern: str) -> float:
    found = re.search(pattern, text)
    if not found:
        raise LoadError(f"no {pattern!r} in:\n{text}")
    return float(found[1]) * {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}[found[2]]


def run_ab(url: str, connections: int, seconds: int, scratch: Path) -> Load:
    """ab without -k: HTTP/1.0, one connection for each request; -r, so that one reset does not end it all."""
    table = scratch / "ab.csv"
    limits = ["-t", str(seconds), "-n", str(MOST_REQUESTS)]  # in this order: -t sets -n too
    said = _run(["ab", "-q", "-r", *limits, "-c", str(connections), "-e", str(table), url], seconds)
    refusals = re.search(r"Non-2xx responses: +(\d+)", said)
    with table.open(newline="") as lines:
        percentiles = {row[0]: float(row[1]) for row in csv.reader(lines) if row[0].isdigit()}
    return Load(
        requests=int(_number(r"Complete requests: +(\d+)", said)),
        errors=int(_number(r"Failed requests: +(\d+)", said)) + int(refusals[1] if refusals else 0),
        seconds=_number(r"Time taken for tests: +([\d.]+)", said),
        p50_ms=percentiles.get("50"),
        p99_ms=percentiles.get("99"),
    )


def run_own(url: str, connections: int, seconds: int, *flags: str) -> Load:
    """Our own generator."""
    limits = ["--connections", str(connections), "--seconds", str(seconds)]
    return Load(**json.loads(_run([sys.executable, str(OWN), url, *limits, *flags], seconds)))


def warm_up(url: str, connections: int, requests: int, *, close: bool) -> None:
    """A few requests: imports, caches and the like are not what is asked about."""
    run_own(url, connections, 5, "--requests", str(requests), *(["--close"] if close else []))


def choose(*, close: bool, browser: bool, own: bool) -> Generator:
    """The best generator there is: wrk or ab, else (or if asked for) our own."""
    if not own and not close and find_program("wrk"):
        script = f" -s {BROWSER.name}" if browser else ""
        return Generator(
            f"wrk -t1 -c{{connections}} -d{{seconds}}s --latency{script} {{url}}",
            lambda url, connections, seconds, _scratch: run_wrk(url, connections, seconds, browser=browser),
        )
    if not own and close and find_program("ab"):
        return Generator(f"ab -q -r -t {{seconds}} -n {MOST_REQUESTS} -c {{connections}} {{url}}", run_ab)
    flags = [*(["--close"] if close else []), *(["--browser"] if browser else [])]
    return Generator(
        " ".join(["own_load.py {url} --connections {connections} --seconds {seconds}", *flags]),
        lambda url, connections, seconds, _scratch: run_own(url, connections, seconds, *flags),
    )


def generate(generator: Generator, url: str, connections: int, seconds: int, core: Core, scratch: Path) -> Load:
    """Run `generator` on `core`."""
    with on(core):
        return generator.run(url, connections, seconds, scratch)
