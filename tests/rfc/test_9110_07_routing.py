"""RFC 9110 section 7: for whom a request is, and the fields about connections."""

from __future__ import annotations

from ktrio import Headers, Response
from ktrio.handlers.hosts import for_hosts
from tests.rfc.clauses import clause
from tests.rfc.conftest import LETTERS
from tests.server.harness import get


@clause("9110", "7.1", "A fragment is no part of a target: it is the client's alone")
async def test_target_with_a_fragment_is_refused(ask):
    assert (await ask(get("/a.txt#part"))).status == 400


@clause("9110", "7.2", "Host is a host and an optional port; userinfo before it is an error")
async def test_userinfo_in_host_is_refused(ask):
    assert (await ask(b"GET /a.txt HTTP/1.1\r\nHost: user:pass@x\r\n\r\n")).status == 400


@clause("9110", "7.2", "A port in Host may be there, be empty, or be another than the one connected to")
async def test_port_in_host_changes_nothing(ask):
    for host in (b"x:8081", b"x:", b"x:1", b"[::1]:80"):
        assert (await ask(b"GET /a.txt HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")).body == LETTERS


@clause("9110", "7.4", "A server should refuse a request for an origin that it does not answer for, by 421")
async def test_request_for_another_origin_is_misdirected(site, wire_to):
    wire = await wire_to(for_hosts(site, ["our.example"]))
    assert (await wire.ask(get("/a.txt"))).status == 421


@clause("9110", "7.4", "A request for an origin that it answers for is answered, host names being case-insensitive")
async def test_request_for_our_origin_is_answered(site, wire_to):
    wire = await wire_to(for_hosts(site, ["our.example"]))
    assert (await wire.ask(b"GET /a.txt HTTP/1.1\r\nHost: OUR.example:81\r\n\r\n")).body == LETTERS


@clause("9110", "7.5", "Responses come in the order of their requests")
async def test_responses_come_in_order(wire):
    answers = await wire.say(get("/a.txt", "Range: bytes=0-0") + get("/missing") + get("/sub/b.txt"))
    assert [(each.status, each.body[:1]) for each in answers] == [(206, b"a"), (404, b"<"), (200, b"b")]


@clause("9110", "7.6.1", "Connection options are case-insensitive")
async def test_close_in_any_case_closes(wire):
    assert "close" in (await wire.ask(get("/a.txt", "Connection: X, CLOSE"))).headers.tokens("connection")
    assert wire.is_over


@clause("9110", "7.6.1", "Connection options that a recipient does not know are ignored")
async def test_unknown_connection_options_are_ignored(wire):
    assert (await wire.ask(get("/a.txt", "Connection: te, x-odd, Upgrade"))).body == LETTERS
    assert not wire.is_over


@clause("9110", "7.6.1", "A field that Connection names is for this hop only; an origin treats it like any other")
async def test_field_named_by_connection_still_counts_for_the_origin(ask):
    assert (await ask(get("/a.txt", "Connection: range", "Range: bytes=0-0"))).body == b"a"


@clause("9110", "7.6.1", "Fields about another hop do not pass through: a handler's are dropped")
async def test_fields_of_another_hop_are_not_sent(wire_to):
    async def handler(request):
        fields = [("keep-alive", "timeout=9"), ("proxy-connection", "keep-alive"), ("te", "gzip"), ("upgrade", "h2c")]
        return Response(200, Headers(fields), b"x")

    answer = await (await wire_to(handler)).ask(get())
    assert {"keep-alive", "proxy-connection", "te", "upgrade", "connection"}.isdisjoint(dict(answer.headers))


@clause("9110", "7.6.2", "Max-Forwards at zero makes the recipient the final one; an origin is that anyway")
async def test_max_forwards_of_zero_is_answered_here(ask):
    assert (await ask(get("*", "Max-Forwards: 0", method="OPTIONS"))).status == 204


@clause("9110", "7.6.3", "Via tells where a message has been; it does not change what is meant")
async def test_via_changes_nothing(ask):
    assert (await ask(get("/a.txt", "Via: 1.0 fred, 1.1 proxy.example"))).body == LETTERS


@clause("9110", "7.8", "A server may ignore Upgrade, and goes on in the protocol in use")
async def test_upgrade_is_ignored(wire):
    fields = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")
    assert (await wire.ask(get("/a.txt", *fields))).body == LETTERS
    assert (await wire.ask(get("/sub/b.txt"))).body == b"b"


@clause("9110", "7.8", "Upgrade in an HTTP/1.0 request must be ignored")
async def test_upgrade_from_1_0_is_ignored(ask):
    assert (await ask(get("/a.txt", "Connection: Upgrade", "Upgrade: websocket", version="1.0"))).body == LETTERS
