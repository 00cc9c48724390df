"""Whoever waits for a slow reader, its progress is seen: in whatever state the connection is, and in whatever task."""

from __future__ import annotations

from functools import partial

import pytest
import trio

from ktrio import Response, Timeouts
from tests.server.harness import Ended, advance, get, trickle

MIB = 1 << 20
TIMES = Timeouts(write=2.5, idle=300)
UPLOAD = get("/", "Content-Length: 1000000", method="POST")


async def send_for_ever(stream):
    while True:
        await stream.send_all(bytes(100_000))


async def send_in_a_task(stream):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send_for_ever, stream)
        nursery.start_soon(trio.sleep_forever)


async def send_while_another_task_receives(stream):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send_for_ever, stream)
        while await stream.receive_some():
            pass


async def send_what_can_be_sent(stream):
    while True:
        await stream.wait_send_all_might_not_block()
        await stream.send_all(bytes(4096))


STREAM_HANDLERS = [send_for_ever, send_in_a_task, send_while_another_task_receives, send_what_can_be_sent]


async def read_body(request):
    async for _piece in request.body:
        pass


async def write_and_read(request, send):
    """The body's state is the connection's as well as the response's, in turns."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_body, request)
        while True:
            await send(bytes(100_000))


async def both_ways(request):
    return Response(body=partial(write_and_read, request))


async def read_steadily(server, client, clock, *, seconds: int, say: bytes = b""):
    """Something every second; what it sends meanwhile keeps a body that is read from timing out."""
    for _ in range(seconds):
        await client.read(20_000)
        if say:
            await client.send(say)
        await advance(clock, 1)
        assert server.statistics().open == 1, server.statistics().reasons


async def see_the_reset(client):
    with pytest.raises(Ended) as caught:
        await client.read_to_end()
    assert caught.value.how == "reset"


@pytest.mark.parametrize("handler", STREAM_HANDLERS)
async def test_steady_reader_of_a_stream_handler_outlives_the_write_timeout(start_stream, connect, mock_clock, handler):
    server = await start_stream(handler, timeouts=TIMES)
    client = await connect(server, receive_buffer=4096)
    await read_steadily(server, client, mock_clock, seconds=15)


@pytest.mark.parametrize("handler", STREAM_HANDLERS)
async def test_stalled_reader_of_a_stream_handler_does_not(start_stream, connect, mock_clock, handler, caplog):
    server = await start_stream(handler, timeouts=TIMES)
    client = await connect(server, receive_buffer=4096)
    await read_steadily(server, client, mock_clock, seconds=3)
    await trickle(mock_clock, 6, step=0.5)
    assert server.statistics().reasons == {"write-timeout": 1}
    assert (server.statistics().errors, caplog.records) == (0, [])
    await see_the_reset(client)


async def test_steady_reader_of_an_answer_that_reads_its_request_meanwhile_outlives_the_write_timeout(
    start_http, connect, mock_clock
):
    server = await start_http(both_ways, timeouts=TIMES)
    client = await connect(server, receive_buffer=4096)
    await client.send(UPLOAD)
    await client.read_head()
    await read_steadily(server, client, mock_clock, seconds=15, say=b"x" * 1000)


async def test_stalled_reader_of_such_an_answer_does_not(start_http, connect, mock_clock):
    """Though it goes on sending."""
    server = await start_http(both_ways, timeouts=TIMES)
    client = await connect(server, receive_buffer=4096)
    await client.send(UPLOAD)
    await client.read_head()
    await read_steadily(server, client, mock_clock, seconds=3, say=b"x" * 1000)
    for _ in range(6):
        if server.statistics().open:
            await client.send(b"x" * 1000)
        await advance(mock_clock, 1)
    assert server.statistics().reasons == {"write-timeout": 1}
    await see_the_reset(client)


async def test_steady_reader_of_an_echo_outlives_the_write_timeout_and_a_stalled_one_does_not(
    start_echo, connect, servers, mock_clock
):
    server = await start_echo(timeouts=TIMES)
    client = await connect(server, receive_buffer=4096)

    async def pour():
        try:
            await client.send(bytes(32 * MIB))
        except OSError:  # it is reset in the end
            return

    servers.start_soon(pour)
    await read_steadily(server, client, mock_clock, seconds=15)
    await trickle(mock_clock, 6, step=0.5)
    assert server.statistics().reasons == {"write-timeout": 1}


async def test_roster_looks_at_those_that_wait_to_write_and_at_nobody_else(start_stream, connect, mock_clock):
    """A handler that does not wait for its peer to take something is none of them, whatever it did before."""

    async def handler(stream):
        while word := await stream.receive_some(1):
            await stream.send_all(bytes(32 * MIB) if word == b"m" else b"x")

    server = await start_stream(handler)
    assert "writing=0" in repr(server._roster)
    client = await connect(server, receive_buffer=4096)
    await client.send(b"m")
    await advance(mock_clock, 0)
    assert "writing=1" in repr(server._roster)
    for _ in range(32):
        await client.read(MIB)
    await advance(mock_clock, 0)
    assert "writing=0" in repr(server._roster)
    await client.send(b"m")
    await advance(mock_clock, 0)
    assert "writing=1" in repr(server._roster)
    client.reset()
    await advance(mock_clock, 0)
    assert "writing=0" in repr(server._roster)
