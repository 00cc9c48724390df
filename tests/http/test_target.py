"""Request targets and paths: RFC 9112 section 3.2, RFC 3986."""

import os
from contextlib import suppress
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ktrio.http.errors import BadRequest
from ktrio.http.target import (
    EmptySegmentError,
    all_names,
    authority_of,
    decode_path,
    is_hidden,
    is_plain_name,
    leading_names,
    split_target,
)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("/", ("/", None)),
        ("/a/b.html", ("/a/b.html", None)),
        ("/a?", ("/a", "")),
        ("/a?b=c&d", ("/a", "b=c&d")),
        ("/a?b?c", ("/a", "b?c")),
        ("/?/../x", ("/", "/../x")),
        ("//a//b", ("//a//b", None)),
        ("/http://other/", ("/http://other/", None)),
        ("/%3Fx", ("/%3Fx", None)),
    ],
)
def test_split_of_origin_form_gives_path_and_query(raw, expected):
    # RFC 9112 section 3.2.1
    assert split_target(raw) == expected


@pytest.mark.parametrize(
    ("raw", "expected", "authority"),
    [
        ("http://host/path", ("/path", None), "host"),
        ("HTTP://host/path?q", ("/path", "q"), "host"),
        ("https://host:8081/", ("/", None), "host:8081"),
        ("http://host", ("/", None), "host"),
        ("http://host?q", ("/", "q"), "host"),
        ("http://[::1]:80/x", ("/x", None), "[::1]:80"),
        ("http://host//etc/passwd", ("//etc/passwd", None), "host"),
    ],
)
def test_split_of_absolute_form_uses_the_path_part(raw, expected, authority):
    # RFC 9112 section 3.2.2: "a server MUST accept the absolute-form in requests".
    assert split_target(raw) == expected
    assert authority_of(raw) == authority


@pytest.mark.parametrize("raw", ["/", "//host/", "*", "/http://host/"])
def test_authority_of_other_forms_is_none(raw):
    assert authority_of(raw) is None


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "a",
        "host:80",  # authority-form is for CONNECT only
        "ftp://host/x",
        "file:///etc/passwd",
        "http:/x",
        "http:///x",
        "http://user@host/x",  # RFC 9110 section 4.2.4
        "http://user:secret@host/",
        "http://ho st/",
        "http://host:port/",
        "http://[::1/x",
        "http://host\\x/",
        "javascript:alert(1)",
        "?x",
        "/a#b",
        "/a?b#c",
        "http://host/#f",
        "..",
        "../etc/passwd",
        "\\etc",
    ],
)
def test_split_of_any_other_form_is_refused(raw):
    with pytest.raises(BadRequest):
        split_target(raw)


def test_asterisk_is_for_options_only():
    # RFC 9112 section 3.2.4
    assert split_target("*", method="OPTIONS") == ("*", None)
    with pytest.raises(BadRequest):
        split_target("*", method="GET")


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/", ()),
        ("/a", ("a",)),
        ("/a/b/", ("a", "b")),
        ("/a%20b", ("a b",)),
        ("/a+b", ("a+b",)),
        ("/%C3%A9", ("é",)),
        ("/%e2%82%ac.txt", ("€.txt",)),
        ("/%FF", ("\udcff",)),
        ("/%252e%252e/x", ("%2e%2e", "x")),  # decoded exactly once
        ("/%2541", ("%41",)),
        ("/...", ("...",)),
        ("/..a/a../a..b", ("..a", "a..", "a..b")),
        ("/.hidden", (".hidden",)),
        ("/%0A", ("\n",)),
        ("/a;b=c", ("a;b=c",)),
        ("/%c0%ae%c0%ae", ("\udcc0\udcae\udcc0\udcae",)),  # overlong dots stay bytes, not dots
        ("/~user/*", ("~user", "*")),
    ],
)
def test_decode_of_a_plain_path_gives_its_names(path, names):
    assert decode_path(path) == leading_names(path) == names


@pytest.mark.parametrize(
    ("path", "leading"), [("//", ()), ("//a", ()), ("/a//b", ("a",)), ("/a/b//", ("a", "b")), ("/a///", ("a",))]
)
def test_empty_segment_within_a_path_names_nothing(path, leading):
    with pytest.raises(EmptySegmentError):
        decode_path(path)
    assert leading_names(path) == leading
    assert all_names(path) == tuple(each for each in path.split("/") if each)


@pytest.mark.parametrize("path", ["//..", "/a//%2e%2e/b", "/a//b%2fc"])
def test_what_is_wrong_behind_an_empty_segment_is_seen_first(path):
    for ask in (decode_path, leading_names, all_names):
        with pytest.raises(BadRequest) as caught:
            ask(path)
        assert not isinstance(caught.value, EmptySegmentError)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "a",
        "*",
        "/..",
        "/.",
        "/../etc/passwd",
        "/a/../b",
        "/a/./b",
        "/a/..",
        "/%2e%2e/etc/passwd",
        "/%2E%2e",
        "/.%2e/x",
        "/%2e./x",
        "/%2e",
        "/a%2Fb",
        "/%2f%2e%2e%2fetc",
        "/..%2fetc/passwd",
        "/%00",
        "/a%00.html",
        "/a\0b",
        "/..\\..\\x",
        "/a\\b",
        "/%5c",
        "/..%5C..%5cx",
        "/%",
        "/%2",
        "/%zz",
        "/%u002e",
        "/%-1",
        "/é",
    ],
)
def test_decode_of_a_path_that_names_no_entry_is_refused(path):
    with pytest.raises(BadRequest):
        decode_path(path)


@given(st.text(st.sampled_from("/.%2eEfFcC50\\abZ\0~é"), max_size=40).map(lambda text: "/" + text))
@example("/%2e%2e%2f")
def test_decode_of_any_path_never_yields_a_way_out(path):
    try:
        names = decode_path(path)
    except BadRequest:
        return
    for name in names:
        assert name not in ("", ".", "..")
        assert not set("/\\\0") & set(name)
        assert b"/" not in os.fsencode(name)
    # Joined below a root, they stay below it.
    assert os.path.normpath(os.path.join("/root", *names)).startswith("/root")


@given(st.lists(st.binary(min_size=1, max_size=12), max_size=5))
def test_decode_undoes_the_encoding_of_any_names_the_file_system_has(raw_names):
    names = tuple(os.fsdecode(name) for name in raw_names)
    path = "/" + "/".join(quote(name, safe="") for name in raw_names)
    if all(is_plain_name(name) for name in names):
        assert decode_path(path) == names
        assert tuple(os.fsencode(name) for name in decode_path(path)) == tuple(raw_names)
    else:
        with pytest.raises(BadRequest):
            decode_path(path)


@given(st.text())
def test_split_and_decode_of_any_text_give_an_answer_or_a_400(raw):
    with suppress(BadRequest):
        decode_path(split_target(raw)[0])


@pytest.mark.parametrize(
    ("names", "hidden"),
    [
        ((), False),
        (("a", "b.c"), False),
        ((".git",), True),
        (("a", ".env"), True),
        (("a", ".b", "c"), True),
        ((".well-known", "acme-challenge", "x"), False),  # RFC 8615
        ((".well-known",), False),
        ((".well-known", ".secret"), True),
        ((".well-knownx",), True),
        (("a", ".well-known"), True),
        ((".Well-Known",), True),
    ],
)
def test_dotfiles_are_hidden_but_for_well_known_at_the_root(names, hidden):
    assert is_hidden(names) is hidden
