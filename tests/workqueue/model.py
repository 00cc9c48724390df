"""A sequential model of the workqueue, for `test_model`: no tasks, one event after the other, times in milliseconds.

It is to be judged by reading: 150 lines, but for docstrings and blank ones.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf

ITEMS = 4


@dataclass
class Item:
    """What the model knows about one work item. A queueing is a number; `pending` and `running` hold one."""

    pending: int | None = None
    running: int | None = None
    cpu: int = 0
    place: str = ""  # of `pending`: line, worklist, private (behind its run), parked
    parked: bool = False  # of the run, as all that follows
    wants: str = ""  # "slot" or "place", while it returns from a parked wait
    interrupted: bool = False
    awake: bool = False  # on the loop's side of an await, as far as its driver knows
    due: float = 0  # when it does its next step; of one that starts parked also when it begins
    disabled: int = 0  # how deep, and by how many that wait for the end of a run


@dataclass
class Cpu:
    """One pwq and its pool."""

    line: list[tuple[str, int]] = field(default_factory=list)  # one FIFO: of "item", "parked" start and "return"
    worklist: list[int] = field(default_factory=list)
    nr_active: int = 0
    occupied: int = 0
    due: float = inf  # since when something could start or come back


class Model:
    """A queue as the specification describes it."""

    def __init__(self, kind: str, cpus: int, capacity: int, max_active: int, clock: Callable[[], int]) -> None:
        self.is_bound, self.is_ordered, self.is_frozen = kind == "bound", kind == "ordered", False
        self.items = [Item() for _ in range(ITEMS)]
        self.cpus = [Cpu() for _ in range(1 if self.is_ordered else cpus)]  # invariant 16: one line for all CPUs
        self.capacity, self.max_active, self.clock = capacity, 1 if self.is_ordered else max_active, clock
        self.counts = Counter[str]()
        self.over: set[int] = set()
        self.burns: list[tuple[int, int]] = []  # when the loop was held

    def idle(self, moment: float) -> float:
        """Loop time but for burns: from when something can happen until it does, none of it passes."""
        return moment - sum(max(0, min(end, moment) - begin) for begin, end in self.burns)

    def happens(self, due: float) -> None:
        """What could happen from `due` on happens now."""
        now = self.clock()
        assert due <= now, f"{now} is too early, it is due at {due}"
        assert self.idle(now) == self.idle(due), f"{now} is too late, it was due at {due}"

    def queue(self, index: int, cpu: int, *, start_parked: bool = False) -> bool:
        """Invariants 1, 6, 13, 14, 16 and P6."""
        item = self.items[index]
        if item.pending is not None or item.disabled:
            return False
        self.counts["accepted"] += 1
        item.pending, item.cpu = self.counts["accepted"], cpu % len(self.cpus) if item.running is None else item.cpu
        line = self.cpus[item.cpu].line
        item.place = "private" if item.running is not None and not (line or self.is_frozen) else "line"
        line += [("parked" if start_parked else "item", index)] * (item.place == "line")
        self.settle()
        return True

    def settle(self) -> None:
        """Invariants 12, 13, 18, 55: served in order while there are slots, unless frozen; 23: since when."""
        for cpu, here in enumerate(self.cpus):
            for entry in [entry for entry in here.line if entry[0] == "parked" and not self.is_frozen]:
                here.line.remove(entry)  # it waits for no slot
                self.items[entry[1]].place, self.items[entry[1]].due = "parked", self.clock()
            while here.line and here.nr_active < self.max_active and not self.is_frozen:
                kind, index = here.line.pop(0)
                item = self.items[index]
                here.nr_active += kind == "return" or item.running is None  # P6: no slot beside its run's
                if kind == "return":
                    item.wants = "place"
                else:
                    item.place = "worklist" if item.running is None else "private"
                    here.worklist += [index] * (item.place == "worklist")
            here.due = min(here.due, self.clock()) if self.can_go_on(cpu) else inf

    def can_go_on(self, cpu: int) -> bool:
        """Could something start, or come back? Whoever has a slot needs a place, and to start in a bound pool calm."""
        here, returns = self.cpus[cpu], any(item.wants == "place" for item in self.items if item.cpu == cpu)
        starts = here.worklist and not (self.is_bound and self.awake(cpu))
        return here.occupied < self.capacity and bool(starts or returns)

    @property
    def is_busy(self) -> bool:
        """P7: a parked item of an ordered queue keeps its slot, and nobody waits for that."""
        keepers = sum(item.parked and not item.wants for item in self.items) if self.is_ordered else 0
        return sum(here.nr_active for here in self.cpus) > keepers or any(item.place == "parked" for item in self.items)

    def cancel(self, index: int) -> bool:
        """Invariants 19 and 46."""
        item, here = self.items[index], self.cpus[self.items[index].cpu]
        if item.pending is None:
            return False
        self.counts["cancelled"] += 1
        self.over.add(item.pending)
        here.line = [entry for entry in here.line if entry[1] != index or entry[0] == "return"]
        here.worklist = [other for other in here.worklist if other != index]
        here.nr_active -= item.place == "worklist"
        item.pending, item.place = None, ""
        self.settle()
        return True

    def start(self, index: int) -> None:
        """Invariants 4, 5, 13, 16, 22, 23: the active start, in order, below capacity, if all sleep; and at once."""
        item, here = self.items[index], self.cpus[self.items[index].cpu]
        assert item.running is None, "it runs already"
        if item.place == "parked":
            self.happens(item.due)
        else:
            assert here.worklist.pop(0) == index, "it is not first on the worklist"
            assert not self.is_bound or not self.awake(item.cpu), "another one is running"
            self.take_place(here)
        item.running, item.pending, item.parked, item.place = item.pending, None, item.place == "parked", ""
        item.interrupted, item.awake, item.due = False, True, self.clock()
        self.counts["started"] += 1
        self.settle()

    def take_place(self, here: Cpu) -> None:
        assert here.occupied < self.capacity, "the pool is full"
        self.happens(here.due)
        here.occupied += 1

    def sleep(self, index: int, until: float) -> None:
        """It waits until then; if it was interrupted not at all, which is no sleep (25)."""
        item = self.items[index]
        item.awake, item.due = item.interrupted, item.due if item.interrupted else until
        self.settle()

    def wake(self, index: int) -> None:
        item = self.items[index]
        self.happens(item.due)
        item.awake, item.due = True, self.clock()
        self.settle()

    def park(self, index: int) -> None:
        """P1; P7: an ordered queue keeps the slot. A run that was started parked is there already."""
        item, here = self.items[index], self.cpus[self.items[index].cpu]
        if not item.parked:
            item.parked, here.occupied = True, here.occupied - 1
            here.nr_active -= not self.is_ordered
            self.settle()

    def want_back(self, index: int) -> None:
        """P2: a slot first, in line; P7: in an ordered queue it is the first, and has it at once unless frozen."""
        item, here = self.items[index], self.cpus[self.items[index].cpu]
        item.wants, item.awake = "slot", False
        here.nr_active -= self.is_ordered
        here.line.insert(0 if self.is_ordered else len(here.line), ("return", index))
        self.settle()

    def back(self, index: int, *, by_exception: bool = False) -> None:
        """P2: then a place. P4, by an exception: whatever the limits are."""
        item, here = self.items[index], self.cpus[self.items[index].cpu]
        if by_exception:
            here.nr_active += not self.is_ordered
            here.occupied += 1
            self.counts["overshoot"] += here.nr_active > self.max_active or here.occupied > self.capacity
        else:
            assert item.wants == "place", "it has no slot yet"
            self.take_place(here)
        item.parked, item.wants, item.awake, item.due = False, "", True, self.clock()
        self.settle()

    def end(self, index: int) -> None:
        """Invariants 10, 12 and P6: the slot goes to the run's own requeue, or to the line."""
        item, here = self.items[index], self.cpus[self.items[index].cpu]
        self.happens(item.due)
        self.over |= {item.running} - {None}
        self.counts["completed"] += 1
        had_slot, item.parked = not item.parked, False
        item.running, item.awake = None, False
        here.nr_active, here.occupied = here.nr_active - had_slot, here.occupied - had_slot
        here.line[:0] = [("item", index)] * (item.place == "private")  # P6: in line, but the first
        self.settle()

    def awake(self, cpu: int) -> int:
        """Invariant 26: how many run on this CPU and do not sleep."""
        return sum(item.awake for item in self.items if item.cpu == cpu)

    def check_rest(self) -> None:
        """Invariant 23: at rest nothing waits for what is there; nothing that was told to end is still there."""
        assert not any(self.can_go_on(cpu) for cpu in range(len(self.cpus)))
        assert not any(item.interrupted and item.running is not None for item in self.items)
        assert not any(item.place == "parked" for item in self.items)
