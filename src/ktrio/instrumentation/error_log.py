"""The log of errors of a program that is nothing but a server: a handler for `logging`, and how its records look.

Records are written at once and by whoever logs, not gathered as the access log is: they are few, and what is said last,
or by a watchdog while the loop stands still, matters most.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from contextlib import suppress
from typing import Final, final

from ktrio.instrumentation.log_sinks import FileSink

FORMAT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"

# Controls that a terminal obeys, or that would look like the end of a line; the text of an exception may hold anything.
_CONTROLS: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")


@final
class PrintableFormatter(logging.Formatter):
    """Records without controls; what follows a record's first line is indented, so that nothing looks like a record."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter.format`."""
        return _CONTROLS.sub(_escape, super().format(record)).replace("\n", "\n  ")


@final
class ErrorLog(logging.Handler):
    """Appends records to a file, which can be opened anew. If it cannot be written, they go to standard error.

    Raises:
      LogError: the file cannot be opened; the message says why.

    Legend: I set once · L only under the handler's lock.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._sink = FileSink(path)  # I; its content L. First: `logging` would close at exit what was made by half
        super().__init__()
        self._is_failing = False  # L
        self.setFormatter(PrintableFormatter(FORMAT))

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler.emit`. Barrier: a record that cannot be written costs nobody anything else."""
        try:
            text = self.format(record) + "\n"
        except Exception:
            self.handleError(record)
            return
        data = memoryview(text.encode("utf-8", "backslashreplace"))
        try:
            while data:
                data = data[self._sink.write(data) :]
            self._is_failing = False
        except OSError as error:
            self._fall_back(error, text)

    def reopen(self) -> None:
        """Go on in a new file by the same name; if there can be none, in the old one, and a record in it says so."""
        self.acquire()
        try:
            self._sink.reopen()
        except OSError as error:
            logging.getLogger("ktrio.logs").error("cannot open %s anew: %s", self._sink.name, error.strerror or error)
        finally:
            self.release()

    def close(self) -> None:
        """Close the file. Idempotent."""
        with suppress(OSError):  # what was written is the kernel's
            self._sink.close()
        super().close()

    def _fall_back(self, error: OSError, text: str) -> None:
        if sys.stderr is None:
            return
        with suppress(OSError):  # then nobody is there to be told
            if not self._is_failing:
                sys.stderr.write(f"ktrio: cannot write {self._sink.name}: {error.strerror or error}\n")
            sys.stderr.write(text)
            sys.stderr.flush()
        self._is_failing = True
