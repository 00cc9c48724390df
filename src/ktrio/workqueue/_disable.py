"""Items that take no queueing: how deep they are disabled, and by whom (kernel: ``disable_work``, ``enable_work``).

One number in the item says all, so that queueing asks one question of it: is it 0? Its low 16 bits are the *depth*, how
many `Work.disable` have had no `Work.enable` yet (kernel: ``WORK_OFFQ_DISABLE_BITS``). Above them are counted those who
wait for the end of a run right now, `Work.cancel_sync` and `Work.disable_sync`. The kernel counts both as one, so that
an `enable` too many lets in what a ``cancel_work_sync`` has just shut out; here that is an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ktrio.workqueue._errors import DisableError

if TYPE_CHECKING:
    from ktrio.workqueue._work import Work

__all__ = ["WAITING", "deepen", "depth_of", "refuse_misuse", "refuse_too_deep", "undo"]

MAX_DEPTH: Final = 0xFFFF
# What one who waits for the end of a run adds.
WAITING: Final = MAX_DEPTH + 1


def depth_of(work: Work) -> int:
    """How many `disable` have had no `enable` yet."""
    return work._disabled & MAX_DEPTH


def refuse_misuse(work: Work, what: str) -> None:
    """RuntimeError if this is called from within an instrument, or the item is busy in the loop of another thread."""
    pwq = work._used_by()
    if pwq is not None:
        pwq.wq.refuse_other_threads()
        pwq.instruments.refuse_inside(what)
    elif work._pwq is not None:
        work._pwq.instruments.refuse_inside(what)


def refuse_too_deep(work: Work) -> None:
    """DisableError if one more does not fit."""
    if depth_of(work) == MAX_DEPTH:
        raise DisableError(f"{work!r} is disabled {MAX_DEPTH} deep already, which is the most")


def deepen(work: Work) -> None:
    """One `disable`."""
    refuse_too_deep(work)
    work._disabled += 1


def undo(work: Work) -> bool:
    """One `enable`; True if queueings are accepted again."""
    if not depth_of(work):
        raise DisableError(f"{work!r} is not disabled, so it cannot be enabled")
    work._disabled -= 1
    return not work._disabled
