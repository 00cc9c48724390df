"""``ktrio`` and ``python -m ktrio``: be ready for Ctrl-C first, then load the command."""

import os
import signal
import sys
from types import FrameType


def _leave_at_once(signum: int, _frame: FrameType | None) -> None:
    """Nothing has begun yet, or all is done: end with the status that names the signal, without a traceback."""
    os._exit(128 + signum)


def _open_standard_descriptors() -> None:
    """Whatever is closed of 0, 1 and 2 becomes /dev/null, so that no socket gets a number that others write to."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, so this one


def main() -> None:
    """Run the command line; ends the process with its exit status."""
    _open_standard_descriptors()
    try:
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, _leave_at_once)
        for signum in (signal.SIGQUIT, signal.SIGUSR1):  # questions to a server, and none is there yet
            signal.signal(signum, signal.SIG_IGN)
    except KeyboardInterrupt:  # it came just before
        os._exit(128 + signal.SIGINT)
    from ktrio.cli import run  # after the signals: it loads Trio, which takes a while

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
