"""A receive that a shutdown ends: whoever is between two requests leaves, and nothing that has come is lost."""

from __future__ import annotations

import pytest
import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from tests.server.harness import settle
from tests.server.streams import making_streams

every_kind = pytest.mark.parametrize("kind", ["tcp", "unix", "memory", "lockstep"])
every_socket = pytest.mark.parametrize("kind", ["tcp", "unix"])


@every_kind
async def test_receive_unless_draining_is_receive_some_while_the_server_does_not_drain(kind):
    async with making_streams(kind) as make, trio.open_nursery() as nursery:
        stream, peer = await make()
        nursery.start_soon(peer.send_all, b"ab")
        await settle()
        with assert_checkpoints():
            assert await stream.receive_unless_draining(1) == b"a"
        assert await stream.receive_unless_draining() == b"b"
        await peer.send_eof()
        assert await stream.receive_unless_draining() == b""


@every_kind
async def test_receive_unless_draining_is_none_once_the_server_drains(kind):
    """Whether it waits by then or only begins."""
    received = []

    async def receive():
        received.append(await stream.receive_unless_draining())

    async with making_streams(kind) as make, trio.open_nursery() as nursery:
        stream, peer = await make()
        nursery.start_soon(receive)
        await settle()
        make.draining.set()
        await settle()
        assert received == [None]
        with assert_checkpoints():
            assert await stream.receive_unless_draining() is None
        nursery.start_soon(peer.send_all, b"late")
        assert await stream.receive_some() == b"late"


@every_kind
@pytest.mark.parametrize("waits", [False, True])
async def test_bytes_that_had_arrived_come_before_the_draining(kind, waits):
    received = []

    async def receive():
        received.append(await stream.receive_unless_draining())

    async with making_streams(kind) as make, trio.open_nursery() as nursery:
        stream, peer = await make()
        if waits:
            nursery.start_soon(receive)
            await settle()
        await peer.send_all(b"a request")
        if not waits:
            await settle()
            nursery.start_soon(receive)
        make.draining.set()
        await settle()
        assert received == [b"a request"]
        assert await stream.receive_unless_draining() is None


@every_kind
async def test_fin_that_had_arrived_comes_before_the_draining(kind):
    async with making_streams(kind) as make:
        stream, peer = await make()
        await peer.send_eof()
        await settle()
        make.draining.set()
        assert await stream.receive_unless_draining() == b""


@every_socket
async def test_bytes_and_draining_of_one_turn_are_never_lost(kind):
    """Whichever of the two tasks runs first; many times, because Trio shuffles."""
    async with making_streams(kind) as make:
        for _ in range(30):
            make.draining = trio.Event()
            stream, _ = await make()
            received = []

            async def receive(stream=stream, received=received):
                received.append(await stream.receive_unless_draining())

            async with trio.open_nursery() as nursery:
                nursery.start_soon(receive)
                await wait_all_tasks_blocked()
                make.draining.set()
                make.sockets[-1].send(b"x")
            assert received in ([b"x"], [None])
            if received == [None]:
                assert await stream.receive_some() == b"x"


@every_socket
async def test_bytes_and_cancellation_of_one_turn_are_never_lost(kind):
    """Whether or not it was in time to take them; many times, because Trio shuffles."""
    async with making_streams(kind) as make:
        for _ in range(30):
            stream, _ = await make()
            received = []

            async def receive(stream=stream, received=received):
                received.append(await stream.receive_unless_draining())

            async with trio.open_nursery() as nursery:
                nursery.start_soon(receive)
                await wait_all_tasks_blocked()
                make.sockets[-1].send(b"x")
                for _ in range(len(make.connections) % 4):
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
            assert received or await stream.receive_some() == b"x"


async def test_cancellation_while_receiving_is_bare():
    """`except trio.Cancelled` finds it, as around `receive_some`."""
    async with making_streams("memory") as make:
        stream, _ = await make()
        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as scope:
                nursery.start_soon(_cancel_later, scope)
                with pytest.raises(trio.Cancelled):
                    await stream.receive_unless_draining()


async def _cancel_later(scope):
    await wait_all_tasks_blocked()
    scope.cancel()


async def test_cancellation_is_not_taken_for_draining():
    async with making_streams("memory") as make:
        stream, _ = await make()
        make.draining.set()
        with trio.CancelScope() as scope:
            scope.cancel()
            await stream.receive_unless_draining()
        assert scope.cancelled_caught


@pytest.mark.parametrize("moment", ["before", "while"])
async def test_receive_unless_draining_on_a_closed_stream_is_an_error(moment):
    async with making_streams("memory") as make, trio.open_nursery() as nursery:
        stream, _ = await make()
        if moment == "before":
            await stream.aclose()
        else:
            nursery.start_soon(_close_later, stream)
        with pytest.raises(trio.ClosedResourceError):
            await stream.receive_unless_draining()


async def _close_later(stream):
    await wait_all_tasks_blocked()
    await stream.aclose()
