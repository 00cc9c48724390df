"""A server that does nothing but fail ends and says so; a bad connection or a bad handler among good ones ends none."""

from __future__ import annotations

import logging
import math
from functools import partial

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

import ktrio
from ktrio import BrokenServerError, NotFound, Response, ServerOptions
from ktrio.server.error_budget import ErrorBudget
from ktrio.server.errors import one_line
from ktrio.workqueue import WQ_UNBOUND, open_supervisor
from tests.server.harness import GET, Ended, advance, get, settle

# -- The decision -----------------------------------------------------------------------------------------------------


def test_error_that_is_one_too_many_within_the_time_exceeds_the_budget():
    budget = ErrorBudget(3, 10)
    assert [budget.spend(now) for now in (0, 4, 10)] == [None, None, 10]


def test_errors_that_take_their_time_exceed_nothing():
    budget = ErrorBudget(3, 10)
    assert [budget.spend(now) for now in range(0, 100, 6)] == [None] * 17


def test_errors_that_come_faster_again_are_counted_from_the_first_of_the_last_few():
    budget = ErrorBudget(3, 10)
    assert [budget.spend(now) for now in (0, 9, 18, 19)] == [None, None, None, 10]


def test_one_good_end_forgives_all_errors_before_it():
    budget = ErrorBudget(3, 10)
    assert [budget.spend(now) for now in (0, 1)] == [None, None]
    budget.forgive()
    assert [budget.spend(now) for now in (2, 3, 4)] == [None, None, 2]


def test_budget_of_one_error_is_exceeded_by_the_first():
    assert ErrorBudget(1, 10).spend(7) == 0


def test_no_budget_is_never_exceeded():
    budget = ErrorBudget(None, 10)
    assert {budget.spend(0) for _ in range(1000)} == {None}
    budget.forgive()
    assert "errors=0/None" in repr(budget)


@given(
    most=st.integers(1, 5),
    within=st.integers(1, 8),
    steps=st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=40),
)
def test_budget_agrees_with_its_definition(most, within, steps):
    """Seconds since the last outcome, and whether this one is an error; the definition keeps the whole history."""
    budget, now, row = ErrorBudget(most, within), 0, []
    for seconds, is_error in steps:
        now += seconds
        if not is_error:
            budget.forgive()
            row = []
            continue
        row.append(now)
        last = row[-most:]
        is_exceeded = len(last) == most and last[-1] - last[0] <= within
        assert budget.spend(now) == (last[-1] - last[0] if is_exceeded else None)
        assert f"errors={len(last)}/{most}" in repr(budget)


@pytest.mark.parametrize(
    "options",
    [
        {"max_errors": 0},
        {"max_errors": -3},
        {"errors_within": 0},
        {"errors_within": -2.5},
        {"errors_within": math.inf},
        {"errors_within": math.nan},
    ],
    ids=repr,
)
def test_option_out_of_range_is_refused_with_its_name_and_value(options):
    [(name, value)] = options.items()
    with pytest.raises(ValueError, match=f"{name}.*{value}"):
        ServerOptions(**options)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("a\nb\t c"), "ValueError: a b c"),
        (KeyError(), "KeyError"),
        (ExceptionGroup("x", [ExceptionGroup("y", [OSError("disk")]), ValueError("z")]), "OSError: disk"),
        (ValueError("x" * 500), "ValueError: " + "x" * 200 + "…"),
    ],
    ids=["lines", "silent", "group", "long"],
)
def test_error_in_a_message_is_one_line_of_bounded_length(error, line):
    assert one_line(error) == line


# -- The server -------------------------------------------------------------------------------------------------------

OPTIONS = ServerOptions(max_errors=3, errors_within=10)
CLOSE = "Connection: close"


class Failing:
    """A handler that fails but for `/good`, `/lost` and `/slow`."""

    def __init__(self) -> None:
        self.gate = trio.Event()

    async def __call__(self, request):
        match request.target:
            case "/good":
                return Response(body=b"good")
            case "/lost":
                raise NotFound("It is not here.")
            case "/slow":
                await self.gate.wait()
                return Response(body=b"slow")
            case "/torn":
                return Response(body=torn())
            case "/unsendable":
                return Response(99)
            case "/group":
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(fail)
            case "/none":
                pass
            case _:
                await fail()
        return None


async def fail():
    raise ZeroDivisionError("a bug\nin two lines")


async def torn():
    yield b"beginning"
    await fail()


class Run:
    """One run of a server that may raise; `over` is set when it has ended."""

    def __init__(self) -> None:
        self.error = None
        self.over = trio.Event()

    async def __call__(self, serve, *, task_status):
        try:
            await serve(task_status=task_status)
        except BrokenServerError as error:
            self.error = error
        finally:
            self.over.set()


@pytest.fixture
def run():
    return Run()


@pytest.fixture
def handler():
    return Failing()


@pytest.fixture
async def server(servers, handler, run):
    serve = partial(ktrio.serve_http, handler, "127.0.0.1:0", options=OPTIONS)
    return await servers.start(run, serve)


async def ask(connect, server, target):
    """The status of the answer on a connection of its own; 0 if it broke off."""
    client = await connect(server)
    await client.send(get(target, CLOSE))
    try:
        status = (await client.read_reply()).status
    except Ended:
        status = 0
    await settle()
    return status


@pytest.mark.parametrize("target", ["/", "/group", "/none", "/unsendable", "/torn"])
async def test_errors_beyond_the_budget_end_the_server_with_one_error(connect, server, run, caplog, target):
    statuses = [await ask(connect, server, target) for _ in range(3)]
    assert statuses == [0 if target == "/torn" else 500] * 3
    await run.over.wait()
    assert isinstance(run.error, BrokenServerError)
    assert server.broken is run.error
    message = str(run.error)
    assert message.startswith("3 unexpected errors in 0.0 s, and nothing was answered in between; the last one was ")
    assert "\n" not in message
    assert isinstance(run.error.__cause__, Exception)
    critical = [record for record in caplog.records if record.levelno == logging.CRITICAL]
    assert len(critical) == 1
    assert message in critical[0].getMessage()


async def test_last_error_is_named_and_is_the_cause(connect, server, run):
    for target in ("/none", "/none", "/"):
        await ask(connect, server, target)
    await run.over.wait()
    assert "ZeroDivisionError: a bug in two lines;" in str(run.error)
    assert isinstance(run.error.__cause__, ZeroDivisionError)


async def test_errors_below_the_budget_end_nothing(connect, server, run, mock_clock):
    for _ in range(5):
        for _ in range(2):
            assert await ask(connect, server, "/") == 500
        await advance(mock_clock, 10.1)
    assert await ask(connect, server, "/good") == 200
    assert not run.over.is_set()


@pytest.mark.parametrize(("target", "status"), [("/good", 200), ("/lost", 404)])
async def test_answer_in_between_forgives_the_errors(connect, server, run, target, status):
    """The bug of one handler ends no server that serves others; a 404 on purpose is an answer like any other."""
    for _ in range(10):
        for _ in range(2):
            assert await ask(connect, server, "/") == 500
        assert await ask(connect, server, target) == status
    assert (server.broken, run.over.is_set()) == (None, False)


async def test_answers_on_one_kept_connection_count_like_any_others(connect, server, run):
    client = await connect(server)
    for target in ("/", "/", "/good", "/", "/"):
        await client.ask(get(target))
    await settle()
    assert server.broken is None
    await client.ask(get("/"))
    await run.over.wait()
    assert run.error is not None


async def test_connections_that_end_in_peace_behind_a_500_forgive_nothing(connect, server, run):
    """Nor do those that say nothing at all, as the probes of a balancer."""
    for _ in range(3):
        probe = await connect(server)
        probe.close()
        client = await connect(server)
        assert (await client.ask(get("/"))).status == 500
        client.close()
        await settle()
    await run.over.wait()
    assert run.error is not None


async def test_bad_requests_neither_spend_nor_forgive(connect, server, run):
    for before in ("/", "/", None, None, None):
        if before is not None:
            await ask(connect, server, before)
        client = await connect(server)
        await client.send(b"nonsense\r\n\r\n")
        assert (await client.read_reply()).status == 400
        client.close()
    assert server.broken is None
    await ask(connect, server, "/")
    await run.over.wait()


async def test_clients_that_leave_are_no_errors(connect, server, run, handler):
    for _ in range(10):
        client = await connect(server)
        await client.send(get("/slow"))
        await settle()
        client.reset()
        await settle()
    assert (server.broken, run.over.is_set()) == (None, False)


async def test_error_whose_client_has_left_counts(connect, server, run):
    """It is the handler that is broken, whoever reads its 500."""
    for _ in range(3):
        client = await connect(server)
        client.send_nowait(get("/"))
        client.finish()
        client.close()
        await settle()
    await run.over.wait()
    assert run.error is not None


async def test_shutdown_of_a_broken_server_is_a_graceful_one(connect, server, run, handler):
    slow, idle = await connect(server), await connect(server)
    await slow.send(get("/slow"))
    await settle()
    for _ in range(3):
        await ask(connect, server, "/")
    assert server.draining.is_set()
    assert await idle.read_end() == "fin"
    assert not run.over.is_set()
    handler.gate.set()
    reply = await slow.read_reply()
    assert (reply.body, reply.says_close) == (b"slow", True)
    await run.over.wait()
    assert run.error is not None
    assert server.statistics().cut == 0


async def test_grace_of_a_broken_server_ends(connect, server, run, mock_clock):
    slow = await connect(server)
    await slow.send(get("/slow"))
    await settle()
    for _ in range(3):
        await ask(connect, server, "/")
    await advance(mock_clock, 8)
    assert (await slow.read_reply()).status == 503
    await advance(mock_clock, 1)
    await run.over.wait()
    assert run.error is not None
    assert server.statistics().cut == 1


async def test_errors_while_it_shuts_down_anyway_make_no_failure_of_it(servers, connect, run):
    gate = trio.Event()

    async def handler(request):
        await gate.wait()
        await fail()

    server = await servers.start(run, partial(ktrio.serve_http, handler, "127.0.0.1:0", options=OPTIONS))
    clients = [await connect(server) for _ in range(5)]
    for client in clients:
        await client.send(GET)
    await settle()
    server.begin_shutdown()
    await settle()
    gate.set()
    for client in clients:
        assert (await client.read_reply()).status == 500
    await run.over.wait()
    assert (run.error, server.broken) == (None, None)


async def test_server_without_a_budget_goes_on(start_http, connect, handler):
    server = await start_http(handler, options=ServerOptions(max_errors=None))
    for _ in range(200):
        client = await connect(server)
        assert (await client.ask(get("/", CLOSE))).status == 500
    assert server.broken is None
    assert (await (await connect(server)).ask(get("/good"))).status == 200


async def test_default_budget_is_a_hundred_errors(servers, connect, handler, run):
    server = await servers.start(run, partial(ktrio.serve_http, handler, "127.0.0.1:0"))
    client = await connect(server)
    for _ in range(99):
        assert (await client.ask(get("/"))).status == 500
    assert server.broken is None
    assert (await client.ask(get("/"))).status == 500
    await run.over.wait()
    assert str(run.error).startswith("100 unexpected errors in ")


async def test_error_is_raised_by_itself_on_a_queue_of_others(servers, connect, handler, run):
    """And the supervisor that the server shares does not notice."""
    async with open_supervisor() as supervisor:
        shared = supervisor.alloc_workqueue("shared", WQ_UNBOUND)
        serve = partial(ktrio.serve_http, handler, "127.0.0.1:0", options=OPTIONS, workqueue=shared)
        server = await servers.start(run, serve)
        for _ in range(3):
            await ask(connect, server, "/")
        await run.over.wait()
        assert isinstance(run.error, BrokenServerError)
        assert await shared.run(pow, 2, 3) == 8


async def test_echo_forgives_with_every_connection_that_ends_in_peace(start_echo, connect):
    server = await start_echo(options=ServerOptions(max_errors=1))
    client = await connect(server)
    await client.send(b"x")
    client.finish()
    assert await client.read_to_end() == b"x"
    await settle()
    assert server.broken is None


async def test_errors_of_protocols_spend_the_budget(servers, connect, run, monkeypatch):
    """A bug of ours in the midst of a connection, not only what a handler raises."""

    async def converse(self):
        await fail()

    monkeypatch.setattr("ktrio.protocols.echo.Echo.converse", converse)
    server = await servers.start(run, partial(ktrio.serve_echo, "127.0.0.1:0", options=OPTIONS))
    for _ in range(3):
        client = await connect(server)
        await client.read_end()
        await settle()
    await run.over.wait()
    assert isinstance(run.error, BrokenServerError)
    assert server.statistics().errors == 3
