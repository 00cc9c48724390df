"""RFC 9112 section 11: what can be done to others with messages."""

from __future__ import annotations

from ktrio import Headers, Response
from tests.rfc.clauses import clause
from tests.server.harness import get


@clause("9112", "11.1", "Response splitting: a value with a line break in it must never be sent")
async def test_values_with_line_breaks_are_not_sent(wire_to, caplog):
    async def handler(request):
        return Response(303, Headers([("location", "/x\r\nSet-Cookie: evil=1\r\n\r\n<html>")]))

    wire = await wire_to(handler)
    assert (await wire.ask(get())).status == 500
    assert b"evil" not in wire.raw
    assert "cannot be sent" in caplog.text


@clause("9112", "11.1", "Response splitting: what a target decodes to does not get into the head of the answer")
async def test_decoded_line_breaks_stay_out_of_the_head(wire):
    await wire.say(get("/sub%0d%0aX-Evil:%201"))
    await wire.say(get("/sub?a=%0d%0aX-Evil:%201"))
    assert b"\nx-evil" not in wire.raw.lower()


@clause("9112", "11.2", "Request smuggling: where a proxy might have seen another end, nothing more is read")
async def test_nothing_is_smuggled(wire_to):
    seen = []

    async def handler(request):
        seen.append(request.path)
        return Response(body=await request.read())

    smuggled = b"0\r\n\r\n" + get("/smuggled")
    for fields in (
        ("Content-Length: 6", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: xchunked",),
        ("Transfer-Encoding : chunked",),
        ("Transfer-Encoding: chunked", "Transfer-encoding: x"),
        ("Transfer-Encoding:\x0bchunked",),
        ("X: y\r\n Transfer-Encoding: chunked",),
        ("Content-Length: 0\r",),
        ("Content-Length: 00, 5",),
    ):
        wire = await wire_to(handler)
        [answer] = await wire.say(get("/", *fields, method="POST") + smuggled)
        assert (answer.status in (400, 501), wire.is_over) == (True, True), fields
    assert seen == []
