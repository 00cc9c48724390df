"""Requests that come before the answers to earlier ones (RFC 9112 section 9.3.2), and heads that come in pieces."""

from __future__ import annotations

import pytest
import trio

from ktrio import Response
from tests.server.harness import GET, get, post, settle


async def say_target(request):
    return Response(body=request.target.encode())


async def test_pipelined_requests_are_answered_in_order(start_http, connect):
    """RFC 9112 section 9.3.2: responses in the order of the requests."""
    client = await connect(await start_http(say_target))
    targets = [f"/{index}" for index in range(200)]
    await client.send(b"".join(get(target) for target in targets))
    assert [(await client.read_reply()).body.decode() for _ in targets] == targets
    assert client.is_open


async def test_pipelined_requests_never_run_at_once(start_http, connect):
    """The second handler starts when the first answer is done: nobody sees effects out of order."""
    running, most = 0, 0

    async def handler(request):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await trio.lowlevel.checkpoint()
        running -= 1
        return Response(body=b"x")

    client = await connect(await start_http(handler))
    await client.send(GET * 10)
    for _ in range(10):
        await client.read_reply()
    assert most == 1


async def test_pipelining_slow_handler_holds_back_the_answers_behind_it(start_http, connect):
    gate = trio.Event()

    async def handler(request):
        if request.target == "/slow":
            await gate.wait()
        return Response(body=request.target.encode())

    client = await connect(await start_http(handler))
    await client.send(get("/slow") + get("/fast"))
    await settle()
    assert client.is_open
    gate.set()
    assert [(await client.read_reply()).body for _ in range(2)] == [b"/slow", b"/fast"]


async def test_bodies_and_bodiless_requests_pipelined_are_told_apart(start_http, connect):
    async def handler(request):
        return Response(body=request.method.encode() + b":" + await request.read())

    client = await connect(await start_http(handler))
    chunked = (
        get("/", "Transfer-Encoding: chunked", method="POST") + b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nTrailer: t\r\n\r\n"
    )
    head = get(method="HEAD")
    await client.send(post(b"GET / HTTP/1.1\r\n\r\n") + chunked + head + post(b"") + GET)
    bodies = [(await client.read_reply(method=method)).body for method in ["POST", "POST", "HEAD", "POST", "GET"]]
    assert bodies == [b"POST:GET / HTTP/1.1\r\n\r\n", b"POST:abcde", b"", b"POST:", b"GET:"]


async def test_requests_behind_one_that_says_close_are_not_answered(start_http, connect):
    """RFC 9112 section 9.6: a server does not process requests after the one with `close`."""
    seen = []

    async def handler(request):
        seen.append(request.target)
        return Response(body=b"x")

    client = await connect(await start_http(handler))
    await client.send(get("/1") + get("/2", "Connection: close") + get("/3"))
    assert [(await client.read_reply()).says_close for _ in range(2)] == [False, True]
    assert await client.read_end() == "fin"
    assert seen == ["/1", "/2"]


async def test_requests_behind_a_refused_one_are_not_answered(start_http, connect):
    """After bytes that are no request nobody knows where the next one begins (RFC 9112 section 11.2)."""
    seen = []

    async def handler(request):
        seen.append(request.target)
        return Response(body=b"x")

    client = await connect(await start_http(handler))
    await client.send(get("/1") + b"GARBAGE\r\n\r\n" + get("/3"))
    assert (await client.read_reply()).status == 200
    refusal = await client.read_reply()
    assert (refusal.status, refusal.says_close) == (400, True)
    assert await client.read_end() == "fin"
    assert seen == ["/1"]


async def test_endless_pipelining_does_not_starve_others(start_http, connect):
    """The loop does not belong to one peer: beside a thousand pipelined requests, a newcomer gets its turn."""
    count = 0

    async def handler(request):
        nonlocal count
        count += 1
        return Response(body=b"%d" % count)

    server = await start_http(handler)
    flood, other = await connect(server), await connect(server)
    total = 1500

    async def drop_answers():
        for _ in range(total):
            await flood.read_reply()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(flood.send, GET * total)
        nursery.start_soon(drop_answers)
        while count < 10:
            await trio.lowlevel.checkpoint()
        place = int((await other.ask()).body)
    assert place < total / 2
    assert count == total + 1


async def test_requests_pipelined_while_a_handler_works_are_read_with_a_ceiling(start_http, connect):
    """No byte count is taken from the peer without a ceiling: reading ahead stops at 64 KiB, and the peer must wait."""
    gate = trio.Event()

    async def handler(request):
        if request.target == "/slow":
            await gate.wait()
        return Response(body=b"x")

    client = await connect(await start_http(handler))
    await client.send(get("/slow"))
    await settle()
    sent = 0

    async def push():
        nonlocal sent
        while True:
            sent += await client.sock.send(GET * 1000)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(push)
        await settle()
        nursery.cancel_scope.cancel()
    # The kernel's own buffers on both sides hold some megabytes; more than that only a server that reads on would take.
    assert sent < 32 << 20
    gate.set()
    assert (await client.read_reply()).body == b"x"


@pytest.mark.parametrize("lead", [b"", b"\r\n"])
async def test_head_that_comes_byte_by_byte_is_read(start_http, connect, lead):
    """RFC 9112 section 2.2: one empty line before the request line is passed over."""
    client = await connect(await start_http(say_target))
    for byte in lead + get("/piecemeal", "A: b"):
        await client.send(bytes([byte]))
        await settle()
    assert (await client.read_reply()).body == b"/piecemeal"
    for byte in b"\r\n" + get("/again"):
        await client.send(bytes([byte]))
        await settle()
    assert (await client.read_reply()).body == b"/again"


@pytest.mark.slow
async def test_head_split_anywhere_reads_the_same(start_http, connect):
    client = await connect(await start_http(say_target))
    both = get("/a", "X: 1") + get("/b")
    for cut in range(1, len(both), 2):
        await client.send(both[:cut])
        await settle()
        await client.send(both[cut:])
        assert [(await client.read_reply()).body for _ in range(2)] == [b"/a", b"/b"], cut
