"""What type checkers must accept of handlers and their values; checked by `make check-types`, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import assert_type

import trio

from ktrio.http.headers import Headers
from ktrio.http.messages import BodyReader, Draining, Handler, Request, Response


async def answer(request: Request) -> Response:
    assert_type(request.query, str | None)
    assert_type(await request.read(), bytes)
    assert_type(request.headers.get("accept"), str | None)
    if request.draining.is_set():
        return Response(503, Headers({"retry-after": "1"}))
    return Response(body=parts())


async def parts() -> AsyncIterator[bytes]:
    yield b"one"


handler: Handler = answer
# Trio's own event is the soft cancellation; nothing needs to be wrapped.
draining: Draining = trio.Event()


class Body:
    async def read(self) -> bytes:
        return b""


reader: BodyReader = Body()


def answer_at_once(request: Request) -> Response:
    return Response()


wrong: Handler = answer_at_once  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
