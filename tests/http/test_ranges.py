"""Parts of a representation: RFC 9110 sections 14 and 15.3.7."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktrio.http.ranges import (
    COALESCED_GAP,
    MAX_RANGES,
    ByteRange,
    UnsatisfiableRangeError,
    coalesce,
    content_range,
    multipart_end,
    multipart_type,
    part_head,
    select_ranges,
)

SIZE = 10_000


def select(value, size=SIZE):
    found = select_ranges([value], size)
    return None if found is None else [(each.first, each.last) for each in found]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        # RFC 9110 section 14.1.2, whose examples are these
        ("bytes=0-499", [(0, 499)]),
        ("bytes=500-999", [(500, 999)]),
        ("bytes=-500", [(9500, 9999)]),
        ("bytes=9500-", [(9500, 9999)]),
        ("bytes=0-0,-1", [(0, 0), (9999, 9999)]),
        ("bytes= 0-999, 4500-5499, -1000", [(0, 999), (4500, 5499), (9000, 9999)]),
        # "If the last-pos value is absent, or if the value is greater than or equal to the current length"
        ("bytes=9999-10000", [(9999, 9999)]),
        ("bytes=0-99999999999", [(0, 9999)]),
        # "If the selected representation is shorter than the specified suffix-length, the entire ... is used"
        ("bytes=-20000", [(0, 9999)]),
        # section 14.1: range units are case-insensitive
        ("BYTES=0-1", [(0, 1)]),
        # section 5.6.1.2: empty members are borne
        ("bytes=,0-0, ,5000-5000,", [(0, 0), (5000, 5000)]),
        # what cannot be satisfied is left out beside what can
        ("bytes=20000-,0-0", [(0, 0)]),
        ("bytes=-0,0-0", [(0, 0)]),
    ],
)
def test_ranges_are_selected_as_they_are_asked_for(value, expected):
    assert select(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        "",
        "bytes",
        "bytes=",
        "bytes=,",
        "bytes=a-b",
        "bytes=-",
        "bytes=--1",
        "bytes=1",
        "bytes=5-4",  # section 14.1.1: "An int-range is invalid if the last-pos value is present and less"
        "bytes=0-1,5-4",
        "bytes=0 - 1",
        "bytes=+1-2",
        "bytes=0x1-2",
        "bytes=\u0661-2",
        "bytes =0-1",
        " bytes=0-1",
        "bytes:0-1",
        "octets=0-1",  # section 14.2: "A server that supports range requests MAY ignore" a unit it does not know
        "bytes=0-" + "9" * 20,
    ],
)
def test_what_is_no_list_of_byte_ranges_is_ignored(value):
    assert select(value) is None


def test_two_range_fields_are_ignored():
    assert select_ranges(["bytes=0-1", "bytes=2-3"], SIZE) is None
    assert select_ranges([], SIZE) is None


@pytest.mark.parametrize("value", ["bytes=10000-", "bytes=10000-10001,20000-", "bytes=-0"])
def test_range_beyond_the_end_is_unsatisfiable(value):
    """Section 14.1.2: "satisfiable if ... first-pos less than the current length", or a suffix that is not zero."""
    with pytest.raises(UnsatisfiableRangeError):
        select(value)


def test_empty_representation_has_no_range_but_is_its_own_last_bytes():
    assert select("bytes=-5", 0) is None
    with pytest.raises(UnsatisfiableRangeError):
        select("bytes=0-0", 0)


def test_more_ranges_than_anybody_means_well_with_are_ignored():
    """Section 14.2: a server may ignore many small ranges."""
    most = ",".join(f"{index * 1000}-{index * 1000}" for index in range(MAX_RANGES))
    assert len(select(f"bytes={most}", 1_000_000)) == MAX_RANGES
    assert select(f"bytes={most},900000-900000", 1_000_000) is None
    assert select("bytes=" + "0-," * 8000, SIZE) is None


def test_overlaps_and_small_gaps_become_one_where_the_first_of_them_stood():
    """Section 15.3.7.2."""
    near = 100 + COALESCED_GAP + 1
    assert select(f"bytes=0-100,{near}-{near}") == [(0, near)]
    assert select(f"bytes=0-100,{near + 1}-{near + 1}") == [(0, 100), (near + 1, near + 1)]
    assert select("bytes=5000-5999,0-9,5500-6500") == [(5000, 6500), (0, 9)]
    assert select("bytes=0-9,5000-5999,8-20") == [(0, 20), (5000, 5999)]
    assert select("bytes=0-,0-,0-,-1") == [(0, 9999)]


@given(
    st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 500)), min_size=1, max_size=20),
    st.integers(1, 3000),
)
def test_coalesced_ranges_hold_all_that_was_asked_for_and_do_not_touch(pairs, size):
    ranges = [ByteRange(first, min(size - 1, first + more)) for first, more in pairs if first < size]
    found = coalesce(ranges)
    asked = {byte for each in ranges for byte in range(each.first, each.last + 1)}
    sent = [byte for each in found for byte in range(each.first, each.last + 1)]
    assert len(sent) == len(set(sent))
    assert asked <= set(sent)
    assert all(each.count > 0 and each.last < size for each in found)
    in_order = sorted(found, key=lambda each: each.first)
    assert all(after.first - before.last - 1 > COALESCED_GAP for before, after in itertools.pairwise(in_order))
    # every byte that nobody asked for lies in a small gap, and every part begins and ends with one that was asked for
    assert all({each.first, each.last} <= asked for each in found)


@given(st.text(alphabet="bytes=0123456789-, \t", max_size=40), st.integers(0, 50))
def test_whatever_is_asked_for_lies_within_the_representation(value, size):
    try:
        found = select_ranges([value], size)
    except UnsatisfiableRangeError:
        return
    for each in found or ():
        assert 0 <= each.first <= each.last < size


def test_parts_are_announced():
    """Sections 14.4, 14.6, 15.5.17."""
    assert content_range(ByteRange(0, 499), 1234) == "bytes 0-499/1234"
    assert content_range(None, 1234) == "bytes */1234"
    assert multipart_type("B") == "multipart/byteranges; boundary=B"
    assert part_head(ByteRange(0, 1), 9, "text/plain", "B", is_first=True) == (
        b"--B\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-1/9\r\n\r\n"
    )
    assert part_head(ByteRange(0, 1), 9, "text/plain", "B", is_first=False).startswith(b"\r\n--B\r\n")
    assert multipart_end("B") == b"\r\n--B--\r\n"
