"""RFC 9112 section 2: the bytes of a message."""

from __future__ import annotations

from tests.rfc.clauses import clause
from tests.rfc.conftest import LETTERS
from tests.server.harness import get


@clause("9112", "2.1", "A request is a start line, field lines, and a blank line, each ended by CRLF")
async def test_message_ends_with_the_blank_line(wire):
    assert await wire.say(b"GET /a.txt HTTP/1.1\r\nHost: x\r\n\r") == []
    assert (await wire.ask(b"\n")).body == LETTERS


@clause("9112", "2.2", "A message is parsed as octets, however these come in pieces")
async def test_message_byte_by_byte_is_the_same(wire):
    *rest, last = get("/a.txt")
    for byte in rest:
        assert await wire.say(bytes([byte])) == []
    assert (await wire.ask(bytes([last]))).body == LETTERS


@clause("9112", "2.2", "A line may not end with a bare LF here, though a recipient may recognise it: 400")
async def test_bare_lf_is_refused(ask):
    assert (await ask(b"GET /a.txt HTTP/1.1\nHost: x\n\n")).status == 400
    assert (await ask(b"GET /a.txt HTTP/1.1\r\nHost: x\nX: y\r\n\r\n")).status == 400


@clause("9112", "2.2", "A bare CR within the head is invalid or to be replaced by a space: here 400")
async def test_bare_cr_is_refused(ask):
    assert (await ask(b"GET /a.txt HTTP/1.1\r\nHost: x\rX: y\r\n\r\n")).status == 400


@clause("9112", "2.2", "A server should ignore at least one empty line before a request line")
async def test_empty_line_before_a_request_is_ignored(wire):
    answers = await wire.say(b"\r\n" + get("/a.txt") + b"\r\n" + get("/sub/b.txt"))
    assert [each.body for each in answers] == [LETTERS, b"b"]


@clause("9112", "2.2", "White space between the start line and the first field must be refused or passed over")
async def test_white_space_before_the_first_field_is_refused(ask):
    assert (await ask(b"GET /a.txt HTTP/1.1\r\n Host: x\r\n\r\n")).status == 400
    assert (await ask(b"GET /a.txt HTTP/1.1\r\n\tX: y\r\nHost: x\r\n\r\n")).status == 400


@clause("9112", "2.2", "Bytes that are no HTTP request should get a 400, and the connection is closed")
async def test_what_is_no_request_is_400_and_the_end(wire):
    answer = await wire.ask(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
    assert (answer.status, wire.is_over) == (400, True)


@clause("9112", "2.3", "The name of the protocol is case-sensitive")
async def test_protocol_name_is_case_sensitive(ask):
    assert (await ask(b"GET /a.txt http/1.1\r\nHost: x\r\n\r\n")).status == 400


@clause("9112", "2.3", "The version is one digit, a dot, one digit")
async def test_version_has_two_digits(ask):
    for version in (b"1", b"1.", b"1.10", b"11.1", b"01.1", b"1.1.1", b"1,1"):
        assert (await ask(b"GET /a.txt HTTP/" + version + b"\r\nHost: x\r\n\r\n")).status == 400


@clause("9112", "2.3", "A server says the highest version it knows in its answers, refusals among them")
async def test_refusals_say_1_1(wire):
    await wire.say(get("/a.txt", version="0.9"))
    assert wire.raw.startswith(b"HTTP/1.1 505 ")
