"""Conversations with HTTP/1.1 that playbooks show best."""

from __future__ import annotations

import trio

from ktrio import Limits, Response
from ktrio.testing import FIN, Playbook, ended, response
from tests.server.harness import get


async def read(request):
    if request.path == "/wait":
        await trio.sleep_forever()
    return Response(body=await request.read())


async def test_body_declared_too_long_is_refused_at_once_though_part_of_it_came_with_the_head():
    async with Playbook(read, limits=Limits(body_bytes=1000)) as (peer, server, _clock):
        peer >> get("/", "Content-Length: 1001", method="POST") + b"x" * 500
        server << response(413, b"413 Content Too Large\nThe body of the request is longer than 1000 bytes.\n")
        peer >> b"x" * 501 + get("/")  # what is left of it is little enough to be read and dropped
        server << response(200)


async def test_cancelled_server_lingers_no_longer_than_one_that_drains(caplog):
    """Its connections are cancelled together with it: they hear of that before it has said that it drains."""
    async with Playbook(read) as (peer, server, clock):
        peer >> get("/wait", "Content-Length: 1000", method="POST")
        server.cancel()
        server << response(503, b"503 Service Unavailable\nThe server is shutting down.\n")
        server << FIN
        clock += 0.3
        server << ended("server-cancelled")
    assert caplog.records == []
