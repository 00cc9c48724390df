"""How long each phase of a connection may last: absolute times, one cancel scope, and a fair measure of slowness.

A connection is in one or more *phases* (`Phase`), each with the absolute time at which it has lasted too long. One
cancel scope serves them all, and moving its deadline costs more than everything else here together (Trio keeps
deadlines in a heap). So `Deadlines` lets the scope lag: its deadline lies 0 to `WINDOW` seconds *after* the earliest
armed phase, never before it. It is moved only when it leaves that window, and then to the window's far end: a phase
that is re-armed steadily for "5 s from now" drifts through the whole window before it moves the scope again, so it
moves it at most 1 / `WINDOW` = 4 times a second however often it is armed.

Rejected: a timer task per connection (a race with the connection's own task, and the cost of a task); a scope per wait
(the cost of a scope per wait, and a deadline that a trickle of bytes renews).
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, fields
from typing import Final, final

import trio

WINDOW: Final = 0.25  # seconds; what a person does not notice at the end of a timeout of seconds


@final
class Phase(enum.Enum):
    """What a connection's peer, or its handler, is given time for."""

    HEAD = "head"  # a whole request head, from accept or from the head's first byte
    IDLE = "idle"  # the first byte of the next request
    BODY = "body"  # progress in reading a request body
    WRITE = "write"  # progress in taking what we send
    LINGER = "linger"  # the peer's FIN after the last response
    HALF_CLOSED = "half-closed"  # the handler's response head, after the peer's FIN


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long each wait for a peer may last, in seconds, and the lowest rate of progress, in bytes per second.

    Raises:
      ValueError: a value is not a positive finite number: no wait is without a deadline.
    """

    head: float = 10.0  # a head is a packet or two; nginx and Caddy give 60, Granian 30
    idle: float = 5.0  # khttpd's; Node's and uvicorn's too
    body: float = 30.0  # half of nginx's and Caddy's 60; darkhttpd's
    write: float = 30.0  # the same
    linger: float = 1.0  # a round trip to anywhere; nginx lingers 5 a read, 30 in all
    linger_draining: float = 0.3  # a shutdown waits for it, so: a round trip to most places
    half_closed: float = 2.0  # a peer that shut down its side and still waits is rare; a dead one is not
    farewell: float = 1.0  # a 408 fits into any send buffer; this is for the rest
    lowest_rate: float = 240.0  # bytes per second; IIS's MinFileBytesPerSec and Kestrel's MinDataRate

    def __post_init__(self) -> None:
        for field in fields(self):
            value: float = getattr(self, field.name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{field.name} must be a positive finite number, not {value!r}")

    def rows(self) -> list[tuple[str, float, str]]:
        """Every deadline as (name, seconds, what it bounds), for people to read."""
        progress = f"with progress of at least {self.lowest_rate:g} B/s averaged over it"
        return [
            ("head", self.head, "a complete request head, from accept or from its first byte"),
            ("idle", self.idle, "the wait for the next request on a connection that is kept alive"),
            ("body", self.body, f"the wait for a request body, {progress}"),
            ("write", self.write, f"the wait for a peer to take the response, {progress}"),
            ("half-closed", self.half_closed, "a handler's time to begin its response after the peer's FIN"),
            ("linger", self.linger, "reading on after the last response, so that no reset destroys it"),
            ("linger-draining", self.linger_draining, "the same while the server drains"),
            ("farewell", self.farewell, "the last words on a connection whose deadline has expired"),
        ]


@final
class Deadlines:
    """The armed phases of one connection, and the cancel scope that ends with the earliest of them.

    Everything here is synchronous, so it may be called from any task of the run: each call is one stretch.
    """

    __slots__ = ("_armed", "_lags", "_scope")

    # S  changed only in one synchronous stretch
    _armed: dict[Phase, float]  # S: absolute Trio times
    _scope: trio.CancelScope | None  # S: whose deadline follows, while a worker runs the connection
    _lags: bool  # S: between `release` and `settle`

    def __init__(self) -> None:
        self._armed = {}
        self._scope = None
        self._lags = False

    def __repr__(self) -> str:
        armed = " ".join(f"{phase.value}={when:.3f}" for phase, when in self._armed.items())
        return f"<Deadlines {armed or 'none'}{' attached' if self._scope is not None else ''}>"

    def arm(self, phase: Phase, when: float) -> None:
        """Let `phase` last until the absolute time `when`; replaces its earlier time."""
        self._armed[phase] = when
        self._follow()

    def disarm(self, phase: Phase) -> None:
        """End `phase` in time; nothing happens if it is not armed."""
        if self._armed.pop(phase, None) is not None:
            self._follow()

    def release(self, phase: Phase) -> None:
        """`disarm`, but let the scope's deadline stay for now; for a wait that is over when the next begins soon.

        Moving it twice for each request would cost as much as parsing the request. Until something is armed again the
        task must not wait, unless somebody calls `settle` first.
        """
        self._armed.pop(phase, None)
        self._lags = True

    def settle(self) -> None:
        """Move the scope's deadline where it belongs, if `release` has left it behind."""
        if self._lags:
            self._follow()

    def switch(self, phase: Phase, when: float) -> None:
        """Arm `phase` and disarm all others, with one look at the scope instead of one each."""
        self._armed.clear()
        self._armed[phase] = when
        self._follow()

    def attach(self, scope: trio.CancelScope) -> None:
        """Let `scope` end with the earliest armed phase, from now on and instead of any scope attached before."""
        self._scope = scope
        self._follow()

    def detach(self) -> None:
        """Leave the attached scope alone from now on, as its deadline is; the phases stay armed."""
        self._scope = None

    def next(self) -> tuple[Phase, float] | None:
        """The armed phase that ends first, and when; `None` if none is armed."""
        return min(self._armed.items(), key=lambda item: item[1], default=None)

    def expired(self, now: float) -> Phase | None:
        """The phase that ended first, if it has ended by `now`: the reason why the scope did."""
        first = self.next()
        return first[0] if first is not None and first[1] <= now else None

    @property
    def is_spent(self) -> bool:
        """Has the attached scope been cancelled, by its deadline or otherwise?

        Whoever arms a phase for the length of a wait asks this after it: if so, the phase stays armed, because whoever
        leaves the spent scope will ask `expired` why.
        """
        return self._scope is not None and self._scope.cancel_called

    def _follow(self) -> None:
        self._lags = False
        if self._scope is None:
            return
        earliest = min(self._armed.values(), default=math.inf)
        # No phase armed is an infinite minimum: it needs no case of its own, nor does an infinite deadline.
        if not earliest <= self._scope.deadline <= earliest + WINDOW:
            self._scope.deadline = earliest + WINDOW


@final
class Allowance:
    """How much longer one peer may keep us waiting: "at least `full` seconds, and at least `rate` bytes per second".

    A bucket of seconds that starts full. Waiting for the peer drains it in real time, each byte moved puts back
    1 / `rate` seconds, and it never holds more than `full`. So a peer that moves nothing is given up after exactly
    `full` seconds of waiting, in one wait or in many; one that moves `rate` bytes per second or more never is, if no
    gap is longer than `full`; and a byte now and then buys next to nothing. Pure: time and bytes are told.
    """

    __slots__ = ("_full", "_left", "_rate", "_since")

    # I  set once · T  changed only by whoever waits (for a connection: S, by `note_progress` too)
    _full: float  # I: seconds
    _rate: float  # I: bytes per second
    _left: float  # T: seconds, as of `_since` or of the end of the last wait
    _since: float | None  # T: when the present wait began

    def __init__(self, full: float, rate: float) -> None:
        self._full = full
        self._rate = rate
        self._left = full
        self._since = None

    def __repr__(self) -> str:
        waiting = "" if self._since is None else f" waiting since {self._since:.3f}"
        return f"<Allowance {self._left:.3f} of {self._full:g} s{waiting}>"

    def start_wait(self, now: float, moved_bytes: int = 0) -> float:
        """Begin to wait at `now`: when is the peer given up? `moved_bytes` were moved since the last wait ended."""
        self._refill(moved_bytes)
        self._since = now
        return now + self._left

    def end_wait(self, now: float, moved_bytes: int) -> None:
        """The wait ended at `now`, and `moved_bytes` were moved meanwhile; nothing if no wait was begun."""
        if self._since is None:
            return
        # Drained first and to zero at least: bytes that came after the time was up must not find a debt.
        self._left = max(0.0, self._left - (now - self._since))
        self._since = None
        self._refill(moved_bytes)

    def _refill(self, moved_bytes: int) -> None:
        self._left = min(self._full, self._left + moved_bytes / self._rate)
