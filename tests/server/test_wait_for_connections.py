"""Waiting for a number of connections: each number is seen, however short it lasts, and no wait is for ever."""

from __future__ import annotations

import pytest
import trio
from trio.testing import assert_checkpoints

from ktrio import Response, ServerEndedError, ServerOptions
from tests.server.harness import GET, get, let_time_fly, settle


async def hello(request):
    return Response(body=b"hello")


class Waiting:
    """Waits for a number of connections and notes what comes of it."""

    def __init__(self, nursery, server, count):
        self.scope = trio.CancelScope()
        self.outcome = None
        nursery.start_soon(self._wait, server, count)

    async def _wait(self, server, count):
        with self.scope:
            try:
                await server.wait_for_connections(count)
            except ServerEndedError as error:
                self.outcome = error
            else:
                self.outcome = "reached"


async def test_number_that_is_there_already_is_a_checkpoint_and_no_wait(start_http, connect):
    server = await start_http(hello)
    with assert_checkpoints():
        await server.wait_for_connections(0)
    client = await connect(server)
    await client.ask()
    with assert_checkpoints():
        await server.wait_for_connections(1)


async def test_number_is_waited_for_on_the_way_up_and_on_the_way_down(start_http, connect):
    server = await start_http(hello)
    clients = []
    async with trio.open_nursery() as nursery:
        up = Waiting(nursery, server, 3)
        for _ in range(2):
            clients.append(await connect(server))
            await settle()
            assert up.outcome is None
        clients.append(await connect(server))
        await settle()
        assert up.outcome == "reached"
        down = Waiting(nursery, server, 1)
        clients.pop().close()
        await settle()
        assert down.outcome is None
        clients.pop().close()
        await settle()
        assert down.outcome == "reached"


async def test_number_that_lasts_for_less_than_a_turn_is_seen(start_http, connect):
    """All ten are accepted in one turn of the loop, and so nobody could look in between."""
    server = await start_http(hello)
    server.suspend()
    clients = [await connect(server) for _ in range(10)]
    async with trio.open_nursery() as nursery:
        waiting = [Waiting(nursery, server, count) for count in range(1, 12)]
        await settle()
        server.resume()
        await settle()
        assert [each.outcome for each in waiting] == ["reached"] * 10 + [None]
        nursery.cancel_scope.cancel()
    assert all(client.is_open for client in clients)


async def test_many_may_wait_for_the_same_number_and_one_may_give_up(start_http, connect):
    server = await start_http(hello)
    async with trio.open_nursery() as nursery:
        waiting = [Waiting(nursery, server, 1) for _ in range(3)]
        await settle()
        waiting[0].scope.cancel()
        await settle()
        client = await connect(server)
        await settle()
        assert [each.outcome for each in waiting] == [None, "reached", "reached"]
    assert client.is_open


async def test_wait_that_all_have_given_up_can_be_begun_again(start_http, connect):
    server = await start_http(hello)
    with trio.move_on_after(0):
        await server.wait_for_connections(1)
    async with trio.open_nursery() as nursery:
        waiting = Waiting(nursery, server, 1)
        await settle()
        waiting.scope.cancel()
        await settle()
        again = Waiting(nursery, server, 1)
        await settle()
        client = await connect(server)
        await settle()
        assert (waiting.outcome, again.outcome) == (None, "reached")
    assert client.is_open


async def test_suspended_server_is_empty_once_the_last_one_has_left(start_http, connect):
    """Ranch's recipe: nobody new comes in, and so 0 is 0 for good."""
    server = await start_http(hello)
    clients = [await connect(server) for _ in range(3)]
    for client in clients:
        await client.ask()
    async with trio.open_nursery() as nursery:
        server.suspend()
        waiting = Waiting(nursery, server, 0)
        newcomer = await connect(server)
        for client in clients:
            assert waiting.outcome is None
            client.close()
            await settle()
        assert waiting.outcome == "reached"
    assert (newcomer.is_open, server.statistics().open) == (True, 0)


@pytest.mark.parametrize("count", [-1, -17])
async def test_negative_number_is_refused_with_its_value(start_http, count):
    server = await start_http(hello)
    with pytest.raises(ValueError, match=str(count)):
        await server.wait_for_connections(count)


async def test_end_of_the_server_ends_the_wait_for_what_never_came(start_http, connect):
    server = await start_http(hello)
    client = await connect(server)
    await client.ask()
    async with trio.open_nursery() as nursery:
        many, also, none = (Waiting(nursery, server, count) for count in (5, 5, 0))
        await settle()
        await server.shutdown()
        await settle()
        for each in (many, also):
            assert isinstance(each.outcome, ServerEndedError)
            assert "5 connections" in str(each.outcome)
            assert "ended" in str(each.outcome)
        assert none.outcome == "reached"


async def test_number_reached_by_the_shutdown_itself_counts(start_http, connect):
    """On the way down a server passes every number once more."""
    server = await start_http(hello)
    clients = [await connect(server) for _ in range(3)]
    await server.wait_for_connections(3)
    async with trio.open_nursery() as nursery:
        waiting = Waiting(nursery, server, 2)
        await settle()
        await server.shutdown()
        await settle()
        assert waiting.outcome == "reached"
    assert [client.peek() for client in clients] == ["fin"] * 3


async def test_after_the_end_there_are_none_and_never_will_be(start_http):
    server = await start_http(hello)
    await server.shutdown()
    with assert_checkpoints():
        await server.wait_for_connections(0)
    with pytest.raises(RuntimeError, match="never"):
        await server.wait_for_connections(1)


async def test_cancelled_server_ends_the_wait_too(start_http, connect):
    outcomes = []
    async with trio.open_nursery() as outer:
        async with trio.open_nursery() as servers:
            server = await start_http(hello, within=servers)
            await (await connect(server)).ask()
            outcomes = [Waiting(outer, server, count) for count in (0, 2)]
            await settle()
            let_time_fly()
            servers.cancel_scope.cancel()
        await settle()
    assert outcomes[0].outcome == "reached"
    assert isinstance(outcomes[1].outcome, ServerEndedError)


async def test_connection_that_makes_room_is_a_number_less(start_http, connect):
    server = await start_http(hello, options=ServerOptions(max_connections=1))
    first = await connect(server)
    await first.ask()
    async with trio.open_nursery() as nursery:
        waiting = Waiting(nursery, server, 0)
        await settle()
        second = await connect(server)
        await second.send(GET)
        assert (await second.read_reply()).body == b"hello"
        assert waiting.outcome == "reached"
    assert server.statistics().open == 1


async def test_closing_answer_brings_the_number_down(start_http, connect):
    server = await start_http(hello)
    client = await connect(server)
    await client.ask(get("/", "Connection: close"))
    await server.wait_for_connections(0)
    assert server.statistics().open == 0
