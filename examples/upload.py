# Files of any size into a folder, in constant memory: python examples/upload.py FOLDER [PORT [MOST_BYTES]]
#
#   $ curl -T film.mkv http://127.0.0.1:8081/              curl adds the name; 201 when all of it is there
#   $ tar c . | curl -T - http://127.0.0.1:8081/this.tar   of unknown length
#
# A file has its name only when it is complete. Interrupt curl: nothing is left of it. More than MOST_BYTES (10 GiB) is
# a 413, at once if curl says how much it is. Ctrl-C on the server: uploads have 8 s to finish.

import os
import re
import secrets
import signal
import sys
from functools import partial
from pathlib import Path
from typing import BinaryIO

import trio

from ktrio import BadRequest, Limits, MethodNotAllowed, Request, Response, Server, serve_http, url_of


def commit(file: BinaryIO, unfinished: Path, finished: Path) -> None:
    file.flush()
    os.fsync(file.fileno())
    unfinished.replace(finished)  # atomic: whoever looks sees the old file or the new one


async def store(folder: Path, request: Request) -> Response:
    if request.method != "PUT":
        raise MethodNotAllowed("Only PUT.", allow=("PUT",))
    if not re.fullmatch(r"/\w[\w.-]*", request.path, re.ASCII):
        raise BadRequest("A name has letters, digits, dots and dashes, and begins with a letter or digit.")
    finished, unfinished, count = folder / request.path[1:], folder / f".{secrets.token_hex(8)}", 0
    try:
        async with await trio.open_file(unfinished, "xb") as file:
            async for piece in request.body:  # as fast as the disk is: the client waits meanwhile
                count += await file.write(piece)
            with trio.fail_after(10, shield=True):  # all is there: nothing interrupts the last step, for a while
                await trio.to_thread.run_sync(commit, file.wrapped, unfinished, finished, abandon_on_cancel=True)
    finally:
        with trio.move_on_after(10, shield=True):
            await trio.Path(unfinished).unlink(missing_ok=True)
    return Response(201, body=f"{finished.name}: {count} bytes\n".encode())


async def main(folder: Path, port: int = 8081, most: int = 10 << 30) -> None:
    serve = partial(serve_http, partial(store, folder), port, limits=Limits(body_bytes=most))
    with trio.open_signal_receiver(signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            server: Server = await nursery.start(serve)
            print("storing at", url_of(server.addresses[0]), flush=True)
            await anext(signals)
            await server.shutdown()


trio.run(partial(main, Path(sys.argv[1]), *map(int, sys.argv[2:])))
