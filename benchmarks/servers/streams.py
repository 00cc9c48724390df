"""Streams both ways: PUT anything, it is counted; GET /BYTES, so many are made while they are sent. SIGINT ends it."""

from __future__ import annotations

import signal
from functools import partial

import trio

from ktrio import Limits, Request, Response, SendBytes, Server, serve_http, url_of

PIECE = bytes(256 * 1024)
GRACE = 2.0


async def write(size: int, send: SendBytes) -> None:
    while size:
        piece = PIECE[:size]
        await send(piece)
        size -= len(piece)


async def handle(request: Request) -> Response:
    if request.method == "GET":
        return Response(body=partial(write, int(request.path[1:])))
    count = 0
    async for piece in request.body:
        count += len(piece)
    return Response(body=b"%d" % count)


async def main() -> None:
    with trio.open_signal_receiver(signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            serve = partial(serve_http, handle, "127.0.0.1:0", limits=Limits(body_bytes=1 << 62))
            server: Server = await nursery.start(serve)
            print(url_of(server.addresses[0]), flush=True)
            await anext(signals)
            await server.shutdown(grace=GRACE)
    counts = server.statistics()
    print(counts.answered, counts.cut, counts.reasons.get("client-gone", 0), counts.errors, flush=True)


trio.run(main)
