"""The record of real clients: that it is there and whole, and the pure parts of what writes it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.real_clients.page import PAGE, cell, render, said_of, statuses_of
from tests.real_clients.record import TRIALS, try_one
from tests.real_clients.site import make_wheel
from tests.real_clients.trial import Place, Row, Trial, WrongError, tree_digests

ROWS = [
    Row("curl", "8.1", "fetched `a|b`", "ok (200)"),
    Row("wget", "1.2", "resumed", "failed: it\nended (206)"),
    Row("node", "", "`fetch`", "skipped: node is not installed"),
]


def test_the_page_has_a_row_for_each_trial():
    text = PAGE.read_text(encoding="utf-8")
    assert re.search(r"^\d{4}-\d\d-\d\d, ktrio \d", text, re.MULTILINE)
    for trial in TRIALS:
        assert re.search(
            rf"^\| {re.escape(trial.client)} \| .* \| {re.escape(cell(trial.did))} \| ", text, re.MULTILINE
        )


def test_what_failed_in_the_page_is_known():
    failed = re.findall(r"^\|.*\| failed.*$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert all(". Known: " in row for row in failed)


def test_a_page_counts_and_keeps_each_row_on_its_line():
    page = render(ROWS, date="2026-01-02", ktrio="0.1.0", python="3.13.1", system="Linux")
    assert "2026-01-02, ktrio 0.1.0, Python 3.13.1, Linux: 1 ok, 1 failed, 1 skipped." in page
    assert page.splitlines()[-3] == "| curl | 8.1 | fetched `a\\|b` | ok (200) |"
    assert page.splitlines()[-2] == "| wget | 1.2 | resumed | failed: it ended (206) |"


def test_statuses_are_counted_and_a_line_half_written_is_left_out():
    log = '{"status": 206}\n{"status": 200}\n{"status": 206}\n{"sta'
    assert said_of(statuses_of(log)) == "200, 2 x 206"
    assert said_of(statuses_of("")) == "nothing"


def made_up(run=lambda place: None, **more) -> Trial:
    return Trial("made-up", "did it", lambda: "1.0", run, **more)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "access.log").write_text("", encoding="utf-8")
    return Place("http://127.0.0.1:9/", tmp_path, tmp_path / "scratch")


def outcome_of(trial: Trial, place: Place) -> str:
    return try_one(trial, place, place.site / "access.log", settle=0).outcome


def test_a_client_that_is_not_installed_is_skipped_and_said_to_be(place):
    assert outcome_of(Trial("none", "did it", lambda: None, print), place) == "skipped: none is not installed"
    assert outcome_of(made_up(programs=("no-such",)), place) == "skipped: no-such is not installed"


def test_one_that_gets_something_else_has_failed(place):
    def run(place: Place) -> None:
        raise WrongError("other bytes")

    assert outcome_of(made_up(run, known="so it is"), place) == "failed: other bytes (nothing). Known: so it is"


def test_one_that_should_have_asked_for_a_part_and_did_not_has_failed(place):
    assert outcome_of(made_up(partial=True), place).startswith("failed: no part")


def test_one_that_gets_all_is_ok(place):
    assert outcome_of(made_up(), place) == "ok (nothing)"


def test_the_digests_of_a_tree_are_by_path_and_notice_one_byte(tmp_path):
    make_wheel(tmp_path / "wheels")
    before = tree_digests(tmp_path)
    assert list(before) == ["wheels/tiny-1.0-py3-none-any.whl"]
    wheel = tmp_path / "wheels" / "tiny-1.0-py3-none-any.whl"
    wheel.write_bytes(wheel.read_bytes()[:-1] + b"x")
    assert tree_digests(tmp_path) != before
    assert tree_digests(tmp_path, without=[wheel.name]) == {}
