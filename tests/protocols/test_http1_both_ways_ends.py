"""Streams, one way or both, whose server goes down or whose client leaves."""

from __future__ import annotations

import pytest
import trio

from ktrio import Response
from tests.protocols.bodies import Stream, both_kinds, echo, read_chunk, sized
from tests.server.harness import GET, advance, settle


@both_kinds
async def test_stream_that_ends_when_the_server_drains_is_no_cut(start_http, connect, kind):
    """`request.draining` is for those who would stream for ever."""

    async def handler(request):
        async def make():
            yield b"data: 1\n\n"
            await request.draining.wait()
            yield b"data: bye\n\n"

        return Response(body=kind(make()))

    server = await start_http(handler)
    client = await connect(server)
    await client.send(GET)
    await client.read_head()
    assert await read_chunk(client) == b"data: 1\n\n"
    server.begin_shutdown()
    assert await read_chunk(client) == b"data: bye\n\n"
    assert await client.read(5) == b"0\r\n\r\n"
    assert await client.read_end() == "fin"
    await settle()
    statistics = server.statistics()
    assert (statistics.open, statistics.cut, statistics.answered) == (0, 0, 1)


@both_kinds
async def test_echo_goes_on_while_the_server_drains(start_http, connect, kind):
    """A request in progress finishes; its body is part of it."""
    server = await start_http(echo(kind))
    client = await connect(server)
    await client.send(sized(6) + b"abc")
    assert (await client.read_head()).status == 200
    assert await read_chunk(client) == b"abc"
    server.begin_shutdown()
    await settle()
    await client.send(b"def")
    assert await read_chunk(client) == b"def"
    assert await client.read(5) == b"0\r\n\r\n"
    assert await client.read_end() == "fin"
    await settle()
    assert (server.statistics().open, server.statistics().cut) == (0, 0)


# -- Peers that leave


@both_kinds
async def test_body_whose_client_is_gone_is_cancelled_and_told_why(start_http, connect, kind):
    ended = []

    async def handler(request):
        async def make():
            try:
                yield b"first"
                await trio.sleep_forever()
            except trio.Cancelled as error:
                ended.append(error)
                raise

        return Response(body=kind(make()))

    server = await start_http(handler)
    client = await connect(server)
    await client.send(GET)
    await client.read_through(b"first\r\n")
    client.reset()
    await settle()
    (error,) = ended
    assert error.reason == "client-gone"
    assert (server.statistics().open, server.statistics().reasons) == (0, {"client-gone": 1})


@both_kinds
async def test_echo_whose_client_is_gone_within_its_body_ends_quietly(start_http, connect, kind, caplog):
    server = await start_http(echo(kind))
    client = await connect(server)
    await client.send(sized(100) + b"abc")
    await client.read_through(b"abc\r\n")
    client.reset()
    await settle()
    statistics = server.statistics()
    assert (statistics.open, statistics.errors, statistics.reasons) == (0, 0, {"client-gone": 1})
    assert caplog.records == []


@pytest.mark.parametrize("where", ["handler", "body"])
async def test_shielded_commit_completes_though_the_client_goes(start_http, connect, where, mock_clock):
    """A shield with a deadline is a handler's right; what comes behind it is cancelled."""
    committed, behind = [], []

    async def commit():
        with trio.move_on_after(5, shield=True):
            await trio.sleep(3)
            committed.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        behind.append(True)

    async def handler(request):
        async def make():
            yield b"first"
            await commit()

        if where == "handler":
            await commit()
        return Response(body=make())

    server = await start_http(handler)
    client = await connect(server)
    await client.send(GET)
    await settle()
    begun = trio.current_time()
    client.reset()
    await advance(mock_clock, 2)
    assert committed == []
    await advance(mock_clock, 1)
    assert [round(when - begun) for when in committed] == [3]
    assert behind == []
    assert (server.statistics().open, server.statistics().reasons) == (0, {"client-gone": 1})


async def test_stream_that_reads_the_request_is_closed_once_when_its_client_goes(start_http, connect):
    stream = Stream(b"first", gate=trio.Event())

    async def handler(request):
        await anext(aiter(request.body))
        return Response(body=stream)

    client = await connect(await start_http(handler))
    await client.send(sized(100) + b"abc")
    await client.read_through(b"first\r\n")
    client.reset()
    await settle()
    assert (stream.closed, len(stream.tasks)) == (1, 1)
