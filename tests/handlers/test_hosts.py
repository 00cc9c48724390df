"""A list of allowed hosts: who is asked for another one answers 421, and nothing else changes."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from ktrio import Response, serve_http
from ktrio.handlers.hosts import for_hosts
from ktrio.http.errors import MisdirectedRequest
from ktrio.testing import serve_in_memory

OTHER = b"GET /x HTTP/1.1\r\nHost: evil.example\r\n\r\n"
OURS = b"GET /x HTTP/1.1\r\nHost: our.example:8081\r\n\r\n"


async def hello(request):
    return Response(body=b"hello")


@pytest.fixture
def clock():
    return MockClock()


async def test_request_for_another_host_is_misdirected_and_the_connection_stays(clock):
    """RFC 9110 section 15.5.20."""
    async with serve_in_memory(for_hosts(hello, ["our.example"])) as memory:
        stream = memory.connect()
        await stream.send_all(OTHER)
        answer = await stream.receive_until_blocked()
        assert answer.startswith(b"HTTP/1.1 421 Misdirected Request\r\n")
        assert b"connection: close" not in answer.lower()
        assert b"evil" not in answer
        await stream.send_all(OURS)
        assert (await stream.receive_until_blocked()).endswith(b"\r\n\r\nhello")


async def test_host_of_an_absolute_target_is_the_one_that_counts(clock):
    """RFC 9112 section 3.2.2: it replaces Host."""
    told = []
    async with serve_in_memory(for_hosts(hello, ["our.example"]), tell=told.append) as memory:
        stream = memory.connect()
        await stream.send_all(b"GET http://evil.example/x HTTP/1.1\r\nHost: our.example\r\n\r\n")
        assert b" 421 " in await stream.receive_until_blocked()
        await stream.send_all(b"GET http://our.example/x HTTP/1.1\r\nHost: evil.example\r\n\r\n")
        assert b" 200 " in await stream.receive_until_blocked()
    assert [(each.status, each.target) for each in told] == [
        (421, "http://evil.example/x"),
        (200, "http://our.example/x"),
    ]


async def test_request_that_names_no_host_is_for_none_of_them(ask):
    handler = for_hosts(hello, ["our.example"])
    with pytest.raises(MisdirectedRequest):
        await ask(handler)
    assert (await ask(handler, headers=[("Host", "our.example")])).body == b"hello"


def test_no_host_at_all_is_an_error():
    with pytest.raises(ValueError, match="no host is allowed"):
        for_hosts(hello, [])


async def test_serve_http_takes_the_list_and_says_at_once_what_is_wrong_with_it():
    with pytest.raises(ValueError, match=r"'a\.example:80' is not the name of a host"):
        await serve_http(hello, "127.0.0.1:0", allowed_hosts=["a.example:80"])


async def test_serve_http_answers_for_the_hosts_on_its_list():
    async with trio.open_nursery() as nursery:
        server = await nursery.start(
            lambda *, task_status: serve_http(
                hello, "127.0.0.1:0", allowed_hosts=["our.example"], task_status=task_status
            )
        )
        stream = await trio.open_tcp_stream("127.0.0.1", server.addresses[0].port)
        async with stream:
            await stream.send_all(OTHER)
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 421 ")
            await stream.send_all(OURS)
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 200 ")
        nursery.cancel_scope.cancel()
