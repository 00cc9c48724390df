"""What is special about carrying a stream: who owns it, when it is closed, and what its oddities cost.

What it has in common with a socket is in `test_transports*`; ceilings and TLS are in `test_stream_transport_limits`.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock, lockstep_stream_pair, memory_stream_pair, wait_all_tasks_blocked

from ktrio.net.carriers import PATIENCE, Carriers, NotCarriedError
from ktrio.net.errors import ConnectionGone
from ktrio.net.stream_transport import CLOSE_WITHIN, StreamTransport
from tests.net.foreign import Foreign, Odd, raising
from tests.net.peers import Pair
from tests.net.transporting import Watch, fill, receive, send_some

LOGGER = "ktrio.net.stream_transport"
ODD_ERRORS = {
    "bug": lambda: ValueError("odd"),
    "errno": lambda: OSError(5, "odd"),
    "closed-behind-our-back": lambda: trio.ClosedResourceError("odd"),
    "group": lambda: ExceptionGroup("odd", [ValueError("odd")]),
}
odd_errors = pytest.mark.parametrize("make_error", ODD_ERRORS.values(), ids=ODD_ERRORS)


@pytest.fixture
async def carriers(nursery: trio.Nursery) -> Carriers:
    carriers = Carriers()
    await nursery.start(carriers.run)
    return carriers


def carry(carriers: Carriers, odd: dict[str, Odd] | None = None) -> tuple[StreamTransport, Foreign, trio.abc.Stream]:
    ours, theirs = memory_stream_pair()
    foreign = Foreign(ours, odd or {})
    return carriers.carry(foreign), foreign, theirs


async def must_be_gone(transport: StreamTransport) -> None:
    """Whoever waits or asks learns that it is lost."""
    with pytest.raises(ConnectionGone):
        await receive(transport, 1)
    with pytest.raises(ConnectionGone):
        transport.send_nowait([b"x"])
    with pytest.raises(ConnectionGone):
        await transport.wait_writable()


async def must_live(transport: StreamTransport, peer: trio.abc.Stream) -> None:
    """Bytes go both ways."""
    await peer.send_all(b"still")
    assert await receive(transport, 5) == b"still"
    send_some(transport, b"alive")
    assert await peer.receive_some(5) == b"alive"


# ---- the carrier owns the stream


async def close(transport: StreamTransport, _: trio.abc.Stream) -> None:
    send_some(transport, b"last words")
    transport.close()


async def close_at_once(transport: StreamTransport, _: trio.abc.Stream) -> None:
    transport.close()


async def abort(transport: StreamTransport, _: trio.abc.Stream) -> None:
    send_some(transport, b"dropped")
    transport.abort()


async def close_then_abort(transport: StreamTransport, _: trio.abc.Stream) -> None:
    transport.close()
    transport.abort()


async def close_behind_a_half_close(transport: StreamTransport, _: trio.abc.Stream) -> None:
    send_some(transport, b"last words")
    transport.shutdown_write()
    await wait_all_tasks_blocked()
    transport.close()


async def close_after_the_peer(transport: StreamTransport, peer: trio.abc.Stream) -> None:
    await peer.aclose()
    await transport.wait_readable()
    transport.close()


async def close_after_a_loss(transport: StreamTransport, peer: trio.abc.Stream) -> None:
    await peer.aclose()
    send_some(transport, b"x")
    await wait_all_tasks_blocked()
    with pytest.raises(ConnectionGone):
        transport.send_nowait([b"x"])
    transport.close()


@pytest.mark.parametrize(
    "end",
    [
        close,
        close_at_once,
        abort,
        close_then_abort,
        close_behind_a_half_close,
        close_after_the_peer,
        close_after_a_loss,
    ],
)
async def test_the_carrier_and_nobody_else_closes_the_stream_once(
    carriers: Carriers, end: Callable, autojump_clock: MockClock
) -> None:
    transport, foreign, peer = carry(carriers)
    await end(transport, peer)
    await wait_all_tasks_blocked()
    assert foreign.times_closed == 1
    assert foreign.calls[-1] == "aclose"
    assert trio.lowlevel.current_task() not in foreign.callers
    # Its peer knows, and nothing of it is left.
    await trio.testing.wait_all_tasks_blocked()
    await trio.sleep(2 * PATIENCE)
    assert foreign.times_closed == 1


async def test_the_stream_is_closed_only_when_the_connection_is(carriers: Carriers, autojump_clock: MockClock) -> None:
    """A loss is told at once, but whoever uses the connection ends it."""
    transport, foreign, _ = carry(carriers, {"receive_some": raising(trio.BrokenResourceError())})
    await must_be_gone(transport)
    assert not transport.is_closed
    transport.close()
    await trio.sleep(2 * CLOSE_WITHIN)
    assert foreign.times_closed == 1


async def test_nothing_of_a_socket_stream_is_left_open(carriers: Carriers, tcp_pair: Callable[..., Pair]) -> None:
    ours, theirs = tcp_pair()
    transport = carriers.carry(trio.SocketStream(trio.socket.from_stdlib_socket(ours)))
    send_some(transport, b"x")
    transport.close()
    await trio.lowlevel.wait_readable(theirs)
    await wait_all_tasks_blocked()
    assert ours.fileno() == -1
    assert theirs.recv(2) == b"x"
    assert theirs.recv(1) == b""
    del transport
    gc.collect()  # and filterwarnings makes a ResourceWarning an error


# ---- odd errors


@odd_errors
async def test_an_odd_error_of_receive_some_is_logged_and_costs_its_connection_only(
    carriers: Carriers, make_error: Callable[[], Exception], caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    transport, foreign, _ = carry(carriers, {"receive_some": raising(make_error())})
    other, _, other_peer = carry(carriers)
    watch = Watch(transport)
    watch.begin()
    await must_be_gone(transport)
    await wait_all_tasks_blocked()
    assert watch.times_gone == 1
    transport.close()
    await trio.sleep(2 * CLOSE_WITHIN)
    assert foreign.times_closed == 1
    must_be_logged_once(caplog)
    await must_live(other, other_peer)
    other.close()


def must_be_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    [record] = [each for each in caplog.records if each.name == LOGGER]
    assert record.levelno >= logging.ERROR
    assert "<Foreign stream>" in record.getMessage()
    assert record.exc_info is not None
    assert "odd" in str(record.exc_info[1])


@odd_errors
@pytest.mark.parametrize("method", ["send_all", "send_eof"])
async def test_an_odd_error_of_sending_is_logged_and_costs_its_connection_only(
    carriers: Carriers,
    method: str,
    make_error: Callable[[], Exception],
    caplog: pytest.LogCaptureFixture,
    autojump_clock: MockClock,
) -> None:
    transport, foreign, _ = carry(carriers, {method: raising(make_error())})
    other, _, other_peer = carry(carriers)
    send_some(transport, b"x")
    if method == "send_eof":
        transport.shutdown_write()
    await must_be_gone(transport)
    transport.close()
    await trio.sleep(2 * CLOSE_WITHIN)
    assert foreign.times_closed == 1
    must_be_logged_once(caplog)
    await must_live(other, other_peer)
    other.close()


@odd_errors
@pytest.mark.parametrize("ending", ["close", "abort"])
async def test_an_odd_error_of_aclose_is_logged_and_costs_nothing(
    carriers: Carriers,
    ending: str,
    make_error: Callable[[], Exception],
    caplog: pytest.LogCaptureFixture,
    autojump_clock: MockClock,
) -> None:
    transport, foreign, peer = carry(carriers, {"aclose": raising_uncancelled(make_error())})
    other, _, other_peer = carry(carriers)
    getattr(transport, ending)()
    assert await peer.receive_some(1) == b""
    await trio.sleep(2 * CLOSE_WITHIN)
    assert foreign.times_closed == 1
    must_be_logged_once(caplog)
    await must_live(other, other_peer)
    other.close()


def raising_uncancelled(error: BaseException) -> Odd:
    """Without a checkpoint, at which a forceful close would be cancelled first."""

    async def odd() -> None:
        raise error

    return odd


@pytest.mark.parametrize("method", ["receive_some", "send_all", "send_eof", "aclose"])
async def test_a_peer_that_is_gone_is_nobodys_error(
    carriers: Carriers, method: str, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    transport, foreign, _ = carry(carriers, {method: raising(trio.BrokenResourceError("gone"))})
    if method != "aclose":
        send_some(transport, b"x")
        transport.shutdown_write()
        await must_be_gone(transport)
    transport.close()
    await trio.sleep(2 * CLOSE_WITHIN)
    assert foreign.times_closed == 1
    assert caplog.records == []


@pytest.mark.parametrize("method", ["receive_some", "send_all", "aclose"])
async def test_who_means_the_whole_program_is_let_through(method: str, autojump_clock: MockClock) -> None:
    async def serve() -> None:
        async with trio.open_nursery() as nursery:
            carriers = Carriers()
            await nursery.start(carriers.run)
            transport, _, _ = carry(carriers, {method: raising_uncancelled(KeyboardInterrupt())})
            send_some(transport, b"x")
            if method == "aclose":
                transport.close()
            await trio.sleep_forever()

    with pytest.raises(BaseExceptionGroup) as caught:
        await serve()
    matching, rest = caught.value.split(KeyboardInterrupt)
    assert matching is not None
    assert rest is None


async def test_an_error_after_close_is_not_the_connections_any_more(
    carriers: Carriers, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    transport, foreign, _ = carry(carriers, {"send_all": raising(ValueError("late"))})
    other, _, other_peer = carry(carriers)
    send_some(transport, b"x")
    transport.close()
    await trio.sleep(2 * CLOSE_WITHIN)
    assert foreign.times_closed == 1
    assert [each.name for each in caplog.records] == [LOGGER]
    await must_live(other, other_peer)
    other.close()


# ---- carry belongs to run


async def test_carry_needs_run(autojump_clock: MockClock) -> None:
    ours, _ = memory_stream_pair()
    foreign = Foreign(ours)
    carriers = Carriers()
    with pytest.raises(NotCarriedError):
        carriers.carry(foreign)
    async with trio.open_nursery() as nursery:
        await nursery.start(carriers.run)
        nursery.cancel_scope.cancel()
    with pytest.raises(NotCarriedError):
        carriers.carry(foreign)
    assert foreign.calls == []


# ---- cancellation


async def test_cancelled_carriers_let_connections_say_last_words(autojump_clock: MockClock) -> None:
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        carriers = Carriers()
        await nursery.start(carriers.run)
        transport, foreign, peer = carry(carriers)
        await must_live(transport, peer)

        async def say_last_words() -> None:
            with trio.CancelScope(shield=True):
                await trio.sleep(PATIENCE / 2)
                await peer.send_all(b"and you?")
                assert await receive(transport, 8) == b"and you?"
                send_some(transport, b"goodbye")
                transport.close()

        nursery.start_soon(say_last_words)
        nursery.cancel_scope.cancel()
    assert trio.current_time() - began == pytest.approx(PATIENCE / 2)
    assert await peer.receive_some(100) == b"goodbye"
    assert await peer.receive_some(100) == b""
    assert foreign.times_closed == 1


async def test_cancelled_carriers_end_in_time_whatever_connections_do(autojump_clock: MockClock) -> None:
    began = trio.current_time()
    ended: list[str] = []
    foreigns: list[Foreign] = []
    async with trio.open_nursery() as waiters:
        async with trio.open_nursery() as nursery:
            carriers = Carriers()
            await nursery.start(carriers.run)
            for which in ("wait_readable", "wait_writable"):
                ours, _ = lockstep_stream_pair()
                foreigns.append(Foreign(ours))
                transport = carriers.carry(foreigns[-1])
                await fill(transport)

                async def wait(transport=transport, which=which) -> None:
                    with pytest.raises(ConnectionGone):
                        await getattr(transport, which)()
                    ended.append(which)

                waiters.start_soon(wait)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert 0 < trio.current_time() - began <= PATIENCE
    assert sorted(ended) == ["wait_readable", "wait_writable"]
    assert [each.times_closed for each in foreigns] == [1, 1]


async def test_a_stream_carried_as_everything_is_cancelled_is_closed(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        carriers = Carriers()
        await nursery.start(carriers.run)
        transport, foreign, _ = carry(carriers)
        nursery.cancel_scope.cancel()
        transport.close()
    assert foreign.times_closed == 1


async def test_carriers_without_connections_end_at_once(autojump_clock: MockClock) -> None:
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        carriers = Carriers()
        await nursery.start(carriers.run)
        transport, _, _ = carry(carriers)
        transport.close()
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert trio.current_time() == began


async def test_a_goodbye_begun_before_the_cancellation_is_finished(autojump_clock: MockClock) -> None:
    ours, theirs = lockstep_stream_pair()
    async with trio.open_nursery() as outside:
        arrived: list[bytes] = []

        @outside.start_soon
        async def read() -> None:
            await trio.sleep(CLOSE_WITHIN / 2)
            while data := await theirs.receive_some(100):
                arrived.append(bytes(data))

        async with trio.open_nursery() as nursery:
            carriers = Carriers()
            await nursery.start(carriers.run)
            transport = carriers.carry(ours)
            send_some(transport, b"the answer")
            transport.close()
            nursery.cancel_scope.cancel()
    assert b"".join(arrived) == b"the answer"
