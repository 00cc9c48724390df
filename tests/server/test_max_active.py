"""`max_active` limits handlers at work, never slow or idle peers."""

from __future__ import annotations

import pytest
import trio

import ktrio
from ktrio import QueueOptions, Response
from tests.server.harness import GET, get, post, settle

pytestmark = pytest.mark.exhaustive

ONE = QueueOptions(max_active=1, capacity=1)


class Counting:
    """A handler that counts how many of it are at work; `/gate` waits there."""

    def __init__(self) -> None:
        self.gate = trio.Event()
        self.at_work = 0
        self.most = 0
        self.begun: list[str] = []

    async def __call__(self, request):
        self.begun.append(request.target)
        self.at_work += 1
        self.most = max(self.most, self.at_work)
        if request.target.startswith("/gate"):
            await self.gate.wait()
        await trio.lowlevel.checkpoint()
        self.at_work -= 1
        return Response(body=await request.read() or b"answer")


@pytest.mark.parametrize(("options", "most"), [({"max_active": 3}, 3), ({"max_active": 2, "cpus": 2}, 4)])
async def test_no_more_handlers_are_at_work_than_allowed(start_http, connect, options, most):
    """It counts for each simulated CPU."""
    handler = Counting()
    server = await start_http(handler, queue=QueueOptions(**options))
    clients = [await connect(server) for _ in range(20)]
    for client in clients:
        await client.send(get("/gate"))
    await settle()
    assert handler.at_work == most
    handler.gate.set()
    for client in clients:
        assert (await client.read_reply()).body == b"answer"
    assert handler.most == most


async def test_requests_get_their_slots_in_the_order_of_their_coming(start_http, connect):
    handler = Counting()
    server = await start_http(handler, queue=ONE)
    clients = [await connect(server) for _ in range(10)]
    expected = []
    for index, client in enumerate(clients):
        await client.send(get(f"/gate{index}"))
        expected.append(f"/gate{index}")
        await settle()
    handler.gate.set()
    for client in clients:
        await client.read_reply()
    assert handler.begun == expected


def enough_descriptors(count: int) -> None:
    """Both ends of each connection are ours."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * count + 200
    if soft < needed:
        pytest.skip(f"needs {needed} descriptors, and the limit is {soft} of {hard}")


@pytest.mark.parametrize("count", [300, pytest.param(2000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("begun", [b"", GET, GET[:10]], ids=["silent", "idle", "half-a-head"])
async def test_request_beside_idle_connections_is_answered(start_http, connect, count, begun):
    """With room for one handler; idle and slow peers take none."""
    enough_descriptors(count)
    server = await start_http(Counting(), queue=ONE, options=ktrio.ServerOptions(max_connections=5000))
    idle = [await connect(server) for _ in range(count)]
    for client in idle:
        if begun:
            await client.send(begun)
        if begun == GET:
            await client.read_reply()
    await settle()
    newcomer = await connect(server)
    for _ in range(3):
        assert (await newcomer.ask()).body == b"answer"
    assert server.statistics().open == count + 1
    assert (await idle[0].ask(get("/again") if begun != GET[:10] else GET[10:])).status == 200


async def test_slow_readers_of_a_file_take_no_slot(start_http, connect, tmp_path):
    """No handler code runs while a file goes out."""
    with (tmp_path / "big").open("wb") as file:
        file.truncate(64 << 20)
    (tmp_path / "small").write_bytes(b"small")
    server = await start_http(ktrio.files(tmp_path), queue=ONE)
    readers = [await connect(server, receive_buffer=4096) for _ in range(30)]
    for client in readers:
        await client.send(get("/big"))
    await settle()
    newcomer = await connect(server)
    for _ in range(5):
        assert (await newcomer.ask(get("/small"))).body == b"small"
        for client in readers[:3]:
            await client.read(10_000)
    assert server.statistics().open == 31


async def test_slow_readers_of_buffered_answers_take_no_slot(start_http, connect):
    async def handler(request):
        return Response(body=b"x" * (16 << 20) if request.target == "/big" else b"small")

    server = await start_http(handler, queue=ONE)
    for _ in range(5):
        client = await connect(server, receive_buffer=4096)
        await client.send(get("/big"))
    await settle()
    newcomer = await connect(server)
    for _ in range(3):
        assert (await newcomer.ask()).body == b"small"


@pytest.mark.parametrize("kind", ["iterable", "writer"])
async def test_slow_readers_of_streamed_answers_take_no_slot(start_http, connect, kind):
    async def iterate():
        while True:
            yield b"x" * 100_000

    async def write(send):
        while True:
            await send(b"x" * 100_000)

    async def handler(request):
        if request.target == "/":
            return Response(body=b"small")
        return Response(body=iterate() if kind == "iterable" else write)

    server = await start_http(handler, queue=ONE)
    for _ in range(5):
        client = await connect(server, receive_buffer=4096)
        await client.send(get("/big"))
    await settle()
    newcomer = await connect(server)
    for _ in range(3):
        assert (await newcomer.ask()).body == b"small"


async def test_streamed_answer_comes_back_from_a_slow_reader_past_those_who_wait_for_its_lock(start_http, connect):
    """Parking that insists (P9): in line for a slot it would wait for those who wait for it."""
    lock = trio.Lock()

    async def write(send):
        async with lock:
            for _ in range(200):
                await send(b"x" * 100_000)

    async def handler(request):
        if request.target == "/big":
            return Response(body=write)
        async with lock:
            return Response(body=b"small")

    server = await start_http(handler, queue=ONE)
    slow, other = await connect(server, receive_buffer=4096), await connect(server)
    await slow.send(get("/big"))
    await settle()
    await other.send(GET)
    await settle()
    assert len((await slow.read_reply()).body) == 200 * 100_000
    assert (await other.read_reply()).body == b"small"


async def test_slow_senders_of_a_body_take_no_slot(start_http, connect):
    """Waiting for a peer's bytes is waiting for the outside world."""
    server = await start_http(Counting(), queue=ONE)
    senders = [await connect(server) for _ in range(5)]
    for client in senders:
        await client.send(post(b"slow body")[:-4])
    await settle()
    assert (await (await connect(server)).ask()).body == b"answer"
    for client in senders:
        await client.send(b"body")
        assert (await client.read_reply()).body == b"slow body"


async def test_slot_of_a_peer_that_is_gone_is_given_back(start_http, connect):
    """At work or waiting: whoever leaves leaves nothing taken."""
    handler = Counting()
    server = await start_http(handler, queue=ONE)
    clients = [await connect(server) for _ in range(6)]
    for client in clients:
        await client.send(get("/gate"))
        await settle()
    for client in clients:
        client.reset()
        await settle()
    assert (await (await connect(server)).ask()).body == b"answer"
    assert server.statistics().open == 1


async def test_connections_are_dealt_to_all_cpus(start_http, connect):
    """Round robin: two handlers at once on two CPUs with one slot each."""
    handler = Counting()
    server = await start_http(handler, queue=QueueOptions(cpus=2, max_active=1, capacity=1))
    clients = [await connect(server) for _ in range(2)]
    for client in clients:
        await client.send(get("/gate"))
    await settle()
    assert handler.at_work == 2
    handler.gate.set()
    for client in clients:
        await client.read_reply()


async def test_peer_that_pipelines_and_does_not_read_takes_no_slot(start_http, connect):
    """Small answers fill the buffers as well as big ones; then it is a slow reader like any other."""

    async def handler(request):
        return Response(body=b"x" * 20_000)

    server = await start_http(handler, queue=ONE)
    greedy = await connect(server, receive_buffer=4096)
    await greedy.send(GET * 5000)
    await settle()
    assert server.statistics().answered < 5000
    newcomer = await connect(server)
    for _ in range(3):
        assert len((await newcomer.ask()).body) == 20_000
