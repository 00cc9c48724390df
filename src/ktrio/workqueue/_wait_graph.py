"""The search for a deadlock that is certain: from a wait about to begin, through all that it can reach.

What "certain" means, and when the search is made: `ktrio.workqueue._waits`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, final

import trio
from trio.lowlevel import Task

from ktrio.workqueue._current import tasks_of
from ktrio.workqueue._errors import DeadlockError

if TYPE_CHECKING:
    from types import CodeType

    from ktrio.workqueue._awaited import Need
    from ktrio.workqueue._waits import Wait
    from ktrio.workqueue._worker import Worker

__all__ = ["NURSERY_END", "refuse_certain_deadlock"]


def _code_of_nursery_end() -> CodeType | None:
    """Where a task waits for the children of a nursery. It has no public name: without it, fewer cycles are certain."""
    end: object = getattr(trio.Nursery, "_nested_child_finished", None)
    code: CodeType | None = getattr(end, "__code__", None)
    return code


NURSERY_END: Final = _code_of_nursery_end()


def refuse_certain_deadlock(wait: Wait) -> None:
    """DeadlockError if `wait`, which its task is about to begin, could never end."""
    assert wait.worker is not None
    graph = _Graph(wait)
    if wait.worker in graph.stuck_runs():
        raise DeadlockError(_describe(graph.cycle()))


def _describe(cycle: list[tuple[Worker, Wait, Worker]]) -> str:
    (first, _, _) = cycle[0]
    text = repr(first.work)
    for number, (_, wait, blocker) in enumerate(cycle):
        text += f"{', which' if number else ''} waits in {wait!r}"
        if wait.awaited.on is not blocker.work:
            text += f" for {blocker.work!r}"
    return f"certain deadlock: {text}"


@final
class _Graph:
    """The part of the wait-for graph that can be reached from a wait about to begin.

    Legend: I set once · T only by its maker, in one synchronous stretch.
    """

    def __init__(self, beginning: Wait) -> None:
        self._beginning = beginning  # I
        self._waits: dict[Worker, list[Wait]] = {}  # T: of runs all whose tasks wait
        self._needs: dict[Wait, list[Need]] = {}  # T
        self._waiters: dict[Worker, list[Worker]] = {}  # T: the runs that have waits for this one
        self._stuck: set[Worker] = set()  # T

    def stuck_runs(self) -> set[Worker]:
        """All runs that can be reached and are stuck: the most that can be called so without contradiction."""
        self._explore()
        self._stuck = set(self._waits)
        ahead = [run for run in self._stuck if not self._all_stuck(run)]
        while ahead:
            free = ahead.pop()
            if free in self._stuck:
                self._stuck.remove(free)
                ahead.extend(run for run in self._waiters.get(free, ()) if not self._all_stuck(run))
        return self._stuck

    def _all_stuck(self, run: Worker) -> bool:
        return all(map(self._is_stuck, self._waits[run]))

    def _is_stuck(self, wait: Wait) -> bool:
        needs = self._needs[wait]
        return bool(needs) and all(any(reason <= self._stuck for reason in need) for need in needs)

    def _explore(self) -> None:
        assert self._beginning.worker is not None
        ahead = [self._beginning.worker]
        seen = set(ahead)
        while ahead:
            run = ahead.pop()
            waits = self._waits_of(run)
            if waits is None:
                continue
            self._waits[run] = waits
            for wait in waits:
                self._needs[wait] = needs = wait.awaited.needs(run)
                blockers = {blocker for need in needs for reason in need for blocker in reason}
                for blocker in blockers:
                    self._waiters.setdefault(blocker, []).append(run)
                ahead.extend(blockers - seen)
                seen |= blockers

    def _waits_of(self, run: Worker) -> list[Wait] | None:
        """What its tasks wait for; None if one of them may do something else, or somebody will interrupt it."""
        found: list[Wait] = []
        wq = run.pwq.wq
        if run._followers is not None and run._followers.has_deadline(run.pool.deadline):
            return None
        for task in tasks_of(run):
            wait = wq.waits.get(task) or wq.returns.get(task)
            if task is not self._beginning.task and task.custom_sleep_data is None:
                wait = None  # it is about to go on
            if wait is not None and not wait.has_deadline:
                found.append(wait)
            elif wait is not None or not _waits_for_children(task):
                return None
        return found or None

    def cycle(self) -> list[tuple[Worker, Wait, Worker]]:
        """The shortest way from the run that begins to wait back to itself: who waits, in what, for whom."""
        start = self._beginning.worker
        assert start is not None
        ways: dict[Worker, list[tuple[Worker, Wait, Worker]]] = {start: []}
        ahead: list[Worker] = [start]
        for run in ahead:
            for wait, blocker in self._edges(run):
                way = [*ways[run], (run, wait, blocker)]
                if blocker is start:
                    return way
                if blocker not in ways:
                    ways[blocker] = way
                    ahead.append(blocker)
        return ways[ahead[-1]]  # it waits for a cycle that closed without a wait

    def _edges(self, run: Worker) -> Iterable[tuple[Wait, Worker]]:
        waits = [self._beginning] if run is self._beginning.worker else self._waits[run]
        for wait in waits:
            for need in self._needs[wait]:
                for reason in need:
                    if reason <= self._stuck:
                        for blocker in reason:
                            yield wait, blocker


def _waits_for_children(task: Task) -> bool:
    """Has it come to the end of its innermost nursery, and is somebody still in there?"""
    nurseries = task.child_nurseries
    if not nurseries or not nurseries[-1].child_tasks:
        return False
    return any(frame.f_code is NURSERY_END for frame, _ in task.iter_await_frames())
