"""What ``ktrio top`` shows of a snapshot: the tables of wq_monitor, with what it lacks, as lines of plain text.

Columns are looked up by the names of the statistics, so one whose counter this program does not have, or whose count
means nothing for a queue, shows "-". When there is no room for all, those go first that have nothing to say for any
queue, then the highest `rank`.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import localtime, strftime
from typing import Final, cast, final

from ktrio.cli._snapshots import Record
from ktrio.cli._table import printable

ABSENT: Final = "-"
LONGEST_NAME: Final = 24  # as wq_monitor
SHORTEST_NAME: Final = 12
MOST_HOGS: Final = 5

_LARGE: Final = 10_000_000
"""Counts from here on are shown in millions, to keep their columns narrow."""


@final
@dataclass(frozen=True, slots=True)
class Row:
    """A queue or a pool, what it was in the snapshot before, and the seconds in between (0: there was none)."""

    now: Record
    before: Record
    seconds: float


@final
@dataclass(frozen=True, slots=True)
class Column:
    """A column: its heading, the text of its cells, and what becomes of it if there is no room."""

    heading: str
    cell: Callable[[Row], str]
    rank: int
    """The highest goes first."""
    alerts: bool = False
    """Does a count above 0 say that something is short?"""


@final
@dataclass(frozen=True, slots=True)
class Line:
    """A line of text, and which parts of it stand out: (from, to, what it is)."""

    text: str
    marks: tuple[tuple[int, int, str], ...] = ()


# -- cells


def _number(record: Record, name: str) -> float | None:
    value: object = record.get(name)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _list(record: Record, name: str) -> Sequence[object]:
    value: object = record.get(name)
    return cast("list[object]", value) if isinstance(value, list) else []


def _flags(record: Record) -> Sequence[str]:
    return [str(each) for each in _list(record, "flags")]


def count_text(number: float | None) -> str:
    """A count in at most eight characters."""
    if number is None:
        return ABSENT
    if number < _LARGE:
        return f"{number:.0f}"
    for unit in ("M", "G", "T", "P", "E"):
        number /= 1_000_000 if unit == "M" else 1000
        if number < 1000:
            break
    return f"{number:.1f}{unit}"


def _count(name: str) -> Callable[[Row], str]:
    return lambda row: count_text(_number(row.now, name))


def _count_if(name: str, flag: str, *, has: bool) -> Callable[[Row], str]:
    """A count that means something only for queues with a flag, or without it."""
    return lambda row: count_text(_number(row.now, name)) if (flag in _flags(row.now)) is has else ABSENT


def _increase(row: Row, name: str) -> float | None:
    now, before = _number(row.now, name), _number(row.before, name)
    if now is None or before is None or row.seconds <= 0 or now < before:
        return None
    return (now - before) / row.seconds


def _per_second(row: Row) -> str:
    rate = _increase(row, "started")
    return ABSENT if rate is None else count_text(rate) if rate >= 10 or rate == 0 else f"{rate:.1f}"


def _percent(row: Row) -> str:
    share = _increase(row, "cpu_time")
    return ABSENT if share is None else f"{share * 100:.0f}"


def _seconds(row: Row) -> str:
    seconds = _number(row.now, "cpu_time")
    return ABSENT if seconds is None else f"{seconds:.1f}" if seconds < 1_000_000 else count_text(seconds)


def _active(row: Row) -> str:
    slots = _number(row.now, "max_active")
    if slots is None:
        return ABSENT
    pwqs = 1 if row.now.get("ordered") else max(1, len(_list(row.now, "pwqs")))
    return f"{count_text(_number(row.now, 'nr_active'))}/{count_text(slots * pwqs)}"


def _kind(row: Row) -> str:
    flags = [each.removeprefix("WQ_").lower() for each in _flags(row.now)]
    if "WQ_UNBOUND" not in _flags(row.now):
        flags.insert(0, "bound")
    flags += [state for state in ("ordered", "frozen", "draining") if row.now.get(state)]
    return printable(",".join(flags))


QUEUE_COLUMNS: Final = (
    Column("total", _count("started"), 3),
    Column("/s", _per_second, 10),
    Column("infl", _count("running"), 0),
    Column("park", _count("parked"), 9),
    Column("pend", _count("pending"), 1),
    Column("inact", _count("inactive"), 2, alerts=True),
    Column("delay", _count("delayed"), 13),
    Column("active/max", _active, 11),
    Column("CPUtime", _seconds, 4),
    Column("CPU%", _percent, 12),
    Column("CPUhog", _count_if("cpu_intensive", "WQ_UNBOUND", has=False), 5, alerts=True),
    Column("CMW/RPR", _count_if("cm_wakeups", "WQ_UNBOUND", has=False), 6),
    Column("mayday", _count_if("mayday", "WQ_MEM_RECLAIM", has=True), 7, alerts=True),
    Column("rescued", _count_if("rescued", "WQ_MEM_RECLAIM", has=True), 8),
    Column("failed", _count("failed"), 14, alerts=True),
    Column("flags", _kind, 15),
)
"""Those of wq_monitor under their names, in their order; `CPUhog` and `CMW/RPR` mean nothing for unbound queues, as in
the kernel. No queue is repatriated here, so the latter is CMW only."""


def _pool_running(row: Row) -> str:
    return count_text(_number(row.now, "nr_running")) if row.now.get("bound") else ABSENT


def pool_columns(capacity: float | None) -> tuple[Column, ...]:
    """The columns of the pools, whose places are `capacity`."""

    def occupied(row: Row) -> str:
        return f"{count_text(_number(row.now, 'occupied'))}/{count_text(capacity)}"

    return (
        Column("workers", _count("nr_workers"), 0),
        Column("idle", _count("nr_idle"), 1),
        Column("running", _pool_running, 2),
        Column("parked", _count("parked"), 5),
        Column("starting", _count("starting"), 7),
        Column("occupied", occupied, 3),
        Column("worklist", _count("worklist"), 4, alerts=True),
        Column("at_cap", _count("at_capacity"), 6, alerts=True),
        Column("created", _count("created"), 8),
        Column("culled", _count("culled"), 9),
    )


def _pool_name(pool: Record) -> str:
    kind = f"{'bound' if pool.get('bound') else 'unbound'}{' highpri' if pool.get('highpri') else ''}"
    return f"{count_text(_number(pool, 'cpu'))} {kind}"


# -- tables


def _width(text: str) -> int:
    """How many columns of a terminal it takes."""
    return sum(0 if unicodedata.combining(each) else 2 if unicodedata.east_asian_width(each) in "WF" else 1
               for each in text)  # fmt: skip


def _shortened(name: str, width: int) -> str:
    """`name`, or as much of its end as fits, as wq_monitor does."""
    if _width(name) <= width:
        return name
    while _width(name) >= width:
        name = name[1:]
    return f"…{name}"


def chosen(columns: Sequence[Column], cells: Sequence[Sequence[str]], room: int) -> list[int]:
    """The columns that `room` characters are enough for; `cells` has a list for each column."""
    widths = [max(map(len, [column.heading, *texts])) + 1 for column, texts in zip(columns, cells, strict=True)]
    silent = [all(text == ABSENT for text in texts) for texts in cells]
    kept: list[int] = []
    for index in sorted(range(len(columns)), key=lambda each: (silent[each], columns[each].rank)):
        if widths[index] > room:
            break
        room -= widths[index]
        kept.append(index)
    return sorted(kept)


def table(title: str, names: Sequence[str], columns: Sequence[Column], rows: Sequence[Row], width: int) -> list[Line]:
    """A heading, and a line for each row."""
    names = [printable(name) for name in names]
    cells = [[column.cell(row) for row in rows] for column in columns]
    longest = min(LONGEST_NAME, max(map(_width, [title, *names])))
    kept = chosen(columns, cells, width - min(longest, SHORTEST_NAME))
    widths = [max(map(len, [columns[index].heading, *cells[index]])) for index in kept]
    gap = 2 if longest + sum(widths) + 2 * len(widths) <= width else 1
    widths = [gap - 1 + each for each in widths]
    name_width = max(1, min(longest, width - sum(widths) - len(widths)))
    heading = "".join(f" {columns[index].heading:>{size}}" for index, size in zip(kept, widths, strict=True))
    text = f"{_padded(_shortened(title, name_width), name_width)}{heading}"
    lines = [Line(text, ((0, len(text), "heading"),))]
    for number, name in enumerate(names):
        line = _padded(_shortened(name, name_width), name_width)
        marks: list[tuple[int, int, str]] = []
        for index, size in zip(kept, widths, strict=True):
            cell = cells[index][number]
            line += f" {cell:>{size}}"
            if columns[index].alerts and cell not in (ABSENT, "0"):
                marks.append((len(line) - len(cell), len(line), "alert"))
        lines.append(Line(line, tuple(marks)))
    return lines


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _width(text))


# -- the whole


def _records(record: Record, name: str) -> list[Record]:
    return [cast("Record", each) for each in _list(record, name) if isinstance(each, dict)]


def _by_name(snapshot: Record) -> dict[tuple[str, int], Record]:
    """The queues by their names; of several of one name the first, second and so on."""
    found: dict[tuple[str, int], Record] = {}
    seen: Counter[str] = Counter()
    for each in _records(snapshot["supervisor"], "workqueues"):
        name = str(each.get("name"))
        seen[name] += 1
        found[name, seen[name]] = each
    return found


def _queues(now: Record, before: Record | None) -> list[Row]:
    """The queues, each with what it was in the snapshot before."""
    earlier = {} if before is None else _by_name(before)
    seconds = 0.0 if before is None else (_number(now, "seconds") or 0) - (_number(before, "seconds") or 0)
    return [Row(each, earlier.get(key, {}), seconds) for key, each in _by_name(now).items()]


def _head(now: Record, width: int, note: str) -> Line:
    supervisor: Record = now["supervisor"]
    cpus = count_text(_number(supervisor, "cpus"))
    parts = [
        f"ktrio {printable(str(now['ktrio']))}",
        f"pid {count_text(_number(now, 'pid'))}",
        f"{cpus} simulated CPU{'' if cpus == '1' else 's'}",
    ]
    counts = ((name, _number(supervisor, name)) for name in ("threads", "timers"))
    parts += [f"{count_text(number)} {name}" for name, number in counts if number]
    if supervisor.get("frozen"):
        parts.append("frozen")
    parts.append(strftime("%H:%M:%S", localtime(_number(now, "timestamp") or 0)))
    text = "  ".join(parts)
    return Line(f"{text}  {note}"[:width].rstrip(), ((len(text), width, "note"),))


def _hogs(supervisor: Record, width: int) -> Iterator[Line]:
    """The functions that kept the loop for too long, the most frequent first."""
    hogs = _records(supervisor, "hogs")
    for hog in hogs[:MOST_HOGS]:
        longest = (_number(hog, "longest") or 0) * 1000
        says = f"{count_text(_number(hog, 'count'))} times, longest {longest:.0f} ms"
        name = _shortened(printable(str(hog.get("function"))), max(1, width - len(says) - 6))
        yield Line(f"hog: {name} {says}"[:width])
    if len(hogs) > MOST_HOGS:
        yield Line(f"and {len(hogs) - MOST_HOGS} more functions"[:width])


def page(now: Record, before: Record | None, *, width: int, height: int | None = None, note: str = "") -> list[Line]:
    """All that is shown: a head line, the queues, the pools, and the hogs if there are any.

    Args:
      now: a snapshot.
      before: an earlier one of the same program, for what is counted per second.
      width: characters of a line.
      height: lines; None: as many as there are.
      note: goes behind the head line.
    """
    supervisor: Record = now["supervisor"]
    queues = _queues(now, before)
    pools = [Row(each, {}, 0) for each in _records(supervisor, "pools")]
    hogs = list(_hogs(supervisor, width))
    names = [str(row.now.get("name")) for row in queues]
    upper = table("workqueue", names, QUEUE_COLUMNS, queues, width)
    columns = pool_columns(_number(supervisor, "capacity"))
    lower = table("pool", [_pool_name(row.now) for row in pools], columns, pools, width)
    if height is not None:
        # The head and two empty lines; the pools keep at least their heading and a row, and hogs what is left.
        room = max(6, height - 3)
        upper = _cropped(upper, room - min(3, len(lower)), "queues", width)
        lower = _cropped(lower, room - len(upper), "pools", width)
        hogs = hogs[: max(0, room - len(upper) - len(lower) - 1)]
    return [_head(now, width, note), Line(""), *upper, Line(""), *lower, *([Line(""), *hogs] if hogs else [])]


def _cropped(lines: list[Line], height: int, what: str, width: int) -> list[Line]:
    """A table in as many lines; the last one says how much is missing."""
    if len(lines) <= height:
        return lines
    kept = lines[: max(1, height - 1)]
    return [*kept, Line(f"... and {len(lines) - len(kept)} more {what}"[:width])]
