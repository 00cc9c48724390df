"""Conditional requests, as far as 304 goes: RFC 9110 section 13."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktrio.http.conditional import evaluate, matches_any
from ktrio.http.dates import format_http_date
from ktrio.http.headers import Headers

MTIME = 784_111_777
DATE = "Sun, 06 Nov 1994 08:49:37 GMT"
BEFORE = "Sun, 06 Nov 1994 08:49:36 GMT"
AFTER = "Sun, 06 Nov 1994 08:49:38 GMT"


def given_headers(**fields):
    return Headers({name.replace("_", "-"): value for name, value in fields.items()})


def test_request_without_conditions_goes_on():
    assert evaluate("GET", Headers(), '"x"', MTIME) == 200


@pytest.mark.parametrize(
    ("condition", "etag", "status"),
    [
        ('"x"', '"x"', 304),
        ('"y"', '"x"', 200),
        ('W/"x"', '"x"', 304),  # weak comparison (section 8.8.3.2)
        ('"x"', 'W/"x"', 304),
        ('W/"x"', 'W/"x"', 304),
        ('"a", "b",W/"x" , "c"', '"x"', 304),
        (', ,"x",,', '"x"', 304),  # empty members are borne (section 5.6.1.2)
        ('"a,b"', '"a,b"', 304),  # a comma within a tag
        ('"a,b"', '"b"', 200),
        ('"a", b"', '" b"', 200),
        ("*", '"x"', 304),
        (" * ", None, 304),
        ('"x"', None, 200),
        ('""', '""', 304),
        # what is no list matches nothing, and the answer is sent whole
        ("x", '"x"', 200),
        ('"x', '"x"', 200),
        ('"x" "y"', '"x"', 200),
        ('w/"x"', '"x"', 200),
        ('W/ "x"', '"x"', 200),
        ('*, "x"', '"x"', 200),
        ("", '"x"', 200),
    ],
)
def test_if_none_match_by_weak_comparison(condition, etag, status):
    assert evaluate("GET", given_headers(if_none_match=condition), etag, None) == status


def test_if_none_match_over_several_fields_is_one_list():
    headers = Headers([("If-None-Match", '"a"'), ("If-None-Match", '"x"')])
    assert evaluate("HEAD", headers, '"x"', None) == 304


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE"])
def test_if_none_match_of_an_unsafe_method_fails_the_precondition(method):
    # Section 13.1.2: 304 for GET and HEAD, "or 412 (Precondition Failed) for all other request methods".
    assert evaluate(method, given_headers(if_none_match="*"), '"x"', None) == 412
    assert evaluate(method, given_headers(if_none_match='"y"'), '"x"', None) == 200


@pytest.mark.parametrize(
    ("since", "status"),
    [(DATE, 304), (AFTER, 304), (BEFORE, 200), ("Sunday, 06-Nov-94 08:49:37 GMT", 304), ("soon", 200), ("", 200)],
)
def test_if_modified_since_compares_seconds(since, status):
    assert evaluate("GET", given_headers(if_modified_since=since), '"x"', MTIME) == status


def test_if_modified_since_beside_if_none_match_is_ignored():
    # Section 13.1.3: "A recipient MUST ignore If-Modified-Since if the request contains an If-None-Match".
    headers = given_headers(if_none_match='"old"', if_modified_since=AFTER)
    assert evaluate("GET", headers, '"x"', MTIME) == 200


def test_if_modified_since_of_an_unsafe_method_is_ignored():
    assert evaluate("POST", given_headers(if_modified_since=AFTER), '"x"', MTIME) == 200


def test_if_modified_since_without_a_known_time_is_ignored():
    assert evaluate("GET", given_headers(if_modified_since=AFTER), '"x"', None) == 200


def test_if_modified_since_given_twice_is_ignored():
    headers = Headers([("if-modified-since", DATE), ("if-modified-since", DATE)])
    assert evaluate("GET", headers, None, MTIME) == 200


def test_if_none_match_of_hostile_length_takes_no_time():
    assert not matches_any('"a"' + " ," * 16_000 + "x", '"a"')
    assert not matches_any('"a" ' * 8_000, '"a"')
    assert not matches_any("," * 32_000 + '"', '"a"')


etags = st.builds(
    lambda weak, tag: f'{weak}"{tag}"',
    st.sampled_from(["", "W/"]),
    st.text(st.characters(codec="latin-1", exclude_characters='"\x7f', min_codepoint=0x21)),
)


@given(st.lists(etags), etags)
def test_any_etag_is_found_in_a_list_exactly_if_its_opaque_part_is(others, etag):
    opaque = etag.removeprefix("W/")
    found = matches_any(", ".join(others), etag)
    assert found == (opaque in [other.removeprefix("W/") for other in others])
    assert matches_any(", ".join([*others, etag]), etag)


@given(st.integers(0, 2**32), st.integers(0, 2**32))
def test_any_two_times_compare_as_numbers(modified, since):
    headers = given_headers(if_modified_since=format_http_date(since))
    assert evaluate("GET", headers, None, modified) == (304 if modified <= since else 200)
