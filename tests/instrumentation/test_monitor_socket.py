"""`serve_monitor` on real unix sockets: who may connect, what is replaced, what is left in the end."""

from __future__ import annotations

import json
import os
import socket
import stat
from pathlib import Path

import pytest
import trio

from ktrio import ListenError, QueueOptions, Response, Server, open_supervisor, serve_http, serve_monitor

pytestmark = pytest.mark.slow


async def first_line(path: Path) -> dict:
    async with await trio.open_unix_socket(os.fspath(path)) as stream:
        data = b""
        with trio.fail_after(20):
            while b"\n" not in data:
                data += await stream.receive_some()
    return json.loads(data)


async def test_one_line_opens_it_in_any_program_and_nothing_is_left(tmp_path: Path) -> None:
    path = tmp_path / "monitor"
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        await nursery.start(serve_monitor, supervisor, path)
        supervisor.alloc_workqueue("jobs")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert [each["name"] for each in (await first_line(path))["supervisor"]["workqueues"]] == ["jobs"]
        nursery.cancel_scope.cancel()
    assert not path.exists()


async def test_permissions_are_the_same_whatever_the_umask_says(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
            await nursery.start(serve_monitor, supervisor, tmp_path / "monitor")
            assert stat.S_IMODE((tmp_path / "monitor").stat().st_mode) == 0o600
            nursery.cancel_scope.cancel()
    finally:
        os.umask(before)


async def test_stale_socket_is_replaced_and_a_living_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "monitor"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(os.fspath(path))
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        await nursery.start(serve_monitor, supervisor, path)
        with pytest.raises(ListenError, match="another server listens there"):
            await serve_monitor(supervisor, path)
        assert (await first_line(path))["supervisor"]["workqueues"] == []
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("where", "why"),
    [("file", "no socket"), ("missing/monitor", "folder does not exist"), ("x" * 200, "too long")],
)
async def test_path_that_cannot_be_is_an_error_that_names_it(tmp_path: Path, where: str, why: str) -> None:
    (tmp_path / "file").touch()
    async with open_supervisor() as supervisor:
        with pytest.raises(ListenError, match=why) as caught:
            await serve_monitor(supervisor, tmp_path / where)
    assert where in str(caught.value)
    assert (tmp_path / "file").exists()


async def test_watchers_that_come_and_go_leave_room_for_others(tmp_path: Path) -> None:
    path = tmp_path / "monitor"
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        await nursery.start(serve_monitor, supervisor, path)
        for _ in range(50):  # more than may watch at once
            await first_line(path)
        nursery.cancel_scope.cancel()


async def test_server_has_its_supervisor_to_show(tmp_path: Path) -> None:
    async def handler(request: object) -> Response:
        return Response()

    async with trio.open_nursery() as nursery:
        server: Server = await nursery.start(
            lambda task_status: serve_http(handler, "127.0.0.1:0", queue=QueueOptions(cpus=3), task_status=task_status)
        )
        await nursery.start(serve_monitor, server.supervisor, tmp_path / "monitor")
        shown = (await first_line(tmp_path / "monitor"))["supervisor"]
        assert shown["cpus"] == 3
        assert [each["name"] for each in shown["workqueues"]] == ["http"]
        nursery.cancel_scope.cancel()


async def test_server_on_a_queue_it_was_given_shows_the_owner_of_that_queue() -> None:
    async def handler(request: object) -> Response:
        return Response()

    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        wq = supervisor.alloc_workqueue("shared", on_error=print)
        server: Server = await nursery.start(
            lambda task_status: serve_http(handler, "127.0.0.1:0", workqueue=wq, task_status=task_status)
        )
        assert server.supervisor is supervisor is wq.supervisor
        nursery.cancel_scope.cancel()
