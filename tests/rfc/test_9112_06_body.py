"""RFC 9112 section 6: where the body of a message ends."""

from __future__ import annotations

from ktrio import Headers, Response
from tests.rfc.clauses import clause
from tests.rfc.conftest import LETTERS
from tests.server.harness import get

CHUNKED = "Transfer-Encoding: chunked"


async def pieces(request):
    async def make():
        yield b"one"
        yield b"two"

    return Response(body=make())


def post(*fields: str, version: str = "1.1") -> bytes:
    return get("/", *fields, method="POST", version=version)


@clause("9112", "6", "Content-Length or Transfer-Encoding tell that there is a body; without both there is none")
async def test_no_framing_is_no_body(echo):
    answers = await echo.say(post() + get("/next"))
    assert [each.headers.get("x-body") for each in answers] == ["0", "0"]
    assert answers[1].headers.get("x-path") == "/next"


@clause("9112", "6", "Framing does not depend on the method")
async def test_every_method_may_have_a_body(wire):
    for method in ("GET", "HEAD", "DELETE", "OPTIONS"):
        answers = await wire.say(get("/a.txt", "Content-Length: 4", method=method) + b"ABC " + get("/sub/b.txt"))
        assert answers[1].body == b"b"


@clause("9112", "6.1", "Transfer-Encoding with Content-Length may be smuggling: refused, and the connection closed")
async def test_both_framings_are_refused(echo):
    data = post(CHUNKED, "Content-Length: 4") + b"0\r\n\r\n" + get("/smuggled")
    assert ((await echo.ask(data)).status, echo.is_over) == (400, True)


@clause("9112", "6.1", "Transfer-Encoding from HTTP/1.0 is faulty framing: the connection ends")
async def test_transfer_encoding_from_1_0_is_refused(echo):
    assert (await echo.ask(post(CHUNKED, version="1.0") + b"0\r\n\r\n")).status == 400
    assert echo.is_over


@clause("9112", "6.1", "A transfer coding that the server does not know should get 501")
async def test_unknown_coding_is_501(ask):
    assert (await ask(post("Transfer-Encoding: gzip, chunked"))).status == 501


@clause("9112", "6.1", "Chunked must not be applied more than once")
async def test_chunked_twice_is_refused(ask):
    assert (await ask(post("Transfer-Encoding: chunked, chunked") + b"0\r\n\r\n")).status == 400
    assert (await ask(post(CHUNKED, CHUNKED) + b"0\r\n\r\n")).status == 400


@clause("9112", "6.1", "The names of transfer codings are case-insensitive")
async def test_chunked_in_any_case(echo):
    assert (await echo.ask(post("Transfer-Encoding: ChunKed") + b"1\r\nx\r\n0\r\n\r\n")).body == b"x"


@clause("9112", "6.1", "Transfer-Encoding must not be sent to a client of HTTP/1.0")
async def test_no_transfer_encoding_to_1_0(wire_to):
    wire = await wire_to(pieces)
    answer = await wire.ask(get(version="1.0"))
    assert (answer.body, "transfer-encoding" in answer.headers, wire.is_over) == (b"onetwo", False, True)


@clause("9112", "6.1", "Transfer-Encoding must not be sent with a 204")
async def test_no_transfer_encoding_with_204(wire_to):
    async def handler(request):
        return Response(204)

    assert "transfer-encoding" not in (await (await wire_to(handler)).ask(get())).headers


@clause("9112", "6.1", "A handler's own Transfer-Encoding would frame the message twice, and is refused")
async def test_handler_cannot_set_the_transfer_encoding(wire_to, caplog):
    async def handler(request):
        return Response(200, Headers([("transfer-encoding", "gzip, chunked")]), b"x")

    assert (await (await wire_to(handler)).ask(get())).status == 500
    assert "Transfer-Encoding" in caplog.text


@clause("9112", "6.2", "A message with Transfer-Encoding must not have Content-Length")
async def test_chunked_answer_has_no_length(wire_to):
    answer = await (await wire_to(pieces)).ask(get())
    assert (answer.headers.get("transfer-encoding"), "content-length" in answer.headers) == ("chunked", False)


@clause("9112", "6.2", "A body of known length is framed by it")
async def test_known_length_is_sent(ask):
    answer = await ask(get("/a.txt"))
    assert (answer.headers.get("content-length"), "transfer-encoding" in answer.headers) == ("26", False)


@clause("9112", "6.3", "Responses to HEAD, and 204 and 304, end with their head, whatever their fields say")
async def test_heads_that_end_the_message(wire):
    data = get("/a.txt", method="HEAD") + get("/a.txt", "If-None-Match: *") + get("/a.txt", method="OPTIONS")
    answers = await wire.say(data + get("/a.txt"))
    assert [(each.status, each.body) for each in answers] == [(200, b""), (304, b""), (204, b""), (200, LETTERS)]


@clause("9112", "6.3", "A request whose last coding is not chunked has no certain end: 400, and closed")
async def test_chunked_that_is_not_last_is_refused(echo):
    assert (await echo.ask(post("Transfer-Encoding: chunked, identity") + b"0\r\n\r\n")).status == 400
    assert echo.is_over


@clause("9112", "6.3", "An invalid Content-Length is an unrecoverable error: 400, and closed")
async def test_invalid_length_ends_the_connection(echo):
    assert (await echo.ask(post("Content-Length: 1x") + b"a" + get("/smuggled"))).status == 400
    assert echo.is_over


@clause("9112", "6.3", "Two different lengths are an unrecoverable error: 400, and closed")
async def test_two_lengths_end_the_connection(echo):
    assert (await echo.ask(post("Content-Length: 1", "Content-Length: 2") + b"ab")).status == 400
    assert echo.is_over


@clause("9112", "6.3", "A valid Content-Length is the length of the body, to the byte")
async def test_length_is_exact(echo):
    first, second = await echo.say(post("Content-Length: 5") + b"GET /" + get("/next"))
    assert (first.body, second.headers.get("x-path")) == (b"GET /", "/next")


@clause("9112", "6.3", "A request that ends before its length has not been received: it is an error")
async def test_body_that_ends_early_is_400(echo):
    assert (await echo.ask(post("Content-Length: 5") + b"abc", fin=True)).status == 400


@clause("9112", "6.3", "A response without length and coding ends with the connection, so it says close")
async def test_answer_until_close_says_so(wire_to):
    wire = await wire_to(pieces)
    answer = await wire.ask(get("/", "Connection: keep-alive", version="1.0"))
    assert ("close" in answer.headers.tokens("connection"), wire.is_over) == (True, True)
