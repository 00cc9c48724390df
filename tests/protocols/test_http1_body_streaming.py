"""`request.body` by ``async for``: the pieces as they come, each once, whatever becomes of the loop."""

from __future__ import annotations

from functools import partial

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import assert_checkpoints

import ktrio
from ktrio import Limits, QueueOptions, Response
from tests.protocols.bodies import chunked, sized
from tests.server.harness import GET, Client, get, post, run_bounded, settle

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
async def test_pieces_are_the_body_and_none_is_empty_or_longer_than_64_kib(
    start_http, connect, collector, make, size
):
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
            for begin, end in zip(at, at[1:], strict=False):
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
        async for piece in request.body:
            got.append(piece)
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
        for iterator in [first, second, first]:
            got.append(await anext(iterator))
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


# -- Tasks and cancellation


@both_framings
async def test_cancelled_wait_has_taken_nothing(start_http, connect, mock_clock, make):
    """Again and again, with the wire cut anywhere: in a chunk, in its size, in a line end."""
    got, given_up = [], 0

    async def handler(request):
        nonlocal given_up
        while True:
            with trio.move_on_after(0.1) as scope:
                async for piece in request.body:
                    got.append(piece)
            if not scope.cancelled_caught:
                return Response(body=b"".join(got))
            given_up += 1

    client = await connect(await start_http(handler))
    head, body = make(b"abcdefghij").split(b"\r\n\r\n", 1)
    await client.send(head + b"\r\n\r\n")
    for byte in body:
        await settle()
        mock_clock.jump(0.1)
        await settle()
        await client.send(bytes([byte]))
    assert (await client.read_reply()).body == b"abcdefghij"
    assert given_up == len(body)


async def test_read_after_a_loop_that_was_cancelled_before_its_first_piece_has_it_all(
    start_http, connect, mock_clock
):
    async def handler(request):
        with trio.move_on_after(1) as scope:
            async for _piece in request.body:
                raise AssertionError
        assert scope.cancelled_caught
        return Response(body=await request.read())

    client = await connect(await start_http(handler))
    await client.send(sized(6))
    await settle()
    mock_clock.jump(1)
    await settle()
    await client.send(b"abcdef")
    assert (await client.read_reply()).body == b"abcdef"


@both_framings
async def test_cancelled_read_has_lost_nothing(start_http, connect, mock_clock, make):
    async def handler(request):
        with trio.move_on_after(1) as scope:
            await request.read()
        assert scope.cancelled_caught
        return Response(body=await request.read())

    client = await connect(await start_http(handler))
    wire = make(b"abcdef")
    await client.send(wire[:-9], wire[-9:-3])
    await settle()
    mock_clock.jump(1)
    await settle()
    await client.send(wire[-3:])
    assert (await client.read_reply()).body == b"abcdef"


async def test_two_tasks_at_once_are_an_error_of_the_second(start_http, connect):
    """`trio.BusyResourceError`; the first does not notice."""
    refused = trio.Event()

    async def handler(request):
        got = []

        async def take():
            async for piece in request.body:
                got.append(piece)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(take)
            await settle()
            with pytest.raises(trio.BusyResourceError):
                await anext(aiter(request.body))
            with pytest.raises(trio.BusyResourceError):
                await request.read()
            refused.set()
        return Response(body=b"".join(got))

    client = await connect(await start_http(handler))
    await client.send(sized(6))
    await refused.wait()
    await client.send(b"abc", b"def")
    assert (await client.read_reply()).body == b"abcdef"


@both_framings
async def test_child_task_may_read(start_http, connect, make):
    async def handler(request):
        send, receive = trio.open_memory_channel[bytes](0)

        async def feed():
            async with send:
                async for piece in request.body:
                    await send.send(piece)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(feed)
            return Response(body=b"".join([piece async for piece in receive]))

    client = await connect(await start_http(handler, queue=QueueOptions(max_active=1)))
    for _ in range(2):
        wire = make(b"x" * 1000)
        await client.send(wire[:-500])
        await settle()
        await client.send(wire[-500:])
        assert (await client.read_reply()).body == b"x" * 1000
    assert client.is_open


async def test_slot_is_given_back_while_the_handler_waits_for_the_body(start_http, connect, collector):
    """`max_active` limits handlers at work, never slow peers."""
    server = await start_http(collector, queue=QueueOptions(max_active=1, capacity=1))
    slow = [await connect(server) for _ in range(5)]
    for client in slow:
        await client.send(sized(6), b"abc")
        await settle()
    other = await connect(server)
    assert (await other.ask(post(b"now"))).body == b"now"
    for client in slow:
        await client.send(b"def")
        assert (await client.read_reply()).status == 200
