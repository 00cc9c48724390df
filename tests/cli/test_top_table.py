"""The tables of ``ktrio top``: which columns, what is in them, and what becomes of them where there is no room."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktrio.cli._top_table import LONGEST_NAME, QUEUE_COLUMNS, count_text, page, table

KERNEL = ["total", "infl", "CPUtime", "CPUhog", "CMW/RPR", "mayday", "rescued"]


def queue(name: str = "jobs", **changed: object) -> dict:
    return {
        "name": name,
        "flags": [],
        "max_active": 4,
        "nr_active": 3,
        "inactive": 2,
        "pending": 2,
        "running": 9,
        "parked": 6,
        "started": 1234,
        "cpu_time": 12.34,
        "cpu_intensive": 7,
        "cm_wakeups": 11,
        "failed": 0,
        "draining": False,
        "pwqs": [{}, {}],
        **changed,
    }


def rescued(name: str = "rescued") -> dict:
    return queue(name, flags=["WQ_MEM_RECLAIM"], mayday=5, rescued=8)


def pool(cpu: int = 0, **changed: object) -> dict:
    return {
        "cpu": cpu,
        "bound": True,
        "highpri": False,
        "nr_workers": 9,
        "nr_idle": 2,
        "nr_running": 1,
        "occupied": 3,
        "starting": 0,
        "parked": 6,
        "worklist": 2,
        "created": 12,
        "culled": 3,
        "at_capacity": 0,
        **changed,
    }


def snapshot(*queues: dict, pools: list[dict] | None = None, seconds: float = 100.0, **changed: object) -> dict:
    return {
        "ktrio": "0.1.0",
        "protocol": 1,
        "pid": 4711,
        "timestamp": 0.0,
        "seconds": seconds,
        "supervisor": {
            "cpus": 2,
            "capacity": 512,
            "workqueues": list(queues),
            "pools": [pool()] if pools is None else pools,
            "hogs": [],
            "threads": 0,
            **changed,
        },
    }


def texts(now: dict, before: dict | None = None, *, width: int = 200, height: int | None = None) -> list[str]:
    return [line.text.rstrip() for line in page(now, before, width=width, height=height)]


def cells(now: dict, before: dict | None = None, *, width: int = 200, which: str = "workqueue") -> list[dict[str, str]]:
    """The rows of a table, by heading."""
    lines = texts(now, before, width=width)
    at = next(index for index, line in enumerate(lines) if line.startswith(which))
    headings = lines[at].split()
    rows = []
    for line in lines[at + 1 :]:
        if not line:
            break
        values = line.rsplit(maxsplit=len(headings) - 1)
        rows.append(dict(zip(headings, values, strict=True)))
    return rows


def headings(width: int, *queues: dict) -> list[str]:
    return texts(snapshot(*queues), width=width)[2].split()[1:]


def test_columns_are_those_of_wq_monitor_under_its_names_and_what_it_lacks() -> None:
    [row] = cells(snapshot(rescued("jobs")))
    assert {name: row[name] for name in KERNEL} == {
        "total": "1234",
        "infl": "9",
        "CPUtime": "12.3",
        "CPUhog": "7",
        "CMW/RPR": "11",
        "mayday": "5",
        "rescued": "8",
    }
    assert (row["pend"], row["inact"], row["park"], row["active/max"]) == ("2", "2", "6", "3/8")
    order = [column.heading for column in QUEUE_COLUMNS]
    assert [name for name in order if name in KERNEL] == KERNEL


def test_counts_that_mean_nothing_for_a_queue_are_absent_as_in_the_kernel() -> None:
    unbound, plain = cells(snapshot(queue(flags=["WQ_UNBOUND"]), queue("plain", mayday=0, rescued=0)))
    assert (unbound["CPUhog"], unbound["CMW/RPR"]) == ("-", "-")
    assert (plain["CPUhog"], plain["CMW/RPR"]) == ("7", "11")
    assert (plain["mayday"], plain["rescued"]) == ("-", "-")


@pytest.mark.parametrize("name", [name for name in queue() if name not in ("name", "flags", "pwqs", "draining")])
def test_counter_that_a_program_does_not_have_is_absent_and_the_rest_is_shown(name: str) -> None:
    partly = queue()
    del partly[name]
    [row] = cells(snapshot(partly))
    [whole] = cells(snapshot(queue()))
    assert set(row) == set(whole)
    assert sum(row[each] != whole[each] for each in row) <= 1


def test_rates_are_between_two_snapshots_and_absent_without_an_earlier_one() -> None:
    before = snapshot(queue(started=1000, cpu_time=10.0), seconds=98.0)
    now = snapshot(queue(started=1234, cpu_time=10.5), queue("new"), seconds=100.0)
    old, new = cells(now, before)
    assert (old["/s"], old["CPU%"]) == ("117", "25")
    assert (new["/s"], new["CPU%"]) == ("-", "-")
    assert cells(now)[0]["/s"] == "-"
    assert cells(now, now)[0]["/s"] == "-"  # no time has passed


def test_queues_of_the_same_name_are_kept_apart() -> None:
    before = snapshot(queue(started=0), queue(started=100), seconds=99.0)
    now = snapshot(queue(started=50), queue(started=120), seconds=100.0)
    assert [row["/s"] for row in cells(now, before)] == ["50", "20"]


def test_queue_that_is_another_one_of_that_name_has_no_negative_rate() -> None:
    before = snapshot(queue(started=100), seconds=99.0)
    assert cells(snapshot(queue(started=1)), before)[0]["/s"] == "-"


def test_kinds_of_queues_are_told() -> None:
    kinds = [["WQ_UNBOUND", "WQ_HIGHPRI"], ["WQ_CPU_INTENSIVE"], []]
    ordered = queue("one", flags=["WQ_UNBOUND"], max_active=1, nr_active=1, ordered=True, frozen=True)
    rows = cells(snapshot(*(queue(flags=flags, draining=not flags) for flags in kinds), ordered))
    assert [row["flags"] for row in rows] == [
        "unbound,highpri",
        "bound,cpu_intensive",
        "bound,draining",
        "unbound,ordered,frozen",
    ]
    assert rows[3]["active/max"] == "1/1"


def test_pools_are_below() -> None:
    unbound = pool(1, bound=False, nr_running=0)
    lines = texts(snapshot(queue(), pools=[pool(0, highpri=True), unbound]))
    assert lines[5].split() == (
        [
            "pool",
            "workers",
            "idle",
            "running",
            "parked",
            "starting",
            "occupied",
            "worklist",
            "at_cap",
            "created",
            "culled",
        ]
    )
    assert lines[6].split() == ["0", "bound", "highpri", "9", "2", "1", "6", "0", "3/512", "2", "0", "12", "3"]
    assert lines[7].split() == ["1", "unbound", "9", "2", "-", "6", "0", "3/512", "2", "0", "12", "3"]


def test_head_line_says_whose_it_is() -> None:
    assert texts(snapshot())[0].startswith("ktrio 0.1.0  pid 4711  2 simulated CPUs  ")
    assert "2 simulated CPUs  3 threads  12 timers  frozen  " in texts(snapshot(threads=3, timers=12, frozen=True))[0]


def test_eighty_columns_have_what_the_kernel_shows_and_the_backlog() -> None:
    shown = headings(80, rescued("http"), queue("background"))
    assert {*KERNEL, "pend", "inact"} <= set(shown)


def test_columns_without_a_word_for_any_queue_go_first() -> None:
    assert {"mayday", "rescued"} & set(headings(80, queue())) == set()
    assert {"park", "active/max"} <= set(headings(80, queue()))
    assert {"mayday", "rescued"} <= set(headings(200, queue()))


def test_columns_go_one_after_another_as_it_gets_narrower_and_the_backlog_stays_to_the_end() -> None:
    before = headings(200, rescued())
    for width in range(199, 8, -1):
        shown = headings(width, rescued())
        assert set(shown) <= set(before)
        before = shown
    assert headings(27, rescued()) == ["infl", "pend", "inact"]
    assert headings(16, rescued()) == ["infl"]


@given(
    st.lists(st.builds(queue, st.text(max_size=30), started=st.integers(0, 10**15)), max_size=4),
    st.integers(1, 200),
    st.integers(1, 60),
)
def test_no_line_is_wider_and_no_page_longer_than_the_terminal(queues: list[dict], width: int, height: int) -> None:
    now = snapshot(*queues, pools=[pool(each) for each in range(8)], hogs=[{"function": "f" * 90, "count": 3}] * 9)
    lines = texts(now, width=width, height=height)
    wide = [line for line in lines if not any(unicodedata.east_asian_width(each) in "WF" for each in line)]
    assert max(map(len, wide), default=0) <= width
    assert len(lines) <= max(height, 9)


def test_what_does_not_fit_in_height_is_counted() -> None:
    now = snapshot(*(queue(f"q{each}") for each in range(30)), pools=[pool(each) for each in range(10)])
    lines = texts(now, height=24)
    assert len(lines) == 24
    assert "... and 14 more queues" in lines
    assert lines[-1] == "... and 9 more pools"
    assert len(texts(now)) == 1 + 1 + 31 + 1 + 11


def test_hogs_are_named_with_their_worst() -> None:
    hogs = [{"function": f"app.jobs.f{each}", "count": 9 - each, "longest": 0.0341} for each in range(7)]
    lines = texts(snapshot(queue(), hogs=hogs))
    assert "hog: app.jobs.f0 9 times, longest 34 ms" in lines
    assert lines[-1] == "and 2 more functions"


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (None, "-"),
        (0, "0"),
        (9_999_999, "9999999"),
        (12_345_678, "12.3M"),
        (5e9, "5.0G"),
        (7e12, "7.0T"),
        (7e17, "700.0P"),
    ],
)
def test_counts_stay_narrow(number: float | None, text: str) -> None:
    assert count_text(number) == text


def test_what_is_short_stands_out() -> None:
    lines = page(snapshot(queue(inactive=2, cpu_intensive=0)), None, width=80)
    [(start, end, what)] = lines[3].marks
    assert (lines[3].text[start:end].strip(), what) == ("2", "alert")
    assert page(snapshot(queue(inactive=0, cpu_intensive=0)), None, width=80)[3].marks == ()


def test_long_names_show_their_end_as_in_wq_monitor_and_no_name_moves_the_cursor() -> None:
    long = "jobs-of-" + "x" * 30 + "-the-end"
    lines = texts(snapshot(queue(long), queue("\x1b[2Jboo\n"), queue("工作佇列")))
    assert lines[3].startswith("…")
    assert "-the-end " in lines[3][: LONGEST_NAME + 1]
    assert lines[4].startswith("\\x1b[2Jboo\\n ")
    assert "\x1b" not in "".join(lines)
    ends = {line.index("12.3") + sum(unicodedata.east_asian_width(each) == "W" for each in line) for line in lines[3:6]}
    assert len(ends) == 1, "columns are aligned, wide characters or not"


@pytest.mark.parametrize(
    "strange", [{}, {"workqueues": 3, "pools": None, "hogs": "x"}, {"workqueues": [1, {}], "pools": [{}]}]
)
def test_snapshot_of_another_version_is_shown_as_far_as_it_is_understood(strange: dict) -> None:
    now = {**snapshot(), "supervisor": strange}
    assert texts(now, now)[0].startswith("ktrio 0.1.0")


def test_table_without_rows_is_its_heading() -> None:
    [line] = table("workqueue", [], QUEUE_COLUMNS, [], 80)
    assert line.text.startswith("workqueue")
