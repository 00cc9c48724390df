"""One exchange: a request read, a response written. RFC 9112."""

from itertools import pairwise

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ktrio.http import h1
from ktrio.http.errors import (
    BadRequest,
    ExpectationFailed,
    HeadTooLarge,
    HttpError,
    NotImplementedMethod,
    ResponseError,
)
from ktrio.http.h1 import BodyEvent, Exchange
from ktrio.http.headers import Headers
from ktrio.http.policy import Limits, check_head
from ktrio.http.request_head import plain_head

LIMITS = Limits()


def make_head(*lines, line="GET / HTTP/1.1", host="Host: x"):
    return "".join(f"{each}\r\n" for each in (line, *([host] if host else []), *lines, "")).encode("latin-1")


def start(*lines, limits=LIMITS, **options):
    return Exchange.read_head(make_head(*lines, **options), limits)


def exchange(*lines, **options):
    return start(*lines, **options)[0]


def post(*lines, version="1.1", **options):
    return exchange(*lines, line=f"POST / HTTP/{version}", **options)


def read_body(one):
    """All the body there is, and the event that ended it."""
    body = b""
    while isinstance(got := one.next_body(), bytes):
        body += got
    return body, got


def respond(one, body=b"", status=200, *, close=False, known=True, headers=None):
    """The whole response as bytes."""
    length = len(body) if known else None
    sent = [one.send_head(status, headers or Headers(), close=close, body_length=length)]
    if one.sends_body:
        sent.extend(one.send_body(body))
    return b"".join([*sent, one.end_body()])


# -- Reading heads --


def test_read_head_gives_every_part_of_the_request():
    head = start("X-A: é", "x-a: 2", "Connection: keep-alive", line="GET /a%20b?c=d HTTP/1.1")[1]
    assert (head.method, head.target, head.path, head.query) == ("GET", "/a%20b?c=d", "/a%20b", "c=d")
    assert (head.version, head.keep_alive, head.expects_continue, head.body_length) == ("1.1", True, False, 0)
    assert list(head.headers) == [("host", "x"), ("x-a", "é"), ("x-a", "2"), ("connection", "keep-alive")]


def test_read_head_passes_over_one_leading_crlf():
    assert Exchange.read_head(b"\r\n" + make_head(), LIMITS)[1].path == "/"


def test_read_head_of_a_later_minor_version_treats_it_as_1_1():
    # RFC 9110 section 2.5
    head = start(line="GET / HTTP/1.7")[1]
    assert (head.version, head.keep_alive) == ("1.1", True)


def test_read_head_of_absolute_form_takes_the_host_from_the_target():
    # RFC 9112 section 3.2.2: "the origin server MUST ignore the received Host header field (if any) and instead use
    # the host information of the request-target."
    head = start(line="GET http://other:81/p HTTP/1.1", host="Host: x")[1]
    assert (head.path, head.headers.get_all("host")) == ("/p", ["other:81"])
    assert head.target == "http://other:81/p"


def test_read_head_of_options_asterisk_passes():
    assert start(line="OPTIONS * HTTP/1.1")[1].path == "*"


@pytest.mark.parametrize("target", ["*", "x", "ftp://x/", "/a#b", "http://u@x/"])
def test_read_head_with_a_bad_target_gets_400(target):
    with pytest.raises(BadRequest):
        start(line=f"GET {target} HTTP/1.1")


def test_read_head_with_an_unknown_expectation_gets_417():
    with pytest.raises(ExpectationFailed):
        start("Expect: the-best")


def test_read_head_of_something_incomplete_gets_400(monkeypatch):
    monkeypatch.setattr(
        h1, "check_head", lambda head, limits: None
    )  # policy fails; of a request with a body h11 is the floor
    with pytest.raises(BadRequest):
        Exchange.read_head(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n", LIMITS)


@pytest.mark.parametrize(
    ("head", "error"),
    [
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\n", BadRequest),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", NotImplementedMethod),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\n" + b"a" * 40_000, HeadTooLarge),
    ],
)
def test_what_h11_refuses_although_policy_passed_it_keeps_its_status(monkeypatch, head, error):
    monkeypatch.setattr(h1, "check_head", lambda head, limits: None)
    with pytest.raises(error) as caught:
        Exchange.read_head(head, LIMITS)
    assert isinstance(caught.value.__cause__, h11.RemoteProtocolError)


@pytest.mark.parametrize(
    ("version", "connection", "keep_alive"),
    [
        ("1.1", None, True),
        ("1.1", "keep-alive", True),
        ("1.1", "close", False),
        ("1.1", "Close", False),
        ("1.1", "x, CLOSE ,y", False),
        ("1.1", "keep-alive, close", False),
        ("1.1", "closed", True),
        ("1.1", "not close", True),
        ("1.0", None, False),
        ("1.0", "keep-alive", True),
        ("1.0", "Keep-Alive", True),
        ("1.0", "x,\tkeep-alive", True),
        ("1.0", "keep-alive, close", False),
        ("1.0", "close", False),
    ],
)
def test_keep_alive_by_version_and_connection_options(version, connection, keep_alive):
    # RFC 9112 section 9.3
    lines = [] if connection is None else [f"Connection: {connection}"]
    one, head = start(*lines, line=f"GET / HTTP/{version}")
    assert head.keep_alive is keep_alive
    respond(one, b"x")
    assert one.reusable is keep_alive
    assert one.closes is not keep_alive


def test_connection_options_over_two_fields_are_one_list():
    assert not start("Connection: keep-alive", "Connection: close")[1].keep_alive


# -- Reading bodies --


def test_request_without_a_body_is_complete_at_once():
    one = exchange()
    assert one.body_complete
    assert one.next_body() is BodyEvent.END
    assert one.body_unreceived == 0
    assert one.take_leftover() == b""


def test_content_length_zero_is_no_body():
    one, head = start("Content-Length: 0", line="POST / HTTP/1.1")
    assert (head.body_length, one.body_complete) == (0, True)


def test_get_may_have_a_body():
    one = exchange("Content-Length: 2")
    one.receive_data(b"ab")
    assert read_body(one) == (b"ab", BodyEvent.END)


def test_sized_body_comes_in_pieces_and_ends():
    one, head = start("Content-Length: 5", line="POST / HTTP/1.1")
    assert head.body_length == 5
    assert one.next_body() is BodyEvent.NEED_DATA
    one.receive_data(b"hel")
    assert one.body_unreceived == 2
    assert one.next_body() == b"hel"
    assert one.next_body() is BodyEvent.NEED_DATA
    assert not one.body_complete
    one.receive_data(b"lo")
    assert read_body(one) == (b"lo", BodyEvent.END)
    assert one.body_complete
    assert one.body_unreceived == 0


def test_chunked_body_is_joined_and_its_trailers_dropped():
    one, head = start("Transfer-Encoding: chunked", line="POST / HTTP/1.1")
    assert head.body_length is None
    assert one.body_unreceived is None
    one.receive_data(b"5;x=y\r\nhello\r\n1\r\n!\r\n0\r\nDigest: x\r\n\r\n")
    assert read_body(one) == (b"hello!", BodyEvent.END)
    assert one.body_unreceived == 0
    assert "digest" not in head.headers


def test_next_body_after_the_end_keeps_saying_so():
    one = post("Content-Length: 1")
    one.receive_data(b"x")
    assert read_body(one) == (b"x", BodyEvent.END)
    assert read_body(one) == (b"", BodyEvent.END)


NEXT = b"GET /next HTTP/1.1\r\n"


@pytest.mark.parametrize(
    ("line", "body"),
    [("Content-Length: 5", b"hello"), ("Transfer-Encoding: chunked", b"5\r\nhello\r\n0\r\n\r\n"), ("A: b", b"")],
)
def test_bytes_behind_the_body_are_the_next_requests(line, body):
    one = post(line)
    one.receive_data(body + NEXT)
    read_body(one)
    one.receive_data(b"Host: x")
    assert one.take_leftover() == NEXT + b"Host: x"
    assert one.take_leftover() == b""


@pytest.mark.parametrize("line", ["Content-Length: 5", "Transfer-Encoding: chunked"])
def test_empty_data_is_not_the_end_of_the_connection(line):
    # For h11 it would be.
    one = post(line)
    one.receive_data(b"")
    assert one.next_body() is BodyEvent.NEED_DATA


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("Content-Length: 5", b""),
        ("Content-Length: 5", b"hell"),
        ("Transfer-Encoding: chunked", b""),
        ("Transfer-Encoding: chunked", b"5\r\nhello\r\n"),
        ("Transfer-Encoding: chunked", b"5\r\nhello\r\n0\r\n"),
    ],
)
def test_end_of_the_connection_before_that_of_the_body_gets_400(line, part):
    # RFC 9112 section 8: the message is incomplete.
    one = post(line)
    one.receive_data(part)
    one.receive_eof()
    with pytest.raises(BadRequest):
        read_body(one)
    with pytest.raises(BadRequest):
        one.next_body()
    assert not one.body_complete


def test_bytes_received_before_an_early_end_are_still_given():
    one = post("Content-Length: 5")
    one.receive_data(b"hell")
    one.receive_eof()
    assert one.next_body() == b"hell"


@pytest.mark.parametrize("line", ["Content-Length: 5", "Transfer-Encoding: chunked", "A: b"])
def test_end_of_the_connection_behind_the_body_is_no_error(line):
    one = post(line)
    one.receive_data(b"5\r\nhello\r\n0\r\n\r\n" if "chunked" in line else b"hello")
    one.receive_eof()
    assert read_body(one)[1] is BodyEvent.END


@pytest.mark.parametrize(
    "body", [b"x\r\n", b"5\r\nhello!", b"0\r\n\n", b"5;" + b"x" * 300, b"5\r\nhello\r\n0\r\na : b\r\n"]
)
def test_broken_chunks_get_400_and_the_exchange_is_of_no_more_use(body):
    one = post("Transfer-Encoding: chunked")
    with pytest.raises(BadRequest):
        one.receive_data(body)
    with pytest.raises(BadRequest):
        one.next_body()
    respond(one)
    assert not one.reusable


def test_trailer_that_lies_about_framing_is_refused():
    one = post("Transfer-Encoding: chunked")
    one.receive_data(b"0\r\nContent-Length: x\r\n\r\n")
    with pytest.raises(BadRequest):
        one.next_body()


def body_cases():
    body = st.binary(max_size=300)
    chunks = st.lists(st.binary(min_size=1, max_size=60), max_size=6)
    sized = body.map(lambda data: (f"Content-Length: {len(data)}", data, data))
    chunked = chunks.map(
        lambda parts: (
            "Transfer-Encoding: chunked",
            b"".join(b"%x;e\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\nt: u\r\n\r\n",
            b"".join(parts),
        )
    )
    return st.one_of(sized, chunked)


@settings(max_examples=200)
@given(body_cases(), st.lists(st.integers(0, 600), max_size=8), st.binary(max_size=30), st.booleans())
def test_any_pieces_give_the_same_body_and_the_same_leftover(case, cuts, behind, eager):
    line, wire, expected = case
    data = wire + behind
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    one = post(line)
    body = b""
    for first, last in pairwise(edges):
        one.receive_data(data[first:last])
        if eager:
            body += read_body(one)[0]
    rest, end = read_body(one)
    assert (body + rest, end) == (expected, BodyEvent.END)
    assert one.take_leftover() == behind


@given(st.binary(max_size=200))
def test_any_bytes_for_a_chunked_body_give_bytes_or_a_refusal(data):
    one = post("Transfer-Encoding: chunked")
    try:
        one.receive_data(data)
        read_body(one)
    except HttpError:
        assert not one.reusable


# -- 100 Continue: RFC 9110 section 10.1.1 --

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def test_client_that_waits_is_told_to_go_on_once():
    one, head = start("Content-Length: 5", "Expect: 100-continue", line="POST / HTTP/1.1")
    assert head.expects_continue
    assert one.awaits_continue
    assert one.send_continue() == CONTINUE
    assert not one.awaits_continue
    assert one.send_continue() == b""
    one.receive_data(b"hello")
    assert read_body(one) == (b"hello", BodyEvent.END)
    respond(one)
    assert one.reusable


def test_client_whose_body_has_begun_to_come_is_not_told():
    # "A server MAY omit sending a 100 (Continue) response if it has already received some or all of the content".
    one = post("Content-Length: 5", "Expect: 100-continue")
    one.receive_data(b"h")
    assert not one.awaits_continue
    assert one.send_continue() == b""


def test_client_that_waits_and_gets_a_final_answer_is_not_told():
    one = post("Content-Length: 5", "Expect: 100-continue")
    respond(one, status=413, close=True)
    assert one.send_continue() == b""
    assert one.awaits_continue
    assert not one.reusable


@pytest.mark.parametrize(
    ("line", "lines"),
    [
        ("POST / HTTP/1.0", ["Content-Length: 5", "Expect: 100-continue"]),
        ("POST / HTTP/1.1", ["Content-Length: 5"]),
        ("POST / HTTP/1.1", ["Content-Length: 0", "Expect: 100-continue"]),
        ("GET / HTTP/1.1", ["Expect: 100-continue"]),
    ],
)
def test_client_that_does_not_wait_or_has_no_body_is_not_told(line, lines):
    one, head = start(*lines, line=line)
    assert not head.expects_continue
    assert one.send_continue() == b""


# -- Writing responses --


def test_sized_response_on_1_1():
    assert respond(exchange(), b"hello") == b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


def test_chunked_response_on_1_1():
    one = exchange()
    sent = one.send_head(200, Headers({"a": "1"}), close=False, body_length=None)
    sent += b"".join([*one.send_body(b"hello"), *one.send_body(b""), *one.send_body(b"x" * 16), one.end_body()])
    assert sent == (
        b"HTTP/1.1 200 OK\r\nA: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"5\r\nhello\r\n10\r\nxxxxxxxxxxxxxxxx\r\n0\r\n\r\n"
    )
    assert one.reusable


def test_response_of_unknown_length_on_1_0_ends_with_the_connection():
    one = exchange("Connection: keep-alive", line="GET / HTTP/1.0")
    assert respond(one, b"hello", known=False) == b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello"
    assert one.closes
    assert not one.reusable


def test_sized_response_on_1_0_with_keep_alive_says_so():
    # What `ab -k` sends.
    one = exchange("Connection: Keep-Alive", line="GET / HTTP/1.0")
    assert respond(one, b"hello") == b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\nhello"
    assert one.reusable


def test_response_on_1_0_without_keep_alive_closes():
    one = exchange(line="GET / HTTP/1.0")
    assert b"\r\nConnection: close\r\n" in respond(one, b"hello")
    assert not one.reusable


def test_response_to_a_client_that_closes_says_close():
    # RFC 9112 section 9.6: "SHOULD send a close connection option in its final response".
    assert b"\r\nConnection: close\r\n" in respond(exchange("Connection: close"))


def test_response_that_must_close_says_close():
    one = exchange()
    assert b"\r\nConnection: close\r\n" in respond(one, close=True)
    assert one.closes
    assert not one.reusable


def test_handler_that_says_close_closes():
    one = exchange()
    sent = respond(one, headers=Headers({"Connection": "close", "Keep-Alive": "timeout=1"}))
    assert sent == b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    assert not one.reusable


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_head_gets_no_body(version, known):
    # RFC 9112 section 6.3: always terminated by the first empty line after the header fields.
    one = exchange("Connection: keep-alive", line=f"HEAD / HTTP/{version}")
    head = one.send_head(200, Headers(), close=False, body_length=5 if known else None)
    assert not one.sends_body
    assert list(one.send_body(b"hello")) == []
    assert one.end_body() == b""
    assert head.endswith(b"\r\n\r\n")
    assert (b"Content-Length: 5" in head) is known
    assert b"Transfer-Encoding" not in head
    assert one.reusable


@pytest.mark.parametrize("status", [204, 304])
def test_status_without_a_body_gets_none(status):
    one = exchange()
    sent = respond(one, status=status, known=False)
    assert sent.endswith(b"\r\n\r\n")
    assert b"Content-Length" not in sent
    assert b"Transfer-Encoding" not in sent
    assert one.reusable


def test_304_keeps_the_length_a_get_would_have_got():
    sent = respond(exchange(), status=304, headers=Headers({"Content-Length": "1234"}))
    assert sent == b"HTTP/1.1 304 Not Modified\r\nContent-Length: 1234\r\n\r\n"


def test_body_longer_than_declared_is_refused_before_a_byte_of_it_is_framed():
    one = exchange()
    one.send_head(200, Headers({"content-length": "5"}), close=False, body_length=None)
    assert list(one.send_body(b"hell")) == [b"hell"]
    with pytest.raises(ResponseError, match="longer than its Content-Length of 5"):
        one.send_body(b"o!")
    assert not one.reusable


def test_body_shorter_than_declared_is_refused_at_its_end():
    one = exchange()
    one.send_head(200, Headers(), close=False, body_length=5)
    one.send_body(b"hell")
    with pytest.raises(ResponseError, match="1 bytes before its Content-Length of 5"):
        one.end_body()
    assert not one.reusable


def test_content_length_that_contradicts_the_body_leaves_room_for_another_head():
    one = exchange()
    with pytest.raises(ResponseError):
        one.send_head(200, Headers({"content-length": "5"}), close=False, body_length=4)
    assert not one.head_sent
    assert respond(one, b"x", status=500).startswith(b"HTTP/1.1 500 ")


@pytest.mark.parametrize(
    "headers", [{"a": "x\r\nb: c"}, {"a\r\nb": "c"}, {"a": "€"}, {"a": "\0"}, {"Transfer-Encoding": "chunked"}]
)
def test_header_that_cannot_be_sent_leaves_room_for_another_head(headers):
    one = exchange()
    with pytest.raises(ResponseError):
        one.send_head(200, Headers(headers), close=False, body_length=0)
    assert not one.head_sent
    assert not one.closes


@pytest.mark.parametrize("status", [100, 101, 103, 199, 600])
def test_status_that_is_no_final_one_is_refused(status):
    with pytest.raises(ResponseError, match=f"not {status}"):
        exchange().send_head(status, Headers(), close=False, body_length=0)


def test_bytes_sent_by_other_means_are_counted():
    one = exchange()
    one.send_head(200, Headers(), close=False, body_length=10)
    one.pass_through(4)
    with pytest.raises(ResponseError):
        one.end_body()
    with pytest.raises(ResponseError):
        one.pass_through(7)
    one.pass_through(6)
    assert one.end_body() == b""
    assert one.reusable


def test_bytes_sent_by_other_means_may_end_with_the_connection():
    one = exchange(line="GET / HTTP/1.0")
    one.send_head(200, Headers(), close=False, body_length=None)
    one.pass_through(10**12)
    assert one.end_body() == b""


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_bytes_sent_by_other_means_cannot_be_chunked_or_follow_a_lone_head(method):
    one = exchange(line=f"{method} / HTTP/1.1")
    one.send_head(200, Headers(), close=False, body_length=None)
    with pytest.raises(ResponseError):
        one.pass_through(1)


def test_body_is_not_copied():
    data = b"x" * 100_000
    for known in (True, False):
        one = exchange()
        one.send_head(200, Headers(), close=False, body_length=len(data) if known else None)
        assert any(each is data for each in one.send_body(data))


def test_last_chunk_is_sent_once():
    one = exchange()
    one.send_head(200, Headers(), close=False, body_length=None)
    assert one.end_body() == b"0\r\n\r\n"
    assert one.end_body() == b""


def test_second_head_or_a_body_before_the_head_is_wrong_use():
    one = exchange()
    for early in (lambda: one.send_body(b"x"), one.end_body, lambda: one.sends_body, lambda: one.pass_through(1)):
        with pytest.raises(RuntimeError, match="send_head comes first"):
            early()
    respond(one)
    with pytest.raises(RuntimeError, match="sent already"):
        respond(one)


def test_response_before_the_whole_request_leaves_the_exchange_unusable_until_it_is_read():
    one = post("Content-Length: 5")
    respond(one, b"early")
    assert not one.reusable
    one.receive_data(b"hello")
    read_body(one)
    assert one.reusable


def test_upgrade_is_ignored():
    # RFC 9110 section 7.8: "A server MAY ignore a received Upgrade header field".
    one = post("Content-Length: 1", "Upgrade: h2c", "Connection: upgrade")
    one.receive_data(b"x" + NEXT)
    assert read_body(one) == (b"x", BodyEvent.END)
    respond(one)
    assert one.reusable
    assert one.take_leftover() == NEXT


def test_repr_shows_the_states():
    one = post("Content-Length: 5")
    assert repr(one) == "<Exchange POST '/' request=body to come response=not begun>"
    one.send_head(200, Headers(), close=False, body_length=0)
    assert repr(one).endswith("response=begun>")
    one.end_body()
    one.receive_data(b"hello")
    read_body(one)
    assert repr(one) == "<Exchange POST '/' request=complete response=complete>"


def read_back(method, sent):
    """What an h11 client makes of a response: status, fields, body, and whether it is complete."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
    client.send(h11.EndOfMessage())
    client.receive_data(sent)
    response, body = client.next_event(), b""
    assert isinstance(response, h11.Response)
    while isinstance(event := client.next_event(), h11.Data):
        body += event.data
    if event is h11.NEED_DATA:
        client.receive_data(b"")
        event = client.next_event()
    return response, body, isinstance(event, h11.EndOfMessage), client.trailing_data[0]


@settings(max_examples=200)
@given(
    st.sampled_from(["GET", "HEAD", "POST"]),
    st.sampled_from(["1.0", "1.1"]),
    st.sampled_from([200, 206, 404, 500, 599]),
    st.lists(st.binary(max_size=50), max_size=5),
    st.booleans(),
    st.booleans(),
)
def test_any_response_is_read_back_by_h11(method, version, status, parts, known, close):
    one = exchange("Connection: keep-alive", line=f"{method} / HTTP/{version}")
    body = b"".join(parts)
    sent = one.send_head(status, Headers({"a": "1"}), close=close, body_length=len(body) if known else None)
    for part in parts:
        sent += b"".join(one.send_body(part))
    sent += one.end_body()
    response, read, complete, behind = read_back(method, sent)
    assert (response.status_code, response.reason, complete, behind) == (status, response.reason, True, b"")
    assert read == (b"" if method == "HEAD" else body)
    options = [value for name, value in response.headers if name == b"connection"]
    assert (options == [b"close"]) is one.closes
    assert one.reusable is not one.closes


FIELD_NAMES = st.sampled_from(["host", "Accept", "x-a", "Cookie", "connection", "expect", "Content-Length", "x_b!"])
FIELD_VALUES = st.text(alphabet=st.characters(min_codepoint=0x20, max_codepoint=0xFF), max_size=20)


@given(
    method=st.sampled_from(["GET", "HEAD", "OPTIONS", "DELETE"]),
    target=st.sampled_from(["/", "/a?b=c", "*", "http://h/x", "/%41/../b", "/a//b"]),
    version=st.sampled_from(["1.0", "1.1", "1.2"]),
    fields=st.lists(st.tuples(FIELD_NAMES, FIELD_VALUES), max_size=6),
    padding=st.sampled_from(["", " ", "\t", " \t "]),
    leading=st.sampled_from([b"", b"\r\n"]),
)
def test_a_head_reads_the_same_with_and_without_h11(
    method: str,
    target: str,
    version: str,
    fields: list[tuple[str, str]],
    padding: str,
    leading: bytes,
) -> None:
    """The plain reading accepts nothing that h11 refuses, and reads nothing differently (RFC 9112 sections 3 and 5)."""
    lines = [f"{method} {target} HTTP/{version}", "Host: h", *(f"{name}:{padding}{value}" for name, value in fields)]
    head = leading + "\r\n".join([*lines, "", ""]).encode("latin-1")
    try:
        check_head(head, LIMITS)
    except HttpError:
        return
    reader = h11.Connection(h11.SERVER, max_incomplete_event_size=LIMITS.head_bytes)
    reader.receive_data(head[len(leading) :])
    try:
        expected: object = h1._request_head(h1._next_event(reader))
    except HttpError as error:
        expected = type(error)
    try:
        plain: object = plain_head(head)
    except HttpError as error:
        plain = type(error)
    if plain is not None:
        assert plain == expected
