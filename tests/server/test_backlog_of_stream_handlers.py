"""A shutdown of `serve_stream` serves everybody who has connected and asked by then, past every limit."""

from __future__ import annotations

import pytest

from ktrio import ServerOptions
from tests.server.harness import Ended, settle
from tests.server.streams import make_place, receive_all

MANY = 100
every_handler = pytest.mark.parametrize("receive", ["receive_some", "receive_unless_draining"])


def answering(receive):
    async def handler(stream):
        word = await getattr(stream, receive)()
        if word:
            await stream.send_all(b"answer to " + word)

    return handler


def all_served(server) -> bool:
    statistics = server.statistics()
    return (statistics.accepted, statistics.answered, statistics.cut, statistics.errors, statistics.reasons) == (
        MANY,
        MANY,
        0,
        0,
        {"handler-returned": MANY},
    )


@every_handler
@pytest.mark.parametrize("options", [ServerOptions(), ServerOptions(max_connections=10)], ids=["room", "little room"])
async def test_backlog_of_sockets_is_served(start_stream, connect, receive, options):
    server = await start_stream(answering(receive), options=options)
    server.suspend()
    clients = [await connect(server) for _ in range(MANY)]
    for number, client in enumerate(clients):
        await client.send(b"%d" % number)
    await settle()
    assert server.statistics().accepted == 0
    server.begin_shutdown()
    for number, client in enumerate(clients):
        try:
            assert await client.read_to_end() == b"answer to %d" % number
        except Ended as end:
            raise AssertionError(f"{number} of {MANY}: {server.statistics()}") from end
    await settle()
    assert all_served(server)


@every_handler
@pytest.mark.parametrize("kind", ["memory", "socket"])
async def test_backlog_of_any_listener_is_served(start_stream, receive, kind):
    place = await make_place(kind)
    server = await start_stream(answering(receive), place.listener)
    server.suspend()
    await settle()
    peers = [await place.connect() for _ in range(MANY)]
    for number, peer in enumerate(peers):
        await peer.send_all(b"%d" % number)
    server.begin_shutdown()
    for number, peer in enumerate(peers):
        async with peer:
            assert await receive_all(peer) == b"answer to %d" % number
    await settle()
    assert all_served(server)


async def test_who_is_accepted_as_the_shutdown_begins_and_said_nothing_is_not_waited_for_in_vain(
    start_stream, connect, mock_clock
):
    """A handler that is told of the drain returns at once; its peer sees an end in peace."""
    server = await start_stream(answering("receive_unless_draining"))
    server.suspend()
    clients = [await connect(server) for _ in range(MANY)]
    await settle()
    server.begin_shutdown()
    assert [await client.read_end() for client in clients] == ["fin"] * MANY
    await settle()
    assert all_served(server)
