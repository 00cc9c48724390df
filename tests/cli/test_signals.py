"""SIGINT and SIGTERM: the first begins the end, the second forces it, the third ends even a stuck loop."""

from __future__ import annotations

import random
import signal
import sys
from collections.abc import Callable

import pytest

from tests.cli.conftest import Start
from tests.cli.peers import Peer, begin_download, wait_closed
from tests.cli.processes import KTRIO, Program, assert_served_cleanly

pytestmark = [pytest.mark.slow, pytest.mark.exhaustive]

Serve = Callable[..., Program]

SIGNALS = pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])


@pytest.mark.parametrize(("command", "signum"), [("serve", signal.SIGINT), ("echo", signal.SIGTERM)])
def test_idle_server_ends_with_0_at_the_first_signal(start: Start, command: str, signum: signal.Signals) -> None:
    program = start(command, "--port", "0")
    idle = [program.connect() for _ in range(3)]
    assert program.stop(signum) == 0
    wait_closed(idle)
    assert program.out.find(r"^draining: ")
    assert program.out.find(r"^served \d · cut 0 · \d+\.\d s$")
    assert program.out.lines[-1].startswith("served ")
    assert program.said == ""


@pytest.mark.parametrize(
    ("first", "second", "status"),
    [
        (signal.SIGINT, signal.SIGINT, 130),
        (signal.SIGTERM, signal.SIGTERM, 143),
        (signal.SIGINT, signal.SIGTERM, 143),
        (signal.SIGTERM, signal.SIGINT, 130),
    ],
)
def test_second_signal_cuts_at_once_and_gives_the_status(
    serve: Serve, first: signal.Signals, second: signal.Signals, status: int
) -> None:
    program = serve("--grace", "3600")
    peer = Peer(program.connect(receive_buffer=4096))
    owed = begin_download(peer, "big.bin")
    program.send_signal(first)
    program.out.wait_for(r"^draining: .*\b1 in progress")
    assert program.stop(second) == status
    assert program.out.find(r"^served 0 · cut 1 · \d+\.\d s$")
    assert peer.drop() < owed
    assert_served_cleanly(program)


def test_second_signal_that_forces_nothing_does_not_spoil_the_status(serve: Serve) -> None:
    # Both signals are waiting when the stopped server goes on; an idle connection would have closed anyway.
    program = serve()
    assert Peer(program.connect()).get("small.txt").status == 200
    program.send_signal(signal.SIGSTOP, signal.SIGINT, signal.SIGTERM, signal.SIGCONT)
    assert program.wait() == 0
    assert program.out.find(r"^served 1 · cut 0 ·")
    assert_served_cleanly(program)


def test_signals_that_come_all_at_once_end_it_without_a_traceback(serve: Serve) -> None:
    program = serve("--grace", "3600")
    begin_download(Peer(program.connect(receive_buffer=4096)), "big.bin")
    for _ in range(50):
        if program.process.poll() is not None:
            break
        program.send_signal(signal.SIGINT, signal.SIGTERM)
    assert program.wait() in (130, 143)
    assert_served_cleanly(program)


STUCK = """
import os, trio
from ktrio.server.signals import forwarding

async def main():
    with forwarding(lambda signum, count: print("told", flush=True)):
        os.write(1, b"stuck\\n")
        while os.read(0, 1):  # a loop that never gets back to Trio
            os.write(1, b"alive\\n")

trio.run(main)
"""


@SIGNALS
def test_third_signal_ends_a_stuck_loop(start: Start, signum: signal.Signals) -> None:
    program = start("-c", STUCK, command=[sys.executable])
    program.out.wait_for("^stuck")
    for count in (1, 2):
        program.send_signal(signum)
        program.poke()  # it says that it is alive, after its handler has seen the signal
        assert len(program.out.wait_count(1 + count)) == 1 + count, "two signals must not end it"
    program.send_signal(signum)
    assert program.wait() == 128 + signum
    assert program.out.lines == ["stuck", "alive", "alive"]
    assert_served_cleanly(program)


def test_signals_reach_their_callback_in_the_loop_one_by_one(start: Start) -> None:
    signum = signal.SIGINT
    source = STUCK.replace("while os.read(0, 1):", "while await trio.to_thread.run_sync(os.read, 0, 1):")
    program = start("-c", source.replace('"told"', '"told", int(signum), count'), command=[sys.executable])
    program.out.wait_for("^stuck")
    for count in (1, 2):
        program.send_signal(signum)
        program.out.wait_for(f"^told {signum:d} {count}$")
    program.send_signal(signum)  # for a third one the loop is not asked
    assert program.wait() == 128 + signum


def started_modules(stderr: str) -> list[str]:
    """The modules that ``-X importtime`` has reported."""
    return [line.rpartition("|")[2].strip() for line in stderr.splitlines() if line.startswith("import time:")]


@pytest.fixture(scope="module")
def modules_of_a_start(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What is imported, in order, from the first line of ktrio's own to the address line."""
    program = Program("-X", "importtime", *KTRIO[1:], "serve", "--port", "0", command=[sys.executable])
    try:
        assert program.port
        program.stop()
    finally:
        program.close()
    return started_modules(program.said)


@SIGNALS
def test_signal_before_the_address_line_ends_it_without_a_traceback(
    start: Start, modules_of_a_start: list[str], signum: signal.Signals
) -> None:
    # "At a random moment" is "when a random module has been imported", so that the test waits for an event.
    # Python's own start, until `ktrio.__main__` has imported "signal", is beyond our reach.
    first = modules_of_a_start.index("signal") + 1
    for moment in [first, *random.Random(signum).sample(range(first, len(modules_of_a_start)), 9)]:
        program = start("-X", "importtime", *KTRIO[1:], "serve", "--port", "0", command=[sys.executable])
        assert program.err is not None
        program.err.wait_count(moment + 2)  # one line more: the header
        program.send_signal(signum)
        status = program.wait()
        after = f"after {modules_of_a_start[moment]}"
        assert "Traceback" not in program.said, after
        assert "KeyboardInterrupt" not in program.said, after
        if program.out.find("^ktrio .* at "):
            assert status == 0, after
            assert program.out.find("^served 0 · cut 0 ·"), after
        else:
            assert status in (128 + signum, 0), after
            assert program.out.text == "", after


def test_signals_after_the_closing_line_leave_no_traceback(start: Start) -> None:
    program = start("serve", "--port", "0")
    program.out.wait_count(1)
    program.send_signal(signal.SIGTERM)
    program.out.wait_for("^served ")
    while program.process.poll() is None:
        program.send_signal(signal.SIGINT)
    # The very last moments are Python's: it resets its handlers, and then a signal ends it as it ends everybody.
    assert program.wait() in (0, 130, -signal.SIGINT)
    assert_served_cleanly(program)
