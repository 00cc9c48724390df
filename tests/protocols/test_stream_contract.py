"""A `ConnectionStream` is what `trio.abc.HalfCloseableStream` says, over every transport there is."""

from __future__ import annotations

import pytest
import trio
from trio.testing import (
    assert_checkpoints,
    check_half_closeable_stream,
    check_two_way_stream,
    wait_all_tasks_blocked,
)

from ktrio import ConnectionStream
from tests.server.harness import let_time_fly, settle
from tests.server.streams import making_streams, receive_all, receive_exactly, reset

KINDS = ["tcp", "unix", "memory", "lockstep"]
CLOGGABLE = ["tcp", "unix", "lockstep"]
SOCKETS = ["tcp", "unix"]
every_kind = pytest.mark.parametrize("kind", KINDS)
every_socket = pytest.mark.parametrize("kind", SOCKETS)
every_cloggable = pytest.mark.parametrize("kind", CLOGGABLE)


@every_kind
async def test_stream_passes_trios_own_check_of_half_closeable_streams(kind):
    async with making_streams(kind) as make:
        if kind == "lockstep":
            let_time_fly()  # what nobody takes is dropped some time after the close
        await check_half_closeable_stream(make, make.clogged if kind in CLOGGABLE else None)


async def test_stream_over_tls_passes_trios_own_check_of_two_way_streams():
    """TLS cannot be closed half."""
    async with making_streams("tls") as make:
        await check_two_way_stream(make, None)


# -- What it is -------------------------------------------------------------------------------------------------------


@every_kind
async def test_stream_names_both_ends_in_its_repr(kind):
    async with making_streams(kind) as make:
        stream, _ = await make()
        assert (stream.peer, stream.local) == ("a peer", "a server")
        assert "a peer" in repr(stream)
        assert not stream.draining.is_set()
        make.draining.set()
        assert stream.draining.is_set()


# -- receive_some -----------------------------------------------------------------------------------------------------


@every_kind
async def test_receive_some_gives_bytes_as_soon_as_there_are_any(kind):
    async with making_streams(kind) as make, trio.open_nursery() as nursery:
        stream, peer = await make()
        nursery.start_soon(peer.send_all, b"few")
        assert await receive_exactly(stream, 3) == b"few"


@every_kind
async def test_receive_some_gives_at_most_so_many_bytes(kind):
    async with making_streams(kind) as make, trio.open_nursery() as nursery:
        stream, peer = await make()
        nursery.start_soon(peer.send_all, b"x" * 1000)
        await settle()
        assert [len(await stream.receive_some(size)) for size in (1, 10, 1 << 30)] == [1, 10, 989]


async def test_receive_some_gives_at_most_64_kib():
    async with making_streams("memory") as make:
        stream, peer = await make()
        await peer.send_all(b"x" * 1_000_000)
        sizes = []
        while sum(sizes) < 1_000_000:
            sizes.append(len(await stream.receive_some(1 << 30)))
        assert max(sizes) <= 64 * 1024


@every_kind
async def test_receive_some_gives_the_end_again_and_again_and_sending_goes_on(kind):
    async with making_streams(kind) as make, trio.open_nursery() as nursery:
        stream, peer = await make()
        await peer.send_eof()
        for _ in range(3):
            with assert_checkpoints():
                assert await stream.receive_some() == b""
        nursery.start_soon(stream.send_all, b"still here")
        assert await receive_exactly(peer, 10) == b"still here"


@every_kind
async def test_cancelled_receive_some_takes_nothing(kind):
    async with making_streams(kind) as make, trio.open_nursery() as nursery:
        stream, peer = await make()
        nursery.start_soon(peer.send_all, b"kept")
        await settle()
        with trio.CancelScope() as scope:
            scope.cancel()
            await stream.receive_some()
        assert scope.cancelled_caught
        assert await stream.receive_some() == b"kept"


@pytest.mark.parametrize("most", [0, -1])
@pytest.mark.parametrize("method", ["receive_some", "receive_unless_draining"])
async def test_receiving_less_than_one_byte_is_refused(method, most):
    async with making_streams("memory") as make:
        stream, _ = await make()
        with pytest.raises(ValueError, match=str(most)):
            await getattr(stream, method)(most)


@pytest.mark.parametrize("most", [1.5, "1"])
@pytest.mark.parametrize("method", ["receive_some", "receive_unless_draining"])
async def test_receiving_no_number_of_bytes_is_refused(method, most):
    async with making_streams("memory") as make:
        stream, _ = await make()
        with pytest.raises(TypeError):
            await getattr(stream, method)(most)


async def test_reset_breaks_both_directions_and_names_its_cause():
    async with making_streams("tcp") as make:
        stream, peer = await make()
        reset(peer)
        await settle()
        with pytest.raises(trio.BrokenResourceError) as caught:
            await stream.receive_some()
        assert caught.value.__cause__ is not None
        with pytest.raises(trio.BrokenResourceError):
            await stream.send_all(b"x")


@pytest.mark.parametrize("first", ["receive_some", "receive_unless_draining"])
@pytest.mark.parametrize("second", ["receive_some", "receive_unless_draining"])
@every_kind
async def test_second_receiver_is_told_that_the_stream_is_busy_and_the_first_goes_on(kind, first, second):
    received = []

    async def receive():
        received.append(await getattr(stream, first)())

    async with making_streams(kind) as make, trio.open_nursery() as nursery:
        stream, peer = await make()
        nursery.start_soon(receive)
        await wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await getattr(stream, second)()
        await peer.send_all(b"for the first")
    assert received == [b"for the first"]


# -- send_all, send_eof, aclose ---------------------------------------------------------------------------------------


@every_kind
async def test_send_all_sends_all_of_it(kind):
    data = bytes(range(256)) * 2000
    async with making_streams(kind) as make, trio.open_nursery() as nursery:
        stream, peer = await make()
        nursery.start_soon(stream.send_all, data)
        assert await receive_exactly(peer, len(data)) == data


async def test_send_all_of_much_lets_others_have_their_turns():
    """Even where nothing ever waits."""
    turns = 0

    async def count():
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with making_streams("memory") as make, trio.open_nursery() as nursery:
        stream, _ = await make()
        nursery.start_soon(count)
        await stream.send_all(bytes(8 << 20))
        assert turns >= 7
        nursery.cancel_scope.cancel()


@every_kind
async def test_send_eof_comes_behind_what_was_sent(kind):
    async with making_streams(kind) as make, trio.open_nursery() as nursery:
        stream, peer = await make()
        received = []

        async def receive():
            received.append(await receive_all(peer))

        nursery.start_soon(receive)
        await stream.send_all(b"x" * 100_000)
        await stream.send_eof()
        await stream.send_eof()
        await settle()
        assert received == [b"x" * 100_000]
        for send in (stream.send_all, lambda _: stream.wait_send_all_might_not_block()):
            with pytest.raises(trio.ClosedResourceError):
                await send(b"x")
        await peer.send_all(b"the other way")
        assert await stream.receive_some() == b"the other way"


@every_kind
async def test_send_eof_on_a_closed_stream_is_an_error(kind):
    async with making_streams(kind) as make:
        stream, _ = await make()
        await stream.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await stream.send_eof()


async def test_send_eof_after_the_peer_has_gone_is_an_error_of_a_broken_stream():
    async with making_streams("tcp") as make:
        stream, peer = await make()
        reset(peer)
        await settle()
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()
        with pytest.raises(trio.BrokenResourceError):
            await stream.send_eof()


@every_cloggable
@pytest.mark.parametrize("method", ["receive_some", "send_all", "wait_send_all_might_not_block"])
async def test_whoever_waits_in_a_stream_that_is_closed_gets_an_error(kind, method):
    async with making_streams(kind) as make, trio.open_nursery() as nursery:
        stream, _ = await (make() if method == "receive_some" else make.clogged())
        nursery.start_soon(_close_later, stream)
        with pytest.raises(trio.ClosedResourceError):
            await getattr(stream, method)(*[b"x"] * (method == "send_all"))


@every_kind
async def test_aclose_is_idempotent_and_the_peer_gets_what_was_sent(kind):
    async with making_streams(kind) as make, trio.open_nursery() as nursery:
        stream, peer = await make()
        received = []

        async def read() -> None:
            received.append(await receive_all(peer))

        nursery.start_soon(stream.send_all, b"last words")
        await settle()
        nursery.start_soon(read)
        for _ in range(3):
            with assert_checkpoints():
                await stream.aclose()
        await settle()
        assert received == [b"last words"]


@every_kind
async def test_cancelled_aclose_closes_as_well(kind):
    async with making_streams(kind) as make:
        stream, peer = await make()
        with trio.CancelScope() as scope:
            scope.cancel()
            await stream.aclose()
        assert await receive_all(peer) == b""


async def test_stream_is_a_half_closeable_stream_and_closes_as_a_context_manager():
    async with making_streams("memory") as make:
        stream, peer = await make()
        assert isinstance(stream, trio.abc.HalfCloseableStream)
        async with stream:
            assert isinstance(stream, ConnectionStream)
        assert await receive_all(peer) == b""


async def _close_later(stream):
    await wait_all_tasks_blocked()
    await stream.aclose()
