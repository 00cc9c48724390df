"""What a handler's exception stands for, though a nursery of the handler's may have wrapped it in groups."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from ktrio.http.errors import HttpError
from ktrio.net.errors import ConnectionGone


def leaves_of(error: BaseException) -> Iterator[BaseException]:
    """The exceptions that a group holds, at whatever depth; any other exception is its own leaf."""
    if isinstance(error, BaseExceptionGroup):
        for each in cast("BaseExceptionGroup[BaseException]", error).exceptions:
            yield from leaves_of(each)
    else:
        yield error


def connection_gone_in(error: BaseException) -> ConnectionGone | None:
    """The loss of the connection, if it is among what happened: then nobody is there to be answered."""
    return next((leaf for leaf in leaves_of(error) if isinstance(leaf, ConnectionGone)), None)


def http_error_of(error: BaseException) -> HttpError | None:
    """The answer that `error` stands for: an `HttpError`, or the first of a group of nothing else. None: unexpected."""
    leaves = list(leaves_of(error))
    answers = [leaf for leaf in leaves if isinstance(leaf, HttpError)]
    return answers[0] if len(answers) == len(leaves) else None
