"""What a handler takes and gives back."""

import trio

from ktrio.http.headers import Headers
from ktrio.http.messages import FileRange, Request, Response


class MemoryBody:
    """A body that is there already."""

    def __init__(self, body):
        self.body = body

    async def read(self, *, max_bytes=None):
        await trio.lowlevel.checkpoint()
        return self.body[:max_bytes]


def make_request(**changes):
    values = {
        "method": "GET",
        "target": "/a?b",
        "path": "/a",
        "query": "b",
        "version": "1.1",
        "headers": Headers(),
        "peer": "127.0.0.1:5",
        "draining": trio.Event(),
        "body": MemoryBody(b"body"),
    }
    return Request(**{**values, **changes})


async def test_request_read_gives_the_readers_body():
    assert await make_request().read() == b"body"
    assert await make_request().read(max_bytes=2) == b"bo"


async def test_request_draining_may_be_a_trio_event():
    request = make_request()
    assert not request.draining.is_set()
    request.draining.set()
    await request.draining.wait()


def test_response_without_arguments_is_an_empty_200():
    response = Response()
    assert (response.status, len(response.headers), response.body) == (200, 0, b"")


def test_responses_do_not_share_their_headers():
    Response().headers.add("a", "1")
    assert len(Response().headers) == 0


def test_file_range_is_closed_by_whoever_holds_it():
    closed = []
    FileRange(descriptor=3, offset=0, count=1, close=lambda: closed.append(3)).close()
    assert closed == [3]
