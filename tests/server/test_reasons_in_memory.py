"""Every reason and every deadline once more, as a play on connections in memory: the other road is `test_reasons`."""

from __future__ import annotations

import pytest
import trio

from ktrio import Limits, Response, ServerOptions
from ktrio.testing import FIN, NOTHING, RESET, STALL, Playbook, ended, response
from tests.server.harness import GET, LATE, get
from tests.server.reasons import TIMEOUTS, assert_complete, seconds

UPLOAD = get("/", "Content-Length: 5", method="POST")
REFUSED_UPLOAD = get("/refuse", "Content-Length: 1000000", method="POST")
STALLED = b"408 Request Timeout\nThe body of the request did not come in time.\n"
GOING_DOWN = b"503 Service Unavailable\nThe server is shutting down.\n"


async def handler(request):
    match request.path:
        case "/block":
            await trio.sleep_forever()
        case "/fail":
            return Response(body=failing())
        case "/big":
            return Response(body=b"x" * 1_000_000)
        case "/refuse":
            return Response(403)
        case "/refuse-at-last":
            await request.draining.wait()
            return Response(403)
    return Response(body=await request.read())


async def failing():
    yield b"some"
    raise ValueError("on the way")


async def at_once(stream):
    await stream.send_all(b"hello")


# -- The reasons: each play ends with its own


def leaves_between_requests(peer, server, clock):
    peer >> GET
    server << response(200)
    peer >> FIN
    server << FIN


def leaves_without_a_word(peer, server, clock):
    peer >> FIN
    server << FIN


def resets_between_requests(peer, server, clock):
    peer >> GET
    server << response(200)
    peer >> RESET


def resets_at_work(peer, server, clock):
    peer >> get("/block")
    server << NOTHING
    peer >> RESET


def asks_to_close(peer, server, clock):
    peer >> get("/", "Connection: close")
    server << response(200, connection="close")
    server << FIN


def gets_a_greeting(peer, server, clock):
    server << b"hello"
    server << FIN


def asks_three_times(peer, server, clock):
    for connection in (None, None, "close"):
        peer >> GET
        server << response(200, connection=connection)
    server << FIN


def sends_garbage(peer, server, clock):
    peer >> b"\x16\x03\x01\r\n\r\n"
    server << response(400, b"400 Bad Request\nThis port speaks HTTP, not HTTPS.\n")
    server << FIN
    peer >> FIN


def says_nothing(peer, server, clock):
    clock += seconds("head") + LATE
    server << FIN


def is_idle(peer, server, clock):
    peer >> GET
    server << response(200)
    clock += seconds("idle") + LATE
    server << FIN


def stalls_its_body(peer, server, clock):
    peer >> UPLOAD
    clock += seconds("body") + LATE
    server << response(408, STALLED)
    server << FIN
    peer >> FIN


def stalls_its_answer(peer, server, clock):
    peer >> STALL
    peer >> get("/big")
    clock += seconds("write") + LATE + 2


def half_closes_and_waits(peer, server, clock):
    peer >> get("/block")
    peer >> FIN
    server << NOTHING
    clock += seconds("half-closed") + LATE
    server << RESET


def makes_room(peer, server, clock):
    peer >> GET
    server << response(200)
    clock += 1
    other = peer.another()
    other >> GET
    server[other] << response(200)
    server << FIN


def is_idle_at_the_shutdown(peer, server, clock):
    peer >> GET
    server << response(200)
    server.begin_shutdown()
    server << FIN


def outlasts_the_grace(peer, server, clock):
    peer >> get("/block")
    server.begin_shutdown(grace=2)
    clock += 1.9
    server << NOTHING
    clock += 0.1
    server << response(503, GOING_DOWN)
    server << FIN


def is_forced(peer, server, clock):
    peer >> get("/block")
    server.begin_shutdown()
    server << NOTHING
    server.force_shutdown("second-signal")
    server << response(503, GOING_DOWN)
    server << FIN


def is_cancelled(peer, server, clock):
    peer >> get("/block")
    server.cancel()
    server << response(503, GOING_DOWN)
    server << FIN


def gets_a_broken_stream(peer, server, clock):
    peer >> get("/fail")
    server << RESET


PLAYS = [
    (leaves_between_requests, "peer-closed"),
    (leaves_without_a_word, "peer-closed"),
    (resets_between_requests, "peer-reset"),
    (resets_at_work, "client-gone"),
    (asks_to_close, "answered"),
    (gets_a_greeting, "handler-returned"),
    (asks_three_times, "max-requests"),
    (sends_garbage, "bad-request"),
    (says_nothing, "head-timeout"),
    (is_idle, "idle-timeout"),
    (stalls_its_body, "body-timeout"),
    (stalls_its_answer, "write-timeout"),
    (half_closes_and_waits, "half-closed-timeout"),
    (makes_room, "made-room"),
    (is_idle_at_the_shutdown, "draining"),
    (outlasts_the_grace, "grace"),
    (is_forced, "second-signal"),
    (is_cancelled, "server-cancelled"),
    (gets_a_broken_stream, "error"),
]


@pytest.mark.parametrize(("play", "reason"), PLAYS, ids=lambda value: getattr(value, "__name__", value))
async def test_connection_ends_with_the_reason_of_its_play(play, reason):
    if play is gets_a_greeting:
        book = Playbook(stream=at_once, timeouts=TIMEOUTS)
    else:
        options = ServerOptions(max_connections=1) if play is makes_room else None
        book = Playbook(handler, options=options, timeouts=TIMEOUTS, limits=Limits(requests_per_connection=3))
    async with book as (peer, server, clock):
        play(peer, server, clock)
        server << ended(reason)


# -- The deadlines: what goes on at the last moment before each, and what is over a moment later


def head_is_awaited(peer, server, clock):
    peer >> GET[:8]
    clock += seconds("head") - 0.01
    server << NOTHING
    clock += 0.01 + LATE
    server << response(408, b"408 Request Timeout\nThe head of the request did not come in time.\n")
    server << FIN
    peer >> FIN
    server << ended("head-timeout")


def next_request_is_awaited(peer, server, clock):
    peer >> GET
    server << response(200)
    clock += seconds("idle") - 0.01
    server << NOTHING
    clock += 0.01 + LATE
    server << FIN
    server << ended("idle-timeout")


def body_is_awaited(peer, server, clock):
    peer >> UPLOAD
    clock += seconds("body") - 0.01
    server << NOTHING
    clock += 0.01 + LATE
    server << response(408, STALLED)
    server << FIN
    peer >> FIN
    server << ended("body-timeout")


def reader_is_awaited(peer, server, clock):
    peer >> STALL
    peer >> get("/big")
    clock += seconds("write") - 0.01
    peer >> b"open still"
    clock += 0.01 + LATE + 2
    server << ended("write-timeout")


def response_is_awaited_after_a_half_close(peer, server, clock):
    peer >> get("/block")
    peer >> FIN
    clock += seconds("half-closed") - 0.01
    server << NOTHING
    clock += 0.01 + LATE
    server << RESET
    server << ended("half-closed-timeout")


def fin_is_awaited(peer, server, clock):
    peer >> REFUSED_UPLOAD
    server << response(403)
    server << FIN
    clock += seconds("linger") - 0.01
    peer >> b"open still"
    clock += 0.01 + LATE
    server << ended("answered")


def fin_is_awaited_for_less_at_a_shutdown(peer, server, clock):
    peer >> REFUSED_UPLOAD.replace(b"/refuse", b"/refuse-at-last")
    server << NOTHING
    server.begin_shutdown()
    server << response(403)
    server << FIN
    clock += seconds("linger-draining") - 0.01
    peer >> b"open still"
    clock += 0.01 + LATE
    server << ended("draining")


def last_words_take_no_longer_than_that(peer, server, clock):
    """Behind the 408 it lingers; but the whole goodbye has its own, shorter deadline."""
    peer >> UPLOAD
    clock += seconds("body") + LATE
    server << response(408, STALLED)
    server << FIN
    clock += seconds("farewell") - LATE - 0.01
    peer >> b"more"
    clock += 0.01 + LATE
    server << ended("body-timeout")


DEADLINE_PLAYS = {
    "head": head_is_awaited,
    "idle": next_request_is_awaited,
    "body": body_is_awaited,
    "write": reader_is_awaited,
    "half-closed": response_is_awaited_after_a_half_close,
    "linger": fin_is_awaited,
    "linger-draining": fin_is_awaited_for_less_at_a_shutdown,
    "farewell": last_words_take_no_longer_than_that,
}


@pytest.mark.parametrize("deadline", DEADLINE_PLAYS)
async def test_deadline_strikes_in_time_and_not_before(deadline):
    async with Playbook(handler, timeouts=TIMEOUTS) as (peer, server, clock):
        DEADLINE_PLAYS[deadline](peer, server, clock)


def test_no_reason_and_no_deadline_is_missing_on_this_road():
    assert_complete({reason for _, reason in PLAYS}, set(DEADLINE_PLAYS))
