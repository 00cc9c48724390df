"""How a streamed answer may end, and that its body is then closed: once, in its task, whatever ended it."""

from __future__ import annotations

import pytest
import trio

from ktrio import Response
from tests.protocols.bodies import Stream, as_iterable, as_writer, both_kinds
from tests.server.harness import GET, LATE, Ended, advance, settle, time_passing


@both_kinds
@pytest.mark.parametrize("how", ["grace", "second-signal"])
async def test_stream_that_is_cut_is_closed_in_its_task(start_http, connect, mock_clock, kind, how):
    tasks = []

    async def make():
        try:
            tasks.append(trio.lowlevel.current_task())
            yield b"first"
            await trio.sleep_forever()
        finally:
            tasks.append(trio.lowlevel.current_task())

    async def handler(request):
        return Response(body=kind(make()))

    server = await start_http(handler)
    client = await connect(server)
    await client.send(GET)
    await client.read_through(b"first\r\n")
    async with time_passing(mock_clock):
        if how == "grace":
            server.begin_shutdown(grace=1)
        else:
            server.force_shutdown(how)
        with pytest.raises(Ended) as seen:
            await client.read(100)
        await server.shutdown()
    assert seen.value.data == b""
    assert len(tasks) == 2
    assert tasks[0] is tasks[1]
    assert (server.statistics().cut, server.statistics().reasons) == (1, {how: 1})


@pytest.mark.parametrize("how", ["grace", "server", "gone", "end"])
async def test_iterable_is_closed_once_however_it_ends(start_http, connect, mock_clock, how):
    stream = Stream(b"first", gate=trio.Event())

    async def handler(request):
        return Response(body=stream)

    async with trio.open_nursery() as nursery:
        server = await start_http(handler, within=nursery)
        client = await connect(server)
        await client.send(GET)
        await client.read_through(b"first\r\n")
        if how == "grace":
            server.begin_shutdown(grace=1)
            await advance(mock_clock, 1)
        elif how == "gone":
            client.reset()
        elif how == "end":
            stream.gate.set()
            assert await client.read(5) == b"0\r\n\r\n"
        if how != "server":
            await settle()
            assert stream.closed == 1
        nursery.cancel_scope.cancel()
    assert (stream.closed, len(stream.tasks)) == (1, 1)


@both_kinds
async def test_body_of_a_peer_that_is_gone_when_it_returns_is_never_sent_and_still_closed(start_http, connect, kind):
    """The handler was shielded; from its return on the protocol owns the body."""
    gate, returned = trio.Event(), trio.Event()
    stream = Stream(*[b"piece"] * 10_000)

    async def handler(request):
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 60):
            await gate.wait()
        returned.set()
        return Response(body=stream if kind is as_iterable else as_writer(stream))

    server = await start_http(handler)
    client = await connect(server)
    await client.send(GET)
    await settle()
    client.reset()
    await settle()
    gate.set()
    await returned.wait()
    await settle()
    assert len(stream.left) > 9_000
    assert stream.closed == 1 or kind is as_writer
    assert (server.statistics().open, server.statistics().errors) == (0, 0)


async def test_stalled_peer_of_a_stream_never_holds_the_shutdown(start_http, connect, mock_clock):
    async def write(send):
        while True:
            await send(b"x" * 100_000)

    async def handler(request):
        return Response(body=write)

    server = await start_http(handler)
    client = await connect(server, receive_buffer=4096)
    await client.send(GET)
    await settle()
    server.begin_shutdown(grace=1)
    await advance(mock_clock, 1)
    await advance(mock_clock, 1 + LATE)
    assert (server.statistics().open, server.statistics().cut) == (0, 1)
    with pytest.raises(Ended):
        await client.read_reply()
