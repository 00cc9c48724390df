"""Shutdown asked for twice, by several tasks, at odd moments: the first word counts, and a shorter grace."""

from __future__ import annotations

import pytest
import trio

from ktrio import Response
from tests.server.harness import GET, advance, settle


class Gated:
    """A handler that waits at its gate."""

    def __init__(self) -> None:
        self.gate = trio.Event()

    async def __call__(self, request):
        await self.gate.wait()
        return Response(body=b"answer")


@pytest.fixture
def handler():
    return Gated()


async def busy_client(connect, server):
    client = await connect(server)
    await client.send(GET)
    await settle()
    return client


@pytest.mark.parametrize("first", [None, 3])
async def test_longer_grace_asked_for_later_does_not_prolong_the_first(start_http, connect, handler, mock_clock, first):
    """Not even in the turn in which the first was asked for."""
    server = await start_http(handler)
    client = await busy_client(connect, server)
    server.begin_shutdown(grace=first)
    server.begin_shutdown(grace=3600)
    await advance(mock_clock, 2.9 if first else 7.9)
    assert client.is_open
    await advance(mock_clock, 0.2)
    assert (await client.read_reply()).status == 503


async def test_shorter_grace_asked_for_later_counts_from_then(start_http, connect, handler, mock_clock):
    server = await start_http(handler)
    client = await busy_client(connect, server)
    server.begin_shutdown()
    await advance(mock_clock, 4)
    server.begin_shutdown(grace=1)
    await advance(mock_clock, 0.9)
    assert client.is_open
    await advance(mock_clock, 0.2)
    assert (await client.read_reply()).status == 503


async def test_second_begin_without_a_grace_changes_nothing(start_http, connect, handler, mock_clock):
    server = await start_http(handler)
    client = await busy_client(connect, server)
    server.begin_shutdown(grace=20)
    await advance(mock_clock, 10)
    server.begin_shutdown()
    await advance(mock_clock, 9.9)
    assert client.is_open
    handler.gate.set()
    assert (await client.read_reply()).body == b"answer"


async def test_reason_of_the_first_force_is_kept(start_http, connect, handler):
    server = await start_http(handler)
    await busy_client(connect, server)
    server.force_shutdown("first")
    server.force_shutdown("second")
    await server.wait_ended()
    assert server.statistics().reasons == {"first": 1}


async def test_shutdown_is_waited_for_by_each_task_that_asked(start_http, connect, handler, mock_clock):
    server = await start_http(handler)
    client = await busy_client(connect, server)
    done = []

    async def shut_down(grace):
        await server.shutdown(grace=grace)
        done.append(grace)

    async with trio.open_nursery() as nursery:
        for grace in (60, 5, None, 30):
            nursery.start_soon(shut_down, grace)
        await advance(mock_clock, 4.9)
        assert done == []
        await advance(mock_clock, 0.2)
        assert (await client.read_reply()).status == 503
    assert len(done) == 4


async def test_shutdown_whose_waiting_task_is_cancelled_goes_on(start_http, connect, handler):
    server = await start_http(handler)
    client = await busy_client(connect, server)
    with trio.move_on_after(0):
        await server.shutdown()
    await settle()
    assert server.statistics().draining
    handler.gate.set()
    assert (await client.read_reply()).says_close
    await server.wait_ended()


async def test_handler_may_begin_the_shutdown_and_is_still_answered(start_http, connect):
    async def handler(request):
        server.begin_shutdown()
        return Response(body=b"goodbye")

    server = await start_http(handler)
    client = await busy_client(connect, server)
    assert (await client.read_reply()).body == b"goodbye"
    assert await client.read_end() == "fin"
    await server.wait_ended()


async def test_all_calls_to_an_ended_server_return_at_once(start_http, handler):
    server = await start_http(handler)
    await server.shutdown()
    server.begin_shutdown(grace=1)
    server.force_shutdown("late")
    await server.shutdown(grace=1)
    await server.wait_ended()
    assert server.statistics().reasons == {}
