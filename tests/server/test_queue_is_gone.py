"""A server whose queue takes nothing any more does not pretend to serve: it says so, at the start or in the end."""

from __future__ import annotations

from functools import partial

import pytest
import trio

import ktrio
from ktrio import Response
from ktrio.workqueue import DestroyedError, DrainingError, WorkqueueError
from tests.server.harness import settle
from tests.server.streams import MemoryListener, receive_all


async def handler(request):
    if request.target == "/block":
        await trio.sleep_forever()
    return Response(body=b"hello")


async def stream_handler(stream):
    await stream.send_all(b"hello")


SERVE = {
    "http": partial(ktrio.serve_http, handler),
    "stream": partial(ktrio.serve_stream, stream_handler),
    "echo": ktrio.serve_echo,
}
every_serve = pytest.mark.parametrize("serve", SERVE.values(), ids=SERVE)


class NotStarted:
    def started(self, server):
        raise AssertionError("it has started")


def flat(error):
    return pytest.RaisesGroup(error, flatten_subgroups=True, allow_unwrapped=True)


@every_serve
async def test_server_on_a_destroyed_queue_does_not_start(serve):
    listener = MemoryListener()
    async with ktrio.open_supervisor() as supervisor:
        queue = supervisor.alloc_workqueue("shared", ktrio.WQ_UNBOUND)
        await queue.destroy()
        with pytest.raises(DestroyedError, match="shared"):
            await serve(listener, workqueue=queue, task_status=NotStarted())
    assert listener.closed == 1


async def test_server_on_a_draining_queue_does_not_start(servers):
    listener, gate = MemoryListener(), trio.Event()
    async with ktrio.open_supervisor() as supervisor, trio.open_nursery() as nursery:
        queue = supervisor.alloc_workqueue("shared", ktrio.WQ_UNBOUND)
        queue.queue_work(ktrio.Work(gate.wait))
        nursery.start_soon(queue.drain)
        await settle()
        with pytest.raises(DrainingError, match="shared"):
            await ktrio.serve_http(handler, listener, workqueue=queue, task_status=NotStarted())
        gate.set()
    assert listener.closed == 1


async def test_server_on_a_queue_whose_supervisor_was_left_does_not_start():
    listener = MemoryListener()
    async with ktrio.open_supervisor() as supervisor:
        queue = supervisor.alloc_workqueue("shared", ktrio.WQ_UNBOUND)
    with pytest.raises(WorkqueueError):
        await ktrio.serve_http(handler, listener, workqueue=queue, task_status=NotStarted())
    assert listener.closed == 1


@pytest.mark.parametrize("where", ["socket", "stream"])
async def test_server_whose_queue_is_destroyed_gives_up_and_raises_why(connect, where, caplog):
    """In the end; the client in whom it learnt of it is closed."""
    listener = MemoryListener()
    addresses = [listener] if where == "stream" else ["127.0.0.1:0"]
    async with ktrio.open_supervisor() as supervisor:
        queue = supervisor.alloc_workqueue("shared", ktrio.WQ_UNBOUND)
        with flat(DestroyedError):
            async with trio.open_nursery() as nursery:
                server = await nursery.start(partial(ktrio.serve_http, handler, *addresses, workqueue=queue))
                await settle()
                await queue.destroy()
                if where == "stream":
                    peer = listener.connect()
                    assert await receive_all(peer) == b""
                else:
                    client = await connect(server)
                    assert await client.read_to_end() == b""
                await server.wait_ended()
    assert isinstance(server.broken, DestroyedError)
    assert server.statistics().open == 0
    assert {stream.closed for stream in listener.accepted} <= {1}
    assert len([each for each in caplog.records if "nobody can be served" in each.getMessage()]) == 1


async def test_server_that_is_told_to_stop_before_it_learns_that_its_queue_is_gone_returns(servers):
    listener = MemoryListener()
    async with ktrio.open_supervisor() as supervisor:
        queue = supervisor.alloc_workqueue("shared", ktrio.WQ_UNBOUND)
        async with trio.open_nursery() as nursery:
            server = await nursery.start(partial(ktrio.serve_http, handler, listener, workqueue=queue))
            await settle()
            await queue.destroy()
            peer = listener.connect()
            server.begin_shutdown()
    assert server.broken is None
    assert await receive_all(peer) == b""
