"""Every sentence of `ktrio.net.transport.Transport` about receiving and waiting, over every kind of transport.

Sending is in `test_transports_sending`, watching and the ends in `test_transports_ending`.
"""

from __future__ import annotations

import pytest
import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from ktrio.net.errors import ConnectionGone
from tests.net.peers import Ends, over_bounded, over_bounded_half_closing, over_half_closing, over_resetting
from tests.net.transporting import CEILING, content, fill, receive, send

# ---- receive_nowait


async def test_receive_nowait_of_nothing_is_none(ends: Ends) -> None:
    transport, _ = ends()
    assert transport.receive_nowait(1000) is None
    await wait_all_tasks_blocked()
    assert transport.receive_nowait(1000) is None
    assert not transport.is_closed


async def test_receive_nowait_gives_what_is_there_as_bytes(ends: Ends) -> None:
    transport, peer = ends()
    peer.send(b"hello")
    await transport.wait_readable()
    data = transport.receive_nowait(1000)
    assert data == b"hello"
    assert type(data) is bytes
    assert transport.receive_nowait(1000) is None


async def test_receive_nowait_gives_no_more_than_asked_for_and_keeps_the_rest(ends: Ends) -> None:
    transport, peer = ends()
    peer.send(b"0123456789")
    await transport.wait_readable()
    await wait_all_tasks_blocked()
    assert transport.receive_nowait(1) == b"0"
    assert transport.receive_nowait(4) == b"1234"
    assert transport.receive_nowait(5) == b"56789"
    assert transport.receive_nowait(5) is None


async def test_the_end_comes_behind_the_data_and_stays(ends: Ends) -> None:
    transport, peer = ends()
    peer.send(b"last words")
    peer.close()
    assert await receive(transport, 4) == b"last"
    assert await receive(transport, 1000) == b" words"
    for _ in range(3):
        assert transport.receive_nowait(1000) == b""
    await wait_all_tasks_blocked()
    assert transport.receive_nowait(1000) == b""


@over_half_closing
async def test_the_end_of_the_peers_side_is_not_the_end_of_ours(ends: Ends) -> None:
    transport, peer = ends()
    peer.send(b"question")
    peer.finish()
    assert await receive(transport, 1000) == b"question"
    await send(transport, b"answer")
    assert await peer.read(6) == b"answer"
    assert transport.receive_nowait(1) == b""


@over_resetting
async def test_receiving_from_a_peer_that_has_reset_raises(ends: Ends) -> None:
    transport, peer = ends()
    peer.send(b"alive")
    assert await receive(transport, 5) == b"alive"
    peer.reset()
    with pytest.raises(ConnectionGone) as caught:
        await receive(transport, 1)
    assert caught.value.errno_name != "EBADF"
    assert not transport.is_closed


# ---- wait_readable


async def test_wait_readable_waits_until_there_are_bytes(ends: Ends) -> None:
    transport, peer = ends()
    said: list[bytes | None] = []

    async def wait() -> None:
        await transport.wait_readable()
        said.append(transport.receive_nowait(1000))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        assert said == []
        peer.send(b"x")
    assert said == [b"x"]


async def test_wait_readable_waits_again_once_everything_was_received(ends: Ends) -> None:
    transport, peer = ends()
    said: list[bytes | None] = []

    async def wait() -> None:
        for _ in range(3):
            await transport.wait_readable()
            said.append(transport.receive_nowait(1000))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        for number, data in enumerate((b"a", b"b", b"c")):
            await wait_all_tasks_blocked()
            assert len(said) == number
            peer.send(data)
    assert said == [b"a", b"b", b"c"]


async def test_wait_readable_wakes_at_the_end(ends: Ends) -> None:
    transport, peer = ends()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(transport.wait_readable)
        await wait_all_tasks_blocked()
        peer.close()
    assert transport.receive_nowait(1000) == b""


@over_resetting
async def test_wait_readable_wakes_when_the_peer_resets(ends: Ends) -> None:
    transport, peer = ends()

    async def wait() -> None:
        with pytest.raises(ConnectionGone):
            await receive(transport, 1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        peer.reset()


@pytest.mark.parametrize("ending", ["close", "abort"])
async def test_wait_readable_wakes_and_raises_when_closed_on_this_side(ends: Ends, ending: str) -> None:
    transport, _ = ends()

    async def wait() -> None:
        with pytest.raises(ConnectionGone) as caught:
            await transport.wait_readable()
        assert caught.value.errno_name == "EBADF"

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        getattr(transport, ending)()


async def test_wait_readable_is_a_checkpoint_although_there_is_something(ends: Ends) -> None:
    transport, peer = ends()
    peer.send(b"x")
    peer.close()
    await transport.wait_readable()
    with assert_checkpoints():
        await transport.wait_readable()
    assert await receive(transport, 1) == b"x"
    await transport.wait_readable()
    with assert_checkpoints():
        await transport.wait_readable()
    assert transport.receive_nowait(1) == b""


async def test_a_cancelled_wait_to_read_loses_nothing(ends: Ends) -> None:
    transport, peer = ends()
    peer.send(b"there")
    await transport.wait_readable()
    with trio.CancelScope() as scope:
        scope.cancel()
        await transport.wait_readable()
    assert scope.cancelled_caught
    assert await receive(transport, 5) == b"there"


async def test_bytes_that_come_as_their_waiter_is_cancelled_are_not_lost(ends: Ends) -> None:
    transport, peer = ends()
    for _ in range(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(transport.wait_readable)
            await wait_all_tasks_blocked()
            peer.send(b"in the same turn")
            nursery.cancel_scope.cancel()
        assert await receive(transport, 16) == b"in the same turn"


async def test_a_second_task_that_waits_to_read_is_busy_and_the_first_goes_on(ends: Ends) -> None:
    transport, peer = ends()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(transport.wait_readable)
        await wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await transport.wait_readable()
        peer.send(b"x")
    assert transport.receive_nowait(1) == b"x"


async def test_one_task_may_wait_to_read_while_another_waits_to_write(ends: Ends) -> None:
    transport, peer = ends()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(transport.wait_readable)
        await wait_all_tasks_blocked()
        await transport.wait_writable()
        peer.send(b"x")
    assert transport.receive_nowait(1) == b"x"


# ---- order, completeness, back-pressure


async def test_megabytes_both_ways_at_once_arrive_as_they_were_sent(ends: Ends) -> None:
    transport, peer = ends()
    size = 3_000_001
    there, back = content(size, 1), content(size, 2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send, transport, there)
        nursery.start_soon(peer.send_all, back)

        @nursery.start_soon
        async def read() -> None:
            assert await peer.read(size) == there

        assert await receive(transport, size) == back


async def test_pieces_of_odd_sizes_keep_their_order(ends: Ends) -> None:
    transport, peer = ends()
    data = content(200_003, 3)
    received = bytearray()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.send_all, data)
        sizes = (1, 7, 1000, 4095, 4096, 4097, 65537)
        while len(received) < len(data):
            size = sizes[len(received) % len(sizes)]
            got = transport.receive_nowait(size)
            if got is None:
                await transport.wait_readable()
                continue
            assert 0 < len(got) <= size
            received += got
    assert bytes(received) == data


# A memory stream never makes its sender wait; how much is read ahead of it is in `test_stream_transport`.
@over_bounded
async def test_a_connection_that_does_not_read_stops_its_peer(ends: Ends) -> None:
    transport, peer = ends()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.pour)
        await wait_all_tasks_blocked()
        poured = peer.poured
        assert 0 < poured < CEILING
        await wait_all_tasks_blocked()
        assert peer.poured == poured
        # It goes on once there is room again.
        await receive(transport, poured)
        await wait_all_tasks_blocked()
        assert peer.poured > poured
        nursery.cancel_scope.cancel()


@over_bounded_half_closing
async def test_a_peer_that_does_not_read_is_heard_all_the_same(ends: Ends) -> None:
    transport, peer = ends()
    await fill(transport)
    peer.send(b"stop")
    assert await receive(transport, 4) == b"stop"


async def test_of_two_tasks_that_begin_to_wait_at_once_one_is_busy(ends: Ends) -> None:
    transport, peer = ends()
    outcomes: list[str] = []

    async def wait() -> None:
        try:
            await transport.wait_readable()
        except trio.BusyResourceError:
            outcomes.append("busy")
        else:
            outcomes.append("woken")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        assert outcomes == ["busy"]
        peer.send(b"x")
    assert outcomes == ["busy", "woken"]
