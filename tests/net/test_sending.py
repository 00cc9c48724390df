"""Sending: whole and in order, in turns, within the allowance; files without memory, cold and shrinking ones too."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import BinaryIO

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from ktrio.net import _files, _sender
from ktrio.net._slices import SLICE_BYTES, TURN_BYTES
from ktrio.net.deadlines import WINDOW, Phase, Timeouts
from ktrio.net.errors import ConnectionGone
from tests.net.peers import over_bounded, over_bounded_resetting, over_half_closing, over_resetting

MUCH = 32 * 1024 * 1024  # more than any pair of socket buffers holds


def much(connect_any) -> int:
    """The same for this kind of transport; where no kernel helps, a buffer is small and every byte dear."""
    return MUCH if connect_any.ends.kind in {"tcp", "unix"} else MUCH // 8


@pytest.fixture
def file(tmp_path: Path) -> Iterator[BinaryIO]:
    with open(tmp_path / "file", "wb+") as file:
        yield file


def write(file: BinaryIO, data: bytes) -> bytes:
    file.write(data)
    file.flush()
    return data


@contextlib.asynccontextmanager
async def reading(peer, connection) -> AsyncIterator[list[int]]:
    """Let the peer read to the end meanwhile; what it got is in the list afterwards."""
    got: list[int] = []
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def read() -> None:
            got.append(await peer.drop())

        yield got
        connection.shutdown_write()


class Steps(trio.abc.Instrument):
    """How many bytes a connection sends in each step of a task: in one turn of the loop."""

    def __init__(self, connection) -> None:
        self._connection = connection
        self._before = 0
        self.sent: list[int] = []

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._before = self._connection.bytes_sent

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if self._connection.bytes_sent > self._before:
            self.sent.append(self._connection.bytes_sent - self._before)


@contextlib.contextmanager
def counting_steps(connection) -> Iterator[Steps]:
    steps = Steps(connection)
    trio.lowlevel.add_instrument(steps)
    yield steps
    trio.lowlevel.remove_instrument(steps)


# ---- send_nowait and send_all


async def test_send_nowait_sends_what_fits(connect_any) -> None:
    connection, peer = connect_any()
    assert connection.send_nowait(b"hello") == 5
    assert connection.send_nowait(b"") == 0
    assert await peer.read(5) == b"hello"
    assert 0 < connection.send_nowait(bytes(MUCH)) <= SLICE_BYTES
    while connection.send_nowait(memoryview(bytes(SLICE_BYTES))):
        pass
    assert connection.send_nowait(b"x") == 0


@over_resetting
async def test_send_nowait_to_a_peer_that_reset_raises(connect_any) -> None:
    connection, peer = connect_any()
    peer.reset()
    await wait_all_tasks_blocked()
    with pytest.raises(ConnectionGone) as caught:
        connection.send_nowait(b"x")
    assert caught.value.errno_name in {"ECONNRESET", "EPIPE"}


@pytest.mark.parametrize("data", [b"", b"x", bytearray(b"xyz"), memoryview(b"xyz"), [], [b"a", b"", b"bc"], (b"a",)])
async def test_send_all_takes_every_kind_of_data_and_checkpoints(connect_any, data) -> None:
    connection, peer = connect_any()
    whole = bytes(data) if isinstance(data, (bytes, bytearray, memoryview)) else b"".join(data)
    with trio.testing.assert_checkpoints():
        await connection.send_all(data)
    assert connection.bytes_sent == len(whole)
    connection.close()
    assert await peer.read(100) == whole


async def test_send_all_of_many_buffers_to_a_slow_reader_arrives_whole(connect_any) -> None:
    connection, peer = connect_any()
    chooser = random.Random(1)
    buffers = [chooser.randbytes(chooser.choice([0, 1, 100, 5000, 70_000])) for _ in range(500)]
    whole = b"".join(buffers)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.send_all, buffers)
        assert await peer.read(len(whole)) == whole
    assert connection.bytes_sent == len(whole)


@over_half_closing
async def test_a_send_cancelled_before_it_began_has_sent_nothing(connect_any, file) -> None:
    connection, peer = connect_any()
    write(file, b"content")
    with trio.CancelScope() as scope:
        scope.cancel()
        await connection.send_all(b"x")
    assert scope.cancelled_caught
    with trio.CancelScope() as scope:
        scope.cancel()
        await connection.send_file(file.fileno(), 0, 7)
    assert scope.cancelled_caught
    assert connection.bytes_sent == 0
    connection.close()
    assert await peer.read(1) == b""


@over_bounded
async def test_a_send_cancelled_half_way_tells_how_much_went_out(connect_any) -> None:
    connection, peer = connect_any()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.send_all, bytes(MUCH))
        await wait_all_tasks_blocked()
        assert connection.is_waiting_to_write
        nursery.cancel_scope.cancel()
    assert not connection.is_waiting_to_write
    assert 0 < connection.bytes_sent < MUCH
    connection.close()
    assert await peer.drop() == connection.bytes_sent


@over_bounded
@pytest.mark.parametrize("within_answer", [True, False])
async def test_send_all_waits_parked_in_the_way_that_was_asked_for(connect_any, within_answer: bool) -> None:
    connection, _ = connect_any()
    times = {True: 0, False: 0}

    def counting(kind: bool):
        @contextlib.asynccontextmanager
        async def waiting() -> AsyncIterator[None]:
            times[kind] += 1
            yield

        return waiting

    connection.waiting, connection.waiting_within_answer = counting(False), counting(True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: connection.send_all(bytes(MUCH), within_answer=within_answer))
        await wait_all_tasks_blocked()
        assert times[within_answer] > 0
        assert times[not within_answer] == 0
        assert connection.is_waiting_to_write
        nursery.cancel_scope.cancel()


@over_bounded_resetting
async def test_send_all_to_a_peer_that_resets_half_way_raises(connect_any) -> None:
    connection, peer = connect_any()
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def send() -> None:
            with pytest.raises(ConnectionGone):
                await connection.send_all(bytes(MUCH))

        await wait_all_tasks_blocked()
        peer.reset()


@over_half_closing
async def test_no_turn_of_the_loop_sends_more_than_its_share(connect_any) -> None:
    connection, peer = connect_any()
    data = bytes(much(connect_any))
    with counting_steps(connection) as steps:
        async with reading(peer, connection) as got:
            await connection.send_all(data)
    assert got == [len(data)]
    assert max(steps.sent) < TURN_BYTES + SLICE_BYTES


# ---- the deadline of a write


async def jump(clock: MockClock, seconds: float) -> None:
    clock.jump(seconds)
    await wait_all_tasks_blocked()


@contextlib.asynccontextmanager
async def sending(connection, size: int = MUCH) -> AsyncIterator[trio.CancelScope]:
    """A task sends inside the connection's scope, and by now it waits for the peer."""
    connection.deadlines.disarm(Phase.HEAD)
    scope = trio.CancelScope()
    connection.deadlines.attach(scope)

    async def send() -> None:
        with scope:
            await connection.send_all(bytes(size))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await wait_all_tasks_blocked()
        yield scope
        nursery.cancel_scope.cancel()


@over_bounded
async def test_a_peer_that_stalls_is_given_up_after_the_write_timeout(connect_any, mock_clock: MockClock) -> None:
    connection, _ = connect_any()
    began = trio.current_time()
    async with sending(connection) as scope:
        assert connection.deadlines.next() == (Phase.WRITE, began + 30)
        await jump(mock_clock, 29.99)
        assert connection.is_waiting_to_write
        assert not scope.cancel_called
        connection.note_progress(trio.current_time())
        await jump(mock_clock, 0.01 + WINDOW)
        assert scope.cancelled_caught
    # Whoever left the scope asks which phase it was.
    assert connection.deadlines.expired(trio.current_time()) is Phase.WRITE
    assert not connection.is_waiting_to_write


@over_bounded
async def test_a_wait_that_ends_in_time_leaves_no_phase_armed(connect_any, mock_clock: MockClock) -> None:
    connection, peer = connect_any()
    connection.deadlines.disarm(Phase.HEAD)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.send_all, bytes(much(connect_any)))
        await peer.read(much(connect_any))
    assert connection.deadlines.next() is None


@over_bounded
async def test_a_wait_cancelled_by_another_scope_leaves_no_phase_armed(connect_any, mock_clock: MockClock) -> None:
    connection, _ = connect_any()
    connection.deadlines.disarm(Phase.HEAD)
    with trio.CancelScope() as scope:
        connection.deadlines.attach(scope)
        with trio.move_on_after(1) as inner:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(connection.send_all, bytes(MUCH))
                await wait_all_tasks_blocked()
                mock_clock.jump(1)
        assert inner.cancelled_caught
        assert connection.deadlines.next() is None


async def test_stalling_in_many_waits_is_given_up_like_stalling_in_one(
    connect, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the kernel does not tell what moved, a wake-up alone is no progress."""
    connection, peer = connect(timeouts=Timeouts(write=30, lowest_rate=10**9), send_buffer=65536)
    async with sending(connection) as scope:
        for _ in range(3):
            await jump(mock_clock, 9)
            connection_sent = connection.bytes_sent
            await peer.drop(connection_sent - getattr(peer, "dropped", 0))
            peer.dropped = connection_sent
            await wait_all_tasks_blocked()
            assert connection.bytes_sent > connection_sent
            assert not scope.cancel_called
        await jump(mock_clock, 3 + 0.1 + WINDOW)
        assert scope.cancelled_caught
    assert connection.deadlines.expired(trio.current_time()) is Phase.WRITE


def skip_unless_the_kernel_tells(connection) -> None:
    if connection._transport.undelivered_bytes() is None:
        pytest.skip("this kernel does not tell what it still holds")


async def test_a_slow_steady_reader_behind_a_big_buffer_is_not_taken_for_a_stalled_one(
    connect, mock_clock: MockClock
) -> None:
    connection, peer = connect(send_buffer=1 << 20, receive_buffer=4096)
    skip_unless_the_kernel_tells(connection)
    async with sending(connection) as scope:
        sent = connection.bytes_sent
        for _ in range(24):
            await peer.drop(5000)  # 1000 B/s
            await jump(mock_clock, 5)
            connection.note_progress(trio.current_time())
            await wait_all_tasks_blocked()
        assert connection.bytes_sent == sent, "one single wait, four times as long as the timeout"
        assert not scope.cancel_called
        # It stops reading: from here on the whole timeout and not a second more.
        await jump(mock_clock, 25)
        connection.note_progress(trio.current_time())
        assert not scope.cancel_called
        await jump(mock_clock, 5 + WINDOW)
        assert scope.cancelled_caught


async def test_a_trickle_below_the_lowest_rate_is_given_up(connect, mock_clock: MockClock) -> None:
    connection, peer = connect(send_buffer=1 << 20, receive_buffer=4096)
    skip_unless_the_kernel_tells(connection)
    async with sending(connection) as scope:
        waited = 0
        while not scope.cancelled_caught:
            await peer.drop(5)  # 1 B/s
            await jump(mock_clock, 5)
            waited += 5
            connection.note_progress(trio.current_time())
            await wait_all_tasks_blocked()
            assert waited < 60
    assert waited >= 30


@over_bounded
async def test_time_on_the_way_back_onto_the_books_is_not_the_peers(connect_any, mock_clock: MockClock) -> None:
    connection, peer = connect_any()
    may_return = trio.Event()

    @contextlib.asynccontextmanager
    async def waiting() -> AsyncIterator[None]:
        yield
        await may_return.wait()

    connection.waiting = waiting
    async with sending(connection) as scope:
        await peer.drop(connection.bytes_sent)
        await wait_all_tasks_blocked()
        assert not connection.is_waiting_to_write
        await jump(mock_clock, 1000)
        assert not scope.cancel_called
        may_return.set()
        await wait_all_tasks_blocked()
        assert connection.deadlines.next() is not None


# ---- send_file


async def test_send_file_sends_a_range_and_leaves_the_position_alone(connect_any, file) -> None:
    connection, peer = connect_any()
    data = write(file, random.Random(2).randbytes(100_000))
    position = file.tell()
    with trio.testing.assert_checkpoints():
        assert await connection.send_file(file.fileno(), 1000, 50_000) == 50_000
    assert await peer.read(50_000) == data[1000:51_000]
    assert file.tell() == os.lseek(file.fileno(), 0, os.SEEK_CUR) == position
    assert connection.bytes_sent == 50_000


async def test_send_file_of_nothing_is_a_checkpoint(connect_any, file) -> None:
    connection, _ = connect_any()
    with trio.testing.assert_checkpoints():
        assert await connection.send_file(file.fileno(), 0, 0) == 0


@pytest.mark.parametrize("way", ["sendfile", "read"])
async def test_send_file_to_a_slow_reader_arrives_whole(connect_any, file, way: str) -> None:
    connection, peer = connect_any()
    data = write(file, random.Random(3).randbytes(5_000_001))
    sender = connection._sender
    async with trio.open_nursery() as nursery:
        if way == "sendfile":
            nursery.start_soon(connection.send_file, file.fileno(), 0, len(data))
        else:
            nursery.start_soon(sender.send_file_by_reading, file.fileno(), 0, len(data), _sender.stay)
        received = bytearray()
        while len(received) < len(data):
            received += await peer.read(min(100_000, len(data) - len(received)))
        assert bytes(received) == data
    assert connection.bytes_sent == len(data)


@pytest.mark.parametrize("way", ["sendfile", "read"])
async def test_send_file_of_a_file_that_shrinks_meanwhile_tells_how_much_it_sent(connect, file, way: str) -> None:
    connection, peer = connect(send_buffer=65536, receive_buffer=16384)
    file.truncate(MUCH)
    sent: list[int] = []

    async def send() -> None:
        if way == "sendfile":
            sent.append(await connection.send_file(file.fileno(), 0, MUCH))
        else:
            sent.append(await connection._sender.send_file_by_reading(file.fileno(), 0, MUCH, _sender.stay))
        connection.shutdown_write()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await wait_until_stuck(connection)
        file.truncate(connection.bytes_sent + 10 if way == "sendfile" else 0)
        total = await peer.drop()
    assert sent == [total]
    assert 0 < total < MUCH
    assert connection.bytes_sent == total


async def wait_until_stuck(connection) -> None:
    """Threads may be at work, so that blocked tasks alone mean little."""
    while not connection.is_waiting_to_write:
        await trio.lowlevel.checkpoint()


async def test_send_file_of_a_file_that_is_shorter_than_promised(connect_any, file) -> None:
    connection, peer = connect_any()
    write(file, b"short")
    assert await connection.send_file(file.fileno(), 0, 1000) == 5
    assert await connection.send_file(file.fileno(), 100, 1000) == 0
    connection.close()
    assert await peer.read(1000) == b"short"


async def test_send_file_that_cannot_be_read_raises_and_is_not_the_peers_fault(connect_any, tmp_path) -> None:
    connection, _ = connect_any()
    descriptor = os.open(tmp_path / "write-only", os.O_WRONLY | os.O_CREAT)
    try:
        with pytest.raises(OSError, match="Bad file descriptor"):
            await connection.send_file(descriptor, 0, 10)
    finally:
        os.close(descriptor)


@over_bounded_resetting
async def test_send_file_to_a_peer_that_resets_raises(connect_any, file) -> None:
    connection, peer = connect_any()
    file.truncate(MUCH)
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def send() -> None:
            with pytest.raises(ConnectionGone):
                await connection.send_file(file.fileno(), 0, MUCH)

        await wait_until_stuck(connection)
        peer.reset()


async def test_send_file_where_the_kernel_does_not_do_it_reads_and_sends(
    connect, file, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "sendfile")
    connection, peer = connect()
    data = write(file, random.Random(4).randbytes(1_000_000))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.send_file, file.fileno(), 0, len(data))
        assert await peer.read(len(data)) == data


async def test_send_file_of_a_kind_of_file_that_the_kernel_does_not_do_reads_and_sends(
    connect, file, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write(file, random.Random(4).randbytes(1_000_000))
    kernels = os.sendfile

    def sendfile(out: int, descriptor: int, offset: int, count: int) -> int:
        if offset > 0:
            raise OSError(errno.EINVAL, "Invalid argument")
        return kernels(out, descriptor, offset, count)

    monkeypatch.setattr(os, "sendfile", sendfile)
    connection, peer = connect()
    sent: list[int] = []
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def send() -> None:
            sent.append(await connection.send_file(file.fileno(), 0, 2_000_000))
            connection.shutdown_write()

        assert await peer.read(2_000_000) == data
    assert sent == [1_000_000]


@over_half_closing
@pytest.mark.parametrize("way", ["sendfile", "read"])
async def test_send_file_turns_are_bounded(connect_any, file, way: str) -> None:
    connection, peer = connect_any()
    size = much(connect_any)
    file.truncate(size)
    with counting_steps(connection) as steps:
        async with reading(peer, connection) as got:
            if way == "sendfile":
                await connection.send_file(file.fileno(), 0, size)
            else:
                await connection._sender.send_file_by_reading(file.fileno(), 0, size, _sender.stay)
    assert got == [size]
    assert max(steps.sent) < TURN_BYTES + SLICE_BYTES


def resident_memory() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_send_file_of_a_big_file_takes_no_memory(connect, file) -> None:
    connection, peer = connect()
    size = 1 << 28
    file.truncate(size)
    before, most = resident_memory(), 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.send_file, file.fileno(), 0, size)
        for _ in range(64):
            assert await peer.drop(size // 64) == size // 64
            most = max(most, resident_memory())
    assert most - before < 16 << 20


# ---- cold files


async def test_an_evicted_file_is_warm_once_it_was_fetched(file) -> None:
    write(file, random.Random(5).randbytes(SLICE_BYTES))
    if hasattr(os, "posix_fadvise"):
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, SLICE_BYTES, os.POSIX_FADV_DONTNEED)
    # Not asserted to be cold before: asking is enough for the kernel to begin to read.
    reader = _files.WarmReader(file.fileno(), SLICE_BYTES)
    with trio.testing.assert_checkpoints():
        await reader.warm(0)
    assert reader.is_warm(0, SLICE_BYTES)


async def test_a_cold_piece_is_fetched_by_a_thread_before_it_is_sent(
    connect, file, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection, peer = connect()
    size = 2 * _files.WARM_BYTES
    data = write(file, random.Random(5).randbytes(size))
    cold_from = SLICE_BYTES  # the first slice is warm
    fetched: list[tuple[int, int]] = []

    def fetch(descriptor: int, offset: int, count: int) -> None:
        nonlocal cold_from
        assert connection.bytes_sent <= cold_from
        fetched.append((offset, count))
        cold_from = offset + count

    monkeypatch.setattr(_files, "is_resident", lambda descriptor, offset: offset < cold_from)
    monkeypatch.setattr(_files, "_fetch", fetch)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.send_file, file.fileno(), 0, size)
        assert await peer.read(size) == data
    # A partial send shifts the slices, so that a piece may begin before the end of the one before.
    assert fetched[0][0] <= SLICE_BYTES < fetched[0][0] + fetched[0][1]
    assert fetched[-1][0] + fetched[-1][1] == size
    assert all(count <= _files.WARM_BYTES for _, count in fetched)


async def test_where_residency_is_unknown_every_piece_is_fetched_once(
    connect, file, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_files, "_RWF_NOWAIT", None)
    connection, peer = connect()
    size = 3 * _files.WARM_BYTES + 5
    data = write(file, random.Random(6).randbytes(size))
    fetched: list[tuple[int, int]] = []
    monkeypatch.setattr(_files, "_fetch", lambda _, offset, count: fetched.append((offset, count)))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.send_file, file.fileno(), 0, size)
        assert await peer.read(size) == data
    assert [offset for offset, _ in fetched] == [index * _files.WARM_BYTES for index in range(4)]
    assert fetched[-1][1] == 5


async def test_fetching_reads_what_is_there(file, monkeypatch: pytest.MonkeyPatch) -> None:
    write(file, b"x" * 100)
    _files._fetch(file.fileno(), 50, 1000)
    assert _files.is_resident(file.fileno(), 1000) is None
    monkeypatch.delattr(os, "preadv", raising=False)
    _files._fetch(file.fileno(), 50, 1000)


async def test_a_file_that_cannot_be_fetched_raises(connect, file, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_files, "_RWF_NOWAIT", None)

    def fail(*_args: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(_files, "_fetch", fail)
    connection, _ = connect()
    write(file, b"x")
    with pytest.raises(OSError, match="Input/output error"):
        await connection.send_file(file.fileno(), 0, 1)
    assert connection.bytes_sent == 0
