"""A client that shuts down its side gets the whole of an answer that has begun, whatever its body waits for."""

from __future__ import annotations

import pytest
import trio

from ktrio import Response, Timeouts
from ktrio.testing import FIN, NOTHING, RESET, Playbook, ended, serve_in_memory
from tests.server.harness import GET, advance, get, settle

WHOLE = b"5\r\nfirst\r\n6\r\nsecond\r\n0\r\n\r\n"
LAST = get("/", "Connection: close")


async def send_wait_send(send):
    await send(b"first")
    await trio.sleep(5)
    await send(b"second")


async def send_yield_wait_send(send):
    await trio.lowlevel.checkpoint()
    await send(b"first")
    await trio.lowlevel.checkpoint()
    await trio.sleep(5)
    await send(b"second")


async def send_in_tasks(send):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send, b"first")
    await trio.sleep(5)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send, b"second")


async def pieces():
    yield b"first"
    await trio.sleep(5)
    yield b"second"


BODIES = [send_wait_send, send_yield_wait_send, send_in_tasks, pieces]
every_body = pytest.mark.parametrize("body", BODIES)
every_moment = pytest.mark.parametrize("moment", ["with the request", "behind the first piece"])


def answer_with(body):
    async def handler(request):
        return Response(body=body() if body is pieces else body)

    return handler


def answer_late_with(body):
    """The peer is watched before there is an answer at all."""

    async def handler(request):
        await trio.sleep(1)
        return Response(body=body() if body is pieces else body)

    return handler


@every_moment
@every_body
async def test_half_closed_client_of_a_socket_gets_the_whole_answer(start_http, connect, mock_clock, body, moment):
    server = await start_http(answer_with(body))
    client = await connect(server)
    await client.send(LAST)
    if moment == "with the request":
        client.finish()
    await settle()
    if moment != "with the request":
        client.finish()
    for _ in range(10):
        await advance(mock_clock, 0.5)
    received = await client.read_to_end()
    assert received.endswith(WHOLE)
    assert server.statistics().reasons == {"answered": 1}


@every_moment
@every_body
async def test_half_closed_client_of_a_carried_stream_gets_the_whole_answer(body, moment):
    async with serve_in_memory(answer_with(body)) as memory:
        peer = memory.connect()
        peer.send_nowait(LAST)
        if moment == "with the request":
            peer.finish()
        await memory.settle()
        peer.finish()
        await memory.advance(5)
        assert peer.receive_nowait().endswith(WHOLE)
        assert memory.server.statistics().reasons == {"answered": 1}


@every_body
async def test_answer_that_begins_late_but_in_time_comes_whole(start_http, connect, mock_clock, body):
    server = await start_http(answer_late_with(body))
    client = await connect(server)
    await client.send(LAST)
    client.finish()
    for _ in range(13):
        await advance(mock_clock, 0.5)
    assert (await client.read_to_end()).endswith(WHOLE)
    assert server.statistics().reasons == {"answered": 1}


@every_body
async def test_second_answer_of_a_connection_is_judged_by_itself(start_http, connect, mock_clock, body):
    """That the one before it had begun says nothing of this one."""

    async def handler(request):
        if request.target == "/slow":
            await trio.sleep(10)
        return Response(body=body() if body is pieces else body)

    server = await start_http(handler)
    client = await connect(server)
    await client.send(GET)
    for _ in range(12):
        await advance(mock_clock, 0.5)
    assert (await client.read_reply()).body == b"firstsecond"
    await client.send(get("/slow"))
    client.finish()
    await advance(mock_clock, 1.9)
    assert server.statistics().open == 1
    await advance(mock_clock, 0.5)
    assert server.statistics().reasons == {"half-closed-timeout": 1}


# -- As playbooks


async def say_one_word(send):
    await send(b"word")
    await trio.sleep_forever()


async def test_streamed_answer_that_is_silent_behind_a_half_close_is_given_up_after_the_write_time():
    async with Playbook(answer_with(say_one_word), timeouts=Timeouts(write=30)) as (peer, server, clock):
        peer >> GET
        peer >> FIN
        server << (b"HTTP/1.1 200 OK\r\nDate: any\r\nServer: ktrio\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nword\r\n")
        clock += 29.9
        server << NOTHING
        clock += 0.5
        server << RESET
        server << ended("half-closed-timeout")


async def test_stream_handler_judges_a_half_closed_peer_itself():
    """Silence of its own costs it nothing: there is no answer that was begun or not."""

    async def handler(stream):
        while await stream.receive_some():
            pass
        await trio.sleep(1000)
        await stream.send_all(b"late")

    async with Playbook(stream=handler) as (peer, server, clock):
        peer >> b"question"
        peer >> FIN
        clock += 999
        server << NOTHING
        clock += 1
        server << b"late"
        server << FIN
        server << ended("handler-returned")


async def test_stream_that_closes_its_own_half_goes_on_hearing():
    async def handler(stream):
        await stream.send_all(b"that is all;")
        await stream.send_eof()
        assert b"".join([piece async for piece in stream]) == b"and this is mine"

    async with Playbook(stream=handler) as (peer, server, clock):
        server << b"that is all;"
        server << FIN
        clock += 100
        peer >> b"and this "
        clock += 100
        peer >> b"is mine"
        peer >> FIN
        server << ended("handler-returned")
