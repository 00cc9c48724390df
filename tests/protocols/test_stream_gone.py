"""Peers of stream handlers that fall silent, take nothing, shut down their side, or are gone."""

from __future__ import annotations

import pytest
import trio
from trio.testing import memory_stream_pair

from ktrio import Timeouts
from tests.server.harness import LATE, Ended, advance, settle, time_passing, trickle

MIB = 1 << 20


class Watching:
    """Calls another handler and remembers how it left."""

    def __init__(self, handler) -> None:
        self.handler = handler
        self.left: list[str] = []

    async def __call__(self, stream):
        try:
            await self.handler(stream)
        except BaseException as error:
            self.left.append(type(error).__name__)
            raise
        else:
            self.left.append("returned")


def nothing_wrong(server) -> bool:
    return (server.statistics().open, server.statistics().errors, server.statistics().cut) == (0, 0, 0)


async def receive_for_ever(stream):
    while await stream.receive_some():
        pass


async def receive_unless_draining_for_ever(stream):
    while await stream.receive_unless_draining():
        pass


async def send_for_ever(stream):
    while True:
        await stream.send_all(bytes(MIB))


async def sleep_for_ever(stream):
    await trio.sleep_forever()


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
    await trickle(mock_clock, 2, step=0.5)
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
