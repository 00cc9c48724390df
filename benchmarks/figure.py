"""The figure of `queue-latency`, as SVG: ``python benchmarks/figure.py RESULT.json OUT.svg``.

For each way of running the jobs a line from the median latency of short jobs to the longest, with a dot at the 99th
percentile, on a logarithmic scale; and beside it what became of the heavy jobs. Its colours follow the reader's.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from measure import spread_of

WIDTH, LEFT, RIGHT, TOP, ROW = 860, 250, 210, 58, 34
LEAST, MOST = 0.5, 500.0  # milliseconds: the ends of the scale
MARKS = (1, 10, 100)
TITLE = "Latency of short jobs beside heavy ones, for each way of running them"

STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #24292f } .faint { fill: #6e7781 } .line { stroke: #8c959f }
  .grid { stroke: #d0d7de } .dot { fill: #0969da } .open { fill: none; stroke: #0969da; stroke-width: 1.5 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .faint { fill: #8d96a0 } .line { stroke: #6e7681 } .grid { stroke: #30363d }
    .dot { fill: #58a6ff } .open { stroke: #58a6ff }
  }
"""


def place(milliseconds: float) -> float:
    """Where on the scale, in pixels."""
    share = math.log(min(max(milliseconds, LEAST), MOST) / LEAST) / math.log(MOST / LEAST)
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def median(samples: Sequence[Mapping[str, Any]], way: str, figure: str) -> float:
    spread = spread_of(sample[figure] for sample in samples if sample["way"] == way)
    return spread.median if spread is not None else math.nan


def draw(samples: Sequence[Mapping[str, Any]]) -> str:
    """The figure of these samples."""
    ways = list(dict.fromkeys(sample["way"] for sample in sorted(samples, key=lambda sample: sample["order"])))
    height = TOP + ROW * len(ways) + 12
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{TITLE}">',
        f"<style>{STYLE}</style>",
        f'<text x="{LEFT}" y="18">short jobs: median, 99th percentile and longest, ms</text>',
        f'<text x="{WIDTH - RIGHT + 24}" y="18">heavy: mean, ms</text>',
        f'<text x="{WIDTH - 6}" y="18" text-anchor="end">half-done</text>',
    ]
    for mark in MARKS:
        parts.append(f'<line class="grid" x1="{place(mark):.1f}" x2="{place(mark):.1f}" y1="42" y2="{height - 8}"/>')
        parts.append(f'<text class="faint" x="{place(mark):.1f}" y="38" text-anchor="middle">{mark}</text>')
    for number, way in enumerate(ways):
        y = TOP + ROW * number + 10
        heavy, half_done = median(samples, way, "heavy_mean"), median(samples, way, "half_done")
        p50, p99, longest = (median(samples, way, f"short_{each}") for each in ("p50", "p99", "max"))
        parts += [
            f'<text x="{LEFT - 14}" y="{y + 4}" text-anchor="end">{way}</text>',
            f'<line class="line" x1="{place(p50):.1f}" x2="{place(longest):.1f}" y1="{y}" y2="{y}"/>',
            f'<line class="line" x1="{place(longest):.1f}" x2="{place(longest):.1f}" y1="{y - 5}" y2="{y + 5}"/>',
            f'<circle class="open" cx="{place(p50):.1f}" cy="{y}" r="4"/>',
            f'<circle class="dot" cx="{place(p99):.1f}" cy="{y}" r="5"/>',
            f'<text class="faint" x="{place(longest) + 9:.1f}" y="{y + 4}">{p99:.3g}</text>',
            f'<text x="{WIDTH - RIGHT + 90}" y="{y + 4}" text-anchor="end">{heavy:.0f}</text>',
            f'<text x="{WIDTH - 6}" y="{y + 4}" text-anchor="end">{half_done:.0f}</text>',
        ]
    return "\n".join([*parts, "</svg>\n"])


def main() -> None:
    result, out = map(Path, sys.argv[1:])
    out.write_text(draw(json.loads(result.read_text())["questions"]["queue-latency"]["samples"]))


if __name__ == "__main__":
    main()
