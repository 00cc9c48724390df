"""Going down, the hard way: the grace ends, a second signal comes, a peer does not read; it ends all the same."""

from __future__ import annotations

import contextlib

import pytest
import trio

import ktrio
from ktrio import Response, ServerOptions
from tests.server.harness import GET, LATE, Ended, advance, get, settle, time_passing, trickle

MIB = 1 << 20


class Blocking:
    """A handler that never answers by itself."""

    def __init__(self) -> None:
        self.cancelled = 0

    async def __call__(self, request):
        if request.target == "/now":
            return Response(body=b"now")
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            self.cancelled += 1
            raise


@pytest.fixture
def handler():
    return Blocking()


@pytest.fixture
def big_folder(tmp_path):
    with (tmp_path / "big").open("wb") as file:
        file.truncate(200 * MIB)
    return tmp_path


async def test_force_with_a_reason_of_the_programs_own_says_503_as_well(start_http, connect, handler, mock_clock):
    server = await start_http(handler)
    client = await connect(server)
    await client.send(GET)
    await settle()
    server.force_shutdown("maintenance")
    await settle()
    assert (await client.read_reply()).status == 503
    assert server.statistics().reasons == {"maintenance": 1}


async def test_grace_that_passes_cuts_and_says_503(start_http, connect, handler, mock_clock):
    """Nothing was sent yet, so the peer can be told (RFC 9110 section 15.6.4); 8 s by default."""
    server = await start_http(handler)
    client = await connect(server)
    await client.send(GET)
    await settle()
    server.begin_shutdown()
    await advance(mock_clock, 7.9)
    assert (handler.cancelled, client.is_open) == (0, True)
    await advance(mock_clock, 0.1)
    assert handler.cancelled == 1
    reply = await client.read_reply()
    assert (reply.status, reply.says_close) == (503, True)
    assert await client.read_end() == "fin"
    await advance(mock_clock, 1)
    statistics = server.statistics()
    assert (statistics.open, statistics.cut, statistics.answered, statistics.reasons) == (0, 1, 0, {"grace": 1})


async def test_nothing_unread_means_no_linger_after_a_cut(start_http, connect, handler):
    """Linger only where unread input may be left: the request was read whole."""
    server = await start_http(handler)
    client = await connect(server)
    await client.send(GET)
    await settle()
    server.force_shutdown("second-signal")
    assert (await client.read_reply()).status == 503
    await settle()
    assert server.statistics().open == 0


@pytest.mark.parametrize("where", ["option", "begin", "shutdown"])
async def test_grace_is_a_setting(start_http, connect, handler, mock_clock, where):
    options = ServerOptions(grace=2) if where == "option" else ServerOptions()
    server = await start_http(handler, options=options)
    client = await connect(server)
    await client.send(GET)
    await settle()
    async with trio.open_nursery() as nursery:
        if where == "shutdown":

            async def shut_down():
                await server.shutdown(grace=2)

            nursery.start_soon(shut_down)
        else:
            server.begin_shutdown(grace=2 if where == "begin" else None)
        await advance(mock_clock, 1.9)
        assert handler.cancelled == 0
        await advance(mock_clock, 0.1)
        assert handler.cancelled == 1
        await trickle(mock_clock, 2)
    assert server.statistics().cut == 1


async def test_shorter_grace_takes_effect_from_now_and_a_longer_one_does_not(start_http, connect, handler, mock_clock):
    server = await start_http(handler)
    client = await connect(server)
    await client.send(GET)
    await settle()
    server.begin_shutdown()
    await advance(mock_clock, 1)
    server.begin_shutdown(grace=100)
    server.begin_shutdown(grace=1)
    await advance(mock_clock, 0.9)
    assert handler.cancelled == 0
    await advance(mock_clock, 0.1)
    assert handler.cancelled == 1


async def test_grace_of_zero_cuts_at_once(start_http, connect, handler):
    server = await start_http(handler)
    client = await connect(server)
    await client.send(GET)
    await settle()
    server.begin_shutdown(grace=0)
    assert (await client.read_reply()).status == 503
    await settle()
    assert handler.cancelled == 1


async def test_second_signal_cuts_at_once(start_http, connect, handler, mock_clock):
    server = await start_http(handler)
    clients = [await connect(server) for _ in range(5)]
    for client in clients:
        await client.send(GET)
    await settle()
    server.begin_shutdown()
    await advance(mock_clock, 1)
    server.force_shutdown("second-signal")
    for client in clients:
        assert (await client.read_reply()).status == 503
    await advance(mock_clock, 1)
    statistics = server.statistics()
    assert (statistics.open, statistics.cut, statistics.reasons) == (0, 5, {"second-signal": 5})


async def test_force_without_a_first_signal_shuts_down_as_well(start_http, connect, handler, mock_clock):
    server = await start_http(handler)
    idle, busy = await connect(server), await connect(server)
    await idle.ask(get("/now"))
    await busy.send(GET)
    await settle()
    server.force_shutdown("second-signal")
    assert await idle.read_end() == "fin"
    assert (await busy.read_reply()).status == 503
    await advance(mock_clock, 1)
    statistics = server.statistics()
    assert (statistics.open, statistics.cut, statistics.draining) == (0, 1, True)


async def test_stalled_reader_cannot_keep_the_server_alive(start_http, connect, mock_clock, big_folder):
    """200 MB to a peer that reads nothing: reset when the grace is over, every other answer complete."""
    (big_folder / "small").write_bytes(b"small")
    server = await start_http(ktrio.files(big_folder))
    stalled, other = await connect(server, receive_buffer=4096), await connect(server)
    await stalled.send(get("/big"))
    assert (await other.ask(get("/small"))).body == b"small"
    await settle()
    begun = trio.current_time()
    async with time_passing(mock_clock, step=0.25):
        await server.shutdown()
    assert 8 <= trio.current_time() - begun <= 10
    statistics = server.statistics()
    assert (statistics.open, statistics.cut, statistics.answered) == (0, 1, 1)
    with pytest.raises(Ended) as seen:
        await stalled.read_reply()
    assert seen.value.how == "reset"


@pytest.mark.parametrize("kind", ["bytes", "iterable"])
async def test_stalled_reader_of_any_body_is_reset(start_http, connect, mock_clock, kind):
    async def pieces():
        while True:
            yield b"x" * 100_000

    async def handler(request):
        return Response(body=b"x" * 64 * MIB if kind == "bytes" else pieces())

    server = await start_http(handler)
    client = await connect(server, receive_buffer=4096)
    await client.send(GET)
    await settle()
    async with time_passing(mock_clock, step=0.25):
        await server.shutdown(grace=1)
    assert server.statistics().cut == 1
    with pytest.raises(Ended) as seen:
        await client.read_reply()
    assert seen.value.how == "reset"


async def test_stream_that_is_cut_does_not_end_well(start_http, connect, mock_clock):
    """RFC 9112 section 8: no last chunk for a body that is not whole."""

    async def pieces():
        yield b"first"
        await trio.sleep_forever()

    async def handler(request):
        return Response(body=pieces())

    server = await start_http(handler)
    client = await connect(server)
    await client.send(GET)
    await client.read_through(b"first")
    server.begin_shutdown(grace=1)
    await trickle(mock_clock, 3)
    with pytest.raises(Ended) as seen:
        await client.read_reply()
    assert b"0\r\n\r\n" not in seen.value.data
    assert server.statistics().cut == 1


@pytest.mark.parametrize("begun", [GET[:5], get("/", "Content-Length: 5", method="POST")], ids=["head", "body"])
async def test_request_that_is_not_whole_when_the_grace_is_over_ends(start_http, connect, mock_clock, begun):
    """Half a head is no cut: a cut needs a complete head. Half a body has one."""

    async def handler(request):
        return Response(body=await request.read())

    server = await start_http(handler)
    client = await connect(server)
    await client.send(begun)
    await settle()
    server.begin_shutdown(grace=2)
    await trickle(mock_clock, 5)
    statistics = server.statistics()
    assert (statistics.open, statistics.cut) == (0, 0 if begun == GET[:5] else 1)
    answer = await client.read_to_end()
    assert answer == b"" or answer[9:12] in (b"408", b"503")


async def test_deadline_or_departure_during_the_drain_is_no_cut(start_http, connect, handler, mock_clock):
    server = await start_http(handler, options=ServerOptions(grace=60))
    slow, gone = await connect(server), await connect(server)
    await slow.send(GET[:5])
    await gone.send(GET)
    await settle()
    server.begin_shutdown()
    gone.reset()
    await advance(mock_clock, 10 + LATE)
    assert (await slow.read_reply()).status == 408
    await trickle(mock_clock, 2)
    statistics = server.statistics()
    assert (statistics.open, statistics.cut) == (0, 0)


async def test_echo_to_a_stalled_reader_is_cut(start_echo, connect, mock_clock):
    """Bytes in hand that nobody takes."""
    server = await start_echo()
    client = await connect(server, receive_buffer=4096)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send, b"x" * 64 * MIB)
        await settle()
        nursery.cancel_scope.cancel()
    async with time_passing(mock_clock, step=0.25):
        await server.shutdown(grace=1)
    assert (server.statistics().open, server.statistics().cut) == (0, 1)


@pytest.mark.slow
async def test_handler_that_shields_itself_holds_the_shutdown_and_nothing_else(start_http, connect, mock_clock):
    """Its socket is closed after 1 s, so no peer waits for it; only its own shield holds the server."""

    async def stubborn(request):
        with trio.CancelScope(shield=True):
            await trio.sleep(30)
        return Response(body=b"too late")

    server = await start_http(stubborn)
    client = await connect(server)
    await client.send(GET)
    await settle()
    begun = trio.current_time()
    ends = {}

    async def watch_peer():
        with contextlib.suppress(Ended):
            await client.read_to_end()
        ends["peer"] = trio.current_time() - begun

    async with time_passing(mock_clock, step=0.25), trio.open_nursery() as nursery:
        nursery.start_soon(watch_peer)
        await server.shutdown(grace=2)
        ends["server"] = trio.current_time() - begun
    assert ends["peer"] <= 2 + 1 + 2 * LATE
    assert ends["server"] == pytest.approx(30, abs=1)
    assert server.statistics().cut == 1
