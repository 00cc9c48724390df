"""Results as tables for people. Works on what is in the JSON, so an old file can be shown again (`run.py --show`).

Ratios are taken pair by pair: ktrio's figure of a round by the peer's of the same round, so that what slows the whole
machine for a while slows both. Shown are their median and, in brackets, the lowest and the highest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import workqueue_costs
from latency import PROMISED_MS
from measure import Spread, spread_of
from peers import SUBJECT

import workqueue

Json = Mapping[str, Any]


def ratios(samples: Iterable[Json], figure: str, subject: str, peer: str, name: str = "peer") -> list[float]:
    """`subject` by `peer` in each round that has both."""
    by_round: dict[int, dict[str, float]] = {}
    for sample in samples:
        by_round.setdefault(sample["round"], {})[sample[name]] = sample[figure]
    pairs = [both for both in by_round.values() if both.get(peer) and both.get(subject)]
    return [both[subject] / both[peer] for both in pairs]


def figures(samples: Iterable[Json], figure: str, name: str, value: str) -> Spread | None:
    """The spread of one figure over the rounds."""
    return spread_of(sample[figure] for sample in samples if sample[name] == value)


def show(spread: Spread | None, digits: int = 1) -> str:
    """``12.3 (11.9-13.0)``."""
    if spread is None:
        return "-"
    return f"{spread.median:,.{digits}f} ({spread.low:,.{digits}f}-{spread.high:,.{digits}f})"


def show_median(spread: Spread | None, digits: int = 1) -> str:
    return "-" if spread is None else f"{spread.median:,.{digits}f}"


def show_target(pairs: Spread | None, target: float | None) -> str:
    """A target is met if the median is; nothing is asserted."""
    if target is None or pairs is None:
        return ""
    return f"<= {target:.2f} {'met' if pairs.median <= target else 'MISSED'}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as they need; the first one to the left, the others to the right."""
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    shown = []
    for line in lines:
        first, *others = (cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        shown.append("  ".join(["  ", first.strip().ljust(widths[0]), *others]).rstrip())
    return "\n".join(shown)


def show_http(found: Json) -> str:
    samples = found["samples"]
    names = list(dict.fromkeys(sample["peer"] for sample in samples))
    names.sort(key=lambda name: (name != SUBJECT, name))
    rows = []
    for name in names:
        pairs = spread_of(ratios(samples, "cpu_us_per_request", SUBJECT, name))
        rows.append(
            [
                name,
                show(figures(samples, "cpu_us_per_request", "peer", name)),
                show_median(figures(samples, "requests_per_second", "peer", name), 0),
                show_median(figures(samples, "p50_ms", "peer", name)),
                show_median(figures(samples, "p99_ms", "peer", name)),
                str(sum(sample["errors"] for sample in samples if sample["peer"] == name)),
                show(pairs, 2) if name != SUBJECT else "",
                show_target(pairs, found["targets"].get(name)),
            ]
        )
    header = (
        "server",
        "CPU us/request",
        "requests/s",
        "p50 ms",
        "p99 ms",
        "errors",
        f"{SUBJECT} / it, in CPU",
        "target",
    )
    others = spread_of(sample["others"] for sample in samples)
    noise = f"   others on the server's core: {others.median:.0%} (up to {others.high:.0%})" if others else ""
    return f"{found['question']}\n   {found['command']}\n{table(header, rows)}\n{noise}"


def show_workqueue(found: Json) -> str:
    samples = found["samples"]
    parts = [f"{found['question']}\n   {found['command']}"]
    for load in ("burst", "steady"):
        chosen = [sample for sample in samples if sample["load"] == load]
        turns = [sample for sample in samples if sample["load"] == "turn"]
        rows = []
        for way in dict.fromkeys(sample["way"] for sample in chosen):
            against = [spread_of(ratios(chosen, "us_per_item", way, peer, "way")) for peer in found["against"]]
            ours = way not in found["against"]
            targets = workqueue.TARGETS[load] if way.startswith(SUBJECT) else {}
            row = [way, show(figures(chosen, "us_per_item", "way", way), 2)]
            for peer, each in zip(found["against"], against, strict=True):
                row += [show(each, 2) if ours else "", show_target(each, targets.get(peer))]
            rows.append(row)
        rows.sort(key=lambda row: (row[0] in found["against"], row[0]))
        if load == "steady":
            names = {"start_soon": "(a turn of Trio)", "create_task": "(a turn of asyncio)"}
            rows += [
                [text, show(figures(turns, "us_per_item", "way", way), 2), *[""] * 4] for way, text in names.items()
            ]
        header = [load, "CPU us/item"]
        for peer in found["against"]:
            header += [f"it / {peer}", "target"]
        parts.append(table(header, rows))
    if "costs" in found:  # results before they were measured have none
        parts.append(show_costs(found["costs"]))
    return "\n".join(parts)


def show_costs(samples: Sequence[Json]) -> str:
    """What a workqueue costs beside that: `workqueue_costs.ROWS`."""
    rows = []
    for row in workqueue_costs.ROWS:
        figure = figures(samples, "value", "figure", row.subject)
        pairs = spread_of(ratios(samples, "value", row.subject, row.against, "figure")) if row.against else figure
        rows.append(
            [
                row.text,
                f"{show(figure, 2)} {row.unit}",
                show(pairs, 2) if row.against else "",
                show_target(pairs, row.at_most),
            ]
        )
    return table(("beside that", "it", "ratio", "target"), rows)


def show_latency(found: Json) -> str:
    rows = []
    for kept in found["promises"]:
        alone, crowded = spread_of(kept["alone_ms"]), spread_of(kept["crowded_ms"])
        unanswered = kept["crowded_ms"].count(None)
        is_kept = crowded is not None and not unanswered and crowded.high < PROMISED_MS
        verdict = "kept" if is_kept else f"BROKEN, {unanswered} unanswered" if unanswered else "BROKEN"
        crowd = kept["crowd"]
        rate = crowd.get("bytes_per_second_each")
        stayed = f"{crowd['open']:,} stayed" + (f", {rate / 1e6:.2f} MB/s each" if rate else "")
        rows.append([kept["text"], show(alone), show(crowded), verdict, stayed])
    header = ("one more request beside", "alone, ms", "beside it, ms", f"each < {PROMISED_MS:.0f} ms", "the crowd")
    return f"{found['question']}\n{table(header, rows)}"


def show_queue_latency(found: Json) -> str:
    parts = [f"{found['question']}\n   {found['command']}"]
    for key, load in found["loads"].items():
        chosen = [sample for sample in found["samples"] if sample["load"] == key]
        others = spread_of(sample["others"] for sample in chosen)
        if others is None:
            continue
        short, heavy = [], []
        for way, text in found["ways"].items():
            if figures(chosen, "round", "way", way) is None:
                continue
            against = [
                ratios(chosen, "short_p99_ms", way, peer, "way") if way != peer else () for peer in found["against"]
            ]
            short.append(
                [
                    text,
                    show_median(figures(chosen, "short_p50_ms", "way", way)),
                    show(figures(chosen, "short_p99_ms", "way", way)),
                    show_median(figures(chosen, "short_max_ms", "way", way)),
                    *(show(spread_of(each), 2) if each else "" for each in against),
                ]
            )
            heavy.append(
                [
                    text,
                    show(figures(chosen, "heavy_mean_ms", "way", way), 0),
                    show(figures(chosen, "heavy_p99_ms", "way", way), 0),
                    show_median(figures(chosen, "half_done_mean", "way", way)),
                    show_median(figures(chosen, "half_done_max", "way", way), 0),
                    show_median(figures(chosen, "heavy_per_second", "way", way)),
                ]
            )
        against_header = (f"p99 / {peer}" for peer in found["against"])
        parts += [
            f"   {load['heavy']} {load['text']}; {load['rate']:.0f} short ones a second",
            table(("short items", "p50 ms", "p99 ms", "longest", *against_header), short),
            table(("heavy items", "mean ms", "p99 ms", "half done", "at most", "a second"), heavy),
            f"   others on the core: {others.median:.0%} (up to {others.high:.0%})",
        ]
    return "\n".join(parts)


SHOW = {
    "workqueue": show_workqueue,
    "queue-latency": show_queue_latency,
    "latency": show_latency,
}  # everything else is HTTP


def render(result: Json) -> str:
    """All of a result."""
    machine, versions = result["machine"], result["versions"]
    known = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    before, after = machine["load_average_before"][0], machine["load_average_after"][0]
    lines = [
        f"{result['taken']}  commit {result['commit']}  {machine['cpu']}, {machine['cores']} cores",
        f"server on core {machine['server_cores']}, load on {machine['load_cores']}",
        f"load average {before:.1f} to {after:.1f}; the hypervisor took {machine['stolen']:.1%}",
        f"Python {machine['python']}, Linux {machine['kernel']}, {known}",
    ]
    if not machine["cores_apart"]:
        lines.append("WARNING: server and load share a core: only CPU times mean anything")
    for key, found in result["questions"].items():
        lines += ["", SHOW.get(key, show_http)(found)]
        lines += [f"   skipped {name}: {why}" for name, why in found["skipped"].items()]
        lines += [f"   failed in {failure}" for failure in found.get("failures", ())]
    return "\n".join(lines)


def summary(result: Json) -> dict[str, object]:
    """The ratios, for programs: question -> peer -> median, lowest, highest, and each round's."""
    found: dict[str, object] = {}
    for key, question in result["questions"].items():
        if "samples" not in question:
            continue
        if key == "workqueue":
            for load in ("burst", "steady"):
                chosen = [sample for sample in question["samples"] if sample["load"] == load]
                found[f"{key} {load}"] = {
                    peer: _summary(ratios(chosen, "us_per_item", SUBJECT, peer, "way")) for peer in question["against"]
                }
            continue
        if key == "queue-latency":
            for load in question["loads"]:
                chosen = [sample for sample in question["samples"] if sample["load"] == load]
                for peer in question["against"]:
                    found[f"{key} {load}, p99 by that of {peer}"] = {
                        way: _summary(ratios(chosen, "short_p99_ms", way, peer, "way"))
                        for way in question["ways"]
                        if way != peer
                    }
            continue
        names = dict.fromkeys(sample["peer"] for sample in question["samples"])
        found[key] = {
            name: _summary(ratios(question["samples"], "cpu_us_per_request", SUBJECT, name))
            for name in names
            if name != SUBJECT
        }
    return found


def _summary(each: list[float]) -> dict[str, object]:
    spread = spread_of(each)
    if spread is None:
        return {}
    return {"median": spread.median, "low": spread.low, "high": spread.high, "each": each}
