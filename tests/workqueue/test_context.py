"""Contexts, current_work, and what an item finds around it."""

from contextvars import ContextVar

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from ktrio.workqueue import Work, current_work, open_supervisor, parked
from tests.workqueue.conftest import alloc

colour: ContextVar[str] = ContextVar("colour", default="none")


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_run_sees_the_context_of_its_queueing(kind: str) -> None:
    """W122."""
    seen: list[str] = []

    def body() -> None:
        seen.append(colour.get())

    async def async_body() -> None:
        body()
        await trio.sleep(1)
        body()

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=1)
        work = Work(async_body if kind == "async" else body)
        for value in ("red", "green"):
            colour.set(value)
            wq.queue_work(work)
            colour.set("blue")
            await wq.flush()
    assert seen == (["red", "green"] if kind == "sync" else ["red", "red", "green", "green"])


async def test_a_requeue_during_the_run_carries_its_own_context() -> None:
    """W122."""
    seen: list[str] = []

    async def body() -> None:
        seen.append(colour.get())
        if len(seen) < 3:
            colour.set(f"{colour.get()}+")
            wq.queue_work(work)
            colour.set("lost")

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        work = Work(body)
        colour.set("red")
        wq.queue_work(work)
    assert seen == ["red", "red+", "red++"]


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_nothing_set_in_one_item_is_seen_by_the_next(kind: str) -> None:
    """W122. Whether it was set at the first step, after a wait, or while parked; same worker or not."""
    seen: list[str] = []

    def body() -> None:
        seen.append(colour.get())
        colour.set("spilt")

    async def async_body() -> None:
        body()
        await trio.lowlevel.checkpoint()
        colour.set("spilt later")
        async with parked():
            colour.set("spilt parked")

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=2)
        for _ in range(8):
            wq.queue_work(Work(async_body if kind == "async" else body))
        await wq.flush()
        assert colour.get() == "none"
    assert seen == ["none"] * 8


async def test_an_item_keeps_its_own_context_over_its_steps() -> None:
    """W122."""
    seen: list[str] = []

    async def child() -> None:
        seen.append(colour.get())

    async def body(name: str) -> None:
        colour.set(name)
        for _ in range(3):
            await trio.sleep(1)
            seen.append(colour.get())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        for name in ("red", "green"):
            wq.queue_work(Work(body, name))
    assert sorted(seen) == ["green"] * 4 + ["red"] * 4


async def test_run_uses_the_context_of_its_caller() -> None:
    """W122."""

    async def body() -> str:
        before = colour.get()
        colour.set("spilt")
        return before

    async with open_supervisor() as supervisor:
        colour.set("red")
        assert await alloc(supervisor).run(body) == "red"
        assert colour.get() == "red"


async def test_current_work_is_the_item_in_its_task_and_its_child_tasks() -> None:
    """W123."""
    seen: list[tuple[str, Work | None]] = []

    async def grandchild() -> None:
        seen.append(("grandchild", current_work()))

    async def child() -> None:
        seen.append(("child", current_work()))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(grandchild)

    async def body() -> None:
        seen.append(("first step", current_work()))
        await trio.sleep(1)
        seen.append(("later step", current_work()))
        async with parked():
            seen.append(("parked", current_work()))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)

    def sync_body() -> None:
        seen.append(("sync", current_work()))

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor)
        work, sync_work = Work(body), Work(sync_body)
        assert current_work() is None
        wq.queue_work(work)
        wq.queue_work(sync_work)
        await wait_all_tasks_blocked()
        assert current_work() is None
    moments = ["sync", "first step", "later step", "parked", "child", "grandchild"]
    assert dict(seen) == {moment: sync_work if moment == "sync" else work for moment in moments}
    assert len(seen) == len(moments)


async def test_current_work_follows_the_worker_from_item_to_item() -> None:
    """W123."""
    seen: list[Work | None] = []

    def body() -> None:
        seen.append(current_work())

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=1)
        works = [Work(body) for _ in range(5)]
        for work in works:
            wq.queue_work(work)
        await wq.flush()
        assert seen == works


async def test_trio_works_as_everywhere_inside_an_item(mock_clock: MockClock) -> None:
    """Nurseries, threads, generators, channels. (A clock that jumps would not wait for a thread.)"""

    async def numbers():
        for number in range(3):
            await trio.lowlevel.checkpoint()
            yield number

    async def body() -> list[object]:
        seen: list[object] = []
        seen.append(await trio.to_thread.run_sync(trio.from_thread.run_sync, trio.current_time) >= 0)
        seen.append([number async for number in numbers()])
        send, receive = trio.open_memory_channel[int](0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send.send, 7)
            seen.append(await receive.receive())
        return seen

    async with open_supervisor() as supervisor:
        assert await alloc(supervisor).run(body) == [True, [0, 1, 2], 7]
