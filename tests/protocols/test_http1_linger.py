"""Closing so that no reset destroys the last answer (RFC 9112 section 9.6): half-close, read on a while, close."""

from __future__ import annotations

import contextlib

import pytest
import trio

from ktrio import QueueOptions, Response
from ktrio.http.errors import BodyTooLarge
from tests.server.harness import GET, LATE, advance, get, settle

BIG = b"answer" * 2000


async def refuse(request):
    return Response(403, body=BIG)


async def test_answer_to_a_body_refused_early_is_read_whole(start_http, connect):
    """The peer sends on after the refusal, within the bound, and reads only then."""
    client = await connect(await start_http(refuse))
    await client.send(get("/", "Content-Length: 10000000", method="POST"), b"x" * 30_000)
    await settle()
    await client.send(b"x" * 20_000)
    await settle()
    reply = await client.read_reply()
    assert (reply.status, reply.body == BIG, reply.says_close) == (403, True, True)
    assert await client.read_end() == "fin"


async def test_answer_sent_before_the_body_began_to_come_is_read_whole(start_http, connect):
    """A client sends its head, then its body; between the two nothing is unread yet, and still it will come."""
    client = await connect(await start_http(refuse))
    await client.send(get("/", "Content-Length: 10000000", method="POST"))
    await settle()
    for _ in range(2):
        await client.send(b"x" * 20_000)
        await settle()
    reply = await client.read_reply()
    assert (reply.status, reply.body == BIG) == (403, True)
    assert await client.read_end() == "fin"


async def test_answer_to_a_big_body_is_read_whole_by_a_peer_that_reads_while_it_sends(start_http, connect):
    client = await connect(await start_http(refuse))
    async with trio.open_nursery() as nursery:

        async def push():
            with contextlib.suppress(OSError):
                await client.send(get("/", "Content-Length: 10000000", method="POST"), b"x" * 10_000_000)

        nursery.start_soon(push)
        reply = await client.read_reply()
        assert (reply.status, reply.body == BIG) == (403, True)
        nursery.cancel_scope.cancel()


async def test_answer_is_followed_by_a_fin_at_once(start_http, connect):
    """Lingering is half-closing first: a peer that waits for the end does not wait for the linger."""
    client = await connect(await start_http(refuse))
    await client.send(get("/", "Content-Length: 10000000", method="POST"))
    assert (await client.read_reply()).status == 403
    assert await client.read_end() == "fin"


async def test_lingering_ends_with_the_peers_fin(start_http, connect):
    server = await start_http(refuse)
    client = await connect(server)
    await client.send(get("/", "Content-Length: 10000000", method="POST"))
    assert (await client.read_reply()).status == 403
    client.close()
    await settle()
    assert server.statistics().open == 0


async def test_lingering_ends_after_a_second(start_http, connect, mock_clock):
    """At most 1 s."""
    server = await start_http(refuse)
    client = await connect(server)
    await client.send(get("/", "Content-Length: 10000000", method="POST"))
    assert (await client.read_reply()).status == 403
    await advance(mock_clock, 0.9)
    assert server.statistics().open == 1
    await advance(mock_clock, 0.1 + LATE)
    assert server.statistics().open == 0


async def test_trickle_does_not_renew_the_linger(start_http, connect, mock_clock):
    server = await start_http(refuse)
    client = await connect(server)
    await client.send(get("/", "Content-Length: 10000000", method="POST"))
    assert (await client.read_reply()).status == 403
    for _ in range(3):
        await client.send(b"x")
        await advance(mock_clock, 0.4)
    await advance(mock_clock, LATE)
    assert server.statistics().open == 0


async def test_lingering_ends_with_4_mib(start_http, connect):
    """No byte count is taken from the peer without a ceiling: beyond 4 MiB the connection is closed, in no time."""
    server = await start_http(refuse)
    client = await connect(server)
    await client.send(get("/", "Content-Length: 10000000", method="POST"))
    assert (await client.read_reply()).status == 403

    async def send_on():
        while True:
            await client.send(b"x" * 500_000)
            await settle()

    with pytest.raises(ConnectionError):
        await send_on()
    assert server.statistics().open == 0


async def test_lingering_takes_no_slot(start_http, connect):
    """Waiting for a peer while no handler runs is parked: with `max_active=1` the next request is answered."""
    server = await start_http(refuse, queue=QueueOptions(max_active=1, capacity=1))
    lingering = [await connect(server) for _ in range(5)]
    for client in lingering:
        await client.send(get("/", "Content-Length: 10000000", method="POST"))
        assert (await client.read_reply()).status == 403
    assert server.statistics().open == 5
    assert (await (await connect(server)).ask()).status == 403


async def test_connection_without_unread_input_does_not_linger(start_http, connect):
    """Linger only where unread input may be left: after an answer that said close there is none."""
    server = await start_http(refuse)
    client = await connect(server)
    await client.send(get("/", "Connection: close"))
    assert (await client.read_reply()).status == 403
    assert await client.read_end() == "fin"
    await settle()
    assert server.statistics().open == 0


async def test_second_request_of_a_peer_told_to_go_is_dropped(start_http, connect):
    seen = []

    async def handler(request):
        seen.append(request.target)
        raise BodyTooLarge("No.")

    client = await connect(await start_http(handler))
    await client.send(get("/first", "Content-Length: 10000000", method="POST"))
    assert (await client.read_reply()).status == 413
    await client.send(GET)
    assert await client.read_end() == "fin"
    assert seen == ["/first"]
