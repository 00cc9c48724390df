"""Long listings by the real server: whole, for many at once who read nothing, in little memory."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest

from tests.cli.conftest import Start
from tests.cli.peers import Peer

pytestmark = [pytest.mark.slow, pytest.mark.exhaustive]

ENTRIES = 20_000
STALLED = 30


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    site = tmp_path_factory.mktemp("site")
    (site / "long").mkdir()
    (site / "small.txt").write_text("small")
    for number in range(ENTRIES):
        (site / "long" / f"some name of a file, number {number}.txt").touch()
    return site


def resident_kib(pid: int) -> int:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1])


def unchunked(peer: Peer) -> bytes:
    """A chunked body (RFC 9112 section 7.1)."""
    data, body = peer.read_to_end(), bytearray()
    while data:
        size, _, rest = data.partition(b"\r\n")
        length = int(size, 16)
        body += rest[:length]
        data = rest[length + 2 :]
        if not length:
            return bytes(body)
    raise AssertionError("the body has no end")


@pytest.mark.parametrize("accept", ["", "Accept-Encoding: gzip\r\n"], ids=["plain", "gzip"])
def test_a_long_listing_is_whole(start_shared: Start, site: Path, accept: str) -> None:
    peer = Peer(start_shared("serve", site, "--port", "0").connect())
    peer.request("long/?format=json", headers=f"{accept}Connection: close\r\n")
    status, headers = peer.head()
    assert (status, headers["transfer-encoding"]) == (200, "chunked")
    body = unchunked(peer)
    listing = json.loads(gzip.decompress(body) if accept else body)
    assert len({each["name"] for each in listing["entries"]}) == ENTRIES
    assert listing["left_out"] == 0


def test_head_of_a_long_listing_is_that_of_its_get_without_a_body(start_shared: Start, site: Path) -> None:
    """RFC 9110 section 9.3.2; only what is found out on the way, its length, is left out."""
    peer = Peer(start_shared("serve", site, "--port", "0").connect())
    peer.request("long/", method="HEAD")
    status, of_head = peer.head()
    peer.request("long/", headers="Connection: close\r\n")
    _, of_get = peer.head()
    changing = ("date", "transfer-encoding", "connection")
    assert status == 200
    assert {name: value for name, value in of_head.items() if name not in changing} == {
        name: value for name, value in of_get.items() if name not in changing
    }
    peer.drop()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="resident memory is read from /proc")
def test_many_who_ask_for_a_long_listing_and_read_nothing_cost_little_and_stop_nobody(start: Start, site: Path) -> None:
    program = start("serve", site, "--port", "0")
    first = Peer(program.connect())
    first.request("long/", headers="Connection: close\r\n")
    first.head()
    first.drop()
    before = resident_kib(program.pid)
    stalled = [Peer(program.connect(receive_buffer=4096)) for _ in range(STALLED)]
    for peer in stalled:
        peer.request("long/")
    for peer in stalled:
        peer.head()
    assert Peer(program.connect()).get("small.txt").body == b"small"
    # A page is 5 MB. What waits is its names, a slice of rows, and what the kernel has not taken of it.
    assert resident_kib(program.pid) - before < STALLED * 2048
