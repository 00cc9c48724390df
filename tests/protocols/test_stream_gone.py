"""Peers of stream handlers that shut down their side, or are gone: the handler ends, and it is no error."""

from __future__ import annotations

import pytest
import trio
from trio.testing import memory_stream_pair

from tests.protocols.stream_handlers import (
    MIB,
    Watching,
    nothing_wrong,
    receive_for_ever,
    receive_unless_draining_for_ever,
    send_for_ever,
    sleep_for_ever,
)
from tests.server.harness import settle, time_passing, trickle

# -- Half a close -----------------------------------------------------------------------------------------------------


async def test_peer_that_has_shut_down_its_side_is_waited_for(start_stream, connect, mock_clock):
    """However long the answer takes: a handler of streams says itself what a FIN means."""

    async def count(stream):
        total = 0
        async for piece in stream:
            total += len(piece)
        await trio.sleep(3600)
        await stream.send_all(b"%d" % total)

    client = await connect(await start_stream(count))
    await client.send(b"x" * 1000)
    client.finish()
    await trickle(mock_clock, 3600, step=60)
    assert await client.read_to_end() == b"1000"


@pytest.mark.parametrize("read", [False, True], ids=["unread", "read"])
async def test_peer_that_is_gone_after_its_fin_cancels_the_handler(start_stream, connect, read):
    async def handler(stream):
        if read:
            assert await stream.receive_some() == b""
        await trio.sleep_forever()

    handler = Watching(handler)
    server = await start_stream(handler)
    client = await connect(server)
    client.finish()
    await settle()
    assert handler.left == []
    client.reset()
    await settle()
    assert handler.left == ["Cancelled"]
    assert server.statistics().reasons == {"client-gone": 1}


async def test_peer_that_is_gone_after_send_eof_cancels_the_handler(start_stream, connect):
    async def say_all_and_think(stream):
        await stream.send_all(b"all of it")
        await stream.send_eof()
        await trio.sleep_forever()

    handler = Watching(say_all_and_think)
    client = await connect(await start_stream(handler))
    assert await client.read_to_end() == b"all of it"
    client.reset()
    await settle()
    assert handler.left == ["Cancelled"]


# -- Gone -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unread", [b"", b"unread"])
async def test_peer_that_is_gone_cancels_its_handler_at_once(start_stream, connect, unread, caplog):
    handler = Watching(sleep_for_ever)
    server = await start_stream(handler)
    client = await connect(server)
    await client.send(unread)
    await settle()
    client.reset()
    await settle()
    assert handler.left == ["Cancelled"]
    assert server.statistics().reasons == {"client-gone": 1}
    assert nothing_wrong(server)
    assert caplog.records == []


@pytest.mark.parametrize("wait", [receive_for_ever, receive_unless_draining_for_ever, send_for_ever])
async def test_loss_of_the_connection_is_no_error(start_stream, connect, wait, caplog):
    """As an exception or as a cancellation: nothing is logged, nothing is counted."""
    handler = Watching(wait)
    server = await start_stream(handler)
    client = await connect(server, receive_buffer=4096)
    await settle()
    client.reset()
    await settle()
    assert handler.left in (["BrokenResourceError"], ["Cancelled"])
    assert server.statistics().reasons == {"client-gone": 1}
    assert nothing_wrong(server)
    assert caplog.records == []


@pytest.mark.parametrize("raised", ["bare", "group"])
async def test_loss_that_the_handler_meets_itself_is_no_error(start_stream, connect, raised, caplog):
    """Shielded, so that the exception is what it gets."""

    async def handler(stream):
        with trio.CancelScope(shield=True):
            await go.wait()
            if raised != "group":
                await stream.receive_some()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stream.receive_some)
                nursery.start_soon(stream.send_all, b"x" * 64 * MIB)

    go = trio.Event()
    server = await start_stream(handler)
    client = await connect(server)
    await settle()
    client.reset()
    await settle()
    go.set()
    await settle()
    assert nothing_wrong(server)
    assert caplog.records == []


async def test_loss_of_another_stream_of_the_handlers_is_an_error(start_stream, connect, caplog):
    """An upstream connection, say: the same exception, and somebody must hear of it."""

    async def proxy(stream):
        upstream, far = memory_stream_pair()
        await far.aclose()
        await upstream.send_all(await stream.receive_some())

    server = await start_stream(proxy)
    client = await connect(server)
    await client.send(b"x")
    assert await client.read_end() == "reset"
    [record] = caplog.records
    assert isinstance(record.exc_info[1], trio.BrokenResourceError)
    assert (server.statistics().errors, server.statistics().reasons) == (1, {"error": 1})


async def test_loss_of_a_neighbours_stream_is_an_error_of_the_one_who_used_it(start_stream, connect, caplog):
    """Members of a chat hold each other's streams; that one is gone is not the going of another."""
    members = []

    async def chat(stream):
        members.append(stream)
        async for piece in stream:
            for member in members:
                if member is not stream:
                    await member.send_all(piece)

    server = await start_stream(chat)
    leaver = await connect(server)
    await settle()
    client = await connect(server)
    await settle()
    leaver.reset()
    await settle()
    await client.send(b"anybody there?")
    assert await client.read_end() == "reset"
    [record] = caplog.records
    assert isinstance(record.exc_info[1], trio.BrokenResourceError | trio.ClosedResourceError)
    assert server.statistics().reasons == {"client-gone": 1, "error": 1}


@pytest.mark.parametrize("parent", [sleep_for_ever, receive_for_ever, send_for_ever])
@pytest.mark.parametrize("child", [receive_for_ever, send_for_ever])
async def test_loss_that_meets_several_tasks_of_a_handler_at_once_is_no_error(
    start_stream, connect, parent, child, caplog
):
    """Some are cancelled, some have got the exception, as it happens; many times, because Trio shuffles."""

    async def handler(stream):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child, stream)
            await parent(stream)

    if parent is child:
        return
    server = await start_stream(handler)
    for _ in range(30):
        client = await connect(server, receive_buffer=4096)
        await settle()
        client.reset()
        await settle()
    assert nothing_wrong(server), caplog.text
    assert caplog.records == []
    assert server.statistics().reasons == {"client-gone": 30}


async def test_error_beside_the_loss_is_logged_with_the_whole_group(start_stream, connect, caplog):
    async def fail():
        raise ValueError("beside it")

    async def handler(stream):
        with trio.CancelScope(shield=True):
            await go.wait()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stream.receive_some)
                nursery.start_soon(fail)

    go = trio.Event()
    server = await start_stream(handler)
    client = await connect(server)
    await settle()
    client.reset()
    await settle()
    go.set()
    await settle()
    [record] = caplog.records
    assert "beside it" in repr(record.exc_info[1])
    assert isinstance(record.exc_info[1], ExceptionGroup)
    assert server.statistics().errors == 1


async def test_loss_that_the_handler_handles_is_the_handlers(start_stream, connect, caplog):
    told = []

    async def handler(stream):
        try:
            with trio.CancelScope(shield=True):
                await stream.receive_some()
        except trio.BrokenResourceError:
            told.append(True)

    server = await start_stream(handler)
    client = await connect(server)
    await settle()
    client.reset()
    await settle()
    assert told == [True]
    assert nothing_wrong(server)
    assert caplog.records == []


async def test_handler_that_must_not_be_torn_commits_in_a_shield_of_bounded_time(start_stream, connect, mock_clock):
    """The peer is gone, the handler is cancelled, and what it has begun it finishes."""
    committed = []

    async def handler(stream):
        try:
            await stream.receive_some()
            await trio.sleep_forever()
        finally:
            with trio.move_on_after(5, shield=True):
                await trio.sleep(3)
                committed.append(trio.current_time())

    server = await start_stream(handler)
    client = await connect(server)
    await client.send(b"begin")
    await settle()
    client.reset()
    await settle()
    assert committed == []
    async with time_passing(mock_clock):
        await server.wait_for_connections(0)
    assert len(committed) == 1
    assert server.statistics().reasons == {"client-gone": 1}
    assert nothing_wrong(server)
