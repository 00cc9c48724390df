"""Raw bytes to a server in memory, and what comes back, read strictly."""

from __future__ import annotations

import re
from typing import final

import trio

from ktrio.testing import MemoryResponse, MemoryServer, MemoryStream
from ktrio.testing._responses import parse_response

_METHODS = re.compile(rb"([A-Z]+) \S+ HTTP/1\.\d\r\n")


@final
class Wire:
    """One connection, seen from its client."""

    def __init__(self, memory: MemoryServer) -> None:
        self.memory = memory
        self.stream: MemoryStream = memory.connect()
        self.raw = b""  # all that has come
        self._unread = b""
        self._methods: list[str] = []

    async def say(self, data: bytes, *, fin: bool = False) -> list[MemoryResponse]:
        """Send, and read what comes until nothing moves any more: whole responses, those with 1xx among them."""
        self._methods += [method.decode() for method in _METHODS.findall(data)]
        await self.stream.send_all(data)
        if fin:
            await self.stream.send_eof()
        return await self.read()

    async def read(self) -> list[MemoryResponse]:
        """What has come since, as responses."""
        try:
            received = await self.stream.receive_until_blocked()
        except trio.BrokenResourceError:  # a reset, of which `stream.ended` tells
            received = b""
        self.raw += received
        self._unread += received
        responses = []
        while self._unread:
            method = self._methods[0] if self._methods else "GET"
            parsed = parse_response(self._unread, method=method, ended=self.stream.ended == "fin")
            if parsed is None:
                break
            response, taken = parsed
            self._unread = self._unread[taken:]
            responses.append(response)
            if response.status >= 200:
                del self._methods[:1]
        return responses

    async def ask(self, data: bytes, *, fin: bool = False) -> MemoryResponse:
        """Send a request and read its one response."""
        responses = await self.say(data, fin=fin)
        assert len(responses) == 1, (responses, self.raw)
        return responses[0]

    @property
    def is_over(self) -> bool:
        """Has the server ended the connection?"""
        return self.stream.ended != ""

    @property
    def head(self) -> bytes:
        """The raw head of the first response."""
        return self.raw.partition(b"\r\n\r\n")[0]
