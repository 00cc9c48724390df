"""Framing and rendering of responses: RFC 9112 sections 4 to 6, RFC 9110 sections 6.4 and 8.6."""

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktrio.http.errors import (
    BadRequest,
    HeadTooLarge,
    MethodNotAllowed,
    ResponseError,
    ServiceUnavailable,
)
from ktrio.http.headers import Headers
from ktrio.http.responses import (
    BodyPlan,
    Framing,
    error_response,
    has_no_body,
    plan_body,
    render_error,
    render_head,
    response_fields,
    wants_close,
    write_head,
)

DATE = "Sun, 06 Nov 1994 08:49:37 GMT"


def plan(method="GET", version="1.1", status=200, length=None, body_length=None):
    headers = Headers() if length is None else Headers({"Content-Length": str(length)})
    made = plan_body(method, version, status, headers, body_length)
    return made.framing, made.length


# -- Which framing --

ROWS = [
    # method, version, status, handler's Content-Length, body's length -> framing, declared length
    ("GET", "1.1", 200, None, 5, Framing.SIZED, 5),
    ("GET", "1.1", 200, None, 0, Framing.SIZED, 0),
    ("GET", "1.1", 200, 5, 5, Framing.SIZED, 5),
    ("GET", "1.1", 200, 5, None, Framing.SIZED, 5),
    ("GET", "1.1", 200, None, None, Framing.CHUNKED, None),
    ("GET", "1.0", 200, None, 5, Framing.SIZED, 5),
    ("GET", "1.0", 200, 5, None, Framing.SIZED, 5),
    ("GET", "1.0", 200, None, None, Framing.UNTIL_CLOSE, None),
    ("POST", "1.1", 404, None, 5, Framing.SIZED, 5),
    # HEAD: what a GET would have got, as far as it is known
    ("HEAD", "1.1", 200, None, 5, Framing.NONE, 5),
    ("HEAD", "1.1", 200, 5, 0, Framing.NONE, 5),
    ("HEAD", "1.1", 200, 5, 5, Framing.NONE, 5),
    ("HEAD", "1.1", 200, 5, None, Framing.NONE, 5),
    ("HEAD", "1.1", 200, None, None, Framing.NONE, None),
    ("HEAD", "1.0", 200, None, None, Framing.NONE, None),
    ("HEAD", "1.1", 200, None, 0, Framing.NONE, None),
    ("HEAD", "1.1", 200, 0, 0, Framing.NONE, 0),
    # 304: likewise
    ("GET", "1.1", 304, None, 0, Framing.NONE, None),
    ("GET", "1.1", 304, None, None, Framing.NONE, None),
    ("GET", "1.1", 304, 5, 0, Framing.NONE, 5),
    ("HEAD", "1.1", 304, 5, 0, Framing.NONE, 5),
    # 204: "A server MUST NOT send a Content-Length header field in any response with a status code of 204"
    ("GET", "1.1", 204, None, 0, Framing.NONE, None),
    ("GET", "1.1", 204, 0, 0, Framing.NONE, None),
    ("DELETE", "1.0", 204, None, None, Framing.NONE, None),
    # 205: RFC 9110 section 15.3.6
    ("POST", "1.1", 205, None, 0, Framing.SIZED, 0),
    ("POST", "1.1", 205, None, None, Framing.SIZED, 0),
]


@pytest.mark.parametrize("row", ROWS)
def test_framing_of_a_response(row):
    method, version, status, length, body_length, framing, declared = row
    assert plan(method, version, status, length, body_length) == (framing, declared)


@pytest.mark.parametrize(
    ("method", "status", "length", "body_length"),
    [
        ("GET", 200, 5, 4),
        ("GET", 200, 5, 6),
        ("GET", 200, 5, 0),
        ("HEAD", 200, 5, 4),
        ("GET", 204, None, 1),
        ("GET", 204, 1, 0),
        ("GET", 205, None, 1),
        ("GET", 205, 1, None),
        ("GET", 304, None, 1),
        ("GET", 304, 5, 5),
        ("GET", 100, None, 0),
        ("GET", 101, None, 0),
        ("GET", 199, None, 0),
        ("GET", 0, None, 0),
        ("GET", 600, None, 0),
        ("GET", -200, None, 0),
        ("GET", 200, "x", 5),
        ("GET", 200, "", 0),
        ("GET", 200, "-5", None),
        ("GET", 200, "+5", 5),
        ("GET", 200, "5, 5", 5),
        ("GET", 200, "\u0665", 5),
        ("GET", 200, "1" * 20, None),
    ],
)
def test_response_that_contradicts_itself_is_the_handlers_error(method, status, length, body_length):
    with pytest.raises(ResponseError):
        plan(method, "1.1", status, length, body_length)


def test_content_length_given_twice_is_refused():
    with pytest.raises(ResponseError, match="one number, not '5, 5'"):
        plan_body("GET", "1.1", 200, Headers([("content-length", "5")] * 2), 5)


@pytest.mark.parametrize("coding", ["chunked", "gzip", ""])
def test_transfer_encoding_from_a_handler_is_refused(coding):
    with pytest.raises(ResponseError, match="Transfer-Encoding"):
        plan_body("GET", "1.1", 200, Headers({"Transfer-Encoding": coding}), None)


@pytest.mark.parametrize(
    ("method", "status", "none"),
    [
        ("HEAD", 200, True),
        ("HEAD", 404, True),
        ("GET", 204, True),
        ("GET", 304, True),
        ("GET", 205, False),
        ("GET", 200, False),
    ],
)
def test_has_no_body_of_method_and_status(method, status, none):
    # RFC 9110 section 6.4.1
    assert has_no_body(method, status) is none


# -- Which fields --


def test_fields_about_the_connection_are_dropped_from_a_handlers():
    # RFC 9110 section 7.6.1
    headers = Headers(
        [
            ("A", "1"),
            ("Connection", "x"),
            ("Keep-Alive", "timeout=9"),
            ("Upgrade", "h2c"),
            ("Trailer", "x"),
            ("TE", "x"),
        ]
    )
    headers.add("Proxy-Connection", "keep-alive")
    fields = response_fields(headers, BodyPlan(Framing.SIZED, 5), close=False)
    assert fields == [("a", "1"), ("content-length", "5")]


@pytest.mark.parametrize(
    ("framing", "close", "keep_alive_1_0", "added"),
    [
        (Framing.CHUNKED, False, False, [("transfer-encoding", "chunked")]),
        (Framing.CHUNKED, True, False, [("transfer-encoding", "chunked"), ("connection", "close")]),
        (Framing.NONE, False, False, []),
        (Framing.NONE, False, True, [("connection", "keep-alive")]),
        (Framing.NONE, True, True, [("connection", "close")]),
        (Framing.UNTIL_CLOSE, False, True, [("connection", "close")]),
    ],
)
def test_fields_added_for_framing_and_connection(framing, close, keep_alive_1_0, added):
    fields = response_fields(Headers(), BodyPlan(framing, None), close=close, keep_alive_1_0=keep_alive_1_0)
    assert fields == added


def test_handler_may_ask_to_close_whatever_its_case():
    assert wants_close(Headers({"Connection": "x, Close"}))
    assert not wants_close(Headers({"Connection": "keep-alive"}))
    assert not wants_close(Headers())


# -- Rendering --


def test_head_is_rendered_with_reason_and_capitals():
    fields = [("content-type", "text/html"), ("etag", '"x"'), ("www-authenticate", "Basic"), ("x-a", "")]
    assert render_head(404, fields) == (
        b'HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nETag: "x"\r\nWWW-Authenticate: Basic\r\nX-A: \r\n\r\n'
    )


def test_value_in_latin_1_is_sent_as_it_is():
    assert b"\r\nA: \xe9\tb\r\n" in render_head(200, [("a", "é\tb")])


@pytest.mark.parametrize(
    "value",
    [
        "a\r\nSet-Cookie: x=1",
        "a\nb",
        "a\rb",
        "a\n",
        "a\0b",
        "\x01",
        "\x7f",
        "\x0b",
        "a€",
        "€",
        "\ud800",
        "\u2028",
    ],
)
def test_value_that_would_split_the_response_or_cannot_be_sent_is_refused(value):
    with pytest.raises(ResponseError, match="the header 'location' has a value that cannot be sent"):
        render_head(200, [("location", value)])


@pytest.mark.parametrize("name", ["", "a b", "a:", "a\r\nb", "a\n", "a\0", "é", "a/b", "\u017f", "(a)"])
def test_name_that_is_no_token_is_refused_every_time(name):
    for _ in range(2):  # names are remembered; refusals too must be
        with pytest.raises(ResponseError, match="cannot be the name of a header"):
            render_head(200, [(name, "x")])


latin_1 = st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]))
tokens = st.text(st.sampled_from("abcXYZ019-_!~"), min_size=1).filter(
    lambda name: name.lower() not in ("content-length", "transfer-encoding", "connection")
)


@given(st.integers(200, 599), st.lists(st.tuples(tokens, latin_1), max_size=5))
def test_any_head_rendered_is_read_back_by_h11(status, fields):
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
    client.receive_data(render_head(status, fields))
    event = client.next_event()
    assert isinstance(event, h11.Response)
    assert event.status_code == status
    read = [(name.decode(), value.decode("latin-1")) for name, value in event.headers]
    assert read == [(name.lower(), value.strip(" \t")) for name, value in fields]


@given(st.text(), st.text())
def test_any_field_is_rendered_as_exactly_one_line_or_refused(name, value):
    try:
        head = render_head(200, [(name, value)])
    except ResponseError:
        return
    assert head.count(b"\r\n") == 3
    assert head.count(b"\n") == 3
    assert head.count(b"\r") == 3


# -- Errors --


def test_error_response_is_small_plain_text():
    response = error_response(BadRequest("A sentence."))
    assert response.status == 400
    assert response.headers.get("content-type") == "text/plain; charset=utf-8"
    assert response.headers.get("x-content-type-options") == "nosniff"
    assert response.body == b"400 Bad Request\nA sentence.\n"


def test_error_response_to_405_names_the_allowed_methods():
    assert error_response(MethodNotAllowed("No.", allow=("GET", "HEAD"))).headers.get("allow") == "GET, HEAD"


def test_error_is_rendered_whole():
    assert render_error(HeadTooLarge("Too much."), date=DATE, server="ktrio") == (
        b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\n"
        b"X-Content-Type-Options: nosniff\r\n"
        b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
        b"Server: ktrio\r\n"
        b"Content-Length: 46\r\n"
        b"Connection: close\r\n"
        b"\r\n"
        b"431 Request Header Fields Too Large\nToo much.\n"
    )


def test_error_for_head_has_the_length_and_no_body():
    # RFC 9110 section 9.3.2
    rendered = render_error(BadRequest("x"), date=DATE, head_only=True)
    assert rendered.endswith(b"Content-Length: 18\r\nConnection: close\r\n\r\n")


def test_error_that_keeps_the_connection_does_not_say_close():
    rendered = render_error(ServiceUnavailable("Full.", retry_after=1), date=DATE, close=False)
    assert b"Connection" not in rendered
    assert b"Retry-After: 1\r\n" in rendered


# -- The whole head --

FIELDS = st.sampled_from(
    [("x-a", "1"), ("x-a", "2"), ("connection", "close"), ("content-length", "5"), ("trailer", "x-t"), ("te", "x")]
)
HEADS = st.tuples(
    st.sampled_from(["GET", "HEAD"]),
    st.sampled_from(["1.0", "1.1"]),
    st.sampled_from([200, 204, 205, 304, 404, 99]),
    st.lists(FIELDS, max_size=4).map(tuple),
    st.booleans(),
    st.sampled_from([None, 0, 5, 6]),
    st.booleans(),
)


def outcome(write, head):
    try:
        return write(*head)
    except ResponseError as error:
        return str(error)


def step_by_step(method, version, status, fields, close, body_length, has_trailers):
    headers = Headers(fields)
    plan = plan_body(method, version, status, headers, body_length)
    closes = close or wants_close(headers) or plan.framing is Framing.UNTIL_CLOSE
    sent = response_fields(headers, plan, close=closes, keep_alive_1_0=version == "1.0", has_trailers=has_trailers)
    return render_head(status, sent), plan, closes


def remembered(method, version, status, fields, *rest):
    written = write_head(method, version, status, Headers(fields), *rest)
    return written.rendered, written.plan, written.closes


@given(st.lists(HEADS, min_size=1, max_size=20))
def test_remembered_heads_are_what_would_be_written_anew(heads):
    """However often, and whatever came between: no fact that a head depends on is missing from its key."""
    for head in [*heads, *heads]:
        assert outcome(remembered, head) == outcome(step_by_step, head)
