"""Is this request for us? RFC 9110 sections 4.3.3, 7.2 and 7.4."""

from __future__ import annotations

import pytest

from ktrio.http.hosts import AllowedHosts, host_name, host_of


@pytest.mark.parametrize(
    ("authority", "host"),
    [
        ("example.org", "example.org"),
        ("Example.ORG:8081", "example.org"),
        ("example.org.", "example.org"),
        ("example.org.:80", "example.org"),
        ("example.org:", "example.org"),
        ("[::1]:80", "[::1]"),
        ("[::1]", "[::1]"),
        ("", ""),
        (":80", ""),
    ],
)
def test_host_is_compared_without_port_and_case(authority, host):
    # RFC 9110 section 4.2.3: scheme and host are case-insensitive
    assert host_of(authority) == host


@pytest.mark.parametrize(
    ("name", "known"),
    [("Example.org", "example.org"), ("::1", "[::1]"), ("[::1]", "[::1]"), ("10.0.0.1", "10.0.0.1"),
     ("*.a.example", "*.a.example"), ("localhost.", "localhost"), ("my_box", "my_box")],
)  # fmt: skip
def test_name_of_a_host_is_kept_as_it_is_compared(name, known):
    assert host_name(name) == known


@pytest.mark.parametrize(
    "name",
    ["", "*", "*.", "a.example:80", "[::1]:80", "http://a.example", "a b", "a.example/x", "*.*.a", "a.*.b", "*.[::1]",
     "grüße.example", ".a.example", "a..b", "user@a.example"],
)  # fmt: skip
def test_what_is_no_name_of_a_host_is_refused_by_name(name):
    with pytest.raises(ValueError, match="is not the name of a host"):
        host_name(name)


@pytest.mark.parametrize(
    ("authority", "allowed"),
    [
        ("a.example", True),
        ("A.example:8081", True),
        ("x.b.example", True),
        ("x.y.b.example:1", True),
        ("b.example", False),
        ("evil-b.example", False),
        ("xb.example", False),
        ("a.example.evil", False),
        ("[::1]:80", True),
        ("", False),
        (None, False),
    ],
)
def test_allowed_are_names_as_they_are_and_what_lies_below_a_star(authority, allowed):
    assert AllowedHosts(["a.example", "*.b.example", "::1"]).allow(authority) is allowed


def test_nothing_lies_below_when_nobody_said_so():
    assert not AllowedHosts(["a.example"]).allow("x.a.example")
    assert repr(AllowedHosts(["B.example", "*.a.example"])) == "<AllowedHosts b.example, *.a.example>"
