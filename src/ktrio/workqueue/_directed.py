"""What a workqueue does for callers who say more than which item: the methods of `Workqueue` with their contracts.

A part of that class and nothing by itself; its other methods leave no room for these in one file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio.lowlevel import enable_ki_protection

from ktrio.workqueue._disable import deepen
from ktrio.workqueue._timed import TimedQueueing

if TYPE_CHECKING:
    from ktrio.workqueue._work import Work

__all__ = ["DirectedQueueing"]


class DirectedQueueing(TimedQueueing):
    """The base of `Workqueue`, which sets the attributes."""

    def queue_work(self, work: Work, *, parked: bool = False) -> bool:
        """See `Workqueue`."""
        raise NotImplementedError

    @enable_ki_protection
    def enable_and_queue_work(self, work: Work) -> bool:
        """`Work.enable`, and if the item takes queueings again, queue it (kernel: ``enable_and_queue_work``).

        For whoever does not know what was refused meanwhile, and so must let it run once more. True if it was queued.
        Plain function.

        Raises:
          DisableError: it is not disabled.
          and whatever `queue_work` raises; then it is disabled as before.
        """
        if not work.enable():
            return False
        try:
            return self.queue_work(work)
        except BaseException:
            deepen(work)
            raise
