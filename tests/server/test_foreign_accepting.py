"""Accepting from a listener that cannot be asked whether anybody waits: limits, pauses, errors, and its end."""

from __future__ import annotations

import errno
import os

import pytest
import trio

import ktrio
from ktrio import Response, ServerOptions
from tests.server.harness import GET, advance, get, settle, time_passing, trickle
from tests.server.streams import MemoryListener, make_place, receive_all

LAST = get("/", "Connection: close")


class Handler:
    """Waits at its gate, but for `/now`."""

    def __init__(self) -> None:
        self.gate = trio.Event()
        self.seen = 0
        self.ended = 0

    async def __call__(self, request):
        self.seen += 1
        try:
            if request.target != "/now":
                await self.gate.wait()
            return Response(body=b"hello")
        finally:
            self.ended += 1


@pytest.fixture
def handler():
    return Handler()


@pytest.fixture
def listener():
    return MemoryListener()


class Flood(MemoryListener):
    """There is always somebody who has connected already."""

    async def accept(self):
        if not self.closed:
            self.connect()
        return await super().accept()


async def newcomer(listener, request=LAST):
    """A peer that has sent its request already."""
    stream = listener.connect()
    await stream.send_all(request)
    return stream


async def read_answer(stream) -> bytes:
    found = b""
    while not found.endswith(b"hello"):
        piece = await stream.receive_some()
        assert piece, found
        found += piece
    return found


async def idle_one(listener):
    stream = await newcomer(listener, get("/now"))
    await read_answer(stream)
    return stream


def everything_is_closed_once(listener) -> bool:
    return (listener.closed, {stream.closed for stream in listener.accepted} | {1}) == (1, {1})


# -- Limits -----------------------------------------------------------------------------------------------------------


async def test_nobody_makes_room_while_nobody_waits(start_http, listener, handler, mock_clock):
    server = await start_http(handler, listener, options=ServerOptions(max_connections=3))
    for _ in range(3):
        await idle_one(listener)
    await advance(mock_clock, 4)
    assert (server.statistics().open, server.statistics().made_room) == (3, 0)


async def test_longest_idle_makes_room_for_one_who_waits(start_http, listener, handler, mock_clock):
    server = await start_http(handler, listener, options=ServerOptions(max_connections=3))
    idle = []
    for _ in range(3):
        idle.append(await idle_one(listener))
        await advance(mock_clock, 0.5)
    assert (await read_answer(await newcomer(listener, get("/now")))).startswith(b"HTTP/1.1 200 ")
    assert await receive_all(idle[0]) == b""
    await settle()
    assert (server.statistics().open, server.statistics().made_room) == (3, 1)
    assert server.statistics().reasons == {"made-room": 1}


async def test_one_is_taken_in_hand_and_the_rest_waits_while_all_are_busy(start_http, listener, handler, mock_clock):
    server = await start_http(handler, listener, options=ServerOptions(max_connections=2))
    peers = [await newcomer(listener) for _ in range(6)]
    await advance(mock_clock, 60)
    assert (server.statistics().open, server.statistics().made_room) == (2, 0)
    assert (handler.seen, len(listener.accepted), listener.waiting) == (2, 3, 3)
    handler.gate.set()
    for peer in peers:
        assert (await receive_all(peer)).endswith(b"hello")
    assert server.statistics().accepted == 6


async def test_each_listener_has_one_in_hand_and_the_places_are_the_servers(start_http, handler):
    listeners = [MemoryListener(), MemoryListener()]
    server = await start_http(handler, *listeners, options=ServerOptions(max_connections=1))
    peers = [await newcomer(listener) for listener in listeners for _ in range(3)]
    await settle()
    assert (server.statistics().open, handler.seen) == (1, 1)
    assert sum(len(listener.accepted) for listener in listeners) == 3
    handler.gate.set()
    for peer in peers:
        assert (await receive_all(peer)).endswith(b"hello")


async def test_one_in_hand_that_leaves_is_found_dead_and_the_next_is_served(start_http, listener, handler):
    server = await start_http(handler, listener, options=ServerOptions(max_connections=1))
    busy = await newcomer(listener)
    await settle()
    leaver, stayer = listener.connect(), await newcomer(listener)
    await settle()
    await leaver.aclose()
    handler.gate.set()
    assert (await receive_all(busy)).endswith(b"hello")
    assert (await receive_all(stayer)).endswith(b"hello")
    await settle()
    assert server.statistics().open == 0


# -- Suspended --------------------------------------------------------------------------------------------------------


async def test_suspended_server_serves_nobody_until_it_is_resumed(start_http, listener, handler, mock_clock):
    server = await start_http(handler, listener)
    server.suspend()
    peers = [await newcomer(listener, get("/now", "Connection: close")) for _ in range(5)]
    await advance(mock_clock, 3600)
    assert (server.statistics().open, handler.seen) == (0, 0)
    assert len(listener.accepted) <= 1
    server.resume()
    for peer in peers:
        assert (await receive_all(peer)).endswith(b"hello")


async def test_open_connections_go_on_while_suspended(start_http, listener, handler):
    server = await start_http(handler, listener)
    stream = await idle_one(listener)
    server.suspend()
    await stream.send_all(get("/now"))
    await read_answer(stream)


async def test_one_in_hand_makes_nobody_leave_while_suspended(start_http, listener, handler, mock_clock):
    server = await start_http(handler, listener, options=ServerOptions(max_connections=1))
    idle = await idle_one(listener)
    server.suspend()
    waiting = await newcomer(listener, get("/now"))
    await advance(mock_clock, 2)
    assert (server.statistics().open, server.statistics().made_room) == (1, 0)
    server.resume()
    await read_answer(waiting)
    assert await receive_all(idle) == b""


async def test_one_in_hand_that_waits_for_room_is_not_served_after_suspend(start_http, listener, handler, mock_clock):
    server = await start_http(handler, listener, options=ServerOptions(max_connections=1))
    busy, waiting = await newcomer(listener), await newcomer(listener)
    await settle()
    server.suspend()
    handler.gate.set()
    assert (await receive_all(busy)).endswith(b"hello")
    await advance(mock_clock, 60)
    assert (server.statistics().open, handler.seen) == (0, 1)
    server.resume()
    assert (await receive_all(waiting)).endswith(b"hello")


# -- Going down -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["accepting", "suspended", "full"])
async def test_who_has_connected_by_the_shutdown_is_answered(start_http, listener, handler, state):
    """Past `max_connections` if need be: they have sent their requests already."""
    server = await start_http(handler, listener, options=ServerOptions(max_connections=1))
    busy = await newcomer(listener) if state == "full" else None
    await settle()
    if state == "suspended":
        server.suspend()
        await settle()
    peers = [await newcomer(listener, get("/now")) for _ in range(10)]
    if state != "accepting":
        await settle()
    server.begin_shutdown()
    for peer in peers:
        assert (await receive_all(peer)).endswith(b"hello")
    handler.gate.set()
    assert busy is None or (await receive_all(busy)).endswith(b"hello")
    await server.wait_ended()
    assert (server.statistics().cut, server.statistics().errors, listener.waiting) == (0, 0, 0)
    assert everything_is_closed_once(listener)


@pytest.mark.parametrize("kind", ["memory", "tls-memory", "tls-socket"])
async def test_listener_is_closed_before_anybody_is_told(start_http, handler, kind):
    place = await make_place(kind)
    server = await start_http(handler, place.listener)
    found = []

    async def watch():
        await server.draining.wait()
        if kind == "tls-socket":
            found.append(place.bottom.socket.fileno())
        else:
            found.append(place.bottom.closed)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        await settle()
        server.begin_shutdown()
    assert found == [-1 if kind == "tls-socket" else 1]


async def test_shutdown_does_not_wait_for_who_might_still_come(start_http, listener, handler):
    server = await start_http(handler, listener)
    await settle()
    await server.shutdown()
    assert everything_is_closed_once(listener)
    with pytest.raises(trio.BrokenResourceError):
        listener.connect()


async def test_shutdown_accepts_no_more_than_the_backlog(start_http, handler):
    """Somebody who connects faster than we accept must not keep the server up."""

    listener = Flood()
    server = await start_http(handler, listener, options=ServerOptions(backlog=20, max_connections=50))
    server.suspend()
    await settle()
    before = server.statistics().accepted
    server.begin_shutdown(grace=0)
    await settle()
    assert 20 <= server.statistics().accepted - before <= 40
    assert everything_is_closed_once(listener)


async def test_bottomless_listener_does_not_starve_the_others(start_http, handler):
    flood, listener = Flood(), MemoryListener()
    await start_http(handler, flood, listener, options=ServerOptions(max_connections=100_000))
    peer = await newcomer(listener, get("/now", "Connection: close"))
    found = []

    async def ask():
        found.append(await receive_all(peer))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        for _ in range(300):
            await trio.lowlevel.checkpoint()
        await flood.aclose()
    assert found[0].endswith(b"hello")


# -- Closed by somebody else ------------------------------------------------------------------------------------------


async def test_listener_that_somebody_else_closes_ends_accepting_and_nothing_else(
    start_http, connect, listener, handler, caplog
):
    server = await start_http(handler, listener, "127.0.0.1:0")
    kept = await idle_one(listener)
    await listener.aclose()
    await settle()
    await kept.send_all(get("/now"))
    await read_answer(kept)
    assert (await (await connect(server)).ask(get("/now"))).body == b"hello"
    await server.shutdown()
    assert server.statistics().errors == 0
    assert {stream.closed for stream in listener.accepted} == {1}


# -- Errors of accept -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM], ids=errno.errorcode.get)
async def test_accept_that_finds_no_resources_pauses_and_recovers(
    start_http, listener, handler, mock_clock, number, caplog
):
    """One log line for a burst, and who is in is served."""
    server = await start_http(handler, listener)
    kept = await idle_one(listener)
    listener.errors = [OSError(number, os.strerror(number)) for _ in range(5)]
    listener.wake()
    waiting = await newcomer(listener, get("/now"))
    await settle()  # never returns while the acceptor spins
    assert listener.errors
    await kept.send_all(get("/now"))
    await read_answer(kept)
    await trickle(mock_clock, 2, step=0.1)
    assert listener.errors == []
    await read_answer(waiting)
    assert len(caplog.records) == 1, caplog.text
    assert server.statistics().errors == 0


async def test_shutdown_during_such_a_pause_is_clean(start_http, listener, handler, mock_clock):
    server = await start_http(handler, listener)
    await settle()
    listener.errors = [OSError(errno.EMFILE, "full") for _ in range(1000)]
    listener.wake()
    await settle()
    async with time_passing(mock_clock):
        await server.shutdown()
    assert everything_is_closed_once(listener)


@pytest.mark.parametrize("moment", ["first", "later", "shutting down"])
@pytest.mark.parametrize("error", [RuntimeError("broken listener"), OSError(errno.EBADF, "bad")], ids=["other", "os"])
async def test_accept_that_raises_anything_else_ends_the_server_with_it(
    listener, handler, mock_clock, error, moment, caplog
):
    """When the last connection has ended."""
    other = MemoryListener()

    async def run(task_status):
        await ktrio.serve_http(handler, listener, other, task_status=task_status)

    raised = []

    async def serve(task_status):
        try:
            await run(task_status)
        except BaseException as caught:
            raised.append((caught, handler.ended, listener.closed, other.closed))

    async with time_passing(mock_clock), trio.open_nursery() as nursery:
        if moment == "first":
            listener.errors = [error]
        server = await nursery.start(serve)
        if moment != "first":
            busy = [await newcomer(each, GET) for each in (listener, other)]
            await settle()
            assert handler.seen == 2
            listener.errors = [error]
            if moment == "shutting down":
                server.begin_shutdown(grace=1)
            else:
                listener.wake()
            for peer in busy:
                await receive_all(peer)
    [(caught, ended, *closed)] = raised
    assert ended == handler.seen
    assert closed == [1, 1]
    with pytest.RaisesGroup(type(error), flatten_subgroups=True, allow_unwrapped=True):
        raise caught
    assert server.statistics().open == 0
    assert everything_is_closed_once(listener)
    assert everything_is_closed_once(other)


@pytest.mark.parametrize("number", [errno.ECONNABORTED, errno.EPROTO], ids=errno.errorcode.get)
async def test_client_that_was_gone_when_it_was_accepted_is_nothing(start_http, listener, handler, number, caplog):
    await start_http(handler, listener)
    await settle()
    listener.errors = [OSError(number, os.strerror(number)) for _ in range(3)]
    listener.wake()
    waiting = await newcomer(listener, get("/now"))
    await read_answer(waiting)
    assert caplog.records == []
