"""Every sentence of `ktrio.net.transport.Transport` about watching the peer and about ends, over every kind."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from ktrio.net.errors import ConnectionGone
from ktrio.net.transport import SendfileUnsupportedError
from tests.net.peers import (
    BOUNDED,
    ERRORS_OF_PEERS,
    Ends,
    over_bounded,
    over_bounded_half_closing,
    over_half_closing,
    over_resetting,
    over_showing_abort,
)
from tests.net.transporting import Watch, content, fill, receive, send, send_some

# ---- watch


@over_half_closing
async def test_a_watch_tells_a_half_close_once_and_keeps_what_came_before_it(ends: Ends) -> None:
    transport, peer = ends()
    watch = Watch(transport)
    watch.begin()
    peer.send(b"unread")
    await wait_all_tasks_blocked()
    assert (watch.half_closes, watch.times_gone) == (0, 0)
    peer.finish()
    await wait_all_tasks_blocked()
    assert (watch.half_closes, watch.times_gone) == (1, 0)
    assert await receive(transport, 1000) == b"unread"
    assert transport.receive_nowait(1) == b""
    await wait_all_tasks_blocked()
    assert (watch.half_closes, watch.times_gone) == (1, 0)
    transport.unwatch()


@over_resetting
async def test_a_watch_tells_once_that_the_peer_is_gone(ends: Ends) -> None:
    transport, peer = ends()
    watch = Watch(transport)
    watch.begin()
    await wait_all_tasks_blocked()
    assert watch.times_gone == 0
    peer.reset()
    await wait_all_tasks_blocked()
    assert watch.times_gone == 1
    for _ in range(2):
        with pytest.raises(ConnectionGone):
            transport.send_nowait([b"x"])
        with pytest.raises(ConnectionGone):
            transport.receive_nowait(1)
        await wait_all_tasks_blocked()
    assert watch.times_gone == 1
    transport.unwatch()


async def test_a_watch_tells_of_a_peer_that_left_once_something_is_sent_to_it(ends: Ends) -> None:
    transport, peer = ends()
    watch = Watch(transport)
    watch.begin()
    peer.close()
    await wait_all_tasks_blocked()

    async def send_for_ever() -> None:
        while True:
            await send(transport, b"x")
            await wait_all_tasks_blocked()

    with pytest.raises(ConnectionGone):
        await send_for_ever()
    await wait_all_tasks_blocked()
    assert watch.times_gone == 1
    assert watch.half_closes <= 1
    transport.unwatch()


@over_half_closing
async def test_a_watch_that_begins_after_a_half_close_tells_it(ends: Ends) -> None:
    transport, peer = ends()
    peer.finish()
    await wait_all_tasks_blocked()
    for _ in range(2):
        watch = Watch(transport)
        watch.begin()
        await wait_all_tasks_blocked()
        assert (watch.half_closes, watch.times_gone) == (1, 0)
        transport.unwatch()
        await wait_all_tasks_blocked()
        assert (watch.half_closes, watch.times_gone) == (1, 0)


@over_half_closing
async def test_a_watch_that_begins_after_the_end_was_received_tells_it(ends: Ends) -> None:
    transport, peer = ends()
    peer.finish()
    assert await receive(transport, 1) == b""
    watch = Watch(transport)
    watch.begin()
    await wait_all_tasks_blocked()
    assert (watch.half_closes, watch.times_gone) == (1, 0)
    transport.unwatch()


@over_resetting
@pytest.mark.parametrize("is_known", [False, True])
async def test_a_watch_that_begins_after_the_peer_went_tells_it(ends: Ends, is_known: bool) -> None:
    transport, peer = ends()
    peer.reset()
    await wait_all_tasks_blocked()
    if is_known:
        with pytest.raises(ConnectionGone):
            await receive(transport, 1)
    watch = Watch(transport)
    watch.begin()
    await wait_all_tasks_blocked()
    assert watch.times_gone == 1
    transport.unwatch()


@over_half_closing
async def test_nothing_is_told_after_unwatch(ends: Ends) -> None:
    transport, peer = ends()
    watch = Watch(transport)
    watch.begin()
    await wait_all_tasks_blocked()
    transport.unwatch()
    peer.finish()
    await wait_all_tasks_blocked()
    assert (watch.half_closes, watch.times_gone) == (0, 0)


@over_resetting
async def test_nothing_is_told_of_a_peer_that_goes_after_unwatch(ends: Ends) -> None:
    transport, peer = ends()
    watch = Watch(transport)
    watch.begin()
    await wait_all_tasks_blocked()
    transport.unwatch()
    peer.reset()
    await wait_all_tasks_blocked()
    assert (watch.half_closes, watch.times_gone) == (0, 0)


@pytest.mark.parametrize("ending", ["close", "abort"])
async def test_nothing_is_told_after_our_own_end(ends: Ends, ending: str) -> None:
    transport, peer = ends()
    watch = Watch(transport)
    watch.begin()
    getattr(transport, ending)()
    peer.close()
    await wait_all_tasks_blocked()
    assert (watch.half_closes, watch.times_gone) == (0, 0)
    transport.unwatch()


async def test_unwatch_without_watch_is_nothing(ends: Ends) -> None:
    transport, peer = ends()
    transport.unwatch()
    transport.unwatch()
    peer.send(b"x")
    assert await receive(transport, 1) == b"x"


async def test_reading_goes_on_during_a_watch(ends: Ends) -> None:
    transport, peer = ends()
    watch = Watch(transport)
    watch.begin()
    data = content(200_000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.send_all, data)
        assert await receive(transport, len(data)) == data
    assert (watch.half_closes, watch.times_gone) == (0, 0)
    transport.unwatch()


# ---- shutdown_write


@over_bounded_half_closing
async def test_shutdown_write_ends_our_side_behind_everything_that_was_sent(ends: Ends) -> None:
    transport, peer = ends()
    taken = await fill(transport)
    transport.shutdown_write()
    transport.shutdown_write()
    assert await peer.read(len(taken) + 1) == taken


@over_half_closing
async def test_after_shutdown_write_the_peer_is_still_heard(ends: Ends) -> None:
    transport, peer = ends()
    send_some(transport, b"last")
    transport.shutdown_write()
    assert await peer.read(5) == b"last"
    peer.send(b"heard")
    assert await receive(transport, 5) == b"heard"
    peer.finish()
    assert await receive(transport, 1) == b""
    assert not transport.is_closed


@over_half_closing
async def test_sending_after_shutdown_write_raises(ends: Ends) -> None:
    transport, _ = ends()
    transport.shutdown_write()
    with pytest.raises(ConnectionGone):
        transport.send_nowait([b"x"])


@pytest.mark.parametrize("ends", ["tls-stream"], indirect=True)
async def test_shutdown_write_where_there_is_no_half_close_is_nothing(ends: Ends) -> None:
    transport, peer = ends()
    send_some(transport, b"one")
    transport.shutdown_write()
    await wait_all_tasks_blocked()
    send_some(transport, b"two")
    assert await peer.read(6) == b"onetwo"
    peer.send(b"heard")
    assert await receive(transport, 5) == b"heard"


@over_resetting
async def test_shutdown_write_of_a_lost_connection_is_nothing(ends: Ends) -> None:
    transport, peer = ends()
    peer.reset()
    await wait_all_tasks_blocked()
    transport.shutdown_write()
    with pytest.raises(ConnectionGone):
        await receive(transport, 1)
    transport.shutdown_write()
    await wait_all_tasks_blocked()


# ---- close


async def test_close_is_the_end_for_the_peer(ends: Ends) -> None:
    transport, peer = ends()
    transport.close()
    assert transport.is_closed
    assert await peer.read(1) == b""


async def test_what_was_sent_before_close_arrives(ends: Ends) -> None:
    transport, peer = ends()
    send_some(transport, b"first ", b"and last")
    transport.close()
    assert await peer.read(100) == b"first and last"


@over_bounded
async def test_everything_that_was_taken_before_close_arrives(ends: Ends, mock_clock: MockClock) -> None:
    transport, peer = ends()
    taken = await fill(transport)
    transport.close()
    await wait_all_tasks_blocked()
    assert await peer.read(len(taken) + 1) == taken


@over_half_closing
async def test_what_was_sent_before_shutdown_write_and_close_arrives(ends: Ends) -> None:
    transport, peer = ends()
    send_some(transport, b"last")
    transport.shutdown_write()
    transport.close()
    assert await peer.read(100) == b"last"


async def test_close_and_abort_may_be_called_again_in_any_order(ends: Ends) -> None:
    for endings in (("close", "close"), ("abort", "abort"), ("close", "abort"), ("abort", "close")):
        transport, _ = ends()
        for ending in endings:
            getattr(transport, ending)()
            assert transport.is_closed
        await wait_all_tasks_blocked()
        getattr(transport, endings[-1])()
        assert transport.is_closed


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("ending", ["close", "abort"])
async def test_after_the_end_every_use_raises_or_is_nothing(
    ends: Ends, ending: str, later: bool, tmp_path: Path
) -> None:
    transport, peer = ends()
    peer.send(b"unread")
    await transport.wait_readable()
    getattr(transport, ending)()
    if later:
        await wait_all_tasks_blocked()
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    try:
        os.write(descriptor, b"content")
        with pytest.raises((ConnectionGone, SendfileUnsupportedError)):
            transport.send_file_nowait(descriptor, 0, 7)
    finally:
        os.close(descriptor)
    for use_now in (lambda: transport.receive_nowait(1), lambda: transport.send_nowait([b"x"])):
        with pytest.raises(ConnectionGone) as caught:
            use_now()
        assert caught.value.errno_name == "EBADF"
    for use in (transport.wait_readable, transport.wait_writable):
        with pytest.raises(ConnectionGone) as caught:
            await use()
        assert caught.value.errno_name == "EBADF"
    watch = Watch(transport)
    watch.begin()
    transport.unwatch()
    transport.shutdown_write()
    transport.close()
    transport.abort()
    await wait_all_tasks_blocked()
    assert (watch.half_closes, watch.times_gone) == (0, 0)


@pytest.mark.parametrize("ending", ["close", "abort"])
async def test_both_who_wait_are_woken_by_our_end(ends: Ends, ending: str, mock_clock: MockClock) -> None:
    transport, peer = ends()
    woken = 0

    async def wait(which: str) -> None:
        nonlocal woken
        with pytest.raises(ConnectionGone):
            await getattr(transport, which)()
        woken += 1

    can_stall = ends.kind in BOUNDED
    if can_stall:
        await fill(transport)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, "wait_readable")
        if can_stall:
            nursery.start_soon(wait, "wait_writable")
        await wait_all_tasks_blocked()
        assert woken == 0
        getattr(transport, ending)()
    assert woken == 1 + can_stall
    try:
        await peer.drop()
    except ERRORS_OF_PEERS:
        assert ending == "abort"


@over_resetting
async def test_closing_a_lost_connection_is_no_error(ends: Ends) -> None:
    for ending in ("close", "abort"):
        transport, peer = ends()
        peer.reset()
        with pytest.raises(ConnectionGone):
            await receive(transport, 1)
        getattr(transport, ending)()
        assert transport.is_closed
        await wait_all_tasks_blocked()


# ---- abort


@over_showing_abort
async def test_an_abort_is_an_error_or_an_early_end_for_the_peer(ends: Ends, mock_clock: MockClock) -> None:
    transport, peer = ends()
    taken = await fill(transport)
    transport.abort()
    assert transport.is_closed
    await wait_all_tasks_blocked()
    try:
        arrived = await peer.drop()
    except ERRORS_OF_PEERS:
        return
    assert arrived < len(taken)


async def test_an_abort_ends_the_connection_for_a_peer_that_waits(ends: Ends) -> None:
    transport, peer = ends()
    ended = False

    async def read() -> None:
        nonlocal ended
        with contextlib.suppress(*ERRORS_OF_PEERS):
            assert await peer.read(1) == b""
        ended = True

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        transport.abort()
    assert ended
