"""Many peers that do whatever they like, while time passes: the books balance, and the server answers on."""

from __future__ import annotations

import contextlib
import random

import pytest
import trio

import ktrio
from ktrio import WQ_UNBOUND, Response, ServerOptions
from tests.server.harness import GET, Ended, advance, get, post, settle, time_passing

pytestmark = pytest.mark.exhaustive


class Storm:
    """Peers with seeded dice."""

    def __init__(self, seed: int, connect, server) -> None:
        self.dice = random.Random(seed)
        self.connect = connect
        self.server = server
        self.wrong: list[str] = []

    async def one(self) -> None:
        client = await self.connect(self.server, receive_buffer=self.dice.choice([None, 4096]))
        with contextlib.suppress(Ended, OSError):  # it may have closed itself meanwhile
            for _ in range(self.dice.randrange(1, 6)):
                await self.act(client)
            if self.dice.random() < 0.5:
                client.reset()
        client.close()

    async def act(self, client) -> None:
        name = b"/%d" % self.dice.randrange(1 << 30)
        match self.dice.randrange(9):
            case 0:
                await trio.sleep(self.dice.random() * 12)
            case 1:
                await client.send(GET[: self.dice.randrange(len(GET))])
                await trio.sleep(self.dice.random() * 2)
                client.reset()
            case 2:
                count = self.dice.randrange(2, 8)
                await client.send(get(name.decode()) * count)
                for _ in range(count):
                    self.check(await client.read_reply(), name)
            case 3:
                self.check(await client.ask(post(b"x" * self.dice.randrange(3000), target=name.decode())), name)
            case 4:
                await client.send(get("/slow"))
                await trio.sleep(self.dice.random() * 3)
                client.reset()
            case 5:
                await client.send(get("/big"))
                await client.read(self.dice.randrange(200_000))
                await trio.sleep(self.dice.random() * 40)
                client.close()
            case 6:
                await client.send(get(name.decode()))
                client.finish()
                self.check(await client.read_reply(), name)
                client.close()
            case 7:
                await client.send(bytes(self.dice.randrange(256) for _ in range(20)))
                await client.read_to_end()
            case 8:
                self.check(await client.ask(get(name.decode())), name)

    def check(self, reply, name: bytes) -> None:
        if reply.status == 200 and reply.body != name:
            self.wrong.append(f"{name!r} got {reply.body!r}")


async def handler(request):
    match request.target:
        case "/slow":
            await trio.sleep(5)
        case "/big":
            return Response(body=b"x" * 4_000_000)
    return Response(body=request.target.encode())


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
async def test_books_balance_after_a_storm(start_http, connect, mock_clock, caplog, seed):
    """Every connection has one end with one reason; whoever got an answer got its own; nothing is at work any more."""
    async with (
        time_passing(mock_clock, step=0.5),
        ktrio.open_supervisor(cpus=2, capacity=8) as supervisor,
        trio.open_nursery() as servers,
    ):
        queue = supervisor.alloc_workqueue("storm", WQ_UNBOUND, max_active=3)
        options = ServerOptions(max_connections=12)
        server = await start_http(handler, workqueue=queue, options=options, within=servers)
        storm = Storm(seed, connect, server)
        async with trio.open_nursery() as nursery:
            for _ in range(60):
                nursery.start_soon(storm.one)
        assert storm.wrong == []
        assert (await (await connect(server)).ask(get("/after"))).body == b"/after"
        await server.shutdown()
        statistics = server.statistics()
        assert (statistics.open, statistics.owing, statistics.quiet) == (0, 0, 0)
        assert statistics.accepted == sum(statistics.reasons.values())
        assert statistics.errors == 0
        assert (queue.statistics().in_flight, queue.statistics().nr_active) == (0, 0)
    assert caplog.records == []


async def test_statistics_add_up_at_every_moment(start_http, connect, mock_clock):
    """Accepted ones are open or have ended for one reason each."""
    server = await start_http(handler)

    def check() -> None:
        statistics = server.statistics()
        assert statistics.accepted == statistics.open + sum(statistics.reasons.values())
        assert statistics.quiet + statistics.owing <= statistics.open

    clients = []
    for index in range(30):
        clients.append(await connect(server))
        if index % 3:
            await clients[-1].send(get("/slow") if index % 2 else GET[:5])
        await advance(mock_clock, 0.5)
        check()
    for client in clients[::2]:
        client.reset()
        await settle()
        check()
    server.begin_shutdown()
    await settle()
    check()


async def test_peers_that_reset_before_they_are_accepted_cost_nothing(start_http, connect, caplog):
    """They were in the backlog, and are gone when their turn comes."""
    server = await start_http(handler)
    for _ in range(5):
        async with trio.open_nursery() as nursery:

            async def come_and_go():
                client = await connect(server)
                client.reset()

            for _ in range(20):
                nursery.start_soon(come_and_go)
        assert (await (await connect(server)).ask(get("/x"))).body == b"/x"
    await settle()
    assert server.statistics().open == 5
    assert caplog.records == []
