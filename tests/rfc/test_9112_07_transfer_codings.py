"""RFC 9112 section 7: chunks."""

from __future__ import annotations

import re

from ktrio import Limits, Response
from tests.rfc.clauses import clause
from tests.rfc.conftest import TEXT
from tests.server.harness import get


def chunked(body: bytes) -> bytes:
    return get("/", "Transfer-Encoding: chunked", method="POST") + body


@clause("9112", "7.1", "A recipient must be able to decode the chunked coding")
async def test_chunks_are_decoded(echo):
    assert (await echo.ask(chunked(b"3\r\none\r\n5\r\n\r\ntwo\r\n0\r\n\r\n"))).body == b"one\r\ntwo"


@clause("9112", "7.1", "Sizes are hexadecimal, in either case, zeros before them allowed")
async def test_sizes_are_hexadecimal(echo):
    body = b"00a\r\n0123456789\r\nA\r\n0123456789\r\n000\r\n\r\n"
    assert (await echo.ask(chunked(body))).body == b"0123456789" * 2


@clause("9112", "7.1", "A size that is no hexadecimal number is malformed")
async def test_other_sizes_are_refused(wire_to, echo):
    async def handler(request):
        return Response(body=await request.read())

    for size in (b"x", b"", b"-1", b"+1", b"0x1", b"1 1", b" 1", b"1_0", b"g"):
        wire = await wire_to(handler)
        assert ((await wire.ask(chunked(size + b"\r\na\r\n0\r\n\r\n"))).status, wire.is_over) == (400, True)


@clause("9112", "7.1", "A recipient must foresee sizes that overflow its integers")
async def test_overflowing_size_is_refused(echo):
    assert (await echo.ask(chunked(b"1" + b"0" * 30 + b"\r\nabc"))).status in (400, 413)


@clause("9112", "7.1", "Each chunk ends with CRLF behind its data")
async def test_data_that_does_not_end_where_it_should_is_refused(echo):
    assert (await echo.ask(chunked(b"3\r\nabcd\r\n0\r\n\r\n"))).status == 400


@clause("9112", "7.1", "Lines of chunks end with CRLF, not with a bare LF")
async def test_bare_lf_in_chunks_is_refused(echo):
    assert (await echo.ask(chunked(b"3\nabc\n0\n\n"))).status == 400


@clause("9112", "7.1", "The chunk of size zero, and the blank line behind it, end the body")
async def test_last_chunk_ends_the_body(echo):
    answers = await echo.say(chunked(b"1\r\na\r\n0\r\n\r\n") + get("/next"))
    assert [each.headers.get("x-path") for each in answers] == ["/", "/next"]


@clause("9112", "7.1", "Content of unknown length is sent in chunks, the last of them empty")
async def test_unknown_length_is_sent_in_chunks(wire_to):
    async def handler(request):
        return Response(body=pieces())

    wire = await wire_to(handler)
    assert (await wire.ask(get())).body == b"abc"
    assert wire.raw.endswith(b"\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n")


async def pieces():
    for piece in (b"a", b"", b"bc"):
        yield piece


@clause("9112", "7.1.1", "A recipient must ignore chunk extensions it does not know")
async def test_extensions_are_ignored(echo):
    assert (await echo.ask(chunked(b'1;a=b;c="d"\r\nx\r\n0;e\r\n\r\n'))).body == b"x"


@clause("9112", "7.1.1", "The length of chunk extensions must be limited, and more of them refused")
async def test_endless_extensions_are_refused(echo):
    assert (await echo.ask(chunked(b"1;" + b"a" * 5000 + b"\r\nx\r\n0\r\n\r\n"))).status == 400


@clause("9112", "7.1.2", "Trailer fields may follow the last chunk, and end with a blank line")
async def test_trailers_end_with_a_blank_line(echo):
    assert await echo.say(chunked(b"0\r\nA: b\r\n")) == []
    assert (await echo.ask(b"\r\n")).status == 200


@clause("9112", "7.1.2", "Trailers are limited as the header section is")
async def test_too_many_trailers_are_refused(wire_to):
    async def handler(request):
        return Response(body=await request.read())

    wire = await wire_to(handler, limits=Limits(fields=5))
    assert (await wire.ask(chunked(b"0\r\n" + b"A: b\r\n" * 6 + b"\r\n"))).status == 431


@clause("9112", "7.1.2", "Trailer fields follow the grammar of fields")
async def test_malformed_trailers_are_refused(echo):
    assert (await echo.ask(chunked(b"0\r\nA : b\r\n\r\n"))).status == 400


@clause("9112", "7.1.3", "Decoded content is what the chunks hold, however they come in pieces")
async def test_chunks_in_pieces_are_the_same(echo):
    echo_head, body = chunked(b""), b"3\r\nabc\r\n0a\r\n0123456789\r\n0\r\n\r\n"
    assert await echo.say(echo_head) == []
    for at in range(len(body) - 1):
        assert await echo.say(body[at : at + 1]) == []
    assert (await echo.ask(body[-1:])).body == b"abc0123456789"


@clause("9112", "7.2", "Compression as a transfer coding is not spoken: 501")
async def test_compressed_transfer_is_501(ask):
    for coding in ("gzip", "deflate", "compress", "x-gzip"):
        assert (await ask(get("/", f"Transfer-Encoding: {coding}, chunked", method="POST"))).status == 501


@clause("9112", "7.4", "TE allows other codings, it does not ask for them; chunked is never named in it")
async def test_te_gets_nothing_special(wire):
    assert (await wire.ask(get("/style.css", "TE: gzip;q=1.0, chunked", "Connection: TE"))).body == TEXT
    assert not re.search(rb"(?i)transfer-encoding", wire.head)
