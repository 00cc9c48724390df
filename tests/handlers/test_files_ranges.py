"""Parts of files, over the wire: RFC 9110 sections 13.1.5, 14, 15.3.7 and 15.5.17."""

from __future__ import annotations

import email
import email.policy
import os
import threading

import pytest

import ktrio
from ktrio.testing import serve_in_memory

CONTENT = bytes(range(256)) * 40  # 10240 bytes
FAR_AHEAD = 4_000_000_000.0


@pytest.fixture
async def served(tmp_path):
    """`await served(target, **fields)` asks a server in memory; `a.bin` was settled long ago."""
    (tmp_path / "a.bin").write_bytes(CONTENT)
    (tmp_path / "empty").touch()
    os.utime(tmp_path / "a.bin", (1_000_000_000, 1_000_000_000))
    async with serve_in_memory(ktrio.files(tmp_path, wall_clock=lambda: FAR_AHEAD)) as server:

        async def ask(target="/a.bin", *, method="GET", **fields):
            headers = {name.replace("_", "-"): value for name, value in fields.items()}
            return await server.request(method, target, headers=headers)

        yield ask


def parts_of(answer):
    """The parts of a multipart/byteranges body, read by the standard library: (content-range, content-type, bytes)."""
    head = b"Content-Type: " + answer.headers.get("content-type").encode() + b"\r\n\r\n"
    message = email.message_from_bytes(head + answer.body, policy=email.policy.HTTP)
    assert message.is_multipart()
    assert not message.defects
    return [
        (part["content-range"], part["content-type"], part.get_payload(decode=True)) for part in message.iter_parts()
    ]


async def test_whole_file_says_that_it_comes_in_parts_too(served, autojump_clock):
    """Section 14.3."""
    answer = await served()
    assert (answer.status, answer.headers.get("accept-ranges"), answer.body) == (200, "bytes", CONTENT)
    assert answer.headers.get("content-range") is None


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [("0-0", 0, 0), ("0-99", 0, 99), ("100-", 100, 10239), ("-1", 10239, 10239), ("5000-99999", 5000, 10239)],
)
async def test_one_part_is_sent_as_such(served, asked, first, last, autojump_clock):
    """Section 15.3.7.1: a 206 with Content-Range, and the fields that the 200 would have had (section 15.3.7)."""
    whole, answer = await served(), await served(range=f"bytes={asked}")
    assert answer.status == 206
    assert answer.headers.get("content-range") == f"bytes {first}-{last}/10240"
    assert answer.headers.get("content-length") == str(last - first + 1)
    assert answer.body == CONTENT[first : last + 1]
    for name in ("etag", "last-modified", "content-type", "accept-ranges", "x-content-type-options"):
        assert answer.headers.get(name) == whole.headers.get(name)


async def test_several_parts_come_as_multipart_in_the_order_asked_for(served, autojump_clock):
    """Section 15.3.7.2."""
    answer = await served(range="bytes=9000-9099,0-9,-5")
    assert answer.status == 206
    assert answer.headers.get("content-range") is None  # "MUST NOT generate a Content-Range header field"
    assert answer.headers.get("content-type").startswith("multipart/byteranges; boundary=")
    assert int(answer.headers.get("content-length")) == len(answer.body)
    assert parts_of(answer) == [
        ("bytes 9000-9099/10240", "application/octet-stream", CONTENT[9000:9100]),
        ("bytes 0-9/10240", "application/octet-stream", CONTENT[:10]),
        ("bytes 10235-10239/10240", "application/octet-stream", CONTENT[-5:]),
    ]


async def test_boundary_is_another_one_each_time(served, autojump_clock):
    types = {(await served(range="bytes=0-0,5000-5000")).headers.get("content-type") for _ in range(3)}
    assert len(types) == 3


async def test_parts_that_touch_are_sent_as_one_which_is_no_multipart(served, autojump_clock):
    answer = await served(range="bytes=0-99,100-199,50-60")
    assert (answer.status, answer.headers.get("content-range")) == (206, "bytes 0-199/10240")
    assert answer.body == CONTENT[:200]


@pytest.mark.parametrize("asked", ["bytes=10240-", "bytes=99999-100000", "bytes=-0"])
async def test_part_beyond_the_end_is_refused_and_the_length_is_told(served, asked, autojump_clock):
    """Section 15.5.17."""
    answer = await served(range=asked)
    assert (answer.status, answer.headers.get("content-range")) == (416, "bytes */10240")
    assert answer.headers.get("etag") is None


@pytest.mark.parametrize("asked", ["bytes=x", "lines=0-1", "bytes=5-4", "bytes=" + "0-0," * 70])
async def test_range_that_is_none_is_ignored(served, asked, autojump_clock):
    answer = await served(range=asked)
    assert (answer.status, answer.body) == (200, CONTENT)


async def test_empty_file_has_no_parts(served, autojump_clock):
    assert (await served("/empty", range="bytes=-5")).status == 200
    refused = await served("/empty", range="bytes=0-")
    assert (refused.status, refused.headers.get("content-range")) == (416, "bytes */0")


async def test_head_does_not_know_ranges(served, autojump_clock):
    """Section 14.2: "A server MUST ignore a Range header field received with a request method other than GET"."""
    answer = await served(method="HEAD", range="bytes=0-9")
    assert (answer.status, answer.headers.get("content-length")) == (200, "10240")
    assert answer.headers.get("content-range") is None


async def test_precondition_comes_before_the_range(served, autojump_clock):
    """Section 13.2.2: If-Range and Range are asked last."""
    etag = (await served()).headers.get("etag")
    assert (await served(range="bytes=0-9", if_none_match=etag)).status == 304
    assert (await served(range="bytes=0-9", if_match='"other"')).status == 412
    assert (await served(range="bytes=0-9", if_match=etag)).status == 206
    assert (await served(range="bytes=99999-", if_none_match=etag)).status == 304


async def test_if_range_sends_the_part_of_the_same_file_and_else_the_whole(served, autojump_clock):
    """Section 13.1.5."""
    whole = await served()
    etag, date = whole.headers.get("etag"), whole.headers.get("last-modified")
    for condition, status in [(etag, 206), (date, 206), ('"other"', 200), (f"W/{etag}", 200)]:
        answer = await served(range="bytes=0-9", if_range=condition)
        assert (answer.status, len(answer.body)) == (status, 10 if status == 206 else 10240), condition
    assert (await served(range="bytes=99999-", if_range='"other"')).status == 200  # not 416: the range does not count
    assert (await served(if_range=etag)).status == 200  # section 13.1.5: without Range it is ignored


async def test_file_changed_a_moment_ago_is_continued_by_nobody(tmp_path, autojump_clock):
    """Its validators are weak, the date too (section 8.8.2.2): parts of two states must not be put together."""
    path = tmp_path / "a.bin"
    path.write_bytes(CONTENT)
    changed = path.stat().st_ctime
    async with serve_in_memory(ktrio.files(tmp_path, wall_clock=lambda: changed + 1)) as server:
        whole = await server.request("GET", "/a.bin")
        for name in ("etag", "last-modified"):
            fields = {"range": "bytes=0-9", "if-range": whole.headers.get(name)}
            assert (await server.request("GET", "/a.bin", headers=fields)).status == 200
        assert (await server.request("GET", "/a.bin", headers={"range": "bytes=0-9"})).status == 206


async def test_answers_leave_no_descriptor_open(served, autojump_clock):
    """The file of a 206, of a multipart, of a 304, 412 and 416: the fixture of this folder counts descriptors."""
    before = set(os.listdir("/proc/self/fd"))
    for fields in (
        {"range": "bytes=0-9"},
        {"range": "bytes=0-9,9000-"},
        {"range": "bytes=99999-"},
        {"if_match": '"other"'},
        {"if_none_match": "*"},
    ):
        await served(**fields)
        await served(method="HEAD", **fields)
    assert set(os.listdir("/proc/self/fd")) == before
    assert threading.active_count() < 50


async def test_file_that_shrinks_within_its_parts_breaks_the_connection(tmp_path, autojump_clock):
    """RFC 9112 section 8: what is incomplete must look incomplete."""
    path = tmp_path / "a.bin"
    path.write_bytes(CONTENT)
    handler = ktrio.files(tmp_path, wall_clock=lambda: FAR_AHEAD)

    async def shrinking(request):
        response = await handler(request)
        os.truncate(path, 5000)
        return response

    async with serve_in_memory(shrinking) as server:
        with pytest.raises(AssertionError, match="reset the connection"):
            await server.request("GET", "/a.bin", headers={"range": "bytes=0-9,9000-9999"})
