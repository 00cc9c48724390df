"""Where a server listens: TCP v4 and v6, unix sockets, sockets it is given, several at once."""

from __future__ import annotations

import os
import socket

import pytest
import trio

import ktrio
from ktrio import AddressError, ListenError, QueueOptions, Response, TcpAddress, UnixAddress
from tests.server.harness import settle


async def say_peer(request):
    return Response(body=request.peer.encode())


@pytest.fixture
def v6():
    """The loopback address of IPv6, where there is one."""
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    return "[::1]:0"


async def test_port_zero_becomes_the_real_one(start_http, connect):
    server = await start_http(say_peer, 0)
    (address,) = server.addresses
    assert isinstance(address, TcpAddress)
    assert address.host == "127.0.0.1"
    assert address.port > 0
    client = await connect(server)
    host, port = client.sock.getsockname()
    assert (await client.ask()).body == f"{host}:{port}".encode()


async def test_ipv6_is_served(start_http, connect, v6):
    server = await start_http(say_peer, v6)
    client = await connect(server)
    assert (await client.ask()).body == f"[::1]:{client.sock.getsockname()[1]}".encode()


async def test_unix_socket_is_served_and_its_path_goes_with_the_server(start_http, connect, tmp_path):
    path = tmp_path / "socket"
    async with trio.open_nursery() as nursery:
        server = await start_http(say_peer, f"unix:{path}", within=nursery)
        assert server.addresses == (UnixAddress(str(path)),)
        client = await connect(server)
        assert (await client.ask()).body == b"unix"
        await server.shutdown()
        assert not path.exists()


async def test_path_is_gone_when_draining_begins(start_http, connect, tmp_path):
    """The next server can take it over at once."""
    path = tmp_path / "socket"
    gate = trio.Event()

    async def handler(request):
        await gate.wait()
        return Response(body=b"old")

    old = await start_http(handler, f"unix:{path}")
    client = await connect(old)
    await client.send(b"GET / HTTP/1.0\r\n\r\n")
    await settle()
    old.begin_shutdown()
    await settle()
    assert not path.exists()
    fresh = await start_http(say_peer, f"unix:{path}")
    gate.set()
    assert (await client.read_reply()).body == b"old"
    await settle()
    assert path.exists()  # the old server's end must not take the new one's path away
    assert (await (await connect(fresh)).ask()).body == b"unix"


async def test_several_addresses_are_served_at_once(start_http, connect, tmp_path, v6):
    server = await start_http(say_peer, "127.0.0.1:0", v6, f"unix:{tmp_path}/socket", "127.0.0.1:0")
    assert len(server.addresses) == 4
    for index in range(4):
        client = await connect(server, index)
        assert (await client.ask()).status == 200
    assert server.statistics().accepted == 4
    await server.shutdown()
    for index in range(4):
        with pytest.raises((ConnectionRefusedError, FileNotFoundError)):
            await connect(server, index)


async def test_echo_on_a_unix_socket_is_byte_exact(start_echo, connect, tmp_path):
    server = await start_echo(f"unix:{tmp_path}/socket")
    client = await connect(server)
    data = os.urandom(1 << 20)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send, data)
        assert await client.read(len(data)) == data
    client.finish()
    assert await client.read_end() == "fin"


async def test_file_on_a_unix_socket_arrives_whole(start_http, connect, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    content = os.urandom(3 << 20)
    (folder / "file").write_bytes(content)
    client = await connect(await start_http(ktrio.files(folder), f"unix:{tmp_path}/socket"))
    assert (await client.ask(b"GET /file HTTP/1.1\r\nHost: x\r\n\r\n")).body == content


async def test_reset_of_a_unix_peer_cancels_its_handler(start_http, connect, tmp_path):
    """A unix socket has no reset; its peer's close is a hang-up."""
    over = trio.Event()

    async def handler(request):
        try:
            await trio.sleep_forever()
        finally:
            over.set()

    client = await connect(await start_http(handler, f"unix:{tmp_path}/socket"))
    await client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    await settle()
    client.close()
    await over.wait()


async def test_listening_socket_is_taken_over_and_closed(start_http, connect):
    sock = socket.create_server(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    async with trio.open_nursery() as nursery:
        server = await start_http(say_peer, sock, within=nursery)
        assert server.addresses == (TcpAddress("127.0.0.1", port),)
        assert (await (await connect(server)).ask()).status == 200
        await server.shutdown()
    assert sock.fileno() == -1


async def test_descriptor_is_taken_over(start_http, connect):
    descriptor = socket.create_server(("127.0.0.1", 0)).detach()
    server = await start_http(say_peer, f"fd:{descriptor}")
    assert (await (await connect(server)).ask()).status == 200


@pytest.mark.parametrize("bad", ["nowhere:x", "127.0.0.1:99999", "unix:", "fd:x", "::1:80"])
async def test_address_that_is_none_is_refused(bad):
    with pytest.raises(AddressError):
        await ktrio.serve_http(say_peer, bad)


async def test_address_in_use_is_one_line_that_names_it(start_http):
    server = await start_http(say_peer)
    address = f"127.0.0.1:{server.addresses[0].port}"
    with pytest.raises(ListenError) as caught:
        await ktrio.serve_http(say_peer, "127.0.0.1:0", address)  # the first listener is not left open either
    assert address in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_queue_made_and_queue_given_exclude_each_other():
    async with ktrio.open_supervisor() as supervisor:
        queue = supervisor.alloc_workqueue("shared", ktrio.WQ_UNBOUND)
        with pytest.raises(ValueError, match="queue"):
            await ktrio.serve_http(say_peer, 0, queue=QueueOptions(), workqueue=queue)
        with pytest.raises(ValueError, match="queue"):
            await ktrio.serve_echo(0, queue=QueueOptions(), workqueue=queue)


async def test_server_shows_what_it_is(start_http, connect):
    server = await start_http(say_peer)
    await (await connect(server)).ask()
    assert str(server.addresses[0].port) in repr(server)
    assert "1" in repr(server)
