"""Servers on listeners of other people's: Trio's own, TLS, and one that has no socket at all."""

from __future__ import annotations

import pytest
import trio

import ktrio
from ktrio import Response
from tests.server.harness import GET, LATE, advance, get, settle, time_passing
from tests.server.streams import (
    MemoryListener,
    make_place,
    receive_all,
    receive_exactly,
    socket_listener,
    tls_listener,
)

KINDS = ["socket", "memory", "lockstep", "tls-socket", "tls-memory"]
every_kind = pytest.mark.parametrize("kind", KINDS)
LAST = get("/", "Connection: close")


@pytest.fixture
async def place(kind):
    return await make_place(kind)


async def hello(request):
    return Response(body=b"hello" + await request.read())


async def echo(stream):
    async for piece in stream:
        await stream.send_all(piece)


async def ask(stream, request=LAST) -> bytes:
    """The answer to a request that is the last of its connection; deaf while it sends."""
    await stream.send_all(request)
    return await receive_all(stream)


def is_hello(answer) -> bool:
    return answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b"\r\n\r\nhello")


async def at_once(count, visit):
    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(visit)


@every_kind
async def test_http_on_any_listener(start_http, place):
    server = await start_http(hello, place.listener)

    async def visit():
        async with await place.connect() as stream:
            assert is_hello(await ask(stream))

    await at_once(20, visit)
    assert (server.statistics().accepted, server.statistics().answered) == (20, 20)


@every_kind
async def test_http_connections_on_any_listener_are_kept_alive(start_http, place):
    server = await start_http(hello, place.listener)
    async with await place.connect() as stream:
        for _ in range(5):
            await stream.send_all(get("/", "Content-Length: 4", method="POST") + b"body")
            answer = b""
            while not answer.endswith(b"hellobody"):
                answer += await receive_exactly(stream, 1)
    await settle()
    assert (server.statistics().accepted, server.statistics().answered) == (1, 5)


@every_kind
async def test_files_on_any_listener(start_http, place, tmp_path):
    """Whether or not there is such a thing as sendfile."""
    content = bytes(range(256)) * 8000
    (tmp_path / "file").write_bytes(content)
    await start_http(ktrio.files(tmp_path), place.listener)
    async with await place.connect() as stream:
        answer = await ask(stream, get("/file", "Connection: close"))
    assert answer.partition(b"\r\n\r\n")[2] == content


@every_kind
async def test_stream_handler_on_any_listener(start_stream, place):
    server = await start_stream(echo, place.listener)

    async def visit():
        async with await place.connect() as stream:
            for word in (b"one", b"two"):
                await stream.send_all(word)
                assert await receive_exactly(stream, 3) == word

    await at_once(20, visit)
    await settle()
    assert (server.statistics().open, server.statistics().reasons) == (0, {"handler-returned": 20})


@every_kind
async def test_echo_on_any_listener(start_echo, place):
    await start_echo(place.listener)

    async def visit():
        async with await place.connect() as stream, trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_all, b"x" * 100_000)
            assert await receive_exactly(stream, 100_000) == b"x" * 100_000

    await at_once(5, visit)


@every_kind
async def test_server_speaks_first_on_any_listener(start_stream, place):
    async def greet(stream):
        await stream.send_all(b"220 welcome\r\n")

    await start_stream(greet, place.listener)
    async with await place.connect() as stream:
        assert await receive_all(stream) == b"220 welcome\r\n"


@every_kind
async def test_answer_in_progress_on_any_listener_is_finished(start_http, place):
    gate = trio.Event()

    async def handler(request):
        await gate.wait()
        return Response(body=b"hello")

    answers = []

    async def visit():
        async with await place.connect() as stream:
            answers.append(await ask(stream, GET))

    server = await start_http(handler, place.listener)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(visit)
        await settle()
        server.begin_shutdown()
        await settle()
        gate.set()
    assert is_hello(answers[0])
    assert b"connection: close" in answers[0].lower()
    await server.wait_ended()
    assert (server.statistics().cut, server.statistics().open) == (0, 0)


@every_kind
async def test_several_listeners_of_different_kinds_make_one_server(start_http, connect, place):
    server = await start_http(hello, "127.0.0.1:0", place.listener, "127.0.0.1:0")
    async with await place.connect() as stream:
        assert is_hello(await ask(stream))
    assert (await (await connect(server)).ask()).body == b"hello"
    assert server.statistics().accepted == 2
    await server.shutdown()
    assert server.statistics().open == 0


# -- Trio's own -------------------------------------------------------------------------------------------------------


async def test_socket_listener_is_taken_over(start_http, connect):
    """Its socket is the server's from now on, and closed with it; the server may listen on it as on its own."""
    listener = await socket_listener()
    host, port = listener.socket.getsockname()
    server = await start_http(hello, listener)
    assert server.addresses == (ktrio.TcpAddress(host, port),)
    assert repr(ktrio.url_of(server.addresses[0])) == repr(f"http://{host}:{port}/")
    with pytest.raises(trio.ClosedResourceError):
        await listener.accept()
    assert (await (await connect(server)).ask()).body == b"hello"
    await server.shutdown()
    with pytest.raises(OSError):
        await trio.open_tcp_stream(host, port)


async def test_clients_of_a_socket_listener_wait_in_the_kernel(start_http, connect):
    """Not one of them is taken in hand: that is what it is taken over for."""
    gate = trio.Event()

    async def handler(request):
        await gate.wait()
        return Response(body=b"hello")

    server = await start_http(handler, await socket_listener(), options=ktrio.ServerOptions(max_connections=1))
    first, second = await connect(server), await connect(server)
    for client in (first, second):
        await client.send(LAST)
    await settle()
    assert server.statistics().accepted == 1
    assert "made-room" not in server.statistics().reasons
    gate.set()
    assert (await first.read_reply()).body == b"hello"
    assert (await second.read_reply()).body == b"hello"


async def test_address_of_a_socket_under_tls_is_known(start_http):
    below = await socket_listener()
    host, port = below.socket.getsockname()
    server = await start_http(hello, tls_listener(below))
    assert server.addresses == (ktrio.TcpAddress(host, port),)


async def test_listener_without_a_socket_has_no_address_and_its_peers_have_names(start_stream):
    seen = []

    async def handler(stream):
        seen.append((stream.peer, stream.local))

    listener = MemoryListener()
    server = await start_stream(handler, listener)
    assert await receive_all(listener.connect()) == b""
    [(peer, local)] = seen
    assert "Watched" in peer
    assert "MemoryListener" in local
    assert all(str(address) for address in server.addresses)


# -- Handshakes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("serve", ["http", "stream", "echo"])
@pytest.mark.parametrize("kind", ["tls-socket", "tls-memory"])
async def test_handshake_that_fails_costs_only_itself(
    start_http, start_stream, start_echo, place, serve, caplog, mock_clock
):
    """Anybody may send anything, so it is nobody's error, however often."""
    if serve == "http":
        server = await start_http(hello, place.listener)
    elif serve == "stream":
        server = await start_stream(echo, place.listener)
    else:
        server = await start_echo(place.listener)
    for _ in range(120):
        stream = (await place.connect()).transport_stream
        await stream.send_all(b"GET / HTTP/1.0\r\n\r\n" * 20)
        async with time_passing(mock_clock, step=0.5):
            await receive_all(stream)
        await stream.aclose()
    await settle()
    statistics = server.statistics()
    assert (statistics.open, statistics.accepted, statistics.errors, statistics.draining) == (0, 120, 0, False)
    assert caplog.records == []
    async with await place.connect() as stream:
        if serve == "http":
            assert is_hello(await ask(stream))
        else:
            await stream.send_all(b"x")
            assert await receive_exactly(stream, 1) == b"x"


@pytest.mark.parametrize("kind", ["tls-socket", "tls-memory"])
@pytest.mark.parametrize("begun", [b"", b"\x16\x03\x01"], ids=["silent", "begun"])
async def test_handshake_that_never_comes_ends_at_the_deadline_of_the_head(
    start_http, place, begun, mock_clock, caplog
):
    server = await start_http(hello, place.listener)
    stream = (await place.connect()).transport_stream
    await stream.send_all(begun)
    await advance(mock_clock, 9.9)
    assert server.statistics().open == 1
    async with await place.connect() as other:
        assert is_hello(await ask(other))
    await advance(mock_clock, 0.1 + LATE)
    assert server.statistics().open == 0
    assert server.statistics().reasons["head-timeout"] == 1
    async with time_passing(mock_clock, step=0.5):
        await receive_all(stream)
    await stream.aclose()
    assert (server.statistics().errors, caplog.records) == (0, [])


@pytest.mark.parametrize("kind", ["tls-socket", "tls-memory"])
@pytest.mark.parametrize("serve", ["stream", "echo"])
async def test_handshake_that_never_comes_ends_at_the_idle_deadline(start_stream, start_echo, place, serve, mock_clock):
    timeouts = ktrio.Timeouts(idle=20)
    if serve == "stream":
        server = await start_stream(echo, place.listener, timeouts=timeouts)
    else:
        server = await start_echo(place.listener, timeouts=timeouts)
    stream = (await place.connect()).transport_stream
    await advance(mock_clock, 19.9)
    assert server.statistics().open == 1
    await advance(mock_clock, 0.1 + LATE)
    assert (server.statistics().open, server.statistics().reasons) == (0, {"idle-timeout": 1})
    async with time_passing(mock_clock, step=0.5):
        await receive_all(stream)
    await stream.aclose()


@pytest.mark.parametrize("kind", ["tls-socket", "tls-memory"])
async def test_handshake_that_hangs_does_not_hold_a_shutdown(start_http, place, mock_clock):
    server = await start_http(hello, place.listener)
    stream = (await place.connect()).transport_stream
    await settle()
    begun = trio.current_time()
    async with time_passing(mock_clock, step=0.25):
        await server.shutdown()
        assert trio.current_time() - begun <= 2
        await receive_all(stream)
    await stream.aclose()
