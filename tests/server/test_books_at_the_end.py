"""What the books say while a server ends, and how the roster ends what nobody runs."""

from __future__ import annotations

import socket

import pytest
import trio

import ktrio
from ktrio import WQ_UNBOUND, QueueOptions, Response, ServerOptions, Timeouts, Work
from ktrio.net.connection import Connection, State
from ktrio.net.readiness import Readiness
from ktrio.net.socket_transport import SocketTransport
from ktrio.server.roster import CONNECTIONS_A_TURN, Roster
from ktrio.workqueue import DestroyedError
from tests.server.harness import GET, Client, advance, get, settle, time_passing


async def test_cut_answer_is_counted_while_its_handler_still_holds_on(start_http, connect):
    """Whoever looks on during the last second sees what it has cost."""
    gate = trio.Event()

    async def stubborn(request):
        with trio.CancelScope(shield=True):
            await gate.wait()
        return Response()

    server = await start_http(stubborn)
    client = await connect(server)
    await client.send(GET)
    await settle()
    server.force_shutdown("second-signal")
    await settle()
    statistics = server.statistics()
    assert (statistics.open, statistics.owing, statistics.cut) == (1, 1, 1)
    gate.set()
    await settle()
    assert (server.statistics().open, server.statistics().cut) == (0, 1)


async def test_quiet_connection_is_never_cut(start_http, connect, mock_clock):
    """A grace of nothing ends all at once; only who owes an answer counts."""

    async def block(request):
        await trio.sleep_forever()

    server = await start_http(block)
    silent, begun, busy = [await connect(server) for _ in range(3)]
    await begun.send(GET[:5])
    await busy.send(GET)
    await settle()
    server.force_shutdown("second-signal")
    await silent.read_to_end()
    await settle()
    await advance(mock_clock, 1)
    statistics = server.statistics()
    assert (statistics.open, statistics.cut) == (0, 1)


async def test_cancelled_server_on_a_queue_given_to_it_tells_its_handlers_that_it_drains(
    start_http, connect, mock_clock
):
    """It was never asked to shut down; what a handler does last must know all the same that nobody new comes."""
    seen = []

    async def handler(request):
        try:
            await trio.sleep_forever()
        finally:
            seen.append((request.draining.is_set(), server.draining.is_set(), server.cutting.is_set()))

    async with time_passing(mock_clock), ktrio.open_supervisor() as supervisor:
        queue = supervisor.alloc_workqueue("given", WQ_UNBOUND)
        async with trio.open_nursery() as nursery:
            server = await start_http(handler, workqueue=queue, within=nursery)
            await (await connect(server)).send(GET)
            await settle()
            nursery.cancel_scope.cancel()
    assert seen == [(True, True, True)]


async def test_backlog_taken_in_at_a_shutdown_gets_no_more_slots_than_there_are(start_http, connect):
    """Who has sent a request waits for a slot like anybody; who has said nothing needs none, and goes at once."""
    gate = trio.Event()
    seen = []

    async def handler(request):
        seen.append(request.target)
        await gate.wait()
        return Response()

    server = await start_http(handler, queue=QueueOptions(max_active=1), options=ServerOptions(max_connections=1))
    busy = await connect(server)
    await busy.send(get("/busy"))
    await settle()
    silent, asking = await connect(server), await connect(server)
    await asking.send(get("/asking"))
    await settle()
    assert server.statistics().accepted == 1
    server.begin_shutdown()
    assert await silent.read_end() == "fin"
    await settle()
    assert (seen, asking.is_open) == (["/busy"], True)
    gate.set()
    for client in (busy, asking):
        assert (await client.read_reply()).says_close


async def test_echo_that_drains_counts_whom_it_has_served(start_echo, connect):
    """Whoever got all its bytes back has been answered; whoever said nothing has not."""
    server = await start_echo()
    served, silent = await connect(server), await connect(server)
    await served.send(b"hello")
    assert await served.read(5) == b"hello"
    await settle()
    server.begin_shutdown()
    assert [await client.read_end() for client in (served, silent)] == ["fin", "fin"]
    await settle()
    statistics = server.statistics()
    assert (statistics.answered, statistics.reasons) == (1, {"draining": 2})


async def test_connection_that_leaves_echo_by_its_own_fin_is_answered_once(start_echo, connect):
    server = await start_echo()
    client = await connect(server)
    await client.send(b"hello")
    client.finish()
    assert await client.read_to_end() == b"hello"
    await settle()
    assert (server.statistics().answered, server.statistics().reasons) == (1, {"peer-closed": 1})


async def test_new_echo_connection_has_a_moment_before_it_must_make_room(start_echo, connect, mock_clock):
    """A client's first bytes come right behind its handshake; who is silent for longer leaves."""
    server = await start_echo(options=ServerOptions(max_connections=1))
    silent = await connect(server)
    await settle()
    newcomer = await connect(server)
    await newcomer.send(b"hello")
    await settle()
    assert (server.statistics().made_room, silent.is_open) == (0, True)
    await advance(mock_clock, 0.1)
    assert await newcomer.read(5) == b"hello"
    assert await silent.read_end() == "fin"


async def test_server_whose_queue_takes_nothing_ends_though_many_wait_to_be_accepted(caplog):
    """The first finds out, the others are closed as well, and why is raised in the end."""

    async def hello(request):
        return Response(body=b"hello")

    async def serve(task_status):
        with pytest.raises(DestroyedError):
            await ktrio.serve_http(hello, "127.0.0.1:0", workqueue=queue, task_status=task_status)

    async with ktrio.open_supervisor() as supervisor:
        queue = supervisor.alloc_workqueue("given", WQ_UNBOUND)
        async with trio.open_nursery() as nursery:
            server = await nursery.start(serve)
            await queue.destroy()
            # All at once: the server must not come to the first before the last is in its backlog.
            where = (server.addresses[0].host, server.addresses[0].port)
            clients = [Client(socket.create_connection(where)) for _ in range(3)]
            await server.wait_ended()
    assert [client.peek() in ("fin", "reset") for client in clients] == [True] * 3
    for client in clients:
        client.close()
    assert (server.statistics().open, server.statistics().answered) == (0, 0)
    assert len(caplog.records) == 1


# -- The roster alone


@pytest.fixture
def pair():
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    with near, far:
        yield near, far


def connection_on(sock: socket.socket) -> Connection:
    return Connection(
        SocketTransport(sock, Readiness()),
        peer="peer",
        local="local",
        timeouts=Timeouts(),
        now=trio.current_time(),
        draining=trio.Event(),
    )


async def nothing() -> None:
    raise AssertionError("nobody runs it")


async def test_connection_whose_work_is_neither_pending_nor_running_is_closed_with_the_rest(pair):
    """No connection outlives its server, whatever became of its work item."""
    near, far = pair
    roster = Roster()
    connection = connection_on(near)
    roster.add(connection, Work(nothing))
    await roster.cancel_all("grace", is_cut=True)
    assert far.recv(1) == b""
    assert (len(roster), connection.state, connection.reason) == (0, State.CLOSED, "grace")
    await roster.wait_empty()


class BetweenTurns(trio.abc.Instrument):
    """Calls `fn` once, between two turns of the loop."""

    def __init__(self, fn) -> None:
        self.fn = fn

    def after_io_wait(self, timeout: float) -> None:
        fn, self.fn = self.fn, None
        if fn is not None:
            fn()


async def test_connection_whose_request_comes_while_the_others_are_told_is_not_asked_to_leave():
    """Telling many takes several turns of the loop; who was quiet in the first may be at work in the second."""
    roster = Roster()
    pairs = [socket.socketpair() for _ in range(CONNECTIONS_A_TURN + 2)]
    connections = [connection_on(near) for near, _far in pairs]
    for connection in connections:
        roster.add(connection, Work(nothing))
        roster.taken(connection)
    instrument = BetweenTurns(lambda: connections[-1].become(State.HANDLING))
    trio.lowlevel.add_instrument(instrument)
    await roster.tell_draining()
    trio.lowlevel.remove_instrument(instrument)
    assert instrument.fn is None
    assert [connection.leaving for connection in connections[-2:]] == ["draining", ""]
    for connection, (_near, far) in zip(connections, pairs, strict=True):
        connection.close()
        far.close()


async def test_connection_is_accounted_for_once_however_often_it_is_removed(pair):
    near, _far = pair
    roster = Roster()
    connection = connection_on(near)
    roster.add(connection, Work(nothing))
    connection.end("answered")
    connection.answered = 3
    connection.close()
    for _ in range(2):
        roster.remove(connection)
    statistics = roster.statistics()
    assert (statistics.open, statistics.accepted, statistics.answered) == (0, 1, 3)
    assert statistics.reasons == {"answered": 1}


async def test_connection_that_the_roster_has_forgotten_changes_no_books(pair):
    """Closed is closed: what its last words may still do to its state concerns nobody."""
    near, _far = pair
    roster = Roster()
    connection = connection_on(near)
    roster.add(connection, Work(nothing))
    roster.remove(connection)
    connection.become(State.IDLE)
    assert (roster.statistics().quiet, roster.may_leave()) == (0, 0)
    connection.close()
