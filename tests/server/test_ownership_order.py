"""In which order things end: connections before what they use, and who can hold a server back for how long."""

from __future__ import annotations

import contextlib
from functools import partial

import pytest
import trio

import ktrio
from ktrio import WQ_UNBOUND, Response
from tests.server.harness import GET, LATE, Ended, advance, get, settle, time_passing


async def test_services_end_after_the_connections_that_use_them(connect):
    """`serve_http` returns when its last connection has ended, so what was opened around it outlives them all."""
    events = []

    async def handler(request):
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.lowlevel.checkpoint()
            events.append(f"{request.target} ended")

    @contextlib.asynccontextmanager
    async def service():
        try:
            yield
        finally:
            events.append("service ended")

    async def run(task_status):
        async with service():
            await ktrio.serve_http(handler, "127.0.0.1:0", tell=tell, task_status=task_status)

    def tell(details):
        events.append(f"{details.target} told")

    async with trio.open_nursery() as nursery:
        server = await nursery.start(run)
        for target in ["/a", "/b"]:
            await (await connect(server)).send(get(target))
        await settle()
        nursery.start_soon(_let_time_pass)
        server.force_shutdown("second-signal")
        await server.shutdown()
        nursery.cancel_scope.cancel()
    assert events[-1] == "service ended"
    assert sorted(events[:-1]) == ["/a ended", "/a told", "/b ended", "/b told"]


async def _let_time_pass():
    clock = trio.lowlevel.current_clock()
    while True:
        await advance(clock, 0.1)


@pytest.mark.slow
@pytest.mark.parametrize("shared", [False, True])
async def test_shielded_handler_holds_the_server_exactly_as_long_as_its_shield(connect, mock_clock, shared):
    """Its socket is closed after 1 s, so no peer and no descriptor outlives that; then only it is waited for."""
    ended = {}

    async def stubborn(request):
        with trio.CancelScope(shield=True):
            await trio.sleep(5)
        ended["handler"] = trio.current_time()
        return Response(body=b"too late")

    async def run(queue, task_status):
        try:
            await ktrio.serve_http(stubborn, "127.0.0.1:0", workqueue=queue, task_status=task_status)
        finally:
            ended["server"] = trio.current_time()

    async with ktrio.open_supervisor() as supervisor, time_passing(mock_clock, step=0.05), trio.open_nursery() as outer:
        queue = supervisor.alloc_workqueue("shared", WQ_UNBOUND) if shared else None
        async with trio.open_nursery() as nursery:
            server = await nursery.start(partial(run, queue))
            client = await connect(server)
            await client.send(GET)
            await settle()

            async def watch_peer():
                with contextlib.suppress(Ended):
                    await client.read_to_end()
                ended["peer"] = trio.current_time()

            outer.start_soon(watch_peer)
            begun = trio.current_time()
            nursery.cancel_scope.cancel()
        assert server.statistics().open == 0
    shield = ended["handler"] - begun
    assert 4.8 <= shield <= 5.2
    assert 0 <= ended["server"] - ended["handler"] <= 0.2
    assert 0.8 <= ended["peer"] - begun <= 1 + LATE


async def test_socket_taken_from_a_stubborn_handler_is_logged_by_name(connect, mock_clock, caplog):
    """Whoever looks for what held the server must find it."""

    async def stubborn(request):
        with trio.CancelScope(shield=True):
            await trio.sleep(3)
        return Response()

    async with time_passing(mock_clock), trio.open_nursery() as nursery:
        server = await nursery.start(ktrio.serve_http, stubborn, "127.0.0.1:0")
        client = await connect(server)
        await client.send(GET)
        await settle()
        nursery.cancel_scope.cancel()
    host, port = client.sock.getsockname()
    assert [f"{host}:{port}" in record.getMessage() for record in caplog.records] == [True]


async def test_listeners_are_closed_before_connections_are_waited_for(connect, mock_clock):
    """A server that is held back by a handler must not look alive to those who connect."""
    release = trio.Event()

    async def stubborn(request):
        with trio.CancelScope(shield=True):
            await release.wait()
        return Response()

    async with trio.open_nursery() as outer:
        outer_started = trio.Event()
        addresses = []

        async def run():
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    server = await nursery.start(ktrio.serve_http, stubborn, "127.0.0.1:0")
                    addresses.append(server.addresses[0])
                    await (await connect(server)).send(GET)
                    await settle()
                    scope.cancel()
                    outer_started.set()

        outer.start_soon(run)
        await outer_started.wait()
        await settle()
        with trio.socket.socket() as sock, pytest.raises(ConnectionRefusedError):
            await sock.connect((addresses[0].host, addresses[0].port))
        release.set()


async def test_same_port_can_be_served_again_at_once(start_http, connect):
    """SO_REUSEADDR: connections of the server before it may still be in TIME_WAIT."""

    async def hello(request):
        return Response(200, ktrio.Headers({"connection": "close"}), b"hello")

    where = "127.0.0.1:0"
    for _ in range(3):
        async with trio.open_nursery() as nursery:
            server = await start_http(hello, where, within=nursery)
            client = await connect(server)
            assert (await client.ask()).body == b"hello"
            assert await client.read_end() == "fin"
            client.close()
            await server.shutdown()
        where = f"127.0.0.1:{server.addresses[0].port}"


async def test_failing_handler_on_a_shared_queue_fails_nobody_else(start_http, connect, caplog):
    """A queue that raises its items' errors (the default) does not see a handler's: the connection ate it."""

    async def failing(request):
        raise ValueError("mine")

    finished = []

    async def item():
        finished.append(True)

    async with ktrio.open_supervisor() as supervisor, trio.open_nursery() as nursery:
        queue = supervisor.alloc_workqueue("shared", WQ_UNBOUND)
        server = await start_http(failing, workqueue=queue, within=nursery)
        client = await connect(server)
        assert (await client.ask()).status == 500
        await queue.run(item)
        client.close()
        await server.shutdown()
    assert finished == [True]
    assert len(caplog.records) == 1


async def test_shared_queues_max_active_is_the_servers(start_http, connect):
    gate = trio.Event()
    at_work = 0

    async def handler(request):
        nonlocal at_work
        at_work += 1
        await gate.wait()
        return Response()

    async with ktrio.open_supervisor() as supervisor, trio.open_nursery() as nursery:
        queue = supervisor.alloc_workqueue("shared", WQ_UNBOUND, max_active=2)
        server = await start_http(handler, workqueue=queue, within=nursery)
        clients = [await connect(server) for _ in range(5)]
        for client in clients:
            await client.send(GET)
        await settle()
        assert at_work == 2
        gate.set()
        for client in clients:
            await client.read_reply()
            client.close()
        await server.shutdown()


async def test_two_servers_share_one_queue(start_http, start_echo, connect, mock_clock):
    """Ending one leaves the other's connections alone."""

    async def hello(request):
        return Response(body=b"hello")

    async with time_passing(mock_clock), ktrio.open_supervisor() as supervisor, trio.open_nursery() as second:
        queue = supervisor.alloc_workqueue("shared", WQ_UNBOUND)
        echo = await connect(await start_echo(workqueue=queue, within=second))
        async with trio.open_nursery() as first:
            http = await connect(await start_http(hello, workqueue=queue, within=first))
            assert (await http.ask()).body == b"hello"
            first.cancel_scope.cancel()
        assert await http.read_end() == "fin"
        await echo.send(b"still here")
        assert await echo.read(10) == b"still here"
        echo.close()
        second.cancel_scope.cancel()
