"""RFC 9112 section 3: request lines and targets."""

from __future__ import annotations

from tests.rfc.clauses import clause
from tests.rfc.conftest import LETTERS
from tests.server.harness import get

HOST = b"Host: x\r\n\r\n"


@clause("9112", "3", "The parts of a request line stand one space apart")
async def test_other_white_space_in_a_request_line_is_refused(ask):
    for line in (b"GET  /a.txt HTTP/1.1", b"GET\t/a.txt HTTP/1.1", b"GET /a.txt  HTTP/1.1", b"GET /a.txt HTTP/1.1 ",
                 b" GET /a.txt HTTP/1.1", b"GET /a.txt\x0bHTTP/1.1"):  # fmt: skip
        assert (await ask(line + b"\r\n" + HOST)).status == 400


@clause("9112", "3", "A request line with white space in its target should be refused, not mended")
async def test_space_in_a_target_is_refused(ask):
    assert (await ask(b"GET /a b.txt HTTP/1.1\r\n" + HOST)).status == 400
    assert (await ask(b"GET /a%20b.txt HTTP/1.1\r\n" + HOST)).body == b"space"


@clause("9112", "3", "A method longer than any a server implements should get 501")
async def test_long_method_is_501(ask):
    assert (await ask(b"M" * 200 + b" / HTTP/1.1\r\n" + HOST)).status == 501


@clause("9112", "3", "A target longer than a server will parse must get 414")
async def test_long_target_is_414_before_its_line_has_ended(wire):
    assert (await wire.ask(b"GET /" + b"a" * 9000)).status == 414


@clause("9112", "3", "A request line of 8000 octets should be supported at least")
async def test_target_of_8000_octets_is_read(ask):
    assert (await ask(get("/a.txt?" + "q" * 8000))).body == LETTERS


@clause("9112", "3.1", "A method is a token: not empty, and without separators")
async def test_method_that_is_no_token_is_refused(ask):
    for method in (b"GE(T", b"G\xc9T", b"GET:", b"", b'"GET"'):
        assert (await ask(method + b" /a.txt HTTP/1.1\r\n" + HOST)).status == 400


@clause("9112", "3.2", "An HTTP/1.1 request without Host must get a 400")
async def test_missing_host_is_400(ask):
    assert (await ask(b"GET /a.txt HTTP/1.1\r\nX: y\r\n\r\n")).status == 400


@clause("9112", "3.2", "A request with more than one Host must get a 400")
async def test_two_hosts_are_400(ask):
    assert (await ask(b"GET /a.txt HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n")).status == 400
    assert (await ask(b"GET /a.txt HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n")).status == 400


@clause("9112", "3.2", "A request whose Host is no valid value must get a 400")
async def test_invalid_host_is_400(ask):
    for host in (b"a b", b"a/b", b"http://a", b"a:b", b"a:80:80", b"[::1", b"a\\b", b"a%zz"):
        assert (await ask(b"GET /a.txt HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")).status == 400


@clause("9112", "3.2", "An empty Host is valid: it is what a target without authority is sent with")
async def test_empty_host_is_valid(ask):
    assert (await ask(b"GET /a.txt HTTP/1.1\r\nHost:\r\n\r\n")).body == LETTERS


@clause("9112", "3.2", "An HTTP/1.0 request needs no Host")
async def test_host_may_be_missing_on_1_0(ask):
    assert (await ask(b"GET /a.txt HTTP/1.0\r\n\r\n")).body == LETTERS


@clause("9112", "3.2.1", "Origin form: a path, and a query behind ?, which is no part of it")
async def test_query_is_no_part_of_the_path(ask):
    assert (await ask(get("/a.txt?/../x?y=%00"))).body == LETTERS


@clause("9112", "3.2.1", "A path is percent-decoded when it is looked up, exactly once")
async def test_path_is_decoded_once(ask):
    assert (await ask(get("/%61%2e%74xt"))).body == LETTERS
    assert (await ask(get("/%2561.txt"))).status == 404


@clause("9112", "3.2.2", "A server must accept the absolute form, though clients send it to proxies only")
async def test_absolute_form_is_accepted(ask):
    assert (await ask(get("http://x/a.txt"))).body == LETTERS
    assert (await ask(get("HTTP://x:81/a.txt?q"))).body == LETTERS


@clause("9112", "3.2.2", "The host of an absolute-form target must replace what Host says")
async def test_host_of_the_target_replaces_host(echo):
    assert (await echo.ask(get("http://target.example:81/p"))).headers.get("x-host") == "target.example:81"


@clause("9112", "3.2.2", "Host must be sent even with the absolute form, and is checked")
async def test_absolute_form_needs_host_as_well(ask):
    assert (await ask(b"GET http://x/a.txt HTTP/1.1\r\n\r\n")).status == 400


@clause("9112", "3.2.2", "An absolute form without a path means /")
async def test_absolute_form_without_path_is_the_root(echo):
    assert (await echo.ask(get("http://x"))).headers.get("x-path") == "/"
    assert (await echo.ask(get("http://x?q"))).headers.get("x-path") == "/"


@clause("9112", "3.2.2", "An absolute form of another scheme, or with a malformed authority, is not for us")
async def test_other_urls_are_refused(ask):
    for target in (
        "ftp://x/a.txt",
        "file:///a.txt",
        "http:///a.txt",
        "http://u@x/a.txt",
        "http:/a.txt",
        "a.txt",
        "\\a.txt",
    ):
        assert (await ask(get(target))).status == 400


@clause("9112", "3.2.3", "The authority form is for CONNECT only")
async def test_authority_form_is_refused_with_others(ask):
    assert (await ask(get("x:80"))).status == 400


@clause("9112", "3.2.4", "The asterisk form is for OPTIONS only")
async def test_asterisk_is_for_options(ask):
    assert (await ask(get("*"))).status == 400
    assert (await ask(get("*", method="OPTIONS"))).status == 204
