# A protocol of your own on a stream, here a store of words, a line each: python examples/custom_protocol.py [PORT]
#
#   $ nc 127.0.0.1 7777
#   set colour blue          ok
#   get colour               blue
#   get size                 none
#   Ctrl-C on the server     bye
#
# The handler knows nothing of deadlines, limits and shutdowns: after 300 s of silence it is cancelled, its errors cost
# its own connection, and a command that was sent before Ctrl-C is answered.

import signal
import sys

import trio

from ktrio import ConnectionStream, Server, TcpAddress, serve_stream

LONGEST = 1000  # bytes of a line

store: dict[bytes, bytes] = {}


def answer(line: bytes) -> bytes:
    match line.split(maxsplit=2):
        case [b"set", name, value]:
            store[name] = value
            return b"ok\n"
        case [b"get", name]:
            return store.get(name, b"none") + b"\n"
        case _:
            return b"? set NAME VALUE, or get NAME\n"


async def talk(stream: ConnectionStream) -> None:
    rest = b""
    while data := await stream.receive_unless_draining():
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            await stream.send_all(answer(line.strip()))
        if len(rest) > LONGEST:
            await stream.send_all(b"? too long\n")
            return
    if data is None:  # the server goes down, and the peer has said nothing more
        await stream.send_all(b"bye\n")


async def main(port: int) -> None:
    with trio.open_signal_receiver(signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            server: Server = await nursery.start(serve_stream, talk, port)
            for address in server.addresses:
                assert isinstance(address, TcpAddress)
                print(f"listening at {address.host}:{address.port}", flush=True)
            await anext(signals)
            await server.shutdown(grace=2)


trio.run(main, int(sys.argv[1]) if sys.argv[1:] else 7777)
