"""Records of errors: in a file that can be opened anew, a record at a time, and never something else than a record."""

from __future__ import annotations

import logging
import os

import pytest

from ktrio.instrumentation.error_log import ErrorLog, PrintableFormatter


@pytest.fixture
def logger(tmp_path):
    logger = logging.getLogger("tests.error_log")
    logger.propagate = False
    handler = ErrorLog(tmp_path / "error.log")
    logger.addHandler(handler)
    yield logger, handler, tmp_path / "error.log"
    logger.removeHandler(handler)
    handler.close()
    logger.propagate = True


def test_record_is_a_line_with_its_time_and_level(logger):
    log, _, path = logger
    log.error("the handler of %s raised", "GET /")
    line = path.read_text()
    assert line.endswith(" ERROR tests.error_log: the handler of GET / raised\n")
    assert line.startswith("20")


def test_traceback_is_indented_and_nothing_in_it_is_a_control_or_looks_like_a_record(logger):
    log, _, path = logger
    try:
        raise ValueError("\x1b[31mred\r\n2026-01-01 00:00:00,000 ERROR forged\x9b\x7f\u2028")
    except ValueError:
        log.exception("failed")
    first, *rest = path.read_text().splitlines()
    assert first.endswith("failed")
    assert all(line.startswith("  ") for line in rest)
    assert rest[0] == "  Traceback (most recent call last):"
    assert rest[-2:] == [r"  ValueError: \x1b[31mred\r", r"  2026-01-01 00:00:00,000 ERROR forged\x9b\x7f\u2028"]


def test_renamed_file_is_left_for_a_new_one(logger):
    log, handler, path = logger
    log.error("one")
    path.rename(path.with_suffix(".1"))
    log.error("two")
    handler.reopen()
    log.error("three")
    assert [each.read_text().split()[-1] for each in (path.with_suffix(".1"), path)] == ["two", "three"]


def test_file_that_cannot_be_opened_anew_leaves_the_old_one_in_use(logger, caplog):
    log, handler, path = logger
    path.rename(path.with_suffix(".1"))
    path.mkdir()
    handler.reopen()
    log.error("still here")
    assert "still here" in path.with_suffix(".1").read_text()
    assert "cannot open" in caplog.text


def test_record_that_cannot_be_written_goes_to_standard_error(capsys):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    handler = ErrorLog("/dev/full")
    for text in ("one", "two"):
        handler.handle(logging.makeLogRecord({"msg": text, "levelname": "ERROR", "name": "x"}))
    handler.close()
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "ktrio: cannot write /dev/full: No space left on device"
    assert [line.split()[-1] for line in said[1:]] == ["one", "two"]


def test_record_whose_arguments_do_not_fit_costs_nobody_anything(logger, capsys):
    _, handler, path = logger
    handler.handle(logging.makeLogRecord({"msg": "%s and %s", "args": ("one",)}))
    assert path.read_text() == ""
    assert "Logging error" in capsys.readouterr().err


def test_formatter_leaves_ordinary_text_alone():
    record = logging.makeLogRecord({"msg": "déjà vu\tand tabs", "levelname": "ERROR"})
    assert PrintableFormatter("%(message)s").format(record) == "déjà vu\tand tabs"
