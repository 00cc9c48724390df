"""Programs that people use: each gets the right bytes. One that is not installed is skipped, visibly."""

from __future__ import annotations

import filecmp
import html
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote, unquote

import pytest

from tests.cli.conftest import MIB
from tests.cli.processes import LIMIT, Program

pytestmark = [pytest.mark.slow, pytest.mark.exhaustive]

FILES = {
    "index.html": b'<a href="shelf/">the shelf</a> <a href="big.bin">big</a>',
    "shelf/hello world & more, 100%.txt": b"a name to be quoted",
    "shelf/gr\u00fc\u00dfe.txt": "gr\u00fc\u00dfe".encode(),
    "shelf/empty": b"",
    "shelf/deep/er/page.html": b"<p>deep",
    "shelf/a+b=c;d@e!.txt": b"punctuation",
    "shelf/#hash?query.txt": b"reserved",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small site: an index file, listings to follow, names that need quoting."""
    site = tmp_path_factory.mktemp("site")
    for name, data in FILES.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_bytes(data)
    (site / "big.bin").write_bytes(os.urandom(4 * MIB))
    return site


@pytest.fixture(scope="module")
def server(site: Path) -> Iterator[Program]:
    program = Program("serve", site, "--port", "0")
    try:
        yield program
        assert program.stop() == 0
        assert program.said == ""
    finally:
        program.close()


@pytest.fixture
def url(server: Program) -> str:
    return f"http://127.0.0.1:{server.port}"


Run = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a client to its end, in a folder of its own."""

    def run(program: str, *arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
        path = shutil.which(program)
        if path is None:
            pytest.skip(f"{program} is not installed")
        environment = {**os.environ, "LC_ALL": "C.UTF-8"} | dict.fromkeys(
            ("http_proxy", "https_proxy", "all_proxy"), ""
        )
        ran = subprocess.run(
            [path, *arguments], capture_output=True, timeout=LIMIT, cwd=tmp_path, env=environment, check=False
        )
        print(ran.args, ran.stderr.decode(errors="replace"), f"status {ran.returncode}", sep="\n")
        return ran

    return run


@pytest.mark.parametrize("options", [[], ["--http1.0"], ["--compressed"]], ids=["plain", "1.0", "compressed"])
def test_curl_gets_the_right_bytes(run: Run, url: str, site: Path, options: list[str]) -> None:
    ran = run("curl", "-sSf", *options, f"{url}/big.bin")
    assert ran.returncode == 0
    assert (ran.stdout == (site / "big.bin").read_bytes()) is True  # without a diff of 4 MiB


@pytest.mark.parametrize("name", FILES)
def test_curl_gets_every_name(run: Run, url: str, site: Path, tmp_path: Path, name: str) -> None:
    ran = run("curl", "-sSf", f"{url}/{quote(name)}")
    assert (ran.returncode, ran.stdout) == (0, FILES[name])


def test_curl_follows_the_redirect_to_a_listing_and_keeps_the_connection(run: Run, url: str) -> None:
    ran = run("curl", "-sSfL", "-w", "%{num_connects} %{num_redirects} %{url_effective}\n", f"{url}/shelf?q=1")
    assert ran.returncode == 0
    listing, _, last = ran.stdout.decode().strip().rpartition("\n")
    assert "hello%20world" in listing
    assert last.endswith(f"1 1 {url}/shelf/?q=1")


def test_curl_sees_a_304_for_what_it_has(run: Run, url: str, tmp_path: Path) -> None:
    first = run("curl", "-sSf", "-o", "got", "--etag-save", "etag", "-R", f"{url}/big.bin")
    assert first.returncode == 0
    for condition in (["--etag-compare", "etag"], ["-z", "got"]):
        again = run("curl", "-sSf", "-o", "again", "-w", "%{http_code}", *condition, f"{url}/big.bin")
        assert again.stdout == b"304"


@pytest.mark.parametrize("kept", [1, 100_000, 4_000_000])
def test_curl_resumes_a_download(run: Run, url: str, site: Path, tmp_path: Path, kept: int) -> None:
    (tmp_path / "got").write_bytes((site / "big.bin").read_bytes()[:kept])
    ran = run("curl", "-sSf", "-C", "-", "-o", "got", "-w", "%{http_code}", f"{url}/big.bin")
    assert (ran.returncode, ran.stdout) == (0, b"206")
    assert filecmp.cmp(site / "big.bin", tmp_path / "got", shallow=False)


def test_curl_gets_several_parts(run: Run, url: str, site: Path) -> None:
    ran = run("curl", "-sSf", "-r", "0-9,2000000-2000009", f"{url}/big.bin")
    content = (site / "big.bin").read_bytes()
    assert ran.returncode == 0
    assert content[:10] in ran.stdout
    assert content[2_000_000:2_000_010] in ran.stdout


def test_wget_resumes_a_download(run: Run, url: str, site: Path, tmp_path: Path) -> None:
    (tmp_path / "big.bin").write_bytes((site / "big.bin").read_bytes()[:1_000_000])
    ran = run("wget", "--continue", "--no-verbose", f"{url}/big.bin")
    assert ran.returncode == 0
    assert filecmp.cmp(site / "big.bin", tmp_path / "big.bin", shallow=False)


def test_curl_posting_is_refused_with_405(run: Run, url: str) -> None:
    # A body above 1 KiB that announces itself with Expect: 100-continue
    ran = run("curl", "-sS", "-o", "out", "-w", "%{http_code}", "--data-binary", "x" * 2000, f"{url}/big.bin")
    assert (ran.returncode, ran.stdout) == (0, b"405")


def test_wget_mirrors_the_whole_site_through_its_listings(run: Run, url: str, site: Path, tmp_path: Path) -> None:
    ran = run("wget", "--mirror", "--no-parent", "-nH", "--no-verbose", "--restrict-file-names=nocontrol", f"{url}/")
    assert ran.returncode == 0
    names = [*FILES, "big.bin"]
    _, different, missing = filecmp.cmpfiles(site, tmp_path, names, shallow=False)
    assert (different, missing) == ([], [])
    again = run("wget", "--mirror", "--no-parent", "-nH", "--restrict-file-names=nocontrol", f"{url}/big.bin")
    assert again.returncode == 0
    assert b"304" in again.stderr


@pytest.mark.parametrize("options", [["-k"], []], ids=["keep-alive", "connection-per-request"])
def test_ab_has_no_failed_request(run: Run, url: str, options: list[str]) -> None:
    ran = run("ab", "-q", *options, "-n", "2000", "-c", "20", f"{url}/shelf/deep/er/page.html")
    report = ran.stdout.decode()
    lines = (line.partition(":") for line in report.splitlines())
    found = {name: value.split()[0] for name, _, value in lines if value.split()}
    print(report)
    assert ran.returncode == 0
    assert (found["Complete requests"], found["Failed requests"]) == ("2000", "0")
    assert found["HTML transferred"] == str(2000 * len(FILES["shelf/deep/er/page.html"]))
    if options:
        assert found["Keep-Alive requests"] == "2000"


def test_httpx_gets_the_right_bytes_and_reuses_its_connection(url: str, site: Path) -> None:
    httpx = pytest.importorskip("httpx")
    with httpx.Client(base_url=url, trust_env=False, timeout=LIMIT) as client:
        ports = set()
        for name, data in FILES.items():
            response = client.get("/" + quote(name))
            assert (response.status_code, response.content) == (200, data)
            ports.add(response.extensions["network_stream"].get_extra_info("client_addr")[1])
        assert len(ports) == 1
        assert client.get("/big.bin").content == (site / "big.bin").read_bytes()
        assert client.head("/big.bin").headers["content-length"] == str(4 * MIB)
        assert client.get("/missing").status_code == 404
        assert client.post("/big.bin", content=b"x").status_code == 405
        assert "charset=utf-8" in client.get("/index.html").headers["content-type"].lower()
        listing = client.get("/shelf", follow_redirects=True)
        assert listing.url.path == "/shelf/"
        links = {unquote(html.unescape(link)) for link in re.findall(r'href="([^"]+)"', listing.text)}
        assert links >= {"deep/", *(name.removeprefix("shelf/") for name in FILES if name.count("/") == 1)}
