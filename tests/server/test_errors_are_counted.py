"""`ServerStatistics.errors`: connections that ended with an unexpected error, each once, whatever else ended them."""

from __future__ import annotations

import pytest
import trio

from ktrio import Response, ServerOptions, Timeouts
from tests.server.harness import GET, LATE, Ended, advance, get, settle

TIMES = Timeouts(idle=5, write=30)
NO_BUDGET = ServerOptions(max_errors=None, grace=2)


async def breaks():
    yield b"one"
    raise LookupError("a bug")


async def write_and_break(send):
    await send(b"one")
    raise LookupError("a bug")


async def write_and_break_in_tasks(send):
    async def fail() -> None:
        raise LookupError("a bug")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fail)
        nursery.start_soon(fail)
        await trio.lowlevel.checkpoint()


def writes_another_type():
    async def pieces():
        yield "text"

    return pieces()


class Nonsense:
    """No body at all."""


BODIES = {
    "/iterable": breaks,
    "/writer": lambda: write_and_break,
    "/tasks": lambda: write_and_break_in_tasks,
    "/type": writes_another_type,
    "/nonsense": Nonsense,
}


async def respond(request):
    if request.target in BODIES:
        return Response(body=BODIES[request.target]())
    raise LookupError("a bug")


async def read_whatever(client):
    try:
        return await client.read_to_end()
    except Ended as end:
        return end.data


@pytest.mark.parametrize("target", BODIES)
async def test_answer_that_comes_to_nothing_counts_once(start_http, connect, target, caplog):
    server = await start_http(respond, options=NO_BUDGET)
    for count in range(1, 4):
        client = await connect(server)
        await client.send(get(target))
        await read_whatever(client)
        await settle()
        assert server.statistics().reasons == {"error": count}
        assert server.statistics().errors == count
        assert len(caplog.records) == count


async def test_error_of_a_handler_that_was_answered_is_no_connection_that_ended(start_http, connect, caplog):
    """It costs its request and nothing else; the log has it."""
    server = await start_http(respond)
    client = await connect(server)
    for _ in range(3):
        assert (await client.ask(GET)).status == 500
    client.finish()
    await client.read_end()
    await settle()
    assert server.statistics().reasons == {"peer-closed": 1}
    assert server.statistics().errors == 0
    assert len(caplog.records) == 3


async def fail_at_once(stream):
    raise LookupError("a bug")


async def fail_after_a_word(stream):
    await stream.receive_some()
    raise LookupError("a bug")


async def fail_twice(stream):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fail_after_a_word, stream)
        nursery.start_soon(fail_at_once, stream)


@pytest.mark.parametrize("handler", [fail_at_once, fail_after_a_word, fail_twice])
async def test_stream_handler_that_raises_counts_once(start_stream, connect, handler, caplog):
    server = await start_stream(handler, options=NO_BUDGET)
    for count in range(1, 4):
        client = await connect(server)
        client.send_nowait(b"x")
        await read_whatever(client)
        await settle()
        assert server.statistics().reasons == {"error": count}
        assert server.statistics().errors == count
        assert len(caplog.records) == count


async def fail_when_cancelled(stream):
    try:
        await stream.receive_some()
        await trio.sleep_forever()
    finally:
        raise LookupError("a bug")


async def fail_beside_the_cancellation(stream):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fail_when_cancelled, stream)
        await trio.sleep_forever()


async def fail_twice_beside_it(stream):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fail_when_cancelled, stream)
        with trio.CancelScope() as scope:
            try:
                await trio.sleep_forever()
            finally:
                scope.cancel()
                raise ValueError("another bug")


@pytest.mark.parametrize("end", ["client-gone", "grace", "second-signal"])
@pytest.mark.parametrize("handler", [fail_when_cancelled, fail_beside_the_cancellation, fail_twice_beside_it])
async def test_error_beside_another_reason_counts_once(start_stream, connect, mock_clock, handler, end, caplog):
    server = await start_stream(handler, options=NO_BUDGET, timeouts=TIMES)
    client = await connect(server)
    await client.send(b"x")
    await settle()
    match end:
        case "client-gone":
            client.reset()
        case "grace":
            server.begin_shutdown()
            await advance(mock_clock, 2)
        case "second-signal":
            server.force_shutdown("second-signal")
    await settle()
    assert server.statistics().reasons == {end: 1}
    assert server.statistics().errors == 1
    assert len(caplog.records) == 1


@pytest.mark.parametrize("handler", [fail_when_cancelled, fail_beside_the_cancellation])
async def test_error_beside_a_timeout_counts_once(start_stream, connect, mock_clock, handler, caplog):
    """Of both the error is what somebody has to look at."""
    server = await start_stream(handler, options=NO_BUDGET, timeouts=TIMES)
    await connect(server)
    await settle()
    await advance(mock_clock, 5 + LATE)
    assert sum(server.statistics().reasons.values()) == 1
    assert server.statistics().errors == 1
    assert len(caplog.records) == 1


async def test_error_beside_the_loss_of_its_client_counts_once(start_http, connect, caplog):
    """A body that raises something of its own because its client has gone."""

    async def write(send):
        try:
            while True:
                await send(b"x" * 100_000)
        finally:
            raise LookupError("a bug")

    async def handler(request):
        return Response(body=write)

    server = await start_http(handler, options=NO_BUDGET)
    client = await connect(server, receive_buffer=4096)
    await client.send(GET)
    await settle()
    client.reset()
    await settle()
    assert len(caplog.records) == 1
    assert server.statistics().errors == 1
    assert sum(server.statistics().reasons.values()) == 1


async def test_what_ends_well_counts_nowhere(start_http, start_stream, connect, mock_clock):
    async def fine(given):
        return Response(body=b"fine")

    async def converse(stream):
        while await stream.receive_some():
            pass

    http, stream = await start_http(fine), await start_stream(converse, timeouts=TIMES)
    client, silent, gone, leaving = [await connect(server) for server in (http, stream, stream, stream)]
    await client.ask(get("/", "Connection: close"))
    await gone.send(b"x")
    await settle()
    gone.reset()
    leaving.finish()
    await advance(mock_clock, 5 + LATE)
    await settle()
    assert silent.peek() in ("fin", "reset")
    assert stream.statistics().reasons == {"client-gone": 1, "handler-returned": 1, "idle-timeout": 1}
    assert (http.statistics().errors, stream.statistics().errors) == (0, 0)


async def read_on(request):
    async for _piece in request.body:
        pass


async def fail_late():
    try:
        await trio.sleep_forever()
    finally:
        raise LookupError("a bug")


async def fail_beside_the_loss(request):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_on, request)
        nursery.start_soon(fail_late)


async def answer_and_fail_beside_the_loss(request):
    async def write(send):
        await send(b"one")
        await fail_beside_the_loss(request)

    return Response(body=write)


@pytest.mark.parametrize(("handler", "count"), [(fail_beside_the_loss, 0), (answer_and_fail_beside_the_loss, 1)])
async def test_error_of_an_http_handler_beside_the_loss_of_its_client_is_logged_and_that_of_a_body_counts(
    start_http, connect, handler, count, caplog
):
    """A handler's error costs its request, and so it does where nobody is left to hear of it."""
    server = await start_http(handler, options=NO_BUDGET)
    client = await connect(server)
    await client.send(get("/", "Content-Length: 10", method="POST") + b"12345")
    await settle()
    client.reset()
    await settle()
    assert server.statistics().reasons == {"client-gone": 1}
    assert len(caplog.records) == 1
    assert server.statistics().errors == count
