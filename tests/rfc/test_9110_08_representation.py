"""RFC 9110 section 8: type, coding, length and validators of what is sent."""

from __future__ import annotations

import gzip
import os
import re

from ktrio import Headers, Response
from ktrio.handlers.files import files
from tests.rfc.clauses import clause
from tests.rfc.conftest import LETTERS, TEXT
from tests.server.harness import get


@clause("9110", "8.3", "Content should be sent with its media type in Content-Type")
async def test_content_has_a_type(ask):
    for target in ("/a.txt", "/picture.png", "/", "/missing"):
        assert (await ask(get(target))).headers.get("content-type")


@clause("9110", "8.3", "Where the type is not known, none is guessed that would make more of the content than bytes")
async def test_unknown_type_is_bytes(ask):
    assert (await ask(get("/what.unknown"))).headers.get("content-type") == "application/octet-stream"


@clause("9110", "8.3.1", "A media type is type/subtype with parameters behind semicolons")
async def test_media_type_is_well_formed(ask):
    for target in ("/a.txt", "/picture.png", "/page.html"):
        assert re.fullmatch(
            r"[\w.+-]+/[\w.+-]+(; [\w-]+=[\w-]+)*", (await ask(get(target))).headers.get("content-type")
        )


@clause("9110", "8.3.2", "The encoding of characters in text is named by charset")
async def test_text_says_its_charset(ask):
    assert (await ask(get("/a.txt"))).headers.get("content-type") == "text/plain; charset=utf-8"


@clause("9110", "8.4", "A coding that was applied must be named in Content-Encoding, and the type is the uncoded one's")
async def test_coding_is_named(ask):
    answer = await ask(get("/style.css", "Accept-Encoding: gzip"))
    assert (answer.headers.get("content-encoding"), answer.headers.get("content-type")) == (
        "gzip",
        "text/css; charset=utf-8",
    )
    assert gzip.decompress(answer.body) == TEXT


@clause("9110", "8.4", "Identity is not named in Content-Encoding")
async def test_identity_is_not_named(ask):
    assert "content-encoding" not in (await ask(get("/style.css", "Accept-Encoding: identity"))).headers


@clause("9110", "8.4", "A file that is compressed in itself has that in its type, not in Content-Encoding")
async def test_compressed_file_itself_has_no_coding(ask):
    answer = await ask(get("/page.html.gz"))
    assert (answer.headers.get("content-type"), "content-encoding" in answer.headers) == ("application/gzip", False)


@clause("9110", "8.4.1", "Content codings are case-insensitive")
async def test_codings_in_any_case(ask):
    assert (await ask(get("/page.html", "Accept-Encoding: GZip"))).headers.get("content-encoding") == "gzip"


@clause("9110", "8.4.1.3", "x-gzip should be taken for gzip")
async def test_x_gzip_is_gzip(ask):
    assert (await ask(get("/page.html", "Accept-Encoding: x-gzip"))).headers.get("content-encoding") == "gzip"


@clause("9110", "8.6", "Content-Length is the number of octets of the content")
async def test_length_is_the_length(ask):
    for target in ("/a.txt", "/long.bin", "/empty.bin", "/", "/missing"):
        answer = await ask(get(target))
        assert answer.headers.get("content-length") == str(len(answer.body))


@clause("9110", "8.6", "Content-Length is of the coded content, where there is a coding")
async def test_length_is_of_the_coded_content(ask):
    answer = await ask(get("/page.html", "Accept-Encoding: br"))
    assert answer.headers.get("content-length") == "40"


@clause("9110", "8.6", "Content-Length of a HEAD must be what GET would have sent")
async def test_length_of_head_is_that_of_get(ask):
    for target in ("/a.txt", "/empty.bin", "/", "/missing", "/page.html"):
        head, got = await ask(get(target, method="HEAD")), await ask(get(target))
        assert head.headers.get("content-length") == got.headers.get("content-length")


@clause("9110", "8.6", "Content-Length of a 304, if it is there, is what a 200 would have had")
async def test_length_of_not_modified_does_not_lie(ask):
    answer = await ask(get("/a.txt", "If-None-Match: *"))
    assert answer.headers.get("content-length", "26") == "26"


@clause("9110", "8.6", "A 204 must not have Content-Length")
async def test_no_content_has_no_length(ask):
    answer = await ask(get("/a.txt", method="OPTIONS"))
    assert (answer.status, "content-length" in answer.headers) == (204, False)


@clause("9110", "8.6", "A 1xx must not have Content-Length")
async def test_continue_has_no_length(echo):
    [interim] = await echo.say(get("/", "Expect: 100-continue", "Content-Length: 1", method="POST"))
    assert (interim.status, len(interim.headers)) == (100, 0)


@clause("9110", "8.6", "A Content-Length that is no decimal number is invalid")
async def test_length_that_is_no_number_is_refused(ask):
    for value in ("x", "-1", "+1", "1.0", "0x1", "1 1", '"1"', "1e3", ""):
        assert (await ask(get("/a.txt", f"Content-Length: {value}"))).status == 400


@clause("9110", "8.6", "A list of equal lengths may be refused, and is: only the broken or the hostile send one")
async def test_list_of_lengths_is_refused(ask):
    assert (await ask(get("/a.txt", "Content-Length: 0, 0"))).status == 400
    assert (await ask(get("/a.txt", "Content-Length: 0", "Content-Length: 0"))).status == 400


@clause("9110", "8.6", "A recipient must foresee lengths too large for its integers")
async def test_length_beyond_all_integers_is_refused(ask):
    assert (await ask(get("/a.txt", "Content-Length: 1" + "0" * 40))).status == 400


@clause("9110", "8.6", "A sender must not generate a Content-Length it knows to be wrong")
async def test_wrong_length_of_a_handler_is_not_sent(wire_to, caplog):
    async def handler(request):
        return Response(200, Headers([("content-length", "4")]), b"abc")

    assert (await (await wire_to(handler)).ask(get())).status == 500
    assert "Content-Length says 4" in caplog.text


@clause("9110", "8.8.1", "A strong validator changes whenever the content does")
async def test_tag_changes_with_the_content(tmp_path, wire_to):
    wire = await wire_to(files(tmp_path, wall_clock=lambda: 4_000_000_000.0))
    tags = []
    for content in (b"one", b"two"):
        (tmp_path / "f").write_bytes(content)
        os.utime(tmp_path / "f", (1e9, 1e9))  # size and time of change say nothing
        tags.append((await wire.ask(get("/f"))).headers.get("etag"))
    assert tags[0] != tags[1]
    assert not any(tag.startswith("W/") for tag in tags)


@clause("9110", "8.8.1", "What may stand for two contents must be marked as weak")
async def test_tag_of_a_file_just_changed_is_weak(tmp_path, wire_to):
    (tmp_path / "f").write_bytes(b"one")
    changed = os.stat(tmp_path / "f").st_ctime
    wire = await wire_to(files(tmp_path, wall_clock=lambda: changed + 1))
    assert (await wire.ask(get("/f"))).headers.get("etag").startswith("W/")


@clause("9110", "8.8.2", "Last-Modified should be sent with what has a time of change")
async def test_last_modified_is_sent(ask):
    assert (await ask(get("/a.txt"))).headers.get("last-modified") == "Sun, 09 Sep 2001 01:46:40 GMT"


@clause("9110", "8.8.2.1", "Last-Modified must not be later than Date: the time of sending replaces it")
async def test_last_modified_is_never_in_the_future(tmp_path, wire_to):
    (tmp_path / "f").write_bytes(b"")
    os.utime(tmp_path / "f", (2e9, 2e9))
    wire = await wire_to(files(tmp_path, wall_clock=lambda: 1e9))
    assert (await wire.ask(get("/f"))).headers.get("last-modified") == "Sun, 09 Sep 2001 01:46:40 GMT"


@clause("9110", "8.8.3", "An entity tag is an opaque string in double quotes, W/ before it if it is weak")
async def test_tag_is_well_formed(ask):
    assert re.fullmatch(r'"[\x21\x23-\x7e]+"', (await ask(get("/a.txt"))).headers.get("etag"))


@clause("9110", "8.8.3", "An origin should send an entity tag with what it can make one for")
async def test_every_file_has_a_tag(ask):
    for target in ("/a.txt", "/empty.bin", "/picture.png", "/style.css"):
        assert "etag" in (await ask(get(target))).headers


@clause("9110", "8.8.3.2", "Strong comparison: equal, and neither is weak")
async def test_strong_comparison_knows_no_weak_tags(ask):
    etag = (await ask(get("/a.txt"))).headers.get("etag")
    assert (await ask(get("/a.txt", f"If-Match: W/{etag}"))).status == 412


@clause("9110", "8.8.3.2", "Weak comparison: the opaque parts are equal, weak or not")
async def test_weak_comparison_looks_at_the_opaque_part(ask):
    etag = (await ask(get("/a.txt"))).headers.get("etag")
    assert (await ask(get("/a.txt", f"If-None-Match: W/{etag}"))).status == 304


@clause("9110", "8.8.3.2", "Opaque parts are compared octet by octet, case included")
async def test_tags_are_compared_octet_by_octet(ask):
    etag = (await ask(get("/a.txt"))).headers.get("etag")
    assert (await ask(get("/a.txt", f"If-None-Match: {etag.upper()}"))).status == 200
    assert (await ask(get("/a.txt", f"If-None-Match: w/{etag}"))).body == LETTERS


@clause("9110", "8.8.3.3", "Representations of one resource in different codings have different strong tags")
async def test_codings_have_tags_of_their_own(ask):
    codings = ("identity", "gzip", "br")
    tags = [(await ask(get("/page.html", f"Accept-Encoding: {each}"))).headers.get("etag") for each in codings]
    assert len(set(tags)) == 3
