"""A small site that does not change, served in memory; raw bytes go in."""

from __future__ import annotations

import gzip
import inspect
import os
from pathlib import Path

import pytest
import trio

from ktrio import Headers, Response
from ktrio.handlers.files import files
from ktrio.testing import serve_in_memory
from tests.rfc.wire import Wire
from tests.server.harness import run_bounded

LETTERS = b"abcdefghijklmnopqrstuvwxyz"
TEXT = b"the same again and again, so that it shrinks; " * 200
THEN = 1_000_000_000  # Sun, 09 Sep 2001 01:46:40 GMT


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run every async test of this directory by `run_bounded`, which has a clock that stands still."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and inspect.iscoroutinefunction(getattr(item, "obj", None)):
            item.add_marker(pytest.mark.trio(run=run_bounded), append=False)


def plant(root: Path) -> Path:
    (root / "sub").mkdir(parents=True)
    contents = {
        "a.txt": LETTERS,
        "sub/b.txt": b"b",
        "long.bin": bytes(range(256)) * 40,
        "empty.bin": b"",
        "style.css": TEXT,
        "page.html": TEXT,
        "page.html.gz": gzip.compress(TEXT, mtime=0),
        "page.html.br": b"br" * 20,  # nobody here looks inside
        "picture.png": b"\x89PNG",
        "what.unknown": b"?",
        "a b.txt": b"space",
        ".env": b"SECRET",
    }
    for name, content in contents.items():
        (root / name).write_bytes(content)
        os.utime(root / name, (THEN, THEN))
    return root


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    return plant(tmp_path_factory.mktemp("site"))


@pytest.fixture
def site(folder):
    """The handler; asked long after the folder was made, so that its files have settled."""
    return files(folder, wall_clock=lambda: 4_000_000_000.0)


@pytest.fixture
async def served(site):
    async with serve_in_memory(site) as memory:
        yield memory


@pytest.fixture
async def wire(served):
    """A connection to the site."""
    return Wire(served)


@pytest.fixture
async def ask(served):
    """`await ask(data)`: the one response to it, on a connection of its own."""

    async def ask_once(data, **options):
        return await Wire(served).ask(data, **options)

    return ask_once


@pytest.fixture
async def wire_to():
    """`await wire_to(handler, **options)`: a connection to a server of its own."""
    async with trio.open_nursery() as nursery:

        async def connect(handler, **options):
            return Wire(await nursery.start(serve_until_cancelled, handler, options))

        yield connect
        nursery.cancel_scope.cancel()


async def serve_until_cancelled(handler, options, *, task_status):
    async with serve_in_memory(handler, **options) as memory:
        task_status.started(memory)
        await trio.sleep_forever()


@pytest.fixture
async def echo(wire_to):
    """A connection to a handler that answers with the body it got, and what it made of the head."""

    async def handler(request):
        body = await request.read()
        fields = [("x-host", request.headers.get("host", "-")), ("x-path", request.path), ("x-body", str(len(body)))]
        fields += [(f"x-got-{name}", value) for name, value in request.headers if name.startswith("t-")]
        return Response(200, Headers(fields), body)

    return await wire_to(handler)


@pytest.fixture
def sleepy():
    """A handler that waits until it is cancelled."""

    async def handler(request):
        await trio.sleep_forever()

    return handler
