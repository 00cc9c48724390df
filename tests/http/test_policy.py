"""What is refused before h11 sees it: RFC 9112 sections 2, 3, 5 and 6."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ktrio.http.errors import (
    BadRequest,
    BodyTooLarge,
    ExpectationFailed,
    HeadTooLarge,
    HttpError,
    NotImplementedMethod,
    TargetTooLong,
    VersionNotSupported,
)
from ktrio.http.headers import Headers
from ktrio.http.policy import (
    KNOWN_METHODS,
    Limits,
    check_body_bytes,
    check_framing,
    check_head,
    find_head_end,
    is_worth_draining,
    skip_leading_crlf,
    wants_continue,
    wants_head_only,
)

LIMITS = Limits()
SMALL = Limits(head_bytes=200, target_bytes=20, fields=3)
PLAIN = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def head_with(*lines, line=b"GET / HTTP/1.1", host=b"Host: x"):
    return b"".join(each + b"\r\n" for each in (line, *([host] if host else []), *lines)) + b"\r\n"


# -- Limits --


@pytest.mark.parametrize("name", ["head_bytes", "fields", "target_bytes", "requests_per_connection"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "many", None])
def test_limits_with_no_positive_number_are_refused_naming_it(name, value):
    with pytest.raises(ValueError, match=f"{name} .* at least 1, not {value!r}"):
        Limits(**{name: value})


@pytest.mark.parametrize("name", ["body_bytes", "drain_bytes"])
def test_limits_of_bodies_may_be_zero_but_not_less(name):
    assert getattr(Limits(**{name: 0}), name) == 0
    with pytest.raises(ValueError, match=f"{name} .* at least 0, not -1"):
        Limits(**{name: -1})


# -- Where a head ends --


@pytest.mark.parametrize(
    ("buffer", "begin"), [(b"", 0), (b"\r", 0), (b"\r\n", 2), (b"\r\nGET", 2), (b"\n", 0), (b"G", 0)]
)
def test_skip_leading_crlf_passes_over_one(buffer, begin):
    # RFC 9112 section 2.2: "SHOULD ignore at least one empty line (CRLF) received prior to the request-line".
    assert skip_leading_crlf(buffer) == begin


@pytest.mark.parametrize(
    "buffer", [b"", b"\r", b"\r\n", b"G", b"GET", b"GET ", b"GET / HTTP/1.", PLAIN[:-1], PLAIN[:-3]]
)
def test_find_head_end_of_an_incomplete_head_is_none(buffer):
    assert find_head_end(buffer, LIMITS) is None
    assert find_head_end(bytearray(buffer), LIMITS) is None


@pytest.mark.parametrize("behind", [b"", b"G", PLAIN, b"\n\n\x00\r\n\r\n"])
@pytest.mark.parametrize("before", [b"", b"\r\n"])
def test_find_head_end_stops_at_the_blank_line_whatever_is_behind(before, behind):
    assert find_head_end(before + PLAIN + behind, LIMITS) == len(before + PLAIN)


@pytest.mark.parametrize(
    ("buffer", "error"),
    [
        (b"\x16", BadRequest),
        (b"\x16\x03\x01\x02\x00\x01\x00", BadRequest),
        (b"\x00", BadRequest),
        (b" GET", BadRequest),
        (b"\n", BadRequest),
        (b"\rG", BadRequest),
        (b"\r\n\r\n", BadRequest),
        (b"\r\n\r\nGET / HTTP/1.1\r\n", BadRequest),
        (b"GET\t/", BadRequest),
        (b"GET /\x80", BadRequest),
        (b"GET / HTTX", BadRequest),
        (b"GET / HTTP/1.1  ", BadRequest),
        (b"GET /\r\n", BadRequest),  # HTTP/0.9
        (b"hello\r\n", BadRequest),
        (b"SSH-2.0-OpenSSH_9.6\r\n", BadRequest),
        (b"GET / HTTP/1.1\n", BadRequest),
        (b"GET / HTTP/1.1\r\nHost: x\n", BadRequest),
        (b"GET / HTTP/2.0\r\n", VersionNotSupported),
        (b"A" * 33, NotImplementedMethod),
        (b"GET /" + b"a" * 20, TargetTooLong),
        (b"GET / HTTP/1.1\r\n" + b"a" * 200, HeadTooLarge),
    ],
)
def test_find_head_end_of_a_hopeless_beginning_raises_at_once(buffer, error):
    with pytest.raises(error):
        find_head_end(buffer, SMALL)


def test_tls_on_a_plain_port_is_told_so():
    with pytest.raises(BadRequest, match="speaks HTTP, not HTTPS"):
        find_head_end(b"\x16\x03\x01", LIMITS)


def test_target_one_byte_too_long_is_certain_before_the_line_ends():
    assert find_head_end(b"GET /" + b"a" * 19, SMALL) is None
    with pytest.raises(TargetTooLong):
        find_head_end(b"GET /" + b"a" * 20, SMALL)


def test_whole_head_exactly_as_long_as_allowed_is_found_and_one_byte_more_is_not():
    room = SMALL.head_bytes - len(head_with(b"a: "))
    exact, more = head_with(b"a: " + b"x" * room), head_with(b"a: " + b"x" * (room + 1))
    assert find_head_end(exact, SMALL) == SMALL.head_bytes
    check_head(exact, SMALL)
    for refuse in (find_head_end, check_head):
        with pytest.raises(HeadTooLarge):
            refuse(more, SMALL)


def test_head_too_long_because_of_its_target_gets_414_not_431():
    head = head_with(line=b"GET /" + b"a" * 300 + b" HTTP/1.1")
    for refuse in (find_head_end, check_head):
        with pytest.raises(TargetTooLong):
            refuse(head, SMALL)


def test_long_head_before_a_bare_lf_in_a_body_is_431():
    with pytest.raises(HeadTooLarge):
        find_head_end(head_with(b"a: " + b"x" * 300) + b"\n", SMALL)


def outcome(pieces, limits=LIMITS):
    """The head found in `pieces` received one after the other, or the error's kind."""
    buffer, seen = bytearray(), 0
    for piece in pieces:
        buffer += piece
        try:
            end = find_head_end(buffer, limits, seen)
            if end is not None:
                check_head(bytes(buffer[:end]), limits)
                return bytes(buffer[:end])
        except HttpError as error:
            return type(error)
        seen = len(buffer)
    return None


def split_at(data, cuts):
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


HOSTILE = st.lists(
    st.sampled_from(
        [
            PLAIN,
            b"\r\n",
            b"\n",
            b"\r",
            b"GET / HTTP/1.1\r\n",
            b"Host: x\r\n",
            b"a: b\r\n",
            b" ",
            b"\t",
            b"\x00",
            b"\xff",
            b":",
            b"HTTP/1.0",
            b"HTTP/2.0",
            b"POST /x?y ",
            b"\r\n\r\n",
            b"Content-Length: 5\r\n",
            b"x" * 30,
            b"/" * 30,
        ]
    ),
    max_size=12,
).map(b"".join)
CUTS = st.lists(st.integers(0, 400), max_size=6)


@settings(max_examples=300)
@given(HOSTILE, CUTS)
def test_any_split_of_any_bytes_gives_the_same_head_or_a_refusal(data, cuts):
    whole, pieces = outcome([data], SMALL), outcome(split_at(data, cuts), SMALL)
    if isinstance(whole, bytes) or whole is None:
        assert pieces == whole
    else:  # which of two faults is seen first may depend on what came first
        assert issubclass(pieces, HttpError)


@given(CUTS, st.binary(max_size=20))
def test_any_split_of_a_sound_head_finds_it(cuts, behind):
    head = b"\r\n" + head_with(b"a: b", b"c: d")
    assert outcome(split_at(head, cuts)) == head
    assert outcome(split_at(head + behind, cuts)) == head


def test_byte_by_byte_costs_little_more_than_at_once():
    # Each call looks at the new byte only, not at everything again: no pattern sees the old bytes.
    head = head_with(b"a: " + b"x" * 30_000)
    assert outcome([bytes([byte]) for byte in head]) == head


# -- Request lines --


@pytest.mark.parametrize("version", [b"1.0", b"1.1", b"1.2", b"1.9"])
def test_every_minor_version_of_http_1_is_taken(version):
    check_head(head_with(line=b"GET / HTTP/" + version), LIMITS)


@pytest.mark.parametrize("version", [b"0.9", b"2.0", b"3.0", b"9.9"])
def test_other_major_versions_get_505(version):
    with pytest.raises(VersionNotSupported):
        check_head(head_with(line=b"GET / HTTP/" + version), LIMITS)


def test_http_2_preface_gets_505():
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    with pytest.raises(VersionNotSupported):
        check_head(preface[: find_head_end(preface, LIMITS)], LIMITS)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"GET",
        b"GET /",
        b"GET  / HTTP/1.1",
        b"GET / HTTP/1.1 ",
        b" GET / HTTP/1.1",
        b"GET / x HTTP/1.1",
        b"GET / http/1.1",
        b"GET / HTTP/1",
        b"GET / HTTP/1.10",
        b"GET / HTTP/01.1",
        b"GET / HTTP/1,1",
        b"GET /\t HTTP/1.1",
        b"GET\t/ HTTP/1.1",
        b"GET /\xc3\xa9 HTTP/1.1",
        b"GET /\x7f HTTP/1.1",
        b"GET /\x00 HTTP/1.1",
        b"G(T / HTTP/1.1",
        b"GET / HTTP/1.1\x00",
        b": / HTTP/1.1",
    ],
)
def test_malformed_request_line_gets_400(line):
    with pytest.raises(BadRequest):
        check_head(head_with(line=line), LIMITS)


@pytest.mark.parametrize("method", [b"get", b"Get", b"FOO", b"CONNECT", b"PRI", b"X-Y", b"G", b"A" * 32, b"A" * 33])
def test_unknown_method_gets_501(method):
    # RFC 9110 section 9.1: methods are case-sensitive, and an unrecognized one gets 501.
    with pytest.raises(NotImplementedMethod):
        check_head(head_with(line=method + b" / HTTP/1.1"), LIMITS)


@pytest.mark.parametrize("method", sorted(KNOWN_METHODS))
def test_registered_methods_pass(method):
    check_head(head_with(line=method.encode() + b" / HTTP/1.1"), LIMITS)


# -- Field lines --


@pytest.mark.parametrize(
    "line",
    [
        b"a : b",  # RFC 9112 section 5.1: "No whitespace is allowed between the field name and colon"
        b"a\t: b",
        b" a: b",
        b"\ta: b",
        b"a: b\r\n c",  # section 5.2: obs-fold
        b"a: b\r\n\tc",
        b"a",
        b": b",
        b"a b: c",
        b"(a): b",
        b"\xe9: b",
        b"a: b\rc",  # section 2.2: bare CR
        b"a: b\r",
        b"a: b\nc: d",  # section 2.2: bare LF
        b"a: b\n",
        b"\x00: b",
        *(b"a: b" + bytes([control]) + b"c" for control in [*range(9), *range(0x0A, 0x20), 0x7F]),
    ],
)
def test_malformed_field_line_gets_400(line):
    with pytest.raises(BadRequest):
        check_head(head_with(line), LIMITS)


@pytest.mark.parametrize(
    "line", [b"a:", b"a: ", b"a:\t", b"a:b", b"a: b\tc", b"a: \xe9\xff", b"a: b ", b"!#$%&'*+-.^_`|~: x"]
)
def test_odd_but_sound_field_line_passes(line):
    check_head(head_with(line), LIMITS)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"a: b\nc: d", "bare line feed"),
        (b"a: b\rc", "carriage return within"),
        (b"a: b\r\n c", "folded"),
        (b"a: \x01", "control character"),
        (b"a : b", "space before a colon"),
        (b"a", "header line is malformed"),
    ],
)
def test_refused_head_says_what_is_wrong_with_it(line, message):
    with pytest.raises(BadRequest, match=message):
        check_head(head_with(line), LIMITS)


def test_as_many_fields_as_allowed_pass_and_one_more_gets_431():
    check_head(head_with(b"a: 1", b"b: 2"), SMALL)
    with pytest.raises(HeadTooLarge, match="more than 3 header fields"):
        check_head(head_with(b"a: 1", b"b: 2", b"c: 3"), SMALL)


def test_default_limit_of_fields_is_a_hundred_of_them():
    check_head(head_with(*[b"a: b"] * 99), LIMITS)
    with pytest.raises(HeadTooLarge):
        check_head(head_with(*[b"a: b"] * 100), LIMITS)


@pytest.mark.parametrize(
    "head", [b"", b"\r\n", b"\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n", PLAIN + b"x", PLAIN + PLAIN]
)
def test_what_is_not_exactly_one_head_gets_400(head):
    with pytest.raises(BadRequest):
        check_head(head, LIMITS)


@pytest.mark.parametrize("head", [b"GET / HTTP/1.1\nHost: x\n\n", b"GET / HTTP/1.1\nHost: x\r\n\r\n", b"G\n\r\n\r\n"])
def test_bare_lf_in_place_of_the_request_lines_end_is_named(head):
    with pytest.raises(BadRequest, match="bare line feed"):
        check_head(head, LIMITS)


def test_messages_never_quote_the_peer():
    for head in (
        head_with(b"<script>: x\x00"),
        head_with(line=b"EVIL<x> /<script> HTTP/1.1"),
        head_with(b"Host: <script>"),
    ):
        with pytest.raises(BadRequest) as caught:
            check_head(head, LIMITS)
        assert "<" not in caught.value.message


# -- Host --


@pytest.mark.parametrize(
    "host", [b"Host: x", b"host:x", b"HOST:\tx \t", b"Host: [::1]:80", b"Host: x:", b"Host: a_b.c-d", b"Host:"]
)
def test_one_valid_host_passes(host):
    check_head(head_with(host=host), LIMITS)


@pytest.mark.parametrize(
    "hosts",
    [
        [],
        [b"Host: x", b"Host: x"],
        [b"Host: x", b"host: y"],
        [b"Host: x y"],
        [b"Host: x/y"],
        [b"Host: u@x"],
        [b"Host: x, y:z"],
        [b"Host: x:80:80"],
        [b"Host: [::1"],
        [b"Host: x?y"],
        [b"Host: \xe9"],
    ],
)
def test_no_several_or_malformed_hosts_get_400(hosts):
    # RFC 9112 section 3.2: "A server MUST respond with a 400 (Bad Request) status code to any HTTP/1.1 request message
    # that lacks a Host header field and to any request message that contains more than one Host header field line or
    # a Host header field with an invalid field value."
    with pytest.raises(BadRequest):
        check_head(head_with(*hosts, host=None), LIMITS)


def test_http_1_2_without_host_gets_400_too():
    with pytest.raises(BadRequest):
        check_head(head_with(line=b"GET / HTTP/1.2", host=None), LIMITS)


def test_http_1_0_without_host_passes_and_with_two_does_not():
    check_head(head_with(line=b"GET / HTTP/1.0", host=None), LIMITS)
    with pytest.raises(BadRequest):
        check_head(head_with(b"Host: y", line=b"GET / HTTP/1.0"), LIMITS)


def test_host_in_a_value_does_not_count():
    check_head(head_with(b"a: host: y", b"x-host: z"), LIMITS)


# -- Framing --


def post(*lines, version=b"1.1"):
    check_head(head_with(*lines, line=b"POST / HTTP/" + version), LIMITS)


@pytest.mark.parametrize(
    "lines",
    [
        [b"Content-Length: 0"],
        [b"Content-Length: 5"],
        [b"content-length:5"],
        [b"Content-Length: \t5 "],
        [b"Content-Length: 0005"],
        [b"Content-Length: 9223372036854775807"],
        [b"Transfer-Encoding: chunked"],
        [b"transfer-encoding:CHUNKED"],
        [b"Transfer-Encoding: chunked \t"],
        [],
    ],
)
def test_certain_framing_passes(lines):
    post(*lines)


@pytest.mark.parametrize(
    "lines",
    [
        [b"Content-Length: 5", b"Transfer-Encoding: chunked"],  # RFC 9112 section 6.1
        [b"Transfer-Encoding: chunked", b"Content-Length: 5"],
        [b"Transfer-Encoding: gzip", b"Content-Length: 5"],
        [b"Content-Length: 0", b"Transfer-Encoding: identity"],
        [b"Content-Length: 5", b"Content-Length: 5"],  # RFC 9110 section 8.6
        [b"Content-Length: 5", b"Content-Length: 6"],
        [b"Content-Length: 5, 5"],
        [b"Content-Length: 5,6"],
        [b"Content-Length: +5"],
        [b"Content-Length: -5"],
        [b"Content-Length: 5.0"],
        [b"Content-Length: 0x5"],
        [b"Content-Length: 5_0"],
        [b"Content-Length: 5 0"],
        [b"Content-Length: \xb2"],
        [b"Content-Length:"],
        [b"Content-Length: " + b"1" * 20],
        [b"Content-Length: " + b"1" * 21],
        [b"Content-Length: " + b"1" * 5000],
        [b"Transfer-Encoding:"],
        [b"Transfer-Encoding: ,chunked"],
        [b"Transfer-Encoding: chunked,"],
        [b"Transfer-Encoding: chunked, chunked"],  # RFC 9112 section 6.1
        [b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"],
        [b"Transfer-Encoding: chunked, gzip"],  # section 6.3: chunked is not last
        [b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"],
        [b"Transfer-Encoding: \x0bchunked"],
        [b"Transfer-Encoding : chunked"],
    ],
)
def test_uncertain_framing_gets_400(lines):
    with pytest.raises(BadRequest):
        post(*lines)


@pytest.mark.parametrize(
    "lines",
    [
        [b"Transfer-Encoding: gzip"],
        [b"Transfer-Encoding: identity"],
        [b"Transfer-Encoding: gzip, chunked"],
        [b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked"],
        [b"Transfer-Encoding: xchunked"],
        [b'Transfer-Encoding: "chunked"'],
        [b"Transfer-Encoding: chunked;q=1"],
    ],
)
def test_unknown_transfer_coding_gets_501(lines):
    # RFC 9112 section 6.1: "A server that receives a request message with a transfer coding it does not understand
    # SHOULD respond with 501 (Not Implemented)."
    with pytest.raises(NotImplementedMethod):
        post(*lines)


def test_any_transfer_encoding_on_http_1_0_gets_400():
    # RFC 9112 section 6.1: "MUST treat the message as if the framing is faulty"
    for coding in (b"chunked", b"gzip"):
        with pytest.raises(BadRequest):
            post(b"Transfer-Encoding: " + coding, version=b"1.0")


def test_framing_in_a_value_does_not_count():
    post(b"a: content-length: x", b"b: transfer-encoding: gzip", b"x-content-length: z")


def test_check_framing_may_be_asked_by_itself():
    check_framing(b"\r\nhost: x\r\ncontent-length: 5", http_1_0=False)
    with pytest.raises(BadRequest):
        check_framing(b"\r\ncontent-length: 5", http_1_0=False)


# -- Expect --


@pytest.mark.parametrize(
    ("version", "fields", "wants"),
    [
        ("1.1", {}, False),
        ("1.1", {"expect": "100-continue"}, True),
        ("1.1", {"Expect": "100-Continue"}, True),
        ("1.1", {"expect": ""}, False),
        ("1.0", {"expect": "100-continue"}, False),  # RFC 9110 section 10.1.1: "MUST ignore that expectation"
    ],
)
def test_wants_continue_of_an_expectation(version, fields, wants):
    assert wants_continue(version, Headers(fields)) is wants


@pytest.mark.parametrize("expect", ["100-continue, x", "x", "200-ok", "100-continue=1", "100-continue;q=1"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_any_other_expectation_gets_417(version, expect):
    with pytest.raises(ExpectationFailed):
        wants_continue(version, Headers({"expect": expect}))


# -- Bodies --


def test_body_exactly_as_long_as_allowed_passes_and_one_byte_more_gets_413():
    check_body_bytes(LIMITS.body_bytes, LIMITS.body_bytes)
    with pytest.raises(BodyTooLarge, match="longer than 1048576 bytes"):
        check_body_bytes(LIMITS.body_bytes + 1, LIMITS.body_bytes)


@pytest.mark.parametrize(
    ("unread", "drain_bytes", "worth"),
    [(0, 0, True), (1, 0, False), (None, 0, False), (100, 100, True), (101, 100, False), (None, 100, True)],
)
def test_draining_is_worth_it_up_to_a_limit(unread, drain_bytes, worth):
    assert is_worth_draining(unread, Limits(drain_bytes=drain_bytes)) is worth


@pytest.mark.parametrize(
    ("buffer", "head_only"),
    [(b"HEAD / HTT", True), (b"\r\nHEAD /", True), (b"HEADER /", False), (b"GET /", False), (b"", False)],
)
def test_head_only_is_guessed_from_the_beginning(buffer, head_only):
    # RFC 9110 section 9.3.2: "The server MUST NOT send content in the response."
    assert wants_head_only(buffer) is head_only
