"""What a handler may rely on: its values stay its own, its context too, and it may even stop the server."""

from __future__ import annotations

import contextvars

import pytest
import trio

import ktrio
from ktrio import Headers, Response
from tests.server.harness import GET, advance, get, settle


async def test_response_used_again_and_again_stays_as_it_was(start_http, connect):
    """The protocol adds its fields to what it sends, not to the handler's object."""
    constant = Response(headers=Headers({"x-mine": "1"}), body=b"constant")

    async def handler(request):
        return constant

    client = await connect(await start_http(handler))
    heads = [sorted(name for name, _ in (await client.ask()).fields) for _ in range(3)]
    assert heads[0] == heads[1] == heads[2]
    assert len(set(heads[0])) == len(heads[0])
    assert list(constant.headers) == [("x-mine", "1")]


async def test_fields_of_the_handler_come_as_given_and_in_order(start_http, connect):
    """RFC 9110 section 5.3: fields of one name keep their order; Set-Cookie must not be joined."""

    async def handler(request):
        headers = Headers({"set-cookie": "a=1"})
        headers.add("set-cookie", "b=2")
        headers.add("x-latin", "caf\u00e9")
        headers.add("x-empty", "")
        return Response(headers=headers)

    client = await connect(await start_http(handler))
    reply = await client.ask()
    assert reply.get_all("set-cookie") == ["a=1", "b=2"]
    assert reply["x-latin"] == "caf\u00e9"
    assert reply["x-empty"] == ""


async def test_date_of_the_handler_is_not_doubled(start_http, connect):
    """RFC 9110 section 6.6.1: one Date."""

    async def handler(request):
        return Response(headers=Headers({"date": "Sun, 06 Nov 1994 08:49:37 GMT", "server": "mine"}))

    client = await connect(await start_http(handler))
    reply = await client.ask()
    assert len(reply.get_all("date")) == 1
    assert len(reply.get_all("server")) == 1


async def test_request_shows_what_was_sent(start_http, connect):
    requests = []

    async def handler(request):
        requests.append(request)
        return Response()

    client = await connect(await start_http(handler))
    await client.ask(get("/a%20b?c=d", "X-One: 1", "x-one: 2", "X-Pad: \t padded \t", version="1.1", method="DELETE"))
    (request,) = requests
    assert (request.method, request.target, request.path, request.query) == ("DELETE", "/a%20b?c=d", "/a%20b", "c=d")
    assert request.version == "1.1"
    assert request.headers.get_all("X-ONE") == ["1", "2"]
    assert request.headers.get("x-pad") == "padded"
    assert not request.draining.is_set()
    assert await request.read() == b""


async def test_requests_of_one_connection_are_different_objects(start_http, connect):
    """What one request is told must not change when the next one comes: a handler may keep it."""
    requests = []

    async def handler(request):
        requests.append(request)
        return Response()

    client = await connect(await start_http(handler))
    for index in range(3):
        await client.ask(get(f"/{index}", f"X-Index: {index}"))
    assert [request.target for request in requests] == ["/0", "/1", "/2"]
    assert [request.headers.get("x-index") for request in requests] == ["0", "1", "2"]


async def test_headers_a_handler_changes_do_not_reach_the_next_request(start_http, connect):
    """The same bytes parse to the same values, every time, for everybody."""
    seen = []

    async def handler(request):
        seen.append(list(request.headers))
        request.headers.add("x-added", "1")
        return Response()

    server = await start_http(handler)
    for _ in range(2):
        client = await connect(server)
        await client.ask(get("/", "A: b"))
        await client.ask(get("/", "A: b"))
    assert seen == [[("host", "x"), ("a", "b")]] * 4


async def test_context_of_one_connection_is_not_seen_by_another(start_http, connect):
    variable = contextvars.ContextVar("variable", default="unset")

    async def handler(request):
        found = variable.get()
        variable.set("set")
        return Response(body=found.encode())

    server = await start_http(handler)
    for _ in range(5):
        client = await connect(server)
        assert (await client.ask()).body == b"unset"
        client.close()
        await settle()


@pytest.mark.parametrize("how", ["begin_shutdown", "shutdown in a task"])
async def test_handler_may_shut_its_server_down_and_its_answer_is_sent(start_http, connect, nursery, how):
    server = None

    async def handler(request):
        if how == "begin_shutdown":
            server.begin_shutdown()
        else:
            nursery.start_soon(server.shutdown)
        await request.draining.wait()
        return Response(body=b"going down")

    server = await start_http(handler)
    client = await connect(server)
    reply = await client.ask()
    assert (reply.body, reply.says_close) == (b"going down", True)
    assert await client.read_end() == "fin"
    await settle()
    assert (server.statistics().open, server.statistics().cut) == (0, 0)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
async def test_exception_that_means_the_program_ends_the_server(connect, error):
    """It goes to the supervisor, and out through whoever serves; nothing is left behind."""
    begun = trio.Event()

    async def handler(request):
        if request.target == "/other":
            begun.set()
            await trio.sleep_forever()
        raise error

    async def run(task_status):
        with pytest.raises(BaseExceptionGroup) as caught:
            await ktrio.serve_http(handler, "127.0.0.1:0", task_status=task_status)
        assert caught.value.subgroup(error) is not None

    async with trio.open_nursery() as nursery:
        server = await nursery.start(run)
        other, client = await connect(server), await connect(server)
        await other.send(get("/other"))
        await begun.wait()
        await client.send(GET)
        nursery.start_soon(_let_time_pass, nursery.cancel_scope)
        for each in [client, other]:
            try:
                await each.read_to_end()
            except Exception:
                continue
        while server.statistics().open:
            await settle()
        nursery.cancel_scope.deadline = trio.current_time() + 5


async def _let_time_pass(scope):
    while not scope.cancel_called:
        await advance(trio.lowlevel.current_clock(), 0.5)


async def test_handler_may_be_a_bound_method_or_an_object(start_http, connect):
    """Anything callable that gives an awaitable is a handler."""

    class Site:
        async def __call__(self, request):
            return Response(body=b"object")

        async def method(self, request):
            return Response(body=b"method")

    for handler, body in [(Site(), b"object"), (Site().method, b"method")]:
        assert (await (await connect(await start_http(handler))).ask()).body == body


async def test_handler_that_answers_after_its_peer_half_closed_and_left_is_no_error(start_http, connect, caplog):
    gate = trio.Event()

    async def handler(request):
        await gate.wait()
        return Response(body=b"x" * 1_000_000)

    server = await start_http(handler)
    client = await connect(server)
    await client.send(GET)
    await settle()
    client.close()
    gate.set()
    await settle()
    assert server.statistics().open == 0
    assert caplog.records == []
