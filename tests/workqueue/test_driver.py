"""How a worker drives items: whatever kind of coroutine they give, one after the other, keeping nothing of them."""

import gc
import weakref
from collections.abc import Coroutine, Generator

import trio
from trio.testing import wait_all_tasks_blocked

from ktrio.workqueue import Work, open_supervisor
from tests.workqueue.conftest import alloc, assert_queue_at_zero


class Foreign(Coroutine[object, object, str]):
    """A coroutine that is none of Python's own, as compiled ones are."""

    def __init__(self, steps: int) -> None:
        self._coro = self._run(steps)

    async def _run(self, steps: int) -> str:
        for _ in range(steps):
            await trio.sleep(1)
        return f"{steps} steps"

    def __await__(self) -> Generator[object, object, str]:
        return self._coro.__await__()

    def send(self, value: object) -> object:
        return self._coro.send(value)

    def throw(self, *error: object) -> object:
        raise NotImplementedError

    def close(self) -> None:
        self._coro.close()


async def test_coroutines_of_other_kinds_are_awaited(autojump_clock: trio.testing.MockClock) -> None:
    """W19."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        assert [await wq.run(Foreign, steps) for steps in (0, 1, 3)] == ["0 steps", "1 steps", "3 steps"]
        assert trio.current_time() == 4


async def test_an_idle_worker_keeps_nothing_of_its_items_alive(autojump_clock: trio.testing.MockClock) -> None:
    class Thing:
        pass

    async def give(thing: Thing, seconds: int) -> Thing:
        if seconds:
            await trio.sleep(seconds)
        return thing

    def give_at_once(thing: Thing) -> Thing:
        return thing

    def fail(thing: Thing) -> None:
        raise ValueError

    async def queue_all() -> list[weakref.ref[Thing]]:
        things = [Thing() for _ in range(4)]
        works = [
            Work(give, things[0], 0),
            Work(give, things[1], 1),
            Work(give_at_once, things[2]),
            Work(fail, things[3]),
        ]
        for work in works:
            wq.queue_work(work)
            await wq.flush()
        return [weakref.ref(thing) for thing in things]

    async with open_supervisor() as supervisor:
        wq = supervisor.alloc_workqueue("test", on_error=lambda _work, _error: None)
        seen = await queue_all()
        await wait_all_tasks_blocked()
        gc.collect()
        assert [thing() for thing in seen] == [None] * 4


async def test_a_worker_goes_on_after_items_that_raised(autojump_clock: trio.testing.MockClock) -> None:
    """W106. A StopIteration is an error like any other, under the name that Python gives it."""
    errors: list[str] = []

    async def fail(seconds: int) -> None:
        if seconds:
            await trio.sleep(seconds)
        raise ValueError(seconds)

    def stop() -> None:
        raise StopIteration

    async with open_supervisor() as supervisor:
        wq = supervisor.alloc_workqueue("test", on_error=lambda _work, error: errors.append(type(error).__name__))
        for work in (Work(fail, 0), Work(fail, 1), Work(stop)):
            wq.queue_work(work)
            await wq.flush()
            assert await wq.run(str, 7) == "7"
        assert errors == ["ValueError", "ValueError", "RuntimeError"]
        assert_queue_at_zero(wq)
