# Tests of a handler: the real server in memory and in virtual time, so that a minute takes no time.
#
#   $ pip install pytest pytest-trio
#   $ pytest examples/test_my_handler.py
#
# (Elsewhere, put trio_mode = true into pytest's settings, or mark each test with pytest.mark.trio.)
# Then break the handler and look at what the tests say: let it sleep for 61 s, or catch BaseException around the sleep,
# or answer HEAD with a 405.

# pyright: reportUnusedExpression=false, reportMatchNotExhaustive=false

import trio
from trio.testing import MockClock

from ktrio import Headers, Request, Response
from ktrio.testing import FIN, NOTHING, Playbook, SampleRequest, check_handler, ended, response, serve_in_memory


async def my_handler(request: Request) -> Response:
    match request.method, request.path:
        case "GET" | "HEAD", "/slow":
            await trio.sleep(60)
            return Response(headers=Headers({"Content-Type": "text/plain"}), body=b"at last\n")
        case "POST", "/words":
            return Response(body=b"%d\n" % len((await request.read()).split()))
    return Response(404)


async def test_words_are_counted(mock_clock: MockClock) -> None:
    async with serve_in_memory(my_handler) as server:
        assert (await server.request("POST", "/words", body=b"so many words")).body == b"3\n"


async def test_slow_answer_takes_a_minute_of_virtual_time(autojump_clock: MockClock) -> None:
    async with serve_in_memory(my_handler) as server:
        before = trio.current_time()
        assert (await server.request("GET", "/slow")).status == 200
        assert trio.current_time() - before == 60


async def test_conversation_goes_like_this(mock_clock: MockClock) -> None:
    async with Playbook(my_handler) as (peer, server, clock):
        peer >> b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"
        clock += 59
        server << NOTHING
        clock += 1
        server << response(200, b"at last\n", content_type="text/plain")
        clock += 5.3
        server << FIN
        server << ended("idle-timeout")


async def test_handler_keeps_the_rules(mock_clock: MockClock) -> None:
    words = SampleRequest("POST", "/words", body=b"so many words")
    await check_handler(lambda: my_handler, "/slow", "/lost", words, patience=100, grace=70)
