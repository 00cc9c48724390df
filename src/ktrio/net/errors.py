"""What can go wrong with sockets, named by whose fault it is, and the errno tables that tell which is which.

An errno is translated once, here, at the border to the kernel; above this package nobody reads one, except that the
acceptor asks `ACCEPT_EXHAUSTED` and `ACCEPT_IGNORED` what to do next. An errno in no table is a bug of ours and is
raised as it came.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterator
from typing import Final, NoReturn, cast, final


@final
class AddressError(ValueError):
    """An address to listen on cannot be read or cannot exist: its writer's fault. One line, with the remedy."""


@final
class ListenError(Exception):
    """An address was understood but cannot be listened on; one line that names the address and the remedy.

    The fault of the machine's state or of the settings: the port is in use, there is no permission, the address
    belongs to another machine, the unix path is taken. The `OSError` behind it, if any, is its ``__cause__``.
    """


@final
class ConnectionGone(Exception):  # noqa: N818 -- "gone" is the word for it, and it is nobody's error
    """The connection cannot be used any more: the peer reset it, hung up, or was not reachable; or we closed it.

    The peer's fault or nobody's: no reason for a log line of its own. You get it from every method of
    `ktrio.net.connection.Connection` that reads or writes. `errno_name` says what the kernel said, as in
    ``"ECONNRESET"``; it is ``"EBADF"`` if the connection was closed on our side while in use.
    """

    def __init__(self, errno_name: str) -> None:
        super().__init__(errno_name)
        self.errno_name: Final = errno_name


def leaves_of(error: BaseException) -> Iterator[BaseException]:
    """The exceptions that a group holds, at whatever depth; any other exception is its own leaf."""
    if isinstance(error, BaseExceptionGroup):
        for each in cast("BaseExceptionGroup[BaseException]", error).exceptions:
            yield from leaves_of(each)
    else:
        yield error


def split_leaves(
    error: BaseException, is_one: Callable[[BaseException], bool]
) -> tuple[BaseException | None, BaseException | None]:
    """`error` as the part whose leaves answer True and the part of the others; either may be None.

    What needs no splitting comes back as it was, so that groups stay intact.
    """
    answers = {is_one(leaf) for leaf in leaves_of(error)}
    if len(answers) > 1 and isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return group.split(lambda each: not isinstance(each, BaseExceptionGroup) and is_one(each))
    return (error, None) if True in answers else (None, error)


def is_gone(leaf: BaseException) -> bool:
    """Does this say that the connection is lost, and nothing else?"""
    return isinstance(leaf, ConnectionGone)


def _existing(*names: str) -> frozenset[int]:
    """The errno numbers of those names that this platform knows."""
    return frozenset(getattr(errno, name) for name in names if hasattr(errno, name))


# What send, recv, shutdown and sendfile say of a stream socket whose other end is lost (tcp(7), unix(7)). ENOBUFS and
# ENOMEM are the local kernel's trouble, but a stream that lost a write half way is lost all the same; EPERM is a
# packet filter that began to reject.
CONNECTION_LOST: Final = _existing(
    "ECONNRESET",
    "EPIPE",
    "ETIMEDOUT",
    "ECONNABORTED",
    "ENOTCONN",
    "ESHUTDOWN",
    "EHOSTUNREACH",
    "EHOSTDOWN",
    "ENETUNREACH",
    "ENETDOWN",
    "ENETRESET",
    "ENONET",
    "EPROTO",
    "EPERM",
    "ENOBUFS",
    "ENOMEM",
)

# accept() failed because this process or machine has no room: pause, then try again (accept(2)).
ACCEPT_EXHAUSTED: Final = _existing("EMFILE", "ENFILE", "ENOBUFS", "ENOMEM")

# accept() failed because of the one connection it was about to give: try the next one at once. accept(2) demands this
# for Linux, where pending network errors of the new socket are reported here; the rest are other kernels' words for it.
ACCEPT_IGNORED: Final = _existing(
    "ECONNABORTED",
    "ECONNRESET",
    "EPROTO",
    "EPERM",
    "ENETDOWN",
    "ENETUNREACH",
    "ENOPROTOOPT",
    "EHOSTDOWN",
    "EHOSTUNREACH",
    "ENONET",
    "EOPNOTSUPP",
    "ETIMEDOUT",
    "ENOSR",
    "ESOCKTNOSUPPORT",
    "EPROTONOSUPPORT",
)


def is_connection_lost(error: OSError) -> bool:
    """Does this error of a connected stream socket mean that the connection is lost?"""
    return error.errno in CONNECTION_LOST


def translate(error: OSError, sock: socket.socket) -> NoReturn:
    """Raise what an error of this connected stream socket means to us.

    Not for `BlockingIOError`, which is an answer and no error.

    Raises:
      ConnectionGone: the errno is in `CONNECTION_LOST`, or the socket has been closed on our side.
      OSError: `error` itself: it is in no table, so it is a bug and must be seen.
    """
    if sock.fileno() < 0:
        raise ConnectionGone("EBADF") from error
    if error.errno is not None and is_connection_lost(error):
        raise ConnectionGone(errno.errorcode[error.errno]) from error
    raise error
