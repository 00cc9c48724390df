"""File bodies: the right bytes, never a wrong length, the descriptor closed once whatever happens."""

from __future__ import annotations

import os

import pytest
import trio

import ktrio
from ktrio import FileRange, Headers, Response
from ktrio.net._slices import SLICE_BYTES, TURN_BYTES
from tests.server.harness import GET, LATE, Ended, advance, get, settle

MIB = 1 << 20


class File:
    """A file that counts how often responses on it were closed."""

    def __init__(self, path, content: bytes) -> None:
        path.write_bytes(content)
        self.path = path
        self.content = content
        self.opened = 0
        self.closed = 0

    def response(self, *, offset: int = 0, count: int | None = None, status: int = 200) -> Response:
        descriptor = os.open(self.path, os.O_RDONLY)
        self.opened += 1

        def close() -> None:
            os.close(descriptor)  # a second time would be an OSError
            self.closed += 1

        size = len(self.content) - offset if count is None else count
        body = FileRange(descriptor=descriptor, offset=offset, count=size, close=close)
        return Response(status, Headers(), body)

    def __call__(self, **options):
        """A handler that always answers so."""

        async def handler(request):
            return self.response(**options)

        return handler


@pytest.fixture
def make_file(tmp_path):
    made = []

    def make(content: bytes) -> File:
        file = File(tmp_path / str(len(made)), content)
        made.append(file)
        return file

    yield make
    for file in made:
        assert file.closed == file.opened


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("size", [0, 1, 70_000, 3 * MIB + 7])
async def test_file_arrives_whole_with_its_length(start_http, connect, make_file, size, version):
    content = os.urandom(size)
    client = await connect(await start_http(make_file(content)()))
    for _ in range(2):
        reply = await client.ask(get("/", "Connection: keep-alive", version=version))
        assert (reply.framing, reply["content-length"], reply.body == content) == ("sized", str(size), True)
    assert client.is_open


@pytest.mark.parametrize(("offset", "count"), [(0, 10), (5, 10), (999, 1), (1000, 0), (500, 500)])
async def test_range_of_a_file_is_what_was_asked_for(start_http, connect, make_file, offset, count):
    content = os.urandom(1000)
    client = await connect(await start_http(make_file(content)(offset=offset, count=count)))
    assert (await client.ask()).body == content[offset : offset + count]


async def test_descriptors_own_position_does_not_matter(start_http, connect, tmp_path):
    """Two responses may share a descriptor, so neither may move it."""
    path = tmp_path / "shared"
    path.write_bytes(os.urandom(2 * MIB))
    with path.open("rb") as shared:
        shared.seek(77)
        body = FileRange(descriptor=shared.fileno(), offset=0, count=2 * MIB, close=lambda: None)

        async def handler(request):
            return Response(body=body)

        server = await start_http(handler)
        clients = [await connect(server) for _ in range(3)]
        replies = []

        async def ask(client):
            replies.append((await client.ask()).body)

        async with trio.open_nursery() as nursery:
            for client in clients:
                nursery.start_soon(ask, client)
        assert all(reply == path.read_bytes() for reply in replies)
        assert shared.tell() == 77


async def test_head_of_a_file_says_its_length_and_closes_it(start_http, connect, make_file):
    """RFC 9110 section 9.3.2."""
    file = make_file(b"x" * 1000)
    client = await connect(await start_http(file()))
    for count in [1, 2]:
        reply = await client.ask(get(method="HEAD"))
        assert (reply["content-length"], reply.body) == ("1000", b"")
        await settle()
        assert file.closed == count
    assert client.is_open


async def test_file_that_is_shorter_than_said_cuts_the_connection(start_http, connect, make_file):
    """Never a wrong length, never bytes made up: the peer sees that it is incomplete (RFC 9112 section 8)."""
    file = make_file(b"x" * 1000)
    server = await start_http(file(count=2000))
    client = await connect(server)
    await client.send(GET + GET)
    with pytest.raises(Ended) as seen:
        await client.read_reply()
    data = seen.value.data
    assert len(data) <= 1000
    assert b"HTTP/" not in data
    assert server.statistics().answered == 0


async def test_file_that_shrinks_under_way_cuts_the_connection(start_http, connect, make_file):
    size = 32 * MIB
    file = make_file(b"x" * size)
    server = await start_http(file())
    client = await connect(server, receive_buffer=4096)
    await client.send(GET)
    reply = await client.read_head()
    assert reply["content-length"] == str(size)
    await settle()
    os.truncate(file.path, MIB // 2)
    with pytest.raises(Ended):
        await client.read(size)
    await settle()
    assert file.closed == 1
    assert (await (await connect(await start_http(make_file(b"y")()))).ask()).body == b"y"


@pytest.mark.slow
async def test_file_that_grows_under_way_keeps_its_length(start_http, connect, make_file):
    size = 8 * MIB
    file = make_file(b"x" * size)
    client = await connect(await start_http(file()), receive_buffer=4096)
    await client.send(GET)
    await client.read_head()
    with file.path.open("ab") as more:
        more.write(b"y" * MIB)
    assert await client.read(size) == b"x" * size
    assert (await client.ask()).body == b"x" * size


@pytest.mark.parametrize("how", ["reset", "close"])
async def test_file_is_closed_once_when_the_peer_leaves(start_http, connect, make_file, how):
    file = make_file(b"x" * 32 * MIB)
    server = await start_http(file())
    client = await connect(server, receive_buffer=4096)
    await client.send(GET)
    await client.read(10_000)
    getattr(client, how)()  # with unread data both are a reset
    await settle()
    assert file.closed == 1
    assert server.statistics().open == 0
    assert server.statistics().cut == 0


async def test_file_is_closed_when_its_response_is_no_sound_one(start_http, connect, make_file, caplog):
    """From the handler's return on the protocol owns the response."""
    file = make_file(b"x" * 100)

    async def handler(request):
        response = file.response(status=204 if request.target == "/204" else 200)
        if request.target == "/field":
            response.headers.add("x-bad", "a\r\nb")
        return response

    server = await start_http(handler)
    for target in ["/204", "/field"]:
        client = await connect(server)
        assert (await client.ask(get(target))).status == 500
    await settle()
    assert file.closed == 2
    assert len(caplog.records) == 2


async def test_file_is_closed_when_the_server_is_cancelled(start_http, connect, make_file):
    file = make_file(b"x" * 32 * MIB)
    async with trio.open_nursery() as nursery:
        client = await connect(await start_http(file(), within=nursery), receive_buffer=4096)
        await client.send(GET)
        await client.read(10_000)
        nursery.cancel_scope.cancel()
    assert file.closed == 1


@pytest.mark.slow
async def test_file_goes_on_after_a_half_close(start_http, connect, make_file, mock_clock):
    """A FIN after a complete request is a half-close; a file response is never cancelled for it."""
    size = 16 * MIB
    file = make_file(os.urandom(size))
    client = await connect(await start_http(file()), receive_buffer=4096)
    await client.send(GET)
    client.finish()
    reply = await client.read_head()
    body = bytearray()
    for _ in range(8):
        await advance(mock_clock, 2 + LATE)
        body += await client.read(size // 8)
    assert reply["content-length"] == str(size)
    assert body == file.content
    assert await client.read_end() == "fin"


async def test_folder_served_under_load_gives_every_client_its_own_file(start_http, connect, tmp_path):
    names = [str(index) for index in range(20)]
    for name in names:
        (tmp_path / name).write_bytes(name.encode() * 50_000)
    server = await start_http(ktrio.files(tmp_path))
    answers = {}

    async def fetch(name):
        client = await connect(server)
        answers[name] = (await client.ask(get(f"/{name}"))).body

    async with trio.open_nursery() as nursery:
        for name in names:
            nursery.start_soon(fetch, name)
    assert all(answers[name] == (tmp_path / name).read_bytes() for name in names)


async def test_files_pipelined_keep_their_order_and_their_bytes(start_http, connect, tmp_path):
    sizes = [0, 1, 100_000, 13, 700_000, 2, 65_536, 1_000_000] * 3
    for size in set(sizes):
        (tmp_path / str(size)).write_bytes(os.urandom(size))
    client = await connect(await start_http(ktrio.files(tmp_path)))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send, b"".join(get(f"/{size}") for size in sizes))
        for size in sizes:
            assert (await client.read_reply()).body == (tmp_path / str(size)).read_bytes()


async def _drop(client, count):
    """Read and forget, without memory."""
    buffer = bytearray(1 << 18)
    left = count - len(client.buffer)
    client.buffer.clear()
    while left:
        left -= await client.sock.recv_into(memoryview(buffer)[: min(left, len(buffer))])


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="resident memory is read from /proc")
async def test_file_of_any_size_takes_constant_memory(start_http, connect, tmp_path):
    size = 512 * MIB
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(size)
    client = await connect(await start_http(ktrio.files(tmp_path)))
    await client.send(get("/sparse"))
    await client.read_head()
    before = _resident()
    for _ in range(8):
        await _drop(client, size // 8)
        assert _resident() - before < 16 * MIB
    assert client.is_open


class Steps(trio.abc.Instrument):
    """How much any task has sent of files in one step, at most."""

    most = 0
    sent = 0

    def __init__(self, monkeypatch):
        sendfile = os.sendfile

        def counted(*arguments):
            count = sendfile(*arguments)
            self.sent += count
            return count

        monkeypatch.setattr(os, "sendfile", counted)

    def before_task_step(self, task):
        self.sent = 0

    def after_task_step(self, task):
        self.most = max(self.most, self.sent)


@pytest.mark.slow
async def test_file_that_goes_out_leaves_the_loop_to_others(start_http, connect, tmp_path, monkeypatch):
    """A turn's worth a turn, whatever a fast reader takes; a newcomer is answered long before it has everything."""
    size = 256 * MIB
    with (tmp_path / "big").open("wb") as file:
        file.truncate(size)
    (tmp_path / "small").write_bytes(b"small")
    server = await start_http(ktrio.files(tmp_path))
    reader, other = await connect(server), await connect(server)
    await reader.send(get("/big"))
    await reader.read_head()
    done = trio.Event()

    async def read_on():
        await _drop(reader, size)
        done.set()

    steps = Steps(monkeypatch)
    trio.lowlevel.add_instrument(steps)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_on)
        for _ in range(3):
            assert (await other.ask(get("/small"))).body == b"small"
        assert not done.is_set()
    trio.lowlevel.remove_instrument(steps)
    assert 0 < steps.most < TURN_BYTES + SLICE_BYTES
