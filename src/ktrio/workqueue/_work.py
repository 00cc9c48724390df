"""One work item: its life, and how callers wait for it or cancel it.

An item has at most one pending queueing and at most one run at any time; both may exist at once (queued again while it
runs). The pending half lives here, the running half in the worker that runs it. Where the pending queueing waits:

====================  ==========================================================================================
`Pending.NOT`         nowhere: the item is idle, or only running
`Pending.INACTIVE`    in its pwq's inactive FIFO: no slot yet
`Pending.ACTIVE`      in its pool's worklist: it holds a slot and waits for a worker
`Pending.COLLIDED`    beside its own run, whose slot it inherits when that ends (it holds none of its own: with the
                      kernel's rule, that it keeps one, max_active 1 and a parked run would wait for each other)
`Pending.LANED`       in its lane, behind an item that has not ended: in no line of the queue (`ktrio.workqueue._lane`)
`Pending.ASSIGNED`    with a worker chosen for it: it starts parked
`Pending.DELAYED`     on its timer, in no line at all: only a `DelayedWork`
====================  ==========================================================================================
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import TYPE_CHECKING, Final, Generic, TypeVarTuple, Unpack, cast, overload

import trio
from trio.lowlevel import enable_ki_protection

from ktrio.workqueue._awaited import RunEnd
from ktrio.workqueue._disable import WAITING, deepen, depth_of, refuse_misuse, refuse_too_deep, undo
from ktrio.workqueue._followers import Followers
from ktrio.workqueue._parking import parked_while_waiting
from ktrio.workqueue._result import Caller, Kept, kept_outcome
from ktrio.workqueue._statistics import WorkStatistics
from ktrio.workqueue._timeout import TimeLimit
from ktrio.workqueue._waits import Wait, refuse_own_wait

if TYPE_CHECKING:
    from typing_extensions import TypeVar  # every type checker has it built in

    from ktrio.workqueue._flush import Colour
    from ktrio.workqueue._pwq import PoolWorkqueue
    from ktrio.workqueue._worker import Worker

    T_co = TypeVar("T_co", covariant=True, default=object)
else:
    from typing import TypeVar

    T_co = TypeVar("T_co", covariant=True)  # defaults are not in the typing of Python 3.11

__all__ = ["Pending", "T_co", "Work"]

Ts = TypeVarTuple("Ts")
log = logging.getLogger("ktrio.workqueue")


class Pending(enum.Enum):
    """Where the pending queueing of an item waits: the table in the module's docstring."""

    NOT = enum.auto()
    INACTIVE = enum.auto()
    ACTIVE = enum.auto()
    COLLIDED = enum.auto()
    LANED = enum.auto()
    ASSIGNED = enum.auto()
    DELAYED = enum.auto()


_NOT: Final = Pending.NOT


class Work(Generic[T_co]):
    """A function with its arguments, to be queued as often as wanted (kernel: ``struct work_struct``).

    For type checkers ``Work[int]`` is an item whose `result` is an int, and plain ``Work`` any item.

    Args:
      fn: what a worker calls; an async function, or a plain one that does not block.
      args: its positional arguments.
      on_discard: called exactly once for each accepted queueing that will never run, because it was cancelled while
        pending or its supervisor ended first. A plain function; its exceptions go where the queue's errors go.
      name: for messages; default is the function's qualified name.
      timeout: seconds that each run may take from its first step on, waiting and being parked included. One that takes
        longer is cancelled, and ends with `trio.TooSlowError` (`timed_out` counts it). A plain function on the loop is
        not cut short. Positive; default: no limit.

    Not to be subclassed: what an item does is its function. (`DelayedWork` is queued in another way.)

    Legend: I set once · S changed only in one synchronous stretch, by the queue, the pwq, the pool or the worker.
    """

    __slots__ = (
        "__weakref__",
        "_args",
        "_colour",
        "_context",
        "_disabled",
        "_fn",
        "_followers",
        "_kept",
        "_name",
        "_on_discard",
        "_pending",
        "_pwq",
        "_runs",
        "_starts_parked",
        "_worker",
        "_worker_to_be",
    )

    @overload
    def __init__(
        self,
        fn: Callable[[Unpack[Ts]], Awaitable[T_co]],
        *args: *Ts,
        on_discard: Callable[[], object] | None = None,
        name: str | None = None,
        timeout: float | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self,
        fn: Callable[[Unpack[Ts]], T_co],
        *args: *Ts,
        on_discard: Callable[[], object] | None = None,
        name: str | None = None,
        timeout: float | None = None,
    ) -> None: ...
    def __init__(
        self,
        fn: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        on_discard: Callable[[], object] | None = None,
        name: str | None = None,
        timeout: float | None = None,
    ) -> None:
        if not callable(fn):
            raise TypeError(f"Work needs a function, not {fn!r}: pass Work(fn, *args) instead of Work(fn(*args))")
        self._name = name  # I
        self._fn: Callable[..., object] = fn  # type: ignore[explicit-any]  # I; arguments were checked above
        if timeout is not None:
            self._fn = TimeLimit(fn, timeout)
        self._args: tuple[object, ...] = args  # I
        self._on_discard = on_discard  # I
        self._pending = _NOT  # S
        self._pwq: PoolWorkqueue | None = None  # S: of the pending queueing
        self._starts_parked = False  # S: of the pending queueing
        self._colour: Colour | None = None  # S: of the pending queueing
        self._context: Context | None = None  # S: of the pending queueing
        self._worker_to_be: Worker | None = None  # S: chosen for a pending queueing that starts parked
        self._followers: Followers | None = None  # S: of the pending queueing
        self._kept: Kept | None = None  # S: the last outcome, if its queue stores
        self._worker: Worker | None = None  # S: who runs it
        self._disabled = 0  # S: how deep, see `ktrio.workqueue._disable`; 0 if not
        self._runs = 0  # S

    def __init_subclass__(cls) -> None:
        if cls.__module__.rpartition(".")[0] != __package__:
            raise TypeError(f"{cls.__qualname__}: Work cannot be subclassed, give it a function of yours")

    @property
    def name(self) -> str:
        """For messages: what it was given, or its function's qualified name."""
        # Made when it is wanted: most items run without anybody asking.
        fn = self._fn.fn if isinstance(self._fn, TimeLimit) else self._fn
        return self._name or getattr(fn, "__qualname__", None) or repr(fn)

    @property
    def is_pending(self) -> bool:
        """Was a queueing accepted that has neither begun nor been withdrawn? (kernel: ``work_pending``).

        Also while its timer runs, if it is a `DelayedWork`.
        """
        return self._pending is not Pending.NOT

    @property
    def waits_for_slot(self) -> bool:
        """Is it in its pwq's inactive line?"""
        return self._pending is Pending.INACTIVE

    @property
    def waits_for_place(self) -> bool:
        """Is it in its pool's worklist?"""
        return self._pending is Pending.ACTIVE

    @property
    def is_running(self) -> bool:
        """Has its function begun and not ended? Parked counts as running."""
        return self._worker is not None

    @enable_ki_protection
    async def flush(self) -> bool:
        """Wait for the last queueing seen at this moment (kernel: ``flush_work``); always a checkpoint.

        Returns True if it had to wait, False if the item was idle. A run queued later is not waited for. Inside an item
        the caller is parked while it waits. Cancelling it leaves nothing behind.

        Raises:
          DeadlockError: called from inside this very item, or by one that it certainly waits for.
        """
        refuse_own_wait(self, "flush")
        followers = self._last_queueing()
        if followers is None:
            await trio.lowlevel.checkpoint()
            return False
        await parked_while_waiting(followers.lot().park, Wait("flush", RunEnd(self, self._last_run())))
        return True

    @enable_ki_protection
    async def result(self) -> T_co:
        """Wait for the last queueing seen at this moment, as `flush` does, and give back its value or raise its error.

        The error is then this caller's (and of all others that wait with it): the queue's `on_error` does not see it.
        Of an idle item: the outcome of the last queueing, if its queue keeps it (``on_error="store"``). Always a
        checkpoint; inside an item the caller is parked while it waits. Cancelling it does not touch the item, as
        cancelling `Workqueue.run` does.

        Raises:
          DeadlockError: called from inside this very item, or by one that it certainly waits for.
          DestroyedError: the queueing was withdrawn before it began, or its run was interrupted.
          NoResultError: the item is idle and has kept nothing.
          and whatever the item raises.
        """
        refuse_own_wait(self, "result")
        followers = self._last_queueing()
        if followers is None:
            kept = kept_outcome(self)
            await trio.lowlevel.checkpoint()
            return cast("T_co", kept.unwrap())
        wait = Wait("result", RunEnd(self, self._last_run()))
        caller = Caller(self, followers)
        followers.add(caller)
        return cast("T_co", await parked_while_waiting(caller.wait, wait))

    def _used_by(self) -> PoolWorkqueue | None:
        """In whose books is it just now? Then only the loop of these may change it."""
        return self._pwq if self.is_pending or self.is_running else None

    def followers(self) -> Followers:
        """Those who follow the pending queueing, or the one that is just being accepted."""
        if self._followers is None:
            self._followers = Followers()
        return self._followers

    def _last_queueing(self) -> Followers | None:
        """Those who follow the pending queueing, else the run under way."""
        if self._pending is not Pending.NOT:
            return self.followers()
        return self._worker.followers() if self._worker is not None else None

    def _last_run(self) -> int:
        """The number of that run, once it begins."""
        return self._runs + (self._pending is not Pending.NOT)

    @enable_ki_protection
    def cancel(self) -> bool:
        """Withdraw the pending queueing (kernel: ``cancel_work``); True if there was one.

        A run under way is not touched. Plain function; may be called anywhere, in the item itself too.
        """
        pwq = self._pwq
        if self._pending is Pending.NOT or pwq is None:
            return False
        pwq.wq.refuse_other_threads()
        pwq.instruments.refuse_inside("cancel")
        pwq.withdraw(self)
        return True

    @enable_ki_protection
    async def cancel_sync(self, *, interrupt: bool = False) -> bool:
        """Withdraw the pending queueing, then wait until no run is under way (kernel: ``cancel_work_sync``).

        The run may finish, unless `interrupt` is true: then its scope is cancelled first. While this waits, every
        queueing of the item returns False, so an item that queues itself for ever is stopped. Returns True if it was
        pending. Always a checkpoint; inside an item the caller is parked while it waits.

        Raises:
          DeadlockError: called from inside this very item, or by one that it certainly waits for; then nothing is
            withdrawn.
        """
        return await self._cancel_and_wait("cancel_sync", interrupt=interrupt)

    async def _cancel_and_wait(self, what: str, *, interrupt: bool) -> bool:
        refuse_own_wait(self, what)
        if interrupt:
            self.interrupt(what)
        worker = self._worker
        wait = Wait(what, RunEnd(self, self._runs)) if worker is not None else None
        self._disabled += WAITING
        try:
            was_pending = self.cancel()
            if worker is None or wait is None:
                await trio.lowlevel.checkpoint()
            else:
                await parked_while_waiting(worker.followers().lot().park, wait)
        finally:
            self._disabled -= WAITING
        return was_pending

    @enable_ki_protection
    def disable(self) -> bool:
        """Let no queueing in, and withdraw the pending one (kernel: ``disable_work``); True if there was one.

        From now on every queueing returns False, until each `disable` had its `enable`. A run under way is not touched.
        Plain function; may be called anywhere, in the item itself too.

        Raises:
          DisableError: it is disabled 65 535 deep already.
        """
        refuse_misuse(self, "disable")
        deepen(self)  # first: `on_discard` may queue
        return self.cancel()

    @enable_ki_protection
    async def disable_sync(self, *, interrupt: bool = False) -> bool:
        """As `disable`, then wait until no run is under way (kernel: ``disable_work_sync``).

        The run may finish, unless `interrupt` is true: then its scope is cancelled first. Returns True if it was
        pending. Always a checkpoint; inside an item the caller is parked while it waits. If it raises, because it was
        cancelled say, the item is not disabled by it, so ``await work.disable_sync()`` stands before the ``try:`` whose
        ``finally:`` has the `enable`.

        Raises:
          DisableError: it is disabled 65 535 deep already.
          DeadlockError: called from inside this very item, or by one that it certainly waits for.
        """
        refuse_misuse(self, "disable_sync")
        refuse_too_deep(self)
        was_pending = await self._cancel_and_wait("disable_sync", interrupt=interrupt)
        deepen(self)  # in the same stretch that ends the waiting
        return was_pending

    @enable_ki_protection
    def enable(self) -> bool:
        """Take back one `disable` (kernel: ``enable_work``); True if the item takes queueings again.

        Not if it was disabled deeper, or if a `cancel_sync` or `disable_sync` of it waits. Queueings that were refused
        are not made up for: see `Workqueue.enable_and_queue_work`. Plain function; may be called anywhere.

        Raises:
          DisableError: it is not disabled.
        """
        refuse_misuse(self, "enable")
        return undo(self)

    @enable_ki_protection
    def interrupt(self, reason: str | None = None) -> bool:
        """Cancel the scope of the run under way; True if there is one. Does not wait.

        An addition to the kernel's model. `reason` is what `trio.Cancelled` shows.
        """
        if self._worker is None:
            return False
        self._worker.pwq.wq.refuse_other_threads()
        self._worker.pwq.instruments.refuse_inside("interrupt")
        self._worker.interrupt(reason)
        return True

    def statistics(self) -> WorkStatistics:
        """What this item is doing right now."""
        worker = self._worker
        return WorkStatistics(
            pending=self._pending is not Pending.NOT,
            delayed=self._pending is Pending.DELAYED,
            running=worker is not None,
            parked=worker is not None and worker.parked,
            disabled=depth_of(self),
            runs=self._runs,
            overruns=0,
        )

    def __repr__(self) -> str:
        states: list[str] = []
        if self._pending is not Pending.NOT and self._pwq is not None:
            states.append(f"{self._pending.name.lower()} on {self._pwq.wq.name!r}")
        if self._worker is not None:
            states.append("parked" if self._worker.parked else "running")
        depth = depth_of(self)
        disabled = f", disabled{f' x {depth}' if depth > 1 else ''}" if depth else ""
        return f"<{type(self).__name__} {self.name} {' and '.join(states) or 'idle'}{disabled}>"
