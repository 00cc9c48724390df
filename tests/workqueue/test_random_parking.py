"""Hundreds of random lives of a queue whose items park, time out, fail, requeue, are cancelled and interrupted."""

import contextlib
import random
from functools import partial

import pytest
import trio

from ktrio.workqueue import WQ_UNBOUND, Supervisor, Work, Workqueue, parked
from tests.workqueue.conftest import KIND_NAMES, KINDS, Errors, Kind, assert_at_zero, open_with, run_bounded

pytestmark = pytest.mark.exhaustive

RUNS = 500
CHUNKS = 5


class Life:
    """One random life: a supervisor, one or two queues, a few items, drivers that do things to them."""

    def __init__(self, seed: int, kind: Kind) -> None:
        self.flags, self.sensor = kind
        self.rng = random.Random(seed)
        self.errors = Errors()
        self.failed = 0
        self.accepted = 0
        self.starts = 0
        self.discards = 0
        self.running: set[int] = set()
        self.works: list[Work] = []
        self.queues: list[Workqueue] = []
        self.budget = 120
        self.guests = 0

    def pause(self) -> float:
        """A time to sleep: often none, often the same, so that things coincide."""
        return self.rng.choice([0, 0, 0.5, 1, 1, 2])

    async def step(self, index: int) -> None:
        """One random thing that an item does."""
        match self.rng.randrange(9):
            case 0 | 1:
                async with parked():
                    await trio.sleep(self.pause())
            case 2 | 3:
                with trio.move_on_after(self.pause()):
                    async with parked():
                        await trio.sleep(self.rng.choice([0, 1, 1, 3]))
            case 4:
                await trio.lowlevel.checkpoint()
            case 5:
                await trio.sleep(self.pause())
            case 6:
                self.queue(index)
            case 7:
                async with parked():
                    with trio.move_on_after(self.pause()):
                        await trio.sleep(self.pause())
            case 8 if self.rng.random() < 0.3:
                self.failed += 1
                if self.rng.random() < 0.5:
                    raise ValueError(index)
                async with parked():
                    raise ValueError(index)

    async def body(self, index: int) -> None:
        assert index not in self.running, "two runs of one item at once"
        self.running.add(index)
        self.starts += 1
        try:
            for _ in range(self.rng.randrange(6)):
                await self.step(index)
        finally:
            self.running.remove(index)

    def discard(self, *_: object) -> None:
        self.discards += 1

    def queue(self, index: int) -> None:
        """Queue an item on its queue, while the life has not gone on for too long."""
        if self.budget > 0:
            self.budget -= 1
            index %= len(self.works)
            work, wq = self.works[index], self.queues[index % len(self.queues)]
            may_start_parked = not work.is_running and self.rng.random() < 0.25
            self.accepted += wq.queue_work(work, parked=may_start_parked)

    async def drive(self) -> None:
        """Do random things to the items, from outside."""
        for _ in range(self.rng.randrange(8, 30)):
            index = self.rng.randrange(len(self.works))
            work, wq = self.works[index], self.queues[index % len(self.queues)]
            match self.rng.randrange(13):
                case 0:
                    work.cancel()
                case 1 | 2:
                    work.interrupt(reason="at random")
                case 3:
                    with trio.move_on_after(self.pause()):
                        await work.cancel_sync(interrupt=self.rng.random() < 0.5)
                case 4:
                    with trio.move_on_after(self.pause()):
                        await self.rng.choice([work.flush, wq.flush])()
                case 5:
                    wq.set_max_active(self.rng.choice([1, 1, 2, 4]))
                case 6 | 7:
                    await trio.sleep(self.pause())
                case 8:
                    self.guests += 1
                    with trio.move_on_after(self.pause()), contextlib.suppress(ValueError):
                        await wq.run(self.body, -self.guests)
                case _:
                    self.queue(index)

    def look(self) -> None:
        """What holds at any moment (invariants 12, 21, 62)."""
        for wq in self.queues:
            books = wq.statistics()
            assert books.started - books.completed == books.running
            assert books.in_flight == books.pending + books.running
            for pwq in books.pwqs:
                assert pwq.inactive == 0 or pwq.nr_active >= wq.max_active, books

    async def live(self) -> None:
        """Live, drain, and leave the books at zero."""
        capacity = self.rng.choice([1, 2, 50])
        cpus = self.rng.choice([1, 2])
        async with open_with(self.sensor)(cpus, capacity=capacity, idle_timeout=3) as supervisor:
            self.open_queues(supervisor)
            async with trio.open_nursery() as nursery:
                for _ in range(self.rng.randrange(1, 4)):
                    nursery.start_soon(self.drive)
            self.look()
            for wq in self.queues:
                await wq.drain()
            await assert_at_zero(supervisor, *self.queues)
            await trio.sleep(20)
            for pool in supervisor.statistics().pools:
                assert pool.nr_idle <= 2, pool
        books = [wq.statistics() for wq in self.queues]
        assert sum(book.started for book in books) == self.starts
        assert len(self.errors.seen) <= self.failed == sum(book.failed for book in books)
        # A guest whose caller gave up before it began to queue is not among them.
        over = self.starts + sum(book.cancelled for book in books)
        assert self.accepted <= over <= self.accepted + self.guests
        assert self.discards <= sum(book.cancelled for book in books) <= self.discards + self.guests
        assert not self.running

    def open_queues(self, supervisor: Supervisor) -> None:
        """Make the queues and the items."""
        for number in range(self.rng.choice([1, 1, 2])):
            name, max_active = f"wq{number}", self.rng.choice([1, 1, 2, 3])
            flags = self.flags if number == 0 else self.rng.choice([self.flags, WQ_UNBOUND])
            self.queues.append(supervisor.alloc_workqueue(name, flags, max_active, self.errors))
        for index in range(self.rng.randrange(2, 7)):
            self.works.append(Work(self.body, index, on_discard=self.discard))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=KIND_NAMES)
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_random_lives_end_with_books_at_zero_and_no_hang(chunk: int, kind: Kind) -> None:
    """W11, W162; invariants 3, 4, 12, 21, 23, 26, 32, 59, 62 and P1-P6, under everything at once."""
    for seed in range(chunk * RUNS // CHUNKS, (chunk + 1) * RUNS // CHUNKS):
        try:
            run_bounded(Life(seed, kind).live)
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=KIND_NAMES)
def test_random_lives_cut_short_end_with_books_at_zero(kind: Kind) -> None:
    """W5, W162; invariant 60: the same lives, with their supervisor cancelled at a random moment."""

    async def cut(life: Life, after: float) -> None:
        with trio.move_on_after(after):
            await life.live()

    for seed in range(200):
        life = Life(seed, kind)
        try:
            run_bounded(partial(cut, life, random.Random(seed).choice([0, 0.5, 1, 1.5, 2, 3, 4])))
            for wq in life.queues:
                books = wq.statistics()
                assert (books.in_flight, books.nr_active, books.parked) == (0, 0, 0), books
                assert books.started == books.completed, books
            assert not life.running
            assert not any(work.is_pending or work.is_running for work in life.works)
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
