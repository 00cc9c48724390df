"""What queueing and running an item that does nothing costs, beside starting a task for it. Prints JSON.

Two loads. *Burst*: 50 items are queued, then all of them are awaited. *Steady*: one item, one turn of the loop, and so
on; most of that is the turn itself, which is measured as well (`turn`). CPU time of the process (`process_time`), every
way once per round, a piece of each by turns. The other costs of a workqueue are in `workqueue_costs`.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib.util
import json
import math
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import partial
from itertools import cycle

import trio

from ktrio.workqueue import WQ_UNBOUND, Work, open_supervisor

BURST = 50
PIECES = 20  # of a measurement, made by turns; a divisor of the items, and of them in bursts
WORKERS = 8  # behind the memory channel
HOP = 20  # an item in a thread costs so many others, about

# What the CPU time of an item may be at most, as a multiple of a peer's.
TARGETS: Mapping[str, Mapping[str, float]] = {
    "burst": {"start_soon": 0.35, "create_task": 0.65},
    "steady": {"start_soon": 0.9, "create_task": 1.5},
}

Turn = Callable[[], Awaitable[object]]
Start = Callable[[], object]


class Counter:
    """Counts the items that have run; its method is the item."""

    def __init__(self) -> None:
        self.runs = 0

    async def item(self) -> None:
        self.runs += 1

    def plain_item(self) -> None:
        self.runs += 1


async def burst(start: Start, turn: Turn, counter: Counter, count: int) -> float:
    began = time.process_time()
    for goal in range(BURST, count + 1, BURST):
        for _ in range(BURST):
            start()
        while counter.runs < goal:
            await turn()
    return time.process_time() - began


async def steady(start: Start, turn: Turn, counter: Counter, count: int) -> float:
    began = time.process_time()
    for _ in range(count):
        start()
        await turn()
    while counter.runs < count:
        await turn()
    return time.process_time() - began


Load = Callable[[Start, Turn, Counter, int], Coroutine[object, object, float]]
LOADS: dict[str, Load] = {"burst": burst, "steady": steady}


# -- the ways to run an item


def with_start_soon(load: Load, count: int) -> float:
    async def main() -> float:
        counter = Counter()
        async with trio.open_nursery() as nursery:
            return await load(lambda: nursery.start_soon(counter.item), trio.lowlevel.checkpoint, counter, count)

    return trio.run(main)


def with_create_task(load: Load, count: int) -> float:
    async def main() -> float:
        counter = Counter()
        loop = asyncio.get_running_loop()
        return await load(lambda: loop.create_task(counter.item()), lambda: asyncio.sleep(0), counter, count)

    return asyncio.run(main())


def with_fresh_work(load: Load, count: int) -> float:
    async def main() -> float:
        counter = Counter()
        async with open_supervisor() as supervisor:
            wq = supervisor.alloc_workqueue("benchmark", WQ_UNBOUND)
            return await load(lambda: wq.queue_work(Work(counter.item)), trio.lowlevel.checkpoint, counter, count)

    return trio.run(main)


def with_fresh_plain_work(load: Load, count: int) -> float:
    async def main() -> float:
        counter = Counter()
        async with open_supervisor() as supervisor:
            wq = supervisor.alloc_workqueue("benchmark", WQ_UNBOUND)
            return await load(lambda: wq.queue_work(Work(counter.plain_item)), trio.lowlevel.checkpoint, counter, count)

    return trio.run(main)


def with_same_work(load: Load, count: int) -> float:
    """As many items as a burst has, made once and queued again and again, each when it has long run."""

    async def main() -> float:
        counter = Counter()
        async with open_supervisor() as supervisor:
            wq = supervisor.alloc_workqueue("benchmark", WQ_UNBOUND)
            following = cycle([Work(counter.item) for _ in range(BURST)]).__next__
            # One that was still pending would be missing in the end, and the load would never end.
            return await load(lambda: wq.queue_work(following()), trio.lowlevel.checkpoint, counter, count)

    return trio.run(main)


def with_channel(load: Load, count: int) -> float:
    """As Trio's documentation advises: a memory channel, and tasks that take from it."""

    async def main() -> float:
        counter = Counter()
        send, receive = trio.open_memory_channel[Callable[[], Awaitable[object]]](math.inf)

        async def worker() -> None:
            async for item in receive:
                await item()

        async with trio.open_nursery() as nursery, send:
            for _ in range(WORKERS):
                nursery.start_soon(worker)
            return await load(lambda: send.send_nowait(counter.item), trio.lowlevel.checkpoint, counter, count)

    return trio.run(main)


def with_threads(load: Load, count: int) -> float:
    """A hop to a thread for each item, 50 at a time or one after the other. Fewer of them: they take long."""
    few = max(BURST, count // HOP // BURST * BURST)
    size = BURST if load is burst else 1

    async def main() -> float:
        began = time.process_time()
        for _ in range(few // size):
            async with trio.open_nursery() as nursery:
                for _ in range(size):
                    nursery.start_soon(trio.to_thread.run_sync, int)
        return time.process_time() - began

    return trio.run(main) * count / few


def with_aiojobs(load: Load, count: int) -> float:
    """`Scheduler.spawn`, which has to be awaited: the loads written out."""
    import aiojobs

    size = BURST if load is burst else 1

    async def main() -> float:
        counter = Counter()
        scheduler = aiojobs.Scheduler()

        async def wait_for(goal: int) -> None:
            while counter.runs < goal:  # noqa: ASYNC110 - the turn of the loop is what is measured
                await asyncio.sleep(0)

        began = time.process_time()
        for goal in range(size, count + 1, size):
            for _ in range(size):
                await scheduler.spawn(counter.item())
            await (wait_for(goal) if load is burst else asyncio.sleep(0))
        await wait_for(count)
        took = time.process_time() - began
        await scheduler.close()
        return took

    return asyncio.run(main())


WAYS: dict[str, Callable[[Load, int], float]] = {
    "start_soon": with_start_soon,
    "create_task": with_create_task,
    "memory channel": with_channel,
    "to_thread": with_threads,
    **({"aiojobs": with_aiojobs} if importlib.util.find_spec("aiojobs") is not None else {}),
    "ktrio": with_fresh_work,
    "ktrio, same items": with_same_work,
    "ktrio, plain function": with_fresh_plain_work,
}


# -- the loops' own turns, for scale


def trio_turn(count: int) -> float:
    async def main() -> float:
        began = time.process_time()
        for _ in range(count):
            await trio.lowlevel.checkpoint()
        return time.process_time() - began

    return trio.run(main)


def asyncio_turn(count: int) -> float:
    async def main() -> float:
        began = time.process_time()
        for _ in range(count):
            await asyncio.sleep(0)
        return time.process_time() - began

    return asyncio.run(main())


def measure(rounds: int, items: int) -> list[dict[str, object]]:
    """One sample for each round, load and way: microseconds per item."""
    samples: list[dict[str, object]] = []
    for number in range(-1, rounds):  # the first one warms up
        for load, run_load in LOADS.items():
            found = by_turns({way: partial(run, run_load) for way, run in WAYS.items()}, items)
            samples += [{"round": number, "load": load, "way": way, "us_per_item": each} for way, each in found.items()]
        turns = by_turns({"start_soon": trio_turn, "create_task": asyncio_turn}, items)
        samples += [{"round": number, "load": "turn", "way": way, "us_per_item": each} for way, each in turns.items()]
    return [sample for sample in samples if sample["round"] != -1]


def by_turns(ways: Mapping[str, Callable[[int], float]], items: int) -> dict[str, float]:
    """Microseconds per item of each: a piece of every way, then the next piece, each beginning with another way.

    The speed of a shared machine changes within a second, and by half: what is compared must lie close together.
    """
    took = dict.fromkeys(ways, 0.0)
    order = deque(ways)
    for _ in range(PIECES):
        for way in order:
            gc.collect()
            took[way] += ways[way](items // PIECES)
        order.rotate(1)
    return {way: seconds / items * 1e6 for way, seconds in took.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=sys.modules[__name__].__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--items", type=int, default=20_000, help="per round, load and way")
    given = parser.parse_args()
    if given.items % (BURST * PIECES):
        parser.error(f"--items must be a multiple of {BURST * PIECES}")
    print(json.dumps(measure(given.rounds, given.items)))


if __name__ == "__main__":
    main()
