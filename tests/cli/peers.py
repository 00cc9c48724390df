"""The other ends: an HTTP peer on a raw blocking socket, and waits for what happens to many sockets."""

from __future__ import annotations

import hashlib
import selectors
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tests.cli.processes import LIMIT

REQUEST = b"GET /%s HTTP/1.1\r\nHost: test\r\n\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A response as it came."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def closes(self) -> bool:
        return self.headers.get("connection", "").lower() == "close"


class Peer:
    """Says requests and reads responses, no more than there is to each."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._buffer = bytearray()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def request(self, target: str = "", *, method: str = "GET", headers: str = "") -> None:
        self.send(f"{method} /{target} HTTP/1.1\r\nHost: test\r\n{headers}\r\n".encode())

    def get(self, target: str = "", *, close: bool = False) -> Answer:
        self.request(target, headers="Connection: close\r\n" if close else "")
        return self.answer()

    def answer(self, *, has_body: bool = True) -> Answer:
        status, headers = self.head()
        body = self.read(int(headers["content-length"])) if has_body else b""
        return Answer(status=status, headers=headers, body=body)

    def head(self) -> tuple[int, dict[str, str]]:
        """Status and fields (names in lower case) of the next response; its body is left to be read."""
        while b"\r\n\r\n" not in self._buffer:
            self._more()
        head, _, rest = bytes(self._buffer).partition(b"\r\n\r\n")
        self._buffer[:] = rest
        first, *lines = head.decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        return int(first.split()[1]), {name.lower(): value.strip() for name, _, value in pairs}

    def read(self, count: int) -> bytes:
        """Exactly so many bytes."""
        while len(self._buffer) < count:
            self._more()
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    def read_to_end(self) -> bytes:
        """All that still comes, to the FIN."""
        while data := self.sock.recv(1 << 20):
            self._buffer += data
        data = bytes(self._buffer)
        self._buffer.clear()
        return data

    def drop(self, *, at_once: int = 1 << 20) -> int:
        """Read and forget to the end, be it a FIN or a reset; how many bytes there were."""
        dropped = len(self._buffer)
        self._buffer.clear()
        space = memoryview(bytearray(at_once))
        try:
            while got := self.sock.recv_into(space):
                dropped += got
        except ConnectionResetError:
            pass
        return dropped

    def digest(self, count: int, *, start: int = 0, end: int | None = None) -> str:
        """Read a body of so many bytes; the SHA-256 of those from start to end. Memory stays flat."""
        sha, space, at = hashlib.sha256(), memoryview(bytearray(1 << 20)), 0
        end = count if end is None else end
        while at < count:
            if self._buffer:
                got = min(len(self._buffer), len(space), count - at)
                space[:got] = self._buffer[:got]
                del self._buffer[:got]
            else:
                got = self.sock.recv_into(space[: min(len(space), count - at)])
                assert got, f"the body ended after {at} of {count} bytes"
            sha.update(space[max(start - at, 0) : max(min(got, end - at), 0)])
            at += got
        return sha.hexdigest()

    def _more(self) -> None:
        data = self.sock.recv(1 << 18)
        assert data, f"closed after {bytes(self._buffer[:500])!r}"
        self._buffer += data


def begin_download(peer: Peer, target: str) -> int:
    """Ask for a file and take its head and first byte; how many bytes of it are still to come."""
    peer.request(target)
    status, headers = peer.head()
    assert status == 200
    peer.read(1)
    return int(headers["content-length"]) - 1


def wait_each(
    socks: Iterable[socket.socket], done: Callable[[socket.socket], bool], *, limit: float = LIMIT
) -> list[socket.socket]:
    """Call ``done`` for each socket whenever it is readable, until all are done; those that never were."""
    end = time.monotonic() + limit
    with selectors.DefaultSelector() as selector:
        for sock in socks:
            selector.register(sock, selectors.EVENT_READ)
        while (remaining := selector.get_map()) and (left := end - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                if done(sock):
                    selector.unregister(sock)
        return [key.fileobj for key in remaining.values() if isinstance(key.fileobj, socket.socket)]


def has_ended(sock: socket.socket) -> bool:
    """Read what is there; whether the other side has closed or reset the connection."""
    try:
        return not sock.recv(1 << 16)
    except ConnectionResetError:
        return True


def wait_closed(socks: Iterable[socket.socket]) -> None:
    """Until the other side has closed each of them."""
    left = wait_each(socks, has_ended)
    assert not left, f"{len(left)} connections are still open"
