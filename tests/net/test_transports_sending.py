"""Every sentence of `ktrio.net.transport.Transport` about sending, over every kind of transport."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest
import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from ktrio.net._slices import Data
from ktrio.net.errors import ConnectionGone
from ktrio.net.transport import SendfileUnsupportedError
from tests.net.peers import (
    ERRORS_OF_PEERS,
    SOCKETS,
    Ends,
    over_bounded,
    over_bounded_resetting,
    over_resetting,
    over_sockets,
)
from tests.net.transporting import CEILING, content, fill, receive, send, send_some

# ---- send_nowait


@pytest.mark.parametrize(
    "buffers",
    [
        [b"hello"],
        [b"hel", b"lo"],
        [b"", b"hel", b"", b"lo", b""],
        [bytearray(b"he"), memoryview(b"xllox")[1:4]],
        (b"hello",),
    ],
)
async def test_send_nowait_takes_every_kind_of_buffer_in_order(ends: Ends, buffers: list[Data]) -> None:
    transport, peer = ends()
    assert transport.send_nowait(buffers) == 5
    assert await peer.read(5) == b"hello"


async def test_send_nowait_of_nothing_takes_nothing(ends: Ends) -> None:
    transport, peer = ends()
    assert transport.send_nowait([b""]) == 0
    send_some(transport, b"x")
    assert await peer.read(1) == b"x"


async def test_what_was_taken_may_be_overwritten(ends: Ends) -> None:
    transport, peer = ends()
    buffer = bytearray(b"before")
    assert transport.send_nowait([buffer]) == 6
    buffer[:] = b"after!"
    buffer.clear()  # and no export of it is held
    assert await peer.read(6) == b"before"


async def test_sends_one_after_the_other_arrive_in_order(ends: Ends) -> None:
    transport, peer = ends()
    pieces = [content(size, size) for size in (1, 100, 3000, 0, 5000, 7)]
    for piece in pieces:
        send_some(transport, piece)
    whole = b"".join(pieces)
    assert await peer.read(len(whole)) == whole


@over_bounded
async def test_a_peer_that_does_not_read_leaves_no_room_in_bounded_memory(ends: Ends) -> None:
    transport, peer = ends()
    taken = await fill(transport)
    assert transport.send_nowait([b"x"]) is None
    assert 0 < len(taken) < CEILING
    assert await peer.read(len(taken)) == taken


@over_bounded
async def test_send_nowait_takes_a_part_if_there_is_no_room_for_all(ends: Ends) -> None:
    transport, peer = ends()
    much = content(CEILING)
    sent = transport.send_nowait([much[: CEILING // 2], much[CEILING // 2 :]])
    assert sent is not None
    assert 0 < sent < CEILING
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send, transport, much[sent : sent + 1_000_000])
        assert await peer.read(sent + 1_000_000) == much[: sent + 1_000_000]


@over_resetting
async def test_sending_to_a_peer_that_has_reset_raises(ends: Ends) -> None:
    transport, peer = ends()
    peer.reset()
    with pytest.raises(ConnectionGone):
        await receive(transport, 1)
    with pytest.raises(ConnectionGone) as caught:
        transport.send_nowait([b"x"])
    assert caught.value.errno_name != "EBADF"


async def test_sending_to_a_peer_that_has_left_raises_sooner_or_later(ends: Ends) -> None:
    transport, peer = ends()
    peer.close()
    await wait_all_tasks_blocked()

    async def send_for_ever() -> None:
        while True:
            await send(transport, b"anybody there?")
            await wait_all_tasks_blocked()

    with pytest.raises(ConnectionGone):
        await send_for_ever()
    for _ in range(3):
        with pytest.raises(ConnectionGone):
            transport.send_nowait([b"x"])


# ---- wait_writable


async def test_wait_writable_returns_if_there_is_room_and_is_a_checkpoint(ends: Ends) -> None:
    transport, _ = ends()
    with assert_checkpoints():
        await transport.wait_writable()
    send_some(transport, b"x")
    with assert_checkpoints():
        await transport.wait_writable()


@over_bounded
async def test_wait_writable_waits_until_the_peer_reads(ends: Ends) -> None:
    transport, peer = ends()
    taken = await fill(transport)
    woken = False

    async def wait() -> None:
        nonlocal woken
        await transport.wait_writable()
        woken = True

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        assert not woken
        assert await peer.read(len(taken)) == taken
    assert transport.send_nowait([b"x"]) == 1
    assert await peer.read(1) == b"x"


@over_bounded_resetting
async def test_wait_writable_wakes_when_the_peer_resets(ends: Ends) -> None:
    transport, peer = ends()
    await fill(transport)

    async def wait() -> None:
        with pytest.raises(ConnectionGone):
            await send(transport, bytes(1_000_000))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        peer.reset()


@over_bounded
@pytest.mark.parametrize("ending", ["close", "abort"])
async def test_wait_writable_wakes_and_raises_when_closed_on_this_side(ends: Ends, ending: str, mock_clock) -> None:
    transport, peer = ends()
    await fill(transport)

    async def wait() -> None:
        with pytest.raises(ConnectionGone) as caught:
            await transport.wait_writable()
        assert caught.value.errno_name == "EBADF"

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        getattr(transport, ending)()
    with contextlib.suppress(*ERRORS_OF_PEERS):
        await peer.drop()


@over_bounded
async def test_a_cancelled_wait_to_write_loses_nothing(ends: Ends) -> None:
    transport, peer = ends()
    taken = await fill(transport)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(transport.wait_writable)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert await peer.read(len(taken)) == taken
    with trio.CancelScope() as scope:
        scope.cancel()
        await transport.wait_writable()
    assert scope.cancelled_caught
    await transport.wait_writable()
    send_some(transport, b"more")
    assert await peer.read(4) == b"more"


@over_bounded
async def test_a_second_task_that_waits_to_write_is_busy_and_the_first_goes_on(ends: Ends) -> None:
    transport, peer = ends()
    taken = await fill(transport)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(transport.wait_writable)
        await wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await transport.wait_writable()
        await peer.read(len(taken))
    send_some(transport, b"x")


# ---- send_file_nowait


@pytest.fixture
def file(tmp_path: Path) -> Iterator[BinaryIO]:
    with open(tmp_path / "file", "wb+") as file:
        file.write(content(100_000))
        file.flush()
        yield file


async def test_a_piece_of_a_file_is_sent_or_the_transport_says_that_it_does_not(ends: Ends, file: BinaryIO) -> None:
    transport, peer = ends()
    position = file.tell()
    try:
        sent = transport.send_file_nowait(file.fileno(), 1000, 5000)
    except SendfileUnsupportedError:
        assert ends.kind not in SOCKETS or not hasattr(os, "sendfile")
        sent = 0
    else:
        assert sent is not None
        assert 0 < sent <= 5000
    assert file.tell() == position
    send_some(transport, b"behind")
    assert await peer.read(sent + 6) == content(100_000)[1000 : 1000 + sent] + b"behind"


does_sendfile = pytest.mark.skipif(not hasattr(os, "sendfile"), reason="this platform has no sendfile")


@over_sockets
@does_sendfile
async def test_a_file_that_ends_before_the_piece_is_zero(ends: Ends, file: BinaryIO) -> None:
    transport, _ = ends()
    assert transport.send_file_nowait(file.fileno(), 100_000, 10) == 0
    assert transport.send_file_nowait(file.fileno(), 99_999, 10) == 1


@over_sockets
@does_sendfile
async def test_a_piece_of_a_file_without_room_is_none(ends: Ends, file: BinaryIO) -> None:
    transport, peer = ends()
    taken = await fill(transport)
    assert transport.send_file_nowait(file.fileno(), 0, 10) is None
    assert await peer.read(len(taken)) == taken


@over_sockets
@does_sendfile
async def test_a_file_that_cannot_be_read_is_the_files_error(ends: Ends, tmp_path: Path) -> None:
    transport, _ = ends()
    descriptor = os.open(tmp_path / "write-only", os.O_WRONLY | os.O_CREAT)
    try:
        with pytest.raises(OSError, match="Bad file descriptor"):
            transport.send_file_nowait(descriptor, 0, 10)
    finally:
        os.close(descriptor)
    assert not transport.is_closed


# ---- undelivered_bytes


async def test_a_transport_that_has_sent_nothing_has_delivered_everything(ends: Ends) -> None:
    transport, _ = ends()
    assert transport.undelivered_bytes() in {0, None}


@over_bounded
async def test_what_the_peer_reads_is_delivered(ends: Ends) -> None:
    transport, peer = ends()
    taken = await fill(transport)
    full = transport.undelivered_bytes()
    if full is None:
        pytest.skip("nobody can tell")
    assert full > 0
    half = len(taken) // 2
    assert await peer.read(half) == taken[:half]
    await wait_all_tasks_blocked()
    less = transport.undelivered_bytes()
    assert less is not None
    assert less < full
    assert await peer.read(len(taken) - half) == taken[half:]
    await wait_all_tasks_blocked()
    least = transport.undelivered_bytes()
    assert least is not None
    assert least < full


async def test_asking_for_undelivered_bytes_of_a_closed_transport_is_no_error(ends: Ends) -> None:
    transport, _ = ends()
    transport.close()
    assert transport.undelivered_bytes() in {0, None}
