"""What a command says on the terminal: lines of plain text, and how errors become one line."""

from __future__ import annotations

import logging
import os
import select
import shlex
import sys
from collections.abc import Callable, Iterator
from typing import Final, TextIO, final

import click

from ktrio import __version__
from ktrio.cli._table import MOST_ROWS, printable, table
from ktrio.commands import (
    STARTUP_ERRORS,
    BrokenServerError,
    PrintableFormatter,
    Server,
    describe,
    raise_open_file_limit,
    url_of,
)
from ktrio.config import CommandSettings


def write(stream: TextIO | None, text: str) -> None:
    """Write at once. Output that nobody takes any more stops no server: it goes nowhere from then on."""
    if stream is None:  # closed by whoever started us
        return
    try:
        stream.write(text.encode(stream.encoding, "backslashreplace").decode(stream.encoding))
        stream.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def say(text: str) -> None:
    """Print lines, at once also into a pipe. Never waits: what a pipe that nobody reads has no room for is dropped."""
    stream = sys.stdout
    if stream is None:
        return
    for piece in _pieces(text + "\n", stream.encoding):
        if not _has_room(stream):
            return
        write(stream, piece)


def _pieces(text: str, encoding: str) -> Iterator[str]:
    """Whole lines, together as long as what a pipe takes without waiting when it says that it has room (PIPE_BUF)."""
    piece, size = "", 0
    for line in text.splitlines(keepends=True):
        length = len(line.encode(encoding, "backslashreplace"))
        if piece and size + length > select.PIPE_BUF:
            yield piece
            piece, size = "", 0
        piece, size = piece + line, size + length
    yield piece


def _has_room(stream: TextIO) -> bool:
    try:
        return bool(select.select([], [stream], [], 0)[1])
    except (OSError, ValueError):  # no descriptor, or a closed one: writing will tell
        return True


@final
class ErrorsOnTerminal(logging.Handler):
    """Records of `logging` on standard error, a line each and perhaps a traceback."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(PrintableFormatter("ktrio: %(levelname)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler.emit`."""
        try:
            text = self.format(record)
        except Exception:  # a record whose arguments do not fit its message: that is shown, and nothing else happens
            self.handleError(record)
        else:
            write(sys.stderr, text + "\n")


def say_nothing(_text: str) -> None:
    """``--quiet``."""


ECHO_PHASES: Final = frozenset({"idle", "write", "linger", "linger-draining", "farewell"})
"""The deadlines that apply where there are no requests."""


def print_timeouts(settings: CommandSettings, phases: frozenset[str] | None = None) -> None:
    """``--print-timeouts``: every deadline there is, or those of some phases; and the waits that have none."""
    rows = [
        *(row for row in settings.timeouts.rows() if phases is None or row[0] in phases),
        ("grace", settings.server.grace, "requests in progress, after the first signal"),
    ]
    for name, seconds, bounds in rows:
        click.echo(f"{name:16} {seconds:>7g} s  {bounds}")
    if settings.server.max_errors is not None:
        budget = f"{settings.server.max_errors} unexpected errors in a row within it end the server"
        click.echo(f"{'errors':16} {settings.server.errors_within:>7g} s  {budget}")
    click.echo(f"{'slot':16} {'none':>7}    a request waits for one of --max-active slots as long as handlers take")
    if phases is None:
        click.echo(f"{'handler':16} {'none':>7}    a handler's own time is its own: the one stated exception")


def run_or_explain(run: Callable[[], int]) -> int:
    """Run a server. What is wrong with what was asked for is one line and status 2; a broken server is one and 1."""
    try:
        return run()
    except STARTUP_ERRORS as error:
        raise click.ClickException(str(error)) from None
    except BrokenServerError as error:
        click.echo(f"{click.get_current_context().command_path}: {error}", err=True)
        return 1


@final
class Terminal:
    """Tells the story of one server. A `ktrio.serve.Narrator`.

    Legend: I set once · T only by the loop.
    """

    def __init__(self, what: str, settings: CommandSettings, say: Callable[[str], None]) -> None:
        self._what = what  # I: what is being served
        self._settings = settings  # I
        self._say = say  # I
        self._last_owing = -1  # T

    def started(self, server: Server) -> None:
        """Where, what, and within which limits."""
        queue = self._settings.queue
        active = queue.max_active or 256
        show = url_of if self._settings.folders else describe
        for where in [show(address) for address in server.addresses] or server.names:
            self._say(f"ktrio {__version__}: {printable(self._what)} at {printable(where)}")
        kind = "bound" if queue.bound else "unbound"
        pools = f"{queue.cpus} pool{'s' if queue.cpus > 1 else ''} of {queue.capacity}"
        self._say(
            f"  {kind} queue, {queue.cpus} x {active} = {queue.cpus * active} requests at work, {pools}; "
            f"{server.max_connections} connections; grace {self._settings.server.grace:g} s; Ctrl-C to stop"
        )
        if self._settings.monitor is not None:
            self._say(f"  monitor: ktrio top {shlex.quote(printable(os.path.abspath(self._settings.monitor)))}")

    def draining(self, server: Server) -> None:
        """The listeners are closed."""
        now = server.statistics()
        self._say(
            f"draining: {now.open} connection{'' if now.open == 1 else 's'}, {now.owing} in progress; "
            f"up to {self._settings.server.grace:g} s (Ctrl-C again cuts them)"
        )

    def waiting(self, server: Server) -> None:
        """What is left, when that has changed."""
        now = server.statistics()
        if now.open and now.open != self._last_owing:
            self._last_owing = now.open
            self._say(f"draining: {now.open} left")

    def asked(self, server: Server) -> None:
        """Who is connected; said even if nothing else is, because somebody asked."""
        say(table(server.statistics(), server.connections(at_most=MOST_ROWS)))

    def ended(self, server: Server, seconds: float) -> None:
        """The closing line."""
        now = server.statistics()
        self._say(f"served {now.answered} · cut {now.cut} · {seconds:.1f} s")


def raise_limit(say: Callable[[str], None]) -> None:
    """Raise the limit on open files, and say so."""
    before, after = raise_open_file_limit()
    if after != before:
        say(f"  open files: limit raised from {before} to {after}")
