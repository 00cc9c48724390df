"""How many unexpected errors are too many: a broken server must not pretend to live.

One bad connection never takes a server down. Many errors in a row do, if they come fast and nothing ends well between
them: then it is not a client with a strange request but the server that is broken, and who started it has to know.
Anything that ends well forgives all errors before it. So a client that can trigger the bug of one handler cannot end a
server that serves others.

Rejected: a share of all outcomes (a client that is fast enough decides it), a budget that success only pays off in
parts (the same). Pure: time is told.
"""

from __future__ import annotations

from collections import deque
from typing import final


@final
class ErrorBudget:
    """At most so many unexpected errors in a row within so many seconds.

    Args:
      most: the error that is one too many; None: there is no such error.
      within: seconds.

    Legend: I set once · S changed only in one synchronous stretch.
    """

    __slots__ = ("_times", "_within")

    def __init__(self, most: int | None, within: float) -> None:
        self._times: deque[float] = deque(
            maxlen=most or 0
        )  # S: of the errors since something ended well; the last ones
        self._within = within  # I

    def __repr__(self) -> str:
        return f"<ErrorBudget errors={len(self._times)}/{self._times.maxlen or None} within={self._within:g} s>"

    def forgive(self) -> None:
        """Something ended well."""
        self._times.clear()

    def spend(self, now: float) -> float | None:
        """An unexpected error came at `now`. Within how many seconds did the last `most` come, if that is too fast?"""
        times = self._times
        times.append(now)
        if not times.maxlen or len(times) < times.maxlen:
            return None
        seconds = now - times[0]
        return seconds if seconds <= self._within else None
