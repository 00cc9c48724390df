"""Listings as answers: the form that was asked for, whole or in pieces, compressed or not, never a 406."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import tempfile
import threading
import zlib
from urllib.parse import urljoin

import brotli
import hypothesis
import pytest
import trio
import zstandard
from hypothesis import strategies as st

from ktrio.handlers import _folder
from ktrio.handlers._listings import form_by_query
from ktrio.handlers.files import files
from ktrio.testing import check_handler
from tests.handlers.conftest import pieces_of
from tests.handlers.pages import Page

UNPACK = {
    "gzip": gzip.decompress,
    "br": brotli.decompress,
    "zstd": lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
}


@pytest.fixture
def site(tmp_path):
    (tmp_path / "b.txt").write_bytes(bytes(1536))
    (tmp_path / "a.txt").touch()
    (tmp_path / "z").mkdir()
    for path in tmp_path.iterdir():
        os.utime(path, (1_000_000_000, 1_000_000_000))
    return tmp_path


@pytest.fixture
def in_slices_of_two(monkeypatch):
    monkeypatch.setattr(_folder, "SLICE", 2)


@pytest.fixture
def long_one(tmp_path, in_slices_of_two):
    """A folder of three slices."""
    for number in range(5):
        (tmp_path / f"{number}").write_bytes(bytes(number))
    return tmp_path


async def test_a_page_shows_name_size_and_utc_time_folders_first(site, ask):
    answer = await ask(files(site))
    assert (answer.status, answer["content-type"]) == (200, "text/html; charset=utf-8")
    assert answer["x-content-type-options"] == "nosniff"
    page = Page(answer.text)
    time = "2001-09-09 01:46"
    assert page.cells[1:4] == [["z/", "", time], ["a.txt", "0 B", time], ["b.txt", "1.5 KiB", time]]
    assert [link for link, _ in page.links] == ["z/", "a.txt", "b.txt"]


async def test_there_is_a_way_up_but_not_from_the_root(tmp_path, ask):
    (tmp_path / "a b" / "c").mkdir(parents=True)
    handler = files(tmp_path)
    assert [link for link, _ in Page((await ask(handler, "/")).text).links] == ["a%20b/"]
    assert Page((await ask(handler, "/a%20b/c/")).text).links == [
        ["../../", "Home"],
        ["../", "a b"],
        ["../", "Up one folder"],
    ]


async def test_an_empty_folder_says_so(tmp_path, ask):
    assert "Nothing here" in (await ask(files(tmp_path))).text


async def test_a_name_with_a_backslash_is_neither_served_nor_listed(tmp_path, ask):
    (tmp_path / "a\\b").touch()
    (tmp_path / "c").touch()
    answer = await ask(files(tmp_path))
    assert [link for link, _ in Page(answer.text).links] == ["c"]


# --- which form


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        (None, "text/html; charset=utf-8"),
        ("*/*", "text/html; charset=utf-8"),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8", "text/html; charset=utf-8"),
        ("application/json", "application/json"),
        ("application/json, text/plain, */*", "application/json"),
        ("text/html;q=0.5, application/json;q=0.4", "text/html; charset=utf-8"),
        ("image/png", "text/html; charset=utf-8"),  # section 12.4.1: no 406
        ("text/html;q=0, application/json;q=0", "text/html; charset=utf-8"),
    ],
)
async def test_accept_chooses_between_page_and_json_and_never_gets_406(site, ask, accept, media_type):
    """RFC 9110 section 12.5.1."""
    answer = await ask(files(site), headers=[("accept", accept)] if accept else [])
    assert (answer.status, answer["content-type"]) == (200, media_type)
    assert "accept" in answer["vary"].split(", ")


@pytest.mark.parametrize(
    ("query", "form"),
    [
        (None, None),
        ("", None),
        ("format=json", "application/json"),
        ("format=html", "text/html"),
        ("a=b&format=json", "application/json"),
        ("format=xml", None),
        ("format=xml&format=json", "application/json"),
        ("format=html&format=json", "text/html"),
        ("xformat=json", None),
        ("&" * 100 + "format=json", None),
    ],
)
def test_a_query_may_say_the_form(query, form):
    assert form_by_query(query) == form


async def test_a_form_in_the_query_beats_accept_and_does_not_vary_with_it(site, ask):
    answer = await ask(files(site), "/?format=json", headers=[("accept", "text/html")])
    assert json.loads(answer.text)["entries"][0]["name"] == "z"
    assert answer["vary"] == "accept-encoding"
    assert answer["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    page = await ask(files(site, compress=False), "/?format=html", headers=[("accept", "application/json")])
    assert page["content-type"] == "text/html; charset=utf-8"
    assert page["vary"] is None


async def test_an_index_file_is_sent_whatever_form_a_listing_would_have_had(site, ask):
    (site / "index.html").write_text("index")
    assert (await ask(files(site), "/?format=json", headers=[("accept", "application/json")])).text == "index"


async def test_errors_are_pages_in_either_form(site, ask):
    answer = await ask(files(site), "/nowhere/?format=json")
    assert (answer.status, answer["content-type"]) == (404, "text/html; charset=utf-8")


async def test_a_listing_has_no_validators_and_is_asked_for_again(site, ask):
    """The time of a folder says nothing about the files in it (RFC 9110 section 8.8)."""
    answer = await ask(
        files(site), headers=[("if-none-match", "*"), ("if-modified-since", "Fri, 01 Jan 2100 00:00:00 GMT")]
    )
    assert answer.status == 200
    assert (answer["etag"], answer["last-modified"], answer["cache-control"]) == (None, None, "no-cache")


# --- compressed


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
@pytest.mark.parametrize("target", ["/", "/?format=json"])
@pytest.mark.parametrize("is_long", [False, True], ids=["whole", "in pieces"])
async def test_a_listing_is_compressed_for_whoever_accepts_that(site, ask, monkeypatch, coding, target, is_long):
    """RFC 9110 sections 8.4 and 12.5.5."""
    for number in range(20):
        (site / f"name of a file {number}").touch()
    if is_long:
        monkeypatch.setattr(_folder, "SLICE", 7)
    handler = files(site)
    plain = await ask(handler, target)
    answer = await ask(handler, target, headers=[("accept-encoding", coding)])
    assert plain["content-encoding"] is None
    assert answer["content-encoding"] == coding
    assert plain["vary"] == answer["vary"]
    assert "accept-encoding" in answer["vary"]
    assert UNPACK[coding](answer.body) == plain.body
    assert len(answer.body) < len(plain.body)


async def test_what_would_not_shrink_or_may_not_be_compressed_is_sent_as_it_is(tmp_path, site, ask):
    (tmp_path / "z" / "a").touch()
    accept = [("accept-encoding", "br, gzip")]
    assert (await ask(files(site), "/z/?format=json", headers=accept))["content-encoding"] is None
    assert (await ask(files(site, compress=False), headers=accept))["content-encoding"] is None
    assert (await ask(files(site, compress=False), headers=accept))["vary"] == "accept"


class NothingHeldBack:
    """Decompresses what has come so far."""

    def __init__(self, coding):
        if coding == "br":
            self.read = brotli.Decompressor().process
        elif coding == "zstd":
            self.read = zstandard.ZstdDecompressor().decompressobj().decompress
        else:
            self.read = zlib.decompressobj(31).decompress


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
async def test_each_compressed_piece_can_be_read_as_it_comes(long_one, request_for, coding):
    response = await files(long_one)(request_for("/", headers=[("accept-encoding", coding)]))
    decoder = NothingHeldBack(coding)
    async with pieces_of(response) as pieces:
        texts = [decoder.read(piece).decode() async for piece in pieces]
    assert ["</thead>" in text for text in texts[:1]] == [True]
    assert [re.findall('href="([0-9])"', text) for text in texts] == [[], ["0", "1"], ["2", "3"], ["4"], [], []]
    assert texts[-2].endswith("</html>\n")


# --- in pieces


async def test_a_short_listing_is_one_body_and_a_long_one_comes_in_pieces(long_one, request_for):
    (long_one / "down").mkdir()
    (long_one / "down" / "a").touch()
    handler = files(long_one)
    short = await handler(request_for("/down/"))
    assert isinstance(short.body, bytes)
    async with pieces_of(await handler(request_for("/"))) as each:
        pieces = [piece async for piece in each]
    assert len(pieces) == 5  # what comes before, three slices, what comes behind
    assert all(pieces)
    page = Page(b"".join(pieces).decode())
    assert [link for link, _ in page.links] == ["down/", "0", "1", "2", "3", "4"]


async def test_a_long_listing_is_whole_json_too(long_one, ask):
    entries = json.loads((await ask(files(long_one), "/?format=json")).text)["entries"]
    assert [(each["name"], each["size"]) for each in entries] == [(str(number), number) for number in range(5)]


async def test_between_two_pieces_no_file_is_open(long_one, request_for):
    response = await files(long_one)(request_for("/"))
    before = os.listdir("/proc/self/fd")
    async with pieces_of(response) as pieces:
        await anext(pieces)
        await anext(pieces)
        assert os.listdir("/proc/self/fd") == before


async def test_every_piece_is_made_in_a_thread(long_one, request_for, monkeypatch):
    threads = []
    stat = os.stat

    def watch(path, **options):
        if "dir_fd" in options:
            threads.append(threading.current_thread())
        return stat(path, **options)

    response = await files(long_one)(request_for("/"))
    monkeypatch.setattr(os, "stat", watch)
    async with pieces_of(response) as pieces:
        assert len([piece async for piece in pieces]) == 5
    assert len(threads) == 5
    assert threading.main_thread() not in threads


async def test_what_comes_and_goes_meanwhile_spoils_nothing(long_one, request_for):
    response = await files(long_one)(request_for("/?format=json"))
    async with pieces_of(response) as pieces:
        begun = await anext(pieces) + await anext(pieces)
        (long_one / "2").unlink()
        (long_one / "3").unlink()
        (long_one / "30").touch()
        listing = json.loads(begun + b"".join([piece async for piece in pieces]))
    assert [each["name"] for each in listing["entries"]] == ["0", "1", "4"]
    assert listing["left_out"] == 0


@pytest.mark.parametrize("target", ["/down/", "/down/?format=json"])
async def test_a_folder_that_vanishes_meanwhile_ends_a_listing_that_says_so(
    tmp_path, in_slices_of_two, request_for, target
):
    (tmp_path / "down").mkdir()
    for number in range(5):
        (tmp_path / "down" / f"{number}").touch()
    response = await files(tmp_path)(request_for(target))
    async with pieces_of(response) as pieces:
        begun = await anext(pieces) + await anext(pieces)
        shutil.rmtree(tmp_path / "down")
        text = (begun + b"".join([piece async for piece in pieces])).decode()
    if "json" in target:
        listing = json.loads(text)
        assert ([each["name"] for each in listing["entries"]], listing["left_out"]) == (["0", "1"], 3)
    else:
        assert [link for link, _ in Page(text).links][2:] == ["0", "1"]
        assert "and 3 more, not shown" in text


async def test_a_cancelled_body_does_not_wait_for_a_hanging_disk(long_one, request_for, monkeypatch):
    reading, go_on = threading.Event(), threading.Event()
    stat = os.stat

    def hang(path, **options):
        if "dir_fd" in options:
            reading.set()
            go_on.wait(10)
        return stat(path, **options)

    response = await files(long_one)(request_for("/"))
    async with pieces_of(response) as pieces, trio.open_nursery() as nursery:
        await anext(pieces)
        monkeypatch.setattr(os, "stat", hang)
        nursery.start_soon(anext, pieces)
        await trio.to_thread.run_sync(reading.wait)
        nursery.cancel_scope.cancel()
    before = len(os.listdir("/proc/self/fd"))
    go_on.set()
    while len(os.listdir("/proc/self/fd")) >= before:  # the thread closes what it has opened
        await trio.lowlevel.checkpoint()


@pytest.mark.slow
@pytest.mark.parametrize("target", ["/", "/?format=json"])
async def test_a_long_listing_is_what_any_handler_must_be(long_one, target, mock_clock):
    """HEAD as GET, cancelled at each of its waits, its client gone …: `ktrio.testing.check_handler`."""
    await check_handler(lambda: files(long_one), target)


# Any octets but NUL and the slash make a name; a leading dot hides it, and a backslash is not served.
NAMES = (
    st.binary(min_size=1, max_size=40).map(lambda raw: raw.translate(None, b"\0/\\"))
    | st.text(min_size=1, max_size=40).map(lambda text: re.sub(r"[\0/\\]", "", text).encode("utf-8", "ignore"))
    | st.sampled_from([b" ", b"~", b"%41", b"%2e%2e", b"a+b", b"a;b", b"&lt;", b"x" * 255, b"\xff" * 255, b"-rf *"])
).filter(lambda raw: raw and not raw.startswith(b"."))


@pytest.mark.exhaustive
@pytest.mark.slow
@hypothesis.given(st.dictionaries(NAMES, st.booleans(), max_size=6), NAMES)
async def test_every_name_in_a_listing_can_be_fetched_through_its_link(ask, names, folder):
    root = tempfile.mkdtemp()
    try:
        place = os.path.join(os.fsencode(root), folder)
        os.mkdir(place)
        for name, is_folder in names.items():
            path = os.path.join(place, name)
            if is_folder:
                os.mkdir(path)
                path = os.path.join(path, b"index.html")
            with open(path, "wb") as file:
                file.write(name)
        handler = files(root)
        top = Page((await ask(handler, "/")).text)
        assert len(top.links) == 1
        base = urljoin("http://server/", top.links[0][0])
        page = Page((await ask(handler, base)).text)
        fetched = [await ask(handler, urljoin(base, link)) for link, _ in page.links if not link.startswith("../")]
        assert {answer.status for answer in fetched} <= {200}
        assert sorted(answer.body for answer in fetched) == sorted(names)
    finally:
        shutil.rmtree(root)
