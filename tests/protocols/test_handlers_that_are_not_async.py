"""A handler, or the body of a response, that is no async function: the log names it and says what to do."""

from __future__ import annotations

import re

import pytest
import trio

from ktrio import Response
from tests.server.harness import GET, Ended, get, settle

ADVICE = "is to be an async function without yield, but it gave "


def plain(given):
    return Response(body=b"never sent")


async def generating(given):
    yield Response(body=b"never sent")


nothing = lambda given: None  # noqa: E731 - that is what is tested


class Callable:
    """Objects that can be called have no name but their repr."""

    def __repr__(self) -> str:
        return "<my handler>"

    def __call__(self, given):
        return 5


CASES = [
    (plain, "plain", "<Response"),
    (generating, "generating", "<async_generator object generating"),
    (nothing, "<lambda>", "None"),
    (Callable(), "<my handler>", "5"),
]
every_case = pytest.mark.parametrize(("fn", "name", "gave"), CASES, ids=["plain", "generator", "lambda", "object"])


def check_log(caplog, name, gave):
    [record] = caplog.records
    error = record.exc_info[1]
    assert isinstance(error, TypeError)
    message = str(error)
    assert message.startswith(f"{name} {ADVICE}"), message
    gave = "Response" if gave == "<Response" else gave
    assert gave in message.removeprefix(f"{name} {ADVICE}")
    assert len(message) < 250


@every_case
async def test_handler_is_named_and_its_client_gets_a_500(start_http, connect, caplog, fn, name, gave):
    client = await connect(await start_http(fn))
    for _ in range(2):
        caplog.clear()
        assert (await client.ask()).status == 500  # and the connection goes on
        check_log(caplog, name, gave)


@every_case
async def test_stream_handler_is_named_and_its_connection_ends(start_stream, connect, caplog, fn, name, gave):
    server = await start_stream(fn)
    client = await connect(server)
    with pytest.raises(Ended):
        await client.read_to_end()
    await settle()
    check_log(caplog, name, gave)
    assert server.statistics().reasons == {"error": 1}


@every_case
async def test_body_function_is_named_and_its_client_gets_a_500(start_http, connect, caplog, fn, name, gave):
    async def handler(request):
        return Response(body=fn)

    server = await start_http(handler)
    client = await connect(server)
    assert (await client.ask(GET)).status == 500  # nothing of it was sent
    assert await client.read_end() == "fin"
    await settle()
    check_log(caplog, name, gave)
    assert server.statistics().reasons == {"error": 1}


async def test_what_such_a_handler_gave_is_cut_in_the_log(start_http, connect, caplog):
    def handler(request):
        return "x" * 10_000

    assert (await (await connect(await start_http(handler))).ask()).status == 500
    [record] = caplog.records
    assert re.fullmatch(r"\S+handler " + ADVICE + "'x{50,99}", str(record.exc_info[1]))


async def test_async_function_that_gives_no_response_is_another_mistake(start_http, connect, caplog):
    async def handler(request):
        return None

    assert (await (await connect(await start_http(handler))).ask()).status == 500
    [record] = caplog.records
    assert "returned None, not a Response" in str(record.exc_info[1])


async def test_plain_function_that_gives_an_awaitable_is_a_handler(start_http, start_stream, connect, caplog):
    async def answer(request):
        await trio.lowlevel.checkpoint()
        return Response(body=b"answer")

    async def speak(stream):
        await stream.send_all(b"words")

    client = await connect(await start_http(lambda request: answer(request)))
    assert (await client.ask(get("/"))).body == b"answer"
    assert await (await connect(await start_stream(lambda stream: speak(stream)))).read_to_end() == b"words"
    assert caplog.records == []
