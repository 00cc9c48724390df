"""Queueing from other threads and from signal handlers: letters to the loop.

The books are the loop's alone, so another thread leaves a letter and wakes it: `trio.lowlevel.TrioToken.run_sync_soon`
may be called from anywhere, a signal handler included, and takes no lock that such a handler might find taken. However
many letters there are by the time the loop wakes, it is woken once, and reads them in the order of their posting.

Nobody is there any more to be told when a letter is read. So what `Workqueue.queue_work` would raise then, or a False
that is not about an item that is pending anyway, ends as every queueing that will never run: in `on_discard`; and if
the item has none, in the log.
"""

from __future__ import annotations

import logging
from collections import deque
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, final

import trio
from trio.lowlevel import enable_ki_protection

from ktrio.workqueue._errors import SupervisorClosedError, WorkqueueError
from ktrio.workqueue._outcome import discarded
from ktrio.workqueue._policy import YIELD_AFTER_ITEMS

if TYPE_CHECKING:
    from ktrio.workqueue._queue import Workqueue
    from ktrio.workqueue._work import Work

__all__ = ["Letters"]

log = logging.getLogger("ktrio.workqueue")


@final
class Letter:
    """One queueing that was asked for. All attributes: I."""

    __slots__ = ("context", "work")

    def __init__(self, work: Work) -> None:
        self.work = work
        self.context: Context = copy_context()


@final
class Letters:
    """Those to one queue that have not been read.

    Legend: I set once · N from any thread, each change one step of the interpreter.
    """

    __slots__ = ("_unread", "_wq")

    def __init__(self, wq: Workqueue) -> None:
        self._wq = wq  # I
        self._unread: deque[Letter] = deque()  # N: oldest first

    def post(self, work: Work) -> None:
        """See `Workqueue.queue_work_from_thread`."""
        supervisor = self._wq.supervisor
        if supervisor.closed:
            raise SupervisorClosedError(f"{self._wq!r} belongs to a supervisor that was left or cancelled")
        letter = Letter(work)
        self._unread.append(letter)  # before the loop is woken, or it would wake to nothing
        try:
            supervisor.token.run_sync_soon(self._read, idempotent=True)
        except trio.RunFinishedError:
            try:
                self._unread.remove(letter)
            except ValueError:  # read in the loop's last turn, and discarded there
                return
            raise

    @enable_ki_protection
    def _read(self) -> None:
        """Queue what was asked for so far. Called by the loop; it must not raise.

        At most so many at once as are read in one turn of a worker: threads may post faster than a loop reads.
        """
        self._read_some(YIELD_AFTER_ITEMS)
        if self._unread:
            try:
                self._wq.supervisor.token.run_sync_soon(self._read, idempotent=True)
            except trio.RunFinishedError:  # the loop's last turn
                while self._unread:
                    self._read_some(len(self._unread))

    def _read_some(self, number: int) -> None:
        for _ in range(number):
            try:
                letter = self._unread.popleft()
            except IndexError:  # that was all; a thread may have taken back its own
                return
            self._queue(letter)

    def _queue(self, letter: Letter) -> None:
        if letter.work.is_pending:
            return  # that queueing will do
        try:
            if self._wq.max_pending:
                self._wq._backlog.refuse_if_full()
            accepted, why = (
                self._wq._queue(letter.work, None, False, letter.context),
                "it is disabled, or its supervisor is being left",
            )
        except WorkqueueError as error:
            accepted, why = False, str(error)
        if not accepted:
            self._refuse(letter.work, why)

    def _refuse(self, work: Work, why: str) -> None:
        if work._on_discard is None:
            log.warning("%r was queued on %r from another thread, and is discarded: %s", work, self._wq.name, why)
        discarded(self._wq, work)
