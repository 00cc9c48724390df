"""An answer that streams while its request still comes, and what a peer's going means to it."""

from __future__ import annotations

import contextlib

import pytest
import trio

from ktrio import Limits, Response
from tests.protocols.bodies import both_kinds, chunked, echo, in_chunks, read_chunk, sized
from tests.server.harness import LATE, Ended, advance, get, post, settle

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
EXPECT = "Expect: 100-continue"
MUCH = Limits(body_bytes=1 << 30)

both_framings = pytest.mark.parametrize("make", [post, chunked], ids=["sized", "chunked"])


@both_kinds
@both_framings
async def test_echo_gives_back_what_comes(start_http, connect, kind, make):
    client = await connect(await start_http(echo(kind), limits=MUCH))
    for body in [b"", b"abc", b"x" * 40_000]:
        reply = await client.ask(make(body))
        assert (reply.status, reply.body) == (200, body)
    assert client.is_open


@both_kinds
@both_framings
async def test_echo_of_more_than_all_buffers_hold(start_http, connect, kind, make):
    """The peer sends and reads at once; what the head said of the connection is what happens to it."""
    client = await connect(await start_http(echo(kind), limits=MUCH))
    body = bytes(index % 251 for index in range(100_000)) * 200
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send, make(body))
        reply = await client.read_reply()
    assert reply.body == body
    if reply.says_close:
        assert await client.read_end() == "fin"
    else:
        assert (await client.ask(make(b"abc"))).body == b"abc"


@both_kinds
async def test_echo_answers_each_piece_before_the_next(start_http, connect, kind):
    client = await connect(await start_http(echo(kind)))
    await client.send(get("/", "Transfer-Encoding: chunked", method="POST"))
    for index in range(10):
        await client.send(in_chunks(b"%d" % index))
        if not index:
            assert (await client.read_head()).framing == "chunked"
        assert await read_chunk(client) == b"%d" % index
    await client.send(b"0\r\n\r\n")
    assert await client.read(5) == b"0\r\n\r\n"
    assert (await client.ask(post(b"abc"))).body == b"abc"


@both_kinds
@pytest.mark.parametrize("is_chunked", [False, True], ids=["sized", "chunked"])
async def test_echo_asks_a_client_that_waits_before_it_answers(start_http, connect, kind, is_chunked):
    """RFC 9110 section 10.1.1: behind a final status it would be too late for the 100."""
    client = await connect(await start_http(echo(kind)))
    for _ in range(2):
        if is_chunked:
            await client.send(get("/", "Transfer-Encoding: chunked", EXPECT, method="POST"))
        else:
            await client.send(sized(4, EXPECT))
        await settle()
        assert await client.read_through(b"\r\n\r\n") == CONTINUE
        await client.send(in_chunks(b"body") + b"0\r\n\r\n" if is_chunked else b"body")
        reply = await client.read_reply()
        assert (reply.status, reply.body) == (200, b"body")
    assert client.is_open


@both_kinds
async def test_body_may_wait_for_other_things_before_it_asks_for_the_request(start_http, connect, kind):
    """The head is held back while a client waits for ``100 Continue``."""
    gate = trio.Event()

    async def handler(request):
        async def make():
            await gate.wait()
            async for piece in request.body:
                yield piece

        return Response(body=kind(make()))

    client = await connect(await start_http(handler))
    await client.send(sized(4, EXPECT))
    await settle()
    assert client.is_open
    gate.set()
    await settle()
    assert await client.read_through(b"\r\n\r\n") == CONTINUE
    await client.send(b"body")
    assert (await client.read_reply()).body == b"body"


@both_kinds
async def test_request_too_large_is_413_though_the_body_reads_it(start_http, connect, kind):
    """Of a client that waits for its 100, by the length it declares."""
    client = await connect(await start_http(echo(kind), limits=Limits(body_bytes=10)))
    assert (await client.ask(sized(11, EXPECT))).status == 413


@both_kinds
async def test_continue_never_comes_behind_the_head(start_http, connect, kind):
    """RFC 9110 section 15.2: an interim response is before the final one; a client that sends all the same is heard."""

    async def handler(request):
        async def make():
            yield b"head first|"
            async for piece in request.body:
                yield piece

        return Response(body=kind(make()))

    client = await connect(await start_http(handler))
    await client.send(sized(4, EXPECT))
    assert (await client.read_head()).status == 200
    assert await read_chunk(client) == b"head first|"
    await settle()
    assert client.is_open
    await client.send(b"body")
    assert await read_chunk(client) == b"body"
    assert await client.read(5) == b"0\r\n\r\n"


@both_kinds
async def test_half_closed_client_still_gets_all(start_http, connect, kind, mock_clock):
    """RFC 9112 section 9.6; `printf … | nc`."""
    gate = trio.Event()

    async def handler(request):
        async def make():
            async for piece in request.body:
                yield piece
            await gate.wait()
            yield b"|end"

        return Response(body=kind(make()))

    server = await start_http(handler)
    client = await connect(server)
    await client.send(post(b"abc"))
    client.finish()
    await advance(mock_clock, 29)
    gate.set()
    reply = await client.read_reply()
    assert reply.body == b"abc|end"
    assert await client.read_end() == "fin"
    await settle()
    assert (server.statistics().open, server.statistics().answered) == (0, 1)


@both_kinds
async def test_client_that_half_closes_within_its_body_breaks_the_answer_off(start_http, connect, kind):
    """RFC 9112 section 8: the request is incomplete, and what answers it must not look complete."""
    client = await connect(await start_http(echo(kind)))
    await client.send(sized(100) + b"abc")
    assert (await client.read_head()).status == 200
    assert await read_chunk(client) == b"abc"
    client.finish()
    with pytest.raises(Ended) as seen:
        await client.read(100)
    assert seen.value.data == b""


@both_kinds
async def test_request_that_stalls_half_way_breaks_the_answer_off(start_http, connect, kind, mock_clock):
    server = await start_http(echo(kind))
    client = await connect(server)
    await client.send(sized(100) + b"abc")
    await client.read_through(b"abc\r\n")
    await advance(mock_clock, 30 + LATE)
    with pytest.raises(Ended) as seen:
        await client.read(100)
    assert seen.value.data == b""
    await advance(mock_clock, 1 + LATE)
    assert (server.statistics().open, server.statistics().reasons) == (0, {"body-timeout": 1})


# -- Two tasks, one for each way


def duplex(count: int):
    """A handler that counts its request in one task while it sends in another."""

    async def handler(request):
        async def write(send):
            got = 0

            async def take():
                nonlocal got
                async for piece in request.body:
                    got += len(piece)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(take)
                for _ in range(count):
                    await send(b"x" * 65_536)
            await send(b"|%d" % got)

        return Response(body=write)

    return handler


@both_framings
async def test_two_tasks_may_read_and_send_at_once(start_http, connect, make):
    """More each way than the buffers between them hold: neither way waits for the other."""
    client = await connect(await start_http(duplex(300), limits=MUCH))
    body = b"y" * 20_000_000
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send, make(body))
        reply = await client.read_reply()
    assert reply.body == b"x" * 65_536 * 300 + b"|%d" % len(body)


@pytest.mark.parametrize("stalls", ["body", "write"])
async def test_way_that_stalls_ends_both(start_http, connect, mock_clock, tmp_path, stalls):
    """Each way has its deadline, though the other goes on."""
    server = await start_http(duplex(1 if stalls == "body" else 10_000), f"unix:{tmp_path}/socket", limits=MUCH)
    client = await connect(server)
    await client.send(sized(1_000_000))
    await client.read_head()
    for _ in range(32):
        assert server.statistics().open == 1
        if stalls == "write":
            await client.send(b"y" * 1000)
        await advance(mock_clock, 1)
        if not client.is_open and server.statistics().reasons:
            break
    assert server.statistics().reasons == {f"{stalls}-timeout": 1}


async def test_body_that_the_client_sends_on_is_read_while_the_answer_waits(start_http, connect, mock_clock):
    """A slow handler between two pieces: no deadline of the request's counts while nobody reads it."""
    gate = trio.Event()

    async def handler(request):
        async def make():
            iterator = aiter(request.body)
            yield await anext(iterator)
            await gate.wait()
            async for piece in iterator:
                yield piece

        return Response(body=make())

    client = await connect(await start_http(handler))
    await client.send(sized(6) + b"abc")
    await advance(mock_clock, 3600)
    await client.send(b"def")
    await advance(mock_clock, 3600)
    gate.set()
    assert (await client.read_reply()).body == b"abcdef"


# -- Early answers


@both_kinds
@both_framings
async def test_early_answer_with_a_small_rest_keeps_the_connection(start_http, connect, kind, make):
    async def handler(request):
        async def make_body():
            async for piece in request.body:
                yield piece
                break
            yield b"|enough"

        return Response(body=kind(make_body()))

    client = await connect(await start_http(handler))
    for _ in range(2):
        wire = make(b"abc" + b"x" * 1000)
        await client.send(wire[:-1000])
        reply = await client.read_reply()
        assert reply.body.endswith(b"|enough")
        assert not reply.says_close
        await client.send(wire[-1000:])
    assert client.is_open
    assert (await client.ask(make(b"abc"))).body.endswith(b"|enough")


@both_kinds
async def test_early_answer_with_a_large_rest_closes_and_is_read_whole(start_http, connect, kind):
    """RFC 9112 section 9.6: half-close, read on a while; a reset would destroy the answer."""

    async def handler(request):
        async def make():
            yield b"answer" * 2000
            yield b"end"

        return Response(body=kind(make()))

    client = await connect(await start_http(handler, limits=MUCH))
    await client.send(sized(10_000_000), b"x" * 30_000)
    await settle()
    await client.send(b"x" * 20_000)
    await settle()
    reply = await client.read_reply()
    assert (reply.says_close, reply.body) == (True, b"answer" * 2000 + b"end")
    assert await client.read_end() == "fin"


@both_kinds
async def test_early_answer_is_read_whole_by_a_peer_that_sends_on(start_http, connect, kind):
    async def handler(request):
        async def make():
            async for _piece in request.body:
                break
            for _ in range(10):
                yield b"answer" * 2000

        return Response(body=kind(make()))

    client = await connect(await start_http(handler, limits=MUCH))
    async with trio.open_nursery() as nursery:

        async def push():
            with contextlib.suppress(OSError):
                await client.send(sized(50_000_000), *[b"x" * 1_000_000] * 50)

        nursery.start_soon(push)
        reply = await client.read_reply()
        assert reply.body == b"answer" * 20_000
        nursery.cancel_scope.cancel()
