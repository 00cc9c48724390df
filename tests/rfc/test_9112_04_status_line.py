"""RFC 9112 section 4: status lines."""

from __future__ import annotations

import re

from ktrio import Response
from tests.rfc.clauses import clause
from tests.server.harness import get


@clause("9112", "4", "A status line is version, space, three digits, space, reason phrase")
async def test_status_line_is_well_formed(wire):
    await wire.say(get("/missing"))
    assert wire.raw.startswith(b"HTTP/1.1 404 Not Found\r\n")


@clause("9112", "4", "The space before the reason phrase must be sent even if the phrase is empty")
async def test_space_stands_behind_a_status_without_phrase(wire_to):
    async def handler(request):
        return Response(299)

    wire = await wire_to(handler)
    await wire.say(get())
    assert re.match(rb"HTTP/1\.1 299 [\x20-\x7e]*\r\n", wire.raw)


@clause("9112", "4", "The reason phrase has no line breaks, and nothing of the request in it")
async def test_phrase_is_ours(wire):
    await wire.say(get("/%0d%0aX:y"))
    assert wire.head.splitlines()[0] == b"HTTP/1.1 404 Not Found"
