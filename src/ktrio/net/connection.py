"""One accepted connection: reading, writing, waiting for the peer with a deadline, and ending with a reason.

A `Connection` owns a transport (`ktrio.net.transport`) from accept to close; a protocol converses through it. It knows
no protocol, no queue and no socket: what is said is the protocol's, and where it waits for the peer it does so inside
``waiting()``, which whoever schedules it sets, so that waiting costs no slot.

* **Reading.** `receive` waits for bytes under the phase (head, idle, body) that its caller names.
* **Writing.** `send_all` and `send_file` wait under `Phase.WRITE` and an allowance: a peer that moves nothing for
  `Timeouts.write` seconds, in one wait or in many, is given up. They go by slices and give the loop a turn.
* **Deadlines.** They are attached to the cancel scope around the protocol. The phase that ends it stays armed, so that
  `deadlines.expired` names it.
* **Watching.** While a handler works, `watch_peer` learns of the peer's FIN and of its going.
* **Ending.** `end` keeps the first reason; `close` is idempotent and may be called by another task, as a last resort:
  whoever uses the connection then gets `ConnectionGone`.

One task at a time reads and writes. Every async method begins with a checkpoint, before it has touched anything, or
consists of a wait; a cancelled `receive` has taken nothing, a cancelled send leaves `bytes_sent` to tell.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias, final

import trio

from ktrio.net._roles import ConnectionProtocol as ConnectionProtocol
from ktrio.net._roles import Draining as Draining
from ktrio.net._sender import Sender, Waiting, stay
from ktrio.net._slices import Data
from ktrio.net.deadlines import Deadlines, Phase, Timeouts
from ktrio.net.states import QUIET as QUIET
from ktrio.net.states import State as State
from ktrio.net.transport import Transport, drop_input

RECEIVE_BYTES: Final = 64 * 1024  # one read; what a socket buffer of default size holds
# What is read and dropped at the end. As much as the socket buffers of a fast upload hold: with 64 KiB two of three
# clients on a busy machine lost the 413 to the reset that follows. A peer that sends more has earned it.
LINGER_BYTES: Final = 4 * 1024 * 1024


@final
class Connection:
    """One accepted connection and everything known about it.

    Args:
      transport: carries its bytes; the connection owns it from here on.
      peer, local: both ends as printed in logs.
      now: when it was accepted (`trio.current_time`); `Phase.HEAD` is armed from here.
      draining: has the server begun to shut down?
    """

    __slots__ = (
        "_answer_begun",
        "_is_streaming",
        "_reason",
        "_sender",
        "_state",
        "_transport",
        "answered",
        "bytes_received",
        "cut",
        "deadlines",
        "draining",
        "had_error",
        "half_closed",
        "leaving",
        "local",
        "may_be_torso",
        "on_outcome",
        "on_state",
        "opened",
        "owes_answer",
        "peer",
        "scope",
        "timeouts",
        "waiting",
        "waiting_within_answer",
    )

    # I  set once, here or by the one named · T  only the owning task · S  only in one synchronous stretch, by any task
    def __init__(
        self,
        transport: Transport,
        *,
        peer: str,
        local: str,
        timeouts: Timeouts,
        now: float,
        draining: Draining,
    ) -> None:
        self.peer: Final = peer  # I
        self.local: Final = local  # I
        self.timeouts: Final = timeouts  # I
        self.draining: Final = draining  # I
        self.opened: Final = now  # I: when it was accepted
        self.deadlines: Final = Deadlines()  # I; its content S
        self.deadlines.arm(Phase.HEAD, now + timeouts.head)
        # I, by whoever schedules the connection: parks its work item during a wait; the second for a wait of somebody
        # who may hold what others need, the handler's code half way through its answer: it comes back without asking.
        self.waiting: Waiting = stay
        self.waiting_within_answer: Waiting = stay
        self.on_state: Callable[[Connection, State], None] | None = None  # I, by the roster: gets the *previous* state
        self.on_outcome: Callable[[BaseException | None], object] | None = None  # I, by the dispatch
        self.scope: trio.CancelScope | None = None  # T: around the protocol, while a worker runs it
        self.cut = False  # S: was it cancelled by the grace or a second signal while it owed an answer?
        self.may_be_torso = True  # T: if it owes an answer, must its peer see a reset?
        self.had_error = False  # T: did something unexpected end it, whatever its reason?
        self.owes_answer = False  # T: is a complete request in and its answer incomplete?
        self.answered = 0  # T: answers completed
        self.leaving = ""  # S: why it was asked to leave, until it does or turns out to have a request
        self.bytes_received = 0  # T
        self.half_closed = False  # S: has a read or the watch seen the peer's FIN?
        self._answer_begun = False  # T: has the head of the present answer gone out?
        self._is_streaming = False  # T: and does the rest of it come in pieces, in its own time?
        self._state = State.NEW  # S
        self._reason = ""  # S
        self._transport: Final = transport  # I
        self._sender: Final = Sender(transport, self.deadlines, timeouts)  # I

    def __repr__(self) -> str:
        age = f" age={trio.current_time() - self.opened:.1f}" if trio.lowlevel.in_trio_run() else ""
        writing = " waiting-to-write" if self.is_waiting_to_write else ""
        reason = f" reason={self._reason}" if self._reason else ""
        return (
            f"<Connection {self.peer} {self._state.value}{writing}{age}"
            f" received={self.bytes_received} sent={self.bytes_sent}{reason}>"
        )

    # ---- state and reason

    @property
    def state(self) -> State:
        """What it is about; `become` changes it."""
        return self._state

    @property
    def is_quiet(self) -> bool:
        """Is it owed nothing: new, or idle between requests?"""
        return self._state in QUIET

    def become(self, state: State) -> None:
        """Enter a state and tell `on_state` which one was left; nothing happens if it is the present one.

        A closed connection stays closed, so that the last words of its protocol do not revive it in the roster.
        """
        previous = self._state
        if state is previous or previous is State.CLOSED:
            return
        self._state = state
        if self.on_state is not None:
            self.on_state(self, previous)

    @property
    def reason(self) -> str:
        """Why it ended, in the words of the documentation; ``""`` while it lives."""
        return self._reason

    def end(self, reason: str) -> None:
        """Say why it ends; the first reason is kept. Closes nothing."""
        if not self._reason:
            self._reason = reason

    def ask_to_leave(self, reason: str) -> None:
        """Cancel a quiet connection's scope. It stays if bytes have come after all (`ConnectionProtocol.rescue`)."""
        self.leaving = reason
        if self.scope is not None:
            self.scope.cancel(reason=reason)

    # ---- reading

    async def receive(
        self,
        max_bytes: int = RECEIVE_BYTES,
        *,
        wait_first: bool = False,
        phase: Phase | None = None,
        until: float = math.inf,
        on_readable: Callable[[], object] | None = None,
    ) -> bytes:
        """Some bytes, at least one, as soon as there are any; ``b""`` after the peer's FIN. A checkpoint.

        Args:
          wait_first: do not try before waiting: cheaper where nothing can have arrived yet, as after a response.
          phase, until: what bounds the wait for the peer, and the absolute time at which it has lasted too long. It
            bounds that alone: the way back onto the books may take a while and is none of the peer's doing. If it
            has expired in the very turn in which bytes came, they are returned and `deadlines.is_spent` is true.
          on_readable: called when a wait for the peer has ended, before the way back onto the books.

        Raises:
          ConnectionGone: the peer has reset the connection, or it was closed here.
        """
        if not wait_first:
            await trio.lowlevel.checkpoint()
            data = self.receive_nowait(max_bytes)
            if data is not None:
                return data
        while True:
            # Only the wait is parked. The bytes stay in the kernel until there is a slot to work on them: if coming
            # back is cancelled, nothing was taken.
            async with self.waiting():
                if phase is None:
                    await self._transport.wait_readable()
                else:
                    await self._wait_readable_under(phase, until)
                if on_readable is not None:
                    on_readable()
            data = self.receive_nowait(max_bytes)
            if data is not None:
                return data

    def receive_nowait(self, max_bytes: int = RECEIVE_BYTES) -> bytes | None:
        """What is there now: bytes, ``b""`` after the peer's FIN, or `None` for nothing. Raises as `receive`."""
        data = self._transport.receive_nowait(max_bytes)
        if data is None:
            return None
        if not data:
            self.half_closed = True
        self.bytes_received += len(data)
        return data

    async def _wait_readable_under(self, phase: Phase, until: float) -> None:
        """Wait with `phase` armed. If it ends the connection's scope it stays armed, to say why."""
        deadlines = self.deadlines
        deadlines.arm(phase, until)
        try:
            await self._transport.wait_readable()
        except BaseException:
            if not deadlines.is_spent:  # another scope was cancelled, or the peer is gone
                deadlines.disarm(phase)
            raise
        if not deadlines.is_spent:
            deadlines.release(phase)

    # ---- writing

    @property
    def bytes_sent(self) -> int:
        """Bytes accepted by the transport so far; the peer may not have taken them yet."""
        return self._sender.bytes_sent

    @property
    def is_waiting_to_write(self) -> bool:
        """Does a send wait for the peer right now?"""
        return self._sender.is_waiting

    def tell_waits_to_write(self, told: Callable[[bool], object] | None) -> None:
        """Let `told` know when such a wait begins (True) and ends (False)."""
        self._sender.on_wait = told

    def send_nowait(self, data: Data) -> int:
        """Send as much as fits at once, at most 256 KiB; how many bytes that was, perhaps none.

        For the common case, a response that fits: no checkpoint, so the caller must come to one by itself.

        Raises:
          ConnectionGone: the peer is gone, or the connection was closed here.
        """
        return self._sender.send_nowait(data)

    async def send_all(self, data: Data | Sequence[Data], *, within_answer: bool = False) -> None:
        """Send bytes, or several buffers one after the other as if they were one. A checkpoint.

        Args:
          within_answer: wait for the peer inside ``waiting_within_answer()`` instead of ``waiting()``.

        Raises:
          ConnectionGone: the peer is gone, or the connection was closed here; part of it may have been sent.
        """
        await self._sender.send_all(data, self.waiting_within_answer if within_answer else self.waiting)

    async def flush(self) -> None:
        """Wait until what was sent has left this process; as `send_all` waits. On a socket that is at once.

        The kernel delivers what a socket was given after its close as well; a stream's carrier has little time for it.
        """
        if self._transport.unflushed_bytes():
            self.deadlines.settle()
            await self._sender.flush(self.waiting)

    async def wait_writable(self) -> None:
        """Wait until there is room to send, as `send_all` waits for it. A checkpoint; raises as that."""
        self.deadlines.settle()
        await self._sender.wait(self.waiting)

    async def send_file(self, descriptor: int, offset: int, count: int) -> int:
        """Send `count` bytes of an open file from `offset` on, without holding them in memory. A checkpoint.

        The file's own position is neither used nor moved. Returns how many bytes were sent: less than `count` only
        if the file turned out to be shorter. Waits for the peer inside ``waiting()``, for the disk in a thread.

        Raises:
          ConnectionGone: the peer is gone, or the connection was closed here; part of it may have been sent.
          OSError: the file cannot be read.
        """
        return await self._sender.send_file(descriptor, offset, count, self.waiting)

    def note_progress(self, now: float) -> None:
        """Let what the peer has taken during the present wait to write, if there is one, prolong it.

        To be called every few seconds. The kernel announces room only when a good part of its buffer is free, and a
        slow but steady reader may need longer for that than `Timeouts.write`.
        """
        self._sender.note_progress(now)

    # ---- watching the peer while a handler works

    def owe_answer(self) -> None:
        """A complete request is in: from here on an answer is owed, and none of it has gone out."""
        self.owes_answer = True
        self._answer_begun = self._is_streaming = False

    def begin_answer(self) -> None:
        """The response has begun: a peer that has shut down its side may wait for it as long as it progresses."""
        self._answer_begun = True
        if not self._is_streaming:
            self.deadlines.disarm(Phase.HALF_CLOSED)

    def note_piece(self) -> None:
        """A piece of a streamed response goes out. A peer that has shut down its side may wait for the next one.

        For `Timeouts.write` seconds: it may as well be gone, and a stream that has nothing to send never finds out.
        """
        self._answer_begun = self._is_streaming = True
        if self.half_closed:
            self.deadlines.arm(Phase.HALF_CLOSED, trio.current_time() + self.timeouts.write)

    def watch_peer(self) -> None:
        """From now until `unwatch_peer`, act on what the peer does while a handler works.

        Its FIN arms `Phase.HALF_CLOSED`, unless the answer has begun; its going cancels `scope` as ``client-gone``.
        """
        self.deadlines.settle()
        self._transport.watch(self._on_half_close, self._on_gone)

    def unwatch_peer(self) -> None:
        """Stop what `watch_peer` began."""
        self._transport.unwatch()
        if not self.deadlines.is_spent:
            self.deadlines.disarm(Phase.HALF_CLOSED)

    def _on_half_close(self) -> None:
        self.half_closed = True
        if self._is_streaming:
            self.note_piece()
        elif not self._answer_begun:
            self.deadlines.arm(Phase.HALF_CLOSED, trio.current_time() + self.timeouts.half_closed)

    def _on_gone(self) -> None:
        self.end("client-gone")
        if self.scope is not None:
            self.scope.cancel(reason="client-gone")

    # ---- ending

    async def linger(self) -> None:
        """Shut down our side, then read and drop what still comes, until the peer's FIN or going. A checkpoint.

        Closing a socket that holds unread bytes sends a reset, and a reset may destroy a response that the peer has
        not read yet (RFC 9112 section 9.6). At most `Timeouts.linger` or `linger_draining` seconds, or `LINGER_BYTES`.
        """
        self.become(State.LINGERING)
        self.shutdown_write()
        # The cancellation of a server reaches its connections before it has had its turn to say that it drains.
        is_last = self.draining.is_set() or self._reason == "server-cancelled"
        seconds = self.timeouts.linger_draining if is_last else self.timeouts.linger
        until = trio.current_time() + seconds
        # Armed for whoever asks what this connection waits for; the scope here ends the wait first, and in peace.
        self.deadlines.switch(Phase.LINGER, until)
        try:
            with trio.CancelScope(deadline=until):
                async with self.waiting():
                    self.bytes_received += await drop_input(self._transport, LINGER_BYTES)
        finally:
            if not self.deadlines.is_spent:
                self.deadlines.disarm(Phase.LINGER)

    def shutdown_write(self) -> bool:
        """Send our FIN after what was sent before; nothing happens if the connection is lost or closed already.

        False: the transport has no such thing.
        """
        return self._transport.shutdown_write()

    def close(self) -> None:
        """Close the transport, at once. Idempotent; a task that waits for it is woken and gets `ConnectionGone`."""
        if self._state is not State.CLOSED:
            self._transport.close()
            self.become(State.CLOSED)

    def abort(self) -> None:
        """Close so that the peer sees a reset and knows that something is missing. Idempotent."""
        if self._state is not State.CLOSED:
            self._transport.abort()
            self.become(State.CLOSED)


ProtocolFactory: TypeAlias = Callable[[Connection], ConnectionProtocol]
"""Makes the protocol of a connection that a worker has taken: a plain function, `ktrio.protocols.echo.Echo` say."""
