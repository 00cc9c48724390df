"""A request that arrives in the very turn of the loop in which its time is up is in time: it is answered."""

from __future__ import annotations

import pytest

from ktrio import Response, Timeouts
from tests.server.harness import GET, LATE, advance, get, settle

# How far time is moved past the deadline, before the server has seen the bytes: the deadline of a connection's scope
# may lie up to 0.25 s behind it, so some of these strike in that turn and some do not.
JUMPS = [0.0, 1e-9, 0.1, 0.2, 0.249, 0.25, 0.251, 0.3, 1.0, 3600.0]


async def say_target(request):
    return Response(body=request.target.encode())


@pytest.mark.parametrize("late", JUMPS)
async def test_request_in_the_turn_of_the_idle_deadline_is_answered(start_http, connect, mock_clock, late):
    """The scope is cancelled by then; the data must not be lost with it."""
    client = await connect(await start_http(say_target))
    await client.ask()
    for turn in range(15):
        await settle()
        client.send_nowait(get(f"/{turn}"))
        mock_clock.jump(5 + late)
        assert (await client.read_reply()).body == b"/%d" % turn
    assert client.is_open


@pytest.mark.parametrize("late", JUMPS)
async def test_head_made_whole_in_the_turn_of_its_deadline_is_answered(start_http, connect, mock_clock, late):
    server = await start_http(say_target)
    for _ in range(8):
        client = await connect(server)
        await client.send(GET[:-1])
        await settle()
        client.send_nowait(GET[-1:])
        mock_clock.jump(10 + late)
        assert (await client.read_reply()).body == b"/"
        client.close()


@pytest.mark.parametrize("late", JUMPS)
async def test_first_request_in_the_turn_of_the_head_deadline_is_answered(start_http, connect, mock_clock, late):
    server = await start_http(say_target)
    for _ in range(8):
        client = await connect(server)
        await settle()
        client.send_nowait(GET)
        mock_clock.jump(10 + late)
        assert (await client.read_reply()).body == b"/"
        client.close()


@pytest.mark.parametrize("late", JUMPS)
async def test_connection_in_the_backlog_has_its_time_from_accept(start_http, connect, mock_clock, late):
    """Waiting to be accepted is not the peer's time."""
    server = await start_http(say_target)
    client = await connect(server)
    client.send_nowait(GET)
    mock_clock.jump(10 + late)
    assert (await client.read_reply()).body == b"/"


@pytest.mark.parametrize("late", JUMPS)
async def test_first_byte_in_the_turn_of_the_idle_deadline_begins_a_head(start_http, connect, mock_clock, late):
    """It has ten seconds from then on, like any head."""
    client = await connect(await start_http(say_target))
    await client.ask()
    await settle()
    client.send_nowait(GET[:1])
    mock_clock.jump(5 + late)
    await settle()
    await advance(mock_clock, 9)
    await client.send(GET[1:])
    assert (await client.read_reply()).body == b"/"


@pytest.mark.parametrize("late", [0.3, 1.0, 3600.0])
async def test_byte_that_leaves_a_head_incomplete_does_not_save_it(start_http, connect, mock_clock, late):
    """Kept, and still too late: a trickle that happens to fall into the right turn must not renew the deadline."""
    client = await connect(await start_http(say_target))
    await client.send(GET[:3])
    await settle()
    client.send_nowait(GET[3:4])
    mock_clock.jump(10 + late)
    await settle()
    await advance(mock_clock, LATE)
    assert (await client.read_reply()).status == 408


@pytest.mark.parametrize("late", JUMPS)
async def test_pipelined_requests_in_the_turn_of_expiry_are_all_answered(start_http, connect, mock_clock, late):
    client = await connect(await start_http(say_target))
    await client.ask()
    await settle()
    client.send_nowait(get("/1") + get("/2") + get("/3"))
    mock_clock.jump(5 + late)
    assert [(await client.read_reply()).body for _ in range(3)] == [b"/1", b"/2", b"/3"]


@pytest.mark.parametrize("late", JUMPS)
async def test_fin_in_the_turn_of_expiry_ends_the_connection(start_http, connect, mock_clock, late):
    server = await start_http(say_target)
    client = await connect(server)
    await client.ask()
    await settle()
    client.finish()
    mock_clock.jump(5 + late)
    assert await client.read_end() == "fin"
    await settle()
    assert server.statistics().open == 0
    assert server.statistics().errors == 0


@pytest.mark.slow
async def test_request_that_keeps_beating_a_short_deadline_is_always_answered(start_http, connect, mock_clock):
    """Many turns of expiry in a row leave no trace: neither time nor state is carried over."""
    client = await connect(await start_http(say_target, timeouts=Timeouts(idle=0.01, head=0.01)))
    for turn in range(200):
        client.send_nowait(get(f"/{turn}"))
        mock_clock.jump(0.5)
        assert (await client.read_reply()).body == b"/%d" % turn
        await settle()
