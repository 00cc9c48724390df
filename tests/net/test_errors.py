from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

import pytest

from ktrio.net.errors import (
    ACCEPT_EXHAUSTED,
    ACCEPT_IGNORED,
    CONNECTION_LOST,
    AddressError,
    ConnectionGone,
    translate,
)


@pytest.fixture
def sock() -> Iterator[socket.socket]:
    with socket.socket() as sock:
        yield sock


@pytest.mark.parametrize("number", sorted(CONNECTION_LOST))
def test_translate_an_errno_of_the_table_becomes_connection_gone(number: int, sock: socket.socket) -> None:
    error = OSError(number, "")
    with pytest.raises(ConnectionGone) as caught:
        translate(error, sock)
    assert getattr(errno, caught.value.errno_name) == number
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [OSError(errno.EINVAL, ""), OSError(errno.EIO, ""), OSError("no errno")])
def test_translate_anything_else_is_raised_as_it_came(error: OSError, sock: socket.socket) -> None:
    with pytest.raises(OSError) as caught:
        translate(error, sock)
    assert caught.value is error


def test_translate_any_errno_of_a_socket_closed_here_becomes_connection_gone(sock: socket.socket) -> None:
    sock.close()
    with pytest.raises(ConnectionGone) as caught:
        translate(OSError(errno.EBADF, ""), sock)
    assert caught.value.errno_name == "EBADF"


def test_tables_hold_no_answer_that_means_later() -> None:
    later = {errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR, errno.EINPROGRESS}
    assert not later & (CONNECTION_LOST | ACCEPT_EXHAUSTED | ACCEPT_IGNORED)


def test_accept_tables_do_not_overlap() -> None:
    assert not ACCEPT_EXHAUSTED & ACCEPT_IGNORED
    assert {errno.EMFILE, errno.ENFILE} <= ACCEPT_EXHAUSTED
    assert errno.ECONNABORTED in ACCEPT_IGNORED


def test_address_error_is_a_value_error() -> None:
    assert issubclass(AddressError, ValueError)
