"""Request bodies read at odd times, and chunked bodies made to hurt (RFC 9112 section 7.1)."""

from __future__ import annotations

import contextlib

import pytest
import trio

from ktrio import Headers, Limits, Response
from tests.server.harness import GET, Ended, advance, get, post, settle

KIB = 1024


async def mirror(request):
    return Response(body=await request.read())


CHUNKED = get("/", "Transfer-Encoding: chunked", method="POST")


# -- Odd times


async def test_read_that_the_handler_gave_up_can_be_taken_up_again(start_http, connect, mock_clock):
    """Its own timeout loses no bytes: the second read gives the whole body."""

    async def handler(request):
        with trio.move_on_after(1) as scope:
            await request.read()
        return Response(body=b"%d:" % scope.cancelled_caught + await request.read())

    client = await connect(await start_http(handler))
    await client.send(post(b"some body")[:-5])
    await advance(mock_clock, 1.1)
    await client.send(b" body")
    assert (await client.read_reply()).body == b"1:some body"
    assert (await client.ask(post(b"next"))).body == b"0:next"


async def test_read_that_the_handler_gave_up_for_good_leaves_no_bytes_to_the_next_request(
    start_http, connect, mock_clock
):
    seen = []

    async def handler(request):
        seen.append(request.target)
        with trio.move_on_after(1):
            await request.read()
        return Response(body=b"gave up")

    client = await connect(await start_http(handler))
    rest = get("/smuggled")
    await client.send(get("/", f"Content-Length: {len(rest) + 5}", method="POST") + b"12345")
    await advance(mock_clock, 1.1)
    reply = await client.read_reply()
    assert reply.body == b"gave up"
    await client.send(rest)
    await settle()
    assert seen == ["/"]
    if not reply.says_close:
        assert (await client.ask(get("/next"))).body == b"gave up"
        assert seen == ["/", "/next"]


async def test_stream_may_read_the_request_while_it_answers(start_http, connect):
    """The body is there as long as the response is not over."""

    async def handler(request):
        async def body():
            yield b"you said: "
            yield await request.read()

        return Response(body=body())

    client = await connect(await start_http(handler))
    for _ in range(2):
        await client.send(post(b"hello")[:-2])
        await client.read_through(b"you said: ")
        await client.send(b"lo")
        await client.read_through(b"0\r\n\r\n")
    assert client.is_open


async def test_continue_is_never_sent_after_the_final_head(start_http, connect):
    """RFC 9110 section 15.2: an interim response comes before the final one; within a body it would be garbage."""

    async def handler(request):
        async def body():
            yield b"begun "
            yield await request.read()

        return Response(body=body())

    client = await connect(await start_http(handler))
    await client.send(get("/", "Content-Length: 4", "Expect: 100-continue", "Connection: close", method="POST"))
    await settle()
    await client.send(b"body")
    try:
        everything = await client.read_to_end()
    except Ended as end:
        everything = end.data
    final = everything.index(b"HTTP/1.1 200")
    assert b"100 Continue" not in everything[final:]


async def test_body_read_by_two_tasks_reaches_both(start_http, connect):
    async def handler(request):
        bodies = []

        async def read():
            bodies.append(await request.read())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            nursery.start_soon(read)
        return Response(body=b"|".join(bodies))

    client = await connect(await start_http(handler))
    await client.send(post(b"shared")[:-3])
    await settle()
    await client.send(b"red")
    reply = await client.read_reply()
    assert (reply.status, reply.body) in [(200, b"shared|shared"), (500, reply.body)]


async def test_length_given_as_a_list_of_equal_numbers_is_read_one_way_or_refused(start_http, connect):
    """RFC 9110 section 8.6: "42, 42" may be taken as 42 or be refused, nothing else."""
    client = await connect(await start_http(mirror))
    await client.send(get("/", "Content-Length: 4, 4", method="POST") + b"body" + GET)
    reply = await client.read_reply()
    assert (reply.status, reply.body) == (200, b"body") if reply.status == 200 else reply.status == 400


@pytest.mark.parametrize(("size", "stays"), [(64 * KIB, True), (129 * KIB, False)])
async def test_unread_body_is_dropped_up_to_its_limit(start_http, connect, size, stays):
    """64 KiB of it, besides what has been read ahead with the head (another 64 KiB at most)."""

    async def ignore(request):
        return Response(body=b"x")

    client = await connect(await start_http(ignore))
    await client.send(post(b"y" * size))
    reply = await client.read_reply()
    assert reply.says_close is not stays
    if stays:
        assert (await client.ask()).body == b"x"


async def test_unread_body_is_dropped_only_after_the_answer_was_sent(start_http, connect):
    """The answer is not held back by a body that comes slowly."""

    async def ignore(request):
        return Response(headers=Headers({"x-early": "yes"}), body=b"early")

    client = await connect(await start_http(ignore))
    await client.send(post(b"y" * 100)[:-50])
    assert (await client.read_reply()).body == b"early"
    await client.send(b"y" * 50)
    assert (await client.ask()).body == b"early"


# -- Chunks made to hurt


@pytest.mark.parametrize("what", ["extension", "size", "trailer", "trailers"])
async def test_no_part_of_a_chunked_body_is_taken_without_a_ceiling(start_http, connect, what):
    """Neither the line that begins a chunk nor the trailer section may grow for ever in memory."""
    endless = {
        "extension": b"1;" + b"x" * (2 << 20),
        "size": b"0" * (2 << 20),
        "trailer": b"0\r\nA: " + b"x" * (2 << 20),
        "trailers": b"0\r\n" + b"A: b\r\n" * 300_000,
    }[what]
    client = await connect(await start_http(mirror))
    status = 0
    async with trio.open_nursery() as nursery:

        async def push():
            with contextlib.suppress(OSError):
                await client.send(CHUNKED + endless)

        nursery.start_soon(push)
        with contextlib.suppress(Ended):
            status = (await client.read_reply()).status
        nursery.cancel_scope.cancel()
    assert status in (0, 400, 413, 431)


@pytest.mark.parametrize("size", [b"10000000000000000", b"ffffffffffffffff", b"7fffffffffffffff"])
async def test_chunk_sizes_beyond_any_integer_are_refused(start_http, connect, size):
    """RFC 9112 section 7.1: a recipient must watch for overflow."""
    client = await connect(await start_http(mirror))
    await client.send(CHUNKED + size + b"\r\nxyz")
    assert (await client.read_reply()).status in (400, 413)


async def test_tiny_chunks_add_up(start_http, connect):
    client = await connect(await start_http(mirror, limits=Limits(body_bytes=5000)))
    reply = await client.ask(CHUNKED + b"1\r\nx\r\n" * 5000 + b"0\r\n\r\n")
    assert reply.body == b"x" * 5000
    assert (await client.ask(CHUNKED + b"1\r\nx\r\n" * 5001 + b"0\r\n\r\n")).status == 413


async def test_trailers_do_not_become_header_fields(start_http, connect):
    """RFC 9110 section 6.5.1: merging them would let them overrule what was decided upon."""

    async def handler(request):
        await request.read()
        return Response(body=str("x-late" in request.headers).encode())

    client = await connect(await start_http(handler))
    assert (await client.ask(CHUNKED + b"1\r\na\r\n0\r\nX-Late: 1\r\n\r\n")).body == b"False"
