"""Peers of stream handlers that fall silent or take nothing: their time is bounded, the handler's own is not."""

from __future__ import annotations

import pytest
import trio

from ktrio import Timeouts
from tests.protocols.stream_handlers import (
    MIB,
    Watching,
    nothing_wrong,
    receive_for_ever,
    receive_unless_draining_for_ever,
    send_for_ever,
)
from tests.server.harness import LATE, Ended, advance, trickle

# -- Silence ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("receive", [receive_for_ever, receive_unless_draining_for_ever])
async def test_peer_that_is_silent_for_the_idle_time_is_given_up(start_stream, connect, mock_clock, receive, caplog):
    """300 s by default, from its last byte."""
    handler = Watching(receive)
    server = await start_stream(handler)
    client = await connect(server)
    await advance(mock_clock, 200)
    await client.send(b"x")
    await advance(mock_clock, 299)
    assert handler.left == []
    await advance(mock_clock, 1 + LATE)
    assert handler.left == ["Cancelled"]
    assert await client.read_end() in ("fin", "reset")
    assert server.statistics().reasons == {"idle-timeout": 1}
    assert nothing_wrong(server)
    assert caplog.records == []


async def test_idle_timeout_is_a_setting(start_stream, connect, mock_clock):
    handler = Watching(receive_for_ever)
    await connect(await start_stream(handler, timeouts=Timeouts(idle=7)))
    await advance(mock_clock, 6.9)
    assert handler.left == []
    await advance(mock_clock, 0.1 + LATE)
    assert handler.left == ["Cancelled"]


async def test_time_that_the_handler_takes_is_not_the_peers(start_stream, connect, mock_clock):
    async def think(stream):
        for _ in range(3):
            await trio.sleep(1000)
            await stream.send_all(await stream.receive_some())

    server = await start_stream(think)
    client = await connect(server)
    for _ in range(3):
        await client.send(b"x")
        await trickle(mock_clock, 1000, step=100)
        assert await client.read(1) == b"x"
    assert await client.read_end() == "fin"


async def test_handler_may_bound_its_waits_itself(start_stream, connect, mock_clock):
    async def ask_twice(stream):
        with trio.move_on_after(2):
            await stream.receive_some()
        await stream.send_all(b"well?")
        assert await stream.receive_some() == b"here"
        await stream.send_all(b"good")

    client = await connect(await start_stream(ask_twice))
    await advance(mock_clock, 2)
    assert await client.read(5) == b"well?"
    await client.send(b"here")
    assert await client.read_to_end() == b"good"


async def test_idle_deadline_ends_with_the_wait_that_the_handler_gave_up(start_stream, connect, mock_clock):
    handled = []

    async def give_up(stream):
        with trio.move_on_after(2):
            await stream.receive_some()
        await trio.sleep(1000)
        handled.append(True)

    await connect(await start_stream(give_up))
    await trickle(mock_clock, 1010, step=10)
    assert handled == [True]


async def test_child_that_waits_for_a_silent_peer_takes_its_handler_with_it(start_stream, connect, mock_clock):
    async def handler(stream):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.receive_some)
            await trio.sleep_forever()

    server = await start_stream(handler)
    await connect(server)
    await trickle(mock_clock, 301, step=50.25)
    assert server.statistics().reasons == {"idle-timeout": 1}
    assert nothing_wrong(server)


# -- Taking nothing ---------------------------------------------------------------------------------------------------


async def test_peer_that_takes_nothing_for_the_write_time_is_reset(start_stream, connect, mock_clock, caplog):
    handler = Watching(send_for_ever)
    server = await start_stream(handler)
    client = await connect(server, receive_buffer=4096)
    await trickle(mock_clock, 29, step=0.5)
    assert handler.left == []
    await trickle(mock_clock, 15, step=0.5)  # what its buffers took meanwhile was progress
    assert handler.left == ["Cancelled"]
    with pytest.raises(Ended) as caught:
        await client.read_to_end()
    assert caught.value.how == "reset"
    assert server.statistics().reasons == {"write-timeout": 1}
    assert nothing_wrong(server)
    assert caplog.records == []


async def test_peer_that_takes_a_little_now_and_then_is_waited_for(start_stream, connect, mock_clock):
    handler = Watching(send_for_ever)
    server = await start_stream(handler)
    client = await connect(server)
    for _ in range(10):
        await trickle(mock_clock, 20, step=2)
        await client.read(2 * MIB)
    assert handler.left == []
    assert server.statistics().open == 1


async def test_write_timeout_is_a_setting(start_stream, connect, mock_clock):
    handler = Watching(send_for_ever)
    await connect(await start_stream(handler, timeouts=Timeouts(write=3)), receive_buffer=4096)
    await trickle(mock_clock, 2.75, step=0.25)
    assert handler.left == []
    await trickle(mock_clock, 1, step=0.25)
    assert handler.left == ["Cancelled"]
