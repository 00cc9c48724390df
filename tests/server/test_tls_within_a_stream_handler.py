"""TLS that a handler puts over its own stream: noise at its door is logged and costs its connection, not the server."""

from __future__ import annotations

from contextlib import suppress

import pytest
import trio

from ktrio import ServerOptions, Timeouts
from tests.server.harness import GET, LATE, Ended, advance, settle
from tests.server.streams import HOST, contexts, make_place, receive_all, receive_exactly

NOISE = {"http": GET, "bytes": b"\x00" * 100, "ssh": b"SSH-2.0-OpenSSH_9.0\r\n"}


async def secret_echo(stream):
    tls = trio.SSLStream(stream, contexts()[0], server_side=True)
    async for piece in tls:
        await tls.send_all(piece)


async def secret_echo_in_a_nursery(stream):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(secret_echo, stream)


HANDLERS = [secret_echo, secret_echo_in_a_nursery]
every_handler = pytest.mark.parametrize("handler", HANDLERS)


async def make_noise(client, noise):
    await client.send(noise)
    with suppress(Ended):
        await client.read_to_end()  # an alert, perhaps


async def converse(server):
    """Somebody who speaks TLS."""
    address = server.addresses[0]
    stream = await trio.open_tcp_stream(address.host, address.port)
    async with trio.SSLStream(stream, contexts()[1], server_hostname=HOST) as tls:
        await tls.send_all(b"hello")
        assert await receive_exactly(tls, 5) == b"hello"


@every_handler
@pytest.mark.parametrize("noise", NOISE)
async def test_peer_that_speaks_something_else_is_logged_and_costs_its_connection(
    start_stream, connect, handler, noise, caplog
):
    server = await start_stream(handler)
    await make_noise(await connect(server), NOISE[noise])
    await settle()
    assert server.statistics().reasons == {"error": 1}
    assert server.statistics().errors == 1
    [record] = caplog.records
    assert "127.0.0.1" in record.getMessage()
    assert record.exc_info[1] is not None
    await converse(server)


@pytest.mark.exhaustive
@every_handler
async def test_two_hundred_of_them_spend_no_error_budget(start_stream, connect, handler, caplog):
    server = await start_stream(handler, options=ServerOptions(max_errors=5))
    for _ in range(200):
        client = await connect(server)
        await make_noise(client, GET)
        client.close()
    await settle()
    assert server.statistics().reasons == {"error": 200}
    assert server.statistics().errors == 200
    assert not server.statistics().draining
    assert len(caplog.records) == 200
    await converse(server)


async def test_real_bug_behind_tls_spends_the_budget(start_stream, connect):
    """That a stream broke is no bug; a bug beside it is."""

    async def handler(stream):
        try:
            await secret_echo(stream)
        except trio.BrokenResourceError:
            raise LookupError("a bug") from None

    server = await start_stream(handler, options=ServerOptions(max_errors=5))
    for _ in range(4):
        await make_noise(await connect(server), GET)
    await settle()
    assert server.statistics().errors == 4
    assert "4/5" in repr(server._budget)


@every_handler
async def test_peer_that_resets_is_no_error(start_stream, connect, handler, caplog):
    """Whether TLS was spoken or not: the stream under it was lost, and TLS says so in words of its own."""
    server = await start_stream(handler)
    for first in (b"", b"\x16\x03\x01"):
        client = await connect(server)
        await client.send(first)
        await settle()
        client.reset()
        await settle()
    assert server.statistics().reasons == {"client-gone": 2}
    assert (server.statistics().errors, caplog.records) == (0, [])


@every_handler
async def test_peer_that_speaks_tls_and_resets_is_no_error(start_stream, handler, caplog):
    server = await start_stream(handler)
    address = server.addresses[0]
    stream = await trio.open_tcp_stream(address.host, address.port)
    tls = trio.SSLStream(stream, contexts()[1], server_hostname=HOST)
    await tls.send_all(b"hello")
    assert await receive_exactly(tls, 5) == b"hello"
    stream.setsockopt(1, 13, b"\x01\x00\x00\x00\x00\x00\x00\x00")  # SO_LINGER: a reset
    stream.socket.close()
    await settle()
    assert server.statistics().reasons == {"client-gone": 1}
    assert (server.statistics().errors, caplog.records) == (0, [])


async def test_silent_peer_at_the_door_of_tls_is_given_up(start_stream, connect, mock_clock, caplog):
    server = await start_stream(secret_echo, timeouts=Timeouts(idle=5))
    client = await connect(server)
    await client.send(b"\x16\x03\x01")
    await advance(mock_clock, 5 + LATE)
    assert server.statistics().reasons == {"idle-timeout": 1}
    assert caplog.records == []


@pytest.mark.parametrize("kind", ["memory", "socket"])
async def test_tls_over_any_listeners_stream(start_stream, kind, caplog):
    place = await make_place(kind)
    server = await start_stream(secret_echo, place.listener)
    for _ in range(3):
        peer = await place.connect()
        async with peer:
            await peer.send_all(GET)
            await receive_all(peer)
    await settle()
    assert server.statistics().reasons == {"error": 3}
    assert len(caplog.records) == 3
