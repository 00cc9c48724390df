"""What type checkers must accept of logs; checked by `make check-types`, never run."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import assert_type

import trio

from ktrio import AccessLog, LogStatistics, Request, Response, open_access_log, serve_http


async def answer(request: Request) -> Response:
    return Response.text(assert_type(request.id, str))


async def log_requests() -> None:
    async with (
        open_access_log("a string") as by_name,
        open_access_log(Path("a path"), log_format="json") as by_path,
        open_access_log(1, log_format="common") as by_descriptor,
        trio.open_nursery() as nursery,
    ):
        assert_type(by_name, AccessLog)
        assert_type(by_path.statistics(), LogStatistics)
        await nursery.start(partial(serve_http, answer, tell=by_descriptor, trust_request_id=True))
        await by_name.flush()
        by_name.reopen()
    open_access_log("name", log_format="apache")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    open_access_log("name", "json")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
