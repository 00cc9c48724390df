"""The smallest ASGI application: a constant reply. For uvicorn, and for whoever else speaks ASGI."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from constant import BODY, FIELDS

START = {"type": "http.response.start", "status": 200, "headers": [(name.lower(), value) for name, value in FIELDS]}
END = {"type": "http.response.body", "body": BODY}


async def application(_scope: object, _receive: object, send: Callable[[object], Awaitable[None]]) -> None:
    await send(START)
    await send(END)
