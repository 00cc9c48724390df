"""A FIFO that anybody in it may leave: the worklist of a pool, the inactive line of a pwq.

Joining and being served are a deque's own operations, which every item pays for. Leaving from within is rare, so it is
made cheap in another way: who leaves stays where he is, and is counted as *gone*. Somebody may leave and join again:
then the last of his places is the one that counts, and as many before it as he is counted for do not. The first in line
is never one that is gone, so that a look at the line, or at its first, is a deque's too. When more than half of a line
are gone it is closed up; so leaving costs a constant in the long run, and what is gone takes no more room than what is
not.

A line may be *held*: then nobody is served. A mark that is nobody stands first in it, so it is true to all who ask
whether somebody waits before them, or behind them, and none of them need ask a second question.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, cast, final

if TYPE_CHECKING:
    from ktrio.workqueue._parking import ReturnToken
    from ktrio.workqueue._work import Work

__all__ = ["Line"]

_MARK: Final = cast("Work", object())  # nobody
_FEW = 32  # gone, that are not worth closing up


@final
class Line(deque["Work | ReturnToken"]):
    """Those who wait, oldest first. True if anybody does or it is held; `waiting` counts them, `len` also who is gone.

    `append` joins; after `popleft` call `trim` if `gone`. Legend: S changed only in one synchronous stretch.
    """

    __slots__ = ("_left", "gone", "held")

    def __init__(self) -> None:
        super().__init__()
        self.gone = 0  # S
        self.held = False  # S
        self._left: dict[Work | ReturnToken, int] = {}  # S: how many places each one has left

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self) - self.gone - self.held

    def hold(self) -> None:
        """Serve nobody: `first`, `take` and `popleft` are not to be called until `release`."""
        super().appendleft(_MARK)
        self.held = True

    def release(self) -> None:
        """Serve again."""
        self.popleft()
        self.held = False
        self.trim()

    def first(self) -> Work | ReturnToken:
        """Who is served next. IndexError if nobody waits."""
        return self[0]

    def take(self) -> Work | ReturnToken:
        """Serve the first. IndexError if nobody waits."""
        entry = self.popleft()
        if self.gone:
            self.trim()
        return entry

    def remove(self, entry: Work | ReturnToken) -> None:
        """`entry`, which waits, leaves."""
        if self[0] is entry:
            self.take()
        elif self[-1] is entry:
            self.pop()
        else:
            self._left[entry] = self._left.get(entry, 0) + 1
            self.gone += 1
            if self.gone > _FEW and self.gone * 2 > len(self):
                self._close_up()

    def appendleft(self, entry: Work | ReturnToken) -> None:
        """Join before all others."""
        if entry in self._left:  # the last of one's places counts
            self._close_up()
        if self.held:
            self[0] = entry
            entry = _MARK
        super().appendleft(entry)

    def trim(self) -> None:
        """Let the first be one who waits."""
        while self.gone and self[0] in self._left:
            self._forget(self.popleft(), self._left)
            self.gone -= 1

    def _close_up(self) -> None:
        waiting = list(self)
        self.clear()
        if self.held:
            self.append(_MARK)
        self.extend(waiting)
        self.gone = 0
        self._left.clear()

    @staticmethod
    def _forget(entry: Work | ReturnToken, left: dict[Work | ReturnToken, int]) -> None:
        if left[entry] == 1:
            del left[entry]
        else:
            left[entry] -= 1

    def __iter__(self) -> Iterator[Work | ReturnToken]:
        """Those who wait, oldest first."""
        left = dict(self._left)
        for entry in super().__iter__():
            if entry in left:
                self._forget(entry, left)
            elif entry is not _MARK:
                yield entry

    def __contains__(self, entry: object) -> bool:
        return any(each is entry for each in self)

    def __repr__(self) -> str:
        return f"<Line of {self.waiting}>"
