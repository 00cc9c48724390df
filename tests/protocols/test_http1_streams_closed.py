"""Async iterables that are not generators: what iterating made is closed, and a stream of nothing is no hog."""

from __future__ import annotations

import pytest
import trio

from ktrio import Response
from tests.server.harness import GET, Ended, advance, get, settle


class Pieces:
    """An iterator of two pieces; `/fails` raises behind them, `/waits` never comes to an end."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.left = 2
        self.closed = 0

    async def __anext__(self) -> bytes:
        if self.left:
            self.left -= 1
            return b"piece"
        if self.target == "/fails":
            raise ValueError("on the way")
        if self.target == "/waits":
            await trio.sleep_forever()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()
        self.closed += 1


class Maker:
    """An iterable that is no iterator, and keeps what it made."""

    def __init__(self, target: str) -> None:
        self.made = Pieces(target)

    def __aiter__(self) -> Pieces:
        return self.made


@pytest.mark.parametrize("target", ["/ends", "/fails"])
async def test_iterator_made_for_a_response_is_closed_once_however_it_ends(start_http, connect, target, caplog):
    """Nobody else holds it; it is no generator that would close itself."""
    body = Maker(target)

    async def handler(request):
        return Response(body=body)

    client = await connect(await start_http(handler))
    await client.send(GET)
    if target == "/fails":
        with pytest.raises(Ended):
            await client.read_reply()
    else:
        assert (await client.read_reply()).body == b"piecepiece"
    await settle()
    assert body.made.closed == 1
    assert len(caplog.records) == (target == "/fails")


async def test_iterator_made_for_a_response_ends_when_its_peer_leaves(start_http, connect):
    """Cancelled between two pieces; its own cleaning up may wait no longer then, and nothing of it is logged."""
    body = Maker("/waits")

    async def handler(request):
        return Response(body=body)

    server = await start_http(handler)
    client = await connect(server)
    await client.send(GET)
    await client.read_through(b"piece")
    client.reset()
    await settle()
    assert (server.statistics().open, server.statistics().errors) == (0, 0)


async def test_empty_pieces_of_a_stream_that_never_waits_do_not_starve_others(start_http, connect):
    """It has nothing to say, very often: others have their turn all the same."""

    class Nothing:
        left = 200_000

        def __aiter__(self):
            return self

        async def __anext__(self):
            self.left -= 1
            if self.left < 0:
                raise StopAsyncIteration
            return b""

    nothing = Nothing()

    async def handler(request):
        return Response(body=nothing if request.target == "/nothing" else b"answer")

    server = await start_http(handler)
    busy, other = await connect(server), await connect(server)
    await busy.send(get("/nothing"))
    await busy.read_head()
    for _ in range(3):
        assert (await other.ask()).body == b"answer"
    assert nothing.left > 0


async def test_body_of_a_head_request_may_take_its_time_to_close(start_http, connect, mock_clock):
    """Its answer is out in no time; the deadline of the head it came with must not strike in the closing."""
    closed = []

    class Slow:
        def __aiter__(self):
            raise AssertionError("nobody wants it")

        async def aclose(self):
            await trio.sleep(60)
            closed.append(trio.current_time())

    async def handler(request):
        return Response(body=Slow() if request.method == "HEAD" else b"answer")

    client = await connect(await start_http(handler))
    await client.ask()
    assert (await client.ask(get("/", method="HEAD"))).status == 200
    await advance(mock_clock, 30)
    await advance(mock_clock, 30)
    assert len(closed) == 1
    assert (await client.ask()).body == b"answer"
