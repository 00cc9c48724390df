from __future__ import annotations

import errno
import logging
import socket
import struct
from collections.abc import Callable

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from ktrio.net.readiness import BATCH, Registration
from ktrio.net.readiness import Readiness as RealReadiness

Pair = tuple[socket.socket, socket.socket]


class Readiness:
    """The real one, with its registrations by socket."""

    def __init__(self, real: RealReadiness) -> None:
        self.real = real
        self.registrations: dict[socket.socket, Registration] = {}

    def __repr__(self) -> str:
        return repr(self.real)

    def register(self, sock: socket.socket) -> Registration:
        if sock not in self.registrations:
            self.registrations[sock] = self.real.register(sock)
        return self.registrations[sock]

    def watch(self, sock: socket.socket, on_half_close: Callable[[], None], on_gone: Callable[[], None]) -> None:
        self.register(sock).watch(on_half_close, on_gone, is_shut=False)

    def unwatch(self, sock: socket.socket) -> None:
        self.register(sock).unwatch()

    def close(self, sock: socket.socket) -> None:
        self.registrations.pop(sock).close()
        sock.close()

    async def wait_readable(self, sock: socket.socket) -> None:
        await self.register(sock).wait_readable()

    async def wait_writable(self, sock: socket.socket) -> None:
        await self.register(sock).wait_writable()


@pytest.fixture(name="readiness")
def readiness_by_socket(readiness: RealReadiness) -> Readiness:
    return Readiness(readiness)


class News:
    """What was told, in order."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def half_close(self) -> None:
        self.told.append("half-closed")

    def gone(self) -> None:
        self.told.append("gone")

    def watch(self, readiness: Readiness, sock: socket.socket) -> None:
        readiness.watch(sock, self.half_close, self.gone)


@pytest.fixture
def news() -> News:
    return News()


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def uses_epoll(readiness: Readiness) -> bool:
    return "epoll" in repr(readiness)


# ---- what is told


async def test_watch_tells_nothing_of_a_peer_that_is_there(
    readiness: Readiness, socket_pair: Callable[..., Pair], news: News
) -> None:
    ours, theirs = socket_pair()
    news.watch(readiness, ours)
    await wait_all_tasks_blocked()
    theirs.send(b"pipelined")
    await wait_all_tasks_blocked()
    assert news.told == []
    assert ours.recv(100) == b"pipelined"
    readiness.unwatch(ours)


async def test_watch_tells_a_fin_once(readiness: Readiness, socket_pair: Callable[..., Pair], news: News) -> None:
    ours, theirs = socket_pair()
    news.watch(readiness, ours)
    theirs.shutdown(socket.SHUT_WR)
    await wait_all_tasks_blocked()
    await wait_all_tasks_blocked()
    assert news.told == ["half-closed"]
    readiness.unwatch(ours)


async def test_watch_tells_a_fin_that_came_before_it(
    readiness: Readiness, socket_pair: Callable[..., Pair], news: News
) -> None:
    ours, theirs = socket_pair()
    theirs.shutdown(socket.SHUT_WR)
    news.watch(readiness, ours)
    await wait_all_tasks_blocked()
    assert news.told == ["half-closed"]
    readiness.unwatch(ours)


async def test_watch_tells_a_fin_behind_unread_data_if_it_has_epoll_and_leaves_the_data(
    readiness: Readiness, socket_pair: Callable[..., Pair], news: News
) -> None:
    ours, theirs = socket_pair()
    news.watch(readiness, ours)
    theirs.send(b"unread")
    theirs.shutdown(socket.SHUT_WR)
    await wait_all_tasks_blocked()
    assert news.told == (["half-closed"] if uses_epoll(readiness) else [])
    assert ours.recv(100) == b"unread"
    assert ours.recv(100) == b""
    readiness.unwatch(ours)


async def test_watch_tells_a_reset_and_then_nothing_more(
    readiness: Readiness, tcp_pair: Callable[..., Pair], news: News
) -> None:
    ours, theirs = tcp_pair()
    news.watch(readiness, ours)
    await wait_all_tasks_blocked()
    reset(theirs)
    await wait_all_tasks_blocked()
    assert news.told == ["gone"]
    assert "watching=0" in repr(readiness)
    readiness.unwatch(ours)


async def test_watch_tells_a_reset_behind_unread_data_if_it_has_epoll(
    readiness: Readiness, tcp_pair: Callable[..., Pair], news: News
) -> None:
    ours, theirs = tcp_pair()
    news.watch(readiness, ours)
    theirs.send(b"unread")
    await wait_all_tasks_blocked()
    reset(theirs)
    await wait_all_tasks_blocked()
    assert news.told == (["gone"] if uses_epoll(readiness) else [])
    readiness.unwatch(ours)


async def test_watch_tells_a_reset_after_a_half_close_if_it_has_epoll(
    readiness: Readiness, tcp_pair: Callable[..., Pair], news: News
) -> None:
    ours, theirs = tcp_pair()
    news.watch(readiness, ours)
    theirs.shutdown(socket.SHUT_WR)
    await wait_all_tasks_blocked()
    reset(theirs)
    await wait_all_tasks_blocked()
    assert news.told == (["half-closed", "gone"] if uses_epoll(readiness) else ["half-closed"])
    readiness.unwatch(ours)


async def test_watch_tells_the_full_close_of_a_unix_peer_as_gone_if_it_has_epoll(
    readiness: Readiness, unix_pair: Callable[..., Pair], news: News
) -> None:
    ours, theirs = unix_pair()
    news.watch(readiness, ours)
    theirs.close()
    await wait_all_tasks_blocked()
    assert news.told == (["gone"] if uses_epoll(readiness) else ["half-closed"])
    readiness.unwatch(ours)


async def test_a_watched_socket_can_be_waited_for_and_read_by_its_own_task(
    readiness: Readiness, socket_pair: Callable[..., Pair], news: News
) -> None:
    ours, theirs = socket_pair()
    news.watch(readiness, ours)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(readiness.wait_readable, ours)
        nursery.start_soon(readiness.wait_writable, ours)
        await wait_all_tasks_blocked()
        theirs.send(b"x")
    assert ours.recv(1) == b"x"
    assert news.told == []
    readiness.unwatch(ours)


async def test_more_sockets_than_a_batch_are_all_told(
    readiness: Readiness, unix_pair: Callable[..., Pair], news: News
) -> None:
    for _ in range(BATCH + 10):
        ours, theirs = unix_pair()
        news.watch(readiness, ours)
        theirs.shutdown(socket.SHUT_WR)
    await wait_all_tasks_blocked()
    assert news.told == ["half-closed"] * (BATCH + 10)


# ---- unwatch, replace, reuse


async def test_unwatch_silences(readiness: Readiness, socket_pair: Callable[..., Pair], news: News) -> None:
    ours, theirs = socket_pair()
    news.watch(readiness, ours)
    await wait_all_tasks_blocked()
    theirs.close()
    readiness.unwatch(ours)
    readiness.unwatch(ours)
    await wait_all_tasks_blocked()
    assert news.told == []
    assert "watching=0" in repr(readiness)


async def test_unwatch_before_the_first_step_silences(
    readiness: Readiness, socket_pair: Callable[..., Pair], news: News
) -> None:
    ours, theirs = socket_pair()
    theirs.close()
    news.watch(readiness, ours)
    readiness.unwatch(ours)
    await wait_all_tasks_blocked()
    assert news.told == []


async def test_watching_again_replaces(readiness: Readiness, socket_pair: Callable[..., Pair]) -> None:
    ours, theirs = socket_pair()
    first, second = News(), News()
    first.watch(readiness, ours)
    second.watch(readiness, ours)
    theirs.shutdown(socket.SHUT_WR)
    await wait_all_tasks_blocked()
    assert (first.told, second.told) == ([], ["half-closed"])
    readiness.unwatch(ours)


async def test_a_reused_descriptor_hears_nothing_of_its_predecessor(
    readiness: Readiness, unix_pair: Callable[..., Pair]
) -> None:
    ours, theirs = unix_pair()
    first, second = News(), News()
    first.watch(readiness, ours)
    await wait_all_tasks_blocked()
    descriptor = ours.fileno()
    theirs.close()
    readiness.close(ours)
    new_ours, new_theirs = unix_pair()
    assert descriptor in (new_ours.fileno(), new_theirs.fileno())
    watched = new_ours if new_ours.fileno() == descriptor else new_theirs
    second.watch(readiness, watched)
    await wait_all_tasks_blocked()
    assert (first.told, second.told) == ([], [])
    readiness.unwatch(watched)


async def test_a_descriptor_reused_by_a_callback_hears_nothing_from_the_same_batch(
    readiness: Readiness, unix_pair: Callable[..., Pair], news: News
) -> None:
    pairs = [unix_pair(), unix_pair()]
    told: list[int] = []

    def replace(mine: int) -> None:
        # Whichever is told first closes the other, whose news is in the same batch, and watches its successor.
        told.append(mine)
        other = pairs[1 - mine][0]
        if other.fileno() < 0:
            return
        descriptor = other.fileno()
        readiness.close(other)
        successors = unix_pair()
        successor = next(sock for sock in successors if sock.fileno() == descriptor)
        news.watch(readiness, successor)

    for index, (ours, _) in enumerate(pairs):
        readiness.watch(ours, lambda index=index: replace(index), news.gone)
    await wait_all_tasks_blocked()
    for _, theirs in pairs:
        theirs.shutdown(socket.SHUT_WR)
    await wait_all_tasks_blocked()
    assert len(told) == 1
    assert news.told == []


async def test_a_callback_may_unwatch_its_own_socket(readiness: Readiness, socket_pair: Callable[..., Pair]) -> None:
    ours, theirs = socket_pair()

    def close() -> None:
        readiness.close(ours)

    readiness.watch(ours, close, close)
    theirs.shutdown(socket.SHUT_WR)
    await wait_all_tasks_blocked()
    assert ours.fileno() == -1
    assert "watching=0" in repr(readiness)


async def test_a_socket_closed_before_it_was_unwatched_harms_nobody(
    readiness: Readiness, unix_pair: Callable[..., Pair], news: News
) -> None:
    ours, theirs = unix_pair()
    descriptor = ours.fileno()
    news.watch(readiness, ours)
    await wait_all_tasks_blocked()
    ours.close()
    readiness.registrations[ours].close()
    theirs.close()
    await wait_all_tasks_blocked()
    news.told.clear()
    successors = unix_pair()
    successor = next(sock for sock in successors if sock.fileno() == descriptor)
    news.watch(readiness, successor)
    next(sock for sock in successors if sock is not successor).shutdown(socket.SHUT_WR)
    await wait_all_tasks_blocked()
    assert news.told == ["half-closed"]
    readiness.unwatch(successor)


# ---- errors and the end


async def test_a_callback_that_raises_is_logged_and_the_others_are_told(
    readiness: Readiness, socket_pair: Callable[..., Pair], news: News, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise ValueError("planted")

    for watch in (lambda sock: readiness.watch(sock, fail, fail), lambda sock: news.watch(readiness, sock)):
        ours, theirs = socket_pair()
        watch(ours)
        theirs.shutdown(socket.SHUT_WR)
        await wait_all_tasks_blocked()
    assert news.told == ["half-closed"]
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "planted"


@pytest.mark.parametrize("use_epoll", [True, False])
async def test_cancelling_run_ends_watching_for_good_and_run_may_begin_anew(
    use_epoll: bool, socket_pair: Callable[..., Pair], news: News
) -> None:
    readiness = Readiness(RealReadiness(use_epoll=use_epoll))
    for _ in range(2):
        ours, theirs = socket_pair()
        async with trio.open_nursery() as nursery:
            await nursery.start(lambda task_status, watcher=readiness.real: watcher.run(task_status=task_status))
            news.watch(readiness, ours)
            news.watch(readiness, socket_pair()[0])
            await wait_all_tasks_blocked()
            with pytest.raises(RuntimeError, match="already runs"):
                await readiness.real.run()
            nursery.cancel_scope.cancel()
        assert "not running" in repr(readiness)
        theirs.close()
        await wait_all_tasks_blocked()
        readiness.unwatch(ours)
        news.watch(readiness, ours)
        await wait_all_tasks_blocked()
    assert news.told == []


async def test_watch_without_run_tells_nothing(socket_pair: Callable[..., Pair], news: News) -> None:
    readiness = Readiness(RealReadiness())
    ours, _ = socket_pair()
    news.watch(readiness, ours)
    readiness.unwatch(ours)
    assert news.told == []


async def test_a_watch_the_system_has_no_room_for_is_said_once(
    readiness: Readiness, news: News, caplog: pytest.LogCaptureFixture
) -> None:
    class Full(socket.socket):
        """A socket whose descriptor can be neither watched nor duplicated, as when the table is full."""

        def fileno(self) -> int:
            raise OSError(errno.EMFILE, "Too many open files")

        def __repr__(self) -> str:
            return "<Full>"

    with Full() as sock:
        news.watch(readiness, sock)
        news.watch(readiness, sock)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "cannot watch <Full>" in caplog.text


# ---- waiting


async def test_waiting_for_a_closed_socket_raises(readiness: Readiness, socket_pair: Callable[..., Pair]) -> None:
    ours, _ = socket_pair()
    ours.close()
    with pytest.raises(trio.ClosedResourceError):
        await readiness.wait_readable(ours)
    with pytest.raises(trio.ClosedResourceError):
        await readiness.wait_writable(ours)


async def test_waiting_is_a_checkpoint_even_if_nothing_needs_waiting_for(
    readiness: Readiness, socket_pair: Callable[..., Pair]
) -> None:
    ours, theirs = socket_pair()
    theirs.send(b"x")
    for wait in (readiness.wait_readable, readiness.wait_writable):
        with trio.testing.assert_checkpoints():
            await wait(ours)
