"""Too much of everything, on several connections at once: refused in time, and the memory it takes is measured."""

from __future__ import annotations

import gzip
import time
import tracemalloc
from contextlib import contextmanager

import pytest
import trio

from ktrio import Response, files
from ktrio.testing import serve_in_memory
from tests.hostile.attack import HOST, NEXT, told

ATTACKERS = 8
MIB = 1024 * 1024
# Bytes each way that a memory stream holds; they count as ours.
PIPE = 16 * 1024
# Bytes that an attacker may cost: both pipes, a receive of 64 KiB twice over while it is looked at, the connection.
EACH = 2 * PIPE + 3 * 64 * 1024

GET = b"GET / HTTP/1.1\r\n" + HOST
POST = b"POST / HTTP/1.1\r\n" + HOST


async def read_body(request):
    return Response(body=b"%d" % len(await request.read()))


@contextmanager
def memory_bounded(limit: int):
    """The block's peak of traced memory above its beginning is at most `limit` bytes."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before <= limit, f"{(peak - before) / MIB:.1f} MiB"


async def flood(handler, first: bytes, rest: bytes, *, most: int, attackers: int = ATTACKERS) -> set[int]:
    """Each attacker sends `first`, then `rest` again and again for as long as it is taken; the statuses they get.

    Nobody gets rid of more than `most` bytes, and somebody else is served meanwhile.
    """
    sent, statuses = [], set()

    async def attack(stream) -> None:
        count = 0
        data = memoryview(first)
        while count <= 2 * most:
            try:
                await stream.send_all(data)
            except trio.BrokenResourceError:
                break
            count += data.nbytes
            data = memoryview(rest)
        sent.append(count)

    async def serve(memory) -> None:
        for _ in range(10):
            assert (await memory.request("GET", "/")).status == 200
        streams = [memory.connect(buffer_bytes=PIPE) for _ in range(attackers)]
        async with trio.open_nursery() as nursery:
            for stream in streams:
                nursery.start_soon(attack, stream)
            await memory.settle()
            assert (await memory.request("GET", "/")).status == 200
            for stream in streams:
                received = stream.receive_nowait(100) or b""  # the others are not taken
                statuses.add(int(received[9:12] or b"0"))
            await memory.advance(2)
            nursery.cancel_scope.cancel()

    async with serve_in_memory(handler) as memory:
        with memory_bounded(attackers * EACH + len(first) + len(rest) + MIB):
            await serve(memory)
    assert max(sent, default=0) <= most
    return statuses


# What is read behind a refusal, so that its sender sees it, and what lies in between.
LINGER = 4 * MIB + 64 * 1024 + PIPE


@told("a million header fields", source="RFC 6585 section 5; h11 accepts 3000", answer="431 at 32 KiB")
async def test_a_million_fields(mock_clock):
    assert await flood(read_body, GET, b"X-a: b\r\n" * 8192, most=LINGER + 64 * 1024) == {431}


@told("one field of a gigabyte", source="CVE-2018-12121", answer="431 at 32 KiB")
async def test_an_endless_field(mock_clock):
    assert await flood(read_body, GET + b"X: ", b"x" * 65536, most=LINGER + 64 * 1024) == {431}


@told("a target of a gigabyte", source="CVE-2018-12121", answer="414 at 8 KiB")
async def test_an_endless_target(mock_clock):
    assert await flood(read_body, b"GET /", b"x" * 65536, most=LINGER + 64 * 1024) == {414}


@told("a million trailers", source="RFC 9110 section 6.5", answer="431 at 32 KiB or 100 of them")
async def test_a_million_trailers(mock_clock):
    first = POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n"
    assert await flood(read_body, first, b"X-a: b\r\n" * 8192, most=LINGER + 64 * 1024) == {431}


@pytest.mark.exhaustive
@pytest.mark.slow
@told("chunks of a byte without end", source="CVE-2023-39326", answer="400 at 64 KiB of sizes and line ends")
async def test_endless_chunks(mock_clock):
    first = POST + b"Transfer-Encoding: chunked\r\n\r\n"
    assert await flood(read_body, first, b"1\r\nx\r\n" * 8192, most=LINGER + 256 * 1024, attackers=3) == {400}


@pytest.mark.exhaustive
@pytest.mark.slow
@told("a chunked body without end", source="RFC 9112 section 7.1", answer="413 at the body limit of the handler")
async def test_an_endless_chunked_body(mock_clock):
    first = POST + b"Transfer-Encoding: chunked\r\n\r\n"
    rest = b"10000\r\n" + b"x" * 65536 + b"\r\n"

    async def read_little(request):
        return Response(body=b"%d" % len(await request.read(max_bytes=65536)))

    assert await flood(read_little, first, rest, most=LINGER + 512 * 1024) == {413}


@told("a body declared as an exabyte", source="RFC 9110 section 8.6", answer="413 before a byte of it is read")
async def test_an_exabyte(mock_clock):
    first = POST + b"Content-Length: 1152921504606846976\r\n\r\n"
    assert await flood(read_body, first, b"x" * 65536, most=LINGER + 64 * 1024) == {413}


@told(
    "a body without end for a handler that reads none", source="CVE-2022-22720", answer="its answer; dropped to 64 KiB"
)
async def test_an_endless_unread_body(mock_clock, tmp_path):
    (tmp_path / "index.html").write_text("x")
    first = GET + b"Transfer-Encoding: chunked\r\n\r\n"
    rest = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    assert await flood(files(tmp_path), first, rest, most=LINGER + 512 * 1024) == {200}


@told("a million requests on one connection, no answer taken", source="RFC 9112 section 9.3.2", answer="not read on")
async def test_pipelined_requests_whose_answers_nobody_takes(mock_clock):
    assert await flood(read_body, GET + b"\r\n", (GET + b"\r\n") * 1024, most=512 * 1024) == {200}


@told("a gzip bomb as request body", source="CVE-2025-69223", answer="the handler gets it as it was sent")
async def test_bodies_are_never_decompressed(mock_clock):
    bomb = gzip.compress(bytes(200 * 1000 * 1000), compresslevel=1)
    assert len(bomb) < MIB
    got = []

    async def keep(request):
        got.append(await request.read())
        return Response()

    async with serve_in_memory(keep) as memory:
        with memory_bounded(5 * MIB):
            for fields in ([("content-encoding", "gzip")], [("content-encoding", "gzip, gzip, br")]):
                assert (await memory.request("POST", "/", headers=fields, body=bomb)).status == 200
                assert got.pop() == bomb
        stream = memory.connect(buffer_bytes=2 * MIB)
        await stream.send_all(POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + bomb)
        assert (await stream.receive_until_blocked()).startswith(b"HTTP/1.1 501 ")


# -- ranges -----------------------------------------------------------------------------------------------------------

SIZE = 100_000
KILLER = "CVE-2011-3192"
RANGES = {
    "the Apache killer: 1300 that overlap": (KILLER, "0-," + ",".join(f"5-{n}" for n in range(1300)), 200),
    "64 times the whole": (KILLER, ",".join(["0-"] * 64), 206),
    "65 ranges": ("RFC 9110 section 17.15", ",".join(f"{n}-{n}" for n in range(0, 65000, 1000)), 200),
    "64 ranges of a byte": ("RFC 9110 section 17.15", ",".join(f"{n}-{n}" for n in range(0, 64000, 1000)), 206),
    "64 ranges from back to front": ("RFC 9110 section 14.2", ",".join(f"{n}-" for n in range(64, 0, -1)), 206),
    "a suffix beyond 63 bits": ("CVE-2017-7529", "-9223372036854773760", 206),
    "two suffixes whose sum overflows": ("CVE-2017-7529", "-18446744073709551000,-9223372036854775807", 200),
    "an end beyond the file": ("RFC 9110 section 14.1.2", "0-9223372036854775807", 206),
    "a first beyond 64 bits": ("RFC 9110 section 14.1.2", "99999999999999999999999-", 200),
    "1000 digits": ("CVE-2017-7529", "0-" + "9" * 1000, 200),
    "a first beyond the end": ("RFC 9110 section 15.5.17", "100000-", 416),
    "the last no bytes": ("RFC 9110 section 14.1.2", "-0", 416),
    "backwards": ("RFC 9110 section 14.1.1", "5-4", 200),
    "a minus too many": ("CVE-2017-7529", "--5", 200),
    "a sign": ("RFC 9110 section 14.1.1", "+0-5", 200),
    "an underscore": ("CVE-2023-47627", "1_0-2_0", 200),
    "digits that are no ASCII": ("CVE-2023-47627", "\xb9-\xb2", 200),
    "5000 commas": ("RFC 9110 section 5.6.1.2", "," * 5000 + "0-1", 200),
    "5000 spaces": ("CVE-2022-25881", "0-1" + " " * 5000 + "x", 200),
}


@pytest.mark.parametrize("name", RANGES)
async def test_ranges_never_give_more_than_the_file_and_its_framing(mock_clock, tmp_path, name):
    """RFC 9110 section 17.15."""
    _source, value, status = RANGES[name]
    (tmp_path / "file.bin").write_bytes(bytes(SIZE))
    async with serve_in_memory(files(tmp_path)) as memory:
        response = await memory.request("GET", "/file.bin", headers=[("range", f"bytes={value}")])
    assert response.status == status
    assert len(response.body) <= SIZE + 64 * 200


# -- fields that could make a parser slow -----------------------------------------------------------------------------

LONG = 31_000
FIELDS = {
    "if-none-match": ['"' * LONG, '"a",' * (LONG // 4), 'W/"' * (LONG // 3), ", " * (LONG // 2), '"' + "a" * LONG],
    "if-match": ['"a", ' * (LONG // 5) + "x", " ," * (LONG // 2)],
    "if-modified-since": ["Sun, " * (LONG // 5), "0" * LONG],
    "if-range": ['"' + "a" * LONG, "W/" * (LONG // 2)],
    "range": ["bytes=" + "0-0," * (LONG // 4), "bytes=" + " \t" * (LONG // 2), "bytes=" + "0" * LONG + "-"],
    "accept-encoding": ["gzip;q=" * (LONG // 7), "gzip, " * (LONG // 6), "gzip" + " " * LONG + "x", ";" * LONG],
    "accept": ["a/b;q=0.1," * (LONG // 10), "*/*" + " " * LONG + "x", ";=" * (LONG // 2)],
    "connection": ["close, " * (LONG // 7), "," * LONG, "a" + " " * LONG + "b"],
    "cookie": ["a=b; " * (LONG // 5)],
    "expect": ["100-continue," * (LONG // 13), "," * LONG],
    "host": ["a" * LONG, "%41" * (LONG // 3), "[" + ":" * LONG, "a." * (LONG // 2) + ":"],
    "content-length": ["0" * LONG, "0," * (LONG // 2)],
    "transfer-encoding": ["chunked," * (LONG // 8), "," * LONG, "chunked" + " " * LONG + "x"],
}


@told("fields of 31 KB that could make a parser slow", source="CVE-2021-32640; CVE-2022-25881", answer="linear time")
@pytest.mark.parametrize("name", FIELDS)
async def test_no_field_takes_more_than_linear_time(mock_clock, tmp_path, name):
    """A pattern that goes back and forth would take minutes for these: an hour of it in a second is the bound here."""
    (tmp_path / "index.html").write_text("x" * 300)
    began = time.process_time()
    async with serve_in_memory(files(tmp_path)) as memory:
        for value in FIELDS[name]:
            stream = memory.connect(buffer_bytes=128 * 1024)
            host = b"" if name == "host" else HOST
            await stream.send_all(b"GET / HTTP/1.1\r\n" + host + f"{name}: {value}\r\n\r\n".encode("latin-1") + NEXT)
            assert (await stream.receive_until_blocked()).startswith(b"HTTP/1.1 ")
    assert time.process_time() - began < 2.0
