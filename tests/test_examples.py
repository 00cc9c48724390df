"""Each example runs, does what its header says, and ends when told."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.cli.processes import LIMIT, Program

EXAMPLES = Path(__file__).parents[1] / "examples"
TESTED = {
    "serve_folder.py",
    "echo.py",
    "http_handler.py",
    "workqueue_basics.py",
    "graceful_shutdown.py",
    "test_my_handler.py",
}

pytestmark = pytest.mark.slow  # each is a process of its own

Start = Callable[..., Program]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start an example; it ends with the test, and what it said is shown if the test fails."""
    with ExitStack() as stack:

        def start(name: str, *arguments: str | Path) -> Program:
            program = Program(EXAMPLES / name, *arguments, command=[sys.executable, "-W", "error"])
            stack.callback(program.close)
            return program

        yield start


def listed_in_header(name: str) -> list[str]:
    """The indented lines of an example's header."""
    header = re.match(r"(?:#.*\n)*", (EXAMPLES / name).read_text(encoding="utf-8"))
    assert header is not None
    return re.findall(r"^#   (.*)$", header[0], re.MULTILINE)


def url_of(program: Program) -> str:
    return program.out.wait_for(r" at (http://127\.0\.0\.1:\d+)/$")[1]


def assert_ends_in_peace(program: Program) -> None:
    assert program.stop(signal.SIGINT) == 0
    assert program.said == ""


def test_every_example_is_tested() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == TESTED


def test_serve_folder_serves_beside_a_task_that_reports(start: Start) -> None:
    program = start("serve_folder.py", EXAMPLES / "site", "0")
    with httpx.Client(base_url=url_of(program), timeout=LIMIT, trust_env=False) as client:
        page = client.get("/shelf/")
        assert page.status_code == 200
        assert "evening.png" in page.text
        picture = client.head("/shelf/evening.png")
        assert picture.headers["content-type"] == "image/png"
        assert int(picture.headers["content-length"]) == (EXAMPLES / "site/shelf/evening.png").stat().st_size
        program.out.wait_for(r"^answered 2, connected ")
        assert_ends_in_peace(program)
    assert program.out.lines[-1] == "served 2, cut 0"


def test_echo_gives_everything_back_after_a_half_close(start: Start) -> None:
    program = start("echo.py", "0")
    port = int(program.out.wait_for(r"^echoing at 127\.0\.0\.1:(\d+)$")[1])
    peer = program.connect(address=("127.0.0.1", port))
    sent = b"hello\n" * 10_000
    peer.sendall(sent)
    peer.shutdown(1)
    with peer.makefile("rb") as stream:
        assert stream.read() == sent
    assert_ends_in_peace(program)


def test_http_handler_answers_text_json_bodies_and_errors(start: Start) -> None:
    program = start("http_handler.py", "0")
    with httpx.Client(base_url=url_of(program), timeout=LIMIT, trust_env=False) as client:
        front = client.get("/")
        assert (front.status_code, front.headers["content-type"]) == (200, "text/plain")
        assert front.text.startswith("Try /you")
        assert client.get("/you").json()["peer"].startswith("127.0.0.1:")
        assert client.post("/words", content="so many words").json() == {"words": 3}
        assert client.get("/elsewhere").status_code == 404
        assert client.post("/words", content=b"x" * (1 << 20) + b"x").status_code == 413
        assert_ends_in_peace(program)


def test_http_handler_ends_its_stream_when_the_server_drains(start: Start) -> None:
    program = start("http_handler.py", "0")
    with httpx.stream("GET", f"{url_of(program)}/ticks", timeout=LIMIT, trust_env=False) as response:
        assert response.headers["transfer-encoding"] == "chunked"
        lines = response.iter_lines()
        assert next(lines) == "tick"
        program.send_signal(signal.SIGINT)
        *ticks, last = lines
    assert set(ticks) <= {"tick"}
    assert last == "goodbye"
    assert program.wait() == 0
    assert program.said == ""


def test_workqueue_basics_prints_what_its_header_lists(start: Start) -> None:
    program = start("workqueue_basics.py")
    assert program.wait() == 0
    assert program.said == ""
    assert program.out.lines == listed_in_header("workqueue_basics.py")


def test_graceful_shutdown_finishes_what_can_be_finished_and_cuts_the_rest(start: Start) -> None:
    program = start("graceful_shutdown.py")
    assert program.wait() == 0
    assert program.said == ""
    command, greeting, *rows = program.out.lines
    assert command.startswith("$ ktrio serve files ")
    assert " --grace=3 " in command
    assert re.fullmatch(r"ktrio .*: serving files at http://127\.0\.0\.1:\d+/", greeting)
    assert len(rows) <= 18, "it is to be taken in at a glance"

    timeline = [(row[:7], row[9:25].rstrip(), row[25:]) for row in rows]
    before = [who for when, who, _ in timeline if when == "before "]
    assert before == ["idle", "stalled reader", "download", "burst"]
    after = timeline[len(before) :]
    times = [float(when.removesuffix(" s")) for when, _, _ in after]
    assert times == sorted(times)
    assert after[0] == ("+0.00 s", "SIGINT", "sent to the server")

    outcome = {who: what for _, who, what in after}
    time_of = {who: time for (_, who, _), time in zip(after, times, strict=True)}
    assert outcome["idle"] == "all 100 closed by the server"
    assert outcome["newcomer"] == "refused: nobody listens any more"
    assert outcome["burst"] == "100 of 100 answered"
    assert outcome["download"] == "complete: 33,554,432 of 33,554,432 bytes"
    assert outcome["stalled reader"] == "cut off at the end of the grace: ECONNRESET"
    # 100 on the idle connections, 100 of the burst, the download.
    assert re.fullmatch(r"served 201 · cut 1 · \d\.\d s", outcome["server says"])
    assert outcome["exit status"].startswith("4: ")

    assert time_of["idle"] <= time_of["newcomer"] < time_of["download"]
    assert time_of["burst"] < time_of["download"] < 3 <= time_of["stalled reader"] <= time_of["exit status"] < 5
    assert after[-1][1] == "exit status"


def test_my_handler_passes_its_tests(tmp_path: Path) -> None:
    """By somebody's own pytest, without this project's settings."""
    settings = tmp_path / "pytest.ini"
    settings.write_text("[pytest]\ntrio_mode = true\nfilterwarnings = error\n", encoding="utf-8")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-c",
            settings,
            "-p",
            "no:cacheprovider",
            EXAMPLES / "test_my_handler.py",
        ],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout
