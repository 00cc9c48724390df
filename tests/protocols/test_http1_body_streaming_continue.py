"""``100 Continue`` for a body that streams: once, at its first use, and never where nobody waits for it."""

from __future__ import annotations

import pytest
import trio

from ktrio import Limits, Response
from tests.protocols.bodies import chunked, in_chunks, sized
from tests.server.harness import GET, get, settle

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
EXPECT = "Expect: 100-continue"


async def collect(request):
    return Response(body=b"".join([piece async for piece in request.body]))


async def all_there_is(client) -> bytes:
    """What has come by the time that nothing moves any more."""
    await settle()
    return client.raw.recv(1 << 16) if client.peek() == "data" else b""


@pytest.mark.parametrize("is_chunked", [False, True], ids=["sized", "chunked"])
async def test_first_use_asks_the_client_to_go_on(start_http, connect, is_chunked):
    """RFC 9110 section 10.1.1."""
    client = await connect(await start_http(collect))
    head, body = (
        (get("/", "Transfer-Encoding: chunked", EXPECT, method="POST"), in_chunks(b"body") + b"0\r\n\r\n")
        if is_chunked
        else (sized(4, EXPECT), b"body")
    )
    for _ in range(2):
        await client.send(head)
        assert await all_there_is(client) == CONTINUE
        await client.send(body)
        assert (await client.read_reply()).body == b"body"
    assert client.is_open


async def test_it_is_sent_once_however_the_body_is_used(start_http, connect):
    async def handler(request):
        got = [await anext(aiter(request.body))]
        got += [piece async for piece in request.body]
        got += [piece async for piece in request.body]
        return Response(body=b"".join(got))

    client = await connect(await start_http(handler))
    await client.send(sized(8, EXPECT))
    assert await all_there_is(client) == CONTINUE
    await client.send(b"some")
    assert await all_there_is(client) == b""
    await client.send(b"body")
    assert (await client.read_reply()).body == b"somebody"


async def test_it_is_sent_once_though_the_first_wait_was_cancelled(start_http, connect, mock_clock):
    async def handler(request):
        with trio.move_on_after(1):
            await request.read()
        with trio.move_on_after(1):
            await anext(aiter(request.body))
        return Response(body=b"".join([piece async for piece in request.body]))

    client = await connect(await start_http(handler))
    await client.send(sized(4, EXPECT))
    for _ in range(2):
        await settle()
        mock_clock.jump(1)
    assert await all_there_is(client) == CONTINUE
    await client.send(b"body")
    assert (await client.read_reply()).body == b"body"


async def test_nothing_is_sent_before_the_first_use(start_http, connect):
    """Making an iterator is no use yet."""
    gate = trio.Event()

    async def handler(request):
        iterator = aiter(request.body)
        await gate.wait()
        return Response(body=await anext(iterator))

    client = await connect(await start_http(handler))
    await client.send(sized(4, EXPECT))
    assert await all_there_is(client) == b""
    gate.set()
    assert await all_there_is(client) == CONTINUE
    await client.send(b"body")
    assert (await client.read_reply()).body == b"body"


async def test_http10_is_never_asked(start_http, connect):
    """RFC 9110 section 10.1.1: the expectation of an HTTP/1.0 client is ignored."""
    client = await connect(await start_http(collect))
    await client.send(sized(4, EXPECT, version="1.0"))
    assert await all_there_is(client) == b""
    await client.send(b"body")
    reply = await client.read_reply()
    assert (reply.status, reply.body) == (200, b"body")


@pytest.mark.parametrize("begun", [b"b", b"body"])
async def test_client_whose_body_has_begun_to_come_is_not_asked(start_http, connect, begun):
    """RFC 9110 section 10.1.1: it may be left out then; the client has gone on by itself."""
    gate = trio.Event()

    async def handler(request):
        await gate.wait()
        return await collect(request)

    client = await connect(await start_http(handler))
    await client.send(sized(4, EXPECT) + begun)
    await settle()
    gate.set()
    assert not (await all_there_is(client) if begun != b"body" else b"").startswith(b"HTTP/1.1 1")
    await client.send(b"body"[len(begun) :])
    reply = await client.read_reply()
    assert (reply.status, reply.body) == (200, b"body")


@pytest.mark.parametrize("begun", [b"4", b"4\r\nbo", b"4\r\nbody\r\n"])
async def test_client_whose_chunks_have_begun_to_come_is_not_asked(start_http, connect, begun):
    client = await connect(await start_http(collect))
    await client.send(get("/", "Transfer-Encoding: chunked", EXPECT, method="POST") + begun)
    assert await all_there_is(client) == b""
    await client.send((in_chunks(b"body") + b"0\r\n\r\n")[len(begun) :])
    reply = await client.read_reply()
    assert (reply.status, reply.body) == (200, b"body")


@pytest.mark.parametrize("wire", [GET, get("/", EXPECT, method="POST"), sized(0, EXPECT), chunked(fields=(EXPECT,))])
async def test_request_without_a_body_is_not_asked(start_http, connect, wire):
    client = await connect(await start_http(collect))
    reply = await client.ask(wire)
    assert (reply.status, reply.body) == (200, b"")
    assert client.is_open


async def test_client_that_is_not_asked_keeps_its_body(start_http, connect):
    """RFC 9110 section 10.1.1: a final status instead; whatever it then sends is no request."""
    seen = []

    async def refuse(request):
        seen.append(request.target)
        return Response(403)

    client = await connect(await start_http(refuse))
    await client.send(sized(len(GET), EXPECT))
    reply = await client.read_reply()
    assert reply.status == 403
    await client.send(GET)
    if not reply.says_close:
        await client.send(get("/next"))
        assert (await client.read_reply()).status == 403
    assert "/" not in seen[1:]


async def test_body_that_is_refused_half_way_was_asked_for_once(start_http, connect):
    client = await connect(await start_http(collect, limits=Limits(body_bytes=10)))
    await client.send(get("/", "Transfer-Encoding: chunked", EXPECT, method="POST"))
    assert await all_there_is(client) == CONTINUE
    await client.send(in_chunks(b"x" * 11))
    assert (await client.read_reply()).status == 413
