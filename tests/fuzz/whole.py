"""What must hold of any bytes on a whole connection, and of any request for files."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from functools import cache
from pathlib import Path

import h11
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from ktrio import Response, files
from ktrio.testing import serve_in_memory
from tests.fuzz.reference import Read, read_requests

BUFFER = 256 * 1024


class Records(logging.Handler):
    """Keeps what is logged: no input may be an error of ours."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@contextlib.contextmanager
def nothing_logged():
    records, log = Records(), logging.getLogger("ktrio")
    log.addHandler(records)
    before, log.propagate = log.propagate, False
    try:
        yield
    finally:
        log.propagate = before
        log.removeHandler(records)
    assert records.messages == []


async def converse(handler, data: bytes, step: int) -> bytes:
    """All that the server says to `data`, sent in pieces of `step` bytes and ended with a FIN."""
    async with serve_in_memory(handler) as memory:
        stream = memory.connect(buffer_bytes=BUFFER)
        with contextlib.suppress(trio.BrokenResourceError):
            for at in range(0, len(data), step):
                await stream.send_all(data[at : at + step])
                await wait_all_tasks_blocked()
            await stream.send_eof()
        with contextlib.suppress(trio.BrokenResourceError):
            received = await stream.receive_until_blocked()
            assert stream.ended, "the server waits for more behind a FIN"
            return received
    return b""


def run(handler, data: bytes, step: int) -> bytes:
    with nothing_logged():
        return trio.run(converse, handler, data, step, clock=MockClock())


def read_answers(received: bytes, methods: list[str]) -> list[h11.Response]:
    """All answers, read with h11's client. `methods`: of the requests they answer, as far as known."""
    answers: list[h11.Response] = []
    while received:
        method = methods[len(answers)] if len(answers) < len(methods) else "GET"
        client = h11.Connection(h11.CLIENT)
        client.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
        client.send(h11.EndOfMessage())
        client.receive_data(received)
        while not isinstance(event := client.next_event(), h11.EndOfMessage):
            assert event is not h11.NEED_DATA, f"an answer is not whole: {received[:200]!r}"
            if isinstance(event, h11.Response):
                answers.append(event)
        received = client.trailing_data[0]
    return answers


def closes(answer: h11.Response) -> bool:
    return (b"connection", b"close") in list(answer.headers)


def fuzz_connection(data: bytes) -> None:
    """Each request that reaches the handler is the one that the reference reads there; so it is in any pieces."""
    expected = list(read_requests(data))
    seen = [check_connection(data, step, expected) for step in (len(data) or 1, len(data) // 5 + 1)]
    assert seen[0] == seen[1], "in other pieces other requests were answered"


def check_connection(data: bytes, step: int, expected: list[Read]) -> list[tuple[str, str, bytes]]:
    taken: list[tuple[str, str, bytes]] = []
    called = 0

    async def handler(request) -> Response:
        nonlocal called
        called += 1
        body = await request.read()
        taken.append((request.method, request.target, body))
        return Response(body=b"%d" % len(body))

    received = run(handler, data, step)
    ours = [(method.encode(), target.encode(), body) for method, target, body in taken]
    assert ours == [read[:3] for read in expected[: len(ours)]], "another reader cuts these bytes elsewhere"
    assert called <= len(taken) + 1
    methods = [method for method, _target, _body in taken]
    begun = expected[len(taken) - 1].end if taken else 0
    rest = data[begun:].removeprefix(b"\r\n")
    methods.append("HEAD" if rest.startswith(b"HEAD ") else "GET")
    answers = read_answers(received, methods)
    assert len(taken) <= len(answers) <= len(taken) + 1
    if len(taken) < len(expected):
        assert closes(answers[-1]), "a request was lost, and no answer says that the connection ends"
    return taken


@cache
def planted() -> Path:
    """A folder to be served, a secret beside it."""
    place = Path(tempfile.mkdtemp(prefix="ktrio-fuzz-"))
    served = place / "served"
    (served / "sub").mkdir(parents=True)
    (place / "secret.txt").write_text("SECRET")
    (served / ".env").write_text("SECRET")
    (served / "a.txt").write_text("inside " * 100)
    (served / "a.txt.gz").write_bytes(b"not really gzip")
    (served / "sub" / "index.html").write_text("<p>inside</p>" * 50)
    (served / "out").symlink_to("../secret.txt")
    (served / "up").symlink_to("..")
    return served


def fuzz_files(data: bytes) -> None:
    """Whatever is asked for, the answer is sound and no secret: the first line is the target, the others are fields."""
    target, *fields = data.split(b"\n")
    request = b"\r\n".join([b"GET " + target + b" HTTP/1.1", b"Host: x", *fields, b"", b""])
    received = run(files(planted()), request, len(request))
    assert b"SECRET" not in received
    read_answers(received, [read.method.decode() for read in read_requests(request)])


WHOLE = {"connection": fuzz_connection, "files": fuzz_files}
