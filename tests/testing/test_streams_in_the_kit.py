"""The testing kit and plain streams: `check_protocol` passes good handlers, playbooks show half-closed ones."""

from __future__ import annotations

import pytest
import trio

from ktrio import Response, Timeouts
from ktrio.protocols.stream import StreamProtocol
from ktrio.testing import FIN, NOTHING, READ_ON, RESET, STALL, Playbook, check_protocol, ended, response

QUICK = Timeouts(idle=8)
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def echo(stream):
    while data := await stream.receive_unless_draining():
        await stream.send_all(data)


async def echo_in_a_nursery(stream):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(echo, stream)


async def echo_with_last_words(stream):
    try:
        await echo(stream)
    except trio.Cancelled:
        with trio.move_on_after(0.5, shield=True):
            await stream.send_all(b"bye")
        raise


async def echo_with_an_eof(stream):
    await echo(stream)
    await stream.send_eof()


HANDLERS = [echo, echo_in_a_nursery, echo_with_an_eof]


@pytest.mark.parametrize("handler", HANDLERS)
async def test_stream_handlers_pass(handler):
    def make(connection):
        return StreamProtocol(connection, handler)

    await check_protocol(make, b"hello", flood=b"x" * 500_000, timeouts=QUICK, idles=False)


async def test_stream_handler_that_does_not_answer_is_caught():
    """That it passes says something."""

    async def deaf(stream):
        await stream.receive_some()
        await trio.sleep_forever()

    def make(connection):
        return StreamProtocol(connection, deaf)

    with pytest.raises(AssertionError):
        await check_protocol(make, b"hello", timeouts=QUICK, idles=False)


async def test_play_of_last_words():
    async with Playbook(stream=echo_with_last_words, timeouts=QUICK) as (peer, server, clock):
        peer >> b"hello"
        server << b"hello"
        clock += 7.9
        server << NOTHING
        clock += 0.5
        server << b"bye"
        server << FIN
        server << ended("idle-timeout")


async def test_play_of_a_half_closed_peer_of_a_silent_stream():
    """The stream is the handler's: it may think for as long as it likes, and is heard."""

    async def think(stream):
        async for _piece in stream:
            pass
        await trio.sleep(500)
        await stream.send_all(b"the answer")

    async with Playbook(stream=think) as (peer, server, clock):
        peer >> b"question"
        peer >> FIN
        clock += 499
        server << NOTHING
        clock += 1
        server << b"the answer"
        server << FIN
        server << ended("handler-returned")


async def test_play_of_a_half_closed_peer_of_a_silent_answer():
    """Over HTTP nobody waits for ever: the peer may as well be gone."""

    async def word(send):
        await send(b"word")
        await trio.sleep_forever()

    async def handler(request):
        return Response(body=word)

    async with Playbook(handler, timeouts=Timeouts(write=12)) as (peer, server, clock):
        peer >> GET
        peer >> FIN
        server << b"HTTP/1.1 200 OK\r\nDate: any\r\nServer: ktrio\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nword\r\n"
        clock += 11.9
        server << NOTHING
        clock += 0.5
        server << RESET
        server << ended("half-closed-timeout")


async def test_play_of_a_peer_that_stalls_before_the_last_bytes():
    """They are in the server's buffer, and the handler has long returned: they are waited for."""

    async def speak(stream):
        await stream.receive_some()
        await stream.send_all(b"x" * 100_000)

    async with Playbook(stream=speak, timeouts=Timeouts(write=12)) as (peer, server, clock):
        peer >> STALL
        peer >> b"go"
        clock += 11
        peer >> READ_ON
        server << b"x" * 100_000
        server << FIN
        server << ended("handler-returned")
    async with Playbook(stream=speak, timeouts=Timeouts(write=12)) as (peer, server, clock):
        peer >> STALL
        peer >> b"go"
        clock += 18  # what it took at once may be seen as late as the server looks: after 5 s
        server << ended("write-timeout")


async def test_play_of_a_peer_that_stalls_before_the_last_response():
    async def handler(request):
        return Response(body=b"x" * 100_000)

    async with Playbook(handler, timeouts=Timeouts(write=12)) as (peer, server, clock):
        peer >> STALL
        peer >> GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        clock += 11
        peer >> READ_ON
        server << response(200, b"x" * 100_000)
        server << FIN
        server << ended("answered")
