"""`STREAM_TIMEOUTS`: what `serve_stream` and `serve_echo` use if nothing is said, and where a change starts from."""

from __future__ import annotations

import dataclasses

import pytest

from ktrio import STREAM_TIMEOUTS, Timeouts
from ktrio.protocols.echo import Echo
from ktrio.testing import serve_in_memory
from tests.server.harness import LATE, advance, settle


async def listen(stream):
    while await stream.receive_some():
        pass


def idle_time(server) -> float:
    [connection] = server.connections()
    assert connection.phase == "idle"
    return connection.deadline


def test_they_differ_from_the_others_in_the_idle_time_alone():
    assert dataclasses.replace(STREAM_TIMEOUTS, idle=Timeouts().idle) == Timeouts()
    assert STREAM_TIMEOUTS.idle == 300


def test_change_of_another_one_keeps_the_idle_time():
    changed = dataclasses.replace(STREAM_TIMEOUTS, write=60)
    assert (changed.idle, changed.write) == (300, 60)
    assert dataclasses.replace(changed, write=STREAM_TIMEOUTS.write) == STREAM_TIMEOUTS


@pytest.mark.parametrize(
    ("options", "seconds"),
    [
        ({}, 300),
        ({"timeouts": dataclasses.replace(STREAM_TIMEOUTS, write=60)}, 300),
        ({"timeouts": Timeouts(write=60)}, 5),
        ({"timeouts": Timeouts(idle=7)}, 7),
    ],
    ids=["by default", "with another write time", "from scratch", "as said"],
)
@pytest.mark.parametrize("kind", ["stream", "echo"])
async def test_connections_show_the_idle_time(start_stream, start_echo, connect, mock_clock, kind, options, seconds):
    server = await (start_stream(listen, **options) if kind == "stream" else start_echo(**options))
    client = await connect(server)
    await settle()
    assert idle_time(server) == seconds
    await client.send(b"x")
    await advance(mock_clock, 2)
    assert idle_time(server) == seconds - 2
    await advance(mock_clock, seconds - 2 - LATE)
    assert server.statistics().open == 1
    await advance(mock_clock, 2 * LATE)
    assert server.statistics().reasons == {"idle-timeout": 1}


async def test_stream_handlers_in_memory_have_them_too():
    async with serve_in_memory(stream=listen) as memory:
        memory.connect()
        await memory.settle()
        assert idle_time(memory.server) == 300
    async with serve_in_memory(protocol=Echo) as memory:  # as with serve_protocol: it knows no protocol's habits
        memory.connect()
        await memory.settle()
        assert idle_time(memory.server) == 5
