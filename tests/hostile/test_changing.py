"""A file changes while it is answered with: the framing stays right, the bytes its own, the log says what broke off."""

from __future__ import annotations

import gzip
import logging
from functools import partial

import pytest
import trio

from ktrio import files
from ktrio.testing import serve_in_memory
from ktrio.testing._responses import parse_response
from tests.hostile.changing import (
    BROKEN,
    CHANGES,
    FIRST,
    NEIGHBOUR,
    OUTCOMES,
    OUTSIDE,
    SCENES,
    SECOND,
    WHOLE,
    Scene,
    acting_before_call,
    be_replaced,
    fail_to_be_read,
    plant,
    shrink,
)

BUFFER = 16 * 1024
LATER = 1_000_000_000.0  # seconds that the handler's clock is ahead: no file is racy for it


@pytest.fixture
def root(tmp_path):
    (tmp_path / "served").mkdir()
    return tmp_path


def ask(scene: Scene) -> bytes:
    lines = [
        f"{scene.method} {scene.target} HTTP/1.1",
        "Host: x",
        *(f"{name}: {value}" for name, value in scene.fields),
    ]
    return "\r\n".join([*lines, "", ""]).encode()


async def take(stream, size: int | None = None) -> bytes:
    """What comes until nothing does, or about `size` bytes of it."""
    received = b""
    while size is None or len(received) < size:
        await trio.testing.wait_all_tasks_blocked()
        try:
            data = await stream.receive_until_blocked() if size is None else stream.receive_nowait(1024)
        except trio.BrokenResourceError:
            break
        if not data:
            break
        received += data
    return received


def judge(scene: Scene, change, received: bytes, ended: str, logged: list[logging.LogRecord]) -> str:
    """What is wrong with an answer; "": nothing."""
    if OUTSIDE * 8 in received or NEIGHBOUR * 8 in received:
        return "another file's bytes"
    try:
        parsed = parse_response(received, method=scene.method, ended=bool(ended))
    except AssertionError as error:
        if "broke off" not in str(error):
            return f"no sound answer: {error}"
        if not ended:
            return "neither whole nor broken off"
        said = [record.getMessage() for record in logged]
        return "" if len(said) == 1 and scene.target in said[0] else f"broken off, and the log says {said}"
    if parsed is None:
        return "neither whole nor broken off"
    response, taken = parsed
    if taken != len(received):
        return "bytes behind the answer"
    if (response.status == 500) is not bool(logged):
        return f"{response.status}, and the log says {[record.getMessage() for record in logged]}"
    if response.status == 500 and change is not fail_to_be_read:
        return "500"
    return judge_body(change, response)


def judge_body(change, response) -> str:
    body = response.body
    is_file = response.status == 200 and "last-modified" in response.headers
    if not is_file or not body:
        return ""
    if response.headers.get("content-encoding") == "gzip":
        try:
            body = gzip.decompress(body)
        except (OSError, EOFError):
            return ""  # a sibling that was rewritten in place is what it is
    if not set(body) <= set(FIRST + SECOND):
        return "" if set(response.body) <= set(FIRST + SECOND) or body != response.body else "bytes of neither version"
    return "two versions in one answer" if change is be_replaced and len(set(body)) > 1 else ""


async def answer(memory, scene: Scene, *, midway=None) -> tuple[bytes, str]:
    """Ask, take some of the answer, let something happen, take the rest."""
    stream = memory.connect(buffer_bytes=BUFFER)
    await stream.send_all(ask(scene))
    received = b""
    if midway is not None:
        received = await take(stream, 4096)
        midway()
    received += await take(stream)
    ended = stream.ended
    stream.close()
    return received, ended


@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES)
async def test_a_file_that_changes_at_any_moment_is_answered_soundly(mock_clock, caplog, root, scene):
    """Between open, stat, the reads and the sends: right before each call of the system that is made for an answer."""
    wrong = {}
    async with serve_in_memory(files(root / "served", wall_clock=lambda: LATER * 3)) as memory:
        for change in CHANGES:
            at, calls = 0, [""]
            while at < min(len(calls), 40):
                victim = plant(root, scene)
                caplog.clear()
                with acting_before_call(at, partial(change, victim)) as calls:
                    received, ended = await answer(memory, scene)
                fault = judge(scene, change, received, ended, caplog.records)
                if fault:
                    wrong[change.__name__, at, tuple(calls[: at + 1])] = fault
                at += 1
            caplog.clear()
            assert (await memory.request("GET", "/fine.txt")).body == b"fine"
    assert wrong == {}


@pytest.mark.parametrize("change", OUTCOMES)
@pytest.mark.parametrize(
    "scene", [each for each in SCENES.values() if each.size > 100_000], ids=lambda each: str(each.fields)
)
async def test_a_file_that_changes_under_a_slow_reader_is_its_own_or_breaks_off(
    mock_clock, caplog, root, scene, change
):
    """RFC 9112 section 8: what cannot be completed must be seen to be incomplete."""
    victim = plant(root, scene)
    async with serve_in_memory(files(root / "served", wall_clock=lambda: LATER * 3)) as memory:
        received, ended = await answer(memory, scene, midway=lambda: change(victim))
        assert judge(scene, change, received, ended, caplog.records) == ""
        assert bool(ended) is (OUTCOMES[change] is BROKEN)
        assert received.startswith(b"HTTP/1.1 20")
        assert OUTCOMES[change] is not WHOLE or SECOND * 8 not in received
        caplog.clear()
        assert (await memory.request("GET", "/fine.txt")).body == b"fine"


@pytest.mark.parametrize("scene", [each for name, each in SCENES.items() if name.startswith("compressed")])
async def test_a_file_that_shrinks_before_it_is_compressed_is_not_answered_by_halves(mock_clock, root, scene):
    """Its validators are those of all of it."""
    async with serve_in_memory(files(root / "served", wall_clock=lambda: LATER * 3)) as memory:
        plant(root, scene)
        with acting_before_call(-1, lambda: None) as calls:
            await answer(memory, scene)
        victim = plant(root, scene)
        with acting_before_call(calls.index("pread"), partial(shrink, victim)):
            received, ended = await answer(memory, scene)
        assert ended == "reset"
        assert b"content-encoding" not in received.lower()
