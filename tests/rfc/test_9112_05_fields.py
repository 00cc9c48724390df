"""RFC 9112 section 5: field lines."""

from __future__ import annotations

import re

from ktrio import Headers, Response
from tests.rfc.clauses import clause
from tests.rfc.conftest import LETTERS
from tests.server.harness import get

LINE = b"GET /a.txt HTTP/1.1\r\nHost: x\r\n"


@clause("9112", "5", "A line without a colon is no field line")
async def test_line_without_colon_is_refused(ask):
    assert (await ask(LINE + b"nothing\r\n\r\n")).status == 400


@clause("9112", "5", "A field name is not empty")
async def test_empty_name_is_refused(ask):
    assert (await ask(LINE + b": value\r\n\r\n")).status == 400


@clause("9112", "5", "A field value may be empty, and white space behind the colon is optional")
async def test_value_may_be_empty_and_close_to_its_colon(ask):
    assert (await ask(LINE + b"X:\r\nRange:bytes=0-0\r\n\r\n")).body == b"a"


@clause("9112", "5.1", "White space between name and colon must get a 400")
async def test_space_before_the_colon_is_400(ask):
    assert (await ask(LINE + b"Range : bytes=0-0\r\n\r\n")).status == 400
    assert (await ask(LINE + b"Content-Length\t: 3\r\n\r\nabc")).status == 400


@clause("9112", "5.1", "White space around a value is not part of it")
async def test_white_space_around_a_value(ask):
    assert (await ask(LINE + b"Range: \t bytes=0-0 \t \r\n\r\n")).body == b"a"


@clause("9112", "5.2", "A server must refuse a folded line with 400, or replace the fold: here 400")
async def test_folded_line_is_400(ask):
    assert (await ask(LINE + b"X: a\r\n b\r\n\r\n")).status == 400
    assert (await ask(LINE + b"X: a\r\n\tb\r\n\r\n")).status == 400


@clause("9112", "5.2", "A sender must not generate folded lines")
async def test_handler_cannot_fold(wire_to, caplog):
    async def handler(request):
        return Response(200, Headers([("x", "a\r\n b")]))

    wire = await wire_to(handler)
    assert (await wire.ask(get())).status == 500
    assert not re.search(rb"\r\n[ \t]", wire.raw)
    assert "cannot be sent" in caplog.text


@clause("9112", "5.1", "Names and values that look like other syntax are data")
async def test_odd_values_are_data(ask):
    assert (await ask(LINE + b'X: GET / HTTP/1.1\r\nY: a: b, "c\r\n\r\n')).body == LETTERS
