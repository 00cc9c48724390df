"""The listing as JSON: RFC 8259, and its shape as the documents promise it."""

from __future__ import annotations

import json

import hypothesis
import pytest
from hypothesis import strategies as st

from ktrio.handlers._listing_json import JsonListing
from ktrio.handlers.listing import quote_name
from tests.handlers.pages import entry, whole


def read(*entries, names=(), left_out=0):
    text = whole(JsonListing(names), *entries, left_out=left_out)
    return json.loads(text.encode("utf-8"))


def test_the_shape_is_the_documented_one():
    assert read(
        entry("down", is_folder=True, size=None, changed=1_000_000_000),
        entry("a b.txt", size=12, changed=1_000_000_000.7),
        names=("x", "y z"),
        left_out=3,
    ) == {
        "path": "/x/y z/",
        "entries": [
            {"name": "down", "href": "down/", "type": "folder", "size": None, "mtime": "2001-09-09T01:46:40Z"},
            {"name": "a b.txt", "href": "a%20b.txt", "type": "file", "size": 12, "mtime": "2001-09-09T01:46:40Z"},
        ],
        "left_out": 3,
    }


def test_an_empty_folder_has_an_empty_list():
    assert read() == {"path": "/", "entries": [], "left_out": 0}


def test_what_is_not_known_is_null():
    [found] = read(entry("a", size=None, changed=None))["entries"]
    assert (found["size"], found["mtime"]) == (None, None)
    assert read(entry("a", changed=1e18))["entries"][0]["mtime"] is None


def test_each_entry_has_a_line_of_its_own_also_across_pieces():
    listing = JsonListing(())
    text = (
        listing.begin() + listing.rows([entry("a")]) + listing.rows([]) + listing.rows([entry("b\n")]) + listing.end(0)
    )
    lines = text.splitlines()
    assert [json.loads(line.rstrip(","))["name"] for line in lines[1:-1]] == ["a", "b\n"]
    assert [each["name"] for each in json.loads(text)["entries"]] == ["a", "b\n"]


@pytest.mark.parametrize(
    ("name", "shown"), [("\udcff.txt", "\ufffd.txt"), ('"\\', '"\\'), ("\u202e", "\u202e"), ("\0", "\0"), ("é", "é")]
)
def test_a_name_is_exact_but_for_octets_that_are_no_utf_8(name, shown):
    [found] = read(entry(name), names=(name,))["entries"]
    assert found["name"] == shown
    assert found["href"] == quote_name(name)


@hypothesis.given(st.binary(min_size=1, max_size=60), st.booleans())
def test_any_name_is_valid_json_and_found_again_by_its_href(raw, is_folder):
    name = raw.decode("utf-8", "surrogateescape")
    [found] = read(entry(name, is_folder=is_folder))["entries"]
    assert found["href"] == quote_name(name) + ("/" if is_folder else "")
    assert found["type"] == ("folder" if is_folder else "file")
