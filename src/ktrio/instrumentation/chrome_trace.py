"""What a supervisor's items did, as a file that chrome://tracing and Perfetto (ui.perfetto.dev) open.

The format is the *Trace Event Format* of Chrome's tracing, in its array form: a list of objects, one on each line. Its
readers take a list that was cut off anywhere between two lines, so a program that is killed leaves a trace, too.

What is in it: a process for each pool and in it a row for each worker, with a span for each run; for each queueing an
asynchronous span from there to its start, with an instant in it for the activation; counters of each queue's
`nr_active` and inactive items, and of the pool's worklist. Times are microseconds since the first event.

Nothing is kept but the last value of each counter and the numbers of workers seen, so the length of a trace is limited
by the disk only.
"""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO, final

from ktrio.workqueue import Work, WorkEvent, WorkqueueInstrument

if TYPE_CHECKING:
    import os

__all__ = ["ChromeTrace", "chrome_trace"]

# Rows remembered as named. Beyond that all are forgotten, and named once more when they come up.
MAX_ROWS: Final = 10_000
QUEUE_ROW: Final = 0


@final
class ChromeTrace(WorkqueueInstrument):
    """An instrument that writes a trace; give it to `Supervisor.add_instrument`, of one supervisor.

    It writes on the loop, buffered by `file`: enough for finding out what a program does, not for every day. An error
    of the file takes the instrument out, as any does that raises; the program goes on.

    Args:
      file: a text file open for writing. It stays open: `close` ends the list and flushes.

    Legend: I set once · S changed only in one synchronous stretch.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file  # I
        self._began: float | None = None  # S: the time of the first event
        self._closed = False  # S
        self._separator = "[\n"  # S
        self._pids: dict[str, int] = {}  # S: of pools
        self._rows: set[tuple[int, int]] = set()  # S: named already
        self._running: set[tuple[int, int]] = set()  # S: rows whose span is open
        self._counters: dict[tuple[int, str], dict[str, int]] = {}  # S: last values

    def queue_work(self, event: WorkEvent, /) -> None:
        """See `WorkqueueInstrument`."""
        pid = self._pid(event)
        self._write("b", event.work.name, event, pid, QUEUE_ROW, id=_queueing(event.work, 1))
        self._count(event, pid)

    def activate_work(self, event: WorkEvent, /) -> None:
        """See `WorkqueueInstrument`."""
        pid = self._pid(event)
        if event.worker is None:
            self._write("n", "activate", event, pid, QUEUE_ROW, id=_queueing(event.work, 1))
        else:  # it started parked, and comes back for the first time
            self._write("i", "activate", event, pid, self._row(event, pid), s="t")
        self._count(event, pid)

    def execute_start(self, event: WorkEvent, /) -> None:
        """See `WorkqueueInstrument`."""
        pid = self._pid(event)
        row = self._row(event, pid)
        self._running.add((pid, row))
        self._write("B", event.work.name, event, pid, row)
        self._write("e", event.work.name, event, pid, QUEUE_ROW, id=_queueing(event.work, 0))
        self._count(event, pid)

    def execute_end(self, event: WorkEvent, /) -> None:
        """See `WorkqueueInstrument`."""
        pid = self._pid(event)
        row = self._row(event, pid)
        if (pid, row) in self._running:  # not if it had begun before the trace did
            self._running.remove((pid, row))
            self._write("E", event.work.name, event, pid, row)
        self._count(event, pid)

    def close(self) -> None:
        """End the list, so that it is JSON, and flush the file. Events after that are ignored. Again: harmless."""
        if not self._closed:
            self._closed = True
            self._file.write("[]\n" if self._began is None else "\n]\n")
            self._file.flush()

    # -- one line

    def _write(self, phase: str, name: str, event: WorkEvent, pid: int, tid: int, **more: str) -> None:
        if self._began is None:
            self._began = event.time
        args: dict[str, object] = {"item": event.work.name, "workqueue": event.workqueue, "cpu": event.cpu}
        line: dict[str, object] = {
            "ph": phase,
            "name": name,
            "cat": event.workqueue,
            "ts": round((event.time - self._began) * 1e6, 3),
            "pid": pid,
            "tid": tid,
            "args": args,
            **more,
        }
        self._write_line(line)

    def _write_line(self, line: dict[str, object]) -> None:
        if not self._closed:
            self._file.write(self._separator + json.dumps(line))
            self._separator = ",\n"

    def _count(self, event: WorkEvent, pid: int) -> None:
        self._count_one(event, pid, event.workqueue, {"nr_active": event.nr_active, "inactive": event.inactive})
        self._count_one(event, pid, "worklist", {"worklist": event.worklist})

    def _count_one(self, event: WorkEvent, pid: int, name: str, values: dict[str, int]) -> None:
        if self._counters.get((pid, name)) == values:
            return
        self._counters[pid, name] = values
        began = event.time if self._began is None else self._began
        ts = round((event.time - began) * 1e6, 3)
        self._write_line({"ph": "C", "name": name, "ts": ts, "pid": pid, "args": values})

    def _pid(self, event: WorkEvent) -> int:
        """The number of the pool, which is a process to the readers."""
        pid = self._pids.get(event.pool)
        if pid is None:
            if self._began is None:
                self._began = event.time
            pid = self._pids[event.pool] = len(self._pids) + 1
            self._name("process_name", pid, QUEUE_ROW, event.pool)
            self._name("thread_name", pid, QUEUE_ROW, "queue")
        return pid

    def _row(self, event: WorkEvent, pid: int) -> int:
        """The row of the worker: its number in the pool, from 1 on."""
        assert event.worker is not None
        number = event.worker.rpartition(":")[2].rstrip("H")
        row = int(number) + 1
        if (pid, row) not in self._rows:
            if len(self._rows) >= MAX_ROWS:
                self._rows.clear()
            self._rows.add((pid, row))
            self._name("thread_name", pid, row, event.worker)
        return row

    def _name(self, what: str, pid: int, tid: int, name: str) -> None:
        self._write_line({"ph": "M", "name": what, "pid": pid, "tid": tid, "args": {"name": name}})


def _queueing(work: Work, ahead: int) -> str:
    """The same for a queueing and the run that it leads to: the item, and the number of the run."""
    return f"{id(work):x}.{work.statistics().runs + ahead}"


@contextmanager
def chrome_trace(path: str | os.PathLike[str]) -> Generator[ChromeTrace]:
    """``with chrome_trace("trace.json") as trace:`` is a `ChromeTrace` that writes to a file of this name.

    Then ``supervisor.add_instrument(trace)``. The file is written anew, and closed at the end of the block. OSError if
    that cannot be done.
    """
    with Path(path).open("w", encoding="utf-8") as file:
        trace = ChromeTrace(file)
        try:
            yield trace
        finally:
            trace.close()
