"""The border to other people's listeners and streams: how their code is called, and what of its errors is theirs.

Our books are protected from KeyboardInterrupt, so that no stream is torn between its owners; another's code is called
through one unprotected frame, `foreign`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar, cast

from trio.lowlevel import disable_ki_protection

T = TypeVar("T")


@disable_ki_protection
async def foreign(method: Callable[..., Awaitable[T]], *args: object) -> T:  # type: ignore[explicit-any]
    """``await method(*args)``, open to Ctrl-C."""
    return await method(*args)


def errors_of(raised: BaseException) -> tuple[Exception | None, BaseException | None]:
    """What of this another's code has to answer for, and what has to go on: Cancelled, KeyboardInterrupt and the like.

    Asked at a barrier, where a group may hold both: a nursery's that was cancelled while it had errors.
    """
    if isinstance(raised, Exception):
        return raised, None
    if isinstance(raised, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", raised)
        going, errors = group.split(lambda each: not isinstance(each, Exception | BaseExceptionGroup))
        return cast("Exception | None", errors), going
    return None, raised
