"""A body that is written: what ``send`` does for the writer function, and what ends it."""

from __future__ import annotations

from functools import partial

import pytest
import trio
from trio.testing import assert_checkpoints

from ktrio import Headers, QueueOptions, Response
from tests.protocols.bodies import both_kinds, read_chunk
from tests.server.harness import GET, Ended, advance, get, settle, trickle

MIB = 1 << 20


def writing(write, **fields: str):
    """A handler whose answer is written by `write`."""

    async def handler(request):
        return Response(headers=Headers(fields), body=write)

    return handler


@pytest.fixture
def unix(tmp_path):
    return f"unix:{tmp_path}/socket"


async def test_pieces_reach_the_peer_as_they_are_sent(start_http, connect):
    send_more, more = trio.open_memory_channel[bytes](0)

    async def write(send):
        async for piece in more:
            await send(piece)

    client = await connect(await start_http(writing(write)))
    await client.send(GET)
    assert (await client.read_head()).framing == "chunked"
    async with send_more:
        for piece in [b"one", b"two", b"three"]:
            await send_more.send(piece)
            assert await read_chunk(client) == piece
    assert await client.read(5) == b"0\r\n\r\n"


@pytest.mark.parametrize("fields", [{}, {"content-length": "6"}], ids=["chunked", "sized"])
async def test_send_is_a_checkpoint_whatever_it_is_given(start_http, connect, fields):
    async def write(send):
        for piece in [b"", b"one", b"", b"two"]:
            with assert_checkpoints():
                await send(piece)

    client = await connect(await start_http(writing(write, **fields)))
    assert (await client.ask()).body == b"onetwo"


async def test_writer_may_be_anything_that_is_called_and_awaited(start_http, connect):
    class Object:
        async def __call__(self, send):
            await send(b"data")

        async def method(self, send):
            await send(b"data")

    async def with_more(more, send):
        await send(more)

    for write in [Object(), Object().method, partial(with_more, b"data")]:
        client = await connect(await start_http(writing(write)))
        for _ in range(2):
            assert (await client.ask()).body == b"data"


async def test_writer_runs_in_the_task_of_its_handler(start_http, connect):
    tasks = []

    async def write(send):
        tasks.append(trio.lowlevel.current_task())
        await send(b"data")

    async def handler(request):
        tasks.append(trio.lowlevel.current_task())
        return Response(body=write)

    client = await connect(await start_http(handler))
    await client.ask()
    assert tasks[0] is tasks[1]


@pytest.mark.parametrize("request_bytes", [get("/200", method="HEAD"), get("/204"), get("/304"), get("/999")])
async def test_writer_that_is_not_wanted_is_never_called(start_http, connect, request_bytes, caplog):
    called = []

    async def handler(request):
        return Response(int(request.target[1:]), body=called.append)

    client = await connect(await start_http(handler))
    await client.ask(request_bytes)
    await settle()
    assert called == []


# -- Who may send, and when


async def test_send_from_a_child_task(start_http, connect):
    async def write(send):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, b"child")
        await send(b"parent")

    client = await connect(await start_http(writing(write)))
    for _ in range(2):
        assert (await client.ask()).body == b"childparent"


async def test_send_after_the_writer_returned_is_an_error(start_http, connect):
    """Its answer is complete: a late piece would be the next one's."""
    kept = []

    async def write(send):
        kept.append(send)
        await send(b"data")

    client = await connect(await start_http(writing(write)))
    for _ in range(2):
        assert (await client.ask()).body == b"data"
        for late in [b"late", b""]:
            with pytest.raises(RuntimeError):
                await kept[0](late)
    assert client.is_open


async def test_send_after_the_writer_was_cut_is_an_error(start_http, connect):
    kept = []

    async def write(send):
        kept.append(send)
        await send(b"data")
        await trio.sleep_forever()

    client = await connect(await start_http(writing(write)))
    await client.send(GET)
    await client.read_through(b"data")
    client.reset()
    await settle()
    with pytest.raises(RuntimeError):
        await kept[0](b"late")


async def test_send_while_another_task_sends_is_an_error_of_the_second(start_http, connect):
    refused = trio.Event()

    async def write(send):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, b"x" * 16 * MIB)
            await settle()
            with pytest.raises(trio.BusyResourceError):
                await send(b"second")
            refused.set()
        await send(b"third")

    client = await connect(await start_http(writing(write)), receive_buffer=4096)
    await client.send(GET)
    await refused.wait()
    assert (await client.read_reply()).body == b"x" * 16 * MIB + b"third"


# -- Slow peers


async def test_send_waits_for_a_slow_peer(start_http, connect):
    """Back-pressure: what the peer does not take is not written."""
    sent = 0

    async def write(send):
        nonlocal sent
        while sent < 64 * MIB:
            await send(b"x" * 65_536)
            sent += 65_536

    client = await connect(await start_http(writing(write)), receive_buffer=4096)
    await client.send(GET)
    await settle()
    stuck = sent
    assert stuck < 32 * MIB
    await settle()
    assert sent == stuck
    assert len((await client.read_reply()).body) == 64 * MIB


@pytest.mark.parametrize("goes_on", [True, False], ids=["goes-on", "returns"])
@pytest.mark.parametrize("fields", [{}, {"content-length": str(17 * MIB)}], ids=["chunked", "sized"])
async def test_send_that_was_cancelled_breaks_the_answer_off(start_http, connect, mock_clock, fields, goes_on, caplog):
    """RFC 9112 section 8: nothing may follow a piece that went out in part, least of all as if it were its rest."""
    given_up = trio.Event()

    async def write(send):
        with trio.move_on_after(1) as scope:
            await send(b"a" * 16 * MIB)
        assert scope.cancelled_caught
        given_up.set()
        if goes_on:
            await send(b"b" * MIB)

    server = await start_http(writing(write, **fields))
    client = await connect(server, receive_buffer=4096)
    await client.send(GET + GET)
    await advance(mock_clock, 1)
    assert given_up.is_set()
    await client.read_head()
    with pytest.raises(Ended) as seen:
        await client.read(17 * MIB)
    assert b"b" not in seen.value.data
    assert seen.value.data.count(b"HTTP") == 0
    await settle()
    assert (server.statistics().open, server.statistics().answered) == (0, 0)
    assert [record.levelname for record in caplog.records] == ["ERROR"]


@pytest.mark.parametrize("fields", [{}, {"content-length": "5"}], ids=["chunked", "sized"])
async def test_send_that_was_cancelled_before_it_began_has_sent_nothing(start_http, connect, fields):
    """Neither a head without its answer nor an answer without its head; and what was not sent is not counted."""

    async def write(send):
        for piece in [b"one", b"two"]:
            with trio.CancelScope() as scope:
                scope.cancel()
                await send(piece)
        await send(b"three")

    client = await connect(await start_http(writing(write, **fields)))
    for _ in range(2):
        reply = await client.ask()
        assert (reply.status, reply.body) == (200, b"three")
    assert client.is_open


@pytest.mark.parametrize("together", [False, True])
async def test_child_that_sends_may_be_cancelled(start_http, connect, mock_clock, together):
    """A heartbeat: it ends with its nursery, also in the very turn in which it would have sent."""

    async def write(send):
        async def beat():
            while True:
                await trio.sleep(1)
                await send(b"beat")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(beat)
            await trio.sleep(2 if together else 1.5)
            nursery.cancel_scope.cancel()
        await send(b"end")

    client = await connect(await start_http(writing(write)))
    await client.send(GET)
    await advance(mock_clock, 1)
    await advance(mock_clock, 1)
    reply = await client.read_reply()
    assert (reply.status, reply.chunks[-1]) == (200, b"end")
    assert set(reply.chunks[:-1]) == {b"beat"}
    assert client.is_open


async def test_writer_that_swallows_the_peers_going_is_no_error(start_http, connect, caplog):
    """It only learns nothing new from its next ``send``."""
    tries = []

    async def write(send):
        for _ in range(5):
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 60):
                try:
                    await send(b"x" * 8 * MIB)
                except Exception as error:
                    tries.append(type(error).__name__)

    server = await start_http(writing(write))
    client = await connect(server, receive_buffer=4096)
    await client.send(GET)
    await settle()
    client.reset()
    await settle()
    assert tries[-1:] == ["ConnectionGone"]
    assert (server.statistics().open, server.statistics().errors) == (0, 0)
    assert server.statistics().reasons == {"client-gone": 1}
    assert caplog.records == []


@pytest.mark.parametrize("leave", ["reset", "server"])
async def test_send_that_waits_is_cancelled(start_http, connect, leave, caplog):
    ends = []

    async def write(send):
        try:
            while True:
                await send(b"x" * MIB)
        except BaseException as error:
            ends.append(error)
            raise

    async with trio.open_nursery() as nursery:
        server = await start_http(writing(write), within=nursery)
        client = await connect(server, receive_buffer=4096)
        await client.send(GET)
        await settle()
        if leave == "reset":
            client.reset()
            await settle()
            assert (len(ends), server.statistics().open) == (1, 0)
            assert server.statistics().reasons == {"client-gone": 1}
            assert server.statistics().errors == 0
        nursery.cancel_scope.cancel()
    assert len(ends) == 1
    assert caplog.records == []


async def test_stalled_reader_of_a_writer_is_reset(start_http, connect, mock_clock, unix):
    """No progress for 30 s; the writer is cancelled where it waits in its ``send``."""
    ends = []

    async def write(send):
        try:
            while True:
                await send(b"x" * 100_000)
        except trio.Cancelled as error:
            ends.append(error)
            raise

    server = await start_http(writing(write), unix)
    client = await connect(server)
    await client.send(GET)
    await trickle(mock_clock, 29)
    assert server.statistics().open == 1
    await trickle(mock_clock, 2)
    assert server.statistics().reasons == {"write-timeout": 1}
    assert len(ends) == 1


async def test_slow_writer_is_not_its_peers_fault(start_http, connect, mock_clock):
    """Time between two pieces is the handler's own, however long."""

    async def write(send):
        for _ in range(5):
            await trio.sleep(100)
            await send(b"piece")

    client = await connect(await start_http(writing(write)))
    await client.send(GET)
    await trickle(mock_clock, 500, step=20)
    assert (await client.read_reply()).body == b"piece" * 5


@both_kinds
async def test_stream_keeps_its_slot(start_http, connect, kind):
    """It is a handler at work: `max_active` counts it until it ends, except while its client is slow."""
    gate = trio.Event()

    async def make():
        yield b"one"
        await gate.wait()

    async def handler(request):
        return Response(body=kind(make()) if request.target == "/stream" else b"now")

    server = await start_http(handler, queue=QueueOptions(max_active=1))
    client, other = await connect(server), await connect(server)
    await client.send(get("/stream"))
    await client.read_through(b"one")
    await other.send(GET)
    await settle()
    assert other.is_open
    gate.set()
    assert (await other.read_reply()).body == b"now"
