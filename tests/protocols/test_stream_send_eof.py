"""`send_eof`: where there is no end of one direction it says so and the stream goes on; elsewhere again is no error."""

from __future__ import annotations

import pytest
import trio
from trio.testing import memory_stream_pair

from ktrio import ConnectionStream
from tests.net.foreign import NotHalfCloseable
from tests.server.harness import settle
from tests.server.streams import MemoryListener, make_place, making_streams, receive_all, receive_exactly

WHOLE_ONLY = ["tls", "plain"]
HALF_CLOSING = ["tcp", "unix", "memory", "lockstep"]


def make_plain_pair(maker):
    """A stream that cannot be closed half, and its peer."""
    ours, theirs = memory_stream_pair()
    return ConnectionStream(maker.connection(maker.carriers.carry(NotHalfCloseable(ours)))), theirs


async def make_pair(kind, maker):
    return make_plain_pair(maker) if kind == "plain" else await maker()


async def converse(stream, peer, ours: bytes, theirs: bytes) -> None:
    """Both directions, at once: a stream in lockstep takes what is taken from it."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.send_all, ours)
        nursery.start_soon(peer.send_all, theirs)
        assert await receive_exactly(peer, len(ours)) == ours
        assert await receive_exactly(stream, len(theirs)) == theirs


@pytest.mark.parametrize("kind", WHOLE_ONLY)
async def test_stream_that_cannot_be_closed_half_says_so_and_goes_on(kind):
    async with making_streams(kind) as maker:
        stream, peer = await make_pair(kind, maker)
        await converse(stream, peer, b"hello", b"world")
        for _ in range(2):
            with pytest.raises(NotImplementedError, match="aclose it when you are done"):
                await stream.send_eof()
            await converse(stream, peer, b"and", b"on")
        await stream.aclose()
        assert await receive_all(peer) == b""


@pytest.mark.parametrize("kind", WHOLE_ONLY)
async def test_send_eof_after_the_end_is_told_as_ever(kind):
    """That it was closed comes first."""
    async with making_streams(kind) as maker:
        stream, _peer = await make_pair(kind, maker)
        await stream.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await stream.send_eof()


@pytest.mark.parametrize("kind", HALF_CLOSING)
async def test_send_eof_again_is_no_error(kind):
    async with making_streams(kind) as maker:
        stream, peer = await maker()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_all, b"last")
            assert await receive_exactly(peer, 4) == b"last"
        for _ in range(3):
            await stream.send_eof()
        assert await peer.receive_some(1) == b""
        with pytest.raises(trio.ClosedResourceError):
            await stream.send_all(b"more")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.send_all, b"heard")
            assert await receive_exactly(stream, 5) == b"heard"


@pytest.mark.parametrize("kind", HALF_CLOSING)
async def test_send_eof_that_is_cancelled_can_be_repeated(kind):
    async with making_streams(kind) as maker:
        stream, peer = await maker()
        with trio.CancelScope() as scope:
            scope.cancel()
            await stream.send_eof()
        assert scope.cancelled_caught
        await stream.send_eof()
        assert await peer.receive_some(1) == b""


async def on_without_eof(stream):
    """A handler that would rather have said that it is done."""
    try:
        await stream.send_eof()
    except NotImplementedError:
        await stream.send_all(b"no eof;")
    await stream.send_all(b"heard " + await stream.receive_some())


async def eof_alone(stream):
    await stream.send_all(b"bye")
    await stream.send_eof()


async def test_handler_over_tls_can_go_on_without_it(start_stream):
    place = await make_place("tls-socket")
    server = await start_stream(on_without_eof, place.listener)
    peer = await place.connect()
    async with peer:
        await peer.send_all(b"you")
        assert await receive_all(peer) == b"no eof;heard you"
    await settle()
    assert server.statistics().reasons == {"handler-returned": 1}
    assert server.statistics().errors == 0


async def test_handler_that_expects_an_eof_where_there_is_none_is_told_in_the_log(start_stream, caplog):
    """It is a mistake of the program, with a name, and not one of the network."""
    place = await make_place("tls-socket")
    server = await start_stream(eof_alone, place.listener)
    peer = await place.connect()
    async with peer:
        await receive_all(peer)
    await settle()
    assert server.statistics().reasons == {"error": 1}
    [record] = caplog.records
    assert isinstance(record.exc_info[1], NotImplementedError)


@pytest.mark.parametrize("kind", ["socket", "memory"])
async def test_handler_with_an_eof_at_its_end_has_ended_in_peace(start_stream, kind):
    place = await make_place(kind)
    server = await start_stream(eof_alone, place.listener)
    peer = await place.connect()
    async with peer:
        assert await receive_all(peer) == b"bye"
    await settle()
    assert server.statistics().reasons == {"handler-returned": 1}


class PlainListener(MemoryListener):
    """Its streams cannot be closed half."""

    async def accept(self):
        return NotHalfCloseable(await super().accept())


async def test_handler_over_anybodys_plain_stream_can_go_on_without_it(start_stream):
    listener = PlainListener()
    server = await start_stream(on_without_eof, listener)
    peer = listener.connect()
    await peer.send_all(b"you")
    assert await receive_all(peer) == b"no eof;heard you"
    await settle()
    assert server.statistics().reasons == {"handler-returned": 1}
