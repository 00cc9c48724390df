"""For tests of handlers, protocols and servers: the real server in memory, in virtual time, without a socket.

`serve_in_memory` runs a server and lets a test talk to it; a `Playbook` is a whole conversation as one list;
`check_handler` and `check_protocol` are specifications that execute. All of them need a run whose clock is a
`trio.testing.MockClock`. Nothing here needs pytest, and ``import ktrio`` does not load it.
"""

from __future__ import annotations

from ktrio.testing._check_handler import check_handler
from ktrio.testing._check_protocol import check_protocol
from ktrio.testing._clock import burn
from ktrio.testing._playbook import Playbook, PlayClock, PlayPeer, PlayServer
from ktrio.testing._responses import MemoryResponse
from ktrio.testing._roles import FIN, NOTHING, READ_ON, RESET, STALL, ended, response
from ktrio.testing._server import MemoryServer, serve_in_memory
from ktrio.testing._streams import MemoryListener, MemoryStream
from ktrio.testing._trial import SampleRequest

__all__ = [
    "FIN",
    "NOTHING",
    "READ_ON",
    "RESET",
    "STALL",
    "MemoryListener",
    "MemoryResponse",
    "MemoryServer",
    "MemoryStream",
    "PlayClock",
    "PlayPeer",
    "PlayServer",
    "Playbook",
    "SampleRequest",
    "burn",
    "check_handler",
    "check_protocol",
    "ended",
    "response",
    "serve_in_memory",
]
