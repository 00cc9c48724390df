"""Who waits for what was queued before: the colours of one workqueue (kernel: ``work_color``, ``flush_color``).

Every queueing carries the colour current at that moment. A flush closes the current colour, opens the next one and
waits until its colour and all older ones have no item in flight. Colours are counted objects in a line instead of the
kernel's sixteen numbers, so there is no overflow list. Older colours always end first: a flush that began earlier is
released no later.
"""

from __future__ import annotations

from collections import deque
from typing import final

from trio.lowlevel import ParkingLot

__all__ = ["Colour", "ColourLine"]


@final
class Colour:
    """The items accepted between two flushes: how many are in flight, and who waits for them.

    Both attributes are changed only in one synchronous stretch (S).
    """

    __slots__ = ("flushers", "in_flight")

    def __init__(self) -> None:
        self.in_flight = 0  # S
        self.flushers: ParkingLot | None = None  # S, made by the first flusher

    def lot(self) -> ParkingLot:
        """Where flushers of this colour wait."""
        if self.flushers is None:
            self.flushers = ParkingLot()
        return self.flushers


@final
class ColourLine:
    """The colours of one queue that are not done, oldest first; the last is the current one."""

    __slots__ = ("_line", "current")

    def __init__(self) -> None:
        self.current = Colour()  # S
        self._line: deque[Colour] = deque([self.current])  # S

    def finished(self, colour: Colour) -> None:
        """One item of `colour` was withdrawn. (When one ends, its worker counts.)"""
        colour.in_flight -= 1
        if not colour.in_flight:
            self.emptied()

    def emptied(self) -> None:
        """A colour has no item in flight: whoever waits for it and for all older ones is released."""
        line = self._line
        while len(line) > 1 and not line[0].in_flight:
            done = line.popleft()
            if done.flushers is not None:
                done.flushers.unpark_all()

    @property
    def is_flushed(self) -> bool:
        """Does a flush wait for some of the items in flight?"""
        return len(self._line) > 1

    def covers(self, closed: Colour, colour: Colour) -> bool:
        """Does a flush of `closed` wait for items of `colour`?"""
        for each in self._line:
            if each is colour:
                return True
            if each is closed:
                break
        return False

    def close_current(self) -> Colour | None:
        """Begin a flush: the colour in whose lot to wait, or None if nothing is in flight."""
        if self.current.in_flight:
            closed = self.current
            self.current = Colour()
            self._line.append(self.current)
        elif len(self._line) > 1:
            closed = self._line[-2]
        else:
            return None
        return closed
