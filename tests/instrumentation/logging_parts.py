"""What the tests of logs share: a request to tell about, and a sink in memory that can be slow, or fail."""

from __future__ import annotations

import threading

from ktrio.http.details import RequestDetails

WHEN = 971211336.5  # 10 October 2000, 20:55:36 UTC: the example of Apache's documentation


def details(**changes):
    """One answered request."""
    values = {
        "method": "GET",
        "target": "/apache_pb.gif",
        "version": "1.0",
        "status": 200,
        "peer": "127.0.0.1:50438",
        "bytes_sent": 2326,
        "duration": 0.0123456,
        "started": WHEN,
        "user_agent": "Mozilla/4.08 [en] (Win98; I ;Nav)",
        "referer": "http://www.example.com/start.html",
        "request_id": "0af7651916cd43dd8448eb211c80319c",
        "first_byte": 0.01,
    }
    return RequestDetails(**{**values, **changes})


class MemorySink:
    """Keeps what it is given, in files; written to by threads."""

    name = "memory"

    def __init__(self):
        self.files = [b""]
        self.closed = 0
        self.calls = 0
        self.room = None  # bytes that it still takes; None: any number
        self.error = OSError(28, "No space left on device")
        self.reopen_error = None
        self.gate = threading.Event()  # closed: a write waits
        self.gate.set()

    def write(self, data):
        self.calls += 1
        assert self.gate.wait(20)
        count = len(data) if self.room is None else min(len(data), self.room)
        if not count:
            raise self.error
        if self.room is not None:
            self.room -= count
        self.files[-1] += bytes(data[:count])
        return count

    def reopen(self):
        if self.reopen_error is not None:
            raise self.reopen_error
        self.files.append(b"")

    def close(self):
        self.closed += 1
