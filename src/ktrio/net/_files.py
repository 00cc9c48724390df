"""Are these bytes of a file in memory? If not, fetch them without stopping the loop.

`sendfile` reads the file in the caller's thread: on cold pages the whole loop would wait for the disk. Linux can be
asked first (preadv2(2), RWF_NOWAIT); where it cannot, or the file system does not say, a thread reads ahead always,
in pieces large enough that its cost (tens of microseconds) does not matter.
"""

from __future__ import annotations

import errno
import os
from typing import Final, final

import trio

WARM_BYTES: Final = 1024 * 1024  # what a thread fetches at once: 10 ms of a slow disk, and four slices

_RWF_NOWAIT: Final[int | None] = getattr(os, "RWF_NOWAIT", None)
# Where warmed pages are read to. Nobody looks at it, so that any number of threads may write to it at once: a buffer
# each would be a megabyte for each cold download.
_NOWHERE: Final = bytearray(WARM_BYTES)

# sendfile() does not do this kind of file or socket (sendfile(2)): read and send instead.
SENDFILE_UNSUPPORTED: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP})


def is_resident(descriptor: int, offset: int) -> bool | None:
    """Is the byte at `offset` in memory? `None`: cannot tell, or the file ends before it."""
    if _RWF_NOWAIT is None:
        return None
    try:
        return True if os.preadv(descriptor, [bytearray(1)], offset, _RWF_NOWAIT) else None
    except BlockingIOError:
        return False
    except OSError:
        # The file system does not know the question (EOPNOTSUPP). If it cannot be read, the reader will say so.
        return None


def read_resident(descriptor: int, offset: int, count: int) -> bytes | None:
    """These bytes of a file if they are in memory, all of them; `None`: they are not, or nobody can tell."""
    if _RWF_NOWAIT is None:
        return None
    buffer = bytearray(count)
    try:
        read = os.preadv(descriptor, [buffer], offset, _RWF_NOWAIT)
    except OSError:
        # Not in memory (EAGAIN), or the file system does not know the question (EOPNOTSUPP).
        return None
    return bytes(buffer) if read == count else None


@final
class WarmReader:
    """Keeps a file warm ahead of one sender that goes through it from front to back."""

    __slots__ = ("_descriptor", "_end", "_warm_to")

    _descriptor: int  # I
    _end: int  # I: read no further
    _warm_to: int  # T: everything before was fetched by us

    def __init__(self, descriptor: int, end: int) -> None:
        self._descriptor = descriptor
        self._end = end
        self._warm_to = 0

    def is_warm(self, offset: int, count: int) -> bool:
        """May these bytes be sent without waiting for the disk? Judged by the last: the kernel reads ahead in order.

        What was fetched and may have been evicted since is believed to be there only if the kernel cannot tell.
        """
        last = offset + count - 1
        resident = is_resident(self._descriptor, last)
        return last < self._warm_to if resident is None else resident

    async def warm(self, offset: int) -> None:
        """Fetch what follows `offset` in a thread; a checkpoint. Not abandoned on cancel: the descriptor is lent.

        Raises:
          OSError: the file cannot be read.
        """
        count = min(WARM_BYTES, self._end - offset)
        await trio.to_thread.run_sync(_fetch, self._descriptor, offset, count)
        self._warm_to = offset + count


def _fetch(descriptor: int, offset: int, count: int) -> None:
    view = memoryview(_NOWHERE)[:count]
    if hasattr(os, "preadv"):
        os.preadv(descriptor, [view], offset)
    else:
        os.pread(descriptor, count, offset)
