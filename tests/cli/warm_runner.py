"""The script behind `WarmStart`: forks a child for each line of standard input. Not for import."""

from __future__ import annotations

import json
import os
import runpy
import signal
import sys


def serve_runs() -> None:
    """Fork a child for each line that comes in, and say with which status it ended."""
    import ktrio.cli  # noqa: F401  # what all the children share

    for line in sys.stdin:
        arguments, out, err = json.loads(line)
        child = os.fork()
        if child == 0:
            run_as_ktrio(arguments, out, err)
            return  # and Python ends as it always does
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def run_as_ktrio(arguments: list[str], out: str, err: str) -> None:
    """``python -m ktrio ARGUMENTS </dev/null >OUT 2>ERR``."""
    signal.alarm(int(float(sys.argv[1])))
    for descriptor, path, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        (2, err, os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
    ):
        os.dup2(os.open(path, flags), descriptor)
    sys.argv[1:] = arguments
    runpy.run_module("ktrio", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    serve_runs()
