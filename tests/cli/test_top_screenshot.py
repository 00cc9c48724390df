"""The picture of ``ktrio top`` in the documents is what it shows of a loaded server.

``make screenshot`` takes it anew: this test then writes the file, which it otherwise compares with a fresh one. Numbers
may differ, everything else may not.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.conftest import Start
from tests.cli.peers import Peer, begin_download
from tests.cli.processes import Program, assert_served_cleanly

pytestmark = [pytest.mark.slow, pytest.mark.exhaustive]

PICTURE = Path(__file__).parents[2] / "docs" / "how-to" / "ktrio-top.txt"
IDLE, STALLED = 40, 8


@contextmanager
def newcomers(program: Program) -> Iterator[None]:
    """One client after another, each of whom asks for one file and goes, as long as the block lasts."""
    enough = threading.Event()
    program.port  # noqa: B018 - waited for here, not in the thread

    def come_and_go() -> None:
        while not enough.is_set():
            peer = Peer(program.connect())
            peer.get("small.txt")
            peer.sock.close()

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        yield
    finally:
        enough.set()
        thread.join()


def shape(picture: str) -> list[str]:
    """A picture without what differs from one run to the next: numbers, and how wide they make a column."""
    return [" ".join(re.sub(r"\d[\d:.]*", "N", line).split()) for line in picture.splitlines()]


def test_picture_of_a_loaded_server_is_what_is_in_the_documents(
    serve: Callable[..., Program], start: Start, tmp_path: Path
) -> None:
    monitor = tmp_path / "site.monitor"
    program = serve("--bound", "--cpus", "2", "--monitor", monitor, "--idle-timeout", "600", "--grace", "0.2")
    idle = [Peer(program.connect()) for _ in range(IDLE)]
    for peer in idle:
        assert peer.get("small.txt").status == 200
    for _ in range(STALLED):
        begin_download(Peer(program.connect(receive_buffer=4096)), "big.bin")
    with newcomers(program):
        watching = start("top", monitor, environment={"COLUMNS": "80"})
        watching.out.wait_for_matches("^ktrio ", 4)
    assert watching.stop() == 0
    _, _, third, *_ = watching.out.text.split("\n\nktrio ")
    lines = f"ktrio {third}".splitlines()
    picture = "\n".join(line for line in lines if not line.startswith(("hog", "and"))).rstrip()  # of a busy machine
    assert max(map(len, lines)) <= 80
    headings, row = lines[2].split(), lines[3].split()
    assert headings == ["workqueue", "total", "/s", "infl", "park", "pend", "inact", "active/max", "CPUtime", "CPU%",
                        "CPUhog", "CMW/RPR"]  # fmt: skip
    shown = dict(zip(headings, row, strict=True))
    assert shown["workqueue"] == "http"
    assert int(shown["total"]) > IDLE + STALLED
    assert float(shown["/s"]) > 0
    assert IDLE + STALLED <= int(shown["infl"]) <= IDLE + STALLED + 2
    assert int(shown["park"]) >= IDLE
    assert shown["active/max"].endswith("/512")
    assert float(shown["CPUtime"]) > 0
    assert [line.split()[:2] for line in lines[6:10]] == [
        ["0", "unbound"],
        ["1", "unbound"],
        ["0", "bound"],
        ["1", "bound"],
    ]
    assert sum(int(line.split()[5]) for line in lines[8:10]) >= IDLE
    assert program.stop() in (0, 4)
    assert_served_cleanly(program)

    if os.environ.get("KTRIO_UPDATE_SCREENSHOT"):
        PICTURE.write_text(f"{picture}\n", encoding="utf-8")
    assert shape(PICTURE.read_text(encoding="utf-8")) == shape(picture)
