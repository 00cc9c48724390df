"""The watchdog of the loop: a thread that says which item holds it, while it does.

A step that does not end stops everything, and with it everybody who could say so; `ktrio.workqueue._hogs` sees steps
only when they are over. So a thread asks the loop for a sign of life, which also wakes an idle one. If none has come
after the threshold, it looks at the stack of the loop's thread. Items' tasks whose outermost frame is in there are the
ones that run: the item's own, or a task that it has started. The item is named in the log with the whole stack, plain
functions included, once for each time that the loop is held; and the log says when it goes on.

Nothing is paid for this by items: not the thread is told what runs, it finds out. The thread belongs to its supervisor,
which ends it and waits for that.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from types import FrameType
from typing import TYPE_CHECKING, Final, final

import trio
from trio.lowlevel import Task

from ktrio.workqueue._current import tasks_of
from ktrio.workqueue._dump import busy_workers, describe_frame

if TYPE_CHECKING:
    from ktrio.workqueue._supervisor import Supervisor
    from ktrio.workqueue._worker import Worker

__all__ = ["LoopWatchdog"]

log = logging.getLogger("ktrio.workqueue")

# Seconds that leaving the supervisor waits for the thread. It is asleep, or writes one record.
JOIN_TIMEOUT: Final = 1.0


@final
class LoopWatchdog:
    """The thread of one supervisor.

    Legend: I set once · N by the thread only · E an event, set by either side.
    """

    def __init__(self, supervisor: Supervisor, threshold: float) -> None:
        if not threshold >= 0:
            raise ValueError(f"loop_watchdog must be seconds, or 0 for none, not {threshold}")
        self._supervisor = supervisor  # I
        self._threshold = threshold  # I, seconds of real time
        self._loop_thread = threading.get_ident()  # I
        self._stop = threading.Event()  # E: by the supervisor
        self._named: set[tuple[Worker, int] | None] = set()  # N: the runs that hold the loop, once reported

    @asynccontextmanager
    async def watching(self) -> AsyncGenerator[None]:
        """Watch for the length of the block, if asked to. The thread has ended when it is left, by whatever road."""
        if not self._threshold:
            yield
            return
        thread = threading.Thread(target=self._watch, name="ktrio loop watchdog", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            with trio.move_on_after(JOIN_TIMEOUT, shield=True):
                await trio.to_thread.run_sync(thread.join, JOIN_TIMEOUT)

    # -- the thread

    def _watch(self) -> None:
        while not self._stop.is_set():
            answer = threading.Event()
            try:
                self._supervisor.token.run_sync_soon(answer.set)
            except trio.RunFinishedError:
                return
            while not answer.wait(self._threshold):
                if self._stop.is_set():
                    return
                self._look()
            if self._named:
                self._named.clear()
                log.warning("the loop goes on")
            self._stop.wait(self._threshold)

    def _look(self) -> None:
        """The loop is held: report by whom, unless that was said already."""
        frames = list(_stack(sys._current_frames().get(self._loop_thread)))
        holder = self._holder(frames)
        if holder is None:
            key, who = None, "no item of this supervisor"
        else:
            depth, worker, task = holder
            work = worker.work
            key = (worker, worker.pwq.started)
            child = f", in its task {task.name}" if task is not worker.task else ""
            who = f"{work!r} ({worker.name}){child}"
            frames = frames[depth:]
        if key in self._named:
            return
        self._named.add(key)
        log.warning(
            "the loop has been held for more than %g s by %s:\n%s",
            self._threshold,
            who,
            "\n".join(f"  {describe_frame(frame, frame.f_lineno)}" for frame in frames),
        )

    def _holder(self, frames: list[FrameType]) -> tuple[int, Worker, Task] | None:
        """The item whose task has its step now, and where in the stack that begins.

        If there are several, because an item has a supervisor of its own, the innermost.
        """
        depths = {frame: depth for depth, frame in enumerate(frames)}
        found = [
            (depths[frame], worker, task)
            for worker in busy_workers(self._supervisor)
            for task in tasks_of(worker)
            if (frame := task.coro.cr_frame) in depths
        ]
        return max(found, key=lambda each: each[0], default=None)


def _stack(frame: FrameType | None) -> Iterator[FrameType]:
    """From the outermost frame on."""
    frames: list[FrameType] = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return reversed(frames)
