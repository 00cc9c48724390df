"""Stream handlers in a shutdown: they are told, they have the grace, and then they are cancelled."""

from __future__ import annotations

import pytest
import trio

import ktrio
from ktrio import QueueOptions, ServerOptions
from tests.server.harness import advance, settle, time_passing, trickle

MIB = 1 << 20


class Conversation:
    """Answers each word; a polite one leaves when the server drains."""

    def __init__(self, *, polite: bool = True) -> None:
        self.polite = polite
        self.gate = trio.Event()
        self.draining: list[bool] = []
        self.cancelled = 0

    async def __call__(self, stream):
        try:
            while word := await (stream.receive_unless_draining() if self.polite else stream.receive_some()):
                if word == b"wait":
                    await self.gate.wait()
                self.draining.append(stream.draining.is_set())
                await stream.send_all(word)
        except trio.Cancelled:
            self.cancelled += 1
            raise


@pytest.fixture
def polite():
    return Conversation()


@pytest.fixture
def stubborn():
    return Conversation(polite=False)


async def test_handlers_between_two_requests_leave_at_once(start_stream, connect, polite):
    """In no time, and the shutdown is over."""
    server = await start_stream(polite)
    clients = [await connect(server) for _ in range(100)]
    for client in clients[::2]:
        await client.send(b"x")
        assert await client.read(1) == b"x"
    await settle()
    await server.shutdown()
    for client in clients:
        assert await client.read_end() == "fin"
    statistics = server.statistics()
    assert (statistics.cut, statistics.errors, statistics.reasons) == (0, 0, {"handler-returned": 100})


async def test_request_that_had_been_sent_is_answered_before_the_handler_leaves(start_stream, connect, polite):
    server = await start_stream(polite)
    clients = [await connect(server) for _ in range(10)]
    await settle()
    for client in clients:
        client.send_nowait(b"x")
    await server.shutdown()
    for client in clients:
        assert await client.read_to_end() == b"x"
    assert server.statistics().cut == 0


async def test_handler_that_finishes_within_the_grace_is_not_cut(start_stream, connect, stubborn, mock_clock):
    server = await start_stream(stubborn)
    client = await connect(server)
    await client.send(b"wait")
    await settle()
    server.begin_shutdown()
    await advance(mock_clock, 7)
    stubborn.gate.set()
    assert await client.read(4) == b"wait"
    client.finish()
    assert await client.read_end() == "fin"
    await settle()
    assert stubborn.draining == [True]
    statistics = server.statistics()
    assert (statistics.open, statistics.cut, statistics.answered) == (0, 0, 1)


async def test_conversation_goes_on_during_the_grace(start_stream, connect, stubborn, mock_clock):
    """A handler that does not look at `draining` has the same streams as ever."""
    server = await start_stream(stubborn)
    client = await connect(server)
    await settle()
    server.begin_shutdown()
    for _ in range(3):
        await advance(mock_clock, 2)
        await client.send(b"x")
        assert await client.read(1) == b"x"
    client.finish()
    assert await client.read_end() == "fin"
    await settle()
    assert (server.statistics().open, server.statistics().cut) == (0, 0)


@pytest.mark.parametrize("word", [b"", b"wait"], ids=["receiving", "at work"])
async def test_handler_that_does_not_finish_within_the_grace_is_cut(start_stream, connect, stubborn, mock_clock, word):
    server = await start_stream(stubborn)
    client = await connect(server)
    await client.send(word)
    await settle()
    server.begin_shutdown()
    await advance(mock_clock, 7.9)
    assert (stubborn.cancelled, client.is_open) == (0, True)
    await advance(mock_clock, 0.1)
    assert stubborn.cancelled == 1
    assert await client.read_end() in ("fin", "reset")
    await advance(mock_clock, 1)
    statistics = server.statistics()
    assert (statistics.open, statistics.cut, statistics.answered) == (0, 1, 0)
    assert (statistics.errors, statistics.reasons) == (0, {"grace": 1})


async def test_peer_of_a_handler_that_is_cut_knows_that_something_is_missing(start_stream, connect, mock_clock):
    async def handler(stream):
        await stream.send_all(b"half of it")
        await trio.sleep_forever()

    server = await start_stream(handler)
    client = await connect(server)
    assert await client.read(10) == b"half of it"
    server.begin_shutdown(grace=0)
    await settle()
    assert await client.read_end() == "reset"


async def test_handler_that_sends_to_a_stalled_reader_is_cut(start_stream, connect, mock_clock):
    async def pour(stream):
        await stream.send_all(bytes(64 * MIB))

    server = await start_stream(pour)
    client = await connect(server, receive_buffer=4096)
    await settle()
    async with time_passing(mock_clock, step=0.25):
        await server.shutdown(grace=1)
    assert (server.statistics().open, server.statistics().cut) == (0, 1)
    client.close()


@pytest.mark.parametrize("road", ["grace", "second-signal", "server-cancelled"])
async def test_handler_that_its_server_ends_says_which_way(start_stream, connect, stubborn, mock_clock, road):
    async with time_passing(mock_clock), trio.open_nursery() as nursery:
        server = await start_stream(stubborn, within=nursery)
        await connect(server)
        await settle()
        if road == "server-cancelled":
            nursery.cancel_scope.cancel()
        elif road == "second-signal":
            server.force_shutdown("second-signal")
        else:
            server.begin_shutdown(grace=1)
    assert server.statistics().reasons == {road: 1}
    assert server.statistics().cut == (road != "server-cancelled")


async def test_deadline_and_departure_during_the_drain_are_no_cuts(start_stream, connect, stubborn, mock_clock):
    timeouts = ktrio.Timeouts(idle=3)
    server = await start_stream(stubborn, timeouts=timeouts, options=ServerOptions(grace=60))
    silent, gone = await connect(server), await connect(server)
    await gone.send(b"wait")
    await settle()
    server.begin_shutdown()
    gone.reset()
    await trickle(mock_clock, 5)
    assert await silent.read_end() in ("fin", "reset")
    assert (server.statistics().open, server.statistics().cut) == (0, 0)


async def test_whoever_waits_in_the_backlog_is_served(start_stream, connect, polite):
    server = await start_stream(polite)
    server.suspend()
    clients = [await connect(server) for _ in range(5)]
    for client in clients:
        client.send_nowait(b"x")
    await settle()
    assert server.statistics().accepted == 0
    await server.shutdown()
    for client in clients:
        assert await client.read_to_end() == b"x"
    assert server.statistics().reasons == {"handler-returned": 5}


@pytest.mark.parametrize("within", [True, False], ids=["in time", "too late"])
async def test_handlers_that_wait_for_a_slot_have_the_grace_as_well(
    start_stream, connect, stubborn, mock_clock, within
):
    server = await start_stream(stubborn, queue=QueueOptions(max_active=1))
    holder = await connect(server)
    await holder.send(b"wait")
    await settle()
    queued = [await connect(server) for _ in range(3)]
    for client in queued:
        await client.send(b"x")
        client.finish()
    await settle()
    server.begin_shutdown()
    await advance(mock_clock, 5)
    if within:
        holder.finish()
        stubborn.gate.set()
        for client in queued:
            assert await client.read_to_end() == b"x"
        await settle()
        assert server.statistics().cut == 0
    else:
        await trickle(mock_clock, 5)
        for client in queued:
            assert await client.read_end() in ("fin", "reset")
        assert stubborn.draining == []
    assert server.statistics().open == 0


async def test_handler_learns_of_the_draining_by_waiting_for_it(start_stream, connect):
    async def handler(stream):
        await stream.draining.wait()
        await stream.send_all(b"421 going down\r\n")

    server = await start_stream(handler)
    client = await connect(server)
    await settle()
    await server.shutdown()
    assert await client.read_to_end() == b"421 going down\r\n"


async def test_handler_may_begin_the_shutdown_of_its_server(connect, servers):
    started = trio.Event()
    found = []

    async def handler(stream):
        if await stream.receive_some() == b"stop":
            await started.wait()
            found[0].begin_shutdown()
            await stream.draining.wait()
            await stream.send_all(b"stopping")

    async def serve(task_status):
        await ktrio.serve_stream(handler, "127.0.0.1:0", task_status=task_status)
        found.append("returned")

    server = await servers.start(serve)
    found.append(server)
    started.set()
    client = await connect(server)
    await client.send(b"stop")
    assert await client.read_to_end() == b"stopping"
    await server.wait_ended()
    await settle()
    assert found == [server, "returned"]
    assert server.statistics().cut == 0


@pytest.mark.slow
async def test_handler_that_shields_itself_loses_its_socket_and_is_waited_for(
    start_stream, connect, mock_clock, caplog
):
    """What it then tries to send is no error of its own: the server has closed it."""
    over = []

    async def handler(stream):
        with trio.CancelScope(shield=True):
            await trio.sleep(9)
            over.append(trio.current_time())
            await stream.send_all(b"too late")

    server = await start_stream(handler)
    client = await connect(server)
    await settle()
    begun = trio.current_time()
    async with time_passing(mock_clock, step=0.25), trio.open_nursery() as nursery:
        nursery.start_soon(server.shutdown)
        server.begin_shutdown(grace=2)
        await settle()
        while client.is_open:
            await advance(mock_clock, 0.25)
        assert trio.current_time() - begun <= 2 + 1 + 1
    assert over[0] - begun >= 9
    host, port = client.sock.getsockname()
    assert [f"{host}:{port}" in record.getMessage() for record in caplog.records].count(True) == 1
    assert (server.statistics().cut, server.statistics().errors) == (1, 0)
    assert all(record.levelname == "WARNING" for record in caplog.records), caplog.text
