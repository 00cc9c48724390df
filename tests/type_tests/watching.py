"""What type checkers must accept of instruments, traces and dumps; checked by `make check-types`, never run."""

import io
from typing import assert_type

from ktrio import ChromeTrace, chrome_trace
from ktrio.workqueue import WorkEvent, WorkqueueInstrument, open_supervisor


class Names(WorkqueueInstrument):
    def __init__(self) -> None:
        self.names: list[str] = []

    def execute_start(self, event: WorkEvent, /) -> None:
        assert_type(event.time, float)
        assert_type(event.worker, str | None)
        self.names.append(event.work.name)


async def watch() -> None:
    async with open_supervisor(watchdog=30, loop_watchdog=5.0) as supervisor:
        supervisor.add_instrument(Names())
        supervisor.remove_instrument(Names())
        supervisor.add_instrument(ChromeTrace(io.StringIO()))
        with chrome_trace("trace.json") as trace:
            assert_type(trace, ChromeTrace)
        assert_type(supervisor.dump(), str)
    async with open_supervisor(watchdog=None, loop_watchdog=0):
        pass
