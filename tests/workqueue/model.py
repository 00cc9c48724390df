"""A sequential model of the workqueue, for `test_model`: no tasks, no time, one event after the other.

It is to be judged by reading: 150 lines, but for docstrings and blank ones.
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
    place: str = ""  # of `pending`: inactive, worklist, private (behind its run), heir (of the run's slot), parked
    starts_parked: bool = False  # of `pending`
    was_active: bool = False  # of the run, as all that follows
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
    """A queue as the specification describes it."""

    def __init__(self, cpus: int, capacity: int, max_active: int, *, is_bound: bool) -> None:
        self.is_bound, self.is_frozen = is_bound, False
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
        item.pending, item.starts_parked = self.counts["accepted"], start_parked
        item.cpu = item.cpu if item.running is not None else cpu
        line = self.cpus[item.cpu].line
        if item.running is not None and not (line or self.is_frozen):
            item.place = "private"
        elif start_parked and not self.is_frozen:
            item.place = "parked"
        else:
            self.stand_in_line(item, len(line))
        return True

    def stand_in_line(self, item: Item, position: int) -> None:
        item.place = "inactive"
        self.cpus[item.cpu].line.insert(position, ("item", self.items.index(item)))
        self.promote(item.cpu)

    def promote(self, cpu: int) -> None:
        """Invariants 12, 13, 18 and 55: the line is served in order while there are slots, unless frozen."""
        here = self.cpus[cpu]
        while here.line and here.nr_active < self.max_active and not self.is_frozen:
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

    def thaw(self) -> None:
        """Invariant 55: all go on, in order; those that start parked wait for no slot."""
        self.is_frozen = False
        for cpu, here in enumerate(self.cpus):
            for entry in [entry for entry in here.line if entry[0] == "item" and self.items[entry[1]].starts_parked]:
                here.line.remove(entry)
                self.items[entry[1]].place = "private" if self.items[entry[1]].running is not None else "parked"
            self.promote(cpu)

    @property
    def is_busy(self) -> bool:
        return any(here.nr_active for here in self.cpus) or any(
            item.pending is not None and item.place == "parked" for item in self.items
        )

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

    def start(self, index: int) -> None:
        """Invariants 4, 5, 13, 22: only what is active starts, in its order, below capacity, while all others sleep."""
        item, here = self.items[index], self.cpus[self.items[index].cpu]
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
        item.was_active = not item.parked
        item.running, item.pending, item.interrupted, item.awake = item.pending, None, False, True
        self.counts["started"] += 1

    def park(self, index: int) -> None:
        """P1; a run that was started parked is there already."""
        item, here = self.items[index], self.cpus[self.items[index].cpu]
        if not item.parked:
            item.parked, here.nr_active, here.occupied = True, here.nr_active - 1, here.occupied - 1
            self.promote(item.cpu)

    def want_back(self, index: int) -> None:
        """P2: a slot first, in line."""
        self.items[index].wants, self.items[index].awake = "slot", False
        self.cpus[self.items[index].cpu].line.append(("return", index))
        self.promote(self.items[index].cpu)

    def back(self, index: int, *, by_exception: bool = False) -> None:
        """P2: then a place. P4, by an exception: whatever the limits are."""
        item, here = self.items[index], self.cpus[self.items[index].cpu]
        assert item.wants == ("" if by_exception else "place"), "it has no slot yet"
        assert by_exception or here.occupied < self.capacity, "the pool is full"
        self.counts["overshoot"] += by_exception and (
            here.nr_active >= self.max_active or here.occupied >= self.capacity
        )
        here.nr_active += by_exception
        here.occupied += 1
        item.was_active = item.awake = True
        item.parked, item.wants = False, ""

    def end(self, index: int) -> None:
        """Invariants 10, 12 and P6: the slot goes to the run's own requeue, or to the line."""
        item, here = self.items[index], self.cpus[self.items[index].cpu]
        self.over |= {item.running} - {None}
        self.counts["completed"] += 1
        had_slot, item.parked = not item.parked, False
        item.running, item.disabled, item.awake = None, False, False
        here.occupied -= had_slot
        has_heir = item.pending is not None and item.place == "private"
        if has_heir and had_slot and here.nr_active <= self.max_active and not self.is_frozen:
            item.place = "heir"
            return
        here.nr_active -= had_slot
        if has_heir:  # beyond the limit or frozen nothing is inherited; its place in the line is the first (10, 13)
            self.stand_in_line(item, 0)
        self.promote(item.cpu)

    def awake(self, cpu: int) -> int:
        """Invariant 26: how many run on this CPU and do not sleep."""
        return sum(item.awake for item in self.items if item.cpu == cpu)

    def check_rest(self) -> None:
        """Invariant 23: at rest nothing waits for what is there; nothing that was told to end is still there."""
        for cpu, here in enumerate(self.cpus):
            mine = [item for item in self.items if item.cpu == cpu]
            waiting = [item for item in mine if item.pending is not None and item.place in ("worklist", "heir")]
            assert not (waiting or [item for item in mine if item.wants == "place"]) or here.occupied >= self.capacity
        assert not any(item.interrupted and item.running is not None for item in self.items)
        assert not any(item.pending is not None and item.place == "parked" for item in self.items)
