"""The fixtures of the tests of whole servers; each directory's `conftest.py` names those it uses."""

from __future__ import annotations

import dataclasses
import gc
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial

import pytest
import trio

import ktrio
from tests.server.harness import Client, let_time_fly


def open_descriptors() -> dict[int, str]:
    """What this process has open, as the kernel tells it; nothing where it does not tell."""
    found: dict[int, str] = {}
    if not os.path.isdir("/proc/self/fd"):
        return found
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:  # the listing's own
            continue
    return found


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No test, and no server in it, leaves a descriptor behind."""
    before = open_descriptors()
    yield
    after = open_descriptors()
    if after.keys() - before.keys():
        gc.collect()  # a failed test's traceback may hold one; if not even that frees it, it is lost
        after = open_descriptors()
    assert {number: after[number] for number in after.keys() - before.keys()} == {}


@pytest.fixture
async def connect() -> AsyncIterator[Callable[..., object]]:
    """`await connect(server)` gives a `Client`; all are closed in the end."""
    made: list[socket.socket] = []

    async def connect_to(server: ktrio.Server, index: int = 0, *, receive_buffer: int | None = None) -> Client:
        match server.addresses[index]:
            case ktrio.UnixAddress(path):
                family, where = socket.AF_UNIX, path
            case ktrio.TcpAddress(host, port):
                family, where = socket.AF_INET6 if ":" in host else socket.AF_INET, (host, port)
            case other:
                raise AssertionError(other)
        made.append(socket.socket(family))
        client = Client(made[-1])
        if receive_buffer is not None:
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await client.sock.connect(where)
        return client

    try:
        yield connect_to
    finally:
        for sock in made:
            sock.close()


@pytest.fixture
async def servers() -> AsyncIterator[trio.Nursery]:
    """The nursery of the servers; cancelled in the end, while time flies: a last linger ends by itself."""
    async with trio.open_nursery() as nursery:
        try:
            yield nursery
        finally:
            let_time_fly()
            nursery.cancel_scope.cancel()


def on_the_queue_under_test(options: dict[str, object]) -> dict[str, object]:
    """The options of a server, on a bound queue of its own where that is what the whole run is about."""
    if "KTRIO_TEST_BOUND" not in os.environ or options.get("workqueue") is not None:
        return options
    given = options.get("queue")
    queue = given if isinstance(given, ktrio.QueueOptions) else ktrio.QueueOptions()
    return {**options, "queue": dataclasses.replace(queue, bound=True)}


@pytest.fixture
async def start_http(servers: trio.Nursery) -> Callable[..., object]:
    """`await start_http(handler, …)` starts `serve_http` on a free port of 127.0.0.1 and gives its `Server`."""

    async def start(handler: ktrio.Handler, *addresses: object, within: trio.Nursery | None = None, **options: object):
        where = addresses or ("127.0.0.1:0",)
        return await (within or servers).start(
            partial(ktrio.serve_http, handler, *where, **on_the_queue_under_test(options))
        )

    return start


@pytest.fixture
async def start_echo(servers: trio.Nursery) -> Callable[..., object]:
    """The same with `serve_echo`."""

    async def start(*addresses: object, within: trio.Nursery | None = None, **options: object):
        where = addresses or ("127.0.0.1:0",)
        return await (within or servers).start(partial(ktrio.serve_echo, *where, **on_the_queue_under_test(options)))

    return start


@pytest.fixture
async def start_stream(servers: trio.Nursery) -> Callable[..., object]:
    """The same with `serve_stream`."""

    async def start(
        handler: ktrio.StreamHandler, *addresses: object, within: trio.Nursery | None = None, **options: object
    ):
        where = addresses or ("127.0.0.1:0",)
        return await (within or servers).start(
            partial(ktrio.serve_stream, handler, *where, **on_the_queue_under_test(options))
        )

    return start
