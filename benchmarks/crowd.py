"""A crowd of connections that a server has to live with: idle ones, or readers of something big at a steady pace.

Prints one line of JSON when everybody is in place, stays until its standard input ends or --seconds are over, and then
prints another: how many connections are still open, and how fast the readers have been.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import select
import socket
import sys
import time

TICK = 0.05  # seconds between two helpings of a reader
SETTLE = 1.0  # seconds until the first big answers, which fill every buffer, are over
RECEIVE_BUFFER = 256 * 1024  # bytes; the kernel's own would take megabytes for each reader at once


def connect(port: int) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    sock.settimeout(10)
    sock.connect(("127.0.0.1", port))
    return sock


def ask(sock: socket.socket, path: str) -> None:
    sock.sendall(b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % path.encode())


def receive_answer(sock: socket.socket) -> None:
    """Read one small answer, whole."""
    received = b""
    while not received.endswith(b"Hello, world!"):
        data = sock.recv(65536)
        if not data:
            raise ConnectionError("the server closed a connection that was to be idle")
        received += data


def told_to_leave() -> bool:
    readable, _, _ = select.select([sys.stdin], [], [], 0)
    return bool(readable)


def say(**facts: object) -> None:
    print(json.dumps(facts), flush=True)


def count_open(socks: list[socket.socket]) -> int:
    """How many the server has not closed: their next read would have to wait."""
    still = 0
    for sock in socks:
        sock.setblocking(False)
        try:
            sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            still += 1
        except OSError:
            continue
    return still


def be_idle(socks: list[socket.socket], path: str, until: float) -> None:
    """Each has one answer and then says nothing."""
    for sock in socks:
        ask(sock, path)
        receive_answer(sock)
    say(ready=len(socks))
    while time.monotonic() < until and not told_to_leave():
        time.sleep(TICK)
    say(open=count_open(socks))


def read_steadily(socks: list[socket.socket], path: str, until: float, rate: int) -> None:
    """Each reads `rate` bytes per second, in helpings."""
    for sock in socks:
        ask(sock, path)
        sock.recv(1)
        sock.setblocking(False)
    buffer = memoryview(bytearray(rate))
    began = time.monotonic()
    owed = [began] * len(socks)  # up to when each has had its share
    taken = 0
    broken = 0
    is_ready = False
    while time.monotonic() < until and not told_to_leave():
        now = time.monotonic()
        if not is_ready and now - began > SETTLE:
            say(ready=len(socks))
            is_ready, began, taken = True, now, 0
        for number, sock in enumerate(socks):
            share = min(rate, int((now - owed[number]) * rate))
            with contextlib.suppress(BlockingIOError):
                got = sock.recv_into(buffer, share) if share else 0
                taken += got
                owed[number] += got / rate if got else 0.0
            owed[number] = max(owed[number], now - 1.0)  # who waited for the server catches up on one second only
        time.sleep(max(0.0, now + TICK - time.monotonic()))
    seconds = time.monotonic() - began
    for sock in socks:
        try:
            broken += sock.recv(1, socket.MSG_PEEK) == b""
        except BlockingIOError:
            continue
        except OSError:
            broken += 1
    say(open=len(socks) - broken, bytes_per_second_each=round(taken / seconds / len(socks)))


def main() -> None:
    parser = argparse.ArgumentParser(description=sys.modules[__name__].__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("path")
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--rate", type=int, default=0, help="bytes per second each; 0: idle after one answer")
    parser.add_argument("--seconds", type=float, default=30.0, help="leave after this long at the latest")
    given = parser.parse_args()
    until = time.monotonic() + given.seconds
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(connect(given.port)) for _ in range(given.connections)]
        if given.rate:
            read_steadily(socks, given.path, until, given.rate)
        else:
            be_idle(socks, given.path, until)


main()
