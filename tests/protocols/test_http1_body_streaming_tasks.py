"""`request.body` and Trio: cancelled waits lose nothing, one task reads at a time, a wait costs no slot."""

from __future__ import annotations

import pytest
import trio

from ktrio import QueueOptions, Response
from tests.protocols.bodies import chunked, sized
from tests.server.harness import post, settle

KIB = 1024

both_framings = pytest.mark.parametrize("make", [post, chunked], ids=["sized", "chunked"])


@both_framings
async def test_cancelled_wait_has_taken_nothing(start_http, connect, mock_clock, make):
    """Again and again, with the wire cut anywhere: in a chunk, in its size, in a line end."""
    got, given_up = [], 0

    async def handler(request):
        nonlocal given_up
        while True:
            with trio.move_on_after(0.1) as scope:
                async for piece in request.body:
                    got.append(piece)  # noqa: PERF401 - what had come must be kept
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


async def test_read_after_a_loop_that_was_cancelled_before_its_first_piece_has_it_all(start_http, connect, mock_clock):
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


async def test_loop_after_a_cancelled_read_has_it_all_in_pieces(start_http, connect, mock_clock):
    """What the read had taken is no longer than 64 KiB a piece either."""
    got = []

    async def handler(request):
        with trio.move_on_after(1) as scope:
            await request.read()
        assert scope.cancelled_caught
        got.extend([piece async for piece in request.body])
        return Response()

    client = await connect(await start_http(handler))
    body = bytes(index % 251 for index in range(300 * KIB))
    await client.send(sized(len(body)) + body[:-1])
    await settle()
    mock_clock.jump(1)
    await settle()
    await client.send(body[-1:])
    assert (await client.read_reply()).status == 200
    assert b"".join(got) == body
    assert all(0 < len(piece) <= 64 * KIB for piece in got)


async def test_two_tasks_at_once_are_an_error_of_the_second(start_http, connect):
    """`trio.BusyResourceError`; the first does not notice."""
    refused = trio.Event()

    async def handler(request):
        got = []

        async def take():
            got.extend([piece async for piece in request.body])

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


async def test_slot_is_given_back_while_the_handler_waits_for_the_body(start_http, connect):
    """`max_active` limits handlers at work, never slow peers."""

    async def handler(request):
        return Response(body=b"".join([piece async for piece in request.body]))

    server = await start_http(handler, queue=QueueOptions(max_active=1, capacity=1))
    slow = [await connect(server) for _ in range(5)]
    for client in slow:
        await client.send(sized(6), b"abc")
        await settle()
    other = await connect(server)
    assert (await other.ask(post(b"now"))).body == b"now"
    for client in slow:
        await client.send(b"def")
        assert (await client.read_reply()).status == 200
