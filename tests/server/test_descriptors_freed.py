"""A full descriptor table: the pause of the acceptor ends as soon as a connection has left."""

from __future__ import annotations

import os
import socket

import pytest

from ktrio import Response
from tests.server.harness import Client, settle

resource = pytest.importorskip("resource")


@pytest.fixture
def no_more_descriptors():
    """Called, nobody gets a descriptor any more that is not free below those in use."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)

    def exhaust() -> None:
        lowest_free = os.dup(0)
        os.close(lowest_free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, before[1]))

    yield exhaust
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.fixture
def waiting():
    with socket.socket() as first, socket.socket() as second:
        yield [Client(first), Client(second)]


async def test_place_of_a_connection_that_left_is_taken_without_waiting_for_the_pause(
    start_http, connect, no_more_descriptors, waiting
):
    """Time stands still: the first newcomer is refused, the second gets the descriptor of who left."""

    async def hello(request):
        return Response(body=b"hello")

    server = await start_http(hello)
    kept = await connect(server)
    assert (await kept.ask()).status == 200
    where = (server.addresses[0].host, server.addresses[0].port)
    refused, lucky = waiting
    no_more_descriptors()
    await refused.sock.connect(where)
    assert (await refused.read_reply()).status == 503
    await lucky.sock.connect(where)
    await settle()
    assert server.statistics().accepted == 1
    kept.close()
    assert (await lucky.ask()).body == b"hello"
    assert server.statistics().refused == 1
