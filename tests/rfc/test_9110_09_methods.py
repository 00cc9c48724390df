"""RFC 9110 section 9: methods."""

from __future__ import annotations

import pytest

from tests.rfc.clauses import clause
from tests.rfc.conftest import LETTERS
from tests.server.harness import get, post


@clause("9110", "9.1", "GET and HEAD must be supported by every general-purpose server")
async def test_get_and_head_are_supported(ask):
    assert (await ask(get("/a.txt"))).status == (await ask(get("/a.txt", method="HEAD"))).status == 200


@clause("9110", "9.1", "A method that is not known should get 501")
async def test_unknown_method_is_501(ask):
    assert (await ask(get("/a.txt", method="BREW"))).status == 501


@clause("9110", "9.1", "A method that is known and not allowed for the target should get 405")
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "PROPFIND"])
async def test_known_method_that_is_not_allowed_is_405(ask, method):
    assert (await ask(get("/a.txt", method=method))).status == 405


@clause("9110", "9.1", "Methods are case-sensitive")
async def test_methods_are_case_sensitive(ask):
    assert (await ask(b"get /a.txt HTTP/1.1\r\nHost: x\r\n\r\n")).status == 501


@clause("9110", "9.2.1", "Safe methods change nothing: the same request is answered in the same way again")
async def test_same_request_gets_the_same_answer(wire):
    answers = [await wire.ask(get("/a.txt")) for _ in range(3)]
    assert {(each.status, each.body, each.headers.get("etag")) for each in answers} == {
        (200, LETTERS, answers[0].headers.get("etag"))
    }


@clause("9110", "9.3.1", "GET is answered with a current representation of the target")
async def test_get_transfers_the_representation(ask):
    assert (await ask(get("/a.txt"))).body == LETTERS


@clause("9110", "9.3.1", "Content in a GET means nothing: it must not alter the target or the response")
async def test_content_of_a_get_means_nothing(wire):
    data = get("/a.txt", "Content-Length: 5") + b"GET /" + get("/sub/b.txt")
    assert [each.body for each in await wire.say(data)] == [LETTERS, b"b"]


@clause("9110", "9.3.2", "A HEAD must not be answered with content")
async def test_head_is_answered_without_content(wire):
    await wire.say(get("/a.txt", method="HEAD"))
    assert wire.raw.endswith(b"\r\n\r\n")
    assert LETTERS not in wire.raw


@clause("9110", "9.3.2", "HEAD should get the fields that GET would have got")
async def test_head_has_the_fields_of_get(ask):
    for target in ("/a.txt", "/page.html", "/missing", "/sub", "/sub/"):
        one = [field for field in (await ask(get(target, method="HEAD"))).headers if field[0] != "date"]
        other = [field for field in (await ask(get(target))).headers if field[0] != "date"]
        assert one == other


@clause("9110", "9.3.2", "An error that answers a HEAD has no content either, be the request itself at fault")
async def test_refusal_of_a_head_has_no_content(wire):
    answer = await wire.ask(b"HEAD /a.txt HTTP/1.1\r\n\r\n")
    assert answer.status == 400
    assert wire.raw.endswith(b"\r\n\r\n")


@clause("9110", "9.3.3", "POST asks the target to process content; one that cannot says 405")
async def test_post_to_a_file_is_405_and_its_content_is_dropped(wire):
    first, second = await wire.say(post(b"GET /b", target="/a.txt") + get("/sub/b.txt"))
    assert (first.status, second.body) == (405, b"b")


@clause("9110", "9.3.4", "A PUT that is not carried out must not be answered as if it were")
async def test_put_is_405_and_changes_nothing(wire, folder):
    assert (await wire.ask(get("/a.txt", "Content-Length: 3", method="PUT") + b"new")).status == 405
    assert (folder / "a.txt").read_bytes() == LETTERS


@clause("9110", "9.3.5", "A DELETE that is not carried out must not be answered as if it were")
async def test_delete_is_405_and_changes_nothing(wire, folder):
    assert (await wire.ask(get("/a.txt", method="DELETE"))).status == 405
    assert (folder / "a.txt").exists()


@clause("9110", "9.3.6", "An origin server may refuse CONNECT; then there is no tunnel")
async def test_connect_is_refused_and_opens_no_tunnel(wire):
    answer = await wire.ask(b"CONNECT x.example:443 HTTP/1.1\r\nHost: x.example:443\r\n\r\n" + get("/a.txt"))
    assert answer.status == 501
    assert wire.is_over


@clause("9110", "9.3.7", "OPTIONS of a resource should name what can be done with it in Allow")
async def test_options_of_a_resource_names_its_methods(ask):
    answer = await ask(get("/a.txt", method="OPTIONS"))
    assert (answer.status, answer.headers.get("allow")) == (204, "GET, HEAD, OPTIONS")


@clause("9110", "9.3.7", "OPTIONS with * is about the server as a whole")
async def test_options_of_the_server(ask):
    assert (await ask(get("*", method="OPTIONS"))).status == 204


@clause("9110", "9.3.7", "Content in an OPTIONS has no meaning here, and is not taken for the next request")
async def test_content_of_options_is_dropped(wire):
    first, second = await wire.say(get("/", "Content-Length: 4", method="OPTIONS") + b"GET " + get("/a.txt"))
    assert (first.status, second.body) == (204, LETTERS)


@clause("9110", "9.3.8", "TRACE must not give back fields with secrets; nothing of a request is ever given back")
async def test_trace_is_refused_and_reflects_nothing(wire):
    assert (await wire.ask(get("/a.txt", "Cookie: secret", "X-Mine: reflect", method="TRACE"))).status == 405
    assert b"secret" not in wire.raw
    assert b"reflect" not in wire.raw
