"""The ceilings of a carried stream: what lies in its buffers, and how long its goodbye may take. And TLS."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, lockstep_stream_pair, memory_stream_pair, wait_all_tasks_blocked

from ktrio.net.carriers import Carriers
from ktrio.net.errors import ConnectionGone
from ktrio.net.stream_transport import CLOSE_WITHIN, READ_AHEAD, SEND_BUFFER, SEND_SLICE
from tests.net.foreign import Foreign, NotHalfCloseable
from tests.net.peers import tls_pair
from tests.net.transporting import Watch, content, fill, receive, send, send_some


@pytest.fixture
async def carriers(nursery: trio.Nursery) -> Carriers:
    carriers = Carriers()
    await nursery.start(carriers.run)
    return carriers


# ---- buffers


async def test_read_ahead_is_a_ceiling_at_every_moment(carriers: Carriers) -> None:
    ours, theirs = memory_stream_pair()
    foreign = Foreign(ours)
    transport = carriers.carry(foreign)
    data = content(10 * READ_AHEAD)
    await theirs.send_all(data)
    await theirs.send_eof()
    received = bytearray()
    while True:
        await wait_all_tasks_blocked()
        # It reads ahead as far as it may, and not a byte more.
        assert foreign.received - len(received) <= READ_AHEAD
        got = transport.receive_nowait(len(received) // 2 + 1)
        assert got is not None
        if not got:
            break
        received += got
    assert bytes(received) == data
    assert foreign.asked_for is not None
    assert foreign.asked_for <= READ_AHEAD
    transport.close()


async def test_a_watch_looks_no_further_than_it_reads_ahead(carriers: Carriers) -> None:
    ours, theirs = memory_stream_pair()
    foreign = Foreign(ours)
    transport = carriers.carry(foreign)
    watch = Watch(transport)
    watch.begin()
    await theirs.send_all(bytes(2 * READ_AHEAD))
    await theirs.send_eof()
    await wait_all_tasks_blocked()
    assert foreign.received <= READ_AHEAD
    assert watch.half_closes == 0
    await receive(transport, READ_AHEAD + 1)
    await wait_all_tasks_blocked()
    assert watch.half_closes == 1
    transport.close()


async def test_the_send_buffer_is_a_ceiling(carriers: Carriers) -> None:
    ours, theirs = lockstep_stream_pair()
    foreign = Foreign(ours)
    transport = carriers.carry(foreign)
    assert transport.send_nowait([bytes(10 * SEND_BUFFER)]) == SEND_BUFFER
    assert transport.send_nowait([b"x"]) is None
    assert transport.undelivered_bytes() == SEND_BUFFER
    taken = SEND_BUFFER + len(await fill(transport))
    assert taken <= SEND_BUFFER + SEND_SLICE
    for _ in range(taken // 16):
        assert len(await theirs.receive_some(16)) == 16
    await wait_all_tasks_blocked()
    assert transport.undelivered_bytes() == 0
    assert foreign.largest_send <= SEND_SLICE
    transport.close()


async def test_what_the_peer_has_taken_is_known_to_a_slice(carriers: Carriers) -> None:
    ours, theirs = lockstep_stream_pair()
    transport = carriers.carry(ours)
    taken = len(await fill(transport))
    before = transport.undelivered_bytes()
    assert before is not None
    read = 0
    while read < taken:
        read += len(await theirs.receive_some(1000))
        await wait_all_tasks_blocked()
        left = transport.undelivered_bytes()
        assert left is not None
        assert taken - read <= left <= taken - read + SEND_SLICE
    transport.close()


# ---- goodbyes


async def test_a_peer_that_never_reads_is_dropped_after_a_while(carriers: Carriers, autojump_clock: MockClock) -> None:
    ours, theirs = lockstep_stream_pair()
    foreign = Foreign(ours)
    transport = carriers.carry(foreign)
    taken = await fill(transport)
    transport.close()
    await trio.sleep(CLOSE_WITHIN * 0.99)
    assert foreign.times_closed == 0
    await trio.sleep(CLOSE_WITHIN * 0.02)
    assert foreign.times_closed == 1
    arrived = 0
    while data := await theirs.receive_some(1 << 16):
        arrived += len(data)
    assert arrived < len(taken)


@pytest.mark.parametrize(("ending", "seconds"), [("close", CLOSE_WITHIN), ("abort", 0)])
async def test_a_stream_whose_goodbye_never_ends_is_closed_forcefully(
    carriers: Carriers, ending: str, seconds: float, autojump_clock: MockClock
) -> None:
    ours, theirs = memory_stream_pair()
    foreign = Foreign(ours, {"aclose": trio.sleep_forever})
    transport = carriers.carry(foreign)
    began = trio.current_time()
    getattr(transport, ending)()
    assert await theirs.receive_some(1) == b""
    assert trio.current_time() - began == pytest.approx(seconds)


async def test_close_has_one_allowance_for_the_rest_and_the_goodbye(
    carriers: Carriers, autojump_clock: MockClock
) -> None:
    ours, theirs = lockstep_stream_pair()
    foreign = Foreign(ours, {"aclose": trio.sleep_forever})
    transport = carriers.carry(foreign)
    send_some(transport, b"rest")
    began = trio.current_time()
    transport.close()
    await trio.sleep(CLOSE_WITHIN / 2)
    assert await theirs.receive_some(4) == b"rest"
    assert await theirs.receive_some(4) == b""
    assert trio.current_time() - began == pytest.approx(CLOSE_WITHIN)


async def test_a_peer_that_goes_on_sending_does_not_hold_a_close(carriers: Carriers, autojump_clock: MockClock) -> None:
    ours, theirs = lockstep_stream_pair()
    transport = carriers.carry(ours)
    began = trio.current_time()

    async def pour_for_ever() -> None:
        while True:
            await theirs.send_all(bytes(1000))

    async def pour() -> None:
        with pytest.raises(trio.BrokenResourceError):
            await pour_for_ever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(pour)
        await wait_all_tasks_blocked()
        send_some(transport, b"the answer")
        transport.close()
        assert await theirs.receive_some(100) == b"the answer"
        assert await theirs.receive_some(100) == b""
    assert trio.current_time() == began


async def test_an_abort_of_a_stuck_connection_ends_it_at_once(carriers: Carriers, autojump_clock: MockClock) -> None:
    ours, _ = lockstep_stream_pair()
    foreign = Foreign(ours)
    transport = carriers.carry(foreign)
    await fill(transport)
    transport.abort()
    await wait_all_tasks_blocked()
    assert foreign.times_closed == 1


async def test_a_half_close_that_never_ends_is_dropped_with_the_rest(
    carriers: Carriers, autojump_clock: MockClock
) -> None:
    ours, theirs = memory_stream_pair()
    foreign = Foreign(ours, {"send_eof": trio.sleep_forever})
    transport = carriers.carry(foreign)
    send_some(transport, b"x")
    transport.shutdown_write()
    await wait_all_tasks_blocked()
    await theirs.send_all(b"heard")
    assert await receive(transport, 5) == b"heard"
    began = trio.current_time()
    transport.close()
    assert await theirs.receive_some(1) == b"x"
    assert await theirs.receive_some(1) == b""
    assert trio.current_time() - began <= CLOSE_WITHIN
    await wait_all_tasks_blocked()
    assert foreign.times_closed == 1


async def test_a_stream_that_cannot_be_closed_half_is_left_as_it_is(carriers: Carriers) -> None:
    ours, theirs = memory_stream_pair()
    transport = carriers.carry(NotHalfCloseable(ours))
    send_some(transport, b"one")
    transport.shutdown_write()
    await wait_all_tasks_blocked()
    send_some(transport, b"two")
    await theirs.send_all(b"heard")
    assert await receive(transport, 5) == b"heard"
    transport.close()
    await wait_all_tasks_blocked()
    assert await theirs.receive_some(100) == b"onetwo"
    assert await theirs.receive_some(100) == b""


@pytest.mark.parametrize("leave", ["send_eof", "aclose"])
async def test_what_the_peer_does_during_a_goodbye_is_told_to_nobody(
    carriers: Carriers, leave: str, autojump_clock: MockClock
) -> None:
    ours, theirs = lockstep_stream_pair()
    foreign = Foreign(ours)
    transport = carriers.carry(foreign)
    await fill(transport)
    watch = Watch(transport)
    watch.begin()
    transport.close()
    await wait_all_tasks_blocked()
    assert foreign.times_closed == 0
    await getattr(theirs, leave)()
    await trio.sleep(2 * CLOSE_WITHIN)
    assert foreign.times_closed == 1
    assert (watch.half_closes, watch.times_gone) == (0, 0)


# ---- TLS


async def test_a_tls_handshake_with_somebody_who_speaks_plainly_costs_its_connection_only(
    carriers: Carriers, caplog: pytest.LogCaptureFixture
) -> None:
    ours, theirs = memory_stream_pair()
    server, _ = tls_pair(ours, theirs)
    transport = carriers.carry(server)
    other_ours, other_theirs = tls_pair(*memory_stream_pair())
    other = carriers.carry(other_ours)
    watch = Watch(transport)
    watch.begin()
    await theirs.send_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    with pytest.raises(ConnectionGone):
        await receive(transport, 1)
    assert watch.times_gone == 1
    with pytest.raises(ConnectionGone):
        await send(transport, b"x")
    transport.close()
    await other_theirs.send_all(b"still")
    assert await receive(other, 5) == b"still"
    send_some(other, b"alive")
    assert await other_theirs.receive_some(5) == b"alive"
    assert caplog.records == []
    other.abort()


async def test_a_tls_handshake_that_never_comes_does_not_hold_a_close(
    carriers: Carriers, autojump_clock: MockClock
) -> None:
    ours, theirs = memory_stream_pair()
    server, _ = tls_pair(ours, theirs)
    transport = carriers.carry(server)
    send_some(transport, b"nobody will read this")
    began = trio.current_time()
    transport.close()
    while await theirs.receive_some(1 << 16):
        pass
    assert trio.current_time() - began <= CLOSE_WITHIN


@pytest.mark.parametrize("is_known", [True, False])
async def test_a_close_waits_for_nothing_where_a_tls_handshake_has_failed(
    carriers: Carriers, is_known: bool, autojump_clock: MockClock
) -> None:
    """One task fails to shake hands, and the other waits for it to succeed, for ever."""
    ours, theirs = memory_stream_pair()
    server, _ = tls_pair(ours, theirs)
    transport = carriers.carry(server)
    await wait_all_tasks_blocked()
    send_some(transport, b"greetings")
    await wait_all_tasks_blocked()
    began = trio.current_time()
    if not is_known:
        transport.close()
    await theirs.send_all(b"HELO h\r\n")
    if is_known:
        with pytest.raises(ConnectionGone):
            await receive(transport, 1)
        transport.close()
    while await theirs.receive_some(1 << 16):
        pass
    assert trio.current_time() == began


async def test_a_connection_that_only_sends_shakes_hands_too(carriers: Carriers) -> None:
    server, client = tls_pair(*memory_stream_pair())
    transport = carriers.carry(server)
    send_some(transport, b"greetings")
    assert await client.receive_some(100) == b"greetings"
    transport.close()
    assert await client.receive_some(100) == b""


async def test_tls_tells_a_truncation_from_an_end(carriers: Carriers) -> None:
    for orderly in (True, False):
        server, client = tls_pair(*memory_stream_pair())
        transport = carriers.carry(server)
        await client.send_all(b"data")
        assert await receive(transport, 4) == b"data"
        await (client if orderly else client.transport_stream).aclose()
        if orderly:
            assert await receive(transport, 1) == b""
        else:
            with pytest.raises(ConnectionGone):
                await receive(transport, 1)
        transport.close()
