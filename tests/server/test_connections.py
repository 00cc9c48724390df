"""The table of connections: who is open, what each waits for, and who closed last."""

from __future__ import annotations

import dataclasses
from functools import partial

import pytest
import trio

import ktrio
from ktrio import ConnectionStatistics, Response, ServerOptions
from tests.server.harness import GET, advance, get, post, settle


class Gated:
    """A handler whose `/busy` waits for its gate."""

    def __init__(self) -> None:
        self.gate = trio.Event()

    async def __call__(self, request):
        if request.target == "/busy":
            await self.gate.wait()
        return Response(body=b"answer" + await request.read())


@pytest.fixture
def handler():
    return Gated()


async def test_record_of_a_new_connection_is_complete(start_http, connect, handler, mock_clock):
    server = await start_http(handler)
    client = await connect(server)
    await advance(mock_clock, 4)
    host, port = client.raw.getsockname()
    assert server.connections() == (
        ConnectionStatistics(
            peer=f"{host}:{port}",
            local=str(server.addresses[0]),
            state="new",
            age=4.0,
            phase="head",
            deadline=6.0,
            bytes_received=0,
            bytes_sent=0,
            answered=0,
            reason="",
        ),
    )


async def test_each_state_has_its_phase_and_its_deadline(start_http, connect, handler, mock_clock):
    server = await start_http(handler)
    idle, head, body, busy = [await connect(server) for _ in range(4)]
    await idle.ask()
    await head.send(GET[:5])
    await body.send(post(b"twelve bytes")[:-3])
    await busy.send(get("/busy"))
    await advance(mock_clock, 1)
    found = [(each.state, each.phase, each.deadline) for each in server.connections()]
    assert found == [("idle", "idle", 4.0), ("head", "head", 9.0), ("body", "body", 29.0), ("handling", "", None)]


async def test_connection_that_takes_nothing_is_writing(start_http, connect, mock_clock):
    async def big(request):
        return Response(body=bytes(8 << 20))

    server = await start_http(big)
    client = await connect(server, receive_buffer=4096)
    await client.send(GET)
    await advance(mock_clock, 10)
    [found] = server.connections()
    assert (found.state, found.phase, found.deadline) == ("writing", "write", 20.0)
    assert 0 < found.bytes_sent < 8 << 20
    assert found.bytes_received == len(GET)


async def test_deadline_that_is_over_is_0_and_never_negative(start_http, connect, handler, mock_clock):
    """A deadline may strike up to a quarter of a second late."""
    server = await start_http(handler)
    client = await connect(server)
    await client.ask()
    await settle()
    mock_clock.jump(5.1)
    [found] = server.connections()
    assert (found.phase, found.deadline) == ("idle", 0.0)


async def test_answers_and_bytes_are_counted(start_http, connect, handler):
    server = await start_http(handler)
    client = await connect(server)
    replies = [await client.ask() for _ in range(3)]
    [found] = server.connections()
    assert (found.answered, found.bytes_received) == (3, 3 * len(GET))
    assert found.bytes_sent == sum(len(reply.head) + len(reply.body) for reply in replies)


async def test_open_ones_come_first_in_order_of_acceptance_then_the_closed_ones(
    start_http, connect, handler, mock_clock
):
    server = await start_http(handler)
    clients = []
    for _ in range(5):
        clients.append(await connect(server))
        await clients[-1].ask()
        await advance(mock_clock, 0.5)
    for index in (3, 1):
        clients[index].close()
        await advance(mock_clock, 0.25)
    found = server.connections()
    assert [(each.state, each.age) for each in found] == [
        ("idle", 3.0),
        ("idle", 2.0),
        ("idle", 1.0),
        ("closed", 1.0),
        ("closed", 2.25),
    ]
    assert [each.reason for each in found] == ["", "", "", "peer-closed", "peer-closed"]


async def test_closed_connection_is_remembered_as_it_was(start_http, connect, handler, mock_clock):
    server = await start_http(handler)
    client = await connect(server)
    await client.ask()
    await advance(mock_clock, 2)
    reply = await client.ask(get("/", "Connection: close"))
    assert reply.says_close
    await advance(mock_clock, 100)
    [found] = server.connections()
    assert (found.state, found.age, found.phase, found.deadline) == ("closed", 2.0, "", None)
    assert (found.answered, found.reason) == (2, "answered")
    assert found.bytes_received > found.answered
    assert found.bytes_sent > len(reply.head)


async def test_32_closed_connections_are_remembered(start_http, connect, handler, mock_clock):
    server = await start_http(handler)
    peers = []
    for _ in range(40):
        client = await connect(server)
        peers.append("{}:{}".format(*client.raw.getsockname()))
        client.close()
        await settle()
    assert [each.peer for each in server.connections()] == peers[-32:]
    assert server.statistics().accepted == 40


async def test_at_most_bounds_the_open_ones(start_http, connect, handler, mock_clock):
    server = await start_http(handler)
    gone = await connect(server)
    await gone.ask()
    gone.close()
    await settle()
    clients = []
    for _ in range(3):
        clients.append(await connect(server))
        await advance(mock_clock, 1)
    assert [each.state for each in server.connections(at_most=2)] == ["new", "new", "closed"]
    assert [each.age for each in server.connections(at_most=2)][:2] == [3.0, 2.0]
    assert [each.state for each in server.connections(at_most=0)] == ["closed"]
    assert len(server.connections(at_most=100)) == 4
    with pytest.raises(ValueError, match=r"at_most .* not -1"):
        server.connections(at_most=-1)


async def test_connection_that_made_room_says_so(start_http, connect, handler):
    server = await start_http(handler, options=ServerOptions(max_connections=1))
    first = await connect(server)
    await first.ask()
    second = await connect(server)
    await second.ask()
    assert [(each.state, each.reason) for each in server.connections()] == [("idle", ""), ("closed", "made-room")]


async def test_looking_changes_nothing(start_http, connect, handler):
    server = await start_http(handler)
    client = await connect(server)
    await client.ask()
    await settle()
    before = server.connections()
    assert before == server.connections()
    with pytest.raises(dataclasses.FrozenInstanceError):
        before[0].answered = 7
    assert (await client.ask()).body == b"answer"


async def test_connections_are_remembered_after_the_end(start_http, connect, handler):
    server = await start_http(handler)
    client = await connect(server)
    await client.ask()
    await server.shutdown()
    assert [(each.state, each.reason) for each in server.connections()] == [("closed", "draining")]


def test_connections_can_be_looked_at_after_the_run(handler):
    """As the statistics can."""

    async def main():
        async with trio.open_nursery() as nursery:
            server = await nursery.start(partial(ktrio.serve_http, handler, "127.0.0.1:0"))
            async with await trio.open_tcp_stream("127.0.0.1", server.addresses[0].port) as stream:
                await stream.send_all(get("/", "Connection: close"))
                async for _ in stream:
                    pass
            await server.shutdown()
        return server

    server = trio.run(main)
    assert [(each.answered, each.reason) for each in server.connections()] == [(1, "answered")]


async def test_server_without_connections_has_an_empty_table(start_http, handler):
    server = await start_http(handler)
    assert server.connections() == ()


async def test_echo_shows_its_idle_phase(start_echo, connect, mock_clock):
    server = await start_echo()
    client = await connect(server)
    await client.send(b"hello")
    await client.read(5)
    await advance(mock_clock, 60)
    [found] = server.connections()
    assert (found.state, found.phase, found.deadline) == ("idle", "idle", 240.0)
    assert (found.bytes_received, found.bytes_sent) == (5, 5)
