# Serve a folder beside another task, in one nursery: python examples/serve_folder.py [FOLDER [PORT]]
#
#   $ curl http://127.0.0.1:8081/shelf/
#   $ curl -I http://127.0.0.1:8081/shelf/evening.png
#
# The other task says what the server has done, whenever that has changed. Ctrl-C: downloads have 8 s to finish, then
# both tasks end.

import signal
import sys
from pathlib import Path

import trio

import ktrio


async def report(server: ktrio.Server) -> None:
    """The other task; any task of yours could stand here."""
    answered = 0
    while True:
        await trio.sleep(1)
        now = server.statistics()
        if now.answered != answered:
            answered = now.answered
            print(f"answered {answered}, connected {now.open}", flush=True)


async def main(folder: Path, port: int) -> None:
    # The library leaves signals alone: they are ours to turn into a shutdown.
    with trio.open_signal_receiver(signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            server: ktrio.Server = await nursery.start(ktrio.serve_http, ktrio.files(folder), port)
            nursery.start_soon(report, server)
            for address in server.addresses:
                assert isinstance(address, ktrio.TcpAddress)
                print(f"serving {folder} at http://{address.host}:{address.port}/", flush=True)
            await anext(signals)
            await server.shutdown(grace=8)
            nursery.cancel_scope.cancel()
    done = server.statistics()
    print(f"served {done.answered}, cut {done.cut}")


site = Path(__file__).parent / "site"
trio.run(main, Path(sys.argv[1]) if sys.argv[1:] else site, int(sys.argv[2]) if sys.argv[2:] else 8081)
