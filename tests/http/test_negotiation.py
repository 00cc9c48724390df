"""What a client would rather have: RFC 9110 sections 12.4.2 and 12.5.3."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktrio.http.negotiation import acceptable_codings, best_media_type, weights_of

AVAILABLE = ["br", "zstd", "gzip"]


@pytest.mark.parametrize(
    ("value", "codings"),
    [
        ("gzip", ["gzip"]),
        ("gzip, br", ["br", "gzip"]),  # among equals the server's order
        ("gzip, deflate, br, zstd", ["br", "zstd", "gzip"]),  # what browsers say
        ("GZIP", ["gzip"]),
        ("x-gzip", ["gzip"]),  # section 8.4.1.3
        ("gzip;q=1.0, br;q=0.5", ["gzip", "br"]),
        ("gzip;q=0.001", ["gzip"]),
        ("gzip ; q=0.5 , br;Q=0.7", ["br", "gzip"]),
        ("*", ["br", "zstd", "gzip"]),
        ("*;q=0.5, gzip", ["gzip", "br", "zstd"]),
        ("*, br;q=0", ["zstd", "gzip"]),
        # section 12.5.3, the examples
        ("compress, gzip", ["gzip"]),
        ("", []),
        ("compress;q=0.5, gzip;q=1.0", ["gzip"]),
        ("gzip;q=1.0, identity; q=0.5, *;q=0", ["gzip"]),
        # "not acceptable" is q=0
        ("gzip;q=0", []),
        ("gzip;q=0.000", []),
        ("identity", []),
        ("gzip;q=0.5, identity", []),
        ("gzip;q=0.5, identity;q=0.5", ["gzip"]),
        ("identity;q=0, *;q=0", []),  # disregarded: there is nothing else
        # what is no member is passed over, alone
        ("gzip;q=2, br", ["br"]),
        ("gzip;q=0.0001, br", ["br"]),
        ("gzip;level=9, br", ["br"]),
        ("gzip br, zstd", ["zstd"]),
        (",, gzip ,", ["gzip"]),
    ],
)
def test_codings_are_taken_in_the_clients_order_of_wishes(value, codings):
    assert acceptable_codings([value], AVAILABLE) == codings


def test_client_that_says_nothing_gets_what_it_is():
    assert acceptable_codings([], AVAILABLE) == []


def test_fields_add_up():
    assert acceptable_codings(["br;q=0.1", "gzip"], AVAILABLE) == ["gzip", "br"]


def test_more_members_than_there_are_codings_are_not_looked_at():
    assert acceptable_codings(["a," * 40 + "gzip"], AVAILABLE) == []


@given(st.text(alphabet="gzipbr*;q=01.5, \t", max_size=60))
def test_whatever_is_said_only_what_there_is_is_chosen_once_each(value):
    found = acceptable_codings([value], AVAILABLE)
    assert set(found) <= set(AVAILABLE)
    assert len(set(found)) == len(found)
    weights = weights_of([value])
    assert all(0 <= weight <= 1000 for weight in weights.values())
    assert all(weights.get(coding, weights.get("*", 0)) for coding in found)


TYPES = ["text/html", "application/json"]


@pytest.mark.parametrize(
    ("values", "best"),
    [
        ([], "text/html"),
        ([""], "text/html"),
        (["*/*"], "text/html"),
        (["application/json"], "application/json"),
        (["APPLICATION/JSON"], "application/json"),
        (["application/*"], "application/json"),
        (["text/*"], "text/html"),
        # the most specific range decides (section 12.5.1)
        (["*/*, application/json;q=0.1"], "text/html"),
        (["text/*;q=0.3, text/html;q=0.7, application/json;q=0.5"], "text/html"),
        (["application/json;q=0.5, text/html;q=0.4"], "application/json"),
        (["application/*, application/json;q=0"], "text/html"),
        (["text/html;q=0, */*"], "application/json"),
        # among equals: what is named, then the server's favourite
        (["application/json, text/plain, */*"], "application/json"),
        (["application/json, text/html"], "text/html"),
        (["application/json, text/*"], "application/json"),
        (["application/*, text/*"], "text/html"),
        # fields are joined
        (["text/plain", "application/json"], "application/json"),
        # parameters
        (["application/json; charset=utf-8"], "application/json"),
        (["application/json;profile=x;q=0.4, text/html;q=0.3"], "application/json"),
        (["application/json; q=0.2; x=y, text/html;q=0.1"], "application/json"),
        # nothing is acceptable: the favourite all the same (section 12.4.1)
        (["image/png"], "text/html"),
        (["*/*;q=0"], "text/html"),
        (["text/html;q=0, application/json;q=0"], "text/html"),
        # what is no range is passed over, alone
        (["json, application/json;q=2, application/json;q=x, application/json;q=, a/b/c"], "text/html"),
        ([";q=1,/,*/,application/json"], "application/json"),
        ([", " * 100 + "application/json"], "text/html"),
    ],
)
def test_the_best_media_type_for_an_accept_field(values, best):
    assert best_media_type(values, TYPES) == best


@given(st.lists(st.text(alphabet='texhml/jsonapic*;q=01.5, \t"', max_size=60), max_size=3))
def test_there_is_always_a_best_media_type(values):
    assert best_media_type(values, TYPES) in TYPES
