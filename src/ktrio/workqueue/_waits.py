"""Who waits for what: the live wait-for graph, and the deadlocks in it that are certain (kernel: lockdep's report).

Each wait for an item or a queue that a task inside an item begins stands in the books of that item's queue for as long
as it lasts. The last wait that closes a certain cycle raises DeadlockError at once and names everything on it.

*Certain* means that nothing arranged by anybody can end it; only a cancellation out of the blue could. In detail:

* A run is *stuck* if each of its tasks, its own and all below that one in the tree, either is in a wait that is stuck,
  or has come to the end of its innermost nursery and waits for the tasks in there. One task that does anything else may
  cancel the others, so then nothing is certain.
* A wait for an item is stuck if that run is; or if the queueing it waits for has not begun and cannot: because the run
  before it is stuck, or because every slot is held by a run that is stuck. A run that waits has parked, and holds no
  slot; but one whose child task waits does, and in an ordered queue every run does (P7).
* A wait for a queue is stuck if one of the runs that it waits for is.
* A return from `parked` is stuck as a queueing is that cannot begin. This is the one deadlock that parking brings: a
  child task waits for a parked item, while its own item holds the slot that this one needs to come back.
* A wait that has a deadline, any but those around the whole supervisor, is not stuck: it will end, and then its item
  goes on.

A wait for the item or queue that the caller is in is a cycle of one, and always an error: it cannot end well whatever
happens.

What closes a cycle without beginning a wait (the end of a sibling task, the end of a nursery's block) raises nothing;
the watchdog will name those.

The search is made only by a wait inside an item that somebody waits for, so long chains cost nothing.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar, cast, final

import trio
from trio.lowlevel import Task, enable_ki_protection

from ktrio.workqueue._current import enclosing_workers, tasks_of
from ktrio.workqueue._errors import DeadlockError

if TYPE_CHECKING:
    from types import CodeType

    from ktrio.workqueue._flush import Colour
    from ktrio.workqueue._parking import ReturnToken
    from ktrio.workqueue._pwq import PoolWorkqueue
    from ktrio.workqueue._queue import Workqueue
    from ktrio.workqueue._work import Work
    from ktrio.workqueue._worker import Worker

__all__ = ["Wait", "refuse_own_wait"]

T = TypeVar("T")
# Runs that must all be stuck for a wait to be.
Reason: TypeAlias = "frozenset[Worker]"


def _code_of_nursery_end() -> CodeType | None:
    """Where a task waits for the children of a nursery. It has no public name: without it, fewer cycles are certain."""
    end: object = getattr(trio.Nursery, "_nested_child_finished", None)
    code: CodeType | None = getattr(end, "__code__", None)
    return code


NURSERY_END: Final = _code_of_nursery_end()


@final
class Wait:
    """One wait of a task inside an item: for another item, for a queue, or for its return from `parked`.

    Made when it is about to begin, by the task that waits: raises DeadlockError if it could never end.
    All attributes: I.
    """

    __slots__ = ("_books", "deadline", "on", "task", "until", "what", "worker")

    def __init__(self, what: str, on: Work | Workqueue, until: int | Colour | ReturnToken) -> None:
        """`until`: the number of the run, if `on` is an item; the colour, if it is a queue. `what` is for messages.

        Of a return: the token, which stands in line already, and its queue.
        """
        self.what = what
        self.on = on
        self.until = until
        self.worker = next(enclosing_workers(), None)
        if self.worker is None:
            return
        self.task = trio.lowlevel.current_task()
        self.deadline = trio.current_effective_deadline()
        wq = self.worker.pwq.wq
        if wq.rescuer is not None and what not in ("cancel_sync", "parked"):
            wq.rescuer.check_flush_dependency(self)
        self._books = wq.returns if what == "parked" else wq.waits
        keeps_place = not self.worker.parked and self.task is not self.worker.task
        if is_waited_for(self.worker, keeps_slot=keeps_place or self.worker.pwq.keeps_slot):
            self._books[self.task] = self
            try:
                refuse_certain_deadlock(self)
            finally:
                del self._books[self.task]

    @enable_ki_protection
    async def sleep(self, sleep: Callable[[], Awaitable[T]]) -> T:
        """``await sleep()``, in the books.

        What sleeps sets `custom_sleep_data` of its task, as `trio.lowlevel.ParkingLot` does: Trio clears that when the
        task is scheduled, so it tells a task that waits from one that is about to go on.
        """
        if self.worker is None:
            return await sleep()
        self._books[self.task] = self
        try:
            return await sleep()
        finally:
            del self._books[self.task]

    @property
    def has_deadline(self) -> bool:
        """Will it end by itself? A deadline around the supervisor ends that, not this."""
        assert self.worker is not None
        return self.deadline not in (math.inf, self.worker.pool.deadline)

    @property
    def wq(self) -> Workqueue | None:
        """The queue that is waited for, or that of the item; None: that has never been queued."""
        if not isinstance(self.until, int):
            return cast("Workqueue", self.on)
        pwq = cast("Work", self.on)._pwq
        return pwq.wq if pwq is not None else None

    def reasons(self) -> Iterator[Reason]:
        """Each of these alone would make this wait stuck."""
        if isinstance(self.until, int):
            yield from _reasons_of_item(cast("Work", self.on), self.until)
            return
        wq = cast("Workqueue", self.on)
        if self.what == "parked":
            assert self.worker is not None
            yield from _reasons_of_line(cast("ReturnToken", self.until), self.worker.pwq)
            return
        colour = cast("Colour", self.until)
        for run in _runs(wq.waits) | _runs(wq.returns):
            if wq.colours.covers(colour, run._colour):
                yield frozenset({run})

    def __repr__(self) -> str:
        return "its return from parked()" if self.what == "parked" else f"{self.on!r}.{self.what}()"


def _reasons_of_item(work: Work, number: int) -> Iterator[Reason]:
    worker, pwq = work._worker, work._pwq
    if worker is not None:
        # It is that run; or the one before it, and the queueing waited for begins after that.
        if number - work._runs in (0, 1):
            yield frozenset({worker})
    elif pwq is not None and number == work._runs + 1:
        line = work._followers.lane if work._followers is not None else None
        if line is None or line.head is None or line.head is work:
            yield from _reasons_of_line(work, pwq)
        else:  # it waits for the head of its lane
            yield from _reasons_of_item(line.head, line.head._runs + (line.head._worker is None))


def _reasons_of_line(entry: Work | ReturnToken, pwq: PoolWorkqueue) -> Iterator[Reason]:
    """Who stands in line for a slot, or with one for a place: stuck if those who have them all are."""
    if entry.waits_for_slot:
        waiting = _runs(pwq.wq.waits) | _runs(pwq.wq.returns)
        holders = frozenset(run for run in waiting if run.pwq is pwq and (pwq.keeps_slot or _keeps_place(run)))
        if holders and len(holders) == pwq.nr_active >= pwq.wq.max_active:
            yield holders
    elif entry.waits_for_place and pwq.wq.rescuer is None:  # a rescuer brings a place
        pool = pwq.pool
        waits = [wq.waits for wq in pool.supervisor.all_workqueues]
        holders = frozenset(run for each in waits for run in _runs(each) if run.pool is pool and _keeps_place(run))
        if len(holders) == pool.occupied >= pool.capacity:
            yield holders


def _runs(waits: dict[Task, Wait]) -> set[Worker]:
    return {wait.worker for wait in waits.values() if wait.worker is not None}


def _keeps_place(run: Worker) -> bool:
    """Does it hold a place, and will it while it waits? It parks if its own task waits. So for its slot, but for P7."""
    return not run.parked and run.task not in run.pwq.wq.waits


def is_waited_for(run: Worker, *, keeps_slot: bool) -> bool:
    """May anybody wait for this run, directly or not? Asked before the search, to spare it."""
    work, pwq = run.work, run.pwq
    assert work is not None
    if run._followers is not None or work._followers is not None or pwq.wq.colours.is_flushed:
        return True
    return keeps_slot and bool(pwq.inactive or pwq.pool.worklist)


def refuse_own_wait(on: Work | Workqueue, what: str) -> None:
    """A wait for what the caller is in never ends well. Ask before anything is changed."""
    for worker in enclosing_workers():
        if worker.work is on:
            raise DeadlockError(f"{on!r}.{what}() was called from inside that same item: it would wait for ever")
        if worker.pwq.wq is on:
            raise DeadlockError(f"{on!r}.{what}() was called from inside {worker.work!r}, an item of that queue")


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
        if wait.on is not blocker.work:
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
        self._reasons: dict[Wait, tuple[Reason, ...]] = {}  # T
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
        return any(reason <= self._stuck for reason in self._reasons[wait])

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
                self._reasons[wait] = reasons = tuple(wait.reasons())
                blockers = {blocker for reason in reasons for blocker in reason}
                for blocker in blockers:
                    self._waiters.setdefault(blocker, []).append(run)
                ahead.extend(blockers - seen)
                seen |= blockers

    def _waits_of(self, run: Worker) -> list[Wait] | None:
        """What its tasks wait for; None if one of them may do something else."""
        found: list[Wait] = []
        wq = run.pwq.wq
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
            for reason in self._reasons[wait]:
                if reason <= self._stuck:
                    for blocker in reason:
                        yield wait, blocker


def _waits_for_children(task: Task) -> bool:
    """Has it come to the end of its innermost nursery, and is somebody still in there?"""
    nurseries = task.child_nurseries
    if not nurseries or not nurseries[-1].child_tasks:
        return False
    return any(frame.f_code is NURSERY_END for frame, _ in task.iter_await_frames())
