"""What becomes of an item's exception: Cancelled goes on to whichever scope sent it, the rest to the queue's policy."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable
from typing import TYPE_CHECKING, cast

import trio

from ktrio.workqueue._unprotected import call

if TYPE_CHECKING:
    from ktrio.workqueue._followers import Followers
    from ktrio.workqueue._pwq import PoolWorkqueue
    from ktrio.workqueue._queue import Workqueue
    from ktrio.workqueue._work import Work

__all__ = ["discarded", "refuse_other_awaitables", "report", "take_out_cancelled", "withdrawn"]


def refuse_other_awaitables(work: Work, result: object) -> None:
    """TypeError if what an item's function gave would have to be awaited, but is no coroutine."""
    if isinstance(result, (AsyncGenerator, Awaitable)):
        kind = "an async generator" if isinstance(result, AsyncGenerator) else "an awaitable, not a coroutine"
        raise TypeError(f"{work!r} gave {kind}: an item is an async function without yield")


def take_out_cancelled(error: BaseException) -> tuple[BaseException | None, BaseException | None]:
    """`error` as its Cancelled part, for the scopes, and the rest, for the policy; either may be None."""
    if isinstance(error, trio.Cancelled):
        return error, None
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        cancelled, rest = group.split(trio.Cancelled)
        return (cancelled, rest) if cancelled is not None else (None, group)  # `split` copies what it does not split
    return None, error


def report(pwq: PoolWorkqueue, work: Work, followers: Followers | None, error: BaseException) -> None:
    """Tell whoever is to know of an error of `work`, whose books are closed; raises what is left for the scopes."""
    cancelled, rest = take_out_cancelled(error)
    if cancelled is not None and trio.current_effective_deadline() != float("-inf"):
        # Stored somewhere and raised again later: no scope would catch it, and it would end the pool.
        rest = RuntimeError(f"{work!r} raised a trio.Cancelled that no scope around it has sent")
        rest.__cause__, cancelled = error, None
    if rest is not None:
        pwq.failed += 1
    taken = followers is not None and _tell(followers, pwq, work, rest)
    if rest is not None and not taken:
        tell_policy(pwq.wq, work, rest)
    if cancelled is not None:
        raise cancelled


def _tell(followers: Followers, pwq: PoolWorkqueue, work: Work, rest: BaseException | None) -> bool:
    """Tell those who follow the run; True if one of them takes the error."""
    if isinstance(rest, Exception):
        return followers.failed(work, rest)
    if rest is None:
        followers.unfinished(work, "was interrupted")
    else:
        followers.unfinished(work, f"ended with {rest!r}", pwq.pool.supervisor)
    return False


def tell_policy(wq: Workqueue, work: Work, error: BaseException) -> None:
    """Give an item's error to the queue's policy; KeyboardInterrupt and kin always to the supervisor."""
    policy = wq._attrs.on_error
    if policy == "raise" or not isinstance(error, Exception):
        wq.supervisor.fail(error)
        return
    if policy == "store":
        assert wq._store is not None
        wq._store.keep_error(work, error)
        return
    try:
        call(policy, work, error)
    except BaseException as second:
        wq.supervisor.fail(second)


def withdrawn(wq: Workqueue, work: Work) -> None:
    """A pending queueing will never run: close its books."""
    colour, work._colour, work._context = work._colour, None, None
    followers, work._followers = work._followers, None
    if colour is not None:
        wq.colours.finished(colour)
    if followers is not None:
        followers.withdrawn(work)
    wq._backlog.room()
    discarded(wq, work)


def discarded(wq: Workqueue, work: Work) -> None:
    """A queueing has not run and never will: tell whoever handed it over."""
    if work._on_discard is not None:
        try:
            call(work._on_discard)
        except BaseException as error:
            tell_policy(wq, work, error)
