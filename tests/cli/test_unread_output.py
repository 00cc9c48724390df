"""Nobody reads what a command says: a full pipe holds up no request, no question and no end; nor does a narrator."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ktrio.cli import _terminal
from tests.cli.conftest import Start
from tests.cli.peers import Peer
from tests.cli.processes import ENVIRONMENT, KTRIO, LIMIT


def fill(descriptor: int) -> None:
    """Until the pipe takes nothing any more; blocking again afterwards."""
    os.set_blocking(descriptor, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(descriptor, b"x" * select.PIPE_BUF)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(descriptor, b"x")
    os.set_blocking(descriptor, True)


def read_what_is_there(descriptor: int) -> bytes:
    os.set_blocking(descriptor, False)
    found = b""
    with contextlib.suppress(BlockingIOError):
        while piece := os.read(descriptor, 1 << 16):
            found += piece
    return found


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    os.close(reading)
    os.close(writing)


def say_into(descriptor: int, text: str) -> None:
    """With that as standard output."""
    with os.fdopen(os.dup(descriptor), "w", encoding="utf-8") as stream, contextlib.redirect_stdout(stream):
        _terminal.say(text)


def test_what_a_full_pipe_does_not_take_is_dropped(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    fill(writing)
    say_into(writing, "dropped")
    read_what_is_there(reading)
    say_into(writing, "said")
    assert read_what_is_there(reading) == b"said\n"


def test_long_text_ends_where_the_pipe_is_full_at_the_end_of_a_line(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    line = "ä" * 60
    say_into(writing, "\n".join([line] * 10_000))
    lines = read_what_is_there(reading).decode().split("\n")
    assert 1 < len(lines) < 10_000
    assert set(lines[:-1]) == {line}
    assert lines[-1] == ""


def test_text_longer_than_a_piece_is_said_whole_where_there_is_room(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    text = "\n".join(f"line {number}" for number in range(3000))
    say_into(writing, text)
    assert read_what_is_there(reading).decode() == text + "\n"


@pytest.mark.slow
def test_server_whose_output_is_a_full_pipe_serves_answers_questions_and_ends(
    pipe: tuple[int, int], folder: Path
) -> None:
    fill(pipe[1])
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as sock:
        arguments = [*KTRIO, "serve", str(folder), "--fd", str(listener.fileno())]
        process = subprocess.Popen(arguments, stdout=pipe[1], pass_fds=[listener.fileno()], env=ENVIRONMENT)
        try:
            sock.settimeout(LIMIT)
            sock.connect(listener.getsockname())
            peer = Peer(sock)
            for _ in range(3):
                assert peer.get("small.txt").status == 200
                process.send_signal(signal.SIGQUIT)
            assert peer.get("small.txt").status == 200
            process.send_signal(signal.SIGTERM)
            assert process.wait(LIMIT) == 0
        finally:
            process.kill()
            process.wait()


CLUMSY = """
import sys
from ktrio.commands import describe, run_echo_command
from ktrio.config import CommandSettings, TcpAddress

class Clumsy:
    def started(self, server):
        print("ktrio here at", describe(server.addresses[0]), flush=True)
        raise ValueError("started")
    def draining(self, server):
        raise ValueError("draining")
    def waiting(self, server):
        raise ValueError("waiting")
    def asked(self, server):
        print("asked", flush=True)
        raise ValueError("asked")
    def ended(self, server, seconds):
        raise ValueError("ended")

sys.exit(run_echo_command(CommandSettings(addresses=(TcpAddress("127.0.0.1", 0),)), Clumsy()))
"""


@pytest.mark.slow
def test_narrator_that_raises_is_logged_and_harms_nobody(start: Start) -> None:
    program = start("-c", CLUMSY, command=[sys.executable])
    peer = Peer(program.connect())
    for count in (1, 2):
        program.send_signal(signal.SIGQUIT)
        program.out.wait_for_matches("^asked$", count)
        peer.send(b"x")
        assert peer.read(1) == b"x"
    assert program.stop() == 0
    for what in ("started", "asked", "draining", "ended"):
        assert f"ValueError: {what}" in program.said
