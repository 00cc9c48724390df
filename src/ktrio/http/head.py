"""Whole heads, read once: the same bytes always mean the same.

Browsers, load generators and proxies send the same head again and again. So what was read of a head without a body is
remembered by its bytes, in a table of bounded size; anything else goes through h11 and policy each time. A remembered
head has passed both, so nothing is accepted here that they refuse, nor read differently.
"""

from __future__ import annotations

from typing import Final, final

from ktrio.http.h1 import Exchange
from ktrio.http.policy import Limits
from ktrio.http.request_head import RequestHead

# A browser's head has 500 to 1000 bytes; 256 of the longest remembered are half a megabyte.
LONGEST: Final = 2048
ENTRIES: Final = 256


@final
class HeadMemo:
    """Reads heads for all connections of one server.

    Legend: I set once · S changed only in one synchronous stretch.
    """

    __slots__ = ("_limits", "_remembered")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits  # I
        self._remembered: dict[bytes, RequestHead] = {}  # S: oldest first

    def read(self, head: bytes) -> tuple[Exchange, RequestHead]:
        """What `Exchange.read_head` gives for this head; raises as it does. The head is shared: copy what changes."""
        known = self._remembered.get(head)
        if known is None:
            exchange, request_head = Exchange.read_head(head, self._limits)
            if request_head.body_length == 0 and len(head) <= LONGEST:
                self._remember(head, request_head)
            return exchange, request_head
        return Exchange.without_body(known), known

    def _remember(self, head: bytes, request_head: RequestHead) -> None:
        if len(self._remembered) >= ENTRIES:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[head] = request_head
