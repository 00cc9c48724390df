"""RFC 9110 section 11: authentication, of which a folder for everybody needs none."""

from __future__ import annotations

from ktrio import Headers, Response
from tests.rfc.clauses import clause
from tests.rfc.conftest import LETTERS
from tests.server.harness import get


@clause("9110", "11.6.1", "A 401 carries a challenge; what a handler challenges with is sent as it is")
async def test_challenge_of_a_handler_is_sent(wire_to):
    async def handler(request):
        return Response(401, Headers([("www-authenticate", 'Basic realm="a, b"'), ("www-authenticate", "Digest")]))

    answer = await (await wire_to(handler)).ask(get())
    assert answer.headers.get_all("www-authenticate") == ['Basic realm="a, b"', "Digest"]


@clause("9110", "11.6.2", "Credentials that nobody asked for do not change what is there for everybody")
async def test_credentials_nobody_asked_for_are_ignored(ask):
    assert (await ask(get("/a.txt", "Authorization: Basic dTpw"))).body == LETTERS


@clause("9110", "11.7.2", "Proxy-Authorization is for proxies; an origin passes over it")
async def test_credentials_for_a_proxy_are_ignored(ask):
    assert (await ask(get("/a.txt", "Proxy-Authorization: Basic dTpw"))).body == LETTERS
