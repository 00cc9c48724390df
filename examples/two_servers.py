# Two servers on one supervisor, one steered through the other: python examples/two_servers.py [PORT [ADMIN_PORT]]
#
#   $ curl http://127.0.0.1:8081/                      hello
#   $ curl http://127.0.0.1:8082/                      what the first one is doing
#   $ curl -X POST http://127.0.0.1:8082/suspend       from now on newcomers of the first one wait
#   $ curl -X POST http://127.0.0.1:8082/resume        and now they are answered
#
# Each has a queue, so however busy the first is, the second answers. Ctrl-C: the first drains, watched by the second.

import signal
import sys
from dataclasses import asdict
from functools import partial
from pprint import pformat

import trio

from ktrio import WQ_UNBOUND, NotFound, Request, Response, Server, open_supervisor, serve_http, url_of


async def greet(request: Request) -> Response:
    return Response(body=b"hello\n")


async def steer(public: Server, request: Request) -> Response:
    match request.method, request.path:
        case "GET", "/":
            return Response(body=f"{public!r}\n{pformat(asdict(public.statistics()))}\n".encode())
        case "POST", "/suspend":
            public.suspend()
        case "POST", "/resume":
            public.resume()
        case _:
            raise NotFound("GET / or POST /suspend or POST /resume.")
    return Response(body=f"{public!r}\n".encode())


async def main(port: int = 8081, admin_port: int = 8082) -> None:
    with trio.open_signal_receiver(signal.SIGINT) as signals:
        async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
            queues = [supervisor.alloc_workqueue(name, WQ_UNBOUND) for name in ("public", "admin")]
            public: Server = await nursery.start(partial(serve_http, greet, port, workqueue=queues[0]))
            serve_admin = partial(serve_http, partial(steer, public), admin_port, workqueue=queues[1])
            admin: Server = await nursery.start(serve_admin)
            print("for everybody at", url_of(public.addresses[0]), flush=True)
            print("to steer it at", url_of(admin.addresses[0]), flush=True)
            await anext(signals)
            await public.shutdown()
            await admin.shutdown()


trio.run(partial(main, *map(int, sys.argv[1:])))
