"""Echo: every byte back, in order, whatever it is; half-close honoured; a peer that does not read is not read from."""

from __future__ import annotations

import os

import pytest
import trio

from ktrio import QueueOptions, Timeouts
from tests.server.harness import LATE, Ended, advance, settle, trickle

MIB = 1 << 20


async def exchange(client, data: bytes) -> bytes:
    """Send and read at once, as a peer must that sends more than the buffers hold."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send, data)
        return await client.read(len(data))


@pytest.mark.parametrize("size", [1, 4095, 4096, 65_536, 65_537, MIB + 1])
async def test_random_bytes_come_back_exactly(start_echo, connect, size):
    client = await connect(await start_echo())
    data = os.urandom(size)
    assert await exchange(client, data) == data
    assert client.is_open


async def test_every_byte_value_comes_back_and_nul_ends_nothing(start_echo, connect):
    client = await connect(await start_echo())
    data = b"\0" * 10 + bytes(range(256)) + b"\r\n\0"
    assert await exchange(client, data) == data


async def test_byte_by_byte_comes_back_as_it_is_sent(start_echo, connect):
    client = await connect(await start_echo())
    for byte in b"slow \0 typing":
        await client.send(bytes([byte]))
        assert await client.read(1) == bytes([byte])


async def test_half_close_gets_everything_then_the_end(start_echo, connect):
    server = await start_echo()
    client = await connect(server)
    data = os.urandom(3 * MIB)

    async def send_and_finish():
        await client.send(data)
        client.finish()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send_and_finish)
        assert await client.read_to_end() == data
    await settle()
    assert server.statistics().open == 0
    assert server.statistics().reasons == {"peer-closed": 1}


async def test_half_close_without_a_byte_is_closed(start_echo, connect):
    client = await connect(await start_echo())
    client.finish()
    assert await client.read_end() == "fin"


async def test_peer_that_never_reads_is_no_longer_read_from(start_echo, connect):
    """Back-pressure: memory is bounded by the kernel's buffers, not by what the peer sends."""
    server = await start_echo()
    client = await connect(server)
    sent = 0

    async def push():
        nonlocal sent
        while True:
            sent += await client.sock.send(b"x" * 65_536)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(push)
        await settle()
        at_rest = sent
        await settle()
        assert sent == at_rest
        nursery.cancel_scope.cancel()
    assert sent < 64 * MIB
    other = await connect(server)
    assert await exchange(other, b"not its fault") == b"not its fault"
    assert await client.read(sent) == b"x" * sent


async def test_peer_that_never_reads_is_reset_after_the_write_timeout(start_echo, connect, mock_clock):
    server = await start_echo()
    client = await connect(server, receive_buffer=4096)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send, b"x" * 64 * MIB)
        await settle()
        nursery.cancel_scope.cancel()
    await trickle(mock_clock, 29)
    assert server.statistics().open == 1
    await advance(mock_clock, 1 + LATE)
    assert server.statistics().open == 0
    assert server.statistics().reasons == {"write-timeout": 1}
    with pytest.raises(Ended) as seen:
        await client.read_to_end()
    assert seen.value.how == "reset"


async def test_idle_peer_is_closed_after_300_seconds(start_echo, connect, mock_clock):
    """The default of echo; silent, without a byte more."""
    server = await start_echo()
    client = await connect(server)
    await client.send(b"hello")
    assert await client.read(5) == b"hello"
    await advance(mock_clock, 299.9)
    assert client.is_open
    await advance(mock_clock, 0.1 + LATE)
    assert await client.read_end() == "fin"
    assert server.statistics().reasons == {"idle-timeout": 1}


async def test_byte_renews_the_idle_time(start_echo, connect, mock_clock):
    client = await connect(await start_echo())
    for _ in range(4):
        await advance(mock_clock, 200)
        await client.send(b"x")
        assert await client.read(1) == b"x"


async def test_silent_peer_of_echo_is_an_idle_one(start_echo, connect, mock_clock):
    """It owes no head: a person may connect and think."""
    client = await connect(await start_echo())
    await advance(mock_clock, 250)
    await client.send(b"x")
    assert await client.read(1) == b"x"


async def test_idle_time_of_echo_is_a_setting(start_echo, connect, mock_clock):
    client = await connect(await start_echo(timeouts=Timeouts(idle=7)))
    await advance(mock_clock, 6.9)
    assert client.is_open
    await advance(mock_clock, 0.1 + LATE)
    assert await client.read_end() == "fin"


async def test_reset_of_one_peer_costs_the_others_nothing(start_echo, connect, caplog):
    server = await start_echo()
    clients = [await connect(server) for _ in range(20)]
    for client in clients:
        await client.send(b"x" * 1000)
    for client in clients[::2]:
        client.reset()
    for client in clients[1::2]:
        assert await client.read(1000) == b"x" * 1000
    await settle()
    statistics = server.statistics()
    assert (statistics.open, statistics.errors) == (10, 0)
    assert caplog.records == []


async def test_many_peers_are_served_at_once(start_echo, connect):
    server = await start_echo()
    done = 0

    async def talk(number):
        nonlocal done
        client = await connect(server)
        for turn in range(5):
            data = b"%d:%d;" % (number, turn) * 500
            assert await exchange(client, data) == data
        done += 1

    async with trio.open_nursery() as nursery:
        for number in range(50):
            nursery.start_soon(talk, number)
    assert done == 50


async def test_idle_and_stalled_peers_take_no_slot(start_echo, connect):
    """`max_active` limits work, never slow or idle peers."""
    server = await start_echo(queue=QueueOptions(max_active=1, capacity=1))
    for _ in range(20):
        await exchange(await connect(server), b"then idle")
    stalled = await connect(server, receive_buffer=4096)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stalled.send, b"x" * 32 * MIB)
        await settle()
        assert await exchange(await connect(server), b"newcomer") == b"newcomer"
        nursery.cancel_scope.cancel()
