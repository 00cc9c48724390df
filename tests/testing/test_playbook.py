"""A playbook performs what its block says, and shows where and how the server did something else."""

from __future__ import annotations

import pytest
import trio

from ktrio import BrokenServerError, Response, ServerOptions, Timeouts
from ktrio.protocols.echo import Echo
from ktrio.testing import (
    FIN,
    NOTHING,
    READ_ON,
    RESET,
    STALL,
    Playbook,
    PlayClock,
    PlayPeer,
    PlayServer,
    ended,
    response,
)

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def handler(request):
    match request.path:
        case "/slow":
            await trio.sleep(3)
        case "/thread":
            await trio.to_thread.run_sync(lambda: None)
        case "/big":
            return Response(body=b"x" * 1_000_000)
        case "/breaks":
            return Response(body=breaks())
    return Response(body=b"hi")


async def breaks():
    yield b"one"
    raise LookupError


def get(path: bytes) -> bytes:
    return GET.replace(b"/", path, 1)


async def test_play_of_bytes_responses_time_and_the_end_passes():
    async with Playbook(handler) as (peer, server, clock):
        server << NOTHING
        peer >> GET[:10]
        server << NOTHING
        peer >> GET[10:]
        server << b"HTTP/1.1 200 OK\r\nDate: any\r\nServer: ktrio\r\nContent-Length: 2\r\n\r\nhi"
        peer >> get(b"/slow")
        clock += 2.9
        server << NOTHING
        clock += 0.1
        server << response(200, b"hi", content_length="2", transfer_encoding=None)
        peer >> get(b"/thread")
        server << response(200, b"hi")
        clock += 5.3
        server << FIN
        server << ended("idle-timeout")


async def test_pipelined_responses_are_compared_in_order():
    async with Playbook(handler) as (peer, server, _clock):
        peer >> GET + GET.replace(b"GET", b"HEAD") + GET
        server << response(200, b"hi")
        server << response(200, method="HEAD", content_length="2")
        server << b"HTTP/1.1 200 OK\r\n"
        server << b"Date: any\r\nServer: ktrio\r\nContent-Length: 2\r\n\r\nhi"


async def test_several_peers_are_told_apart():
    async with Playbook(handler) as (peer, server, clock):
        peer >> get(b"/slow")
        other = peer.another()
        other >> GET
        server[other] << response(200, b"hi")
        server << NOTHING
        third = other.another()
        third >> FIN
        server[third] << ended("peer-closed")
        clock += 3
        server << response(200, b"hi")
        server[other] << NOTHING


async def test_stalled_peer_takes_nothing_until_it_reads_on():
    async with Playbook(stream=send_much, timeouts=Timeouts(write=30)) as (peer, server, clock):
        peer >> STALL
        peer >> b"go"
        server << NOTHING
        clock += 29
        peer >> READ_ON
        server << b"x" * 300_000
        server << FIN
        server << ended("handler-returned")


async def send_much(stream):
    await stream.receive_some()
    await stream.send_all(b"x" * 300_000)


async def test_resets_of_both_sides():
    async with Playbook(handler) as (peer, server, _clock):
        peer >> RESET
        server << ended("peer-reset")
    async with Playbook(handler) as (peer, server, clock):
        peer >> STALL
        peer >> get(b"/big")
        clock += 35
        server << ended("write-timeout")
    async with Playbook(handler) as (peer, server, clock):
        peer >> get(b"/breaks")
        server << RESET
        server << ended("error")


async def test_server_is_suspended_and_shut_down():
    async with Playbook(handler) as (peer, server, clock):
        server.suspend()
        other = peer.another()
        other >> GET
        server[other] << NOTHING
        server.resume()
        server[other] << response(200, b"hi")
        peer >> get(b"/slow")
        server.begin_shutdown(grace=1)
        server[other] << FIN
        clock += 1
        server << response(503, b"503 Service Unavailable\nThe server is shutting down.\n")
        server << FIN
        server << ended("grace")


async def test_protocol_and_another_word_for_the_end():
    async with Playbook(protocol=Echo) as (peer, server, _clock):
        peer >> b"hello"
        server << b"hello"
        peer >> FIN
        server << FIN
        server << ended("peer-closed")
    async with Playbook(handler) as (peer, server, _clock):
        peer >> get(b"/slow")
        server.force_shutdown("second-signal")
        server << response(503, b"503 Service Unavailable\nThe server is shutting down.\n")
        server << FIN
        server << ended("second-signal")
    async with Playbook(protocol=Echo) as (_peer, server, _clock):
        server.cancel()
        server << ended("server-cancelled")


async def test_block_that_fails_is_not_performed():
    with pytest.raises(LookupError):  # noqa: PT012
        async with Playbook(handler) as (_peer, server, _clock):
            server << b"never compared"
            raise LookupError


async def test_error_of_the_server_comes_out_as_it_is():
    async def broken(request):
        raise LookupError

    with pytest.raises(BrokenServerError):  # noqa: PT012
        async with Playbook(broken, options=ServerOptions(max_errors=1)) as (peer, server, clock):
            peer >> GET
            server << response(500, b"500 Internal Server Error\nThe server met an unexpected error.\n")
            clock += 10
            server << FIN


# -- Failures


async def fail(write) -> str:
    with pytest.raises(AssertionError) as failure:
        async with Playbook(handler) as play:
            write(*play)
    return str(failure.value)


async def test_failure_shows_the_play_the_step_and_a_diff():
    def write(peer, server, clock):
        peer >> GET
        server << b"HTTP/1.1 200 OK\r\nDate: any\r\nServer: ktrio\r\nContent-Length: 3\r\n\r\nho!"
        clock += 5

    assert await fail(write) == "\n".join(
        [
            "the play failed at step 3: other bytes came",
            "",
            "      1 peer connects",
            r"      2 peer >> b'GET / HTTP/1.1\r\nHost: x\r\n\r\n'",
            r"  >   3 server << b'HTTP/1.1 200 OK\r\nDate: any\r\nServer: ktrio\r\nContent-Length: 3\r\n\r\nho!'",
            "      4 clock += 5",
            "",
            "  - expected, + came",
            r"    b'HTTP/1.1 200 OK\r\n'",
            r"    b'Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n'",
            r"    b'Server: ktrio\r\n'",
            r"  - b'Content-Length: 3\r\n'",
            r"  + b'Content-Length: 2\r\n'",
            r"    b'\r\n'",
            "  - b'ho!'",
            "  + b'hi'",
        ]
    )


@pytest.mark.parametrize(
    ("write", "sentence"),
    [
        (lambda peer, server, clock: server << b"hello", "step 2: no bytes came"),
        (lambda peer, server, clock: peer >> GET, "the end: peer got what no step says: more bytes came"),
        (lambda peer, server, clock: peer >> FIN, "the end: peer got what no step says: the connection ended with FIN"),
        (lambda peer, server, clock: server << FIN, "step 2: the connection is open"),
        (lambda peer, server, clock: server << RESET, "step 2: the connection is open"),
        (lambda peer, server, clock: server << ended("grace"), "step 2: the connection has not ended"),
        (lambda peer, server, clock: [peer >> FIN, server << ended("grace")], "has ended as 'peer-closed'"),
        (lambda peer, server, clock: [peer >> FIN, server << RESET], "step 3: FIN came"),
        (lambda peer, server, clock: [peer >> FIN, server << NOTHING], "step 3: the connection ended with FIN"),
        (lambda peer, server, clock: [peer >> GET, server << NOTHING], "step 3: more bytes came"),
        (lambda peer, server, clock: [peer >> GET, server << b"HTTP/1.1 200"], "step 3: more bytes came"),
        (lambda peer, server, clock: [peer >> GET, server << response(404, b"hi")], "step 3: the status is 200"),
        (lambda peer, server, clock: [peer >> GET, server << response(200, b"ho")], "step 3: the body is another one"),
        (lambda peer, server, clock: server << response(200), "step 2: there is no whole response"),
        (
            lambda peer, server, clock: [peer >> GET, server << response(200, b"hi", vary="x")],
            "step 3: the header vary is not there",
        ),
        (
            lambda peer, server, clock: [peer >> STALL, peer >> FIN, server << NOTHING, peer >> b"x"],
            "step 5: the peer could not send, because the connection is over",
        ),
        (
            lambda peer, server, clock: [peer >> FIN, peer >> b"x", server << FIN],
            "step 3: the peer could not send, because the connection is over",
        ),
    ],
)
async def test_what_else_can_go_wrong_is_said_in_a_sentence(write, sentence):
    assert sentence in (await fail(write)).splitlines()[0]


async def test_long_diffs_and_long_steps_are_cut():
    def write(peer, server, clock):
        peer >> get(b"/big")
        server << response(200, b"x" * 900_000 + b"y" * 100_000)

    said = await fail(write)
    assert len(said.splitlines()) < 60
    assert max(map(len, said.splitlines())) < 130
    assert "lines are the same)" in said


async def test_what_makes_no_sense_is_refused_where_it_stands():
    async with Playbook(handler) as (peer, server, clock):
        assert (type(peer), type(server), type(clock)) == (PlayPeer, PlayServer, PlayClock)
        with pytest.raises(TypeError, match="cannot do NOTHING"):
            peer >> NOTHING
        with pytest.raises(TypeError, match="not STALL"):
            server << STALL
        with pytest.raises(TypeError, match="not 'text'"):
            server << "text"
        with pytest.raises(ValueError, match="-1"):
            clock += -1
    with pytest.raises(TypeError, match="exactly one"):
        Playbook(handler, protocol=Echo)


def test_virtual_time_is_needed():
    async def main():
        async with Playbook(handler):
            pass

    with pytest.raises(RuntimeError, match="MockClock"):
        trio.run(main)
