# Server-sent events, one a second to any number of browsers: python examples/server_sent_events.py [PORT]
#
#   http://127.0.0.1:8081/                    open it in several windows: all count alike; the terminal counts them
#   $ curl -N http://127.0.0.1:8081/events    what the page listens to
#
# Ctrl-C ends all streams at once. Pages try again each second (`retry:`): start it anew, and they go on.

import signal
import sys
from collections.abc import AsyncIterator

import trio

from ktrio import Headers, Request, Response, Server, parked, serve_http, url_of

PAGE = b"""<!doctype html><meta charset="utf-8"><title>Events</title><pre></pre><script>
const source = new EventSource("/events")
source.onmessage = event => document.querySelector("pre").append("event " + event.data + "\\n")
source.onerror = () => document.querySelector("pre").append("the stream has ended; trying again\\n")
</script>"""


class Ticker:
    count = 0
    ticked = trio.Event()

    async def run(self, server: Server) -> None:
        while not server.draining.is_set():
            with trio.move_on_after(1):
                await server.draining.wait()
            self.count += 1
            self.ticked.set()
            self.ticked = trio.Event()
            print(f"event {self.count}, open {server.statistics().open}", flush=True)

    async def events(self, request: Request) -> AsyncIterator[bytes]:
        yield b"retry: 1000\n\n"
        while not request.draining.is_set():
            async with parked():  # a mere listener holds no slot: thousands of them do not shut out anybody
                await self.ticked.wait()
            yield f"data: {self.count}\n\n".encode()

    async def handle(self, request: Request) -> Response:
        if request.path == "/events":
            return Response(200, Headers({"Content-Type": "text/event-stream"}), self.events(request))
        return Response(200, Headers({"Content-Type": "text/html"}), PAGE)


async def main(port: int) -> None:
    with trio.open_signal_receiver(signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            server: Server = await nursery.start(serve_http, (ticker := Ticker()).handle, port)
            nursery.start_soon(ticker.run, server)
            print("listening at", url_of(server.addresses[0]), flush=True)
            await anext(signals)
            await server.shutdown()


trio.run(main, int(sys.argv[1]) if sys.argv[1:] else 8081)
