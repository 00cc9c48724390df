# A handler of your own, an async function from Request to Response: python examples/http_handler.py [PORT]
#
#   $ curl http://127.0.0.1:8081/                            text
#   $ curl http://127.0.0.1:8081/you                         JSON: who you are
#   $ curl -d 'so many words' http://127.0.0.1:8081/words    reads the body: {"words": 3}
#   $ curl -N http://127.0.0.1:8081/ticks                    a stream; press Ctrl-C on the server, and it says goodbye

import json
import signal
import sys
from collections.abc import AsyncIterator

import trio

from ktrio import Headers, Request, Response, Server, TcpAddress, serve_http


def answer(kind: str, content: str, status: int = 200) -> Response:
    return Response(status, Headers({"Content-Type": kind}), content.encode())


async def ticks(request: Request) -> AsyncIterator[bytes]:
    """A line a second: an answer without an end of its own, so it ends when the server drains."""
    while not request.draining.is_set():
        yield b"tick\n"
        with trio.move_on_after(1):
            await request.draining.wait()
    yield b"goodbye\n"


async def handle(request: Request) -> Response:
    match request.method, request.path:
        case "GET" | "HEAD", "/":
            return answer("text/plain", "Try /you, /words and /ticks.\n")
        case "GET" | "HEAD", "/you":
            return answer("application/json", json.dumps({"peer": request.peer}))
        case "POST", "/words":
            body = await request.read()  # at most 1 MiB, else the client gets a 413
            return answer("application/json", json.dumps({"words": len(body.split())}))
        case "GET", "/ticks":
            return Response(headers=Headers({"Content-Type": "text/plain"}), body=ticks(request))
    return answer("text/plain", "Nothing here.\n", status=404)


async def main(port: int) -> None:
    with trio.open_signal_receiver(signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            server: Server = await nursery.start(serve_http, handle, port)
            for address in server.addresses:
                assert isinstance(address, TcpAddress)
                print(f"listening at http://{address.host}:{address.port}/", flush=True)
            await anext(signals)
            await server.shutdown()


trio.run(main, int(sys.argv[1]) if sys.argv[1:] else 8081)
