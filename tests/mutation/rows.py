"""The mistakes: the classic ones of a concurrency-managed workqueue, those of one on Trio, and of what is ours alone.

An `Edit` follows the source: when that changes, the row that has become stale says so (`test_rows.py`).
"""

# ruff: noqa: E501 - the text of rows stands as it does in the source

from __future__ import annotations

from tests.mutation import http_rows
from tests.mutation.row import Edit, Row

W = "workqueue/"

KERNEL = (
    Row(
        "slot-test",
        "<= for < in the test for a slot: one item more than max_active",
        (
            Edit(f"{W}_policy.py", "return nr_active < max_active", "return nr_active <= max_active"),
            Edit(
                f"{W}_pwq.py",
                "and self.nr_active < self.wq.max_active  # `has_slot`",
                "and self.nr_active <= self.wq.max_active  # `has_slot`",
            ),
            Edit(f"{W}_queue.py", "or pwq.nr_active >= self.max_active\n", "or pwq.nr_active > self.max_active\n"),
        ),
    ),
    Row(
        "no-kick-on-sleep",
        "a worker of a bound pool that falls asleep wakes nobody",
        (
            Edit(
                f"{W}_concurrency.py",
                "            worker.pwq.cm_wakeups += has_place(self.occupied, self.capacity)\n            self.kick()\n",
                "            worker.pwq.cm_wakeups += has_place(self.occupied, self.capacity)\n",
            ),
        ),
    ),
    Row(
        "no-kick-on-start",
        "an item of an unbound pool that gives up the loop wakes nobody for those behind it (ours is the first await: "
        "before it, on one loop, nobody could have run)",
        (
            Edit(
                f"{W}_worker.py",
                "        elif self.pool.worklist:\n            self.pool.kick(more=WAKE_UPS_ON_BLOCK)\n",
                "",
            ),
        ),
    ),
    Row(
        "no-promotion-on-cancel",
        "a cancelled active item keeps its slot to itself",
        (
            Edit(
                f"{W}_pwq.py",
                "            self.pool.remove(work)\n            self.release_slot()\n",
                "            self.pool.remove(work)\n            self.nr_active -= 1\n",
            ),
        ),
    ),
    Row(
        "pending-cleared-after",
        "PENDING is cleared after the function is called instead of before: an item cannot queue itself",
        (
            Edit(
                f"{W}_books.py",
                "    work._pending = _NOT\n    work._worker = worker\n",
                "    work._worker = worker\n",
            ),
            Edit(
                f"{W}_books.py",
                "    worker.work = work._worker = None\n",
                "    worker.work = work._worker = None\n    work._pending = _NOT\n",
            ),
            Edit(
                f"{W}_fast_lane.py",
                "        work._pending = _NOT\n        work._worker = worker\n",
                "        work._worker = worker\n",
            ),
            Edit(
                f"{W}_fast_lane.py",
                "        work._worker = None\n        pwq.completed += 1\n",
                "        work._worker = None\n        pwq.completed += 1\n        work._pending = _NOT\n",
            ),
        ),
    ),
    Row(
        "fifo-idle",
        "the longest idle worker is woken instead of the latest",
        (
            Edit(
                f"{W}_pool.py",
                "        worker, _ = self.idle.popitem()\n",
                "        worker = next(iter(self.idle))\n        del self.idle[worker]\n",
            ),
        ),
    ),
    Row(
        "no-reserve",
        "a worker starts without another one in reserve",
        (Edit(f"{W}_pool.py", "        if self.idle or self.ending:\n", "        if self.ending is not None:\n"),),
    ),
    Row(
        "flush-takes-the-next-colour",
        "a flush takes its colour after the next one has begun, so it waits for what is queued later",
        (
            Edit(
                f"{W}_flush.py",
                "            closed = self.current\n            self.current = Colour()\n",
                "            self.current = Colour()\n            closed = self.current\n",
            ),
        ),
    ),
    Row(
        "flusher-left-behind",
        "who flushes an item that is cancelled waits for ever (kernel: a barrier left on the inactive list)",
        (
            Edit(
                f"{W}_followers.py",
                '        self.unfinished(work, "was discarded before it began")\n',
                "        self._take_watchers()\n",
            ),
        ),
    ),
    Row(
        "node-max", "the limit of a node is computed from min_active", why_not="slots are counted per pwq, not per node"
    ),
    Row(
        "pending-after-refusal",
        "a queueing that is refused leaves the item pending",
        (
            Edit(
                f"{W}_queue.py",
                "        gate = self._gate\n        if (gate.draining",
                "        gate, work._pending = self._gate, Pending.INACTIVE\n        if (gate.draining",
            ),
        ),
    ),
)

PROTOTYPE = (
    Row(
        "newcomer-overtakes",
        "an item takes a free slot although others wait in line",
        (
            Edit(
                f"{W}_pwq.py",
                "        elif (\n            not self.inactive\n            and self.nr_active",
                "        elif (\n            self.nr_active",
            ),
            Edit(f"{W}_queue.py", "            or pwq.inactive\n", ""),
        ),
    ),
    Row(
        "no-kick-on-yield",
        "only a real block wakes the next worker of an unbound pool, a mere yield does not",
        (
            Edit(
                f"{W}_worker.py",
                "        elif self.pool.worklist:\n            self.pool.kick(more=WAKE_UPS_ON_BLOCK)\n",
                "        elif self.pool.worklist and self.message is not YIELD:\n"
                "            self.pool.kick(more=WAKE_UPS_ON_BLOCK)\n",
            ),
        ),
    ),
    Row(
        "no-kick-on-block",
        "only a mere yield wakes the next worker of an unbound pool, a real block does not",
        (
            Edit(
                f"{W}_worker.py",
                "        elif self.pool.worklist:\n            self.pool.kick(more=WAKE_UPS_ON_BLOCK)\n",
                "        elif self.pool.worklist and self.message is YIELD:\n"
                "            self.pool.kick(more=WAKE_UPS_ON_BLOCK)\n",
            ),
        ),
    ),
    Row(
        "requeue-takes-a-slot",
        "an item queued while it runs takes a slot of its own beside its run's (P6)",
        (
            Edit(
                f"{W}_pwq.py",
                "                first._pending = _COLLIDED  # P6: no slot of its own\n",
                "                first._pending = _COLLIDED  # P6: no slot of its own\n                self.nr_active += 1\n",
            ),
        ),
    ),
    Row(
        "successor-lost",
        "an item queued while it runs is forgotten when the run ends",
        (
            Edit(
                f"{W}_books.py",
                "        if work._pending is _COLLIDED:\n            pwq.succeed(work, had_slot=True)\n        else:\n",
                "        if work._pending is None:\n            pwq.succeed(work, had_slot=True)\n        else:\n",
            ),
            Edit(
                f"{W}_fast_lane.py",
                "    if work._pending is _COLLIDED:\n        worker.pwq.succeed",
                "    if work._pending is None:\n        worker.pwq.succeed",
            ),
        ),
    ),
    Row(
        "parked-keeps-slot",
        "parking gives back the place, but not the slot (P1)",
        (
            Edit(
                f"{W}_parking.py",
                "    if not pwq.keeps_slot:\n        pwq.release_slot()\n",
                "    if not pwq.keeps_slot:\n        pwq.nr_active -= 1\n",
            ),
        ),
    ),
    Row(
        "ordered-gives-up-its-slot",
        "parking in an ordered queue gives back the slot, so the next item overtakes (P7)",
        (Edit(f"{W}_parking.py", "    if not pwq.keeps_slot:\n", "    if True:\n"),),
    ),
    Row(
        "return-overtakes",
        "who comes back from parking takes a slot although others wait in line (P2)",
        (
            Edit(
                f"{W}_pwq.py",
                "if (self.inactive and self.rate is None) or not has_slot(",
                "if not has_slot(",
            ),
        ),
    ),
    Row(
        "return-waits-with-an-exception",
        "leaving parking with an exception in flight stands in line (P4)",
        (
            Edit(
                f"{W}_parking.py",
                "        if error is not None:\n            _force_return(worker)  # P4\n        elif not",
                "        if not",
            ),
        ),
    ),
    Row(
        "interrupt-hits-the-next",
        "an interrupt that comes after the last await of an item cancels the next one",
        (
            Edit(f"{W}_worker.py", "        while not self._interrupted:\n", "        while True:\n"),
            Edit(
                f"{W}_fast_lane.py", " or instruments.are_there or worker._interrupted\n", " or instruments.are_there\n"
            ),
        ),
    ),
    Row(
        "context-lost",
        "items run in a context of their own instead of that of their queueing",
        (
            Edit(
                f"{W}_queue.py",
                "work._context = copy_context() if context is None else context",
                "work._context = Context() if context is None else context",
            ),
            Edit(
                f"{W}_queue.py",
                "        work._context = copy_context()\n",
                "        work._context = Context()\n",
            ),
        ),
    ),
    Row(
        "sleep-under-a-cancelled-scope",
        "a sleep under a scope that is cancelled already counts as one, and the next item starts",
        (
            Edit(
                f"{W}_concurrency.py",
                '        self.doubts += trio.current_effective_deadline() == float("-inf")\n',
                "",
            ),
        ),
    ),
    Row(
        "dying-counts-as-busy",
        "a worker that is being culled passes for a busy one, and the culling ends early",
        (
            Edit(
                f"{W}_pool.py",
                "        del self.idle[worker]\n        self.nr_workers -= 1\n        self.culled += 1\n",
                "        del self.idle[worker]\n        self.culled += 1\n",
            ),
        ),
    ),
)

OURS = (
    Row(
        "frozen-heir-starts",
        "an item queued while it runs inherits the run's slot and starts although the queue is frozen",
        (Edit(f"{W}_pwq.py", "            had_slot\n            and not held\n", "            had_slot\n"),),
    ),
    Row(
        "thaw-forgets-the-line",
        "a thaw lets new queueings in, but those that wait are not served",
        (Edit(f"{W}_freezer.py", "        for pwq in pwqs:\n            pwq.thawed()\n", ""),),
    ),
    Row(
        "line-forgets-who-left",
        "an item that left the line and joined again is served at its old place",
        (Edit(f"{W}_line.py", "        while self.gone and self[0] in self._left:\n", "        while False:\n"),),
    ),
    Row(
        "fast-lane-past-a-senior",
        "a normal pool does not ask whether the high-priority pool goes first",
        (Edit(f"{W}_pool.py", "        self.gated = self.gated or bool(self.seniors)\n", ""),),
    ),
    Row(
        "fast-lane-never-flushes",
        "the fast lane does not tell that the last item of a colour has ended",
        (
            Edit(
                f"{W}_fast_lane.py",
                "        if not colour.in_flight:\n            pwq.wq.colours.emptied()\n",
                "",
            ),
        ),
    ),
    Row(
        "fast-lane-never-yields",
        "a worker does not give the loop its turn after 64 items or a millisecond",
        (
            Edit(f"{W}_fast_lane.py", "YIELD_AFTER_ITEMS + 1", "10**9"),
            Edit(f"{W}_fast_lane.py", "burst_began > YIELD_AFTER_SECONDS", "burst_began > 1e9"),
        ),
    ),
    Row(
        "timer-fires-in-old-order",
        "a timer that was moved keeps the place of its first arming among those that are due together",
        (
            Edit(
                f"{W}_timer.py",
                "            if timer._order != order:\n",
                "            if timer._order != order and timer.deadline > began:\n",
            ),
        ),
    ),
)

WAITS = (
    Row(
        "flush-waits-for-the-oldest",
        "a flush with nothing queued since the last one waits for the oldest items only",
        (Edit(f"{W}_flush.py", "            closed = self._line[-2]\n", "            closed = self._line[0]\n"),),
        tests=("tests/workqueue/test_flush.py", "tests/workqueue/test_drain.py"),
    ),
    Row(
        "cancel-sync-lets-queueings-in",
        "an item that queues itself is not stopped while cancel_sync waits for its run",
        (
            Edit(f"{W}_work.py", "        self._disabled += WAITING\n", ""),
            Edit(f"{W}_work.py", "            self._disabled -= WAITING\n", "            pass\n"),
        ),
        tests=("tests/workqueue/test_cancel.py",),
    ),
    Row(
        "enable-at-once",
        "one enable undoes every disable, and a cancel_sync under way",
        (
            Edit(
                f"{W}_disable.py",
                "    work._disabled -= 1\n    return not work._disabled\n",
                "    work._disabled = 0\n    return not work._disabled\n",
            ),
        ),
        tests=("tests/workqueue/test_disable.py",),
    ),
    Row(
        "heir-goes-to-the-end",
        "what was queued while it ran, and finds no slot to inherit, stands behind those queued later",
        (
            Edit(
                f"{W}_pwq.py",
                "            self.inactive.appendleft(work)\n",
                "            self.inactive.append(work)\n",
            ),
        ),
        tests=("tests/workqueue/test_requeue.py",),
    ),
    Row(
        "ordered-return-goes-to-the-end",
        "a parked item of an ordered queue that comes back while that is frozen stands behind the others (P7)",
        (
            Edit(
                f"{W}_pwq.py",
                "                self.inactive.appendleft(token)\n",
                "                self.inactive.append(token)\n",
            ),
        ),
        tests=("tests/workqueue/test_spec_ordered.py",),
    ),
    Row(
        "lane-stops-at-an-error",
        "the next item of a lane does not get its turn when the one before it has failed",
        (
            Edit(
                f"{W}_lane.py",
                'next one runs."""\n        self._advance()\n',
                'next one runs."""\n',
            ),
        ),
        tests=("tests/workqueue/test_lanes.py",),
    ),
    Row(
        "rate-without-turns",
        "a CPU whose items find a token takes it although another CPU's wait for it",
        (
            Edit(
                f"{W}_rate.py",
                "        if now >= start and (self._turn is pwq or not self._waiting):\n",
                "        if now >= start:\n",
            ),
        ),
        tests=("tests/workqueue/test_rate.py",),
    ),
    Row(
        "new-rate-new-tokens",
        "a change of rate forgets which tokens were used up",
        (
            Edit(
                f"{W}_rate.py",
                "            self._full_at = full_after_change(self._full_at, now, before.interval, rate.interval, rate.burst)\n",
                "            self._full_at = now\n",
            ),
        ),
        tests=("tests/workqueue/test_rate.py",),
    ),
    Row(
        "raised-capacity-wakes-nobody",
        "what waits for a place does not start when there are more of them",
        (Edit(f"{W}_steering.py", "            if more > 0:\n                pool.kick()\n", ""),),
        tests=("tests/workqueue/test_attributes.py",),
    ),
    Row(
        "hogs-are-reported-by-multiples",
        "a long step is reported at every fourth time instead of backing off",
        (Edit(f"{W}_policy.py", "beyond & (beyond - 1) == 0  # a power of two", "beyond % 4 == 1"),),
        tests=("tests/workqueue/test_hogs.py",),
    ),
    Row(
        "machine-makes-hogs",
        "a step that waited for the machine passes for a long one",
        (
            Edit(
                f"{W}_hogs.py",
                "    seconds = pool.supervisor.hogs.processor_time(seconds)\n",
                "",
            ),
        ),
        tests=("tests/workqueue/test_hogs.py",),
    ),
    Row(
        "instrument-stays",
        "an instrument that has raised is asked again",
        (Edit(f"{W}_instruments.py", "                self.remove(instrument)\n", "                pass\n"),),
        tests=("tests/workqueue/test_instruments.py",),
    ),
    Row(
        "one-member-is-enough",
        "a wait for a group is stuck if one member is, though another may raise and so cancel it",
        (
            Edit(
                f"{W}_wait_graph.py",
                "return bool(needs) and all(any(reason",
                "return bool(needs) and any(any(reason",
            ),
        ),
        tests=("tests/workqueue/test_deadlocks_of_many.py",),
    ),
    Row(
        "room-of-what-may-be-withdrawn",
        "a wait for room is stuck though a caller will withdraw what is pending",
        (Edit(f"{W}_awaited.py", " or any(map(_may_be_withdrawn, in_line))", ""),),
        tests=("tests/workqueue/test_deadlocks_of_many.py",),
    ),
    Row(
        "block-does-not-count",
        "a wait for a group is stuck though its block goes on",
        (Edit(f"{W}_awaited.py", "return members if opener is waiter else", "return members if True else"),),
        tests=("tests/workqueue/test_deadlocks_of_many.py",),
    ),
    Row(
        "way-back-is-cancelled",
        "who is cancelled on the way back from what has come about is Cancelled",
        (Edit(f"{W}_parking.py", "        if not keeps_outcome:\n", "        if True:\n"),),
        tests=("tests/workqueue/test_backlog.py",),
    ),
    Row(
        "retry-from-outside",
        "on_error is outside the item that has raised",
        (Edit(f"{W}_worker.py", "        self.work = work  # so `enclosing_workers` finds it\n", ""),),
        tests=("tests/workqueue/test_errors.py", "tests/workqueue/test_backlog.py"),
    ),
    Row(
        "lent-place-stays",
        "the place that a rescuer lends to one who comes back is never taken away",
        (
            Edit(
                f"{W}_rescue.py", "        self._pool.capacity -= 1\n        self.over.set()", "        self.over.set()"
            ),
        ),
        tests=("tests/workqueue/test_rescuer.py",),
    ),
)

FLAGS = (
    Row(
        "rescuer-leaves-its-place",
        "the place that a rescuer has brought stays with the pool",
        (
            Edit(
                f"{W}_concurrency.py",
                "        if worker.is_rescuer:\n            self.capacity -= 1\n",
                "        if worker.is_rescuer:\n            pass\n",
            ),
        ),
    ),
    Row(
        "rescuer-never-gives-way",
        "a rescuer does not look after another pwq after 16 items",
        (Edit(f"{W}_rescue.py", "for _ in range(RESCUER_BATCH)", "for _ in range(10**6)"),),
    ),
    Row(
        "rescuer-stays-after-relief",
        "a rescuer takes items that need no rescue any more",
        (
            Edit(
                f"{W}_rescue.py",
                "        if pool.ending or not needs_rescue(pool.worklist.waiting, pool.occupied, pool.capacity, pool.nr_running):\n",
                "        if pool.ending:\n",
            ),
        ),
    ),
    Row(
        "rescuer-counts-in-nr-running",
        "after a rescued run in a bound pool its worker counts",
        (
            Edit(
                f"{W}_rescue.py",
                "                worker.cpu_intensive = True\n",
                "                worker.counted = True\n                pool.nr_running += 1\n",
            ),
        ),
    ),
    Row(
        "mayday-in-spite-of-progress",
        "a pwq calls for its rescuer though its items begin",
        (
            Edit(
                f"{W}_rescue.py",
                "        if began != began_before or first_before not in (None, first):\n",
                "        if False:\n",
            ),
        ),
    ),
    Row(
        "mayday-for-ever",
        "the mayday timer runs on though the rescuer is busy and has been called",
        (
            Edit(
                f"{W}_rescue.py",
                "return MAYDAY_INTERVAL if pwq.wq.rescuer.call(pwq) else inf",
                "return MAYDAY_INTERVAL if pwq.wq.rescuer.call(pwq) else MAYDAY_INTERVAL",
            ),
        ),
    ),
    Row(
        "mayday-forgets-to-stop",
        "the mayday timer runs on though nothing waits any more",
        (
            Edit(
                f"{W}_rescue.py",
                "        if not pool.worklist:\n            self._timer.cancel()\n        elif",
                "        if",
            ),
        ),
    ),
    Row(
        "held-worker-goes-idle",
        "a normal worker that a senior pool holds up goes idle: nobody will wake it",
        (Edit(f"{W}_worker.py", "            elif pool.seniors and pool.is_held:\n", "            elif False:\n"),),
    ),
    Row(
        "full-senior-holds",
        "a high-priority pool that has no place for its items holds up the normal ones",
        (
            Edit(
                f"{W}_pool.py",
                "        return has_place(self.occupied, self.capacity) and self._is_calm()\n",
                "        return self._is_calm()\n",
            ),
        ),
    ),
    Row(
        "busy-senior-holds",
        "a bound high-priority pool holds up the normal ones though concurrency management holds up its own items",
        (
            Edit(
                f"{W}_pool.py",
                "        return has_place(self.occupied, self.capacity) and self._is_calm()\n",
                "        return has_place(self.occupied, self.capacity)\n",
            ),
        ),
    ),
    Row(
        "intensive-wakes-nobody",
        "a CPU-intensive item that falls asleep wakes nobody for those behind it",
        (
            Edit(
                f"{W}_concurrency.py",
                "            if self.worklist:  # a CPU-intensive",
                "            if False:  # a CPU-intensive",
            ),
        ),
    ),
    Row(
        "hog-keeps-counting",
        "a run with a long step goes on counting in nr_running",
        (Edit(f"{W}_hogs.py", "            pool.set_cpu_intensive(worker)\n", ""),),
    ),
    Row(
        "hog-wakes-nobody",
        "a run that is marked CPU-intensive wakes nobody for those behind it",
        (Edit(f"{W}_hogs.py", "            pool.kick()\n", ""),),
    ),
    Row(
        "thread-discards-nobody",
        "an item cancelled before it had a thread is not discarded",
        (Edit(f"{W}_threads.py", "        if not begun:\n", "        if False:\n"),),
    ),
)

TABLES: dict[str, tuple[Row, ...]] = {
    "Of the kernel's list": KERNEL,
    "Of a workqueue on Trio": PROTOTYPE,
    "Of what is ours": OURS,
    "Of waiting, limits and watching": WAITS,
    "Of the flags": FLAGS,
    "Of HTTP's resources": http_rows.RESOURCES,
    "Of HTTP's messages": http_rows.MESSAGES,
}
