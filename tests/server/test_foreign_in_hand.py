"""Clients that a listener of somebody else's has handed over, and for whom there is no place yet; and those it lost."""

from __future__ import annotations

import logging

import pytest
import trio
from trio.testing import memory_stream_pair

from ktrio import Response, ServerOptions, Timeouts
from tests.net.foreign import Foreign
from tests.server.harness import advance, get, settle, trickle
from tests.server.streams import MemoryListener, make_place, receive_all

LAST = get("/", "Connection: close")
ONE = ServerOptions(max_connections=1)


@pytest.fixture
def listener():
    return MemoryListener()


class Gated:
    def __init__(self):
        self.gate = trio.Event()

    async def __call__(self, request):
        if request.target == "/wait":
            await self.gate.wait()
        return Response(body=b"hello")


@pytest.fixture
def handler():
    return Gated()


async def fill(listener) -> trio.abc.Stream:
    """Takes the only place until the gate opens."""
    busy = listener.connect()
    await busy.send_all(get("/wait", "Connection: close"))
    await settle()
    return busy


@pytest.mark.parametrize("why", ["full", "suspended"])
async def test_silent_client_in_hand_is_closed_when_its_time_for_a_head_is_over(
    start_http, listener, handler, mock_clock, why
):
    server = await start_http(handler, listener, options=ONE, timeouts=Timeouts(head=7))
    if why == "full":
        await fill(listener)
    else:
        await settle()
        server.suspend()
    silent, others = listener.connect(), [listener.connect() for _ in range(3)]
    await settle()
    await trickle(mock_clock, 6)
    assert [stream.closed for stream in listener.accepted[-1:]] == [0]
    await trickle(mock_clock, 2)
    held = listener.accepted[0 if why == "suspended" else 1]
    assert held.closed == 1
    assert await receive_all(silent) == b""
    if why == "suspended":  # now nobody is taken in any more
        assert len(listener.accepted) == 1
        assert listener.waiting == len(others)


async def test_client_in_hand_that_has_said_something_waits_as_long_as_it_takes(
    start_http, listener, handler, mock_clock
):
    await start_http(handler, listener, options=ONE, timeouts=Timeouts(head=7))
    busy = await fill(listener)
    held = listener.connect()
    await held.send_all(LAST)
    await trickle(mock_clock, 600, step=50)
    handler.gate.set()
    assert (await receive_all(busy)).endswith(b"hello")
    assert (await receive_all(held)).endswith(b"hello")


async def test_time_for_a_head_runs_from_accept_also_in_hand(start_http, listener, handler, mock_clock):
    server = await start_http(handler, listener, options=ONE, timeouts=Timeouts(head=7))
    busy = await fill(listener)
    held = listener.connect()
    await advance(mock_clock, 5)
    handler.gate.set()
    await receive_all(busy)
    await advance(mock_clock, 1)
    assert server.statistics().open == 1
    await advance(mock_clock, 2)
    assert server.statistics().open == 0
    assert server.statistics().reasons["head-timeout"] == 1
    await receive_all(held)


async def test_handshake_of_a_client_in_hand_is_not_put_off(start_http, handler, mock_clock):
    """It is carried from accept on."""
    place = await make_place("tls-memory")
    await start_http(handler, place.listener, options=ONE)
    async with trio.open_nursery() as nursery:
        busy = await place.connect()
        nursery.start_soon(busy.send_all, get("/wait", "Connection: close"))
        await settle()
        held = await place.connect()
        with trio.fail_after(1):
            await held.do_handshake()
        handler.gate.set()
        await receive_all(busy)


async def test_client_that_was_lost_in_accept_is_nobody_elses_trouble(
    start_http, listener, handler, mock_clock, caplog
):
    """A handshake within accept has failed, say."""
    server = await start_http(handler, listener)
    await settle()
    listener.errors = [trio.BrokenResourceError("no handshake") for _ in range(3)]
    listener.wake()
    peer = listener.connect()
    await peer.send_all(LAST)
    assert (await receive_all(peer)).endswith(b"hello")
    assert (server.statistics().errors, caplog.records) == (0, [])


async def test_listener_that_loses_every_client_spins_not_and_is_named_once(
    start_http, listener, handler, mock_clock, caplog
):
    await start_http(handler, listener)
    await settle()
    listener.errors = [trio.BrokenResourceError("no handshake") for _ in range(200)]
    listener.wake()
    await settle()  # never returns while the acceptor spins
    assert len(listener.errors) > 100
    await trickle(mock_clock, 3, step=0.1)
    assert listener.errors == []
    peer = listener.connect()
    await peer.send_all(LAST)
    assert (await receive_all(peer)).endswith(b"hello")
    assert len(caplog.records) == 1
    assert "MemoryListener" in caplog.records[0].getMessage()


# -- Names ------------------------------------------------------------------------------------------------------------


class NoTransport(Foreign):
    @property
    def transport_stream(self):
        raise RuntimeError("no transport yet")


class OwnTransport(Foreign):
    @property
    def transport_stream(self):
        return self


class NoRepr(Foreign):
    def __repr__(self):
        raise RuntimeError("no repr yet")


class NoPeer(Foreign):
    @property
    def peer(self):
        raise RuntimeError("no peer yet")


def connect_as(listener, kind):
    ours, theirs = memory_stream_pair()
    listener._send.send_nowait(kind(ours))
    return theirs


class Plain(MemoryListener):
    """Streams of any kind; they count themselves."""


@pytest.mark.parametrize("kind", [NoTransport, NoPeer])
async def test_stream_that_cannot_be_named_is_closed_and_logged_and_no_other(start_http, handler, caplog, kind):
    listener = Plain()
    server = await start_http(handler, listener)
    peer = connect_as(listener, kind)
    assert await receive_all(peer) == b""
    assert listener.accepted[0].times_closed == 1
    await settle()
    other = listener.connect()
    await other.send_all(LAST)
    assert (await receive_all(other)).endswith(b"hello")
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert kind.__name__ in record.getMessage()
    assert server.statistics().accepted == 1


@pytest.mark.parametrize("kind", [NoRepr, OwnTransport])
async def test_stream_of_odd_ways_is_served(start_http, handler, kind):
    listener = Plain()
    await start_http(handler, listener)
    peer = connect_as(listener, kind)
    await peer.send_all(LAST)
    assert (await receive_all(peer)).endswith(b"hello")


class NoAddress(MemoryListener):
    @property
    def transport_listener(self):
        raise RuntimeError("no socket yet")


class OwnListener(MemoryListener):
    @property
    def transport_listener(self):
        return self


@pytest.mark.parametrize("kind", [NoAddress, OwnListener])
async def test_listener_that_cannot_say_where_it_listens_is_served(start_http, handler, kind):
    listener = kind()
    server = await start_http(handler, listener)
    peer = listener.connect()
    await peer.send_all(LAST)
    assert (await receive_all(peer)).endswith(b"hello")
    assert server.addresses == ()
    assert kind.__name__ in repr(server)
