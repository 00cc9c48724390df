"""How much may be sent in one go: slices, turns, and several buffers as one stream of bytes.

No turn of the loop may take longer than about a millisecond by our doing, and a peer on a fast line takes whatever it
is given. So sending goes by slices, and after a turn's worth of them everybody else gets their turn.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias, final

SLICE_BYTES: Final = 256 * 1024  # one system call; 30-100 microseconds of copying
TURN_BYTES: Final = 1024 * 1024  # one turn of the loop
TURN_SECONDS: Final = 0.001  # the same, on a slow machine
MAX_BUFFERS: Final = 64  # in one sendmsg; IOV_MAX is at least 16 by POSIX and 1024 on Linux and macOS

Data: TypeAlias = bytes | bytearray | memoryview


@final
class Turn:
    """What one task has sent since the others last had a turn."""

    __slots__ = ("_began", "_bytes", "_clock")

    # T  changed only by the task that sends
    _clock: Callable[[], float]  # I: real time, in seconds: what is bounded is work, not waiting
    _began: float  # T
    _bytes: int  # T

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self.restart()

    def restart(self) -> None:
        """The others have just had their turn."""
        self._began = self._clock()
        self._bytes = 0

    def is_over(self, sent: int) -> bool:
        """`sent` more bytes went out: is it the others' turn?"""
        self._bytes += sent
        return self._bytes >= TURN_BYTES or self._clock() - self._began >= TURN_SECONDS


@final
class Buffers:
    """Buffers still to be sent, in order; true while there are any bytes left."""

    __slots__ = ("_views",)

    _views: deque[memoryview]  # T: none of them empty

    def __init__(self, data: Data | Sequence[Data]) -> None:
        # As bytes: the length of a view of wider items is not the number of its bytes.
        if isinstance(data, (bytes, bytearray, memoryview)):
            views = [memoryview(data).cast("B")]
        else:
            views = [memoryview(buffer).cast("B") for buffer in data]
        self._views = deque(view for view in views if view.nbytes)

    def __bool__(self) -> bool:
        return bool(self._views)

    def next_slice(self) -> list[memoryview]:
        """What to send next: at most `MAX_BUFFERS` views and `SLICE_BYTES` bytes, at least one byte if any is left."""
        views: list[memoryview] = []
        room = SLICE_BYTES
        for view in self._views:
            views.append(view[:room])
            room -= view.nbytes
            if room <= 0 or len(views) == MAX_BUFFERS:
                break
        return views

    def advance(self, sent: int) -> None:
        """`sent` bytes went out; at most as many as the last slice held."""
        while sent > 0:
            first = self._views.popleft()
            if first.nbytes > sent:
                self._views.appendleft(first[sent:])
            sent -= first.nbytes
