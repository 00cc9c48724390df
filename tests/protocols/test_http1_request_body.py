"""Request bodies: read within limits, refused beyond them, dropped when nobody reads them (RFC 9112 section 6)."""

from __future__ import annotations

import contextlib

import pytest
import trio

from ktrio import HttpError, Limits, Response
from tests.server.harness import GET, Ended, get, post, settle

KIB = 1024


async def mirror(request):
    return Response(body=await request.read())


async def ignore(request):
    return Response(body=b"ignored")


def chunked(*chunks: bytes, target: str = "/", end: bytes = b"0\r\n\r\n", fields: tuple[str, ...] = ()) -> bytes:
    head = get(target, "Transfer-Encoding: chunked", *fields, method="POST")
    return head + b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + end


@pytest.mark.parametrize("size", [0, 1, 1000, 64 * KIB, 1024 * KIB])
async def test_sized_body_is_read_whole_and_the_connection_stays(start_http, connect, size):
    body = bytes(index % 251 for index in range(size))
    client = await connect(await start_http(mirror))
    for _ in range(2):
        assert (await client.ask(post(body))).body == body
    assert client.is_open


async def test_chunked_body_is_read_whole_and_the_connection_stays(start_http, connect):
    """RFC 9112 section 7.1: extensions and trailers are passed over."""
    client = await connect(await start_http(mirror))
    odd = chunked(b"abc", end=b"4;name=value\r\nd\x00ef\r\n000\r\nTrailer: x\r\n\r\n")
    assert (await client.ask(odd)).body == b"abcd\x00ef"
    assert (await client.ask(chunked(*[b"x" * 1000] * 100))).body == b"x" * 100_000
    assert (await client.ask(chunked())).body == b""
    assert client.is_open


async def test_body_that_comes_in_pieces_is_read_whole(start_http, connect):
    client = await connect(await start_http(mirror))
    for data in [post(b"some body"), chunked(b"some", b" body")]:
        for byte in data:
            await client.send(bytes([byte]))
            await settle()
        assert (await client.read_reply()).body == b"some body"


async def test_second_read_gives_the_same_bytes(start_http, connect):
    async def twice(request):
        return Response(body=await request.read() + b"|" + await request.read())

    client = await connect(await start_http(twice))
    assert (await client.ask(post(b"abc"))).body == b"abc|abc"


async def test_request_without_a_body_reads_as_empty(start_http, connect):
    """RFC 9112 section 6.3: a request with neither field has no body."""
    client = await connect(await start_http(mirror))
    assert (await client.ask(get(method="POST"))).body == b""
    assert (await client.ask(GET)).body == b""


async def test_body_of_exactly_the_limit_is_read(start_http, connect):
    client = await connect(await start_http(mirror, limits=Limits(body_bytes=10)))
    assert (await client.ask(post(b"x" * 10))).body == b"x" * 10
    assert (await client.ask(chunked(b"x" * 5, b"x" * 5))).body == b"x" * 10


@pytest.mark.parametrize("announced", [2 << 20, 10**18])
async def test_length_beyond_the_limit_is_413_before_the_body_comes(start_http, connect, announced, caplog):
    """RFC 9110 section 15.5.14; the peer need not send what will be refused."""
    client = await connect(await start_http(mirror, limits=Limits(body_bytes=10)))
    await client.send(get("/", f"Content-Length: {announced}", method="POST"))
    reply = await client.read_reply()
    assert (reply.status, reply.says_close) == (413, True)
    assert caplog.records == []


@pytest.mark.parametrize("make", [post, chunked], ids=["sized", "chunked"])
async def test_body_a_little_beyond_the_limit_is_413_and_dropped(start_http, connect, make):
    """It is an unread body like any other: within 64 KiB it need not cost the connection."""
    client = await connect(await start_http(mirror, limits=Limits(body_bytes=10)))
    reply = await client.ask(make(b"x" * 11))
    assert reply.status == 413
    if not reply.says_close:
        assert (await client.ask(make(b"x" * 10))).body == b"x" * 10


async def test_chunks_that_grow_beyond_the_limit_are_413(start_http, connect, caplog):
    client = await connect(await start_http(mirror, limits=Limits(body_bytes=1000)))
    await client.send(chunked(*[b"x" * 300] * 4, end=b""))
    assert (await client.read_reply()).status == 413
    assert caplog.records == []


async def test_one_chunk_that_announces_more_than_the_limit_is_413(start_http, connect):
    """No byte count is taken from the peer without a ceiling; what was announced need not arrive first."""
    client = await connect(await start_http(mirror, limits=Limits(body_bytes=1000)))
    await client.send(get("/", "Transfer-Encoding: chunked", method="POST") + b"fffffffff\r\n" + b"x" * 2000)
    assert (await client.read_reply()).status == 413


async def test_handler_may_answer_a_body_that_is_too_large_itself(start_http, connect):
    async def polite(request):
        try:
            await request.read()
        except HttpError as error:
            return Response(422, body=f"{error.status}".encode())
        return Response()

    client = await connect(await start_http(polite, limits=Limits(body_bytes=10)))
    await client.send(post(b"x" * 100))
    reply = await client.read_reply()
    assert (reply.status, reply.body) == (422, b"413")


async def test_body_limit_of_zero_allows_no_body(start_http, connect):
    server = await start_http(mirror, limits=Limits(body_bytes=0))
    client = await connect(server)
    assert (await client.ask(post(b""))).status == 200
    assert (await client.ask(post(b"x"))).status == 413


# -- Bodies nobody reads


@pytest.mark.parametrize("make", [post, chunked], ids=["sized", "chunked"])
@pytest.mark.parametrize("size", [1, 1000, 60 * KIB])
async def test_unread_body_within_64_kib_is_dropped_and_the_connection_stays(start_http, connect, make, size):
    """Never read as the next request, and never a reason to close (RFC 9112 section 9.3)."""
    client = await connect(await start_http(ignore))
    body = (get("/smuggled") * 4000)[:size]
    for _ in range(3):
        reply = await client.ask(make(body))
        assert (reply.status, reply.says_close) == (200, False)
    assert client.is_open


@pytest.mark.parametrize("make", [post, chunked], ids=["sized", "chunked"])
async def test_unread_body_beyond_64_kib_closes(start_http, connect, make):
    seen = []

    async def note(request):
        seen.append(request.target)
        return Response(body=b"noted")

    client = await connect(await start_http(note))
    async with trio.open_nursery() as nursery:

        async def push():
            with contextlib.suppress(OSError):
                await client.send(make(get("/smuggled") * 20_000), GET)

        nursery.start_soon(push)
        reply = await client.read_reply()
        assert (reply.status, reply.body) == (200, b"noted")
        assert reply.says_close or make is chunked  # it is known only for a length
        nursery.cancel_scope.cancel()
    with pytest.raises(Ended) as end:
        await client.read(1)
    assert end.value.data == b""
    assert seen == ["/"]


async def test_dropping_an_unread_body_may_be_forbidden(start_http, connect):
    """`drain_bytes=0`: always close."""
    client = await connect(await start_http(ignore, limits=Limits(drain_bytes=0)))
    reply = await client.ask(post(b"x"))
    assert (reply.status, reply.says_close) == (200, True)


async def test_unread_body_that_has_not_come_yet_does_not_hold_the_answer_back(start_http, connect):
    """An early response: it goes out before the body has come, and the rest of the body is dropped."""
    client = await connect(await start_http(ignore))
    await client.send(get("/", "Content-Length: 10", method="POST"), b"12345")
    reply = await client.read_reply()
    assert (reply.status, reply.body) == (200, b"ignored")
    if reply.says_close:
        return
    await client.send(b"67890" + GET)
    assert (await client.read_reply()).body == b"ignored"


# -- Framing that breaks


@pytest.mark.parametrize(
    "body",
    [
        b"zz\r\n",
        b"3\r\nabcX\r\n0\r\n\r\n",
        b"-1\r\n\r\n",
        b"0x3\r\nabc\r\n0\r\n\r\n",
        b"3\nabc\r\n0\r\n\r\n",
        b"+3\r\nabc\r\n",
    ],
)
async def test_broken_chunks_are_400_and_the_connection_ends(start_http, connect, body, caplog):
    """RFC 9112 section 7.1; what follows is never read as a request."""
    seen = []

    async def note(request):
        seen.append(request.target)
        return Response(body=await request.read())

    client = await connect(await start_http(note))
    await client.send(get("/", "Transfer-Encoding: chunked", method="POST") + body + get("/smuggled"))
    reply = await client.read_reply()
    assert (reply.status, reply.says_close) == (400, True)
    assert await client.read_end() == "fin"
    assert "/smuggled" not in seen
    assert caplog.records == []


@pytest.mark.parametrize("make", [post, lambda body: chunked(body, end=b"")], ids=["sized", "chunked"])
async def test_body_that_ends_early_is_never_handed_over(start_http, connect, make):
    """RFC 9112 section 8: an incomplete request is an error, not a shorter request."""
    bodies = []

    async def note(request):
        bodies.append(await request.read())
        return Response()

    client = await connect(await start_http(note))
    await client.send(make(b"x" * 100)[:-10])
    client.finish()
    rest = await client.read_to_end()
    assert rest == b"" or rest.startswith(b"HTTP/1.1 400 ")
    assert bodies == []


# -- 100-continue


async def test_continue_is_sent_when_the_body_is_read(start_http, connect):
    """RFC 9110 section 10.1.1."""
    client = await connect(await start_http(mirror))
    for _ in range(2):
        await client.send(get("/", "Content-Length: 4", "Expect: 100-Continue", method="POST"))
        assert await client.read_through(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(b"body")
        assert (await client.read_reply()).body == b"body"
    assert client.is_open


async def test_continue_is_sent_once_however_often_the_body_is_read(start_http, connect):
    async def twice(request):
        await request.read()
        return Response(body=await request.read())

    client = await connect(await start_http(twice))
    await client.send(get("/", "Content-Length: 4", "Expect: 100-continue", method="POST"))
    assert (await client.read_reply()).status == 100
    await client.send(b"body")
    assert (await client.read_reply()).body == b"body"


async def test_continue_is_not_sent_before_the_handler_reads(start_http, connect):
    gate = trio.Event()

    async def later(request):
        await gate.wait()
        return Response(body=await request.read())

    client = await connect(await start_http(later))
    await client.send(get("/", "Content-Length: 4", "Expect: 100-continue", method="POST"))
    await settle()
    assert client.is_open
    gate.set()
    assert (await client.read_reply()).status == 100


async def test_continue_is_not_sent_when_the_handler_refuses(start_http, connect):
    """RFC 9110 section 10.1.1: a final status instead; the body may then never come."""
    client = await connect(await start_http(ignore))
    reply = await client.ask(get("/", "Content-Length: 4", "Expect: 100-continue", method="POST"))
    assert (reply.status, reply.body) == (200, b"ignored")
    if reply.says_close:
        assert await client.read_end() == "fin"
    else:
        await client.send(b"body" + GET)
        assert (await client.read_reply()).body == b"ignored"


async def test_continue_is_not_sent_for_a_body_over_the_limit(start_http, connect):
    client = await connect(await start_http(mirror, limits=Limits(body_bytes=3)))
    reply = await client.ask(get("/", "Content-Length: 4", "Expect: 100-continue", method="POST"))
    assert reply.status == 413


async def test_continue_is_not_sent_to_http10(start_http, connect):
    """RFC 9110 section 10.1.1: the expectation of an HTTP/1.0 client is ignored."""
    client = await connect(await start_http(mirror))
    await client.send(get("/", "Content-Length: 4", "Expect: 100-continue", method="POST", version="1.0") + b"body")
    reply = await client.read_reply()
    assert (reply.status, reply.body) == (200, b"body")


async def test_continue_without_a_body_is_answered(start_http, connect):
    client = await connect(await start_http(mirror))
    assert (await client.ask(get("/", "Expect: 100-continue", method="POST"))).status == 200


async def test_unknown_expectation_is_417(start_http, connect):
    """RFC 9110 section 15.5.18; whether a body follows is not known, so the connection ends."""
    seen = []

    async def note(request):
        seen.append(request)
        return Response()

    client = await connect(await start_http(note))
    reply = await client.ask(get("/", "Content-Length: 4", "Expect: 200-maybe", method="POST"))
    assert reply.status == 417
    assert await client.read_end() == "fin"
    assert seen == []
