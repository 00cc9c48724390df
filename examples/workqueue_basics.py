# The workqueue by itself, without a server: python examples/workqueue_basics.py prints
#
#   queued         [True, True, True] <Workqueue 'basics' active=2/2 inactive=1 parked=0>
#   queued again   False
#   flushed        <Workqueue 'basics' active=0/2 inactive=0 parked=0>
#   run            1024
#   on_error       divide: division by zero
#   ask            parks, so the only slot is free
#   count_down     1
#   count_down     0
#   ask            goes on
#   drained        <Workqueue 'basics' active=0/1 inactive=0 parked=0>

import trio

from ktrio.workqueue import WQ_UNBOUND, Work, Workqueue, open_supervisor, parked


async def ask(answered: trio.Event) -> None:
    print("ask            parks, so the only slot is free")
    async with parked():
        await answered.wait()
    print("ask            goes on")


def count_down(number: int, wq: Workqueue, answered: trio.Event) -> None:
    print("count_down    ", number)
    if number:
        wq.queue_work(Work(count_down, number - 1, wq, answered))
    else:
        answered.set()


def complain(work: Work, error: Exception) -> None:
    print(f"on_error       {work.name}: {error}")


async def main() -> None:
    async with open_supervisor() as supervisor:  # owns the workers; leaving it waits for every item
        wq = supervisor.alloc_workqueue("basics", WQ_UNBOUND, max_active=2, on_error=complain)
        items = [Work(trio.sleep, 0) for _ in range(3)]
        print("queued        ", [wq.queue_work(item) for item in items], wq)  # plain functions: nothing has run yet
        print("queued again  ", wq.queue_work(items[0]))
        await wq.flush()
        print("flushed       ", wq)

        print("run           ", await wq.run(pow, 2, 10))  # an error would be raised here, and go nowhere else
        wq.queue_work(Work(lambda: 1 / 0, name="divide"))
        await wq.flush()

        wq.set_max_active(1)
        answered = trio.Event()
        wq.queue_work(Work(ask, answered))
        wq.queue_work(Work(count_down, 1, wq, answered))
        await wq.drain()  # waits for the parked item, and for what items queue meanwhile
        print("drained       ", wq)


trio.run(main)
