"""Each example runs, does what its header says, and ends when told."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
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
    "background_jobs.py",
    "custom_protocol.py",
    "echo.py",
    "graceful_shutdown.py",
    "http_handler.py",
    "serve_folder.py",
    "server_sent_events.py",
    "test_my_handler.py",
    "two_servers.py",
    "upload.py",
    "watched_queues.py",
    "workqueue_basics.py",
}

pytestmark = [pytest.mark.slow, pytest.mark.exhaustive]  # each is a process of its own

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


def test_http_handler_answers_small_things_and_errors(start: Start) -> None:
    program = start("http_handler.py", "0")
    with httpx.Client(base_url=url_of(program), timeout=LIMIT, trust_env=False) as client:
        who = client.get("/you")
        assert (who.status_code, who.headers["content-type"]) == (200, "text/plain")
        assert who.text.startswith("127.0.0.1:")
        assert client.post("/words", content="so many words").text == "3 words\n"
        assert client.post("/words", content=b"x" * (1 << 20) + b"x").status_code == 413
        lost = client.get("/elsewhere")
        assert lost.status_code == 404
        assert "Try /you" in lost.text
        assert_ends_in_peace(program)


def test_http_handler_streams_up_and_down(start: Start) -> None:
    program = start("http_handler.py", "0")
    with httpx.Client(base_url=url_of(program), timeout=LIMIT, trust_env=False) as client:
        pieces = (b"x" * 65536 for _ in range(64))  # of unknown length, and more than the usual limit of 1 MiB
        assert client.put("/count", content=pieces).text == "4194304 bytes\n"
        numbers = client.get("/numbers")
        assert numbers.headers["transfer-encoding"] == "chunked"
        assert (numbers.text == "".join(f"{each}\n" for each in range(1_000_000))) is True
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


def chunks_until(sock: socket.socket, end: bytes) -> bytes:
    """What comes, until it ends with that."""
    received = b""
    while not received.endswith(end):
        data = sock.recv(65536)
        assert data, f"closed after {received!r}"
        received += data
    return received


def test_server_sent_events_reach_more_listeners_than_there_are_slots(start: Start) -> None:
    program = start("server_sent_events.py", "0")
    url = url_of(program)
    page = httpx.get(url, timeout=LIMIT, trust_env=False)
    assert page.headers["content-type"] == "text/html"
    assert 'EventSource("/events")' in page.text

    address = ("127.0.0.1", int(url.rpartition(":")[2]))
    listeners = [program.connect(address=address) for _ in range(300)]
    for each in listeners:
        each.sendall(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
    for each in listeners:
        head = chunks_until(each, b"\n\n\r\n")
        assert b"Content-Type: text/event-stream" in head
        assert b"retry: 1000" in head
        if b"data: " not in head:  # else the first event has come with the head
            assert re.fullmatch(rb"[0-9a-f]+\r\ndata: \d+\n\n\r\n", chunks_until(each, b"\n\n\r\n"))
    for each in listeners[100:]:
        each.close()
    program.out.wait_for(r"^event \d+, open 100$")

    program.send_signal(signal.SIGINT)
    for each in listeners[:100]:
        assert b"data: " in chunks_until(each, b"0\r\n\r\n")  # a last event, and a proper end
    assert program.wait() == 0
    assert program.said == ""


def test_upload_stores_what_is_complete_and_nothing_else(start: Start, tmp_path: Path) -> None:
    program = start("upload.py", tmp_path, "0", "5000000")
    url = url_of(program)
    with httpx.Client(base_url=url, timeout=LIMIT, trust_env=False) as client:
        assert client.put("/known.bin", content=b"k" * 1_000_000).status_code == 201
        unknown = client.put("/unknown.bin", content=(b"u" * 50_000 for _ in range(100)))
        assert (unknown.status_code, unknown.text) == (201, "unknown.bin: 5000000 bytes\n")
        assert client.put("/known.bin", content=b"new").status_code == 201
        assert client.put("/big.bin", content=(b"x" * 50_000 for _ in range(101))).status_code == 413
        assert client.put("/..%2Fup", content=b"x").status_code == 400
        assert client.get("/known.bin").status_code == 405

    address = ("127.0.0.1", int(url.rpartition(":")[2]))
    too_much, torn, late = (program.connect(address=address) for _ in range(3))
    head = b"PUT /%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
    too_much.sendall(head % (b"too-much.bin", 5_000_001))
    assert chunks_until(too_much, b"\n").startswith(b"HTTP/1.1 413 ")
    torn.sendall(head % (b"torn.bin", 4_000_000) + b"t" * 3_000_000)
    torn.close()
    late.sendall(head % (b"late.bin", 4_000_000) + b"l" * 3_000_000)
    program.send_signal(signal.SIGINT)
    late.sendall(b"l" * 1_000_000)
    assert chunks_until(late, b"late.bin: 4000000 bytes\n").startswith(b"HTTP/1.1 201 ")
    assert program.wait() == 0
    assert program.said == ""
    stored = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert stored == {"known.bin": 3, "unknown.bin": 5_000_000, "late.bin": 4_000_000}


def test_custom_protocol_answers_commands_and_says_goodbye(start: Start) -> None:
    program = start("custom_protocol.py", "0")
    port = int(program.out.wait_for(r"^listening at 127\.0\.0\.1:(\d+)$")[1])
    peer, other = (program.connect(address=("127.0.0.1", port)) for _ in range(2))
    peer.sendall(b"get colour\nset col")
    assert chunks_until(peer, b"\n") == b"none\n"
    peer.sendall(b"our dark blue\n")
    assert chunks_until(peer, b"\n") == b"ok\n"
    other.sendall(b"get colour\nnonsense\n")
    assert chunks_until(other, b"VALUE, or get NAME\n").startswith(b"dark blue\n? ")
    other.sendall(b"x" * 1001)
    with other.makefile("rb") as stream:
        assert stream.read() == b"? too long\n"
    program.send_signal(signal.SIGINT)
    with peer.makefile("rb") as stream:
        assert stream.read() == b"bye\n"
    assert program.wait() == 0
    assert program.said == ""


def test_background_jobs_are_promised_and_kept(start: Start) -> None:
    program = start("background_jobs.py", "0")
    with httpx.Client(base_url=url_of(program), timeout=LIMIT, trust_env=False) as client:
        promised = client.post("/", content="2")
        assert (promised.status_code, promised.headers["location"], promised.text) == (202, "/0", "/0\n")
        assert [client.post("/", content=order).status_code for order in ("many", "1", "1")] == [202] * 3
        while "invalid" not in (failed := client.get("/1").text):
            assert failed == "waiting\n"
        assert failed.startswith("failed, invalid literal for int()")
        assert re.fullmatch(r"running, [01] of 2 steps\n|done\n", client.get("/0").text)
        assert client.get("/4").status_code == 404
        assert_ends_in_peace(program)
    *_, left, done = program.out.lines
    assert re.fullmatch("jobs left: [0-3]", left)
    assert done == "jobs done: 3"


def test_watched_queues_are_seen_and_end_in_peace(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "watched.monitor"
    program = start("watched_queues.py", path)
    program.out.wait_for(f"^ktrio top {path}$")
    with socket.socket(socket.AF_UNIX) as watcher:
        watcher.settimeout(LIMIT)
        watcher.connect(os.fspath(path))
        names = [each["name"] for each in json.loads(watcher.makefile().readline())["supervisor"]["workqueues"]]
    assert names in (["mails", "images", "pages"], [])  # the very first look may come before them
    assert program.stop() == 0
    assert not path.exists()


def test_two_servers_one_is_suspended_through_the_other(start: Start) -> None:
    program = start("two_servers.py", "0", "0")
    public, admin = (program.out.wait_for(rf"^{name} at (http:\S+)$")[1] for name in ("for everybody", "to steer it"))
    with (
        httpx.Client(base_url=public, timeout=LIMIT, trust_env=False) as anybody,
        httpx.Client(base_url=admin, timeout=LIMIT, trust_env=False) as steering,
    ):
        assert anybody.get("/").text == "hello\n"
        assert "'suspended': False" in steering.get("/").text
        assert steering.post("/suspend").text.endswith(" suspended>\n")
        newcomer = program.connect(address=("127.0.0.1", httpx.URL(public).port or 0))
        newcomer.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert "'suspended': True" in steering.get("/").text
        assert anybody.get("/").text == "hello\n"  # its connection is open
        newcomer.setblocking(False)
        with pytest.raises(BlockingIOError):
            newcomer.recv(1)
        newcomer.settimeout(LIMIT)
        assert not steering.post("/resume").text.endswith(" suspended>\n")
        assert chunks_until(newcomer, b"hello\n").startswith(b"HTTP/1.1 200 OK")
        assert steering.get("/elsewhere").status_code == 404
        assert_ends_in_peace(program)


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
