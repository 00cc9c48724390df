"""What a handler of plain streams meets: its beginning, its errors, the going of its peer, and its end."""

from __future__ import annotations

import logging

import pytest
import trio

import ktrio
from ktrio import BrokenServerError, QueueOptions, ServerOptions
from tests.server.harness import Ended, advance, settle, trickle

MIB = 1 << 20


async def echo_lines(stream):
    """Answers each piece, until the end."""
    async for piece in stream:
        await stream.send_all(piece)


# -- The beginning ----------------------------------------------------------------------------------------------------


async def test_server_may_speak_first(start_stream, connect):
    async def greet(stream):
        await stream.send_all(b"220 at your service\r\n")
        assert await stream.receive_some() == b"QUIT\r\n"
        await stream.send_all(b"221 bye\r\n")

    server = await start_stream(greet)
    client = await connect(server)
    assert await client.read(21) == b"220 at your service\r\n"
    await client.send(b"QUIT\r\n")
    assert await client.read_to_end() == b"221 bye\r\n"
    await settle()
    statistics = server.statistics()
    assert (statistics.open, statistics.answered, statistics.reasons) == (0, 1, {"handler-returned": 1})


async def test_handler_knows_both_ends(start_stream, connect):
    async def tell(stream):
        await stream.send_all(f"{stream.peer} {stream.local}".encode())

    server = await start_stream(tell)
    client = await connect(server)
    host, port = client.sock.getsockname()
    local = server.addresses[0]
    assert (await client.read_to_end()).decode() == f"{host}:{port} {local.host}:{local.port}"


async def test_handler_over_a_unix_socket(start_stream, connect, tmp_path):
    client = await connect(await start_stream(echo_lines, f"unix:{tmp_path}/socket"))
    await client.send(b"hello")
    assert await client.read(5) == b"hello"
    client.finish()
    assert await client.read_end() == "fin"


async def test_handler_may_be_a_bound_method(start_stream, connect):
    class Protocol:
        async def handle(self, stream):
            await stream.send_all(b"bound")

    assert await (await connect(await start_stream(Protocol().handle))).read_to_end() == b"bound"


async def test_connection_at_work_is_shown_with_its_counts(start_stream, connect):
    server = await start_stream(echo_lines)
    client = await connect(server)
    await client.send(b"12345")
    await client.read(5)
    await settle()
    [shown] = server.connections()
    assert (shown.bytes_received, shown.bytes_sent, shown.reason, shown.phase) == (5, 5, "", "idle")
    assert server.statistics().quiet == 0


@pytest.mark.parametrize("serve", [ktrio.serve_stream, ktrio.serve_protocol])
async def test_server_without_an_address_is_refused(serve):
    with pytest.raises(ValueError, match="where to listen"):
        await serve(echo_lines)


@pytest.mark.parametrize("serve", [ktrio.serve_stream, ktrio.serve_protocol])
async def test_queue_options_beside_a_queue_are_refused(serve):
    async with ktrio.open_supervisor() as supervisor:
        shared = supervisor.alloc_workqueue("shared", ktrio.WQ_UNBOUND)
        with pytest.raises(ValueError, match=r"queue.*workqueue"):
            await serve(echo_lines, "127.0.0.1:0", queue=QueueOptions(), workqueue=shared)


@pytest.mark.parametrize("handler", [None, "handler"])
async def test_handler_that_cannot_be_called_costs_its_connection(start_stream, connect, handler, caplog):
    server = await start_stream(handler)
    client = await connect(server)
    assert await client.read_end() == "reset"
    assert server.statistics().errors == 1
    assert len(caplog.records) == 1


# -- The end ----------------------------------------------------------------------------------------------------------


async def test_all_that_was_sent_arrives_before_the_end(start_stream, connect):
    async def pour(stream):
        await stream.send_all(b"x" * 4 * MIB)

    client = await connect(await start_stream(pour))
    assert len(await client.read_to_end()) == 4 * MIB


@pytest.mark.parametrize("close", [False, True], ids=["returns", "closes"])
async def test_unread_input_does_not_destroy_what_was_sent_last(start_stream, connect, close, mock_clock):
    """Closing a socket with unread input resets the connection."""

    async def answer(stream):
        await stream.send_all(b"answer")
        if close:
            await stream.send_eof()

    server = await start_stream(answer)
    client = await connect(server)
    client.send_nowait(b"x" * 50_000)
    await settle()
    assert await client.read_to_end() == b"answer"
    client.finish()
    await settle()
    assert (server.statistics().open, server.statistics().reasons) == (0, {"handler-returned": 1})


async def test_input_that_comes_after_the_answer_does_not_destroy_it(start_stream, connect):
    async def answer(stream):
        await stream.send_all(b"answer")

    server = await start_stream(answer)
    client = await connect(server)
    await settle()
    await client.send(b"late")
    await settle()
    assert await client.read_to_end() == b"answer"


async def test_peer_that_keeps_sending_is_not_read_for_ever(start_stream, connect, mock_clock):
    async def answer(stream):
        await stream.send_all(b"answer")

    server = await start_stream(answer)
    client = await connect(server)
    client.send_nowait(b"x" * 50_000)
    await trickle(mock_clock, 1.5, step=0.5)
    assert server.statistics().open == 0


async def test_handler_that_has_read_all_leaves_without_a_wait(start_stream, connect):
    async def answer(stream):
        await stream.receive_some()
        await stream.send_all(b"answer")

    server = await start_stream(answer)
    client = await connect(server)
    await client.send(b"x")
    client.finish()
    assert await client.read_to_end() == b"answer"
    await settle()
    assert server.statistics().open == 0


async def test_handler_may_close_and_go_on(start_stream, connect):
    """Its peer sees the end at once; a shutdown waits for the rest."""
    gate, over = trio.Event(), trio.Event()

    async def close_first(stream):
        await stream.send_all(b"bye")
        await stream.aclose()
        await gate.wait()
        over.set()

    server = await start_stream(close_first)
    client = await connect(server)
    assert await client.read_to_end() == b"bye"
    client.close()
    await settle()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.shutdown)
        await settle()
        gate.set()
    assert over.is_set()
    assert (server.statistics().cut, server.statistics().errors) == (0, 0)


# -- Errors -----------------------------------------------------------------------------------------------------------


def raised_in(record: logging.LogRecord) -> BaseException:
    assert record.exc_info is not None
    assert record.exc_info[1] is not None
    return record.exc_info[1]


def group():
    return ExceptionGroup("outer", [ExceptionGroup("inner", [OSError("disk"), KeyError("key")]), ValueError("value")])


@pytest.mark.parametrize("error", [ValueError("mine"), group(), trio.TooSlowError()], ids=["plain", "group", "trio"])
@pytest.mark.parametrize("moment", ["first step", "after a wait", "after an answer"])
async def test_error_is_logged_once_as_it_is_and_costs_its_connection(start_stream, connect, error, moment, caplog):
    """The peer sees a reset, so it cannot take what it got for all there is; everybody else is served."""

    async def fail(stream):
        if moment != "first step":
            request = await stream.receive_some()
            if request == b"good":
                await stream.send_all(b"served")
                return
        if moment == "after an answer":
            await stream.send_all(b"half of it")
        raise error

    server = await start_stream(fail)
    client = await connect(server)
    if moment != "first step":
        await client.send(b"bad")
    with pytest.raises(Ended) as caught:
        await client.read_to_end()
    assert caught.value.how == "reset"
    await settle()
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert raised_in(record) is error
    host, port = client.sock.getsockname()
    assert f"{host}:{port}" in record.getMessage()
    statistics = server.statistics()
    assert (statistics.errors, statistics.answered, statistics.reasons) == (1, 0, {"error": 1})
    if moment != "first step":
        other = await connect(server)
        await other.send(b"good")
        assert await other.read_to_end() == b"served"


async def test_error_in_a_child_task_ends_the_handler_and_is_logged_with_its_group(start_stream, connect, caplog):
    async def child():
        raise ValueError("of a child")

    async def handler(stream):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)
            await stream.receive_some()

    server = await start_stream(handler)
    assert await (await connect(server)).read_end() == "reset"
    [record] = caplog.records
    assert isinstance(raised_in(record), ExceptionGroup)
    assert "of a child" in repr(raised_in(record))


async def test_second_task_that_receives_is_an_error_of_the_handler(start_stream, connect, caplog):
    async def handler(stream):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.receive_some)
            nursery.start_soon(stream.receive_some)

    server = await start_stream(handler)
    assert await (await connect(server)).read_end() == "reset"
    [record] = caplog.records
    assert [type(each) for each in raised_in(record).exceptions] == [trio.BusyResourceError]
    assert server.statistics().errors == 1


async def test_using_a_stream_that_the_handler_has_closed_is_an_error(start_stream, connect, caplog):
    async def handler(stream):
        await stream.aclose()
        await stream.send_all(b"x")

    server = await start_stream(handler)
    assert await (await connect(server)).read_end() in ("fin", "reset")
    await settle()
    assert isinstance(raised_in(caplog.records[0]), trio.ClosedResourceError)
    assert server.statistics().errors == 1


async def test_handlers_that_do_nothing_but_fail_end_the_server(connect, caplog):
    async def fail(stream):
        raise ValueError("again")

    options = ServerOptions(max_errors=3)
    with pytest.RaisesGroup(BrokenServerError):
        async with trio.open_nursery() as nursery:

            async def run(task_status):
                await ktrio.serve_stream(fail, "127.0.0.1:0", options=options, task_status=task_status)

            server = await nursery.start(run)
            for _ in range(3):
                assert await (await connect(server)).read_end() == "reset"


async def test_handler_that_returns_forgives_the_errors_before_it(start_stream, connect, caplog):
    async def handler(stream):
        if await stream.receive_some() == b"bad":
            raise ValueError("bad")

    server = await start_stream(handler, options=ServerOptions(max_errors=2))
    for word in [b"bad", b"good"] * 4:
        client = await connect(server)
        await client.send(word)
        await client.read_end()
        await settle()
    assert not server.statistics().draining
    assert server.statistics().errors == 4


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("own", [True, False], ids=["own supervisor", "shared supervisor"])
async def test_exception_that_means_the_program_ends_the_server(connect, error, own, mock_clock):
    """It goes to the supervisor, and out through whoever serves; nothing is left behind."""
    begun = trio.Event()
    servers = []

    async def handler(stream):
        if await stream.receive_some() == b"other":
            begun.set()
            await trio.sleep_forever()
        raise error

    async def serve(queue, task_status):
        await ktrio.serve_stream(handler, "127.0.0.1:0", workqueue=queue, task_status=task_status)

    async def run():
        async with trio.open_nursery() as nursery:
            if own:
                await converse(await nursery.start(serve, None))
                return
            async with ktrio.open_supervisor() as supervisor:
                queue = supervisor.alloc_workqueue("shared", ktrio.WQ_UNBOUND)
                await converse(await nursery.start(serve, queue))

    async def converse(server):
        servers.append(server)
        other, client = await connect(server), await connect(server)
        await other.send(b"other")
        await begun.wait()
        await client.send(b"now")
        await trio.sleep_forever()

    async def let_time_pass():
        while True:
            await advance(mock_clock, 0.5)

    async with trio.open_nursery() as outer:
        outer.start_soon(let_time_pass)
        with pytest.raises(BaseExceptionGroup) as caught:
            await run()
        assert caught.value.subgroup(error) is not None
        assert caught.value.split((error, trio.Cancelled))[1] is None
        outer.cancel_scope.cancel()
    assert servers[0].statistics().open == 0


async def test_ctrl_c_may_interrupt_the_handler_and_never_the_stream(start_stream, connect):
    protected = trio.lowlevel.currently_ki_protected
    seen = {}

    async def child():
        seen["child"] = protected()

    async def handler(stream):
        seen["begun"] = protected()
        await stream.receive_some()
        seen["received"] = protected()
        await stream.send_all(b"x")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)
        seen["end"] = protected()

    client = await connect(await start_stream(handler))
    await client.send(b"x")
    assert await client.read_to_end() == b"x"
    assert seen == dict.fromkeys(["begun", "received", "child", "end"], False)
