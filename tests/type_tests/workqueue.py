"""What type checkers must accept of the workqueue; checked by `make check-types`, never run."""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_type

from ktrio import DelayedWork, PeriodicWork, Supervisor, Work, Workqueue
from ktrio.workqueue import WQ_HIGHPRI, Attributes, Rate


async def count(text: str, *, base: int = 10) -> int:
    return int(text, base)


def length(text: str) -> int:
    return len(text)


async def results(wq: Workqueue) -> None:
    later, at_once = Work(count, "1"), Work(length, "1")
    assert_type(later, Work[int])
    assert_type(at_once, Work[int])
    assert_type(await later.result(), int)
    assert_type(await at_once.result(), int)
    assert_type(await wq.run(count, "1"), int)
    assert_type(await wq.map(count, ["1"]), list[int])
    assert_type(await wq.map(length, ["1"]), list[int])
    async with wq.open_group() as group:
        assert_type(group.queue_work(later), bool)
        assert_type(await group.queue_work_wait(later), bool)
    assert_type(await wq.queue_work_wait(later), bool)
    assert_type(wq.lane(("ann", 1)).queue_work(later), bool)
    wq.queue_work(later)


def ordered(supervisor: Supervisor) -> None:
    wq = supervisor.alloc_ordered_workqueue("ordered", WQ_HIGHPRI, on_error=note, max_pending=5)
    assert_type(wq, Workqueue)
    assert_type(wq.is_ordered, bool)


async def frozen(supervisor: Supervisor) -> None:
    assert_type(await supervisor.freeze(), bool)
    supervisor.thaw()


async def directed(wq: Workqueue, work: Work) -> None:
    wq.queue_work_from_thread(work)
    assert_type(await wq.run_on(0, count, "1"), int)
    assert_type(await wq.run_on(0, length, "1"), int)
    assert_type(await wq.schedule_on_each_cpu(count, "1"), list[int])
    assert_type(await wq.schedule_on_each_cpu(length, "1"), list[int])


def settings(supervisor: Supervisor, wq: Workqueue) -> None:
    supervisor.set_capacity(5)
    assert_type(wq.attributes, Attributes)
    assert_type(supervisor.attributes["capacity"], float)
    wq.attributes["max_active"] = 5
    wq.attributes["max_active"] = "5"
    supervisor.attributes["idle_timeout"] = 0.5


async def disabled(wq: Workqueue, work: Work) -> None:
    assert_type(work.disable(), bool)
    assert_type(await work.disable_sync(interrupt=True), bool)
    assert_type(work.enable(), bool)
    assert_type(wq.enable_and_queue_work(work), bool)


async def delayed(wq: Workqueue) -> None:
    later = DelayedWork(count, "1")
    assert_type(later, DelayedWork[int])
    assert_type(await later.result(), int)
    assert_type(wq.queue_delayed_work(later, 1.5), bool)
    assert_type(wq.mod_delayed_work(later, 0), bool)
    wq.queue_work(later)
    note(later, ValueError())


async def periodic(wq: Workqueue) -> None:
    again = PeriodicWork(length, "1")
    assert_type(again, PeriodicWork[int])
    assert_type(wq.queue_periodic_work(again, 60, first_delay=0.5), bool)
    wq.queue_work(again)
    note(again, ValueError())


def limits(supervisor: Supervisor) -> None:
    wq = supervisor.alloc_workqueue("rated", rate=Rate(600, per=60, burst=5))
    wq.set_rate(None)
    assert_type(wq.rate, Rate | None)
    assert_type(Work(count, "1", timeout=2.5), Work[int])


# Without parameters it is an item with any result, also for whoever checks strictly.
def note(work: Work, error: Exception) -> None:
    print(work.name, error)


on_error: Callable[[Work, Exception], None] = note
items: list[Work] = [Work(count, "1"), Work(print)]
of_ints: Work[int] = Work(count, "1", name="count")
of_anything: Work[object] = of_ints


async def unknown(work: Work) -> None:
    assert_type(await work.result(), object)
