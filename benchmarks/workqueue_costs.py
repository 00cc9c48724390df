"""What a workqueue costs beside queueing and running: waiting items, parking, blocking, steps. Prints JSON.

Each row is one figure measured in two ways, a *subject* and what it is held against, one after the other in each round:

* *pending*: the memory that a pending item takes, from the growth of the process's resident memory while a million
  fresh items are queued behind 256 slots. Each is a `Work` of its own; all have one function.
* *backlog*: CPU time to queue and run an item when so many are queued at once, beside a backlog of a thousand. The
  million also with the cyclic garbage collector off on both sides: what is left is the collector's doing.
* *park*: leaving and coming back (``async with parking: pass``) with a slot free, beside `start_soon` in bursts.
* *block*: 10 000 items that all wait for one event, until the last has ended, beside as many tasks of a nursery; with
  the cyclic garbage collector off on both sides, and on.
* *step*: a checkpoint inside an item, on an unbound and on a bound pool, beside one in a plain task; a piece of each by
  turns, because the speed of a shared machine changes faster than a round goes by.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import trio

from ktrio.workqueue import WQ_UNBOUND, Work, open_supervisor, parked

BLOCKED = 10_000
PENDING = 1_000_000
BURST = 50
PIECES = 20  # of a measurement that is made by turns


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A figure of `subject`, by that of `against` if there is one, and what that may be at most."""

    text: str
    unit: str
    subject: str
    against: str = ""
    at_most: float | None = None


ROWS = (
    Row(text="memory of a pending item, at 1 000 000", unit="bytes", subject="pending", at_most=350),
    *(
        Row(
            text=f"queue + run, {10**n:,} at once / 1,000",
            unit="us",
            subject=f"backlog {10**n}",
            against="backlog 1000",
        )
        for n in (4, 5, 6)
    ),
    Row(
        text="queue + run, 1,000,000 at once / 1,000, no gc",
        unit="us",
        subject="backlog 1000000, no gc",
        against="backlog 1000, no gc",
    ),
    Row(text="park + unpark / start_soon", unit="us", subject="park", against="start_soon", at_most=0.3),
    Row(
        text="10,000 that block / in a nursery, no gc",
        unit="us",
        subject="block, no gc",
        against="block in a nursery, no gc",
        at_most=1.5,
    ),
    Row(text="10,000 that block / in a nursery", unit="us", subject="block", against="block in a nursery"),
    Row(text="a step, unbound / in a task", unit="us", subject="step", against="step in a task", at_most=1.15),
    Row(text="a step, bound / in a task", unit="us", subject="step, bound", against="step in a task", at_most=1.15),
)


async def nothing() -> None:
    """The item that does nothing."""


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def pending() -> float:
    """Bytes per pending item. Only in a fresh process: memory that was used before is used again."""

    async def main() -> float:
        async with open_supervisor() as supervisor:
            wq = supervisor.alloc_workqueue("benchmark", WQ_UNBOUND, on_error=lambda _work, _error: None)
            before = resident_bytes()
            for _ in range(PENDING):
                wq.queue_work(Work(nothing))
            taken = resident_bytes() - before
            assert wq.statistics().pending == PENDING
            await wq.flush()
            return taken / PENDING

    return trio.run(main)


def pending_in_a_process() -> float:
    command = [sys.executable, __file__, "--pending"]
    return float(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=600).stdout)


def backlog(count: int) -> float:
    """As often as it takes to queue 50 000, and once if that is fewer."""
    times = max(1, 50_000 // count)

    async def main() -> float:
        async with open_supervisor() as supervisor:
            wq = supervisor.alloc_workqueue("benchmark", WQ_UNBOUND)
            began = time.process_time()
            for _ in range(times):
                for _ in range(count):
                    wq.queue_work(Work(nothing))
                await wq.flush()
            return (time.process_time() - began) / count / times * 1e6

    return trio.run(main)


def start_soon(count: int) -> float:
    async def main() -> float:
        async with trio.open_nursery() as nursery:
            began = time.process_time()
            for _ in range(count // BURST):
                for _ in range(BURST):
                    nursery.start_soon(nothing)
                await trio.lowlevel.checkpoint()
            return (time.process_time() - began) / count * 1e6

    return trio.run(main)


async def parks(count: int) -> float:
    parking = parked()
    began = time.process_time()
    for _ in range(count):
        async with parking:
            pass
    return (time.process_time() - began) / count * 1e6


async def steps(count: int) -> float:
    began = time.process_time()
    for _ in range(count):
        await trio.lowlevel.checkpoint()
    return (time.process_time() - began) / count * 1e6


def park(count: int) -> float:
    async def main() -> float:
        async with open_supervisor(cpu_intensive_threshold=0) as supervisor:  # it is long, and that is no news
            return await supervisor.alloc_workqueue("benchmark", WQ_UNBOUND).run(parks, count)

    return trio.run(main)


def all_steps(count: int) -> dict[str, float]:
    async def main() -> dict[str, float]:
        took = dict.fromkeys(("step in a task", "step", "step, bound"), 0.0)
        async with open_supervisor() as supervisor:
            unbound = supervisor.alloc_workqueue("unbound", WQ_UNBOUND)
            bound = supervisor.alloc_workqueue("bound")
            for _ in range(PIECES):
                took["step in a task"] += await steps(count // PIECES)
                took["step"] += await unbound.run(steps, count // PIECES)
                took["step, bound"] += await bound.run(steps, count // PIECES)
        return {figure: total / PIECES for figure, total in took.items()}

    return trio.run(main)


def block_in_a_nursery(count: int) -> float:
    async def main() -> float:
        event = trio.Event()
        began = time.process_time()
        async with trio.open_nursery() as nursery:
            for _ in range(count):
                nursery.start_soon(event.wait)
            while event.statistics().tasks_waiting < count:
                await trio.lowlevel.checkpoint()
            event.set()
        return (time.process_time() - began) / count * 1e6

    return trio.run(main)


def block(count: int) -> float:
    async def main() -> float:
        event = trio.Event()
        async with open_supervisor(capacity=2 * count) as supervisor:
            wq = supervisor.alloc_workqueue("benchmark", WQ_UNBOUND, max_active=2 * count)
            began = time.process_time()
            for _ in range(count):
                wq.queue_work(Work(event.wait))
            while event.statistics().tasks_waiting < count:
                await trio.lowlevel.checkpoint()
            event.set()
            await wq.flush()
            return (time.process_time() - began) / count * 1e6

    return trio.run(main)


def without_gc(measure: Callable[[int], float], count: int) -> float:
    gc.disable()
    try:
        return measure(count)
    finally:
        gc.enable()


def measure(rounds: int, scale: float) -> list[dict[str, object]]:
    """One sample for each round and figure. `scale` below 1 is for trying it out."""
    few, blocked = int(20_000 * scale), int(BLOCKED * scale)
    figures: dict[str, Callable[[], float]] = {
        **{f"backlog {10**n}": lambda n=n: backlog(int(10**n * scale)) for n in (3, 4, 5)},  # type: ignore[misc]
        "start_soon": lambda: start_soon(few),
        "park": lambda: park(few),
        "block in a nursery, no gc": lambda: without_gc(block_in_a_nursery, blocked),
        "block, no gc": lambda: without_gc(block, blocked),
        "block in a nursery": lambda: block_in_a_nursery(blocked),
        "block": lambda: block(blocked),
    }
    samples: list[dict[str, object]] = []
    for number in range(-1, rounds):  # the first one warms up
        chosen = dict(figures)
        if scale == 1 and 0 <= number < 2:  # these take seconds
            chosen["backlog 1000000"] = lambda: backlog(PENDING)
            chosen["backlog 1000, no gc"] = lambda: without_gc(backlog, 1000)
            chosen["backlog 1000000, no gc"] = lambda: without_gc(backlog, PENDING)
            chosen["pending"] = pending_in_a_process
        for figure, take in chosen.items():
            gc.collect()
            samples.append({"round": number, "figure": figure, "value": take()})
        samples += [{"round": number, "figure": figure, "value": value} for figure, value in all_steps(few).items()]
    return [sample for sample in samples if sample["round"] != -1]


def main() -> None:
    parser = argparse.ArgumentParser(description=sys.modules[__name__].__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="of the counts, to try it out")
    parser.add_argument("--pending", action="store_true", help="print the bytes per pending item, and nothing else")
    given = parser.parse_args()
    print(pending() if given.pending else json.dumps(measure(given.rounds, given.scale)))


if __name__ == "__main__":
    main()
