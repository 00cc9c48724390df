"""Going down, the calm way: idle ones go at once, answers in flight are finished, nobody new comes in."""

from __future__ import annotations

import os

import pytest
import trio

import ktrio
from ktrio import Response
from tests.server.harness import GET, LATE, advance, get, post, settle, time_passing

MIB = 1 << 20


class Gated:
    """A handler that waits at its gate, but for `/now`."""

    def __init__(self) -> None:
        self.gate = trio.Event()
        self.seen: list[str] = []

    async def __call__(self, request):
        self.seen.append(request.target)
        if request.target != "/now":
            await self.gate.wait()
        return Response(body=request.target.encode() + await request.read())


@pytest.fixture
def handler():
    return Gated()


async def refused(address) -> bool:
    with trio.socket.socket() as sock:
        try:
            await sock.connect((address.host, address.port))
        except ConnectionRefusedError:
            return True
        return False


async def test_new_connections_are_refused_not_left_hanging(start_http, connect, handler):
    server = await start_http(handler)
    client = await connect(server)
    await client.send(GET)
    await settle()
    server.begin_shutdown()
    await settle()
    assert await refused(server.addresses[0])
    assert server.statistics().draining
    handler.gate.set()
    assert (await client.read_reply()).says_close


async def test_draining_is_told_only_after_the_listeners_are_closed(start_http, handler):
    """Whoever learns that the server drains and tells a balancer must not be asked anything new."""
    server = await start_http(handler)
    found = []

    async def watch():
        await server.draining.wait()
        found.append(await refused(server.addresses[0]))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        await settle()
        assert not server.draining.is_set()
        server.begin_shutdown()
    assert found == [True]


async def test_idle_and_silent_connections_are_closed_at_once(start_http, connect, handler):
    """In no time: 200 of them, and no byte is said."""
    server = await start_http(handler)
    clients = [await connect(server) for _ in range(200)]
    for client in clients[::2]:
        assert (await client.ask(get("/now"))).status == 200
    await settle()
    server.begin_shutdown()
    for client in clients:
        assert await client.read_end() == "fin"
    await settle()
    statistics = server.statistics()
    assert (statistics.open, statistics.cut, statistics.reasons) == (0, 0, {"draining": 200})


async def test_request_in_progress_is_finished_and_says_close(start_http, connect, handler, mock_clock):
    """RFC 9112 section 9.6."""
    server = await start_http(handler)
    client = await connect(server)
    await client.ask(get("/now"))
    await client.send(get("/slow"))
    await settle()
    server.begin_shutdown()
    await advance(mock_clock, 7)
    handler.gate.set()
    reply = await client.read_reply()
    assert (reply.status, reply.body, reply.says_close) == (200, b"/slow", True)
    assert await client.read_end() == "fin"
    assert server.statistics().cut == 0


async def test_shutdown_waits_for_the_last_answer(start_http, connect, handler):
    server = await start_http(handler)
    client = await connect(server)
    await client.send(GET)
    await settle()
    over = trio.Event()

    async def shut_down():
        await server.shutdown()
        over.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(shut_down)
        await settle()
        assert not over.is_set()
        handler.gate.set()
        assert (await client.read_reply()).body == b"/"
        await over.wait()
    assert server.statistics().open == 0


async def test_serve_returns_after_a_shutdown(connect, handler):
    """It is over by itself: no cancellation needed."""
    returned = []

    async with trio.open_nursery() as nursery:

        async def run(task_status):
            await ktrio.serve_http(handler, "127.0.0.1:0", task_status=task_status)
            returned.append(True)

        server = await nursery.start(run)
        client = await connect(server)
        await client.ask(get("/now"))
        await server.shutdown()
    assert returned == [True]


async def test_half_a_head_may_complete(start_http, connect, handler, mock_clock):
    """It counts as in progress, under its own deadline."""
    server = await start_http(handler)
    client = await connect(server)
    await client.send(get("/now")[:10])
    await settle()
    server.begin_shutdown()
    await advance(mock_clock, 5)
    assert client.is_open
    await client.send(get("/now")[10:])
    reply = await client.read_reply()
    assert (reply.body, reply.says_close) == (b"/now", True)
    assert await client.read_end() == "fin"


async def test_half_a_body_may_complete(start_http, connect, handler, mock_clock):
    server = await start_http(handler)
    client = await connect(server)
    request = post(b"body", target="/now")
    await client.send(request[:-2])
    await settle()
    server.begin_shutdown()
    await advance(mock_clock, 5)
    await client.send(request[-2:])
    reply = await client.read_reply()
    assert (reply.body, reply.says_close) == (b"/nowbody", True)


async def test_pipelined_requests_behind_the_one_in_progress_are_not_answered(start_http, connect, handler):
    server = await start_http(handler)
    client = await connect(server)
    await client.send(get("/first") + get("/second") + get("/third"))
    await settle()
    server.begin_shutdown()
    await settle()
    handler.gate.set()
    reply = await client.read_reply()
    assert (reply.body, reply.says_close) == (b"/first", True)
    assert await client.read_end() == "fin"
    assert handler.seen == ["/first"]


async def test_request_whose_bytes_have_come_is_in_progress(start_http, connect, handler):
    """One look before an idle connection is closed: bytes there make it a request, whoever runs first."""
    server = await start_http(handler)
    clients = [await connect(server) for _ in range(10)]
    for client in clients[:5]:
        await client.ask(get("/now"))
    await settle()
    for client in clients:
        client.send_nowait(get("/now"))
    server.begin_shutdown()
    for client in clients:
        assert (await client.read_reply()).body == b"/now"
        assert await client.read_end() == "fin"


async def test_first_bytes_of_a_head_that_have_come_are_in_progress(start_http, connect, handler):
    server = await start_http(handler)
    client = await connect(server)
    await settle()
    client.send_nowait(GET[:3])
    server.begin_shutdown()
    await settle()
    assert client.is_open
    await client.send(get("/now")[3:])
    assert b"/now" in (await client.read_reply()).body


async def test_clients_in_the_backlog_that_have_sent_their_request_are_answered(start_http, connect, handler):
    """They have connected, so closing the listener would reset them; first accept until there is nothing to accept."""
    server = await start_http(handler)
    clients = []
    await settle()
    server_was_asked = []

    async def knock():
        client = await connect(server)
        client.send_nowait(get("/now"))
        clients.append(client)
        server_was_asked.append(True)
        if len(server_was_asked) == 30:
            server.begin_shutdown()

    async with trio.open_nursery() as nursery:
        for _ in range(30):
            nursery.start_soon(knock)
    for client in clients:
        assert (await client.read_reply()).body == b"/now"
    assert await refused(server.addresses[0])


async def test_clients_in_the_backlog_that_have_said_nothing_are_closed_not_reset(start_http, connect, handler):
    server = await start_http(handler, options=ktrio.ServerOptions(max_connections=1))
    busy = await connect(server)
    await busy.send(get("/busy"))
    await settle()
    waiting = [await connect(server) for _ in range(5)]
    await settle()
    server.begin_shutdown()
    for client in waiting:
        assert await client.read_end() == "fin"
    handler.gate.set()
    assert (await busy.read_reply()).body == b"/busy"


async def test_backlog_of_a_full_server_is_answered_too(start_http, connect, handler):
    """Past `max_connections` if need be: those clients have already sent their request."""
    server = await start_http(handler, options=ktrio.ServerOptions(max_connections=2))
    busy = [await connect(server) for _ in range(2)]
    for client in busy:
        await client.send(get("/busy"))
    await settle()
    waiting = [await connect(server) for _ in range(20)]
    for client in waiting:
        await client.send(get("/now"))
    await settle()
    assert server.statistics().accepted == 2
    server.begin_shutdown()
    for client in waiting:
        reply = await client.read_reply()
        assert (reply.body, reply.says_close) == (b"/now", True)
    handler.gate.set()
    for client in busy:
        assert (await client.read_reply()).body == b"/busy"
    await settle()
    assert (server.statistics().open, server.statistics().cut) == (0, 0)


async def test_requests_that_wait_for_a_slot_are_answered(start_http, connect, handler):
    server = await start_http(handler, queue=ktrio.QueueOptions(max_active=1))
    clients = [await connect(server) for _ in range(5)]
    for client in clients:
        await client.send(get("/busy"))
    await settle()
    assert len(handler.seen) == 1
    server.begin_shutdown()
    await settle()
    handler.gate.set()
    for client in clients:
        assert (await client.read_reply()).body == b"/busy"


async def test_slow_download_completes_within_the_grace(start_http, connect, mock_clock, tmp_path):
    content = os.urandom(8 * MIB)
    (tmp_path / "big").write_bytes(content)
    server = await start_http(ktrio.files(tmp_path))
    client = await connect(server, receive_buffer=4096)
    await client.send(get("/big"))
    reply = await client.read_head()
    body = await client.read(MIB)
    server.begin_shutdown()
    for _ in range(7):
        await advance(mock_clock, 1)
        body += await client.read(MIB)
    assert reply["content-length"] == str(len(content))
    assert body == content
    assert await client.read_end() == "fin"
    await settle()
    assert (server.statistics().open, server.statistics().cut, server.statistics().answered) == (0, 0, 1)


async def test_handler_sees_that_the_server_drains(start_http, connect):
    """The soft cancellation: a stream can end itself well."""

    async def ticks(request):
        yield b"tick "
        assert not request.draining.is_set()
        await request.draining.wait()
        assert request.draining.is_set()
        yield b"last"

    async def handler(request):
        return Response(body=ticks(request))

    server = await start_http(handler)
    client = await connect(server)
    await client.send(GET)
    await client.read_through(b"tick ")
    server.begin_shutdown()
    assert b"last" in await client.read_to_end()
    assert server.statistics().cut == 0


async def test_progress_is_seen_while_it_lasts(start_http, connect, handler):
    server = await start_http(handler)
    clients = [await connect(server) for _ in range(3)]
    for client in clients[:2]:
        await client.send(GET)
    await clients[2].ask(get("/now"))
    await settle()
    before = server.statistics()
    assert (before.open, before.owing, before.quiet, before.draining) == (3, 2, 1, False)
    server.begin_shutdown()
    await settle()
    during = server.statistics()
    assert (during.open, during.owing, during.quiet, during.draining) == (2, 2, 0, True)
    handler.gate.set()
    for client in clients[:2]:
        await client.read_reply()


async def test_lingering_is_shorter_while_draining(start_http, connect, mock_clock):
    """0.3 s instead of 1 s."""

    async def early(request):
        await request.draining.wait()
        return Response(403)

    server = await start_http(early)
    client = await connect(server)
    await client.send(get("/", "Content-Length: 1000000", method="POST") + b"x" * 10)
    await settle()
    server.begin_shutdown()
    assert (await client.read_reply()).status == 403
    await advance(mock_clock, 0.3 + LATE)
    assert server.statistics().open == 0


async def test_shutting_down_twice_is_as_good_as_once(start_http, connect, handler):
    server = await start_http(handler)
    client = await connect(server)
    await client.send(GET)
    await settle()
    server.begin_shutdown()
    server.begin_shutdown()
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(server.shutdown)
        await settle()
        handler.gate.set()
        assert (await client.read_reply()).body == b"/"


async def test_shutdown_of_an_unused_server_takes_no_time(start_http, handler):
    server = await start_http(handler)
    await server.shutdown()
    assert server.statistics().accepted == 0
    assert await refused(server.addresses[0])


@pytest.mark.parametrize("what", ["first", "idle"])
async def test_echo_finishes_the_bytes_in_hand(start_echo, connect, mock_clock, what):
    server = await start_echo()
    client, silent = await connect(server), await connect(server)
    if what == "idle":
        await client.send(b"x")
        assert await client.read(1) == b"x"
    await settle()
    data = os.urandom(50_000)
    client.send_nowait(data)
    server.begin_shutdown()
    async with time_passing(mock_clock):
        assert await client.read_to_end() == data
        assert await silent.read_end() == "fin"
    assert (server.statistics().open, server.statistics().cut) == (0, 0)
