"""RFC 9112 section 9: connections."""

from __future__ import annotations

from ktrio import Headers, Limits, Response
from tests.rfc.clauses import clause
from tests.rfc.conftest import LETTERS
from tests.server.harness import get


def says_close(answer) -> bool:
    return "close" in answer.headers.tokens("connection")


@clause("9112", "9.3", "Connections persist by default in HTTP/1.1, and nothing need be said of it")
async def test_connection_persists(wire):
    for _ in range(3):
        assert "connection" not in (await wire.ask(get("/a.txt"))).headers
    assert not wire.is_over


@clause("9112", "9.3", "Connection: close ends the connection behind the response")
async def test_close_ends_the_connection(wire):
    assert says_close(await wire.ask(get("/a.txt", "Connection: close")))
    assert wire.is_over


@clause("9112", "9.3", "An HTTP/1.0 connection does not persist")
async def test_1_0_closes(wire):
    await wire.ask(get("/a.txt", version="1.0"))
    assert wire.is_over


@clause("9112", "9.3", "An HTTP/1.0 connection persists if the client asks for keep-alive, and is told so")
async def test_1_0_may_ask_to_stay(wire):
    for _ in range(2):
        answer = await wire.ask(get("/a.txt", "Connection: Keep-Alive", version="1.0"))
        assert answer.headers.tokens("connection") == ["keep-alive"]
    assert not wire.is_over


@clause("9112", "9.3", "close wins over keep-alive")
async def test_close_wins(wire):
    assert says_close(await wire.ask(get("/a.txt", "Connection: keep-alive, close")))
    assert wire.is_over


@clause("9112", "9.3", "A server must read the whole body of a request, or close behind its response")
async def test_body_nobody_reads_is_read_or_ends_the_connection(wire):
    first, second = await wire.say(get("/a.txt", "Content-Length: 100") + b"x" * 100 + get("/sub/b.txt"))
    assert (first.body, second.body) == (LETTERS, b"b")
    answer = await wire.ask(get("/a.txt", "Content-Length: 1000000"))
    assert says_close(answer)
    assert wire.is_over


@clause("9112", "9.3", "Every message on a persistent connection has a length of its own")
async def test_answers_on_one_connection_are_told_apart(wire):
    targets = ["/a.txt", "/missing", "/empty.bin", "/sub", "/", "/long.bin", "/a.txt"]
    answers = await wire.say(b"".join(get(target) for target in targets))
    assert [each.status for each in answers] == [200, 404, 200, 301, 200, 200, 200]
    assert answers[-1].body == LETTERS


@clause("9112", "9.3.2", "Pipelined requests must be answered in the order in which they came")
async def test_pipelined_requests_are_answered_in_order(wire):
    data = b"".join(get("/a.txt", f"Range: bytes={at}-{at}") for at in range(26))
    assert b"".join(each.body for each in await wire.say(data)) == LETTERS


@clause("9112", "9.3.2", "What is pipelined behind a request that closes is not answered")
async def test_nothing_is_answered_behind_a_close(wire):
    assert len(await wire.say(get("/a.txt", "Connection: close") + get("/sub/b.txt"))) == 1
    assert wire.is_over


@clause("9112", "9.5", "A server that closes an idle connection does so without an answer to nobody's question")
async def test_idle_connection_is_closed_in_silence(wire):
    await wire.ask(get("/a.txt"))
    await wire.memory.advance(6)
    assert (await wire.read(), wire.stream.ended) == ([], "fin")


@clause("9112", "9.5", "A response may be sent before the request has come whole; then it is the last word or reads on")
async def test_early_answer_says_whether_it_reads_on(wire):
    answer = await wire.ask(get("/a.txt", "Content-Length: 10", method="POST") + b"12345")
    assert (answer.status, says_close(answer)) == (405, False)
    assert await wire.say(b"67890") == []
    assert (await wire.ask(get("/a.txt"))).body == LETTERS


@clause("9112", "9.6", "A server that will close should say so in its last response")
async def test_last_answer_of_a_connection_says_close(site, wire_to):
    wire = await wire_to(site, limits=Limits(requests_per_connection=2))
    assert [says_close(each) for each in await wire.say(get("/a.txt") * 3)] == [False, True]


@clause("9112", "9.6", "A response that a handler closes behind says close")
async def test_handler_may_close(wire_to):
    async def handler(request):
        return Response(200, Headers([("connection", "close")]))

    wire = await wire_to(handler)
    assert says_close(await wire.ask(get()))
    assert wire.is_over


@clause("9112", "9.6", "A server closes in two steps: it ends its side, reads on for a while, then closes")
async def test_refusal_is_not_destroyed_by_what_is_still_being_sent(wire):
    [answer] = await wire.say(b"GET / HTTP/1.1\r\n\r\n" + b"x" * 10_000)
    assert (answer.status, wire.stream.ended) == (400, "fin")
    await wire.stream.send_all(b"y" * 10_000)  # still read, so that nothing resets the answer away


@clause("9112", "9.6", "What has been sent behind a refusal is not taken for a request")
async def test_nothing_is_read_behind_a_refusal(wire):
    assert len(await wire.say(b"BAD\r\n\r\n" + get("/a.txt"))) == 1
    assert LETTERS not in wire.raw


@clause("9112", "9.6", "A client that has ended its side is answered all the same")
async def test_half_closed_client_is_answered(wire):
    assert (await wire.ask(get("/a.txt"), fin=True)).body == LETTERS
