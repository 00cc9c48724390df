"""GET and HEAD of a folder: what is there comes with the right fields, what is not is said in few words."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest
import trio

from ktrio.handlers._locations import location_with_slash
from ktrio.handlers._representation import etag_of, is_racy, last_modified_of
from ktrio.handlers.files import files, refusal_of_method
from ktrio.http.messages import FileRange

# A file touched then is settled now: 2001-09-09T01:46:40Z, and an hour later.
THEN = 1_000_000_000
NOW = THEN + 3600


def settled(path: Path, when=THEN):
    os.utime(path, (when, when))
    return path


def far_ahead():
    # The change time of an inode cannot be set, so a file is made old by asking much later.
    return 4_000_000_000.0


async def test_a_file_comes_as_a_range_of_its_descriptor(tmp_path, request_for):
    (tmp_path / "a.txt").write_bytes(b"hello")
    response = await files(tmp_path)(request_for("/a.txt"))
    body = response.body
    assert isinstance(body, FileRange)
    assert (response.status, body.offset, body.count) == (200, 0, 5)
    assert stat.S_ISREG(os.fstat(body.descriptor).st_mode)
    assert not os.get_inheritable(body.descriptor)
    body.close()


async def test_closing_a_response_twice_does_not_close_a_descriptor_that_came_later(tmp_path, request_for):
    (tmp_path / "a.txt").write_bytes(b"hello")
    response = await files(tmp_path)(request_for("/a.txt"))
    descriptor = response.body.descriptor
    response.body.close()
    with open(tmp_path / "a.txt") as other:
        os.dup2(other.fileno(), descriptor)
    response.body.close()
    assert os.read(descriptor, 5) == b"hello"
    os.close(descriptor)


async def test_an_empty_file_is_an_empty_body(tmp_path, ask):
    (tmp_path / "empty").touch()
    answer = await ask(files(tmp_path), "/empty")
    assert (answer.status, answer.body, answer["content-length"]) == (200, b"", "0")
    assert answer.is_file


async def test_head_carries_the_fields_of_get(tmp_path, ask):
    (tmp_path / "a.txt").write_text("hello")
    handler = files(tmp_path, wall_clock=far_ahead)
    for target in ("/a.txt", "/", "/missing"):
        get, head = await ask(handler, target), await ask(handler, target, "HEAD")
        assert (get.status, get.headers, get.body) == (head.status, head.headers, head.body)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.html", "text/html; charset=utf-8"),
        ("A.CSS", "text/css; charset=utf-8"),
        ("module.mjs", "text/javascript; charset=utf-8"),
        ("notes.md", "text/markdown; charset=utf-8"),
        ("a.tar.GZ", "application/gzip"),
        ("no-suffix", "application/octet-stream"),
        ("v1.2/no-suffix", "application/octet-stream"),
    ],
)
async def test_the_media_type_follows_from_the_last_suffix(tmp_path, ask, name, expected):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    answer = await ask(files(tmp_path), f"/{name}")
    assert answer["content-type"] == expected
    assert answer["x-content-type-options"] == "nosniff"


async def test_an_index_file_wins_over_the_listing_and_has_its_own_type(tmp_path, ask):
    (tmp_path / "index.html").write_text("welcome")
    answer = await ask(files(tmp_path))
    assert (answer.text, answer["content-type"]) == ("welcome", "text/html; charset=utf-8")


async def test_index_files_are_tried_in_order_and_folders_are_not_taken_for_one(tmp_path, ask):
    (tmp_path / "index.html").mkdir()
    (tmp_path / "readme.txt").write_text("second")
    (tmp_path / "third.txt").write_text("third")
    assert (await ask(files(tmp_path, index=("index.html", "readme.txt", "third.txt")))).text == "second"
    assert (await ask(files(tmp_path, index="third.txt"))).text == "third"


async def test_without_index_and_listing_a_folder_is_not_there(tmp_path, ask):
    (tmp_path / "a.txt").touch()
    assert (await ask(files(tmp_path, listing=False))).status == 404


async def test_an_index_link_that_leads_out_gives_way_to_the_listing(served, ask, way_to_open):
    (served / "index.html").symlink_to("../secret.txt")
    answer = await ask(files(served))
    assert (answer.status, answer.is_file) == (200, False)


@pytest.mark.parametrize(
    ("target", "location"),
    [
        ("/sub", "./sub/"),
        ("/sub?a=1&b=%20", "./sub/?a=1&b=%20"),
        ("/sub?", "./sub/?"),
        ("/sub/deep?x=//evil", "./deep/?x=//evil"),
        ("/in-dir", "./in-dir/"),
        ("http://example.org/sub", "./sub/"),
    ],
)
async def test_a_folder_without_its_slash_redirects_there_and_keeps_the_query(served, ask, target, location):
    answer = await ask(files(served), target)
    assert (answer.status, answer["location"], answer.body) == (301, location, b"")


@pytest.mark.parametrize(
    ("target", "location"),
    [
        ("//", "/"),
        ("///?", "/?"),
        ("//sub", "/sub"),
        ("//evil.example/x", "/evil.example/x"),
        ("//etc/passwd", "/etc/passwd"),
        ("/sub//b.txt?a=//b", "/sub/b.txt?a=//b"),
        ("/sub///deep//", "/sub/deep/"),
        ("/sub//%41%2520:x", "/sub/%41%2520:x"),
        ("//.env", "/.env"),
        ("http://evil.example//a.txt", "/a.txt"),
    ],
)
async def test_path_with_empty_segments_redirects_to_the_one_without(served, ask, target, location):
    """One URL for one thing, and never another host's (``//evil.example``)."""
    answer = await ask(files(served), target)
    assert (answer.status, answer["location"], answer.body) == (301, location, b"")


def test_a_location_cannot_name_another_host_nor_break_a_header():
    assert location_with_slash("evil.example:80", None) == "./evil.example%3A80/"
    assert location_with_slash("javascript:x", None) == "./javascript%3Ax/"
    assert location_with_slash("a b", 'x\r\nset-cookie: "y"\u00e9') == './a%20b/?x%0D%0Aset-cookie:%20"y"%C3%A9'


@pytest.mark.parametrize("name", ["grüße.txt", "a b", "50%", "a#b?c", "%41", "<&>\"'", "new\nline", "\udcff\udc80"])
async def test_a_name_is_found_by_its_octets(tmp_path, ask, name):
    raw = name.encode("utf-8", "surrogateescape")
    (tmp_path / os.fsdecode(raw)).write_bytes(raw)
    answer = await ask(files(tmp_path), "/" + "".join(f"%{octet:02x}" for octet in raw))
    assert (answer.status, answer.body) == (200, raw)


async def test_a_file_is_not_a_folder(served, ask, way_to_open):
    assert (await ask(files(served), "/a.txt/")).status == 404
    assert (await ask(files(served), "/a.txt/b.txt")).status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "TRACE", "PATCH", "PROPFIND"])
async def test_a_known_method_that_files_do_not_have_is_405_with_allow(tmp_path, ask, method):
    answer = await ask(files(tmp_path), "/missing", method)
    assert (answer.status, answer["allow"]) == (405, "GET, HEAD, OPTIONS")


@pytest.mark.parametrize("method", ["BREW", "CONNECT", "get", "G\u00cbT"])
def test_an_unknown_method_is_501(method):
    assert refusal_of_method(method) == 501


@pytest.mark.parametrize("target", ["*", "/", "/missing", "/.env", "/sub/"])
async def test_options_are_the_same_for_all_there_is_and_is_not(served, ask, target):
    """RFC 9110 section 9.3.7; what differed would tell what is there."""
    answer = await ask(files(served), target, "OPTIONS")
    assert (answer.status, answer["allow"], answer.body) == (204, "GET, HEAD, OPTIONS", b"")


async def test_options_of_what_no_path_can_be_is_refused_as_by_get(served, ask):
    assert (await ask(files(served), path="/%zz", method="OPTIONS")).status == 400
    answer = await ask(files(served), "/sub//b.txt", "OPTIONS")
    assert (answer.status, answer["location"]) == (301, "/sub/b.txt")


# --- conditional requests


async def test_the_etag_of_an_answer_asks_for_304_and_leaves_nothing_open(tmp_path, ask):
    (tmp_path / "a.txt").write_text("hello")
    handler = files(tmp_path, wall_clock=far_ahead)
    etag = (await ask(handler, "/a.txt"))["etag"]
    assert not etag.startswith("W/")
    for condition in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        answer = await ask(handler, "/a.txt", "GET", [("if-none-match", condition)])
        assert (answer.status, answer["etag"], answer.body) == (304, etag, b"")
        assert answer["content-type"] is None


async def test_the_date_of_an_answer_asks_for_304(tmp_path, ask):
    (tmp_path / "a.txt").touch()
    settled(tmp_path / "a.txt")
    handler = files(tmp_path)
    date = (await ask(handler, "/a.txt"))["last-modified"]
    assert date == "Sun, 09 Sep 2001 01:46:40 GMT"
    assert (await ask(handler, "/a.txt", "HEAD", [("if-modified-since", date)])).status == 304
    earlier = "Sun, 09 Sep 2001 01:46:39 GMT"
    assert (await ask(handler, "/a.txt", "GET", [("if-modified-since", earlier)])).status == 200


async def test_each_change_gives_another_etag(tmp_path, ask):
    path = tmp_path / "a.txt"
    path.write_text("one")
    handler = files(tmp_path, wall_clock=far_ahead)
    seen = {(await ask(handler, "/a.txt"))["etag"]}
    path.write_text("three")
    seen.add((await ask(handler, "/a.txt"))["etag"])
    settled(path)
    seen.add((await ask(handler, "/a.txt"))["etag"])
    (tmp_path / "b.txt").write_text("three")
    settled(tmp_path / "b.txt")
    (tmp_path / "b.txt").rename(path)
    seen.add((await ask(handler, "/a.txt"))["etag"])
    assert len(seen) == 4


async def test_a_file_changed_less_than_two_seconds_ago_has_a_weak_etag_that_does_not_outlive_the_doubt(tmp_path, ask):
    path = tmp_path / "a.txt"
    path.write_text("hello")
    changed = path.stat().st_ctime
    young = files(tmp_path, wall_clock=lambda: changed + 1.9)
    weak = (await ask(young, "/a.txt"))["etag"]
    assert weak.startswith('W/"')
    assert (await ask(young, "/a.txt", "GET", [("if-none-match", weak)])).status == 304
    old = files(tmp_path, wall_clock=lambda: changed + 2.1)
    later = await ask(old, "/a.txt", "GET", [("if-none-match", weak)])
    assert later.status == 200
    assert not later["etag"].startswith("W/")


def test_a_clock_set_back_makes_files_of_the_future_doubtful(tmp_path):
    status = tmp_path.stat()
    assert is_racy(status, status.st_ctime - 1000)
    assert etag_of(status, racy=True) != etag_of(status, racy=False)


def test_last_modified_is_never_later_than_now(tmp_path):
    status = settled(tmp_path, NOW).stat()
    assert last_modified_of(status, NOW - 100.5) == NOW - 101
    assert last_modified_of(status, NOW + 100.5) == NOW
    assert last_modified_of(settled(tmp_path, -1.5).stat(), NOW) == -2


# --- listings and threads


async def test_a_listing_is_read_in_a_worker_thread(tmp_path, ask, monkeypatch):
    readers = []
    scan = os.scandir

    def watch(folder):
        readers.append(threading.current_thread())
        return scan(folder)

    monkeypatch.setattr(os, "scandir", watch)
    assert (await ask(files(tmp_path))).status == 200
    assert readers
    assert threading.main_thread() not in readers


async def test_a_cancelled_request_does_not_wait_for_a_hanging_folder(tmp_path, ask, monkeypatch, autojump_clock):
    reading, go_on, done = threading.Event(), threading.Event(), threading.Event()
    scan, close = os.scandir, os.close

    def hang(folder):
        reading.set()
        go_on.wait()
        return scan(folder)

    def close_and_tell(descriptor):
        close(descriptor)
        if go_on.is_set():
            done.set()

    handler = files(tmp_path)
    monkeypatch.setattr(os, "scandir", hang)
    monkeypatch.setattr(os, "close", close_and_tell)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, handler)
        await trio.to_thread.run_sync(reading.wait)
        nursery.cancel_scope.cancel()
    go_on.set()
    assert done.wait(10)
