"""A request that has come and waits for its slot is in progress, though nobody has read it yet."""

from __future__ import annotations

import contextlib

import pytest
import trio

from ktrio import QueueOptions, Response, ServerOptions
from tests.server.harness import Ended, advance, get, settle, time_passing

ONE = QueueOptions(max_active=1)


class Gated:
    """A handler whose `/busy` waits for its gate."""

    def __init__(self) -> None:
        self.gate = trio.Event()
        self.seen: list[str] = []

    async def __call__(self, request):
        self.seen.append(request.target)
        if request.target == "/busy":
            await self.gate.wait()
        return Response(body=request.target.encode())


@pytest.fixture
def handler():
    return Gated()


async def crowd(connect, server):
    """One at work; then a kept-alive connection and two new ones whose requests wait.

    One of the new ones says nothing at first; the other's request is there when somebody looks for the first time.
    """
    kept, busy, fresh = [await connect(server) for _ in range(3)]
    assert (await kept.ask(get("/first"))).status == 200
    await busy.send(get("/busy"))
    await settle()
    await kept.send(get("/kept"))
    await fresh.send(get("/fresh"))
    prompt = await connect(server)
    prompt.send_nowait(get("/prompt"))
    await settle()
    return busy, {b"/kept": kept, b"/fresh": fresh, b"/prompt": prompt}


async def test_waiting_request_makes_no_room(start_http, connect, handler, mock_clock):
    """It is no idle connection, however long it waits: the newcomer waits in the backlog."""
    server = await start_http(handler, queue=ONE, options=ServerOptions(max_connections=4))
    busy, waiting = await crowd(connect, server)
    newcomer = await connect(server)
    await newcomer.send(get("/new"))
    await advance(mock_clock, 4)
    await advance(mock_clock, 60)
    assert server.statistics().made_room == 0
    assert all(client.is_open for client in waiting.values())
    handler.gate.set()
    assert (await busy.read_reply()).body == b"/busy"
    for target, client in waiting.items():
        assert (await client.read_reply()).body == target
    assert (await newcomer.read_reply()).body == b"/new"


async def test_waiting_request_is_answered_by_a_server_that_drains(start_http, connect, handler, mock_clock):
    server = await start_http(handler, queue=ONE)
    busy, waiting = await crowd(connect, server)
    server.begin_shutdown()
    await advance(mock_clock, 5)
    handler.gate.set()
    for target, client in {b"/busy": busy, **waiting}.items():
        reply = await client.read_reply()
        assert (reply.body, reply.says_close) == (target, True)
        assert await client.read_end() == "fin"
    await settle()
    assert (server.statistics().open, server.statistics().cut) == (0, 0)


@pytest.mark.parametrize("how", ["grace", "second-signal"])
async def test_waiting_request_ends_with_the_grace_and_never_reaches_its_handler(
    start_http, connect, handler, mock_clock, how
):
    """Its peer is told; it is not left waiting, and who was at work is told or cut."""
    server = await start_http(handler, queue=ONE)
    busy, waiting = await crowd(connect, server)
    async with time_passing(mock_clock):
        if how == "grace":
            server.begin_shutdown(grace=1)
        else:
            server.force_shutdown(how)
        with contextlib.suppress(Ended):
            answer = await busy.read_to_end()
            assert answer == b"" or answer.startswith(b"HTTP/1.1 503 ")
        for client in waiting.values():
            assert (await client.read_reply()).status == 503
        await server.shutdown()
    assert handler.seen == ["/first", "/busy"]
    assert server.statistics().open == 0
    assert server.statistics().cut >= 1


async def test_waiting_request_is_dropped_when_its_peer_is_gone(start_http, connect, handler):
    """By the time it has its slot at the latest; its handler need not run for nobody."""
    server = await start_http(handler, queue=ONE)
    busy, waiting = await crowd(connect, server)
    for client in waiting.values():
        client.reset()
    await settle()
    handler.gate.set()
    assert (await busy.read_reply()).body == b"/busy"
    await settle()
    assert server.statistics().open == 1
    assert (await (await connect(server)).ask(get("/next"))).body == b"/next"


async def test_many_waiting_requests_are_all_answered_in_the_end(start_http, connect):
    """More than capacity and max_active together, on kept connections: none is lost, none answered twice."""
    at_work = most = 0

    async def handler(request):
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        await trio.lowlevel.checkpoint()
        at_work -= 1
        return Response(body=request.target.encode())

    server = await start_http(handler, queue=QueueOptions(max_active=2, capacity=3, cpus=2))
    answered = []

    async def talk(number):
        client = await connect(server)
        for turn in range(10):
            target = f"/{number}/{turn}"
            assert (await client.ask(get(target))).body == target.encode()
            answered.append(target)

    async with trio.open_nursery() as nursery:
        for number in range(60):
            nursery.start_soon(talk, number)
    assert len(set(answered)) == len(answered) == 600
    assert most <= 4
    assert server.statistics().answered == 600
