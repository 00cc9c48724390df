"""`Supervisor.dump`: what it shows, that it is bounded, and that it never raises."""

import re
import threading

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from ktrio.workqueue import WQ_UNBOUND, Supervisor, Work, Workqueue, open_supervisor, parked
from tests.workqueue.conftest import Trace, alloc, alloc_bound

GOLDEN = """\
<Supervisor cpus=1 workers=6 workqueues=4>
workqueue http: flags=WQ_UNBOUND max_active=2
  pwq u0: active=2/2 inactive=6 running=3 parked=1 in_flight=9
    idle connection (kworker/u0:0, parked) for 3.000 s
      test_dump.py:LINE in waits_parked: await trio.sleep(100)
    with children (kworker/u0:1) for 2.500 s
      test_dump.py:LINE in has_children: async with trio.open_nursery() as nursery:
      task nap
        test_dump.py:LINE in nap: await trio.sleep(100)
      task waits_for_other, waits in <Work idle connection parked>.flush()
        test_dump.py:LINE in waits_for_other: await other.flush()
    inactive: 2*same, a, b, c, d
workqueue jobs: flags=bound max_active=256 draining
  pwq 0: active=0/256 inactive=0 running=1 parked=1 in_flight=1
    flusher (kworker/0:0, parked) for 2.500 s, waits in <Work idle connection parked>.flush()
      test_dump.py:LINE in waits_for_other: await other.flush()
idle workqueues: first, second
pool u0: workers=4 idle=1 starting=0 running=0 occupied=2/512 parked=1
pool 0: workers=2 idle=1 starting=0 running=0 occupied=0/512 parked=1
"""


def without_places(text: str) -> str:
    """Without the numbers of lines and the folders."""
    return re.sub(r"\S*/(\w+\.py):\d+ in (?:\S*\.)?(\w+):", r"\1:LINE in \2:", text)


async def waits_parked() -> None:
    async with parked():
        await trio.sleep(100)


async def nap() -> None:
    await trio.sleep(100)


async def waits_for_other(other: Work) -> None:
    await other.flush()


async def has_children(other: Work) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(nap, name="nap")
        await trio.lowlevel.checkpoint()
        nursery.start_soon(waits_for_other, other, name="waits_for_other")


async def test_a_dump_shows_queues_items_with_stacks_and_pools() -> None:
    """W169."""
    async with open_supervisor() as supervisor:
        supervisor.alloc_workqueue("first")
        http = supervisor.alloc_workqueue("http", WQ_UNBOUND, max_active=2)
        jobs = supervisor.alloc_workqueue("jobs")
        supervisor.alloc_workqueue("second")
        idle = Work(waits_parked, name="idle connection")
        http.queue_work(idle)
        await trio.sleep(0.5)
        http.queue_work(Work(has_children, idle, name="with children"))
        jobs.queue_work(Work(waits_for_other, idle, name="flusher"))
        await trio.sleep(0.5)
        http.queue_work(Work(nap, name="napping"))
        for name in ["same", "same", "a", "b", "c", "d"]:
            http.queue_work(Work(nap, name=name))
        await trio.sleep(2)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(jobs.drain)
            await wait_all_tasks_blocked()
            text = without_places(supervisor.dump())
            nursery.cancel_scope.cancel()
        napping = [line for line in text.splitlines() if "napping" in line or line == NAP]
        assert napping == ["    napping (kworker/u0:2) for 2.000 s", NAP]
        assert "".join(f"{line}\n" for line in text.splitlines() if line not in napping) == GOLDEN


NAP = "      test_dump.py:LINE in nap: await trio.sleep(100)"


async def test_long_lines_are_cut_off_and_counted(trace: Trace) -> None:
    """W170."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=100)
        for number in range(5000):
            wq.queue_work(Work(nap, name=f"w{number}"))
        text = supervisor.dump()
        assert "inactive: w100, w101, w102, w103, w104, w105, w106, w107 … and 4892 more\n" in text
        assert "worklist: w0, w1, w2, w3, w4, w5, w6, w7 … and 92 more\n" in text
        await wait_all_tasks_blocked()
        text = supervisor.dump()
        assert "    … and 84 more running\n" in text
        assert text.count("\n") < 60
        for _ in range(2):
            wq.queue_work(Work(nap, name="again"))
        trace.note(supervisor.dump())
        wq.set_max_active(0)


async def test_what_waits_to_come_back_is_shown(trace: Trace) -> None:
    """W169."""
    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, max_active=1)
        wq.queue_work(trace.parker("parker"))
        await wait_all_tasks_blocked()
        trace.queue(wq, "holder")
        await wait_all_tasks_blocked()
        trace.open("parker")
        await wait_all_tasks_blocked()
        text = supervisor.dump()
        assert "inactive: parker (coming back)\n" in text
        assert re.search(r"parker \(kworker/u0:0, parked\) for .*, waits in its return from parked\(\)\n", text)
        trace.open("holder", "parker back")


def dumps_of(supervisor: Supervisor, wq: Workqueue) -> str:
    return supervisor.dump() + repr(wq)


async def test_it_may_be_called_anywhere() -> None:
    """From an item, from a plain function's item, a callback of the loop, a thread, an error handler, after the end.

    W170.
    """
    texts: list[str] = []
    token = trio.lowlevel.current_trio_token()

    def handle(work: Work, error: Exception) -> None:
        texts.append(supervisor.dump())

    async with open_supervisor() as supervisor:
        wq = supervisor.alloc_workqueue("errors", on_error=handle)
        other = alloc_bound(supervisor)

        def fails() -> None:
            texts.append(supervisor.dump())
            raise ValueError

        async def awaits() -> None:
            await trio.lowlevel.checkpoint()
            texts.append(supervisor.dump())

        wq.queue_work(Work(fails, name="plain"))
        await wq.flush()
        other.queue_work(Work(awaits, name="async"))
        await other.flush()
        token.run_sync_soon(lambda: texts.append(supervisor.dump()))
        await wait_all_tasks_blocked()
        thread = threading.Thread(target=lambda: texts.append(supervisor.dump()))
        thread.start()
        thread.join()
    texts.append(supervisor.dump())
    assert len(texts) == 6
    assert not [text for text in texts if "cannot be shown" in text]
    assert "plain (kworker/0:0) for 0.000 s" in texts[0]
    assert "async (kworker/0:" in texts[2]
    assert texts[5].startswith("<Supervisor cpus=1 workers=0 workqueues=2 closed>\n")


async def test_a_part_that_cannot_be_shown_says_why_and_the_rest_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    """W170."""

    def broken(_self: object) -> object:
        raise ValueError("broken books")

    async with open_supervisor() as supervisor:
        wq = alloc(supervisor, "broken")
        wq.queue_work(Work(nap))
        with monkeypatch.context() as patched:
            patched.setattr(Workqueue, "statistics", broken)
            text = supervisor.dump()
        assert "(cannot be shown: ValueError('broken books'))" in text
        assert "pool u0: " in text
