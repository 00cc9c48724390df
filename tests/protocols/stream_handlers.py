"""Stream handlers that do one thing for ever, and one that tells how it left."""

from __future__ import annotations

import trio

MIB = 1 << 20


class Watching:
    """Calls another handler and remembers how it left."""

    def __init__(self, handler) -> None:
        self.handler = handler
        self.left: list[str] = []

    async def __call__(self, stream):
        try:
            await self.handler(stream)
        except BaseException as error:
            self.left.append(type(error).__name__)
            raise
        else:
            self.left.append("returned")


def nothing_wrong(server) -> bool:
    return (server.statistics().open, server.statistics().errors, server.statistics().cut) == (0, 0, 0)


async def receive_for_ever(stream):
    while await stream.receive_some():
        pass


async def receive_unless_draining_for_ever(stream):
    while await stream.receive_unless_draining():
        pass


async def send_for_ever(stream):
    while True:
        await stream.send_all(bytes(MIB))


async def sleep_for_ever(stream):
    await trio.sleep_forever()
