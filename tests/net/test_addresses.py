from __future__ import annotations

import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktrio.net.addresses import (
    Address,
    FdAddress,
    TcpAddress,
    UnixAddress,
    address_of,
    describe,
    parse_address,
    peer_name,
    url_of,
)
from ktrio.net.errors import AddressError


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8081", TcpAddress("127.0.0.1", 8081)),
        ("localhost:80", TcpAddress("localhost", 80)),
        ("[::1]:8081", TcpAddress("::1", 8081)),
        ("[::]:0", TcpAddress("::", 0)),
        ("[fe80::1%eth0]:80", TcpAddress("fe80::1%eth0", 80)),
        (":8081", TcpAddress("", 8081)),
        ("8081", TcpAddress("127.0.0.1", 8081)),
        (8081, TcpAddress("127.0.0.1", 8081)),
        (0, TcpAddress("127.0.0.1", 0)),
        ("host:65535", TcpAddress("host", 65535)),
        ("unix:/run/ktrio.sock", UnixAddress("/run/ktrio.sock")),
        ("unix:with:colon", UnixAddress("with:colon")),
        ("fd:3", FdAddress(3)),
    ],
)
def test_parse_address_reads_every_form(text: str | int, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "''"),
        ("127.0.0.1", "'127.0.0.1'"),
        ("localhost", "'localhost'"),
        ("host:", "'host:'"),
        ("host:http", "'host:http'"),
        ("host:+1", "'host:+1'"),
        ("host:1_0", "'host:1_0'"),
        ("host: 80", "'host: 80'"),
        ("host:٣", "no address"),
        ("host:65536", "65536"),
        (65536, "65536"),
        (-1, "-1"),
        ("::1", "without brackets"),
        ("::1:8081", "without brackets"),
        ("[]:80", "no IPv6 address"),
        ("[127.0.0.1]:80", "no IPv6 address"),
        ("[::1]", "without brackets"),
        ("unix:", "''"),
        ("unix:a\0b", "NUL"),
        ("fd:", "'fd:'"),
        ("fd:-1", "'fd:-1'"),
        ("fd:x", "'fd:x'"),
    ],
)
def test_parse_address_refuses_with_the_value_in_one_line(text: str | int, said: str) -> None:
    with pytest.raises(AddressError) as caught:
        parse_address(text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_fd_address_refuses_a_negative_descriptor() -> None:
    with pytest.raises(AddressError, match="-1"):
        FdAddress(-1)


addresses = st.one_of(
    st.builds(TcpAddress, st.ip_addresses().map(str) | st.sampled_from(["", "localhost"]), st.integers(0, 65535)),
    st.builds(UnixAddress, st.text(st.characters(exclude_characters="\0"), min_size=1)),
    st.builds(FdAddress, st.integers(0, 1 << 30)),
)


@given(addresses)
def test_describe_is_what_parse_address_reads(address: Address) -> None:
    assert parse_address(describe(address)) == address


@pytest.mark.parametrize(
    ("address", "url"),
    [
        (TcpAddress("127.0.0.1", 8081), "http://127.0.0.1:8081/"),
        (TcpAddress("::1", 8081), "http://[::1]:8081/"),
        (TcpAddress("fe80::1%eth0", 80), "http://[fe80::1%25eth0]:80/"),
        (TcpAddress("localhost", 80), "http://localhost:80/"),
        (TcpAddress("0.0.0.0", 80), "http://127.0.0.1:80/"),
        (TcpAddress("::", 80), "http://[::1]:80/"),
        (TcpAddress("", 80), "http://127.0.0.1:80/"),
        (UnixAddress("/run/x"), "unix:/run/x"),
        (FdAddress(3), "fd:3"),
    ],
)
def test_url_of_can_be_opened_on_this_machine(address: Address, url: str) -> None:
    assert url_of(address) == url


def test_address_of_tells_what_a_socket_is_bound_to(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        assert address_of(sock) == TcpAddress("127.0.0.1", sock.getsockname()[1])
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "s"))
        assert address_of(sock) == UnixAddress(str(tmp_path / "s"))


def test_address_of_refuses_a_unix_socket_without_a_path() -> None:
    with socket.socket(socket.AF_UNIX) as sock, pytest.raises(AddressError, match="no address to print"):
        address_of(sock)


@pytest.mark.parametrize(
    ("sockaddr", "family", "name"),
    [
        (("10.0.0.1", 4000), socket.AF_INET, "10.0.0.1:4000"),
        (("::1", 4000, 0, 0), socket.AF_INET6, "[::1]:4000"),
        (("::ffff:10.0.0.1", 4000, 0, 0), socket.AF_INET6, "10.0.0.1:4000"),
        (("::ffff:0:1", 4000, 0, 0), socket.AF_INET6, "[::ffff:0:1]:4000"),
        ("", socket.AF_UNIX, "unix"),
        (b"", socket.AF_UNIX, "unix"),
        ("/run/peer", socket.AF_UNIX, "unix:/run/peer"),
        (None, socket.AF_INET, "unknown"),  # macOS, when the peer has gone before it was accepted
    ],
)
def test_peer_name_is_what_logs_print(sockaddr: object, family: int, name: str) -> None:
    assert peer_name(sockaddr, family) == name
