"""What a cancelled stream handler says in a shielded `finally` is heard; a torso does not pass for the whole."""

from __future__ import annotations

from functools import partial

import pytest
import trio

from ktrio import ServerOptions, Timeouts
from ktrio.testing import serve_in_memory
from tests.server.harness import LATE, Ended, advance, settle, trickle

MIB = 1 << 20
BYE = b"bye: you were silent"
TIMES = Timeouts(idle=5, write=30)
GRACE = ServerOptions(grace=2)


async def say_bye(stream):
    with trio.move_on_after(0.5, shield=True):
        await stream.send_all(BYE)


async def polite(stream):
    """Greets, listens, and says goodbye whatever happens."""
    try:
        await stream.send_all(b"hello;")
        while await stream.receive_some():
            pass
    finally:
        await say_bye(stream)


async def polite_in_a_nursery(stream):
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.receive_some)
            await stream.send_all(b"hello;")
            await trio.sleep_forever()
    finally:
        await say_bye(stream)


async def polite_in_a_task(stream):
    """Its goodbye is said by the very task that was cancelled, and the handler is another."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(polite, stream)


async def polite_in_two_pieces(stream):
    try:
        await stream.send_all(b"hello;")
        await stream.receive_some()
    finally:
        with trio.move_on_after(0.5, shield=True):
            await stream.send_all(BYE[:3])
            await trio.sleep(0.1)
            await stream.send_all(BYE[3:])


async def polite_with_an_eof(stream):
    try:
        await polite(stream)
    finally:
        with trio.move_on_after(0.5, shield=True):
            await stream.send_eof()


POLITE = [polite, polite_in_a_nursery, polite_in_a_task, polite_in_two_pieces, polite_with_an_eof]
every_handler = pytest.mark.parametrize("handler", POLITE)
every_end = pytest.mark.parametrize("end", ["idle-timeout", "grace", "second-signal"])


async def bring_about(end, server, pass_time):
    match end:
        case "idle-timeout":
            await pass_time(5 + LATE)
        case "grace":
            server.begin_shutdown()
            await pass_time(2)
        case "second-signal":
            server.force_shutdown("second-signal")
    await pass_time(0.2)  # what a goodbye may take


@every_end
@every_handler
async def test_last_words_are_heard_on_sockets(start_stream, connect, mock_clock, handler, end, caplog):
    server = await start_stream(handler, timeouts=TIMES, options=GRACE)
    client = await connect(server)
    await settle()
    await bring_about(end, server, partial(advance, mock_clock))
    assert await client.read_to_end() == b"hello;" + BYE
    assert server.statistics().reasons == {end: 1}
    assert server.statistics().errors == 0
    assert caplog.records == []


@every_end
@every_handler
async def test_last_words_are_heard_on_carried_streams(handler, end, caplog):
    async with serve_in_memory(stream=handler, timeouts=TIMES, options=GRACE) as memory:
        peer = memory.connect()
        await memory.settle()
        await bring_about(end, memory.server, memory.advance)
        assert await peer.receive_until_blocked() == b"hello;" + BYE
        assert peer.ended == "fin"
        assert memory.server.statistics().reasons == {end: 1}
    assert caplog.records == []


async def test_last_words_to_a_peer_that_has_sent_something_unread_are_heard(start_stream, connect, mock_clock):
    """Nobody has read it, and it must not turn the end into a reset."""

    async def handler(stream):
        try:
            await trio.sleep_forever()
        finally:
            await say_bye(stream)

    server = await start_stream(handler, options=GRACE)
    client = await connect(server)
    await client.send(b"unread")
    await settle()
    server.begin_shutdown()
    await advance(mock_clock, 2)
    assert await client.read(len(BYE)) == BYE


@every_end
async def test_without_last_words_a_cancelled_handler_ends_in_a_reset(start_stream, connect, mock_clock, end):
    """It had begun to say something, and whether that was all its peer cannot know."""

    async def rude(stream):
        await stream.send_all(b"hello;")
        await stream.receive_some()

    server = await start_stream(rude, timeouts=TIMES, options=GRACE)
    client = await connect(server)
    await settle()
    await bring_about(end, server, partial(advance, mock_clock))
    await see_the_reset(client)


async def see_the_reset(client):
    with pytest.raises(Ended) as caught:
        await client.read_to_end()
    assert caught.value.how == "reset"


async def flood(stream):
    await stream.send_all(bytes(64 * MIB))


async def test_handler_that_is_cut_in_the_middle_of_a_send_ends_in_a_reset(start_stream, connect, mock_clock):
    server = await start_stream(flood, options=GRACE)
    client = await connect(server, receive_buffer=4096)
    await settle()
    server.begin_shutdown()
    await advance(mock_clock, 2)
    await see_the_reset(client)
    assert server.statistics().reasons == {"grace": 1}


@pytest.mark.parametrize("reason", ["grace", "write-timeout"])
async def test_last_words_behind_half_a_message_do_not_make_it_whole(start_stream, connect, mock_clock, reason):
    """Its peer, which reads on just then, would take them for the rest of the message."""

    async def handler(stream):
        try:
            await flood(stream)
        finally:
            reading_on.set()
            await say_bye(stream)

    reading_on = trio.Event()
    server = await start_stream(handler, options=GRACE)
    client = await connect(server, receive_buffer=4096)
    await settle()

    async def read_on():
        await reading_on.wait()
        await see_the_reset(client)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_on)
        if reason == "grace":
            server.begin_shutdown()
            await advance(mock_clock, 2)
        else:
            await trickle(mock_clock, 45, step=0.5)
        await advance(mock_clock, 1)
    assert server.statistics().reasons == {reason: 1}


async def test_handler_that_raises_ends_in_a_reset(start_stream, connect, caplog):
    async def handler(stream):
        await stream.send_all(b"half of it")
        raise ValueError("a bug")

    server = await start_stream(handler)
    client = await connect(server)
    await see_the_reset(client)
    await settle()
    assert server.statistics().reasons == {"error": 1}
    assert len(caplog.records) == 1


async def test_handler_that_raises_and_says_goodbye_ends_in_a_reset(start_stream, connect, caplog):
    """Last words are for those who were cancelled: an error left something unsaid."""

    async def handler(stream):
        try:
            raise ValueError("a bug")
        finally:
            await say_bye(stream)

    server = await start_stream(handler)
    client = await connect(server)
    await see_the_reset(client)
    assert server.statistics().reasons == {"error": 1}


async def test_handler_that_is_cancelled_and_then_raises_is_heard_by_the_log(start_stream, connect, mock_clock, caplog):
    async def handler(stream):
        try:
            await stream.receive_some()
        except trio.Cancelled:
            await say_bye(stream)
            raise ValueError("a bug")  # noqa: B904 - instead of the cancellation

    server = await start_stream(handler, timeouts=TIMES)
    client = await connect(server)
    await settle()
    await advance(mock_clock, 5 + LATE)
    await see_the_reset(client)
    assert len(caplog.records) == 1
    assert server.statistics().errors == 1
