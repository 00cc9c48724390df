"""A stream of somebody else's: it writes down who calls what, and does odd things where it is told to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import trio

Odd = Callable[[], Awaitable[object]]


def raising(error: BaseException) -> Odd:
    async def odd() -> None:
        await trio.lowlevel.checkpoint()
        raise error

    return odd


@dataclass(repr=False)
class Foreign(trio.abc.HalfCloseableStream):
    """Another stream, with what to do before a method of it is used (`odd`)."""

    inner: trio.abc.HalfCloseableStream
    odd: Mapping[str, Odd] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    callers: set[trio.lowlevel.Task] = field(default_factory=set)
    received: int = 0  # bytes
    asked_for: int | None = 0  # bytes, the most at once
    largest_send: int = 0  # bytes

    def __repr__(self) -> str:
        return "<Foreign stream>"

    def _note(self, name: str) -> None:
        assert "aclose" not in self.calls or name == "aclose", f"{name} after the end"
        self.calls.append(name)
        self.callers.add(trio.lowlevel.current_task())

    async def _do_odd_things(self, name: str) -> None:
        if name in self.odd:
            await self.odd[name]()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        self._note("receive_some")
        assert max_bytes is not None
        self.asked_for = max(self.asked_for or 0, max_bytes)
        await self._do_odd_things("receive_some")
        data = await self.inner.receive_some(max_bytes)
        self.received += len(data)
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self._note("send_all")
        self.largest_send = max(self.largest_send, len(data))
        await self._do_odd_things("send_all")
        await self.inner.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.inner.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        self._note("send_eof")
        await self._do_odd_things("send_eof")
        await self.inner.send_eof()

    async def aclose(self) -> None:
        self._note("aclose")
        try:
            await self._do_odd_things("aclose")
        finally:
            with trio.CancelScope(shield=True):  # or a cancellation would hide the odd error
                await self.inner.aclose()

    @property
    def times_closed(self) -> int:
        return self.calls.count("aclose")


class NotHalfCloseable(trio.abc.Stream):
    """A stream without an end of one direction."""

    def __init__(self, inner: trio.abc.Stream) -> None:
        self._inner = inner

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._inner.receive_some(max_bytes)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._inner.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._inner.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._inner.aclose()
