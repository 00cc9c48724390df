"""RFC 9112 section 8: messages that break off."""

from __future__ import annotations

import os

import trio

from ktrio import Response
from ktrio.handlers.files import files
from tests.rfc.clauses import clause
from tests.server.harness import get


@clause("9112", "8", "A server that gets an incomplete request may answer with an error before it closes")
async def test_head_that_breaks_off_is_400(wire):
    assert (await wire.ask(b"GET /a.txt HTTP/1.1\r\nHos", fin=True)).status == 400
    assert wire.is_over


@clause("9112", "8", "A chunked body without its last chunk is incomplete")
async def test_chunks_that_break_off_are_400(echo):
    data = get("/", "Transfer-Encoding: chunked", method="POST") + b"3\r\nabc\r\n"
    assert (await echo.ask(data, fin=True)).status == 400


@clause("9112", "8", "A response that cannot be completed must not look complete: no last chunk is sent")
async def test_answer_that_breaks_off_has_no_last_chunk(wire_to, caplog):
    async def handler(request):
        return Response(body=broken())

    async def broken():
        yield b"some"
        await trio.sleep(1)
        raise ValueError("the rest is lost")

    wire = await wire_to(handler)
    await wire.say(get())
    await wire.memory.advance(2)
    await wire.read()
    assert wire.stream.ended == "reset"
    assert wire.raw.endswith(b"4\r\nsome\r\n")
    assert "the rest is lost" in caplog.text


@clause("9112", "8", "A response with Content-Length is incomplete if fewer bytes come: nothing is put in their place")
async def test_file_that_shrinks_breaks_off(tmp_path, wire_to, caplog):
    (tmp_path / "f").write_bytes(b"x" * 300_000)
    inner = files(tmp_path)

    async def handler(request):
        response = await inner(request)
        os.truncate(tmp_path / "f", 100_000)
        return response

    wire = await wire_to(handler)
    await wire.say(get("/f"))
    assert wire.stream.ended == "reset"
    assert wire.raw.count(b"x") <= 100_100
    assert b"HTTP/1.1 500" not in wire.raw
    assert "broke off" in caplog.text
