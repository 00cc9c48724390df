"""Several servers beside each other: on one supervisor, on one queue; each is alone with its connections."""

from __future__ import annotations

import pytest
import trio

import ktrio
from ktrio import WQ_UNBOUND, Response, ServerOptions
from tests.server.harness import GET, LATE, advance, get, settle, time_passing
from tests.server.streams import MemoryListener, receive_all, receive_exactly


class Http:
    def __init__(self) -> None:
        self.gate = trio.Event()

    async def __call__(self, request):
        if request.target == "/block":
            await self.gate.wait()
        return Response(body=b"hello")


async def words(stream):
    while word := await stream.receive_unless_draining():
        if word == b"fail":
            raise ValueError("of a handler")
        await stream.send_all(word)


@pytest.fixture(params=["one queue", "one supervisor"])
async def queues(request):
    """`queues(name)` gives a queue of a shared supervisor: the same for all, or one each."""
    async with ktrio.open_supervisor() as supervisor:
        shared = supervisor.alloc_workqueue("shared", WQ_UNBOUND)

        def queue(name):
            return shared if request.param == "one queue" else supervisor.alloc_workqueue(name, WQ_UNBOUND)

        yield queue


@pytest.fixture
async def street(queues, start_http, start_stream, start_echo):
    """Three servers, each with its own place: name -> server."""
    async with trio.open_nursery() as nursery:
        handler = Http()
        yield {
            "http": await start_http(handler, workqueue=queues("http"), within=nursery),
            "stream": await start_stream(words, workqueue=queues("stream"), within=nursery),
            "echo": await start_echo(workqueue=queues("echo"), within=nursery),
        }
        handler.gate.set()
        nursery.cancel_scope.cancel()


async def is_served(name, client) -> bool:
    if name == "http":
        return (await client.ask()).body == b"hello"
    await client.send(b"word")
    return await client.read(4) == b"word"


@pytest.mark.parametrize("leaving", ["http", "stream", "echo"])
async def test_shutdown_of_one_does_not_touch_the_others(street, connect, leaving):
    clients = {name: await connect(server) for name, server in street.items()}
    for name, client in clients.items():
        assert await is_served(name, client)
    await street[leaving].shutdown()
    assert await clients[leaving].read_end() == "fin"
    for name, server in street.items():
        assert server.statistics().draining == (name == leaving)
        if name != leaving:
            assert await is_served(name, clients[name])
            assert await is_served(name, await connect(server))


async def test_shutdown_waits_for_its_own_connections_only(street, connect):
    busy = await connect(street["http"])
    await busy.send(get("/block"))
    await settle()
    await street["echo"].shutdown()
    await street["stream"].shutdown()
    assert busy.is_open
    assert (street["http"].statistics().open, street["http"].statistics().draining) == (1, False)


async def test_force_and_grace_of_one_cut_nobody_elses(street, connect, mock_clock):
    busy, talker = await connect(street["http"]), await connect(street["stream"])
    await busy.send(get("/block"))
    assert await is_served("stream", talker)
    street["http"].begin_shutdown(grace=1)
    await advance(mock_clock, 1)
    await busy.read_reply()
    await advance(mock_clock, 1)
    assert [server.statistics().cut for server in street.values()] == [1, 0, 0]
    assert await is_served("stream", talker)
    street["echo"].force_shutdown("second-signal")
    assert await is_served("stream", talker)


async def test_statistics_and_connections_are_each_servers_own(street, connect, caplog):
    clients = {name: [await connect(server) for _ in range(2)] for name, server in street.items()}
    await clients["stream"][0].send(b"fail")
    assert await clients["stream"][0].read_end() == "reset"
    assert await is_served("http", clients["http"][0])
    await settle()
    statistics = {name: server.statistics() for name, server in street.items()}
    assert {name: each.open for name, each in statistics.items()} == {"http": 2, "stream": 1, "echo": 2}
    assert {name: each.errors for name, each in statistics.items()} == {"http": 0, "stream": 1, "echo": 0}
    assert {name: each.answered for name, each in statistics.items()} == {"http": 1, "stream": 0, "echo": 0}
    assert {name: each.accepted for name, each in statistics.items()} == dict.fromkeys(street, 2)
    assert {len(server.connections()) for server in street.values()} == {2}


async def test_suspension_and_limits_are_each_servers_own(street, connect):
    street["http"].suspend()
    waiting = await connect(street["http"])
    await waiting.send(GET)
    for name in ("stream", "echo"):
        assert await is_served(name, await connect(street[name]))
    assert street["http"].statistics().accepted == 0
    street["http"].resume()
    assert (await waiting.read_reply()).body == b"hello"


async def test_deadlines_are_each_servers_own(queues, start_stream, connect, mock_clock):
    quick = await start_stream(words, workqueue=queues("quick"), timeouts=ktrio.Timeouts(idle=3))
    patient = await start_stream(words, workqueue=queues("patient"), timeouts=ktrio.Timeouts(idle=30))
    first, second = await connect(quick), await connect(patient)
    await advance(mock_clock, 3 + LATE)
    assert await first.read_end() in ("fin", "reset")
    assert second.is_open
    assert (quick.statistics().reasons, patient.statistics().reasons) == ({"idle-timeout": 1}, {})
    for server in (quick, patient):
        await server.shutdown()


async def test_full_server_takes_no_room_from_another(queues, start_http, connect):
    one = ServerOptions(max_connections=1)
    full = await start_http(Http(), workqueue=queues("full"), options=one)
    other = await start_http(Http(), workqueue=queues("other"), options=one)
    kept = await connect(other)
    assert await is_served("http", kept)
    for _ in range(3):
        assert await is_served("http", await connect(full))
    assert kept.is_open
    assert (full.statistics().made_room, other.statistics().made_room) == (2, 0)
    for server in (full, other):
        await server.shutdown()


async def test_broken_server_breaks_no_other(queues, start_stream, connect, caplog):
    patient = await start_stream(words, workqueue=queues("patient"))
    kept = await connect(patient)
    assert await is_served("stream", kept)
    with pytest.RaisesGroup(ktrio.BrokenServerError):
        async with trio.open_nursery() as nursery:
            options = ServerOptions(max_errors=1)
            broken = await start_stream(words, workqueue=queues("broken"), options=options, within=nursery)
            await (await connect(broken)).send(b"fail")
    assert await is_served("stream", kept)
    await patient.shutdown()


async def test_error_of_a_listener_ends_its_server_alone(queues, start_http, connect):
    listener = MemoryListener()
    other = await start_http(Http(), workqueue=queues("other"))
    kept = await connect(other)
    with pytest.RaisesGroup(RuntimeError, flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            await start_http(Http(), listener, workqueue=queues("broken"), within=nursery)
            await settle()
            listener.errors = [RuntimeError("broken listener")]
            listener.wake()
    assert await is_served("http", kept)
    await other.shutdown()


async def test_sockets_and_streams_share_a_queue(queues, start_stream, connect, mock_clock):
    """The servers may be of different transports; ending one leaves the other's tasks alone."""
    listener = MemoryListener()
    raw = await start_stream(words, workqueue=queues("raw"))
    client = await connect(raw)
    async with time_passing(mock_clock), trio.open_nursery() as nursery:
        await start_stream(words, listener, workqueue=queues("memory"), within=nursery)
        peer = listener.connect()
        await peer.send_all(b"word")
        assert await receive_exactly(peer, 4) == b"word"
        nursery.cancel_scope.cancel()
    assert await receive_all(peer) == b""
    assert await is_served("stream", client)
    await raw.shutdown()


async def test_server_may_be_started_again_on_the_same_queue(queues, start_stream, connect):
    queue = queues("again")
    for _ in range(3):
        server = await start_stream(words, workqueue=queue)
        assert await is_served("stream", await connect(server))
        await server.shutdown()
        assert server.statistics().reasons == {"handler-returned": 1}
    assert queue.statistics().in_flight == 0
