"""What every server with a constant reply says: the same 13 bytes that the servers of files find in theirs."""

from __future__ import annotations

BODY = b"Hello, world!"
FIELDS = [(b"Content-Type", b"text/plain"), (b"Content-Length", b"%d" % len(BODY))]
REPLY = b"HTTP/1.1 200 OK\r\n" + b"".join(b"%s: %s\r\n" % field for field in FIELDS) + b"\r\n" + BODY


def keeps_open(head: bytes) -> bool:
    """Does the client want to send more on this connection? HTTP/1.0 clients that ask for it are not understood."""
    return b" HTTP/1.1\r\n" in head + b"\r\n" and b"connection: close" not in head.lower()
