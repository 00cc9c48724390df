"""``ktrio`` and ``python -m ktrio``: be ready for Ctrl-C first, then load the command."""

import os
import signal
import sys
from types import FrameType


def _leave_at_once(signum: int, _frame: FrameType | None) -> None:
    """Nothing has begun yet, or all is done: end with the status that names the signal, without a traceback."""
    os._exit(128 + signum)


def main() -> None:
    """Run the command line; ends the process with its exit status."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, _leave_at_once)
    from ktrio.cli import run  # after the signals: it loads Trio, which takes a while

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
