"""Clients that are not ours get the right bytes: httpx, the standard library, curl, wget, ab."""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import subprocess
import urllib.request

import pytest
import trio

import ktrio
from ktrio import Response

pytestmark = pytest.mark.slow


@pytest.fixture
def site(tmp_path):
    """A folder worth mirroring."""
    folder = tmp_path / "site"
    (folder / "sub").mkdir(parents=True)
    (folder / "index.html").write_text('<a href="sub/">sub</a> <a href="a%20b.txt">a b</a> <a href="big.bin">big</a>')
    (folder / "a b.txt").write_text("text with a space in its name")
    (folder / "big.bin").write_bytes(os.urandom(3 << 20))
    (folder / "sub" / "index.html").write_text('<a href="../">up</a> <a href="page.html">page</a>')
    (folder / "sub" / "page.html").write_text("<p>page</p>")
    return folder


def url(server, path="/"):
    return f"http://127.0.0.1:{server.addresses[0].port}{path}"


async def run(*command: str) -> str:
    """What the command prints, or a skip where it is not installed."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    result = await trio.run_process(command, capture_stdout=True, stderr=subprocess.STDOUT, check=False)
    text = result.stdout.decode(errors="replace")
    assert result.returncode == 0, text
    return text


async def mirror(request):
    body = await request.read()
    return Response(body=f"{request.method} {len(body)} {hashlib.sha256(body).hexdigest()}".encode())


@pytest.mark.exhaustive
async def test_httpx_keeps_its_connections_and_gets_every_byte(start_http, site):
    httpx = pytest.importorskip("httpx")
    server = await start_http(ktrio.files(site))
    big = (site / "big.bin").read_bytes()

    async def fetch(client):
        for _ in range(5):
            assert (await client.get(url(server, "/a%20b.txt"))).text == "text with a space in its name"
            assert (await client.get(url(server, "/big.bin"))).content == big
            assert (await client.head(url(server, "/big.bin"))).headers["content-length"] == str(len(big))
            assert (await client.get(url(server, "/none"))).status_code == 404

    async with httpx.AsyncClient() as client, trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(fetch, client)
    assert server.statistics().accepted <= 8


async def test_httpx_streams_both_ways(start_http):
    httpx = pytest.importorskip("httpx")

    async def handler(request):
        async def pieces():
            for index in range(100):
                yield b"%d " % index

        return Response(body=pieces() if request.method == "GET" else await request.read())

    async def upload():
        for _ in range(10):
            yield b"x" * 1000

    server = await start_http(handler)
    async with httpx.AsyncClient() as client:
        for _ in range(3):
            assert (await client.get(url(server))).text.split() == [str(index) for index in range(100)]
            assert (await client.post(url(server), content=upload())).content == b"x" * 10_000


async def test_standard_library_gets_every_byte(start_http, site):
    server = await start_http(ktrio.files(site))

    def fetch():
        connection = http.client.HTTPConnection("127.0.0.1", server.addresses[0].port)
        bodies = []
        for path in ["/a%20b.txt", "/big.bin", "/sub/"]:
            connection.request("GET", path)
            bodies.append(connection.getresponse().read())
        connection.request("POST", "/a%20b.txt", body=b"x" * 1000)
        bodies.append(connection.getresponse().status)
        connection.close()
        with urllib.request.urlopen(url(server, "/sub")) as response:  # a redirect to the slash
            bodies.append(response.url)
        return bodies

    text, big, page, status, where = await trio.to_thread.run_sync(fetch)
    assert text == (site / "a b.txt").read_bytes()
    assert big == (site / "big.bin").read_bytes()
    assert page == (site / "sub" / "index.html").read_bytes()
    assert status == 405
    assert where.endswith("/sub/")


async def test_curl_gets_and_sends_every_byte(start_http, site, tmp_path):
    """An upload this size makes curl expect a 100 (RFC 9110 section 10.1.1)."""
    files, mirrored = await start_http(ktrio.files(site)), await start_http(mirror)
    target = str(tmp_path / "fetched")
    await run("curl", "-sS", "--fail", "-o", target, url(files, "/big.bin"))
    assert (tmp_path / "fetched").read_bytes() == (site / "big.bin").read_bytes()
    upload = tmp_path / "upload"
    upload.write_bytes(os.urandom(1_000_000))
    expected = hashlib.sha256(upload.read_bytes()).hexdigest()
    for form in [
        ["--data-binary", f"@{upload}"],
        ["-T", str(upload)],
        ["-T", str(upload), "-H", "Transfer-Encoding: chunked"],
    ]:
        text = await run("curl", "-sS", "--max-time", "20", "-H", "Expect: 100-continue", *form, url(mirrored, "/up"))
        assert text.split()[1:] == ["1000000", expected]
    heads = await run("curl", "-sSI", url(files, "/big.bin"), url(files, "/none"))
    assert heads.count("HTTP/1.1 ") == 2
    old = await run("curl", "-sS", "-0", url(files, "/a%20b.txt"))
    assert old == "text with a space in its name"


async def test_curl_resets_nothing_when_its_upload_is_refused(start_http, tmp_path):
    """The answer to a body that is too large is read whole, without an error on curl's side."""
    server = await start_http(mirror)
    upload = tmp_path / "upload"
    with upload.open("wb") as file:
        file.truncate(3 << 20)
    text = await run(
        "curl", "-sS", "--max-time", "20", "-w", " %{http_code}", "--data-binary", f"@{upload}", url(server)
    )
    assert text.endswith(" 413")


async def test_wget_mirrors_a_folder(start_http, site, tmp_path):
    server = await start_http(ktrio.files(site))
    await run("wget", "-q", "--mirror", "-nH", "-P", str(tmp_path / "mirror"), url(server))
    for path in site.rglob("*"):
        if path.is_file():
            assert (tmp_path / "mirror" / path.relative_to(site)).read_bytes() == path.read_bytes()


async def test_ab_keeps_its_http10_connections(start_http, site):
    """`ab -k` speaks HTTP/1.0 with keep-alive and finds Content-Length by its capitals."""
    server = await start_http(ktrio.files(site))
    text = await run("ab", "-k", "-q", "-n", "400", "-c", "10", url(server, "/a%20b.txt"))
    lines = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}
    assert (lines["Complete requests"], lines["Failed requests"]) == ("400", "0")
    assert lines["Keep-Alive requests"] == "400"
    assert "Non-2xx responses" not in lines
