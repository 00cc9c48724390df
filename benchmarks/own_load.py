"""A load generator for where wrk and ab are missing: closed loop, one thread, one epoll, bounded in count and time.

Each connection sends a request, waits for the whole answer (and with --close for the server's FIN as well), and sends
the next. With --browser requests are those of `browser.lua`. Prints one line of JSON: the fields of `load.Load`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import select
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
CLOSES = re.compile(rb"\r\nconnection: *close\r\n", re.IGNORECASE)  # no body of ours contains it


class Client:
    """One connection at a time, and the answer it waits for."""

    def __init__(
        self, address: tuple[str, int], requests: Iterator[bytes], epoll: select.epoll, *, close: bool
    ) -> None:
        self._address = address
        self._requests = requests
        self._epoll = epoll
        self._close = close
        self._sock: socket.socket | None = None
        self._received = b""
        self._began = 0.0

    def begin(self) -> int:
        """Send a request, on a fresh connection if there is none; returns the descriptor to watch."""
        self._began = time.perf_counter()
        self._received = b""
        if self._sock is None:
            # On loopback a connect ends at once, or the backlog is full and waiting is what a client does.
            self._sock = socket.create_connection(self._address, timeout=5)
            self._sock.setblocking(False)
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._epoll.register(self._sock, select.EPOLLIN)
        self._sock.send(next(self._requests))
        return self._sock.fileno()

    def end(self) -> None:
        """Close the connection."""
        if self._sock is not None:
            self._epoll.unregister(self._sock)
            self._sock.close()
            self._sock = None

    def go_on(self) -> tuple[float, bool] | None:
        """Bytes came: the answer's seconds and whether it is a good one, or `None` if it is not complete yet."""
        assert self._sock is not None
        data = self._sock.recv(65536)
        self._received += data
        complete = self._is_complete()
        if data and (self._close or not complete):
            return None
        took = time.perf_counter() - self._began
        if not data or CLOSES.search(self._received):
            self.end()
        return took, complete and self._received.startswith(b"HTTP/1.1 200 ")

    def _is_complete(self) -> bool:
        head, blank_line, body = self._received.partition(b"\r\n\r\n")
        length = LENGTH.search(head)
        return bool(blank_line) and length is not None and len(body) >= int(length[1])


def plain_requests(path: str, host: str, *, close: bool) -> Iterator[bytes]:
    """One request, again and again."""
    fields = f"Host: {host}\r\n" + ("Connection: close\r\n" if close else "")
    return itertools.repeat(f"GET {path} HTTP/1.1\r\n{fields}\r\n".encode())


def browser_requests(path: str, host: str) -> Iterator[bytes]:
    """A browser's, no two alike."""
    table = re.findall(r'\["(.+?)"\] = "(.+)",', Path(__file__).with_name("browser.lua").read_text())
    fields = "".join(f"{name}: {value}\r\n" for name, value in table)
    for count in itertools.count(1):
        cookie = f"Cookie: visit={count}; theme=dark\r\n"
        yield f"GET {path}?visit={count} HTTP/1.1\r\nHost: {host}\r\n{fields}{cookie}\r\n".encode()


def run(url: str, connections: int, seconds: float, requests: int, *, close: bool, browser: bool) -> dict[str, object]:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    path, host = parts.path or "/", parts.netloc
    to_send = browser_requests(path, host) if browser else plain_requests(path, host, close=close)
    latencies: list[float] = []
    errors = begun = 0
    waiting: dict[int, Client] = {}
    with select.epoll() as epoll:
        clients = [Client((parts.hostname, parts.port), to_send, epoll, close=close) for _ in range(connections)]
        started = time.perf_counter()
        until = started + seconds
        ready = list(clients)
        while time.perf_counter() < until and (ready or waiting):
            for client in ready:
                if begun < requests:
                    begun += 1
                    try:
                        waiting[client.begin()] = client
                    except OSError:
                        errors += 1
                        client.end()
            ready = []
            for descriptor, _events in epoll.poll(0.1):
                client = waiting[descriptor]
                try:
                    answer = client.go_on()
                except OSError:
                    client.end()
                    answer = (0.0, False)
                if answer is None:
                    continue
                del waiting[descriptor]
                ready.append(client)
                if answer[1]:
                    latencies.append(answer[0])
                else:
                    errors += 1
        took = time.perf_counter() - started
        for client in clients:
            client.end()
    latencies.sort()
    return {
        "requests": len(latencies),
        "errors": errors,
        "seconds": took,
        "p50_ms": latencies[len(latencies) // 2] * 1000 if latencies else None,
        "p99_ms": latencies[len(latencies) * 99 // 100] * 1000 if latencies else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=sys.modules[__name__].__doc__)
    parser.add_argument("url")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=2.0, help="at most this long")
    parser.add_argument("--requests", type=int, default=1_000_000, help="at most this many")
    parser.add_argument("--close", action="store_true", help="a connection for each request")
    parser.add_argument("--browser", action="store_true", help="heads as browsers send them, no two alike")
    given = parser.parse_args()
    if given.close and given.browser:
        parser.error("--close and --browser exclude each other")
    limits = (given.connections, given.seconds, given.requests)
    print(json.dumps(run(given.url, *limits, close=given.close, browser=given.browser)))


main()
