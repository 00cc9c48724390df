"""What the tests of transports do with them: send and receive whatever it takes, fill one, count what a watch tells."""

from __future__ import annotations

import functools
import random

import trio
from trio.testing import wait_all_tasks_blocked

from ktrio.net._slices import Data
from ktrio.net.transport import Transport

CEILING = 32 * 1024 * 1024  # more than any transport holds of what its peer does not take


@functools.cache
def content(count: int, seed: int = 0) -> bytes:
    """Bytes of which every piece is different."""
    return random.Random(seed).randbytes(count)


async def receive(transport: Transport, count: int) -> bytes:
    """Exactly so many bytes, or fewer at the end."""
    data = bytearray()
    while len(data) < count:
        got = transport.receive_nowait(count - len(data))
        if got is None:
            await transport.wait_readable()
            continue
        if not got:
            break
        data += got
    return bytes(data)


async def send(transport: Transport, *buffers: Data) -> None:
    """All of it, however long it takes."""
    view = memoryview(b"".join(buffers))
    while view:
        sent = transport.send_nowait([view[: 1 << 17]])
        if sent is None:
            await transport.wait_writable()
            continue
        assert 0 < sent <= len(view)
        view = view[sent:]
        await trio.lowlevel.checkpoint()


async def fill(transport: Transport) -> bytes:
    """Send until there is no room and none is made; what was taken."""
    piece = content(1 << 16)
    taken = bytearray()
    is_full = False
    while not is_full:
        sent = transport.send_nowait([piece])
        if sent is None:
            await wait_all_tasks_blocked()
            sent = transport.send_nowait([piece])
            is_full = sent is None
        taken += piece[: sent or 0]
        assert len(taken) < CEILING
    return bytes(taken)


def send_some(transport: Transport, *buffers: Data) -> None:
    """All of it, at once: there must be room."""
    whole = [bytes(each) for each in buffers]
    assert transport.send_nowait(whole) == sum(map(len, whole))


class Watch:
    """Counts what the watch of a transport tells."""

    def __init__(self, transport: Transport) -> None:
        self.half_closes = 0
        self.times_gone = 0
        self._transport = transport

    def begin(self) -> None:
        self._transport.watch(self._on_half_close, self._on_gone)

    def _on_half_close(self) -> None:
        self.half_closes += 1

    def _on_gone(self) -> None:
        self.times_gone += 1
