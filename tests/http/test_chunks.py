"""Chunked bodies before h11 sees them: RFC 9112 section 7.1."""

from itertools import pairwise

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ktrio.http.chunks import ChunkGuard
from ktrio.http.errors import BadRequest, HeadTooLarge, HttpError
from ktrio.http.policy import Limits

LIMITS = Limits(head_bytes=300, fields=3)


def advance(*pieces, limits=LIMITS):
    """Follow `pieces`; how many bytes belong to the body and whether it is complete."""
    guard = ChunkGuard(limits)
    return sum(guard.advance(piece) for piece in pieces), guard.complete


@pytest.mark.parametrize(
    "body",
    [
        b"0\r\n\r\n",
        b"000\r\n\r\n",
        b"5\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\r\nA\r\n0123456789\r\n0\r\n\r\n",
        b"a\r\n0123456789\r\n0\r\n\r\n",
        b"2\r\n\r\n\r\n0\r\n\r\n",
        b'5;name=value;x="y z"\r\nhello\r\n0;end\r\n\r\n',
        b"5;\r\nhello\r\n0\r\n\r\n",
        b"0\r\nDigest: x\r\nB:\r\n\r\n",
    ],
)
@pytest.mark.parametrize("behind", [b"", b"GET / HTTP/1.1\r\n\r\n", b"\n\x00"])
def test_sound_body_is_followed_exactly_to_its_end(body, behind):
    assert advance(body + behind) == (len(body), True)
    assert advance(*(bytes([byte]) for byte in body + behind)) == (len(body), True)


@pytest.mark.parametrize(
    "body", [b"", b"5", b"5\r", b"5\r\n", b"5\r\nhel", b"5\r\nhello\r", b"0\r\n", b"0\r\na: b\r\n", b"0\r\n\r"]
)
def test_incomplete_body_is_waited_for(body):
    assert advance(body) == (len(body), False)


@pytest.mark.parametrize(
    "body",
    [
        b"\r\n",
        b"x\r\n",
        b"-1\r\n",
        b"+5\r\n",
        b"0x5\r\n",
        b"5_0\r\n",
        b" 5\r\n",
        b"5 \r\n",
        b"5 ;x\r\n",
        b"\xb2\r\n",
        b"1111111111111111\r\n",  # 16 digits
        b"5\n",
        b"5\rx\r\n",
        b"5;a\rb\r\n",
        b"5;a\x00b\r\n",
        b"5;a\nhello\r\n",
        b"5\r\nhello\n0\r\n",
        b"5\r\nhello0\r\n",
        b"5\r\nhelloXY",
        b"5\r\nhello!\r\n",
        b"5\r\nhello\r\r\n",
        b"0\r\n\n",
        b"0\n\r\n",
        b"0\r\na: b\n\r\n",
        b"0\r\na: b\r\n\n",
        b"0\r\n folded\r\n\r\n",
        b"0\r\na: b\r\n c\r\n\r\n",
        b"0\r\na : b\r\n\r\n",
        b"0\r\nnothing\r\n\r\n",
        b"0\r\na: \x01\r\n\r\n",
        b"0\r\na: b\rc\r\n\r\n",
    ],
)
def test_malformed_body_gets_400_in_any_pieces(body):
    with pytest.raises(BadRequest):
        advance(body)
    with pytest.raises(BadRequest):
        advance(*(bytes([byte]) for byte in body))


def test_size_line_too_long_gets_400_before_it_ends():
    line = b"5;" + b"x" * 254
    assert advance(line + b"\r\nhello\r\n0\r\n\r\n")[1]
    with pytest.raises(BadRequest, match="too long"):
        advance(line + b"x\r\n")
    with pytest.raises(BadRequest, match="too long"):
        advance(line, b"xx")


def test_extensions_of_all_chunks_together_are_limited():
    # As in CVE-2023-39326: small chunks with long extensions, within every limit on one line and on the body.
    chunk = b"1;" + b"x" * 200 + b"\r\na\r\n"
    with pytest.raises(BadRequest, match="chunk extensions are longer than 4096 bytes"):
        advance(chunk * 30)


def test_many_small_chunks_without_extensions_pass():
    body = b"1\r\na\r\n" * 10_000 + b"0\r\n\r\n"
    assert advance(body) == (len(body), True)


def test_trailer_section_is_limited_like_a_head():
    assert advance(b"0\r\n" + b"a: b\r\n" * 3 + b"\r\n")[1]
    with pytest.raises(HeadTooLarge, match="more than 3 fields"):
        advance(b"0\r\n" + b"a: b\r\n" * 4)
    with pytest.raises(HeadTooLarge, match="longer than 300 bytes"):
        advance(b"0\r\na: " + b"x" * 400)
    with pytest.raises(HeadTooLarge, match="longer than 300 bytes"):
        advance(b"0\r\na: " + b"x" * 250 + b"\r\n", b"b: " + b"x" * 50)


def test_trailer_section_exactly_as_long_as_allowed_can_still_end():
    body = b"0\r\na: " + b"x" * 297 + b"\r\n\r\n"
    assert advance(body) == (len(body), True)


def by_h11(body):
    """h11's reading of `body`: its bytes and what is left behind it, or None if it is refused or incomplete."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    connection.next_event()
    connection.receive_data(body)
    received = b""
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Data):
                received += event.data
            elif isinstance(event, h11.EndOfMessage):
                return received, connection.trailing_data[0]
            else:
                return None
    except h11.RemoteProtocolError:
        return None


FRAGMENTS = st.lists(
    st.sampled_from(
        [
            b"5\r\nhello\r\n",
            b"0\r\n\r\n",
            b"0\r\n",
            b"\r\n",
            b"\n",
            b"\r",
            b"3",
            b";x=y",
            b"a: b\r\n",
            b"hello",
            b" ",
            b"A\r\n",
            b"\0",
        ]
    ),
    max_size=8,
).map(b"".join)


@pytest.mark.exhaustive
@settings(max_examples=400)
@given(FRAGMENTS)
def test_whatever_the_guard_passes_h11_reads_with_the_same_end(data):
    guard = ChunkGuard(LIMITS)
    try:
        count = guard.advance(data)
    except HttpError:
        return
    if guard.complete:
        read = by_h11(data)
        assert read is not None
        assert read[1] == data[count:]


@pytest.mark.exhaustive
@settings(max_examples=400)
@given(FRAGMENTS, st.lists(st.integers(0, 60), max_size=5))
def test_any_split_of_any_chunks_gives_the_same_verdict(data, cuts):
    def verdict(pieces):
        try:
            return advance(*pieces)
        except HttpError as error:
            return type(error)

    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    pieces = [data[start:end] for start, end in pairwise(edges)]
    assert verdict(pieces) == verdict([data])
