"""What type checkers must accept of the monitor; checked by `make check-types`, never run."""

from __future__ import annotations

from pathlib import Path
from typing import assert_type

import trio

from ktrio import Request, Response, Server, Supervisor, Workqueue, open_supervisor, serve_http, serve_monitor


async def answer(request: Request) -> Response:
    return Response()


async def watch_a_program() -> None:
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        await nursery.start(serve_monitor, supervisor, "a string")
        await nursery.start(serve_monitor, supervisor, Path("a path"))
        nursery.start_soon(serve_monitor, supervisor, b"bytes")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def watch_a_server(workqueue: Workqueue) -> None:
    async with trio.open_nursery() as nursery:
        server: Server = await nursery.start(serve_http, answer)
        assert_type(server.supervisor, Supervisor)
        await nursery.start(serve_monitor, server.supervisor, "server")
        assert_type(workqueue.supervisor, Supervisor)
