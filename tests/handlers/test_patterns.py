"""Patterns over paths: what they match, what they leave open, and that no path makes them slow."""

from __future__ import annotations

import re
import time
from fnmatch import fnmatchcase

import hypothesis
import pytest
from hypothesis import strategies as st

from ktrio.handlers._patterns import compile_pattern, path_to_match, wildcards_in

MATCHES = [
    ("/old", "/old", ()),
    ("/old", "/old/", ()),
    ("/old/", "/old", ()),
    ("/", "/", ()),
    ("/**", "/", ("",)),
    ("/**", "/a/b", ("a/b",)),
    ("/old/**", "/old", (None,)),
    ("/old/**", "/old/", ("",)),
    ("/old/**", "/old/a/b/", ("a/b/",)),
    ("/*/b", "/a/b", ("a",)),
    ("/a/*", "/a/b", ("b",)),
    ("/*.js", "/a.js", ("a",)),
    ("*.js", "/a/b/c.js", ("c",)),
    ("*.js", "/c.js", ("c",)),
    ("v*-*.tar.gz", "/x/v1-2-3.tar.gz", ("1", "2-3")),
    ("/a.b", "/a.b", ()),
    ("/\u00fcber/*", "/\u00fcber/a", ("a",)),
    ("/a\nb", "/a\nb", ()),
    ("/**", "/a\nb", ("a\nb",)),
]

NO_MATCHES = [
    ("/old", "/older"),
    ("/old", "/old/a"),
    ("/old/**", "/older"),
    ("/*", "/a/b"),
    ("/*", "/"),
    ("/a/*/b", "/a/b"),
    ("*.js", "/a.js/b"),
    ("*.js", "/a.jsx"),
    ("/a.b", "/axb"),
    ("/A", "/a"),
]


@pytest.mark.parametrize(("pattern", "path", "open_parts"), MATCHES)
def test_a_pattern_matches_and_says_what_its_wildcards_stand_for(pattern, path, open_parts):
    match = compile_pattern(pattern).fullmatch(path)
    assert match is not None
    assert match.groups() == open_parts
    assert len(open_parts) == wildcards_in(pattern)


@pytest.mark.parametrize(("pattern", "path"), NO_MATCHES)
def test_a_pattern_does_not_match(pattern, path):
    assert compile_pattern(pattern).fullmatch(path) is None


@pytest.mark.parametrize(
    "pattern", ["", "a/b", "/a/../b", "/a%20b", "/**/a", "/a**", "/a\\b", "/a\0", "**", "/./a", "."]
)
def test_what_is_no_pattern_is_refused(pattern):
    with pytest.raises(ValueError, match=re.escape(repr(pattern))):
        compile_pattern(pattern)


@pytest.mark.parametrize(
    ("target", "path"),
    [("/", "/"), ("/a//b/", "/a/b/"), ("/%C3%BC", "/\u00fc"), ("//", "/"), ("*", None), ("/%2f", None), ("/..", None)],
)
def test_what_is_matched_is_the_decoded_path(target, path):
    assert path_to_match(target) == path


@hypothesis.given(
    pattern=st.lists(st.sampled_from(["a", "b", "-", "*", "x.", ".js"]), min_size=1, max_size=7).map("".join),
    name=st.text("ab-x.js", max_size=12),
)
def test_within_a_segment_a_pattern_is_that_of_the_shell(pattern, name):
    hypothesis.assume("**" not in pattern and pattern not in {".", ".."})
    hypothesis.assume(pattern != "*" or name)  # no segment is empty
    match = compile_pattern("/" + pattern).fullmatch("/" + name)
    assert bool(match) == fnmatchcase(name, pattern)


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("*-*-*-*-*.js", "/" + "-" * 8000),
        ("/*a*a*a*a*a*b", "/" + "a" * 8000),
        ("/*/*/*/*/*/*/b", "/a" * 4000),
        ("*.js", "/" * 3 + "a/" * 4000),
        ("/a/**", "/a" + "/a" * 4000 + "\n"),
    ],
)
def test_no_path_makes_a_pattern_slow(pattern, path):
    compiled = compile_pattern(pattern)
    since = time.process_time()
    compiled.fullmatch(path)
    # Microseconds when it is linear, and seconds when it is not.
    assert time.process_time() - since < 0.1
