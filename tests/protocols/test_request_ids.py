"""Names for requests: new ones, all different; the client's own only where that is trusted and is a name."""

from __future__ import annotations

import re

import pytest

from ktrio.http.headers import Headers
from ktrio.http.messages import Request
from ktrio.protocols._request_ids import RequestIds


def make(*fields, make_id):
    return Request(
        method="GET",
        target="/",
        path="/",
        query=None,
        version="1.1",
        headers=Headers(list(fields)),
        peer="peer",
        draining=None,
        body=None,
        make_id=make_id,
    )


def test_a_thousand_ids_are_all_different_and_each_stays_the_same():
    ids = RequestIds()
    requests = [make(make_id=ids) for _ in range(1000)]
    assert all(re.fullmatch("[0-9a-f]{32}", request.id) for request in requests)
    assert len({request.id for request in requests}) == 1000
    assert [request.id for request in requests] == [request.id for request in requests]


def test_what_the_client_sends_is_nothing_unless_it_is_trusted():
    sent = ("X-Request-Id", "from-the-proxy")
    assert make(sent, make_id=RequestIds()).id != "from-the-proxy"
    assert make(sent, make_id=RequestIds(trust=True)).id == "from-the-proxy"


@pytest.mark.parametrize(
    "values",
    [
        [],
        [""],
        ["a", "b"],
        ["a", "a"],
        ["two words"],
        ['quo"ted'],
        ["back\\slash"],
        ["\x1b[31m"],
        ["\xe9"],
        ["x" * 129],
    ],
)
def test_what_is_no_name_is_replaced(values):
    request = make(*(("X-Request-Id", value) for value in values), make_id=RequestIds(trust=True))
    assert re.fullmatch("[0-9a-f]{32}", request.id)


@pytest.mark.parametrize(
    "value", ["x", "x" * 128, "01ARZ3NDEKTSV4RRFFQ69G5FAV", "Root=1-67891233-abcdef012345678912345678"]
)
def test_usual_names_are_taken(value):
    assert make(("X-Request-Id", value), make_id=RequestIds(trust=True)).id == value


def test_request_that_no_server_has_made_has_no_name():
    request = make(make_id=RequestIds())
    plain = Request(
        **{
            name: getattr(request, name)
            for name in ("method", "target", "path", "query", "version", "headers", "peer", "draining", "body")
        }
    )
    assert plain.id == ""
