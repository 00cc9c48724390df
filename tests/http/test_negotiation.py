"""What a client would rather have: RFC 9110 sections 12.4.2 and 12.5.3."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktrio.http.negotiation import acceptable_codings, weights_of

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
