"""A full server: idle connections make room, busy ones do not, and nobody is closed while nobody waits."""

from __future__ import annotations

import shutil

import pytest
import trio

from ktrio import Response, ServerOptions
from tests.server.harness import GET, advance, get, settle


async def hello(request):
    return Response(body=b"hello")


def at_most(count: int) -> ServerOptions:
    return ServerOptions(max_connections=count)


class Gated:
    """A handler whose `/busy` waits for its gate."""

    def __init__(self) -> None:
        self.gate = trio.Event()
        self.at_work = 0

    async def __call__(self, request):
        if request.target == "/busy":
            self.at_work += 1
            await self.gate.wait()
            self.at_work -= 1
        return Response(body=b"answer")


async def idle_clients(connect, server, clock, count):
    """So many connections that have been idle for ever shorter, the first the longest."""
    clients = []
    for _ in range(count):
        clients.append(await connect(server))
        assert (await clients[-1].ask()).status == 200
        await advance(clock, 0.5)
    return clients


async def test_newcomer_to_a_full_server_gets_the_place_of_the_longest_idle(start_http, connect, mock_clock):
    server = await start_http(hello, options=at_most(3))
    clients = await idle_clients(connect, server, mock_clock, 3)
    newcomer = await connect(server)
    assert (await newcomer.ask()).body == b"hello"
    await settle()
    assert [client.peek() for client in clients] == ["fin", "open", "open"]
    statistics = server.statistics()
    assert (statistics.open, statistics.made_room, statistics.reasons) == (3, 1, {"made-room": 1})
    assert statistics.cut == 0


async def test_longest_idle_is_counted_from_the_last_answer_not_from_accept(start_http, connect, mock_clock):
    server = await start_http(hello, options=at_most(3))
    clients = await idle_clients(connect, server, mock_clock, 3)
    await clients[0].ask()
    await advance(mock_clock, 0.5)
    assert (await (await connect(server)).ask()).body == b"hello"
    await settle()
    assert [client.peek() for client in clients] == ["open", "fin", "open"]


async def test_each_of_many_newcomers_gets_a_place(start_http, connect, mock_clock):
    """A newcomer at 20 connections with 20 idle ones, 20 times over."""
    server = await start_http(hello, options=at_most(20))
    await idle_clients(connect, server, mock_clock, 5)
    for _ in range(40):
        assert (await (await connect(server)).ask()).body == b"hello"
        assert server.statistics().open <= 20
    assert server.statistics().made_room == 25


async def test_burst_of_newcomers_is_served_whole(start_http, connect):
    """They come at once, more of them than there are places: the last waits in the backlog until others are idle."""
    server = await start_http(hello, options=at_most(4))
    answers = []

    async def ask():
        client = await connect(server)
        answers.append((await client.ask()).body)

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(ask)
    assert answers == [b"hello"] * 50
    assert server.statistics().open <= 4


async def test_nobody_is_closed_while_nobody_waits(start_http, connect, mock_clock):
    """Permission is asked only once somebody knocks: a full house of idle connections stays as it is."""
    server = await start_http(hello, options=at_most(3))
    clients = await idle_clients(connect, server, mock_clock, 3)
    await advance(mock_clock, 3)
    assert all(client.is_open for client in clients)
    assert server.statistics().made_room == 0
    for client in clients:
        assert (await client.ask()).body == b"hello"


async def test_idle_connection_with_bytes_pending_is_kept(start_http, connect, mock_clock):
    """It is a request in progress already, whoever looks first; the next longest idle one goes."""
    server = await start_http(hello, options=at_most(3))
    for _ in range(10):
        clients = await idle_clients(connect, server, mock_clock, 3)
        newcomer = await connect(server)
        clients[0].send_nowait(GET)
        assert (await clients[0].read_reply()).body == b"hello"
        assert (await newcomer.ask()).body == b"hello"
        for client in [*clients, newcomer]:
            client.close()
        await settle()
        assert server.statistics().open == 0


async def test_idle_connections_that_all_have_bytes_pending_are_all_answered(start_http, connect, mock_clock):
    server = await start_http(hello, options=at_most(3))
    for _ in range(10):
        clients = await idle_clients(connect, server, mock_clock, 3)
        newcomer = await connect(server)
        for client in [*clients, newcomer]:
            client.send_nowait(GET)
        for client in [*clients, newcomer]:
            assert (await client.read_reply()).body == b"hello"
        for client in [*clients, newcomer]:
            client.close()
        await settle()


async def test_newcomer_waits_in_the_backlog_while_all_are_busy(start_http, connect, mock_clock):
    """Nobody at work is thrown out, and nobody is refused: the newcomer waits, and is served."""
    handler = Gated()
    server = await start_http(handler, options=at_most(2))
    busy = [await connect(server) for _ in range(2)]
    for client in busy:
        await client.send(get("/busy"))
    await settle()
    newcomer = await connect(server)
    await newcomer.send(get("/"))
    await advance(mock_clock, 60)
    assert newcomer.is_open
    statistics = server.statistics()
    assert (statistics.open, statistics.accepted, statistics.made_room) == (2, 2, 0)
    handler.gate.set()
    for client in [*busy, newcomer]:
        assert (await client.read_reply()).body == b"answer"
    assert server.statistics().refused == 0


@pytest.mark.parametrize("leave", ["close", "reset"])
async def test_place_of_a_connection_that_ends_is_taken_by_who_waits(start_http, connect, leave):
    handler = Gated()
    server = await start_http(handler, options=at_most(1))
    busy = await connect(server)
    await busy.send(get("/busy", "Connection: close"))
    await settle()
    newcomer = await connect(server)
    await newcomer.send(GET)
    await settle()
    assert newcomer.is_open
    if leave == "reset":
        busy.reset()
    else:
        handler.gate.set()
    assert (await newcomer.read_reply()).body == b"answer"


async def test_half_a_head_is_no_idle_connection(start_http, connect, mock_clock):
    """A request has begun: it makes no room."""
    server = await start_http(hello, options=at_most(2))
    (idle,) = await idle_clients(connect, server, mock_clock, 1)
    begun = await connect(server)
    await begun.send(GET[:5])
    await advance(mock_clock, 1)
    await idle.ask()
    await advance(mock_clock, 1)
    assert (await (await connect(server)).ask()).body == b"hello"
    await begun.send(GET[5:])
    assert (await begun.read_reply()).body == b"hello"
    assert await idle.read_end() == "fin"


async def test_connections_that_said_nothing_yet_make_room_too(start_http, connect, mock_clock):
    """Whoever opens connections and says nothing must not keep others out for the length of the head deadline."""
    server = await start_http(hello, options=at_most(5))
    for _ in range(5):
        await connect(server)
    await advance(mock_clock, 1)
    assert (await (await connect(server)).ask()).body == b"hello"
    assert server.statistics().made_room == 1


async def test_echo_makes_room_as_well(start_echo, connect, mock_clock):
    server = await start_echo(options=at_most(2))
    clients = [await connect(server) for _ in range(2)]
    for client in clients:
        await client.send(b"x")
        assert await client.read(1) == b"x"
        await advance(mock_clock, 1)
    newcomer = await connect(server)
    await newcomer.send(b"new")
    assert await newcomer.read(3) == b"new"
    assert [client.peek() for client in clients] == ["fin", "open"]
    assert server.statistics().made_room == 1


async def test_places_are_those_of_the_server_not_of_a_listener(start_http, connect, mock_clock):
    server = await start_http(hello, "127.0.0.1:0", "127.0.0.1:0", options=at_most(2))
    clients = []
    for index in [0, 1, 0]:
        clients.append(await connect(server, index))
        assert (await clients[-1].ask()).body == b"hello"
        await advance(mock_clock, 0.5)
    assert [client.peek() for client in clients] == ["fin", "open", "open"]


@pytest.mark.parametrize(
    "options",
    [{"max_connections": 0}, {"max_connections": -1}, {"backlog": 0}, {"backlog": -5}, {"grace": -2}],
    ids=repr,
)
def test_option_out_of_range_is_refused_with_its_value(options):
    (value,) = options.values()
    with pytest.raises(ValueError, match=str(value)):
        ServerOptions(**options)


@pytest.mark.skipif(shutil.which("ss") is None, reason="needs ss to see the backlog")
async def test_backlog_of_the_listener_is_the_setting(start_http):
    """A small backlog looks like a slow server; the default must not be one."""
    for options, backlog in [(ServerOptions(), 1024), (ServerOptions(backlog=77), 77)]:
        server = await start_http(hello, options=options)
        command = ["ss", "-Hltn", f"sport = :{server.addresses[0].port}"]
        listing = await trio.run_process(command, capture_stdout=True)
        assert int(listing.stdout.split()[2]) == backlog
