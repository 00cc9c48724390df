"""SIGQUIT (Ctrl-\\) is a question: the table of connections, as often as it is asked, and nothing ends by it."""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Callable

import pytest

from tests.cli.conftest import Start
from tests.cli.peers import Peer, begin_download
from tests.cli.processes import KTRIO, Program, assert_served_cleanly

pytestmark = [pytest.mark.slow, pytest.mark.exhaustive]

Serve = Callable[..., Program]

HEADING = r"^\d+ connections? open: "


def ask(program: Program, count: int = 1) -> list[str]:
    """The lines of the `count`-th table, at least its heading."""
    program.send_signal(signal.SIGQUIT)
    program.out.wait_for_matches(HEADING, count)
    return program.out.lines


def test_table_is_printed_as_often_as_it_is_asked_for(serve: Serve) -> None:
    program = serve()
    peers = [Peer(program.connect()) for _ in range(3)]
    for peer in peers:
        assert peer.get("small.txt").status == 200
    for count in (1, 2, 3):
        ask(program, count)
    program.out.wait_for_matches(r"^  127\.0\.0\.1:\d+ +127\.0\.0\.1:\d+ +idle ", 9)
    assert len([line for line in program.out.lines if line.startswith("3 connections open: 3 quiet, 0 busy")]) == 3
    assert peers[0].get("small.txt").status == 200
    assert program.stop() == 0
    assert program.out.find(r"^served 4 · cut 0 ·")
    assert_served_cleanly(program)


def test_it_does_not_count_among_the_signals_that_end(serve: Serve) -> None:
    program = serve("--grace", "3600")
    begin_download(Peer(program.connect(receive_buffer=4096)), "big.bin")
    for count in range(1, 5):
        ask(program, count)
    program.send_signal(signal.SIGINT)
    program.out.wait_for("^draining: ")
    ask(program, 5)
    assert program.out.wait_for(r"^1 connection open: .* 1 in progress, draining; ")
    program.out.wait_for(r" writing .* write \d+\.\d s ")
    assert program.stop(signal.SIGINT) == 130
    assert program.out.find(r"^served 0 · cut 1 ·")
    assert_served_cleanly(program)


def test_echo_answers_too_and_even_when_it_is_told_to_be_quiet(echo: Callable[..., Program]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        program = echo("--quiet", "--fd", str(listener.fileno()), pass_fds=[listener.fileno()])
        peer = Peer(program.connect(address=listener.getsockname()))
        peer.send(b"x")
        assert peer.read(1) == b"x"  # it has started, though it has not said so
        ask(program)
        assert program.stop(signal.SIGTERM) == 0
    assert not program.out.find("^(served|draining:|ktrio)")


def test_storm_of_questions_harms_nobody(serve: Serve) -> None:
    program = serve()
    peer = Peer(program.connect())
    for _ in range(20):
        for _ in range(50):
            program.send_signal(signal.SIGQUIT)
        assert peer.get("small.txt").status == 200
    program.out.wait_for(HEADING)
    assert program.stop() == 0
    assert_served_cleanly(program)


def test_before_the_server_has_started_it_does_no_harm(start: Start) -> None:
    # Other than SIGINT it ends nothing, so one run can take many; an imported module is an event to wait for. "logging"
    # is the first that `ktrio.cli` wants; until `ktrio.__main__` has got so far it is Python's start, beyond our reach.
    program = start("-X", "importtime", *KTRIO[1:], "serve", "--port", "0", command=[sys.executable])
    assert program.err is not None
    program.err.wait_for(r"\| +logging$")
    for module in ("click", "trio", "h11", "ktrio.serve", "ktrio.commands", "ktrio.cli"):
        program.send_signal(signal.SIGQUIT)
        program.err.wait_for(rf"\| +{module}$")
    program.send_signal(signal.SIGQUIT)
    assert program.port
    ask(program)
    assert program.stop() == 0
    assert "Traceback" not in program.said


FORMER = """
import os, signal, trio
from ktrio.server.signals import forwarding

asked = []

def former(signum, frame):
    asked.append("former")

async def main():
    signal.signal(signal.SIGQUIT, former)
    with forwarding(lambda signum, count: None):
        signal.raise_signal(signal.SIGQUIT)  # nobody wants to know: left alone
    told = trio.Event()

    def on_quit():
        asked.append("loop")
        told.set()

    with forwarding(lambda signum, count: None, on_quit):
        for _ in range(10):
            signal.raise_signal(signal.SIGQUIT)
        assert asked == ["former"], asked
        await told.wait()
    signal.raise_signal(signal.SIGQUIT)
    await trio.testing.wait_all_tasks_blocked()
    print(*asked)

trio.run(main)
"""


def test_question_is_put_in_the_loop_once_a_turn_and_the_former_handler_comes_back(start: Start) -> None:
    program = start("-c", FORMER.replace("import os, signal, trio", "import signal, trio, trio.testing"),
                    command=[sys.executable])  # fmt: skip
    assert program.wait() == 0
    assert program.out.lines == ["former loop former"]
    assert program.said == ""


@pytest.mark.parametrize("command", ["serve", "echo", None])
def test_help_says_how_to_ask(warm_start, command: str | None) -> None:
    ran = warm_start.run(*filter(None, [command]), "--help")
    assert "Ctrl-\\" in " ".join(ran.out.split())


BROKEN = """
import sys
import ktrio.commands

async def fail(request):
    raise ZeroDivisionError("a bug")

ktrio.commands.folder = lambda root, options: fail
from ktrio.cli import run
sys.exit(run(["serve", "--port", "0", *sys.argv[1:]]))
"""


def test_broken_server_says_so_in_one_line_and_ends_with_1(start: Start) -> None:
    program = start("-c", BROKEN, command=[sys.executable])
    peer = Peer(program.connect())
    for _ in range(100):
        assert peer.get("x").status == 500
    assert program.wait() == 1
    last = program.said.splitlines()[-1]
    assert last.startswith("ktrio serve: 100 unexpected errors in ")
    assert "ZeroDivisionError: a bug" in last
    critical = [line for line in program.said.splitlines() if "CRITICAL" in line]
    assert len(critical) == 1
    assert program.out.find("^draining: ")


def test_broken_server_has_the_budget_that_it_was_given(start: Start) -> None:
    program = start("-c", BROKEN, "--max-errors", "3", command=[sys.executable])
    peer = Peer(program.connect())
    for _ in range(3):
        assert peer.get("x").status == 500
    assert program.wait() == 1
    assert program.said.splitlines()[-1].startswith("ktrio serve: 3 unexpected errors in ")


def test_broken_server_goes_on_where_it_was_given_no_budget(start: Start) -> None:
    program = start("-c", BROKEN, "--max-errors", "0", command=[sys.executable])
    peer = Peer(program.connect())
    for _ in range(150):
        assert peer.get("x").status == 500
    assert program.stop() == 0
