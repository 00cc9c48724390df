"""Suspended accepting: newcomers wait in the backlog, everybody who is in goes on, nobody is closed to make room."""

from __future__ import annotations

import pytest
import trio

from ktrio import Response, ServerOptions
from tests.server.harness import GET, advance, get, settle


async def hello(request):
    return Response(body=b"hello")


class Gated:
    """A handler whose `/busy` waits for its gate."""

    def __init__(self) -> None:
        self.gate = trio.Event()

    async def __call__(self, request):
        if request.target == "/busy":
            await self.gate.wait()
        return Response(body=b"answer")


async def test_newcomers_wait_while_suspended_and_are_served_at_once_when_resumed(start_http, connect, mock_clock):
    server = await start_http(hello)
    server.suspend()
    newcomers = [await connect(server) for _ in range(5)]
    for client in newcomers:
        await client.send(GET)
    await advance(mock_clock, 3600)
    assert all(client.is_open for client in newcomers)
    assert server.statistics().accepted == 0
    server.resume()
    for client in newcomers:
        assert (await client.read_reply()).body == b"hello"
    assert server.statistics().accepted == 5


async def test_open_connections_go_on_while_suspended(start_http, connect):
    handler = Gated()
    server = await start_http(handler)
    kept, busy = await connect(server), await connect(server)
    await kept.ask()
    await busy.send(get("/busy"))
    await settle()
    server.suspend()
    for _ in range(3):
        assert (await kept.ask()).body == b"answer"
    handler.gate.set()
    assert (await busy.read_reply()).body == b"answer"
    assert server.statistics().open == 2


async def test_server_suspended_before_anybody_came_accepts_nobody(start_http, connect):
    """Its acceptor waits for the listener already when it is told."""
    server = await start_http(hello)
    await settle()
    server.suspend()
    newcomer = await connect(server)
    await settle()
    assert server.statistics().accepted == 0
    assert newcomer.is_open


async def test_acceptor_that_waits_for_room_accepts_nobody_after_suspend(start_http, connect):
    handler = Gated()
    server = await start_http(handler, options=ServerOptions(max_connections=1))
    busy = await connect(server)
    await busy.send(get("/busy"))
    await settle()
    newcomer = await connect(server)
    await newcomer.send(GET)
    await settle()  # it waits for room
    server.suspend()
    handler.gate.set()
    assert (await busy.read_reply()).body == b"answer"
    busy.close()
    await settle()
    assert (server.statistics().open, server.statistics().accepted) == (0, 1)
    server.resume()
    assert (await newcomer.read_reply()).body == b"answer"


async def test_nobody_makes_room_while_suspended(start_http, connect, mock_clock):
    server = await start_http(hello, options=ServerOptions(max_connections=1))
    idle = await connect(server)
    await idle.ask()
    server.suspend()
    newcomer = await connect(server)
    await newcomer.send(GET)
    await advance(mock_clock, 1)
    assert (idle.is_open, server.statistics().made_room) == (True, 0)
    server.resume()
    assert (await newcomer.read_reply()).body == b"hello"
    assert await idle.read_end() == "fin"
    assert server.statistics().made_room == 1


async def test_nobody_makes_room_for_one_who_is_served_no_more(start_http, connect, mock_clock):
    """An acceptor that waited for room when it was suspended looks again at its listener before it closes anybody."""
    handler = Gated()
    server = await start_http(handler, options=ServerOptions(max_connections=1))
    busy = await connect(server)
    await busy.send(get("/busy"))
    await settle()
    newcomer = await connect(server)
    await settle()
    server.suspend()
    newcomer.reset()  # the kernel drops it from the backlog, or has it accepted and found dead: never room for nobody
    handler.gate.set()
    assert (await busy.read_reply()).body == b"answer"
    await advance(mock_clock, 1)
    assert busy.is_open
    assert server.statistics().made_room == 0


async def test_suspend_and_resume_may_be_called_again_and_again(start_http, connect):
    server = await start_http(hello)
    server.resume()
    for _ in range(2):
        server.suspend()
        server.suspend()
        await settle()
        newcomer = await connect(server)
        await newcomer.send(GET)
        await settle()
        assert newcomer.is_open
        server.resume()
        server.resume()
        assert (await newcomer.read_reply()).body == b"hello"


@pytest.mark.parametrize("command", ["suspend", "resume"])
async def test_last_call_of_one_turn_decides(start_http, connect, command):
    server = await start_http(hello)
    server.suspend()
    server.resume()
    if command == "suspend":
        server.suspend()
    newcomer = await connect(server)
    await settle()
    assert server.statistics().accepted == (command == "resume")
    assert newcomer.is_open


async def test_every_listener_is_suspended(start_http, connect):
    server = await start_http(hello, "127.0.0.1:0", "127.0.0.1:0")
    server.suspend()
    newcomers = [await connect(server, index) for index in range(2)]
    for client in newcomers:
        await client.send(GET)
    await settle()
    assert server.statistics().accepted == 0
    server.resume()
    for client in newcomers:
        assert (await client.read_reply()).body == b"hello"


async def test_backlog_of_a_suspended_server_is_answered_at_its_shutdown(start_http, connect):
    server = await start_http(hello)
    server.suspend()
    newcomers = [await connect(server) for _ in range(5)]
    for client in newcomers:
        await client.send(GET)
    await settle()
    await server.shutdown()
    for client in newcomers:
        reply = await client.read_reply()
        assert (reply.body, reply.says_close) == (b"hello", True)
    assert (server.statistics().open, server.statistics().cut) == (0, 0)


async def test_suspending_an_ended_server_does_nothing(start_http):
    server = await start_http(hello)
    await server.shutdown()
    server.suspend()
    server.resume()
    assert repr(server).endswith(" ended>")


async def test_suspension_shows_in_statistics_and_repr(start_http):
    server = await start_http(hello)
    assert not server.statistics().suspended
    assert "suspended" not in repr(server)
    server.suspend()
    assert server.statistics().suspended
    assert repr(server).endswith(" suspended>")
    server.resume()
    assert not server.statistics().suspended
    assert "suspended" not in repr(server)
