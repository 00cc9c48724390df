"""Other people's code under observation: how often it waits, how it ends, and an end for what would not end by itself.

A `Probe` drives an awaitable step by step, so it sees every wait (and may do something at one of them), and it knows
whether a `trio.Cancelled` went in and did not come out. What hangs in a shield, or catches whatever it gets, would hang
the test: `kick` throws it out.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Generator
from types import FrameType
from typing import Final, TypeVar, cast, final

import trio

T = TypeVar("T")

# Waits of one call after which it is taken to go round in circles.
MOST_WAITS: Final = 20_000
# How often something is thrown into code that catches everything, before it is dropped.
MOST_KICKS: Final = 100

# Why servers cancel connections.
OF_SERVERS: Final = frozenset({"client-gone", "server-cancelled", "grace"})


@final
class Kicked(BaseException):
    """Thrown into code that would not end."""


def is_cancelled(error: BaseException) -> bool:
    """Is this a `trio.Cancelled`, or several, and nothing else?"""
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return all(is_cancelled(each) for each in group.exceptions)
    return isinstance(error, trio.Cancelled)


@final
class Probe:
    """One call of other people's code. `on_wait` is called at each of its waits.

    Legend: I set once · S changed only in one synchronous stretch.
    """

    def __init__(self, on_wait: Callable[[], object]) -> None:
        self._on_wait: Final = on_wait  # I
        self.outcome = ""  # S: "returned", "raised", "cancelled" or "kicked"; "" while it runs
        self.error: BaseException | None = None  # S: what it raised
        self.swallowed = False  # S: it was cancelled from outside, and ended otherwise
        self.waits = 0  # S
        self.is_circling = False  # S: it waited too often
        self._kicks = 0  # S: thrown so far; more than 0: whatever it waits for now, it is thrown out
        self._got_cancelled = False  # S
        self._message: object = None  # S: what it told Trio when it began to wait
        self._task: trio.lowlevel.Task | None = None  # S

    async def run(self, awaitable: Awaitable[T], *, fallback: T) -> T:
        """``await awaitable``; `fallback` is the result of what was kicked out."""
        self._task = trio.lowlevel.current_task()
        try:
            value: T = await _Driven(self, awaitable)
        except Kicked:
            self.outcome = "kicked"
            self.swallowed = self._got_cancelled
            await trio.lowlevel.checkpoint()
            return fallback
        except BaseException as error:
            self.error = error
            self.outcome = "cancelled" if is_cancelled(error) else "raised"
            self.swallowed = self.outcome == "raised" and self._was_cancelled_from_outside()
            raise
        self.outcome = "returned"
        self.swallowed = self._was_cancelled_from_outside()
        return value

    def _was_cancelled_from_outside(self) -> bool:
        # Here, outside of it, no scope of its own is meant.
        return self._got_cancelled and trio.current_effective_deadline() == -math.inf

    def kick(self) -> None:
        """End it, if it waits for something that can be abandoned; to be called when nothing runs."""
        if self.outcome or self._task is None:
            return
        self._kicks += 1
        abort = cast("Callable[[object], object] | None", getattr(self._message, "abort_func", None))
        if abort is not None and abort(_raise_kicked) is trio.lowlevel.Abort.SUCCEEDED:
            trio.lowlevel.reschedule(self._task)

    def step(self, steps: Generator[object, object, object], value: object) -> object:
        """One step: what it waits for next. Raises StopIteration at its end."""
        self._got_cancelled = self._got_cancelled or _is_from_server(getattr(value, "error", None))
        if self._kicks:
            self._kicks += 1
            if self._kicks > MOST_KICKS:
                raise Kicked
            self._message = steps.throw(Kicked())
        else:
            self._message = steps.send(value)
        self.waits += 1
        if self.waits > MOST_WAITS:
            self.is_circling = True
            self._kicks += 1
        self._on_wait()
        return self._message


def _is_from_server(error: object) -> bool:
    """Is this a `trio.Cancelled` that the server sent? Scopes of its own, in `trio.sleep` for one, are its business."""
    return isinstance(error, trio.Cancelled) and error.reason in OF_SERVERS


def _raise_kicked() -> None:
    raise Kicked


@final
class _Driven(Awaitable[T]):
    """The awaitable that drives another through a probe.

    Legend: I set once.
    """

    __slots__ = ("_awaitable", "_probe", "_steps")

    def __init__(self, probe: Probe, awaitable: Awaitable[T]) -> None:
        self._probe = probe  # I
        self._awaitable = awaitable  # I
        self._steps = cast("Generator[object, object, object]", awaitable.__await__())  # I

    def __await__(self) -> Generator[object, object, T]:
        return cast("Generator[object, object, T]", self)

    def __iter__(self) -> _Driven[T]:
        return self

    def __next__(self) -> object:
        """The first step."""
        return self._probe.step(self._steps, None)

    def send(self, value: object) -> object:
        """Every later step."""
        return self._probe.step(self._steps, value)

    def throw(self, error: BaseException) -> object:
        """Part of the protocol of awaitables; Trio itself never throws."""
        return self._steps.throw(error)

    def close(self) -> None:
        """Part of the protocol of awaitables: the loop was abandoned."""
        self._steps.close()

    @property
    def cr_frame(self) -> FrameType | None:
        """The frame of what is driven, so that `trio.lowlevel.Task.iter_await_frames` shows the whole stack."""
        return cast("FrameType | None", getattr(self._awaitable, "cr_frame", None))

    @property
    def cr_await(self) -> object:
        """What it waits for; see `cr_frame`."""
        return getattr(self._awaitable, "cr_await", None)
