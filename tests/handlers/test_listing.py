"""The listing: any name a disk can hold is shown safely, linked rightly, and sorted as people sort."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import tempfile
from datetime import UTC, datetime
from html.parser import HTMLParser
from urllib.parse import urljoin

import hypothesis
import pytest
from hypothesis import strategies as st

from ktrio.handlers._folder import paced, read_folder
from ktrio.handlers._tree import Kind, PathError, Tree
from ktrio.handlers.files import files
from ktrio.handlers.listing import (
    Entry,
    icon_of,
    quote_name,
    render_listing,
    show_name,
    show_size,
    show_time,
    show_totals,
    sort_key,
)


class Page(HTMLParser):
    """What a browser makes of a page: its rows, links and whatever would be fetched or run."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.links = []
        self.tags = set()
        self.fetched = []
        self._open = []
        self.cells = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        found = dict(attrs)
        assert not any(name.startswith("on") for name in found)
        if tag == "a":
            self.links.append([found["href"], ""])
        elif tag == "tr":
            self.cells.append([])
        elif tag == "td":
            self.cells[-1].append("")
        self.fetched += [value for name, value in attrs if name in ("src", "href") and tag != "a"]
        if tag not in ("meta", "link"):
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if "a" in self._open:
            self.links[-1][1] += data
        if "td" in self._open:
            self.cells[-1][-1] += data


def entry(name, *, is_folder=False, size=0, changed=0.0):
    return Entry(name=name, is_folder=is_folder, size=size, changed=changed)


async def test_a_listing_shows_name_size_and_utc_time_folders_first(tmp_path, ask):
    (tmp_path / "b.txt").write_bytes(bytes(1536))
    (tmp_path / "a.txt").touch()
    (tmp_path / "z").mkdir()
    for path in tmp_path.iterdir():
        os.utime(path, (1_000_000_000, 1_000_000_000))
    answer = await ask(files(tmp_path))
    assert (answer.status, answer["content-type"]) == (200, "text/html; charset=utf-8")
    page = Page(answer.text)
    time = "2001-09-09 01:46"
    assert page.cells[1:] == [["z/", "", time], ["a.txt", "0 B", time], ["b.txt", "1.5 KiB", time]]
    assert [link for link, _ in page.links] == ["z/", "a.txt", "b.txt"]
    assert 'datetime="2001-09-09T01:46:40Z"' in answer.text


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


def test_a_page_fetches_nothing_runs_nothing_and_allows_only_its_own_style():
    from ktrio.handlers._errors import error_page, page_response

    for response in (page_response(render_listing(("a",), [entry("b")])), error_page(404), error_page(405)):
        text = response.body.decode()
        page = Page(text)
        assert page.tags.isdisjoint({"script", "img", "iframe", "form", "object", "base"})
        assert all(link.startswith("data:") for link in page.fetched)
        assert not re.search(r"url\((?!\"data:)", text)
        assert " style=" not in text
        style = re.search("<style>(.*)</style>", text, re.DOTALL)[1]
        own = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        policy = response.headers.get("content-security-policy")
        assert "default-src 'none'" in policy
        assert f"'sha256-{own}'" in policy
        assert "unsafe" not in policy
        assert "prefers-color-scheme:dark" in style
        assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in text


@pytest.mark.parametrize(
    ("name", "shown", "link"),
    [
        ("plain-1.txt", "plain-1.txt", "plain-1.txt"),
        ("a b", "a b", "a%20b"),
        ("<script>alert(1)<", "<script>alert(1)<", "%3Cscript%3Ealert%281%29%3C"),
        ("\"'&amp;", "\"'&amp;", "%22%27%26amp%3B"),
        ("100%", "100%", "100%25"),
        ("a#b?c=d", "a#b?c=d", "a%23b%3Fc%3Dd"),
        ("javascript:alert(1)", "javascript:alert(1)", "javascript%3Aalert%281%29"),
        ("grüße", "grüße", "gr%C3%BC%C3%9Fe"),
        ("new\nline\x7f\x85", "new␊line␡\ufffd", "new%0Aline%7F%C2%85"),
        ("\udcff.txt", "\ufffd.txt", "%FF.txt"),
    ],
)
def test_a_name_is_shown_as_it_is_and_linked_by_its_octets(name, shown, link):
    page = Page(render_listing((), [entry(name)]))
    assert page.links == [[link, shown]]
    assert "script" not in page.tags


def test_a_name_that_turns_the_writing_around_is_isolated():
    assert "<bdi>\u202etxt.exe</bdi>" in render_listing((), [entry("\u202etxt.exe")])


def test_names_are_sorted_as_people_sort():
    names = ["page10", "Page2", "page1", "b", "A", "a", "10", "9", "\u00e4c", "ab", "page 2", "2\u00b2", "007", ""]
    ordered = sorted(names, key=lambda name: sort_key(name, is_folder=False))
    assert ordered == [
        "",
        "2\u00b2",
        "007",
        "9",
        "10",
        "A",
        "a",
        "ab",
        "\u00e4c",
        "b",
        "page 2",
        "page1",
        "Page2",
        "page10",
    ]


@pytest.mark.slow
@hypothesis.given(st.lists(st.tuples(st.text(max_size=12), st.booleans())))
def test_any_names_can_be_sorted_and_folders_come_first(items):
    ordered = sorted(items, key=lambda item: sort_key(item[0], is_folder=item[1]))
    assert [is_folder for _, is_folder in ordered] == sorted((is_folder for _, is_folder in items), reverse=True)


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (10 * 1024, "10 KiB"),
        (1023 * 1024, "1023 KiB"),
        (1024 * 1024 - 1, "1.0 MiB"),
        (3 * 1024**3, "3.0 GiB"),
        (2**63 - 1, "8.0 EiB"),
        (2**74, "16384 EiB"),
    ],
)
def test_sizes_are_short(size, shown):
    assert show_size(size) == shown


def test_times_no_calendar_reaches_are_left_out():
    assert show_time(0) == "1970-01-01 00:00"
    assert show_time(-1) == "1969-12-31 23:59"
    for impossible in (1e18, -1e18, float("inf"), float("nan")):
        assert show_time(impossible) == ""
    assert "<time" not in render_listing((), [entry("a", changed=1e18)])


@pytest.mark.parametrize(
    ("name", "icon"),
    [
        *[("a.md", "text"), ("a.json", "text"), ("a.jpg", "image"), ("a.svg", "image"), ("a.mp3", "media")],
        *[("a.mp4", "media"), ("a.zip", "archive"), ("a.tar.zst", "archive"), ("a.bin", "file"), ("Makefile", "file")],
    ],
)
def test_an_icon_tells_the_kind(name, icon):
    assert icon_of(entry(name)) == icon
    assert icon_of(entry(name, is_folder=True)) == "folder"


def test_the_last_line_counts():
    assert show_totals(0, 0, 0) == ""
    assert show_totals(1, 0, 0) == "1 folder"
    assert show_totals(0, 1, 5) == "1 file · 5 B"
    many = [entry("a", size=1024)] * 1200 + [entry("f", is_folder=True)] * 2
    assert "<span>2 folders · 1,200 files · 1.2 MiB</span>" in render_listing((), iter(many))


def test_what_is_left_out_is_said(tmp_path):
    for number in range(5):
        (tmp_path / f"file {number}").touch()
    (tmp_path / "folder").mkdir()
    contents = read_folder(Tree(tmp_path), (), max_entries=3)
    assert [each.name for each in contents.entries] == ["folder", "file 0", "file 1"]
    assert contents.left_out == 3
    assert "and 3 more" in render_listing((), contents.entries, left_out=3)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_folder_longer_than_a_run_of_the_sort_is_in_order_all_the_same(tmp_path):
    for number in range(1, 2500):
        (tmp_path / f"{number}").touch()
    contents = read_folder(Tree(tmp_path), (), max_entries=2400)
    assert [each.name for each in contents.entries] == [str(number) for number in range(1, 2401)]
    assert contents.left_out == 99


def test_pacing_changes_nothing_but_the_time():
    assert list(paced(range(5))) == [0, 1, 2, 3, 4]


def test_a_file_that_vanishes_between_listing_and_stat_is_left_out(tmp_path, monkeypatch):
    for name in "abc":
        (tmp_path / name).touch()
    vanishing = sort_key

    def sort_and_remove(name, *, is_folder):
        (tmp_path / "b").unlink(missing_ok=True)
        if name == "c":
            (tmp_path / "c").unlink(missing_ok=True)
            (tmp_path / "c").mkdir(exist_ok=True)
        return vanishing(name, is_folder=is_folder)

    monkeypatch.setattr("ktrio.handlers._folder.sort_key", sort_and_remove)
    assert [each.name for each in read_folder(Tree(tmp_path), ()).entries] == ["a"]


def test_a_folder_that_became_a_file_is_404(tmp_path):
    (tmp_path / "a").touch()
    with pytest.raises(PathError):
        read_folder(Tree(tmp_path), ("a",))


async def test_a_name_with_a_backslash_is_neither_served_nor_listed(tmp_path, ask):
    (tmp_path / "a\\b").touch()
    (tmp_path / "c").touch()
    answer = await ask(files(tmp_path))
    assert [link for link, _ in Page(answer.text).links] == ["c"]


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


@hypothesis.given(st.binary(min_size=1, max_size=60))
def test_names_are_quoted_in_ascii_and_shown_in_utf_8(raw):
    name = raw.decode("utf-8", "surrogateescape")
    assert re.fullmatch(r"[A-Za-z0-9._~%-]*", quote_name(name))
    shown = show_name(name)
    shown.encode("utf-8")
    assert not any(ord(character) < 32 for character in shown)


def test_sizes_and_times_of_links_are_those_of_what_they_lead_to(tmp_path):
    (tmp_path / "big").write_bytes(bytes(5000))
    (tmp_path / "link").symlink_to("big")
    (tmp_path / "down").mkdir()
    (tmp_path / "here").symlink_to(".")
    shown = {each.name: each for each in read_folder(Tree(tmp_path), ()).entries}
    assert shown["link"].size == 5000
    assert shown["link"].changed == shown["big"].changed
    assert [name for name, each in shown.items() if each.is_folder] == ["down", "here"]
    assert Tree(tmp_path).open(("here",), None).kind is Kind.FOLDER
    assert datetime.fromtimestamp(shown["big"].changed, UTC).year >= 2024
