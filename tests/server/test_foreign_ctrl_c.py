"""Ctrl-C between our code and another's: our books are protected from it, what a listener or a stream does is not."""

from __future__ import annotations

import signal
from functools import partial

import pytest
import trio
from trio.lowlevel import currently_ki_protected
from trio.testing import memory_stream_pair

import ktrio
from ktrio import Response
from ktrio.net.carriers import Carriers
from tests.net.foreign import Foreign
from tests.server.harness import settle, time_passing
from tests.server.streams import MemoryListener, receive_all


async def handler(request):
    return Response(body=b"hello")


class Noting(MemoryListener):
    """Writes down whether its code, and that of its streams, is protected."""

    def __init__(self):
        super().__init__(make_pair=self.make)
        self.found = {}

    def note(self, name):
        self.found.setdefault(name, set()).add(currently_ki_protected())

    def noting(self, name):
        async def note():
            self.note(name)

        return note

    def make(self):
        ours, theirs = memory_stream_pair()
        names = ("receive_some", "send_all", "send_eof", "aclose")
        return Foreign(ours, {name: self.noting(name) for name in names}), theirs

    async def accept(self):
        self.note("accept")
        return await super().accept()

    async def aclose(self):
        self.note("close the listener")
        await super().aclose()


async def test_other_peoples_code_is_open_to_ctrl_c(start_stream, mock_clock):
    async def answer(stream):
        await stream.send_all(b"hello")
        await stream.send_eof()

    listener = Noting()
    server = await start_stream(answer, listener)
    async with time_passing(mock_clock):
        assert await receive_all(listener.connect()) == b"hello"
        await server.shutdown()
    assert listener.found == {
        name: {False} for name in ("accept", "receive_some", "send_all", "send_eof", "aclose", "close the listener")
    }


@pytest.mark.parametrize("name", ["watched", "closed"])
async def test_our_books_are_protected_from_ctrl_c(nursery, name):
    """What a transport tells, and what is noted of its end, in the tasks that carry it."""
    found = []

    def note() -> None:
        found.append(currently_ki_protected())

    carriers = Carriers()
    carriers.on_end = note
    await nursery.start(carriers.run)
    ours, theirs = memory_stream_pair()
    transport = carriers.carry(Foreign(ours))
    transport.watch(note, note)
    if name == "watched":
        await theirs.send_eof()
    else:
        transport.close()
    await settle()
    assert found == [True]
    transport.abort()


class Struck(MemoryListener):
    """Ctrl-C strikes while it accepts its second client."""

    async def accept(self):
        stream = await super().accept()
        if len(self.accepted) == 2:
            await stream.aclose()
            signal.raise_signal(signal.SIGINT)
        return stream


async def test_ctrl_c_within_accept_ends_the_server_and_closes_everybody(mock_clock):
    listener = Struck()
    with pytest.RaisesGroup(KeyboardInterrupt, flatten_subgroups=True, allow_unwrapped=True):
        async with time_passing(mock_clock, step=0.5), trio.open_nursery() as nursery:
            server = await nursery.start(partial(ktrio.serve_http, handler, listener))
            first = listener.connect()
            await first.send_all(b"half a hea")
            await settle()
            listener.connect()
    assert [stream.closed for stream in listener.accepted] == [1, 1]
    assert (listener.closed, server.statistics().open) == (1, 0)
