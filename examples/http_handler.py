# A handler of your own, an async function from Request to Response: python examples/http_handler.py [PORT]
#
#   $ curl http://127.0.0.1:8081/you                         who you are
#   $ curl -d 'so many words' http://127.0.0.1:8081/words    reads the whole body, up to 1 MiB
#   $ curl -T BIG_FILE http://127.0.0.1:8081/count           reads it piece by piece, up to 1 TiB, in constant memory
#   $ curl http://127.0.0.1:8081/numbers                     a download that is made while it is sent
#   $ curl -N http://127.0.0.1:8081/ticks                    press Ctrl-C on the server, and it says goodbye

import signal
import sys
from collections.abc import AsyncIterator
from functools import partial

import trio

from ktrio import Headers, Limits, NotFound, Request, Response, SendBytes, Server, serve_http, url_of


async def ticks(request: Request) -> AsyncIterator[bytes]:
    while not request.draining.is_set():  # it has no end of its own, so it ends when the server drains
        yield b"tick\n"
        with trio.move_on_after(1):
            await request.draining.wait()
    yield b"goodbye\n"


async def write_numbers(send: SendBytes) -> None:
    for thousand in range(1000):  # `send` waits for a slow reader, so memory stays flat
        await send("".join(f"{number}\n" for number in range(1000 * thousand, 1000 * (thousand + 1))).encode())


async def handle(request: Request) -> Response:
    if request.path == "/you":
        return Response(200, Headers({"Content-Type": "text/plain"}), f"{request.peer}\n".encode())
    if request.path == "/words":
        return Response(body=b"%d words\n" % len((await request.read(max_bytes=1 << 20)).split()))
    if request.path == "/count":
        count = 0
        async for piece in request.body:
            count += len(piece)
        return Response(body=b"%d bytes\n" % count)
    if request.path == "/numbers":
        return Response(body=write_numbers)
    if request.path == "/ticks":
        return Response(body=ticks(request))
    raise NotFound("Try /you, /words, /count, /numbers and /ticks.")


async def main(port: int) -> None:
    with trio.open_signal_receiver(signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            server: Server = await nursery.start(partial(serve_http, handle, port, limits=Limits(body_bytes=1 << 40)))
            print("listening at", url_of(server.addresses[0]), flush=True)
            await anext(signals)
            await server.shutdown()


trio.run(main, int(sys.argv[1]) if sys.argv[1:] else 8081)
