"""Clients that are not ours stream through a server, up, down and both at once, and every byte is the right one."""

from __future__ import annotations

import hashlib
import random
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest
import trio

from ktrio import Headers, Limits, Request, Response, SendBytes

pytestmark = pytest.mark.slow

MIB = 1 << 20
ANY_SIZE = Limits(body_bytes=1 << 40)


def pieces(seed: int, size: int) -> Iterator[bytes]:
    """Always the same bytes for a seed, in pieces of all sizes."""
    dice = random.Random(seed)
    while size > 0:
        piece = dice.randbytes(min(size, dice.choice((1, 10, 1000, 65536, 300_000))))
        size -= len(piece)
        yield piece


def digest(parts: Iterator[bytes]) -> str:
    sha = hashlib.sha256()
    for part in parts:
        sha.update(part)
    return sha.hexdigest()


async def stream(request: Request) -> Response:
    """POST and PUT: the body comes back as it is read; GET /seed/size: those bytes, and their digest in a trailer."""
    if request.method != "GET":
        return Response(body=echo(request))
    _, seed, size = request.path.split("/")
    trailers = Headers()
    return Response(body=partial(write, int(seed), int(size), trailers), trailers=trailers)


async def echo(request: Request) -> AsyncIterator[bytes]:
    async for piece in request.body:
        yield piece


async def write(seed: int, size: int, trailers: Headers, send: SendBytes) -> None:
    sha = hashlib.sha256()
    for piece in pieces(seed, size):
        sha.update(piece)
        await send(piece)
    trailers.set("x-sha256", sha.hexdigest())


async def measure(request: Request) -> Response:
    sha, count = hashlib.sha256(), 0
    async for piece in request.body:
        sha.update(piece)
        count += len(piece)
    return Response(body=f"{count} {sha.hexdigest()}".encode())


def url(server, path="/"):
    return f"http://127.0.0.1:{server.addresses[0].port}{path}"


async def curl(*arguments: str, stdin: bytes = b"") -> bytes:
    """What curl prints; its messages are shown if it fails."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    command = ["curl", "-sS", "--noproxy", "*", "--max-time", "20", *arguments]
    ran = await trio.run_process(command, stdin=stdin, capture_stdout=True, capture_stderr=True, check=False)
    print(ran.stderr.decode(errors="replace"))
    assert ran.returncode == 0, ran.stderr.decode(errors="replace")
    return ran.stdout


# -- httpx


async def test_httpx_uploads_and_downloads_at_once_over_one_client(start_http):
    up, down = await start_http(measure, limits=ANY_SIZE), await start_http(stream)
    size = 4 * MIB

    async def upload(client: httpx.AsyncClient, seed: int) -> None:
        async def body() -> AsyncIterator[bytes]:
            for piece in pieces(seed, size):
                yield piece

        answer = await client.post(url(up), content=body())
        assert answer.text == f"{size} {digest(pieces(seed, size))}"

    async def download(client: httpx.AsyncClient, seed: int) -> None:
        sha = hashlib.sha256()
        async with client.stream("GET", url(down, f"/{seed}/{size}")) as response:
            async for piece in response.aiter_bytes():
                sha.update(piece)
        assert sha.hexdigest() == digest(pieces(seed, size))

    async with httpx.AsyncClient(trust_env=False) as client, trio.open_nursery() as nursery:
        for seed in range(3):
            nursery.start_soon(upload, client, seed)
            nursery.start_soon(download, client, seed)
    assert up.statistics().answered == down.statistics().answered == 3


async def test_httpx_leaves_in_the_middle_of_a_download_and_the_writer_is_cancelled(start_http):
    ended: list[type[BaseException] | None] = []

    async def endless(send: SendBytes) -> None:
        try:
            while True:
                await send(b"x" * 65536)
        except BaseException as error:
            ended.append(type(error))
            raise

    async def handler(request: Request) -> Response:
        return Response(body=endless)

    server = await start_http(handler)
    async with httpx.AsyncClient(trust_env=False) as client, client.stream("GET", url(server)) as response:
        assert response.status_code == 200
    await server.wait_for_connections(0)
    assert len(ended) == 1
    assert server.statistics().reasons == {"client-gone": 1}
    assert server.statistics().errors == 0


# -- curl


@pytest.mark.parametrize(
    "options",
    [
        ["-T", "{upload}"],
        ["-T", "{upload}", "-H", "Expect: 100-continue", "--expect100-timeout", "15"],
        ["-T", "{upload}", "-H", "Transfer-Encoding: chunked"],
        ["-T", "-"],
        ["-T", ".", "--http1.1"],
        ["-T", "{upload}", "--limit-rate", "6M"],
        ["-T", "-", "--limit-rate", "6M"],
        ["-T", "{upload}", "--http1.0"],
    ],
    ids=" ".join,
)
async def test_curl_gets_back_what_it_sends_while_it_sends_it(start_http, tmp_path: Path, options: list[str]):
    """`-T -` reads standard input and then sends, `-T .` sends while it reads; the rate is limited both ways."""
    server = await start_http(stream, limits=ANY_SIZE)
    data = b"".join(pieces(7, 3 * MIB))
    (tmp_path / "upload").write_bytes(data)
    filled = [option.format(upload=tmp_path / "upload") for option in options]
    said = await curl("-v", "--stderr", str(tmp_path / "said"), *filled, url(server, "/up"), stdin=data)
    assert (said == data) is True
    if "--expect100-timeout" in options:
        dialogue = (tmp_path / "said").read_text(errors="replace")
        assert dialogue.index("< HTTP/1.1 100 Continue") < dialogue.index("< HTTP/1.1 200 OK")


@pytest.mark.parametrize("options", [[], ["--limit-rate", "4M"], ["--http1.0"]], ids=["plain", "limited", "1.0"])
async def test_curl_downloads_what_is_made_while_it_is_sent(start_http, tmp_path: Path, options: list[str]):
    server = await start_http(stream)
    size = 2 * MIB
    got = await curl("-D", str(tmp_path / "head"), *options, url(server, f"/5/{size}"))
    assert hashlib.sha256(got).hexdigest() == digest(pieces(5, size))
    trailer = f"x-sha256: {digest(pieces(5, size))}"
    assert (trailer in (tmp_path / "head").read_text().lower()) is ("--http1.0" not in options)


async def test_curl_shows_each_piece_as_it_is_sent(start_http):
    """A piece is sent only when the one before has come out of curl."""
    shown = 0
    has_shown = trio.Event()

    async def count(send: SendBytes) -> None:
        nonlocal has_shown
        for number in range(1, 6):
            await send(b"%d\n" % number)
            while shown < number:
                await has_shown.wait()
                has_shown = trio.Event()

    async def handler(request: Request) -> Response:
        return Response(body=count)

    server = await start_http(handler)
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    async with trio.open_nursery() as nursery:
        run = partial(trio.run_process, ["curl", "-sSN", "--noproxy", "*", url(server)], stdout=subprocess.PIPE)
        process: trio.Process = await nursery.start(run)
        assert process.stdout is not None
        received = b""
        async with process.stdout:
            async for data in process.stdout:
                received += data
                shown = received.count(b"\n")
                has_shown.set()
    assert received == b"1\n2\n3\n4\n5\n"


async def test_curl_is_told_that_it_sends_too_much_while_it_sends(start_http):
    """What is still on its way fits into what a connection reads and drops at its end (64 KiB)."""
    server = await start_http(measure, limits=Limits(body_bytes=MIB))
    data = b"x" * (MIB + 32 * 1024)
    for options in (["-T", "-"], ["-T", ".", "-H", "Expect: 100-continue"]):
        said = await curl("-w", " %{http_code}", *options, url(server, "/up"), stdin=data)
        assert said.endswith(b" 413")
    assert server.statistics().errors == 0


async def test_curl_sends_nothing_when_it_asks_first_and_is_refused(start_http, tmp_path: Path):
    async def refuse(request: Request) -> Response:
        return Response(403, body=b"no\n")

    server = await start_http(refuse)
    (tmp_path / "upload").write_bytes(b"x" * MIB)
    said = await curl(
        *("-T", str(tmp_path / "upload"), "-H", "Expect: 100-continue", "--expect100-timeout", "15"),
        *("-w", "%{http_code} %{size_upload}", url(server, "/up")),
    )
    assert said == b"no\n403 0"
