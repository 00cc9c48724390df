"""Listeners of other people's that will not be closed: every connection ends all the same, before the server does."""

from __future__ import annotations

import pytest
import trio

import ktrio
from tests.server.harness import get, settle, time_passing
from tests.server.streams import MemoryListener, receive_all

BLOCK = get("/block")


class Unwilling(MemoryListener):
    """Closing it raises, once it is closed."""

    async def aclose(self):
        try:
            await super().aclose()
        finally:
            raise OSError("will not close")


class Torn(MemoryListener):
    """Closing it raises a group, as a nursery does that is cancelled and has errors."""

    async def aclose(self):
        async def fail():
            try:
                await trio.sleep_forever()
            finally:
                raise OSError("will not close")

        self.closed += 1
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            nursery.start_soon(trio.sleep_forever)


async def handler(request):
    await trio.sleep_forever()


@pytest.mark.parametrize("end", ["cancelled", "shutdown"])
@pytest.mark.parametrize("kind", [Unwilling, Torn])
async def test_listeners_that_raise_when_closed_keep_no_connection_alive(
    start_http, connect, mock_clock, caplog, kind, end
):
    listeners = [kind(), kind()]
    async with time_passing(mock_clock), trio.open_nursery() as nursery:
        server = await start_http(handler, *listeners, "127.0.0.1:0", within=nursery)
        peers = [listener.connect() for listener in listeners]
        client = await connect(server)
        await client.send(BLOCK)
        for peer in peers:
            await peer.send_all(BLOCK)
        await settle()
        assert server.statistics().busy == 3
        if end == "cancelled":
            nursery.cancel_scope.cancel()
        else:
            server.begin_shutdown(grace=1)
    assert server.statistics().open == 0
    assert [listener.closed for listener in listeners] == [1, 1]
    for listener, peer in zip(listeners, peers, strict=True):
        assert [stream.closed for stream in listener.accepted] == [1]
        await receive_all(peer)
    said = [record.getMessage() for record in caplog.records]
    assert len([each for each in said if kind.__name__ in each]) == 2, said


async def test_listener_that_raises_when_closed_hides_no_address_that_cannot_be_used(start_http, caplog):
    listener = Unwilling()
    with pytest.RaisesGroup(ktrio.AddressError, flatten_subgroups=True, allow_unwrapped=True):
        async with trio.open_nursery() as nursery:
            await start_http(handler, listener, "not:an:address", within=nursery)
    assert listener.closed == 1
