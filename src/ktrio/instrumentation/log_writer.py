"""Lines gathered on the loop and written in batches by a thread: a log costs the loop an append, and never a wait.

`LogWriter.write` takes a line and returns. A task, `LogWriter.run`, gathers for `INTERVAL` seconds or `BATCH_BYTES`,
and has a thread write what there is. What cannot be written costs the log, never the server:

* A sink that is slow, such as a pipe that nobody reads, holds up its thread. Lines wait, at most `MOST_BYTES` of them;
  then new ones are dropped, whole and counted.
* A sink that fails, such as a full disk, is tried again every `RETRY` seconds. Its first error is one record of the
  error log, that it works again another. What was not written stays first in line, so that a line of which a part
  has gone out goes on where it stopped.
* `reopen` writes what there is to the old file, then opens a new one by the same name. Nothing is lost and no line is
  torn: if the old one takes no more, the rest of a torn line is dropped and whole lines go to the new.

At the end everything is written, within `CLOSE_WITHIN` seconds; what is left then is counted as dropped.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final, TypeVar, TypeVarTuple, final

import trio
from trio.lowlevel import ParkingLot, enable_ki_protection

from ktrio.instrumentation.log_sinks import LogSink

log = logging.getLogger("ktrio.logs")

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# Seconds from a line to its being written. Who watches sees no delay, and a thread is asked four times a second.
INTERVAL: Final = 0.25
# Bytes at which a batch does not wait any longer; joining them keeps the loop for some 0.1 ms.
BATCH_BYTES: Final = 256 * 1024
# Bytes of lines that wait for their sink; some 50 000 lines.
MOST_BYTES: Final = 8 * 1024 * 1024
# Seconds between two tries of a sink that fails.
RETRY: Final = 1.0
# Seconds for the last lines, once nobody writes any more.
CLOSE_WITHIN: Final = 1.0


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LogStatistics:
    """What became of the lines of a log."""

    written: int
    """Lines written, ever."""
    dropped: int
    """Lines lost, ever: they came when too many waited, or they were left at the end."""
    waiting: int
    """Lines that wait to be written."""
    failing: bool
    """Did the last try to write, or to open the file anew, fail?"""


@final
class LogWriter:
    """Writes lines to `sink`, which it closes in the end. Made by `open_log_writer`.

    Legend: I set once · T only by `run` · S changed only in one synchronous stretch.
    """

    def __init__(self, sink: LogSink) -> None:
        self._sink = sink  # I; its content only by the one thread of `run`
        self._lines: deque[str] = deque()  # S
        self._bytes = 0  # S: of lines that wait, those that a thread has in hand included
        self._unwritten = b""  # T: what the last batch has left
        self._is_torn = False  # T: does that begin in the middle of a line?
        self._wake_at: float = 0  # S: `write` wakes `run` at more bytes than this
        self._sleep = ParkingLot()  # I: `run`
        self._progress = ParkingLot()  # I: who waits in `flush`
        self._limiter = trio.CapacityLimiter(1)  # I: no other threads of the program keep a log waiting
        self._must_flush = self._must_reopen = self._is_closing = False  # S
        self._is_failing = False  # T
        self._scope = trio.CancelScope(shield=True)  # I: around `run`; `close_soon` gives it its deadline
        self._taken = self._written = self._lost = self._refused = 0  # S: lines; lost are those taken, and not written
        self._said = 0  # T: dropped lines that the error log knows of
        self.ended: Final = trio.Event()  # I: set when `run` is over

    def write(self, line: str) -> None:
        """Take a line, in ASCII and without its end; never waits. Dropped if too many wait."""
        size = self._bytes + len(line) + 1
        if size > MOST_BYTES:
            self._refused += 1
            return
        self._lines.append(line)
        self._taken += 1
        self._bytes = size
        if size > self._wake_at:
            self._wake()

    def reopen(self) -> None:
        """Go on in a new file by the same name, once what there is has been written to the old one. Plain function."""
        self._must_reopen = True
        self._wake()

    async def flush(self) -> None:
        """Wait until every line taken so far is written, or lost; a checkpoint. It takes as long as the sink does."""
        target = self._taken
        self._must_flush = True
        self._wake()
        await trio.lowlevel.checkpoint()
        while self._written + self._lost < target:
            await self._progress.park()

    def close_soon(self) -> None:
        """No more lines will come: write what there is, within `CLOSE_WITHIN` seconds, and let `run` end."""
        self._is_closing = True
        self._scope.deadline = trio.current_time() + CLOSE_WITHIN
        self._wake()

    def statistics(self) -> LogStatistics:
        """The counts of this moment."""
        return LogStatistics(
            written=self._written,
            dropped=self._refused + self._lost,
            waiting=self._taken - self._written - self._lost,
            failing=self._is_failing,
        )

    def __repr__(self) -> str:
        now = self.statistics()
        failing = " failing" if now.failing else ""
        return f"<LogWriter {self._sink.name} written={now.written} waiting={now.waiting}{failing}>"

    # -- the task

    @enable_ki_protection
    async def run(self) -> None:
        """Write until `close_soon`, and then what is left. Nothing else ends it: it is shielded."""
        try:
            with self._scope:
                while not self._is_closing or self._bytes:
                    await self._wait()
                    is_written = await self._write_batch()
                    if self._must_reopen:
                        await self._reopen()
                    elif self._is_closing and not is_written:
                        break
                with suppress(OSError):  # all that it took is the kernel's now, and there is nothing left to write
                    await self._in_thread(self._sink.close)
        finally:  # the sink of a thread that does not come back stays open: its number must not be another file's
            self._end()

    def _wake(self) -> None:
        self._wake_at = math.inf
        self._sleep.unpark_all()

    @property
    def _is_urgent(self) -> bool:
        return self._must_flush or self._must_reopen or self._is_closing

    async def _wait(self) -> None:
        """Until there is a batch worth a thread."""
        if not self._bytes and not self._is_urgent:
            self._wake_at = 0
            await self._sleep.park()
        if not self._is_urgent:
            self._wake_at = math.inf if self._is_failing else BATCH_BYTES
            if self._bytes <= self._wake_at:
                with trio.move_on_after(RETRY if self._is_failing else INTERVAL):
                    await self._sleep.park()
        self._wake_at = math.inf

    async def _write_batch(self) -> bool:
        """Write what was left, or else the next lines; False: that failed."""
        self._must_flush = False
        data = self._unwritten or self._take_lines()
        if not data:
            await trio.lowlevel.checkpoint()
            return True
        count, error = await self._in_thread(self._put, data)
        if count:
            self._is_torn = data[count - 1 : count] != b"\n"
        self._unwritten = data[count:]
        self._bytes -= count
        self._written += data.count(b"\n", 0, count)
        self._progress.unpark_all()
        self._say(error)
        return error is None

    def _take_lines(self) -> bytes:
        lines = self._lines
        if not lines:
            return b""
        taken: list[str] = []
        size = 0
        while lines and size < BATCH_BYTES:
            taken.append(lines.popleft())
            size += len(taken[-1])
        return ("\n".join(taken) + "\n").encode("ascii", "replace")

    def _put(self, data: bytes) -> tuple[int, OSError | None]:
        """In a thread: write as much as goes; how much that was, and what stopped it."""
        view, count = memoryview(data), 0
        try:
            while count < len(data):
                count += self._sink.write(view[count:])
        except OSError as error:
            return count, error
        return count, None

    async def _reopen(self) -> None:
        self._must_reopen = False
        try:
            await self._in_thread(self._sink.reopen)
        except OSError as error:
            self._say(error)
            return
        if self._is_torn and self._unwritten:  # its beginning is in the old file
            torn, _, self._unwritten = self._unwritten.partition(b"\n")
            self._bytes -= len(torn) + 1
            self._lost += 1
        self._is_torn = False

    async def _in_thread(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        return await trio.to_thread.run_sync(fn, *args, limiter=self._limiter, abandon_on_cancel=True)

    def _say(self, error: OSError | None) -> None:
        """What the error log should know: the first failure, the first success, and lines that were dropped."""
        dropped = self._refused + self._lost
        if error is not None:
            if not self._is_failing:
                why = error.strerror or error
                log.error("cannot write the log %s: %s; lines wait, then they are dropped", self._sink.name, why)
        elif self._is_failing:
            log.warning("the log %s is written again; %d lines were dropped", self._sink.name, dropped - self._said)
            self._said = dropped
        elif dropped > self._said:
            log.warning("the log %s was slow; %d lines were dropped", self._sink.name, dropped - self._said)
            self._said = dropped
        self._is_failing = error is not None

    def _end(self) -> None:
        left = self._taken - self._written - self._lost
        if left:
            self._lost += left
            log.warning("the last %d lines of the log %s are lost", left, self._sink.name)
        self._lines.clear()
        self._unwritten, self._bytes = b"", 0
        self._progress.unpark_all()
        self.ended.set()


@asynccontextmanager
async def open_log_writer(sink: LogSink) -> AsyncGenerator[LogWriter]:
    """``async with open_log_writer(sink) as writer:`` writes what it is given until the block is left, and the rest.

    The block's error comes out as it is, not in a group. Leaving takes `CLOSE_WITHIN` seconds at most.
    """
    writer = LogWriter(sink)
    raised: BaseException | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)
        try:
            yield writer
        except BaseException as error:  # raised below, where no nursery makes a group of it
            raised = error
        finally:
            writer.close_soon()
        # Were the nursery to wait, a cancellation would come out in place of the block's error.
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 2 * CLOSE_WITHIN):
            await writer.ended.wait()
    if raised is not None:
        raise raised
