"""The questions asked over HTTP, and how they are measured: every server, round by round, one at a time.

To add a question, add a row to `QUESTIONS`.
"""

from __future__ import annotations

import contextlib
import http.client
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from load import Generator, LoadError, choose, generate, warm_up
from measure import Cores, Server, StartError, busy_seconds, on
from peers import SUBJECT, Peer

BODY = b"Hello, world!"
FILE = "hello.txt"
WARM_UP_REQUESTS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One kind of work.

    close: a connection for each request.
    browser: heads as browsers send them, no two alike.
    peers: beside whom; empty: all.
    targets: what ktrio's CPU time per request may be at most, as a multiple of a peer's.
    """

    key: str
    text: str
    close: bool
    targets: Mapping[str, float]
    browser: bool = False
    peers: tuple[str, ...] = ()
    connections: int = 64


QUESTIONS = (
    Question(
        key="keep-alive",
        text="a file of 13 bytes, 64 connections that stay open",
        close=False,
        targets={"uvicorn-h11": 1.0},
    ),
    Question(
        key="browser",
        text="the same with a browser's twelve header fields, no two heads alike: nothing can be remembered",
        close=False,
        browser=True,
        peers=("uvicorn-h11", "nginx"),
        targets={"uvicorn-h11": 1.0},
    ),
    Question(
        key="connection",
        text="a file of 13 bytes, a connection for each request, 64 at a time",
        close=True,
        peers=("uvicorn-h11", "trio-bare", "threads", "nginx"),
        targets={"uvicorn-h11": 1.0},
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One server in one round.

    cpu_seconds: of the server and its children while the load ran.
    others: what part of that time others used the server's core, as far as the kernel tells.
    """

    round: int
    peer: str
    requests: int
    errors: int
    seconds: float
    cpu_seconds: float
    cpu_us_per_request: float
    requests_per_second: float
    p50_ms: float | None
    p99_ms: float | None
    others: float


class WrongAnswerError(Exception):
    """A server does not answer what the others do: there is nothing to compare."""


def check_answer(server: Server) -> None:
    """One request, looked at closely."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    try:
        connection.request("GET", f"/{FILE}")
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    if (answer.status, body) != (200, BODY):
        raise WrongAnswerError(f"{server.name} answers {answer.status} {body!r}, not 200 {BODY!r}")


def take_sample(
    number: int, server: Server, question: Question, generator: Generator, seconds: int, cores: Cores, scratch: Path
) -> Sample:
    """Load one server for a while and see what that cost it."""
    url = f"http://127.0.0.1:{server.port}/{FILE}"
    used, busy = server.cpu_seconds(), busy_seconds(cores.server)
    load = generate(generator, url, question.connections, seconds, cores.load, scratch)
    used, busy = server.cpu_seconds() - used, busy_seconds(cores.server) - busy
    return Sample(
        round=number,
        peer=server.name,
        requests=load.requests,
        errors=load.errors,
        seconds=load.seconds,
        cpu_seconds=used,
        cpu_us_per_request=used / max(1, load.requests) * 1e6,
        requests_per_second=load.requests / load.seconds,
        p50_ms=load.p50_ms,
        p99_ms=load.p99_ms,
        others=max(0.0, busy - used) / load.seconds,
    )


def start_all(
    stack: contextlib.ExitStack, peers: tuple[Peer, ...], cores: Cores, site: Path, scratch: Path
) -> tuple[list[Server], dict[str, str]]:
    """Start who can be started; and why the others were skipped.

    Raises:
      StartError: ktrio itself does not start.
    """
    servers: list[Server] = []
    skipped: dict[str, str] = {}
    for peer in peers:
        missing = peer.missing()
        if missing:
            skipped[peer.name] = missing
            continue
        try:
            server = stack.enter_context(peer.start(cores.server, site, scratch))
        except StartError as error:
            if peer.name == SUBJECT:
                raise
            skipped[peer.name] = str(error)
            continue
        check_answer(server)
        servers.append(server)
    return servers, skipped


def measure(
    question: Question, servers: list[Server], *, rounds: int, seconds: int, own: bool, cores: Cores, scratch: Path
) -> dict[str, object]:
    """Ask one question of every server, `rounds` times, each time beginning with another one."""
    generator = choose(close=question.close, browser=question.browser, own=own)
    if question.peers:
        servers = [server for server in servers if server.name in (SUBJECT, *question.peers)]
    command = generator.shown(question.connections, seconds)
    print(f"  {question.text}: {command}", flush=True)
    with on(cores.load):
        for server in servers:
            url = f"http://127.0.0.1:{server.port}/{FILE}"
            warm_up(url, question.connections, WARM_UP_REQUESTS, close=question.close)
    samples: list[Sample] = []
    failures: list[str] = []
    for number in range(rounds):
        for turn in range(len(servers)):
            server = servers[(number + turn) % len(servers)]
            try:
                samples.append(take_sample(number, server, question, generator, seconds, cores, scratch))
            except LoadError as error:  # one lost sample must not cost the others
                failures.append(f"round {number}, {server.name}: {error}")
                print(failures[-1], file=sys.stderr)
    return {
        "question": question.text,
        "command": command,
        "targets": dict(question.targets),
        "samples": [asdict(sample) for sample in samples],
        "failures": failures,
    }
