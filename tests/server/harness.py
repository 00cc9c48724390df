"""Raw peers of a server under test, virtual time that is moved by hand, and an end for every hang.

Time stands still unless a test moves it: a deadline strikes because a test says so, never because a machine is slow.
What waits for something that will never come is ended by a real alarm, which says where every task was waiting.
"""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import struct
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import pytest
import trio
from trio.abc import Clock, Instrument
from trio.testing import MockClock, wait_all_tasks_blocked

T = TypeVar("T")

# Real seconds for one test; then everything is cancelled, and a while later the run is torn down by force.
ALARM_AFTER = 25.0
FORCE_AFTER = 10.0

# Real seconds in which a loopback socket shows what was sent to it; only ever spent while nothing can run.
_CUSHION = 0.001

# Later than the deadline by which a connection's scope may lag (0.25 s) and a little.
LATE = 0.3

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def get(target: str = "/", *fields: str, version: str = "1.1", method: str = "GET") -> bytes:
    """A request without a body; `fields` are whole lines."""
    lines = [f"{method} {target} HTTP/{version}", "Host: x", *fields]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode("latin-1")


def post(body: bytes, *fields: str, target: str = "/") -> bytes:
    """A request with a body of known length."""
    return get(target, f"Content-Length: {len(body)}", *fields, method="POST") + body


# -- The run ----------------------------------------------------------------------------------------------------------


def run_bounded(
    fn: Callable[[], Awaitable[T]], *, clock: Clock | None = None, instruments: Sequence[Instrument] = ()
) -> T:
    """`trio.run` on a clock that stands still, with an end even if `fn` hangs."""
    stacks: list[str] = []

    async def main() -> T:
        token = trio.lowlevel.current_trio_token()
        with trio.CancelScope() as scope, _alarm(token, scope, stacks):
            return await fn()
        raise AssertionError("cancelled by the alarm")

    try:
        return trio.run(main, clock=clock or MockClock(), instruments=instruments)
    except Exception:
        if not stacks:
            raise
    pytest.fail(f"nothing went on for {ALARM_AFTER:g} real seconds:\n{stacks[0]}")


@contextlib.contextmanager
def _alarm(token: trio.lowlevel.TrioToken, scope: trio.CancelScope, stacks: list[str]):
    def give_up() -> None:
        stacks.append("\n".join(_stacks(trio.lowlevel.current_root_task())))
        scope.cancel()
        let_time_fly()

    def ring(signum: int, frame: object) -> None:
        if stacks:
            raise RuntimeError(f"cancelled, and still running:\n{stacks[0]}")
        token.run_sync_soon(give_up)

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, ALARM_AFTER, FORCE_AFTER)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _stacks(task: trio.lowlevel.Task | None):
    if task is None:
        return
    frames = [f"{frame.f_code.co_qualname}:{line}" for frame, line in task.iter_await_frames()][-6:]
    yield f"{task.name}: {' > '.join(frames)}"
    for nursery in task.child_nurseries:
        for child in nursery.child_tasks:
            yield from _stacks(child)


def let_time_fly() -> None:
    """Let time pass by itself from now on, and fast: for what ends a test, where nothing waits for peers any more."""
    clock = trio.lowlevel.current_clock()
    if isinstance(clock, MockClock):
        clock.rate = 1000


async def settle() -> None:
    """Let everything run that can, however often the kernel or a worker thread wakes it."""
    threads = trio.to_thread.current_default_thread_limiter()
    while True:
        await wait_all_tasks_blocked()
        await wait_all_tasks_blocked(_CUSHION)
        if not threads.borrowed_tokens:
            return


async def advance(clock: MockClock, seconds: float) -> None:
    """Let everything run, move the time, let everything run."""
    await settle()
    clock.jump(seconds)
    await settle()


async def trickle(clock: MockClock, seconds: float, *, step: float = 1.0) -> None:
    """Let so much time pass in steps, and everything run in each."""
    await settle()
    for _ in range(round(seconds / step)):
        clock.jump(step)
        await settle()


@contextlib.asynccontextmanager
async def time_passing(clock: MockClock, *, step: float = 0.1):
    """Let time pass in steps while the block waits for something that may take some."""

    async def tick() -> None:
        while True:
            await advance(clock, step)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(tick)
        yield
        nursery.cancel_scope.cancel()


# -- The other end ----------------------------------------------------------------------------------------------------


class Ended(Exception):  # noqa: N818 - it is no error but what a peer saw
    """The connection ended within an answer: `how` is "fin" or "reset", `data` what had come of it."""

    def __init__(self, how: str, data: bytes) -> None:
        super().__init__(f"{how} after {len(data)} bytes: {data[-80:]!r}")
        self.how = how
        self.data = data


@dataclass
class Reply:
    """One answer as it came."""

    status: int
    reason: str
    fields: list[tuple[str, str]]
    framing: str  # "none", "sized", "chunked" or "until-close"
    version: str
    head: bytes
    body: bytes = b""
    chunks: list[bytes] = field(default_factory=list)

    def get_all(self, name: str) -> list[str]:
        return [value for each, value in self.fields if each == name.lower()]

    def __getitem__(self, name: str) -> str | None:
        """The value of the only field of that name."""
        values = self.get_all(name)
        assert len(values) <= 1, f"{name} is there {len(values)} times: {self.head!r}"
        return values[0] if values else None

    @property
    def says_close(self) -> bool:
        return "close" in [token.strip().lower() for value in self.get_all("connection") for token in value.split(",")]


_STATUS_LINE = re.compile(r"HTTP/(1\.[01]) ([1-5][0-9][0-9]) ([\t\x20-\x7e\x80-\xff]*)")
_FIELD = re.compile(r"([-!#$%&'*+.^_`|~0-9A-Za-z]+):[ \t]*([\t\x20-\x7e\x80-\xff]*?)[ \t]*")


class Client:
    """A peer that sends and reads exactly what it is told."""

    def __init__(self, raw: socket.socket) -> None:
        self.raw = raw
        self.sock = trio.socket.from_stdlib_socket(raw)
        self.buffer = bytearray()

    # -- sending

    async def send(self, *pieces: bytes) -> None:
        """Each piece in a packet of its own, as far as the buffers take them at once."""
        for piece in pieces:
            view = memoryview(piece)
            while view:
                view = view[await self.sock.send(view) :]

    def send_nowait(self, data: bytes) -> None:
        """Without a checkpoint: nothing else runs before it is in the kernel."""
        assert self.raw.send(data) == len(data)

    def finish(self) -> None:
        """Shut down our side (FIN)."""
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.sock.close()

    def reset(self) -> None:
        """Close with a reset (RST) instead of a FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    # -- reading

    async def _fill(self, at_most: int = 1 << 16) -> bool:
        """Read once; False at FIN."""
        try:
            data = await self.sock.recv(at_most)
        except ConnectionError as error:
            raise Ended("reset", bytes(self.buffer)) from error
        self.buffer += data
        return bool(data)

    def _take(self, count: int) -> bytes:
        data = bytes(self.buffer[:count])
        del self.buffer[:count]
        return data

    async def read(self, count: int) -> bytes:
        """Exactly so many bytes."""
        while len(self.buffer) < count:
            if not await self._fill():
                raise Ended("fin", self._take(len(self.buffer)))
        return self._take(count)

    async def read_through(self, end: bytes) -> bytes:
        """Everything up to and including `end`."""
        while (found := self.buffer.find(end)) < 0:
            if not await self._fill():
                raise Ended("fin", self._take(len(self.buffer)))
        return self._take(found + len(end))

    async def read_to_end(self) -> bytes:
        """Everything up to the FIN."""
        while await self._fill():
            pass
        return self._take(len(self.buffer))

    async def read_head(self) -> Reply:
        """A response head, strictly (RFC 9112 sections 4 and 5); its body comes after it."""
        head = await self.read_through(b"\r\n\r\n")
        first, *lines = head[:-4].decode("latin-1").split("\r\n")
        status = _STATUS_LINE.fullmatch(first)
        assert status, head
        fields = []
        for line in lines:
            match = _FIELD.fullmatch(line)
            assert match, head
            fields.append((match[1].lower(), match[2]))
        reply = Reply(int(status[2]), status[3], fields, "none", status[1], head)
        lengths, codings = reply.get_all("content-length"), reply.get_all("transfer-encoding")
        assert len(lengths) + len(codings) <= 1, f"two framings: {head!r}"
        reply.framing = "sized" if lengths else "chunked" if codings else "until-close"
        return reply

    async def read_reply(self, *, method: str = "GET") -> Reply:
        """A whole response, framed as RFC 9112 section 6.3 says."""
        reply = await self.read_head()
        if method == "HEAD" or reply.status in (204, 304) or reply.status < 200:
            reply.framing = "none"
        elif reply.framing == "sized":
            reply.body = await self.read(int(reply["content-length"] or ""))
        elif reply.framing == "chunked":
            reply.chunks = [chunk async for chunk in self._read_chunks()]
            reply.body = b"".join(reply.chunks)
        else:
            assert reply.says_close, reply.head
            reply.body = await self.read_to_end()
        return reply

    async def read_replies(self, count: int) -> list[Reply]:
        """So many whole responses to GETs."""
        return [await self.read_reply() for _ in range(count)]

    async def _read_chunks(self):
        while True:
            line = await self.read_through(b"\r\n")
            assert re.fullmatch(rb"[0-9A-Fa-f]+\r\n", line), line
            size = int(line, 16)
            chunk = await self.read(size)
            assert await self.read(2) == b"\r\n"
            if not size:
                return
            yield chunk

    async def ask(self, data: bytes = GET) -> Reply:
        """Send a request and read its answer."""
        await self.send(data)
        return await self.read_reply(method=data.lstrip().split(b" ", 1)[0].decode("latin-1"))

    async def read_end(self) -> str:
        """Read on; nothing but the end may come. "fin" or "reset"."""
        try:
            rest = await self.read_to_end()
        except Ended as end:
            rest, how = end.data, end.how
        else:
            how = "fin"
        assert rest == b""
        return how

    def peek(self) -> str:
        """What is there at this moment: "open" (nothing), "data", "fin" or "reset"."""
        if self.buffer:
            return "data"
        try:
            return "data" if self.raw.recv(1, socket.MSG_PEEK) else "fin"
        except BlockingIOError:
            return "open"
        except ConnectionError:
            return "reset"

    @property
    def is_open(self) -> bool:
        return self.peek() == "open"
