"""`request.body` by ``async for`` when it does not end well: limits, deadlines, peers that leave, back-pressure."""

from __future__ import annotations

import pytest
import trio

from ktrio import BadRequest, BodyTooLarge, HttpError, Limits, Response
from tests.protocols.bodies import chunked, in_chunks, sized
from tests.server.harness import LATE, advance, get, post, settle

KIB = 1024

both_framings = pytest.mark.parametrize("make", [post, chunked], ids=["sized", "chunked"])


class Collector:
    """Iterates its body to the end; `error` is what came instead."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.error: BaseException | None = None

    async def __call__(self, request):
        try:
            async for piece in request.body:
                self.got.append(piece)
        except BaseException as error:
            self.error = error
            raise
        return Response(body=b"".join(self.got))


@pytest.fixture
def collector():
    return Collector()


# -- Limits


@pytest.mark.parametrize("fields", [(), ("Expect: 100-continue",)], ids=["plain", "expecting"])
async def test_declared_length_beyond_the_limit_is_413_before_anything_comes(
    start_http, connect, collector, fields, caplog
):
    """RFC 9110 section 15.5.14; no 100 asks for what will be refused (section 10.1.1)."""
    client = await connect(await start_http(collector, limits=Limits(body_bytes=10)))
    reply = await client.ask(sized(1 << 20, *fields))
    assert (reply.status, reply.says_close) == (413, True)
    assert collector.got == []
    assert isinstance(collector.error, BodyTooLarge)
    assert caplog.records == []


@pytest.mark.parametrize("use", ["loop", "read", "lower"])
async def test_declared_length_beyond_the_limit_is_413_though_a_part_has_come(start_http, connect, use):
    """With the head, say; what is missing of it need not come, and nobody waits for it."""
    limits = Limits(body_bytes=100 if use == "lower" else 10)

    async def handler(request):
        if use == "loop":
            async for _piece in request.body:
                raise AssertionError
        return Response(body=await request.read(max_bytes=10 if use == "lower" else None))

    client = await connect(await start_http(handler, limits=limits))
    assert (await client.ask(sized(11) + b"12345")).status == 413


async def test_body_that_grows_beyond_the_limit_is_413_half_way(start_http, connect, collector, caplog):
    """What had come before was handed over; never more than the limit."""
    client = await connect(await start_http(collector, limits=Limits(body_bytes=1000)))
    await client.send(chunked(*[b"x" * 300] * 3, end=b""))
    await settle()
    assert b"".join(collector.got) == b"x" * 900
    assert client.is_open
    await client.send(in_chunks(b"x" * 300))
    assert (await client.read_reply()).status == 413
    assert isinstance(collector.error, BodyTooLarge)
    assert len(b"".join(collector.got)) <= 1000
    assert caplog.records == []


@both_framings
async def test_body_of_exactly_the_limit_is_iterated(start_http, connect, collector, make):
    client = await connect(await start_http(collector, limits=Limits(body_bytes=1000)))
    assert (await client.ask(make(b"x" * 1000))).body == b"x" * 1000


async def test_handler_may_answer_a_body_that_grew_too_large_itself(start_http, connect):
    async def polite(request):
        try:
            async for _piece in request.body:
                pass
        except HttpError as error:
            return Response(422, body=b"%d" % error.status)
        return Response()

    client = await connect(await start_http(polite, limits=Limits(body_bytes=10)))
    for request in [post(b"x" * 11), chunked(b"x" * 11)]:
        client = await connect(await start_http(polite, limits=Limits(body_bytes=10)))
        reply = await client.ask(request)
        assert (reply.status, reply.body) == (422, b"413")


@both_framings
async def test_read_may_have_a_lower_limit(start_http, connect, make):
    async def handler(request):
        if request.target == "/body":
            return Response(body=await request.body.read(max_bytes=10))
        return Response(body=await request.read(max_bytes=10))

    server = await start_http(handler)
    for target in ["/", "/body"]:
        client = await connect(server)
        assert (await client.ask(make(b"x" * 10, target=target))).body == b"x" * 10
        assert (await client.ask(make(b"x" * 11, target=target))).status == 413


async def test_lower_limit_of_a_read_is_known_before_the_body_comes(start_http, connect):
    async def handler(request):
        return Response(body=await request.read(max_bytes=10))

    client = await connect(await start_http(handler))
    assert (await client.ask(sized(11, "Expect: 100-continue"))).status == 413


async def test_limit_of_a_read_never_raises_that_of_the_server(start_http, connect):
    async def handler(request):
        return Response(body=await request.read(max_bytes=1 << 30))

    for request in [sized(11), chunked(b"x" * 11)]:
        client = await connect(await start_http(handler, limits=Limits(body_bytes=10)))
        assert (await client.ask(request)).status == 413


@both_framings
async def test_body_that_was_too_large_for_one_read_is_never_read_with_a_hole(start_http, connect, make):
    """What that read had taken is either still there or missed."""
    got = []

    async def handler(request):
        with pytest.raises(BodyTooLarge):
            await request.read(max_bytes=4)
        if request.target == "/loop":
            return Response(body=b"".join([piece async for piece in request.body]))
        return Response(body=await request.read())

    server = await start_http(handler)
    for target in ["/", "/loop"]:
        client = await connect(server)
        wire = (
            make(b"abc" + b"def" + b"ghi", target=target) if make is post else chunked(*[b"abc", b"def"], target=target)
        )
        reply = await client.ask(wire)
        got.append((reply.status, reply.body if reply.status == 200 else b""))
    assert set(got) <= {(413, b""), (200, b"abcdefghi" if make is post else b"abcdef")}


# -- Framing that breaks, peers that leave


async def test_chunks_that_break_half_way_are_400(start_http, connect, collector, caplog):
    """RFC 9112 section 7.1; what came before was handed over, and what follows is never a request."""
    client = await connect(await start_http(collector))
    await client.send(chunked(b"abc", end=b"zz\r\n") + get("/smuggled"))
    reply = await client.read_reply()
    assert (reply.status, reply.says_close) == (400, True)
    assert await client.read_end() == "fin"
    assert b"".join(collector.got) in (b"", b"abc")
    assert isinstance(collector.error, BadRequest)
    assert caplog.records == []


@pytest.mark.parametrize("make", [post, lambda body: chunked(body, end=b"")], ids=["sized", "chunked"])
async def test_peer_that_ends_within_its_body_gets_400(start_http, connect, collector, make, caplog):
    """RFC 9112 section 8: an incomplete request; a loop over it never ends as if it were whole."""
    client = await connect(await start_http(collector))
    await client.send(make(b"x" * 100)[:-10])
    await settle()
    client.finish()
    reply = await client.read_reply()
    assert (reply.status, reply.says_close) == (400, True)
    assert await client.read_end() == "fin"
    assert isinstance(collector.error, BadRequest)
    assert caplog.records == []


@both_framings
async def test_peer_that_resets_within_its_body_is_gone(start_http, connect, collector, make, caplog):
    server = await start_http(collector)
    client = await connect(server)
    await client.send(make(b"x" * 100)[:-10])
    await settle()
    client.reset()
    await settle()
    assert collector.error is not None
    assert not isinstance(collector.error, BadRequest)
    statistics = server.statistics()
    assert (statistics.open, statistics.errors, statistics.reasons) == (0, 0, {"client-gone": 1})
    assert caplog.records == []


async def test_peer_that_is_gone_before_it_is_asked_ends_the_loop_too(start_http, connect):
    """The handler was busy, shielded, while its peer left: the loop raises, it does not wait for ever."""
    gate, ended = trio.Event(), trio.Event()

    async def handler(request):
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 60):
            try:
                await gate.wait()
                async for _piece in request.body:
                    pass
            finally:
                ended.set()
        return Response()

    server = await start_http(handler)
    client = await connect(server)
    await client.send(sized(100))
    await settle()
    client.reset()
    await settle()
    gate.set()
    await ended.wait()
    await settle()
    assert (server.statistics().open, server.statistics().errors) == (0, 0)


# -- Deadlines


@pytest.mark.parametrize("wire", [sized(10), sized(10) + b"12345", chunked(b"12345", end=b"")])
async def test_loop_over_a_body_that_stalls_is_408_after_30_seconds(start_http, connect, collector, mock_clock, wire):
    """RFC 9110 section 15.5.9."""
    server = await start_http(collector)
    client = await connect(server)
    await client.send(wire)
    await advance(mock_clock, 29.9)
    assert client.is_open
    await advance(mock_clock, 0.1 + LATE)
    reply = await client.read_reply()
    assert (reply.status, reply.says_close) == (408, True)
    assert isinstance(collector.error, trio.Cancelled)
    await advance(mock_clock, 1 + LATE)
    assert (server.statistics().open, server.statistics().reasons) == (0, {"body-timeout": 1})


async def test_time_between_two_pieces_is_the_handlers_own(start_http, connect, mock_clock):
    """A handler's own time has no deadline; its waits for the peer count together."""
    gates = [trio.Event(), trio.Event()]
    got = []

    async def handler(request):
        async for piece in request.body:
            got.append(piece)
            if len(got) < 3:
                await gates[len(got) - 1].wait()
        return Response()

    server = await start_http(handler)
    client = await connect(server)
    await client.send(sized(30), b"x" * 10)
    for gate in gates:
        await advance(mock_clock, 3600)
        gate.set()
        await advance(mock_clock, 14)
        assert client.is_open
        await client.send(b"x" * 10)
        await settle()
    assert (await client.read_reply()).status == 200
    assert len(got) == 3


async def test_wait_that_was_cancelled_counts_against_the_deadline(start_http, connect, mock_clock):
    """Every wait for the peer does: waiting in small steps is no way around it."""

    async def handler(request):
        while True:
            with trio.move_on_after(7) as scope:
                async for _piece in request.body:
                    pass
            if not scope.cancelled_caught:
                return Response()

    server = await start_http(handler)
    client = await connect(server)
    await client.send(sized(10))
    for _ in range(4):
        await advance(mock_clock, 7)
        assert client.is_open
    await advance(mock_clock, 2 + LATE)
    assert (await client.read_reply()).status == 408
    await advance(mock_clock, 1 + LATE)
    assert server.statistics().reasons == {"body-timeout": 1}


async def test_loop_over_a_trickle_is_408(start_http, connect, mock_clock, collector):
    """Fewer than 240 B/s on the average."""
    client = await connect(await start_http(collector))
    await client.send(sized(10_000))
    seconds = 0
    while client.is_open:
        assert seconds < 40
        await client.send(b"x" * 10)
        await advance(mock_clock, 1)
        seconds += 1
    assert seconds >= 29
    assert (await client.read_reply()).status == 408


async def test_loop_over_a_slow_steady_body_reaches_its_end(start_http, connect, mock_clock, collector):
    client = await connect(await start_http(collector))
    await client.send(sized(300 * 120))
    for _ in range(120):
        await client.send(b"x" * 300)
        await advance(mock_clock, 1)
    assert (await client.read_reply()).body == b"x" * 36_000


# -- Back-pressure


async def push(client, data: bytes) -> int:
    """Send what the kernel takes until nothing moves any more; how much that was."""
    sent = 0
    while True:
        await settle()
        try:
            sent += client.raw.send(data)
        except BlockingIOError:
            return sent


@pytest.mark.parametrize("taken", [0, 1, 20])
async def test_what_a_handler_does_not_read_stays_with_its_peer(start_http, connect, taken):
    """Back-pressure: the kernel's buffers fill, ours do not; when it reads on, the peer can send on."""
    gate = trio.Event()
    got = 0

    async def handler(request):
        nonlocal got
        iterator = aiter(request.body)
        for _ in range(taken):
            got += len(await anext(iterator))
        await gate.wait()
        async for piece in iterator:
            got += len(piece)
        return Response(body=b"%d" % got)

    client = await connect(await start_http(handler, limits=Limits(body_bytes=1 << 40)))
    await client.send(sized(64 << 20))
    sent = await push(client, b"x" * 64 * KIB)
    read = got
    assert read <= taken * 64 * KIB
    sent += await push(client, b"x" * 64 * KIB)  # the kernel may make a little more room, the server none
    assert got == read
    assert sent - got < 24 << 20  # what a loopback connection's two buffers hold
    gate.set()
    while sent < 64 << 20:
        sent += await client.sock.send(b"x" * min(64 * KIB, (64 << 20) - sent))
    assert (await client.read_reply()).body == b"%d" % (64 << 20)
