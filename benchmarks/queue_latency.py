"""How long short items take while heavy ones compute, on workqueues, behind a CapacityLimiter, and in nurseries.

Prints JSON. One loop, one process, pinned to one core by whoever starts it. *Heavy* items come in a burst; each of them
computes in steps and gives up the loop between two, by a checkpoint or, in the second load, now and then by waiting.
*Short* items come one by one, at random times, which were fixed beforehand, from a seed: how long one took is counted
from when it was to come, and not from when a busy loop got round to starting it.

Every way has its turn in each round, each round begins with another one, and a round's arrivals are the same for all.
A step is CPU time of its own thread: what others use of the core makes it longer, not shorter. Ten ways to run the
same items are in `WAYS`; `WIDTH` is how many each lets in at once where it has a limit.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import random
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

import trio
from measure import busy_seconds

from ktrio.workqueue import WQ_CPU_INTENSIVE, WQ_HIGHPRI, WQ_UNBOUND, Work, Workqueue, WorkqueueFlags, open_supervisor

WIDTH = 8
SEED = 20_26


# -- the load


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What comes, and when. Times are seconds.

    heavy: so many heavy items come at once, at the beginning.
    steps, step: of each heavy item, and the CPU time of each.
    wait_after, wait: after so many steps it waits so long, as for a database; 0: it never waits, and only checkpoints.
    short, rate, during: CPU time of a short item, how many come in a second, and for how long.
    """

    key: str
    text: str
    heavy: int = 16
    steps: int = 16
    step: float = 0.002
    wait_after: int = 0
    wait: float = 0.0
    short: float = 0.0001
    rate: float = 300.0
    during: float = 0.6

    def waits_before(self, number: int) -> bool:
        """Does a heavy item wait before its step `number`, counted from 0?"""
        return self.wait_after > 0 and number > 0 and number % self.wait_after == 0


LOADS = (
    Load(key="compute", text="heavy items of 16 steps of 2 ms, a checkpoint between two"),
    Load(
        key="compute and wait",
        text="heavy items of 16 steps of 2 ms, a checkpoint between two, a wait of 20 ms after each 4",
        wait_after=4,
        wait=0.020,
    ),
)


@dataclass(frozen=True, slots=True)
class Machine:
    """Time that passes and CPU that is burnt: the real ones here, virtual ones in tests."""

    now: Callable[[], float]
    burn: Callable[[float], None]
    sleep_in_thread: Callable[[float], None]


def burn(seconds: float) -> None:
    """Use so much CPU time of this thread, in bytecode, so that the GIL can be asked for."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        for _ in range(100):  # asking for the time is a system call
            pass


REAL = Machine(now=time.perf_counter, burn=burn, sleep_in_thread=time.sleep)


@dataclass(slots=True, kw_only=True)
class Item:
    """One arrival; `due`, `begun` and `ended` are seconds since the burst was due."""

    load: Load
    machine: Machine
    is_heavy: bool
    due: float
    epoch: float = field(default=math.nan)
    begun: float = math.nan
    ended: float = math.nan

    async def run(self) -> None:
        self.begun = self.machine.now() - self.epoch
        if self.is_heavy:
            await self._compute()
        else:
            self.machine.burn(self.load.short)
        self.ended = self.machine.now() - self.epoch

    async def _compute(self) -> None:
        for number in range(self.load.steps):
            if self.load.waits_before(number):
                await trio.sleep(self.load.wait)
            elif number:
                await trio.lowlevel.checkpoint()
            self.machine.burn(self.load.step)

    def run_in_thread(self) -> None:
        """The same work as a plain function: nobody but the GIL makes it give way."""
        self.begun = self.machine.now() - self.epoch
        for number in range(self.load.steps):
            if self.load.waits_before(number):
                self.machine.sleep_in_thread(self.load.wait)
            self.machine.burn(self.load.step)
        self.ended = self.machine.now() - self.epoch

    @property
    def took(self) -> float:
        """Seconds from when it was to come to its end."""
        return self.ended - self.due


def arrivals(load: Load, machine: Machine, seed: int) -> list[Item]:
    """Everything that comes, in the order of time: a burst, and a Poisson process."""
    chance = random.Random(seed)
    items = [Item(load=load, machine=machine, is_heavy=True, due=0.0) for _ in range(load.heavy)]
    due = chance.expovariate(load.rate)
    while due < load.during:
        items.append(Item(load=load, machine=machine, is_heavy=False, due=due))
        due += chance.expovariate(load.rate)
    return items


# -- the ways to run it

Start = Callable[[Item], object]
Starts = tuple[Start, Start]  # of heavy items, of short ones
Way = Callable[[], AbstractAsyncContextManager[Starts]]


def behind(limiter: trio.CapacityLimiter, nursery: trio.Nursery) -> Start:
    async def run(item: Item) -> None:
        async with limiter:
            await item.run()

    return lambda item: nursery.start_soon(run, item)


def on(wq: Workqueue) -> Start:
    return lambda item: wq.queue_work(Work(item.run))


@asynccontextmanager
async def plain_nursery() -> AsyncIterator[Starts]:
    async with trio.open_nursery() as nursery:

        def start(item: Item) -> None:
            nursery.start_soon(item.run)

        yield start, start


@asynccontextmanager
async def one_limiter() -> AsyncIterator[Starts]:
    async with trio.open_nursery() as nursery:
        start = behind(trio.CapacityLimiter(WIDTH), nursery)
        yield start, start


def two_limiters(width: int) -> Way:
    """One for the heavy items, of this width, and one for the short items."""

    @asynccontextmanager
    async def way() -> AsyncIterator[Starts]:
        async with trio.open_nursery() as nursery:
            yield behind(trio.CapacityLimiter(width), nursery), behind(trio.CapacityLimiter(WIDTH), nursery)

    return way


def one_queue(flags: WorkqueueFlags) -> Way:
    @asynccontextmanager
    async def way() -> AsyncIterator[Starts]:
        async with open_supervisor() as supervisor:
            start = on(supervisor.alloc_workqueue("all", flags, WIDTH))
            yield start, start

    return way


def two_queues(heavy: WorkqueueFlags, short: WorkqueueFlags) -> Way:
    @asynccontextmanager
    async def way() -> AsyncIterator[Starts]:
        async with open_supervisor() as supervisor:
            heavies = supervisor.alloc_workqueue("heavy", heavy, WIDTH)
            yield on(heavies), on(supervisor.alloc_workqueue("short", short, WIDTH))

    return way


@asynccontextmanager
async def in_threads() -> AsyncIterator[Starts]:
    async with open_supervisor(thread_limit=WIDTH) as supervisor:
        heavies = supervisor.alloc_workqueue("heavy", WQ_CPU_INTENSIVE, WIDTH)
        shorts = supervisor.alloc_workqueue("short", 0, WIDTH)
        yield lambda item: heavies.queue_work(Work(item.run_in_thread)), on(shorts)


BOUND = WorkqueueFlags(0)

WAYS: dict[str, Way] = {
    "nursery": plain_nursery,
    "limiter": one_limiter,
    "two limiters": two_limiters(WIDTH),
    "two limiters, 1": two_limiters(1),
    "unbound": one_queue(WQ_UNBOUND),
    "bound": one_queue(BOUND),
    "bound, unbound": two_queues(BOUND, WQ_UNBOUND),
    "bound, highpri": two_queues(BOUND, WQ_HIGHPRI),
    "cpu intensive": two_queues(WQ_CPU_INTENSIVE, BOUND),
    "threads": in_threads,
}

TEXTS = {
    "nursery": "plain nursery, no limit",
    "limiter": f"one CapacityLimiter({WIDTH})",
    "two limiters": f"CapacityLimiter({WIDTH}) each",
    "two limiters, 1": f"CapacityLimiter(1); short: ({WIDTH})",
    "unbound": "one unbound queue",
    "bound": "one bound queue",
    "bound, unbound": "bound; short: WQ_UNBOUND",
    "bound, highpri": "bound; short: WQ_HIGHPRI",
    "cpu intensive": "WQ_CPU_INTENSIVE; short: bound",
    "threads": "the same, plain functions in threads",
}
"""What a way is called where people read it."""


async def run(way: Way, items: Sequence[Item], machine: Machine) -> None:
    """Let every item come when it is due, or, if the loop is late, as soon as it gets round to it; until all ended."""
    async with way() as (start_heavy, start_short):
        epoch = machine.now()
        for item in items:
            item.epoch = epoch
            early = item.due - (machine.now() - epoch)
            if early > 0:
                await trio.sleep(early)
            (start_heavy if item.is_heavy else start_short)(item)


# -- the figures


def percentile(values: Iterable[float], percent: float) -> float:
    """The smallest of the values that at least so many percent of them do not exceed (nearest rank)."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(len(ranked) * percent / 100) - 1)]


def alive_at_once(spans: Iterable[tuple[float, float]]) -> tuple[float, int]:
    """How many of these spans there are at a time: the mean while there is any, and the most."""
    # Ends come first: who takes a place that is given up in that instant is not beside who gave it up.
    changes = sorted((when, change) for begun, ended in spans for when, change in ((begun, 1), (ended, -1)))
    alive, most, area, busy, last = 0, 0, 0.0, 0.0, 0.0
    for when, change in changes:
        area += alive * (when - last)
        busy += (when - last) if alive else 0.0
        alive, last = alive + change, when
        most = max(most, alive)
    return (area / busy if busy else 0.0), most


def figures(items: Sequence[Item]) -> dict[str, object]:
    """What one run tells."""
    heavy = [item for item in items if item.is_heavy]
    short = [item.took * 1e3 for item in items if not item.is_heavy]
    mean_alive, most_alive = alive_at_once((item.begun, item.ended) for item in heavy)
    took = [item.took * 1e3 for item in heavy]
    return {
        "short": len(short),
        **{f"short_p{percent}_ms": round(percentile(short, percent), 3) for percent in (50, 90, 99)},
        "short_max_ms": round(max(short), 3),
        "heavy": len(heavy),
        "heavy_mean_ms": round(sum(took) / len(took), 3),
        "heavy_p99_ms": round(percentile(took, 99), 3),
        "half_done_mean": round(mean_alive, 3),
        "half_done_max": most_alive,
        "heavy_per_second": round(len(heavy) / max(item.ended for item in heavy), 3),
        "finished_by_ms": sorted(round(milliseconds, 2) for milliseconds in took),
    }


def measure(rounds: int, ways: Sequence[str]) -> list[dict[str, object]]:
    """One sample for each round, load and way."""
    core = frozenset(os.sched_getaffinity(0))
    samples: list[dict[str, object]] = []
    for number in range(rounds):
        for load in LOADS:
            for turn in range(len(ways)):
                name = ways[(number + turn) % len(ways)]
                items = arrivals(load, REAL, SEED + number)
                gc.collect()
                wall, used, busy = time.monotonic(), time.process_time(), busy_seconds(core)
                trio.run(run, WAYS[name], items, REAL)
                wall, used, busy = time.monotonic() - wall, time.process_time() - used, busy_seconds(core) - busy
                samples.append(
                    {
                        "round": number,
                        "load": load.key,
                        "way": name,
                        **figures(items),
                        "cpu_seconds": round(used, 4),
                        "others": round(max(0.0, busy - used) / wall, 4),
                    }
                )
    return samples


def main() -> None:
    parser = argparse.ArgumentParser(description=sys.modules[__name__].__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), metavar="WAY", help="; ".join(WAYS))
    given = parser.parse_args()
    print(json.dumps(measure(given.rounds, given.ways)))


if __name__ == "__main__":
    main()
