"""The pictures of ``ktrio top`` in the documents are what it shows of a loaded server, and of an example.

``make screenshots`` takes them anew: these tests then write them, and otherwise compare them with fresh ones. Numbers
may differ, everything else may not.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.conftest import Start
from tests.cli.peers import Peer, begin_download
from tests.cli.processes import Program, assert_served_cleanly

pytestmark = [pytest.mark.slow, pytest.mark.exhaustive]

ROOT = Path(__file__).parents[2]
OF_A_SERVER = ROOT / "docs" / "how-to" / "ktrio-top.txt"
OF_QUEUES = ROOT / "docs" / "how-to" / "ktrio-top-queues.txt"
IN_README = re.compile(r"(?<=<!-- ktrio top output -->\n```text\n)(.*?)(?=```\n<!-- end -->)", re.DOTALL)

IDLE, STALLED = 40, 8


def shape(picture: str) -> list[str]:
    """A picture without what differs from one run to the next: numbers, and how wide they make a column."""
    return [" ".join(re.sub(r"\d[\d:.]*", "N", line).split()) for line in picture.splitlines()]


def compare(picture: str, path: Path, *, also_in: Path | None = None) -> None:
    """The picture in the documents has this shape; or it is written, if that is wanted."""
    if os.environ.get("KTRIO_UPDATE_SCREENSHOTS"):
        path.write_text(picture, encoding="utf-8")
        if also_in is not None:
            also_in.write_text(IN_README.sub(lambda _: picture, also_in.read_text(encoding="utf-8")), encoding="utf-8")
    assert shape(path.read_text(encoding="utf-8")) == shape(picture)
    if also_in is not None:
        [there] = IN_README.findall(also_in.read_text(encoding="utf-8"))
        assert shape(there) == shape(picture)


def look(start: Start, monitor: Path) -> str:
    """The third table that is printed: so it has rates, and the load is there."""
    watching = start("top", monitor, environment={"COLUMNS": "80"})
    watching.out.wait_for_matches("^ktrio ", 4)
    assert watching.stop() == 0
    _, _, third, *_ = watching.out.text.split("\n\nktrio ")
    lines = f"ktrio {third}".splitlines()
    assert max(map(len, lines)) <= 80
    return "".join(f"{line}\n" for line in lines)


def rows(picture: str, heading: str) -> dict[str, dict[str, str]]:
    """A table of the picture: name -> heading -> cell."""
    lines = picture.splitlines()
    at = next(index for index, line in enumerate(lines) if line.startswith(heading))
    _, *headings = lines[at].split()
    found = {}
    for line in lines[at + 1 :]:
        name, *cells = line.rsplit(maxsplit=len(headings)) or [""]
        if not cells or line.startswith("hog"):
            break
        found[name.strip()] = dict(zip(headings, cells, strict=True))
    return found


@contextmanager
def newcomers(program: Program) -> Iterator[None]:
    """One client after another, each of whom asks for one file and goes, as long as the block lasts."""
    enough = threading.Event()

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


def test_picture_of_a_loaded_server_is_what_is_in_the_documents(
    serve: Callable[..., Program], start: Start, tmp_path: Path
) -> None:
    monitor = tmp_path / "site.monitor"
    program = serve("--bound", "--cpus", "2", "--monitor", monitor, "--idle-timeout", "600", "--grace", "0.2")
    for peer in [Peer(program.connect()) for _ in range(IDLE)]:
        assert peer.get("small.txt").status == 200
    for _ in range(STALLED):
        begin_download(Peer(program.connect(receive_buffer=4096)), "big.bin")
    with newcomers(program):
        picture = look(start, monitor)
    assert program.stop() in (0, 4)
    assert_served_cleanly(program)

    queues, pools = rows(picture, "workqueue"), rows(picture, "pool")
    assert list(queues) == ["http"]
    http = queues["http"]
    assert list(http) == ["total", "/s", "infl", "park", "pend", "inact", "active/max", "CPUtime", "CPU%", "CPUhog",
                          "CMW/RPR"]  # fmt: skip
    assert int(http["total"]) > IDLE + STALLED
    assert float(http["/s"]) > 0
    assert IDLE + STALLED <= int(http["infl"]) <= IDLE + STALLED + 2
    assert IDLE <= int(http["park"]) <= int(http["infl"])
    assert http["active/max"].endswith("/512")
    assert float(http["CPUtime"]) > 0
    assert list(pools) == ["0 unbound", "1 unbound", "0 bound", "1 bound"]
    assert sum(int(pools[each]["parked"]) for each in ("0 bound", "1 bound")) >= IDLE
    assert sum(int(pools[each]["parked"]) for each in ("0 unbound", "1 unbound")) == 0
    without_hogs = re.sub(r"\n(hog: .*\n|and \d+ more .*\n)+", "", picture)  # on a busy machine there may be some
    compare(without_hogs, OF_A_SERVER)


def test_picture_of_the_example_is_what_is_in_the_documents(start: Start, tmp_path: Path) -> None:
    monitor = tmp_path / "watched.monitor"
    program = start(ROOT / "examples" / "watched_queues.py", monitor, command=[sys.executable])
    program.out.wait_for("ktrio top ")
    picture = look(start, monitor)
    assert program.stop() == 0

    queues, pools = rows(picture, "workqueue"), rows(picture, "pool")
    assert list(queues) == ["mails", "images", "pages"]
    mails, images, pages = queues.values()
    assert int(mails["pend"]) == int(mails["inact"])
    assert mails["active/max"].endswith("/4")
    assert (mails["CPUhog"], mails["CMW/RPR"]) == ("-", "-")
    assert int(images["CPUhog"]) > 10
    assert float(images["CPUtime"]) > 0.1
    assert int(pages["CMW/RPR"]) > 10
    assert list(pools) == ["0 unbound", "0 bound", "0 bound highpri"]
    assert re.search(r"^hog: __main__\.shrink_image \d+ times, longest \d+ ms$", picture, re.MULTILINE)
    without_others = re.sub(r"^hog: (?!__main__\.shrink_image).*\n", "", picture, flags=re.MULTILINE)
    compare(without_others, OF_QUEUES, also_in=ROOT / "README.md")
