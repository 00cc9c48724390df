"""A peer that leaves while its request is being handled: a reset ends the handler, a half-close does not."""

from __future__ import annotations

import pytest
import trio

from ktrio import QueueOptions, Response
from tests.server.harness import GET, LATE, Ended, advance, get, settle


class Handler:
    """Blocks until told, and writes down how it ended."""

    def __init__(self) -> None:
        self.begun = trio.Event()
        self.gate = trio.Event()
        self.over = trio.Event()
        self.end = ""

    async def __call__(self, request):
        self.begun.set()
        try:
            await self.gate.wait()
        except trio.Cancelled:
            self.end = "cancelled"
            raise
        else:
            self.end = "done"
            return Response(body=b"late answer")
        finally:
            self.over.set()


@pytest.fixture
def handler():
    return Handler()


async def test_reset_cancels_a_blocked_handler_at_once(start_http, connect, handler):
    """No time passes: nobody will ever read the answer."""
    server = await start_http(handler)
    client = await connect(server)
    await client.send(GET)
    await handler.begun.wait()
    client.reset()
    await handler.over.wait()
    await settle()
    assert handler.end == "cancelled"
    statistics = server.statistics()
    assert (statistics.open, statistics.cut, statistics.reasons) == (0, 0, {"client-gone": 1})


async def test_reset_behind_unread_bytes_is_seen(start_http, connect, handler):
    """The peer has pipelined more than anybody will read ahead; that must not hide that it is gone."""
    server = await start_http(handler)
    client = await connect(server)
    await client.send(GET)
    await handler.begun.wait()
    await client.send(GET * 10_000)
    await settle()
    client.reset()
    await handler.over.wait()
    assert handler.end == "cancelled"


async def test_reset_after_a_half_close_is_seen(start_http, connect, handler):
    server = await start_http(handler)
    client = await connect(server)
    await client.send(GET)
    await handler.begun.wait()
    client.finish()
    await settle()
    assert handler.end == ""
    client.reset()
    await handler.over.wait()
    assert handler.end == "cancelled"


async def test_reset_of_one_peer_does_not_touch_the_others(start_http, connect):
    gate = trio.Event()

    async def wait_at_gate(request):
        await gate.wait()
        return Response(body=b"answer")

    server = await start_http(wait_at_gate)
    clients = [await connect(server) for _ in range(10)]
    for client in clients:
        await client.send(GET)
    await settle()
    for client in clients[::2]:
        client.reset()
    await settle()
    assert server.statistics().open == 5
    gate.set()
    for client in clients[1::2]:
        assert (await client.read_reply()).body == b"answer"


async def test_half_close_lets_the_answer_come(start_http, connect, handler, mock_clock):
    """RFC 9112 section 9.6 speaks of half-closed connections; `printf … | nc` makes them."""
    server = await start_http(handler)
    client = await connect(server)
    await client.send(GET)
    client.finish()
    await advance(mock_clock, 1.9)
    handler.gate.set()
    reply = await client.read_reply()
    assert (reply.status, reply.body) == (200, b"late answer")
    assert await client.read_end() == "fin"
    await settle()
    assert server.statistics().open == 0


async def test_half_close_before_the_handler_even_began_lets_the_answer_come(start_http, connect):
    async def handler(request):
        return Response(body=b"answer")

    client = await connect(await start_http(handler))
    client.send_nowait(GET * 3)
    client.finish()
    for _ in range(3):
        assert (await client.read_reply()).body == b"answer"
    assert await client.read_end() == "fin"


async def test_handler_without_a_head_two_seconds_after_the_fin_is_cancelled(start_http, connect, handler, mock_clock):
    server = await start_http(handler)
    client = await connect(server)
    await client.send(GET)
    await handler.begun.wait()
    await advance(mock_clock, 60)  # a handler's own time has no deadline
    client.finish()
    await advance(mock_clock, 1.9)
    assert handler.end == ""
    await advance(mock_clock, 0.1 + LATE)
    assert handler.end == "cancelled"
    assert server.statistics().reasons == {"half-closed-timeout": 1}
    assert server.statistics().cut == 0


async def test_answer_that_has_begun_goes_on_after_a_half_close(start_http, connect, mock_clock):
    """Only a handler without a response head is given up."""
    gate = trio.Event()

    async def body():
        yield b"first"
        await gate.wait()
        yield b"second"

    async def handler(request):
        return Response(body=body())

    client = await connect(await start_http(handler))
    await client.send(GET)
    await client.read_through(b"first")
    client.finish()
    await advance(mock_clock, 29)
    assert client.peek() in ("data", "open")
    gate.set()
    assert b"second" in await client.read_to_end()


async def test_stream_that_is_silent_behind_a_half_close_is_given_up_after_the_write_time(
    start_http, connect, mock_clock
):
    """A browser that closes says no more than a FIN, and a stream that sends nothing never learns that it has gone."""
    gate = trio.Event()

    async def body():
        yield b"first"
        await gate.wait()
        yield b"second"
        await trio.sleep_forever()

    async def handler(request):
        return Response(body=body())

    server = await start_http(handler, queue=QueueOptions(max_active=1))
    client = await connect(server)
    await client.send(GET)
    await client.read_through(b"first")
    client.finish()
    await advance(mock_clock, 29)
    gate.set()
    await client.read_through(b"second")
    other = await connect(server)
    await other.send(GET)
    await advance(mock_clock, 29)
    assert server.statistics().reasons == {}
    await advance(mock_clock, 1 + LATE)
    assert server.statistics().reasons == {"half-closed-timeout": 1}
    await other.read_through(b"first")


async def test_reset_cancels_a_stream_that_waits_for_its_next_piece(start_http, connect):
    ended = trio.Event()
    task = []

    async def body():
        try:
            yield b"first"
            await trio.sleep_forever()
        finally:
            task.append(trio.lowlevel.current_task())
            ended.set()

    async def handler(request):
        task.append(trio.lowlevel.current_task())
        return Response(body=body())

    server = await start_http(handler)
    client = await connect(server)
    await client.send(GET)
    await client.read_through(b"first")
    client.reset()
    await ended.wait()
    await settle()
    assert task[0] is task[1]
    assert server.statistics().open == 0


async def test_stream_written_to_a_peer_that_is_gone_is_closed(start_http, connect):
    """A failed write is as good as a reset: the stream is told, it does not run on for nobody."""
    ended = trio.Event()
    made = 0

    async def body():
        nonlocal made
        try:
            while True:
                made += 1
                yield b"x" * 10_000
        finally:
            ended.set()

    async def handler(request):
        return Response(body=body())

    server = await start_http(handler)
    client = await connect(server, receive_buffer=4096)
    await client.send(GET)
    await client.read(100_000)
    client.close()
    await ended.wait()
    await settle()
    assert server.statistics().open == 0
    assert server.statistics().errors == 0


async def test_handler_may_clean_up_when_the_peer_is_gone(start_http, connect):
    cleaned = trio.Event()

    async def handler(request):
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                await trio.lowlevel.checkpoint()
            cleaned.set()

    server = await start_http(handler)
    client = await connect(server)
    await client.send(GET)
    await settle()
    client.reset()
    await cleaned.wait()
    await settle()
    assert server.statistics().open == 0


async def test_handler_that_turns_its_cancellation_into_an_error_is_logged_at_most_once(start_http, connect, caplog):
    async def handler(request):
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("in the way")

    server = await start_http(handler)
    client = await connect(server)
    await client.send(GET)
    await settle()
    client.reset()
    await settle()
    assert server.statistics().open == 0
    assert len(caplog.records) == 1


async def test_peer_that_leaves_within_a_head_or_a_body_calls_no_handler_to_the_end(start_http, connect, caplog):
    answered = []

    async def handler(request):
        answered.append(await request.read())
        return Response()

    server = await start_http(handler)
    for begun in [b"G", GET[:-2], get("/", "Content-Length: 10", method="POST") + b"12345"]:
        for leave in ["reset", "close", "finish"]:
            client = await connect(server)
            await client.send(begun)
            await settle()
            getattr(client, leave)()
            await settle()
            if leave == "finish":
                await client.read_to_end()
                client.close()
    await settle()
    assert answered == []
    assert server.statistics().open == 0
    assert caplog.records == []


async def test_answers_of_a_peer_that_is_gone_are_not_counted(start_http, connect, handler):
    server = await start_http(handler)
    client = await connect(server)
    await client.send(GET)
    await handler.begun.wait()
    client.reset()
    await handler.over.wait()
    await settle()
    assert server.statistics().answered == 0
    with pytest.raises((Ended, OSError)):
        await client.read_reply()
