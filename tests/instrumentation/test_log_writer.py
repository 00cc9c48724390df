"""Lines are gathered, written by a thread, and lost only where nothing else is left; the loop never waits for them."""

from __future__ import annotations

import logging
from contextlib import nullcontext

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from ktrio.instrumentation import log_writer
from ktrio.instrumentation.log_writer import INTERVAL, RETRY, open_log_writer
from tests.instrumentation.logging_parts import MemorySink


@pytest.fixture
def sink():
    return MemorySink()


async def settle():
    """Let everything run, threads too."""
    while True:
        await wait_all_tasks_blocked(0.001)
        if not trio.lowlevel.current_statistics().tasks_runnable:
            return


async def until(condition):
    """Wait for what a thread does, without moving the time."""
    with trio.fail_after(100_000):
        while not condition():
            await wait_all_tasks_blocked(0.001)


async def advance(clock: MockClock, seconds: float):
    await wait_all_tasks_blocked()
    clock.jump(seconds)
    await wait_all_tasks_blocked()


async def test_lines_are_gathered_and_written_in_one_batch(sink, mock_clock):
    async with open_log_writer(sink) as writer:
        writer.write("one")
        await advance(mock_clock, INTERVAL / 2)
        writer.write("two")
        assert sink.files == [b""]
        await advance(mock_clock, INTERVAL / 2)
        await until(lambda: writer.statistics().written == 2)
        assert (sink.files, sink.calls) == ([b"one\ntwo\n"], 1)


async def test_a_lot_of_lines_does_not_wait_for_the_interval(sink, mock_clock):
    async with open_log_writer(sink) as writer:
        await wait_all_tasks_blocked()
        for _ in range(300):
            writer.write("x" * 1023)
        await until(lambda: writer.statistics().written >= 256)
        assert writer.statistics().written + writer.statistics().waiting == 300


async def test_idle_writer_asks_no_thread(sink, mock_clock):
    async with open_log_writer(sink):
        await advance(mock_clock, 3600)
        assert sink.calls == 0


async def test_flush_waits_until_all_is_written(sink, mock_clock):
    async with open_log_writer(sink) as writer:
        for number in range(5000):
            writer.write(f"{number:0200}")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(writer.flush)
            while nursery.child_tasks:
                await advance(mock_clock, INTERVAL)
                await until(lambda: writer.statistics().waiting == 0 or mock_clock.jump(INTERVAL))
        assert sink.files[0].count(b"\n") == 5000


async def test_flush_of_nothing_is_a_checkpoint(sink):
    async with open_log_writer(sink) as writer:
        with trio.testing.assert_checkpoints():
            await writer.flush()


@pytest.mark.parametrize("how", ["end", "error", "cancelled"])
async def test_leaving_the_block_writes_the_rest_and_closes(sink, how):
    async def use():
        async with open_log_writer(sink) as writer:
            for number in range(4000):
                writer.write(f"{number:0100}")
            if how == "error":
                raise KeyError("mine")
            if how == "cancelled":
                scope.cancel()
                await trio.sleep_forever()
        return writer

    with trio.CancelScope() as scope, pytest.raises(KeyError, match="mine") if how == "error" else nullcontext():
        await use()
    assert scope.cancelled_caught == (how == "cancelled")
    assert sink.files[0] == b"".join(b"%0100d\n" % number for number in range(4000))
    assert sink.closed == 1


async def test_error_of_the_block_outlives_a_cancellation(sink):
    async def use():
        async with open_log_writer(sink) as writer:
            writer.write("line")
            scope.cancel()
            raise KeyError

    with trio.CancelScope() as scope, pytest.raises(KeyError):
        await use()
    assert sink.files == [b"line\n"]


async def test_sink_that_does_not_come_back_is_left_after_a_second(sink, mock_clock, caplog):
    sink.gate.clear()
    try:
        async with trio.open_nursery() as nursery:

            async def use():
                async with open_log_writer(sink) as writer:
                    writer.write("stuck")
                    writer.write("behind")
                assert writer.statistics().dropped == 2

            nursery.start_soon(use)
            await until(lambda: sink.calls)
            assert nursery.child_tasks
            await advance(mock_clock, 1.01)
        assert sink.closed == 0, "its thread may still write to it"
        assert "the last 2 lines of the log memory are lost" in caplog.text
    finally:
        sink.gate.set()


async def test_slow_sink_costs_lines_that_are_counted_and_never_the_loop(sink, mock_clock, caplog, monkeypatch):
    monkeypatch.setattr(log_writer, "MOST_BYTES", 1000)
    sink.gate.clear()
    try:
        async with open_log_writer(sink) as writer:
            writer.write("x" * 99)
            await advance(mock_clock, INTERVAL)
            await until(lambda: sink.calls)
            for _ in range(20):
                writer.write("y" * 99)
            assert (writer.statistics().waiting, writer.statistics().dropped) == (10, 11)
            assert caplog.text == ""  # the error log may be just as slow
            sink.gate.set()
            await until(lambda: writer.statistics().written == 1)
            await advance(mock_clock, INTERVAL)
            await until(lambda: writer.statistics().written == 10)
            writer.write("room again")
        assert sink.files[0].count(b"\n") == 11
        assert [record.getMessage() for record in caplog.records] == ["the log memory was slow; 11 lines were dropped"]
    finally:
        sink.gate.set()


async def test_full_disk_is_said_once_and_the_log_goes_on_where_it_stopped(sink, mock_clock, caplog, monkeypatch):
    """Not a byte is lost or written twice, though a line had been written by half."""
    monkeypatch.setattr(log_writer, "MOST_BYTES", 1000)
    sink.room = 13
    async with open_log_writer(sink) as writer:
        for number in range(5):
            writer.write(f"line {number}..")
        await advance(mock_clock, INTERVAL)
        await until(lambda: writer.statistics().failing)
        assert sink.files == [b"line 0..\nline"]
        for _ in range(3):
            calls = sink.calls
            await advance(mock_clock, RETRY)
            await until(lambda before=calls: sink.calls > before)
        await settle()
        for _ in range(200):
            writer.write("line 5..")
        dropped = writer.statistics().dropped
        assert dropped > 0
        sink.room = None
        await advance(mock_clock, RETRY)
        await until(lambda: not writer.statistics().failing)
    assert sink.files[0].startswith(b"line 0..\nline 1..\nline 2..\nline 3..\nline 4..\nline 5..\nline 5..\n")
    assert sink.files[0].count(b"\n") == 5 + 200 - dropped
    error, warning = caplog.records
    assert (
        error.getMessage() == "cannot write the log memory: No space left on device; lines wait, then they are dropped"
    )
    assert warning.getMessage() == f"the log memory is written again; {dropped} lines were dropped"
    assert (error.levelno, warning.levelno) == (logging.ERROR, logging.WARNING)


async def test_broken_sink_at_the_end_costs_no_time(sink, caplog):
    sink.room = 0
    async with open_log_writer(sink) as writer:
        writer.write("lost")
    assert writer.statistics().dropped == 1
    assert sink.closed == 1
    assert len(caplog.records) == 2


# -- Opening the file anew


async def test_reopening_writes_what_there_is_to_the_old_file_first(sink, mock_clock):
    async with open_log_writer(sink) as writer:
        writer.write("old")
        writer.reopen()
        await until(lambda: len(sink.files) == 2)
        writer.write("new")
    assert sink.files == [b"old\n", b"new\n"]


async def test_reopening_an_idle_log_happens_at_once(sink, mock_clock):
    async with open_log_writer(sink) as writer:
        await wait_all_tasks_blocked()
        writer.reopen()
        await until(lambda: len(sink.files) == 2)


async def test_reopening_while_a_thread_writes_comes_after_it(sink, mock_clock):
    sink.gate.clear()
    try:
        async with open_log_writer(sink) as writer:
            writer.write("in hand")
            await advance(mock_clock, INTERVAL)
            await until(lambda: sink.calls)
            writer.write("gathered")
            writer.reopen()
            sink.gate.set()
            await until(lambda: len(sink.files) == 2)
        assert b"".join(sink.files) == b"in hand\ngathered\n"
        assert all(each == b"" or each.endswith(b"\n") for each in sink.files)
    finally:
        sink.gate.set()


async def test_reopening_from_a_full_disk_drops_the_torn_line_and_no_other(sink, mock_clock):
    sink.room = 6
    async with open_log_writer(sink) as writer:
        for line in ("one", "two", "three"):
            writer.write(line)
        await advance(mock_clock, INTERVAL)
        await until(lambda: writer.statistics().failing)
        original = sink.reopen

        def reopen():
            original()
            sink.room = None

        sink.reopen = reopen
        writer.reopen()
        await until(lambda: len(sink.files) == 2)
    assert sink.files == [b"one\ntw", b"three\n"]
    assert (writer.statistics().written, writer.statistics().dropped) == (2, 1)


async def test_reopening_that_fails_leaves_the_old_file_in_use(sink, mock_clock, caplog):
    sink.reopen_error = PermissionError(13, "Permission denied")
    async with open_log_writer(sink) as writer:
        writer.reopen()
        await until(lambda: writer.statistics().failing)
        writer.write("still here")
    assert sink.files == [b"still here\n"]
    assert "cannot write the log memory: Permission denied" in caplog.text


async def test_repr_shows_counts(sink):
    async with open_log_writer(sink) as writer:
        writer.write("x")
        assert repr(writer) == "<LogWriter memory written=0 waiting=1>"
