"""`check_protocol`: what every protocol of a server must do, as a specification that executes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Literal, cast, final

import trio

from ktrio.net.connection import Connection, ConnectionProtocol, ProtocolFactory
from ktrio.net.deadlines import WINDOW, Timeouts
from ktrio.net.errors import ConnectionGone
from ktrio.net.states import State
from ktrio.net.stream_transport import StreamTransport
from ktrio.testing._clock import LEAST_STEP, advance, run_clock, settle
from ktrio.testing._probe import OF_SERVERS, Probe
from ktrio.testing._roles import without_date
from ktrio.testing._server import MemoryServer, serve_in_memory
from ktrio.testing._streams import MemoryStream

# Waits of a protocol at which its peer goes, and at which it is cancelled: the first ones, one server for each.
WAITS_TRIED: Final = 25
# Connections at once.
TOGETHER: Final = 5
# What a protocol sends with.
_SENDS: Final = frozenset({"send_nowait", "send_all", "send_file"})


async def check_protocol(
    make: ProtocolFactory,
    sample: bytes,
    *,
    flood: bytes = b"",
    timeouts: Timeouts | None = None,
    idles: bool = True,
) -> None:
    """Check that a `ConnectionProtocol` does what any must do, on the real server, in memory.

    * It answers `sample`, and the same on several connections, whatever the others do.
    * It ends at its peer's FIN and reset, when the server drains and it is idle, and when it is cancelled or its peer
      goes at each of its waits. It lets `trio.Cancelled` through, and it ends with a reason, and without an error.
    * Whenever it waits for its peer a phase is armed, and a silent peer, or one that takes nothing, is given up.
    * Its farewell is over within `Timeouts.farewell`. It sends nothing once the connection is closed.
    * Bytes that come in the turn in which the wait for them ends are not lost (`ConnectionProtocol.rescue`).

    Args:
      make: gives the protocol of a connection.
      sample: bytes that it answers at once, and waits for more of the kind.
      flood: bytes that make it send more than a peer that does not read can take (some 200 KiB); empty: there are none.
      timeouts: as of `ktrio.serve_protocol`.
      idles: is it idle (`Connection.is_quiet`) while it waits for a sample? False: it runs somebody's handler, which
        ends by itself when the server drains; then bytes that come too late need not be kept.

    Raises:
      AssertionError: one sentence says what is wrong.
      RuntimeError: the clock of the run is no `trio.testing.MockClock`.
    """
    run_clock()
    trials = _Trials(make, sample, timeouts or Timeouts())
    answer, waits = await trials.check_answer()
    for said in ("nothing", "half", "all"):
        await trials.check_end(said, "FIN")
        await trials.check_end(said, "reset")
        await trials.check_silence(said)
    for at in range(1, min(waits, WAITS_TRIED) + 1):
        await trials.check_wait(at, "gone")
        await trials.check_wait(at, "cancelled")
    for said in ("nothing", "all"):
        await trials.check_drain(said, idles=idles)
    if idles:
        for why in ("its deadline", "a shutdown"):
            await trials.check_rescue(why, answer)
    await trials.check_together(answer)
    if flood:
        await trials.check_flood(flood)


_Said = Literal["nothing", "half", "all"]


@final
class _WatchedConnection:
    """A `Connection` that notes what is sent through it after its close. All else is the real one's."""

    def __init__(self, connection: Connection, notes: list[str]) -> None:
        object.__setattr__(self, "_real", connection)
        object.__setattr__(self, "_notes", notes)

    def __getattr__(self, name: str) -> object:
        real = cast("Connection", object.__getattribute__(self, "_real"))
        if name in _SENDS and real.state is State.CLOSED:
            cast("list[str]", object.__getattribute__(self, "_notes")).append(name)
        return cast("object", getattr(real, name))

    def __setattr__(self, name: str, value: object) -> None:
        setattr(object.__getattribute__(self, "_real"), name, value)


@final
class _WatchedProtocol:
    """A protocol under observation."""

    def __init__(self, trial: _Trial, connection: Connection) -> None:
        self.trial = trial
        self.connection = connection
        self.inner: ConnectionProtocol = trial.make(
            cast("Connection", _WatchedConnection(connection, trial.sent_when_closed))
        )
        self.farewell_began: float | None = None
        self.farewell_took = 0.0

    async def converse(self) -> None:
        """See `ConnectionProtocol.converse`."""
        await self.trial.run(self.inner.converse)

    def rescue(self) -> bool:
        """See `ConnectionProtocol.rescue`; what is to come in that turn is there now."""
        late, self.trial.comes_late = self.trial.comes_late, b""
        if late:
            transport = self.connection._transport
            assert isinstance(transport, StreamTransport)
            transport._received += late
        return self.inner.rescue()

    async def farewell(self) -> None:
        """See `ConnectionProtocol.farewell`."""
        self.farewell_began = trio.current_time()
        try:
            await self.trial.run(self.inner.farewell)
        finally:
            self.farewell_took = trio.current_time() - self.farewell_began
            self.farewell_began = None


@final
class _Trial:
    """Fresh protocols on one server.

    Legend: I set once · S changed only in one synchronous stretch.
    """

    memory: MemoryServer  # I, by `_Trials.begin`

    def __init__(self, make: ProtocolFactory, on_wait: Callable[[int], object]) -> None:
        self.make: Final = make  # I
        self._on_wait: Final = on_wait  # I
        self.protocols: list[_WatchedProtocol] = []  # S
        self.probes: list[Probe] = []  # S
        self.waits = 0  # S
        self.sent_when_closed: list[str] = []  # S
        self.comes_late = b""  # S: what comes in the turn in which the wait for it ends

    def make_watched(self, connection: Connection) -> _WatchedProtocol:
        """The factory of the server under trial."""
        protocol = _WatchedProtocol(self, connection)
        self.protocols.append(protocol)
        return protocol

    async def run(self, fn: Callable[[], Awaitable[None]]) -> None:
        """Call a method of the protocol, watched."""
        probe = Probe(self._waited)
        self.probes.append(probe)
        await probe.run(fn(), fallback=None)

    def _waited(self) -> None:
        self.waits += 1
        self._on_wait(self.waits)

    async def look(self, when: str) -> None:
        """Let everything run that can, and see that nobody waits for a peer without an end."""
        await settle()
        for probe in self.probes:
            assert not probe.is_circling, f"{when}, it goes round in circles, {probe.waits} waits so far"
        for protocol in self.protocols:
            connection, transport = protocol.connection, protocol.connection._transport
            assert isinstance(transport, StreamTransport)
            waits = "its peer's bytes" if transport._readable else "room to send" if transport._writable else ""
            bounded = connection.deadlines.next() is not None or protocol.farewell_began is not None
            assert not waits or bounded, f"{when}, it waits for {waits} and no phase is armed"

    async def pass_time(self, seconds: float, when: str) -> None:
        """Let time pass from deadline to deadline, and `look` at each."""
        until = trio.current_time() + seconds
        await self.look(when)
        while (left := until - trio.current_time()) > 0 and self.memory.server.statistics().open:
            upcoming = trio.lowlevel.current_statistics().seconds_to_next_deadline
            self.memory.clock.jump(min(left, max(upcoming, LEAST_STEP)))
            await self.look(when)

    def check_ended(self, stream: MemoryStream, when: str) -> str:
        """The reason of a connection that must have ended, and well."""
        reason = self.memory.reason_of(stream)
        for probe in self.probes:
            assert not probe.swallowed, f"{when}, it goes on although it was cancelled"
            if isinstance(probe.error, Exception) and not isinstance(probe.error, ConnectionGone):
                raise AssertionError(f"{when}, it raised {probe.error!r}") from probe.error
        assert reason, f"{when}, it does not end"
        assert not self.sent_when_closed, f"{when}, it sends although the connection is closed"
        return reason

    async def end(self) -> None:
        """End the server; what would not end is thrown out."""
        self.memory.cancel()
        await settle()
        for probe in self.probes:
            probe.kick()


@final
@dataclass(frozen=True, slots=True)
class _Trials:
    """What all trials of a protocol have in common, and the trials."""

    make: ProtocolFactory
    sample: bytes
    timeouts: Timeouts

    @asynccontextmanager
    async def begin(self, on_wait: Callable[[int], object] = lambda number: None) -> AsyncGenerator[_Trial]:
        """A server for fresh protocols; `on_wait` is called at each of their waits, counted from 1."""
        trial = _Trial(self.make, on_wait)
        async with serve_in_memory(protocol=trial.make_watched, timeouts=self.timeouts) as memory:
            trial.memory = memory
            try:
                yield trial
            finally:
                await trial.end()
        too_long = [each for each in trial.protocols if each.farewell_took > self.timeouts.farewell + WINDOW]
        assert not too_long, f"its farewell takes {too_long[0].farewell_took:g} s: more than Timeouts.farewell"
        assert not trial.sent_when_closed, "it sends although the connection is closed"

    async def say(self, trial: _Trial, said: _Said | str, when: str) -> tuple[MemoryStream, bytes]:
        """A connection on which so much of the sample was said, and what came back."""
        stream = trial.memory.connect()
        part = {"nothing": b"", "half": self.sample[: len(self.sample) // 2], "all": self.sample}[said]
        await trial.look(when)
        stream.send_nowait(part)
        await trial.look(when)
        return stream, await _receive(stream)

    async def check_answer(self) -> tuple[bytes, int]:
        """What it answers, and in how many waits."""
        async with self.begin() as trial:
            stream, answer = await self.say(trial, "all", "when it gets the sample")
            for probe in trial.probes:
                if isinstance(probe.error, Exception):
                    raise AssertionError(f"when it gets the sample, it raised {probe.error!r}") from probe.error
            assert answer, f"it does not answer the sample {self.sample[:80]!r}"
            assert not stream.ended, "it ends behind the answer to the sample, and is to wait for more"
            return without_date(answer), trial.waits

    async def check_end(self, said: _Said | str, how: str) -> None:
        """Its peer ends the connection."""
        when = f"when its peer has said {said} and then comes a {how}"
        async with self.begin() as trial:
            stream, _ = await self.say(trial, said, when)
            if how == "FIN":
                stream.finish()
                await trial.pass_time(self.timeouts.linger + WINDOW, when)
                await _receive(stream)
            else:
                stream.reset()
                await trial.look(when)
            reason = trial.check_ended(stream, when)
            assert reason != "server-cancelled", f"{when}, it ends without a reason: call connection.end(...)"
            assert not reason.endswith("-timeout"), f"{when}, it waits on until {reason}"

    async def check_silence(self, said: _Said | str) -> None:
        """Its peer says nothing more; the handler of a protocol may take its time, but then it waits for no peer."""
        when = f"when its peer has said {said} and then nothing more"
        async with self.begin() as trial:
            stream, _ = await self.say(trial, said, when)
            longest = max(self.timeouts.head, self.timeouts.idle, self.timeouts.body)
            await trial.pass_time(longest + self.timeouts.linger + self.timeouts.farewell + 2 * WINDOW, when)
            await _receive(stream)
            for protocol in trial.protocols:
                began = protocol.farewell_began
                late = began is not None and trio.current_time() - began > self.timeouts.farewell + WINDOW
                assert not late, f"{when}, its farewell does not end within Timeouts.farewell"
            trial.check_ended(stream, when)

    async def check_wait(self, at: int, way: str) -> None:
        """Its peer goes, or it is cancelled, in the wait number `at`."""
        is_reached = False

        def on_wait(number: int) -> None:
            nonlocal is_reached
            if number == at:
                is_reached = True
                stream.reset() if way == "gone" else trial.memory.cancel()

        when = f"when {'its peer goes' if way == 'gone' else 'it is cancelled'} in its wait {at}"
        async with self.begin(on_wait) as trial:
            stream = trial.memory.connect()
            await settle()
            if not is_reached:
                stream.send_nowait(self.sample)
                await settle()
            if not is_reached:
                return  # it needed less waits this time
            if way == "cancelled":
                await _receive(stream)
                await advance(trial.memory.clock, self.timeouts.farewell + WINDOW)
            trial.check_ended(stream, when)

    async def check_drain(self, said: _Said | str, *, idles: bool) -> None:
        """A shutdown while it is idle."""
        when = f"when the server drains and its peer has said {said}"
        async with self.begin() as trial:
            stream, _ = await self.say(trial, said, when)
            trial.memory.server.begin_shutdown(grace=10 * self.timeouts.linger_draining)
            await trial.pass_time(self.timeouts.linger_draining + WINDOW, when)
            await _receive(stream)
            reason = trial.check_ended(stream, when)
            assert reason == "draining" or not idles, f"{when}, it ends as {reason!r}, and not as 'draining'"
            assert reason not in OF_SERVERS, f"{when}, it ends only when it is cancelled"

    async def check_rescue(self, why: str, answer: bytes) -> None:
        """The sample comes in the turn in which the wait for it is ended."""
        when = f"when bytes come in the turn in which {why} ends the wait for them"
        async with self.begin() as trial:
            stream, _ = await self.say(trial, "all", when)
            trial.comes_late = self.sample
            if why == "a shutdown":
                trial.memory.server.begin_shutdown(grace=10 * self.timeouts.linger)
            else:
                upcoming = trial.protocols[0].connection.deadlines.next()
                assert upcoming is not None, f"{when}: no deadline is there while it is idle"
                trial.memory.clock.jump(upcoming[1] - trio.current_time() + WINDOW)
            await trial.look(when)
            got = await _receive(stream)
            assert got, f"{when}, it loses them: keep them in rescue(), and go on in converse()"
            if why != "a shutdown":  # the last answer may say so
                assert without_date(got) == answer, f"{when}, it answers otherwise: {got[:80]!r}"

    async def check_flood(self, flood: bytes) -> None:
        """Its peer takes nothing."""
        when = "when its peer takes nothing"
        async with self.begin() as trial:
            stream = trial.memory.connect(buffer_bytes=4096)
            rest = flood
            for _ in range(2 + len(flood) // 1024):
                rest = rest[stream.send_nowait(rest) :]
                await trial.look(when)
            assert any(each.connection.is_waiting_to_write for each in trial.protocols), (
                f"{when}, it never waits: a longer flood is needed"
            )
            longest = self.timeouts.write + self.timeouts.farewell + self.timeouts.linger
            await trial.pass_time(longest + 2 * WINDOW + 2, when)
            reason = trial.check_ended(stream, when)
            assert reason == "write-timeout", f"{when}, it ends as {reason!r}, and not as 'write-timeout'"

    async def check_together(self, answer: bytes) -> None:
        """Several connections; one is only half way, one is reset, and the others are answered as one alone."""
        when = "when there are several connections"
        async with self.begin() as trial:
            streams: Sequence[MemoryStream] = [trial.memory.connect() for _ in range(TOGETHER)]
            half = len(self.sample) // 2
            await trial.look(when)
            for stream in streams:
                stream.send_nowait(self.sample[:half])
            await trial.look(when)
            early = [await _receive(stream) for stream in streams]
            streams[0].reset()
            await trial.look(when)
            for stream in streams[2:]:
                stream.send_nowait(self.sample[half:])
            await trial.look(when)
            for before, stream in list(zip(early, streams, strict=True))[2:]:
                got = without_date(before + await _receive(stream))
                assert got == answer, f"{when}, the sample is answered otherwise: {got[:80]!r}"
                assert not stream.ended, f"{when}, one ends with another"


async def _receive(stream: MemoryStream) -> bytes:
    """What comes until nothing does."""
    try:
        return await stream.receive_until_blocked()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return b""
