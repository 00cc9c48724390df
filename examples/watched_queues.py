# Queues to look at with ktrio top: python examples/watched_queues.py [PATH]
#
#   $ ktrio top watched.monitor
#
# In another terminal. Mails come forty at a time, and max_active lets four go out at once: the others are inactive.
# Images keep the loop for longer than an item should: they are counted, and the function is named. Pages sleep most
# of the time, and each that falls asleep lets the next one begin. Ctrl-C ends it, when the last mail has gone.

import signal
import sys
import time

import trio

import ktrio
from ktrio import WQ_HIGHPRI, WQ_UNBOUND, Supervisor, Work


def shrink_image() -> None:
    until = time.thread_time() + 0.015  # stands for a computation
    while time.thread_time() < until:
        pass


async def feed(supervisor: Supervisor) -> None:
    mails = supervisor.alloc_workqueue("mails", WQ_UNBOUND, max_active=4)
    images = supervisor.alloc_workqueue("images")
    pages = supervisor.alloc_workqueue("pages", WQ_HIGHPRI)
    while True:
        for _ in range(40):
            mails.queue_work(Work(trio.sleep, 0.1))
        for _ in range(10):
            images.queue_work(Work(shrink_image))
            for _ in range(10):
                pages.queue_work(Work(trio.sleep, 0.02))
            await trio.sleep(0.1)


async def main(path: str) -> None:
    async with ktrio.open_supervisor() as supervisor, trio.open_nursery() as nursery:
        await nursery.start(ktrio.serve_monitor, supervisor, path)
        nursery.start_soon(feed, supervisor)
        print(f"ktrio top {path}", flush=True)
        with trio.open_signal_receiver(signal.SIGINT) as signals:
            await anext(signals)
        nursery.cancel_scope.cancel()


trio.run(main, sys.argv[1] if sys.argv[1:] else "watched.monitor")
