"""RFC 9110 section 6: versions, content, trailers, Date."""

from __future__ import annotations

import re
import time
from email.utils import parsedate_to_datetime

import trio

from ktrio import Headers, Response
from tests.rfc.clauses import clause
from tests.rfc.conftest import LETTERS
from tests.server.harness import get, post

CHUNKED = "Transfer-Encoding: chunked"


@clause("9110", "6.2", "A server answers in the highest version it conforms to, whatever minor version was asked in")
async def test_answer_to_a_1_0_client_says_1_1(wire):
    await wire.say(get("/a.txt", version="1.0"))
    assert wire.raw.startswith(b"HTTP/1.1 200 ")


@clause("9110", "6.2", "A server may refuse a major version it does not speak with 505")
async def test_another_major_version_is_505(ask):
    assert (await ask(get("/a.txt", version="3.0"))).status == 505


@clause("9110", "6.2", "A higher minor version is processed as the highest one that the server knows")
async def test_later_minor_version_is_processed_as_1_1(ask):
    assert (await ask(get("/a.txt", version="1.7"))).body == LETTERS


@clause("9110", "6.4.1", "Responses to HEAD have no content, whatever their fields say")
async def test_head_has_no_content(wire):
    first, second = await wire.say(get("/a.txt", method="HEAD") + get("/a.txt"))
    assert (first.headers.get("content-length"), first.body, second.body) == ("26", b"", LETTERS)


@clause("9110", "6.4.1", "A 304 has no content, whatever its fields say")
async def test_not_modified_has_no_content(wire):
    first, second = await wire.say(get("/a.txt", "If-None-Match: *") + get("/a.txt"))
    assert (first.status, first.body, second.body) == (304, b"", LETTERS)


@clause("9110", "6.4.1", "A 204 has no content, and no framing for one")
async def test_no_content_has_none(wire):
    first, second = await wire.say(get("/a.txt", method="OPTIONS") + get("/a.txt"))
    assert (first.status, first.body, second.body) == (204, b"", LETTERS)
    assert wire.raw.index(b"\r\n\r\nHTTP/1.1 200") > 0


@clause("9110", "6.4.1", "Other responses have content, be it of length zero")
async def test_error_has_content(ask):
    answer = await ask(get("/missing"))
    assert int(answer.headers.get("content-length")) == len(answer.body) > 0


@clause("9110", "6.5.1", "Trailers must not be merged into the header section unless their definition allows it")
async def test_trailers_are_not_merged_into_the_header_section(echo):
    answer = await echo.ask(get("/", CHUNKED, method="POST") + b"1\r\nx\r\n0\r\nT-Late: yes\r\nHost: evil\r\n\r\n")
    assert (answer.body, answer.headers.get("x-host"), answer.headers.get("x-got-t-late")) == (b"x", "x", None)


@clause("9110", "6.5.1", "A recipient may discard trailers, and the message is complete all the same")
async def test_request_behind_discarded_trailers_is_read(echo):
    data = get("/", CHUNKED, method="POST") + b"0\r\nA: b\r\nC: d\r\n\r\n" + get("/next")
    assert [each.headers.get("x-path") for each in await echo.say(data)] == ["/", "/next"]


@clause("9110", "6.5.1", "Fields for framing, routing or content must not be sent as trailers")
async def test_handler_cannot_send_framing_in_trailers(wire_to, caplog):
    async def handler(request):
        return Response(200, Headers(), stream(), trailers=Headers([("content-length", "3")]))

    async def stream():
        yield b"x"
        await trio.sleep(1)

    wire = await wire_to(handler)
    await wire.say(get())
    await wire.memory.advance(2)
    await wire.read()
    assert wire.stream.ended == "reset"  # the chunked body has no end: nobody takes it for complete
    assert wire.raw.endswith(b"1\r\nx\r\n")
    assert "cannot be a trailer" in caplog.text


@clause("9110", "6.5.1", "Trailers are not generated where the framing has no room for them")
async def test_trailers_are_left_out_of_a_body_with_a_length(wire_to):
    async def handler(request):
        return Response(200, Headers(), b"abc", trailers=Headers([("t", "v")]))

    wire = await wire_to(handler)
    assert (await wire.ask(get())).body == b"abc"
    assert wire.raw.endswith(b"\r\n\r\nabc")


@clause("9110", "6.5.2", "Trailer fields are sent behind the content of a chunked response")
async def test_trailers_follow_chunks(wire_to):
    async def handler(request):
        return Response(200, Headers(), stream(), trailers=Headers([("t-sum", "1")]))

    async def stream():
        yield b"x"

    assert (await (await wire_to(handler)).ask(get())).trailers.get("t-sum") == "1"


@clause("9110", "6.6.1", "An origin server with a clock must send Date with every 2xx, 3xx and 4xx")
async def test_date_is_in_every_answer(ask):
    requests = [
        get("/a.txt"),
        get("/sub"),
        get("/a.txt", "If-None-Match: *"),
        get("/missing"),
        b"GET\r\n\r\n",
        post(b""),
    ]
    answers = [await ask(request) for request in requests]
    assert [answer.status for answer in answers] == [200, 301, 304, 404, 400, 405]
    assert all("date" in answer.headers for answer in answers)


@clause("9110", "6.6.1", "Date is the present moment as the origin knows it")
async def test_date_is_now(ask):
    answer = await ask(get("/a.txt"))
    date = answer.headers.get("date")
    assert abs(parsedate_to_datetime(date).timestamp() - time.time()) < 60
    assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", date)


@clause("9110", "6.6.1", "A Date that the handler has set is not set again")
async def test_date_of_a_handler_is_the_only_one(wire_to):
    async def handler(request):
        return Response(200, Headers([("date", "Sun, 09 Sep 2001 01:46:40 GMT")]))

    answer = await (await wire_to(handler)).ask(get())
    assert answer.headers.get_all("date") == ["Sun, 09 Sep 2001 01:46:40 GMT"]
