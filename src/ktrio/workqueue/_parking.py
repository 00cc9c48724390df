"""Parking: a long-lived item that waits for the outside world steps off the books.

The one addition to the kernel's model. An item inside ``async with parked():`` gives back its slot of max_active and
its place in the pool, so that others may use them, and stays in flight: flush, drain and destroy still wait for it.
The rules, cited by their numbers in tests and comments:

P1  Parking gives back slot and place at once, and lets the next items have them; the worker stays with the item.
P2  Coming back takes a slot first, then a place. Both free and nobody waiting: at once, without a task switch. Else
    a `ReturnToken` joins the same FIFO as inactive items, then the same worklist; nobody overtakes.
P3  Coming back is a sleeper waking: concurrency management never holds it up, nor does a pool of high priority.
P4  Leaving with an exception in flight never waits and never hides it: slot and place are taken even beyond the limits
    (counted as overshoot), and nothing more starts until the counts are below them again.
P5  flush, drain and destroy wait for parked items like for any other.
P6  An item queued again while it runs holds no slot of its own; it inherits the run's (`Pending.COLLIDED`).
P7  In an ordered queue it gives back its place only, and keeps the slot: nobody begins before it has ended.
P8  Parking while parked, or outside an item's own task, is an error. An item queued with ``parked=True`` starts parked:
    its first ``parked()`` adopts that state, and its first return is its activation.
P9  Parking that *insists* (``parked(insist=True)``) comes back without asking, as by P4: for whoever waits while it
    holds what others in slots may be waiting for. Beyond the limits it is counted as overshoot, and nothing new starts
    until the counts are below them again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar, final

import trio
from trio.lowlevel import Abort, enable_ki_protection

from ktrio.workqueue._awaited import Return
from ktrio.workqueue._current import current_work, own_worker
from ktrio.workqueue._errors import DeadlockError, ParkingError
from ktrio.workqueue._policy import has_place
from ktrio.workqueue._waits import Wait

if TYPE_CHECKING:
    from ktrio.workqueue._worker import Worker

__all__ = ["Parking", "ReturnToken", "parked", "parked_while_waiting"]

T = TypeVar("T")


@final
class ReturnToken:
    """A parked worker that wants to come back, standing in line for a slot, then for a place (P2).

    Legend: I set once · S changed only in one synchronous stretch.
    """

    __slots__ = ("has_slot", "worker")

    def __init__(self, worker: Worker) -> None:
        self.worker = worker  # I
        self.has_slot = False  # S: it left the inactive FIFO and stands in the worklist

    @property
    def waits_for_slot(self) -> bool:
        """Is it in its pwq's inactive line?"""
        return not self.has_slot

    @property
    def waits_for_place(self) -> bool:
        """Is it in its pool's worklist?"""
        return self.has_slot

    def __repr__(self) -> str:
        return f"<ReturnToken of {self.worker!r} waiting for a {'place' if self.has_slot else 'slot'}>"


@final
class Parking:
    """The context manager that `parked` returns; may be used again and again, by the same run.

    `before_wait` is called, if set, when coming back turns out to have to wait (P2): a plain function.
    """

    __slots__ = ("_insists", "_worker", "before_wait")

    def __init__(self, worker: Worker, *, insists: bool = False) -> None:
        self._worker = worker  # I
        self._insists = insists  # I
        self.before_wait: Callable[[], object] | None = None  # I, by whoever made it

    @property
    def is_entered(self) -> bool:
        """Is the run parked already, by whichever `Parking`? Then entering would be an error."""
        return self._worker.parked and not self._worker.adoptable

    @enable_ki_protection
    async def __aenter__(self) -> None:
        _park(self._worker)

    @enable_ki_protection
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        worker = self._worker
        if error is not None:
            _force_return(worker)  # P4
        elif not _return_nowait(worker):
            if self._insists:
                _force_return(worker)  # P9
                return
            if self.before_wait is not None:
                self.before_wait()
            await _wait_for_return(worker)


def _park(worker: Worker) -> None:
    """Give back slot and place to whoever waits for them (P1); or adopt a parked start (P8)."""
    if worker.adoptable:
        worker.adoptable = False
        return
    if worker.parked:
        raise ParkingError(f"{worker.work!r} is parked already")
    pool, pwq = worker.pool, worker.pwq
    worker.parked = True
    pwq.parked += 1
    pool.parked += 1
    pool.occupied -= 1
    if not pwq.keeps_slot:
        pwq.release_slot()
    elif pwq.inactive.held:
        pool.supervisor.freezer.less_busy(pwq)
    if pool.worklist:
        pool.kick()


def _return_nowait(worker: Worker) -> bool:
    """Come back at once if slot and place are free and nobody is in line for either (P2)."""
    pool = worker.pool
    # In a bound pool, and where another goes first, items wait though there are places; they hold up no return (P3).
    passes_items = pool.is_bound or (pool.gated and not pool.items_may_start())
    is_behind = bool(pool.returners if passes_items else pool.worklist)
    if is_behind or not has_place(pool.occupied, pool.capacity) or not worker.pwq.take_slot_nowait():
        return False
    worker.returned()
    return True


def _force_return(worker: Worker, *, has_slot: bool = False) -> None:
    """Come back without asking, because an exception is in flight (P4)."""
    pool, pwq = worker.pool, worker.pwq
    worker.adoptable = False
    if not (has_slot or pwq.keeps_slot):
        pwq.nr_active += 1
    worker.returned()
    if pwq.nr_active > pwq.wq.max_active or pool.occupied > pool.capacity:
        pwq.overshoot += 1


async def _wait_for_return(worker: Worker, *, keeps_outcome: bool = False) -> None:
    """With `keeps_outcome` the caller brings something about that has happened: its cancellation waits for the next."""
    token = worker.pwq.join_line(ReturnToken(worker))

    def give_up() -> None:
        worker.pwq.leave_line(token)
        _force_return(worker, has_slot=token.has_slot)  # P4: whoever is cancelled while waiting to come back is back

    def abort(_raise_cancel: object) -> Abort:
        give_up()
        if not keeps_outcome:
            return Abort.SUCCEEDED
        trio.lowlevel.reschedule(worker.task)
        return Abort.FAILED

    try:
        wait = Wait("parked", Return(worker.pwq.wq, token))
    except DeadlockError:
        give_up()
        raise
    worker.task.custom_sleep_data = token
    await wait.sleep(partial(trio.lowlevel.wait_task_rescheduled, abort))


def parked(*, insist: bool = False) -> Parking:
    """``async with parked():`` steps off the books while the item waits for the outside world (P1-P9).

    For the item's own task. Entering never blocks. Leaving blocks only if no slot or place is free (P2), and never with
    an exception in flight (P4). With `insist` it never blocks, but may exceed the limits (P9): for an item that holds
    what others need, a lock say, and must not wait in line behind those who wait for that.

    Raises:
      ParkingError: outside an item, in a task that an item started, or (on entering) while already parked.
    """
    worker = own_worker()
    if worker is not None:
        return Parking(worker, insists=insist)
    if (work := current_work()) is not None:
        raise ParkingError(f"parked() belongs to the own task of {work!r}, not to a task that it started")
    raise ParkingError("parked() was called outside an item: only an item on a workqueue can be parked")


@enable_ki_protection
async def parked_while_waiting(sleep: Callable[[], Awaitable[T]], wait: Wait | None = None) -> T:
    """``await sleep()``, parked if the caller is an item: who waits for others must not hold what they need.

    With `wait` it is in the books as long as it sleeps. Trio's rule is that a call that raises Cancelled has done
    nothing. So once it has slept, what it has waited for has come about, and a cancellation on the way back is left to
    the caller's next checkpoint: it is back at once, as by P4.
    """
    if wait is not None:
        sleep = partial(wait.sleep, sleep)
    worker = own_worker()
    if worker is None or worker.parked:
        return await sleep()
    _park(worker)
    try:
        outcome = await sleep()
    except BaseException:
        _force_return(worker)  # P4
        raise
    if not _return_nowait(worker):
        await _wait_for_return(worker, keeps_outcome=True)
    return outcome
