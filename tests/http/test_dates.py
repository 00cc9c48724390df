"""HTTP dates: RFC 9110 section 5.6.7."""

import math
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktrio.http.dates import format_http_date, parse_http_date

THE_EXAMPLE = 784_111_777  # Sun, 06 Nov 1994 08:49:37 GMT
FIRST_SECOND, LAST_SECOND = -62_135_596_800, 253_402_300_799


@pytest.mark.parametrize(
    "text", ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
)
def test_parse_of_each_of_the_three_forms_gives_the_same_second(text):
    # "A recipient that parses a timestamp value in an HTTP field MUST accept all three HTTP-date formats."
    assert parse_http_date(text) == THE_EXAMPLE


def test_format_gives_the_fixed_form():
    assert format_http_date(THE_EXAMPLE) == "Sun, 06 Nov 1994 08:49:37 GMT"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "yesterday",
        "1994-11-06T08:49:37Z",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 06 Nov 1994 08:49:37 +0000",
        "sun, 06 nov 1994 08:49:37 gmt",  # "HTTP-date is case sensitive"
        "Son, 06 Nov 1994 08:49:37 GMT",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 8:49:37 GMT",
        "Sun, 31 Feb 1994 08:49:37 GMT",
        "Sun, 00 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 0000 08:49:37 GMT",
        "Sun, 06 Nov 1994 24:00:00 GMT",
        "Sun, 06 Nov 1994 08:60:37 GMT",
        "Sun, 06 Nov 1994 08:49:61 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT ",
        " Sun, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT\n",
        "Sun, 0\u0666 Nov 1994 08:49:37 GMT",  # an Arabic digit
        "Sun,  6 Nov 1994 08:49:37 GMT",
        "Sun Nov 6 08:49:37 1994",
        "Sun, 06 Nov 1994 08:49:37 GMT; length=5",  # Netscape's
    ],
)
def test_parse_of_what_is_no_date_gives_none(text):
    assert parse_http_date(text) is None


def test_parse_with_the_wrong_day_name_does_not_mind():
    assert parse_http_date("Mon, 06 Nov 1994 08:49:37 GMT") == THE_EXAMPLE


def test_parse_of_a_leap_second_gives_the_next_minute():
    assert parse_http_date("Sat, 31 Dec 2016 23:59:60 GMT") == parse_http_date("Sun, 01 Jan 2017 00:00:00 GMT")


@pytest.mark.parametrize(("digits", "year"), [("69", 1969), ("99", 1999), ("00", 2000), ("68", 2068)])
def test_parse_of_a_two_digit_year_never_lands_fifty_years_ahead(digits, year):
    assert parse_http_date(f"Friday, 01-Mar-{digits} 00:00:00 GMT") == parse_http_date(
        f"Fri, 01 Mar {year} 00:00:00 GMT"
    )


@pytest.mark.parametrize(
    ("timestamp", "text"),
    [
        (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
        (0.999, "Thu, 01 Jan 1970 00:00:00 GMT"),
        (-0.001, "Wed, 31 Dec 1969 23:59:59 GMT"),
        (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
        (-1e300, "Mon, 01 Jan 0001 00:00:00 GMT"),
        (1e300, "Fri, 31 Dec 9999 23:59:59 GMT"),
        (math.inf, "Fri, 31 Dec 9999 23:59:59 GMT"),
    ],
)
def test_format_floors_and_clamps(timestamp, text):
    assert format_http_date(timestamp) == text


def test_format_of_nan_is_refused():
    with pytest.raises(ValueError, match="nan"):
        format_http_date(math.nan)


@given(st.integers(FIRST_SECOND, LAST_SECOND))
def test_dates_round_trip(timestamp):
    assert parse_http_date(format_http_date(timestamp)) == timestamp


@given(st.integers(0, LAST_SECOND))
def test_format_agrees_with_the_standard_library(timestamp):
    assert format_http_date(timestamp) == formatdate(timestamp, usegmt=True)


@given(st.text())
def test_parse_of_any_text_never_raises(text):
    assert parse_http_date(text) is None or isinstance(parse_http_date(text), int)
