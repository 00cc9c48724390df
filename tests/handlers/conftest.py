"""What a handler needs of a server: a request, somebody who closes the response, and nobody who leaks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest
import trio

from ktrio.http.headers import Headers
from ktrio.http.messages import FileRange, Request
from ktrio.http.target import split_target


class NoBody:
    async def read(self):
        return b""


class Answer:
    """A response as a peer would see it; making one closes the body, as the protocol does."""

    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.is_file = isinstance(response.body, FileRange)
        if not self.is_file:
            self.body = response.body
            return
        self.path = os.readlink(f"/proc/self/fd/{response.body.descriptor}")
        self.body = os.pread(response.body.descriptor, response.body.count, response.body.offset)
        response.body.close()

    @property
    def text(self):
        return self.body.decode()

    def __getitem__(self, name):
        return self.headers.get(name)


@asynccontextmanager
async def pieces_of(response):
    """The pieces of a body that is written by a function, as an async iterator; each is made when it is asked for."""
    (to_reader, from_writer), (ask_for, asked) = trio.open_memory_channel(0), trio.open_memory_channel(0)

    async def send(piece):
        await to_reader.send(piece)
        await asked.receive()

    async def write():
        async with to_reader:
            await response.body(send)

    async def read():
        yield await from_writer.receive()
        while True:
            try:
                await ask_for.send(None)
                yield await from_writer.receive()
            except (trio.EndOfChannel, trio.BrokenResourceError):
                return

    async with trio.open_nursery() as nursery, aclosing(read()) as pieces:
        nursery.start_soon(write)
        yield pieces
        nursery.cancel_scope.cancel()


def make_request(raw="/", method="GET", headers=(), *, path=None):
    """A request for the target `raw`; `path` bypasses the splitting of targets, as no protocol would."""
    split, query = split_target(raw, method=method) if path is None else (path, None)
    return Request(
        method=method,
        target=raw,
        path=split,
        query=query,
        version="1.1",
        headers=Headers(headers),
        peer="192.0.2.1:4711",
        draining=trio.Event(),
        body=NoBody(),
    )


@pytest.fixture(scope="session")
def ask():
    """`await ask(handler, target, method, headers)` gives an `Answer`."""

    async def ask_handler(handler, raw="/", method="GET", headers=(), *, path=None):
        response = await handler(make_request(raw, method, headers, path=path))
        if callable(response.body):
            async with pieces_of(response) as pieces:
                response.body = b"".join([piece async for piece in pieces])
        return Answer(response)

    return ask_handler


@pytest.fixture(scope="session")
def request_for():
    return make_request


def open_descriptors():
    # The listing itself opens one; it is gone before the names are read back.
    return {name: link for name in os.listdir("/proc/self/fd") if (link := _link(name)) is not None}


def _link(name):
    try:
        return os.readlink(f"/proc/self/fd/{name}")
    except FileNotFoundError:
        return None


@pytest.fixture(autouse=True)
def no_descriptor_leaks() -> Iterator[None]:
    before = open_descriptors()
    yield
    after = open_descriptors()
    leaked = {name: link for name, link in after.items() if before.get(name) != link}
    # Trio keeps nothing open between two runs, and a worker thread holds no descriptor of its own.
    assert not leaked


@pytest.fixture(params=["by handle", "by name"])
def way_to_open(request, monkeypatch):
    """Run a test for both ways to open: that of Linux, and that of systems that cannot say where a handle lies."""
    if request.param == "by name":
        monkeypatch.setattr("ktrio.handlers._tree.handles_work", lambda root: False)
    return request.param


def plant(root: Path) -> Path:
    """A tree with something of everything, in `root`/served; secrets lie beside it. Gives the served folder."""
    served = root / "served"
    (served / "sub" / "deep").mkdir(parents=True)
    (root / "secret.txt").write_text("SECRET")
    (root / "outside").mkdir()
    (root / "outside" / "secret.txt").write_text("SECRET")
    (root / "outside" / "index.html").write_text("SECRET")
    (root / "served-not").mkdir()
    (root / "served-not" / "secret.txt").write_text("SECRET")

    (served / "a.txt").write_text("inside")
    (served / "sub" / "b.txt").write_text("inside")
    (served / ".env").write_text("HIDDEN")
    (served / "sub" / ".git").mkdir()
    (served / "sub" / ".git" / "config").write_text("HIDDEN")
    for place in (served, served / "sub"):
        (place / ".well-known").mkdir()
        (place / ".well-known" / "acme").write_text("inside" if place == served else "HIDDEN")
        (place / ".well-known" / ".secret").write_text("HIDDEN")
    links = {
        "in": "a.txt",
        "in-dir": "sub",
        "in-absolute": str(served / "a.txt"),
        "in-around": "../served/a.txt",
        "out": "../secret.txt",
        "out-absolute": str(root / "secret.txt"),
        "out-dir": "../outside",
        "out-sibling": "../served-not",
        "out-chain": "out",
        "out-root": "/",
        "sub/up": "../..",
        "loop": "loop",
        "dangling": "nothing",
        "device": "/dev/zero",
    }
    for name, target in links.items():
        (served / name).symlink_to(target)
    os.mkfifo(served / "fifo")
    return served


@pytest.fixture
def served(tmp_path) -> Path:
    return plant(tmp_path)


@pytest.fixture(scope="session")
def lasting_tree(tmp_path_factory) -> Path:
    """As `served`, for tests that only read, many times."""
    return plant(tmp_path_factory.mktemp("lasting"))
