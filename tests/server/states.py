"""Every state that a connection of a server can be in, and how a peer gets it there."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Self

import pytest
import trio

import ktrio
from ktrio import Response
from tests.server.harness import GET, Client, Ended, get, settle
from tests.server.streams import make_place

MIB = 1 << 20


class HttpHandler:
    """One handler for all states; counts who is in it."""

    def __init__(self, folder: Path) -> None:
        self.files = ktrio.files(folder)
        self.inside = 0
        self.entered = 0

    async def __call__(self, request):
        self.inside += 1
        self.entered += 1
        try:
            return await self.answer(request)
        finally:
            self.inside -= 1

    async def answer(self, request):
        match request.target:
            case "/block":
                await trio.sleep_forever()
            case "/shield":
                await commit()
            case "/read":
                return Response(body=await request.read())
            case "/big":
                return await self.files(request)
            case "/buffered":
                return Response(body=b"x" * 64 * MIB)
            case "/stream":
                return Response(body=self.stream(b"piece", pause=True))
            case "/flood":
                return Response(body=self.stream(b"x" * 100_000, pause=False))
            case "/write":
                return Response(body=self.write)
            case "/refuse":
                return Response(403)
        return Response(body=b"answer")

    async def stream(self, piece, *, pause):
        self.inside += 1
        try:
            while True:
                yield piece
                if pause:
                    await trio.sleep_forever()
        finally:
            self.inside -= 1

    async def write(self, send):
        self.inside += 1
        try:
            await send(b"piece")
            await trio.sleep_forever()
        finally:
            self.inside -= 1


class StreamHandler:
    """The same for plain streams: the first five bytes say what to do."""

    def __init__(self) -> None:
        self.inside = 0
        self.entered = 0

    async def __call__(self, stream):
        self.inside += 1
        self.entered += 1
        try:
            await self.converse(stream)
        finally:
            self.inside -= 1

    async def converse(self, stream):
        while word := await stream.receive_some(5):
            match word:
                case b"block":
                    await trio.sleep_forever()
                case b"guard":
                    await commit()
                case b"flood":
                    await stream.send_all(b"x" * 64 * MIB)
                case b"drain":
                    await stream.receive_unless_draining()
                case b"child":
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(stream.receive_some)
                        nursery.start_soon(trio.sleep_forever)
                case b"close":
                    await stream.aclose()
                    await trio.sleep_forever()
                case b"leave":
                    return
            await stream.send_all(word)


async def commit():
    """What must not be torn, in bounded time."""
    try:
        await trio.sleep_forever()
    finally:
        with trio.move_on_after(0.5, shield=True):
            await trio.sleep_forever()


# -- Peers ------------------------------------------------------------------------------------------------------------


class StreamClient(Client):
    """A `Client` over any stream."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.buffer = bytearray()

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            await self.stream.send_all(piece)

    async def _fill(self, at_most: int = 1 << 16) -> bool:
        try:
            data = await self.stream.receive_some(at_most)
        except trio.BrokenResourceError as error:
            raise Ended("reset", bytes(self.buffer)) from error
        self.buffer += data
        return bool(data)

    def finish(self) -> None:
        self.stream.send_stream.close()

    async def aclose(self) -> None:
        await trio.aclose_forcefully(self.stream)


@dataclass
class Scene:
    """One server and its peers."""

    kind: str
    handler: HttpHandler | StreamHandler
    transport: str
    server: ktrio.Server | None = None
    peers: list[Client] = field(default_factory=list)

    async def start(self, nursery: trio.Nursery, **options: object) -> None:
        self.where = "127.0.0.1:0"
        if self.transport != "socket":
            self.place = await make_place(self.transport)
            self.where = self.place.listener
        serve = {
            "http": partial(ktrio.serve_http, self.handler),
            "stream": partial(ktrio.serve_stream, self.handler),
            "echo": ktrio.serve_echo,
        }[self.kind]
        self.server = await nursery.start(partial(serve, self.where, **options))

    async def connect(self) -> Client:
        """The only peer, usually; what a stalled one does not read fills its buffers soon."""
        if self.transport == "socket":
            client = Client(socket.socket())
            self.peers.append(client)
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            await client.sock.connect((self.server.addresses[0].host, self.server.addresses[0].port))
        else:
            client = StreamClient(await self.place.connect())
            self.peers.append(client)
        return client

    async def push(self, client: Client, data: bytes) -> None:
        """Send as much as can be sent."""

        async def send() -> None:
            with contextlib.suppress(OSError, trio.BrokenResourceError):  # the server may end meanwhile
                await client.send(data)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await settle()
            nursery.cancel_scope.cancel()

    async def see_the_ends(self) -> None:
        """Each peer sees the end of its connection."""
        for client in self.peers:
            with contextlib.suppress(Ended):
                await client.read_to_end()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        for client in self.peers:
            if isinstance(client, StreamClient):
                await client.aclose()
            else:
                client.close()


# -- States -----------------------------------------------------------------------------------------------------------


async def new(scene: Scene) -> None:
    await scene.connect()


async def idle(scene: Scene) -> None:
    assert (await (await scene.connect()).ask()).body == b"answer"


async def says(scene: Scene, words: bytes) -> None:
    await (await scene.connect()).send(words)


async def stalls(scene: Scene, words: bytes) -> None:
    """The peer does not read what it has asked for."""
    await scene.push(await scene.connect(), words)


async def reads_a_piece(scene: Scene, words: bytes) -> None:
    client = await scene.connect()
    await client.send(words)
    await client.read_through(b"piece")


async def lingering(scene: Scene) -> None:
    client = await scene.connect()
    await client.send(get("/refuse", "Content-Length: 1000000", method="POST") + b"x")
    assert (await client.read_reply()).status == 403


async def half_closed(scene: Scene, words: bytes) -> None:
    client = await scene.connect()
    await client.send(words)
    client.finish()


async def answered_a_word(scene: Scene) -> None:
    client = await scene.connect()
    await client.send(b"hello")
    assert await client.read(5) == b"hello"


async def waits_for_a_slot(scene: Scene, words: bytes) -> None:
    await (await scene.connect()).send(words)
    await settle()
    await (await scene.connect()).send(words)


async def handshake(scene: Scene, words: bytes) -> None:
    """Begun or not, it does not end."""
    client = await scene.connect()
    client.stream = client.stream.transport_stream
    await client.send(words)


PLAIN = ("socket", "lockstep")
ANY = (*PLAIN, "tls-memory")


@dataclass(frozen=True)
class State:
    """A state by name; `enter` gets a connection there."""

    name: str
    kind: str
    enter: Callable[[Scene], Awaitable[None]]
    transports: tuple[str, ...] = PLAIN
    max_active: int = 0
    shield: float = 0.0


BODY = get("/read", "Content-Length: 10", method="POST") + b"12345"
STATES = [
    State("new", "http", new, ANY),
    State("idle", "http", idle, ANY),
    State("half a head", "http", partial(says, words=GET[:5]), ANY),
    State("handler at work", "http", partial(says, words=get("/block")), ANY),
    State("handler that shields itself", "http", partial(says, words=get("/shield")), ANY, shield=0.5),
    State("waiting for a slot", "http", partial(waits_for_a_slot, words=get("/block")), max_active=1),
    State("reading a body", "http", partial(says, words=BODY), ANY),
    State("file to a stalled reader", "http", partial(stalls, words=get("/big"))),
    State("bytes to a stalled reader", "http", partial(stalls, words=get("/buffered"))),
    State("iterable that waits", "http", partial(reads_a_piece, words=get("/stream")), ANY),
    State("iterable to a stalled reader", "http", partial(stalls, words=get("/flood"))),
    State("writer function", "http", partial(reads_a_piece, words=get("/write")), ANY),
    State("lingering", "http", lingering, ANY),
    State("pipelined", "http", partial(says, words=get("/block") + GET * 100), ANY),
    State("half closed", "http", partial(half_closed, words=get("/block"))),
    State("handshake not begun", "http", partial(handshake, words=b""), ("tls-memory", "tls-socket")),
    State("handshake begun", "http", partial(handshake, words=b"\x16\x03\x01"), ("tls-memory", "tls-socket")),
    State("silent", "stream", new, ANY),
    State("answered", "stream", answered_a_word, ANY),
    State("handler at work", "stream", partial(says, words=b"block"), ANY),
    State("handler that shields itself", "stream", partial(says, words=b"guard"), ANY, shield=0.5),
    State("waiting for a slot", "stream", partial(waits_for_a_slot, words=b"block"), max_active=1),
    State("sending to a stalled reader", "stream", partial(stalls, words=b"flood")),
    State("receiving unless draining", "stream", partial(says, words=b"drain"), ANY),
    State("a child receives", "stream", partial(says, words=b"child"), ANY),
    State("closed by its handler", "stream", partial(says, words=b"close"), ANY),
    State("lingering", "stream", partial(says, words=b"leave" + b"unread"), ANY),
    State("half closed", "stream", partial(half_closed, words=b"block")),
    State("handshake begun", "stream", partial(handshake, words=b"\x16\x03\x01"), ("tls-memory", "tls-socket")),
    State("silent", "echo", new, ANY),
    State("answered", "echo", answered_a_word, ANY),
    State("writing to a stalled reader", "echo", partial(stalls, words=b"x" * 32 * MIB)),
    State("handshake begun", "echo", partial(handshake, words=b"\x16\x03\x01"), ("tls-memory", "tls-socket")),
]

CASES = [(state, transport) for state in STATES for transport in state.transports]
every_case = pytest.mark.parametrize(
    ("state", "transport"), CASES, ids=[f"{state.kind}, {state.name}, {transport}" for state, transport in CASES]
)
every_state = pytest.mark.parametrize("state", STATES, ids=[f"{state.kind}, {state.name}" for state in STATES])


def make_scene(state: State, transport: str, folder: Path) -> Scene:
    if state.kind == "http":
        with (folder / "big").open("wb") as file:
            file.truncate(64 * MIB)
        return Scene("http", HttpHandler(folder), transport)
    return Scene(state.kind, StreamHandler(), transport)
