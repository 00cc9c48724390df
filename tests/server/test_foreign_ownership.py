"""Whose stream is it: a foreign listener and what it has accepted are closed once each, whenever the server ends."""

from __future__ import annotations

import errno

import pytest
import trio
from trio.testing import lockstep_stream_pair

import ktrio
from ktrio import Response, ServerOptions
from tests.server.harness import GET, get, settle, time_passing
from tests.server.streams import MemoryListener, tls_listener

FULL = ServerOptions(max_connections=2)


async def handler(request):
    if request.target == "/block":
        await trio.sleep_forever()
    return Response(body=b"hello")


async def stream_handler(stream):
    async for _ in stream:
        await stream.send_all(b"x" * (1 << 20))


def everything_is_closed_once(listener) -> bool:
    assert [stream.closed for stream in listener.accepted] == [1] * len(listener.accepted)
    assert listener.closed == 1
    return True


# -- Named moments ----------------------------------------------------------------------------------------------------


async def nobody_has_come(server, listener, peers):
    pass


async def all_are_idle(server, listener, peers):
    for _ in range(2):
        peers.append(listener.connect())
        await peers[-1].send_all(GET)


async def one_is_in_hand(server, listener, peers):
    """And waits for room, and others wait behind it."""
    for _ in range(5):
        peers.append(listener.connect())
        await peers[-1].send_all(get("/block"))
    await settle()
    assert len(listener.accepted) == 3


async def suspended(server, listener, peers):
    server.suspend()
    await one_stays_outside(listener, peers)


async def suspended_with_one_in_hand(server, listener, peers):
    await one_is_in_hand(server, listener, peers)
    server.suspend()


async def one_stays_outside(listener, peers):
    peers.append(listener.connect())
    await peers[-1].send_all(GET)


async def accepting_pauses(server, listener, peers):
    await all_are_idle(server, listener, peers)
    listener.errors = [OSError(errno.EMFILE, "full") for _ in range(1000)]
    listener.wake()


async def draining(server, listener, peers):
    await one_is_in_hand(server, listener, peers)
    server.begin_shutdown(grace=60)


async def draining_begins(server, listener, peers):
    """In this very turn, with a row of people outside."""
    for _ in range(20):
        peers.append(listener.connect())
    server.begin_shutdown(grace=60)


async def closed_by_somebody_else(server, listener, peers):
    """That one close is not the server's."""
    await all_are_idle(server, listener, peers)
    await listener.aclose()
    listener.closed = 0


MOMENTS = [
    nobody_has_come,
    all_are_idle,
    one_is_in_hand,
    suspended,
    suspended_with_one_in_hand,
    accepting_pauses,
    draining,
    draining_begins,
    closed_by_somebody_else,
]


@pytest.mark.parametrize("end", ["cancelled", "forced", "shutdown"])
@pytest.mark.parametrize("then", ["at once", "settled"])
@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: moment.__name__)
async def test_everything_is_closed_once_whenever_the_server_ends(start_http, mock_clock, moment, then, end):
    listener, peers = MemoryListener(), []
    async with time_passing(mock_clock), trio.open_nursery() as nursery:
        server = await start_http(handler, listener, options=FULL, within=nursery)
        await settle()
        await moment(server, listener, peers)
        if then == "settled":
            await settle()
        if end == "cancelled":
            nursery.cancel_scope.cancel()
        elif end == "forced":
            server.force_shutdown("second-signal")
        else:
            server.begin_shutdown(grace=1)
    assert everything_is_closed_once(listener)
    assert server.statistics().open == 0
    # Whoever was accepted sees an end; whoever was not is the listener's.
    for peer in peers[: len(listener.accepted)]:
        async for _ in peer:
            pass


# -- Any moment -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", ["plain", "tls"])
@pytest.mark.parametrize("kind", ["http", "stream"])
@pytest.mark.parametrize("turns", range(0, 48, 4))
async def test_everything_is_closed_once_after_any_number_of_turns(
    start_http, start_stream, mock_clock, kind, layer, turns
):
    """More have come than there are places; the peers of the plain one do not read."""
    listener = MemoryListener(lockstep_stream_pair if layer == "plain" else trio.testing.memory_stream_pair)
    outer = tls_listener(listener) if layer == "tls" else listener
    async with time_passing(mock_clock), trio.open_nursery() as visitors:
        async with trio.open_nursery() as nursery:
            if kind == "http":
                server = await start_http(handler, outer, options=FULL, within=nursery)
            else:
                server = await start_stream(stream_handler, outer, options=FULL, within=nursery)
            for _ in range(5):
                visitors.start_soon(_send, listener.connect())
            for _ in range(turns):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        assert everything_is_closed_once(listener)
        assert server.statistics().open == 0
        visitors.cancel_scope.cancel()


async def _send(peer):
    try:
        await peer.send_all(GET)
    except trio.BrokenResourceError:
        return


@pytest.mark.parametrize("turns", range(10))
async def test_listener_is_closed_when_its_server_is_cancelled_during_the_start(turns):
    """Many times, because Trio shuffles."""

    async def cancel_later(scope):
        for _ in range(turns):
            await trio.lowlevel.checkpoint()
        scope.cancel()

    for _ in range(10):
        listener = MemoryListener()
        peer = listener.connect()
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(cancel_later, scope)
                await ktrio.serve_http(handler, listener, "127.0.0.1:0")
        await peer.aclose()
        assert listener.closed == 1
        assert [stream.closed for stream in listener.accepted] == [1] * len(listener.accepted)


@pytest.mark.parametrize("behind", [False, True], ids=["before", "behind"])
@pytest.mark.parametrize("address", ["taken", "nonsense"])
async def test_listener_beside_an_address_that_cannot_be_had_is_closed(address, behind):
    """As with sockets: none is left open."""
    listener = MemoryListener()
    with trio.socket.socket() as taken:
        await taken.bind(("127.0.0.1", 0))
        taken.listen()
        where = f"127.0.0.1:{taken.getsockname()[1]}" if address == "taken" else "127.0.0.1:nonsense"
        with pytest.raises((ktrio.ListenError, ktrio.AddressError)):
            await ktrio.serve_http(handler, *[where, listener][:: 1 if behind else -1])
    assert listener.closed == 1


@pytest.mark.parametrize("road", ["cancelled", "shutdown"])
async def test_listener_whose_close_takes_time_or_fails_does_not_hold_the_server(start_http, mock_clock, road):
    """It is another's: what it does at its end is bounded, and the connections end all the same."""

    class Slow(MemoryListener):
        async def aclose(self):
            await super().aclose()
            await trio.sleep(3600)

    listener = Slow()
    async with time_passing(mock_clock, step=0.25), trio.open_nursery() as nursery:
        server = await start_http(handler, listener, within=nursery)
        peer = listener.connect()
        await peer.send_all(GET)
        await settle()
        begun = trio.current_time()
        if road == "cancelled":
            nursery.cancel_scope.cancel()
        else:
            server.begin_shutdown(grace=1)
    assert trio.current_time() - begun <= 5
    assert everything_is_closed_once(listener)
