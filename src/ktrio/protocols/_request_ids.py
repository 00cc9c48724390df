"""Names for requests, by which a line of a log is found in another: random, or what a trusted client calls it."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from ktrio.http.messages import Request

FIELD: Final = "x-request-id"
ID_BYTES: Final = 16  # 32 hex digits, as nginx's $request_id: nobody guesses one, and no two are alike
# Of what a client sends: what UUIDs, ULIDs, trace ids and base64 are made of, and what needs no quoting anywhere.
_ACCEPTABLE: Final = re.compile(r"[A-Za-z0-9._:/+=@~-]{1,128}")
# Ids drawn at once: a system call for each would cost more than all the rest.
_DRAWN_AT_ONCE: Final = 256


def sent_id(request: Request) -> str:
    """What the client calls its request (``X-Request-Id``); empty if it sent none, several, or one that is no name."""
    sent = request.headers.get_all(FIELD)
    return sent[0] if len(sent) == 1 and _ACCEPTABLE.fullmatch(sent[0]) else ""


@final
class RequestIds:
    """Names the requests of one server; a `Request.make_id`.

    Args:
      trust: take the client's own name for it, if that is one. For servers that only a proxy can reach: anybody else
        could make two requests look like one.

    Legend: I set once · S changed only in one synchronous stretch.
    """

    __slots__ = ("_drawn", "_trust", "_used")

    def __init__(self, *, trust: bool = False) -> None:
        self._trust = trust  # I
        self._drawn = ""  # S: hex digits of the next ids
        self._used = 0  # S: how many of the digits have been used

    def __call__(self, request: Request) -> str:
        """The id of `request`, a new one each time it is called unless the client has named it."""
        return (self._trust and sent_id(request)) or self._draw()

    def _draw(self) -> str:
        begin = self._used
        if begin == len(self._drawn):
            self._drawn, begin = os.urandom(ID_BYTES * _DRAWN_AT_ONCE).hex(), 0
        self._used = begin + 2 * ID_BYTES
        return self._drawn[begin : self._used]
