"""Why a connection ended: one reason each, the first one, in words that statistics and logs share.

On raw sockets; `test_reasons_in_memory` reaches the same reasons and deadlines, the table in `reasons`, by playbooks.
"""

from __future__ import annotations

import contextlib

import pytest
import trio

from ktrio import Limits, Response, ServerOptions, Timeouts, serve_stream
from tests.server.harness import GET, LATE, Ended, advance, get, settle, time_passing, trickle
from tests.server.reasons import TIMEOUTS, assert_complete, seconds


async def handler(request):
    match request.target:
        case "/block":
            await trio.sleep_forever()
        case "/fail":
            return Response(body=failing())
        case "/big":
            return Response(body=b"x" * (64 << 20))
        case "/refuse":
            return Response(403)
        case "/refuse-at-last":
            await request.draining.wait()
            return Response(403)
    return Response(body=await request.read())


async def failing():
    yield b"some"
    raise ValueError("on the way")


async def leaves_between_requests(client, clock):
    await client.ask()
    client.finish()


async def leaves_without_a_word(client, clock):
    client.finish()


async def resets_between_requests(client, clock):
    await client.ask()
    await settle()
    client.reset()


async def resets_at_work(client, clock):
    await client.send(get("/block"))
    await settle()
    client.reset()


async def says_nothing(client, clock):
    await advance(clock, 10 + LATE)


async def is_idle(client, clock):
    await client.ask()
    await advance(clock, 5 + LATE)


async def stalls_its_body(client, clock):
    await client.send(get("/", "Content-Length: 5", method="POST"))
    await advance(clock, 30 + LATE)
    await trickle(clock, 2)


async def stalls_its_answer(client, clock):
    await client.send(get("/big"))
    await advance(clock, 30 + LATE)


async def half_closes_and_waits(client, clock):
    await client.send(get("/block"))
    client.finish()
    await advance(clock, 2 + LATE)


async def asks_to_close(client, clock):
    await client.ask(get("/", "Connection: close"))


async def sends_garbage(client, clock):
    await client.send(b"\x16\x03\x01")
    await client.read_to_end()
    client.finish()


async def asks_three_times(client, clock):
    for _ in range(3):
        await client.ask()


async def gets_a_broken_stream(client, clock):
    await client.send(get("/fail"))
    with contextlib.suppress(Ended):
        await client.read_to_end()


ROADS = [
    (leaves_between_requests, "peer-closed"),
    (leaves_without_a_word, "peer-closed"),
    (resets_between_requests, "peer-reset"),
    (resets_at_work, "client-gone"),
    (says_nothing, "head-timeout"),
    (is_idle, "idle-timeout"),
    (stalls_its_body, "body-timeout"),
    (stalls_its_answer, "write-timeout"),
    (half_closes_and_waits, "half-closed-timeout"),
    (asks_to_close, "answered"),
    (sends_garbage, "bad-request"),
    (asks_three_times, "max-requests"),
    (gets_a_broken_stream, "error"),
]


@pytest.mark.parametrize(("road", "reason"), ROADS, ids=lambda value: getattr(value, "__name__", value))
async def test_connection_ends_with_the_reason_of_its_road(start_http, connect, mock_clock, road, reason):
    server = await start_http(handler, limits=Limits(requests_per_connection=3))
    client = await connect(server, receive_buffer=4096)
    await road(client, mock_clock)
    await settle()
    assert server.statistics().reasons == {reason: 1}
    assert server.statistics().open == 0


async def test_connection_that_made_room_says_so(start_http, connect, mock_clock):
    server = await start_http(handler, options=ServerOptions(max_connections=1))
    client = await connect(server)
    await client.ask()
    await advance(mock_clock, 1)
    await (await connect(server)).ask()
    assert await client.read_end() == "fin"
    assert server.statistics().reasons == {"made-room": 1}


async def test_connection_whose_handler_of_streams_returned_says_so(servers, connect):
    async def at_once(stream):
        await stream.send_all(b"hello")

    server = await servers.start(serve_stream, at_once, "127.0.0.1:0")
    client = await connect(server)
    assert await client.read_to_end() == b"hello"
    await settle()
    assert server.statistics().reasons == {"handler-returned": 1}


WAYS_OF_THE_SERVER = ["draining", "grace", "second-signal", "server-cancelled"]


@pytest.mark.parametrize("road", WAYS_OF_THE_SERVER)
async def test_connection_ended_by_its_server_says_which_way(start_http, connect, mock_clock, road):
    async with time_passing(mock_clock), trio.open_nursery() as nursery:
        server = await start_http(handler, within=nursery)
        client = await connect(server)
        await client.send(GET if road == "draining" else get("/block"))
        await settle()
        if road == "server-cancelled":
            nursery.cancel_scope.cancel()
        elif road == "second-signal":
            server.force_shutdown("second-signal")
        else:
            server.begin_shutdown(grace=1)
    assert server.statistics().reasons == {road: 1}


# -- The deadlines: what goes on at the last moment before each, and is over a moment later


async def awaits_a_head(client, clock, server):
    await client.send(GET[:8])


async def awaits_the_next_request(client, clock, server):
    await client.ask()


async def awaits_a_body(client, clock, server):
    await client.send(get("/", "Content-Length: 5", method="POST"))


async def awaits_a_reader(client, clock, server):
    await client.send(get("/big"))
    await settle()


async def awaits_a_response_after_a_half_close(client, clock, server):
    await client.send(get("/block"))
    client.finish()


async def awaits_a_fin(client, clock, server):
    await client.send(get("/refuse", "Content-Length: 1000000", method="POST"))
    await client.read_to_end()


async def awaits_a_fin_at_the_shutdown(client, clock, server):
    await client.send(get("/refuse-at-last", "Content-Length: 1000000", method="POST"))
    await settle()
    server.begin_shutdown()
    await client.read_to_end()


async def says_its_last_words(client, clock, server):
    """Behind the 408 it lingers; but the whole goodbye has its own, shorter deadline."""
    await awaits_a_body(client, clock, server)
    await advance(clock, seconds("body") + LATE)
    await client.read_to_end()


# Deadline -> the road to it, and the reason of the connection that it ends.
DEADLINE_ROADS = {
    "head": (awaits_a_head, "head-timeout"),
    "idle": (awaits_the_next_request, "idle-timeout"),
    "body": (awaits_a_body, "body-timeout"),
    "write": (awaits_a_reader, "write-timeout"),
    "half-closed": (awaits_a_response_after_a_half_close, "half-closed-timeout"),
    "linger": (awaits_a_fin, "answered"),
    "linger-draining": (awaits_a_fin_at_the_shutdown, "draining"),
    "farewell": (says_its_last_words, "body-timeout"),
}


@pytest.mark.parametrize("deadline", DEADLINE_ROADS)
async def test_deadline_strikes_in_time_and_not_before(start_http, connect, mock_clock, tmp_path, deadline):
    road, reason = DEADLINE_ROADS[deadline]
    # A unix socket tells at once what its peer has taken; of a TCP one the kernel's buffers would have to be known.
    server = await start_http(handler, f"unix:{tmp_path}/socket", timeouts=TIMEOUTS)
    client = await connect(server)
    await road(client, mock_clock, server)
    await advance(mock_clock, seconds(deadline) - 0.01)
    [before] = [each for each in server.connections() if each.state != "closed"]
    assert before.reason in ("", reason)
    await advance(mock_clock, 0.01 + LATE)
    if deadline in ("head", "body"):  # then it says so, and lingers
        client.close()
        await settle()
    assert server.statistics().open == 0
    assert server.statistics().reasons == {reason: 1}


def test_no_reason_and_no_deadline_is_missing_on_this_road():
    reasons = {reason for _, reason in ROADS} | {"made-room", "handler-returned", *WAYS_OF_THE_SERVER}
    assert_complete(reasons, set(DEADLINE_ROADS))


# -- Each deadline is a setting


async def test_body_timeout_is_a_setting(start_http, connect, mock_clock):
    server = await start_http(handler, timeouts=Timeouts(body=3))
    client = await connect(server)
    await client.send(get("/", "Content-Length: 5", method="POST"))
    await advance(mock_clock, 2.9)
    assert client.is_open
    await advance(mock_clock, 0.1 + LATE)
    assert (await client.read_reply()).status == 408


async def test_write_timeout_is_a_setting(start_http, connect, mock_clock, tmp_path):
    server = await start_http(handler, f"unix:{tmp_path}/socket", timeouts=Timeouts(write=3))
    client = await connect(server)
    await client.send(get("/big"))
    await trickle(mock_clock, 2.8, step=0.2)
    assert server.statistics().open == 1
    await advance(mock_clock, 0.2 + LATE)
    assert server.statistics().open == 0


async def test_lowest_rate_is_a_setting(start_http, connect, mock_clock):
    """10 KB/s is plenty by default, and too little for who asks for 100."""
    for rate, status in [(240.0, 200), (100_000.0, 408)]:
        client = await connect(await start_http(handler, timeouts=Timeouts(body=5, lowest_rate=rate)))
        await client.send(get("/", "Content-Length: 200000", method="POST"))
        with contextlib.suppress(OSError):
            for _ in range(20):
                await client.send(b"x" * 10_000)
                await advance(mock_clock, 1)
        assert (await client.read_reply()).status == status


async def test_half_closed_timeout_is_a_setting(start_http, connect, mock_clock):
    server = await start_http(handler, timeouts=Timeouts(half_closed=30))
    client = await connect(server)
    await client.send(get("/block"))
    client.finish()
    await advance(mock_clock, 29.9)
    assert server.statistics().open == 1
    await advance(mock_clock, 0.1 + LATE)
    assert server.statistics().open == 0


async def test_linger_is_a_setting(start_http, connect, mock_clock):
    async def refuse(request):
        return Response(403)

    server = await start_http(refuse, timeouts=Timeouts(linger=4))
    client = await connect(server)
    await client.send(get("/", "Content-Length: 1000000", method="POST"))
    assert (await client.read_reply()).status == 403
    await advance(mock_clock, 3.9)
    assert server.statistics().open == 1
    await advance(mock_clock, 0.1 + LATE)
    assert server.statistics().open == 0
