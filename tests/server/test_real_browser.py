"""A real browser listens to server-sent events (WHATWG HTML, "Server-sent events"): headless Chromium."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import trio

from ktrio import Headers, Request, Response
from tests.cli.processes import LIMIT, Program

pytestmark = [pytest.mark.slow, pytest.mark.exhaustive]

EXAMPLE = Path(__file__).parents[2] / "examples" / "server_sent_events.py"

# Reports each event, and under which name it was known when the connection was made anew.
PAGE = b"""<!doctype html><script>
new EventSource("/events").onmessage = event => fetch("/seen", {method: "POST", body: event.data})
</script>"""


# Chromium wants the ends of its pipes as descriptors 3 and 4.
START = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execv(sys.argv[3], sys.argv[3:])"
)


class Browser:
    """One run of headless Chromium with a profile of its own, steered by the DevTools protocol over two pipes."""

    def __init__(self, folder: Path, url: str) -> None:
        chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
        if chromium is None:
            pytest.skip("no Chromium is installed")
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        command = [chromium, *options, f"--user-data-dir={folder / 'profile'}", "--remote-debugging-pipe", url]
        with ExitStack() as its_own:
            reads, writes = os.pipe(), os.pipe()
            self._to, self._from = os.fdopen(reads[1], "wb"), os.fdopen(writes[0], "rb")
            ends = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (reads[0], writes[1])]
            for end in (reads[0], writes[1], *ends):
                its_own.callback(os.close, end)
            self._process = subprocess.Popen(
                [sys.executable, "-c", START, *map(str, ends), *command],
                pass_fds=ends,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._url = url
        self._calls = 0
        self._session: dict[str, str] = {}

    def call(self, method: str, **params: object) -> dict[str, Any]:
        """One call of the DevTools protocol, and its result; an error is an empty one."""
        self._calls += 1
        request = {"id": self._calls, "method": method, "params": params, **self._session}
        self._to.write(json.dumps(request).encode() + b"\0")
        self._to.flush()
        received = bytearray()
        while True:
            byte = self._from.read(1)
            assert byte, "the browser has ended"
            if byte != b"\0":
                received += byte
                continue
            message = json.loads(received)
            received.clear()
            if message.get("id") == self._calls:
                return message.get("result", {})

    def evaluate(self, expression: str) -> str:
        """What a promise of the page comes to."""
        if not self._session:
            targets = self.call("Target.getTargets")["targetInfos"]
            page = next(each for each in targets if each["type"] == "page" and each["url"] == self._url)
            attached = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)
            self._session = {"sessionId": attached["sessionId"]}
        while True:
            result = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
            if result:  # none: it was the empty page before this one
                assert "exceptionDetails" not in result, result
                return result["result"]["value"]

    def close(self) -> None:
        """The window is closed."""
        self._session = {}
        self.call("Browser.close")
        self._process.wait(LIMIT)

    def end(self) -> None:
        """However it fares."""
        for pipe in (self._to, self._from):
            pipe.close()
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


@pytest.fixture
def browse(tmp_path: Path) -> Iterator[Callable[[str], Browser]]:
    """Open a page in a browser, which ends with the test."""
    with ExitStack() as stack:

        def browse(url: str) -> Browser:
            browser = Browser(tmp_path, url)
            stack.callback(browser.end)
            return browser

        yield browse


class Site:
    """A page, its events, and what the browser says of them. An event is made only when the one before was seen."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.last_ids: list[str | None] = []
        self.has_seen = trio.Event()
        self.has_gone = trio.Event()
        self.cancelled = trio.Event()

    async def wait_until_seen(self, number: int) -> None:
        while len(self.seen) < number:
            await self.has_seen.wait()

    async def handle(self, request: Request) -> Response:
        match request.path:
            case "/":
                return Response(200, Headers({"Content-Type": "text/html"}), PAGE)
            case "/seen":
                self.seen.append((await request.read()).decode())
                self.has_seen.set()
                self.has_seen = trio.Event()
                return Response(204)
            case "/events":
                self.last_ids.append(request.headers.get("last-event-id"))
                fields = Headers({"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
                return Response(200, fields, self.events(int(self.last_ids[-1] or 0)))
        return Response(404)

    async def events(self, last: int) -> AsyncIterator[bytes]:
        try:
            yield b"retry: 10\n\n"
            for number in range(last + 1, last + 4):
                yield b"id: %d\ndata: event %d\n\n" % (number, number)
                await self.wait_until_seen(number)
            if last:
                await self.has_gone.wait()
                yield b": is anybody there?\n\n"
                await trio.sleep_forever()
        except trio.Cancelled:
            self.cancelled.set()
            raise


async def test_a_browser_sees_events_one_by_one_returns_when_they_end_and_is_missed_when_it_goes(start_http, browse):
    """Were anything held back until there is more, or until the end, it would wait for ever."""
    site = Site()
    server = await start_http(site.handle)
    browser = browse(f"http://127.0.0.1:{server.addresses[0].port}/")
    await site.wait_until_seen(6)
    assert server.statistics().reasons.get("client-gone", 0) == 0
    await trio.to_thread.run_sync(browser.close)
    site.has_gone.set()  # it has said FIN, which may be a half-close; the next event is answered by a reset
    await site.cancelled.wait()
    await server.wait_for_connections(0)
    assert site.seen == [f"event {number}" for number in range(1, 7)]
    assert site.last_ids == [None, "3"]
    assert server.statistics().reasons["client-gone"] == 1
    assert server.statistics().errors == 0


# Once the page shows a line that has it, all that it shows.
SHOWN = """new Promise(done => {
  const look = () => {
    const shown = document.querySelector("pre")?.textContent ?? ""
    if (shown.includes(WANTED)) done(shown)
  }
  new MutationObserver(look).observe(document, {childList: true, subtree: true})
  look()
})"""


def test_the_page_of_the_example_counts_along_and_comes_back(browse):
    def serve(port: str) -> Program:
        return Program(EXAMPLE, port, command=[sys.executable, "-W", "error"])

    program, after = serve("0"), None
    try:
        url = program.out.wait_for(r" at (http://\S+)$")[1]
        browser = browse(url)
        program.out.wait_for(r"^event \d+, open [12]$")
        first = browser.evaluate(SHOWN.replace("WANTED", '"event "')).splitlines()[0]
        third = f"event {int(first.split()[1]) + 2}"
        assert browser.evaluate(SHOWN.replace("WANTED", f'"{third}"')).splitlines()[-1] == third
        assert program.stop() == 0
        assert program.said == ""

        after = serve(url.rpartition(":")[2].strip("/"))  # the same port
        shown = browser.evaluate(SHOWN.replace("WANTED", '"event 1\\n"')).splitlines()
        assert "the stream has ended; trying again" in shown
        browser.close()
        after.out.wait_for(r"^event \d+, open 0$")
        assert after.stop() == 0
        assert after.said == ""
    finally:
        for each in filter(None, (program, after)):
            each.close()
