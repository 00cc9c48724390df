"""Bodies and answers must make progress: 30 s, and 240 B/s averaged over 30 s of waiting for the peer.

Stalled readers are on unix sockets where their time is measured in steps: TCP goes on filling a reader's buffer by
timers of its own, in real time, and that is progress.
"""

from __future__ import annotations

import pytest
import trio

import ktrio
from ktrio import Response
from tests.server.harness import GET, LATE, Ended, advance, get, settle, trickle

MIB = 1 << 20


async def mirror_length(request):
    return Response(body=b"%d" % len(await request.read()))


def a_post(length: int) -> bytes:
    return get("/", f"Content-Length: {length}", method="POST")


@pytest.fixture
def big_folder(tmp_path):
    with (tmp_path / "big").open("wb") as file:
        file.truncate(256 * MIB)
    return tmp_path


@pytest.fixture
def unix(tmp_path):
    return f"unix:{tmp_path}/socket"


# -- Request bodies


@pytest.mark.parametrize("begun", [b"", b"12345"])
async def test_body_that_stalls_is_408_after_30_seconds(start_http, connect, mock_clock, begun):
    """RFC 9110 section 15.5.9."""
    server = await start_http(mirror_length)
    client = await connect(server)
    await client.send(a_post(10) + begun)
    await advance(mock_clock, 29.9)
    assert client.is_open
    await advance(mock_clock, 0.1 + LATE)
    reply = await client.read_reply()
    assert (reply.status, reply.says_close) == (408, True)
    assert await client.read_end() == "fin"
    await advance(mock_clock, 1 + LATE)
    assert server.statistics().open == 0
    assert server.statistics().reasons == {"body-timeout": 1}


async def test_handler_that_waits_for_a_stalled_body_is_cancelled(start_http, connect, mock_clock):
    ended = []

    async def handler(request):
        try:
            await request.read()
        finally:
            ended.append(trio.current_time())

    client = await connect(await start_http(handler))
    await client.send(a_post(10))
    await settle()
    begun = trio.current_time()
    await advance(mock_clock, 30 + LATE)
    assert (await client.read_reply()).status == 408
    assert [round(when - begun, 1) for when in ended] == [30.3]


async def test_body_that_trickles_a_byte_a_second_is_408(start_http, connect, mock_clock):
    """A byte now and then buys next to nothing."""
    client = await connect(await start_http(mirror_length))
    await client.send(a_post(10_000))
    for _ in range(29):
        await client.send(b"x")
        await advance(mock_clock, 1)
    assert client.is_open
    for _ in range(3):
        await client.send(b"x")
        await advance(mock_clock, 1)
    assert (await client.read_reply()).status == 408


@pytest.mark.slow
async def test_body_at_a_steady_slow_rate_is_read_to_its_end(start_http, connect, mock_clock):
    """300 B/s for two minutes is slow, and fine."""
    client = await connect(await start_http(mirror_length))
    await client.send(a_post(300 * 120))
    for _ in range(120):
        await client.send(b"x" * 300)
        await advance(mock_clock, 1)
    assert (await client.read_reply()).body == b"36000"


async def test_body_with_pauses_within_its_means_is_read_to_its_end(start_http, connect, mock_clock):
    """20 s of nothing, then 20 s' worth: on the average it keeps up."""
    client = await connect(await start_http(mirror_length))
    await client.send(a_post(5000 * 6))
    for _ in range(6):
        await advance(mock_clock, 20)
        await client.send(b"x" * 5000)
    assert (await client.read_reply()).body == b"30000"


async def test_body_deadline_counts_only_waiting_for_the_peer(start_http, connect, mock_clock):
    """A handler that takes an hour before it reads has not been kept waiting."""
    gate = trio.Event()

    async def later(request):
        await gate.wait()
        return Response(body=b"%d" % len(await request.read()))

    client = await connect(await start_http(later))
    await client.send(a_post(10) + b"12345")
    await advance(mock_clock, 3600)
    gate.set()
    await settle()
    await advance(mock_clock, 29)
    await client.send(b"67890")
    assert (await client.read_reply()).body == b"10"


async def test_unread_body_that_never_comes_does_not_hold_a_connection_for_ever(start_http, connect, mock_clock):
    """Dropping the rest of a body nobody read has a deadline as well."""

    async def ignore(request):
        return Response(body=b"ignored")

    server = await start_http(ignore)
    client = await connect(server)
    await client.send(a_post(1000) + b"x" * 10)
    assert (await client.read_reply()).body == b"ignored"
    await trickle(mock_clock, 32)
    assert server.statistics().open == 0


# -- Answers


async def test_reader_that_stalls_is_dropped_after_30_seconds(start_http, connect, mock_clock, big_folder, unix):
    """While the server runs: nobody may hold a file and a connection by reading nothing."""
    server = await start_http(ktrio.files(big_folder), unix)
    client = await connect(server)
    await client.send(get("/big"))
    await trickle(mock_clock, 29.5, step=0.5)
    assert server.statistics().open == 1
    await advance(mock_clock, 0.5 + LATE)
    assert server.statistics().open == 0
    assert server.statistics().reasons == {"write-timeout": 1}
    assert server.statistics().answered == 0


async def test_reader_that_stalls_sees_a_reset(start_http, connect, mock_clock, big_folder):
    """A proper close would leave our send buffer full for as long as the peer likes."""
    client = await connect(await start_http(ktrio.files(big_folder)), receive_buffer=4096)
    await client.send(get("/big"))
    await advance(mock_clock, 30 + LATE)
    with pytest.raises(Ended) as seen:
        await client.read_reply()
    assert seen.value.how == "reset"


@pytest.mark.parametrize("make", ["bytes", "iterable"])
async def test_reader_that_stalls_is_dropped_whatever_the_body(start_http, connect, mock_clock, unix, make):
    async def pieces():
        while True:
            yield b"x" * 100_000

    async def handler(request):
        return Response(body=b"x" * 64 * MIB if make == "bytes" else pieces())

    server = await start_http(handler, unix)
    client = await connect(server)
    await client.send(GET)
    await trickle(mock_clock, 29)
    assert server.statistics().open == 1
    await trickle(mock_clock, 2)
    assert server.statistics().reasons == {"write-timeout": 1}


@pytest.mark.slow
@pytest.mark.parametrize("receive_buffer", [4096, None])
async def test_slow_steady_reader_lives(start_http, connect, mock_clock, big_folder, receive_buffer):
    """Far below any timeout's worth of buffer, but steady: five minutes, and it still reads."""
    server = await start_http(ktrio.files(big_folder))
    client = await connect(server, receive_buffer=receive_buffer)
    await client.send(get("/big"))
    await client.read_head()
    for _ in range(300):
        await client.read(20_000)
        await advance(mock_clock, 1)
    assert server.statistics().open == 1
    assert len(await client.read(MIB)) == MIB


async def test_reader_that_stalls_after_a_steady_start_is_dropped(start_http, connect, mock_clock, big_folder, unix):
    server = await start_http(ktrio.files(big_folder), unix)
    client = await connect(server)
    await client.send(get("/big"))
    for _ in range(60):
        await client.read(50_000)
        await advance(mock_clock, 1)
    assert server.statistics().open == 1
    await trickle(mock_clock, 28)
    assert server.statistics().open == 1
    await trickle(mock_clock, 8)  # a look every few seconds may notice its last bytes late
    assert server.statistics().open == 0


async def test_reader_below_the_lowest_rate_is_reset(start_http, connect, mock_clock, big_folder):
    """Some bytes every second, but fewer than 240: that is a stall with decoration."""
    server = await start_http(ktrio.files(big_folder))
    client = await connect(server, receive_buffer=4096)
    await client.send(get("/big"))
    await client.read_head()
    seconds = 0
    while server.statistics().open and seconds < 300:
        await client.read(50)
        await advance(mock_clock, 1)
        seconds += 1
    assert 25 <= seconds < 120


async def test_reader_of_a_stream_whose_handler_is_slow_is_not_blamed(start_http, connect, mock_clock):
    """Waiting for the handler's next piece is not waiting for the peer."""

    async def slowly():
        for _ in range(5):
            await trio.sleep(100)
            yield b"piece"

    async def handler(request):
        return Response(body=slowly())

    client = await connect(await start_http(handler))
    await client.send(GET)
    await trickle(mock_clock, 500, step=20)
    assert (await client.read_reply()).body == b"piece" * 5


async def test_stalled_reader_costs_nobody_else_anything(start_http, connect, mock_clock, big_folder):
    (big_folder / "small").write_bytes(b"small")
    server = await start_http(ktrio.files(big_folder))
    stalled = [await connect(server, receive_buffer=4096) for _ in range(10)]
    for client in stalled:
        await client.send(get("/big"))
    other = await connect(server)
    for _ in range(20):
        assert (await other.ask(get("/small"))).body == b"small"
        await advance(mock_clock, 2)
    assert server.statistics().open == 1
