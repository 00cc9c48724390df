"""The sending half of a connection: what does not fit now waits for the peer, within an allowance, and in turns.

`Sender` is `ktrio.net.connection.Connection`'s own; its methods are documented there. It waits under `Phase.WRITE`, and
inside whatever context manager its caller hands it (``waiting``), which parks the caller's work item.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, TypeAlias, final

import trio

from ktrio.net._delivery import DeliveryMeter
from ktrio.net._files import WarmReader
from ktrio.net._slices import SLICE_BYTES, Buffers, Data, Turn
from ktrio.net.deadlines import Allowance, Deadlines, Phase, Timeouts
from ktrio.net.transport import SendfileUnsupportedError, Transport

Waiting: TypeAlias = Callable[[], AbstractAsyncContextManager[None]]

_UNPARKED: Final = contextlib.nullcontext()


def stay() -> AbstractAsyncContextManager[None]:
    """Wait as you are: the `Waiting` that does nothing."""
    return _UNPARKED


@final
class Sender:
    """Sends on one transport, for one task at a time."""

    __slots__ = ("_allowance", "_deadlines", "_meter", "_transport", "bytes_sent", "is_waiting", "on_wait")

    # I  set once · T  only the task that sends · S  changed only in one synchronous stretch
    def __init__(self, transport: Transport, deadlines: Deadlines, timeouts: Timeouts) -> None:
        self._transport: Final = transport  # I
        self._deadlines: Final = deadlines  # I; its content S
        self._allowance: Final = Allowance(timeouts.write, timeouts.lowest_rate)  # I; its content S
        self._meter: Final = DeliveryMeter(transport.undelivered_bytes)  # I; its content S
        self.bytes_sent = 0  # T: accepted by the transport
        self.is_waiting = False  # T: for the peer, right now
        self.on_wait: Callable[[bool], object] | None = None  # I, by the roster: a wait begins, or ends

    def send_nowait(self, data: Data) -> int:
        # The short way for what is sent most: a view, its cast and its slice would cost half as much as the send.
        is_short = isinstance(data, bytes) and len(data) <= SLICE_BYTES
        return self._send([data if is_short else memoryview(data).cast("B")[:SLICE_BYTES]]) or 0

    async def send_all(self, data: Data | Sequence[Data], waiting: Waiting) -> None:
        self._deadlines.settle()
        await trio.lowlevel.checkpoint()
        buffers = Buffers(data)
        turn = Turn()
        while buffers:
            sent = self._send(buffers.next_slice())
            if sent is None:
                await self.wait(waiting)
                turn.restart()
                continue
            buffers.advance(sent)
            if buffers and turn.is_over(sent):
                await trio.lowlevel.checkpoint()
                turn.restart()

    async def send_file(self, descriptor: int, offset: int, count: int, waiting: Waiting) -> int:
        self._deadlines.settle()
        await trio.lowlevel.checkpoint()
        position, end = offset, offset + count
        file = WarmReader(descriptor, end)
        turn = Turn()
        while position < end:
            wanted = min(SLICE_BYTES, end - position)
            if not file.is_warm(position, wanted):
                await file.warm(position)
                turn.restart()
            try:
                sent = self._send_slice(descriptor, position, wanted)
            except SendfileUnsupportedError:
                rest = await self.send_file_by_reading(descriptor, position, end - position, waiting)
                return position + rest - offset
            if sent is None:
                await self.wait(waiting)
                turn.restart()
                continue
            if not sent:
                break
            position += sent
            if turn.is_over(sent):
                await trio.lowlevel.checkpoint()
                turn.restart()
        return position - offset

    async def send_file_by_reading(self, descriptor: int, offset: int, count: int, waiting: Waiting) -> int:
        """`send_file` where the kernel does not do it: a slice at a time is read by a thread and sent from memory."""
        await trio.lowlevel.checkpoint()
        position, end = offset, offset + count
        while position < end:
            data = await trio.to_thread.run_sync(os.pread, descriptor, min(SLICE_BYTES, end - position), position)
            if not data:
                break
            await self.send_all(data, waiting)
            position += len(data)
        return position - offset

    def note_progress(self, now: float) -> None:
        moved = self._meter.moved() if self.is_waiting else 0
        if moved:
            self._allowance.end_wait(now, moved)
            self._deadlines.arm(Phase.WRITE, self._allowance.start_wait(now))

    def _send(self, views: Sequence[Data]) -> int | None:
        """Send what fits of these; `None`: nothing does."""
        sent = self._transport.send_nowait(views)
        self.bytes_sent += sent or 0
        return sent

    def _send_slice(self, descriptor: int, position: int, count: int) -> int | None:
        """Send what fits of this piece of a file; `None`: nothing does; 0: the file ends before it."""
        sent = self._transport.send_file_nowait(descriptor, position, count)
        self.bytes_sent += sent or 0
        return sent

    async def flush(self, waiting: Waiting) -> None:
        while self._transport.unflushed_bytes():
            await self.wait(waiting, self._transport.wait_flushed)

    async def wait(self, waiting: Waiting, wait_for_room: Callable[[], Awaitable[None]] | None = None) -> None:
        """Wait until there may be room again, or the allowance is used up, which ends the connection's scope."""
        async with waiting():
            moved = self._meter.start(self.bytes_sent)
            self._deadlines.arm(Phase.WRITE, self._allowance.start_wait(trio.current_time(), moved))
            self._set_waiting(True)
            try:
                await (wait_for_room or self._transport.wait_writable)()
            finally:
                self._set_waiting(False)
                self._allowance.end_wait(trio.current_time(), self._meter.moved())
                # Before the way back onto the books, which may take a while and is none of the peer's doing.
                if not self._deadlines.is_spent:
                    self._deadlines.disarm(Phase.WRITE)

    def _set_waiting(self, is_waiting: bool) -> None:
        self.is_waiting = is_waiting
        if self.on_wait is not None:
            self.on_wait(is_waiting)
