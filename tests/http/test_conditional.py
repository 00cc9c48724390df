"""Preconditions: RFC 9110 section 13."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktrio.http.conditional import evaluate, matches_strongly, matches_weakly, range_applies
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
    assert not matches_weakly('"a"' + " ," * 16_000 + "x", '"a"')
    assert not matches_weakly('"a" ' * 8_000, '"a"')
    assert not matches_weakly("," * 32_000 + '"', '"a"')


etags = st.builds(
    lambda weak, tag: f'{weak}"{tag}"',
    st.sampled_from(["", "W/"]),
    st.text(st.characters(codec="latin-1", exclude_characters='"\x7f', min_codepoint=0x21)),
)


@given(st.lists(etags), etags)
def test_any_etag_is_found_in_a_list_exactly_if_its_opaque_part_is(others, etag):
    opaque = etag.removeprefix("W/")
    found = matches_weakly(", ".join(others), etag)
    assert found == (opaque in [other.removeprefix("W/") for other in others])
    assert matches_weakly(", ".join([*others, etag]), etag)


@given(st.integers(0, 2**32), st.integers(0, 2**32))
def test_any_two_times_compare_as_numbers(modified, since):
    headers = given_headers(if_modified_since=format_http_date(since))
    assert evaluate("GET", headers, None, modified) == (304 if modified <= since else 200)


# -- If-Match, If-Unmodified-Since, and who comes first --


@pytest.mark.parametrize(
    ("condition", "etag", "status"),
    [
        ('"x"', '"x"', 200),
        ('"y"', '"x"', 412),
        ('"y", "x"', '"x"', 200),
        ("*", '"x"', 200),
        ("*", None, 200),
        ('"x"', None, 412),
        ('W/"x"', 'W/"x"', 412),  # section 13.1.1: "MUST use the strong comparison function"
        ('"x"', 'W/"x"', 412),
        ('W/"x"', '"x"', 412),
        ("x", '"x"', 412),
        ("", '"x"', 412),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT"])
def test_if_match_holds_for_the_very_same_representation_only(method, condition, etag, status):
    """Section 13.1.1."""
    assert evaluate(method, given_headers(If_Match=condition), etag, MTIME) == status


@pytest.mark.parametrize(
    ("condition", "last_modified", "status"),
    [
        (DATE, MTIME, 200),
        (AFTER, MTIME, 200),
        (BEFORE, MTIME, 412),
        ("yesterday", MTIME, 200),  # section 13.1.4: "MUST ignore ... if the received field value is not a valid date"
        (BEFORE, None, 200),  # and "if the resource does not have a modification date available"
    ],
)
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_if_unmodified_since_fails_if_it_was_modified(method, condition, last_modified, status):
    """Section 13.1.4."""
    assert evaluate(method, given_headers(If_Unmodified_Since=condition), '"x"', last_modified) == status


def test_two_dates_are_no_date():
    headers = Headers([("if-unmodified-since", BEFORE), ("if-unmodified-since", BEFORE)])
    assert evaluate("GET", headers, '"x"', MTIME) == 200


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        # section 13.2.2, step by step
        ({"If_Match": '"x"', "If_Unmodified_Since": BEFORE}, 200),  # 1 goes on at 3, past 2
        ({"If_Match": '"y"', "If_None_Match": '"x"'}, 412),
        ({"If_Match": '"x"', "If_None_Match": '"x"'}, 304),
        ({"If_Unmodified_Since": BEFORE, "If_None_Match": '"x"'}, 412),
        ({"If_Unmodified_Since": DATE, "If_None_Match": '"x"'}, 304),
        ({"If_None_Match": '"y"', "If_Modified_Since": DATE}, 200),  # 3 is true: 4 is not asked
        ({"If_Unmodified_Since": DATE, "If_Modified_Since": DATE}, 304),
    ],
)
def test_preconditions_are_asked_in_their_order(fields, status):
    assert evaluate("GET", given_headers(**fields), '"x"', MTIME) == status


@given(st.text(alphabet='W/"ab*, ', max_size=12), st.sampled_from(['"a"', '"b"', 'W/"a"', None]))
def test_strong_match_is_a_weak_match(condition, etag):
    """Section 8.8.3.2: strong comparison is the narrower one."""
    if matches_strongly(condition, etag):
        assert matches_weakly(condition, etag)


# -- If-Range --


@pytest.mark.parametrize(
    ("condition", "etag", "last_modified", "applies"),
    [
        ('"x"', '"x"', MTIME, True),
        ('"y"', '"x"', MTIME, False),
        ('W/"x"', 'W/"x"', MTIME, False),  # section 13.1.5: "A client MUST NOT generate" one; strong comparison fails
        ('W/"x"', '"x"', MTIME, False),
        ('"x"', 'W/"x"', MTIME, False),
        ('"x", "y"', '"x"', MTIME, False),  # no list
        ("*", '"x"', MTIME, False),
        (DATE, '"x"', MTIME, True),
        (BEFORE, '"x"', MTIME, False),
        (AFTER, '"x"', MTIME, False),  # "exactly matches", unlike If-Unmodified-Since
        (DATE, '"x"', None, False),  # no strong validator
        ("", '"x"', MTIME, False),
        ("", None, None, False),
        ("rubbish", '"x"', None, False),
    ],
)
def test_if_range_lets_a_range_count_for_the_very_same_representation_only(condition, etag, last_modified, applies):
    """Section 13.1.5."""
    assert range_applies([condition], etag, last_modified) is applies


def test_without_if_range_a_range_counts_and_with_two_it_does_not():
    assert range_applies([], None, None)
    assert not range_applies(['"x"', '"x"'], '"x"', MTIME)
