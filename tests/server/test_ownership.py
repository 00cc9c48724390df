"""Cancelling a server, in every state a connection can be in: it returns, and nothing is left."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable

import pytest
import trio

import ktrio
from ktrio import WQ_UNBOUND, QueueOptions, Response, Work
from tests.server.fixtures import open_descriptors
from tests.server.harness import GET, Client, Ended, get, settle, time_passing

MIB = 1 << 20


class Handler:
    """One handler for all states; counts who is in it."""

    def __init__(self, folder) -> None:
        self.files = ktrio.files(folder)
        self.inside = 0
        self.entered = 0

    async def __call__(self, request):
        self.inside += 1
        self.entered += 1
        try:
            return await self.answer(request)
        finally:
            self.inside -= 1

    async def answer(self, request):
        match request.target:
            case "/block":
                await trio.sleep_forever()
            case "/read":
                return Response(body=await request.read())
            case "/big":
                return await self.files(request)
            case "/buffered":
                return Response(body=b"x" * 64 * MIB)
            case "/stream":
                return Response(body=self.stream(b"piece", pause=True))
            case "/flood":
                return Response(body=self.stream(b"x" * 100_000, pause=False))
            case "/refuse":
                return Response(403)
        return Response(body=b"answer")

    async def stream(self, piece, *, pause):
        self.inside += 1
        try:
            while True:
                yield piece
                if pause:
                    await trio.sleep_forever()
        finally:
            self.inside -= 1


async def new(client: Client) -> None:
    pass


async def idle(client: Client) -> None:
    assert (await client.ask()).body == b"answer"


async def half_a_head(client: Client) -> None:
    await client.send(GET[:5])


async def handler_blocked(client: Client) -> None:
    await client.send(get("/block"))


async def body_being_read(client: Client) -> None:
    await client.send(get("/read", "Content-Length: 10", method="POST") + b"12345")


async def file_to_a_stalled_reader(client: Client) -> None:
    await client.send(get("/big"))


async def bytes_to_a_stalled_reader(client: Client) -> None:
    await client.send(get("/buffered"))


async def stream_that_waits(client: Client) -> None:
    await client.send(get("/stream"))
    await client.read_through(b"piece")


async def stream_to_a_stalled_reader(client: Client) -> None:
    await client.send(get("/flood"))


async def lingering(client: Client) -> None:
    await client.send(get("/refuse", "Content-Length: 1000000", method="POST") + b"x")
    assert (await client.read_reply()).status == 403


async def pipelined(client: Client) -> None:
    await client.send(get("/block") + GET * 100)


async def half_closed(client: Client) -> None:
    await client.send(get("/block"))
    client.finish()


STATES = [
    new,
    idle,
    half_a_head,
    handler_blocked,
    body_being_read,
    file_to_a_stalled_reader,
    bytes_to_a_stalled_reader,
    stream_that_waits,
    stream_to_a_stalled_reader,
    lingering,
    pipelined,
    half_closed,
]
every_state = pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)

State = Callable[[Client], Awaitable[None]]


@pytest.fixture
def handler(tmp_path):
    with (tmp_path / "big").open("wb") as file:
        file.truncate(64 * MIB)
    return Handler(tmp_path)


async def sees_the_end(client: Client) -> bool:
    with contextlib.suppress(Ended):
        await client.read_to_end()
    return True


@every_state
@pytest.mark.parametrize("then", ["at once", "settled"])
async def test_cancelled_server_returns_and_leaves_nothing(start_http, connect, mock_clock, handler, state, then):
    """Of its own supervisor: no task, no socket, no file; the peer sees the end of its connection."""
    before = set(open_descriptors())
    async with time_passing(mock_clock):
        begun = trio.current_time()
        async with trio.open_nursery() as nursery:
            server = await start_http(handler, within=nursery)
            client = await connect(server, receive_buffer=4096)
            await state(client)
            if then == "settled":
                await settle()
            nursery.cancel_scope.cancel()
        assert trio.current_time() - begun <= 3
    assert handler.inside == 0
    assert server.statistics().open == 0
    assert await sees_the_end(client)
    client.close()
    assert set(open_descriptors()) == before


@every_state
async def test_cancelled_server_leaves_a_shared_supervisor_as_it_was(start_http, connect, mock_clock, handler, state):
    """Its connections end, the queue is empty and can be used again, other queues do not notice."""
    gate = trio.Event()
    finished = []

    async def item():
        await gate.wait()
        finished.append(True)

    async with time_passing(mock_clock), ktrio.open_supervisor() as supervisor:
        shared = supervisor.alloc_workqueue("shared", WQ_UNBOUND)
        other = supervisor.alloc_workqueue("other", WQ_UNBOUND)
        other.queue_work(Work(item))
        shared.queue_work(Work(item))  # of somebody else, on the server's own queue
        async with trio.open_nursery() as nursery:
            server = await start_http(handler, workqueue=shared, within=nursery)
            client = await connect(server, receive_buffer=4096)
            await state(client)
            await settle()
            nursery.cancel_scope.cancel()
        assert handler.inside == 0
        assert (shared.statistics().in_flight, other.statistics().in_flight) == (1, 1)
        assert await sees_the_end(client)
        gate.set()
        await other.flush()
        await shared.flush()
        async with trio.open_nursery() as nursery:
            again = await connect(await start_http(handler, workqueue=shared, within=nursery))
            assert (await again.ask()).body == b"answer"
            again.close()
            nursery.cancel_scope.cancel()
    assert finished == [True, True]


@every_state
@pytest.mark.parametrize("how", ["begin_shutdown", "force_shutdown"])
async def test_server_that_goes_down_ends_every_state(start_http, connect, mock_clock, handler, state, how):
    """With the grace over, or forced: `serve_http` returns by itself."""
    async with time_passing(mock_clock), trio.open_nursery() as nursery:
        server = await start_http(handler, within=nursery)
        client = await connect(server, receive_buffer=4096)
        await state(client)
        await settle()
        begun = trio.current_time()
        if how == "begin_shutdown":
            server.begin_shutdown(grace=2)
        else:
            server.force_shutdown("second-signal")
        nursery.cancel_scope.deadline = begun + 60
    assert not nursery.cancel_scope.cancel_called
    assert trio.current_time() - begun <= (2 if how == "begin_shutdown" else 0) + 2.5
    assert handler.inside == 0
    assert await sees_the_end(client)


async def test_requests_that_wait_for_a_slot_end_with_the_server(start_http, connect, mock_clock, handler):
    async with time_passing(mock_clock):
        async with trio.open_nursery() as nursery:
            server = await start_http(handler, queue=QueueOptions(max_active=1), within=nursery)
            clients = [await connect(server) for _ in range(10)]
            for client in clients:
                await client.send(get("/block"))
            await settle()
            assert handler.inside == 1
            nursery.cancel_scope.cancel()
        for client in clients:
            assert await sees_the_end(client)
    assert handler.entered == 1


@pytest.mark.slow
async def test_connections_in_every_state_at_once_end_with_the_server(start_http, connect, mock_clock, handler):
    async with time_passing(mock_clock):
        begun = trio.current_time()
        async with trio.open_nursery() as nursery:
            server = await start_http(handler, within=nursery)
            clients = []
            for state in STATES * 3:
                clients.append(await connect(server, receive_buffer=4096))
                await state(clients[-1])
            await settle()
            nursery.cancel_scope.cancel()
        assert trio.current_time() - begun <= 8
        for client in clients:
            assert await sees_the_end(client)
    assert handler.inside == 0


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("turns", range(0, 60, 3))
async def test_cancellation_at_any_moment_is_clean(start_http, connect, mock_clock, handler, turns, shared):
    """After so many turns of the loop, whatever had been begun by then."""

    async def visit(server, state):
        with contextlib.suppress(Ended, OSError):
            client = await connect(server)
            await state(client)
            await client.read_to_end()

    async with time_passing(mock_clock), ktrio.open_supervisor() as supervisor:
        queue = supervisor.alloc_workqueue("shared", WQ_UNBOUND)
        async with trio.open_nursery() as visitors:
            async with trio.open_nursery() as nursery:
                server = await start_http(handler, workqueue=queue if shared else None, within=nursery)
                for state in [
                    idle,
                    handler_blocked,
                    file_to_a_stalled_reader,
                    stream_that_waits,
                    lingering,
                    half_a_head,
                ]:
                    visitors.start_soon(visit, server, state)
                for _ in range(turns):
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
            assert handler.inside == 0
            assert queue.statistics().in_flight == 0
            visitors.cancel_scope.cancel()


@pytest.mark.parametrize("turns", range(12))
async def test_cancellation_during_the_start_is_clean(start_http, handler, turns, tmp_path):
    """Before it has started there is no server, and no listener is left either; many times, because Trio shuffles."""

    async def cancel_later(scope):
        for _ in range(turns):
            await trio.lowlevel.checkpoint()
        scope.cancel()

    for _ in range(15):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(cancel_later, scope)
                with contextlib.suppress(RuntimeError):  # the child ended before it had started
                    await start_http(handler, "127.0.0.1:0", f"unix:{tmp_path}/socket", within=nursery)
                await trio.sleep_forever()
        assert not (tmp_path / "socket").exists()


async def test_echo_in_every_state_ends_with_the_server(start_echo, connect, mock_clock):
    async with time_passing(mock_clock):
        begun = trio.current_time()
        async with trio.open_nursery() as nursery:
            server = await start_echo(within=nursery)
            silent, idle_one, stalled = [await connect(server, receive_buffer=4096) for _ in range(3)]
            await idle_one.send(b"x")
            await idle_one.read(1)
            async with trio.open_nursery() as push:
                push.start_soon(stalled.send, b"x" * 32 * MIB)
                await settle()
                push.cancel_scope.cancel()
            nursery.cancel_scope.cancel()
        assert trio.current_time() - begun <= 4
        for client in [silent, idle_one, stalled]:
            assert await sees_the_end(client)
