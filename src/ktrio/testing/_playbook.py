"""Playbooks: a conversation with the real server as one readable list, in memory and in virtual time.

The block of a `Playbook` only writes down; when it ends the play is performed, step by step. After each step everything
runs that can, so there is no race to win or lose. `ktrio.testing._stage` performs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Self, TypeAlias, final

from ktrio.config import QueueOptions
from ktrio.http.details import Tell
from ktrio.http.messages import Handler
from ktrio.http.policy import Limits
from ktrio.net.connection import ProtocolFactory
from ktrio.net.deadlines import Timeouts
from ktrio.protocols.stream import StreamHandler
from ktrio.server.options import ServerOptions
from ktrio.testing._clock import run_clock
from ktrio.testing._roles import Event, Expect, FromServer, PeerAct
from ktrio.testing._server import MemoryServer, Recipe
from ktrio.testing._stage import Act, Connect, FromPeer, PassTime, ServerAct, Step, perform
from ktrio.workqueue import Workqueue

_Cast: TypeAlias = "tuple[PlayPeer, PlayServer, PlayClock]"


@final
class PlayPeer:
    """A peer in a play: ``peer >> b"bytes"`` sends; `FIN`, `RESET`, `STALL` and `READ_ON` are what else it does.

    Whatever comes is read at once, unless the peer was told to `STALL`. Made by `Playbook` and by `another`.
    """

    def __init__(self, steps: list[Step], number: int) -> None:
        self._steps = steps
        self._number = number
        self._others = [self] if number == 1 else []

    def __rshift__(self, what: PeerAct) -> None:
        if not isinstance(what, bytes) and what not in (Event.FIN, Event.RESET, Event.STALL, Event.READ_ON):
            raise TypeError(f"a peer sends bytes, FIN or RESET, or does STALL or READ_ON; it cannot do {what!r}")
        self._steps.append(FromPeer(self._number, what))

    def another(self) -> PlayPeer:
        """One more peer, which connects at this point of the play; ``server[other] << …`` is what it gets."""
        other = PlayPeer(self._steps, 1 + sum(isinstance(step, Connect) for step in self._steps))
        self._steps.append(Connect(other._number))
        return other


@final
class PlayServer:
    """The server in a play: ``server << b"bytes"`` is what must have come of it by then, and nothing else.

    It is compared with all that has come since the last ``server <<``; several of them in a row are compared with it in
    order. Beside bytes there are `response`, `FIN`, `RESET`, `NOTHING` and `ended`. ``server << …`` is about the first
    peer, ``server[other] << …`` about another. Its methods do to the server what the methods of that name of
    `ktrio.Server` do.
    """

    def __init__(self, steps: list[Step], number: int = 1) -> None:
        self._steps = steps
        self._number = number

    def __lshift__(self, what: FromServer) -> None:
        if not isinstance(what, bytes | Expect) and what not in (Event.FIN, Event.RESET, Event.NOTHING):
            raise TypeError(f"of a server come bytes, response(...), FIN, RESET, NOTHING or ended(...), not {what!r}")
        self._steps.append(Act(self._number, what))

    def __getitem__(self, peer: PlayPeer) -> PlayServer:
        """The server as `peer` sees it."""
        return PlayServer(self._steps, peer._number)

    def begin_shutdown(self, *, grace: float | None = None) -> None:
        """It begins to shut down; see `ktrio.Server.begin_shutdown`."""
        said = "" if grace is None else f"grace={grace:g}"
        self._do(f"begin_shutdown({said})", lambda memory: memory.server.begin_shutdown(grace=grace))

    def force_shutdown(self, reason: str) -> None:
        """What has not finished is cancelled; see `ktrio.Server.force_shutdown`."""
        self._do(f"force_shutdown({reason!r})", lambda memory: memory.server.force_shutdown(reason))

    def suspend(self) -> None:
        """It accepts nobody; see `ktrio.Server.suspend`."""
        self._do("suspend()", lambda memory: memory.server.suspend())

    def resume(self) -> None:
        """It accepts again; see `ktrio.Server.resume`."""
        self._do("resume()", lambda memory: memory.server.resume())

    def cancel(self) -> None:
        """Its nursery is cancelled."""
        self._do("cancel()", MemoryServer.cancel)

    def _do(self, text: str, act: Callable[[MemoryServer], None]) -> None:
        self._steps.append(ServerAct(text, act))


@final
class PlayClock:
    """The clock in a play: ``clock += 5`` lets so many seconds pass, from deadline to deadline."""

    def __init__(self, steps: list[Step]) -> None:
        self._steps = steps

    def __iadd__(self, seconds: float) -> Self:
        if not (math.isfinite(seconds) and seconds >= 0):
            raise ValueError(f"time passes in finite seconds, 0 or more, not {seconds}")
        self._steps.append(PassTime(seconds))
        return self


@final
class Playbook(AbstractAsyncContextManager["tuple[PlayPeer, PlayServer, PlayClock]"]):
    """A conversation to be written down in the block, and performed against the real server when the block ends.

    ::

        async with Playbook(handler) as (peer, server, clock):
            peer >> b"GET / HTTP/1.1\\\\r\\\\nHost: x\\\\r\\\\n\\\\r\\\\n"
            server << response(200, b"hi")
            clock += 5.3
            server << FIN
            server << ended("idle-timeout")

    The first peer connects at the beginning. A play says all that comes: what a peer got, or that its connection ended,
    and no step says so, is a failure in the end. In bytes the value of a ``Date`` header is left out of the comparison.
    Nothing of the server is left when it is over, as with `serve_in_memory`, of which the arguments are.

    Raises:
      AssertionError: something else happened; shows the play, the step, and a diff of what was expected and what came.
      RuntimeError: the clock of the run is no `trio.testing.MockClock`.
      TypeError: not exactly one of `handler`, `stream` and `protocol` was given.
    """

    def __init__(
        self,
        handler: Handler | None = None,
        *,
        stream: StreamHandler | None = None,
        protocol: ProtocolFactory | None = None,
        options: ServerOptions | None = None,
        timeouts: Timeouts | None = None,
        limits: Limits | None = None,
        queue: QueueOptions | None = None,
        workqueue: Workqueue | None = None,
        tell: Tell | None = None,
    ) -> None:
        self._recipe = Recipe(
            handler=handler,
            stream=stream,
            protocol=protocol,
            options=options,
            timeouts=timeouts,
            limits=limits,
            queue=queue,
            workqueue=workqueue,
            tell=tell,
        )
        self._steps: list[Step] = []

    async def __aenter__(self) -> _Cast:
        run_clock()  # says at once that there is none
        self._steps = [Connect(1)]
        return PlayPeer(self._steps, 1), PlayServer(self._steps), PlayClock(self._steps)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            async with self._recipe.run() as memory:
                await perform(self._steps, memory)
