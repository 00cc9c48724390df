"""Concurrency management of a bound pool: who counts, and who of those is awake (kernel: ``nr_running`` and its users).

A part of `ktrio.workqueue._pool`, whose docstring says what it is for, and nothing by itself. Workers tell it when a
run begins and ends, the sensor (`ktrio.workqueue._sensor`) who falls asleep and wakes up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from ktrio.workqueue._line import Line
from ktrio.workqueue._policy import has_place, need_more_worker

if TYPE_CHECKING:
    from ktrio.workqueue._work import Work
    from ktrio.workqueue._worker import Worker

__all__ = ["ConcurrencyManagement"]


class ConcurrencyManagement:
    """The base of `Pool`, which sets the attributes."""

    capacity: int
    occupied: int
    starting: int
    worklist: Line
    nr_running: int  # S: always 0 if unbound
    doubts: int  # S
    doubts_settled: int  # S

    def kick(self, *, more: int = 0) -> None:
        """See `Pool`."""
        raise NotImplementedError

    def count_in(self, worker: Worker, work: Work) -> None:
        """It is about to run an item, and counts (kernel: it clears ``WORKER_PREP``) unless that is CPU-intensive."""
        if not worker.counted:
            worker.counted = True
            self.nr_running += 1
        if work._pwq is not None and work._pwq.is_cpu_intensive:
            self.set_cpu_intensive(worker)

    def count_out(self, worker: Worker) -> None:
        """It runs nothing any more."""
        if worker.counted:
            worker.counted = False
            self.nr_running -= not worker.asleep
        worker.asleep = False

    def fell_asleep(self, worker: Worker) -> None:
        """Its item has blocked; told by the sensor. The next may start (kernel: ``wq_worker_sleeping``)."""
        worker.asleep = True
        if not worker.counted:
            if self.worklist:  # a CPU-intensive one holds up nobody, but there may have been nobody to wake so far
                self.kick()
            return
        self.nr_running -= 1
        if not self.worklist:
            return
        # Under a cancelled scope it may not sleep but be back in the next turn.
        self.doubts += trio.current_effective_deadline() == float("-inf")
        if need_more_worker(len(self.worklist), self.nr_running):
            worker.pwq.cm_wakeups += has_place(self.occupied, self.capacity)
            self.kick()

    def woke_up(self, worker: Worker) -> None:
        """Its item runs again; told by the sensor (kernel: ``wq_worker_running``)."""
        worker.asleep = False
        if worker.counted:
            self.nr_running += 1

    def set_cpu_intensive(self, worker: Worker) -> None:
        """Its run does not count, or not any more (kernel: it sets ``WORKER_CPU_INTENSIVE``)."""
        worker.cpu_intensive = True
        if worker.counted:
            worker.counted = False
            self.nr_running -= not worker.asleep

    def count_again(self, worker: Worker) -> None:
        """A run that did not count has ended, awake as every run; a rescuer takes its place away with it."""
        worker.cpu_intensive = False
        if worker.is_rescuer:
            self.capacity -= 1
        else:
            worker.counted = True
            self.nr_running += 1

    async def settle_doubts(self) -> None:
        """It is open whether somebody sleeps: let those who only seemed to have their turn before a worker asks.

        Meanwhile that is still on its way.
        """
        while self.doubts_settled < self.doubts:
            doubts = self.doubts
            self.starting += 1
            # Twice: the doubt may be of this very turn, and in the next one Trio shuffles who comes first.
            await trio.lowlevel.cancel_shielded_checkpoint()
            await trio.lowlevel.cancel_shielded_checkpoint()
            self.starting -= 1
            self.doubts_settled = max(self.doubts_settled, doubts)
