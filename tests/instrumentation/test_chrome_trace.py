"""The trace that chrome://tracing and Perfetto open: valid JSON, spans that nest, rows of workers, counters."""

import json
import random
from collections import defaultdict
from io import StringIO
from itertools import pairwise
from pathlib import Path

import pytest
import trio

from ktrio.instrumentation.chrome_trace import ChromeTrace, chrome_trace
from ktrio.workqueue import WQ_UNBOUND, Work, open_supervisor, parked

Line = dict[str, object]


def parse(text: str) -> list[Line]:
    lines: list[Line] = json.loads(text)
    return lines


def check(lines: list[Line]) -> dict[tuple[object, object], list[tuple[float, float, str]]]:
    """What must hold of each trace; the spans of each row of a worker."""
    names = {(line["pid"], line["tid"]) for line in lines if line["name"] == "thread_name"}
    spans: dict[tuple[object, object], list[tuple[float, float, str]]] = defaultdict(list)
    open_spans: dict[tuple[object, object], tuple[float, str]] = {}
    waiting: set[object] = set()
    before = 0.0
    for line in lines:
        if line["ph"] == "M":
            continue
        at, row = line["ts"], (line["pid"], line.get("tid"))
        assert isinstance(at, float | int)
        assert at >= before, "times never go back"
        before = at
        name = str(line["name"])
        if line["ph"] == "B":
            assert row in names
            assert row not in open_spans, "a worker runs one item at a time"
            open_spans[row] = at, name
        elif line["ph"] == "E":
            began, opened = open_spans.pop(row)
            assert opened == name
            spans[row].append((began, at, name))
        elif line["ph"] == "b":
            assert line["id"] not in waiting
            waiting.add(line["id"])
        elif line["ph"] == "e":
            waiting.remove(line["id"])
        elif line["ph"] == "n":
            assert line["id"] in waiting
        else:
            assert line["ph"] in ("C", "i")
    assert not open_spans
    assert not waiting
    return spans


async def test_each_worker_has_a_row_of_spans(autojump_clock: trio.testing.MockClock) -> None:
    """W175."""
    file = StringIO()
    async with open_supervisor() as supervisor:
        trace = ChromeTrace(file)
        supervisor.add_instrument(trace)
        wq = supervisor.alloc_workqueue("jobs", WQ_UNBOUND, max_active=2)
        for name, seconds in [("a", 1), ("b", 2), ("c", 3)]:
            wq.queue_work(Work(trio.sleep, seconds, name=name))
        await wq.flush()
    trace.close()
    lines = parse(file.getvalue())
    spans = check(lines)
    assert sorted(span for row in spans.values() for span in row) == [
        (0, 1e6, "a"),
        (0, 2e6, "b"),
        (1e6, 4e6, "c"),
    ]
    names = {line["args"]["name"] for line in lines if line["ph"] == "M"}  # type: ignore[index]  # pyright: ignore
    assert names == {"ktrio pool u0", "queue", "kworker/u0:0", "kworker/u0:1"}
    begun = next(line for line in lines if line["ph"] == "B" and line["name"] == "c")
    assert begun["args"] == {"item": "c", "workqueue": "jobs", "cpu": 0}
    counted = [line["args"] for line in lines if line["ph"] == "C" and line["name"] == "jobs"]
    assert {"nr_active": 2, "inactive": 1} in counted
    assert any(line["name"] == "worklist" for line in lines)


async def test_a_busy_program_gives_a_trace_in_which_spans_never_overlap(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Bound and unbound, several CPUs, items that raise, park, start parked, requeue and are interrupted."""
    dice = random.Random(4)
    file = StringIO()
    async with open_supervisor(2) as supervisor:
        trace = ChromeTrace(file)
        supervisor.add_instrument(trace)
        queues = [
            supervisor.alloc_workqueue("one", WQ_UNBOUND, 2, on_error=lambda _work, _error: None),
            supervisor.alloc_workqueue('two "quoted"\n', 0, 3, on_error=lambda _work, _error: None),
        ]

        async def item(kind: int) -> None:
            await trio.sleep(kind / 10)
            if kind == 0:
                raise ValueError
            if kind == 1:
                async with parked():
                    await trio.sleep(1)
            if kind == 2:
                await trio.sleep(3)

        works = [Work(item, number % 4, name=f"item {number}") for number in range(20)]
        for _ in range(30):
            for work in dice.sample(works, 5):
                if not work.is_running:
                    dice.choice(queues).queue_work(work, parked=dice.random() < 0.2)
            dice.choice(works).interrupt()
            await trio.sleep(dice.random())
        for wq in queues:
            await wq.drain()
    trace.close()
    spans = check(parse(file.getvalue()))
    assert sum(map(len, spans.values())) > 80
    for row in spans.values():
        for (_, end, _), (begin, _, _) in pairwise(row):
            assert end <= begin


async def test_a_trace_that_was_cut_off_can_be_mended_by_a_bracket(autojump_clock: trio.testing.MockClock) -> None:
    """W175. The readers of the format do it themselves; each line is whole."""
    file = StringIO()
    async with open_supervisor() as supervisor:
        supervisor.add_instrument(ChromeTrace(file))
        await supervisor.alloc_workqueue("jobs").run(int)
    text = file.getvalue()
    assert text.startswith("[\n{")
    assert parse(text + "\n]")
    for line in text.split("\n")[1:]:
        assert json.loads(line.rstrip(","))


async def test_what_ran_before_the_trace_began_has_no_end_in_it(autojump_clock: trio.testing.MockClock) -> None:
    file = StringIO()
    async with open_supervisor() as supervisor:
        wq = supervisor.alloc_workqueue("jobs")
        wq.queue_work(Work(trio.sleep, 5))
        await trio.sleep(1)
        trace = ChromeTrace(file)
        supervisor.add_instrument(trace)
        await wq.flush()
    trace.close()
    assert not [line for line in parse(file.getvalue()) if line["ph"] in "BE"]


def test_the_file_is_closed_with_the_block_and_an_empty_trace_is_a_list(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    with chrome_trace(path) as trace:
        pass
    assert parse(path.read_text(encoding="utf-8")) == []
    trace.close()
    assert parse(path.read_text(encoding="utf-8")) == []
    with pytest.raises(OSError, match="No such file"), chrome_trace(tmp_path / "missing" / "trace.json"):
        pass


async def test_events_after_the_end_are_ignored(autojump_clock: trio.testing.MockClock, tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    async with open_supervisor() as supervisor:
        wq = supervisor.alloc_workqueue("jobs")
        with chrome_trace(path) as trace:
            supervisor.add_instrument(trace)
            await wq.run(int)
        await wq.run(int)
    lines = parse(path.read_text(encoding="utf-8"))
    assert sum(line["ph"] == "B" for line in lines) == 1


async def test_a_full_disk_ends_the_trace_and_nothing_else(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    class Full(StringIO):
        def write(self, text: str, /) -> int:
            raise OSError("no space left")

    async with open_supervisor() as supervisor:
        supervisor.add_instrument(ChromeTrace(Full()))
        assert await supervisor.alloc_workqueue("jobs").run(int, "42") == 42
    assert "no space left" in caplog.text
