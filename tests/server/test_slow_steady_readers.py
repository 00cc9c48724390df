"""A slow but steady reader lives, whatever is sent to it: what it has taken counts before the kernel has room again."""

from __future__ import annotations

import pytest

import ktrio
from ktrio import Response, Timeouts
from tests.server.harness import advance, get

MIB = 1 << 20


async def pieces():
    while True:
        yield b"x" * 100_000


@pytest.mark.parametrize("what", ["bytes", "file", "stream"])
async def test_reader_that_takes_a_little_every_second_outlives_the_write_timeout(
    start_http, connect, mock_clock, tmp_path, what
):
    with (tmp_path / "big").open("wb") as file:
        file.truncate(64 * MIB)

    async def handler(request):
        return Response(body=bytes(64 * MIB) if what == "bytes" else pieces())

    server = await start_http(ktrio.files(tmp_path) if what == "file" else handler, timeouts=Timeouts(write=2.5))
    client = await connect(server, receive_buffer=4096)
    await client.send(get("/big"))
    await client.read_head()
    for _ in range(12):
        await client.read(20_000)
        await advance(mock_clock, 1)
        assert server.statistics().open == 1
