"""`Transport.unflushed_bytes` and `wait_flushed` over every kind of transport, and `Connection.flush` above."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

from ktrio.net.deadlines import WINDOW, Phase, Timeouts
from ktrio.net.errors import ConnectionGone
from tests.net.peers import Ends, over_bounded, over_sockets
from tests.net.transporting import content, fill, send_some

over_slow_streams = pytest.mark.parametrize("ends", ["lockstep-stream", "socket-stream", "tls-stream"], indirect=True)
over_streams = pytest.mark.parametrize(
    "ends", ["memory-stream", "lockstep-stream", "socket-stream", "tls-stream"], indirect=True
)
SMALL = {"send_buffer": 4096, "receive_buffer": 4096}


async def flush(transport) -> None:
    while transport.unflushed_bytes():
        await transport.wait_flushed()


async def test_new_transport_has_nothing_to_flush(ends: Ends) -> None:
    transport, _peer = ends()
    assert transport.unflushed_bytes() == 0
    with assert_checkpoints():
        await transport.wait_flushed()


async def test_flush_is_over_when_the_peer_has_everything(ends: Ends) -> None:
    transport, peer = ends()
    send_some(transport, b"last words")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(flush, transport)
        assert await peer.read(10) == b"last words"
    assert transport.unflushed_bytes() == 0


@over_sockets
async def test_on_sockets_flush_is_no_wait(ends: Ends) -> None:
    """The kernel delivers what it has, whatever becomes of the process."""
    transport, _peer = ends(**SMALL) if ends.kind == "tcp" else ends()
    await fill(transport)
    assert transport.unflushed_bytes() == 0
    with assert_checkpoints():
        await transport.wait_flushed()  # its peer never reads


@over_slow_streams
async def test_what_the_peer_has_not_taken_is_unflushed(ends: Ends) -> None:
    transport, peer = ends(**SMALL)
    taken = await fill(transport)
    unflushed = transport.unflushed_bytes()
    assert 0 < unflushed <= len(taken)
    assert await peer.read(len(taken)) == taken
    await wait_all_tasks_blocked()
    assert transport.unflushed_bytes() == 0


@pytest.mark.parametrize("ends", ["lockstep-stream", "tls-stream"], indirect=True)
async def test_what_is_being_given_to_the_stream_is_unflushed(ends: Ends) -> None:
    """The buffer is empty, and yet the stream still has to take the last piece."""
    transport, peer = ends()
    send_some(transport, b"x" * 100)
    await wait_all_tasks_blocked()
    assert transport.unflushed_bytes() == 100
    assert await peer.read(100) == b"x" * 100
    await wait_all_tasks_blocked()
    assert transport.unflushed_bytes() == 0


@over_slow_streams
async def test_wait_flushed_waits_until_some_have_left(ends: Ends, nursery: trio.Nursery) -> None:
    transport, peer = ends(**SMALL)
    taken = await fill(transport)
    seen = [transport.unflushed_bytes()]

    async def watch() -> None:
        while seen[-1]:
            await transport.wait_flushed()
            seen.append(transport.unflushed_bytes())

    nursery.start_soon(watch)
    await wait_all_tasks_blocked()
    assert len(seen) == 1
    assert await peer.read(len(taken)) == taken
    await wait_all_tasks_blocked()
    assert seen == sorted(set(seen), reverse=True)
    assert len(seen) > 2
    assert seen[-1] == 0


@over_slow_streams
async def test_wait_flushed_that_is_cancelled_loses_nothing(ends: Ends) -> None:
    transport, peer = ends(**SMALL)
    taken = await fill(transport)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(transport.wait_flushed)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert await peer.read(len(taken)) == taken


@over_slow_streams
async def test_fin_behind_it_does_not_disturb_a_flush(ends: Ends) -> None:
    transport, peer = ends()
    send_some(transport, content(5000))
    transport.shutdown_write()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(flush, transport)
        assert await peer.read(5000) == content(5000)


@pytest.mark.parametrize("end", ["close", "abort"])
async def test_nothing_is_flushed_of_a_transport_that_was_closed_here(ends: Ends, end: str) -> None:
    transport, _peer = ends()
    send_some(transport, b"x")
    getattr(transport, end)()
    assert transport.unflushed_bytes() == 0
    with pytest.raises(ConnectionGone, match="EBADF"):
        await transport.wait_flushed()


@over_slow_streams
@pytest.mark.parametrize("end", ["close", "abort"])
async def test_closing_wakes_whoever_waits_for_a_flush(ends: Ends, end: str) -> None:
    transport, _peer = ends(**SMALL)
    await fill(transport)
    met = []

    async def wait() -> None:
        with pytest.raises(ConnectionGone) as caught:
            await transport.wait_flushed()
        met.append(caught.value.errno_name)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        assert met == []
        getattr(transport, end)()
    assert met == ["EBADF"]


@over_slow_streams
async def test_loss_of_the_peer_wakes_whoever_waits_for_a_flush(ends: Ends) -> None:
    transport, peer = ends(**SMALL)
    await fill(transport)

    async def wait() -> None:
        with pytest.raises(ConnectionGone, match="EPIPE"):
            await flush(transport)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        if ends.kind == "socket-stream":
            peer.reset()
        else:
            await trio.aclose_forcefully(peer.stream)
    assert transport.unflushed_bytes() == 0


# ---- Connection.flush


async def test_flushed_connection_waits_for_nothing_more(connect_any) -> None:
    connection, peer = connect_any()
    await connection.send_all(b"x" * 3000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.flush)
        assert await peer.read(3000) == b"x" * 3000
    assert not connection.is_waiting_to_write


@over_bounded
async def test_flush_waits_under_the_write_phase_and_says_so(connect_any, mock_clock: MockClock, ends: Ends) -> None:
    """Like every wait for a peer: parked, watched for progress, bounded."""
    connection, _peer = connect_any(timeouts=Timeouts(write=30))
    connection.deadlines.disarm(Phase.HEAD)
    told: list[bool] = []
    connection.tell_waits_to_write(told.append)
    sent = connection.send_nowait(b"x" * 3000)
    assert sent == 3000
    await wait_all_tasks_blocked()
    with trio.CancelScope() as scope:
        connection.deadlines.attach(scope)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.flush)
            await wait_all_tasks_blocked()
            if ends.kind in ("tcp", "unix", "socket-stream"):  # a kernel has taken it all
                assert told in ([], [True, False])
                return
            assert (told, connection.is_waiting_to_write) == ([True], True)
            mock_clock.jump(30 - WINDOW)
            await wait_all_tasks_blocked()
            assert not scope.cancel_called
            mock_clock.jump(2 * WINDOW)
            await wait_all_tasks_blocked()
    assert scope.cancelled_caught
    assert connection.deadlines.expired(trio.current_time()) is Phase.WRITE
    assert (told, connection.is_waiting_to_write) == ([True, False], False)


@over_streams
async def test_flush_parks_while_it_waits_and_not_if_there_is_nothing(connect_any) -> None:
    connection, peer = connect_any()
    entered = []

    class Waiting:
        async def __aenter__(self) -> None:
            entered.append("in")

        async def __aexit__(self, *_error: object) -> None:
            entered.append("out")

    connection.waiting = Waiting
    await connection.flush()
    assert entered == []
    await connection.send_all(b"x" * 3000)
    entered.clear()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.flush)
        assert await peer.read(3000) == b"x" * 3000
    assert entered == ["in", "out"] * (len(entered) // 2)
