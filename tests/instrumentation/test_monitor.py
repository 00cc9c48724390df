"""The monitor on connections in memory: what is said to whom, when, and that no watcher can do harm."""

from __future__ import annotations

import json
import logging
import os
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import ktrio
from ktrio.instrumentation.monitor import (
    ACCEPT_PAUSE,
    LEAST_INTERVAL,
    MOST_OF_A_LINE,
    MOST_WATCHERS,
    PROTOCOL,
    SEND_WITHIN,
    Monitor,
    as_json,
    wanted_interval,
)
from ktrio.testing import MemoryListener, MemoryStream
from ktrio.workqueue import (
    WQ_HIGHPRI,
    WQ_UNBOUND,
    PoolStatistics,
    Supervisor,
    SupervisorStatistics,
    Work,
    WorkqueueFlags,
    WorkqueueStatistics,
    open_supervisor,
)

ANY_ERROR = "say {"


@dataclass
class Watching:
    """A supervisor with a monitor, and the way to it."""

    supervisor: Supervisor
    monitor: Monitor
    listener: MemoryListener
    clock: MockClock
    scope: trio.CancelScope

    async def connect(self, *, buffer_bytes: int = 1 << 16) -> MemoryStream:
        stream = self.listener.connect(buffer_bytes=buffer_bytes)
        await wait_all_tasks_blocked()
        return stream

    async def advance(self, seconds: float) -> None:
        self.clock.jump(seconds)
        await wait_all_tasks_blocked()

    @property
    def watchers(self) -> int:
        return int(repr(self.monitor).partition("watchers=")[2].partition("/")[0])


@asynccontextmanager
async def monitored(clock: MockClock, *, cpus: int = 1):
    listener = MemoryListener()
    async with open_supervisor(cpus) as supervisor, trio.open_nursery() as nursery:
        monitor = Monitor(supervisor)
        nursery.start_soon(monitor.run, listener)
        yield Watching(supervisor, monitor, listener, clock, nursery.cancel_scope)
        nursery.cancel_scope.cancel()


def said(stream: MemoryStream) -> list[dict]:
    """The lines that have come, as JSON."""
    data = stream.receive_nowait() or b""
    assert data[-1:] in (b"", b"\n"), "a line is not whole"
    return [json.loads(line) for line in data.splitlines()]


async def test_whoever_connects_gets_a_snapshot_at_once_and_one_a_second(mock_clock: MockClock) -> None:
    """W176."""
    async with monitored(mock_clock) as watching:
        stream = await watching.connect()
        [first] = said(stream)
        assert (first["ktrio"], first["protocol"], first["pid"]) == (ktrio.__version__, PROTOCOL, os.getpid())
        assert first["supervisor"]["workqueues"] == []
        await watching.advance(0.9)
        assert said(stream) == []
        for count in (1, 2, 3):
            await watching.advance(1.0)
            [later] = said(stream)
            assert later["seconds"] > first["seconds"] + count - 0.2


async def test_snapshot_is_what_statistics_says_field_by_field(mock_clock: MockClock) -> None:
    """W176."""
    async with monitored(mock_clock, cpus=2) as watching:
        wq = watching.supervisor.alloc_workqueue("jobs", WQ_UNBOUND | WQ_HIGHPRI, 3)
        gate = trio.Event()
        for _ in range(10):
            wq.queue_work(Work(gate.wait))
        await wait_all_tasks_blocked()
        [now] = said(await watching.connect())
        record = watching.supervisor.statistics()
        shown = now["supervisor"]
        assert list(shown) == [field.name for field in fields(SupervisorStatistics)]
        assert list(shown["pools"][0]) == [field.name for field in fields(PoolStatistics)]
        [queue] = shown["workqueues"]
        assert list(queue) == [field.name for field in fields(WorkqueueStatistics)]
        assert queue["flags"] == ["WQ_UNBOUND", "WQ_HIGHPRI"]
        assert (queue["running"], queue["inactive"], queue["pending"]) == (6, 4, 4)
        assert len(queue["pwqs"]) == 2
        assert shown == json.loads(as_json(record))
        gate.set()


@pytest.mark.parametrize("name", ['"', "\n\x1b[2J", "é\udcff", "x" * 10_000])
async def test_any_name_of_a_queue_is_one_line_of_ascii(mock_clock: MockClock, name: str) -> None:
    async with monitored(mock_clock) as watching:
        watching.supervisor.alloc_workqueue(name)
        stream = await watching.connect()
        data = stream.receive_nowait()
        assert data is not None
        assert data.isascii()
        assert data.count(b"\n") == 1
        assert json.loads(data)["supervisor"]["workqueues"][0]["name"] == name


async def test_line_from_the_watcher_sets_its_interval_from_the_last_snapshot_on(mock_clock: MockClock) -> None:
    async with monitored(mock_clock) as watching:
        quick, usual = await watching.connect(), await watching.connect()
        said(quick), said(usual)
        await quick.send_all(b'{"interval": 0.5}\n')
        await watching.advance(0.5)
        assert (len(said(quick)), len(said(usual))) == (1, 0)
        await watching.advance(0.5)
        assert (len(said(quick)), len(said(usual))) == (1, 1)
        await quick.send_all(b'{"interval"')
        await watching.advance(0.5)
        assert len(said(quick)) == 1
        await quick.send_all(b": 60}\n")
        await watching.advance(59.0)
        assert (len(said(quick)), len(said(usual))) == (0, 1)  # missed ones are not made up for
        await watching.advance(1.0)
        assert len(said(quick)) == 1


GARBAGE = {
    "no JSON": b"GET / HTTP/1.1\r\n",
    "bytes": b"\xff\xfe\x00\n",
    "nothing": b"\n",
    "no object": b"[1]\n",
    "nested": b"[" * 1000 + b"\n",
    "nothing wanted": b"{}\n",
    "true": b'{"interval": true}\n',
    "text": b'{"interval": "1"}\n',
    "zero": b'{"interval": 0}\n',
    "negative": b'{"interval": -1}\n',
    "too short": b'{"interval": 0.01}\n',
    "too long": b'{"interval": 1e9}\n',
    "endless": b'{"interval": Infinity}\n',
    "no number": b'{"interval": NaN}\n',
    "huge": b'{"interval": ' + b"9" * 900 + b"}\n",
    "a line without an end": b"x" * MOST_OF_A_LINE,
}


@pytest.mark.parametrize("what", GARBAGE)
async def test_garbage_is_answered_with_an_error_and_costs_only_its_sender(mock_clock: MockClock, what: str) -> None:
    """W177."""
    async with monitored(mock_clock) as watching:
        bad, good = await watching.connect(), await watching.connect()
        said(bad), said(good)
        await bad.send_all(GARBAGE[what])
        await wait_all_tasks_blocked()
        [answer] = said(bad)
        assert answer["error"]
        assert (answer["ktrio"], answer["protocol"]) == (ktrio.__version__, PROTOCOL)
        assert bad.ended == "fin"
        await watching.advance(1.0)
        assert len(said(good)) == 1
        assert watching.watchers == 1


def test_interval_is_taken_within_its_bounds_only() -> None:
    assert wanted_interval(b'{"interval": 2}') == 2.0
    assert wanted_interval(b' {"interval": 0.1, "more": []} \r') == LEAST_INTERVAL
    with pytest.raises(ValueError, match=ANY_ERROR):
        wanted_interval(b'{"interval": 3601}')


async def test_lines_that_come_in_a_flood_are_read_one_per_snapshot(mock_clock: MockClock) -> None:
    async with monitored(mock_clock) as watching:
        stream = await watching.connect()
        said(stream)
        flood = b'{"interval": 1}\n' * 1000
        await stream.send_all(flood)
        await wait_all_tasks_blocked()
        for _ in range(5):
            await watching.advance(1.0)
            assert len(said(stream)) == 1
        assert stream.send_nowait(b" " * (1 << 16)) < (1 << 16) - len(flood) + 2 * MOST_OF_A_LINE


async def test_watcher_that_closes_is_gone_at_once(mock_clock: MockClock) -> None:
    async with monitored(mock_clock) as watching:
        closing, resetting = await watching.connect(), await watching.connect()
        assert watching.watchers == 2
        closing.close()
        await wait_all_tasks_blocked()
        assert watching.watchers == 1
        resetting.reset()
        await wait_all_tasks_blocked()
        assert watching.watchers == 0


async def test_watcher_that_does_not_read_is_dropped(mock_clock: MockClock) -> None:
    """W177."""
    async with monitored(mock_clock) as watching:
        deaf, good = await watching.connect(buffer_bytes=100), await watching.connect()
        assert watching.watchers == 2
        await watching.advance(SEND_WITHIN - 0.1)
        assert watching.watchers == 2
        await watching.advance(0.2)
        assert watching.watchers == 1
        await deaf.receive_some()
        with pytest.raises(trio.BrokenResourceError):
            await deaf.send_all(b"x")
        assert len(said(good)) > 1


async def test_watcher_too_many_is_told_so_and_there_is_room_again_when_one_goes(mock_clock: MockClock) -> None:
    async with monitored(mock_clock) as watching:
        streams = [await watching.connect() for _ in range(MOST_WATCHERS)]
        for _ in range(3):
            one_more = await watching.connect()
            [answer] = said(one_more)
            assert "watching already" in answer["error"]
            assert one_more.ended == "fin"
        assert all(len(said(each)) == 1 for each in streams)
        streams[3].close()
        await wait_all_tasks_blocked()
        assert "supervisor" in said(await watching.connect())[0]
        assert watching.watchers == MOST_WATCHERS


async def test_cancelling_the_monitor_ends_every_watcher(mock_clock: MockClock) -> None:
    async with monitored(mock_clock) as watching:
        streams = [await watching.connect() for _ in range(3)]
        watching.scope.cancel()
        with trio.CancelScope(shield=True):
            await wait_all_tasks_blocked()
        assert watching.watchers == 0
        assert all(len(said(each)) == 1 and each.ended for each in streams)


async def test_without_watchers_nothing_is_waited_for_but_a_watcher(autojump_clock: MockClock) -> None:
    """W176."""
    async with monitored(autojump_clock) as watching:
        (await watching.connect()).close()
        await wait_all_tasks_blocked()
        before = trio.lowlevel.current_statistics()
        assert before.seconds_to_next_deadline == float("inf")
        assert watching.watchers == 0


async def test_supervisor_that_was_left_is_shown_as_it_was(mock_clock: MockClock) -> None:
    """W177."""
    listener = MemoryListener()
    async with trio.open_nursery() as nursery:
        async with open_supervisor() as supervisor:
            supervisor.alloc_workqueue("left")
            nursery.start_soon(Monitor(supervisor).run, listener)
        stream = listener.connect()
        await wait_all_tasks_blocked()
        [now] = said(stream)
        assert [each["name"] for each in now["supervisor"]["workqueues"]] == ["left"]
        nursery.cancel_scope.cancel()


class Failing:
    """A listener whose first attempts fail, as when there is no descriptor left."""

    def __init__(self, listener: MemoryListener, failures: int) -> None:
        self.listener, self.failures = listener, failures

    async def accept(self) -> MemoryStream:
        await trio.lowlevel.checkpoint()
        if self.failures:
            self.failures -= 1
            raise OSError(24, "Too many open files")
        return await self.listener.accept()

    async def aclose(self) -> None: ...


async def test_accept_that_fails_is_tried_again_and_logged_once(mock_clock: MockClock, caplog) -> None:
    listener = MemoryListener()
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        nursery.start_soon(Monitor(supervisor).run, Failing(listener, 3))
        stream = listener.connect()
        for _ in range(3):
            await wait_all_tasks_blocked()
            assert said(stream) == []
            mock_clock.jump(ACCEPT_PAUSE)
        await wait_all_tasks_blocked()
        assert len(said(stream)) == 1
        assert [each.levelno for each in caplog.records] == [logging.WARNING]
        nursery.cancel_scope.cancel()


async def test_error_of_a_watcher_is_logged_and_ends_that_one_only(mock_clock: MockClock, caplog, monkeypatch) -> None:
    """W177."""
    async with monitored(mock_clock) as watching:
        good = await watching.connect()
        said(good)

        async def fail(*_: object) -> None:
            await trio.lowlevel.checkpoint()
            raise ZeroDivisionError("a bug")

        monkeypatch.setattr(MemoryStream, "send_all", fail)
        bad = await watching.connect()
        monkeypatch.undo()
        assert watching.watchers == 1
        assert bad.ended
        [record] = caplog.records
        assert record.exc_info[0] is ZeroDivisionError
        await watching.advance(1.0)
        assert len(said(good)) == 1


def test_what_json_does_not_know_is_still_shown() -> None:
    def through(value: object) -> object:
        return json.loads(as_json(value))

    for bad in ({}, {"bad": float("inf"), "worse": [float("nan"), {"worst": -float("inf")}]}):
        said = through({"b": (1, 2.5, None, True), 3: WQ_UNBOUND, "s": {1}, **bad})
        assert said["b"] == [1, 2.5, None, True]
        assert said["3"] == ["WQ_UNBOUND"]
        assert said["s"] == [1]
        assert not bad or (said["bad"], said["worse"]) == (None, [None, {"worst": None}])
    assert through(WQ_UNBOUND & WQ_HIGHPRI) == []
    assert through(len) == str(len)


def test_record_with_a_number_that_is_not_finite_is_shown_without_it() -> None:
    @dataclass(frozen=True, slots=True)
    class Strange:
        rate: float
        flags: object
        inside: object

    assert json.loads(as_json((Strange(float("inf"), WQ_UNBOUND, Strange(1.5, None, ())),))) == [
        {"rate": None, "flags": ["WQ_UNBOUND"], "inside": {"rate": 1.5, "flags": None, "inside": []}}
    ]


async def test_every_flag_state_and_counter_there_is_comes_through(mock_clock: MockClock) -> None:
    async with monitored(mock_clock) as watching:
        for flag in (*WorkqueueFlags, WorkqueueFlags(0)):
            watching.supervisor.alloc_workqueue(str(flag.name), flag)
        watching.supervisor.alloc_ordered_workqueue("ordered")
        [now] = said(await watching.connect())
        shown = {each["name"]: each for each in now["supervisor"]["workqueues"]}
        assert all(shown[str(flag.name)]["flags"] == [flag.name] for flag in WorkqueueFlags)
        assert shown["ordered"]["ordered"] is True
        assert list(shown["ordered"]) == [field.name for field in fields(WorkqueueStatistics)]
