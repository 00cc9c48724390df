# What Ctrl-C does to a busy `ktrio serve`: python examples/graceful_shutdown.py prints a timeline, in 5 s.
#
# The server is given three seconds of grace and, at the moment of the signal, has
#
#   download        a file of 32 MiB, read at 16 MiB a second: it can finish within the grace
#   stalled reader  has asked for 200 MB and does not read them: it can never finish
#   idle            100 keep-alive connections between two requests
#   burst           100 requests on connections that it has not even accepted
#
# Longer than 60 lines because it plays the clients as well; all that is shown is what the plain command does.

import errno
import math
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

import trio

MIB = 1 << 20
IDLE = BURST = 100
# So that it is the shutdown that closes idle connections, however slow this machine is today.
COMMAND = [sys.executable, "-m", "ktrio", "serve", "files", "--port=0", "--grace=3", "--idle-timeout=60"]
STATUS = {0: "every answer was completed", 4: "an answer was cut, the stalled reader's; otherwise it would be 0"}


class Timeline:
    """Prints what happens, and when: in seconds from the signal on."""

    signalled = math.inf  # when that was

    def tell(self, who: str, what: str) -> None:
        now = trio.current_time()
        when = f"{now - self.signalled:+.2f} s" if now >= self.signalled else "before "
        print(f"{when}  {who:<15} {what}", flush=True)


@dataclass
class Get:
    """A GET request on a connection of its own, and how far its answer has come."""

    stream: trio.SocketStream
    length: int = 0
    received: int = 0

    @classmethod
    async def send(cls, port: int, name: str) -> Self:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(b"GET /%s HTTP/1.1\r\nHost: localhost\r\n\r\n" % name.encode())
        return cls(stream)

    async def read_head(self) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            more = await self.stream.receive_some()
            assert more, "closed without an answer"
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        self.length, self.received = int(re.findall(rb"Content-Length: (\d+)", head)[0]), len(body)

    async def read_body(self, upto: int, *, rate: float = math.inf) -> None:
        """Read until `upto` bytes are here, at most `rate` a second, or the server ends it."""
        begun, before = trio.current_time(), self.received
        while self.received < upto:
            await trio.sleep_until(begun + (self.received - before) / rate)
            try:
                data = await self.stream.receive_some(256 * 1024)
            except trio.BrokenResourceError:
                return
            if not data:
                return
            self.received += len(data)

    async def read_all(self) -> bool:
        """Read the whole answer; did it come?"""
        await self.read_head()
        await self.read_body(self.length)
        return self.received == self.length


async def download(port: int, story: Timeline, *, task_status: trio.TaskStatus[None]) -> None:
    get = await Get.send(port, "film.bin")
    async with get.stream:
        await get.read_head()
        await get.read_body(8 * MIB, rate=16 * MIB)
        story.tell("download", f"{get.received / MIB:.0f} of {get.length / MIB:.0f} MiB are here")
        task_status.started()
        await get.read_body(get.length, rate=16 * MIB)
        outcome = "complete" if get.received == get.length else "torn"
        story.tell("download", f"{outcome}: {get.received:,} of {get.length:,} bytes")


async def stalled_reader(port: int, story: Timeline, *, task_status: trio.TaskStatus[None]) -> None:
    get = await Get.send(port, "huge.bin")
    async with get.stream:
        await get.read_head()
        story.tell("stalled reader", f"asked for {get.length / 1e6:.0f} MB, has stopped reading")
        task_status.started()
        poll = select.poll()
        poll.register(get.stream.socket, 0)  # 0: not for bytes, only for the end of the connection
        await trio.to_thread.run_sync(poll.poll, abandon_on_cancel=True)
        error = get.stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        story.tell("stalled reader", f"cut off at the end of the grace: {errno.errorcode.get(error, error)}")


async def idle(port: int, *, task_status: trio.TaskStatus[None]) -> None:
    get = await Get.send(port, "hello.txt")
    async with get.stream:
        await get.read_all()
        task_status.started()
        assert await get.stream.receive_some() == b""


async def idle_connections(port: int, story: Timeline, *, task_status: trio.TaskStatus[None]) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(IDLE):
            await nursery.start(idle, port)
        story.tell("idle", f"{IDLE} connections are kept alive after an answer")
        task_status.started()
    story.tell("idle", f"all {IDLE} closed by the server")
    try:
        with trio.socket.socket() as sock:
            await sock.connect(("127.0.0.1", port))
    except ConnectionRefusedError:
        story.tell("newcomer", "refused: nobody listens any more")
    else:
        story.tell("newcomer", "connected")


async def burst(port: int, story: Timeline, *, task_status: trio.TaskStatus[None]) -> None:
    gets = [await Get.send(port, "hello.txt") for _ in range(BURST)]
    story.tell("burst", f"{BURST} requests are sent, their connections not yet accepted")
    task_status.started()
    answered = [await get.read_all() for get in gets]
    story.tell("burst", f"{sum(answered)} of {BURST} answered")
    for get in gets:
        await get.stream.aclose()


async def lines_of(stream: trio.abc.ReceiveStream) -> AsyncIterator[str]:
    rest = b""
    async for data in stream:
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield line.decode()


async def main() -> None:
    story = Timeline()
    with tempfile.TemporaryDirectory() as folder, trio.fail_after(60):
        files = Path(folder) / "files"
        files.mkdir()
        (files / "hello.txt").write_text("hello, world\n")
        for name, size in (("film.bin", 32 * MIB), ("huge.bin", 200_000_000)):
            with (files / name).open("wb") as file:
                file.truncate(size)  # holes: a size, and nothing on the disk
        async with trio.open_nursery() as processes:
            run = partial(trio.run_process, COMMAND, cwd=folder, stdout=subprocess.PIPE, check=False)
            server: trio.Process = await processes.start(run)
            assert server.stdout is not None
            lines = lines_of(server.stdout)
            first = await anext(lines)
            print("$ ktrio", *COMMAND[3:])
            print(first, flush=True)
            port = int(re.findall(r":(\d+)/", first)[0])

            async with trio.open_nursery() as clients:
                await clients.start(idle_connections, port, story)
                await clients.start(stalled_reader, port, story)
                await clients.start(download, port, story)
                server.send_signal(signal.SIGSTOP)  # held for a moment, so that it accepts nobody
                await clients.start(burst, port, story)
                story.signalled = trio.current_time()
                story.tell("SIGINT", "sent to the server")
                server.send_signal(signal.SIGINT)
                server.send_signal(signal.SIGCONT)
                async for line in lines:
                    if not line.startswith(" "):
                        story.tell("server says", line)
            status = await server.wait()
            story.tell("exit status", f"{status}: {STATUS.get(status, 'not what was to be shown')}")


trio.run(main)
