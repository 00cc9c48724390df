"""What Python's libraries do."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import importlib
import importlib.metadata
import platform
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from tests.real_clients.trial import TIMEOUT, Place, Trial, digest, must_be_equal

BIG = "big.bin"
STEP = 2 << 20


def version_of(library: str) -> Callable[[], str | None]:
    """Asks what is installed; None if it is not."""

    def ask() -> str | None:
        try:
            return importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            return None

    return ask


def ranges(size: int) -> list[str]:
    return [f"bytes={start}-{min(start + STEP, size) - 1}" for start in range(0, size, STEP)]


def must_be_big(place: Place, parts: list[bytes]) -> None:
    must_be_equal(BIG, hashlib.sha256(b"".join(parts)).hexdigest(), digest(place.site / BIG))


def http_client_asks_on_one_connection(place: Place) -> None:
    connection = http.client.HTTPConnection(urlsplit(place.url).netloc, timeout=TIMEOUT)

    def ask(method: str, **fields: str) -> tuple[http.client.HTTPResponse, bytes]:
        connection.request(method, "/" + BIG, headers={name.replace("_", "-"): value for name, value in fields.items()})
        response = connection.getresponse()
        return response, response.read()

    head, nothing = ask("HEAD")
    size = int(head.getheader("Content-Length", "0"))
    must_be_equal("the size", (size, nothing), ((place.site / BIG).stat().st_size, b""))
    used = connection.sock
    must_be_big(place, [ask("GET", Range=each)[1] for each in ranges(size)])
    must_be_equal("the same", ask("GET", If_None_Match=head.getheader("ETag", ""))[0].status, 304)
    must_be_equal("behind the end", ask("GET", Range=f"bytes={size}-")[0].status, 416)
    must_be_equal("one connection", connection.sock is used, True)
    connection.close()


def httpx_asks_from_threads(place: Place) -> None:
    httpx = importlib.import_module("httpx")
    size = (place.site / BIG).stat().st_size
    with httpx.Client(timeout=TIMEOUT, trust_env=False) as client, ThreadPoolExecutor(8) as threads:
        whole = client.get(place.url + BIG)
        parts = threads.map(lambda each: client.get(place.url + BIG, headers={"Range": each}).content, ranges(size))
        must_be_big(place, list(parts))
    must_be_big(place, [whole.content])


def aiohttp_asks_from_tasks(place: Place) -> None:
    aiohttp = importlib.import_module("aiohttp")
    size = (place.site / BIG).stat().st_size

    async def fetch_all() -> list[bytes]:
        timeout = aiohttp.ClientTimeout(total=TIMEOUT)
        async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as session:

            async def fetch(asked: str) -> bytes:
                async with session.get(place.url + BIG, headers={"Range": asked}) as response:
                    return await response.read()

            return await asyncio.gather(*map(fetch, ranges(size)))

    must_be_big(place, asyncio.run(fetch_all()))


TRIALS = [
    Trial(
        "http.client",
        "HEAD, sixteen ranges, `If-None-Match`, a range behind the end: on one connection",
        platform.python_version,
        http_client_asks_on_one_connection,
        partial=True,
    ),
    Trial(
        "httpx",
        "32 MiB at once, and in sixteen ranges from eight threads",
        version_of("httpx"),
        httpx_asks_from_threads,
        partial=True,
    ),
    Trial(
        "aiohttp", "32 MiB in sixteen ranges side by side", version_of("aiohttp"), aiohttp_asks_from_tasks, partial=True
    ),
]
