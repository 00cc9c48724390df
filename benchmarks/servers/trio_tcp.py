"""`trio.serve_tcp` with a constant reply, twice: reading requests with h11, and not reading them at all.

With h11 it is the loop that a Trio program without a server library would contain. Without, it only looks for the blank
line and for "close": no parser is cheaper, so this is the floor of `serve_tcp` and `SocketStream` themselves.
"""

from __future__ import annotations

import argparse
import sys

import h11
import trio
from constant import BODY, FIELDS, REPLY, keeps_open


async def converse_with_h11(stream: trio.SocketStream) -> None:
    connection = h11.Connection(h11.SERVER)
    try:
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await stream.receive_some(65536))
            elif isinstance(event, h11.EndOfMessage):
                reply = connection.send(h11.Response(status_code=200, headers=FIELDS)) or b""
                reply += connection.send(h11.Data(data=BODY)) or b""
                reply += connection.send(h11.EndOfMessage()) or b""
                await stream.send_all(reply)
                if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                    return
                connection.start_next_cycle()
            elif isinstance(event, h11.ConnectionClosed):
                return
    except (trio.BrokenResourceError, h11.RemoteProtocolError):
        return


async def converse_without_parser(stream: trio.SocketStream) -> None:
    received = b""
    try:
        async for data in stream:
            received += data
            while b"\r\n\r\n" in received:
                head, _, received = received.partition(b"\r\n\r\n")
                await stream.send_all(REPLY)
                if not keeps_open(head):
                    return
    except trio.BrokenResourceError:
        return


def main() -> None:
    parser = argparse.ArgumentParser(description=sys.modules[__name__].__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--parser", choices=("h11", "none"), required=True)
    arguments = parser.parse_args()
    converse = converse_with_h11 if arguments.parser == "h11" else converse_without_parser

    async def listen() -> None:
        await trio.serve_tcp(converse, arguments.port, host="127.0.0.1", backlog=1024)

    trio.run(listen)


main()
