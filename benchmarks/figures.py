"""Draw a result: ``.venv/bin/python benchmarks/figures.py benchmarks/results/RESULT.json docs/_static``.

SVG, written by hand: it has its own ground in a light and in a dark colour, and follows what the reader prefers. What
is drawn is the median of the rounds, as `report.py` prints it.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from statistics import median
from typing import Any

Json = Mapping[str, Any]

STYLE = """
svg { font: 12.5px system-ui, "Segoe UI", "DejaVu Sans", sans-serif }
.ground { fill: #fcfcfb } .text { fill: #22272e } .faint { fill: #5c6670 }
.grid { stroke: #dfe3e8 } .edge { fill: none; stroke: #dfe3e8 }
.trio { stroke: #6b7785; fill: #6b7785 } .one { stroke: #b4530a; fill: #b4530a } .two { stroke: #1668b3; fill: #1668b3 }
.more { stroke: #7a4fb0; fill: #7a4fb0 }
.dashed { stroke-dasharray: 5 4 }
.hollow { fill: #fcfcfb } .line { fill: none; stroke-width: 2 } .label { stroke: none } .bold { font-weight: 600 }
@media (prefers-color-scheme: dark) {
.ground { fill: #171b21 } .text { fill: #e3e7ec } .faint { fill: #9aa4af }
.grid { stroke: #2d343d } .edge { stroke: #2d343d }
.trio { stroke: #98a3af; fill: #98a3af } .one { stroke: #f0914a; fill: #f0914a } .two { stroke: #62b0f2; fill: #62b0f2 }
.more { stroke: #b892ea; fill: #b892ea }
.hollow { fill: #171b21 } .line { fill: none } .label { stroke: none }
}
"""

# Which ways stand together, under which words, and in which colour.
GROUPS = (
    ("Trio by itself", "trio", ("nursery", "limiter", "two limiters", "two limiters, 1")),
    ("all on one workqueue", "one", ("unbound", "bound")),
    ("a workqueue for each kind", "two", ("bound, unbound", "bound, highpri")),
    ("", "two", ("cpu intensive", "threads")),
)


@dataclass(slots=True)
class Drawing:
    """Pieces of an SVG, and how big it is."""

    width: float
    height: float
    title: str
    pieces: list[str] = field(default_factory=list)

    def text(self, x: float, y: float, words: str, look: str = "text", anchor: str = "start") -> None:
        self.pieces.append(
            f'<text x="{x:.1f}" y="{y:.1f}" class="{look}" text-anchor="{anchor}">{escape(words)}</text>'
        )

    def line(self, x1: float, y1: float, x2: float, y2: float, look: str) -> None:
        self.pieces.append(f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" class="{look}"/>')

    def dot(self, x: float, y: float, look: str) -> None:
        self.pieces.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" stroke-width="1.8" class="{look}"/>')

    def path(self, points: Iterable[tuple[float, float]], look: str) -> None:
        self.pieces.append(f'<path d="M{"L".join(f"{x:.1f} {y:.1f}" for x, y in points)}" class="{look}"/>')

    def __str__(self) -> str:
        size = f"{self.width:.0f} {self.height:.0f}"
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" role="img">',
                f"<title>{escape(self.title)}</title>\n<style>{STYLE}</style>",
                f'<rect width="{self.width:.0f}" height="{self.height:.0f}" rx="8" class="ground"/>',
                *self.pieces,
                "</svg>\n",
            ]
        )


@dataclass(frozen=True, slots=True)
class Scale:
    """From a value to a place."""

    low: float
    high: float
    begin: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        low, high = self.low, self.high
        value = min(max(value, low), high)
        if self.logarithmic:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return self.begin + (value - low) / (high - low) * (self.end - self.begin)


def of(found: Json, load: str, way: str, figure: str) -> float:
    """The median of one figure over the rounds."""
    return median(sample[figure] for sample in found["samples"] if (sample["load"], sample["way"]) == (load, way))


def decades(low: float, high: float) -> list[float]:
    """The powers of ten from `low` to `high`."""
    return [10.0**power for power in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)]


def show_time(milliseconds: float) -> str:
    return f"{milliseconds:g} ms" if milliseconds < 1000 else f"{milliseconds / 1000:g} s"


# -- how long short items take: a line for each way, from the median to the 99th percentile

ROW, LABELS, PANEL, GAP, TOP = 25, 262, 268, 34, 74


def draw_latency(found: Json) -> str:
    samples = found["samples"]
    shown = [of(found, load, way, f"short_{each}_ms") for load, way in everything(found) for each in ("p50", "p99")]
    low, high = 10.0 ** math.floor(math.log10(min(shown))), max(shown) * 1.2
    measured = {sample["way"] for sample in samples}
    rows = sum(len(measured.intersection(ways)) for *_, ways in GROUPS)
    heads = sum(bool(words) for words, *_ in GROUPS)
    bottom = TOP + rows * ROW + heads * (ROW + 2)
    drawing = Drawing(LABELS + 2 * PANEL + GAP + 46, bottom + 58, f"{found['question']}: milliseconds, by way")
    drawing.text(20, 28, "Short items while heavy ones compute: from when they come to their end", "text bold")
    scales = [Scale(low, high, begin, begin + PANEL, True) for begin in (LABELS, LABELS + PANEL + GAP)]
    for load, scale in zip(found["loads"], scales, strict=False):
        draw_panel(drawing, scale, load_title(load), bottom)
    y = float(TOP)
    for words, look, ways in GROUPS:
        if words:
            y += ROW + 2
            drawing.text(20, y - 7, words, "faint")
        for way in ways:
            if way in measured:
                draw_way(drawing, found, way, look, scales, y + ROW / 2)
                y += ROW
    x = LABELS
    drawing.dot(x + 6, bottom + 41, "trio hollow")
    drawing.text(x + 16, bottom + 45, "half of them are quicker", "faint")
    drawing.dot(x + 186, bottom + 41, "trio")
    drawing.text(x + 196, bottom + 45, "99 of 100 are, with milliseconds; logarithmic", "faint")
    return str(drawing)


def everything(found: Json) -> dict[tuple[str, str], None]:
    """Each load with each way that was measured under it."""
    return dict.fromkeys((sample["load"], sample["way"]) for sample in found["samples"])


def load_title(load: str) -> str:
    return {"compute": "heavy items only compute", "compute and wait": "heavy items compute and wait"}.get(load, load)


def draw_panel(drawing: Drawing, scale: Scale, title: str, bottom: float) -> None:
    drawing.text(scale.begin, TOP - 20, title)
    for tick in decades(scale.low, scale.high):
        drawing.line(scale(tick), TOP - 6, scale(tick), bottom, "grid")
        drawing.text(scale(tick), bottom + 16, show_time(tick), "faint", "middle")


def show_number(value: float) -> str:
    return f"{value:.1f}" if value < 3 else f"{value:.0f}"


def draw_way(drawing: Drawing, found: Json, way: str, look: str, scales: Sequence[Scale], y: float) -> None:
    drawing.text(32, y + 4, found["ways"][way])
    for load, scale in zip(found["loads"], scales, strict=False):
        half, most = of(found, load, way, "short_p50_ms"), of(found, load, way, "short_p99_ms")
        drawing.line(scale(half), y, scale(most), y, f"{look} line")
        drawing.dot(scale(half), y, f"{look} hollow")
        drawing.dot(scale(most), y, look)
        drawing.text(scale(most) + 9, y + 4, show_number(most), f"{look} label")


# -- when heavy items are finished: a staircase for each way

STAIRS = (
    ("nursery", "plain nursery", "trio"),
    ("two limiters", "CapacityLimiter(8)", "one"),
    ("bound, highpri", "bound queue", "two"),
    (
        "two limiters, 1",
        "CapacityLimiter(1)",
        "more dashed",
    ),  # last: where it runs along the bound queue, both are seen
)


def draw_finished(found: Json) -> str:
    width, height, begin = 382, 196, 46
    drawing = Drawing(begin + 2 * width + 70, height + 146, "heavy items finished, by time since their burst")
    drawing.text(20, 28, "How many of the heavy items are finished, by time since they came", "text bold")
    for number, load in enumerate(found["loads"]):
        left = begin + number * (width + 40)
        ends = {way: stairs_of(found, load, way) for way, *_ in STAIRS}
        ends = {way: each for way, each in ends.items() if each}
        most = max(len(each) for each in ends.values())
        last = max(max(each) for each in ends.values())
        across = Scale(0, round_up(last), left, left + width)
        up = Scale(0, most, 74 + height, 74)
        drawing.text(left, 56, load_title(load))
        for count in range(0, most + 1, 4):
            drawing.line(left, up(count), left + width, up(count), "grid")
            drawing.text(left - 8, up(count) + 4, str(count), "faint", "end")
        for tick, anchor in enumerate(("start", "middle", "middle", "middle", "end")):
            milliseconds = across.high * tick / 4
            drawing.text(across(milliseconds), up(0) + 18, f"{milliseconds:.0f} ms", "faint", anchor)
        for way, _, look in STAIRS:
            if way in ends:
                drawing.path(staircase(ends[way], across, up), f"{look} line")
    x = float(begin)
    for _, words, look in STAIRS:
        drawing.line(x, height + 122, x + 22, height + 122, f"{look} line")
        drawing.text(x + 29, height + 126, words)
        x += 62 + 7.2 * len(words)
    return str(drawing)


def stairs_of(found: Json, load: str, way: str) -> list[float]:
    """Milliseconds until the first heavy item of a burst was finished, the second, …; medians over the rounds."""
    runs = [sample["finished_by_ms"] for sample in found["samples"] if (sample["load"], sample["way"]) == (load, way)]
    return [median(each) for each in zip(*runs, strict=True)]


def staircase(ends: Sequence[float], across: Scale, up: Scale) -> list[tuple[float, float]]:
    """The corners: up by one at each end."""
    corners = [(across(0), up(0))]
    for count, end in enumerate(ends):
        corners += [(across(end), up(count)), (across(end), up(count + 1))]
    return corners


def round_up(milliseconds: float) -> float:
    """A multiple of 400 that is not less: its quarters are round."""
    return math.ceil(milliseconds / 400) * 400


def draw(result: Json) -> dict[str, str]:
    """The figures that a result has, by file name."""
    found = result["questions"].get("queue-latency")
    if found is None:
        return {}
    return {"queue-latency.svg": draw_latency(found), "queue-finished.svg": draw_finished(found)}


def main() -> int:
    parser = argparse.ArgumentParser(description=sys.modules[__name__].__doc__)
    parser.add_argument("result", type=Path, help="a result as run.py writes it")
    parser.add_argument("folder", type=Path, help="where the figures go; those that are there are overwritten")
    given = parser.parse_args()
    drawn = draw(json.loads(given.result.read_text(encoding="utf-8")))
    for name, text in drawn.items():
        (given.folder / name).write_text(text, encoding="utf-8")
        print(given.folder / name)
    return 0 if drawn else 1


if __name__ == "__main__":
    sys.exit(main())
