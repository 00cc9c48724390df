"""Everything there is, as a text for people (kernel: ``show_all_workqueues``), and the stacks of items.

A dump is made when something is wrong, so it relies on nothing: each part that cannot be made says why and the others
follow, and nothing is waited for. Lists of items are cut off, and equal names beside each other are one (``3*name``).
"""

from __future__ import annotations

import linecache
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby, islice
from types import FrameType
from typing import TYPE_CHECKING, Final, TypeVarTuple, Unpack

from trio.lowlevel import Task

from ktrio.workqueue._line import Line
from ktrio.workqueue._parking import ReturnToken

if TYPE_CHECKING:
    from ktrio.workqueue._pool import Pool
    from ktrio.workqueue._pwq import PoolWorkqueue
    from ktrio.workqueue._queue import Workqueue
    from ktrio.workqueue._supervisor import Supervisor
    from ktrio.workqueue._work import Work
    from ktrio.workqueue._worker import Worker

__all__ = ["busy_workers", "describe_frame", "describe_runs", "dump"]

Ts = TypeVarTuple("Ts")

# Names of a line of items, after equal neighbours have become one.
MAX_NAMES: Final = 8
# Items looked at for them, however long the line.
MAX_LOOKED_AT: Final = 1000
# Running items of a pwq shown with their stacks.
MAX_RUNS: Final = 16
# Tasks shown of one item, its own included, and frames of each.
MAX_TASKS: Final = 6
MAX_FRAMES: Final = 20


def dump(supervisor: Supervisor) -> str:
    """The text that `Supervisor.dump` gives."""
    return "\n".join(_lines(supervisor)) + "\n"


def _lines(supervisor: Supervisor) -> Iterator[str]:
    yield from _section(_title, supervisor)
    runs = busy_workers(supervisor)
    queues = supervisor.all_workqueues
    for wq in queues:
        if wq.in_flight:
            yield from _section(_queue, wq, runs)
    if idle := [wq.name for wq in queues if not wq.in_flight]:
        yield f"idle workqueues: {_names(idle, len(idle))}"
    for pool in supervisor.pools:
        yield from _section(_pool, pool)
    if supervisor.nr_timers:
        yield f"timers: {supervisor.nr_timers} armed"


def _section(make: Callable[[Unpack[Ts]], Iterable[str]], *args: *Ts) -> list[str]:
    """The lines that `make` gives. Barrier: a dump is wanted most when something is broken."""
    lines: list[str] = []
    try:
        lines.extend(make(*args))
    except Exception as error:
        lines.append(f"  (cannot be shown: {error!r})")
    return lines


def _title(supervisor: Supervisor) -> Iterator[str]:
    yield repr(supervisor)


def busy_workers(supervisor: Supervisor) -> list[Worker]:
    """The workers that run an item; in no order."""
    workers = list(supervisor.workers.values())
    return [worker for worker in workers if worker.work is not None and worker.pool.supervisor is supervisor]


def _queue(wq: Workqueue, runs: list[Worker]) -> Iterator[str]:
    books = wq.statistics()
    flags = (books.flags.name or "bound") if books.flags else "bound"
    state = " destroyed" if books.destroyed else " draining" if books.draining else ""
    state += " frozen" if books.frozen else ""
    ordered = " ordered" if books.ordered else ""
    yield f"workqueue {wq.name}: flags={flags} max_active={books.max_active}{ordered}{state}"
    for pwq in wq.pwqs:
        if pwq.in_flight:
            yield from _pwq(pwq, [run for run in runs if run.pwq is pwq])


def _pwq(pwq: PoolWorkqueue, runs: list[Worker]) -> Iterator[str]:
    yield (
        f"  pwq {_name_of(pwq.pool)}: active={pwq.nr_active}/{pwq.wq.max_active} inactive={pwq.inactive.waiting} "
        f"running={len(runs)} parked={pwq.parked} in_flight={pwq.in_flight}"
    )
    yield from (f"    {line}" for line in describe_runs(runs))
    if pwq.inactive.waiting:
        yield f"    inactive: {_items(pwq.inactive)}"


def _pool(pool: Pool) -> Iterator[str]:
    yield (
        f"pool {_name_of(pool)}: workers={pool.nr_workers} idle={len(pool.idle)} starting={pool.starting} "
        f"running={pool.nr_running} occupied={pool.occupied}/{pool.capacity} parked={pool.parked}"
    )
    if pool.worklist:
        yield f"  worklist: {_items(pool.worklist)}"


def _name_of(pool: Pool) -> str:
    return pool.name.removeprefix("ktrio pool ")


def _items(line: Line) -> str:
    return _names([_name(entry) for entry in islice(line, MAX_LOOKED_AT)], line.waiting)


def _name(entry: Work | ReturnToken) -> str:
    if isinstance(entry, ReturnToken):
        work = entry.worker.work
        return f"{work.name if work is not None else '?'} (coming back)"
    return entry.name


def _names(names: list[str], total: int) -> str:
    """The first names of a line of `total`, and how many there are beyond."""
    shown: list[str] = []
    for name, equals in groupby(names):
        if len(shown) == MAX_NAMES:
            break
        count = len(list(equals))
        shown.append(f"{count}*{name}" if count > 1 else name)
        total -= count
    return ", ".join(shown) + (f" … and {total} more" if total else "")


# -- one run, and the stacks of its tasks


def describe_runs(runs: list[Worker]) -> Iterator[str]:
    """Running items, the oldest first, each with what it waits for."""
    for run in sorted(runs, key=lambda run: -run.age)[:MAX_RUNS]:
        yield from _section(describe_run, run)
    if len(runs) > MAX_RUNS:
        yield f"… and {len(runs) - MAX_RUNS} more running"


def describe_run(run: Worker) -> Iterator[str]:
    """A running item: its name, worker and age, and what it waits for, in lines."""
    work = run.work
    if work is None:
        return
    notes = ["parked"] if run.parked else []
    notes += ["cpu-intensive"] if run.cpu_intensive else []
    notes += ["queued again"] if work.is_pending else []
    yield f"{work.name} ({', '.join([run.name, *notes])}) for {run.age:.3f} s{_wait_of(run, run.task)}"
    yield from describe_stack(run)


def describe_stack(run: Worker) -> Iterator[str]:
    """The await stacks of an item's task and of those it has started, outermost frame first."""
    ahead, shown = [(run.task, "")], 0
    while ahead:
        if shown == MAX_TASKS:
            yield "  … and more tasks"
            return
        task, indent = ahead.pop()
        shown += 1
        if task is not run.task:
            yield f"{indent}task {task.name}{_wait_of(run, task)}"
        frames = list(islice(_frames(task, own=task is run.task), MAX_FRAMES + 1))
        yield from (f"  {indent}{describe_frame(frame, line)}" for frame, line in frames[:MAX_FRAMES])
        if len(frames) > MAX_FRAMES:
            yield f"  {indent}…"
        children = [child for nursery in task.child_nurseries for child in nursery.child_tasks]
        ahead.extend((child, indent + "  ") for child in sorted(children, key=lambda child: child.name, reverse=True))


def _wait_of(run: Worker, task: Task) -> str:
    wait = run.pwq.wq.waits.get(task) or run.pwq.wq.returns.get(task)
    return f", waits in {wait!r}" if wait is not None else ""


def _frames(task: Task, *, own: bool) -> Iterator[tuple[FrameType, int]]:
    """The item's frames, up to the first of Trio or of ours: what goes on inside those is not what people look for."""
    is_item, is_outermost = not own, True
    for frame, line in task.iter_await_frames():
        package = str(frame.f_globals.get("__package__") or "")
        is_item = is_item or package != __package__  # the worker's own frames come first
        if is_item:
            if not is_outermost and package.partition(".")[0] in ("trio", "ktrio"):
                return
            is_outermost = False
            yield frame, line


def describe_frame(frame: FrameType, line: int) -> str:
    """Where it is, and the source if that can be had."""
    code = frame.f_code
    source = linecache.getline(code.co_filename, line, frame.f_globals).strip()
    return f"{code.co_filename}:{line} in {code.co_name}{': ' if source else ''}{source}"
