"""What the workqueue tests share: virtual time that bounds every hang, a trace, gates, books at zero.

Every async test here runs on a clock that jumps when nobody can run, inside a deadline: a lost wake-up is a
`trio.TooSlowError` after no real time. What never stops running, or hides behind a shield, an alarm ends.
"""

import inspect
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from types import FrameType
from typing import Literal, TypeVar

import pytest
import trio
from trio.abc import Clock, Instrument
from trio.testing import MockClock, wait_all_tasks_blocked

from ktrio.workqueue import (
    WQ_UNBOUND,
    OnError,
    PoolStatistics,
    Supervisor,
    Work,
    Workqueue,
    WorkqueueFlags,
    open_supervisor,
    parked,
)

T = TypeVar("T")

# `open_supervisor`, or what stands in for it.
Open = Callable[..., AbstractAsyncContextManager[Supervisor]]

# Virtual seconds: far beyond every timeout a test sets, so whoever reaches it hangs.
HANG_AFTER = 1e6
# Real seconds for one run: a hundred times what most take.
ALARM_AFTER = 20.0


@contextmanager
def alarm(seconds: float) -> Generator[None, None, None]:
    """Fail, from a signal handler, what still runs after that many real seconds (livelock, shielded hang)."""

    def ring(signum: int, frame: FrameType | None) -> None:
        pytest.fail(f"still running after {seconds} real seconds")

    before = signal.signal(signal.SIGALRM, ring)
    # It rings again: the first failure may be caught by whatever is running just then.
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def run_bounded(
    fn: Callable[[], Awaitable[T]], *, clock: Clock | None = None, instruments: Sequence[Instrument] = ()
) -> T:
    """`trio.run` on virtual time, with an end even if `fn` hangs."""

    async def main() -> T:
        with trio.fail_after(HANG_AFTER):
            return await fn()

    with alarm(ALARM_AFTER):
        return trio.run(main, clock=clock or MockClock(autojump_threshold=0), instruments=instruments)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run every async test of this directory by `run_bounded`."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and inspect.iscoroutinefunction(getattr(item, "obj", None)):
            item.add_marker(pytest.mark.trio(run=run_bounded), append=False)


class Trace:
    """What happened, in order, and functions for items that write it down and wait at gates."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.discarded: list[str] = []
        self._gates: dict[str, trio.Event] = {}

    def gate(self, name: str) -> trio.Event:
        """The gate of this name: closed until somebody opens it."""
        return self._gates.setdefault(name, trio.Event())

    def open(self, *names: str) -> None:
        """Open gates, for good."""
        for name in names:
            self.gate(name).set()

    def shut(self, name: str) -> None:
        """Put a new, closed gate in place of the old one."""
        self._gates[name] = trio.Event()

    @property
    def starts(self) -> list[str]:
        """The names of the items started, in order."""
        return [event.removesuffix(" starts") for event in self.events if event.endswith(" starts")]

    @property
    def ends(self) -> list[str]:
        """The names of the items that came to their end, in order (interrupted ones do not)."""
        return [event.removesuffix(" ends") for event in self.events if event.endswith(" ends")]

    def note(self, event: str) -> None:
        """Write down an event; as an item's function: one that never blocks."""
        self.events.append(event)

    async def hold(self, name: str) -> None:
        """Start, block until the gate opens, end."""
        self.note(f"{name} starts")
        await self.gate(name).wait()
        self.note(f"{name} ends")

    async def hold_parked(self, name: str) -> None:
        """Start, wait parked at the gate, come back, block at the gate `"NAME back"`, end."""
        self.note(f"{name} starts")
        async with parked():
            self.note(f"{name} parks")
            await self.gate(name).wait()
        self.note(f"{name} returns")
        await self.gate(f"{name} back").wait()
        self.note(f"{name} ends")

    def holder(self, name: str) -> Work:
        """A work item that blocks at its gate; being discarded is written down."""
        return Work(self.hold, name, on_discard=self.discarder(name), name=name)

    def parker(self, name: str) -> Work:
        """A work item that waits parked at its gate; being discarded is written down."""
        return Work(self.hold_parked, name, on_discard=self.discarder(name), name=name)

    def discarder(self, name: str) -> Callable[..., None]:
        """A plain function for `on_discard` that writes the name down."""
        return lambda *_: self.discarded.append(name)

    def queue(self, wq: Workqueue, names: str, *, cpu: int | None = None) -> dict[str, Work]:
        """Queue one `holder` for each word of `names`."""
        works = {name: self.holder(name) for name in names.split()}
        for work in works.values():
            assert wq.queue_work(work) if cpu is None else wq.queue_work_on(cpu, work)
        return works


@pytest.fixture
def trace() -> Trace:
    """An empty trace."""
    return Trace()


def alloc(supervisor: Supervisor, name: str = "test", max_active: int = 0) -> Workqueue:
    """An unbound queue that ends the supervisor, loudly, if one of its items raises."""
    return supervisor.alloc_workqueue(name, WQ_UNBOUND, max_active=max_active)


def alloc_bound(
    supervisor: Supervisor, name: str = "bound", max_active: int = 0, on_error: OnError = "raise"
) -> Workqueue:
    """A bound queue: its items manage concurrency."""
    return supervisor.alloc_workqueue(name, 0, max_active=max_active, on_error=on_error)


def bound_pool(supervisor: Supervisor, cpu: int = 0) -> PoolStatistics:
    """The counts of a bound pool, of which there is one once there is a bound queue."""
    pools = [pool for pool in supervisor.statistics().pools if pool.bound and not pool.highpri]
    assert [pool.cpu for pool in pools] == list(range(supervisor.cpus))
    return pools[cpu]


SENSORS = ("trampoline", "instrument")


def open_with(sensor: str) -> Open:
    """An `open_supervisor` whose bound pools learn from this sensor who is asleep."""

    @asynccontextmanager
    async def open_it(*args: int, **options: float) -> AsyncGenerator[Supervisor]:
        async with open_supervisor(*args, **options) as supervisor:
            supervisor.uses_instrument = sensor == "instrument"
            yield supervisor

    return open_it


@pytest.fixture(params=SENSORS)
def open_bound(request: pytest.FixtureRequest) -> Open:
    """`open_supervisor`, once with each sensor of the bound pools."""
    return open_with(request.param)


# What a test that is to hold for every kind of pool runs on: the flags of its queues, and a sensor.
Kind = tuple[WorkqueueFlags | Literal[0], str]
KINDS: tuple[Kind, ...] = (
    (WQ_UNBOUND, "trampoline"),
    (0, "trampoline"),
    (0, "instrument"),
)
KIND_NAMES = ("unbound", "bound", "bound-instrument")


class Errors:
    """An `on_error` that keeps what it is told."""

    def __init__(self) -> None:
        self.seen: list[tuple[Work, Exception]] = []

    def __call__(self, work: Work, error: Exception) -> None:
        self.seen.append((work, error))

    @property
    def errors(self) -> list[Exception]:
        """The errors, in the order of their telling."""
        return [error for _, error in self.seen]


def assert_queue_at_zero(wq: Workqueue) -> None:
    """Nothing accepted is unfinished, no slot is held, and every start had its end (invariants 3, 21, 62)."""
    books = wq.statistics()
    open_counts = (
        books.nr_active,
        books.inactive,
        books.pending,
        books.running,
        books.parked,
        books.in_flight,
    )
    assert open_counts == (0, 0, 0, 0, 0, 0), books
    assert books.started == books.completed, books
    for pwq in books.pwqs:
        assert (pwq.nr_active, pwq.inactive, pwq.in_flight) == (0, 0, 0), books


async def assert_at_zero(supervisor: Supervisor, *queues: Workqueue) -> None:
    """Books at zero: of these queues now, of every queue and pool once all is at rest (invariants 21, 26, 27)."""
    for wq in queues:
        assert_queue_at_zero(wq)
    await wait_all_tasks_blocked()
    books = supervisor.statistics()
    for wq_books in books.workqueues:
        assert (wq_books.in_flight, wq_books.nr_active) == (0, 0), wq_books
    for pool in books.pools:
        assert (pool.occupied, pool.parked, pool.worklist, pool.nr_running) == (0, 0, 0, 0), pool
        assert pool.starting == 0, pool
        assert pool.nr_idle == pool.nr_workers, pool
