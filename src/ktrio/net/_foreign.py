"""The border to other people's listeners and streams: how their code is called, and what of its errors is theirs.

Our books are protected from KeyboardInterrupt, so that no stream is torn between its owners; another's code is called
through one unprotected frame, `foreign`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import TypeVar, cast

from trio.lowlevel import disable_ki_protection

T = TypeVar("T")


@disable_ki_protection
async def foreign(method: Callable[..., Awaitable[T]], *args: object) -> T:  # type: ignore[explicit-any]
    """``await method(*args)``, open to Ctrl-C."""
    return await method(*args)


@contextmanager
def barrier(report: Callable[[Exception], object]) -> Generator[None]:
    """What another's code has to answer for goes to `report`; Cancelled, KeyboardInterrupt and the like go on.

    A group may hold both: that of a nursery that was cancelled while it had errors.
    """
    try:
        yield
    except Exception as error:
        report(error)
    except BaseExceptionGroup as group:
        going, errors = group.split(lambda each: not isinstance(each, Exception | BaseExceptionGroup))
        if errors is not None:
            report(cast("ExceptionGroup[Exception]", errors))
        if going is not None:
            raise going from None
