"""How long an HTTP/1 connection stays: keep-alive, HTTP/1.0, requests per connection (RFC 9112 section 9.3)."""

from __future__ import annotations

import pytest

from ktrio import Headers, Limits, Response
from tests.server.harness import GET, get


async def hello(request):
    return Response(200, Headers({"content-type": "text/plain"}), b"hello")


async def test_http11_without_a_connection_field_stays(start_http, connect):
    """RFC 9112 section 9.3: HTTP/1.1 persists by default."""
    client = await connect(await start_http(hello))
    for _ in range(3):
        reply = await client.ask()
        assert (reply.status, reply.reason, reply.version, reply.body) == (200, "OK", "1.1", b"hello")
        assert reply["content-length"] == "5"
        assert not reply.says_close
    assert client.is_open


@pytest.mark.parametrize(
    ("version", "field", "stays"),
    [
        ("1.1", "Connection: close", False),
        ("1.1", "Connection: CLOSE", False),
        ("1.1", "Connection: keep-alive", True),
        ("1.1", "Connection: foo, Close , bar", False),
        ("1.1", "Connection: upgrade", True),
        ("1.0", "X: y", False),
        ("1.0", "Connection: close", False),
        ("1.0", "Connection: keep-alive", True),
        ("1.0", "Connection: Keep-Alive", True),
        ("1.0", "Connection: foo, keep-alive", True),
        ("1.0", "Connection: keep-alive, close", False),
        ("1.1", "Connection: keep-alive, close", False),
    ],
)
async def test_connection_persists_as_version_and_field_say(start_http, connect, version, field, stays):
    """RFC 9112 section 9.3: close wins, then 1.1, then 1.0 with keep-alive; and the answer states the truth."""
    client = await connect(await start_http(hello))
    reply = await client.ask(get("/", field, version=version))
    assert (reply.status, reply.body) == (200, b"hello")
    assert reply.says_close is not stays
    if version == "1.0" and stays:
        assert "keep-alive" in (reply["connection"] or "").lower()
    if stays:
        assert (await client.ask(get("/", field, version=version))).body == b"hello"
        assert client.is_open
    else:
        assert await client.read_end() == "fin"


async def test_http10_answer_has_a_length_and_no_chunks(start_http, connect):
    client = await connect(await start_http(hello))
    reply = await client.ask(b"GET / HTTP/1.0\r\n\r\n")
    assert reply.framing == "sized"
    assert reply["transfer-encoding"] is None


async def test_handler_that_asks_for_close_gets_it(start_http, connect):
    async def farewell(request):
        return Response(200, Headers({"connection": "close"}), b"bye")

    client = await connect(await start_http(farewell))
    reply = await client.ask()
    assert reply.says_close
    assert reply.body == b"bye"
    assert await client.read_end() == "fin"


async def test_last_request_a_connection_may_make_is_answered_with_close(start_http, connect):
    """Requests per connection are limited; the last one says so."""
    client = await connect(await start_http(hello, limits=Limits(requests_per_connection=3)))
    closes = [(await client.ask()).says_close for _ in range(3)]
    assert closes == [False, False, True]
    assert await client.read_end() == "fin"


async def test_pipelined_request_beyond_the_limit_is_not_answered(start_http, connect):
    client = await connect(await start_http(hello, limits=Limits(requests_per_connection=2)))
    await client.send(GET * 4)
    assert [(await client.read_reply()).says_close for _ in range(2)] == [False, True]
    assert await client.read_end() == "fin"


async def test_limit_is_counted_for_each_connection(start_http, connect):
    server = await start_http(hello, limits=Limits(requests_per_connection=1))
    for _ in range(3):
        client = await connect(server)
        assert (await client.ask()).says_close
        assert await client.read_end() == "fin"
    assert server.statistics().answered == 3


async def test_every_answer_carries_a_date(start_http, connect):
    """RFC 9110 section 6.6.1: an origin server with a clock sends Date."""
    client = await connect(await start_http(hello))
    reply = await client.ask()
    assert (reply["date"] or "").endswith(" GMT")


async def test_client_that_leaves_between_requests_costs_nobody_anything(start_http, connect, caplog):
    server = await start_http(hello)
    first, second, third = [await connect(server) for _ in range(3)]
    await first.ask()
    first.close()
    await second.ask()
    second.reset()
    third.close()  # without a byte
    assert (await (await connect(server)).ask()).body == b"hello"
    assert caplog.records == []
    assert server.statistics().errors == 0
