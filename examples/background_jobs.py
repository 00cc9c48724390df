# Jobs behind a server, on a workqueue of their own: python examples/background_jobs.py [PORT]
#
#   $ curl -id 5 http://127.0.0.1:8081/        202: a job of five steps was queued, it is /0
#   $ curl http://127.0.0.1:8081/0             running, 2 of 5 steps
#   $ curl -id many http://127.0.0.1:8081/     /1 will fail, and everybody else goes on
#
# Two jobs run at a time, the others wait in order. Ctrl-C: the server drains, then the queue has 30 s to do the same.

import signal
import sys
from functools import partial

import trio

import ktrio
from ktrio import WQ_UNBOUND, Request, Response, Server, Work, Workqueue

progress: dict[str, str] = {}  # of each job, by its path


async def work_off(path: str, order: bytes) -> None:
    for step in range(steps := int(order)):
        progress[path] = f"running, {step} of {steps} steps"
        await trio.sleep(0.5)
    progress[path] = "done"


def note_failure(work: Work, error: Exception) -> None:
    progress[work.name] = f"failed, {error}"


async def handle(jobs: Workqueue, request: Request) -> Response:
    if request.method == "POST":
        order, path = await request.read(max_bytes=100), f"/{len(progress)}"
        progress[path] = "waiting"
        jobs.queue_work(Work(work_off, path, order, name=path))
        return Response(202, ktrio.Headers({"Location": path}), f"{path}\n".encode())
    if request.path not in progress:
        raise ktrio.NotFound("There is no such job.")
    return Response(body=f"{progress[request.path]}\n".encode())


async def main(port: int) -> None:
    with trio.open_signal_receiver(signal.SIGINT) as signals, trio.CancelScope() as patience:
        async with ktrio.open_supervisor() as supervisor:
            web = supervisor.alloc_workqueue("web", WQ_UNBOUND)
            jobs = supervisor.alloc_workqueue("jobs", WQ_UNBOUND, max_active=2, on_error=note_failure)
            serve = partial(ktrio.serve_http, partial(handle, jobs), port, workqueue=web)
            async with trio.open_nursery() as nursery:
                server: Server = await nursery.start(serve)
                print("listening at", ktrio.url_of(server.addresses[0]), flush=True)
                await anext(signals)
                await server.shutdown()
            print("jobs left:", jobs.in_flight, flush=True)
            patience.deadline = trio.current_time() + 30  # leaving the supervisor waits for them
    print("jobs done:", list(progress.values()).count("done"))


trio.run(main, int(sys.argv[1]) if sys.argv[1:] else 8081)
