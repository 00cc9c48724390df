"""RFC 9110 section 10: fields that say more of a request or a response."""

from __future__ import annotations

import re

from ktrio import Limits, Response
from ktrio.http.errors import ServiceUnavailable
from tests.rfc.clauses import clause
from tests.rfc.conftest import LETTERS, TEXT
from tests.server.harness import get

EXPECT = "Expect: 100-continue"


@clause("9110", "10.1.1", "A client that waits for 100 gets it before its content is read")
async def test_continue_comes_before_the_content(echo):
    [interim] = await echo.say(get("/", EXPECT, "Content-Length: 2", method="POST"))
    assert interim.status == 100
    assert (await echo.ask(b"hi")).body == b"hi"


@clause("9110", "10.1.1", "Expect is case-insensitive")
async def test_expectation_in_any_case(echo):
    [interim] = await echo.say(get("/", "Expect: 100-Continue", "Content-Length: 2", method="POST"))
    assert interim.status == 100


@clause("9110", "10.1.1", "An expectation other than 100-continue may be answered by 417")
async def test_another_expectation_is_417(ask):
    assert (await ask(get("/a.txt", "Expect: a-miracle"))).status == 417


@clause("9110", "10.1.1", "100-continue in an HTTP/1.0 request must be ignored")
async def test_expectation_of_1_0_is_ignored(echo):
    assert await echo.say(get("/", EXPECT, "Content-Length: 2", method="POST", version="1.0")) == []
    assert (await echo.ask(b"hi")).body == b"hi"


@clause("9110", "10.1.1", "100 may be left out if some of the content has already come")
async def test_no_continue_for_content_that_has_come(echo):
    answer = await echo.ask(get("/", EXPECT, "Content-Length: 2", method="POST") + b"hi")
    assert (answer.status, answer.body) == (200, b"hi")


@clause("9110", "10.1.1", "100 may be left out if there is no content to come")
async def test_no_continue_where_there_is_no_content(echo):
    assert (await echo.ask(get("/", EXPECT))).status == 200


@clause("9110", "10.1.1", "A final status sent instead of 100 says if the connection closes or reads the content")
async def test_final_status_instead_of_100_closes(wire):
    answer = await wire.ask(get("/a.txt", EXPECT, "Content-Length: 100", method="POST"))
    assert (answer.status, "close" in answer.headers.tokens("connection")) == (405, True)
    assert wire.is_over


@clause("9110", "10.1.1", "What is too long by its head is refused instead of asked for")
async def test_too_much_is_refused_before_it_is_sent(wire_to):
    async def handler(request):
        return Response(body=await request.read())

    wire = await wire_to(handler, limits=Limits(body_bytes=10))
    assert (await wire.ask(get("/", EXPECT, "Content-Length: 11", method="POST"))).status == 413


@clause("9110", "10.1.4", "TE tells what the client can take; nothing but chunked is used, which all can")
async def test_no_transfer_coding_but_chunked(ask):
    answer = await ask(get("/style.css", "TE: gzip, trailers", "Connection: TE"))
    assert ("transfer-encoding" in answer.headers, answer.body) == (False, TEXT)


@clause("9110", "10.1.5", "User-Agent tells of the client's program; what is sent does not depend on it")
async def test_user_agent_changes_nothing(ask):
    assert (await ask(get("/a.txt", "User-Agent: " + "x/1.0 (y; z) " * 20))).body == LETTERS


@clause("9110", "10.2.1", "Allow must be sent with a 405")
async def test_allow_is_in_every_405(ask):
    for target in ("/a.txt", "/", "/missing"):
        assert "allow" in (await ask(get(target, method="DELETE"))).headers


@clause("9110", "10.2.1", "What Allow names does work")
async def test_allowed_methods_work(ask):
    allowed = (await ask(get("/a.txt", method="DELETE"))).headers.tokens("allow")
    assert [(await ask(get("/a.txt", method=each.upper()))).status for each in allowed] == [200, 200, 204]


@clause("9110", "10.2.2", "Location is a URI reference, relative to the request's own")
async def test_location_is_relative(ask):
    assert (await ask(get("/sub?q=1"))).headers.get("location") == "./sub/?q=1"


@clause("9110", "10.2.2", "A Location never leads to another host by what a path begins with")
async def test_location_stays_here(ask):
    location = (await ask(get("//evil.example"))).headers.get("location")
    assert re.fullmatch(r"/[^/].*", location)


@clause("9110", "10.2.3", "Retry-After of a 503 is a number of seconds, or a date")
async def test_retry_after_is_seconds(wire_to):
    async def handler(request):
        raise ServiceUnavailable("Later.", retry_after=7)

    answer = await (await wire_to(handler)).ask(get())
    assert (answer.status, answer.headers.get("retry-after")) == (503, "7")


@clause("9110", "10.2.4", "Server names the product, without details that help an attacker")
async def test_server_is_short(ask):
    assert (await ask(get("/a.txt"))).headers.get("server") == "ktrio"
