"""Server-sent events (HTML Living Standard, section 9.2)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktrio.http.events import EncodedEvents, ServerSentEvent


def parse(stream: str):
    """Section 9.2.6, "Interpreting an event stream", as a browser does it: (type, data, last id) of each event."""
    events, data, kind, last = [], [], "", ""
    for line in stream.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        if not line:
            if data:
                events.append((kind or "message", "\n".join(data), last))
            data, kind = [], ""
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            data.append(value)
        elif name == "event":
            kind = value
        elif name == "id" and "\0" not in value:
            last = value
    return events


def test_event_is_written_line_by_line():
    event = ServerSentEvent("two\nlines", event="news", id="7", retry=1.5)
    assert event.encode() == b"event: news\nid: 7\nretry: 1500\ndata: two\ndata: lines\n\n"
    assert ServerSentEvent("").encode() == b"data: \n\n"
    assert ServerSentEvent("x", id="").encode() == b"id: \ndata: x\n\n"  # forgets the last id


@given(st.lists(st.tuples(st.text(max_size=20), st.text(alphabet="ab: é", max_size=5)), max_size=5))
def test_browser_reads_what_was_written(events):
    """Line ends are all one to it, and what cannot be encoded is a question mark; the rest arrives as it was."""
    written = b"".join(ServerSentEvent(data, event=kind).encode() for data, kind in events).decode()
    expected = [
        (kind or "message", data.replace("\r\n", "\n").replace("\r", "\n").encode("utf-8", "replace").decode(), "")
        for data, kind in events
    ]
    assert parse(written) == expected


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"event": "a\nb"}, "the event of an event is one line"),
        ({"id": "a\rb"}, "the id of an event is one line"),
        ({"id": "a\0b"}, "the id of an event is one line without NUL"),
        ({"retry": -1}, "retry must be seconds from 0 on"),
        ({"retry": float("nan")}, "retry must be seconds from 0 on"),
    ],
)
def test_event_that_would_break_the_stream_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        ServerSentEvent("x", **fields)


class Source:
    """An async iterable that counts how often it is closed."""

    def __init__(self, events):
        self._events = iter(events)
        self.closed = 0

    def __aiter__(self):
        return self

    async def __anext__(self):
        for event in self._events:
            return event
        raise StopAsyncIteration

    async def aclose(self):
        self.closed += 1


async def test_events_of_an_iterable_are_encoded_one_by_one_and_it_is_closed_once():
    source = Source(["a", ServerSentEvent("b", id="1")])
    encoded = EncodedEvents(source)
    assert [piece async for piece in encoded] == [b"data: a\n\n", b"id: 1\ndata: b\n\n"]
    await encoded.aclose()
    assert source.closed == 1


async def test_iterable_that_was_never_begun_is_closed_too():
    source = Source([])
    await EncodedEvents(source).aclose()
    assert source.closed == 1
