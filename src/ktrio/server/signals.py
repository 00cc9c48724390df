"""SIGINT, SIGTERM, SIGQUIT and SIGUSR1 for a program that is nothing but a server; library functions never use this.

The first signal begins the shutdown, the second forces it, the third ends the process from inside the signal handler,
so that even a loop that is stuck dies. Trio's own receiver would hand three quick signals over as one and needs a
living loop; so these are plain `signal.signal` handlers that count, and forward through `TrioToken.run_sync_soon`.
SIGQUIT (Ctrl-\\) ends nothing and is not counted: it asks the server how it fares, as it does a Java program. Nor does
SIGUSR1: it asks for new log files, as it does nginx.

Before `forwarding` begins and after it ended there is nothing to finish: the handlers that ``ktrio`` installs first
thing (`ktrio.__main__`) then end the process at once, with the status a shell expects of it (128 + the signal's number)
and without a traceback. SIGQUIT and SIGUSR1 are ignored then: there is nobody to ask.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Final, final

import trio

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
# The third signal does not ask any more.
LAST_SIGNAL: Final = 3

OnSignal = Callable[[int, int], None]


def status_of(signum: int) -> int:
    """The exit status that says "ended by this signal" (POSIX shells: 128 + number)."""
    return 128 + signum


@final
class _Counter:
    """Counts signals and forwards them.

    Legend: I set once · S changed only in one synchronous stretch (of the main thread, where signal handlers run).
    """

    __slots__ = ("_count", "_on_signal", "_token")

    def __init__(self, token: trio.lowlevel.TrioToken, on_signal: OnSignal) -> None:
        self._token = token  # I
        self._on_signal = on_signal  # I
        self._count = 0  # S

    def handle(self, signum: int, _frame: FrameType | None) -> None:
        """The signal handler."""
        self._count += 1
        if self._count >= LAST_SIGNAL:
            os._exit(status_of(signum))
        try:
            self._token.run_sync_soon(self._on_signal, signum, self._count)
        except trio.RunFinishedError:  # the loop has just ended: there is nothing left to finish
            os._exit(status_of(signum))


@contextmanager
def forwarding(
    on_signal: OnSignal,
    on_quit: Callable[[], object] | None = None,
    on_reopen: Callable[[], object] | None = None,
) -> Generator[None]:
    """Inside the block, call ``on_signal(signum, count)`` in the loop for the first and the second signal.

    `on_quit` is called in the loop for SIGQUIT, however often it comes; once for those that come before the loop gets
    to it. None leaves SIGQUIT alone. `on_reopen` is the same for SIGUSR1.

    For the main thread, inside `trio.run`. Leaving the block puts back what was there before.
    """
    token = trio.lowlevel.current_trio_token()
    counter = _Counter(token, on_signal)

    def asking(callback: Callable[[], object]) -> Callable[[int, FrameType | None], None]:
        def handle(_signum: int, _frame: FrameType | None) -> None:
            with suppress(trio.RunFinishedError):  # the loop has just ended: there is nobody left to ask
                token.run_sync_soon(callback, idempotent=True)

        return handle

    before = [(signum, signal.signal(signum, counter.handle)) for signum in SIGNALS]
    for signum, callback in ((signal.SIGQUIT, on_quit), (signal.SIGUSR1, on_reopen)):
        if callback is not None:
            before.append((signum, signal.signal(signum, asking(callback))))
    try:
        yield
    finally:
        for signum, handler in before:
            signal.signal(signum, handler)
