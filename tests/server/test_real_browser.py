"""A real browser listens to server-sent events (WHATWG HTML, "Server-sent events"): headless Chromium."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trio

from ktrio import Headers, Request, Response
from tests.browser import Browser
from tests.cli.processes import Program

pytestmark = [pytest.mark.slow, pytest.mark.exhaustive]

EXAMPLE = Path(__file__).parents[2] / "examples" / "server_sent_events.py"

# Reports each event, and under which name it was known when the connection was made anew.
PAGE = b"""<!doctype html><script>
new EventSource("/events").onmessage = event => fetch("/seen", {method: "POST", body: event.data})
</script>"""


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
