"""The loss of a connection is nobody's error, whatever the handler is made of, and hides nothing else."""

from __future__ import annotations

import pytest
import trio
import trio.lowlevel

from ktrio import Response, ServerOptions
from tests.server.harness import GET, get, post, settle


def with_company(fn):
    """The handler's work in a task of its own, beside one that sleeps: a loss comes out in a group, beside a cancel."""

    async def handler(given):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fn, given)
            nursery.start_soon(trio.sleep_forever)

    return handler


async def read_body(request):
    async for _piece in request.body:
        pass


async def receive_all(stream):
    async for _piece in stream:
        pass


async def receive_until_draining(stream):
    while await stream.receive_unless_draining():
        pass


STREAM_HANDLERS = [receive_all, receive_until_draining, with_company(receive_all), with_company(receive_until_draining)]
SOME = ServerOptions(max_errors=5)


async def reset_ten(server, connect, first_bytes):
    for _ in range(10):
        client = await connect(server)
        await client.send(first_bytes)
        await settle()
        client.reset()
        await settle()


async def test_resets_of_clients_of_a_handler_with_a_nursery_are_no_errors(start_http, connect, caplog):
    handler = with_company(read_body)
    server = await start_http(handler, options=SOME)
    await reset_ten(server, connect, post(b"12345")[:-1])
    assert server.statistics().reasons == {"client-gone": 10}
    assert (server.statistics().errors, caplog.records) == (0, [])


@pytest.mark.parametrize("handler", STREAM_HANDLERS)
async def test_resets_of_peers_of_a_stream_handler_are_no_errors(start_stream, connect, handler, caplog):
    server = await start_stream(handler, options=SOME)
    await reset_ten(server, connect, b"hello")
    assert server.statistics().reasons == {"client-gone": 10}
    assert (server.statistics().errors, caplog.records) == (0, [])


async def test_bug_beside_a_loss_is_logged(start_http, connect, caplog):
    """A ConnectionGone among what happened hides nothing."""

    async def handler(request):
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read_body, request)
                try:
                    await trio.sleep_forever()
                finally:
                    raise ValueError("a bug")
        return Response()

    server = await start_http(handler)
    client = await connect(server)
    await client.send(post(b"12345")[:-1])
    await settle()
    client.reset()
    await settle()
    assert ["a bug" in repr(record.exc_info[1]) for record in caplog.records] == [True]
    assert server.statistics().reasons == {"client-gone": 1}


async def test_slow_client_of_a_writer_that_gives_up_on_it_spends_no_budget(start_http, connect, mock_clock, caplog):
    """Its answer breaks off in the middle of a piece: the client's doing, logged, and no sign of a broken server."""

    async def write(send):
        with trio.move_on_after(5):
            while True:
                await send(b"x" * (1 << 20))

    async def handler(request):
        return Response(body=write if request.target == "/big" else b"small")

    server = await start_http(handler, options=SOME)
    clients = [await connect(server, receive_buffer=4096) for _ in range(10)]
    for client in clients:
        await client.send(get("/big"))
    await settle()
    mock_clock.jump(6)
    await settle()
    assert server.statistics().reasons == {"error": 10}
    assert not server.statistics().draining
    assert (await (await connect(server)).ask(GET)).body == b"small"
    assert len(caplog.records) == 10
