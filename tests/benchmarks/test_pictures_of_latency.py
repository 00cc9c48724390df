"""How results of `benchmarks/queue_latency.py` are shown: the table of `report.py`, the figures of `figures.py`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[2]

SVG = "{http://www.w3.org/2000/svg}"


def sample(number: int, way: str, p99: float, *, load: str = "compute", half_done: int = 1) -> dict[str, object]:
    return {
        "round": number,
        "load": load,
        "way": way,
        "short_p50_ms": p99 / 2,
        "short_p99_ms": p99,
        "short_max_ms": p99 + 1,
        "heavy_mean_ms": 300.0,
        "heavy_p99_ms": 500.0,
        "half_done_mean": half_done,
        "half_done_max": half_done,
        "heavy_per_second": 30.0,
        "finished_by_ms": [100.0 * number, 200.0 * (number + 1)],
        "others": 0.1 * number,
    }


def made_up(samples: list[dict[str, object]]) -> dict[str, object]:
    loads = dict.fromkeys(str(each["load"]) for each in samples)
    return {
        "question": "how long?",
        "command": "python queue_latency.py",
        "samples": samples,
        "loads": {load: {"text": f"items that {load}", "heavy": 16, "rate": 300.0} for load in loads},
        "ways": {"nursery": "plain nursery", "bound": "one bound queue", "threads": "in threads"},
        "against": ["nursery"],
        "skipped": {},
    }


THREE_ROUNDS = [
    *(sample(number, "nursery", p99, half_done=16) for number, p99 in enumerate((100.0, 200.0, 50.0))),
    *(sample(number, "bound", p99) for number, p99 in enumerate((10.0, 40.0, 2.5))),
]


@pytest.fixture
def report(benchmark_module: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark_module("report")


@pytest.fixture
def figures(benchmark_module: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark_module("figures")


def test_the_table_shows_medians_spreads_and_ratios_within_rounds(report: ModuleType) -> None:
    lines = report.show_queue_latency(made_up(THREE_ROUNDS)).splitlines()
    assert lines[0] == "how long?"
    assert "16 items that compute; 300 short ones a second" in lines[2]
    rows = [re.split(r"  +", line.strip()) for line in lines]
    assert ["short items", "p50 ms", "p99 ms", "longest", "p99 / nursery"] in rows
    assert ["plain nursery", "50.0", "100.0 (50.0-200.0)", "101.0"] in rows
    assert ["one bound queue", "5.0", "10.0 (2.5-40.0)", "11.0", "0.10 (0.05-0.20)"] in rows
    assert ["plain nursery", "300 (300-300)", "500 (500-500)", "16.0", "16", "30.0"] in rows
    assert not any("threads" in line for line in lines)  # not measured
    assert "others on the core: 10% (up to 20%)" in lines[-1]


def test_the_summary_has_the_ratios_of_each_load(report: ModuleType) -> None:
    found = made_up([*THREE_ROUNDS, sample(0, "nursery", 10.0, load="wait"), sample(0, "bound", 20.0, load="wait")])
    summary = report.summary({"questions": {"queue-latency": found}})
    assert summary["queue-latency compute, p99 by that of nursery"]["bound"]["median"] == pytest.approx(0.1)
    assert summary["queue-latency wait, p99 by that of nursery"]["bound"]["each"] == [2.0]


def test_a_scale_puts_values_in_proportion_and_keeps_them_inside(figures: ModuleType) -> None:
    linear = figures.Scale(0, 10, 100, 200)
    assert [linear(value) for value in (0, 5, 10, 11)] == [100, 150, 200, 200]
    logarithmic = figures.Scale(1, 100, 0, 10, True)
    assert [logarithmic(value) for value in (0.5, 1, 10, 100)] == [0, 0, pytest.approx(5), 10]


def test_ticks_are_the_powers_of_ten_in_between(figures: ModuleType) -> None:
    assert figures.decades(0.1, 1300) == [0.1, 1, 10, 100, 1000]
    assert figures.decades(2, 9) == []
    assert [figures.show_time(each) for each in (0.1, 1, 100, 1000, 10_000)] == [
        "0.1 ms",
        "1 ms",
        "100 ms",
        "1 s",
        "10 s",
    ]


def test_a_staircase_goes_up_at_each_end(figures: ModuleType) -> None:
    one_to_one = figures.Scale(0, 100, 0, 100)
    assert figures.stairs_of(made_up(THREE_ROUNDS), "compute", "bound") == [100, 400]
    corners = figures.staircase([10, 30], one_to_one, one_to_one)
    assert corners == [(0, 0), (10, 0), (10, 1), (30, 1), (30, 2)]


@pytest.mark.parametrize("loads", [("compute",), ("compute", "compute and wait")])
def test_figures_are_svg_that_names_what_was_measured_and_stays_on_its_ground(
    figures: ModuleType, loads: tuple[str, ...]
) -> None:
    samples = [sample(0, way, p99, load=load) for load in loads for way, p99 in (("nursery", 90.0), ("bound", 0.4))]
    drawn = figures.draw({"questions": {"queue-latency": made_up(samples)}})
    assert set(drawn) == {"queue-latency.svg", "queue-finished.svg"}
    for text in drawn.values():
        check_is_on_its_ground(ElementTree.fromstring(text))
    words = {each.text for each in ElementTree.fromstring(drawn["queue-latency.svg"]).iter(f"{SVG}text")}
    assert {"plain nursery", "one bound queue", "90", "0.4"} <= words
    assert "in threads" not in words


def check_is_on_its_ground(svg: ElementTree.Element) -> None:
    _, _, width, height = map(float, svg.attrib["viewBox"].split())
    for each in svg.iter():
        corners = re.findall(r"[ML]([-\d.]+) ([-\d.]+)", each.attrib.get("d", ""))
        if each.tag in (f"{SVG}text", f"{SVG}circle"):
            corners = [(each.get("x", each.get("cx")), each.get("y", each.get("cy")))]
        for x, y in corners:
            assert 0 <= float(x) <= width, each.attrib
            assert 0 <= float(y) <= height, each.attrib


def test_a_result_without_latencies_has_no_figures(figures: ModuleType) -> None:
    assert figures.draw({"questions": {"workqueue": {}}}) == {}


def test_the_figures_of_the_documentation_are_those_of_the_result_that_is_kept(figures: ModuleType) -> None:
    result = json.loads(
        (ROOT / "benchmarks" / "results" / "2026-11-short-beside-heavy.json").read_text(encoding="utf-8")
    )
    drawn = figures.draw(result)
    assert drawn
    for name, text in drawn.items():
        kept = (ROOT / "docs" / "_static" / name).read_text(encoding="utf-8")
        assert kept == text, (
            f"python benchmarks/figures.py benchmarks/results/2026-11-short-beside-heavy.json docs/_static: {name}"
        )
