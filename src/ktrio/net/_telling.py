"""How those who watch a socket are told its news: by plain functions that may fail without harm to anybody else."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from typing import TypeAlias

Told: TypeAlias = Callable[[], None]
NoRoom: TypeAlias = Callable[[socket.socket, OSError], None]
"""Is told that the system has no room for another watch."""

_log = logging.getLogger("ktrio.net.readiness")


def call_told(told: Told) -> None:
    """Call `told`; if it raises, that is logged."""
    try:
        told()
    except Exception:
        # A hook call, and one connection's hook must not end the watching of all others.
        _log.exception("a watch's function %r raised", told)
