from __future__ import annotations

import errno
import os
import socket
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from ktrio.net.addresses import FdAddress, TcpAddress, UnixAddress
from ktrio.net.errors import ListenError
from ktrio.net.listeners import Listener, adopt_listener, open_listeners


def has_ipv6_loopback() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6_loopback(), reason="this machine has no IPv6 loopback")


@pytest.fixture
def short_path(tmp_path: Path) -> Iterator[str]:
    """A path for a unix socket, relative: the full one may be too long for sockaddr_un."""
    before = Path.cwd()
    os.chdir(tmp_path)
    yield "ktrio.sock"
    os.chdir(before)


async def accept(listener: Listener) -> tuple[socket.socket, str]:
    while True:
        try:
            return listener.accept()
        except BlockingIOError:
            await trio.lowlevel.wait_readable(listener)


def close_all(listeners: list[Listener]) -> None:
    for listener in listeners:
        listener.close()


# ---- TCP


async def test_port_0_gives_a_real_port_and_a_non_blocking_listener() -> None:
    (listener,) = await open_listeners(TcpAddress("127.0.0.1", 0))
    assert isinstance(listener.address, TcpAddress)
    assert listener.address.port != 0
    assert listener.address == TcpAddress(*listener.socket.getsockname())
    with pytest.raises(BlockingIOError):
        listener.accept()
    listener.close()


async def test_accept_gives_a_non_blocking_socket_without_nagle_and_the_peers_name() -> None:
    (listener,) = await open_listeners(TcpAddress("127.0.0.1", 0))
    with socket.create_connection(listener.socket.getsockname()) as client:
        sock, peer = await accept(listener)
        with sock:
            assert sock.gettimeout() == 0
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert peer == f"127.0.0.1:{client.getsockname()[1]}"
    listener.close()


@needs_ipv6
async def test_ipv6_takes_ipv6_only() -> None:
    (v6,) = await open_listeners(TcpAddress("::1", 0))
    assert isinstance(v6.address, TcpAddress)
    assert v6.socket.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    (v4,) = await open_listeners(TcpAddress("127.0.0.1", v6.address.port))
    with socket.create_connection(v6.socket.getsockname()[:2]):
        sock, peer = await accept(v6)
        sock.close()
    assert peer.startswith("[::1]:")
    close_all([v4, v6])


@needs_ipv6
async def test_every_interface_is_one_listener_a_family_all_on_the_same_free_port() -> None:
    listeners = await open_listeners(TcpAddress("", 0))
    addresses = [listener.address for listener in listeners]
    assert {address.host for address in addresses if isinstance(address, TcpAddress)} == {"0.0.0.0", "::"}
    assert len({address.port for address in addresses if isinstance(address, TcpAddress)}) == 1
    close_all(listeners)


class Resolver(trio.abc.HostnameResolver):
    """Resolves every name to the same addresses."""

    def __init__(self, *sockaddrs: tuple[str, int]) -> None:
        self._infos = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", sockaddr) for sockaddr in sockaddrs]

    async def getaddrinfo(self, host, port, family=0, type=0, proto=0, flags=0):  # noqa: A002
        await trio.lowlevel.checkpoint()
        return self._infos

    async def getnameinfo(self, sockaddr, flags):
        raise NotImplementedError


async def test_a_name_is_resolved_and_addresses_this_machine_lacks_are_skipped() -> None:
    trio.socket.set_custom_hostname_resolver(Resolver(("198.51.100.1", 0), ("127.0.0.1", 0), ("127.0.0.1", 0)))
    listeners = await open_listeners(TcpAddress("name.example", 0))
    assert [listener.address.host for listener in listeners if isinstance(listener.address, TcpAddress)] == [
        "127.0.0.1"
    ]
    close_all(listeners)


async def test_a_name_with_no_address_of_this_machine_is_refused() -> None:
    trio.socket.set_custom_hostname_resolver(Resolver(("198.51.100.1", 0), ("203.0.113.1", 0)))
    with pytest.raises(ListenError, match=r"cannot listen on name\.example:0: this machine has no such address; use"):
        await open_listeners(TcpAddress("name.example", 0))


async def test_if_one_of_several_ports_is_in_use_none_is_left_open() -> None:
    with socket.create_server(("127.0.0.2", 0)) as taken:
        port = taken.getsockname()[1]
        trio.socket.set_custom_hostname_resolver(Resolver(("127.0.0.1", port), ("127.0.0.2", port)))
        with pytest.raises(ListenError, match="the port is in use"):
            await open_listeners(TcpAddress("name.example", port))
        # The first was free, was bound, and is free again.
        (listener,) = await open_listeners(TcpAddress("127.0.0.1", port))
        listener.close()


async def test_a_name_that_does_not_resolve_is_refused() -> None:
    class Failing(Resolver):
        async def getaddrinfo(self, *args, **options):
            await trio.lowlevel.checkpoint()
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    trio.socket.set_custom_hostname_resolver(Failing())
    with pytest.raises(ListenError, match=r"nowhere\.example:80: the name does not resolve \(Name or service"):
        await open_listeners(TcpAddress("nowhere.example", 80))


async def test_a_name_that_cannot_be_one_is_refused() -> None:
    with pytest.raises(ListenError, match="does not resolve"):
        await open_listeners(TcpAddress("a" * 64 + ".example", 80))


async def test_a_port_in_use_is_named_with_the_remedy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ListenError) as caught:
            await open_listeners(TcpAddress("127.0.0.1", port))
    assert str(caught.value) == (
        f"cannot listen on 127.0.0.1:{port}: the port is in use; "
        "stop the program that has it or choose another port (0 picks a free one)"
    )
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.EADDRINUSE


async def test_an_address_of_another_machine_is_refused() -> None:
    # 198.51.100.0/24 is nobody's (RFC 5737).
    with pytest.raises(ListenError, match=r"198\.51\.100\.1:0: this machine has no such address; use one of its own"):
        await open_listeners(TcpAddress("198.51.100.1", 0))


async def test_a_port_can_be_listened_on_again_at_once_after_connections_were_closed_by_us() -> None:
    (listener,) = await open_listeners(TcpAddress("127.0.0.1", 0))
    with socket.create_connection(listener.socket.getsockname()) as client:
        sock, _ = await accept(listener)
        sock.close()  # we close first: TIME_WAIT will be on our port
        assert client.recv(1) == b""
    address = listener.address
    listener.close()
    assert isinstance(address, TcpAddress)
    (again,) = await open_listeners(address)
    again.close()


# ---- the end of a listener


async def test_close_is_idempotent_refuses_connects_and_shows() -> None:
    (listener,) = await open_listeners(TcpAddress("127.0.0.1", 0))
    name = listener.socket.getsockname()
    assert repr(listener) == f"<Listener 127.0.0.1:{name[1]} open>"
    listener.close()
    listener.close()
    assert listener.fileno() == -1
    assert repr(listener) == f"<Listener 127.0.0.1:{name[1]} closed>"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(name)


async def test_close_wakes_whoever_waits_to_accept() -> None:
    (listener,) = await open_listeners(TcpAddress("127.0.0.1", 0))
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def wait() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await trio.lowlevel.wait_readable(listener)

        await trio.testing.wait_all_tasks_blocked()
        listener.close()


# ---- unix


async def test_unix_listens_accepts_and_unlinks(short_path: str) -> None:
    (listener,) = await open_listeners(UnixAddress(short_path))
    assert listener.address == UnixAddress(short_path)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(short_path)
        sock, peer = await accept(listener)
        sock.close()
    assert peer == "unix"
    listener.close()
    assert not os.path.lexists(short_path)


async def test_unix_path_is_unlinked_even_if_the_process_has_changed_its_folder(
    short_path: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (listener,) = await open_listeners(UnixAddress(short_path))
    os.chdir(tmp_path_factory.mktemp("elsewhere"))
    listener.close()
    assert not (tmp_path / short_path).exists()


async def test_unix_stale_socket_is_replaced(short_path: str) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(short_path)
        dead.listen()
    assert os.path.lexists(short_path)
    (listener,) = await open_listeners(UnixAddress(short_path))
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(short_path)
    listener.close()


async def test_unix_live_server_is_left_alone(short_path: str) -> None:
    (live,) = await open_listeners(UnixAddress(short_path))
    with pytest.raises(ListenError, match=r"unix:ktrio\.sock: another server listens there; stop its server or choose"):
        await open_listeners(UnixAddress(short_path))
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(short_path)
    live.close()


async def test_unix_live_server_with_a_full_backlog_is_left_alone(short_path: str) -> None:
    (live,) = await open_listeners(UnixAddress(short_path), backlog=0)
    clients: list[socket.socket] = []
    answer = 0
    while answer == 0:
        client = socket.socket(socket.AF_UNIX)
        client.setblocking(False)
        clients.append(client)
        answer = client.connect_ex(short_path)
    with pytest.raises(ListenError, match="another server listens there"):
        await open_listeners(UnixAddress(short_path))
    for client in clients:
        client.close()
    live.close()


async def test_unix_socket_of_another_type_is_left_alone(short_path: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(short_path)
        with pytest.raises(ListenError, match="a socket that does not answer"):
            await open_listeners(UnixAddress(short_path))
    assert os.path.lexists(short_path)


async def test_unix_file_that_is_no_socket_is_left_alone(short_path: str) -> None:
    Path(short_path).write_text("precious")
    with pytest.raises(ListenError, match="a file that is no socket is there; remove it"):
        await open_listeners(UnixAddress(short_path))
    assert Path(short_path).read_text() == "precious"


async def test_unix_symlink_is_left_alone(short_path: str) -> None:
    Path(short_path).symlink_to("target.sock")
    with pytest.raises(ListenError, match="no socket is there"):
        await open_listeners(UnixAddress(short_path))
    assert Path(short_path).is_symlink()


async def test_unix_close_leaves_a_successors_socket_alone(short_path: str) -> None:
    (listener,) = await open_listeners(UnixAddress(short_path))
    os.unlink(short_path)
    (successor,) = await open_listeners(UnixAddress(short_path))
    listener.close()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(short_path)
    successor.close()
    assert not os.path.lexists(short_path)


async def test_unix_close_with_the_path_already_gone_is_fine(short_path: str) -> None:
    (listener,) = await open_listeners(UnixAddress(short_path))
    os.unlink(short_path)
    listener.close()


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("missing/ktrio.sock", "the folder does not exist; create it first"),
        ("file/ktrio.sock", "a part of the path is not a folder"),
        ("x" * 120, "the path is too long for a unix socket"),
        ("x" * 300, "too long"),
        ("/proc/ktrio.sock", "cannot listen on unix:/proc/ktrio.sock: "),
    ],
)
async def test_unix_path_that_cannot_be_is_refused(path: str, why: str, short_path: str) -> None:
    Path("file").touch()
    with pytest.raises(ListenError, match=why) as caught:
        await open_listeners(UnixAddress(path))
    assert "\n" not in str(caught.value)


# ---- adopted sockets


async def test_fd_is_adopted_made_non_blocking_and_not_inherited() -> None:
    given = socket.create_server(("127.0.0.1", 0))
    name = given.getsockname()
    given.set_inheritable(True)
    (listener,) = await open_listeners(FdAddress(given.detach()))
    assert listener.address == TcpAddress(*name)
    assert not listener.socket.get_inheritable()
    with pytest.raises(BlockingIOError):
        listener.accept()
    listener.close()


async def test_fd_of_a_unix_listener_keeps_its_file(short_path: str) -> None:
    with socket.socket(socket.AF_UNIX) as given:
        given.bind(short_path)
        given.listen()
        (listener,) = await open_listeners(FdAddress(given.detach()))
    listener.close()
    assert stat.S_ISSOCK(os.lstat(short_path).st_mode)


async def test_fd_that_is_not_open_is_refused() -> None:
    probe = os.open(os.devnull, os.O_RDONLY)
    os.close(probe)
    with pytest.raises(ListenError, match=f"fd:{probe}: bad file descriptor; pass the number of an open listening"):
        await open_listeners(FdAddress(probe))


async def test_fd_that_is_no_socket_is_refused_and_left_open() -> None:
    descriptor = os.open(os.devnull, os.O_RDONLY)
    with pytest.raises(ListenError, match="socket"):
        await open_listeners(FdAddress(descriptor))
    os.close(descriptor)


async def test_fd_of_a_socket_that_does_not_listen_is_refused_and_left_open() -> None:
    with socket.socket() as sock:
        with pytest.raises(ListenError, match="it does not listen; pass a TCP or unix stream socket that listens"):
            await open_listeners(FdAddress(sock.fileno()))
        sock.getsockname()


async def test_fd_of_a_datagram_socket_is_refused() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        with pytest.raises(ListenError, match="no stream socket"):
            await open_listeners(FdAddress(sock.fileno()))
        sock.getsockname()


async def test_socket_object_is_adopted() -> None:
    given = socket.create_server(("127.0.0.1", 0))
    listener = adopt_listener(given)
    assert listener.socket is given
    listener.close()


async def test_socket_object_that_is_closed_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as given:
        pass
    with pytest.raises(ListenError, match="it is closed"):
        adopt_listener(given)


@pytest.mark.skipif(sys.platform != "linux", reason="abstract names are Linux's")
async def test_fd_bound_to_an_abstract_name_is_called_by_its_number() -> None:
    with socket.socket(socket.AF_UNIX) as given:
        given.bind("")  # the kernel picks a free abstract name
        given.listen()
        descriptor = given.detach()
    (listener,) = await open_listeners(FdAddress(descriptor))
    assert listener.address == FdAddress(descriptor)
    listener.close()


@pytest.mark.parametrize("address", [TcpAddress("127.0.0.1", 0), FdAddress(0), UnixAddress("x")])
async def test_open_listeners_is_a_checkpoint_that_opens_nothing_when_cancelled(
    address: TcpAddress, short_path: str
) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await open_listeners(address)
    assert scope.cancelled_caught
    assert not os.path.lexists("x")
