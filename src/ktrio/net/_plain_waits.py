"""Waiting for a socket by Trio's own means."""

from __future__ import annotations

import socket

import trio


def _check_open(sock: socket.socket) -> None:
    # Python marks a closed socket by -1, which Trio would pass on to the kernel.
    if sock.fileno() < 0:
        raise trio.ClosedResourceError("this socket is closed")


async def wait_readable(sock: socket.socket) -> None:
    """Trio's `wait_readable`, for sockets that may be closed already."""
    _check_open(sock)
    await trio.lowlevel.wait_readable(sock)


async def wait_writable(sock: socket.socket) -> None:
    """Trio's `wait_writable`, for sockets that may be closed already."""
    _check_open(sock)
    await trio.lowlevel.wait_writable(sock)
