"""The listing as a page: safe whatever the names, whole without its script."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest

from ktrio.handlers._errors import error_page
from ktrio.handlers._listing_html import LISTING_POLICY, HtmlListing
from tests.handlers.pages import Page, entry, whole


def page_of(*entries, names=(), left_out=0):
    return whole(HtmlListing(names), *entries, left_out=left_out)


def hash_of(text):
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def style_in(text):
    return re.search("<style>(.*)</style>", text, re.DOTALL)[1]


def test_a_page_fetches_nothing_and_may_do_only_what_is_its_own():
    """Content Security Policy Level 3 section 2.3.1: by hash, and nothing else."""
    errors = [
        (response.body.decode(), response.headers.get("content-security-policy"))
        for response in map(error_page, (404, 405))
    ]
    for text, policy in [(page_of(entry("b"), names=("a",)), LISTING_POLICY), *errors]:
        page = Page(text)
        assert page.tags.isdisjoint({"img", "iframe", "form", "object", "base"})
        assert all(link.startswith("data:") for link in page.fetched)
        assert not re.search(r"url\((?!\"data:)", text)
        assert " style=" not in text
        directives = dict(each.split(" ", 1) for each in policy.split("; "))
        assert directives.pop("style-src") == hash_of(style_in(text))
        assert directives.pop("script-src", "") == (hash_of(page.script) if page.script else "")
        assert directives == {
            "default-src": "'none'",
            "img-src": "data:",
            "base-uri": "'none'",
            "form-action": "'none'",
            "frame-ancestors": "'self'",
        }
        assert "prefers-color-scheme:dark" in text
        assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in text


def test_only_a_listing_has_a_script_and_names_are_never_in_it():
    hostile = "</script><script>alert(1)</script>"
    assert Page(page_of(entry(hostile), names=(hostile,))).script == Page(page_of()).script != ""
    assert "script" not in Page(error_page(404).body.decode()).tags


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
    page = Page(page_of(entry(name)))
    assert page.links == [[link, shown]]
    assert page.script == Page(page_of()).script


def test_a_name_is_isolated_from_what_stands_beside_it():
    assert "<bdi>\u05e9.txt</bdi>" in page_of(entry("\u05e9.txt"))


def test_the_way_here_is_a_list_of_links_and_ends_in_the_heading():
    text = page_of(names=("a", "<b>"))
    assert Page(text).links == [["../../", "Home"], ["../", "a"], ["../", "Up one folder"]]
    assert '<h1 aria-current="page"><bdi>&lt;b&gt;</bdi></h1>' in text
    assert "<title>/a/&lt;b&gt;/ · ktrio</title>" in text
    assert '<h1 aria-current="page"><bdi>Home</bdi></h1>' in page_of()


def test_a_table_says_how_it_is_sorted_and_what_its_columns_are():
    text = page_of(entry("a"))
    assert '<th scope="col" aria-sort="ascending">Name</th><th scope="col">Size</th>' in text
    assert '<table aria-label="' in text


def test_without_a_script_nothing_is_offered_that_needs_one():
    text = page_of(entry("a"))
    assert '<div role="search" hidden>' in text
    assert '<tbody id="none" class="note" hidden>' in text
    assert "<button" not in text.partition("<script>")[0]


def test_a_size_is_short_and_its_exact_bytes_are_there_too():
    text = page_of(entry("a", size=1234567), entry("b", size=12), entry("c", is_folder=True, size=None))
    assert '<data value="1234567" title="1,234,567 bytes">1.2 MiB</data>' in text
    assert '<data value="12">12 B</data>' in text
    assert text.count("<data") == 2


def test_what_may_not_be_looked_at_has_neither_size_nor_time():
    assert Page(page_of(entry("a", size=None, changed=None))).cells[1:] == [["a", "", ""], ["No name like that"]]


def test_a_time_is_written_to_the_minute_and_given_to_the_second():
    text = page_of(entry("a", changed=1_000_000_000.5), entry("b", changed=1e18))
    assert '<time datetime="2001-09-09T01:46:40Z">2001-09-09 01:46</time>' in text
    assert text.count("<time ") == 1


def test_the_last_line_counts_what_was_written_in_all_pieces():
    listing = HtmlListing(())
    listing.rows([entry("f", is_folder=True, size=None)] * 2)
    listing.rows([entry("a", size=1024)] * 1000)
    listing.rows(iter([entry("a", size=1024), entry("b", size=None)]))
    assert "<span>2 folders · 1,002 files · 1001 KiB</span>" in listing.end(0)


def test_what_is_left_out_is_said_and_so_is_that_there_is_nothing():
    assert "and 3,000 more, not shown" in page_of(entry("a"), left_out=3000)
    assert "Nothing here" not in page_of(left_out=1)
    assert "Nothing here" in page_of()
    assert "Nothing here" not in page_of(entry("a"))
