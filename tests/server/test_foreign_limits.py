"""The limit of connections holds for the streams themselves, those included that take their time to close."""

from __future__ import annotations

import pytest
import trio
from trio.testing import memory_stream_pair

from ktrio import Response, ServerOptions
from tests.net.foreign import Foreign
from tests.server.harness import advance, get, settle, time_passing
from tests.server.streams import MemoryListener, receive_all

LAST = get("/", "Connection: close")


class Lasting(MemoryListener):
    """Its streams take long to close, unless they are cancelled; it knows how many live."""

    def __init__(self):
        super().__init__(make_pair=self.make)
        self.alive = self.most = 0

    def make(self):
        ours, theirs = memory_stream_pair()
        return Foreign(ours, {"aclose": self.close_slowly}), theirs

    async def accept(self):
        stream = await super().accept()
        self.alive += 1
        self.most = max(self.most, self.alive)
        return stream

    async def close_slowly(self):
        try:
            await trio.sleep(10)
        finally:
            self.alive -= 1


async def handler(request):
    return Response(body=b"hello")


@pytest.fixture
def listener():
    return Lasting()


async def test_streams_that_still_close_count_among_the_connections(start_http, listener, mock_clock):
    """One more is in hand."""
    server = await start_http(handler, listener, options=ServerOptions(max_connections=2))
    peers = []
    for _ in range(20):
        peers.append(listener.connect())
        await peers[-1].send_all(LAST)
    async with time_passing(mock_clock, step=0.25):
        for peer in peers:
            assert (await receive_all(peer)).endswith(b"hello")
    assert listener.most == 3
    assert server.statistics().accepted == 20


async def test_next_client_is_served_in_the_moment_in_which_a_stream_has_closed(start_http, listener, mock_clock):
    server = await start_http(handler, listener, options=ServerOptions(max_connections=1))
    await listener.connect().send_all(LAST)
    await settle()
    await listener.connect().send_all(LAST)
    await advance(mock_clock, 0.5)
    assert (server.statistics().open, server.statistics().accepted) == (0, 1)
    await advance(mock_clock, 0.5)
    assert server.statistics().accepted == 2


async def test_socket_waits_as_well_for_a_stream_to_close(start_http, listener, connect, mock_clock):
    server = await start_http(handler, listener, "127.0.0.1:0", options=ServerOptions(max_connections=1))
    await listener.connect().send_all(LAST)
    await settle()
    client = await connect(server)
    await client.send(LAST)
    await advance(mock_clock, 0.5)
    assert server.statistics().accepted == 1
    await advance(mock_clock, 0.5)
    assert (await client.read_reply()).body == b"hello"


async def test_nobody_makes_room_while_a_place_is_about_to_be_free(start_http, listener, mock_clock):
    server = await start_http(handler, listener, options=ServerOptions(max_connections=2))
    idle = listener.connect()
    await idle.send_all(get())
    await listener.connect().send_all(LAST)
    await settle()
    await listener.connect().send_all(get())
    await advance(mock_clock, 0.5)
    assert (server.statistics().open, server.statistics().accepted) == (1, 2)
    await advance(mock_clock, 0.5)
    assert (server.statistics().open, server.statistics().made_room) == (2, 0)


@pytest.mark.parametrize("how", ["suspended", "shut down"])
async def test_waiting_for_a_stream_to_close_ends_with_accepting(start_http, listener, mock_clock, how):
    server = await start_http(handler, listener, options=ServerOptions(max_connections=1))
    await listener.connect().send_all(LAST)
    await settle()
    peer = listener.connect()
    await peer.send_all(LAST)
    await settle()
    if how == "suspended":
        server.suspend()
        await advance(mock_clock, 2)
        assert server.statistics().accepted == 1
        server.resume()
    else:
        server.begin_shutdown()
    async with time_passing(mock_clock, step=0.25):
        assert (await receive_all(peer)).endswith(b"hello")
