from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import AsyncIterator, Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from ktrio.net.connection import LINGER_BYTES, Connection, State
from ktrio.net.deadlines import WINDOW, Phase, Timeouts
from ktrio.net.errors import ConnectionGone
from ktrio.net.socket_transport import SocketTransport
from tests.net.peers import RESETTING, over_bounded, over_half_closing, over_resetting


class Books:
    """A `waiting` that counts who is parked, and can hold back those who return."""

    def __init__(self) -> None:
        self.parked = 0
        self.times = 0
        self.may_return = trio.Event()
        self.may_return.set()

    @contextlib.asynccontextmanager
    async def waiting(self) -> AsyncIterator[None]:
        self.parked += 1
        self.times += 1
        try:
            yield
        finally:
            self.parked -= 1
        await self.may_return.wait()


# ---- at birth


async def test_a_new_connection_is_quiet_and_its_head_is_due(connect, mock_clock: MockClock) -> None:
    connection, _ = connect(timeouts=Timeouts(head=7))
    assert connection.state is State.NEW
    assert connection.is_quiet
    assert connection.deadlines.next() == (Phase.HEAD, trio.current_time() + 7)
    assert connection.opened == trio.current_time()
    assert (connection.bytes_received, connection.bytes_sent) == (0, 0)
    assert (connection.reason, connection.cut, connection.owes_answer, connection.scope) == ("", False, False, None)


async def test_repr_shows_peer_state_age_and_counts(connect, mock_clock: MockClock) -> None:
    connection, peer = connect()
    mock_clock.jump(2.5)
    peer.send(b"four")
    await connection.receive()
    connection.become(State.HEAD)
    assert repr(connection) == "<Connection 127.0.0.1:1000 head age=2.5 received=4 sent=0>"
    connection.end("error")
    connection.close()
    assert repr(connection) == "<Connection 127.0.0.1:1000 closed age=2.5 received=4 sent=0 reason=error>"


# ---- state and reason


async def test_become_tells_the_state_that_was_left(connect) -> None:
    connection, _ = connect()
    told: list[tuple[Connection, State, State]] = []
    connection.on_state = lambda which, previous: told.append((which, previous, which.state))
    for state in (State.HEAD, State.HEAD, State.HANDLING, State.IDLE):
        connection.become(state)
    assert connection.is_quiet
    connection.close()
    connection.close()
    connection.become(State.IDLE)
    assert told == [
        (connection, State.NEW, State.HEAD),
        (connection, State.HEAD, State.HANDLING),
        (connection, State.HANDLING, State.IDLE),
        (connection, State.IDLE, State.CLOSED),
    ]
    assert connection.state is State.CLOSED
    assert not connection.is_quiet


async def test_end_keeps_the_first_reason(connect) -> None:
    connection, _ = connect()
    connection.end("idle-timeout")
    connection.end("error")
    assert connection.reason == "idle-timeout"


# ---- receive


@over_half_closing
async def test_receive_gives_what_is_there_then_waits_then_the_end(connect_any) -> None:
    connection, peer = connect_any()
    peer.send(b"hello")
    assert await connection.receive(3) == b"hel"
    assert await connection.receive() == b"lo"
    received: list[bytes] = []
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def receive() -> None:
            received.append(await connection.receive())

        await wait_all_tasks_blocked()
        assert received == []
        peer.send(b"later")
    assert received == [b"later"]
    assert not connection.half_closed
    peer.finish()
    assert await connection.receive() == b""
    assert await connection.receive() == b""
    assert connection.half_closed
    assert connection.bytes_received == 10


@over_half_closing
async def test_receive_nowait_tells_nothing_from_the_end(connect_any) -> None:
    connection, peer = connect_any()
    assert connection.receive_nowait() is None
    peer.send(b"x")
    await wait_all_tasks_blocked()
    assert connection.receive_nowait() == b"x"
    peer.finish()
    await wait_all_tasks_blocked()
    assert connection.receive_nowait() == b""
    assert connection.half_closed


@pytest.mark.parametrize("wait_first", [False, True])
async def test_receive_checkpoints_whether_or_not_there_is_anything(connect, wait_first: bool) -> None:
    connection, peer = connect()
    peer.send(b"x")
    with trio.testing.assert_checkpoints():
        assert await connection.receive(wait_first=wait_first) == b"x"
    peer.finish()
    with trio.testing.assert_checkpoints():
        assert await connection.receive(wait_first=wait_first) == b""


@pytest.mark.parametrize("wait_first", [False, True])
async def test_a_cancelled_receive_takes_nothing(connect_any, wait_first: bool) -> None:
    connection, peer = connect_any()
    peer.send(b"kept")
    await wait_all_tasks_blocked()
    with trio.CancelScope() as scope:
        scope.cancel()
        await connection.receive(wait_first=wait_first)
    assert scope.cancelled_caught
    assert connection.bytes_received == 0
    assert connection.receive_nowait() == b"kept"


async def test_receive_parks_only_while_it_waits(connect_any) -> None:
    connection, peer = connect_any()
    books = Books()
    connection.waiting = books.waiting
    peer.send(b"x")
    await wait_all_tasks_blocked()
    await connection.receive()
    assert books.times == 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.receive)
        await wait_all_tasks_blocked()
        assert books.parked == 1
        peer.send(b"y")
    assert (books.parked, books.times) == (0, 1)


async def test_bytes_stay_in_the_transport_if_the_way_back_onto_the_books_is_cancelled(connect_any) -> None:
    connection, peer = connect_any()
    books = Books()
    books.may_return = trio.Event()
    connection.waiting = books.waiting
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.receive)
        await wait_all_tasks_blocked()
        peer.send(b"in time")
        await wait_all_tasks_blocked()
        assert books.parked == 0
        nursery.cancel_scope.cancel()
    assert connection.receive_nowait() == b"in time"


async def test_receive_bounds_the_wait_for_the_peer_and_nothing_else(connect_any, mock_clock: MockClock) -> None:
    connection, peer = connect_any()
    connection.deadlines.disarm(Phase.HEAD)
    books = Books()
    books.may_return = trio.Event()
    connection.waiting = books.waiting
    received: list[bytes] = []

    async def receive() -> None:
        received.append(await connection.receive(phase=Phase.IDLE, until=trio.current_time() + 5))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await wait_all_tasks_blocked()
        assert connection.deadlines.next() == (Phase.IDLE, trio.current_time() + 5)
        peer.send(b"in time")
        await wait_all_tasks_blocked()
        # It waits for its slot: not the peer's time.
        assert received == []
        assert connection.deadlines.next() is None
        books.may_return.set()
    assert received == [b"in time"]


async def test_receive_that_expires_leaves_its_phase_armed_for_whoever_asks(connect_any, mock_clock: MockClock) -> None:
    connection, _ = connect_any()
    connection.deadlines.disarm(Phase.HEAD)
    until = trio.current_time() + 5
    with trio.CancelScope() as scope:
        connection.deadlines.attach(scope)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: connection.receive(phase=Phase.BODY, until=until))
            await wait_all_tasks_blocked()
            mock_clock.jump(5 + WINDOW)
    assert scope.cancelled_caught
    assert connection.deadlines.expired(trio.current_time()) is Phase.BODY


async def test_receive_cancelled_by_another_scope_leaves_no_phase_armed(connect_any, mock_clock: MockClock) -> None:
    connection, _ = connect_any()
    connection.deadlines.disarm(Phase.HEAD)
    with trio.CancelScope() as scope:
        connection.deadlines.attach(scope)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: connection.receive(phase=Phase.BODY, until=trio.current_time() + 5))
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    assert connection.deadlines.next() is None


async def test_ask_to_leave_cancels_the_scope_with_the_reason(connect_any) -> None:
    connection, _ = connect_any()
    connection.ask_to_leave("draining")
    assert connection.leaving == "draining"
    with trio.CancelScope() as connection.scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.receive)
            await wait_all_tasks_blocked()
            connection.ask_to_leave("made-room")
    assert connection.scope.cancelled_caught
    assert connection.leaving == "made-room"
    assert connection.reason == ""


@over_resetting
async def test_receive_from_a_peer_that_reset_raises(connect_any) -> None:
    connection, peer = connect_any()
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def receive() -> None:
            with pytest.raises(ConnectionGone) as caught:
                await connection.receive()
            assert caught.value.errno_name == "ECONNRESET"

        await wait_all_tasks_blocked()
        peer.reset()


# ---- closed by somebody else


@over_bounded
@pytest.mark.parametrize("operation", ["receive", "send"])
async def test_closing_wakes_the_task_that_waits_and_it_gets_connection_gone(connect_any, operation: str) -> None:
    connection, _ = connect_any()

    async def use() -> None:
        with pytest.raises(ConnectionGone) as caught:
            await (connection.receive() if operation == "receive" else connection.send_all(bytes(10**8)))
        assert caught.value.errno_name == "EBADF"
        assert not connection.is_waiting_to_write

    async with trio.open_nursery() as nursery:
        nursery.start_soon(use)
        await wait_all_tasks_blocked()
        connection.close()


async def test_every_use_of_a_closed_connection_raises_connection_gone_or_is_nothing(connect_any, tmp_path) -> None:
    connection, _ = connect_any()
    connection.close()
    with open(tmp_path / "file", "wb+") as file:
        file.write(b"content")
        file.flush()
        for use in (
            lambda: connection.receive(),
            lambda: connection.receive(wait_first=True),
            lambda: connection.send_all(b"x"),
            lambda: connection.send_all([b"x", b"y"]),
            lambda: connection.send_file(file.fileno(), 0, 7),
        ):
            with pytest.raises(ConnectionGone):
                await use()
    for use_now in (connection.receive_nowait, lambda: connection.send_nowait(b"x")):
        with pytest.raises(ConnectionGone):
            use_now()
    connection.shutdown_write()
    connection.watch_peer()
    connection.unwatch_peer()
    connection.note_progress(trio.current_time())
    with trio.testing.assert_checkpoints():
        await connection.linger()
    connection.abort()
    assert connection.state is State.CLOSED


async def test_a_connection_closed_while_its_task_waits_for_a_slot_is_gone(connect_any) -> None:
    connection, peer = connect_any()
    books = Books()
    books.may_return = trio.Event()
    connection.waiting = books.waiting
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def use() -> None:
            with pytest.raises(ConnectionGone):
                await connection.receive()

        await wait_all_tasks_blocked()
        peer.send(b"x")
        await wait_all_tasks_blocked()
        connection.close()
        books.may_return.set()


# ---- ends


async def test_close_tells_the_peer_an_end_and_abort_a_reset(connect) -> None:
    connection, peer = connect()
    connection.close()
    assert await peer.read(1) == b""
    connection, peer = connect()
    connection.send_nowait(b"lost")
    connection.abort()
    connection.abort()
    with pytest.raises(ConnectionResetError):
        await peer.read(10)


@pytest.mark.parametrize("ends", ["unix", *RESETTING], indirect=True)
async def test_abort_of_a_connection_that_is_already_reset_is_a_close(connect_any) -> None:
    connection, peer = connect_any()
    peer.reset()
    connection.abort()
    assert connection.state is State.CLOSED


@over_half_closing
async def test_shutdown_write_sends_the_end_after_what_was_sent(connect_any) -> None:
    connection, peer = connect_any()
    connection.send_nowait(b"last")
    connection.shutdown_write()
    connection.shutdown_write()
    assert await peer.read(100) == b"last"
    peer.send(b"still heard")
    assert await connection.receive() == b"still heard"


@over_resetting
async def test_shutdown_write_of_a_reset_connection_is_nothing(connect_any) -> None:
    connection, peer = connect_any()
    peer.reset()
    await wait_all_tasks_blocked()
    with pytest.raises(ConnectionGone):
        connection.receive_nowait()
    connection.shutdown_write()


async def test_shutdown_write_does_not_hide_a_bug(connect) -> None:
    class Odd(socket.socket):
        def shutdown(self, how: int) -> None:
            raise OSError(errno.EINVAL, "")

    connection, _ = connect()
    connection.close()
    with Odd() as odd:
        broken = Connection(
            SocketTransport(odd, connect.readiness),
            peer="p",
            local="l",
            timeouts=Timeouts(),
            now=0.0,
            draining=connect.draining,
        )
        with pytest.raises(OSError, match="22"):
            broken.shutdown_write()


# ---- linger


@over_half_closing
async def test_linger_drops_what_comes_until_the_peers_fin(connect_any, mock_clock: MockClock) -> None:
    connection, peer = connect_any()
    books = Books()
    connection.waiting = books.waiting
    connection.deadlines.arm(Phase.IDLE, 1e9)
    peer.send(b"unread")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.linger)
        await wait_all_tasks_blocked()
        assert connection.state is State.LINGERING
        assert connection.deadlines.next() == (Phase.LINGER, trio.current_time() + 1)
        assert books.parked == 1
        assert await peer.read(1) == b""  # our side is shut down
        peer.send(b"more")
        await wait_all_tasks_blocked()
        peer.finish()
    assert connection.deadlines.next() is None
    assert connection.bytes_received == 10


@over_half_closing
async def test_linger_lets_the_response_arrive_although_input_was_unread(connect_any) -> None:
    connection, peer = connect_any()
    peer.send(b"x" * 10_000)
    await connection.send_all(b"the answer")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.linger)
        await wait_all_tasks_blocked()
        peer.finish()
    connection.close()
    assert await peer.read(100) == b"the answer"


@pytest.mark.parametrize(("draining", "seconds"), [(False, 1.0), (True, 0.3)])
async def test_linger_ends_in_time(connect_any, mock_clock: MockClock, draining: bool, seconds: float) -> None:
    if draining:
        connect_any.draining.set()
    connection, _ = connect_any()
    done = trio.Event()

    async def linger() -> None:
        await connection.linger()
        done.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(linger)
        await wait_all_tasks_blocked()
        mock_clock.jump(seconds - 0.01)
        await wait_all_tasks_blocked()
        assert not done.is_set()
        mock_clock.jump(0.01)
        await wait_all_tasks_blocked()
        assert done.is_set()
    assert connection.deadlines.next() is None


async def test_linger_ends_after_so_many_bytes(connect) -> None:
    connection, peer = connect()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.linger)
        sent = 0
        while sent < LINGER_BYTES:
            sent += peer.sock.send(bytes(LINGER_BYTES - sent))
            await wait_all_tasks_blocked()
    assert connection.bytes_received == LINGER_BYTES


@over_resetting
async def test_linger_with_a_peer_that_resets_is_over(connect_any) -> None:
    connection, peer = connect_any()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.linger)
        await wait_all_tasks_blocked()
        peer.reset()


async def test_linger_cut_short_by_the_connections_scope_leaves_its_phase_armed(
    connect_any, mock_clock: MockClock
) -> None:
    connection, _ = connect_any()
    with trio.CancelScope() as scope:
        connection.deadlines.attach(scope)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.linger)
            await wait_all_tasks_blocked()
            mock_clock.jump(1 + WINDOW)  # a stalled loop: both scopes end in one turn
    assert scope.cancelled_caught
    assert connection.deadlines.expired(trio.current_time()) is Phase.LINGER


# ---- watching the peer


@pytest.fixture
def watched(connect_any) -> Callable[[], tuple[Connection, object]]:
    def make():
        connection, peer = connect_any()
        connection.deadlines.disarm(Phase.HEAD)
        connection.scope = trio.CancelScope()
        connection.watch_peer()
        return connection, peer

    return make


@over_half_closing
async def test_a_half_close_is_given_time_for_the_head_of_an_answer(watched, mock_clock: MockClock) -> None:
    connection, peer = watched()
    await wait_all_tasks_blocked()
    assert connection.deadlines.next() is None
    peer.finish()
    await wait_all_tasks_blocked()
    assert connection.half_closed
    assert connection.deadlines.next() == (Phase.HALF_CLOSED, trio.current_time() + 2)
    assert not connection.scope.cancel_called
    connection.begin_answer()
    assert connection.deadlines.next() is None
    connection.unwatch_peer()


@over_half_closing
async def test_a_half_close_after_the_answer_has_begun_arms_nothing(watched) -> None:
    connection, peer = watched()
    connection.begin_answer()
    peer.finish()
    await wait_all_tasks_blocked()
    assert connection.half_closed
    assert connection.deadlines.next() is None
    connection.unwatch_peer()
    # The next handler's answer has not begun.
    connection.owe_answer()
    connection.watch_peer()
    await wait_all_tasks_blocked()
    assert connection.deadlines.next() is not None
    connection.unwatch_peer()
    assert connection.deadlines.next() is None


@over_resetting
async def test_a_reset_ends_the_handler_at_once_with_the_reason(watched) -> None:
    connection, peer = watched()
    with connection.scope as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            await wait_all_tasks_blocked()
            peer.reset()
    assert scope.cancelled_caught
    assert connection.reason == "client-gone"
    connection.unwatch_peer()


@over_resetting
async def test_a_reset_before_a_worker_has_the_connection_is_remembered(connect_any) -> None:
    connection, peer = connect_any()
    connection.watch_peer()
    peer.reset()
    await wait_all_tasks_blocked()
    assert connection.reason == "client-gone"
    connection.close()


@over_resetting
async def test_unwatch_peer_and_close_silence(watched) -> None:
    connection, peer = watched()
    other, other_peer = watched()
    connection.unwatch_peer()
    other.close()
    peer.reset()
    other_peer.reset()
    await wait_all_tasks_blocked()
    assert (connection.reason, other.reason) == ("", "")


@over_half_closing
async def test_a_half_closed_timeout_can_be_told_after_its_scope(connect_any, mock_clock: MockClock) -> None:
    connection, peer = connect_any()
    connection.deadlines.disarm(Phase.HEAD)
    with trio.CancelScope() as scope:
        connection.scope = scope
        connection.deadlines.attach(scope)
        connection.watch_peer()
        try:
            peer.finish()
            await wait_all_tasks_blocked()
            mock_clock.jump(2 + WINDOW)
            await trio.sleep_forever()
        finally:
            connection.unwatch_peer()
    assert connection.deadlines.expired(trio.current_time()) is Phase.HALF_CLOSED
