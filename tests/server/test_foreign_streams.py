"""Streams of other people's that break the rules: each costs its own connection, and no other."""

from __future__ import annotations

import logging
from functools import partial

import pytest
import trio
from trio.testing import memory_stream_pair

import ktrio
from ktrio import Response
from tests.net.foreign import Foreign, raising
from tests.server.harness import get, settle, time_passing
from tests.server.streams import MemoryListener, Watched, receive_all

LAST = get("/", "Connection: close")
LOGGER = "ktrio.net.stream_transport"


async def in_a_nursery_that_fails() -> None:
    """Cancelled, it raises a group of a Cancelled and an error of its own."""

    async def fail() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise OSError("cleaning up failed")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fail)
        nursery.start_soon(trio.sleep_forever)


async def raise_a_group_at_once() -> None:
    raise BaseExceptionGroup("odd", [OSError("odd"), ExceptionGroup("odder", [ValueError("odd")])])


class Told(Foreign):
    """What it receives is passed on as something else."""

    async def receive_some(self, max_bytes=None):
        return self.say(await super().receive_some(max_bytes))


class Text(Told):
    def say(self, data):
        return data.decode()


class Nothing(Told):
    def say(self, data):
        return None


class Numbers(Told):
    def say(self, data):
        return list(data)


ODD = {
    "text": Text,
    "none": Nothing,
    "numbers": Numbers,
    "receive in a failing nursery": partial(Foreign, odd={"receive_some": in_a_nursery_that_fails}),
    "send in a failing nursery": partial(Foreign, odd={"send_all": in_a_nursery_that_fails}),
    "receive raises a group": partial(Foreign, odd={"receive_some": raise_a_group_at_once}),
    "send raises a group": partial(Foreign, odd={"send_all": raise_a_group_at_once}),
    "close in a failing nursery": partial(Foreign, odd={"aclose": in_a_nursery_that_fails}),
    "close raises a group": partial(Foreign, odd={"aclose": raise_a_group_at_once}),
}


class Odd(MemoryListener):
    """Those who connect by `connect_to` get a stream of somebody else's."""

    def connect_to(self, make):
        ours, theirs = memory_stream_pair()
        self._send.send_nowait(Watched(make(ours)))
        return theirs

    async def accept(self):
        watched = await super().accept()
        return watched.stream if isinstance(watched.stream, Foreign) else watched


@pytest.mark.parametrize("make", ODD.values(), ids=ODD)
async def test_odd_stream_costs_its_own_connection_and_one_log_record(start_http, mock_clock, caplog, make):
    listener, gate = Odd(), trio.Event()

    async def handler(request):
        if request.target == "/wait":
            await gate.wait()
        return Response(body=b"hello")

    server = await start_http(handler, listener)
    other = listener.connect()
    await other.send_all(get("/wait", "Connection: close"))
    await settle()
    async with time_passing(mock_clock, step=0.5):
        odd = listener.connect_to(make)
        await odd.send_all(LAST)
        await receive_all(odd)
        await server.wait_for_connections(1)
        await trio.sleep(5)
    gate.set()
    assert (await receive_all(other)).endswith(b"hello")
    assert server.statistics().errors == 0
    records = [record for record in caplog.records if record.name == LOGGER]
    assert len(records) == 1, caplog.text
    assert records[0].levelno == logging.ERROR
    assert "<Foreign stream>" in records[0].getMessage()


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("method", ["receive_some", "send_all", "aclose"])
async def test_what_ends_programs_goes_out_of_the_server_at_once(mock_clock, kind, method):
    """And every connection has ended by then."""
    listener, ended = Odd(), []

    async def block(request):
        if request.target != "/block":
            return Response(body=b"hello")
        try:
            await trio.sleep_forever()
        finally:
            ended.append(request.target)

    with pytest.RaisesGroup(kind, flatten_subgroups=True, allow_unwrapped=True):
        async with time_passing(mock_clock, step=0.5), trio.open_nursery() as nursery:
            server = await nursery.start(partial(ktrio.serve_http, block, listener))
            other = listener.connect()
            await other.send_all(get("/block"))
            await settle()
            begun = trio.current_time()
            odd = listener.connect_to(partial(Foreign, odd={method: raising(kind())}))
            await odd.send_all(LAST)
    assert (ended, server.statistics().open) == (["/block"], 0)
    assert trio.current_time() - begun <= 5
    assert listener.closed == 1


async def test_nobody_is_accepted_any_more_while_a_server_ends_because_of_ctrl_c(mock_clock):
    """Its carriers may take their time: another stream takes long to close."""
    listener, late = Odd(), []  # peers that are kept, so that none is closed

    async def handler(request):
        return Response(body=b"hello")

    with pytest.RaisesGroup(KeyboardInterrupt, flatten_subgroups=True, allow_unwrapped=True):
        async with time_passing(mock_clock, step=0.5), trio.open_nursery() as nursery:
            await nursery.start(partial(ktrio.serve_http, handler, listener))
            slow = listener.connect_to(partial(Foreign, odd={"aclose": trio.sleep_forever}))
            await slow.send_all(b"half a hea")
            await settle()
            odd = listener.connect_to(partial(Foreign, odd={"receive_some": raising(KeyboardInterrupt())}))
            await odd.send_all(LAST)
            await settle()
            before = len(listener.accepted)
            while not listener.closed:
                late.append(listener.connect())
                await trio.sleep(0.5)
    assert len(listener.accepted) == before
