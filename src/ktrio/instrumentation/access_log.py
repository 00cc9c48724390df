"""One line per request, in the order in which requests end: written to a file, in batches, off the loop."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import final

from ktrio.http.details import RequestDetails
from ktrio.instrumentation.log_formats import LogFormat, LogFormatName, format_of
from ktrio.instrumentation.log_sinks import DescriptorSink, FileSink
from ktrio.instrumentation.log_writer import LogStatistics, LogWriter, open_log_writer


@final
class AccessLog:
    """Takes a line for each request: the ``tell`` of `serve_http`. Made by `open_access_log`, not by hand."""

    __slots__ = ("_format", "_writer")

    def __init__(self, writer: LogWriter, line_of: LogFormat) -> None:
        self._writer = writer  # I
        self._format = line_of  # I

    def __call__(self, details: RequestDetails) -> None:
        """Take the line of one request; never waits."""
        self._writer.write(self._format(details))

    def reopen(self) -> None:
        """Go on in a new file by the same name; plain function, returns at once.

        For log rotation: the old file was renamed, and gets the lines there are. If a new one cannot be made the old
        one goes on, and the error log says so. Nothing happens to a descriptor.
        """
        self._writer.reopen()

    async def flush(self) -> None:
        """Wait until every line so far has been written, or lost; a checkpoint. As long as the file takes."""
        await self._writer.flush()

    def statistics(self) -> LogStatistics:
        """The counts of this moment."""
        return self._writer.statistics()

    def __repr__(self) -> str:
        return repr(self._writer).replace("LogWriter", "AccessLog")


@asynccontextmanager
async def open_access_log(
    where: str | os.PathLike[str] | int, *, log_format: LogFormatName = "combined"
) -> AsyncGenerator[AccessLog]:
    """``async with open_access_log("access.log") as log:`` and within it ``serve_http(handler, tell=log)``.

    Lines are gathered, at most 0.25 s, and written by a thread. A file that cannot be written costs lines, which are
    counted, and one record of the error log (``ktrio.logs``); never the server. Leaving the block writes what is left,
    within a second, also if it was cancelled.

    Args:
      where: a path, whose file is made (mode 0640) or appended to; or a descriptor, which stays open and yours.
      log_format: ``"common"`` or ``"combined"`` as Apache's, ``"json"``, or ``"short"`` for people who watch.

    Raises:
      LogError: the file cannot be opened; the message says why and what to do.
      ValueError: there is no such format.
    """
    line_of = format_of(log_format)
    sink = DescriptorSink(where) if isinstance(where, int) else FileSink(where)
    async with open_log_writer(sink) as writer:
        yield AccessLog(writer, line_of)
