"""What is told about requests: once for each, when it is over, however it ended."""

from __future__ import annotations

import re
import time

import pytest
import trio

import ktrio
from ktrio import Headers, RequestDetails, Response
from tests.server.harness import GET, LATE, Ended, advance, get, post, settle, time_passing


class Told:
    """A `tell` that keeps what it was told."""

    def __init__(self) -> None:
        self.all: list[RequestDetails] = []

    def __call__(self, details: RequestDetails) -> None:
        self.all.append(details)

    @property
    def one(self) -> RequestDetails:
        (details,) = self.all
        return details


@pytest.fixture
def told():
    return Told()


async def test_finished_request_is_told_with_all_there_is_to_know(start_http, connect, told, mock_clock):
    async def handler(request):
        await trio.sleep(3)
        return Response(201, body=b"hello")

    server = await start_http(handler, tell=told)
    client = await connect(server)
    before = time.time()
    fields = ("User-Agent: tester/1.0", "Referer: http://x/from")
    await client.send(get("/path?query", *fields, method="PUT"))
    await advance(mock_clock, 3)
    assert (await client.read_reply()).body == b"hello"
    details = told.one
    assert (details.method, details.target, details.version) == ("PUT", "/path?query", "1.1")
    assert (details.status, details.bytes_sent, details.reason) == (201, 5, "")
    assert (details.user_agent, details.referer) == ("tester/1.0", "http://x/from")
    assert details.duration == pytest.approx(3)
    # Wall clock, which the mock clock does not move: it may be counted back from the end by the duration.
    assert before - 4 <= details.started <= time.time() + 1
    host, port = client.sock.getsockname()
    assert details.peer == f"{host}:{port}"


async def test_fields_that_are_not_there_are_none(start_http, connect, told):
    async def handler(request):
        return Response()

    client = await connect(await start_http(handler, tell=told))
    await client.ask(b"GET / HTTP/1.0\r\n\r\n")
    assert (told.one.user_agent, told.one.referer, told.one.version) == (None, None, "1.0")


async def test_request_is_told_before_its_peer_can_ask_again(start_http, connect, told):
    """In order, and once each, pipelined or not."""

    async def handler(request):
        return Response(body=b"x")

    client = await connect(await start_http(handler, tell=told))
    targets = [f"/{index}" for index in range(20)]
    await client.send(b"".join(get(target) for target in targets))
    for _ in targets:
        await client.read_reply()
    await settle()
    assert [details.target for details in told.all] == targets


@pytest.mark.parametrize(
    ("request_bytes", "status", "sent"),
    [(GET, 200, 10), (get(method="HEAD"), 200, 0), (get("/304"), 304, 0), (get("/chunks"), 200, 10)],
)
async def test_bytes_sent_are_those_of_the_body(start_http, connect, told, request_bytes, status, sent):
    """Of the body, without framing: chunk sizes are no bytes of the body."""

    async def handler(request):
        if request.target == "/304":
            return Response(304)
        return Response(body=_two_pieces() if request.target == "/chunks" else b"x" * 10)

    client = await connect(await start_http(handler, tell=told))
    await client.ask(request_bytes)
    await settle()
    assert (told.one.status, told.one.bytes_sent) == (status, sent)


async def _two_pieces():
    yield b"x" * 5
    yield b"x" * 5


async def test_file_is_told_with_its_bytes(start_http, connect, told, tmp_path):
    (tmp_path / "file").write_bytes(b"x" * 100_000)
    client = await connect(await start_http(ktrio.files(tmp_path), tell=told))
    await client.ask(get("/file"))
    await settle()
    assert (told.one.status, told.one.bytes_sent) == (200, 100_000)


async def test_failed_handler_is_told_as_500(start_http, connect, told):
    async def handler(request):
        raise ValueError

    client = await connect(await start_http(handler, tell=told))
    await client.ask()
    await settle()
    assert (told.one.status, told.one.method) == (500, "GET")


async def test_stream_that_broke_off_is_told_with_what_was_sent(start_http, connect, told):
    async def body():
        yield b"some"
        raise ValueError

    async def handler(request):
        return Response(body=body())

    client = await connect(await start_http(handler, tell=told))
    await client.send(GET)
    with pytest.raises(Ended):
        await client.read_reply()
    await settle()
    assert (told.one.status, told.one.bytes_sent) == (200, 4)
    assert told.one.reason == "error"


async def test_request_whose_peer_is_gone_is_told_without_a_status(start_http, connect, told):
    async def handler(request):
        await trio.sleep_forever()

    client = await connect(await start_http(handler, tell=told))
    await client.send(get("/gone"))
    await settle()
    client.reset()
    await settle()
    details = told.one
    assert (details.target, details.status, details.bytes_sent) == ("/gone", 0, 0)
    assert details.reason == "client-gone"


async def test_answer_cut_short_is_told_with_less_than_its_length(start_http, connect, told, tmp_path, mock_clock):
    size = 32 << 20
    with (tmp_path / "big").open("wb") as file:
        file.truncate(size)
    server = await start_http(ktrio.files(tmp_path), tell=told)
    client = await connect(server, receive_buffer=4096)
    await client.send(get("/big"))
    await advance(mock_clock, 30 + LATE)
    details = told.one
    assert details.status == 200
    assert details.bytes_sent < size
    assert details.reason == "write-timeout"


async def test_refused_head_is_told_with_its_status(start_http, connect, told):
    async def handler(request):
        return Response()

    client = await connect(await start_http(handler, tell=told))
    await client.send(b"\x16\x03\x01")
    await client.read_reply()
    await settle()
    assert (told.one.status, told.one.method, told.one.target) == (400, "", "")


async def test_refused_body_is_told_with_its_status(start_http, connect, told):
    async def handler(request):
        return Response(body=await request.read())

    client = await connect(await start_http(handler, tell=told))
    await client.send(get("/big", "Content-Length: 99999999", method="POST"))
    await client.read_reply()
    await settle()
    assert (told.one.status, told.one.target) == (413, "/big")


async def test_half_a_head_that_times_out_is_told_as_408(start_http, connect, told, mock_clock):
    server = await start_http(_ok, tell=told)
    client = await connect(server)
    await client.send(b"GET / HT")
    await advance(mock_clock, 10 + LATE)
    assert (await client.read_reply()).status == 408
    await settle()
    assert told.one.status == 408


async def _ok(request):
    return Response(headers=Headers({"x": "y"}))


async def test_connection_that_left_in_peace_without_a_request_is_not_told(start_http, connect, told, mock_clock):
    """Health checks and browsers do that; nor is a connection that closes between requests: all were told."""
    server = await start_http(_ok, tell=told)
    leaver, idle = [await connect(server) for _ in range(2)]
    await idle.ask()
    leaver.close()
    await advance(mock_clock, 10 + LATE)
    assert await idle.read_end() == "fin"
    assert len(told.all) == 1


async def test_connection_that_never_brought_a_request_in_time_is_told(start_http, connect, told, mock_clock):
    server = await start_http(_ok, tell=told)
    silent = await connect(server)
    await advance(mock_clock, 10 + LATE)
    assert await silent.read_end() == "fin"
    assert (told.one.method, told.one.target, told.one.status) == ("", "", 0)
    assert (told.one.close_reason, told.one.request_id, told.one.first_byte) == ("head-timeout", "", None)
    assert told.one.duration == pytest.approx(10 + LATE)


@pytest.mark.parametrize("answered_before", [0, 1])
async def test_connection_that_was_reset_within_a_head_is_told(start_http, connect, told, answered_before):
    server = await start_http(_ok, tell=told)
    client = await connect(server)
    for _ in range(answered_before):
        await client.ask()
    await client.send(b"GET / HT")
    await settle()
    client.reset()
    await settle()
    assert len(told.all) == answered_before + 1
    assert (told.all[-1].method, told.all[-1].status, told.all[-1].close_reason) == ("", 0, "peer-reset")


async def test_peer_that_is_gone_within_a_head_is_told_once(start_http, connect, told):
    """A FIN within a head is answered with 400, and that is the connection's one line."""
    client = await connect(await start_http(_ok, tell=told))
    await client.send(b"GET / HT")
    client.finish()
    assert (await client.read_reply()).status == 400
    await settle()
    assert (told.one.status, told.one.close_reason) == (400, "bad-request")


async def test_silent_connection_is_told_with_why_the_server_has_closed_it(start_http, connect, told, mock_clock):
    async with time_passing(mock_clock), trio.open_nursery() as nursery:
        server = await start_http(_ok, tell=told, within=nursery)
        silent, idle = [await connect(server) for _ in range(2)]
        await idle.ask()
        server.begin_shutdown()
        assert await silent.read_end() == "fin"
    assert [(each.method, each.close_reason) for each in told.all] == [("GET", ""), ("", "draining")]


@pytest.mark.parametrize(
    ("request_bytes", "close_reason"),
    [(GET, ""), (get("/", "Connection: close"), "answered"), (get(version="1.0"), "answered")],
)
async def test_last_request_of_a_connection_is_told_with_why_that_closes(
    start_http, connect, told, request_bytes, close_reason
):
    client = await connect(await start_http(_ok, tell=told))
    await client.ask(request_bytes)
    await settle()
    assert (told.one.reason, told.one.close_reason) == ("", close_reason)


# -- The time to the first byte


async def test_response_sent_at_once_has_its_first_byte_at_its_end(start_http, connect, told, mock_clock):
    async def handler(request):
        await trio.sleep(3)
        return Response(body=b"hello")

    client = await connect(await start_http(handler, tell=told))
    await client.send(GET)
    await advance(mock_clock, 3)
    assert told.one.first_byte == told.one.duration == pytest.approx(3)


@pytest.mark.parametrize("target", ["/iterable", "/writer", "/big"])
async def test_first_byte_of_a_response_that_takes_its_time_comes_before_its_end(
    start_http, connect, told, mock_clock, target
):
    async def pieces():
        yield b"first"
        await trio.sleep(5)
        yield b"last"

    async def write(send):
        async for piece in pieces():
            await send(piece)

    async def handler(request):
        await trio.sleep(1)
        return Response(body={"/iterable": pieces(), "/writer": write, "/big": b"x" * (16 << 20)}[request.path])

    client = await connect(await start_http(handler, tell=told))
    await client.send(get(target))
    await advance(mock_clock, 1)
    await advance(mock_clock, 5)
    await client.read_reply()
    await settle()
    assert (told.one.first_byte, told.one.duration) == (pytest.approx(1), pytest.approx(6))


async def test_first_byte_of_a_file_comes_before_its_end(start_http, connect, told, mock_clock, tmp_path):
    with (tmp_path / "big").open("wb") as file:
        file.truncate(32 << 20)
    client = await connect(await start_http(ktrio.files(tmp_path), tell=told))
    await client.send(get("/big"))
    await advance(mock_clock, 2)
    await client.read_reply()
    await settle()
    assert (told.one.first_byte, told.one.duration) == (0, pytest.approx(2))


# -- Its name


async def test_request_is_told_by_the_id_that_its_handler_saw(start_http, connect, told):
    seen = []

    async def handler(request):
        seen.extend([request.id, request.id])
        return Response()

    client = await connect(await start_http(handler, tell=told))
    for _ in range(2):
        await client.ask(get("/", "X-Request-Id: mine"))
    await settle()
    ids = [details.request_id for details in told.all]
    assert seen == [ids[0], ids[0], ids[1], ids[1]]
    assert all(re.fullmatch("[0-9a-f]{32}", each) for each in ids)
    assert ids[0] != ids[1]


async def test_id_that_the_client_sends_counts_if_that_is_trusted(start_http, connect, told):
    client = await connect(await start_http(_ok, tell=told, trust_request_id=True))
    await client.ask(get("/", "X-Request-Id: from-the-proxy"))
    await settle()
    assert told.one.request_id == "from-the-proxy"


async def test_error_of_a_handler_is_logged_with_the_id(start_http, connect, told, caplog):
    async def handler(request):
        raise ValueError

    client = await connect(await start_http(handler, tell=told))
    await client.ask(get("/broken"))
    await settle()
    (record,) = caplog.records
    assert record.getMessage() == f"the handler of GET /broken (request {told.one.request_id}) raised"


@pytest.mark.parametrize("what", ["grace", "second-signal", "cancelled"])
async def test_request_that_was_cut_is_told_once_with_the_reason(start_http, connect, told, mock_clock, what):
    async def handler(request):
        await trio.sleep_forever()

    async with time_passing(mock_clock), trio.open_nursery() as nursery:
        server = await start_http(handler, tell=told, within=nursery)
        client = await connect(server)
        await client.send(get("/cut"))
        await settle()
        if what == "cancelled":
            nursery.cancel_scope.cancel()
        else:
            server.force_shutdown(what)
    details = told.one
    assert details.target == "/cut"
    assert details.reason == ("server-cancelled" if what == "cancelled" else what)
    assert details.status in (0, 503)
    assert details.bytes_sent == 0 or details.status == 503


async def test_tell_that_raises_costs_no_answer(start_http, connect, caplog):
    """What looks on must not be able to break what it looks at; it is logged."""

    def broken(details):
        raise ValueError("broken sink")

    server = await start_http(_mirror, tell=broken)
    client = await connect(server)
    for _ in range(3):
        assert (await client.ask(post(b"abc"))).body == b"abc"
    await settle()
    assert server.statistics().answered == 3
    assert 1 <= len(caplog.records) <= 3
    assert "broken sink" in caplog.text


async def _mirror(request):
    return Response(body=await request.read())
