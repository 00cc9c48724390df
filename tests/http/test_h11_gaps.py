"""Row by row, what h11 0.16 makes of hostile bytes and what ktrio does.

Each test says first what h11 does by itself, so that a version that has become stricter is noticed, then what we do.
"""

import h11
import pytest

from ktrio.http.errors import (
    BadRequest,
    HeadTooLarge,
    NotImplementedMethod,
    VersionNotSupported,
)
from ktrio.http.h1 import BodyEvent, Exchange
from ktrio.http.headers import Headers
from ktrio.http.policy import Limits, check_body_bytes, find_head_end

ACCEPTED = None


def by_h11(data):
    """The status h11 hints at, or None if it accepts the head."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError as error:
        return error.error_status_hint
    assert isinstance(event, h11.Request)
    return ACCEPTED


def by_ktrio(data):
    """The class of the error ktrio answers with, or None if it accepts the head."""
    try:
        end = find_head_end(data, Limits())
        assert end is not None
        Exchange.read_head(data[:end], Limits())
    except Exception as error:
        return type(error)
    return ACCEPTED


def request(*lines, line=b"GET / HTTP/1.1", host=b"Host: x\r\n"):
    return line + b"\r\n" + host + b"".join(each + b"\r\n" for each in lines) + b"\r\n"


CL5, CL6, TE = b"Content-Length: 5", b"Content-Length: 6", b"Transfer-Encoding: chunked"

ROWS = {
    "no Host": (request(host=b""), 400, BadRequest),
    "two Hosts": (request(b"Host: y"), 400, BadRequest),
    "HTTP/1.2": (request(line=b"GET / HTTP/1.2"), ACCEPTED, ACCEPTED),
    "HTTP/1.2 without Host": (request(line=b"GET / HTTP/1.2", host=b""), ACCEPTED, BadRequest),
    "HTTP/2.0": (request(line=b"GET / HTTP/2.0"), ACCEPTED, VersionNotSupported),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ACCEPTED, VersionNotSupported),
    "HTTP/0.9": (request(line=b"GET / HTTP/0.9"), ACCEPTED, VersionNotSupported),
    "bare LF everywhere": (b"GET / HTTP/1.1\nHost: x\n\n", ACCEPTED, BadRequest),
    "one bare LF": (b"GET / HTTP/1.1\r\nHost: x\nA: b\r\n\r\n", ACCEPTED, BadRequest),
    "bare LF before the blank line": (b"GET / HTTP/1.1\r\nHost: x\n\r\n\r\n", ACCEPTED, BadRequest),
    "one leading CRLF": (b"\r\n" + request(), 400, ACCEPTED),
    "two leading CRLFs": (b"\r\n\r\n" + request(), 400, BadRequest),
    "leading bare LF": (b"\n" + request(), 400, BadRequest),
    "obs-fold": (request(b"A: b", b" c"), ACCEPTED, BadRequest),
    "obs-fold of a framing field": (request(b"Content-Length:", b" 5"), ACCEPTED, BadRequest),
    "control byte in a value": (request(b"A: \x01"), ACCEPTED, BadRequest),
    "DEL in a value": (request(b"A: \x7f"), ACCEPTED, BadRequest),
    "Latin-1 in a value": (request(b"A: \xe9"), ACCEPTED, ACCEPTED),
    "NUL in a value": (request(b"A: \x00"), 400, BadRequest),
    "space before the colon": (request(b"A : b"), 400, BadRequest),
    "space in the target": (request(line=b"GET /a b HTTP/1.1"), 400, BadRequest),
    "8-bit in the target": (request(line=b"GET /\xe9 HTTP/1.1"), 400, BadRequest),
    "CL and TE": (request(CL5, TE), ACCEPTED, BadRequest),
    "TE and CL": (request(TE, CL5), ACCEPTED, BadRequest),
    "CL twice, equal": (request(CL5, CL5), ACCEPTED, BadRequest),
    "CL as a list": (request(b"Content-Length: 5, 5"), ACCEPTED, BadRequest),
    "CL twice, different": (request(CL5, CL6), 400, BadRequest),
    "CL with a sign": (request(b"Content-Length: +5"), 400, BadRequest),
    "CL of 20 digits": (request(b"Content-Length: " + b"9" * 20), ACCEPTED, BadRequest),
    "CL of 21 digits": (request(b"Content-Length: " + b"9" * 21), 400, BadRequest),
    "TE other than chunked": (request(b"Transfer-Encoding: gzip"), 501, NotImplementedMethod),
    "TE twice": (request(TE, TE), 501, BadRequest),
    "chunked on HTTP/1.0": (request(TE, line=b"POST / HTTP/1.0"), ACCEPTED, BadRequest),
    "head of 40 KB in one receive": (request(b"A: " + b"x" * 40_000), ACCEPTED, HeadTooLarge),
    "3000 fields": (request(*[b"A: b"] * 3000), ACCEPTED, HeadTooLarge),
    "TLS hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, BadRequest),
    "lower-case method": (request(line=b"get / HTTP/1.1"), ACCEPTED, NotImplementedMethod),
    "unknown method": (request(line=b"BREW / HTTP/1.1"), ACCEPTED, NotImplementedMethod),
    "CONNECT": (request(line=b"CONNECT x:80 HTTP/1.1"), ACCEPTED, NotImplementedMethod),
    "malformed Host": (request(host=b"Host: a/b\r\n"), ACCEPTED, BadRequest),
    "fragment in the target": (request(line=b"GET /a#b HTTP/1.1"), ACCEPTED, BadRequest),
}


@pytest.mark.parametrize("row", ROWS)
def test_head_that_h11_reads_too_kindly_is_refused(row):
    data, h11_says, ktrio_says = ROWS[row]
    assert by_h11(data) == h11_says
    assert by_ktrio(data) == ktrio_says


def test_whole_head_of_20_kb_passes_within_our_own_limit():
    data = request(b"A: " + b"x" * 20_000)
    assert by_h11(data) is ACCEPTED
    assert by_ktrio(data) is ACCEPTED


def test_content_length_of_19_digits_is_refused_by_the_body_limit_before_reading():
    head = Exchange.read_head(request(b"Content-Length: " + b"9" * 19), Limits())[1]
    with pytest.raises(Exception, match="longer than"):
        check_body_bytes(head.body_length, Limits().body_bytes)


CHUNKED = request(TE, line=b"POST / HTTP/1.1")


def body_by_h11(body):
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(CHUNKED)
    connection.next_event()
    connection.receive_data(body)
    try:
        while isinstance(event := connection.next_event(), h11.Data):
            pass
    except h11.RemoteProtocolError:
        return 400
    assert isinstance(event, h11.EndOfMessage)
    return ACCEPTED


BODIES = {
    "wrong chunk footer": (b"5\r\nhelloXX0\r\n\r\n", 400),
    "bare LF behind the last chunk": (b"0\r\n\n", ACCEPTED),
    "bare LF in the trailer section": (b"0\r\na: b\n\r\n", ACCEPTED),
    "folded trailer": (b"0\r\na: b\r\n c\r\n\r\n", ACCEPTED),
    "control byte in a trailer": (b"0\r\na: \x01\r\n\r\n", ACCEPTED),
    "carriage return in an extension": (b"0;a\rb\r\n\r\n", ACCEPTED),
    "space behind the size": (b"0 \r\n\r\n", ACCEPTED),
    "extension of 60 KB in one receive": (b"0;" + b"x" * 60_000 + b"\r\n\r\n", ACCEPTED),
    "trailer section of 60 KB in one receive": (b"0\r\n" + b"a: b\r\n" * 10_000 + b"\r\n", ACCEPTED),
    "size of 20 digits": (b"0" * 20 + b"\r\n\r\n", ACCEPTED),
}


@pytest.mark.parametrize("row", BODIES)
def test_chunks_that_h11_reads_too_kindly_are_refused(row):
    body, h11_says = BODIES[row]
    assert body_by_h11(body) == h11_says
    exchange = Exchange.read_head(CHUNKED, Limits())[0]
    with pytest.raises((BadRequest, HeadTooLarge)):
        exchange.receive_data(body)


def test_pipelined_bytes_never_enter_h11():
    # h11 buffers them without bound while it is paused.
    exchange = Exchange.read_head(request(CL5, line=b"POST / HTTP/1.1"), Limits())[0]
    exchange.receive_data(b"hello" + request() * 100)
    assert exchange.next_body() == b"hello"
    assert exchange.next_body() is BodyEvent.END
    assert exchange.take_leftover() == request() * 100


def test_reason_phrase_is_filled_in():
    exchange = Exchange.read_head(request(), Limits())[0]
    assert exchange.send_head(404, Headers(), close=False, body_length=0).startswith(b"HTTP/1.1 404 Not Found\r\n")


def test_http_1_0_connection_is_kept_open_if_asked():
    # h11 closes every one.
    head = request(b"Connection: keep-alive", line=b"GET / HTTP/1.0")
    exchange = Exchange.read_head(head, Limits())[0]
    assert b"Connection: keep-alive" in exchange.send_head(200, Headers(), close=False, body_length=0)
    exchange.end_body()
    assert exchange.reusable
