"""Sockets that accept: from an address to bound, listening, non-blocking sockets, and their tidy end.

A `Listener` owns its socket and, for a unix socket that it made itself, the file it is bound to. Everything that can
be wrong with an address is told as one `ListenError` with the remedy; if one of several sockets cannot be had, none is
left open.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from dataclasses import dataclass
from typing import Final, NoReturn, TypeAlias, final

import trio

from ktrio.net.addresses import (
    Address,
    FdAddress,
    TcpAddress,
    UnixAddress,
    address_of,
    describe,
    peer_name,
)
from ktrio.net.errors import AddressError, ListenError

# A name with several addresses wants the same port on each; the kernel picks one for the first, and another program
# may have that port on the second. Each further try is as likely to succeed as the first.
SAME_PORT_TRIES: Final = 8
_Socket: TypeAlias = socket.socket  # for where `socket` means something else
_FAMILIES: Final = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
# One address of a name may be missing on this machine ("::1" where IPv6 is switched off) while others serve it.
_NOT_HERE: Final = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)

# What connecting to a unix socket answers. ENOENT: its server has just removed it; EAGAIN: its backlog is full.
_NOBODY_LISTENS: Final = (errno.ECONNREFUSED, errno.ENOENT)
_SOMEBODY_LISTENS: Final = (0, errno.EAGAIN, errno.EINPROGRESS)

_TCP_REMEDIES: Final = {
    errno.EADDRINUSE: "the port is in use; stop the program that has it or choose another port (0 picks a free one)",
    errno.EACCES: "no permission; ports below 1024 are the administrator's, choose a higher one",
    errno.EADDRNOTAVAIL: "this machine has no such address; use one of its own, or 0.0.0.0 or [::] for all of them",
    errno.EAFNOSUPPORT: "this machine does not speak this version of IP; use an address of the other one",
}
_UNIX_REMEDIES: Final = {
    errno.EADDRINUSE: "something else was bound there just now; choose another path",
    errno.EACCES: "no permission to create a socket there; choose another folder",
    errno.EPERM: "no permission to create a socket there; choose another folder",
    errno.EROFS: "that file system is read-only; choose another folder",
    errno.ENOENT: "the folder does not exist; create it first",
    errno.ENOTDIR: "a part of the path is not a folder; choose another path",
    errno.ENAMETOOLONG: "a part of the path is too long; choose a shorter one",
}


@dataclass(frozen=True, slots=True)
class _SocketFile:
    """The file of a unix socket that we bound; the path is absolute, because a process may change its folder."""

    path: str
    identity: tuple[int, int]  # device and inode: a file of that name may be somebody else's by now

    def unlink(self) -> None:
        """Remove the file if it is still ours. The inode cannot be reused while the socket is open, so: close later."""
        try:
            if _identity(self.path) == self.identity:
                os.unlink(self.path)
        except OSError:
            # It is gone, or it is no longer ours to remove; either way no path leads to this socket any more.
            return


@final
class Listener:
    """A listening, non-blocking socket, its address, and its end. Made by `open_listeners` only.

    `socket` is for waiting on and for asking; accept and close here. `address` is what it is really bound to.
    """

    __slots__ = ("_file", "address", "socket")

    # I  set once
    def __init__(self, sock: _Socket, address: Address, file: _SocketFile | None = None) -> None:
        self.socket: Final = sock  # I
        self.address: Final = address  # I
        self._file: Final = file  # I: what the unix socket is bound to, if we bound it

    def __repr__(self) -> str:
        return f"<Listener {describe(self.address)} {'closed' if self.fileno() < 0 else 'open'}>"

    def fileno(self) -> int:
        """The descriptor, or -1 once closed."""
        return self.socket.fileno()

    def accept(self) -> tuple[_Socket, str]:
        """Take one waiting connection, at once: its socket (non-blocking, TCP_NODELAY) and the peer's name.

        Raises:
          BlockingIOError: none is waiting.
          OSError: see `ktrio.net.errors.ACCEPT_EXHAUSTED` and `ACCEPT_IGNORED` for what to do about it.
        """
        sock, sockaddr = self.socket.accept()
        try:
            sock.setblocking(False)
            if sock.family != socket.AF_UNIX:
                _disable_nagle(sock)
            return sock, peer_name(sockaddr, sock.family)
        except BaseException:
            sock.close()
            raise

    def close(self) -> None:
        """Stop listening, at once and for good: new connects are refused. Idempotent.

        A unix path goes first, so that no client finds a path behind which nobody listens; whoever waits on the
        socket is woken with `trio.ClosedResourceError`.
        """
        if self.fileno() < 0:
            return
        if self._file is not None:
            self._file.unlink()
        trio.lowlevel.notify_closing(self.socket)
        self.socket.close()


def _disable_nagle(sock: socket.socket) -> None:
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError:
        # macOS refuses options on a connection that the peer has already reset; the first read will say so.
        return


async def open_listeners(address: Address, *, backlog: int = 1024, mode: int | None = None) -> list[Listener]:
    """Listen on an address: one listener for each address of the host's name, one for anything else. A checkpoint.

    TCP: SO_REUSEADDR, so that a restart finds its port; IPv6 sockets take IPv6 only, so that both may be open; port 0
    gives all the same free port if possible. Unix: the file of a socket nobody listens on any more is replaced. A
    descriptor is adopted as it is, with its own backlog, and closed with the listener; a refused one is left open.

    Args:
      backlog: connections that the kernel completes and keeps for us, capped by the kernel (net.core.somaxconn).
      mode: the permissions of a unix socket's file; None: those that the umask leaves.

    Raises:
      ListenError: the address cannot be listened on; no socket is left open.
    """
    await trio.lowlevel.checkpoint()
    match address:
        case TcpAddress():
            return _open_tcp(address, await _resolve(address), backlog)
        case UnixAddress():
            return [_open_unix(address, backlog, mode)]
        case FdAddress():
            return [_adopt_descriptor(address)]


def adopt_listener(given: socket.socket | trio.SocketListener) -> Listener:
    """Listen on what somebody else has bound, with its own backlog; it is closed with the listener.

    Trio's listener gives up its socket and is of no more use.

    Raises:
      ListenError: it is no socket that can be listened on; a socket object is then left open.
    """
    if isinstance(given, trio.SocketListener):
        return _adopt(socket.socket(fileno=given.socket.detach()), f"{given!r}")
    return _adopt(given, f"the socket {given!r}")


_SockAddr: TypeAlias = tuple[str | int | bytes, ...]
_Resolved: TypeAlias = list[tuple[socket.AddressFamily, _SockAddr]]


async def _resolve(address: TcpAddress) -> _Resolved:
    try:
        infos = await trio.socket.getaddrinfo(
            address.host or None,
            address.port,
            type=socket.SOCK_STREAM,
            flags=socket.AI_PASSIVE,
        )
    except (socket.gaierror, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise ListenError(
            f"cannot listen on {describe(address)}: the name does not resolve ({why}); "
            "check its spelling or give an IP address"
        ) from error
    resolved: _Resolved = []
    for family, _, _, _, sockaddr in infos:
        # The rest: a duplicate line of the hosts file, or Python's form for IPv6 in a build without it.
        if isinstance(sockaddr[0], str) and (family, sockaddr) not in resolved:
            resolved.append((family, sockaddr))
    return resolved


def _open_tcp(address: TcpAddress, resolved: _Resolved, backlog: int) -> list[Listener]:
    if address.port == 0 and len(resolved) > 1:
        for _ in range(SAME_PORT_TRIES):
            try:
                return _open_all(address, resolved, backlog, same_port=True)
            except ListenError as error:
                if not _is_in_use(error.__cause__):
                    raise
    return _open_all(address, resolved, backlog, same_port=False)


def _is_in_use(cause: BaseException | None) -> bool:
    return isinstance(cause, OSError) and cause.errno == errno.EADDRINUSE


def _open_all(address: TcpAddress, resolved: _Resolved, backlog: int, *, same_port: bool) -> list[Listener]:
    """Bind every address of the name, or none; those this machine does not have are skipped if it has another."""
    listeners: list[Listener] = []
    missing: OSError | None = None
    port = address.port
    with contextlib.ExitStack() as on_failure:
        for family, (host, _, *flow_and_scope) in resolved:
            try:
                sock = _bind_tcp(family, (host, port, *flow_and_scope), backlog)
            except OSError as error:
                if error.errno not in _NOT_HERE:
                    _refuse(address, error, _TCP_REMEDIES)
                missing = error
                continue
            on_failure.callback(sock.close)
            bound = address_of(sock)
            listeners.append(Listener(sock, bound))
            if same_port and isinstance(bound, TcpAddress):
                port = bound.port
        if missing is not None and not listeners:
            _refuse(address, missing, _TCP_REMEDIES)
        on_failure.pop_all()
    return listeners


def _bind_tcp(family: socket.AddressFamily, sockaddr: _SockAddr, backlog: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        # A port whose last connections are in TIME_WAIT may be bound again; one that is listened on may not.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(sockaddr)
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def _open_unix(address: UnixAddress, backlog: int, mode: int | None) -> Listener:
    try:
        _remove_stale(address)
        return _bind_unix(address, backlog, mode)
    except OSError as error:
        if error.errno is None:  # Python itself refuses what does not fit into sockaddr_un.sun_path
            raise ListenError(
                f"cannot listen on {describe(address)}: the path is too long for a unix socket; choose a shorter one"
            ) from error
        _refuse(address, error, _UNIX_REMEDIES)


def _bind_unix(address: UnixAddress, backlog: int, mode: int | None) -> Listener:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.bind(address.path)
        path = os.path.abspath(address.path)
        file = _SocketFile(path, _identity(path))
        try:
            if mode is not None:
                os.chmod(path, mode)  # before listen(): until then nobody can connect
            sock.listen(backlog)
        except BaseException:
            file.unlink()
            raise
        return Listener(sock, address, file)
    except BaseException:
        sock.close()
        raise


def _remove_stale(address: UnixAddress) -> None:
    """Make room at the path if a server that is no more left its socket there; anything else there is an error."""
    try:
        found = os.lstat(address.path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise ListenError(
            f"cannot listen on {describe(address)}: a file that is no socket is there; remove it or choose another path"
        )
    answer = _probe(address.path)
    if answer not in _NOBODY_LISTENS:
        who = "another server listens there"
        if answer not in _SOMEBODY_LISTENS:  # no permission, a datagram socket: somebody may need it
            who = f"there is a socket that does not answer ({os.strerror(answer).lower()})"
        raise ListenError(f"cannot listen on {describe(address)}: {who}; stop its server or choose another path")
    # Another server may have found the same stale socket and replaced it since; then bind() says that it is in use.
    with contextlib.suppress(FileNotFoundError):
        if _identity(address.path) == (found.st_dev, found.st_ino):
            os.unlink(address.path)


def _probe(path: str) -> int:
    """What connecting to this unix socket gives, as an errno: the only way to know whether anybody listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        return probe.connect_ex(path)


def _identity(path: str) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino


def _adopt_descriptor(address: FdAddress) -> Listener:
    try:
        sock = socket.socket(fileno=address.fd)
    except OSError as error:
        raise ListenError(
            f"cannot listen on {describe(address)}: {_strerror(error)}; pass the number of an open listening socket"
        ) from error
    try:
        listener = _adopt(sock, describe(address))
    except BaseException:
        sock.detach()  # refused: the descriptor stays with whoever opened it
        raise
    sock.set_inheritable(False)
    return listener


def _adopt(sock: socket.socket, name: str) -> Listener:
    """Take over a socket that somebody else has bound; its file, if any, stays theirs."""
    why = _why_not_listening(sock)
    if why is not None:
        raise ListenError(f"cannot listen on {name}: {why}; pass a TCP or unix stream socket that listens")
    try:
        address = address_of(sock)
    except AddressError:
        # Bound to something without a path, as Linux's abstract names: it works, so call it what it was given as.
        address = FdAddress(sock.fileno())
    sock.setblocking(False)
    return Listener(sock, address)


def _why_not_listening(sock: socket.socket) -> str | None:
    """What keeps this socket from being listened on? `None`: nothing."""
    if sock.fileno() < 0:
        return "it is closed"
    if sock.family not in _FAMILIES or sock.type != socket.SOCK_STREAM:
        return f"it is no stream socket of a known family ({sock.family!r}, {sock.type!r})"
    try:
        listening = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError:
        # macOS defines the option and refuses it; there the first accept() tells.
        return None
    return None if listening else "it does not listen"


def _refuse(address: Address, error: OSError, remedies: dict[int, str]) -> NoReturn:
    why = remedies.get(error.errno or 0, _strerror(error))
    raise ListenError(f"cannot listen on {describe(address)}: {why}") from error


def _strerror(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
