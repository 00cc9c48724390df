"""Trailer fields behind a chunked body (RFC 9110 section 6.5, RFC 9112 section 7.1.2), and nowhere else."""

from __future__ import annotations

import h11
import pytest

from ktrio import Headers, Response
from tests.protocols.bodies import both_kinds, pieces, read_chunk
from tests.server.harness import GET, Ended, get, settle

SUM = Headers({"x-sum": "42"})


def answering(kind, *given: bytes, trailers: Headers | None = SUM, status: int = 200, **fields: str):
    async def handler(request):
        return Response(status, Headers(fields), kind(pieces(*given)), trailers)

    return handler


async def read_body_and_trailers(client) -> tuple[bytes, bytes]:
    """The body, and every byte between the last chunk's line and the blank line."""
    body = b""
    while chunk := await read_chunk(client):
        body += chunk
    lines = []
    while (line := await client.read_through(b"\r\n")) != b"\r\n":
        lines.append(line)
    return body, b"".join(lines)


@both_kinds
@pytest.mark.parametrize("given", [[b"one", b"two"], [b"", b""], []], ids=["pieces", "empty-pieces", "nothing"])
async def test_trailers_follow_the_last_chunk(start_http, connect, kind, given):
    trailers = Headers([("x-sum", "42"), ("X-Twice", "1"), ("x-twice", "2")])
    client = await connect(await start_http(answering(kind, *given, trailers=trailers, trailer="X-Sum, X-Twice")))
    for _ in range(2):
        await client.send(GET)
        head = await client.read_head()
        assert (head.framing, head["trailer"]) == ("chunked", "X-Sum, X-Twice")
        body, lines = await read_body_and_trailers(client)
        assert body == b"".join(given)
        assert lines == b"X-Sum: 42\r\nX-Twice: 1\r\nX-Twice: 2\r\n"
    assert client.is_open


@both_kinds
async def test_trailers_are_read_by_a_strict_peer(start_http, connect, kind):
    """By h11 as the client: a parser that is not ours."""
    client = await connect(await start_http(answering(kind, b"one", b"two", trailer="X-Sum")))
    await client.send(get("/", "Connection: close", "TE: trailers"))
    parser = h11.Connection(h11.CLIENT)
    parser.send(h11.Request(method="GET", target="/", headers=[("Host", "x"), ("Connection", "close")]))
    parser.send(h11.EndOfMessage())
    parser.receive_data(await client.read_to_end())
    body = b""
    while not isinstance(event := parser.next_event(), h11.EndOfMessage):
        assert event is not h11.NEED_DATA
        if isinstance(event, h11.Data):
            body += bytes(event.data)
    assert body == b"onetwo"
    assert list(event.headers) == [(b"x-sum", b"42")]


@both_kinds
async def test_trailers_are_those_at_the_end_of_the_body(start_http, connect, kind):
    """A checksum is known only then."""

    async def handler(request):
        trailers = Headers({"x-state": "begun"})

        async def make():
            yield b"data"
            trailers.set("x-state", "ended")
            trailers.add("x-sum", "42")

        return Response(headers=Headers({"trailer": "x-state"}), body=kind(make()), trailers=trailers)

    client = await connect(await start_http(handler))
    for _ in range(2):
        await client.send(GET)
        await client.read_head()
        assert await read_body_and_trailers(client) == (b"data", b"X-State: ended\r\nX-Sum: 42\r\n")


@both_kinds
async def test_trailers_that_are_still_empty_may_be_announced(start_http, connect, kind):
    async def handler(request):
        trailers = Headers()

        async def make():
            yield b"data"
            if request.target == "/sum":
                trailers.add("x-sum", "42")

        return Response(headers=Headers({"trailer": "X-Sum"}), body=kind(make()), trailers=trailers)

    client = await connect(await start_http(handler))
    for target, lines in [("/sum", b"X-Sum: 42\r\n"), ("/", b"")]:
        await client.send(get(target))
        assert (await client.read_head())["trailer"] == "X-Sum"
        assert await read_body_and_trailers(client) == (b"data", lines)
    assert client.is_open


@both_kinds
@pytest.mark.parametrize(
    ("request_bytes", "status", "fields", "body"),
    [
        (GET, 200, {"content-length": "4"}, b"data"),
        (get(version="1.0"), 200, {}, b"data"),
        (get(method="HEAD"), 200, {}, b""),
        (GET, 204, {}, b""),
        (GET, 304, {}, b""),
    ],
    ids=["sized", "http10", "HEAD", "204", "304"],
)
async def test_trailers_are_left_out_elsewhere(start_http, connect, kind, request_bytes, status, fields, body):
    """There is no place for them, so they are not announced either."""
    client = await connect(await start_http(answering(kind, b"data", status=status, trailer="X-Sum", **fields)))
    reply = await client.ask(request_bytes)
    assert (reply.status, reply["trailer"], reply["x-sum"], reply.body) == (status, None, None, body)
    if not reply.says_close:
        assert (await client.ask(request_bytes)).status == status


async def test_trailers_of_bytes_are_left_out(start_http, connect):
    async def handler(request):
        return Response(headers=Headers({"trailer": "X-Sum"}), body=b"data", trailers=Headers({"x-sum": "42"}))

    client = await connect(await start_http(handler))
    for _ in range(2):
        reply = await client.ask()
        assert (reply["trailer"], reply["x-sum"], reply.body) == (None, None, b"data")


@both_kinds
async def test_trailers_nobody_gave_are_not_announced(start_http, connect, kind):
    client = await connect(await start_http(answering(kind, b"data", trailers=None, trailer="X-Sum")))
    for _ in range(2):
        reply = await client.ask()
        assert (reply["trailer"], reply.body) == (None, b"data")


@both_kinds
@pytest.mark.parametrize(
    "field",
    [
        ("content-length", "4"),
        ("Transfer-Encoding", "chunked"),
        ("host", "x"),
        ("set-cookie", "a=b"),
        ("trailer", "x"),
        ("connection", "close"),
        ("te", "trailers"),
        ("content-type", "text/plain"),
        ("Content-Encoding", "gzip"),
        ("content-range", "bytes 0-1/2"),
        ("authorization", "x"),
        ("www-authenticate", "x"),
        ("cache-control", "no-store"),
        ("vary", "*"),
        ("x-split", "a\r\nSet-Cookie: a=b"),
        ("x-nul", "a\0b"),
        ("x-wide", "\u20ac"),
        ("x bad", "a"),
        ("", "a"),
        ("x-colon:", "a"),
    ],
    ids=lambda field: repr(field[0]),
)
async def test_trailer_that_must_not_be_one_breaks_the_answer_off(start_http, connect, kind, field, caplog):
    """RFC 9110 section 6.5.1: no framing, routing, authentication or content fields; never a split response."""
    server = await start_http(answering(kind, b"data", trailers=Headers([("x-sum", "42"), field])))
    client = await connect(server)
    await client.send(GET + GET)
    head = await client.read_head()
    assert head.status == 200
    assert await read_chunk(client) == b"data"
    with pytest.raises(Ended) as seen:
        await client.read(100)
    assert seen.value.data == b""
    await settle()
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert (server.statistics().open, server.statistics().answered) == (0, 0)
