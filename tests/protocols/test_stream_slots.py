"""Slots of stream handlers: `max_active` limits handlers at work, never those that wait for their peers."""

from __future__ import annotations

import pytest
import trio

import ktrio
from ktrio import QueueOptions, ServerOptions
from tests.server.harness import advance, settle, trickle

ONE = QueueOptions(max_active=1, capacity=1)
MIB = 1 << 20


class Handlers:
    """Each is told by its peer's first byte what to do; remembers what came when."""

    def __init__(self) -> None:
        self.gate = trio.Event()
        self.events: list[str] = []
        self.at_work = 0
        self.most = 0

    async def __call__(self, stream):
        self.events.append("begins")
        async for word in stream:
            self.events.append(word.decode())
            self.at_work += 1
            self.most = max(self.most, self.at_work)
            if word == b"wait":
                await self.gate.wait()
            await trio.lowlevel.checkpoint()
            self.at_work -= 1
            await stream.send_all(word)


@pytest.fixture
def handlers():
    return Handlers()


async def test_handlers_that_wait_for_their_peers_take_no_slot(start_stream, connect, handlers):
    server = await start_stream(handlers, queue=ONE)
    clients = [await connect(server) for _ in range(50)]
    await settle()
    assert handlers.events == ["begins"] * 50
    for client in clients:
        await client.send(b"x")
        assert await client.read(1) == b"x"


async def test_handler_that_waits_for_something_else_keeps_its_slot(start_stream, connect, handlers):
    server = await start_stream(handlers, queue=ONE)
    first = await connect(server)
    await first.send(b"wait")
    await settle()
    second = await connect(server)
    await second.send(b"now")
    await settle()
    assert handlers.events == ["begins", "wait"]
    handlers.gate.set()
    assert await second.read(3) == b"now"
    assert handlers.most == 1


async def test_handler_whose_peer_has_answered_waits_for_a_slot_before_it_goes_on(start_stream, connect, handlers):
    server = await start_stream(handlers, queue=ONE)
    first, second = await connect(server), await connect(server)
    await settle()
    await first.send(b"wait")
    await settle()
    await second.send(b"now")
    await settle()
    assert handlers.events == ["begins", "begins", "wait"]
    handlers.gate.set()
    assert await second.read(3) == b"now"


@pytest.mark.parametrize(("options", "most"), [({"max_active": 3}, 3), ({"max_active": 2, "cpus": 2}, 4)])
async def test_no_more_handlers_are_at_work_than_allowed(start_stream, connect, handlers, options, most):
    server = await start_stream(handlers, queue=QueueOptions(**options))
    clients = [await connect(server) for _ in range(20)]
    for client in clients:
        await client.send(b"wait")
    await settle()
    assert handlers.at_work == most
    handlers.gate.set()
    for client in clients:
        assert await client.read(4) == b"wait"
    assert handlers.most == most


@pytest.mark.parametrize("method", ["send_all", "wait_send_all_might_not_block"])
async def test_handler_whose_peer_does_not_read_takes_no_slot(start_stream, connect, method):
    async def handler(stream):
        if await stream.receive_some() == b"stall":
            with trio.move_on_after(5):
                await stream.send_all(bytes(64 * MIB))
            await getattr(stream, method)(*[b"x"] * (method == "send_all"))
        await stream.send_all(b"answer")

    server = await start_stream(handler, queue=ONE)
    stalled = await connect(server, receive_buffer=4096)
    await stalled.send(b"stall")
    await settle()
    other = await connect(server)
    await other.send(b"x")
    assert await other.read_to_end() == b"answer"


async def test_handler_that_is_told_of_draining_takes_no_slot_while_it_waits(start_stream, connect):
    async def handler(stream):
        while await stream.receive_unless_draining():
            await stream.send_all(b"answer")

    server = await start_stream(handler, queue=ONE)
    clients = [await connect(server) for _ in range(3)]
    for client in clients:
        await client.send(b"x")
        assert await client.read(6) == b"answer"
    server.begin_shutdown()
    for client in clients:
        assert await client.read_end() == "fin"


async def test_task_of_a_handler_that_waits_for_the_peer_keeps_the_slot(start_stream, connect):
    """It is the handler's own business what else it does meanwhile."""
    begun = []

    async def handler(stream):
        begun.append(stream)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.receive_some)

    server = await start_stream(handler, queue=ONE)
    first, second = await connect(server), await connect(server)
    await settle()
    assert len(begun) == 1
    await first.send(b"x")
    await second.send(b"x")
    await settle()
    assert len(begun) == 2
    assert [await each.read_end() for each in (first, second)] == ["fin", "fin"]


async def test_wait_for_a_slot_has_no_deadline_of_the_peers(start_stream, connect, handlers, mock_clock):
    """It is none of the peer's doing, before the first step and later."""
    server = await start_stream(handlers, queue=ONE, options=ServerOptions(grace=5000))
    early, holder = await connect(server), await connect(server)
    await settle()
    await holder.send(b"wait")
    await settle()
    late = await connect(server)
    for client in (early, late):
        await client.send(b"now")
    await trickle(mock_clock, 2000, step=100)
    assert [client.peek() for client in (early, late)] == ["open", "open"]
    handlers.gate.set()
    for client in (early, late):
        assert await client.read(3) == b"now"
    assert server.statistics().reasons == {}


@pytest.mark.parametrize("leave", ["reset", "close"])
async def test_peer_that_leaves_while_it_waits_for_a_slot_leaves_nothing_taken(start_stream, connect, handlers, leave):
    server = await start_stream(handlers, queue=ONE)
    holder = await connect(server)
    await holder.send(b"wait")
    await settle()
    leaving = [await connect(server) for _ in range(3)]
    await settle()
    for client in leaving:
        getattr(client, leave)()
    await settle()
    handlers.gate.set()
    assert await holder.read(4) == b"wait"
    other = await connect(server)
    await other.send(b"x")
    assert await other.read(1) == b"x"
    await settle()
    assert server.statistics().open == 2
    assert server.statistics().errors == 0


async def test_stream_makes_no_room_and_newcomers_wait(start_stream, connect, handlers, mock_clock):
    """A handler is owed its time: nobody can say whether its peer is between two requests."""
    server = await start_stream(handlers, options=ServerOptions(max_connections=1))
    first = await connect(server)
    await settle()
    newcomer = await connect(server)
    await newcomer.send(b"x")
    await advance(mock_clock, 60)
    assert (first.is_open, newcomer.is_open) == (True, True)
    assert (server.statistics().accepted, server.statistics().made_room) == (1, 0)
    first.close()
    assert await newcomer.read(1) == b"x"


async def test_handlers_get_their_slots_in_the_order_of_their_coming(start_stream, connect):
    gate = trio.Event()
    begun = []

    async def handler(stream):
        begun.append(stream.peer)
        await gate.wait()

    server = await start_stream(handler, queue=ONE)
    expected = []
    for _ in range(8):
        host, port = (await connect(server)).sock.getsockname()
        expected.append(f"{host}:{port}")
        await settle()
    gate.set()
    await settle()
    assert begun == expected


async def test_handler_on_a_shared_queue_shares_its_slots(start_stream, connect):
    gate = trio.Event()
    begun = []

    async def handler(stream):
        begun.append("handler")

    async def item():
        begun.append("item")
        await gate.wait()

    async with ktrio.open_supervisor() as supervisor, trio.open_nursery() as nursery:
        shared = supervisor.alloc_workqueue("shared", ktrio.WQ_UNBOUND, max_active=1)
        shared.queue_work(ktrio.Work(item))
        await settle()
        server = await start_stream(handler, workqueue=shared, within=nursery)
        client = await connect(server)
        await settle()
        assert begun == ["item"]
        gate.set()
        assert await client.read_end() == "fin"
        await server.shutdown()
    assert begun == ["item", "handler"]
