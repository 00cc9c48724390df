"""How a streamed answer is framed (RFC 9112 section 6), and which ones have no body at all."""

from __future__ import annotations

import pytest

from ktrio import Response
from tests.protocols.bodies import (
    Stream,
    answering,
    as_writer,
    both_kinds,
    pieces,
    read_statuses,
)
from tests.server.harness import GET, get, post, settle


@both_kinds
@pytest.mark.parametrize("given", ["2", "5", "7", "9"])
async def test_body_that_belies_its_length_never_ends_well(start_http, connect, kind, given, caplog):
    """RFC 9112 section 8; and never a byte beyond the length, where the next answer would begin."""
    client = await connect(
        await start_http(answering(lambda: kind(pieces(b"one", b"two")), **{"content-length": given}))
    )
    await client.send(GET + GET)
    assert await read_statuses(client) in ([500], [])
    assert [record.levelname for record in caplog.records] == ["ERROR"]


@both_kinds
async def test_empty_body_with_a_length_is_a_500(start_http, connect, kind, caplog):
    """Nothing was sent yet when it ended."""
    client = await connect(await start_http(answering(lambda: kind(pieces()), **{"content-length": "5"})))
    assert (await client.ask()).status == 500
    assert len(caplog.records) == 1


@both_kinds
async def test_length_that_is_kept_keeps_the_connection(start_http, connect, kind):
    server = await start_http(answering(lambda: kind(pieces(b"one", b"", b"two")), **{"content-length": "6"}))
    for version in ["1.1", "1.0"]:
        client = await connect(server)
        for _ in range(2):
            reply = await client.ask(get("/", "Connection: keep-alive", version=version))
            assert (reply.framing, reply.body, reply.says_close) == ("sized", b"onetwo", False)


async def test_writer_without_a_length_ends_with_the_connection_for_http10(start_http, connect):
    """RFC 9112 section 6.3: HTTP/1.0 has no chunks."""
    client = await connect(await start_http(answering(lambda: as_writer(pieces(b"one", b"", b"two")))))
    reply = await client.ask(get("/", "Connection: keep-alive", version="1.0"))
    assert (reply.framing, reply["transfer-encoding"], reply.body) == ("until-close", None, b"onetwo")


@both_kinds
async def test_each_piece_is_a_chunk_and_empty_ones_are_none(start_http, connect, kind):
    """RFC 9112 section 7.1: an empty chunk would be the last."""
    client = await connect(await start_http(answering(lambda: kind(pieces(b"", b"one", b"", b"two", b"")))))
    for _ in range(2):
        assert (await client.ask()).chunks == [b"one", b"two"]


@both_kinds
async def test_body_that_is_not_wanted_is_never_begun(start_http, connect, kind):
    """HEAD, 204, 304 (RFC 9110 sections 9.3.2, 15.3.5 and 15.4.5)."""
    begun = []

    async def make():
        begun.append(True)
        yield b"one"

    async def handler(request):
        return Response(int(request.target[1:]), body=kind(make()))

    client = await connect(await start_http(handler))
    for request in [get("/200", method="HEAD"), get("/204"), get("/304")]:
        reply = await client.ask(request)
        assert (f"/{reply.status}" in request.decode(), reply.body) == (True, b"")
    assert client.is_open
    assert begun == []


@pytest.mark.parametrize("request_bytes", [get("/200", method="HEAD"), get("/204"), get("/304"), get("/999")])
async def test_iterable_that_is_not_wanted_is_closed_once(start_http, connect, request_bytes, caplog):
    stream = Stream(b"one")

    async def handler(request):
        return Response(int(request.target[1:]), body=stream)

    client = await connect(await start_http(handler))
    await client.ask(request_bytes)
    await settle()
    assert (stream.begun, stream.closed) == (0, 1)


async def test_post_is_no_reason_not_to_stream(start_http, connect):
    client = await connect(await start_http(answering(lambda: pieces(b"one"))))
    assert (await client.ask(post(b"abc"))).body == b"one"
    assert client.is_open
