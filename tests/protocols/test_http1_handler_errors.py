"""A handler that fails: 500 if nothing was sent, a cut connection otherwise, one log record, and the server goes on."""

from __future__ import annotations

import contextlib
import logging

import pytest
import trio

from ktrio import Headers, Response
from ktrio.http.errors import BadRequest, BodyTooLarge
from tests.server.harness import GET, Ended, get, post, settle


class Unlucky(Exception):  # noqa: N818
    pass


def error_records(caplog):
    return [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_handler_that_raises_gives_500_and_one_log_record(start_http, connect, caplog):
    async def handler(request):
        if request.target == "/bad":
            raise Unlucky("secret detail")
        return Response(body=b"fine")

    server = await start_http(handler)
    client = await connect(server)
    reply = await client.ask(get("/bad"))
    assert reply.status == 500
    assert b"secret" not in reply.head + reply.body
    assert b"Traceback" not in reply.body
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], Unlucky)
    assert "/bad" in record.getMessage()
    fresh = client if not reply.says_close else await connect(server)
    assert (await fresh.ask()).body == b"fine"
    assert len(caplog.records) == 1


async def test_each_failure_is_logged_once_and_the_server_goes_on(start_http, connect, caplog):
    async def handler(request):
        raise Unlucky

    server = await start_http(handler)
    for _ in range(5):
        assert (await (await connect(server)).ask()).status == 500
    assert len(error_records(caplog)) == len(caplog.records) == 5


async def test_head_request_whose_handler_raises_gets_500_without_a_body(start_http, connect, caplog):
    async def handler(request):
        raise Unlucky

    client = await connect(await start_http(handler))
    reply = await client.ask(get(method="HEAD"))
    assert reply.status == 500
    await settle()
    assert client.peek() == ("fin" if reply.says_close else "open")
    assert len(error_records(caplog)) == 1


@pytest.mark.parametrize("fields", [{}, {"content-length": "1000"}], ids=["chunked", "sized"])
async def test_failure_after_streaming_began_cuts_the_connection(start_http, connect, caplog, fields):
    """RFC 9112 section 8: no last chunk, no bytes made up, no second answer; the peer sees that it is incomplete."""

    async def body():
        yield b"some"
        raise Unlucky

    async def handler(request):
        return Response(headers=Headers(fields), body=body())

    server = await start_http(handler)
    client = await connect(server)
    await client.send(GET + GET)
    with pytest.raises(Ended) as seen:
        await client.read_replies(2)
    assert seen.value.data.count(b"HTTP/1.1 ") <= 1
    (record,) = caplog.records
    assert isinstance(record.exc_info[1], Unlucky)
    assert server.statistics().answered == 0


async def test_failure_after_streaming_began_to_http10_is_a_reset(start_http, connect):
    """RFC 9112 section 8: where the close is the end of the body, a proper close would be a well-ended body."""

    async def body():
        yield b"some"
        raise Unlucky

    async def handler(request):
        return Response(body=body())

    client = await connect(await start_http(handler))
    await client.send(get(version="1.0"))
    with pytest.raises(Ended) as seen:
        await client.read_to_end()
    assert seen.value.how == "reset"


async def test_failure_before_the_first_piece_never_makes_a_whole_answer(start_http, connect, caplog):
    """Nothing of the body was sent: a 500, or a cut; but not a well-ended 200."""

    async def body():
        raise Unlucky
        yield b""

    async def handler(request):
        return Response(body=body())

    client = await connect(await start_http(handler))
    await client.send(GET)
    try:
        reply = await client.read_reply()
    except Ended:
        pass
    else:
        assert reply.status == 500
    assert len(error_records(caplog)) == 1


@pytest.mark.parametrize(
    "thing", [None, b"hello", "hello", 404, {"status": 200}, (200, b"x"), Response], ids=lambda thing: repr(thing)[:20]
)
async def test_handler_that_returns_no_response_gives_500(start_http, connect, caplog, thing):
    async def handler(request):
        return thing

    client = await connect(await start_http(handler))
    assert (await client.ask()).status == 500
    assert len(error_records(caplog)) == len(caplog.records) == 1


@pytest.mark.parametrize("body", ["text", None, 7, [b"a"], object()], ids=lambda body: type(body).__name__)
async def test_body_of_a_wrong_type_gives_500_or_a_cut(start_http, connect, caplog, body):
    async def handler(request):
        return Response(body=body)

    client = await connect(await start_http(handler))
    await client.send(GET)
    with contextlib.suppress(Ended):
        assert (await client.read_reply()).status == 500
    assert len(error_records(caplog)) == 1


async def test_iterable_that_yields_no_bytes_is_a_cut(start_http, connect, caplog):
    async def body():
        yield b"one"
        yield "two"

    async def handler(request):
        return Response(body=body())

    client = await connect(await start_http(handler))
    await client.send(GET)
    with pytest.raises(Ended):
        await client.read_reply()
    assert len(error_records(caplog)) == 1


async def test_handler_that_is_not_async_gives_500(start_http, connect, caplog):
    client = await connect(await start_http(lambda request: Response()))
    assert (await client.ask()).status == 500
    assert len(error_records(caplog)) == 1


@pytest.mark.parametrize(
    "field",
    [
        ("x-bad", "a\r\nSet-Cookie: stolen=1"),
        ("x-bad", "a\nb"),
        ("x-bad", "a\rb"),
        ("x-bad", "a\0b"),
        ("x-bad\r\ny", "a"),
        ("x bad", "a"),
        ("", "a"),
        ("x-bad", "\u20ac"),
        ("content-type", "text/html\r\n\r\n<script>"),
        ("content-length", "5\r\nX: y"),
        ("content-length", "abc"),
    ],
)
async def test_header_that_would_split_the_response_gives_500(start_http, connect, caplog, field):
    """RFC 9110 section 5.5: nothing a handler puts into a field may become another field, or another response."""

    async def handler(request):
        headers = Headers()
        headers.add(*field)
        return Response(headers=headers, body=b"hello")

    client = await connect(await start_http(handler))
    reply = await client.ask()
    assert reply.status == 500
    assert b"stolen" not in reply.head
    assert b"script" not in reply.body
    assert len(error_records(caplog)) == 1


async def test_group_of_http_errors_becomes_the_answer(start_http, connect, caplog):
    """A handler's own nursery wraps what it raises: the answer is that of the error within."""

    async def read(request):
        await request.read()

    async def handler(request):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, request)
        return Response()

    async def refuse(request):
        raise ExceptionGroup("outer", [ExceptionGroup("inner", [BodyTooLarge("Too much.")])])

    server = await start_http(handler)
    client = await connect(server)
    await client.send(get("/", "Content-Length: 99999999", method="POST"))
    assert (await client.read_reply()).status == 413
    other = await connect(await start_http(refuse))
    assert (await other.ask()).status == 413
    assert caplog.records == []


async def test_group_with_anything_else_in_it_is_a_500_and_logged_whole(start_http, connect, caplog):
    """The group stays intact in the record: what is hidden in it is found."""

    async def handler(request):
        raise ExceptionGroup("several", [BadRequest("No."), Unlucky("found")])

    client = await connect(await start_http(handler))
    assert (await client.ask()).status == 500
    (record,) = caplog.records
    assert isinstance(record.exc_info[1], ExceptionGroup)
    assert "found" in caplog.text


async def test_handlers_own_timeout_is_its_own(start_http, connect, mock_clock, caplog):
    """A `TooSlowError` of a handler is an error like any other, a scope it opens ends it and nobody else."""

    async def handler(request):
        if request.target == "/fail":
            with trio.fail_after(1):
                await trio.sleep_forever()
        with trio.move_on_after(1):
            await trio.sleep_forever()
        return Response(body=b"moved on")

    server = await start_http(handler)
    for target, status in [("/move", 200), ("/fail", 500)]:
        client = await connect(server)
        await client.send(get(target))
        await settle()
        mock_clock.jump(1)
        assert (await client.read_reply()).status == status
    assert len(error_records(caplog)) == 1


async def test_handler_that_raises_cancelled_of_a_dead_scope_does_not_end_the_server(start_http, connect):
    """A handler's nursery that it cancels itself is swallowed by that nursery."""

    async def handler(request):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.cancel_scope.cancel()
        return Response(body=b"still here")

    client = await connect(await start_http(handler))
    assert (await client.ask()).body == b"still here"


async def test_unread_body_of_a_failed_handler_does_not_break_the_connection(start_http, connect, caplog):
    async def handler(request):
        raise Unlucky

    client = await connect(await start_http(handler))
    reply = await client.ask(post(b"unread"))
    assert reply.status == 500
    if reply.says_close:
        assert await client.read_end() == "fin"
    else:
        assert (await client.ask(post(b"unread"))).status == 500
