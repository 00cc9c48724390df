"""Files in fewer bytes: RFC 9110 sections 8.4, 8.8.3.3, 12.5.3 and 12.5.5."""

from __future__ import annotations

import gzip
import os
import sys
import zlib

import brotli
import pytest
import trio
import zstandard

from ktrio.handlers._encodings import LEAST, MOST, ON_THE_LOOP, Remembered, compressors, is_compressible
from ktrio.handlers.files import files

TEXT = b"<p>Readers of text that repeats itself wait for less of it.</p>\n" * 500
FAR_AHEAD = 4_000_000_000.0
UNPACK = {"gzip": gzip.decompress, "br": brotli.decompress, "zstd": zstandard.decompress}


@pytest.fixture
def site(tmp_path):
    (tmp_path / "page.html").write_bytes(TEXT)
    (tmp_path / "short.html").write_bytes(TEXT[: LEAST - 1])
    (tmp_path / "noise.txt").write_bytes(os.urandom(2000))
    (tmp_path / "photo.jpg").write_bytes(TEXT)
    (tmp_path / "empty.txt").touch()
    return tmp_path


@pytest.fixture
def get(site, ask):
    handler = files(site, wall_clock=lambda: FAR_AHEAD)

    async def get(path, accept=None, *, method="GET", handler=handler, **fields):
        headers = [(name.replace("_", "-"), value) for name, value in fields.items()]
        return await ask(handler, path, method, [*headers, *([("accept-encoding", accept)] if accept else [])])

    return get


# -- on the way


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
async def test_text_is_compressed_for_whoever_accepts_it(get, coding):
    answer = await get("/page.html", coding)
    assert (answer.status, answer["content-encoding"]) == (200, coding)
    assert UNPACK[coding](answer.body) == TEXT
    assert int(answer["content-length"]) == len(answer.body) < len(TEXT) // 5
    assert answer["content-type"] == "text/html; charset=utf-8"  # section 8.3: of what it is when it is unpacked
    assert answer["vary"] == "accept-encoding"
    assert answer["accept-ranges"] is None


@pytest.mark.parametrize("accept", [None, "identity", "gzip;q=0", "deflate"])
async def test_others_get_it_as_it_is_and_caches_are_told(get, accept):
    """Section 12.5.5."""
    answer = await get("/page.html", accept)
    assert (answer["content-encoding"], answer.body, answer["vary"]) == (None, TEXT, "accept-encoding")


@pytest.mark.parametrize("path", ["/short.html", "/noise.txt", "/empty.txt"])
async def test_answer_is_never_larger_than_the_file(get, site, path):
    """What is short, or does not shrink, is sent as it is; asked again it is not tried again."""
    for _ in range(2):
        answer = await get(path, "gzip, br, zstd")
        assert answer["content-encoding"] is None
        assert answer.body == (site / path[1:]).read_bytes()


async def test_what_is_compressed_already_is_left_alone_and_does_not_vary(get):
    answer = await get("/photo.jpg", "gzip, br")
    assert (answer["content-encoding"], answer["vary"]) == (None, None)


async def test_each_coding_has_an_entity_tag_of_its_own(get):
    """Section 8.8.3.3; weak, because another version of the library may make other bytes of it."""
    plain = (await get("/page.html"))["etag"]
    tags = {coding: (await get("/page.html", coding))["etag"] for coding in UNPACK}
    assert len({plain, *tags.values()}) == 4
    assert not plain.startswith("W/")
    assert all(tag.startswith('W/"') and tag.endswith(f'-{coding}"') for coding, tag in tags.items())


async def test_coded_copy_is_revalidated_by_its_own_tag(get):
    etag = (await get("/page.html", "gzip"))["etag"]
    again = await get("/page.html", "gzip", if_none_match=etag)
    assert (again.status, again["etag"], again["vary"], again.body) == (304, etag, "accept-encoding", b"")
    assert (await get("/page.html", "br", if_none_match=etag)).status == 200
    assert (await get("/page.html", if_none_match=etag)).status == 200
    date = (await get("/page.html", "gzip"))["last-modified"]
    assert (await get("/page.html", "gzip", if_modified_since=date)).status == 304


async def test_part_of_a_file_is_never_compressed(get):
    answer = await get("/page.html", "gzip", range="bytes=0-9")
    assert (answer.status, answer["content-encoding"], answer.body) == (206, None, TEXT[:10])


async def test_coded_answer_is_continued_by_nobody(get):
    """Section 13.1.5: its tag is weak."""
    etag = (await get("/page.html", "gzip"))["etag"]
    assert (await get("/page.html", "gzip", range="bytes=0-9", if_range=etag)).status == 200


async def test_head_says_what_get_would(get):
    """Section 9.3.2."""
    got = await get("/page.html", "gzip")
    head = await get("/page.html", "gzip", method="HEAD")
    assert list(head.headers) == list(got.headers)


async def test_index_file_is_compressed_too(site, get):
    (site / "index.html").write_bytes(TEXT)
    assert gzip.decompress((await get("/", "gzip")).body) == TEXT


async def test_what_was_compressed_is_compressed_once_until_the_file_changes(site, ask, monkeypatch):
    made = []

    def counting(data):
        made.append(len(data))
        return zlib.compress(data)

    monkeypatch.setattr("ktrio.handlers._encodings._gzip", counting)
    handler = files(site, wall_clock=lambda: FAR_AHEAD)
    for _ in range(3):
        assert zlib.decompress((await ask(handler, "/page.html", "GET", [("accept-encoding", "gzip")])).body) == TEXT
    assert made == [len(TEXT)]
    (site / "page.html").write_bytes(TEXT * 2)
    assert zlib.decompress((await ask(handler, "/page.html", "GET", [("accept-encoding", "gzip")])).body) == TEXT * 2
    assert made == [len(TEXT), len(TEXT) * 2]


async def test_file_changed_a_moment_ago_is_compressed_each_time(site, ask):
    """One tag may stand for two contents then."""
    path = site / "page.html"
    stamp = path.stat().st_mtime_ns
    handler = files(site, wall_clock=lambda: path.stat().st_ctime + 1)
    for content in (TEXT, TEXT.upper()):
        path.write_bytes(content)
        os.utime(path, ns=(stamp, stamp))
        answer = await ask(handler, "/page.html", "GET", [("accept-encoding", "gzip")])
        assert gzip.decompress(answer.body) == content


async def test_file_that_shrinks_while_it_is_read_is_not_sent_compressed(site, request_for, monkeypatch):
    """It is sent as what it is, and breaks off there: the protocol's part."""
    monkeypatch.setattr("os.pread", lambda descriptor, size, offset: b"x" * (size - 1))
    handler = files(site, wall_clock=lambda: FAR_AHEAD)
    response = await handler(request_for("/page.html", "GET", [("accept-encoding", "gzip")]))
    assert response.headers.get("content-encoding") is None
    response.body.close()


async def test_loop_goes_on_while_a_large_file_is_compressed(site, ask):
    (site / "large.txt").write_bytes(os.urandom(500_000).hex().encode())
    handler = files(site, wall_clock=lambda: FAR_AHEAD)
    done = False
    turns = 0

    async def compress():
        nonlocal done
        await ask(handler, "/large.txt", "GET", [("accept-encoding", "gzip")])
        done = True

    async with trio.open_nursery() as nursery:
        nursery.start_soon(compress)
        while not done:
            turns += 1
            await trio.lowlevel.checkpoint()
    assert turns > 10


async def test_switched_off_nothing_is_compressed(site, ask):
    handler = files(site, compress=False, wall_clock=lambda: FAR_AHEAD)
    assert (await ask(handler, "/page.html", "GET", [("accept-encoding", "gzip")]))["content-encoding"] is None
    neither = files(site, compress=False, precompressed=False)
    assert (await ask(neither, "/page.html", "GET", [("accept-encoding", "gzip")]))["vary"] is None


def test_bounds_are_what_the_docs_say():
    assert (LEAST, MOST, ON_THE_LOOP) == (256, 8 << 20, 4096)


def test_without_the_extra_there_is_gzip(monkeypatch):
    monkeypatch.setitem(sys.modules, "brotli", None)
    monkeypatch.setitem(sys.modules, "zstandard", None)
    assert list(compressors()) == ["gzip"]


@pytest.mark.parametrize("media_type", ["text/html; charset=utf-8", "image/svg+xml", "application/ld+json", "font/ttf"])
def test_text_and_its_kin_shrink(media_type):
    assert is_compressible(media_type)


@pytest.mark.parametrize("media_type", ["image/png", "application/zip", "video/mp4", "application/octet-stream"])
def test_what_is_packed_does_not(media_type):
    assert not is_compressible(media_type)


def test_memory_is_bounded_and_forgets_what_was_used_longest_ago():
    remembered = Remembered(limit=100)
    for index in range(3):
        remembered.put("gzip", f'"{index}"', b"x" * 40)
        assert remembered.get("gzip", '"0"') is not None or index == 2
    assert remembered.bytes == 80
    assert remembered.get("gzip", '"1"') is None  # "0" was used since
    remembered.put("gzip", '"0"', b"y")
    assert (remembered.bytes, remembered.get("gzip", '"0"')) == (41, b"y")
    remembered.put("gzip", '"huge"', b"x" * 101)
    assert remembered.bytes == 0


# -- siblings


def plant(path, coding, content=b"stands for it"):
    suffix = {"gzip": ".gz", "br": ".br", "zstd": ".zst"}[coding]
    sibling = path.with_name(path.name + suffix)
    sibling.write_bytes(content)
    return sibling


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
async def test_sibling_is_sent_to_whoever_accepts_it(site, get, coding):
    plant(site / "page.html", coding)
    answer = await get("/page.html", "gzip, br, zstd")
    assert (answer["content-encoding"], answer.body) == (coding, b"stands for it")
    assert answer["content-type"] == "text/html; charset=utf-8"
    assert answer["vary"] == "accept-encoding"
    assert answer["etag"] != (await get("/page.html"))["etag"]
    assert not answer["etag"].startswith("W/")
    assert (await get("/page.html")).body == TEXT


async def test_best_sibling_is_sent(site, get):
    for coding in ("gzip", "br", "zstd"):
        plant(site / "page.html", coding, coding.encode())
    assert (await get("/page.html", "gzip, br, zstd")).body == b"br"
    assert (await get("/page.html", "gzip, zstd;q=0.5")).body == b"gzip"


async def test_part_of_a_sibling_is_a_part_of_what_the_client_has(site, get):
    """Section 14: a range is one of the selected representation."""
    plant(site / "page.html", "gzip", b"0123456789")
    etag = (await get("/page.html", "gzip"))["etag"]
    answer = await get("/page.html", "gzip", range="bytes=2-4", if_range=etag)
    assert (answer.status, answer["content-encoding"], answer.body) == (206, "gzip", b"234")
    assert answer["content-range"] == "bytes 2-4/10"


async def test_stale_or_larger_sibling_is_not_sent(site, get):
    path = site / "page.html"
    os.utime(plant(path, "br"), (1, 1))
    plant(path, "zstd", TEXT)
    answer = await get("/page.html", "br, zstd")
    assert answer["content-encoding"] == "br"
    assert brotli.decompress(answer.body) == TEXT


@pytest.mark.parametrize("what", ["folder", "fifo", "link that leads out", "link into nothing"])
async def test_sibling_that_is_no_file_of_ours_is_passed_over(tmp_path, ask, what):
    root = tmp_path / "root"
    root.mkdir()
    (root / "page.html").write_bytes(TEXT)
    (tmp_path / "secret").write_bytes(b"SECRET")
    sibling = root / "page.html.gz"
    if what == "folder":
        sibling.mkdir()
    elif what == "fifo":
        os.mkfifo(sibling)
    else:
        sibling.symlink_to("../secret" if "out" in what else "nothing")
    handler = files(root, compress=False, wall_clock=lambda: FAR_AHEAD)
    answer = await ask(handler, "/page.html", "GET", [("accept-encoding", "gzip")])
    assert (answer.status, answer["content-encoding"], answer.body) == (200, None, TEXT)


async def test_sibling_asked_for_by_its_name_is_a_file_like_any_other(site, get):
    plant(site / "page.html", "gzip")
    answer = await get("/page.html.gz", "gzip")
    assert (answer["content-type"], answer["content-encoding"], answer["vary"]) == ("application/gzip", None, None)


async def test_siblings_are_not_looked_for_if_switched_off(site, ask):
    plant(site / "page.html", "gzip")
    handler = files(site, precompressed=False, compress=False, wall_clock=lambda: FAR_AHEAD)
    assert (await ask(handler, "/page.html", "GET", [("accept-encoding", "gzip")])).body == TEXT
