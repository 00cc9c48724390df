"""`request.body` by ``async for``: the pieces as they come, each once, whatever becomes of the loop."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import assert_checkpoints

import ktrio
from ktrio import Limits, Response
from tests.protocols.bodies import chunked, sized
from tests.server.harness import GET, Client, Ended, get, post, run_bounded, settle

KIB = 1024
MUCH = Limits(body_bytes=8 << 20)

both_framings = pytest.mark.parametrize("make", [post, chunked], ids=["sized", "chunked"])


class Collector:
    """A handler that iterates its body to the end and answers with it; `got` are the pieces."""

    def __init__(self) -> None:
        self.got: list[bytes] = []

    async def __call__(self, request):
        self.got = []
        async for piece in request.body:
            self.got.append(piece)
        return Response(body=b"".join(self.got))


@pytest.fixture
def collector():
    return Collector()


@both_framings
@pytest.mark.parametrize("size", [0, 1, 1000, 64 * KIB, 64 * KIB + 1, 3000 * KIB])
async def test_pieces_are_the_body_and_none_is_empty_or_longer_than_64_kib(start_http, connect, collector, make, size):
    body = bytes(index % 251 for index in range(size))
    client = await connect(await start_http(collector, limits=MUCH))
    for _ in range(2):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send, make(body))
            assert (await client.read_reply()).body == body
        assert all(0 < len(piece) <= 64 * KIB for piece in collector.got)
    assert client.is_open


@settings(max_examples=30, deadline=None)
@given(
    chunks=st.lists(st.binary(min_size=1, max_size=40), max_size=5),
    cuts=st.lists(st.floats(0, 1), max_size=6),
    is_chunked=st.booleans(),
)
def test_any_split_of_the_bytes_gives_the_same_body(chunks, cuts, is_chunked):
    """RFC 9112 section 7.1: neither chunks nor packets are boundaries of anything; what follows is the next request."""
    collector = Collector()
    wire = (chunked(*chunks) if is_chunked else post(b"".join(chunks))) + get("/", "Connection: close")
    at = [0, *sorted({round(cut * len(wire)) for cut in cuts}), len(wire)]

    async def converse() -> None:
        async with trio.open_nursery() as nursery:
            server = await nursery.start(partial(ktrio.serve_http, collector, "127.0.0.1:0"))
            sock = trio.socket.socket()
            await sock.connect((server.addresses[0].host, server.addresses[0].port))
            client = Client(sock._sock)
            for begin, end in pairwise(at):
                await client.send(wire[begin:end])
                await settle()
            assert (await client.read_reply()).body == b"".join(chunks)
            assert (await client.read_reply()).body == b""
            assert await client.read_end() == "fin"
            client.close()
            nursery.cancel_scope.cancel()

    run_bounded(converse)


@both_framings
async def test_pieces_come_before_the_body_is_complete(start_http, connect, collector, make):
    client = await connect(await start_http(collector))
    wire = make(b"x" * 10 + b"y" * 10)
    await client.send(wire[:-15])
    await settle()
    first = b"".join(collector.got)
    assert first
    await client.send(wire[-15:])
    assert (await client.read_reply()).body == b"x" * 10 + b"y" * 10
    assert len(collector.got) > 1


async def test_request_without_a_body_has_no_pieces(start_http, connect, collector):
    """RFC 9112 section 6.3."""
    client = await connect(await start_http(collector))
    for request in [GET, get(method="POST"), post(b""), chunked()]:
        assert (await client.ask(request)).body == b""
        assert collector.got == []


@both_framings
async def test_each_step_is_a_checkpoint(start_http, connect, make):
    """The end, too, and whatever is asked for behind it."""
    counts = []

    async def handler(request):
        iterator = aiter(request.body)
        count = 0
        try:
            while True:
                with assert_checkpoints():
                    await anext(iterator)
                count += 1
        except StopAsyncIteration:
            counts.append(count)
        with assert_checkpoints(), pytest.raises(StopAsyncIteration):
            await anext(aiter(request.body))
        return Response()

    client = await connect(await start_http(handler))
    for request in [make(b"x" * 1000), make(b"")]:
        assert (await client.ask(request)).status == 200
    assert counts[0] >= 1
    assert counts[1] == 0


async def test_read_is_a_checkpoint_every_time(start_http, connect):
    async def handler(request):
        for _ in range(2):
            with assert_checkpoints():
                await request.read()
        with assert_checkpoints():
            await anext(aiter(request.body))
        return Response()

    client = await connect(await start_http(handler))
    for request in [post(b"abc"), chunked(b"abc")]:
        assert (await client.ask(request)).status == 200


# -- More than one loop


@both_framings
async def test_second_loop_goes_on_where_the_first_was_left(start_http, connect, make):
    got = []

    async def handler(request):
        async for piece in request.body:
            got.append(piece)
            break
        got.append(b"|")
        got.extend([piece async for piece in request.body])
        return Response()

    client = await connect(await start_http(handler, limits=MUCH))
    body = bytes(index % 251 for index in range(200 * KIB))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send, make(body))
        assert (await client.read_reply()).status == 200
    assert got[1] == b"|"
    assert b"".join([*got[:1], *got[2:]]) == body


@both_framings
async def test_nothing_is_found_behind_the_end(start_http, connect, collector, make):
    """Least of all the next request."""
    seen = []

    async def handler(request):
        first = [piece async for piece in request.body]
        again = [piece async for piece in request.body]
        seen.append((request.target, b"".join(first), again))
        return Response()

    client = await connect(await start_http(handler))
    await client.send(make(b"abc") + make(b"def", target="/second"))
    await client.read_replies(2)
    assert seen == [("/", b"abc", []), ("/second", b"def", [])]


async def test_two_iterators_take_turns(start_http, connect):
    got = []

    async def handler(request):
        first, second = aiter(request.body), aiter(request.body)
        got.extend([await anext(iterator) for iterator in [first, second, first]])
        for iterator in [first, second]:
            with pytest.raises(StopAsyncIteration):
                await anext(iterator)
        return Response()

    client = await connect(await start_http(handler))
    await client.send(sized(6))
    for piece in [b"ab", b"cd", b"ef"]:
        await settle()
        await client.send(piece)
    assert (await client.read_reply()).status == 200
    assert got == [b"ab", b"cd", b"ef"]


@both_framings
async def test_read_after_a_part_was_taken_is_an_error(start_http, connect, make):
    """And it spoils nothing: the loop may go on."""
    got = []

    async def handler(request):
        async for piece in request.body:
            got.append(piece)
            with pytest.raises(RuntimeError):
                await request.read()
        with pytest.raises(RuntimeError):
            await request.body.read()
        return Response(body=b"".join(got))

    client = await connect(await start_http(handler))
    assert (await client.ask(make(b"abcdef"))).body == b"abcdef"
    assert client.is_open


async def test_read_after_a_loop_that_found_nothing_is_no_error(start_http, connect):
    async def handler(request):
        assert [piece async for piece in request.body] == []
        return Response(body=b"%d" % len(await request.read()))

    client = await connect(await start_http(handler))
    for request in [GET, post(b""), chunked()]:
        assert (await client.ask(request)).body == b"0"


@both_framings
async def test_loop_after_read_gets_the_body_as_one_piece(start_http, connect, make):
    got = []

    async def handler(request):
        await request.read()
        got.extend([piece async for piece in request.body])
        return Response(body=await request.read())

    client = await connect(await start_http(handler))
    body = b"x" * 200 * KIB
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send, make(body))
        assert (await client.read_reply()).body == body
    assert got == [body]


async def test_loop_after_the_read_of_an_empty_body_finds_nothing(start_http, connect):
    """None is empty, this one neither."""
    got = []

    async def handler(request):
        await request.read()
        got.extend([piece async for piece in request.body])
        return Response()

    client = await connect(await start_http(handler))
    for request in [GET, post(b""), chunked()]:
        assert (await client.ask(request)).status == 200
    assert got == []


# -- The rest that nobody wanted


@both_framings
async def test_small_rest_is_dropped_and_the_connection_stays(start_http, connect, make):
    """RFC 9112 section 9.3; it is never read as the next request."""
    seen = []

    async def handler(request):
        seen.append(request.target)
        async for _piece in request.body:
            break
        return Response(body=b"enough")

    client = await connect(await start_http(handler))
    for _ in range(3):
        await client.send(make(get("/smuggled") * 1000) + GET)
        assert [reply.body for reply in await client.read_replies(2)] == [b"enough"] * 2
    assert client.is_open
    assert seen == ["/"] * 6


async def test_large_rest_closes_and_the_answer_is_read_whole(start_http, connect):
    """More than 64 KiB is not worth a connection (RFC 9112 section 9.6)."""

    async def handler(request):
        await anext(aiter(request.body))
        return Response(403, body=b"enough" * 2000)

    client = await connect(await start_http(handler, limits=Limits(body_bytes=1 << 30)))
    await client.send(sized(10_000_000), b"x" * 30_000)
    await settle()
    await client.send(b"x" * 20_000)
    reply = await client.read_reply()
    assert (reply.status, reply.says_close, reply.body) == (403, True, b"enough" * 2000)
    assert await client.read_end() == "fin"


async def test_rest_that_breaks_ends_the_connection_behind_the_answer(start_http, connect):
    async def handler(request):
        async for _piece in request.body:
            break
        return Response(body=b"enough")

    client = await connect(await start_http(handler))
    await client.send(chunked(b"abc", end=b""))
    assert (await client.read_reply()).body == b"enough"
    await client.send(b"zz\r\n" + get("/smuggled"))
    with pytest.raises(Ended) as end:
        await client.read_reply()
    assert end.value.data == b""
