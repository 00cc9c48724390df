"""Files of any size: every byte, in constant memory, and nobody else waits for them."""

from __future__ import annotations

import hashlib
import random
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import MIB, Start, make_sparse
from tests.cli.peers import Peer, begin_download
from tests.cli.processes import Program

pytestmark = [pytest.mark.slow, pytest.mark.exhaustive]

Serve = Callable[..., Program]

GIB = 1024 * MIB
MARK_AT = 700 * MIB + 12345
MARK = random.Random(2).randbytes(3 * MIB)


@pytest.fixture(scope="module")
def gibibyte(shared_folder: Path) -> str:
    """A file of 1 GiB of holes but for a mark."""
    make_sparse(shared_folder / "gibibyte.bin", GIB)
    with (shared_folder / "gibibyte.bin").open("r+b") as file:
        file.seek(MARK_AT)
        file.write(MARK)
    return "gibibyte.bin"


@pytest.fixture(scope="module")
def shared(start_shared: Start, shared_folder: Path) -> Program:
    """A server for the tests that do not end it, on one simulated CPU."""
    return start_shared("serve", shared_folder, "--port", "0", "--cpus", "1")


def memory(pid: int) -> dict[str, int]:
    """Resident memory in KiB: VmRSS now, VmHWM at most so far."""
    with open(f"/proc/{pid}/status") as file:
        return {name: int(size) for name, size in re.findall(r"^(VmRSS|VmHWM):\s+(\d+) kB$", file.read(), re.MULTILINE)}


def test_download_of_a_gibibyte_is_complete_and_needs_no_memory(shared: Program, gibibyte: str) -> None:
    program = shared
    assert Peer(program.connect()).get("small.txt").status == 200
    before = memory(program.pid)
    peer = Peer(program.connect())
    peer.request(gibibyte)
    status, headers = peer.head()
    assert (status, headers["content-length"]) == (200, str(GIB))
    digest = peer.digest(GIB, start=MARK_AT, end=MARK_AT + len(MARK))
    assert digest == hashlib.sha256(MARK).hexdigest()
    after = memory(program.pid)
    for name in before:
        print(f"{name}: {before[name]} KiB before, {after[name]} KiB after")
        assert after[name] - before[name] < 16 * 1024
    assert peer.get("small.txt").status == 200  # on the same connection: the length was right


def test_others_are_answered_while_gibibytes_go_out_at_full_speed(shared: Program, gibibyte: str) -> None:
    greedy = Peer(shared.connect())
    begin_download(greedy, gibibyte)
    other = Peer(shared.connect())
    times = []
    for _ in range(64):
        greedy.read(2 * MIB)  # as fast as it comes
        began = time.monotonic()
        assert other.get("small.txt").status == 200
        times.append(time.monotonic() - began)
    median, slowest = sorted(times)[len(times) // 2], max(times)
    print(f"answers beside a full-speed download: median {median * 1000:.2f} ms, slowest {slowest * 1000:.2f} ms")
    assert max(times) < 2


def test_head_of_a_gibibyte_says_its_length_and_sends_nothing(shared: Program, gibibyte: str) -> None:
    peer = Peer(shared.connect())
    peer.request(gibibyte, method="HEAD")
    answer = peer.answer(has_body=False)
    assert (answer.status, answer.headers["content-length"]) == (200, str(GIB))
    assert peer.get("small.txt").body == b"hello, world\n"


def test_file_that_shrinks_while_it_is_sent_ends_that_connection_only(serve: Serve, folder: Path) -> None:
    program = serve()
    peer = Peer(program.connect(receive_buffer=4096))
    owed = begin_download(peer, "big.bin")
    make_sparse(folder / "big.bin", 4 * MIB)
    assert peer.drop() < owed  # and it ended: the rest is not made up
    assert Peer(program.connect()).get("small.txt").status == 200
    assert program.stop() == 0
    assert program.said.count("big.bin") == 1  # one record says why


def test_file_that_grows_while_it_is_sent_keeps_the_length_it_was_announced_with(serve: Serve, folder: Path) -> None:
    peer = Peer(serve().connect(receive_buffer=4096))
    owed = begin_download(peer, "big.bin")
    with (folder / "big.bin").open("ab") as file:
        file.write(b"more" * 1000)
    assert not any(peer.read(owed)[-1000:])
    assert peer.get("small.txt").body == b"hello, world\n"
