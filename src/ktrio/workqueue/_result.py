"""What an item gives back: `Work.result` and `Workqueue.run` who wait for it, and queues that keep it.

A result goes to whoever waits for it when the run ends; then the value is forgotten, for most items are queued again
and again and nobody asks. Only a queue with ``on_error="store"`` keeps the last outcome, on the item, until the item is
queued again. A kept error that nobody has asked for when it goes (the item is queued again over it, the queue is
destroyed, the supervisor left, the item itself forgotten) is logged, once.

An error may be raised by many `result` calls. Each raises the same object with the traceback and the context it had in
the item: neither grows from call to call. The worker's own frames are left out, or what is kept would keep the worker.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, NoReturn, final
from weakref import WeakSet

import trio
from trio.lowlevel import Abort, enable_ki_protection

from ktrio.workqueue._errors import DestroyedError, NoResultError

if TYPE_CHECKING:
    from types import TracebackType

    from ktrio.workqueue._followers import Followers
    from ktrio.workqueue._supervisor import Supervisor
    from ktrio.workqueue._work import Work

__all__ = ["Caller", "Outcome", "Store", "kept_outcome"]

log = logging.getLogger("ktrio.workqueue")


@final
class Outcome:
    """What a queueing has come to: a value, or an error. All attributes: I."""

    __slots__ = ("_context", "_traceback", "error", "value")

    def __init__(self, value: object, error: BaseException | None) -> None:
        self.value = value
        self.error = error
        self._context = error.__context__ if error is not None else None
        self._traceback = _without_worker(error.__traceback__) if error is not None else None

    def unwrap(self) -> object:
        """Give back the value or raise the error."""
        if self.error is None:
            return self.value
        error, context, traceback = self.error, self._context, self._traceback
        try:
            raise error.with_traceback(traceback)
        finally:
            error.__context__ = context  # `raise` has put there whatever the caller was handling
            del self, error, context, traceback  # a frame that holds its own exception is a cycle


def _without_worker(traceback: TracebackType | None) -> TracebackType | None:
    """`traceback` from the first frame on that is not the library's."""
    while traceback is not None and traceback.tb_frame.f_globals.get("__package__") == __package__:
        traceback = traceback.tb_next
    return traceback


@final
class Caller:
    """A task that waits for the result of one queueing.

    `Workqueue.run` takes the item along when it is cancelled, because it is the item's only owner; `Work.result` goes
    alone.

    Legend: I set once · T only by the waiting task · S changed only in one synchronous stretch.
    """

    __slots__ = ("_followers", "_outcome", "_raise_cancel", "_task", "_work", "owner_deadline")

    def __init__(self, work: Work, followers: Followers | None) -> None:
        """`followers` to go from when cancelled; None: take the item along."""
        self._work = work  # I
        self._followers = followers  # I
        self._task: trio.lowlevel.Task | None = None  # T: set only while it waits
        self._raise_cancel: Callable[[], NoReturn] | None = None  # S: cancelled, it waits for the item to end
        self._outcome: Outcome | None = None  # S
        self.owner_deadline = trio.current_effective_deadline()  # I

    @enable_ki_protection
    async def wait(self) -> object:
        """The item's value, or its error."""
        if self._outcome is None:
            self._task = trio.lowlevel.current_task()
            self._task.custom_sleep_data = self  # what `Wait.sleep` asks of everybody
            await trio.lowlevel.wait_task_rescheduled(self._abort)
        assert self._outcome is not None
        return self._outcome.unwrap()

    def _abort(self, raise_cancel: Callable[[], NoReturn]) -> Abort:
        if self._followers is None and self._work.is_running and not self._work.is_pending:
            self._raise_cancel = raise_cancel
            self._work.interrupt("the caller of Workqueue.run was cancelled")
            return Abort.FAILED
        self._task = None  # nobody must wake a task that Trio is waking
        if self._followers is not None:
            self._followers.remove(self)
        else:  # pending; or it has ended the supervisor, and this caller with it
            self._work.cancel()
        return Abort.SUCCEEDED

    @property
    def is_owner(self) -> bool:
        """See `Watcher`."""
        return self._followers is None

    def accepted(self, work: Work) -> None:
        """See `Watcher`."""

    def returned(self, work: Work, value: object) -> None:
        """See `Watcher`."""
        self._settle(Outcome(value, None))

    def failed(self, work: Work, error: Exception) -> bool:
        """See `Watcher`: the error is this caller's."""
        self._settle(Outcome(None, error))
        return True

    def unfinished(self, work: Work, why: str, ending: Supervisor | None = None) -> None:
        """See `Watcher`. Of what ends the supervisor most callers are cancelled along with it, and need no error."""
        if ending is not None and self._raise_cancel is None:
            ending.settle_in_the_end(self, why)
        else:
            self.settle_unfinished(why)

    def settle_unfinished(self, why: str) -> None:
        """The item was withdrawn or interrupted: by the caller's own cancellation, or by somebody else."""
        error: BaseException = DestroyedError(f"{self._work!r} {why}")
        if self._raise_cancel is not None:
            try:
                self._raise_cancel()
            except BaseException as cancelled:  # Cancelled, or the KeyboardInterrupt that struck while we waited
                error = cancelled
        self._settle(Outcome(None, error))

    def _settle(self, outcome: Outcome) -> None:
        self._outcome = outcome
        task, self._task = self._task, None
        if task is not None:
            trio.lowlevel.reschedule(task)


@final
class Kept:
    """An outcome that its item keeps. All attributes: I, but `_unasked`: S."""

    __slots__ = ("__weakref__", "_name", "_queue", "_runs", "_unasked", "outcome")

    def __init__(self, work: Work, queue: str, outcome: Outcome) -> None:
        self._name = work.name
        self._queue = queue
        self._runs = work._runs
        self._unasked = False
        self.outcome = outcome

    def is_of_last_run(self, work: Work) -> bool:
        """Has the item not run since, on a queue that does not store?"""
        return self._runs == work._runs

    def is_nobodys(self) -> None:
        """Its error is nobody's yet."""
        self._unasked = True

    def unwrap(self) -> object:
        """Somebody asks: give back the value or raise the error."""
        self._unasked = False
        return self.outcome.unwrap()

    def tell(self) -> None:
        """It goes: log an error that nobody has asked for."""
        if self._unasked:
            self._unasked = False
            log.error(
                "nobody has asked for the error of work item %s, kept by workqueue %r",
                self._name,
                self._queue,
                exc_info=self.outcome.error,
            )

    def __del__(self) -> None:
        self.tell()


@final
class Store:
    """The policy ``on_error="store"`` of one queue: a watcher of all its queueings.

    Legend: I set once · S changed only in one synchronous stretch.
    """

    is_owner = False
    owner_deadline = inf

    def __init__(self, queue: str) -> None:
        self._queue = queue  # I
        self._unasked: WeakSet[Kept] = WeakSet()  # S; the errors belong to the items, and may go with them

    def queued(self, work: Work) -> None:
        """A queueing is accepted: what the item has kept so far goes."""
        _forget(work)
        followers = work.followers()
        if not followers.has(self):  # else one that was delayed is queued now
            followers.add(self)

    def accepted(self, work: Work) -> None:
        """See `Watcher`."""

    def returned(self, work: Work, value: object) -> None:
        """See `Watcher`."""
        self._keep(work, Outcome(value, None))

    def failed(self, work: Work, error: Exception) -> bool:
        """See `Watcher`: if nobody else takes the error, `keep_error` is told."""
        self._keep(work, Outcome(None, error))
        return False

    def unfinished(self, work: Work, why: str, ending: Supervisor | None = None) -> None:
        """See `Watcher`."""
        self._keep(work, Outcome(None, DestroyedError(f"{work!r} {why}")))

    def keep_error(self, work: Work, error: Exception) -> None:
        """An error of `work`, of its run or of its `on_discard`, that nobody has taken."""
        kept = work._kept
        if kept is None or kept.outcome.error is not error:
            kept = self._keep(work, Outcome(None, error))
        kept.is_nobodys()
        self._unasked.add(kept)

    def close(self) -> None:
        """The queue is over: tell of every error that nobody has asked for."""
        for kept in list(self._unasked):
            kept.tell()
        self._unasked.clear()

    def _keep(self, work: Work, outcome: Outcome) -> Kept:
        _forget(work)
        work._kept = kept = Kept(work, self._queue, outcome)
        return kept


def _forget(work: Work) -> None:
    kept, work._kept = work._kept, None
    if kept is not None:
        kept.tell()


def kept_outcome(work: Work) -> Kept:
    """What an idle item has kept, or NoResultError."""
    if work._kept is not None and work._kept.is_of_last_run(work):
        return work._kept
    if work._runs:
        raise NoResultError(
            f"{work!r} has run, but kept no result: its queue needs on_error='store', or somebody to wait in time"
        )
    raise NoResultError(f"{work!r} has no result: it has not run, and is not pending")
