"""Where a server listens and who called: addresses as values, read from text and printed again."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Final, TypeAlias, final

import trio

from ktrio.net.errors import AddressError

DEFAULT_HOST: Final = "127.0.0.1"  # what a bare port means: nothing is offered to the network unless it was asked for
MAX_PORT: Final = 65535
_EXAMPLES: Final = '"127.0.0.1:8081", "[::1]:8081", ":8081", "8081", "unix:/path" or "fd:3"'
# A browser cannot open the address that means "every interface"; from this machine, loopback is the same server.
_WILDCARDS: Final = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}


@final
@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A TCP port of one host: a name, an IPv4 or an IPv6 address without brackets; ``""`` means every interface.

    Raises:
      AddressError: `port` is not in 0..65535. Port 0 asks the kernel for a free one.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return describe(self)

    def __post_init__(self) -> None:
        if not 0 <= self.port <= MAX_PORT:
            raise AddressError(f"there is no port {self.port}: ports are 0 to {MAX_PORT}")


@final
@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A unix domain socket at a path of the file system.

    Raises:
      AddressError: the path is empty or contains a NUL byte.
    """

    path: str

    def __str__(self) -> str:
        return describe(self)

    def __post_init__(self) -> None:
        if not self.path or "\0" in self.path:
            raise AddressError(f"a unix socket needs a path without NUL bytes, not {self.path!r}")


@final
@dataclass(frozen=True, slots=True)
class FdAddress:
    """A listening socket that this process was given as an open descriptor, as systemd and inetd do.

    Raises:
      AddressError: `fd` is negative.
    """

    fd: int

    def __str__(self) -> str:
        return describe(self)

    def __post_init__(self) -> None:
        if self.fd < 0:
            raise AddressError(f"a descriptor is not negative, but this one is {self.fd}")


Address: TypeAlias = TcpAddress | UnixAddress | FdAddress
"""Anything a server can listen on."""


def parse_address(text: str | int) -> Address:
    """Read an address: ``host:port``, ``[v6]:port``, ``:port`` (every interface), a port, ``unix:PATH`` or ``fd:N``.

    A bare port, as a number or as digits, is one on `DEFAULT_HOST`.

    Raises:
      AddressError: it is none of these, or its port or descriptor cannot exist; the message shows it and the forms.
    """
    if isinstance(text, int):
        return TcpAddress(DEFAULT_HOST, text)
    if text.startswith("unix:"):
        return UnixAddress(text.removeprefix("unix:"))
    if text.startswith("fd:"):
        return FdAddress(_parse_number(text.removeprefix("fd:"), text))
    host, colon, port = text.rpartition(":")
    if not colon:
        return TcpAddress(DEFAULT_HOST, _parse_number(port, text))
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if not _is_ipv6(host):
            raise AddressError(f"{text!r} has no IPv6 address in its brackets; write {_EXAMPLES}")
    elif ":" in host:
        raise AddressError(f'{text!r} has an IPv6 address without brackets; write it like "[::1]:8081"')
    return TcpAddress(host, _parse_number(port, text))


def _parse_number(digits: str, text: str) -> int:
    # int() alone would also take "+1", " 1", "1_0" and other scripts' digits.
    if digits.isascii() and digits.isdigit():
        return int(digits)
    raise AddressError(f"{text!r} is no address to listen on; write {_EXAMPLES}")


def _is_ipv6(host: str) -> bool:
    try:
        socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    except (OSError, ValueError):
        return False
    return True


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def describe(address: Address) -> str:
    """The address as `parse_address` reads it."""
    match address:
        case TcpAddress(host, port):
            return _join(host, port)
        case UnixAddress(path):
            return f"unix:{path}"
        case FdAddress(fd):
            return f"fd:{fd}"


def url_of(address: Address) -> str:
    """What to open in a browser on this machine: an ``http`` URL for TCP, else what `describe` says.

    The address of every interface becomes loopback, and a zone is escaped (RFC 6874 section 2).
    """
    if not isinstance(address, TcpAddress):
        return describe(address)
    host = _WILDCARDS.get(address.host, address.host)
    return f"http://{_join(host.replace('%', '%25'), address.port)}/"


def address_of(sock: socket.socket | trio.socket.SocketType) -> Address:
    """The address that a listening socket is bound to.

    Raises:
      AddressError: its family is neither IPv4, IPv6 nor unix, or it is a unix socket without a path.
    """
    name: object = sock.getsockname()
    match name:
        case (str(host), int(port)) | (str(host), int(port), int(), int()) if sock.family in (
            socket.AF_INET,
            socket.AF_INET6,
        ):
            return TcpAddress(host, port)
        case str() if name and sock.family == socket.AF_UNIX:
            return UnixAddress(name)
        case _:
            raise AddressError(f"a socket bound to {name!r} ({sock.family!r}) has no address to print")


def peer_name(sockaddr: object, family: int) -> str:
    """The other end of an accepted connection as printed in logs; `sockaddr` is what ``accept`` gave.

    ``host:port`` and ``[host]:port``; an IPv4 caller of a dual-stack socket is printed as IPv4 (RFC 4291 section
    2.5.5.2); ``unix`` or ``unix:PATH`` for a unix socket.
    """
    match sockaddr:
        case (str(host), int(port)) | (str(host), int(port), int(), int()) if family in (
            socket.AF_INET,
            socket.AF_INET6,
        ):
            mapped = host.removeprefix("::ffff:")
            return _join(mapped if "." in mapped else host, port)
        case str() if sockaddr:  # the peer chose it: it may hold anything
            return "unix:" + "".join(each if each.isprintable() else ascii(each)[1:-1] for each in sockaddr)
        case _:
            return "unix" if family == socket.AF_UNIX else "unknown"
