"""How long do short items take while heavy ones are about? Prints JSON.

One process, one loop, real time. *Heavy* jobs burn CPU in steps and give up the loop between them; they come by the
volley.
*Short* jobs burn a fraction of a step and come at random, seldom enough that there is time for all. Both are due at
times drawn once and the same for every way of running them; a short job's latency is counted from the moment at which
it was due, so that a loop too busy to start it in time does not look fast.

Each way runs the same jobs once per round, in an order that rotates.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

import trio

from ktrio.workqueue import (
    WQ_CPU_INTENSIVE,
    WQ_HIGHPRI,
    WQ_UNBOUND,
    Work,
    Workqueue,
    WorkqueueFlags,
    open_supervisor,
)

WIDTH = 8  # heavy jobs at once, wherever there is a limit
STEP = 0.002  # seconds of CPU in a heavy job's step
STEPS = 20  # of a heavy job
VOLLEY = 6  # heavy jobs that are due together
EVERY = 0.5  # seconds between two volleys
SHORT = 0.0001  # seconds of CPU in a short job
RATE = 150.0  # short jobs a second

Start = Callable[["Job"], None]


@dataclass
class Job:
    """One job: when it was due, in seconds from the start, and what became of it."""

    due: float
    is_heavy: bool
    ended: float = 0.0

    @property
    def latency(self) -> float:
        return self.ended - self.due


@dataclass
class Run:
    """One way, once."""

    began: float = 0.0
    heavy_begun: int = 0  # and not ended
    most_heavy_begun: int = 0
    jobs: list[Job] = field(default_factory=list)

    def now(self) -> float:
        return time.perf_counter() - self.began

    def begin(self, job: Job) -> None:
        self.heavy_begun += job.is_heavy
        self.most_heavy_begun = max(self.most_heavy_begun, self.heavy_begun)

    def end(self, job: Job) -> None:
        self.heavy_begun -= job.is_heavy
        job.ended = self.now()

    async def do(self, job: Job) -> None:
        """The job, as an async function."""
        self.begin(job)
        for _ in range(STEPS if job.is_heavy else 1):
            burn(STEP if job.is_heavy else SHORT)
            await trio.lowlevel.checkpoint()
        self.end(job)

    def do_in_one(self, job: Job) -> None:
        """The same as a plain function, which cannot give up the loop."""
        self.begin(job)
        burn(STEPS * STEP if job.is_heavy else SHORT)
        self.end(job)


def burn(seconds: float) -> None:
    """Use the CPU for so long."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def arrivals(seconds: float, seed: int) -> list[Job]:
    """The jobs of one run, in the order in which they are due: the same for the same seed."""
    chance = random.Random(seed)
    jobs = [Job(volley * EVERY, True) for volley in range(int(seconds / EVERY)) for _ in range(VOLLEY)]
    due = chance.expovariate(RATE)
    while due < seconds:
        jobs.append(Job(due, False))
        due += chance.expovariate(RATE)
    return sorted(jobs, key=lambda job: job.due)


# -- the ways

Way = Callable[[Run], AbstractAsyncContextManager[Start]]


@asynccontextmanager
async def plain_nursery(run: Run) -> AsyncIterator[Start]:
    async with trio.open_nursery() as nursery:
        yield lambda job: nursery.start_soon(run.do, job)


@asynccontextmanager
async def nursery_with_limiter(run: Run) -> AsyncIterator[Start]:
    """Heavy jobs of at most `WIDTH` at once, short ones as they come."""
    limiter = trio.CapacityLimiter(WIDTH)

    async def limited(job: Job) -> None:
        async with limiter:
            await run.do(job)

    async with trio.open_nursery() as nursery:
        yield lambda job: nursery.start_soon(limited if job.is_heavy else run.do, job)


@asynccontextmanager
async def one_limiter(run: Run) -> AsyncIterator[Start]:
    """All jobs together at most `WIDTH` at once."""
    limiter = trio.CapacityLimiter(WIDTH)

    async def limited(job: Job) -> None:
        async with limiter:
            await run.do(job)

    async with trio.open_nursery() as nursery:
        yield lambda job: nursery.start_soon(limited, job)


def queues(heavy: WorkqueueFlags | int, short: WorkqueueFlags | int | None, *, threads: bool = False) -> Way:
    """Heavy jobs on a queue with those flags, short ones on another (None: on the same)."""

    @asynccontextmanager
    async def way(run: Run) -> AsyncIterator[Start]:
        async with open_supervisor(capacity=64) as supervisor:

            def alloc(name: str, flags: WorkqueueFlags | int) -> Workqueue:
                return supervisor.alloc_workqueue(name, WorkqueueFlags(flags), WIDTH)

            heavy_wq = alloc("heavy", heavy)
            short_wq = heavy_wq if short is None else alloc("short", short)

            def start(job: Job) -> None:
                fn: Callable[[Job], Awaitable[None] | None] = run.do_in_one if threads and job.is_heavy else run.do
                (heavy_wq if job.is_heavy else short_wq).queue_work(Work(fn, job))

            yield start

    return way


WAYS: dict[str, Way] = {
    "nursery": plain_nursery,
    "CapacityLimiter, one for all": one_limiter,
    "CapacityLimiter, for the heavy": nursery_with_limiter,
    "unbound queue": queues(WQ_UNBOUND, None),
    "bound queue": queues(0, None),
    "bound, short ones HIGHPRI": queues(0, WQ_HIGHPRI),
    "bound, heavy ones CPU_INTENSIVE": queues(WQ_CPU_INTENSIVE, 0),
    "the same, in threads": queues(WQ_CPU_INTENSIVE, 0, threads=True),
}


async def once(way: Way, seconds: float, seed: int) -> Run:
    """Run the jobs of `seconds`, and wait for all of them."""
    run = Run(jobs=arrivals(seconds, seed))
    async with way(run) as start:
        run.began = time.perf_counter()
        for job in run.jobs:
            ahead = job.due - run.now()
            if ahead > 0:
                await trio.sleep(ahead)
            start(job)
    return run


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of them do not exceed: nearest rank."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)]


def figures(run: Run) -> dict[str, float]:
    """What is told of one run, in milliseconds."""
    short = [job.latency * 1000 for job in run.jobs if not job.is_heavy]
    heavy = [job.latency * 1000 for job in run.jobs if job.is_heavy]
    return {
        "short_p50": percentile(short, 0.50),
        "short_p99": percentile(short, 0.99),
        "short_max": max(short),
        "heavy_mean": statistics.mean(heavy),
        "heavy_p99": percentile(heavy, 0.99),
        "half_done": run.most_heavy_begun,
        "took": max(job.ended for job in run.jobs) * 1000,
    }


def measure(rounds: int, seconds: float) -> list[dict[str, object]]:
    samples: list[dict[str, object]] = []
    ways = list(WAYS.items())
    for number in range(rounds):
        for shift in range(len(ways)):
            name, way = ways[(shift + number) % len(ways)]
            samples.append(
                {
                    "round": number,
                    "order": list(WAYS).index(name),
                    "way": name,
                    **figures(trio.run(once, way, seconds, number)),
                }
            )
    return samples


def main() -> None:
    parser = argparse.ArgumentParser(description=sys.modules[__name__].__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of arrivals, per round and way")
    given = parser.parse_args()
    print(json.dumps(measure(given.rounds, given.seconds)))


if __name__ == "__main__":
    main()
