"""One worker: take an item, run it in its context, report (kernel: ``worker_thread``, ``process_one_work``).

A worker is a Trio task that runs one item after another. Three things keep that cheap and exact:

* *One cancel scope per worker*, not per item, which would cost more than that; renewed when an interrupt has spent it.
* *The first step is a plain call.* The worker calls the item's function, and takes the first step of its coroutine, by
  itself, in ``context.run``. An item that ends there has cost no await. If it does not, that is the moment to wake the
  next worker: before it, that could not have run anyway on one loop.
* *The worker is the awaitable.* From then on ``await self`` hands Trio's sends to the item's coroutine one by one. Its
  steps run in the task's context, which is set to the item's.

Most items do not come along here, but along the fast lane (`ktrio.workqueue._fast_lane`). An exception of an item ends
at a barrier: books first, then `ktrio.workqueue._outcome`. KeyboardInterrupt may strike in the user's code only.
"""

from __future__ import annotations

from contextvars import Context
from typing import TYPE_CHECKING, cast, final

import trio
from trio.lowlevel import Abort, enable_ki_protection

from ktrio.workqueue._books import begin, end
from ktrio.workqueue._current import workers_of_this_run
from ktrio.workqueue._driver import ENDED, Driver
from ktrio.workqueue._fast_lane import is_open, run_plain_items
from ktrio.workqueue._followers import Followers
from ktrio.workqueue._hogs import step_was_long
from ktrio.workqueue._idling import message_of_wait, wait_until_woken
from ktrio.workqueue._outcome import report
from ktrio.workqueue._policy import WAKE_UPS_ON_BLOCK, YIELD_AFTER_ITEMS, YIELD_AFTER_SECONDS
from ktrio.workqueue._sensor import YIELD
from ktrio.workqueue._threads import begin_cpu_intensive
from ktrio.workqueue._unprotected import ItemCoroutine
from ktrio.workqueue._work import Work

if TYPE_CHECKING:
    from ktrio.workqueue._flush import Colour
    from ktrio.workqueue._pool import Pool
    from ktrio.workqueue._pwq import PoolWorkqueue

__all__ = ["Worker"]


@final
class Worker(Driver):
    """A task of a pool's nursery, and the awaitable that drives the item it runs.

    Legend: I set once · T only by the worker's own task · S changed only in one synchronous stretch.
    """

    __slots__ = (
        "_began",
        "_burst",
        "_burst_began",
        "_colour",
        "_context",
        "_followers",
        "_hogs",
        "_home",
        "_instruments",
        "_interrupted",
        "_now",
        "_scope",
        "_step_began",
        "_watched",
        "activated",
        "adoptable",
        "asleep",
        "assigned",
        "counted",
        "cpu_intensive",
        "dying",
        "idle_since",
        "is_rescuer",
        "name",
        "parked",
        "pool",
        "pwq",
        "task",
        "work",
    )

    task: trio.lowlevel.Task  # I, by `run`
    _home: Context  # I, by `run`: the task's own context
    pwq: PoolWorkqueue  # T: of the item it runs, or ran last
    _colour: Colour  # T: of the item it runs, or ran last
    _context: Context  # T: of the item it runs, or ran last
    _scope: trio.CancelScope  # T

    def __init__(self, pool: Pool, number: int) -> None:
        super().__init__()
        self.pool = pool  # I, but of a rescuer
        self.name = f"kworker/{'' if pool.is_bound else 'u'}{pool.cpu}:{number}{'H' if pool.is_highpri else ''}"  # I
        self._watched = pool.is_bound and not pool.supervisor.uses_instrument  # I: by the trampoline
        self._instruments = pool.supervisor.instruments  # I
        self._hogs = pool.supervisor.hogs  # I
        self._now = self._hogs.now  # I: the clock of steps, which is not the run's
        self.work: Work | None = None  # T: the item it runs
        self.assigned: Work | None = None  # S: an item chosen for it that starts parked
        self.parked: bool = False  # S
        self.dying = False  # S: culled
        self.counted = False  # S: in nr_running while it is awake
        self.cpu_intensive = False  # S: its run does not count; that of a rescuer does not, either
        self.is_rescuer = False  # I, by the rescuer
        self.asleep = False  # S: blocked inside an item of a bound pool
        self.idle_since = 0.0  # T, by `_now`
        self.activated = True  # S: its run has had a slot; not yet if it started parked
        self.adoptable = False  # S: started parked, and no `parked()` has adopted that yet
        self._followers: Followers | None = None  # S: of the queueing it runs
        self._interrupted = False  # S
        self._burst = 0  # T: items since the loop last had its turn
        self._burst_began = self._step_began = 0.0  # T, by `_now`
        self._began = 0.0  # T, by `_now`: the run that has had its first step

    # -- the worker's life

    @enable_ki_protection
    async def run(self) -> None:
        """Work until culled or cancelled."""
        table = self.enrol()
        self._arrived()
        try:
            while not self.dying:
                self._interrupted = False
                with trio.CancelScope() as self._scope:
                    await self._work_until_interrupted()
                if self._interrupted:  # or an item that queues and interrupts itself would never let go of the loop
                    await self._yield()
        finally:
            self.close()
            del table[self.task]
            self.pool.count_out(self)
            if not self.dying:
                self.pool.nr_workers -= 1

    def enrol(self) -> dict[trio.lowlevel.Task, Worker]:
        """Its task begins: enter it into the table of workers, from which that task takes it out in the end."""
        self.task = trio.lowlevel.current_task()
        self._home = self.task.context
        table = workers_of_this_run()
        table[self.task] = self
        return table

    def _arrived(self) -> None:
        """It was woken or created, and now it runs."""
        self.pool.starting -= 1
        self._burst = 0
        self._burst_began = self._step_began = now = self._now()
        if now > self._hogs.resample_at:
            self._hogs.sample(now)

    async def _work_until_interrupted(self) -> None:
        pool, message = self.pool, None
        fresh = True  # nothing run yet since waking: the moment to see to the reserve
        while not self._interrupted:
            if is_open(self):
                if fresh and not pool.idle:
                    pool.ensure_reserve()
                fresh = False
                suspended = run_plain_items(self)
                found = len(pool.worklist) > 0
            else:
                if (fresh or self._watched) and pool.doubts_settled < pool.doubts and self.assigned is None:
                    await pool.settle_doubts()
                    self._step_began = self._now()
                if self.counted:
                    pool.finishing -= 1
                work = pool.take(self) if self.assigned is None else self._take_assigned(self.assigned)
                found = work is not None
                if work is None and pool.is_bound:
                    pool.count_out(self)
                elif found and fresh and not self.parked:
                    fresh = False
                    pool.ensure_reserve()
                suspended = self._run(work) if work is not None else None
            if suspended is not None:
                await self._run_on(suspended)
                self._burst, self._burst_began = 1, self._step_began
            elif found:
                if self._burst >= YIELD_AFTER_ITEMS or self._step_began - self._burst_began > YIELD_AFTER_SECONDS:
                    await self._yield()  # `must_yield`
            elif pool.seniors and pool.is_held:
                await self._yield()
            else:
                self.idle_since = self._step_began
                self._context, self.value, self.item = self._home, None, None  # an idle worker keeps nothing alive
                pool.enter_idle(self)
                message = message or message_of_wait(self._abort_idle)
                await wait_until_woken(message, self._abort_idle)
                if self.dying:
                    return
                self._arrived()
                fresh = True

    def _take_assigned(self, work: Work) -> Work:
        """The item that was chosen for it, which starts parked."""
        if self.pool.is_bound:
            self.pool.count_in(self, work)
        self.assigned = None
        work._worker_to_be = None
        self.parked = self.adoptable = True
        self.activated = False
        self.pool.parked += 1
        return work

    def _abort_idle(self, _raise_cancel: object) -> Abort:
        del self.pool.idle[self]
        return Abort.SUCCEEDED

    async def _yield(self) -> None:
        """Let the loop have its turn; meanwhile this worker counts as on its way back to the worklist."""
        self.pool.starting += 1
        try:
            await trio.lowlevel.checkpoint()
        finally:
            self._arrived()

    # -- one item

    def _run(self, work: Work) -> Work | None:
        """Run an item to its end, or to where it gives up the loop: then it is given back, its books open. Barrier."""
        begin(self, work)
        try:
            self.item = Work(begin_cpu_intensive, self, work) if self.pwq.is_cpu_intensive else work
            message = self._context.run(self.resume, None)
            if message is not ENDED:
                self.message = message
                return work
        except BaseException as error:
            self._failed(work, error)
        else:
            self._ended(work)
        self._burst += 1
        return None

    async def _run_on(self, work: Work) -> None:
        """Run an item that has given up the loop to its end. Barrier, as `_run`: whatever it raises is caught here."""
        self._suspended()
        try:
            await self
        except BaseException as error:
            self._failed(work, error)
        else:
            self.task.context = self._home
            self._ended(work)

    def _ended(self, work: Work) -> None:
        end(self, work)
        if self._followers is not None:
            self.tell_followers(work)

    def tell_followers(self, work: Work) -> None:
        """A run has come to its end, and somebody wants to know."""
        followers, self._followers = self._followers, None
        if followers is not None:
            followers.returned(work, self.value)

    def _failed(self, work: Work, error: BaseException) -> None:
        """Close the books of a run that raised, then report that: inside the item, where a retry is chained."""
        is_first_step = self.task.context is not self._context
        self.task.context = self._home
        coro, self.coro = self.coro, None
        if getattr(coro, "cr_frame", None) is not None:
            cast("ItemCoroutine", coro).close()  # Ctrl-C struck before its first step
        self.renew()
        end(self, work)
        followers, self._followers = self._followers, None
        self.work = work  # so `enclosing_workers` finds it
        try:
            if is_first_step:
                self._context.run(report, self.pwq, work, followers, error)
            else:  # the loop is in its context
                report(self.pwq, work, followers, error)
        finally:
            self.work = None
        self._step_began = self._now()

    def restart_step(self) -> None:
        """What has passed until now was not the item's doing."""
        self._step_began = self._now()

    def interrupt(self, reason: str | None) -> None:
        """Cancel the run under way."""
        self._interrupted = True
        self._scope.cancel(reason=reason)

    def followers(self) -> Followers:
        """Those who follow the run under way."""
        if self._followers is None:
            self._followers = Followers()
        return self._followers

    def returned(self) -> None:
        """It comes back from being parked: it holds a slot, and now it takes its place (`ktrio.workqueue._parking`)."""
        self.parked = False
        self.pwq.parked -= 1
        self.pool.parked -= 1
        self.pool.occupied += 1
        if not self.activated:
            self.activated = True
            if self._instruments.activate_work is not None and self.work is not None:
                self._instruments.tell_activate_work(self.work, self.pwq, self)

    # -- the steps of an item that awaits: see `ktrio.workqueue._driver`

    def _suspended(self) -> None:
        """The item's first step has ended in an await."""
        self.task.context = self._context
        self._began = self._step_began
        self._step_ended()
        if self._watched and self.message is not YIELD:
            self.pool.fell_asleep(self)
        elif self.pool.worklist:
            self.pool.kick(more=WAKE_UPS_ON_BLOCK)

    def send(self, value: object) -> object:
        """Every later step."""
        self._step_began = now = self._now()
        if now > self._hogs.resample_at:
            self._hogs.sample(now)
        if self.asleep:  # not if an instrument is the sensor: it has said so before this step
            self.pool.woke_up(self)
        message = self.resume(value)
        if message is ENDED:
            raise StopIteration
        self._step_ended()
        if self._watched and message is not YIELD:
            self.pool.fell_asleep(self)
        return message

    def _step_ended(self) -> None:
        """A step has ended in an await; the last one of a run ends in `end`."""
        seconds = self._now() - self._step_began
        self.pwq.cpu_time += seconds
        if seconds > self._hogs.threshold and self.work is not None:
            step_was_long(self, self.work, seconds, is_last=False)

    @property
    def age(self) -> float:
        """Seconds since the run under way began."""
        is_in_first_step = self.task.context is not self._context
        return self._now() - (self._step_began if is_in_first_step else self._began)

    def __repr__(self) -> str:
        return f"<Worker {self.name} {self.work or 'idle'}>"
