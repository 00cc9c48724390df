"""A sequential model of the workqueue, for `test_model`.

On a bound queue items also wait for one another: one starts only while all that have begun on its CPU are asleep, but
for those that start parked.
"""

from collections import Counter
from dataclasses import dataclass, field

ITEMS = 4


@dataclass
class Item:
    """What the model knows about one work item. A queueing is a number; `pending` and `running` hold one."""

    pending: int | None = None
    running: int | None = None
    cpu: int = 0
    # Of the pending queueing: inactive, worklist, private (behind its run), heir (of the run's slot), parked.
    place: str = ""
    # Of the run.
    slot: bool = False
    was_active: bool = False
    parked: bool = False
    wants: str = ""  # "slot" or "place", while it returns from a parked wait
    interrupted: bool = False
    awake: bool = False  # on the loop's side of an await, as far as its driver knows
    disabled: bool = False


@dataclass
class Cpu:
    """One pwq and its pool."""

    line: list[tuple[str, int]] = field(default_factory=list)  # inactive items and returning runs, one FIFO
    worklist: list[int] = field(default_factory=list)
    nr_active: int = 0
    occupied: int = 0


class Model:
    """A queue as the specification describes it: no tasks, no time, one event after the other."""

    def __init__(self, cpus: int, capacity: int, max_active: int, *, is_bound: bool) -> None:
        self.is_bound = is_bound
        self.items = [Item() for _ in range(ITEMS)]
        self.cpus = [Cpu() for _ in range(cpus)]
        self.capacity, self.max_active = capacity, max_active
        self.counts = Counter[str]()
        self.over: set[int] = set()

    def queue(self, index: int, cpu: int, *, start_parked: bool = False) -> bool:
        """Invariants 1, 6, 13, 14 and P6."""
        item = self.items[index]
        if item.pending is not None or item.disabled:
            return False
        self.counts["accepted"] += 1
        item.pending = self.counts["accepted"]
        if item.running is not None and not self.cpus[item.cpu].line:
            item.place = "private"
            return True
        item.cpu = item.cpu if item.running is not None else cpu
        if start_parked:
            item.place = "parked"
        else:
            item.place = "inactive"
            self.cpus[item.cpu].line.append(("item", index))
            self.promote(item.cpu)
        return True

    def promote(self, cpu: int) -> None:
        """Invariants 12, 13, 18: the line is served in order while there are slots."""
        here = self.cpus[cpu]
        while here.line and here.nr_active < self.max_active:
            kind, index = here.line.pop(0)
            item = self.items[index]
            if kind == "item" and item.running is not None:
                item.place = "private"  # P6: it takes no slot beside its run's
                continue
            here.nr_active += 1
            if kind == "return":
                item.wants = "place"
            else:
                item.place = "worklist"
                here.worklist.append(index)

    def cancel(self, index: int) -> bool:
        """Invariants 19 and 46."""
        item = self.items[index]
        if item.pending is None:
            return False
        here = self.cpus[item.cpu]
        self.counts["cancelled"] += 1
        self.over.add(item.pending)
        item.pending = None
        if item.place == "inactive":
            here.line.remove(("item", index))
        elif item.place in ("worklist", "heir"):
            if item.place == "worklist":
                here.worklist.remove(index)
            here.nr_active -= 1
            self.promote(item.cpu)
        return True

    def set_max_active(self, number: int) -> None:
        """Invariants 10 and 18."""
        self.max_active = number
        for cpu in range(len(self.cpus)):
            self.promote(cpu)

    def start(self, index: int) -> None:
        """Invariants 4, 5, 13, 22: only what is active starts, in its order, below capacity, while all others sleep."""
        item = self.items[index]
        here = self.cpus[item.cpu]
        assert item.running is None, "it runs already"
        assert item.pending is not None, "nobody queued it"
        assert item.place in ("worklist", "heir", "parked"), "it is not active"
        if item.place != "parked":
            assert not self.is_bound or not self.awake(item.cpu), "another one is running"
            assert here.occupied < self.capacity, "the pool is full"
            here.occupied += 1
        if item.place == "worklist":
            assert here.worklist.pop(0) == index, "it is not first on the worklist"
        item.parked = item.place == "parked"
        item.slot = item.was_active = not item.parked
        item.running, item.pending, item.interrupted, item.awake = item.pending, None, False, True
        self.counts["started"] += 1

    def park(self, index: int) -> None:
        """P1; a run that was started parked is there already."""
        item = self.items[index]
        if not item.parked:
            here = self.cpus[item.cpu]
            here.nr_active -= 1
            here.occupied -= 1
            item.parked, item.slot = True, False
            self.promote(item.cpu)

    def want_back(self, index: int) -> None:
        """P2: a slot first, in line."""
        item = self.items[index]
        item.wants, item.awake = "slot", False
        self.cpus[item.cpu].line.append(("return", index))
        self.promote(item.cpu)

    def back(self, index: int) -> None:
        """P2: then a place."""
        item = self.items[index]
        assert item.wants == "place", "it has no slot yet"
        assert self.cpus[item.cpu].occupied < self.capacity, "the pool is full"
        self.be_back(item)

    def back_by_exception(self, index: int) -> None:
        """P4: whatever the limits are."""
        item = self.items[index]
        here = self.cpus[item.cpu]
        assert not item.wants, "not done by this driver"
        self.counts["overshoot"] += here.nr_active >= self.max_active or here.occupied >= self.capacity
        here.nr_active += 1
        self.be_back(item)

    def be_back(self, item: Item) -> None:
        self.cpus[item.cpu].occupied += 1
        item.slot = item.was_active = item.awake = True
        item.parked, item.wants = False, ""

    def end(self, index: int) -> None:
        """Invariants 10, 12 and P6: the slot goes to the run's own requeue, or to the line."""
        item = self.items[index]
        here = self.cpus[item.cpu]
        assert item.running is not None
        self.over.add(item.running)
        self.counts["completed"] += 1
        item.running, item.disabled, item.awake = None, False, False
        if item.parked:
            item.parked = False
            return
        here.occupied -= 1
        item.slot = False
        if item.pending is not None and item.place == "private":
            if here.nr_active <= self.max_active:
                item.place = "heir"
                return
            # Beyond the limit nothing is inherited (invariant 10); its place in the line is the first (13).
            item.place = "inactive"
            here.line.insert(0, ("item", index))
        here.nr_active -= 1
        self.promote(item.cpu)

    def awake(self, cpu: int) -> int:
        """Invariant 26: how many run on this CPU and do not sleep."""
        return sum(item.awake for item in self.items if item.cpu == cpu)

    def check_rest(self) -> None:
        """Invariant 23: at rest nothing waits for what is there; nothing that was told to end is still there."""
        for cpu, here in enumerate(self.cpus):
            mine = [item for item in self.items if item.cpu == cpu]
            waiting = [item for item in mine if item.pending is not None and item.place in ("worklist", "heir")]
            waiting += [item for item in mine if item.wants == "place"]
            assert not waiting or here.occupied >= self.capacity, waiting
        assert not any(item.interrupted and item.running is not None for item in self.items)
        assert not any(item.pending is not None and item.place == "parked" for item in self.items)
