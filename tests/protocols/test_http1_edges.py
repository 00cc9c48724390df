"""The edges of a conversation: what is still read when the time is up, still said at the end, and told of it."""

from __future__ import annotations

import pytest
import trio

import ktrio
from ktrio import Limits, QueueOptions, RequestDetails, Response
from ktrio.protocols._request_body import CHUNKED_SLICE
from tests.server.harness import GET, LATE, advance, get, post, settle


async def say_target(request):
    return Response(body=request.target.encode())


class RightBehindTheLook(trio.abc.Instrument):
    """Sends `data` once it is `when` or later, right behind the loop's look at its sockets.

    So the deadlines that strike in that turn strike with bytes in the kernel of which the loop has not heard.
    """

    def __init__(self, client, data: bytes, when: float) -> None:
        self.client = client
        self.data = data
        self.when = when

    def after_io_wait(self, timeout: float) -> None:
        if self.data and trio.current_time() >= self.when:
            self.client.send_nowait(self.data)
            self.data = b""


async def strike(clock, client, data: bytes, seconds: float) -> None:
    """Move the time, and have `data` come in the turn in which it strikes."""
    await settle()
    instrument = RightBehindTheLook(client, data, trio.current_time() + seconds)
    trio.lowlevel.add_instrument(instrument)
    try:
        await advance(clock, seconds)
    finally:
        trio.lowlevel.remove_instrument(instrument)
    assert instrument.data == b""


async def test_head_made_whole_behind_the_look_of_its_last_turn_is_answered(start_http, connect, mock_clock):
    """One more look is taken before a head is given up: it is all there."""
    client = await connect(await start_http(say_target))
    await client.send(GET[:-1])
    await strike(mock_clock, client, GET[-1:], 10 + LATE)
    assert (await client.read_reply()).body == b"/"
    assert client.is_open


async def test_head_still_incomplete_behind_the_look_of_its_last_turn_is_late(start_http, connect, mock_clock):
    client = await connect(await start_http(say_target))
    await client.send(GET[:3])
    await strike(mock_clock, client, GET[3:5], 10 + LATE)
    assert (await client.read_reply()).status == 408
    assert await client.read_end() == "fin"


@pytest.mark.parametrize("begun", [False, True], ids=["new", "idle"])
async def test_request_that_comes_behind_the_look_of_the_last_turn_is_answered(start_http, connect, mock_clock, begun):
    client = await connect(await start_http(say_target))
    if begun:
        await client.ask()
    await strike(mock_clock, client, get("/late"), (5 if begun else 10) + LATE)
    assert (await client.read_reply()).body == b"/late"
    assert client.is_open


@pytest.mark.parametrize(("data", "status"), [(b"x" * 100, 431), (b"X: \n", 400)], ids=["too-large", "bare-lf"])
async def test_fault_that_comes_in_the_last_turn_is_named(start_http, connect, mock_clock, data, status):
    """It says more than a 408 to whoever made the request."""
    client = await connect(await start_http(say_target, limits=Limits(head_bytes=64, target_bytes=32)))
    await client.send(GET[:-2] + b"X: y")
    await strike(mock_clock, client, data, 10 + LATE)
    assert (await client.read_reply()).status == status
    assert await client.read_end() == "fin"


@pytest.mark.parametrize("kept", [False, True], ids=["new", "kept"])
async def test_request_that_waits_for_its_slot_when_the_server_is_forced_is_told_503(start_http, connect, kept):
    """Nobody has read it yet; it is read now, so that it can be refused by name and not by a reset."""

    async def block(request):
        if request.target == "/block":
            await trio.sleep_forever()
        return Response()

    server = await start_http(block, queue=QueueOptions(max_active=1))
    busy, waiting = await connect(server), await connect(server)
    if kept:
        assert (await waiting.ask()).status == 200
    await busy.send(get("/block"))
    await settle()
    await waiting.send(get("/waits"))
    await settle()
    server.force_shutdown("second-signal")
    assert (await waiting.read_reply()).status == 503
    assert await waiting.read_end() == "fin"
    await settle()
    assert server.statistics().cut == 2


async def test_head_request_that_waits_for_its_slot_is_refused_without_a_body(start_http, connect):
    async def block(request):
        await trio.sleep_forever()

    server = await start_http(block, queue=QueueOptions(max_active=1))
    busy, waiting = await connect(server), await connect(server)
    await busy.send(get("/block"))
    await settle()
    await waiting.send(get("/waits", method="HEAD"))
    await settle()
    server.force_shutdown("second-signal")
    assert (await waiting.read_reply(method="HEAD")).status == 503
    assert await waiting.read_end() == "fin"


async def test_answer_that_said_close_survives_bytes_that_come_behind_its_request(start_http, connect):
    """They are in the kernel, unread: closing now would send a reset after the answer (RFC 9112 section 9.6)."""
    gate = trio.Event()

    async def wait_at_gate(request):
        await gate.wait()
        return Response(body=b"answer")

    client = await connect(await start_http(wait_at_gate))
    await client.send(get("/", "Connection: close"))
    await settle()
    await client.send(GET)
    await settle()
    gate.set()
    assert (await client.read_reply()).body == b"answer"
    assert await client.read_end() == "fin"


async def test_answer_that_said_close_survives_what_a_pipelining_peer_sends_on(start_http, connect):
    """It had more behind its last request already, so more may come."""
    client = await connect(await start_http(say_target))
    await client.send(get("/", "Connection: close") + GET)
    await settle()
    for _ in range(2):
        await client.send(GET)
        await settle()
    assert (await client.read_reply()).body == b"/"
    assert await client.read_end() == "fin"


@pytest.mark.parametrize("more", range(-1, 3))
async def test_chunked_body_that_came_with_its_head_is_read_whole_whatever_its_length(start_http, connect, more):
    """It is looked at in slices; one that ends at a slice's end, or a byte behind it, is whole all the same."""

    async def mirror(request):
        return Response(body=await request.read())

    framing = b"7f0\r\n%b\r\n0\r\n\r\n"
    data = b"x" * 0x7F0
    padding = CHUNKED_SLICE + more - len(framing % data)
    chunked = b"7f0;%b\r\n%b\r\n0\r\n\r\n" % (b"y" * (padding - 1), data)
    assert len(chunked) == CHUNKED_SLICE + more
    client = await connect(await start_http(mirror))
    await client.send(get("/", "Transfer-Encoding: chunked", method="POST") + chunked)
    assert (await client.read_reply()).body == data
    assert (await client.ask(get("/"))).body == b""


@pytest.mark.parametrize("kept", [False, True], ids=["new", "kept"])
async def test_connection_is_at_work_while_it_refuses_a_head(start_http, connect, kept):
    """It is not quiet: nobody asks it to leave before its answer is out."""
    seen = []

    def tell(details: RequestDetails) -> None:
        statistics = server.statistics()
        seen.append((details.status, statistics.quiet, statistics.busy))

    server = await start_http(say_target, tell=tell)
    client = await connect(server)
    if kept:
        await client.ask()
    await client.send(b"\x16\x03\x01")
    assert (await client.read_reply()).status == 400
    assert seen[-1] == (400, 0, 1)


@pytest.mark.parametrize("what", ["bytes", "file"])
async def test_answer_whose_peer_leaves_within_it_is_told_with_what_was_sent(start_http, connect, tmp_path, what):
    """Found out by the write, not by the watch: its handler never waited for anything."""
    size = 32 << 20
    with (tmp_path / "big").open("wb") as file:
        file.truncate(size)
    told = []

    async def big(request):
        return Response(body=bytes(size))

    server = await start_http(big if what == "bytes" else ktrio.files(tmp_path), tell=told.append)
    client = await connect(server, receive_buffer=4096)
    await client.send(get("/big"))
    await client.read(1000)
    await settle()
    client.reset()
    await settle()
    (details,) = told
    assert (details.target, details.status, details.reason) == ("/big", 200, "client-gone")
    assert 0 < details.bytes_sent < size


async def test_answer_of_which_nothing_could_be_sent_is_told_without_a_status(start_http, connect):
    """The peer leaves while the handler makes its answer; the handler does not wait, so nobody watches."""
    told = []

    async def handler(request):
        client.reset()
        return Response(body=b"answer")

    server = await start_http(handler, tell=told.append)
    client = await connect(server)
    await client.send(get("/gone"))
    await settle()
    (details,) = told
    assert (details.target, details.status, details.bytes_sent) == ("/gone", 0, 0)
    assert details.reason == "client-gone"


async def test_error_that_lingers_when_the_server_is_forced_is_said_and_told_once(start_http, connect):
    """Its request is over: its answer is out and told, though the connection still reads what nobody wants."""
    told = []

    async def wrong(request):
        return Response(body=object())

    server = await start_http(wrong, tell=told.append)
    client = await connect(server)
    await client.send(get("/wrong", "Content-Length: 1000000", method="POST"))
    assert (await client.read_reply()).status == 500
    await settle()
    assert server.statistics().open == 1
    server.force_shutdown("second-signal")
    assert await client.read_end() == "fin"
    await settle()
    assert [(details.target, details.status) for details in told] == [("/wrong", 500)]
    assert server.statistics().cut == 0


async def test_late_body_that_comes_behind_its_408_does_not_destroy_it(start_http, connect, mock_clock):
    """What is sent to a connection that lingers is read and dropped (RFC 9112 section 9.6)."""

    async def mirror(request):
        return Response(body=await request.read())

    client = await connect(await start_http(mirror))
    await client.send(get("/", "Content-Length: 5000", method="POST") + b"x" * 100)
    await advance(mock_clock, 30 + LATE)
    await client.send(b"x" * 1000)
    await settle()
    await client.send(b"x" * 1000)
    await settle()
    assert (await client.read_reply()).status == 408
    assert await client.read_end() == "fin"


@pytest.mark.parametrize("first", [post(b"body"), GET], ids=["body", "no-body"])
async def test_beginning_of_a_head_behind_a_request_has_its_time_from_the_answer_on(
    start_http, connect, mock_clock, first
):
    """Nobody looked at it while the handler before it was at work."""
    gate = trio.Event()

    async def mirror(request):
        body = await request.read()
        if not gate.is_set():
            await gate.wait()
            return Response(body=body)
        return Response(body=b"answer")

    client = await connect(await start_http(mirror))
    await client.send(first + GET[:5])
    await advance(mock_clock, 60)
    gate.set()
    assert (await client.read_reply()).body in (b"body", b"")
    await advance(mock_clock, 9)
    assert client.is_open
    await client.send(GET[5:])
    assert (await client.read_reply()).body == b"answer"


async def test_request_pipelined_behind_another_does_not_overtake_one_that_waits_for_its_slot(start_http, connect):
    """The slot is given back between two requests: who pipelines must not keep it."""
    gate = trio.Event()
    seen = []

    async def handler(request):
        seen.append(request.target)
        await gate.wait()
        return Response()

    server = await start_http(handler, queue=QueueOptions(max_active=1))
    many, other = await connect(server), await connect(server)
    await many.send(get("/1") + get("/2") + get("/3"))
    await settle()
    await other.send(get("/other"))
    await settle()
    gate.set()
    await many.read_replies(3)
    await other.read_reply()
    assert seen == ["/1", "/other", "/2", "/3"]


async def test_handler_that_has_waited_for_its_body_may_take_its_time_then(start_http, connect, mock_clock):
    """The deadline of the body ends with the body."""

    async def handler(request):
        body = await request.read()
        await trio.sleep(3600)
        return Response(body=body)

    client = await connect(await start_http(handler))
    await client.send(get("/", "Content-Length: 4", method="POST"))
    await settle()
    await client.send(b"body")
    await advance(mock_clock, 100)
    await advance(mock_clock, 3500)
    assert (await client.read_reply()).body == b"body"


async def test_answer_begun_in_time_may_go_on_to_a_half_closed_peer_that_is_slow(start_http, connect, mock_clock):
    """The two seconds behind a FIN are for the response's head; the rest is under the write timeout."""
    gate = trio.Event()
    size = 5 << 20

    async def handler(request):
        await gate.wait()
        return Response(body=bytes(size))

    client = await connect(await start_http(handler), receive_buffer=32_768)
    await client.send(GET)
    client.finish()
    await advance(mock_clock, 1)
    gate.set()
    await advance(mock_clock, 5)
    assert len((await client.read_reply()).body) == size


@pytest.mark.parametrize("kind", ["function", "async function"])
async def test_handler_is_open_to_ctrl_c_in_every_step(start_http, connect, kind):
    """The server's own code is not; a handler must not inherit that, neither at its call nor behind a wait."""
    found = []

    async def steps(request):
        for _ in range(3):
            found.append(trio.lowlevel.currently_ki_protected())
            await trio.lowlevel.checkpoint()
        return Response()

    def call(request):
        found.append(trio.lowlevel.currently_ki_protected())
        return steps(request)

    client = await connect(await start_http(steps if kind == "async function" else call))
    assert (await client.ask()).status == 200
    assert found == [False] * (3 if kind == "async function" else 4)
