"""The access log of a server: what it has lines for, where they go, and that it ends last."""

from __future__ import annotations

import json
import os
import re
import stat

import pytest
import trio

from ktrio import LogError, Response
from ktrio.instrumentation.access_log import AccessLog, open_access_log
from ktrio.instrumentation.log_formats import format_of
from ktrio.instrumentation.log_writer import open_log_writer
from ktrio.testing import serve_in_memory
from tests.instrumentation.logging_parts import MemorySink, details

UPLOAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n"
GET = b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n"


async def handler(request):
    if request.path == "/block":
        await trio.sleep_forever()
    return Response.text(request.id + (await request.read()).decode())


async def logged(log_format, sink, talk):
    """What is in the log after `talk` with a server, whose log is closed behind it."""
    async with (
        open_log_writer(sink) as writer,
        serve_in_memory(handler, tell=AccessLog(writer, format_of(log_format))) as memory,
    ):
        await talk(memory)
    return sink.files[-1].decode("ascii").splitlines()


async def test_line_of_a_request_has_the_id_that_its_handler_saw(mock_clock):
    async def talk(memory):
        bodies.append((await memory.request("GET", "/")).body)

    bodies = []
    (line,) = await logged("json", MemorySink(), talk)
    assert json.loads(line)["request_id"].encode() == bodies[0]


async def silence(memory, stream):
    await memory.advance(11)


async def half_a_head(memory, stream):
    await stream.send_all(b"GET / HT")
    await memory.advance(11)


async def half_a_body(memory, stream):
    await stream.send_all(UPLOAD)
    await memory.advance(31)


async def no_http(memory, stream):
    await stream.send_all(b"\x16\x03\x01\x00\r\n\r\n")


async def too_large_a_head(memory, stream):
    await stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\nY: " + b"y" * 40_000)


async def left_at_work(memory, stream):
    await stream.send_all(GET % b"block")
    await memory.settle()
    stream.reset()


async def reset_within_a_head(memory, stream):
    await stream.send_all(b"GET / HT")
    await memory.settle()
    stream.reset()


async def cut(memory, stream):
    await stream.send_all(GET % b"block")
    await memory.settle()
    memory.server.force_shutdown("second-signal")


@pytest.mark.parametrize(
    ("what", "request_line", "status", "reason"),
    [
        (silence, "-", None, "head-timeout"),
        (half_a_head, "-", 408, "head-timeout"),
        (half_a_body, "POST / HTTP/1.1", 408, "body-timeout"),
        (no_http, "-", 400, "bad-request"),
        (too_large_a_head, "-", 431, "bad-request"),
        (left_at_work, "GET /block HTTP/1.1", None, "client-gone"),
        (reset_within_a_head, "-", None, "peer-reset"),
        (cut, "GET /block HTTP/1.1", 503, "second-signal"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_every_end_without_an_answer_has_a_line_with_its_reason(mock_clock, what, request_line, status, reason):
    async def talk(memory):
        stream = memory.connect()
        await memory.settle()
        await what(memory, stream)
        await memory.settle()

    (line,) = await logged("json", MemorySink(), talk)
    found = json.loads(line)
    assert (found["status"], found["close_reason"]) == (status, reason)
    (line,) = await logged("combined", MemorySink(), talk)
    assert f'"{request_line}"' in line


async def test_log_that_cannot_be_written_costs_no_answer(mock_clock, caplog):
    async def talk(memory):
        for _ in range(3):
            assert (await memory.request("GET", "/")).status == 200
            await memory.advance(2)
        assert memory.server.statistics().errors == 0

    sink = MemorySink()
    sink.room = 0
    assert await logged("combined", sink, talk) == []
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]


# -- Files


async def test_file_is_appended_to_and_others_may_not_read_it(tmp_path):
    path = tmp_path / "access.log"
    for status in (200, 404):
        async with open_access_log(path, log_format="common") as log:
            log(details(status=status))
            await log.flush()
            assert log.statistics().written == 1
    assert re.findall(r'" (\d+) ', path.read_text()) == ["200", "404"]
    assert stat.S_IMODE(path.stat().st_mode) & 0o137 == 0


async def test_renamed_file_is_left_for_a_new_one(tmp_path):
    path = tmp_path / "access.log"
    async with open_access_log(path) as log:
        log(details(status=201))
        path.rename(tmp_path / "access.log.1")
        log(details(status=202))
        log.reopen()
        with trio.fail_after(10):
            while not path.exists():  # noqa: ASYNC110 - there is no event for what a thread does
                await trio.sleep(0.001)
        log(details(status=203))
    assert re.findall(r'" (\d+) ', (tmp_path / "access.log.1").read_text()) == ["201", "202"]
    assert re.findall(r'" (\d+) ', path.read_text()) == ["203"]


async def test_file_by_a_relative_name_stays_where_it_is_if_the_program_changes_its_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    async with open_access_log("access.log") as log:
        monkeypatch.chdir("/")
        log.reopen()
        log(details())
    assert (tmp_path / "access.log").read_text().count("\n") == 1


async def test_descriptor_stays_open_and_its_owners(tmp_path):
    with (tmp_path / "file").open("wb") as file:
        async with open_access_log(file.fileno()) as log:
            log.reopen()
            log(details())
        os.fstat(file.fileno())
    assert (tmp_path / "file").read_text().count("\n") == 1


@pytest.mark.parametrize(
    ("name", "why"), [(".", "it is a folder"), ("no/such", "no such folder; make it"), ("fifo", "nobody reads from it")]
)
async def test_file_that_cannot_be_opened_is_an_error_that_says_why(tmp_path, name, why):
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(LogError, match=f"cannot write a log to .*{name}.*{why}"):
        async with open_access_log(tmp_path / name):
            pass


async def test_format_that_is_none_is_an_error_before_anything_is_opened(tmp_path):
    with pytest.raises(ValueError, match="no log format"):
        async with open_access_log(tmp_path / "log", log_format="apache"):
            pass
    assert not (tmp_path / "log").exists()


async def test_repr_shows_counts(tmp_path):
    async with open_access_log(tmp_path / "log") as log:
        log(details())
        assert repr(log) == f"<AccessLog {tmp_path}/log written=0 waiting=1>"
