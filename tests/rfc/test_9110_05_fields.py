"""RFC 9110 section 5: names, values, lists and dates of fields."""

from __future__ import annotations

from tests.rfc.clauses import clause
from tests.rfc.conftest import LETTERS
from tests.server.harness import get

LINE = b"GET /a.txt HTTP/1.1\r\n"


@clause("9110", "5.1", "Field names are case-insensitive")
async def test_names_in_any_case_mean_the_same(ask):
    answer = await ask(LINE + b"hOST: x\r\nRANGE: bytes=0-1\r\n\r\n")
    assert (answer.status, answer.body) == (206, b"ab")


@clause("9110", "5.1", "Fields that a server does not know should be ignored")
async def test_unknown_field_changes_nothing(ask):
    assert (await ask(get("/a.txt", "X-Nobody-Knows: this", "Sec-Odd: ?1"))).body == LETTERS


@clause("9110", "5.2", "Several lines of one list field are one list, in their order")
async def test_lists_over_several_lines_are_one(ask):
    etag = (await ask(get("/a.txt"))).headers.get("etag")
    assert (await ask(get("/a.txt", 'If-None-Match: "other"', f"If-None-Match: {etag}"))).status == 304


@clause("9110", "5.3", "The order of fields with different names has no meaning")
async def test_order_of_different_fields_has_no_meaning(ask):
    answers = [
        await ask(LINE + b"Range: bytes=1-2\r\nHost: x\r\nX: y\r\n\r\n"),
        await ask(LINE + b"X: y\r\nHost: x\r\nRange: bytes=1-2\r\n\r\n"),
    ]
    assert [answer.body for answer in answers] == [b"bc", b"bc"]


@clause("9110", "5.3", "A request must not be acted on before its whole header section has come")
async def test_nothing_is_answered_before_the_blank_line(wire):
    assert await wire.say(LINE + b"Host: x\r\n") == []
    assert (await wire.ask(b"Range: bytes=0-0\r\n\r\n")).status == 206


@clause("9110", "5.3", "Where a field may stand once only, two of it are not guessed between")
async def test_two_ranges_fields_are_no_range(ask):
    assert (await ask(get("/a.txt", "Range: bytes=0-1", "Range: bytes=2-3"))).status == 200


@clause("9110", "5.4", "Fields larger than a server wishes to process must get a suitable 4xx, not a part-reading")
async def test_field_that_is_too_large_is_431(ask):
    assert (await ask(get("/a.txt", "X: " + "y" * 40_000))).status == 431


@clause("9110", "5.5", "White space around a value is no part of it")
async def test_white_space_around_a_value_is_excluded(ask):
    etag = (await ask(get("/a.txt"))).headers.get("etag")
    assert (await ask(get("/a.txt", f"If-None-Match: \t {etag} \t "))).status == 304


@clause("9110", "5.5", "A value with NUL, CR or LF in it is dangerous: refused or replaced before it is handed on")
async def test_nul_in_a_value_is_refused(ask):
    assert (await ask(LINE + b"Host: x\r\nX: a\0b\r\n\r\n")).status == 400


@clause("9110", "5.5", "Other control characters in a value are invalid as well")
async def test_control_character_in_a_value_is_refused(ask):
    assert (await ask(LINE + b"Host: x\r\nX: a\x07b\r\n\r\n")).status == 400


@clause("9110", "5.5", "Octets from 0x80 on are opaque data, not an error")
async def test_octets_beyond_ascii_are_opaque(ask):
    assert (await ask(LINE + b"Host: x\r\nX: caf\xe9 \xff\r\n\r\n")).body == LETTERS


@clause("9110", "5.6.1.2", "A recipient must bear a reasonable number of empty elements in a list")
async def test_empty_elements_of_a_list_are_ignored(ask):
    etag = (await ask(get("/a.txt"))).headers.get("etag")
    assert (await ask(get("/a.txt", f"If-None-Match: , ,{etag}, ,"))).status == 304


@clause("9110", "5.6.2", "A field name is a token: no separators, no octets beyond ASCII")
async def test_name_that_is_no_token_is_refused(ask):
    for name in (b"X(y)", b"X@y", b"\xe9", b'"X"'):
        assert (await ask(LINE + b"Host: x\r\n" + name + b": z\r\n\r\n")).status == 400


@clause("9110", "5.6.6", "Names of parameters are case-insensitive")
async def test_weight_in_capitals_is_a_weight(ask):
    answer = await ask(get("/page.html", "Accept-Encoding: br;Q=0, gzip"))
    assert answer.headers.get("content-encoding") == "gzip"


@clause("9110", "5.6.7", "Dates are generated in the preferred format, IMF-fixdate")
async def test_dates_are_sent_as_imf_fixdate(ask):
    assert (await ask(get("/a.txt"))).headers.get("last-modified") == "Sun, 09 Sep 2001 01:46:40 GMT"


@clause("9110", "5.6.7", "A recipient of dates must accept the obsolete format of RFC 850")
async def test_date_of_rfc_850_is_accepted(ask):
    date = "If-Modified-Since: Sunday, 09-Sep-01 01:46:40 GMT"
    assert (await ask(get("/a.txt", date))).status == 304


@clause("9110", "5.6.7", "A recipient of dates must accept the obsolete format of asctime")
async def test_date_of_asctime_is_accepted(ask):
    assert (await ask(get("/a.txt", "If-Modified-Since: Sun Sep  9 01:46:40 2001"))).status == 304


@clause("9110", "5.6.7", "A year of two digits that seems more than 50 years ahead is the latest past one with these")
async def test_two_digits_of_a_year_far_ahead_mean_the_past(ask):
    date = "If-Modified-Since: Thursday, 09-Sep-99 01:46:40 GMT"  # 1999, when the file was not there yet
    assert (await ask(get("/a.txt", date))).status == 200


@clause("9110", "5.6.7", "Dates are case-sensitive, and have no other white space than their format has")
async def test_date_in_another_case_is_none(ask):
    assert (await ask(get("/a.txt", "If-Modified-Since: sun, 09 sep 2001 01:46:40 gmt"))).status == 200
