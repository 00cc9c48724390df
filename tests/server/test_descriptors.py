"""A full descriptor table pauses accepting, says so once, and recovers."""

from __future__ import annotations

import os
import socket

import pytest
import trio

from ktrio import Response
from tests.server.harness import Client, Ended, get, settle, trickle

resource = pytest.importorskip("resource")


@pytest.fixture
def descriptors():
    """`descriptors.exhaust()`: from now on nobody gets a descriptor, until `descriptors.release()`."""

    class Descriptors:
        before = resource.getrlimit(resource.RLIMIT_NOFILE)

        def exhaust(self) -> None:
            lowest_free = os.dup(0)
            os.close(lowest_free)
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, self.before[1]))

        def release(self) -> None:
            resource.setrlimit(resource.RLIMIT_NOFILE, self.before)

    descriptors = Descriptors()
    yield descriptors
    descriptors.release()


async def hello(request):
    return Response(body=b"hello")


@pytest.fixture
async def unconnected():
    """`unconnected(count)` gives peers that have their descriptors already, and keep them to the end of the test."""
    made = []

    def make(count):
        made.extend(Client(socket.socket()) for _ in range(count))
        return made[-count:]

    try:
        yield make
    finally:
        for client in made:
            client.close()


async def ask_all(clients, address, answers):
    async def ask(client):
        await client.sock.connect(address)
        try:
            await client.send(get("/", "Connection: close"))
            answers.append((await client.read_reply()).status)
        except (Ended, OSError):
            answers.append(0)

    async with trio.open_nursery() as nursery:
        for client in clients:
            nursery.start_soon(ask, client)


async def test_accepting_pauses_with_one_log_line_and_recovers(
    start_http, connect, mock_clock, descriptors, unconnected, caplog
):
    server = await start_http(hello)
    kept = await connect(server)
    await kept.ask()
    where = (server.addresses[0].host, server.addresses[0].port)
    waiting = unconnected(30)
    answers = []
    async with trio.open_nursery() as nursery:
        descriptors.exhaust()
        nursery.start_soon(ask_all, waiting, where, answers)
        await trickle(mock_clock, 3, step=0.25)
        assert 200 not in answers
        assert (await kept.ask()).body == b"hello"  # who is in is served
        assert len(caplog.records) == 1, caplog.text
        descriptors.release()
        await trickle(mock_clock, 3, step=0.25)
    # Whoever was not refused politely was served: nobody hung, and nobody was dropped without a word.
    assert set(answers) == {200, 503}
    assert server.statistics().refused == answers.count(503)
    assert (await (await connect(server)).ask()).body == b"hello"
    assert len(caplog.records) == 1, caplog.text


async def test_second_burst_gets_a_line_of_its_own(start_http, connect, mock_clock, descriptors, unconnected, caplog):
    server = await start_http(hello)
    where = (server.addresses[0].host, server.addresses[0].port)
    for burst in [1, 2]:
        answers = []
        clients = unconnected(5)
        async with trio.open_nursery() as nursery:
            descriptors.exhaust()
            nursery.start_soon(ask_all, clients, where, answers)
            await trickle(mock_clock, 2, step=0.25)
            descriptors.release()
            await trickle(mock_clock, 2, step=0.25)
        assert (await (await connect(server)).ask()).body == b"hello"
        await trickle(mock_clock, 120, step=10)
        assert len(caplog.records) == burst, caplog.text


async def test_pause_burns_no_cpu(start_http, mock_clock, descriptors, unconnected):
    """A listener that stays readable must not turn the loop: with time standing still everything comes to rest."""
    server = await start_http(hello)
    where = (server.addresses[0].host, server.addresses[0].port)
    clients = unconnected(10)
    answers = []
    async with trio.open_nursery() as nursery:
        descriptors.exhaust()
        nursery.start_soon(ask_all, clients, where, answers)
        await settle()  # never returns while the acceptor spins
        assert len(answers) < 10
        descriptors.release()
        await trickle(mock_clock, 3, step=0.25)
    assert len(answers) == 10


async def test_shutdown_during_the_pause_is_clean(start_http, mock_clock, descriptors, unconnected):
    server = await start_http(hello)
    where = (server.addresses[0].host, server.addresses[0].port)
    clients = unconnected(5)
    answers = []
    async with trio.open_nursery() as nursery:
        descriptors.exhaust()
        nursery.start_soon(ask_all, clients, where, answers)
        await settle()
        nursery.start_soon(server.shutdown)
        await trickle(mock_clock, 12, step=0.5)
        descriptors.release()
    assert len(answers) == 5
    assert server.statistics().open == 0
