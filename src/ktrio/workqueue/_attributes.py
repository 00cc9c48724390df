"""Attributes by name: what of a queue or a supervisor can be read, and some of it set, while it runs.

The kernel's are files (``WQ_SYSFS``) and parameters of its module; here they are mappings, with its names where it has
them. A value is a number, and may be given as a text, as to a file. Behind each name is one function that reads and
perhaps one that sets, in one of the two tables at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Final, final

from ktrio.workqueue._attrs import WQ_HIGHPRI, WQ_UNBOUND
from ktrio.workqueue._hogs import valid_threshold
from ktrio.workqueue._threads import valid_thread_limit

if TYPE_CHECKING:
    from ktrio.workqueue._queue import Workqueue
    from ktrio.workqueue._supervisor import Supervisor

__all__ = ["Attributes", "attributes_of_queue", "attributes_of_supervisor", "valid_capacity", "valid_idle_timeout"]

# kernel: HIGHPRI_NICE_LEVEL.
HIGHPRI_NICE: Final = -20


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    """One row of a table."""

    get: Callable[[], float]
    set: Callable[[float], None] | None = None
    """None: it can only be read."""
    is_whole: bool = True
    """Is it an int?"""

    def parse(self, name: str, value: object) -> float:
        """The number that `value` stands for; TypeError or ValueError if it stands for none."""
        kind = "an int" if self.is_whole else "a number"
        if isinstance(value, bool) or not isinstance(value, (int, str) if self.is_whole else (int, float, str)):
            raise TypeError(f"{name} must be {kind} or the text of one, not {value!r}")
        try:
            return int(value) if self.is_whole else float(value)
        except ValueError:
            raise ValueError(f"{name} must be {kind}, not {value!r}") from None


@final
class Attributes(Mapping[str, float]):
    """The attributes of a workqueue or a supervisor by name: `Workqueue.attributes`, `Supervisor.attributes`.

    A mapping that shows them as they are at the moment of asking. Setting one, ``wq.attributes["max_active"] = 16``,
    takes an int, of those in seconds also a float, or the text of one. All attributes: I.

    Raises:
      KeyError: there is no attribute of this name.
      TypeError: it can only be read; or the value is of the wrong type.
      ValueError: the value is out of range, or the text of no number. Then nothing has changed.
    """

    __slots__ = ("_table", "_what")

    def __init__(self, what: str, table: Mapping[str, Attribute]) -> None:
        self._what = what
        self._table = table

    def _find(self, name: str) -> Attribute:
        try:
            return self._table[name]
        except KeyError:
            raise KeyError(f"{self._what} has no attribute {name!r}, only {', '.join(self._table)}") from None

    def __getitem__(self, name: str) -> float:
        return self._find(name).get()

    def __setitem__(self, name: str, value: float | str) -> None:
        attribute = self._find(name)
        if attribute.set is None:
            raise TypeError(f"{self._what}: {name} can only be read")
        try:
            attribute.set(attribute.parse(name, value))
        except (TypeError, ValueError) as error:
            raise type(error)(f"{self._what}: {error}") from error

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)

    def is_writable(self, name: str) -> bool:
        """Can it be set? KeyError if there is none of this name."""
        return self._find(name).set is not None

    def __repr__(self) -> str:
        return f"<attributes of {self._what}: {', '.join(f'{name}={value:g}' for name, value in self.items())}>"


def valid_capacity(capacity: int) -> int:
    """`capacity`; ValueError below 1."""
    if capacity < 1:
        raise ValueError(f"capacity must be at least 1, not {capacity}")
    return capacity


def valid_idle_timeout(seconds: float) -> float:
    """`seconds`; ValueError if not positive."""
    if not seconds > 0:
        raise ValueError(f"idle_timeout must be positive seconds, not {seconds}")
    return seconds


def _set_idle_timeout(supervisor: Supervisor, seconds: float) -> None:
    supervisor.idle_timeout = valid_idle_timeout(seconds)
    for pool in supervisor.pools:
        pool.idle_timeout = seconds
        pool.culling.deadline = -inf  # it looks anew


def attributes_of_queue(wq: Workqueue) -> Attributes:
    """What `Workqueue.attributes` is. `max_active`, `per_cpu` and `nice` are the kernel's names."""
    table = {
        "max_active": Attribute(get=lambda: wq.max_active, set=lambda value: wq.set_max_active(int(value))),
        "max_pending": Attribute(get=lambda: wq.max_pending, set=lambda value: wq.set_max_pending(int(value))),
        "per_cpu": Attribute(get=lambda: int(WQ_UNBOUND not in wq.flags)),
        "nice": Attribute(get=lambda: HIGHPRI_NICE if WQ_HIGHPRI in wq.flags else 0),
        "ordered": Attribute(get=lambda: int(wq.is_ordered)),
    }
    return Attributes(f"workqueue {wq.name!r}", table)


def attributes_of_supervisor(its: Supervisor) -> Attributes:
    """What `Supervisor.attributes` is: the arguments of `open_supervisor` that can change, and `cpus`."""

    def set_idle_timeout(seconds: float) -> None:
        its.refuse_misuse("attributes")
        _set_idle_timeout(its, seconds)

    def set_threshold(seconds: float) -> None:
        its.refuse_misuse("attributes")
        its.hogs.threshold = valid_threshold(seconds)

    def set_thread_limit(limit: float) -> None:
        its.refuse_misuse("attributes")
        its.thread_limiter.total_tokens = valid_thread_limit(int(limit))

    table = {
        "cpus": Attribute(get=lambda: its.cpus),
        "capacity": Attribute(get=lambda: its.capacity, set=lambda value: its.set_capacity(int(value))),
        "idle_timeout": Attribute(get=lambda: its.idle_timeout, set=set_idle_timeout, is_whole=False),
        "cpu_intensive_threshold": Attribute(
            get=lambda: its.hogs.threshold if its.hogs.threshold < inf else 0, set=set_threshold, is_whole=False
        ),
        "thread_limit": Attribute(get=lambda: its.thread_limiter.total_tokens, set=set_thread_limit),
    }
    return Attributes("the supervisor", table)
