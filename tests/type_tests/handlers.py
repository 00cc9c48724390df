"""What type checkers must accept of handlers and their values; checked by `make check-types`, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import assert_type

import trio

from ktrio.handlers.files import files
from ktrio.http.headers import Headers
from ktrio.http.messages import BodyWriter, Draining, Handler, Request, RequestBody, Response, SendBytes


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


class MemoryBody:
    """What a test hands to a handler instead of a peer's body."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        return parts()

    async def read(self, *, max_bytes: int | None = None) -> bytes:
        return b""


body: RequestBody = MemoryBody()


async def stream_both_ways(request: Request) -> Response:
    async for piece in request.body:
        assert_type(piece, bytes)

    async def write(send: SendBytes) -> None:
        await send(b"one")

    writer: BodyWriter = write
    return Response(body=writer, trailers=Headers({"x-checksum": "1"}))


streaming: Handler = stream_both_ways


def answer_at_once(request: Request) -> Response:
    return Response()


wrong: Handler = answer_at_once  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]

assert_type(files("."), Handler)
assert_type(files(".", index=["a.html"], listing=False, dotfiles="unlisted", links="owner"), Handler)
files(".", media_types={".glsl": "text/plain"})
files(".", dotfiles="some")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
files(".", links=True)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
files(".", spa=True, error_pages=True, rules={"redirect": [{"from": "/a", "to": "/b"}]}, cors="*", immutable=True)
files(".", rules="rules.toml", cors=["https://a.example"], security_headers="strict")
files(".", security_headers="high")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
