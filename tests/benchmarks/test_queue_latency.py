"""What `benchmarks/queue_latency.py` measures, held against virtual time, in which it can be worked out by hand."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import trio
from trio.testing import MockClock

from ktrio.testing import burn

STEP = 0.002
WAYS_ON_THE_LOOP = (
    "nursery",
    "limiter",
    "two limiters",
    "two limiters, 1",
    "unbound",
    "bound",
    "bound, unbound",
    "bound, highpri",
    "cpu intensive",
)


@pytest.fixture
def bench(benchmark_module: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark_module("queue_latency")


def some(bench: ModuleType, *, heavy: int, short_at: tuple[float, ...] = (), **kwargs):
    """So many heavy items at once, and short ones at these times; on a machine of virtual time."""
    load = bench.Load(key="test", text="", steps=4, step=STEP, short=0.0001, **kwargs)
    machine = bench.Machine(now=trio.current_time, burn=burn, sleep_in_thread=time.sleep)
    dues = [(True, 0.0)] * heavy + [(False, due) for due in short_at]
    return [bench.Item(load=load, machine=machine, is_heavy=is_heavy, due=due) for is_heavy, due in dues], machine


def took(bench: ModuleType, way: str, items, machine) -> tuple[list[float], list[float]]:
    """Milliseconds that the heavy items took, and the short ones."""
    trio.run(bench.run, bench.WAYS[way], items, machine, clock=MockClock(autojump_threshold=0))
    heavy = sorted(item.took * 1e3 for item in items if item.is_heavy)
    return heavy, sorted(item.took * 1e3 for item in items if not item.is_heavy)


def test_the_ways_tested_here_are_all_but_threads(bench: ModuleType) -> None:
    assert {*WAYS_ON_THE_LOOP, "threads"} == set(bench.WAYS) == set(bench.TEXTS)


@pytest.mark.parametrize("way", WAYS_ON_THE_LOOP)
@pytest.mark.parametrize("wait_after", [0, 2])
def test_each_way_runs_every_item_once_and_never_more_at_once_than_it_says(
    bench: ModuleType, way: str, wait_after: int
) -> None:
    items, machine = some(bench, heavy=12, short_at=(0.001, 0.02, 0.5), wait_after=wait_after, wait=0.01)
    heavy, short = took(bench, way, items, machine)
    waits = 10 if wait_after else 0
    assert min(heavy) >= 4 * STEP * 1e3 + waits - 1e-6
    assert min(short) >= 0.1 - 1e-6
    assert short[0] < 1  # the one that comes when all is quiet
    _, most = bench.alive_at_once((item.begun, item.ended) for item in items if item.is_heavy)
    assert most <= {"nursery": 12, "two limiters, 1": 1}.get(way, bench.WIDTH)


def test_in_a_nursery_all_end_late_and_on_a_bound_queue_one_after_the_other(bench: ModuleType) -> None:
    interleaved, _ = took(bench, "nursery", *some(bench, heavy=4))
    assert interleaved == pytest.approx([26, 28, 30, 32])
    one_by_one, _ = took(bench, "bound", *some(bench, heavy=4))
    assert one_by_one == pytest.approx([8, 16, 24, 32])


def test_a_short_item_waits_for_a_turn_of_the_nursery_for_all_before_it_on_one_bound_queue_and_for_a_step_with_highpri(
    bench: ModuleType,
) -> None:
    items = {way: some(bench, heavy=8, short_at=(0.001,)) for way in ("nursery", "bound", "bound, highpri")}
    waited = {way: took(bench, way, *each)[1][0] for way, each in items.items()}
    assert 15 < waited["nursery"] < 3 * 16 + 1  # the rest of this turn, and up to two of its own, of 8 steps each
    assert waited["bound"] == pytest.approx(8 * 8 - 1 + 0.1)
    assert waited["bound, highpri"] < 3 * 2 + 1


def test_heavy_items_that_wait_leave_the_core_idle_behind_a_limiter_of_1_but_not_on_a_bound_queue(
    bench: ModuleType,
) -> None:
    narrow, _ = took(bench, "two limiters, 1", *some(bench, heavy=4, wait_after=2, wait=0.01))
    assert narrow == pytest.approx([18, 36, 54, 72])
    bound, _ = took(bench, "bound, highpri", *some(bench, heavy=4, wait_after=2, wait=0.01))
    assert bound[-1] < 40


async def test_plain_functions_run_in_threads(bench: ModuleType) -> None:
    load = bench.Load(key="test", text="", steps=4, step=0.00001, short=0.00001, wait_after=2, wait=0.02)
    slept: list[float] = []
    machine = bench.Machine(now=time.perf_counter, burn=bench.burn, sleep_in_thread=slept.append)
    items = [bench.Item(load=load, machine=machine, is_heavy=number < 3, due=0.0) for number in range(5)]
    await bench.run(bench.WAYS["threads"], items, machine)
    assert slept == [0.02] * 3
    assert all(item.took > 0 for item in items)


def test_a_seed_fixes_when_what_comes(bench: ModuleType) -> None:
    load = bench.LOADS[0]

    def dues(seed: int) -> list[tuple[bool, float]]:
        return [(item.is_heavy, item.due) for item in bench.arrivals(load, bench.REAL, seed)]

    assert dues(1) == dues(1) != dues(2)
    assert dues(1)[: load.heavy] == [(True, 0.0)] * load.heavy
    short = [due for is_heavy, due in dues(1) if not is_heavy]
    assert short == sorted(short)
    assert 0 < short[0] < short[-1] < load.during
    assert 0.6 < len(short) / (load.rate * load.during) < 1.4


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        (range(1, 101), 99, 99),
        (range(1, 101), 50, 50),
        (range(100, 0, -1), 100, 100),
        ([3, 1], 50, 1),
        ([3, 1], 51, 3),
        ([7], 99, 7),
        ([7], 0, 7),
    ],
)
def test_a_percentile_is_one_of_the_values(bench: ModuleType, values, percent: float, expected: float) -> None:
    assert bench.percentile(values, percent) == expected


@pytest.mark.parametrize(
    ("spans", "mean", "most"),
    [
        ([], 0, 0),
        ([(5, 6)], 1, 1),
        ([(0, 2), (1, 3)], 4 / 3, 2),
        ([(1, 2), (0, 1)], 1, 1),  # one takes the other's place
        ([(0, 1), (9, 10)], 1, 1),  # the time between does not count
    ],
)
def test_how_many_are_alive_at_once(bench: ModuleType, spans, mean: float, most: int) -> None:
    assert bench.alive_at_once(spans) == (pytest.approx(mean), most)


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="what others use of the core is read from /proc")
def test_samples_have_what_tables_and_figures_show(
    bench: ModuleType, benchmark_module: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = [
        bench.Load(key=load.key, text=load.text, heavy=2, steps=2, step=0.0001, during=0.01, rate=1000)
        for load in bench.LOADS
    ]
    monkeypatch.setattr(bench, "LOADS", tiny)
    ways = ("nursery", "bound")
    samples = bench.measure(2, ways)
    assert [(sample["round"], sample["load"], sample["way"]) for sample in samples] == [
        (number, load.key, ways[(number + turn) % 2]) for number in (0, 1) for load in tiny for turn in (0, 1)
    ]
    found = {
        "question": "how long?",
        "command": "python",
        "samples": samples,
        "loads": {load.key: {"text": load.text, "heavy": 2, "rate": 1000} for load in tiny},
        "ways": bench.TEXTS,
        "against": ["nursery"],
        "skipped": {},
    }
    table = benchmark_module("report").show_queue_latency(found)
    assert table.count("one bound queue") == 4
    assert "CapacityLimiter" not in table
    assert len(benchmark_module("figures").draw({"questions": {"queue-latency": found}})) == 2
