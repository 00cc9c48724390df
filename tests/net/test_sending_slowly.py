"""The allowance of a peer that takes its bytes slowly, over every kind of transport that has a ceiling.

How exactly progress is known differs: a kernel socket is asked, of a stream a slice at a time is known.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from ktrio.net.deadlines import WINDOW, Phase, Timeouts
from ktrio.net.stream_transport import SEND_SLICE
from tests.net.peers import over_bounded

MUCH = 32 * 1024 * 1024
STEP = 5  # seconds between two looks at the progress, as the server takes them
SMALL = {"send_buffer": 16384, "receive_buffer": 4096}  # so that a kernel in between hides little


@contextlib.asynccontextmanager
async def sending(connection) -> AsyncIterator[trio.CancelScope]:
    """A task sends inside the connection's scope, and by now it waits for the peer."""
    connection.deadlines.disarm(Phase.HEAD)
    scope = trio.CancelScope()
    connection.deadlines.attach(scope)

    async def send() -> None:
        with scope:
            await connection.send_all(bytes(MUCH))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await wait_all_tasks_blocked()
        yield scope
        nursery.cancel_scope.cancel()


async def pass_step(connection, peer, clock: MockClock, bytes_read: int) -> None:
    if bytes_read:
        await peer.drop(bytes_read)
    await wait_all_tasks_blocked()
    clock.jump(STEP)
    await wait_all_tasks_blocked()
    connection.note_progress(trio.current_time())
    await wait_all_tasks_blocked()


@over_bounded
async def test_a_slow_steady_reader_lives_and_is_given_up_once_it_stops(connect_any, mock_clock: MockClock) -> None:
    connection, peer = connect_any(**SMALL)
    if connection._transport.undelivered_bytes() is None:
        pytest.skip("this kernel does not tell what it still holds")
    async with sending(connection) as scope:
        for _ in range(24):
            await pass_step(connection, peer, mock_clock, 2 * SEND_SLICE)
            assert not scope.cancel_called
        stopped = trio.current_time()
        while not scope.cancel_called:
            await pass_step(connection, peer, mock_clock, 0)
            assert trio.current_time() - stopped < 30 + 2 * STEP
    assert connection.deadlines.expired(trio.current_time()) is Phase.WRITE
    # What it had taken before does not buy it time without an end, nor is it given up early.
    assert trio.current_time() - stopped >= 30 - STEP


@over_bounded
async def test_a_trickle_is_given_up_whatever_carries_it(connect_any, mock_clock: MockClock) -> None:
    connection, peer = connect_any(**SMALL)
    async with sending(connection) as scope:
        waited = 0
        while not scope.cancel_called:
            await pass_step(connection, peer, mock_clock, 5)  # 1 B/s
            waited += STEP
            assert waited < 60
    assert waited >= 30


@over_bounded
async def test_a_peer_above_the_lowest_rate_lives_and_below_it_does_not(connect_any, mock_clock: MockClock) -> None:
    # A unix socket frees what was read in pieces of up to 64 KiB: a rate that moves one within the time.
    for rate, lives in ((3000, True), (100, False)):
        connection, peer = connect_any(timeouts=Timeouts(write=30, lowest_rate=240), **SMALL)
        if connection._transport.undelivered_bytes() is None:
            pytest.skip("this kernel does not tell what it still holds")
        async with sending(connection) as scope:
            for _ in range(40):
                await pass_step(connection, peer, mock_clock, rate * STEP)
                if scope.cancel_called:
                    break
            assert scope.cancel_called is not lives, rate
        if not lives:
            assert connection.deadlines.expired(trio.current_time()) is Phase.WRITE
        connection.abort()


@over_bounded
async def test_a_send_that_was_given_up_leaves_the_connection_able_to_end(connect_any, mock_clock: MockClock) -> None:
    connection, _ = connect_any(**SMALL)
    async with sending(connection) as scope:
        mock_clock.jump(30 + WINDOW)
        await wait_all_tasks_blocked()
        assert scope.cancelled_caught
    connection.end("write-timeout")
    connection.abort()
    await wait_all_tasks_blocked()
    assert connection.state.value == "closed"
