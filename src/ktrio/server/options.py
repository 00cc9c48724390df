"""What a server allows itself, as its user sets it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final


def check_grace(grace: float) -> None:
    """ValueError unless `grace` is a number of seconds that ends."""
    if not (math.isfinite(grace) and grace >= 0):
        raise ValueError(f"grace must be a finite number of seconds, 0 or more, not {grace}")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """What a server allows itself.

    Raises:
      ValueError: a value out of range, with the value in the message.
    """

    max_connections: int | None = None
    """Connections open at once; beyond it the longest-idle one makes room, or clients wait in the backlog. None: three
    quarters of the limit on open files, at most 65 536."""
    backlog: int = 1024
    """Clients the kernel lets wait to be accepted; also how many are still accepted when a shutdown begins."""
    grace: float = 8.0
    """Seconds that requests in progress have to finish once shutdown has begun."""
    max_errors: int | None = 100
    """Unexpected errors within `errors_within` seconds, with nothing that ended well in between, that end the server:
    it shuts down and raises `BrokenServerError`. None: whatever happens, it goes on."""
    errors_within: float = 10.0
    """Seconds; see `max_errors`."""

    def __post_init__(self) -> None:
        if self.max_connections is not None and self.max_connections < 1:
            raise ValueError(f"max_connections must be at least 1, not {self.max_connections}")
        if self.backlog < 1:
            raise ValueError(f"backlog must be at least 1, not {self.backlog}")
        check_grace(self.grace)
        if self.max_errors is not None and self.max_errors < 1:
            raise ValueError(f"max_errors must be at least 1, or None for no budget, not {self.max_errors}")
        if not (math.isfinite(self.errors_within) and self.errors_within > 0):
            raise ValueError(f"errors_within must be a positive finite number of seconds, not {self.errors_within}")
