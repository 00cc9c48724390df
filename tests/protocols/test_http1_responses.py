"""How answers are framed: bytes, iterables with and without a length, HEAD, and statuses without a body."""

from __future__ import annotations

import h11
import pytest
import trio

from ktrio import Headers, Response
from tests.server.harness import GET, Ended, get, settle


def answering(make):
    """A handler that answers what `make()` gives."""

    async def handler(request):
        return make()

    return handler


async def pieces(*parts):
    for part in parts:
        yield part


async def test_iterable_without_a_length_is_chunked_for_http11(start_http, connect):
    """RFC 9112 section 6.1: chunked when the length is not known; the last chunk ends it."""
    client = await connect(await start_http(answering(lambda: Response(body=pieces(b"one", b"two", b"three")))))
    for _ in range(2):
        reply = await client.ask()
        assert reply.framing == "chunked"
        assert reply.body == b"onetwothree"
        assert reply["content-length"] is None
    assert client.is_open


async def test_iterable_without_a_length_ends_with_the_connection_for_http10(start_http, connect):
    """RFC 9112 section 6.1: no chunked to HTTP/1.0, so the close is the end, keep-alive or not."""
    client = await connect(await start_http(answering(lambda: Response(body=pieces(b"one", b"two")))))
    reply = await client.ask(get("/", "Connection: keep-alive", version="1.0"))
    assert reply.framing == "until-close"
    assert reply["transfer-encoding"] is None
    assert reply.says_close
    assert reply.body == b"onetwo"


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_iterable_with_a_length_is_sized(start_http, connect, version):
    def make():
        return Response(headers=Headers({"content-length": "6"}), body=pieces(b"one", b"two"))

    client = await connect(await start_http(answering(make)))
    for _ in range(2):
        reply = await client.ask(get("/", "Connection: keep-alive", version=version))
        assert (reply.framing, reply.body) == ("sized", b"onetwo")


async def test_iterable_pieces_reach_the_peer_as_they_come(start_http, connect):
    """A stream is no stream if it is held back until it is whole."""
    gates = [trio.Event() for _ in range(3)]

    async def slowly():
        for index, gate in enumerate(gates):
            await gate.wait()
            yield b"piece %d" % index

    client = await connect(await start_http(answering(lambda: Response(body=slowly()))))
    await client.send(GET)
    for index, gate in enumerate(gates):
        await settle()
        gate.set()
        await client.read_through(b"piece %d" % index)


async def test_empty_pieces_do_not_end_a_chunked_body(start_http, connect):
    """RFC 9112 section 7.1: a chunk of length zero is the end, so an empty piece must not become one."""
    client = await connect(await start_http(answering(lambda: Response(body=pieces(b"", b"one", b"", b"two", b"")))))
    assert (await client.ask()).body == b"onetwo"
    assert (await client.ask()).body == b"onetwo"


async def test_iterable_that_yields_nothing_is_an_empty_body(start_http, connect):
    client = await connect(await start_http(answering(lambda: Response(body=pieces()))))
    for _ in range(2):
        assert (await client.ask()).body == b""


async def test_pieces_may_be_large(start_http, connect):
    big = bytes(range(256)) * 8192  # 2 MiB
    client = await connect(await start_http(answering(lambda: Response(body=pieces(big, b"x", big)))))
    assert (await client.ask()).body == big + b"x" + big


async def test_bytes_of_a_few_megabytes_arrive_whole(start_http, connect):
    big = bytes(range(256)) * 20_000
    client = await connect(await start_http(answering(lambda: Response(body=big))), receive_buffer=4096)
    reply = await client.ask()
    assert (reply["content-length"], reply.body == big) == (str(len(big)), True)


@pytest.mark.parametrize("given", ["2", "9"])
async def test_iterable_that_belies_its_length_never_ends_well(start_http, connect, given, caplog):
    """RFC 9112 section 8: a peer must see that the answer is incomplete, and never bytes beyond its length."""

    def make():
        return Response(headers=Headers({"content-length": given}), body=pieces(b"one", b"two"))

    server = await start_http(answering(make))
    client = await connect(server)
    await client.send(GET + GET)
    await settle()
    with pytest.raises(Ended) as seen:
        await client.read_replies(2)
    assert seen.value.data.count(b"HTTP/1.1") <= 1
    assert b"onetwo" not in seen.value.data or given == "9"
    assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 1


async def test_head_says_what_get_would_and_sends_no_body(start_http, connect):
    """RFC 9110 section 9.3.2."""
    client = await connect(await start_http(answering(lambda: Response(body=b"hello"))))
    for _ in range(2):
        reply = await client.ask(get(method="HEAD"))
        assert (reply.status, reply["content-length"], reply.body) == (200, "5", b"")
    assert (await client.ask()).body == b"hello"
    assert client.is_open


async def test_head_of_an_iterable_sends_no_body(start_http, connect):
    client = await connect(await start_http(answering(lambda: Response(body=pieces(b"one", b"two")))))
    await client.ask(get(method="HEAD"))
    assert (await client.ask()).body == b"onetwo"


async def test_head_refused_before_a_handler_has_no_body_either(start_http, connect):
    """RFC 9110 section 9.3.2: nor has the answer to a HEAD that is refused."""
    client = await connect(await start_http(answering(Response)))
    await client.send(get("/", "Expect: wonders", method="HEAD"))
    assert (await client.read_reply(method="HEAD")).status == 417
    assert await client.read_end() == "fin"


@pytest.mark.parametrize("status", [204, 304])
async def test_status_without_a_body_ends_with_its_head(start_http, connect, status):
    """RFC 9110 section 6.4.1, RFC 9112 section 6.3."""
    client = await connect(await start_http(answering(lambda: Response(status))))
    for _ in range(2):
        assert (await client.ask()).status == status
    assert client.is_open
    reply = await client.ask()
    assert reply["transfer-encoding"] is None
    assert status == 304 or reply["content-length"] is None


async def test_empty_body_has_a_length_of_zero(start_http, connect):
    """RFC 9110 section 8.6: without one, a peer would wait for the close."""
    client = await connect(await start_http(answering(lambda: Response(404))))
    assert (await client.ask())["content-length"] == "0"


@pytest.mark.parametrize(
    "fields",
    [
        {"connection": "keep-alive", "keep-alive": "timeout=99"},
        {"transfer-encoding": "chunked"},
        {"content-length": "5", "upgrade": "h2c"},
    ],
)
async def test_fields_of_the_connection_are_not_a_handlers(start_http, connect, fields):
    """RFC 9110 section 7.6.1: framing and connection are the protocol's to say."""
    client = await connect(await start_http(answering(lambda: Response(headers=Headers(fields), body=b"hello"))))
    reply = await client.ask()
    assert reply["keep-alive"] is None
    assert (reply.status, reply.body) == (200, b"hello") if "transfer-encoding" not in fields else reply.status == 500
    assert reply["transfer-encoding"] is None


@pytest.mark.parametrize("status", [100, 101, 199, 99, 600, 0])
async def test_status_that_is_no_final_one_becomes_500(start_http, connect, status, caplog):
    """RFC 9110 section 15: a final response is 2xx to 5xx."""
    client = await connect(await start_http(answering(lambda: Response(status))))
    assert (await client.ask()).status == 500
    assert len(caplog.records) == 1


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize(
    "make",
    [
        lambda: Response(body=b"hello"),
        lambda: Response(body=pieces(b"hel", b"lo")),
        lambda: Response(headers=Headers({"content-length": "5"}), body=pieces(b"hel", b"lo")),
        lambda: Response(204),
    ],
    ids=["bytes", "iterable", "sized", "none"],
)
async def test_a_strict_peer_reads_every_framing(start_http, connect, make, version):
    """Read by h11 as the client: a parser that is not ours."""
    client = await connect(await start_http(answering(make)))
    await client.send(get("/", "Connection: close", version=version))
    parser = h11.Connection(h11.CLIENT)
    parser.send(h11.Request(method="GET", target="/", headers=[("Host", "x"), ("Connection", "close")]))
    parser.send(h11.EndOfMessage())
    parser.receive_data(await client.read_to_end())
    parser.receive_data(b"")
    body = b""
    while not isinstance(event := parser.next_event(), h11.EndOfMessage | h11.ConnectionClosed):
        assert event is not h11.NEED_DATA
        if isinstance(event, h11.Data):
            body += bytes(event.data)
    assert isinstance(event, h11.EndOfMessage)
    assert body in (b"hello", b"")
