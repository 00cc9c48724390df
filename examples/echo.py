# TCP echo, every byte comes back: python examples/echo.py [PORT]
#
#   $ curl telnet://127.0.0.1:12345           type something; Ctrl-C ends it
#   $ echo hello | nc -N 127.0.0.1 12345      says that its last byte is sent, and still gets everything back
#
# Ctrl-C ends the server when the bytes that it has in hand are out.

import signal
import sys

import trio

import ktrio


async def main(port: int) -> None:
    # The library leaves signals alone: they are ours to turn into a shutdown.
    with trio.open_signal_receiver(signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            server: ktrio.Server = await nursery.start(ktrio.serve_echo, port)
            for address in server.addresses:
                assert isinstance(address, ktrio.TcpAddress)
                print(f"echoing at {address.host}:{address.port}", flush=True)
            await anext(signals)
            await server.shutdown(grace=2)


trio.run(main, int(sys.argv[1]) if sys.argv[1:] else 12345)
