"""RFC 9110 section 15: status codes."""

from __future__ import annotations

import os

import pytest

from ktrio import Headers, Limits, Response
from ktrio.handlers.files import files
from ktrio.handlers.hosts import for_hosts
from tests.rfc.clauses import clause
from tests.rfc.conftest import LETTERS
from tests.rfc.test_9110_14_ranges import LONG, parts_of
from tests.server.harness import get


@clause("9110", "15.2", "A 1xx must not be sent to an HTTP/1.0 client")
async def test_no_1xx_to_1_0(echo):
    data = get("/", "Expect: 100-continue", "Content-Length: 1", method="POST", version="1.0")
    assert await echo.say(data) == []
    assert echo.raw == b""


@clause("9110", "15.3.1", "A 200 to GET carries the representation")
async def test_200_carries_the_representation(ask):
    answer = await ask(get("/a.txt"))
    assert (answer.status, answer.reason, answer.body) == (200, "OK", LETTERS)


@clause("9110", "15.3.5", "A 204 ends with its head, at its blank line")
async def test_204_ends_with_its_head(wire):
    await wire.say(get("/a.txt", method="OPTIONS"))
    assert wire.raw.endswith(b"\r\n\r\n")


@clause("9110", "15.3.6", "A 205 has no content, and says so where the framing needs it")
async def test_205_is_empty(wire_to):
    async def handler(request):
        return Response(205)

    answer = await (await wire_to(handler)).ask(get())
    assert (answer.status, answer.body, answer.headers.get("content-length")) == (205, b"", "0")


@clause("9110", "15.3.7", "A 206 must have Date, ETag and Vary if a 200 would have had them")
async def test_206_has_the_fields_of_200(ask):
    whole, part = await ask(get("/style.css")), await ask(get("/style.css", "Range: bytes=0-1"))
    for name in ("etag", "vary", "last-modified"):
        assert part.headers.get(name) == whole.headers.get(name) is not None
    assert "date" in part.headers


@clause("9110", "15.3.7", "Content-Length of a 206 is that of the part")
async def test_206_has_the_length_of_the_part(ask):
    assert (await ask(get("/a.txt", "Range: bytes=3-7"))).headers.get("content-length") == "5"


@clause("9110", "15.3.7.1", "A single part must have Content-Range in the header section, and its own type")
async def test_single_part_is_no_multipart(ask):
    answer = await ask(get("/a.txt", "Range: bytes=0-1"))
    assert answer.headers.get("content-type") == "text/plain; charset=utf-8"
    assert answer.headers.get("content-range") == "bytes 0-1/26"


@clause("9110", "15.3.7.2", "A multipart must not have Content-Range in the header section")
async def test_multipart_has_no_content_range_of_its_own(ask):
    assert "content-range" not in (await ask(get("/long.bin", "Range: bytes=0-1,900-"))).headers


@clause("9110", "15.3.7.2", "A request for one part must not be answered by a multipart")
async def test_one_part_asked_for_is_one_part_sent(ask):
    answer = await ask(get("/long.bin", "Range: bytes=,900-901,"))
    assert (answer.body, answer.headers.get("content-type")) == (LONG[900:902], "application/octet-stream")


@clause("9110", "15.3.7.2", "Parts that overlap, or lie closer than what announces one, may be sent as one")
async def test_near_parts_are_sent_as_one(ask):
    answer = await ask(get("/long.bin", "Range: bytes=0-99,50-150,160-170"))
    assert (answer.headers.get("content-range"), answer.body) == ("bytes 0-170/10240", LONG[:171])


@clause("9110", "15.3.7.2", "Parts that were asked for in another order may be sent in that order")
async def test_parts_come_in_the_order_asked_for(ask):
    answer = await ask(get("/long.bin", "Range: bytes=9000-9001,0-1"))
    assert [content for _range, _type, content in parts_of(answer)] == [LONG[9000:9002], LONG[:2]]


@clause("9110", "15.4.2", "A 301 should have a Location")
async def test_301_has_a_location(ask):
    answer = await ask(get("/sub"))
    assert (answer.status, answer.headers.get("location")) == (301, "./sub/")


@clause("9110", "15.4.5", "A 304 must have Date, ETag and Vary if a 200 would have had them")
async def test_304_has_what_caches_go_by(ask):
    whole, answer = await ask(get("/style.css")), await ask(get("/style.css", "If-None-Match: *"))
    assert answer.status == 304
    for name in ("etag", "vary"):
        assert answer.headers.get(name) == whole.headers.get(name) is not None
    assert "date" in answer.headers


@clause("9110", "15.4.5", "A 304 should have no more of what describes a representation")
async def test_304_has_no_more(ask):
    answer = await ask(get("/style.css", "If-None-Match: *"))
    assert {"content-type", "content-encoding", "last-modified", "content-range"}.isdisjoint(dict(answer.headers))


@clause("9110", "15.4.5", "A 304 ends with its head, at its blank line")
async def test_304_ends_with_its_head(wire):
    await wire.say(get("/a.txt", "If-None-Match: *"))
    assert wire.raw.endswith(b"\r\n\r\n")


@clause("9110", "15.5", "Errors should explain themselves in their content, but for HEAD")
async def test_errors_explain_themselves(ask):
    for data in (get("/missing"), get("/a.txt", method="PUT"), b"GET / HTTP/1.1\r\n\r\n"):
        assert len((await ask(data)).body) > 20


@clause("9110", "15.5.1", "400 is for what the client has got wrong, malformed paths among it")
async def test_malformed_path_is_400(ask):
    for target in ("/%zz", "/a%00b", "/..", "/%2e%2e/a.txt", "/a%2fb", "/./a.txt", "/sub/../a.txt"):
        assert (await ask(get(target))).status == 400


@clause("9110", "15.5.4", "403: understood, and refused for want of permission")
async def test_no_permission_is_403(tmp_path, wire_to):
    (tmp_path / "locked").write_text("x")
    (tmp_path / "locked").chmod(0)
    if os.access(tmp_path / "locked", os.R_OK):
        pytest.skip("root reads everything")
    assert (await (await wire_to(files(tmp_path))).ask(get("/locked"))).status == 403


@clause("9110", "15.5.5", "404: there is nothing by that name")
async def test_nothing_there_is_404(ask):
    assert (await ask(get("/missing"))).status == 404


@clause("9110", "15.5.5", "404 may hide that there is something")
async def test_hidden_is_404_like_missing(ask):
    hidden, missing = await ask(get("/.env")), await ask(get("/.nothing"))
    assert (hidden.status, hidden.body) == (404, missing.body)


@clause("9110", "15.5.6", "A 405 must name the methods that are allowed")
async def test_405_names_the_methods(ask):
    assert (await ask(get("/a.txt", method="PUT"))).headers.get("allow") == "GET, HEAD, OPTIONS"


@clause("9110", "15.5.9", "408: the request did not come in time; the connection is closed")
async def test_late_head_is_408(wire):
    assert await wire.say(b"GET / HT") == []
    await wire.memory.advance(11)
    [answer] = await wire.read()
    assert (answer.status, "close" in answer.headers.tokens("connection"), wire.is_over) == (408, True, True)


@clause("9110", "15.5.13", "412: a precondition was false")
async def test_412_for_a_false_precondition(ask):
    assert (await ask(get("/a.txt", 'If-Match: "x"'))).status == 412


@clause("9110", "15.5.14", "413: the content is longer than the server will take")
async def test_too_much_content_is_413(wire_to):
    async def handler(request):
        return Response(body=await request.read())

    wire = await wire_to(handler, limits=Limits(body_bytes=3))
    assert (await wire.ask(get("/", "Content-Length: 4", method="POST") + b"abcd")).status == 413


@clause("9110", "15.5.15", "414: the target is longer than the server will read")
async def test_long_target_is_414(ask):
    assert (await ask(get("/" + "a" * 9000))).status == 414


@clause("9110", "15.5.17", "A 416 should say how long the representation is")
async def test_416_says_the_length(ask):
    answer = await ask(get("/long.bin", "Range: bytes=10240-"))
    assert (answer.status, answer.headers.get("content-range")) == (416, "bytes */10240")


@clause("9110", "15.5.18", "417: the expectation cannot be met")
async def test_unknown_expectation_is_417(ask):
    assert (await ask(get("/a.txt", "Expect: 100-continue, more"))).status == 417


@clause("9110", "15.5.20", "421: the request is for somebody else; the connection may be used on")
async def test_421_leaves_the_connection(site, wire_to):
    wire = await wire_to(for_hosts(site, ["our.example"]))
    assert (await wire.ask(get("/a.txt"))).status == 421
    assert (await wire.ask(b"GET /a.txt HTTP/1.1\r\nHost: our.example\r\n\r\n")).body == LETTERS


@clause("9110", "15.6.1", "500: the server has met something unexpected")
async def test_handler_that_fails_is_500(wire_to, caplog):
    async def handler(request):
        raise KeyError("secret")

    wire = await wire_to(handler)
    assert (await wire.ask(get())).status == 500
    assert b"secret" not in wire.raw
    assert "secret" in caplog.text


@clause("9110", "15.6.2", "501: the method is not known for any resource")
async def test_method_nobody_knows_is_501(ask):
    assert (await ask(get("/missing", method="FETCH"))).status == 501


@clause("9110", "15.6.4", "503: the server cannot at the moment, being about to go")
async def test_request_cut_by_a_shutdown_is_503(wire_to, sleepy):
    wire = await wire_to(sleepy)
    assert await wire.say(get()) == []
    wire.memory.server.begin_shutdown(grace=1)
    await wire.memory.advance(2)
    [answer] = await wire.read()
    assert answer.status == 503


@clause("9110", "15.6.6", "A 505 should say what is supported")
async def test_505_says_what_is_supported(ask):
    answer = await ask(get("/a.txt", version="2.0"))
    assert (answer.status, b"HTTP/1.1" in answer.body) == (505, True)


@clause("9110", "15.1", "A status that a client does not know is treated by its class; any from 200 to 599 can be sent")
async def test_any_final_status_can_be_sent(wire_to):
    async def handler(request):
        return Response(int(request.path[1:]), Headers(), b"x")

    wire = await wire_to(handler)
    assert [(await wire.ask(get(f"/{status}"))).status for status in (200, 299, 418, 499, 599)] == [
        200,
        299,
        418,
        499,
        599,
    ]
