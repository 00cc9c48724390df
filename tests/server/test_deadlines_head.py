"""How long a peer may take for a head, and how long it may be idle: on raw sockets, time moved by hand."""

from __future__ import annotations

import pytest
import trio

from ktrio import QueueOptions, Response, Timeouts
from tests.server.harness import GET, LATE, advance, get, settle, trickle


async def hello(request):
    return Response(body=b"hello")


async def test_silent_client_is_closed_at_the_head_deadline_without_a_byte(start_http, connect, mock_clock):
    """10 s from accept; nothing was begun, so nothing is said."""
    server = await start_http(hello)
    client = await connect(server)
    await advance(mock_clock, 9.9)
    assert client.is_open
    await advance(mock_clock, 0.1 + LATE)
    assert await client.read_end() == "fin"
    statistics = server.statistics()
    assert (statistics.open, statistics.reasons, statistics.cut) == (0, {"head-timeout": 1}, 0)


async def test_trickled_head_is_408_at_the_head_deadline(start_http, connect, mock_clock):
    """One byte a second does not renew it: 10 s in all (RFC 9110 section 15.5.9)."""
    server = await start_http(hello)
    client = await connect(server)
    for byte in GET[:10]:
        assert client.is_open
        await client.send(bytes([byte]))
        await advance(mock_clock, 1)
    await advance(mock_clock, LATE)
    reply = await client.read_reply()
    assert (reply.status, reply.says_close) == (408, True)
    assert await client.read_end() == "fin"
    await advance(mock_clock, 1 + LATE)
    assert server.statistics().open == 0
    assert server.statistics().reasons == {"head-timeout": 1}


async def test_first_byte_does_not_renew_the_time_since_accept(start_http, connect, mock_clock):
    """In all: whoever is silent for 9 s has one second left for the head."""
    client = await connect(await start_http(hello))
    await advance(mock_clock, 9)
    await client.send(GET[:5])
    await advance(mock_clock, 1 + LATE)
    assert (await client.read_reply()).status == 408


async def test_head_that_is_whole_just_in_time_is_answered(start_http, connect, mock_clock):
    client = await connect(await start_http(hello))
    for byte in GET[:9]:
        await client.send(bytes([byte]))
        await advance(mock_clock, 1.1)
    await client.send(GET[9:])
    assert (await client.read_reply()).body == b"hello"


async def test_idle_connection_is_closed_after_five_seconds_without_a_byte(start_http, connect, mock_clock):
    server = await start_http(hello)
    client = await connect(server)
    await client.ask()
    await advance(mock_clock, 4.9)
    assert client.is_open
    await advance(mock_clock, 0.1 + LATE)
    assert await client.read_end() == "fin"
    assert server.statistics().reasons == {"idle-timeout": 1}


async def test_idle_time_begins_anew_with_each_answer(start_http, connect, mock_clock):
    client = await connect(await start_http(hello))
    for _ in range(5):
        assert (await client.ask()).body == b"hello"
        await advance(mock_clock, 4.5)
    assert client.is_open
    await advance(mock_clock, 0.5 + LATE)
    assert await client.read_end() == "fin"


async def test_head_of_a_later_request_has_ten_seconds_from_its_first_byte(start_http, connect, mock_clock):
    client = await connect(await start_http(hello))
    await client.ask()
    await advance(mock_clock, 4.5)
    await client.send(GET[:5])
    await advance(mock_clock, 9.5)
    assert client.is_open
    await client.send(GET[5:])
    assert (await client.read_reply()).body == b"hello"
    await client.send(GET[:5])
    await trickle(mock_clock, 10)
    await advance(mock_clock, LATE)
    assert (await client.read_reply()).status == 408


async def test_empty_line_between_requests_is_no_head(start_http, connect, mock_clock):
    """RFC 9112 section 2.2: it is passed over, and must not be a way to stay for ever."""
    client = await connect(await start_http(hello))
    await client.ask()
    await client.send(b"\r\n")
    await trickle(mock_clock, 10)
    await advance(mock_clock, LATE)
    rest = await client.read_to_end()
    assert rest == b"" or rest.startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("seconds", [6, 60, 6000])
async def test_no_deadline_hits_while_a_handler_works(start_http, connect, mock_clock, seconds):
    """A handler's own time is the one thing without a limit."""
    gate = trio.Event()

    async def slow(request):
        await gate.wait()
        return Response(body=b"at last")

    client = await connect(await start_http(slow))
    await client.send(GET)
    await settle()
    for _ in range(6):
        await advance(mock_clock, seconds / 6)
    gate.set()
    assert (await client.read_reply()).body == b"at last"
    assert client.is_open


async def test_no_deadline_hits_while_a_request_waits_for_a_slot(start_http, connect, mock_clock):
    """The peer has done its part; that the server is busy is not its fault."""
    gate = trio.Event()

    async def handler(request):
        if request.target == "/busy":
            await gate.wait()
        return Response(body=request.target.encode())

    server = await start_http(handler, queue=QueueOptions(max_active=1))
    kept, busy = await connect(server), await connect(server)
    await kept.ask()
    await busy.send(get("/busy"))
    await settle()
    fresh, two_pieces = await connect(server), await connect(server)
    await kept.send(get("/kept"))
    await fresh.send(get("/fresh"))
    await two_pieces.send(get("/two")[:10])
    await settle()
    await two_pieces.send(get("/two")[10:])
    await trickle(mock_clock, 60, step=3)
    gate.set()
    for client, body in [(busy, b"/busy"), (kept, b"/kept"), (fresh, b"/fresh"), (two_pieces, b"/two")]:
        assert (await client.read_reply()).body == body
    assert server.statistics().reasons == {}


async def test_half_a_head_that_waited_for_a_slot_still_has_a_deadline(start_http, connect, mock_clock):
    gate = trio.Event()

    async def handler(request):
        await gate.wait()
        return Response(body=b"x")

    server = await start_http(handler, queue=QueueOptions(max_active=1))
    busy, half = await connect(server), await connect(server)
    await busy.send(GET)
    await settle()
    await half.send(GET[:5])
    await trickle(mock_clock, 60, step=3)
    gate.set()
    assert (await busy.read_reply()).body == b"x"
    await trickle(mock_clock, 11)
    assert (await half.read_reply()).status == 408


async def test_deadlines_are_settings(start_http, connect, mock_clock):
    server = await start_http(hello, timeouts=Timeouts(head=3, idle=60))
    silent, idle = await connect(server), await connect(server)
    await idle.ask()
    await advance(mock_clock, 3 + LATE)
    assert await silent.read_end() == "fin"
    await advance(mock_clock, 56)
    assert idle.is_open
    await advance(mock_clock, 1 + LATE)
    assert await idle.read_end() == "fin"


async def test_many_silent_clients_are_all_closed_at_their_own_time(start_http, connect, mock_clock):
    server = await start_http(hello)
    clients = []
    for _ in range(10):
        clients.append(await connect(server))
        await advance(mock_clock, 0.5)
    await advance(mock_clock, 5 + LATE)
    assert [client.peek() for client in clients] == ["fin"] + ["open"] * 9
    await advance(mock_clock, 4.5)
    assert [client.peek() for client in clients] == ["fin"] * 10


async def test_peer_that_does_not_take_its_408_is_gone_within_a_second(start_http, connect, mock_clock):
    """The farewell has a scope of at most 1 s, and lingering another."""
    server = await start_http(hello)
    client = await connect(server)
    await client.send(b"GET")
    await advance(mock_clock, 10 + LATE)
    await trickle(mock_clock, 2.4, step=0.3)
    assert server.statistics().open == 0
    assert (await client.read_reply()).status == 408


async def test_half_closed_peer_waits_for_a_slot_as_long_as_it_takes(start_http, connect, mock_clock):
    """The two seconds after a FIN are a handler's, and no handler has begun."""
    gate = trio.Event()

    async def handler(request):
        if request.target == "/busy":
            await gate.wait()
        return Response(body=b"answer")

    server = await start_http(handler, queue=QueueOptions(max_active=1))
    busy, half_closed = await connect(server), await connect(server)
    await busy.send(get("/busy"))
    await settle()
    await half_closed.send(GET)
    half_closed.finish()
    await trickle(mock_clock, 60, step=3)
    gate.set()
    assert (await half_closed.read_reply()).body == b"answer"
    assert await half_closed.read_end() == "fin"
