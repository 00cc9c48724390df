"""The usual responses in one call."""

import pytest

from ktrio.http.events import EncodedEvents
from ktrio.http.messages import Response


def test_text_and_pages_say_that_they_are_utf8_and_are_not_sniffed():
    response = Response.text("é\n")
    assert (response.status, response.body) == (200, b"\xc3\xa9\n")
    assert list(response.headers) == [
        ("content-type", "text/plain; charset=utf-8"),
        ("x-content-type-options", "nosniff"),
    ]
    assert Response.html("<p>", 404).headers.get("content-type") == "text/html; charset=utf-8"
    assert Response.html("<p>", 404).status == 404
    assert Response.text("a,b", media_type="text/csv").headers.get("content-type") == "text/csv; charset=utf-8"


def test_json_is_compact_and_strict():
    """RFC 8259: UTF-8 (section 8.1), and no NaN (section 6)."""
    response = Response.json({"name": "é", "list": [1, None]}, 201)
    assert (response.status, response.body) == (201, '{"name":"é","list":[1,null]}'.encode())
    assert response.headers.get("content-type") == "application/json"
    with pytest.raises(ValueError, match="JSON"):
        Response.json(float("nan"))
    with pytest.raises(TypeError):
        Response.json(object())


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_says_where_to(status):
    response = Response.redirect("/there?x=%20", status)
    assert (response.status, list(response.headers), response.body) == (status, [("location", "/there?x=%20")], b"")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("/x", 200), "a redirect's status is"),
        (("/x", 304), "a redirect's status is"),
        (("",), "a Location is a URL"),
        (("/a b",), "encode it"),
        (("/a\r\nSet-Cookie: x",), "encode it"),
        (("/é",), "encode it"),
    ],
)
def test_redirect_to_what_is_no_url_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Response.redirect(*arguments)


def test_stream_and_events_have_their_types():
    async def write(send):
        await send(b"x")

    response = Response.stream(write, media_type="video/mp4")
    assert (response.body, response.headers.get("content-type")) == (write, "video/mp4")
    assert Response.stream(write).headers.get("content-type") == "application/octet-stream"

    async def events():
        yield "one"

    response = Response.events(events())
    assert isinstance(response.body, EncodedEvents)
    assert response.headers.get("content-type") == "text/event-stream; charset=utf-8"
    assert response.headers.get("cache-control") == "no-store"
