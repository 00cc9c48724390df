"""How an idle worker waits: as by `trio.lowlevel.wait_task_rescheduled`, for less than half of what that costs.

That makes a message for the loop each time, and an outcome for whoever is woken. A worker makes its message once and
says it again and again, and whoever wakes it sends one and the same outcome. What the message is Trio does not
document; it is found, as `ktrio.workqueue._sensor` finds that of a yield, by driving the wait by hand. `can_say_again`
tells whether it is a mere value; if it is not, the wait itself is awaited.
"""

from __future__ import annotations

import types
from collections.abc import Awaitable, Callable, Generator
from typing import Final, final

import trio
from trio.lowlevel import Abort

__all__ = ["WOKEN", "can_say_again", "message_of_wait", "wait_until_woken"]

AbortFunction = Callable[[Callable[[], object]], Abort]


@final
class Woken:
    """What `trio.lowlevel.reschedule` takes, and Trio hands on as it is: an outcome without a value."""

    def unwrap(self) -> None:
        """Nothing came of it."""


WOKEN: Final = Woken()


def message_of_wait(abort: AbortFunction) -> object:
    """What a task says to the loop that is to be aborted in this way."""
    wait = trio.lowlevel.wait_task_rescheduled(abort)  # noqa: ASYNC105 - driven by hand
    try:
        return wait.send(None)
    finally:
        wait.close()


def _abort(_raise_cancel: object) -> Abort:
    return Abort.SUCCEEDED


def can_say_again() -> bool:
    """Is the message one value like another, so that it can be said more than once?"""
    return message_of_wait(_abort) == message_of_wait(_abort)


@types.coroutine
def _say_again(message: object, _abort: AbortFunction) -> Generator[object, object, None]:
    outcome = yield message
    if outcome is not WOKEN:
        outcome.unwrap()  # type: ignore[attr-defined]  # pyright: ignore - Trio's own: it was culled, or cancelled


async def _say_anew(_message: object, abort: AbortFunction) -> None:
    await trio.lowlevel.wait_task_rescheduled(abort)


wait_until_woken: Callable[[object, AbortFunction], Awaitable[None]] = _say_again if can_say_again() else _say_anew
"""Wait until rescheduled; with what `message_of_wait` gives for the same function."""
