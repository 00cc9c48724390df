"""What a workqueue is made with: its flags, its `max_active`, and what both may be."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Literal, Self, TypeAlias, final

if TYPE_CHECKING:
    from ktrio.workqueue._work import Work

__all__ = [
    "WQ_CPU_INTENSIVE",
    "WQ_DFL_ACTIVE",
    "WQ_FREEZABLE",
    "WQ_HIGHPRI",
    "WQ_MAX_ACTIVE",
    "WQ_MEM_RECLAIM",
    "WQ_UNBOUND",
    "OnError",
    "Rate",
    "WorkqueueAttrs",
    "WorkqueueFlags",
]


class WorkqueueFlags(enum.Flag):
    """The kernel's ``WQ_*`` flags as far as they exist here; 0 is none of them, also in ``0 | WQ_FREEZABLE``."""

    WQ_UNBOUND = enum.auto()
    """No concurrency management: every item starts at once, up to `max_active` (kernel: ``WQ_UNBOUND``)."""
    WQ_MEM_RECLAIM = enum.auto()
    """It has a rescuer, a worker that runs its items even while the pool is full (kernel: ``WQ_MEM_RECLAIM``)."""
    WQ_HIGHPRI = enum.auto()
    """Its items start before those of queues without it (kernel: ``WQ_HIGHPRI``)."""
    WQ_CPU_INTENSIVE = enum.auto()
    """Its items hold up nobody while they run, and plain functions run in threads (kernel: ``WQ_CPU_INTENSIVE``)."""
    WQ_FREEZABLE = enum.auto()
    """It starts nothing while its supervisor is frozen (kernel: ``WQ_FREEZABLE``)."""

    # The checkers' types know flags on both sides only.
    def __or__(self, other: Self | Literal[0]) -> Self:  # pyright: ignore[reportIncompatibleMethodOverride]
        if isinstance(other, enum.Flag):
            return super().__or__(other)  # type: ignore[operator]
        return self if other == 0 else NotImplemented  # type: ignore[redundant-expr]

    def __ror__(self, other: Self | Literal[0]) -> Self:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self | other


WQ_UNBOUND = WorkqueueFlags.WQ_UNBOUND
"""The flag of a queue without concurrency management: every item starts at once, up to `max_active`."""

WQ_MEM_RECLAIM = WorkqueueFlags.WQ_MEM_RECLAIM
"""The flag of a queue that has a rescuer: a worker that runs its items, one at a time, even while the pool is full."""

WQ_HIGHPRI = WorkqueueFlags.WQ_HIGHPRI
"""The flag of a queue whose items start before those of queues without it, bound or unbound, on their simulated CPU."""

WQ_CPU_INTENSIVE = WorkqueueFlags.WQ_CPU_INTENSIVE
"""The flag of a bound queue whose items do not count in `nr_running` while they run; without effect if unbound."""

WQ_FREEZABLE = WorkqueueFlags.WQ_FREEZABLE
"""The flag of a queue that `Supervisor.freeze` stops, until `Supervisor.thaw`."""

WQ_DFL_ACTIVE = 256
"""Items active at once on each simulated CPU where the caller says 0; the kernel's own default until 6.12."""

WQ_MAX_ACTIVE = 65_536
"""The most that may be asked for. The kernel stops at 2048 threads; a slot is a Trio task of about 5 KB here."""

OnError: TypeAlias = "Literal['raise', 'store'] | Callable[[Work, Exception], None]"
"""A queue's error policy: ``"raise"``, ``"store"``, or a plain function called with the item and its exception."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class WorkqueueAttrs:
    """A queue's name, flags and error policy, validated."""

    name: str
    flags: WorkqueueFlags
    on_error: OnError
    ordered: bool = False
    """One item at a time, in the order of queueing, over all simulated CPUs (kernel: ``__WQ_ORDERED``)."""

    def __post_init__(self) -> None:
        if self.on_error not in ("raise", "store") and not callable(self.on_error):
            raise ValueError(
                f"workqueue {self.name!r}: on_error must be 'raise', 'store' or a callable, not {self.on_error!r}"
            )


@final
@dataclass(frozen=True, slots=True)
class Rate:
    """How many items of a queue may start in a time: `starts` in each `per` seconds, and `burst` of them at once.

    ``Rate(10)`` is ten a second, one every 0.1 s. ``Rate(600, per=60, burst=20)`` is ten a second in the long run; but
    after two seconds without any, twenty at once.

    ValueError if `starts` or `per` is not positive, or infinite, or `burst` below 1.
    """

    starts: float
    """How many items may start in `per` seconds, in the long run."""
    per: float = 1.0
    """Seconds."""
    burst: int = 1
    """How many may start at once, if none has for long enough: so many tokens the bucket holds."""

    def __post_init__(self) -> None:
        if not 0 < self.starts < inf or not 0 < self.per < inf:
            raise ValueError(f"a rate needs positive starts and seconds, not {self.starts!r} per {self.per!r} s")
        if self.burst < 1:
            raise ValueError(f"the burst of a rate must be at least 1, not {self.burst!r}")

    @property
    def interval(self) -> float:
        """Seconds from one start to the next, in the long run."""
        return self.per / self.starts

    def __str__(self) -> str:
        return f"{self.starts:g} per {self.per:g} s"


def effective_max_active(max_active: int) -> int:
    """`max_active` as used: 0 stands for `WQ_DFL_ACTIVE`. ValueError outside 0 to `WQ_MAX_ACTIVE`."""
    if not 0 <= max_active <= WQ_MAX_ACTIVE:
        raise ValueError(f"max_active must be 0 (for {WQ_DFL_ACTIVE}) to {WQ_MAX_ACTIVE}, not {max_active}")
    return max_active or WQ_DFL_ACTIVE
