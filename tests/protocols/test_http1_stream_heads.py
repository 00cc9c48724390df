"""When the head of a streamed answer goes out, and what an error before and after that becomes."""

from __future__ import annotations

import pytest
import trio

from ktrio import BadRequest, HttpError, Limits, NotFound, Response, ServiceUnavailable
from tests.protocols.bodies import (
    Stream,
    answering,
    both_kinds,
    in_chunks,
    packets_received,
    pieces,
    read_chunk,
    read_statuses,
    sized,
)
from tests.server.harness import GET, Ended, get, settle


class Unlucky(Exception):  # noqa: N818
    pass


async def first_packet(client) -> bytes:
    """What one receive gives that was waiting before anything came."""
    return await client.sock.recv(1 << 16)


@both_kinds
@pytest.mark.parametrize(
    ("fields", "version", "body"),
    [({}, "1.1", b"3\r\none\r\n"), ({"content-length": "3"}, "1.1", b"one"), ({}, "1.0", b"one")],
    ids=["chunked", "sized", "until-close"],
)
async def test_head_goes_with_the_first_piece_in_one_packet(start_http, connect, kind, fields, version, body):
    async def make():
        yield b"one"
        await trio.sleep_forever()

    client = await connect(await start_http(answering(lambda: kind(make()), **fields)))
    await client.send(get(version=version))
    data = await first_packet(client)
    head, _, rest = data.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert rest == body
    assert packets_received(client) == 1


@both_kinds
async def test_empty_pieces_do_not_send_the_head_and_an_error_behind_them_is_a_500(start_http, connect, kind, caplog):
    async def make():
        yield b""
        raise Unlucky

    client = await connect(await start_http(answering(lambda: kind(make()))))
    await client.send(GET)
    try:
        reply = await client.read_reply()
    except Ended:
        pass
    else:
        assert reply.status == 500
    assert len(caplog.records) == 1


@both_kinds
async def test_bare_checkpoint_is_no_wait_and_an_error_behind_it_is_a_500(start_http, connect, kind, caplog):
    async def make():
        await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()
        raise Unlucky
        yield b""

    client = await connect(await start_http(answering(lambda: kind(make()))))
    assert (await client.ask()).status == 500
    assert len(caplog.records) == 1


@both_kinds
async def test_head_goes_with_the_first_piece_behind_a_bare_checkpoint(start_http, connect, kind):
    async def make():
        await trio.lowlevel.checkpoint()
        yield b"one"
        await trio.sleep_forever()

    client = await connect(await start_http(answering(lambda: kind(make()))))
    await client.send(GET)
    assert (await first_packet(client)).endswith(b"\r\n\r\n3\r\none\r\n")
    assert packets_received(client) == 1


@both_kinds
async def test_head_goes_alone_when_the_body_waits_first(start_http, connect, kind):
    """Server-sent events: the client knows at once that it is subscribed."""
    gate = trio.Event()

    async def make():
        await gate.wait()
        yield b"data: 1\n\n"

    client = await connect(await start_http(answering(lambda: kind(make()), **{"content-type": "text/event-stream"})))
    await client.send(GET)
    reply = await client.read_head()
    assert (reply.status, reply["content-type"], reply.framing) == (200, "text/event-stream", "chunked")
    await settle()
    assert client.is_open
    gate.set()
    assert await read_chunk(client) == b"data: 1\n\n"
    assert await client.read(5) == b"0\r\n\r\n"


@both_kinds
async def test_head_goes_alone_when_the_body_waits_behind_an_empty_piece(start_http, connect, kind):
    async def make():
        yield b""
        await trio.sleep_forever()

    client = await connect(await start_http(answering(lambda: kind(make()))))
    await client.send(GET)
    assert (await client.read_head()).status == 200


@both_kinds
async def test_head_goes_when_the_body_waits_in_a_nursery_of_its_own(start_http, connect, kind):
    gate = trio.Event()

    async def make():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(gate.wait)
        yield b"data"

    client = await connect(await start_http(answering(lambda: kind(make()))))
    await client.send(GET)
    assert (await client.read_head()).status == 200
    gate.set()
    assert await read_chunk(client) == b"data"


@both_kinds
async def test_body_that_ends_without_a_piece_has_its_head(start_http, connect, kind):
    client = await connect(await start_http(answering(lambda: kind(pieces()))))
    for _ in range(2):
        reply = await client.ask()
        assert (reply.status, reply.framing, reply.body) == (200, "chunked", b"")
    for _ in range(2):
        reply = await client.ask()
        assert (reply.status, reply.body) == (200, b"")
    assert client.is_open


# -- Errors before the head


@both_kinds
@pytest.mark.parametrize("fields", [{}, {"content-length": "5"}], ids=["chunked", "sized"])
async def test_error_before_the_head_is_a_clean_500(start_http, connect, kind, fields, caplog):
    """Its headers are not those of the answer that failed."""

    async def make():
        raise Unlucky
        yield b""

    server = await start_http(answering(lambda: kind(make()), etag='"1"', **fields))
    client = await connect(server)
    reply = await client.ask()
    assert (reply.status, reply["etag"], reply.framing) == (500, None, "sized")
    assert b"Unlucky" not in reply.body
    await settle()
    assert client.peek() == ("fin" if reply.says_close else "open")
    (record,) = caplog.records
    assert (record.levelname, type(record.exc_info[1])) == ("ERROR", Unlucky)
    assert server.statistics().errors == 1


@both_kinds
@pytest.mark.parametrize(
    "error",
    [NotFound("No."), BadRequest("No."), ServiceUnavailable("No.", retry_after=7)],
    ids=lambda error: error.status,
)
async def test_http_error_before_the_head_is_its_own_answer(start_http, connect, kind, error, caplog):
    async def make():
        raise error
        yield b""

    client = await connect(await start_http(answering(lambda: kind(make()))))
    reply = await client.ask()
    assert reply.status == error.status
    assert reply["retry-after"] == ("7" if error.status == 503 else None)
    assert caplog.records == []


@both_kinds
async def test_body_that_finds_the_request_too_large_gets_413(start_http, connect, kind, caplog):
    async def handler(request):
        async def make():
            async for piece in request.body:
                yield piece

        return Response(body=kind(make()))

    client = await connect(await start_http(handler, limits=Limits(body_bytes=10)))
    await client.send(sized(11))
    reply = await client.read_reply()
    assert (reply.status, reply.says_close) == (413, True)
    assert caplog.records == []


@both_kinds
async def test_body_that_finds_the_request_broken_never_ends_well(start_http, connect, kind, caplog):
    """RFC 9112 sections 7.1 and 8: a 400, or, if the head is out, a cut."""

    async def handler(request):
        async def make():
            async for piece in request.body:
                yield piece

        return Response(body=kind(make()))

    client = await connect(await start_http(handler))
    await client.send(get("/", "Transfer-Encoding: chunked", method="POST") + b"zz\r\n" + GET)
    assert await read_statuses(client) in ([400], [])
    assert caplog.records == []


async def test_error_before_the_head_of_an_answer_to_http10_is_a_500(start_http, connect):
    async def make():
        raise Unlucky
        yield b""

    client = await connect(await start_http(answering(make)))
    reply = await client.ask(get(version="1.0"))
    assert (reply.status, reply.framing) == (500, "sized")


@pytest.mark.parametrize("wrong", ["text", None, 7], ids=repr)
@both_kinds
async def test_first_piece_that_is_no_bytes_is_a_500(start_http, connect, kind, wrong, caplog):
    client = await connect(await start_http(answering(lambda: kind(pieces(wrong)))))
    assert (await client.ask()).status == 500
    assert len(caplog.records) == 1


async def test_iterable_that_cannot_be_iterated_is_a_500(start_http, connect, caplog):
    class Broken:
        def __aiter__(self):
            raise Unlucky

    client = await connect(await start_http(answering(Broken)))
    assert (await client.ask()).status == 500
    assert len(caplog.records) == 1


async def test_stream_that_fails_before_its_head_is_closed_once(start_http, connect, caplog):
    stream = Stream(error=Unlucky())
    client = await connect(await start_http(answering(lambda: stream)))
    assert (await client.ask()).status == 500
    assert (stream.closed, len(stream.tasks)) == (1, 1)


@pytest.mark.parametrize(
    "make",
    [
        lambda: b"bytes".decode,
        lambda: lambda send: None,
        lambda: [b"one"],
        lambda: iter([b"one"]),
        lambda: bytearray(b"one"),
        lambda: pieces,
        lambda: dict,
        lambda: object(),
        lambda: None,
        lambda: "text",
        lambda: 7,
    ],
    ids=["method", "sync", "list", "iterator", "bytearray", "generator", "class", "object", "None", "str", "int"],
)
async def test_body_of_neither_kind_is_a_500(start_http, connect, make, caplog):
    client = await connect(await start_http(answering(make)))
    await client.send(GET)
    assert (await client.read_reply()).status == 500
    assert [record.levelname for record in caplog.records] == ["ERROR"]


# -- Errors behind the head


@both_kinds
@pytest.mark.parametrize("waits", [False, True], ids=["piece", "wait"])
@pytest.mark.parametrize("error", [Unlucky(), NotFound("No.")], ids=["any", "http"])
async def test_error_behind_the_head_cuts_the_connection(start_http, connect, kind, waits, error, caplog):
    """RFC 9112 section 8: no last chunk, no second head; a `HttpError` is too late there."""
    gate = trio.Event()

    async def make():
        if waits:
            await gate.wait()
        else:
            yield b"some"
        raise error

    server = await start_http(answering(lambda: kind(make())))
    client = await connect(server)
    await client.send(GET + GET)
    head = await client.read_head()
    assert head.status == 200
    gate.set()
    with pytest.raises(Ended) as seen:
        await client.read(1000)
    assert seen.value.data in (b"", in_chunks(b"some"))
    await settle()
    assert (server.statistics().open, server.statistics().answered) == (0, 0)
    assert len(caplog.records) <= 1
    assert caplog.records or isinstance(error, HttpError)


@both_kinds
async def test_body_that_waits_for_the_request_and_finds_it_too_large_is_cut(start_http, connect, kind):
    """The head went out when it first waited."""

    async def handler(request):
        async def make():
            async for piece in request.body:
                yield piece

        return Response(body=kind(make()))

    client = await connect(await start_http(handler, limits=Limits(body_bytes=10)))
    await client.send(get("/", "Transfer-Encoding: chunked", method="POST"))
    assert (await client.read_head()).status == 200
    await client.send(in_chunks(b"x" * 6))
    assert await read_chunk(client) == b"x" * 6
    await client.send(in_chunks(b"x" * 6))
    with pytest.raises(Ended) as seen:
        await client.read(100)
    assert seen.value.data == b""
