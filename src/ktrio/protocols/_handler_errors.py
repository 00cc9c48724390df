"""What a handler's exception stands for, though a nursery of the handler's may have wrapped it in groups."""

from __future__ import annotations

from ktrio.http.errors import HttpError
from ktrio.net.errors import leaves_of


def http_error_of(error: BaseException) -> HttpError | None:
    """The answer that `error` stands for: an `HttpError`, or the first of a group of nothing else. None: unexpected."""
    leaves = list(leaves_of(error))
    answers = [leaf for leaf in leaves if isinstance(leaf, HttpError)]
    return answers[0] if len(answers) == len(leaves) else None
