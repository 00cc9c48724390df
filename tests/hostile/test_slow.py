"""Peers that are slow on purpose: a dozen at once against one slot, each ended within its deadline, others served."""

from __future__ import annotations

import trio

from ktrio import QueueOptions, Response, Timeouts, files
from ktrio.testing import serve_in_memory
from tests.hostile.attack import HOST, told

ATTACKERS = 12
# One handler at work at a time: a slow peer that kept its slot would stop everybody.
ONE_SLOT = QueueOptions(max_active=1)
# A connection's scope may lag by so much behind its deadlines; and a little.
LATE = 0.3

SLOWLORIS = "Hansen, *Slowloris* (2009); CVE-2007-6750"
SLOW_BODY = "Chee and Brennan, *Slow HTTP POST* (2010)"
SLOW_READ = "Shekyan, *Slow Read* (2012)"


async def read_body(request):
    return Response(body=b"%d" % len(await request.read()))


async def receive(stream) -> bytes:
    try:
        return await stream.receive_until_blocked()
    except trio.BrokenResourceError:
        return b""


async def slow_attack(memory, *, first: bytes, drip: bytes = b"", every: float = 1.0, seconds: float) -> list[bytes]:
    """`ATTACKERS` send `first`, then `drip` every so often until they cannot; what each was answered after `seconds`.

    Somebody else is served at once all the while. Who is not ended by then is an error.
    """
    streams = [memory.connect() for _ in range(ATTACKERS)]
    for stream in streams:
        await stream.send_all(first)
    for _ in range(int(seconds / every)):
        assert (await memory.request("GET", "/")).status == 200
        await memory.advance(every)
        for stream in streams:
            try:
                stream.send_nowait(drip)
            except trio.BrokenResourceError:
                continue
    await memory.advance(seconds % every + LATE)
    said = [await receive(stream) for stream in streams]
    assert {bool(stream.ended) for stream in streams} == {True}
    assert (await memory.request("GET", "/")).status == 200
    return said


def all_408(said: list[bytes]) -> bool:
    return all(each.startswith(b"HTTP/1.1 408 ") for each in said)


@told("connections that say nothing", source="*Sockstress* (2008)", answer="closed without a byte after 10 s")
async def test_silent_connections(mock_clock):
    async with serve_in_memory(read_body, queue=ONE_SLOT) as memory:
        assert set(await slow_attack(memory, first=b"", seconds=10)) == {b""}


@told("a head that comes byte by byte", source=SLOWLORIS, answer="408 after 10 s in all; no byte renews them")
async def test_a_trickled_request_line(mock_clock):
    async with serve_in_memory(read_body, queue=ONE_SLOT) as memory:
        assert all_408(await slow_attack(memory, first=b"GET /", drip=b"a", every=0.5, seconds=10))


@told("a field now and then, and never a blank line", source=SLOWLORIS, answer="408 after 10 s in all")
async def test_trickled_fields(mock_clock):
    async with serve_in_memory(read_body, queue=ONE_SLOT) as memory:
        first = b"GET / HTTP/1.1\r\n" + HOST
        assert all_408(await slow_attack(memory, first=first, drip=b"X-a: b\r\n", seconds=10))


@told("the same behind a request that was answered", source=SLOWLORIS, answer="408 after 10 s from its first byte")
async def test_trickled_fields_of_a_second_request(mock_clock):
    async with serve_in_memory(read_body, queue=ONE_SLOT) as memory:
        first = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n" + b"GET / HTTP/1.1\r\n" + HOST
        said = await slow_attack(memory, first=first, drip=b"X-a: b\r\n", seconds=10)
        assert all(each.startswith(b"HTTP/1.1 200 ") and each.count(b"HTTP/1.1 408 ") == 1 for each in said)


@told("a kept connection that is not used", source="*Sockstress* (2008)", answer="closed after 5 s")
async def test_idle_connections(mock_clock):
    async with serve_in_memory(read_body, queue=ONE_SLOT) as memory:
        said = await slow_attack(memory, first=b"GET / HTTP/1.1\r\n" + HOST + b"\r\n", seconds=5)
        assert all(each.count(b"HTTP/1.1 ") == 1 for each in said)


@told("empty lines now and then", source=SLOWLORIS, answer="400 at the second of them")
async def test_empty_lines(mock_clock):
    async with serve_in_memory(read_body, queue=ONE_SLOT) as memory:
        said = await slow_attack(memory, first=b"\r\n", drip=b"\r\n", seconds=10)
        assert all(each.startswith(b"HTTP/1.1 400 ") for each in said)


@told("a body that never comes", source=SLOW_BODY, answer="408 after 30 s")
async def test_a_body_that_never_comes(mock_clock):
    async with serve_in_memory(read_body, queue=ONE_SLOT) as memory:
        first = b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1000\r\n\r\n"
        assert all_408(await slow_attack(memory, first=first, seconds=30))


@told("a body that comes byte by byte", source=SLOW_BODY, answer="408 after 30 s: below 240 B/s on average")
async def test_a_trickled_body(mock_clock):
    async with serve_in_memory(read_body, queue=ONE_SLOT) as memory:
        first = b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 100000\r\n\r\n"
        assert all_408(await slow_attack(memory, first=first, drip=b"x", seconds=31))


@told("a chunked body that comes chunk by chunk", source=SLOW_BODY, answer="408 after 30 s")
async def test_a_trickled_chunked_body(mock_clock):
    async with serve_in_memory(read_body, queue=ONE_SLOT) as memory:
        first = b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
        assert all_408(await slow_attack(memory, first=first, drip=b"1\r\nx\r\n", seconds=31))


@told("a size line of a chunk that does not end", source=SLOW_BODY, answer="408 after 30 s")
async def test_a_trickled_chunk_extension(mock_clock):
    async with serve_in_memory(read_body, queue=ONE_SLOT) as memory:
        first = b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n1;"
        assert all_408(await slow_attack(memory, first=first, drip=b"x", seconds=31))


@told("trailers now and then, and no last line", source=SLOW_BODY, answer="408 after 30 s")
async def test_trickled_trailers(mock_clock):
    async with serve_in_memory(read_body, queue=ONE_SLOT) as memory:
        first = b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n"
        assert all_408(await slow_attack(memory, first=first, drip=b"a: b\r\n", seconds=31))


@told("100-continue, and then nothing", source="RFC 9110 section 10.1.1", answer="100, then 408 after 30 s")
async def test_an_expectation_that_is_not_followed(mock_clock):
    async with serve_in_memory(read_body, queue=ONE_SLOT) as memory:
        first = b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 9\r\nExpect: 100-continue\r\n\r\n"
        said = await slow_attack(memory, first=first, seconds=30)
        assert all(each.startswith(b"HTTP/1.1 100 ") and each.count(b"HTTP/1.1 408 ") == 1 for each in said)


@told(
    "a body that nobody reads, and that never comes", source=SLOW_BODY, answer="its answer at once; closed after 30 s"
)
async def test_an_unread_body_that_never_comes(mock_clock, tmp_path):
    (tmp_path / "index.html").write_text("x")
    async with serve_in_memory(files(tmp_path), queue=ONE_SLOT) as memory:
        first = b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length: 1000\r\n\r\n"
        said = await slow_attack(memory, first=first, seconds=31)
        assert all(each.startswith(b"HTTP/1.1 200 ") and each.count(b"HTTP/1.1 ") == 1 for each in said)


@told(
    "a download that nobody takes",
    source=f"{SLOW_READ}; Phrack 66-9; peers: most wait for minutes",
    answer="reset after 30 s",
)
async def test_a_reader_that_does_not_read(mock_clock, tmp_path):
    await slow_download(tmp_path, take=0)


@told("a download that is taken byte by byte", source=SLOW_READ, answer="reset after 30 s: below 240 B/s on average")
async def test_a_reader_that_takes_a_byte_a_second(mock_clock, tmp_path):
    await slow_download(tmp_path, take=1)


@told("many requests for it on one connection", source=SLOW_READ, answer="reset after 30 s")
async def test_pipelined_downloads_that_nobody_takes(mock_clock, tmp_path):
    await slow_download(tmp_path, take=1, requests=500)


async def slow_download(tmp_path, *, take: int, requests: int = 1) -> None:
    (tmp_path / "large").write_bytes(bytes(1024 * 1024))
    (tmp_path / "index.html").write_text("x")
    async with serve_in_memory(files(tmp_path), queue=ONE_SLOT) as memory:
        streams = [memory.connect(buffer_bytes=16 * 1024) for _ in range(ATTACKERS)]
        for stream in streams:
            stream.send_nowait((b"GET /large HTTP/1.1\r\n" + HOST + b"\r\n") * requests)
        for _ in range(31):
            assert (await memory.request("GET", "/")).status == 200
            await memory.advance(1)
            if take:
                for stream in streams:
                    stream.receive_nowait(take)
        await memory.advance(Timeouts().farewell + LATE)
        assert memory.server.statistics().reasons["write-timeout"] == ATTACKERS
        assert (await memory.request("GET", "/")).status == 200


@told(
    "bytes without end behind a refused request", source="CVE-2022-22720", answer="read for 1 s or 4 MiB, then closed"
)
async def test_a_flood_behind_a_refusal(mock_clock):
    async with serve_in_memory(read_body, queue=ONE_SLOT) as memory:
        stream = memory.connect()
        await stream.send_all(b"BAD\r\n\r\n")
        sent = 0
        for _ in range(1000):  # 16 MiB, were they all taken
            await memory.settle()
            try:
                sent += stream.send_nowait(bytes(16 * 1024))
            except trio.BrokenResourceError:
                break
        assert 1024 * 1024 < sent <= 5 * 1024 * 1024
        assert (await memory.request("GET", "/")).status == 200


@told("a connection half closed within a head", source="RFC 9112 section 8", answer="400; closed")
async def test_a_fin_within_a_head(mock_clock):
    async with serve_in_memory(read_body, queue=ONE_SLOT) as memory:
        stream = memory.connect()
        await stream.send_all(b"GET / HTTP/1.1\r\nHos")
        stream.finish()
        assert (await stream.receive_until_blocked()).startswith(b"HTTP/1.1 400 ")
        assert stream.ended


@told("a connection half closed within a body", source="RFC 9112 section 8", answer="400; closed")
async def test_a_fin_within_a_body(mock_clock):
    async with serve_in_memory(read_body, queue=ONE_SLOT) as memory:
        stream = memory.connect()
        await stream.send_all(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 9\r\n\r\nabc")
        stream.finish()
        assert (await stream.receive_until_blocked()).startswith(b"HTTP/1.1 400 ")
        assert stream.ended


@told("connections that are reset at once, again and again", source="scanners", answer="nothing is left of them")
async def test_connections_that_are_reset(mock_clock, caplog):
    async with serve_in_memory(read_body, queue=ONE_SLOT) as memory:
        for first in (b"", b"GET", b"GET / HTTP/1.1\r\n" + HOST + b"\r\n", b"POST / HTTP/1.1\r\n" + HOST):
            for _ in range(ATTACKERS):
                stream = memory.connect()
                await stream.send_all(first)
                stream.reset()
            await memory.settle()
        assert (await memory.request("GET", "/")).status == 200
        await memory.settle()
        assert memory.server.statistics().open == 0
    assert caplog.records == []
