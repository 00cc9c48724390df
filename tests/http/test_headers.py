"""Header fields: RFC 9110 section 5."""

import pytest

from ktrio.http.headers import Headers


def test_get_with_other_case_finds_the_field():
    assert Headers([("Content-Type", "text/css")]).get("CONTENT-TYPE") == "text/css"


def test_get_of_a_missing_field_gives_the_default():
    assert Headers().get("host") is None
    assert Headers().get("host", "x") == "x"


def test_get_of_a_repeated_field_gives_the_first():
    assert Headers([("a", "1"), ("A", "2")]).get("a") == "1"


def test_get_all_gives_every_value_in_order():
    assert Headers([("a", "1"), ("b", "x"), ("A", "2")]).get_all("a") == ["1", "2"]


def test_tokens_join_fields_and_members_in_lower_case_and_skip_empty_ones():
    # RFC 9110 section 5.6.1.2: a recipient must accept and ignore empty members.
    headers = Headers([("connection", "Close, ,x"), ("Connection", ",\tKeep-Alive")])
    assert headers.tokens("connection") == ["close", "x", "keep-alive"]


def test_set_replaces_every_field_of_that_name():
    headers = Headers([("a", "1"), ("b", "x"), ("A", "2")])
    headers.set("A", "3")
    assert list(headers) == [("b", "x"), ("a", "3")]


def test_remove_of_a_missing_field_is_no_error():
    headers = Headers({"a": "1"})
    headers.remove("b")
    assert list(headers) == [("a", "1")]


def test_a_copy_is_independent_of_its_source():
    source = Headers({"a": "1"})
    copy = Headers(source)
    copy.add("b", "2")
    assert len(source) == 1
    assert len(copy) == 2


def test_headers_contain_names_whatever_their_case_and_nothing_but_names():
    headers = Headers({"Host": "x"})
    assert "HOST" in headers
    assert "via" not in headers
    assert 7 not in headers


def test_headers_with_equal_fields_in_equal_order_are_equal():
    assert Headers([("A", "1"), ("b", "2")]) == Headers({"a": "1", "B": "2"})
    assert Headers([("b", "2"), ("a", "1")]) != Headers({"a": "1", "b": "2"})
    assert Headers() != []


def test_headers_are_mutable_so_not_hashable():
    with pytest.raises(TypeError):
        hash(Headers())


def test_repr_shows_the_fields():
    assert repr(Headers({"A": "1"})) == "Headers([('a', '1')])"
