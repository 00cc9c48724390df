"""The words of a listing: any name a disk can hold is shown safely, linked rightly, and sorted as people sort."""

from __future__ import annotations

import re

import hypothesis
import pytest
from hypothesis import strategies as st

from ktrio.handlers.listing import (
    icon_of,
    quote_name,
    show_exact_time,
    show_name,
    show_size,
    show_time,
    show_totals,
    sort_key,
)
from tests.handlers.pages import entry


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plain-1.txt", "plain-1.txt"),
        ("two  spaces ", "two  spaces "),
        ("\u05e9\u05dc\u05d5\u05dd.txt", "\u05e9\u05dc\u05d5\u05dd.txt"),
        ("\u202etxt.exe", "\u27e8U+202E\u27e9txt.exe"),  # would be read as "exe.txt"
        ("a\u2066b\u2069", "a\u27e8U+2066\u27e9b\u27e8U+2069\u27e9"),
        ("invoice\u200b.pdf", "invoice\u27e8U+200B\u27e9.pdf"),
        ("\ufeffname", "\u27e8U+FEFF\u27e9name"),
        ("a\u2028b", "a\u27e8U+2028\u27e9b"),
        ("\U0001f468\u200d\U0001f467", "\U0001f468\u200d\U0001f467"),  # joined: one picture
        ("\u0646\u0627\u0645\u0647\u200c\u0647\u0627", "\u0646\u0627\u0645\u0647\u200c\u0647\u0627"),
        ("tab\there", "tab\u2409here"),
        ("\ue000", "\ue000"),  # private: there may be a font for it
        ("\udc80\x9b", "\ufffd\ufffd"),
    ],
)
def test_what_is_invisible_in_a_name_or_turns_the_writing_around_is_made_visible(name, shown):
    assert show_name(name) == shown


@hypothesis.given(st.binary(min_size=1, max_size=60))
def test_names_are_quoted_in_ascii_and_shown_in_utf_8(raw):
    name = raw.decode("utf-8", "surrogateescape")
    assert re.fullmatch(r"[A-Za-z0-9._~%-]*", quote_name(name))
    shown = show_name(name)
    shown.encode("utf-8")
    assert not any(ord(character) < 32 for character in shown)


def test_names_are_sorted_as_people_sort():
    names = ["page10", "Page2", "page1", "b", "A", "a", "10", "9", "\u00e4c", "ab", "page 2", "2\u00b2", "007", ""]
    ordered = sorted(names, key=lambda name: sort_key(name, is_folder=False))
    assert ordered == [
        "",
        "2\u00b2",
        "007",
        "9",
        "10",
        "A",
        "a",
        "ab",
        "\u00e4c",
        "b",
        "page 2",
        "page1",
        "Page2",
        "page10",
    ]


@pytest.mark.slow
@hypothesis.given(st.lists(st.tuples(st.text(max_size=12), st.booleans())))
def test_any_names_can_be_sorted_and_folders_come_first(items):
    ordered = sorted(items, key=lambda item: sort_key(item[0], is_folder=item[1]))
    assert [is_folder for _, is_folder in ordered] == sorted((is_folder for _, is_folder in items), reverse=True)


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (10 * 1024, "10 KiB"),
        (1023 * 1024, "1023 KiB"),
        (1024 * 1024 - 1, "1.0 MiB"),
        (3 * 1024**3, "3.0 GiB"),
        (2**63 - 1, "8.0 EiB"),
        (2**74, "16384 EiB"),
    ],
)
def test_sizes_are_short(size, shown):
    assert show_size(size) == shown


def test_times_no_calendar_reaches_are_left_out():
    assert show_time(0) == "1970-01-01 00:00"
    assert show_time(-1) == "1969-12-31 23:59"
    for impossible in (1e18, -1e18, float("inf"), float("nan")):
        assert show_time(impossible) == ""
        assert show_exact_time(impossible) == ""


@pytest.mark.parametrize(
    ("timestamp", "shown"),
    [
        (1_000_000_000, "2001-09-09T01:46:40Z"),
        (1_000_000_000.999, "2001-09-09T01:46:40Z"),
        (-0.5, "1969-12-31T23:59:59Z"),
        (-62_135_596_800, "0001-01-01T00:00:00Z"),
        (253_402_300_799, "9999-12-31T23:59:59Z"),
    ],
)
def test_exact_times_are_those_of_rfc_3339_rounded_down(timestamp, shown):
    assert show_exact_time(timestamp) == shown


@pytest.mark.parametrize(
    ("name", "icon"),
    [
        *[
            ("a.md", "text"),
            ("a.json", "code"),
            ("a.html", "code"),
            ("a.py", "text"),
            ("a.jpg", "image"),
            ("a.svg", "image"),
            ("a.mp3", "media"),
        ],
        *[("a.mp4", "media"), ("a.zip", "archive"), ("a.tar.zst", "archive"), ("a.bin", "file"), ("Makefile", "file")],
    ],
)
def test_an_icon_tells_the_kind(name, icon):
    assert icon_of(entry(name)) == icon
    assert icon_of(entry(name, is_folder=True)) == "folder"


def test_the_last_line_counts():
    assert show_totals(0, 0, 0) == ""
    assert show_totals(1, 0, 0) == "1 folder"
    assert show_totals(0, 1, 5) == "1 file · 5 B"
    assert show_totals(2, 1200, 1200 * 1024) == "2 folders · 1,200 files · 1.2 MiB"
