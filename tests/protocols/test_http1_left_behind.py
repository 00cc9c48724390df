"""Tasks that a handler starts outside of itself and leaves behind: they harm nobody but their own connection."""

from __future__ import annotations

import contextlib
from functools import partial

import pytest
import trio
import trio.testing

from ktrio import Response
from tests.server.harness import GET, Ended, get, post, settle


async def test_send_of_a_task_that_was_left_behind_breaks_the_answer_off(start_http, connect, servers, caplog):
    """Whatever the loop runs first: nothing of it may land behind the end of its answer, nor in the next one."""

    async def write(send):
        servers.start_soon(ignore_errors, partial(send, b"EVIL"))
        await trio.lowlevel.checkpoint()

    async def handler(request):
        return Response(body=write if request.target == "/" else b"second")

    server = await start_http(handler)
    for _ in range(50):
        client = await connect(server)
        await client.send(GET + get("/second", "Connection: close"))
        try:
            data = await client.read_to_end()
        except Ended as end:
            data = end.data
        _head, _, rest = data.partition(b"\r\n\r\n")
        whole = rest.startswith((b"0\r\n\r\nHTTP/1.1 200 OK", b"4\r\nEVIL\r\n0\r\n\r\nHTTP/1.1 200 OK"))
        assert rest.endswith(b"second") if whole else rest in (b"", b"4\r\nEVIL\r\n"), data


async def ignore_errors(fn):
    with contextlib.suppress(Exception):
        await fn()


async def test_task_that_was_left_behind_in_the_body_costs_the_connection_and_is_no_error(
    start_http, connect, servers, caplog
):
    met = []

    async def read_on(request):
        try:
            await request.read()
        except Exception as error:
            met.append(type(error).__name__)

    async def handler(request):
        servers.start_soon(read_on, request)
        await trio.testing.wait_all_tasks_blocked()
        return Response(body=b"answer")

    server = await start_http(handler)
    client = await connect(server)
    await client.send(post(b"12345")[:-1])
    assert (await client.read_reply()).body == b"answer"
    await settle()
    assert server.statistics().reasons == {"answered": 1}
    assert met == ["ConnectionGone"]
    assert caplog.records == []


async def test_body_that_is_read_when_its_request_is_over_is_an_error(start_http, connect):
    """Not an empty body: it was dropped to make way for the next request."""
    kept = []

    async def handler(request):
        kept.append(request)
        return Response(body=b"answer")

    client = await connect(await start_http(handler))
    await client.ask(post(b"12345"))
    await client.ask(post(b"12345"))
    for each in (kept[0].read, partial(anext, kept[1].body)):
        with pytest.raises(RuntimeError, match="over"):
            await each()
