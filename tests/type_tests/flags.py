"""What type checkers must accept of queues with flags; checked by `make check-types`, never run."""

from __future__ import annotations

from typing import assert_type

from ktrio.workqueue import (
    WQ_CPU_INTENSIVE,
    WQ_HIGHPRI,
    WQ_MEM_RECLAIM,
    WQ_UNBOUND,
    HogStatistics,
    Workqueue,
    WorkqueueFlags,
    open_supervisor,
)


async def flags_and_what_they_show() -> None:
    async with open_supervisor(cpu_intensive_threshold=0.02, thread_limit=None) as supervisor:
        wq = supervisor.alloc_workqueue("urgent", flags=WQ_UNBOUND | WQ_HIGHPRI | WQ_MEM_RECLAIM)
        assert_type(wq, Workqueue)
        assert_type(wq.flags, WorkqueueFlags)
        assert_type(WQ_HIGHPRI | 0, WorkqueueFlags)
        assert_type(0 | WQ_HIGHPRI, WorkqueueFlags)
        assert_type(await supervisor.alloc_workqueue("threads", WQ_CPU_INTENSIVE).run(str.upper, "a"), str)
        books = wq.statistics()
        assert_type((books.mayday, books.rescued, books.cpu_intensive), tuple[int, int, int])
        assert_type(books.cpu_time, float)
        now = supervisor.statistics()
        assert_type(now.hogs, tuple[HogStatistics, ...])
        assert_type((now.hogs[0].function, now.hogs[0].count, now.hogs[0].longest), tuple[str, int, float])
        assert_type(now.threads, int)
        assert_type(now.pools[0].highpri, bool)
