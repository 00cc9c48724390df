"""What is refused before any handler sees it, by raw bytes; and what garbage costs: its own connection."""

from __future__ import annotations

import random

import pytest

import ktrio
from ktrio import Limits, Response
from ktrio.http.errors import MethodNotAllowed, NotImplementedMethod, ServiceUnavailable
from tests.server.harness import Ended, get, post, settle

HOST = b"Host: x\r\n"

REFUSED = [
    # RFC 9112 section 2.2, 3, 5
    (400, b"GET / HTTP/1.1\nHost: x\n\n"),
    (400, b"GET / HTTP/1.1\r\nHost: x\nA: b\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: x\r\n folded: y\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n\tc\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost : x\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: x\r\nA: b\x00c\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: x\r\nA: b\x7f\r\n\r\n"),
    (400, b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n"),
    (400, b"GET /\r\nHost: x\r\n\r\n"),
    (400, b"GET / a HTTP/1.1\r\nHost: x\r\n\r\n"),
    (400, b"GET / HTTP/1.1 \r\nHost: x\r\n\r\n"),
    (400, b"G@T / HTTP/1.1\r\nHost: x\r\n\r\n"),
    (400, b" GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    (400, b"\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    (400, b"GET / FTP/1.1\r\nHost: x\r\n\r\n"),
    (400, b"HTTP/1.1 200 OK\r\n\r\n"),
    # RFC 9112 section 3.2: Host, exactly once
    (400, b"GET / HTTP/1.1\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
    # RFC 9112 section 6: framing that can be read in two ways
    (400, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    (400, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"),
    (400, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\n"),
    (400, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: +1\r\n\r\na"),
    (400, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 0x1\r\n\r\na"),
    (400, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1 1\r\n\r\na"),
    (400, b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    (400, b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
    (501, b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    # RFC 9110 section 9.1, 15.6.6; the last is HTTP/2's preface (RFC 9113 section 3.4)
    (501, b"BREW / HTTP/1.1\r\n" + HOST + b"\r\n"),
    (501, b"get / HTTP/1.1\r\n" + HOST + b"\r\n"),
    (505, b"GET / HTTP/2.0\r\n" + HOST + b"\r\n"),
    (505, b"GET / HTTP/3.0\r\n" + HOST + b"\r\n"),
    (505, b"GET / HTTP/0.9\r\n" + HOST + b"\r\n"),
    (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    # limits
    (414, b"GET /" + b"a" * 8200 + b" HTTP/1.1\r\n" + HOST + b"\r\n"),
    (414, b"GET /" + b"a" * 40_000),
    (431, b"GET / HTTP/1.1\r\n" + HOST + b"A: b\r\n" * 101 + b"\r\n"),
    (431, b"GET / HTTP/1.1\r\n" + HOST + b"A: " + b"b" * 40_000 + b"\r\n\r\n"),
    (431, b"GET / HTTP/1.1\r\n" + HOST + b"A: " + b"b" * 40_000),
    (417, b"GET / HTTP/1.1\r\n" + HOST + b"Expect: the-unexpected\r\n\r\n"),
]


@pytest.mark.parametrize(("status", "data"), REFUSED, ids=[f"{s}-{d[:40]!r}-{len(d)}" for s, d in REFUSED])
async def test_bytes_that_are_no_sound_request_are_refused_and_the_connection_ends(
    start_http, connect, status, data, caplog
):
    """The statuses of RFC 9110 section 15.5 and RFC 6585, at once and with a sentence for whoever reads it."""
    called = []

    async def handler(request):
        called.append(request)
        return Response()

    server = await start_http(handler)
    client = await connect(server)
    await client.send(data)
    reply = await client.read_reply()
    assert reply.status == status
    assert reply.says_close
    assert reply["content-type"] == "text/plain; charset=utf-8"
    assert len(reply.body) > 10
    assert await client.read_end() == "fin"
    assert called == []
    assert caplog.records == []
    assert (await (await connect(server)).ask()).status == 200


TLS_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)) * 2


async def test_tls_hello_on_a_plain_port_is_told_so(start_http, connect):
    """400 at the first byte, with the sentence somebody may see in a log."""
    client = await connect(await start_http(lambda request: None))
    await client.send(TLS_HELLO)
    reply = await client.read_reply()
    assert reply.status == 400
    assert b"HTTPS" in reply.body
    assert await client.read_end() == "fin"


@pytest.mark.parametrize("byte", [b"\x16", b"\x00", b"{", b"\xff", b"<"])
async def test_first_byte_that_begins_no_method_is_refused_at_once(start_http, connect, byte):
    """As soon as no more bytes can help: nobody waits for a head that cannot come."""
    client = await connect(await start_http(lambda request: None))
    await client.send(byte)
    assert (await client.read_reply()).status == 400


async def test_limits_are_those_of_the_settings(start_http, connect):
    async def handler(request):
        return Response()

    server = await start_http(handler, limits=Limits(head_bytes=200, fields=3, target_bytes=20))
    expected = [
        (get("/" + "a" * 19), 200),
        (get("/" + "a" * 20), 414),
        (get("/", "A: b", "C: d"), 200),
        (get("/", "A: b", "C: d", "E: f"), 431),
        (get("/", "A: " + "b" * 100), 200),
        (get("/", "A: " + "b" * 200), 431),
    ]
    for data, status in expected:
        client = await connect(server)
        await client.send(data)
        assert (await client.read_reply()).status == status, data


async def test_garbage_costs_only_its_own_connection(start_http, connect, caplog):
    """Whatever the bytes: each connection ends, nothing is logged, and the next request is answered."""
    server = await start_http(_echo_target)
    dice = random.Random(9112)
    alphabet = [
        b"GET ",
        b"POST ",
        b"/",
        b" ",
        b"HTTP/1.1",
        b"\r\n",
        b"\n",
        b"\r",
        b":",
        b"Host: x",
        b"\x00",
        b"\xff",
        b"a",
    ]
    alphabet += [
        b"Content-Length: 5",
        b"Transfer-Encoding: chunked",
        b"Expect: 100-continue",
        b"0\r\n\r\n",
        b"\r\n\r\n",
    ]
    for _ in range(150):
        client = await connect(server)
        data = b"".join(dice.choice(alphabet) for _ in range(dice.randrange(1, 30)))
        try:
            await client.send(data)
            client.finish()
            answers = await client.read_to_end()
        except (Ended, OSError):
            continue
        assert answers == b"" or answers.startswith(b"HTTP/1.1 "), data
    await settle()
    assert (await (await connect(server)).ask()).body == b"/"
    statistics = server.statistics()
    assert (statistics.open, statistics.errors) == (1, 0)
    assert caplog.records == []


async def _echo_target(request):
    return Response(body=request.target.encode())


async def test_one_peers_garbage_does_not_touch_anothers_request(start_http, connect):
    server = await start_http(_echo_target)
    good, bad = await connect(server), await connect(server)
    await good.send(b"GET /good HT")
    await bad.send(b"\x00\x01\x02")
    assert (await bad.read_reply()).status == 400
    await good.send(b"TP/1.1\r\nHost: x\r\n\r\n")
    assert (await good.read_reply()).body == b"/good"


# -- Refused by a handler


async def test_http_error_of_a_handler_becomes_its_answer(start_http, connect, caplog):
    """An `HttpError` is an answer waiting to be rendered: no log record, and the connection stays."""

    async def handler(request):
        match request.target:
            case "/405":
                raise MethodNotAllowed("Only these.", allow=("GET", "HEAD"))
            case "/501":
                raise NotImplementedMethod("Not known.")
            case "/503":
                raise ServiceUnavailable("Later.", retry_after=7)
        return Response()

    client = await connect(await start_http(handler))
    reply = await client.ask(get("/405"))
    assert (reply.status, reply["allow"]) == (405, "GET, HEAD")
    assert b"Only these." in reply.body
    assert (await client.ask(get("/501"))).status == 501
    reply = await client.ask(get("/503"))
    assert (reply.status, reply["retry-after"]) == (503, "7")
    assert (await client.ask(get("/503", method="HEAD"))).body == b""
    assert (await client.ask()).status == 200
    assert caplog.records == []


async def test_files_answer_404_and_405_and_the_connection_stays(start_http, connect, tmp_path):
    (tmp_path / "a.txt").write_bytes(b"some text")
    client = await connect(await start_http(ktrio.files(tmp_path)))
    assert (await client.ask(get("/a.txt"))).body == b"some text"
    assert (await client.ask(get("/missing"))).status == 404
    reply = await client.ask(post(b"unread", target="/a.txt"))
    assert reply.status == 405
    assert {"GET", "HEAD"} <= {each.strip() for each in (reply["allow"] or "").split(",")}
    assert (await client.ask(get("/a.txt"))).body == b"some text"


async def test_target_forms_a_handler_sees(start_http, connect):
    """RFC 9112 section 3.2: origin-form, absolute-form, asterisk-form for OPTIONS only, authority-form never."""

    async def handler(request):
        return Response(body=f"{request.path} {request.query} {request.target}".encode())

    server = await start_http(handler)
    seen = {}
    for line in [b"GET /a%20b?q=1&r HTTP/1.1", b"GET http://x/p?q HTTP/1.1", b"OPTIONS * HTTP/1.1", b"GET /? HTTP/1.1"]:
        client = await connect(server)
        await client.send(line + b"\r\nHost: x\r\n\r\n")
        seen[line.split()[1]] = (await client.read_reply()).body
    assert seen[b"/a%20b?q=1&r"] == b"/a%20b q=1&r /a%20b?q=1&r"
    assert seen[b"http://x/p?q"].startswith(b"/p q ")
    assert seen[b"*"].startswith(b"* None")
    assert seen[b"/?"] == b"/  /?"
    for line in [b"GET * HTTP/1.1", b"CONNECT x:80 HTTP/1.1", b"GET x:80 HTTP/1.1"]:
        client = await connect(server)
        await client.send(line + b"\r\nHost: x\r\n\r\n")
        assert (await client.read_reply()).status in (400, 501), line


async def test_refusal_is_read_whole_by_a_peer_that_goes_on_sending(start_http, connect):
    """Lingering: closing with unread input would send a reset, which can destroy the answer (RFC 9112 section 9.6)."""
    client = await connect(await start_http(lambda request: None))
    await client.send(b"\x16" + b"x" * 30_000)
    await settle()
    await client.send(b"x" * 20_000)
    reply = await client.read_reply()
    assert reply.status == 400
    assert await client.read_end() == "fin"
