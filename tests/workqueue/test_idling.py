"""How an idle worker waits: what it says to the loop is found by driving Trio's own wait by hand."""

import pytest
import trio
from trio.lowlevel import Abort
from trio.testing import wait_all_tasks_blocked

from ktrio.workqueue import _idling
from ktrio.workqueue._idling import WOKEN, can_say_again, message_of_wait


def test_trio_takes_one_message_again_and_again() -> None:
    """If this fails with a new Trio, idle workers cost more, and nothing is wrong."""
    assert can_say_again()


@pytest.mark.parametrize("wait", [_idling._say_again, _idling._say_anew])
async def test_a_wait_ends_when_woken_or_cancelled_however_often(wait: type, autojump_clock: object) -> None:
    """Both ways to wait, with the outcome of whoever wakes workers and with Trio's own."""
    aborted: list[int] = []
    woken: list[str] = []

    def abort(_raise_cancel: object) -> Abort:
        aborted.append(len(woken))
        return Abort.SUCCEEDED

    message = message_of_wait(abort)

    async def sleeper(task_status: trio.TaskStatus[trio.lowlevel.Task]) -> None:
        task_status.started(trio.lowlevel.current_task())
        while True:
            await wait(message, abort)
            woken.append("woken")

    async with trio.open_nursery() as nursery:
        task = await nursery.start(sleeper)
        await wait_all_tasks_blocked()
        for number in range(1, 4):
            if number < 3:
                trio.lowlevel.reschedule(task, WOKEN)
            else:
                trio.lowlevel.reschedule(task)
            await wait_all_tasks_blocked()
            assert len(woken) == number
        nursery.cancel_scope.cancel()
    assert aborted == [3]
