"""One `Workqueue.run`: a caller that waits for the result of an item of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn, final

import trio
from trio.lowlevel import Abort, enable_ki_protection

from ktrio.workqueue._errors import DestroyedError

if TYPE_CHECKING:
    from ktrio.workqueue._work import Work

__all__ = ["Call"]


@final
class Call:
    """The way of a result from the worker to its caller.

    Legend: I set once · T only by the waiting task · S changed only in one synchronous stretch.
    """

    __slots__ = ("_error", "_raise_cancel", "_settled", "_task", "_value", "_work")

    def __init__(self, work: Work) -> None:
        self._work = work  # I
        self._task: trio.lowlevel.Task | None = None  # T: set only while it waits
        self._raise_cancel: Callable[[], NoReturn] | None = None  # S: the caller was cancelled
        self._settled = False  # S
        self._value: object = None  # S
        self._error: BaseException | None = None  # S

    @enable_ki_protection
    async def wait(self) -> object:
        """The item's value, or its error; cancelled: withdraws or interrupts the item and waits for its end."""
        if not self._settled:
            self._task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abort)
        if self._error is not None:
            raise self._error
        return self._value

    def _abort(self, raise_cancel: Callable[[], NoReturn]) -> Abort:
        if self._work.is_pending:
            self._task = None  # nobody must wake a task that Trio is waking
            self._work.cancel()
            return Abort.SUCCEEDED
        if not self._work.is_running:  # it has ended the supervisor, and this caller with it
            self._task = None
            return Abort.SUCCEEDED
        self._raise_cancel = raise_cancel
        self._work.interrupt("the caller of Workqueue.run was cancelled")
        return Abort.FAILED

    def settle(self, value: object, error: BaseException | None) -> None:
        """The item ended. `error` is what is left of its exception once Cancelled is taken out of it."""
        self._value, self._error, self._settled = value, error, True
        task, self._task = self._task, None
        if task is not None:
            trio.lowlevel.reschedule(task)

    @property
    def was_cancelled(self) -> bool:
        """Was the caller cancelled, and does it wait only for the item to end?"""
        return self._raise_cancel is not None

    def settle_unfinished(self, why: str) -> None:
        """The item was withdrawn or interrupted: by the caller's own cancellation, or by somebody else."""
        error: BaseException = DestroyedError(f"{self._work!r} {why}")
        if self._raise_cancel is not None:
            try:
                self._raise_cancel()
            except BaseException as cancelled:  # Cancelled, or the KeyboardInterrupt that struck while we waited
                error = cancelled
        self.settle(None, error)
